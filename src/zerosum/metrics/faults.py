"""Planted faults: real images with one thing made wrong, to see whether the measurements see it and name it.

Each works on a set of real images uint8 (n, C, H, W) that were neither trained on nor held out, and stands for a fault
that generators have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F

from zerosum import randomness
from zerosum.metrics.verdict import Kind

COPIES = 0.05  # share of training images slipped in
BLUR = 0.035  # standard deviation of the Gaussian, in widths of the image, and at least BLUR_PIXELS
BLUR_PIXELS = 0.6
NOISE = 20  # standard deviation, of 255


def mode_dropping(images: np.ndarray, labels: np.ndarray, dropped: int) -> np.ndarray:
    """Without one class; others fill its place, so that the number stays: give more than are needed."""
    return images[labels != dropped]


def copies(images: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    """COPIES of the images replaced by training images."""
    count = round(COPIES * len(images))
    where = randomness.permutation(seed, "faults/replaced", 0, len(images))[:count]
    what = randomness.permutation(seed, "faults/copied", 0, len(train))[:count]
    out = images.copy()
    out[where] = train[what]
    return out


def blur(images: np.ndarray) -> np.ndarray:
    """Every image smoothed by a Gaussian, edges repeated; rounded to 8 bits."""
    sigma = max(BLUR * images.shape[3], BLUR_PIXELS)
    reach = int(np.ceil(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    n, channels, height, width = images.shape
    x = torch.from_numpy(np.array(images)).float().view(n * channels, 1, height, width)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
    return x.round().clamp(0, 255).to(torch.uint8).view(n, channels, height, width).numpy()


def noise(images: np.ndarray, seed: int) -> np.ndarray:
    """White noise of standard deviation NOISE on every pixel, clipped; rounded to 8 bits."""
    n = len(images)
    added = NOISE * randomness.normal(seed, "faults/noise", 0, n, images[0].size).numpy().reshape(images.shape)
    return np.clip(np.round(images + added), 0, 255).astype(np.uint8)


def planted(
    images: np.ndarray, labels: np.ndarray, train: np.ndarray, classes: int, n: int, seed: int
) -> Mapping[str, tuple[np.ndarray, Kind]]:
    """Five sets of n images, each with the finding that the verdict must name: a clean one, and the four faults.

    `images` must hold so many that n are left without any one class.
    """
    clean = images[:n]
    dropped = mode_dropping(images, labels, seed % classes)[:n]
    if len(dropped) < n:
        raise ValueError(f"{len(images)} images leave {len(dropped)} without one class, and {n} are wanted")
    makers: dict[str, tuple[Callable[[], np.ndarray], Kind]] = {
        "clean": (lambda: clean, "nothing found"),
        "one class removed": (lambda: dropped, "mode dropping"),
        "5 % training images": (lambda: copies(clean, train, seed), "copies"),
        "blur": (lambda: blur(clean), "blur"),
        "noise": (lambda: noise(clean, seed), "noise"),
    }
    return {name: (make(), kind) for name, (make, kind) in makers.items()}
