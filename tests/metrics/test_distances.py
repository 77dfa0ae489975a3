"""Distances against slow loops and closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zerosum.metrics.distances import kernel_distance, spread


def draw(n: int, d: int, seed: int = 0, mean: float = 0.0) -> Tensor:
    return mean + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_kernel_distance(x: Tensor, y: Tensor) -> float:
    """Binkowski et al. 2018, eq. 4, one pair after the other."""
    d = x.shape[1]

    def k(a: Tensor, b: Tensor) -> float:
        return float(sum(float(i) * float(j) for i, j in zip(a, b, strict=True)) / d + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(x[i], y[j]) for i in range(n) for j in range(m)) / (n * m)
    return xx + yy - 2 * xy


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (7, 5, 3), (9, 12, 20)])
def test_kernel_distance_against_a_loop(n: int, m: int, d: int) -> None:
    x, y = draw(n, d, 1), draw(m, d, 2, mean=0.5)
    assert kernel_distance(x, y) == pytest.approx(slow_kernel_distance(x, y), rel=1e-11)


@pytest.mark.parametrize("m", [0.0, 0.5, 1.0])
def test_kernel_distance_has_the_expectation_that_it_estimates(m: float) -> None:
    """For N(0, 1) and N(m, 1), from E[(x y + 1)^3] = E[x^3] E[y^3] + 3 E[x^2] E[y^2] + 3 E[x] E[y] + 1."""

    def expected(a: float, b: float) -> float:
        return (a**3 + 3 * a) * (b**3 + 3 * b) + 3 * (a * a + 1) * (b * b + 1) + 3 * a * b + 1

    truth = expected(0, 0) + expected(m, m) - 2 * expected(0, m)
    found = torch.tensor([kernel_distance(draw(100, 1, 2 * i), draw(80, 1, 2 * i + 1, mean=m)) for i in range(300)])
    error = float(found.std()) / 300**0.5
    assert float(found.mean()) == pytest.approx(truth, abs=4 * error)
    if m == 0:
        assert 0.2 < float((found < 0).double().mean()) < 0.8, "unbiased: below zero about as often as above"


def test_kernel_distance_grows_with_the_difference() -> None:
    x = draw(200, 8, 1)
    distances = [kernel_distance(x, draw(200, 8, 2, mean=m)) for m in (0.0, 0.3, 0.6, 1.2)]
    assert distances == sorted(distances)


@given(seed=st.integers(0, 1000))
def test_order_does_not_matter(seed: int) -> None:
    x, y = draw(9, 4, seed), draw(7, 4, seed + 5000, mean=1)
    shuffle = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    assert kernel_distance(x[shuffle], y) == pytest.approx(kernel_distance(x, y), rel=1e-10)
    assert kernel_distance(x, y) == pytest.approx(kernel_distance(y, x), rel=1e-10)
    assert spread(x[shuffle]) == pytest.approx(spread(x), rel=1e-12)


def test_float32_features_are_compared_in_float64() -> None:
    x, y = ((1_000 + draw(50, 3, i)).float() for i in (1, 2))
    assert kernel_distance(x, y) == kernel_distance(x.double(), y.double())
    assert spread(x) == spread(x.double())


@pytest.mark.parametrize(("n", "m"), [(1, 5), (5, 1), (0, 3)])
def test_too_few_samples(n: int, m: int) -> None:
    with pytest.raises(ValueError, match=f"needs 2 samples on each side, not {n} and {m}"):
        kernel_distance(draw(n, 2), draw(m, 2))


def test_spread_against_a_loop() -> None:
    x = draw(8, 3)
    pairs = [float((x[i] - x[j]).norm()) for i in range(8) for j in range(8) if i != j]
    assert spread(x) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)


def test_spread_scales_ignores_where_and_is_zero_for_copies() -> None:
    x = draw(20, 3)
    assert spread(3 * x + 100) == pytest.approx(3 * spread(x), rel=1e-10)
    assert spread(x[:1].expand(20, 3)) == 0


def test_spread_of_one_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="the spread needs 2 samples, not 1"):
        spread(draw(1, 3))
