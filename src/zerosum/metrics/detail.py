"""How much fine detail images have, and how much grain: the first falls with blur, the second rises with noise.

They need no features, which are often blind to both; they say nothing about what the images show.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zerosum.metrics.features.base import CHUNK, unit

ABOVE = 0.5  # of the highest frequency that pixels can hold along an axis
FLAT = 1e-8  # power that a flat image is taken to have
QUIET = 0.25  # the share of an image's places, the quietest, in which its grain is looked for
AT_QUIET = 0.31864  # below this lies QUIET of the absolute values of a standard normal number
STEP = 2 / 255  # one level of 8 bits: less grain than that is not seen


def fine_power(values: np.ndarray) -> Tensor:
    """Of images uint8 (n, C, H, W): the mean power of the frequencies beyond ABOVE along either axis, (n,) float64.

    Of the orthonormal discrete cosine transform (type II) of each image in -1 .. 1, averaged over channels: it has no
    jump at the borders, as the Fourier transform of an image has. White noise of variance v has power v.
    """
    n, _, height, width = values.shape
    down, across = _cosines(height), _cosines(width)
    fine = (torch.arange(height) > ABOVE * height)[:, None] | (torch.arange(width) > ABOVE * width)[None]
    out = torch.empty(n, dtype=torch.float64)
    for start in range(0, n, CHUNK):
        x = unit(np.array(values[start : start + CHUNK])).double()
        power = (down @ x @ across.T).square().mean(1)
        out[start : start + CHUNK] = power[:, fine].mean(1)
    return out


def _cosines(n: int) -> Tensor:
    """The orthonormal cosine transform of type II as a matrix (n, n)."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    matrix = torch.cos(torch.pi * k * (2 * i + 1) / (2 * n)) * (2 / n) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def detail(real: Tensor, fake: Tensor) -> float:
    """log2 of the fakes' median fine power over the reals': 0 alike, -1 half the power, 1 twice. From `fine_power`.

    The median: a few images of much contrast would decide a mean.
    """
    return float(torch.log2((fake.median() + FLAT) / (real.median() + FLAT)))


def grain(values: np.ndarray) -> Tensor:
    """Of images uint8 (n, C, H, W): the standard deviation of white noise on them, in -1 .. 1, (n,) float64.

    Estimated from diagonal differences of 2 x 2 pixels, which smooth shapes leave near 0, in the quietest quarter of
    places: Donoho's estimate (1995, from the finest wavelets) with a lower quantile than the median, since the images
    here may be small and full of edges. What is clipped to black or white shows less than it had.
    """
    out = torch.empty(len(values), dtype=torch.float64)
    for start in range(0, len(values), CHUNK):
        x = unit(np.array(values[start : start + CHUNK])).double()
        diagonal = (x[..., :-1, :-1] - x[..., :-1, 1:] - x[..., 1:, :-1] + x[..., 1:, 1:]) / 2
        out[start : start + CHUNK] = diagonal.flatten(1).abs().quantile(QUIET, 1) / AT_QUIET
    return out


def grain_ratio(real: Tensor, fake: Tensor) -> float:
    """log2 of the fakes' median grain over the reals', a level of 8 bits added to both; from `grain`."""
    return float(torch.log2((fake.median() + STEP) / (real.median() + STEP)))
