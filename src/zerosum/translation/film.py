"""A film through a translator, blended over time if asked for, with its flicker before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from zerosum.translation.flicker import Blend, Flicker
from zerosum.translation.model import Translator, Wish
from zerosum.translation.video import Report, translate_video


def translate_film(
    translator: Translator,
    source: Path,
    target: Path,
    wish: Wish,
    *,
    blend: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[Report, Flicker | None]:
    """Translate `source` into `target`; see `video.translate_video` for what is kept, and what an end too early leaves.

    `blend`: the strength of `flicker.Blend`, 0 to measure alone; None for neither. UserError.
    """
    mixing = None if blend is None else Blend(blend)

    def frames(given: np.ndarray) -> np.ndarray:
        made = translator.frames(given, wish)
        return made if mixing is None else mixing(given, made)

    report = translate_video(source, target, frames, progress=progress)
    return report, None if mixing is None else mixing.flicker
