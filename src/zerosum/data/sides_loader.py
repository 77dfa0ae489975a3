"""The way from two-sided data to the game: keyed order, crops and flips, the same for both images of a pair."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zerosum import randomness
from zerosum.data.loader import scale
from zerosum.data.sides import SIDES, Sides
from zerosum.data.spec import Side, as_stored


class SidesLoader:
    """A `game.Source` of two sides: purposes "a" and "b", and "a/..." and "b/..." for further, independent draws.

    Endless and stateless like `Loader`. Paired sides draw the same items under the same crop and flip wherever what
    follows the side's letter is the same; unpaired ones go through their images in orders of their own. Of images in
    several sizes, each `batch` samples (those of all processes in one turn) are of one size, the same on both sides:
    a pass has as many batches of a size as its larger side fills.
    """

    def __init__(
        self,
        sides: Sides,
        *,
        seed: int,
        batch: int,
        flip: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self.sides = sides
        self.seed = seed
        self.batch = batch
        self.flip = flip
        self.dtype = dtype
        self.device = device or torch.device("cpu")
        self._batches = [-(-max(map(len, bucket)) // batch) for bucket in sides.buckets]  # of a pass, by size

    def real(self, purpose: str, first: int, count: int) -> Tensor:
        """Images (count, C, H, W) of the side that `purpose` begins with, scaled to [-1, 1]."""
        side, _, draw = purpose.partition("/")
        if side not in SIDES:
            raise ValueError(f"{purpose}: two-sided data have the purposes a, b, a/... and b/...")
        key = f"{'pair' if self.sides.paired else side}/{draw}"
        number, start = self._place(draw, first, count)
        dataset = self.sides.buckets[number][SIDES.index(side)]
        values, _ = as_stored(dataset, randomness.order(self.seed, f"{key}/{number}", start, count, len(dataset)))
        return scale(self._seen(values, key, first), self.dtype, self.device, dataset.spec.depth)

    def __len__(self) -> int:
        return len(self.sides)

    def count(self, side: Side) -> int:
        """How many images a side has, of several sizes of the commonest: those that `still` takes."""
        return len(self.sides.buckets[0][SIDES.index(side)])

    def still(self, side: Side, purpose: str, count: int) -> Tensor:
        """Different images of one side to measure with, at most as many as it has: the middle of each, unflipped.

        Of pairs the same items on both sides. They have one size: of several the commonest.
        """
        key = "pair" if self.sides.paired else side
        index = randomness.permutation(self.seed, f"still/{purpose}/{key}", 0, self.count(side))[:count]
        dataset = self.sides.buckets[0][SIDES.index(side)]
        return scale(self.sides.gather(side, index), self.dtype, self.device, dataset.spec.depth)

    def given(self, player: str, purpose: str, first: int, count: int) -> tuple[Tensor]:
        """What a generator makes its images of: those of its side."""
        return (self.real(f"{'b' if player.endswith('BA') else 'a'}/{purpose}", first, count),)

    def label(self, purpose: str, first: int, count: int) -> None:
        """None: two-sided data have no classes."""
        return None

    def latent(self, purpose: str, first: int, count: int) -> Tensor:
        raise ValueError(f"{purpose}: translation draws no latents; its generators are given images")

    def uniform(self, purpose: str, first: int, count: int) -> Tensor:
        """Numbers in (0, 1), one a sample, (count,)."""
        return randomness.uniform(self.seed, purpose, first, count)[:, 0].to(self.dtype).to(self.device)

    def _place(self, draw: str, first: int, count: int) -> tuple[int, int]:
        """Which size the samples first .. first+count-1 are of, and the number of the first among all of that size."""
        if len(self._batches) == 1:
            return 0, first
        batch, offset = divmod(first, self.batch)
        if offset + count > self.batch:
            raise ValueError(f"samples {first} .. {first + count - 1} lie in two batches of {self.batch}: of two sizes")
        epoch, turn = divmod(batch, sum(self._batches))
        place = int(randomness.permutation(self.seed, f"bucket/{draw}", epoch, sum(self._batches))[turn])
        ends = np.cumsum(self._batches)
        number = int(np.searchsorted(ends, place, side="right"))
        within = place - int(ends[number]) + self._batches[number]
        return number, (epoch * self._batches[number] + within) * self.batch + offset

    def _seen(self, values: np.ndarray, key: str, first: int) -> np.ndarray:
        """Images (n, C, H + jitter, W + jitter) cut to (n, C, H, W), each somewhere else, and half of them mirrored."""
        jitter = self.sides.jitter
        if not (jitter or self.flip):
            return values
        drawn = randomness.uniform(self.seed, f"{key}/view", first, len(values), 3).numpy()
        tops, lefts = (drawn[:, :2] * (jitter + 1)).astype(np.int64).T.tolist()
        mirrored = (self.flip & (drawn[:, 2] < 0.5)).tolist()
        height, width = values.shape[2] - jitter, values.shape[3] - jitter
        seen = np.empty((*values.shape[:2], height, width), values.dtype)
        for out, image, top, left, mirror in zip(seen, values, tops, lefts, mirrored, strict=True):
            cut = image[:, top : top + height, left : left + width]
            out[...] = cut[..., ::-1] if mirror else cut
        return seen
