"""Which images of a source are side A, which are side B, and what their partners are called: the folders' names say it.

    trainA trainB testA testB         train/A train/B         A B         A/train B/train         photos masks

all mean two sides; capitals mean nothing, and other splits (val) are read only with `split` all. Folders around
everything are passed over. What names an image's partner is its path without the folders that say which side it is on,
and without its suffix: `trainA/street/7.jpg` belongs to `trainB/street/7.png`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from zerosum.data.labels import OTHER_SPLIT_FOLDERS, SPLIT_FOLDERS, no_split
from zerosum.data.listing import Item, Listing, printable
from zerosum.errors import UserError

SPLITS = SPLIT_FOLDERS | dict.fromkeys(OTHER_SPLIT_FOLDERS, "val")
NAMED = re.compile(rf"({'|'.join(SPLITS)})(?:[-_ ]?([ab]))?|([ab])", re.IGNORECASE)


@dataclass(frozen=True)
class Half:
    """The images of one side, sorted by name, of the split asked for."""

    name: str  # of its folder, for messages
    listing: Listing
    keys: tuple[str, ...]  # by item: what it shares with its partner


@dataclass(frozen=True)
class _Found:
    item: Item
    side: str  # "a", "b", or "" if the folders do not say
    split: str  # "train", "test", "val" or ""
    rest: tuple[str, ...]  # the folders that mean nothing here, and the stem
    folder: str = ""  # what the folder is called that says the side

    @property
    def key(self) -> str:
        return "/".join(filter(None, (self.split, *self.rest)))


def one_side(listing: Listing, split: str) -> Half:
    """A source that is one side as a whole, or whose files hold both. Raises UserError if it lacks that split."""
    found = _chosen([_read(item, sided=False) for item in _unwrapped(listing, sided=False)], split, listing)
    return _half(PurePosixPath(listing.where).name, found, listing)


def two_sides(listing: Listing, split: str) -> tuple[Half, Half, tuple[str, ...]] | None:
    """Sides A and B of a source that has both in sub-folders, and notes; None if it is not laid out so.

    Two sub-folders of other names that hold everything are A and B in alphabetical order. Raises UserError if one side
    is missing, or has no images of that split.
    """
    found = [_read(item, sided=True) for item in _unwrapped(listing, sided=True)]
    notes: tuple[str, ...] = ()
    sided = [one for one in found if one.side]
    if sided:
        if len(sided) < len(found):
            outside = next(one.item.name for one in found if not one.side)
            notes += (f"left out {len(found) - len(sided)} images outside sides A and B, such as {printable(outside)}",)
    else:
        tops = sorted({one.rest[0] for one in found if len(one.rest) > 1})
        if len(tops) != 2 or any(len(one.rest) < 2 for one in found):
            return None
        sided = [_beneath(one, tops) for one in found]
    chosen = _chosen(sided, split, listing)
    sides = {side: [one for one in chosen if one.side == side] for side in ("a", "b")}
    for side, other in (("a", "b"), ("b", "a")):
        if not sides[side]:
            name = sides[other][0].folder
            asked = f" (--split {split})" if any(one.side == side for one in sided) else ""
            raise UserError(
                f"{listing.where}: side {other.upper()} is there ({name}), but no image of side {side.upper()}{asked}; "
                f"put its images into a folder beside it, such as {_missing(name, side)}, or give them with --target"
            )
    a, b = (_half(mine[0].folder, mine, listing) for mine in sides.values())
    return a, b, (*notes, f"side A is {a.name} ({len(a.keys):,} images), side B is {b.name} ({len(b.keys):,})")


def names_sides(listing: Listing) -> bool:
    """Whether the folders of all images say which side they are on."""
    return all(_read(item, sided=True).side for item in _unwrapped(listing, sided=True))


def means_sides(listing: Listing) -> bool:
    """Whether the folders' names mean nothing but sides: of all images, trainA, testB and the like, of both.

    Folders called A and B may as well be classes.
    """
    found = [_read(item, sided=True) for item in _unwrapped(listing, sided=True)]
    return {one.side for one in found} == {"a", "b"} and all(len(one.folder) > 1 for one in found)


def _unwrapped(listing: Listing, *, sided: bool) -> list[tuple[Item, tuple[str, ...]]]:
    """Each image with its path, without the folders that all share and that say neither side nor split."""
    paths = [PurePosixPath(item.name).parts for item in listing.items]
    depth = 0
    while paths and all(len(parts) > depth + 1 and parts[depth] == paths[0][depth] for parts in paths):
        if _says(paths[0][depth], sided=sided):
            break
        depth += 1
    return [(item, parts[depth:]) for item, parts in zip(listing.items, paths, strict=True)]


def _says(folder: str, *, sided: bool) -> tuple[str, str] | None:
    """The split and the side ("" for none) that a folder's name says, or None if it is some other name."""
    matched = NAMED.fullmatch(folder)
    if matched is None or (not sided and (matched[2] or matched[3])):
        return None
    return SPLITS.get((matched[1] or "").lower(), ""), (matched[2] or matched[3] or "").lower()


def _read(found: tuple[Item, tuple[str, ...]], *, sided: bool) -> _Found:
    item, (*folders, file) = found
    side = split = name = ""
    depth = 0
    while depth < len(folders) and (said := _says(folders[depth], sided=sided)):
        if (said[0] and split) or (said[1] and side):
            break
        split, side = said[0] or split, said[1] or side
        name = folders[depth] if said[1] else name
        depth += 1
    return _Found(item, side, split, (*folders[depth:], PurePosixPath(file).stem), name)


def _beneath(one: _Found, tops: Sequence[str]) -> _Found:
    """The image of a sub-folder that is a side: what lies in it may still be sorted by split."""
    inner = _read((one.item, (*one.rest[1:-1], PurePosixPath(one.item.name).name)), sided=False)
    split, rest = (one.split, one.rest[1:]) if one.split else (inner.split, inner.rest)
    return _Found(one.item, "ab"[tops.index(one.rest[0])], split, rest, one.rest[0])


def _chosen(found: Sequence[_Found], split: str, listing: Listing) -> list[_Found]:
    """Those of the split asked for. Folders are splits if all images lie in one, and one of them is train."""
    there = {one.split for one in found}
    if "" in there or "train" not in there:
        if split == "test":
            raise no_split(listing.where)
        return list(found)
    kept = [one for one in found if split in ("all", one.split)]
    if not kept:
        raise UserError(f"--split {split}: {listing.where} has only {', '.join(sorted(there))}")
    return kept


def _half(name: str, found: Sequence[_Found], listing: Listing) -> Half:
    kept = sorted(found, key=lambda one: (one.key, one.item.name))
    return Half(name, replace(listing, items=tuple(one.item for one in kept)), tuple(one.key for one in kept))


def _missing(present: str, side: str) -> str:
    """What the other side's folder would be called beside the one that is there."""
    return present[:-1] + (side.upper() if present[-1:].isupper() else side)
