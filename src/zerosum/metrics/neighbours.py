"""What nearest neighbours in feature space tell: fidelity, variety, and copies of training images.

Distances are Euclidean. Features (n, d) are held in float64 and compared tile by tile: |a|^2 + |b|^2 - 2 a.b, with all
sets moved so that one of their own points is the origin. That leaves the distances and takes a common offset away.
Squares nearer to each other than rounding can make them (`TIE` of the norms) count as equal, so that ties are ties
whatever the order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.metrics.intervals import Interval, binomial, exchangeable_tail, mann_whitney

BLOCK = 1_000  # rows and columns of a tile of distances
TIE = 1e-12  # of the squared norms: some thousand roundings of float64


class _Points:
    """Features (n, d) in float64 as seen from an origin, with their squared norms."""

    def __init__(self, features: Tensor, origin: Tensor) -> None:
        self.x = features.detach().cpu().double() - origin
        self.norms = torch.einsum("nd,nd->n", self.x, self.x)

    def __len__(self) -> int:
        return len(self.x)

    def blocks(self, first: int = 0) -> Iterator[slice]:
        """Rows `first` .. n - 1, a block at a time."""
        for start in range(first, len(self), BLOCK):
            yield slice(start, min(start + BLOCK, len(self)))


def _points(**sets: tuple[Tensor, int]) -> list[_Points]:
    """The sets around one origin; each comes with how many samples it needs. UserError if one has fewer."""
    found = []
    first = next(iter(sets.values()))[0]
    for name, (features, least) in sets.items():
        if features.ndim != 2 or features.shape[1] != first.shape[1]:
            raise ValueError(f"{name}: features (n, {first.shape[1]}) are wanted, not {tuple(features.shape)}")
        if len(features) < least:
            raise UserError(f"{name}: {least} samples or more are needed, not {len(features)}; give more images")
        if not bool(torch.isfinite(features).all()):
            raise UserError(f"{name}: features that are not finite; check the images and the extractor")
        found.append(_Points(features, first[0].detach().cpu().double()))
    return found


def _squares(a: _Points, b: _Points, slack: float = 0.0) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of squared distances, plus `slack` of the squared norms: (rows of a, columns of b, the squares).

    Of a set with itself only the tiles on and above the diagonal.
    """
    for rows in a.blocks():
        for columns in b.blocks(rows.start if a is b else 0):
            norms = (a.norms[rows] * (1 + slack))[:, None] + b.norms[columns] * (1 + slack)
            yield rows, columns, norms.addmm_(a.x[rows], b.x[columns].T, alpha=-2)


def _radii(points: _Points, k: int) -> Tensor:
    """Squared distance of every point to its k-th nearest other, (n,)."""
    best = torch.full((len(points), k), torch.inf, dtype=torch.float64)

    def keep(where: slice, squares: Tensor, dim: int) -> None:
        near = squares.topk(min(k, squares.shape[dim]), dim, largest=False).values
        best[where] = torch.cat((best[where], near if dim else near.T), 1).topk(k, largest=False).values

    for rows, columns, squares in _squares(points, points):
        if rows == columns:
            squares.fill_diagonal_(torch.inf)
        else:
            keep(columns, squares, 0)
        keep(rows, squares, 1)
    return best.max(1).values


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, eq. 1 and 2) of features real (n, d) and fake (m, d).

    Every point has a ball that reaches to its k-th nearest other point of its own set. Precision is the share of
    fakes in the ball of some real, recall that of reals in the ball of some fake. Balls are closed, as in the paper
    (<=): a fake on the edge is inside, and one equal to a real is inside even where copies make the radius 0.
    UserError for k < 1 or a side with no more than k samples.
    """
    _check_neighbours(k)
    reals, fakes = _points(real=(real, k + 1), fake=(fake, k + 1))
    real_radii, fake_radii = _radii(reals, k), _radii(fakes, k)
    precise = torch.zeros(len(fakes), dtype=torch.bool)
    recalled = torch.zeros(len(reals), dtype=torch.bool)
    for rows, columns, squares in _squares(reals, fakes, slack=-TIE):
        precise[columns] |= (squares <= real_radii[rows, None]).any(0)
        recalled[rows] |= (squares <= fake_radii[columns]).any(1)
    return float(precise.double().mean()), float(recalled.double().mean())


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020, eq. 5 and 6) of features real (n, d) and fake (m, d).

    Density counts how many balls of reals (as for precision) a fake lies in, over k, on average: 1 is expected for
    fakes like the reals, and it may be more. Coverage is the share of reals whose ball holds a fake; for fakes like the
    reals it is 1 - (1 / 2)^k at least, for many samples (the paper's lemma 2). Balls are open (<), as in the authors'
    code: a fake exactly on the edge is outside, and a ball of radius 0 holds nothing.
    UserError for k < 1, no more than k reals, or no fakes.
    """
    _check_neighbours(k)
    reals, fakes = _points(real=(real, k + 1), fake=(fake, 1))
    radii = _radii(reals, k)
    balls = 0
    covered = torch.zeros(len(reals), dtype=torch.bool)
    for rows, _, squares in _squares(reals, fakes, slack=TIE):
        inside = squares < radii[rows, None]
        balls += int(inside.sum())
        covered[rows] |= inside.any(1)
    return balls / (k * len(fakes)), float(covered.double().mean())


