"""`zerosum data check`: what is in a set before a run is spent on it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from zerosum.data import duplicates, files, layout, picture, sets, source
from zerosum.data.listing import printable
from zerosum.data.pack import Progress, fits_in_memory
from zerosum.data.picture import Broken, Picture
from zerosum.data.spec import Data
from zerosum.data.split import held_out_count
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

EXAMPLES = 20  # of groups of duplicates, and of the members of each, that are named
DARK = 64  # a set whose brightest value is below this was probably not meant for 0 .. 255
SIDED = ("the folders say which side images are on; --pairing auto checks them as two sides",)
JOINED = ("all images are twice as wide as high; if each is A and B side by side, --pairing joined checks both",)
RARE = 0.1  # a class with less than this share of the largest is worth a note


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `check` found. Counts are of images (or points) that can be used, unless they say otherwise."""

    source: str
    kind: Literal["images", "points"]
    count: int
    shape: tuple[int, ...]  # (C, H, W) or (d,) that training would see with these settings
    memory_bytes: int  # the set at that shape
    held_out: int  # of `count`: those that a run with these settings keeps out of training
    in_memory: bool  # else mapped from a packed cache of that size
    lowest: float  # of all values, as decoded
    highest: float
    classes: dict[str, int]  # empty if there are no labels
    notes: tuple[str, ...]
    # of images only
    unreadable: tuple[tuple[str, str], ...] = ()  # file and reason
    sizes: dict[str, int] = field(default_factory=dict)  # 'H x W' and how many, commonest first
    formats: dict[str, int] = field(default_factory=dict)  # of files; empty for arrays
    modes: dict[str, int] = field(default_factory=dict)  # PIL's names: L, P, RGBA, I;16 ...
    bits: dict[str, int] = field(default_factory=dict)  # per channel
    channels_used: dict[str, int] = field(default_factory=dict)  # grey, colour, alpha
    exact_duplicates: int = 0  # images that equal an earlier one in every pixel
    exact_examples: tuple[tuple[tuple[str, ...], int], ...] = ()  # of each group: the first names, how many in all
    near_duplicates: int = 0  # further images that look like an earlier one
    near_examples: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Looked:
    """One image as the report sees it."""

    size: tuple[int, int]
    format: str
    mode: str
    bits: int
    channels: int
    low: int
    high: int
    digest: bytes
    thumbnail: np.ndarray


def _look(found: Picture) -> _Looked:
    low, high = picture.extremes(found.image)
    return _Looked(
        found.size,
        found.format,
        found.mode,
        found.bits,
        picture.channels_in_use(found.image),
        low,
        high,
        duplicates.digest(found.image),
        duplicates.thumbnail(found.image),
    )


def check(data: Data, progress: Progress | None = None) -> Report:
    """Look at every image of the set that `data` describes, at its own size. Raises UserError if there is none."""
    source.validate(data)
    source.refuse_two_sided(data)
    if data.bits == "own":
        raise UserError("--bits own: what is checked is looked at in 8 bits; leave it out")
    listing = None if data.source in sets.named() else source.image_listing(source.find(data.source))
    if listing is None:
        return _check_arrays(data, progress)
    two = layout.names_sides(listing) if listing.items else False
    labelled = files.label(listing, data)
    items = list(labelled.listing.items)
    looked: list[_Looked] = []
    kept: list[int] = []
    broken: list[tuple[str, str]] = []
    with files.quiet(), ThreadPoolExecutor(files.THREADS) as pool:
        for results in files.each(listing, items, _look, pool, 256):
            first = len(kept) + len(broken)
            for i, result in enumerate(results, first):
                if isinstance(result, Broken):
                    broken.append((printable(items[i].name), str(result)))
                else:
                    looked.append(result)
                    kept.append(i)
            if progress is not None:
                progress(first + len(results), len(items), f"checking {listing.where}")
    if not looked:
        raise UserError(f"{data.source}: none of {len(items)} images can be read ({broken[0][1]})")
    names = [printable(items[i].name) for i in kept]
    # what training would choose: from the same sample of the images
    chosen = set(files.surveyed(len(items)))
    sample = [one for i, one in zip(kept, looked, strict=True) if i in chosen] or looked
    numbers = None if labelled.labels is None else labelled.labels[np.array(kept)]
    sizes = Counter(one.size for one in sample)
    size, notes = (data.size, ()) if data.size is not None else files.choose_size(sizes, data.longest)
    channels = data.channels or files.choose_channels(Counter(one.channels for one in sample))
    return _report(
        data,
        looked,
        names,
        numbers,
        labelled.class_names,
        (channels, *size),
        (*listing.refused, *broken),
        labelled.notes + notes + (SIDED if two else JOINED if _twice_as_wide(looked) else ()),
    )


