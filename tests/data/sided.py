"""Two-sided data for tests: pictures that can be told apart, and what was read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from drawn import encoded, noise
from PIL import Image

from zerosum.data import Data, Sides, open_sides
from zerosum.data.sides import SIDES
from zerosum.data.spec import as_stored


def opened(source: Path | str, **settings: Any) -> Sides:
    return open_sides(Data(source=str(source), **settings))


def flat(value: int, height: int = 8, width: int = 8) -> Image.Image:
    """A grey picture whose value says which it is."""
    return Image.new("L", (width, height), value)


def values(found: Sides, side: str, bucket: int = 0) -> np.ndarray:
    dataset = found.buckets[bucket][SIDES.index(side)]  # type: ignore[arg-type]
    return as_stored(dataset, np.arange(len(dataset)))[0]


def told(found: Sides, side: str) -> list[int]:
    """The values that `flat` pictures are told by, in order."""
    return values(found, side)[:, 0, 0, 0].tolist()


def flats(names: dict[str, int], **size: int) -> dict[str, bytes]:
    return {name: encoded(flat(value, **size)) for name, value in names.items()}


def side_by_side(count: int, height: int = 8) -> dict[str, bytes]:
    return {f"{i:02}.png": encoded(Image.fromarray(noise(height, 2 * height, 3, seed=i))) for i in range(count)}
