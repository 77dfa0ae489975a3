"""One direction of a translator in an evaluation: its numbers beside those of baselines, and examples in rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

RUN, CYCLE = "the run", "there and back"  # arms: what is measured, and its way back to the input


def key(direction: str, arm: str, metric: str) -> str:
    """Under which the measurement of an arm (the run, or a baseline) is found in an evaluation."""
    return f"{direction} {arm}: {metric}"


def named(direction: str, arm: str, metric: str) -> str:
    """A metric's name in words, as the protocol of that measurement has it."""
    return f"{direction}, {arm}: {metric}"


@dataclass(frozen=True, kw_only=True, eq=False)
class DirectionResult:
    """What an evaluation has of one direction beside its measurements."""

    direction: str
    """A2B or B2A, as the user's data name the sides."""
    arms: tuple[str, ...]
    """The run first, then the baselines."""
    metrics: tuple[str, ...]
    """By which they were measured, such as l1; not each arm by all."""
    columns: tuple[str, ...]
    """What the pictures of a row are: Input, Output and, where there are any, Back again and Target."""
    rows: np.ndarray = field(repr=False)
    """A row for each of the first examples, uint8 (rows, columns, 3, H, W)."""

    def to_json(self) -> dict[str, Any]:
        return {
            "direction": self.direction, "arms": list(self.arms), "metrics": list(self.metrics),
            "columns": list(self.columns), "rows": len(self.rows),
        }  # fmt: skip
