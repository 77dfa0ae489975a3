"""One kind of schedule for everything that changes while a run goes on: time is images seen (design rule 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """A number that goes from `start` to `end` while `images` real images are seen, then stays.

    Called with images seen, it returns the value. Its text form is what the command line takes and `recipe.json`
    holds: ``0.05`` for a constant, ``linear:START:END:IMAGES`` or ``cosine:START:END:IMAGES``, with ``:AFTER`` at the
    end where it stays at `start` for so many images first.
    """

    start: float
    end: float
    images: int = 0
    shape: Shape = "constant"
    after: int = 0

    def __call__(self, images_seen: int) -> float:
        if self.shape == "constant":
            return self.start
        t = min(max(images_seen - self.after, 0) / self.images, 1.0)
        if self.shape == "cosine":
            t = (1 - math.cos(math.pi * t)) / 2
        return self.start + (self.end - self.start) * t

    def __str__(self) -> str:
        if self.shape == "constant":
            return repr(self.start)
        return f"{self.shape}:{self.start!r}:{self.end!r}:{self.images}" + (f":{self.after}" if self.after else "")

    @staticmethod
    def parse(text: str) -> Schedule:
        """Read the text form back. Raises ValueError that says the forms allowed."""
        try:
            parts = text.split(":")
            if len(parts) == 1:
                return Constant(_finite(text))
            shape, start, end, images, *after = parts
            if shape in ("linear", "cosine") and len(after) < 2:
                make = Linear if shape == "linear" else Cosine
                return make(_finite(start), _finite(end), *(int(_finite(n)) for n in (images, *after)))
        except ValueError:
            pass  # the message below says more than Python's own
        raise ValueError(
            f"'{text}' is not a schedule: give a number, linear:START:END:IMAGES or cosine:START:END:IMAGES"
        )


def Constant(value: float) -> Schedule:
    """The same value for the whole run."""
    return Schedule(float(value), float(value))


def Linear(start: float, end: float, images: int, after: int = 0) -> Schedule:
    """A straight line over `images` images, the first or those after `after`, then `end`."""
    return Schedule(float(start), float(end), _positive(images), "linear", _wait(after))


def Cosine(start: float, end: float, images: int, after: int = 0) -> Schedule:
    """Half a cosine over `images` images (slow, fast, slow), the first or those after `after`, then `end`."""
    return Schedule(float(start), float(end), _positive(images), "cosine", _wait(after))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _positive(images: int) -> int:
    if images <= 0:
        raise ValueError(f"images={images}: a schedule's length in images must be above 0")
    return int(images)


def _wait(images: int) -> int:
    if images < 0:
        raise ValueError(f"after={images}: a schedule cannot begin before the run")
    return int(images)
