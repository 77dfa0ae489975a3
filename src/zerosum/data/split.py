"""Real images that a run keeps out of training, to measure with: a copy of a training image says nothing about them.

The split belongs to the data, not to the run: it is drawn from a key of its own and depends on nothing but the number
of images, so that runs with different seeds, and everything that is measured about them later, use the same one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zerosum.data.spec import Data, Dataset, Spec
from zerosum.errors import UserError

SHARE, MOST, FROM = 10, 2_000, 200  # a tenth, at most so many, and none of a set smaller than this


def held_out_count(count: int, data: Data) -> int:
    """How many of `count` images a run with these settings keeps out of training.

    UserError if fewer than 2 would be left to train on.
    """
    if data.held_out is None:
        return min(count // SHARE, MOST) if count >= FROM else 0
    if data.held_out > max(count - 2, 0):
        raise UserError(f"--held-out {data.held_out}: there are {count:,} images, and training needs at least 2")
    return data.held_out


def train_part(dataset: Dataset, data: Data) -> Dataset:
    """The images that a run trains on: the set itself, if none are held out."""
    held = held_out_count(len(dataset), data)
    return Part(dataset, np.sort(_shuffled(len(dataset))[held:]), "train") if held else dataset


def held_out_part(dataset: Dataset, data: Data) -> Dataset | None:
    """The images that a run does not train on; None if there are none."""
    held = held_out_count(len(dataset), data)
    return Part(dataset, np.sort(_shuffled(len(dataset))[:held]), "held out") if held else None


def _shuffled(count: int) -> np.ndarray:
    """All numbers below `count` in a fixed random order, (count,) int64."""
    from zerosum import randomness  # needs torch

    # Ranks of raw words: unlike a shuffle, the same in every version of NumPy.
    return np.argsort(randomness.words(0, "data/held out", 0, count, 1)[:, 0], kind="stable")


@dataclass(frozen=True, eq=False)
class Part:
    """A `Dataset` that shows some items of another, by their numbers `index` (n,) int64; nothing is copied."""

    whole: Dataset
    index: np.ndarray
    name: str

    @property
    def spec(self) -> Spec:
        return self.whole.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.whole.class_names

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the whole set's fingerprint and of which items these are."""
        digest = hashlib.sha256(f"{self.whole.fingerprint} {self.name} ".encode())
        digest.update(self.index.astype("<i8").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.index)

    def gather(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Values and labels of the items `index` (n,) of this part, as the whole set gives them."""
        return self.whole.gather(self.index[index])
