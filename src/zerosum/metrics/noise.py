"""What a few samples can say, and how sure they are: values with their standard errors. Pure functions, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from zerosum.metrics.distances import frechet
from zerosum.metrics.statistics import Statistics, statistics

GROUPS = 16


def frechet_reading(x: Tensor, real: Statistics) -> tuple[float, float]:
    """(value, standard error): the Frechet distance of x (n, d) from the real side, and how far chance moves it.

    The error is over draws of x alone: the real side stays the same while a run goes on, so it is what blurs the
    difference between two readings with fresh x. By the jackknife over GROUPS groups (Efron and Stein 1981), each left
    out once: unlike a bootstrap it repeats no sample. Where x and the real side
    are alike it is up to about 1.4 times too wide. n must be above d (1 + 1 / GROUPS), or UserError.
    """
    parts = list(x.double().tensor_split(min(GROUPS, len(x))))
    without = torch.tensor(
        [frechet(statistics(torch.cat(parts[:i] + parts[i + 1 :])), real) for i in range(len(parts))],
        dtype=torch.float64,
    )
    count = len(parts)
    return frechet(statistics(x), real), float((without.var() * (count - 1) ** 2 / count).sqrt())


def dominance(x: Tensor, y: Tensor) -> tuple[float, float]:
    """(value, standard error): P(x > y) - P(x < y) for one draw of each, from samples x (n,) and y (m,).

    Cliff's delta (1993), which is 2 AUC - 1: 0 if they are alike, 1 if every x is above every y. It asks for no scale,
    which logits of different losses do not share. The error is that of DeLong et al. (1988); samples that do not
    overlap have one of 0.
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"the error of a dominance needs 2 samples on each side, not {n} and {m}")
    above = torch.sign(x[:, None] - y[None, :])
    error = (above.mean(1).var() / n + above.mean(0).var() / m).sqrt()
    return float(above.mean()), float(error)
