"""Confidence intervals and chances, each for what it says: shares, means of disjoint draws. No bootstrap.

A bootstrap draws with replacement: copies in a draw shrink its covariance and give points a neighbour at distance 0,
which moves Frechet distances up and makes nearest-neighbour radii 0. Disjoint parts of the samples have no such faults.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import special

from zerosum import randomness
from zerosum.errors import UserError

Part = TypeVar("Part")


@dataclass(frozen=True)
class Interval:
    """A value with bounds that hold the quantity meant in a share `level` of all repetitions."""

    value: float
    low: float
    high: float
    level: float
    how: str
    """How the bounds were made, in words."""


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise UserError(f"level {level}: must be above 0 and below 1, such as 0.95")
    return level


def binomial(successes: int, n: int, level: float = 0.95) -> Interval:
    """The share of successes among n independent trials, with the exact bounds of Clopper and Pearson (1934)."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of {n}")
    tail = (1 - _checked(level)) / 2
    low = float(special.betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Interval(successes / n, low, high, level, f"Clopper and Pearson's exact interval, {n} trials")


def fewer(k: int, n: int, other_k: int, other_n: int) -> float:
    """P(K <= k) of k successes in n trials, given k + other_k in both and equal shares: Fisher's exact test (1935)."""
    from scipy import stats  # slow to import

    return float(stats.hypergeom.cdf(k, n + other_n, k + other_k, n))


def over_parts(
    function: Callable[[Part], float],
    parts: Sequence[Part],
    at: float | None = None,
    level: float = 0.95,
    possible: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """An interval from m disjoint draws, by the spread s of the function over them: t(m - 1) s / sqrt(m) to each side.

    Without `at`, the value is the mean over the draws and the interval is for the function's expectation at the
    draws' own size. Use it where images can be made freely: m draws of n fakes each give an interval for n.

    With `at`, the parts are all of one sample, cut up, and `at` is the function of the whole sample. A function that is
    smooth in the samples has a variance proportional to 1 / n, so that of the whole is 1 / m that of a part, and the
    interval is put about `at`. It is for the expectation at the whole sample's n: what a fresh sample of the same size
    would give on average. The parts' mean is not used, because bias grows as parts get smaller; the bias that is left
    at n is not in the interval, and the real-against-real floor at the same n shows its size. Near the floor, where
    the variance falls faster than 1 / n, the interval is wider than it need be.

    In both cases only what is cut or drawn anew varies: cut both sides in pairs for an interval over both, or cut the
    fakes alone for one that takes the real set as given. Bounds beyond what the quantity can be are drawn in to the
    ends of `possible`: that loses nothing, and a share above 1 would be nonsense.
    """
    if len(parts) < 2:
        raise UserError(f"parts {len(parts)}: an interval needs 2 disjoint parts or more")
    values = [float(function(part)) for part in parts]
    m = len(values)
    t = float(special.stdtrit(m - 1, (1 + _checked(level)) / 2))
    half = t * statistics.stdev(values) / math.sqrt(m)
    if at is None:
        value, how = statistics.fmean(values), f"mean and t interval of {m} disjoint draws"
    else:
        value, how = float(at), f"about the whole sample's value, by the spread of its {m} disjoint parts"
    least, most = possible
    return Interval(value, max(value - half, least), min(value + half, most), level, how)


def disjoint(n: int, parts: int, seed: int, purpose: str = "parts") -> list[np.ndarray]:
    """Which of n samples make up each of so many disjoint parts of equal size, in a shuffled order; some may be left.

    UserError if a part would be empty.
    """
    if not 1 <= parts <= n:
        raise UserError(f"parts {parts}: {n} samples can be cut into 1 to {n} parts")
    size = n // parts
    order = randomness.permutation(seed, purpose, 0, n)
    return [np.sort(order[i * size : (i + 1) * size]) for i in range(parts)]


def mann_whitney(x: np.ndarray, y: np.ndarray) -> float:
    """z of Mann and Whitney's U (1947) for x (n,) against y (m,), ties at mid-rank: below 0 if x tends to be smaller.

    Standard normal for two samples of one distribution, near enough from a few dozen on each side.
    """
    n, m = len(x), len(y)
    known = np.sort(y)
    u = (np.searchsorted(known, x, "left") + np.searchsorted(known, x, "right")).sum() / 2
    _, ties = np.unique(np.concatenate((x, known)), return_counts=True)
    total = n + m
    variance = n * m / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    return float((u - n * m / 2) / variance**0.5) if variance > 0 else 0.0


def smaller(x: np.ndarray, y: np.ndarray) -> float:
    """How often, by chance, x is as much smaller than y as here, if both are of one distribution: `mann_whitney`."""
    return float(special.ndtr(mann_whitney(x, y)))


def exchangeable_tail(k: int, n: int, rank: int, others: int) -> float:
    """P(K >= k): K of n values lie below the rank-th smallest of `others` more, all exchangeable and without ties.

    K >= k just if the k + rank - 1 smallest of all hold fewer than `rank` of the others: a hypergeometric tail.
    """
    if not 1 <= rank <= others or not 0 <= k <= n:
        raise ValueError(f"k {k} of {n}, rank {rank} of {others}")
    first, total = k + rank - 1, n + others
    j = np.arange(max(0, first - n), min(rank - 1, others, first) + 1)

    def log_choose(a: np.ndarray | int, b: np.ndarray | int) -> np.ndarray:
        return (
            special.gammaln(np.add(a, 1.0)) - special.gammaln(np.add(b, 1.0)) - special.gammaln(np.subtract(a, b) + 1.0)
        )

    logs = log_choose(others, j) + log_choose(n, first - j) - log_choose(total, first)
    return float(min(1.0, np.exp(logs).sum()))
