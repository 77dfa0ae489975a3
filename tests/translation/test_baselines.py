"""The baselines against what they are by definition."""

from __future__ import annotations

import torch

from zerosum.translation import baselines


def images(count: int = 6, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_identity_in_other_channels() -> None:
    grey, colour, alpha = images(2, 1), images(2, 3), images(2, 4)
    assert torch.equal(baselines.identity(colour, 3), colour)
    assert torch.equal(baselines.identity(grey, 3), grey.expand(-1, 3, -1, -1))
    luma = 0.299 * colour[:, :1] + 0.587 * colour[:, 1:2] + 0.114 * colour[:, 2:]
    torch.testing.assert_close(baselines.identity(colour, 1), luma)
    assert torch.equal(baselines.identity(alpha, 3), alpha[:, :3])
    assert torch.equal(baselines.identity(colour, 4)[:, 3], torch.ones(2, 8, 8))


def test_colour_transfer_gives_the_targets_mean_and_covariance() -> None:
    torch.manual_seed(0)
    source = 0.4 + 0.05 * torch.randn(40, 3, 8, 8)
    mix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.7, 0.2], [0.1, 0.0, 0.6]])
    target = 0.6 + 0.05 * torch.einsum("dc,nchw->ndhw", mix, torch.randn(40, 3, 8, 8))
    moved = baselines.colour_transfer(source, source, target)
    left, right = (x.double().transpose(0, 1).flatten(1) for x in (moved, target))
    torch.testing.assert_close(left.mean(1), right.mean(1), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.cov(left), torch.cov(right), rtol=0, atol=1e-4)
    torch.testing.assert_close(baselines.colour_transfer(source, source, source), source.clamp(0, 1))


def test_colours_that_do_not_vary_are_no_harm() -> None:
    flat = torch.full((3, 3, 8, 8), 0.5)
    moved = baselines.colour_transfer(flat, flat, images())
    assert bool(moved.isfinite().all())


def test_the_nearest_pair() -> None:
    known, answers = images(5), images(5, 1, seed=1)
    order = [3, 0, 4]
    assert torch.equal(baselines.nearest_pair(known[order] + 0.01, known, answers), answers[order])
