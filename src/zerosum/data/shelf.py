"""Images in rows, as their files give them: those of one side, or both sides of each pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from zerosum.data import picture, plates
from zerosum.data.layout import Half
from zerosum.data.listing import printable
from zerosum.data.picture import Broken
from zerosum.data.plates import Plate
from zerosum.data.spec import Side
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

ASPECT = 1.02  # images that are to lie over one another may differ so much in aspect ratio


@dataclass(frozen=True)
class Shelf:
    """Rows of images: `load` gives one of each side, `measure` the first's height and width. Both raise Broken."""

    where: str  # for messages
    identity: Any  # JSON that tells these images from others, for the cache
    names: tuple[str, ...]  # of the rows, for messages
    keys: tuple[str, ...]  # what a row shares with its partner on the other side
    load: Callable[[int], tuple[Plate, ...]]
    measure: Callable[[int], tuple[int, int]]
    sides: tuple[Side, ...] = ("a",)
    numbered: bool = False  # the keys are row numbers, which nobody chose: that they agree means nothing by itself
    refused: tuple[tuple[str, str], ...] = ()  # images that are in no row, by name and reason

    def __len__(self) -> int:
        return len(self.names)

    def keep(self, rows: Sequence[int]) -> Shelf:
        """These rows, in this order."""
        return replace(
            self,
            names=tuple(self.names[i] for i in rows),
            keys=tuple(self.keys[i] for i in rows),
            load=lambda i: self.load(rows[i]),
            measure=lambda i: self.measure(rows[i]),
        )


def of_files(half: Half, identity: Any, bits: Literal["8", "own"]) -> Shelf:
    """A row for each file. `identity` is that of the source that the files are in."""
    listing, items = half.listing, half.listing.items

    def load(i: int) -> tuple[Plate, ...]:
        return (plates.read(listing.read(items[i]), items[i].name, bits),)

    def measure(i: int) -> tuple[int, int]:
        return picture.measure(listing.read(items[i])) if bits == "8" else load(i)[0].size

    names = tuple(printable(item.name) for item in items)
    return Shelf(listing.where, identity, names, half.keys, load, measure, refused=listing.refused)


def of_array(found: ArrayDataset, where: str) -> Shelf:
    """A row for each image of a set of arrays; the row's number is what partners share. UserError if it has none."""
    if not found.spec.is_image:
        raise UserError(f"{where} holds points, not images: nothing can be translated")

    def load(i: int) -> tuple[Plate, ...]:
        return (Plate(picture.from_pixels(found.values[i]), 8),)

    numbers = tuple(str(i) for i in range(len(found)))
    height, width = found.spec.shape[1:]
    names = tuple(f"image {number}" for number in numbers)
    return Shelf(where, found.fingerprint, names, numbers, load, lambda i: (height, width), numbered=True)


def joined(shelf: Shelf) -> Shelf:
    """Rows of two: what is left and what is right of the middle of each image."""

    def measure(i: int) -> tuple[int, int]:
        height, width = shelf.measure(i)
        return height, width // 2

    return replace(shelf, load=lambda i: shelf.load(i)[0].halves(), measure=measure, sides=("a", "b"))


def matched(a: Shelf, b: Shelf) -> tuple[list[tuple[int, int]], list[tuple[str, str]]]:
    """Rows of a and b that share a key, in the order of a; names and reasons of all others."""
    alone: list[tuple[str, str]] = []
    places: list[dict[str, int]] = []
    for shelf in (a, b):
        place: dict[str, int] = {}
        for i, key in enumerate(shelf.keys):
            if place.setdefault(key, i) != i:
                alone.append((shelf.names[i], f"{shelf.names[place[key]]} has the same name and comes first"))
        places.append(place)
    first, second = places
    for side, shelf, mine, others in (("B", a, first, second), ("A", b, second, first)):
        missing = f"it has no partner of the name {{}} on side {side}"
        alone.extend((shelf.names[i], missing.format(printable(key))) for key, i in mine.items() if key not in others)
    return [(i, second[key]) for key, i in first.items() if key in second], alone


def paired(a: Shelf, b: Shelf, rows: Sequence[tuple[int, int]]) -> Shelf:
    """Rows of two: one image of a and its partner of b."""

    def load(i: int) -> tuple[Plate, ...]:
        mine, other = a.load(rows[i][0]), _partner(b, rows[i][1])
        (h, w), (h2, w2) = mine[0].size, other[0].size
        if abs(math.log(w * h2 / (h * w2))) > math.log(ASPECT):
            raise Broken(
                f"its {h} x {w} pixels (H x W) and the {h2} x {w2} of its partner {b.names[rows[i][1]]} do not lie "
                "over one another: the aspect ratios differ by more than 2 %"
            )
        return (*mine, *other)

    kept = a.keep([i for i, _ in rows])
    where = a.where if a.where == b.where else f"{a.where} and {b.where}"
    refused = (*a.refused, *b.refused)
    return replace(kept, where=where, identity=[a.identity, b.identity], load=load, sides=("a", "b"), refused=refused)


def _partner(shelf: Shelf, row: int) -> tuple[Plate, ...]:
    try:
        return shelf.load(row)
    except Broken as broken:
        raise Broken(f"its partner {shelf.names[row]} cannot be used: {broken}") from broken
