"""From shelves to arrays of one size, or of a few: what packs hold is taken from there, else all images are read.

A pack keeps the images of one row beside each other, whatever their types, as a structured array with a field for each
side: so both sides of a pair are there, or neither is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from zerosum.data import buckets, files, making, pack
from zerosum.data.depth import depth_of
from zerosum.data.pack import Block, Plan, Progress
from zerosum.data.picture import Broken
from zerosum.data.plates import DECODED
from zerosum.data.shelf import Shelf
from zerosum.data.spec import Data, Fit, Side
from zerosum.data.store import ArrayDataset, block_rows
from zerosum.errors import UserError

VERSION = 1  # of what this module writes into packs: part of their keys
TOGETHER = 512  # rows that are read before they are handed on, at most

Size = tuple[int, int]


@dataclass(frozen=True)
class _View:
    """The images of one side, as an evenly spread sample suggests."""

    channels: int
    dtype: np.dtype


class Reader:
    """Reads the shelves of one source: one that holds both sides of each row, or one for each side."""

    def __init__(
        self, shelves: Sequence[Shelf], data: Data, pool: ThreadPoolExecutor, progress: Progress | None
    ) -> None:
        self.shelves = [one.keep(range(min(len(one), data.limit or len(one)))) for one in shelves]
        self.data, self.pool, self.progress = data, pool, progress
        self.notes: list[str] = []
        self.unread: list[tuple[str, str]] = []  # names and reasons of rows that could not even be measured
        bits = [data.bits, DECODED] if data.bits == "own" else data.bits
        self.identity: list[Any] = [VERSION, data.made, data.jitter, bits, [one.identity for one in shelves]]

    def read(self) -> list[tuple[ArrayDataset, ArrayDataset]]:
        """Sides A and B at one size, or at each of several. Raises UserError if fewer than two rows can be used."""
        if self.data.fit != "bucket":
            return [self._sides(self.shelves, None)]
        measured = [self._measure(i) for i in range(len(self.shelves))]
        found = Counter((int(height), int(width)) for height, width in np.concatenate(measured))
        wanted = self.data.size or files.choose_size(found, self.data.longest)[0]
        sizes, places = buckets.choose(measured, math.prod(wanted))
        counts = np.bincount(np.concatenate(places), minlength=len(sizes)).tolist()
        listed = ", ".join(f"{h} x {w} ({n:,} images)" for (h, w), n in zip(sizes, counts, strict=True))
        self.notes.append(f"sizes (H x W): {listed}")
        pairs = []
        for k, size in enumerate(sizes):
            rows = (np.flatnonzero(place == k).tolist() for place in places)
            pairs.append(self._sides([one.keep(r) for one, r in zip(self.shelves, rows, strict=True)], size))
        return pairs

    def _measure(self, number: int) -> np.ndarray:
        """Height and width of each row of a shelf, (n, 2); rows that have none are taken off it."""
        rows = self.shelves[number]
        results = [one for some in files.treated(range(len(rows)), rows.measure, self.pool, TOGETHER) for one in some]
        bad = [(rows.names[i], str(one)) for i, one in enumerate(results) if isinstance(one, Broken)]
        if len(results) - len(bad) < 2:
            raise _unusable(rows.where, bad)
        self.unread += bad
        self.shelves[number] = rows.keep([i for i, one in enumerate(results) if not isinstance(one, Broken)])
        return np.array([one for one in results if not isinstance(one, Broken)])

    def _sides(self, shelves: Sequence[Shelf], size: Size | None) -> tuple[ArrayDataset, ArrayDataset]:
        every: dict[Side, ArrayDataset] = {}
        for rows in shelves:
            found = self._rows(rows, size)
            for side in self._stored(rows):
                values = found.values[side]
                every[side] = replace(found, values=values, depth=depth_of(values.dtype, self.data.value_range))
        return every["a"], every["b"]

    def _rows(self, rows: Shelf, size: Size | None) -> ArrayDataset:
        """A shelf as a structured array: fields "a", (C, H, W), and "b", or one of the two."""
        name = pack.key([self.identity, rows.sides, size], self.data)
        if (found := pack.find(self.data, name)) is not None:
            return found
        (height, width), chosen = (size, ()) if size is not None else self._size
        height, width = height + self.data.jitter, width + self.data.jitter
        views = {side: self._views[side] for side in self._stored(rows)}
        dtype = np.dtype([(side, view.dtype, (view.channels, height, width)) for side, view in views.items()])
        facts: Counter[str] = Counter()

        def notes() -> tuple[str, ...]:
            return (*chosen, *_conversions(facts, (height, width), self.data.fit))

        plan = Plan(rows.where, len(rows), (), None, (), notes, dtype=dtype)
        return pack.build(plan, self._blocks(rows, dtype, facts), self.data, name, self.progress)

    def _stored(self, rows: Shelf) -> tuple[Side, ...]:
        """The sides that a pack of these rows holds."""
        return rows.sides if self.data.made is None else ("a", "b")

    def _blocks(self, rows: Shelf, dtype: np.dtype, facts: Counter[str]) -> Iterator[Block]:
        data = self.data
        form = {side: (dtype[side].shape, dtype[side].base) for side in dtype.names or ()}

        def use(i: int) -> tuple[dict[Side, np.ndarray], list[str]]:
            plates = dict(zip(rows.sides, rows.load(i), strict=True))
            images = {side: plate.render(*form[side], data.fit) for side, plate in plates.items()}
            if data.made is not None:
                images["a"] = making.make(data.made, images["b"])
            said = ["resized" for side, plate in plates.items() if plate.size != form[side][0][1:]]
            said += ["16 bits" for plate in plates.values() if plate.bits > 8 and plate.dtype == np.uint8]
            said += [f"note {note}" for plate in plates.values() for note in plate.notes]
            return images, ["image"] * len(plates) + said

        start = 0
        for results in files.treated(range(len(rows)), use, self.pool, min(block_rows(dtype.itemsize), TOGETHER)):
            good = [(i, one) for i, one in enumerate(results, start) if not isinstance(one, Broken)]
            bad = [(rows.names[i], str(one)) for i, one in enumerate(results, start) if isinstance(one, Broken)]
            values = np.empty(len(good), dtype)
            for k, (_, (images, said)) in enumerate(good):
                facts.update(said)
                for side, image in images.items():
                    values[side][k] = image
            start += len(results)
            yield Block(values, np.array([i for i, _ in good], dtype=np.int64), len(results), tuple(bad))

    @property
    def _size(self) -> tuple[Size, tuple[str, ...]]:
        """Height and width that networks see if there is one size, and what to say about it."""
        return (self.data.size, ()) if self.data.size else files.choose_size(self._survey[0], self.data.longest)

    @cached_property
    def _views(self) -> dict[Side, _View]:
        _, channels, types = self._survey
        found: dict[Side, _View] = {}
        for side in channels:
            dtype = np.dtype(files.commonest(types[side]))
            depth_of(dtype, self.data.value_range)  # before the time that reading takes
            found[side] = _View(files.channels_of(channels[side][dtype.name], dtype, self.data.channels), dtype)
        if self.data.made is not None:
            found["a"] = _View(making.channels(self.data.made, found["b"].channels), np.dtype(np.uint8))
        return found

    @cached_property
    def _survey(self) -> tuple[Counter[Size], dict[Side, dict[str, Counter[int]]], dict[Side, Counter[str]]]:
        """Sizes over both sides, channels by type and types of each, of an evenly spread sample of every shelf."""
        sizes: Counter[Size] = Counter()
        channels: dict[Side, dict[str, Counter[int]]] = {}
        types: dict[Side, Counter[str]] = {}
        for rows in self.shelves:

            def look(i: int, rows: Shelf = rows) -> list[tuple[Side, Size, int, str]]:
                pairs = zip(rows.sides, rows.load(i), strict=True)
                return [(side, plate.size, plate.channels, plate.dtype.name) for side, plate in pairs]

            sample = files.surveyed(len(rows))
            bad: list[tuple[str, str]] = []
            done = 0
            for results in files.treated(sample, look, self.pool, 64):
                for i, one in zip(sample[done:], results, strict=False):
                    if isinstance(one, Broken):
                        bad.append((rows.names[i], str(one)))
                        continue
                    for side, size, used, kind in one:
                        sizes[size] += 1
                        channels.setdefault(side, {}).setdefault(kind, Counter())[used] += 1
                        types.setdefault(side, Counter())[kind] += 1
                done += len(results)
                if self.progress is not None:
                    self.progress(done, len(sample), f"looking at {rows.where}")
            if len(bad) == len(sample):
                raise _unusable(rows.where, bad)
        return sizes, channels, types


def _unusable(where: str, bad: Sequence[tuple[str, str]]) -> UserError:
    why = "; ".join(f"{name}: {reason}" for name, reason in bad[:3]) + ("; ..." if len(bad) > 3 else "")
    return UserError(f"{where}: hardly any image can be used ({why})")


def _conversions(facts: Counter[str], size: Size, fit: Fit) -> tuple[str, ...]:
    notes = []
    if facts["resized"] and fit != "bucket":  # of which there is a note on all sizes
        how = {"crop": "centre cropped", "pad": "padded", "stretch": "stretched"}[fit]
        notes.append(
            f"{facts['resized']:,} of {facts['image']:,} images were resized to {size[0]} x {size[1]} (H x W), {how} "
            "where the aspect ratio differs"
        )
    if facts["16 bits"]:
        notes.append(
            f"{facts['16 bits']:,} of {facts['image']:,} images had more than 8 bits per channel and were scaled to 8; "
            "--bits own keeps them"
        )
    return (*notes, *files.counted(files.told_of(facts), facts["image"]))
