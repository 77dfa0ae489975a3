"""The films that `zerosum sample`, `explore` and `invert` write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zerosum.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

STEPS, RATE = 48, 24  # frames from one stop to the next, and a second
SUFFIXES = (".mp4", ".gif")


def is_film(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def check(path: Path) -> None:
    """UserError for a name that is no film's."""
    if not is_film(path):
        raise UserError(f"--film {path}: give a name that ends in .mp4 or .gif")


def save(path: Path, frames: np.ndarray, columns: int | None, captions: Sequence[str] = ()) -> None:
    """A film; each frame has images uint8 (frames, n, C, H, W) in so many columns, near-square if None, and a caption
    if there are some."""
    from zerosum import pictures
    from zerosum.film import save_film

    mp4, gif = (path, None) if path.suffix.lower() == ".mp4" else (None, path)
    padding = 0 if frames.shape[1] == 1 else 2

    def sheets() -> Iterator[Image.Image]:
        for i, images in enumerate(frames):
            sheet = pictures.grid(images, columns=columns, padding=padding)
            yield pictures.caption(sheet, captions[i]) if captions else sheet

    save_film(sheets(), mp4, gif, frames_per_second=RATE)
