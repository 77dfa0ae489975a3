"""Intervals for what the equilibrium tests measure: a mean of a few numbers, and a share of right guesses.

Written out rather than taken from SciPy, which the package does not depend on. Symbols: alpha -> the chance of an
interval that misses, both sides together; n -> how many; k -> how many of them are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

ALPHA = 0.05
POWER = 0.8
"""How surely a test must find what is called detectable: the usual 80 % (Cohen 1988)."""

TOLERANCE = 1e-9  # of a share, where bisection stops
LIMIT = 200  # terms of a continued fraction, which needs some tens


@dataclass(frozen=True)
class Estimate:
    """A number with the interval it may lie in."""

    value: float
    low: float
    high: float


def student_tail(t: float, freedom: int) -> float:
    """P(T > t) for Student's t with `freedom` degrees of freedom."""
    both = incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return both / 2 if t >= 0 else 1 - both / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction of the mirror image converges faster
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(
        a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.log(a)
    )
    # From the innermost term outwards; the odd and even terms of the series d_1, d_2, ...
    fraction = 1.0
    for i in range(LIMIT, 0, -1):
        m = i // 2
        if i % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        fraction = 1 + d / fraction
    return front / fraction


def mean_interval(values: Sequence[float], alpha: float = ALPHA, inflation: float = 1.0) -> Estimate:
    """The mean of independent numbers, with Student's interval; its half-width times `inflation`."""
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs 2 numbers, not {n}")
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if not np.isfinite(x).all():
        return Estimate(mean, -math.inf, math.inf)
    t = _bisect(lambda t: student_tail(t, n - 1) < alpha / 2, 0.0, 1e4 / alpha)
    half = inflation * t * float(x.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half)


def share_interval(right: int, n: int, alpha: float = ALPHA) -> Estimate:
    """The share of right guesses with its exact interval (Clopper and Pearson 1934): never too narrow."""
    if not 0 <= right <= n or n < 1:
        raise ValueError(f"{right} of {n} is no share")
    low = 0.0 if right == 0 else _bisect(lambda p: at_least(right, n, p) >= alpha / 2, 0.0, right / n)
    high = 1.0 if right == n else _bisect(lambda p: 1 - at_least(right + 1, n, p) < alpha / 2, right / n, 1.0)
    return Estimate(right / n, low, high)


def at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) for X binomial(n, p)."""
    return 1.0 if k <= 0 else 0.0 if k > n else incomplete_beta(k, n - k + 1, p)


def detectable(n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest accuracy that n guesses show to be above 50 %, in `power` of all cases; 1 if none is.

    Shown means that the lower end of `share_interval` is above one half.
    """
    if at_least(n, n, 0.5) > alpha / 2:
        return 1.0
    k = next(k for k in range(_start(n, alpha), n + 1) if at_least(k, n, 0.5) <= alpha / 2)
    return _bisect(lambda p: at_least(k, n, p) >= power, 0.5, 1.0)


def _start(n: int, alpha: float) -> int:
    """A count well below the first that would be significant, to search from."""
    return max(0, math.floor(n / 2 + (NormalDist().inv_cdf(1 - alpha / 2) - 1) * math.sqrt(n) / 2))


def _bisect(above: Callable[[float], bool], low: float, high: float) -> float:
    """Where `above` turns from False to True between the two."""
    while high - low > TOLERANCE * max(1.0, abs(low)):
        middle = (low + high) / 2
        if above(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2
