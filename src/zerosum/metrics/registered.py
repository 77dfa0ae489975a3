"""The nearest image, mirrored or moved by a pixel or two as may be: what a copy is a copy of, whoever shifted it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zerosum.metrics.features.weak import Pixels
from zerosum.metrics.neighbours import nearest_few

if TYPE_CHECKING:
    from jaxtyping import Float

CANDIDATES = 24  # images and mirror images, nearest by what a move hardly changes, that are looked at moved
CELLS = 8  # a side, of whose means those are chosen by
REACH = 2  # pixels either way, of images no larger than Pixels makes them
AT_ONCE, BLOCK = 8, 5_000  # images: of x, and of `among`
SETTINGS = f"mirrored or not, moved by up to {REACH} pixels"


def nearest_registered(x: np.ndarray, among: np.ndarray, pixels: Pixels) -> tuple[Float[Tensor, " n"], Tensor]:
    """(distance (n,) float64, index (n,) int64) of the image of `among` that is nearest to each of x.

    Images are uint8 (n, C, H, W). The distance is the root mean squared difference of pixels in [-1, 1] where both lie
    over each other, the least over `SETTINGS`.
    """
    shape = (pixels.channels, *pixels.size)
    seen = pixels(x)
    near, mirrored = _candidates(_coarse(seen, shape), among, pixels)
    distances = []
    for start in range(0, len(x), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        candidates = among[near[rows].numpy()]  # (r, k, C, H, W)
        flip = mirrored[rows].numpy()
        candidates[flip] = candidates[flip][..., ::-1]
        known = pixels(candidates.reshape(-1, *among.shape[1:])).view(*candidates.shape[:2], *shape)
        distances.append(_least_moved(seen[rows].view(-1, 1, *shape).double(), known.double()))
    distance, which = torch.cat(distances).min(1)
    return distance, near.gather(1, which[:, None])[:, 0]


def _candidates(seen: Tensor, among: np.ndarray, pixels: Pixels) -> tuple[Tensor, Tensor]:
    """Numbers (n, k) int64 of the nearest images as they lie or mirrored, and whether mirrored (n, k), by blocks."""
    best = torch.empty(len(seen), 0, dtype=torch.float64)
    near, mirrored = best.long(), best.bool()
    for start in range(0, len(among), BLOCK):
        block = among[start : start + BLOCK]
        both = _coarse(pixels(np.concatenate([block, block[..., ::-1]])), (pixels.channels, *pixels.size))
        distance, at = nearest_few(seen, both, min(CANDIDATES, len(both)))
        best, order = torch.cat([best, distance], 1).sort(1)
        near = torch.cat([near, at % len(block) + start], 1).gather(1, order)[:, :CANDIDATES]
        mirrored = torch.cat([mirrored, at >= len(block)], 1).gather(1, order)[:, :CANDIDATES]
        best = best[:, :CANDIDATES]
    return near, mirrored


def _coarse(pixels: Float[Tensor, "n d"], shape: tuple[int, ...]) -> Float[Tensor, "n e"]:
    cells = min(CELLS, shape[1]), min(CELLS, shape[2])
    return F.adaptive_avg_pool2d(pixels.view(-1, *shape), cells).flatten(1)


def _least_moved(x: Float[Tensor, "n 1 c h w"], candidates: Float[Tensor, "n k c h w"]) -> Float[Tensor, "n k"]:
    """The root mean squared difference over what both show, the least over moves."""
    height, width = x.shape[3:]
    reach = min(REACH, (min(height, width) - 1) // 2)
    found = []
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            mine = x[..., max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
            theirs = candidates[..., max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
            found.append((mine - theirs).square().mean((2, 3, 4)))
    return torch.stack(found).amin(0).sqrt()