def _twice_as_wide(looked: list[_Looked]) -> bool:
    """Whether all are: what joined files of square images are."""
    return all(width == 2 * height for height, width in (one.size for one in looked))


def _check_arrays(data: Data, progress: Progress | None) -> Report:
    found = source.open_source(replace(data, size=None, channels=None), progress)
    if not found.spec.is_image:
        return _check_points(data, found)
    count = len(found)
    looked: list[_Looked] = []
    for block in found.scan():
        for row in block:
            image = picture.from_pixels(row)
            looked.append(_look(Picture(image, "", image.mode, 8)))
        if progress is not None:
            progress(len(looked), count, f"checking {data.source}")
    native = found.values.shape[1:]
    shape = (data.channels or native[0], *(data.size or native[1:]))
    names = [f"image {i}" for i in range(count)]
    return _report(data, looked, names, found.labels, found.class_names, shape, (), found.notes)


def _check_points(data: Data, found: ArrayDataset) -> Report:
    return Report(
        source=data.source,
        kind="points",
        count=len(found),
        held_out=held_out_count(len(found), data),
        lowest=float(found.values.min()),
        highest=float(found.values.max()),
        classes=_balance(found.labels, found.class_names),
        shape=found.spec.shape,
        memory_bytes=found.values.nbytes,
        in_memory=True,
        notes=found.notes,
    )


def _balance(labels: np.ndarray | None, class_names: tuple[str, ...]) -> dict[str, int]:
    if labels is None:
        return {}
    return dict(zip(class_names, np.bincount(labels, minlength=len(class_names)).tolist(), strict=True))


def _report(
    data: Data,
    looked: list[_Looked],
    names: list[str],
    labels: np.ndarray | None,
    class_names: tuple[str, ...],
    shape: tuple[int, ...],
    unreadable: tuple[tuple[str, str], ...],
    notes: tuple[str, ...],
) -> Report:
    groups = duplicates.exact([one.digest for one in looked])
    repeats = {i for group in groups for i in group[1:]}
    single = np.array([i for i in range(len(looked)) if i not in repeats])
    near = single[duplicates.near(np.stack([looked[i].thumbnail for i in single]))]
    uses = Counter({1: "grey", 3: "colour", 4: "alpha"}[one.channels] for one in looked)
    classes = _balance(labels, class_names)
    highest = max(one.high for one in looked)
    bytes = len(looked) * int(np.prod(shape))
    return Report(
        source=data.source,
        kind="images",
        count=len(looked),
        held_out=held_out_count(len(looked), data),
        unreadable=unreadable,
        sizes=commonest(Counter(f"{h} x {w}" for h, w in (one.size for one in looked))),
        formats=commonest(Counter(one.format for one in looked if one.format)),
        modes=commonest(Counter(one.mode for one in looked)),
        bits=commonest(Counter(str(one.bits) for one in looked)),
        channels_used=commonest(uses),
        lowest=min(one.low for one in looked),
        highest=highest,
        classes=classes,
        exact_duplicates=len(repeats),
        exact_examples=tuple((tuple(names[i] for i in group[:EXAMPLES]), len(group)) for group in groups[:EXAMPLES]),
        near_duplicates=len(near),
        near_examples=tuple((names[a], names[b]) for a, b in near[:EXAMPLES]),
        shape=shape,
        memory_bytes=bytes,
        in_memory=fits_in_memory(bytes, data),
        notes=notes + _warnings(highest, classes, len({one.format for one in looked})),
    )


def _warnings(highest: int, classes: dict[str, int], formats: int) -> tuple[str, ...]:
    notes = []
    if highest < DARK:
        notes.append(f"the brightest value is {highest} of 255: the images may be scaled to another range")
    if formats > 1:
        notes.append("several file formats: what compression did to some shows as a difference between them")
    if classes:
        largest = max(classes.values())
        rare = [name for name, n in classes.items() if n < RARE * largest]
        if rare:
            listed = ", ".join(f"{name} ({classes[name]})" for name in rare[:5])
            have = "class has" if len(rare) == 1 else "classes have"
            notes.append(f"{len(rare)} {have} less than a tenth of the largest ({largest}): {listed}")
    return tuple(notes)


def commonest(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
