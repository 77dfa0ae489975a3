"""Distances between two sets of features, (n, d) each, in float64. Pure functions.

The Frechet distance compares means and covariances; it needs more samples than dimensions and is biased upwards by
about 1 / n. The kernel distance is unbiased at every n, so it is the one for few samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zerosum import randomness
from zerosum.errors import UserError
from zerosum.metrics.statistics import Statistics

BLOCK = 1_000  # rows of a kernel matrix that exist at a time
SMALL = 1e-10  # of the largest eigenvalue: the root of a smaller one is off by more than 1e-11 of the largest root


def frechet(a: Statistics, b: Statistics, shrinkage: float = 0.0) -> float:
    """The squared Frechet distance of the two normal distributions with these statistics (Dowson and Landau 1982).

    |m_a - m_b|^2 + tr(A + B - 2 (A B)^1/2), the formula of Heusel et al. 2017, eq. 6. With factors A = F F^T and
    B = G G^T, the trace of the root is the sum of the singular values of F^T G: no root of an unsymmetric matrix.

    UserError where a side has no more samples than dimensions: its covariance then lacks whole directions, and the
    number says more about n than about the images. `shrinkage` s > 0 accepts it and compares (1 - s) A + s tr(A)/d I
    (the form of Ledoit and Wolf 2004) on both sides: another metric, to be named so.
    """
    if a.dimensions != b.dimensions:
        raise ValueError(f"{a.dimensions} and {b.dimensions} dimensions cannot be compared")
    if not 0 <= shrinkage < 1:
        raise UserError(f"shrinkage {shrinkage}: must be 0 or more and below 1")
    n = min(a.n, b.n)
    if n <= a.dimensions and not shrinkage:
        raise UserError(
            f"the Frechet distance in {a.dimensions} dimensions needs more than {a.dimensions} samples a side, not "
            f"{n}: use the kernel distance, which is unbiased at any number, or more images, or ask for shrinkage"
        )
    left, right = _shrunk(a.covariance, shrinkage), _shrunk(b.covariance, shrinkage)
    value = (a.mean - b.mean).square().sum() + left.trace() + right.trace()
    value -= 2 * _sum_of_singular_values(_factor(left).T @ _factor(right))
    return max(float(value), 0.0)  # rounding may leave the distance of equals below 0


def _shrunk(covariance: Tensor, shrinkage: float) -> Tensor:
    if not shrinkage:
        return covariance
    out = (1 - shrinkage) * covariance
    out.diagonal().add_(shrinkage * covariance.trace() / len(covariance))
    return out


def _factor(covariance: Tensor) -> Tensor:
    """F with F F^T = covariance: Cholesky's, or from eigenvalues where a direction has no variance (a dead feature)."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not int(failed):
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def _sum_of_singular_values(matrix: Tensor) -> Tensor:
    """From the eigenvalues of the square, which is several times quicker, unless small ones would lose their digits."""
    squares = torch.linalg.eigvalsh(matrix @ matrix.T)
    if float(squares[0]) > SMALL * float(squares[-1]):
        return squares.sqrt().sum()
    return torch.linalg.svdvals(matrix).sum()


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy with k(a, b) = (a.b / d + 1)^3 (Binkowski et al. 2018, eq. 4).

    Unbiased, so about 0 (and as often below as above it) for two samples of one distribution. The kernel matrices are
    made 1,000 rows at a time; x and y exist once in float64.
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"the kernel distance needs 2 samples on each side, not {n} and {m}")
    within = _sum_of_pairs(x) / (n * (n - 1)) + _sum_of_pairs(y) / (m * (m - 1))
    between = sum(float(_kernel(block, y).sum()) for block in x.split(BLOCK))
    return within - 2 * between / (n * m)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T).div_(a.shape[1]).add_(1).pow_(3)


def _sum_of_pairs(x: Tensor) -> float:
    """The kernel summed over all ordered pairs of different samples. It is symmetric: half of them are computed."""
    total = 0.0
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        own = _kernel(block, block)
        total += float(own.sum() - own.trace()) + 2 * float(_kernel(block, x[start + BLOCK :]).sum())
    return total


def kernel_estimate(x: Tensor, y: Tensor, subsets: int, size: int, seed: int) -> tuple[float, float]:
    """(value, standard error): the mean kernel distance of subsets of `size` samples a side (Binkowski et al. 2018).

    Subsets are cut from a shuffled order of each side, so they do not overlap until every sample has had its turn;
    then comes another order. The standard error is the standard deviation over the disjoint subsets of one order
    (root mean square over whole orders), divided by the root of their number. Dividing by the root of the number of all
    subsets, which overlap, would promise a precision that the samples do not hold; more orders make the value steadier,
    not the samples more. For the same reason it is a little too wide for `kernel_distance` of all samples, which has
    all pairs.

    UserError if a side has fewer than 2 disjoint subsets, or fewer than 2 subsets are asked for.
    """
    disjoint = min(len(x), len(y)) // size if size >= 2 else 0
    if min(disjoint, subsets) < 2:
        raise UserError(
            f"{subsets} subsets of {size} of {len(x)} and {len(y)} samples: a standard error needs 2 disjoint subsets "
            "or more, of 2 samples or more; ask for smaller subsets or give more images"
        )
    disjoint = min(disjoint, subsets)
    values = torch.empty(subsets, dtype=torch.float64)
    for i in range(subsets):
        order, place = divmod(i, disjoint)
        here = slice(place * size, (place + 1) * size)
        mine, theirs = (
            torch.from_numpy(randomness.permutation(seed, f"kernel/{side}", order, n)[here])
            for side, n in (("x", len(x)), ("y", len(y)))
        )
        values[i] = kernel_distance(x[mine], y[theirs])
    whole = values[: subsets // disjoint * disjoint].view(-1, disjoint)
    error = float((whole.var(1).mean() / disjoint).sqrt())
    return float(values.mean()), error


def spread(x: Tensor, label: Tensor | None = None) -> float:
    """The mean Euclidean distance between two different samples of x (n, d); of one class, with labels int64 (n,).

    NaN if no two samples are of one class.
    """
    x = x.double()
    n = len(x)
    if n < 2:
        raise ValueError(f"the spread needs 2 samples, not {n}")
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    if label is None:
        return float(distances.sum() / (n * (n - 1)))
    alike = label[:, None] == label
    return float(distances[alike].sum() / (alike.sum() - n))
