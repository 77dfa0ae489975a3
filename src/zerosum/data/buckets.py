"""A few sizes of about the same area, so that images of mixed aspect ratios are hardly cropped and never stretched."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zerosum.data import sizes

MOST = 6  # sizes
LEAST = 8  # images of a size, and
SHARE = 50  # one in so many of all
WIDEST = 4  # times as wide as high, or as high as wide


def candidates(area: float) -> list[tuple[int, int]]:
    """All (height, width) of about this area in pixels that networks take, up to 1:4 and 4:1.

    Multiples of an eighth of the side of a square of that area, rounded down to a power of two, 4 at least.
    """
    side = math.sqrt(area)
    step = max(2 ** int(math.log2(max(side / 8, 1))), sizes.SMALLEST)
    longest = round(side * math.sqrt(WIDEST) / step)
    heights = [step * k for k in range(1, longest + 1) if step * k >= side / math.sqrt(WIDEST)]
    found = [(height, max(round(area / height / step), 1) * step) for height in heights]
    return [size for size in found if sizes.takes(*size)]


def choose(found: Sequence[np.ndarray], area: float) -> tuple[tuple[tuple[int, int], ...], list[np.ndarray]]:
    """Sizes for images of these heights and widths, and which size each image goes to.

    `found` holds an array (n, 2) for each side that is drawn on its own; a size is kept if every side has enough images
    that are nearest to it in aspect ratio. Returns the sizes, that of most images first, and for each side their
    numbers, (n,) int64.
    """
    aspects = [np.log(one[:, 1] / one[:, 0]) for one in found]
    kept = candidates(area)
    while True:
        nearest = [np.abs(one[:, None] - np.log([w / h for h, w in kept])).argmin(axis=1) for one in aspects]
        counts = np.stack([np.bincount(one, minlength=len(kept)) for one in nearest])
        least = counts.min(axis=0)
        enough = all((row >= max(LEAST, row.sum() / SHARE)).all() for row in counts)
        if len(kept) == 1 or (len(kept) <= MOST and enough):
            break
        del kept[min(range(len(kept)), key=lambda i: (least[i], counts[:, i].sum()))]
    order = sorted(range(len(kept)), key=lambda i: (-counts[:, i].sum(), kept[i]))
    rank = np.argsort(order)
    return tuple(kept[i] for i in order), [rank[one] for one in nearest]
