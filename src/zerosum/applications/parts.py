"""Which images are trained on and which are tested on: folds, or draws of a few labels beside a test set.

One patient is never on both sides, and neither is one picture twice.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zerosum import randomness
from zerosum.data import duplicates, plates, sets
from zerosum.data.files import label
from zerosum.data.listing import printable
from zerosum.data.picture import from_pixels
from zerosum.data.source import find, image_listing
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

LEAST_PER_CLASS = 2  # labelled images: of one, nothing can be told apart
NAMED = 3  # pairs or classes that a sentence names

Names = Callable[[], Sequence[str] | None]
"""The files that images were read from, None where there are none: asked for only where there is something to say."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images to train on and images to test on, by their numbers in the set; `overlap`: see `effects.effect`.

    `groups`: of the images to test on (n,), where any belong together. `shared`: all parts are tested on these images.
    `kept_out`: how many other images belong together with one of them, and so are trained on in no part.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    overlap: float = 0.0
    groups: np.ndarray | None = None
    shared: bool = False
    kept_out: int = 0


class Alike(NamedTuple):
    """Pairs of images that are alike, by their numbers, the earlier one first."""

    same: list[tuple[int, int]]
    """Equal, or nearly so."""
    altered: list[tuple[int, int]]
    """Equal or nearly so once they are made as bright as each other and turned the same way."""


def groups_of(data: ArrayDataset, named: np.ndarray | None = None, found: Alike | None = None) -> np.ndarray:
    """Numbers int64 (n,), the same for images that belong together: of one patient, or of one picture.

    `named`: a group of each image, such as its patient. `found`: what `alike` says of them, where it was asked already.
    Images count as one picture if they are equal or nearly so, also when one was made brighter or darker, or mirrored
    (`data.duplicates`). What belongs to something that belongs to a third belongs to that, too.
    """
    n = len(data)
    if named is not None and len(named) != n:
        raise ValueError(f"{len(named)} groups for {n} images")
    parent = np.arange(n)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    def join(a: int, b: int) -> None:
        parent[max(root(a), root(b))] = min(root(a), root(b))

    same, altered = alike(data.values) if found is None else found
    for a, b in (*same, *altered):
        join(a, b)
    if named is not None:
        first: dict[object, int] = {}
        for i, name in enumerate(named.tolist()):
            join(first.setdefault(name, i), i)
    return np.array([root(i) for i in range(n)])


def alike(images: np.ndarray) -> Alike:
    """All pairs among images uint8 (n, C, H, W).

    Of those nearly so all pairs are named, so that a chain of images alike stays together, and an image that is like
    several is found with each of them.
    """
    pictures = [from_pixels(image) for image in images]
    equal = duplicates.exact([duplicates.digest(picture) for picture in pictures])
    thumbnails = np.stack([duplicates.thumbnail(picture) for picture in pictures])
    near = duplicates.near(thumbnails, every=True)
    same = {*((a, b) for a, *others in equal for b in others), *((a, b) for a, b in near.tolist())}
    return Alike(sorted(same), [(a, b) for a, b in duplicates.altered(thumbnails).tolist()])


def at_odds(
    same: Sequence[tuple[int, int]], data: ArrayDataset, named: np.ndarray | None, count: int, names: Names
) -> list[str]:
    """Warnings, in sentences, of images that are the same but of different classes, or of different groups `named`.

    `same`: pairs as `alike` has them. `count`: see `_called`.
    """
    assert data.labels is not None
    told = [("classes", np.array(data.class_names)[data.labels], "see which is right")]
    if named is not None:
        told.append(("groups", named, "all images of both groups stay on one side"))
    found = []
    for what, of, so in told:
        pairs = [(a, b) for a, b in same if of[a] != of[b]]
        if pairs:
            files = names()
            first = " and ".join(f"{_called(i, count, files)} ({of[i]})" for i in pairs[0])
            many = f"{len(pairs):,} pairs of images are" if len(pairs) > 1 else "1 pair of images is"
            found.append(f"warning: {many} the same, or nearly, but of different {what}, such as {first}; {so}")
    return found


