"""What a view is told, and what it is: the numbers of a `Status`, the calls of a `View`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from PIL import Image

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands. Rates and times are the trainer's."""

    images_seen: int
    images_total: int | None = None  # None: time alone ends the run
    seconds: float
    minutes_limit: float | None = None
    images_per_second: float | None = None  # None: not known yet
    seconds_left: float | None = None  # None: not known yet
    accuracy_real: float | None = None  # share of real images that D calls real, 0 to 1; None: not measured
    accuracy_fake: float | None = None  # share of generated images that D calls generated
    losses: Mapping[str, float] = field(default_factory=dict)
    skipped: int = 0  # updates left out because a gradient was not finite
    extra: Mapping[str, float] = field(default_factory=dict)

    @property
    def fraction(self) -> float | None:
        """How far the run is, 0 to 1, by images or by time, whichever ends it first; None: no end."""
        ways = []
        if self.images_total:
            ways.append(self.images_seen / self.images_total)
        if self.minutes_limit:
            ways.append(self.seconds / (60 * self.minutes_limit))
        return min(1.0, max(ways)) if ways else None

    @property
    def numbers(self) -> dict[str, float]:
        """Losses, then extras, then the skipped updates if there were any, by the name to show."""
        skipped = {"skipped": float(self.skipped)} if self.skipped else {}
        return {**{f"loss {name}": value for name, value in self.losses.items()}, **self.extra, **skipped}


class View(Protocol):
    """Someone who may be watching. Calls come from the training thread."""

    def start(self, title: str, lines: list[str], images_total: int | None, minutes: float | None) -> None: ...
    def update(self, status: Status) -> None: ...
    def preview(self, image: Image.Image, images_seen: int) -> None: ...
    def message(self, text: str, level: Level = "info") -> None: ...
    def finish(self, lines: list[str]) -> None: ...
    def close(self) -> None:
        """Give the screen back. May be called at any time, any number of times, and never raises."""


class SilentView:
    """Shows nothing: for tests, for all ranks but the first, and for those who ask for quiet."""

    def start(self, title: str, lines: list[str], images_total: int | None, minutes: float | None) -> None:
        pass

    def update(self, status: Status) -> None:
        pass

    def preview(self, image: Image.Image, images_seen: int) -> None:
        pass

    def message(self, text: str, level: Level = "info") -> None:
        pass

    def finish(self, lines: list[str]) -> None:
        pass

    def close(self) -> None:
        pass
