"""Pictures in the characters of a terminal: half-blocks in colour, or plain characters by their weight."""

from __future__ import annotations

import functools
import itertools
from typing import Literal

import numpy as np
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

from zerosum.pictures import on_white

Colour = Literal["truecolor", "256", "none"]

RAMP = " .:-=+*#%@"


def draw(image: Image.Image, columns: int, rows: int, colour: Colour = "truecolor") -> list[Text]:
    """The image as lines of text, at most `columns` x `rows` characters, its shape kept.

    With colour each character is an upper half-block: two square pixels, area-averaged (or, if there is room,
    each pixel an equal square). With 'none' a character's weight stands for brightness.
    """
    image = on_white(image)
    factor = min(columns / image.width, 2 * rows / image.height)
    factor = float(int(factor)) if factor >= 1 else factor
    width, height = max(1, int(image.width * factor)), max(1, int(image.height * factor))
    image = image.resize((width, height), Image.Resampling.BOX)
    if colour == "none":
        grey = np.asarray(image.convert("L").resize((width, -(-height // 2)), Image.Resampling.BOX))
        return [Text("".join(RAMP[int(v) * len(RAMP) // 256] for v in line)) for line in grey]
    pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    codes = _ansi256(pixels) if colour == "256" else pixels @ np.array([65536, 256, 1])
    below = np.vstack([codes, np.full((height % 2, width), -1)])[1::2]  # -1: nothing there
    lines = []
    for upper, lower in zip(codes[::2].tolist(), below.tolist(), strict=True):
        line = Text(no_wrap=True, end="")
        for pair, run in itertools.groupby(zip(upper, lower, strict=True)):
            line.append("▀" * len(list(run)), _style(*pair, colour))
        lines.append(line)
    return lines


@functools.lru_cache(maxsize=1 << 14)
def _style(upper: int, lower: int, colour: Colour) -> Style:
    def of(code: int) -> Color:
        if colour == "256":
            return Color.from_ansi(code)
        return Color.from_rgb(code >> 16, code >> 8 & 255, code & 255)

    return Style(color=of(upper), bgcolor=None if lower < 0 else of(lower))


def _ansi256(pixels: np.ndarray) -> np.ndarray:
    """Codes (h, w) of the nearest of xterm's 216 colours and 24 greys, for pixels (h, w, 3)."""
    levels = np.array([0, 95, 135, 175, 215, 255])
    cube = np.abs(pixels[..., None] - levels).argmin(-1)
    shade = np.clip((pixels.mean(-1) - 8) / 10, 0, 23).round().astype(np.int64)
    far = ((levels[cube] - pixels) ** 2).sum(-1)
    grey_far = ((8 + 10 * shade[..., None] - pixels) ** 2).sum(-1)
    return np.where(grey_far < far, 232 + shade, 16 + cube @ np.array([36, 6, 1]))
