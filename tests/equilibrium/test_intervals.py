"""Intervals and power, against closed forms, published tables and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zerosum.equilibrium.intervals import (
    at_least,
    detectable,
    incomplete_beta,
    mean_interval,
    share_interval,
    student_tail,
)


@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (10, 0.5), (37, 0.9), (200, 0.02)])
def test_the_binomial_tail_is_the_sum_of_its_terms(n: int, p: float) -> None:
    terms = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    for k in range(n + 2):
        assert at_least(k, n, p) == pytest.approx(sum(terms[k:]), abs=1e-12)


@pytest.mark.parametrize("a", [0.5, 1, 3, 50, 5_000])
@pytest.mark.parametrize("x", [0.0, 1e-3, 0.2, 0.5, 0.9, 1.0])
def test_known_values_of_the_incomplete_beta(a: float, x: float) -> None:
    assert incomplete_beta(a, 1, x) == pytest.approx(x**a, abs=1e-12)
    assert incomplete_beta(a, a, 0.5) == pytest.approx(0.5, abs=1e-11)
    assert incomplete_beta(a, 7, x) == pytest.approx(1 - incomplete_beta(7, a, 1 - x), abs=1e-12)


# Fisher and Yates' table of t: upper 2.5 %
@pytest.mark.parametrize(("freedom", "t"), [(1, 12.706), (2, 4.303), (7, 2.365), (15, 2.131), (120, 1.980)])
def test_students_table(freedom: int, t: float) -> None:
    assert student_tail(t, freedom) == pytest.approx(0.025, abs=4e-5)
    assert student_tail(-t, freedom) == pytest.approx(0.975, abs=4e-5)
    values = list(np.random.default_rng(0).standard_normal(freedom + 1))
    found = mean_interval(values)
    half = t * np.std(values, ddof=1) / math.sqrt(freedom + 1)
    assert found.value == pytest.approx(np.mean(values))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-3)
    wider = mean_interval(values, inflation=2.0)
    assert wider.high - wider.low == pytest.approx(2 * (found.high - found.low))


def test_published_clopper_pearson_intervals() -> None:
    """Clopper and Pearson 1934, from their charts' arithmetic: 95 % for 8 of 10 and for none of 20."""
    found = share_interval(8, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.4439, 0.9748), abs=1e-4)
    none = share_interval(0, 20)
    assert (none.low, none.high) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)), abs=1e-7)
    all_of_them = share_interval(20, 20)
    assert (all_of_them.low, all_of_them.high) == pytest.approx((0.025 ** (1 / 20), 1.0), abs=1e-7)


@pytest.mark.parametrize(("n", "alpha"), [(40, 0.05), (360, 0.05 / 6)])
def test_fair_coins_are_rarely_called_unfair(n: int, alpha: float) -> None:
    """Exactly: the chance that the interval leaves out one half is at most alpha, and not a tenth of it."""
    outside = [
        k for k in range(n + 1) if not share_interval(k, n, alpha).low <= 0.5 <= share_interval(k, n, alpha).high
    ]
    chance = sum(math.comb(n, k) for k in outside) / 2**n
    assert alpha / 10 < chance <= alpha


@pytest.mark.parametrize("n", [6, 40, 360, 2_000])
def test_what_is_detectable_is_detected(n: int) -> None:
    """At the detectable accuracy, exactly 80 % of all samples of guesses have an interval above one half."""
    p, alpha = detectable(n, 0.05 / 3), 0.05 / 3
    assert 0.5 < p <= 1
    found = [k for k in range(n + 1) if share_interval(k, n, alpha).low > 0.5]
    if found:
        assert at_least(found[0], n, p) == pytest.approx(0.8, abs=1e-6)
    else:
        assert p == 1.0
    assert detectable(4 * n, alpha) < p


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="an interval needs 2 numbers"):
        mean_interval([1.0])
    with pytest.raises(ValueError, match="3 of 2 is no share"):
        share_interval(3, 2)
    assert mean_interval([1.0, math.inf]).high == math.inf
