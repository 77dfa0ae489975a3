"""Real images that a run keeps out of training, to measure with: a copy of a training image says nothing about them.

The split belongs to the data, not to the run: it is drawn from a key of its own and depends on nothing but the number
of images, so that runs with different seeds, and everything that is measured about them later, use the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np

from zerosum.data.sides import SIDES, Sides
from zerosum.data.spec import Data, Dataset, Spec, as_stored
from zerosum.errors import UserError

SHARE, MOST, FROM = 10, 2_000, 200  # a tenth, at most so many, and none of a set smaller than this
LEAST = 2  # images of the commonest of several sizes in either part: what is measured is measured on them


def held_out_count(count: int, data: Data) -> int:
    """How many of `count` images a run with these settings keeps out of training.

    UserError if fewer than 2 would be left to train on.
    """
    if data.held_out is None:
        return min(count // SHARE, MOST) if count >= FROM else 0
    if data.held_out > max(count - 2, 0):
        raise UserError(f"--held-out {data.held_out}: there are {count:,} images, and training needs at least 2")
    return data.held_out


@overload
def train_part(dataset: Dataset, data: Data) -> Dataset: ...
@overload
def train_part(dataset: Sides, data: Data) -> Sides: ...
def train_part(dataset: Dataset | Sides, data: Data) -> Dataset | Sides:
    """The images that a run trains on: the set itself, if none are held out."""
    held = held_out_count(len(dataset), data)
    if isinstance(dataset, Sides):
        return _part_of_sides(dataset, lambda order: order[held:], "train", held) if held else dataset
    return Part(dataset, np.sort(_shuffled(len(dataset))[held:]), "train") if held else dataset


@overload
def held_out_part(dataset: Dataset, data: Data) -> Dataset | None: ...
@overload
def held_out_part(dataset: Sides, data: Data) -> Sides | None: ...
def held_out_part(dataset: Dataset | Sides, data: Data) -> Dataset | Sides | None:
    """The images that a run does not train on; None if there are none. As many of either side."""
    held = held_out_count(len(dataset), data)
    if isinstance(dataset, Sides):
        return _part_of_sides(dataset, lambda order: order[:held], "held out", held) if held else None
    return Part(dataset, np.sort(_shuffled(len(dataset))[:held]), "held out") if held else None


def _part_of_sides(sides: Sides, part: Callable[[np.ndarray], np.ndarray], name: str, held: int) -> Sides:
    """Of pairs the same items on both sides. The images of all sizes are numbered together, size after size.

    The commonest size of the whole stays the first. UserError if the part has hardly any images of it.
    """
    buckets: list[tuple[Dataset, Dataset]] = []
    chosen = [np.sort(part(_shuffled(sides.count(side)))) for side in SIDES]
    first = [0, 0]
    for bucket in sides.buckets:
        ends = [start + len(whole) for start, whole in zip(first, bucket, strict=True)]
        inside = [c[(c >= start) & (c < end)] - start for c, start, end in zip(chosen, first, ends, strict=True)]
        if not buckets and sides.others and min(map(len, inside)) < LEAST:
            height, width = sides.spec.sizes[0]
            few = min(map(len, inside))
            where = "held out" if name == "held out" else "left to train on"
            raise UserError(
                f"--held-out {held}: of the commonest size, {height}x{width}, {few} images of a side are {where}, and "
                f"measuring needs {LEAST}; give another number, or another --fit than bucket"
            )
        if all(map(len, inside)):
            buckets.append((Part(bucket[0], inside[0], name), Part(bucket[1], inside[1], name)))
        first = ends
    (a, b), *others = buckets
    return replace(sides, a=a, b=b, others=tuple(others))


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

    def stored(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The same in the depth of the whole set."""
        return as_stored(self.whole, self.index[index])
