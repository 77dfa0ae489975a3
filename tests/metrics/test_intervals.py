"""Intervals against closed forms, and whether they hold what they say they hold."""

from __future__ import annotations

from itertools import combinations
from math import comb, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.metrics.distances import frechet, kernel_distance
from zerosum.metrics.intervals import binomial, disjoint, exchangeable_tail, mann_whitney, over_parts, smaller
from zerosum.metrics.statistics import statistics


def draw(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (50, 1_000)])
def test_binomial_bounds_are_where_the_tails_are_half_of_what_is_left(k: int, n: int) -> None:
    found = binomial(k, n, 0.9)

    def tail(p: float, counts: range) -> float:
        return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in counts)

    assert found.value == k / n
    assert found.low == 0 if k == 0 else tail(found.low, range(k, n + 1)) == pytest.approx(0.05, rel=1e-8)
    assert found.high == 1 if k == n else tail(found.high, range(k + 1)) == pytest.approx(0.05, rel=1e-8)


def test_over_parts_is_the_t_interval_of_the_mean() -> None:  # trap 6
    """The mean of the draws and its interval; nobody's best."""
    values = [3.0, 1.0, 2.0, 6.0]
    found = over_parts(lambda v: v, values)
    half = 3.182446305284263 * np.std(values, ddof=1) / 2  # t of 3 degrees of freedom at 97.5 %, from tables
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 3.0 - half, 3.0 + half), rel=1e-9)
    assert "4 disjoint draws" in found.how
    assert over_parts(lambda v: v, values, level=0.5).high < found.high
    about = over_parts(lambda v: v, values, at=10.0)
    assert (about.value, about.low, about.high) == pytest.approx((10.0, 10.0 - half, 10.0 + half), rel=1e-9)


@pytest.mark.parametrize("metric", ["frechet", "kernel"])
def test_the_interval_about_the_whole_holds_what_fresh_samples_give(metric: str) -> None:  # trap 5
    """300 measurements at n = 400, cut in 5: at least 9 in 10 intervals of 95 % hold the mean over fresh samples.

    Not so for intervals about the parts' mean: the Frechet distance of a fifth of the samples is too large.
    """

    def distance(pair: tuple[Tensor, Tensor]) -> float:
        x, y = pair
        return frechet(statistics(x), statistics(y)) if metric == "frechet" else kernel_distance(x, y)

    pairs = [(draw(400, 3, 2 * s), 1.1 * draw(400, 3, 2 * s + 1) + 0.3) for s in range(300)]
    truth = np.mean([distance(pair) for pair in pairs])
    held, held_by_mean = [], []
    for x, y in pairs:
        parts = [(x[i::5], y[i::5]) for i in range(5)]
        found = over_parts(distance, parts, at=distance((x, y)))
        held.append(found.low <= truth <= found.high)
        mean = over_parts(distance, parts)
        held_by_mean.append(mean.low <= truth <= mean.high)
    assert 0.90 <= np.mean(held) <= 0.99
    if metric == "frechet":
        assert np.mean(held_by_mean) < np.mean(held)


def test_bounds_stay_within_what_is_possible() -> None:
    values = [0.9, 1.0, 0.8, 1.0]
    found = over_parts(float, values, at=0.98, possible=(0.0, 1.0))
    free = over_parts(float, values, at=0.98)
    assert free.high > 1
    assert (found.value, found.low, found.high) == (0.98, free.low, 1.0)
    assert over_parts(float, [0.0, 0.3, 0.1], at=0.01, possible=(0.0, np.inf)).low == 0


def test_mann_whitney_against_pairs_with_ties() -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 4, 30), random.integers(0, 5, 25)
    u = sum((a > b) + 0.5 * (a == b) for a in x for b in y)
    everything = np.concatenate((x, y))
    ranks = np.array([(everything < v).sum() + ((everything == v).sum() + 1) / 2 for v in everything])
    # The permutation variance of the sum of 30 of these ranks.
    variance = 30 * 25 / 55 * ranks.var(ddof=1)
    assert mann_whitney(x, y) == pytest.approx((u - 30 * 25 / 2) / variance**0.5, rel=1e-12)
    assert smaller(x, y) + smaller(y, x) == pytest.approx(1)
    assert (smaller(x, y) < 0.5) == (u < 30 * 25 / 2)
    assert smaller(np.zeros(9), np.zeros(5)) == 0.5


def test_smaller_by_chance_is_as_rare_as_it_says() -> None:
    """Also where most values are tied, as grain is."""
    chances = [smaller(a[:60], a[60:]) for a in np.random.default_rng(1).geometric(0.6, (2_000, 120))]
    for level in (0.05, 0.005):
        assert np.mean(np.less(chances, level)) == pytest.approx(level, abs=4 * sqrt(level / 2_000))


def test_a_bootstrap_with_replacement_would_lie() -> None:
    """Why there is none: it moves the Frechet distance of equals up, by more than the distance itself."""
    x, y = draw(400, 20, 1), draw(400, 20, 2)
    again = torch.Generator().manual_seed(0)
    drawn = [frechet(statistics(x[torch.randint(400, (400,), generator=again)]), statistics(y)) for _ in range(20)]
    assert min(drawn) > frechet(statistics(x), statistics(y))


def test_disjoint_parts_are_disjoint_and_keyed() -> None:
    parts = disjoint(103, 4, seed=1)
    assert [len(part) for part in parts] == [25] * 4
    assert not any(set(a) & set(b) for a, b in combinations(parts, 2))
    assert all((part >= 0).all() and (part < 103).all() for part in parts)
    assert all(np.array_equal(a, b) for a, b in zip(parts, disjoint(103, 4, seed=1), strict=True))
    assert not np.array_equal(parts[0], disjoint(103, 4, seed=2)[0])
    assert sorted(np.concatenate(disjoint(12, 3, 0)).tolist()) == list(range(12))


def test_the_tail_of_exchangeable_values_by_counting_all_orders() -> None:
    """All ways in which 4 of 9 places in order may belong to the others."""
    n, others = 5, 4
    orders = list(combinations(range(n + others), others))
    for rank in range(1, others + 1):
        below = [place[rank - 1] - (rank - 1) for place in orders]  # of the n, how many come before
        for k in range(n + 1):
            assert exchangeable_tail(k, n, rank, others) == pytest.approx(np.mean([b >= k for b in below]), rel=1e-10)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="parts 1: an interval needs 2"):
        over_parts(sqrt, [1.0])
    with pytest.raises(UserError, match=r"level 95: must be above 0 and below 1"):
        over_parts(sqrt, [1.0, 2.0], level=95)
    with pytest.raises(UserError, match="parts 4: 3 samples can be cut into 1 to 3"):
        disjoint(3, 4, 0)
    for k, n in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(ValueError):
            binomial(k, n)
    with pytest.raises(ValueError):
        exchangeable_tail(1, 3, 0, 5)
