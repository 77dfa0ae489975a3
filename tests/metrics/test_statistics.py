"""Streaming statistics against NumPy's, in whatever blocks the features come."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zerosum.errors import UserError
from zerosum.metrics.statistics import BLOCK, Accumulator, Statistics, statistics


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agrees(found: Statistics, features: Tensor, rel: float = 1e-12) -> None:
    x = features.double().numpy()
    assert found.n == len(x)
    np.testing.assert_allclose(found.mean.numpy(), x.mean(0), rtol=rel, atol=rel)
    np.testing.assert_allclose(found.covariance.numpy(), np.cov(x, rowvar=False, ddof=1), rtol=rel, atol=rel)


def test_every_sample_counts() -> None:  # trap 7
    """For every number of samples from 1 to two blocks and one more, given block by block."""
    block = 5
    everything = draw(2 * block + 1, 3)
    for n in range(1, 2 * block + 2):
        collected = Accumulator(3)
        for part in everything[:n].split(block):
            collected.add(part)
        assert collected.n == n
        if n > 1:
            agrees(collected.finish(), everything[:n])


@pytest.mark.parametrize("n", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1])
def test_blocks_inside_do_not_lose_samples_either(n: int) -> None:  # trap 7
    agrees(statistics(draw(n, 4)), draw(n, 4))


def test_float32_features_far_from_zero_keep_their_covariance() -> None:  # trap 4
    """An offset of 1,000 spreads: E[x x^T] - m m^T would lose six digits in float64, and all of them in float32."""
    features = (draw(3_000, 6) + 1_000).float()
    agrees(statistics(features), features)
    inexact = torch.cov(features.T).double()
    exact = statistics(features).covariance
    far = (features.double() + 1e8).requires_grad_()
    torch.testing.assert_close(
        statistics(far).covariance, torch.from_numpy(np.cov(far.detach().numpy().T)), rtol=1e-9, atol=1e-9
    )
    assert float((inexact - exact).abs().max()) > 1e-9, "float32 would not do"


@given(cuts=st.lists(st.integers(0, 40), max_size=5), seed=st.integers(0, 100))
def test_neither_cuts_nor_order_nor_merging_matter(cuts: list[int], seed: int) -> None:
    features = draw(40, 3, seed) * 10 + 5
    edges = [0, *sorted(cuts), 40]
    parts = [features[a:b] for a, b in pairwise(edges)]
    merged = Accumulator(3)
    for part in reversed(parts):
        collected = Accumulator(3)
        collected.add(part)
        merged.merge(collected)
    agrees(merged.finish(), features)


def test_the_covariance_is_symmetric_and_the_accumulator_goes_on() -> None:
    collected = Accumulator(50)
    collected.add(draw(500, 50))
    first = collected.finish()
    assert torch.equal(first.covariance, first.covariance.T)
    before = first.mean.clone()
    collected.add(draw(500, 50, 1))
    agrees(collected.finish(), torch.cat((draw(500, 50), draw(500, 50, 1))))
    assert torch.equal(first.mean, before)


def test_what_cannot_be_counted_is_refused() -> None:
    collected = Accumulator(2)
    collected.add(torch.zeros(1, 2))
    with pytest.raises(UserError, match="needs 2 samples or more, not 1"):
        collected.finish()
    with pytest.raises(UserError, match="sample 4 has a value that is not finite"):
        collected.add(torch.tensor([[0.0, 0], [0, 0], [0, 0], [0, torch.inf]]))
    with pytest.raises(ValueError, match="shape"):
        collected.add(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="2 and 3 dimensions"):
        collected.merge(Accumulator(3))
