"""How alike two images are, pixel by pixel: pure functions of batches (n, C, H, W) in [0, 1], one number an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from zerosum.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float

WINDOW, SIGMA = 11, 1.5  # pixels
K1, K2 = 0.01, 0.03
LEAST_ERROR = 1e-10  # of equals: 100 dB


def mean_absolute(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """The mean absolute difference (L1)."""
    x, y = _alike(x, y)
    return (x - y).abs().flatten(1).mean(1)


def psnr(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio in dB, -10 log10 of the mean squared difference; 100 at most."""
    x, y = _alike(x, y)
    return -10 * (x - y).square().flatten(1).mean(1).clamp(min=LEAST_ERROR).log10()


def ssim(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Structural similarity (Wang et al. 2004, "Image Quality Assessment", eq. 13), mean over channels and places.

    A Gaussian window of 11 pixels and 1.5 standard deviation, population moments, and only places where it lies within
    the image: 11 pixels a side are the least.
    """
    x, y = _alike(x, y)
    if min(x.shape[2:]) < WINDOW:
        raise UserError(f"images of {x.shape[2]}x{x.shape[3]} pixels: structural similarity needs {WINDOW} a side")
    at = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    gauss = torch.exp(-(at**2) / (2 * SIGMA**2))
    gauss = gauss / gauss.sum()

    def mean(values: Tensor) -> Tensor:
        planes = values.flatten(0, 1)[:, None]
        planes = F.conv2d(F.conv2d(planes, gauss.view(1, 1, -1, 1)), gauss.view(1, 1, 1, -1))
        return planes.unflatten(0, values.shape[:2])[:, :, 0]

    a, b = mean(x), mean(y)
    var_x, var_y, both = mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b
    c1, c2 = K1**2, K2**2
    found = (2 * a * b + c1) * (2 * both + c2) / ((a * a + b * b + c1) * (var_x + var_y + c2))
    return found.flatten(1).mean(1)


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape or x.dim() != 4:
        raise ValueError(f"images {tuple(x.shape)} and {tuple(y.shape)} cannot be compared pixel by pixel")
    return x.double(), y.double()