def _check_neighbours(k: int) -> None:
    if k < 1:
        raise UserError(f"k {k}: the number of neighbours must be 1 or more")


def nearest(x: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """(distance (n,) float64, index (n,) int64) of the point of `among` (m, d) that is nearest to each of x (n, d).

    The distance is that of the pair itself, so 0 for a copy; of several equally near, the index is one of them.
    UserError if a side is empty.
    """
    return _nearest(*_points(x=(x, 1), among=(among, 1)))


def nearest_few(x: Tensor, among: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(distance (n, k) float64, index (n, k) int64) of the k points of `among` (m, d) nearest to each of x (n, d).

    The nearest comes first. UserError for fewer than k points.
    """
    _check_neighbours(k)
    points, others = _points(x=(x, 1), among=(among, k))
    best = torch.full((len(points), k), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(points), k, dtype=torch.long)
    for rows, columns, squares in _squares(points, others):
        number = torch.arange(columns.start, columns.stop).expand(squares.shape)
        near, at = torch.cat((best[rows], squares), 1).topk(k, 1, largest=False)
        best[rows], index[rows] = near, torch.cat((index[rows], number), 1).gather(1, at)
    return best.clamp_min(0).sqrt(), index


def _nearest(x: _Points, among: _Points) -> tuple[Tensor, Tensor]:
    square = torch.full((len(x),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(x), dtype=torch.int64)

    def keep(where: slice, other: slice, squares: Tensor, dim: int) -> None:
        least, place = squares.min(dim)
        nearer = least < square[where]
        square[where] = torch.where(nearer, least, square[where])
        index[where] = torch.where(nearer, place + other.start, index[where])

    for rows, columns, squares in _squares(x, among):
        if x is among:
            if rows == columns:
                squares.fill_diagonal_(torch.inf)
            else:
                keep(columns, rows, squares, 0)
        keep(rows, columns, squares, 1)
    distance = torch.empty_like(square)
    for rows in x.blocks():
        distance[rows] = (x.x[rows] - among.x[index[rows]]).norm(dim=1)
    return distance, index


def ranks(made: Tensor, answers: Tensor) -> Tensor:
    """Where each one's own answer stands among all answers by nearness, features (n, d) both: (n,) float64 from 1 to n.

    Answers as near as the own one count half, so that chance is (n + 1) / 2 and one answer for all is not the first.
    """
    a, b = _points(made=(made, 2), answers=(answers, 2))
    if len(a) != len(b):
        raise ValueError(f"{len(a)} features and {len(b)} answers do not go together")
    nearer = torch.zeros(len(a), dtype=torch.float64)
    own = (a.x - b.x).square().sum(1)
    slack = TIE * (a.norms + b.norms)
    for rows, _, squares in _squares(a, b):
        difference = squares - own[rows, None]
        margin = slack[rows, None]
        nearer[rows] += (difference < -margin).double().sum(1) + (difference.abs() <= margin).double().sum(1) / 2
    return nearer + 0.5  # the own one stood as near as itself


def authenticity(train: Tensor, fake: Tensor) -> float:
    """The share of fakes that are no copies in the sense of Alaa et al. 2022, section 3.3. Features (n, d), (m, d).

    A fake is authentic if it is farther from its nearest training sample than that one is from its own nearest other
    training sample; equally far counts as a copy, also of a sample that the training set holds twice. Fresh real
    images give about 1 / 2, not 1: compare with that of held-out ones.
    UserError for fewer than 2 training samples or no fakes.
    """
    (fakes, trained) = _points(fake=(fake, 1), train=(train, 2))
    own, _ = _nearest(trained, trained)
    distance, index = _nearest(fakes, trained)
    return float((distance > own[index] * (1 + TIE)).double().mean())


@dataclass(frozen=True, eq=False)
class Copying:
    """Whether fakes lie nearer to training images than new real images do."""

    share: Interval
    """Share of fakes nearer to a training image than the threshold, with its interval for this threshold."""
    expected: float
    """That share for new real images: what `share` is on average if nothing was copied."""
    p_value: float
    """How often as large a share comes about if fakes and held-out images are alike in this (exact)."""
    threshold: float
    """A low quantile of the distances of held-out real images to their nearest training image."""
    z: float
    """Mann and Whitney's statistic of Meehan et al. 2020: below -3 fakes are nearer as a whole, above 3 farther."""
    fake: np.ndarray
    """(pairs,) fakes from the nearest to its training image on."""
    train: np.ndarray
    """(pairs,) the training image nearest to each of them."""
    distance: np.ndarray
    """(pairs,) how far apart they are."""


def copying(
    distances: Tensor, indices: Tensor, held_out: Tensor, quantile: float = 0.01, pairs: int = 16, level: float = 0.95
) -> Copying:
    """Distances (n,) of fakes to their nearest training images, by number (n,), against those (h,) of held-out ones.

    They are measured alike, by `nearest` or `registered.nearest_registered`. The threshold is the r-th smallest
    distance of the held-out samples, r = quantile (h + 1) rounded down, at least 1. If fakes are to the training set as
    the held-out samples are, a fake lies below it with probability r / (h + 1), and the number of fakes that do has a
    known distribution, which the p-value uses. This sees a few copies among many honest fakes; z (Meehan et al. 2020,
    without their cells, ties at mid-rank) sees all fakes lying a little too near. Both take the images for copies only
    as far as the distances do; fakes that are all blurred lie nearer to everything.

    The held-out samples must come from the same source as the training set and must not be in it: copies shared by
    both (`zerosum data` counts them) make the threshold 0, and with it this blind. Ties with the threshold are not
    counted as below it. UserError for an empty side or a quantile outside 0 .. 1.
    """
    if not 0 < quantile < 1:
        raise UserError(f"quantile {quantile}: must be above 0 and below 1, such as 0.01")
    if not (len(distances) and len(held_out)):
        raise UserError(f"copies: {len(distances)} fakes and {len(held_out)} held-out images; give one or more of each")
    distance, index, known = distances.numpy(), indices.numpy(), np.sort(held_out.numpy())
    n, h = len(distance), len(known)
    rank = max(1, int(quantile * (h + 1)))
    threshold = float(known[rank - 1])
    below = int((distance < threshold).sum())
    order = np.argsort(distance, kind="stable")[:pairs]
    return Copying(
        share=binomial(below, n, level),
        expected=rank / (h + 1),
        p_value=exchangeable_tail(below, n, rank, h),
        threshold=threshold,
        z=mann_whitney(distance, known),
        fake=order,
        train=index[order],
        distance=distance[order],
    )
