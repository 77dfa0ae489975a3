"""Pixel measures against closed forms and an independent implementation."""

from __future__ import annotations

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


def test_parity_with_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    x, y = two()
    ours = pixels.ssim(x, y)
    theirs = functional.structural_similarity_index_measure(x.double(), y.double(), data_range=1.0, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)  # they count a border of mirrored pixels as well
    peak = functional.peak_signal_noise_ratio(x.double(), y.double(), data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(pixels.psnr(x, y), peak)


def test_each_image_by_itself() -> None:
    x, y = two()
    for function in (pixels.mean_absolute, pixels.psnr, pixels.ssim):
        alone = torch.cat([function(a[None], b[None]) for a, b in zip(x, y, strict=True)])
        torch.testing.assert_close(function(x, y), alone)


def test_what_cannot_be_compared() -> None:
    x, y = two()
    with pytest.raises(ValueError, match="cannot be compared"):
        pixels.psnr(x, y[:, :1])
    with pytest.raises(UserError, match="needs 11 a side"):
        pixels.ssim(x[:, :, :8], y[:, :, :8])
