"""How the numbers of an image are stored, and which of them a network sees as -1 and as +1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zerosum.errors import UserError

Stored = Literal["uint8", "uint16", "int16", "float32"]
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

    @property
    def wide(self) -> bool:
        """More than 8 bits. bf16 and fp16 cannot carry them: networks of such data stay in fp32."""
        return self.dtype.itemsize > 1


EIGHT_BITS = Depth()
