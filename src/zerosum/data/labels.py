"""What each item is: classes from sub-folders, from a CSV, or from an array of labels."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from zerosum.data.listing import Item, Listing, printable
from zerosum.data.picture import SUFFIXES
from zerosum.errors import UserError

SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
OTHER_SPLIT_FOLDERS = frozenset(("val", "valid", "validation", "dev"))  # read only with all
FILE_COLUMNS = ("file", "filename", "file_name", "image", "path", "name", "id", "image_id")
LABEL_COLUMNS = ("label", "class", "category", "target", "y", "class_name")
MOST_INTEGERS = 1000  # labels that are integers below this number are classes as they stand


@dataclass(frozen=True)
class Labelled:
    """A listing of which every item has a class number, or none has (labels None)."""

    listing: Listing
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def choose_split(listing: Listing, split: str) -> tuple[Listing, int, tuple[str, ...]]:
    """The images of one split, the number of leading folders that mean nothing for classes, and notes.

    Folders that all images share are passed over. If the next level is train and test (and val), it is the
    split. Raises NoSplit if there is no such split and `split` is 'test'.
    """
    paths = [PurePosixPath(item.name).parts for item in listing.items]
    depth = 0
    while paths and all(len(parts) > depth + 1 and parts[depth] == paths[0][depth] for parts in paths):
        depth += 1
    tops = {parts[depth] if len(parts) > depth + 1 else "" for parts in paths}
    side = {top: SPLIT_FOLDERS.get(top.lower(), "val") for top in tops}
    if "train" not in side.values() or not all(
        top.lower() in SPLIT_FOLDERS or top.lower() in OTHER_SPLIT_FOLDERS for top in tops
    ):
        if split == "test":
            raise no_split(listing.where)
        return listing, depth, ()
    chosen = sorted(top for top in tops if split in ("all", side[top]))
    if not chosen:  # train is among them, so test was asked for
        raise no_split(listing.where, sorted(tops))
    kept = [item for item, parts in zip(listing.items, paths, strict=True) if parts[depth] in chosen]
    note = f"read {', '.join(chosen)} of the folders {', '.join(sorted(tops))} (--split {split})"
    return listing.keep(kept), depth + 1, (note,)


def by_folder(listing: Listing, split: str) -> Labelled:
    """Classes from the first level of sub-folders that tells the images of this split apart."""
    listing, depth, notes = choose_split(listing, split)
    paths = [PurePosixPath(item.name).parts for item in listing.items]
    classes = [parts[depth] if len(parts) > depth + 1 else "" for parts in paths]
    names = sorted(set(classes))
    if len(names) < 2 or "" in names:
        if len(names) > 1:
            outside = classes.count("")
            notes += (f"no labels: {outside} of {len(classes)} images lie outside the sub-folders",)
        return Labelled(listing, None, (), notes)
    number = {name: i for i, name in enumerate(names)}
    labels = np.array([number[name] for name in classes], dtype=np.int64)
    return Labelled(listing, labels, tuple(printable(name) for name in names), notes)


def few(labelled: Labelled, limit: int | None) -> Labelled:
    """The first `limit` images; with classes, as many of each as there can be: the first of each, the second, ..."""
    items, labels = labelled.listing.items, labelled.labels
    if limit is None or limit >= len(items):
        return labelled
    if labels is None:
        return replace(labelled, listing=labelled.listing.keep(list(items[:limit])))
    place = np.empty(len(items), dtype=np.int64)  # of an image among those of its class
    for number in np.unique(labels):
        members = np.flatnonzero(labels == number)
        place[members] = np.arange(len(members))
    chosen = np.sort(np.argsort(place, kind="stable")[:limit])
    return replace(labelled, listing=labelled.listing.keep([items[i] for i in chosen]), labels=labels[chosen])


class NoSplit(UserError):
    """There are no test images."""


def no_split(where: str, splits: Sequence[str] = ()) -> NoSplit:
    """Of a source with these splits, if it has any."""
    has = f"only {', '.join(splits)}" if splits else "no test split that zerosum knows of"
    return NoSplit(
        f"--split test: {where} has {has}; leave --split out, or give the path of the test images themselves"
    )


def by_table(listing: Listing, table: Path, split: str) -> Labelled:
    """Classes from a CSV of files and labels, with or without a header, separated by comma, semicolon or tab.

    A file is named by its path inside the source, or by any end of it that is unique, with or without suffix.
    Images that the table does not name are left out, with a note. Raises UserError if it names files that are
    not there.
    """
    known = _by_name(listing)
    rows = _rows(table, known)
    chosen: dict[Item, str] = {}
    missing = []
    for file, label in rows:
        item = known.get(_path(file))
        if item is None:
            missing.append(file)
        elif chosen.setdefault(item, label) != label:
            twice = printable(f"{file} is there twice, as {chosen[item]} and as {label}")
            raise UserError(f"--labels {table}: {twice}; keep one")
    if missing:
        raise UserError(
            f"--labels {table}: {len(missing)} of {len(rows)} files are not in {listing.where} (or their names fit "
            f"several), such as {printable(', '.join(missing[:3]))}; write paths relative to {listing.where}"
        )
    items = [item for item in listing.items if item in chosen]
    left_out = len(listing.items) - len(items)
    notes = [f"left out {left_out} images that {table.name} does not name"] if left_out else []
    labels, names = encode(np.array([chosen[item] for item in items]), str(table))
    number = dict(zip(items, labels.tolist(), strict=True))
    side, _, split_notes = choose_split(listing.keep(items), split)
    labels = np.array([number[item] for item in side.items], dtype=np.int64)
    return Labelled(side, labels, names, (*notes, *split_notes))


def _by_name(listing: Listing) -> dict[str, Item]:
    """Every way to name an item that means it alone: its path or an end of it, the suffix given or not."""
    count: Counter[str] = Counter()
    owner: dict[str, Item] = {}
    for item in listing.items:
        parts = PurePosixPath(item.name).parts
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            for name in {end, str(PurePosixPath(end).with_suffix(""))}:
                count[name] += 1
                owner[name] = item
    unique = {name: item for name, item in owner.items() if count[name] == 1}
    return unique | {item.name: item for item in listing.items}


def _path(written: str) -> str:
    return written.strip().replace("\\", "/").removeprefix("./")


def _rows(table: Path, known: Mapping[str, Item]) -> list[tuple[str, str]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"--labels {table}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels {table} cannot be read as text in UTF-8 ({error})") from error
    if "\0" in text:
        raise UserError(f"--labels {table} is not a CSV file (it holds NUL bytes)")
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(row)]
    except csv.Error as error:
        raise UserError(f"--labels {table} is not a CSV file ({error})") from error
    if not rows:
        raise UserError(f"--labels {table} is empty; it needs a line 'file,label' and one line per image")
    head = [cell.strip().lower() for cell in rows[0]]
    file = next((head.index(name) for name in FILE_COLUMNS if name in head), None)
    label = next((head.index(name) for name in LABEL_COLUMNS if name in head), None)
    body = rows[1:]
    if file is None and label is None and (_path(rows[0][0]) in known or PurePosixPath(head[0]).suffix in SUFFIXES):
        file, label, body = 0, 1, rows  # no header: the first line names an image already
    if file is None or label is None:
        raise UserError(f"--labels {table}: its columns are {printable(', '.join(rows[0]))}; call them file and label")
    for row in body:
        if len(row) <= max(file, label):
            raise UserError(f"--labels {table}: the line '{printable(', '.join(row))}' has no file and label")
    return [(row[file].strip(), row[label].strip()) for row in body]


def encode(labels: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers int64 (n,) and class names from labels (n,) or (n, 1), or from one-hot rows (n, K).

    Integers from 0 to 999 are class numbers already, also where some number between is not used; anything
    else (other integers, text) is numbered in sorted order. Raises UserError for real numbers, and for labels
    of other shapes.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and _one_hot(labels):
        return labels.argmax(axis=1).astype(np.int64), tuple(str(i) for i in range(labels.shape[1]))
    if labels.ndim != 1 or labels.dtype.kind not in "biufUS":
        raise UserError(
            f"{where}: labels of shape {labels.shape} and type {labels.dtype}; give one class per image: integers or "
            "names, (N,) or (N, 1), or one-hot rows"
        )
    if labels.dtype.kind == "f":
        if not ((np.abs(labels) < 2**53) & (labels == np.round(labels))).all():  # False for NaN and infinity
            raise UserError(f"{where}: labels are fractions; classes must be whole numbers or names")
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind == "U":
        labels = _as_integers(labels)
    if labels.dtype.kind in "biu":
        low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
        if low >= 0 and high < MOST_INTEGERS:
            return labels.astype(np.int64), tuple(str(i) for i in range(high + 1))
    values, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int64).reshape(-1), tuple(printable(str(value)) for value in values)


def _one_hot(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())


def _as_integers(labels: np.ndarray) -> np.ndarray:
    """Text that is whole numbers throughout, as integers (so that 10 sorts after 9); else as it was."""
    if all(text.isascii() and text.isdigit() and len(text) < 18 for text in np.unique(labels).tolist()):
        return labels.astype(np.int64)
    return labels