def counted(labels: np.ndarray, groups: np.ndarray, class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Of each class that is there, how many images, and how many groups of them that do not belong together."""
    return {
        class_names[kind]: {"images": int((labels == kind).sum()), "groups": len(np.unique(groups[labels == kind]))}
        for kind in np.unique(labels).tolist()
    }


def in_words(counts: Mapping[str, Mapping[str, int]], most: int | None = None) -> str:
    """What `counted` found; groups only where images belong together. `most`: name no more classes than that."""
    each = [f"{kind}: {of['images']:,}{_in_groups(of)}" for kind, of in counts.items()]
    more = "" if most is None or len(each) <= most else f", and {len(each) - most:,} more classes"
    merged = any(map(_in_groups, counts.values()))
    return ", ".join(each[:most]) + more + ("; images alike, or of one patient, are one group" if merged else "")


def _in_groups(of: Mapping[str, int]) -> str:
    groups = of["groups"]
    return "" if groups == of["images"] else f" in {groups:,} group{'s' if groups > 1 else ''}"


def _called(number: int, count: int, files: Sequence[str] | None) -> str:
    """An image by its file, else by its number: the first `count` are training images, the others test images."""
    if files is not None:
        return printable(files[number])
    return f"training image {number}" if number < count else f"test image {number - count}"


def _class(kind: int, class_names: Sequence[str]) -> str:
    return f"class {class_names[kind]}" if class_names else f"class number {kind}"


def _why_few(index: np.ndarray, groups: np.ndarray, named: np.ndarray | None) -> str:
    """That images alike, and not the groups `named` alone, left so few of the images `index` apart; "" if not so."""
    apart = len(index) if named is None else len(np.unique(named[index]))
    left, of = len(np.unique(groups[index])), "images" if named is None else "groups"
    return f", for images alike count as one ({left} of {apart} {of})" if left < apart else ""


def folds(
    labels: np.ndarray, groups: np.ndarray, k: int, seed: int, asked: str | None = None, *,
    class_names: Sequence[str] = (), named: np.ndarray | None = None,
) -> list[Part]:  # fmt: skip
    """k stratified folds that keep every group on one side. UserError where a class has too few groups for that.

    `asked`: the user's option that they come of, if it is not --folds. `class_names` and `named` (as `groups_of` has
    it): to say which class, and why.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    for kind in np.unique(labels):
        members = np.flatnonzero(labels == kind)
        there = len(np.unique(groups[members]))
        if there < k:
            remedy = (
                f"give --folds {there}, or more data"
                if asked is None and there > 1
                else "give it more, or leave it out"
            )
            few = "1 image (or patient)" if there == 1 else f"{there} images (or patients) that do not belong together"
            raise UserError(
                f"{asked or f'--folds {k}'}: {_class(kind, class_names)} has only {few}"
                f"{_why_few(members, groups, named)}; {remedy}"
            )
    found = []
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    for number, (train, test) in enumerate(splitter.split(labels, labels, groups)):
        found.append(Part(f"fold {number + 1}", train, test, len(test) / len(train), groups[test]))
    return found


def draws(
    labels: np.ndarray, groups: np.ndarray, test: np.ndarray, count: int, n: int, seed: int, *,
    class_names: Sequence[str] = (), named: np.ndarray | None = None,
) -> list[Part]:  # fmt: skip
    """`n` draws of `count` labelled images that are not in `test`, each class in its share of them.

    `test`: numbers of the images to test on, the same in all draws. Of a group of images one is drawn at most, and none
    that has another image in `test`. `class_names`, `named`: as `folds` has them.
    """
    for kind in np.unique(labels[test]):
        tested = test[labels[test] == kind]
        if len(np.unique(groups[tested])) < 2:
            raise UserError(
                f"--labelled {count}: the test images of {_class(kind, class_names)} all belong together"
                f"{_why_few(tested, groups, named)}, so nothing can be told by them; give others, too"
            )
    taken = set(groups[test].tolist())
    free = np.array([i for i in range(len(labels)) if groups[i] not in taken], dtype=np.int64)
    _, single = np.unique(groups[free], return_index=True)  # what can be drawn: one of each group
    kinds, counts = np.unique(labels[free[single]], return_counts=True)
    shares = np.maximum(np.round(count * counts / counts.sum()).astype(int), LEAST_PER_CLASS)
    shares[np.argmax(shares)] += count - shares.sum()
    if count < LEAST_PER_CLASS * len(kinds) or (shares > counts).any() or shares.min() < 1:
        raise UserError(
            f"--labelled {count}: must be between {LEAST_PER_CLASS} for each of {len(kinds)} classes and the "
            f"{len(single):,} images that are not tested on and do not belong together"
        )
    kept_out = len(labels) - len(test) - len(free)
    found = []
    for number in range(n):
        order = randomness.permutation(seed, f"augment/draw {number}", 0, len(free))
        _, first = np.unique(groups[free[order]], return_index=True)  # one of each group: the first that was drawn
        order = order[np.sort(first)]
        chosen: list[int] = []
        for kind, share in zip(kinds.tolist(), shares.tolist(), strict=True):
            members = [int(free[i]) for i in order if labels[free[i]] == kind]
            if len(members) < share:
                raise UserError(
                    f"--labelled {count}: {_class(kind, class_names)} has no {share} images that do not belong together"
                    f"{_why_few(free[labels[free] == kind], groups, named)}; give fewer"
                )
            chosen += members[:share]
        overlap = count / max(len(single) - count, 1)  # draws of a small pool share images, as folds do
        train = np.sort(np.array(chosen))
        found.append(Part(f"draw {number + 1}", train, test, overlap, groups[test], shared=True, kept_out=kept_out))
    return found


