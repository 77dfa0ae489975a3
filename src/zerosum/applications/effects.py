"""Whether one way of training is better than another, over folds or draws that both were tried on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

Answer = Literal["helps", "hurts", "cannot be told"]
LEVEL = 0.95


@dataclass(frozen=True)
class Effect:
    """The mean of paired differences, with bounds."""

    difference: float
    low: float
    high: float
    p: float
    """Of a difference as large by chance, two-sided."""
    pairs: int

    @property
    def answer(self) -> Answer:
        """helps or hurts where the bounds leave out 0."""
        if self.low > 0:
            return "helps"
        return "hurts" if self.high < 0 else "cannot be told"


class Variance(NamedTuple):
    """An estimate, and how many degrees of freedom it has."""

    value: float
    freedom: float


NONE = Variance(0.0, math.inf)


def added(parts: Sequence[Variance]) -> Variance:
    """Of a sum of things that vary independently; degrees of freedom are Satterthwaite's (1946)."""
    value = math.fsum(part.value for part in parts)
    if value == 0:
        return NONE
    return Variance(value, value**2 / math.fsum(part.value**2 / part.freedom for part in parts))


def mean_interval(
    values: Sequence[float], overlap: float = 0.0, worth: float = 0.0, tested: Variance = NONE
) -> tuple[float, float, float]:
    """Mean and the bounds of its t interval (level 0.95); bounds are infinite where there is one value."""
    found = effect(values, overlap, worth, tested)
    return found.difference, found.low, found.high


def of_test_images(terms: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Variance:
    """How a sum over test images varies with which images they are, of so many of each class.

    `terms` (n,): what each image adds, means over the draws and classifiers that were all tested on it. `groups` (n,):
    images of one, such as a patient's, vary together. With a class of one group it cannot be told: infinite. Each class
    has its own degrees of freedom: a variance that is mostly one of three patients is known no better than those tell.
    Added to the variance over draws it is that of draws and images drawn independently, a little too large by what is
    in both (Owen 2007, "The pigeonhole bootstrap", sec. 3).
    """
    residual, classes = np.empty(len(terms)), list[Variance]()
    for kind in np.unique(labels):
        of = labels == kind
        g = len(np.unique(groups[of]))
        if g < 2:
            return Variance(math.inf, 1)
        residual[of] = (terms[of] - terms[of].mean()) * math.sqrt(g / (g - 1))
        classes.append(Variance(_of_sums(residual[of], groups[of]), g - 1))
    return Variance(_of_sums(residual, groups), added(classes).freedom)


def _of_sums(residual: np.ndarray, groups: np.ndarray) -> float:
    """The sum of squares of each group's sum."""
    _, place = np.unique(groups, return_inverse=True)
    return float(np.square(np.bincount(place, residual)).sum())


def effect(differences: Sequence[float], overlap: float = 0.0, worth: float = 0.0, tested: Variance = NONE) -> Effect:
    """Of differences of shares, one a fold or draw, each the mean over seeds.

    `overlap`: images tested over images trained on, of folds, whose training sets overlap: the variance of their mean
    is then s^2 (1 / k + overlap) and not s^2 / k (Nadeau and Bengio 2003, "Inference for the Generalization Error",
    eq. 9). 0 for draws that are independent.
    `worth`: what one test patient (or image) changes. Nothing finer was measured: folds that agree better than that do
    so by chance, and their standard deviation is taken for it.
    `tested`: what which test images there are adds, where all draws share them (`of_test_images`); folds have each
    their own, and vary by it.
    """
    from scipy import stats  # slow to import

    k = len(differences)
    mean = math.fsum(differences) / k
    if k < 2:
        return Effect(mean, -math.inf, math.inf, 1.0, k)
    variance = max(math.fsum((d - mean) ** 2 for d in differences) / (k - 1), worth**2)
    total = added([Variance(variance * (1 / k + overlap), k - 1), tested])
    error = math.sqrt(total.value)
    if error == 0:
        return Effect(mean, mean, mean, 1.0 if mean == 0 else 0.0, k)
    if math.isinf(error):
        return Effect(mean, -1.0, 1.0, 1.0, k)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, total.freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, total.freedom))
    return Effect(mean, max(mean - reach, -1.0), min(mean + reach, 1.0), p, k)


def holm(values: Sequence[float]) -> list[float]:
    """Chances adjusted for how many there are (Holm 1979): each at least as large as it was, in the same order."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, worst = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = worst
    return adjusted
