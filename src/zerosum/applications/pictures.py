"""Pictures of what the applications find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zerosum.data.picture import from_pixels

if TYPE_CHECKING:
    from zerosum.applications.attack import Attacked

SIDE, LINE, GAP = 96, 18, 8  # pixels
INK, PAPER = (20, 20, 20), (255, 255, 255)


def attack_sheet(found: Attacked, names: tuple[str, ...]) -> Image.Image:
    """Images as they were, what was added (around grey, as strongly as can be seen), and as they are taken now."""
    change = found.changed.astype(np.int16) - found.originals.astype(np.int16)
    most = max(int(np.abs(change).max()), 1)
    added = (127 + change * (127 / most)).round().clip(0, 255).astype(np.uint8)
    rows = [
        (found.originals, [names[k] for k in found.before]),
        (added, [f"+-{found.epsilon:g}"] * len(added)),
        (found.changed, [names[k] for k in found.named]),
    ]
    width = len(found.originals) * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (SIDE + LINE + GAP) + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for y, (images, words) in enumerate(rows):
        for x, (image, word) in enumerate(zip(images, words, strict=True)):
            left, top = GAP + x * (SIDE + GAP), GAP + y * (SIDE + LINE + GAP)
            tile = from_pixels(image).convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(tile, (left, top))
            pen.text((left, top + SIDE + 1), word[:14], INK, font)
    return sheet
