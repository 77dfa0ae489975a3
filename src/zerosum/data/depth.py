"""How the numbers of an image are stored, and which of them a network sees as -1 and as +1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zerosum.errors import UserError

Stored = Literal["uint8", "uint16", "int16", "float32"]
BLOCK = 1 << 20  # values that are brought to 8 bits in one go
WHOLE_RANGE = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}  # of the others there is none that means anything


@dataclass(frozen=True)
class Depth:
    """The stored type, and its values `low` and `high` that become -1 and +1: a CT's -1024 and 3071, for instance.

    The whole range if not given; int16 and float32 have none, so it must be declared.
    """

    stored: Stored = "uint8"
    low: float = 0.0
    high: float = 255.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UserError(f"--value-range {self.low:g} {self.high:g}: give the lower value first, both finite")
        if self.stored != "float32":
            info = np.iinfo(self.stored)
            if self.low < info.min or self.high > info.max:
                raise UserError(
                    f"--value-range {self.low:g} {self.high:g}: {self.stored} holds {info.min} to {info.max} only"
                )

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.stored)

    def eight_bits(self, values: np.ndarray) -> np.ndarray:
        """Stored values as uint8, to look at and to measure: `low` becomes 0, `high` 255."""
        if self == EIGHT_BITS:
            return values
        found = np.empty(values.shape, np.uint8)
        for start in range(0, len(values), step := max(BLOCK // max(values[:1].size, 1), 1)):
            some = values[start : start + step].astype(np.float64)
            found[start : start + step] = ((some - self.low) * (255 / (self.high - self.low))).round().clip(0, 255)
        return found

    @property
    def wide(self) -> bool:
        """More than 8 bits. bf16 and fp16 cannot carry them: networks of such data stay in fp32."""
        return self.dtype.itemsize > 1


EIGHT_BITS = Depth()


def depth_of(dtype: np.dtype, value_range: tuple[float, float] | None) -> Depth:
    """Of stored values of this type, in the range that was declared. UserError where one has to be and is not."""
    if dtype == np.uint8:
        return EIGHT_BITS
    name: Any = dtype.name
    limits = value_range or WHOLE_RANGE.get(name)
    if limits is None:
        raise UserError(
            f"--value-range is missing: the images hold {name} values, and nothing says which of them are black "
            "and white; give the two, such as --value-range -1024 3071"
        )
    return Depth(name, *limits)
