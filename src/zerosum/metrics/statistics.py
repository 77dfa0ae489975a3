"""Mean and covariance of features, (n, d) in blocks, in float64 and little memory.

Blocks are merged by the pairwise update of Chan, Golub and LeVeque (1979): each is centred on its own mean before its
products are summed, so a large offset of the features cancels before it can cost digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zerosum.errors import UserError

BLOCK = 1_024  # rows that are float64 at a time


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the Frechet distance needs to know of n feature vectors; the covariance is the unbiased one (n - 1)."""

    n: int
    mean: Tensor
    """(d,) float64."""
    covariance: Tensor
    """(d, d) float64, exactly symmetric."""

    @property
    def dimensions(self) -> int:
        return len(self.mean)


class Accumulator:
    """Collects feature blocks of any size; `finish` gives their statistics.

    Needs 8 d^2 bytes, a block of 1,024 rows in float64, and on finishing 8 d^2 bytes more.
    """

    def __init__(self, dimensions: int) -> None:
        self.n = 0
        self.mean = torch.zeros(dimensions, dtype=torch.float64)
        self.scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in features (n, d); n may be 0. UserError if they hold a value that is not finite."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"features of shape (n, {len(self.mean)}) are wanted, not {tuple(features.shape)}")
        for block in features.detach().split(BLOCK):
            if len(block):
                self._add(block.to("cpu", torch.float64))

    def _add(self, block: Tensor) -> None:
        mean = block.mean(0)
        if not bool(torch.isfinite(mean).all()):
            first = self.n + int((~torch.isfinite(block)).any(1).nonzero()[0])
            raise UserError(
                f"features: sample {first} has a value that is not finite; check the images and the extractor"
            )
        centred = block - mean
        self.scatter.addmm_(centred.T, centred)
        self._shift(len(block), mean)

    def merge(self, other: Accumulator) -> None:
        """Take in what another accumulator has collected, which stays as it is."""
        if len(other.mean) != len(self.mean):
            raise ValueError(f"{len(self.mean)} and {len(other.mean)} dimensions do not go together")
        if other.n:
            self.scatter += other.scatter
            self._shift(other.n, other.mean)

    def _shift(self, n: int, mean: Tensor) -> None:
        """Count n more samples of this mean, whose own scatter is added already (Chan et al. 1979, eq. 2.1)."""
        total = self.n + n
        apart = mean - self.mean
        self.scatter.addr_(apart, apart, alpha=self.n * n / total)
        self.mean = self.mean + apart * (n / total)
        self.n = total

    def finish(self) -> Statistics:
        """The statistics of all that was added. UserError for fewer than 2 samples."""
        if self.n < 2:
            raise UserError(f"a covariance needs 2 samples or more, not {self.n}; give more images")
        # Both triangles, because matrix products are symmetric up to rounding only.
        covariance = (self.scatter + self.scatter.T).div_(2 * (self.n - 1))
        return Statistics(self.n, self.mean.clone(), covariance)


def statistics(features: Tensor) -> Statistics:
    """The statistics of features (n, d) that are all there."""
    collected = Accumulator(features.shape[1])
    collected.add(features)
    return collected.finish()
