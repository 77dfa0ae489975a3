"""Distances between two sets of features, (N, d) each, in float64. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy with k(a, b) = (a.b / d + 1)^3 (Binkowski et al. 2018, eq. 4).

    Unbiased, so about 0 (and as often below as above it) for two samples of one distribution.
    """
    x, y = x.double(), y.double()
    n, m, d = len(x), len(y), x.shape[1]
    if min(n, m) < 2:
        raise ValueError(f"the kernel distance needs 2 samples on each side, not {n} and {m}")

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / d + 1) ** 3

    xx, yy = k(x, x), k(y, y)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2 * k(x, y).mean())


def spread(x: Tensor) -> float:
    """The mean Euclidean distance between two different samples of x."""
    x = x.double()
    n = len(x)
    if n < 2:
        raise ValueError(f"the spread needs 2 samples, not {n}")
    return float(torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum() / (n * (n - 1)))