def without_empty(data: ArrayDataset) -> tuple[ArrayDataset, tuple[str, ...]]:
    """The set without the classes that no image is of, the others numbered anew; and what those are called.

    Labels that count from 1 are read with a class 0.
    """
    assert data.labels is not None
    used, labels = np.unique(data.labels, return_inverse=True)
    if len(used) == len(data.class_names):
        return data, ()
    left_out = tuple(name for k, name in enumerate(data.class_names) if k not in used)
    return replace(data, labels=labels, class_names=tuple(data.class_names[k] for k in used)), left_out


def refuse_missing(data: ArrayDataset, parts: Sequence[Part]) -> None:
    """UserError if a part trains or tests on no image of some class."""
    assert data.labels is not None
    for part in parts:
        for what, index in (("trains on", part.train), ("is tested on", part.test)):
            there = set(data.labels[index].tolist())
            absent = [name for k, name in enumerate(data.class_names) if k not in there]
            if absent:
                raise UserError(
                    f"{part.name} {what} no image of {', '.join(absent)}; give fewer --folds, more data, or leave that "
                    "class out"
                )


def refuse_overlap(same: Sequence[tuple[int, int]], count: int, names: Names = lambda: None) -> None:
    """UserError if one of the first `count` images, to train on, is the same as one of the others, to test on.

    `same`: pairs as `alike` has them.
    """
    both: dict[int, int] = {}  # each test image once, with the first training image that it is like
    for a, b in same:
        if a < count <= b:
            both.setdefault(b, a)
    if both:
        files = names()
        pairs = [[_called(i, count, files) for i in pair] for pair in list(both.items())[:NAMED]]
        some = ", ".join(" and ".join(pair) for pair in pairs)
        raise UserError(
            f"{len(both)} test images are in the training data too, or nearly ({some}): a test on them says nothing; "
            "take them out on one side (zerosum data check DATA --split all names them)"
        )


def named_groups(table: Path, files: Sequence[str] | None, count: int) -> np.ndarray:
    """A group of each image, (n,) of text: from the columns file and group of a CSV, or a value a line.

    Columns are known by their names in the first line: another column must never pass for the patient. `files`: the
    images' names, where they have any; else the lines are taken in the images' order. UserError if they do not fit.
    """
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--groups {table}: cannot be read as CSV ({error})") from error
    if not rows:
        raise UserError(f"--groups {table}: is empty; give a line for each image")
    columns = {name.strip().lower(): place for place, name in enumerate(rows[0])}
    if "group" in columns:
        rows = rows[1:]
    elif files is not None or len(rows[0]) > 1:
        first = ",".join(rows[0])[:60]
        wanted = "file,group" if files is not None else "group, or be one value"
        raise UserError(f"--groups {table}: its first line must be {wanted}, not {first}")
    group = columns.get("group", 0)
    if any(len(row) <= group or not row[group].strip() for row in rows):
        raise UserError(f"--groups {table}: has a line without a group; give each image its own")
    if files is None:
        values = [row[group].strip() for row in rows]
        if len(values) == count + 1:
            raise UserError(
                f"--groups {table}: has a line more than images; if the first names the column, let it be group"
            )
        if len(values) != count:
            raise UserError(
                f"--groups {table}: has {len(values)} lines for {count} images; give one each, in order, test images "
                "last"
            )
        return np.array(values)
    if "file" not in columns:
        raise UserError(f"--groups {table}: has no column file; its first line must be file,group")
    place = columns["file"]
    known: dict[str, str] = {}
    for row in rows:
        if len(row) <= place:
            raise UserError(f"--groups {table}: has a line without a file; name each line's image")
        name, of = row[place].strip().replace("\\", "/"), row[group].strip()
        if known.setdefault(name, of) != of:
            raise UserError(f"--groups {table}: {name} is of group {known[name]} and of {of}; give it one")
    missing = [name for name in files if name not in known]
    if missing:
        raise UserError(f"--groups {table}: has no line for {missing[0]} ({len(missing)} such files)")
    return np.array([known[name] for name in files])


def file_names(data: Data, dataset: ArrayDataset) -> list[str] | None:
    """The files that the images of a folder or zip were read from, in their order; None of other sources."""
    if data.source in sets.named():
        return None
    listing = image_listing(find(data.source), plates.suffixes(data.bits))
    if listing is None:
        return None
    skipped = {name for name, _ in dataset.skipped}  # as they are printed
    return [item.name for item in label(listing, data).listing.items if printable(item.name) not in skipped]
