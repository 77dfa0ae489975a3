"""Which images of a labelled set are drawn: some alone whose labels are known, or as many of each class."""

from __future__ import annotations

import numpy as np

from zerosum import randomness
from zerosum.data.spec import Dataset, as_stored
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError


def labels_of(data: Dataset) -> np.ndarray | None:
    """All labels int64 (n,), None where there are none; without reading images where that can be."""
    if isinstance(data, ArrayDataset):
        return data.labels
    parts = [as_stored(data, piece)[1] for piece in np.array_split(np.arange(len(data)), max(len(data) // 1024, 1))]
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def drawn_labels(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The items (count,) whose labels are known, sorted: drawn by the seed, as many of each class as there can be.

    A class with fewer images than its share gives all that it has, and the others give more. UserError if there are not
    so many images, or not one for each class.
    """
    classes = np.unique(labels)
    if not len(classes) <= count <= len(labels):
        raise UserError(
            f"--labelled {count}: there are {len(labels):,} images of {len(classes)} classes to train on, so between "
            f"{len(classes)} and {len(labels)} labels can be known"
        )
    order = randomness.permutation(seed, "labelled/drawn", 0, len(labels))
    place = np.empty(len(labels), dtype=np.int64)  # of an item among those of its class, in the order that was drawn
    for number in classes:
        members = order[labels[order] == number]
        place[members] = np.arange(len(members))
    # First the first of each class, then the second; among equals those that were drawn first.
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels))
    return np.sort(np.lexsort((rank, place))[:count])


class Even:
    """Endless passes over a set in which every class is drawn equally often: sample i is of class i mod K."""

    def __init__(self, labels: np.ndarray) -> None:
        self.members = [np.flatnonzero(labels == number) for number in np.unique(labels)]

    def order(self, seed: int, purpose: str, first: int, count: int) -> np.ndarray:
        """Which items the samples first .. first+count-1 are, (count,) int64."""
        k = len(self.members)
        index = np.empty(count, dtype=np.int64)
        for number, members in enumerate(self.members):
            places = np.arange((number - first) % k, count, k)
            if len(places):
                begin = (first + int(places[0])) // k
                index[places] = members[
                    randomness.order(seed, f"{purpose}/class {number}", begin, len(places), len(members))
                ]
        return index
