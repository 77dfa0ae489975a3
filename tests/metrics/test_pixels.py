"""Pixel measures against closed forms and an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zerosum.errors import UserError
from zerosum.metrics import pixels


def two(shape: tuple[int, ...] = (3, 3, 24, 32)) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.rand(shape)
    return x, (x + 0.1 * torch.randn(shape)).clamp(0, 1)


def test_closed_forms() -> None:
    x = torch.zeros(2, 1, 12, 12)
    y = torch.stack([torch.full((1, 12, 12), 0.1), torch.full((1, 12, 12), 0.5)])
    torch.testing.assert_close(pixels.mean_absolute(x, y), torch.tensor([0.1, 0.5]).double())
    torch.testing.assert_close(pixels.psnr(x, y), torch.tensor([20.0, 6.0206]).double(), rtol=1e-5, atol=1e-5)
    assert pixels.psnr(x, x).tolist() == [100.0, 100.0]
    torch.testing.assert_close(pixels.ssim(y, y), torch.ones(2).double())


def test_structural_similarity_by_its_formula() -> None:
    """Wang et al. 2004, eq. 13, window by window."""
    x, y = (image.double() for image in two((1, 1, 12, 13)))
    at = np.arange(11) - 5
    weights = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for top in range(2):
        for left in range(3):
            a, b = (image[0, 0, top : top + 11, left : left + 11].numpy() for image in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 0.01**2, 0.03**2
            found.append(
                (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    assert float(pixels.ssim(x, y)) == pytest.approx(np.mean(found), abs=1e-12)


def test_parity_with_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    x, y = (image.double() for image in two((3, 3, 64, 64)))
    theirs = functional.structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    torch.testing.assert_close(pixels.ssim(x, y), theirs, rtol=0, atol=5e-3)  # they count a mirrored border as well
    peak = functional.peak_signal_noise_ratio(x, y, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(pixels.psnr(x, y), peak)


def test_each_image_by_itself() -> None:
    x, y = two()
    for function in (pixels.mean_absolute, pixels.psnr, pixels.ssim):
        alone = torch.cat([function(a[None], b[None]) for a, b in zip(x, y, strict=True)])
        torch.testing.assert_close(function(x, y), alone)


def test_what_cannot_be_compared() -> None:
    x, y = two()
    with pytest.raises((ValueError, TypeError)):  # where shapes are checked, that is first
        pixels.psnr(x, y[:, :1])
    with pytest.raises(UserError, match="needs 11 a side"):
        pixels.ssim(x[:, :, :8], y[:, :, :8])
