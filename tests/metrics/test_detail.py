"""Fine detail and grain: known answers, and each blind to what the other sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft

from zerosum.metrics.detail import ABOVE, detail, fine_power, grain, grain_ratio
from zerosum.metrics.faults import blur, noise


def smooth(count: int = 60, side: int = 24) -> np.ndarray:
    """Soft blobs that differ, with a grey ground."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side] / side
    centre = random.uniform(0.3, 0.7, (count, 2, 1, 1))
    out = 100 + 100 * np.exp(-((x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2) / 0.04)
    return out.round().astype(np.uint8)[:, None]


def test_fine_power_is_that_of_the_cosine_transform() -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 3, 7, 10), dtype=np.uint8)
    spectrum = fft.dctn(values / 127.5 - 1, axes=(2, 3), norm="ortho") ** 2
    y, x = np.mgrid[:7, :10]
    fine = (y > ABOVE * 7) | (x > ABOVE * 10)
    expected = spectrum.mean(1)[:, fine].mean(1)
    np.testing.assert_allclose(fine_power(values).numpy(), expected, rtol=1e-6)


def test_white_noise_has_the_power_and_the_grain_that_it_was_made_with() -> None:
    values = np.clip(np.random.default_rng(0).normal(127.5, 25, (40, 1, 32, 32)).round(), 0, 255).astype(np.uint8)
    assert float(fine_power(values).mean()) == pytest.approx((25 / 127.5) ** 2, rel=0.03)
    assert float(grain(values).mean()) == pytest.approx(25 / 127.5, rel=0.05)


def test_flat_images_have_none() -> None:
    flat = np.full((3, 1, 8, 8), 77, np.uint8)
    assert float(fine_power(flat).max()) < 1e-12
    assert float(grain(flat).max()) == 0
    assert detail(fine_power(flat), fine_power(flat)) == 0


def test_blur_takes_detail_and_noise_adds_grain() -> None:
    clear = np.clip(smooth() + np.random.default_rng(1).normal(0, 4, (60, 1, 24, 24)), 0, 255).astype(np.uint8)
    assert detail(fine_power(clear), fine_power(blur(clear))) < -1
    assert grain_ratio(grain(clear), grain(noise(clear, 0))) > 1
    assert grain_ratio(grain(clear), grain(clear)) == 0


def test_images_are_seen_one_by_one() -> None:
    values = smooth(70)
    for function in (fine_power, grain):
        whole = function(values)
        torch.testing.assert_close(function(values[66:]), whole[66:])
        torch.testing.assert_close(function(values[::-1]), whole.flip(0))
