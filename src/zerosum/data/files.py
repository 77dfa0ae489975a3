"""Image files to a set: survey some, settle one shape, decode all in a pool of threads, in the order of their names."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from zerosum.data import labels, pack, picture, plates
from zerosum.data import sizes as taken
from zerosum.data.depth import depth_of
from zerosum.data.listing import Item, Listing, printable
from zerosum.data.pack import Block, Progress
from zerosum.data.picture import Broken, Picture
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset, block_rows
from zerosum.errors import UserError

SURVEYED = 1024  # images looked at to settle size and channels
AGREE = 0.9  # share of images that must have the commonest size for it to be taken
STEP = 16  # a size that no image has anyway is a multiple of this, and one that networks take (`sizes`)
ALPHA_SHARE, COLOUR_SHARE = 0.5, 0.05  # of images that must use alpha, or colour, for the set to have them
THREADS = min(os.cpu_count() or 1, 16)
TOGETHER = 16  # images decoded by a thread at a time

S = TypeVar("S")
T = TypeVar("T")


def open_files(
    listing: Listing, data: Data, progress: Progress | None = None, threads: int | None = None
) -> ArrayDataset:
    """Read the listing's images, in `THREADS` threads if not given. Raises UserError if fewer than two can be used."""
    labelled = label(listing, data)
    listing, numbers = labelled.listing, labelled.labels
    if not listing.items:
        raise UserError(f"{data.source}: no image is left after --split and --labels")
    own: list[object] = ["own", plates.DECODED] if data.bits == "own" else []
    identity: list[object] = [listing.identity, listed(listing), *own]
    name = pack.with_labels(pack.key(identity, data), numbers, labelled.class_names)
    found = pack.find(data, name)
    if found is not None:
        return _deep(found, data)
    with quiet(), ThreadPoolExecutor(threads or THREADS) as pool:
        shape, dtype, chosen = _form(listing, data, pool, progress)
        seen: Counter[str] = Counter()

        def notes() -> tuple[str, ...]:
            return (*labelled.notes, *chosen, *_conversions(seen, shape, data))

        plan = pack.Plan(
            listing.where, len(listing.items), shape, numbers, labelled.class_names, notes, listing.refused, dtype
        )
        return _deep(pack.build(plan, _blocks(listing, plan, data, pool, seen), data, name, progress), data)


def _deep(found: ArrayDataset, data: Data) -> ArrayDataset:
    """With the range of its values: of the same pack another may be declared."""
    return replace(found, depth=depth_of(found.values.dtype, data.value_range))


def label(listing: Listing, data: Data) -> labels.Labelled:
    """The images of the split and of the number asked for, with their classes. UserError if there is no image."""
    refuse_empty(listing, data.source)
    if data.labels is None:
        return labels.few(labels.by_folder(listing, data.split), data.limit)
    table = Path(data.labels).expanduser()
    beside = Path(data.source).expanduser() / data.labels
    found = labels.by_table(listing, beside if not table.exists() and beside.exists() else table, data.split)
    return labels.few(found, data.limit)


def refuse_empty(listing: Listing, source: str) -> None:
    """UserError if there is no image."""
    if not listing.items:
        why = f"; {len(listing.refused):,} are refused: {': '.join(listing.refused[0])}" if listing.refused else ""
        hint = _hint(listing) or "; give a folder or zip that holds some"
        raise UserError(f"{source}: no images found ({', '.join(sorted(picture.SUFFIXES))}){hint}{why}")


def _hint(listing: Listing) -> str:
    arrays = [name for name in listing.others if name.endswith((".npy", ".npz", ".zip", "-ubyte", "-ubyte.gz"))]
    if arrays:
        best = min(arrays, key=lambda name: ("train" not in name, "label" in name))
        return f"; give the path of a file in it instead, such as {best}"
    return f"; it holds {', '.join(printable(name) for name in listing.others[:3])}" if listing.others else ""


def listed(listing: Listing) -> str:
    """A digest of the files' names, sizes and times: what a pack of them depends on."""
    digest = hashlib.sha256()
    for item in listing.items:
        digest.update(f"{item.name}\0{item.bytes}\0{item.stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the decoder's warnings: what matters of them is said by `skipped` and `notes`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def each(
    listing: Listing, items: Sequence[Item], use: Callable[[Picture], T], pool: ThreadPoolExecutor, step: int
) -> Iterator[list[T | Broken]]:
    """`use` of every decoded item, as `treated` gives it; a Broken takes the place of one that cannot be decoded."""
    return treated(items, lambda item: use(picture.read(listing.read(item))), pool, step)


def treated(
    items: Sequence[S], use: Callable[[S], T], pool: ThreadPoolExecutor, step: int
) -> Iterator[list[T | Broken]]:
    """`use` of every item, in order, `step` items at a time; a Broken takes the place of one that it is raised for.

    A thread is given `TOGETHER` items at once: for small images a task of its own costs as much as the decoding.
    """

    def one(item: S) -> T | Broken:
        try:
            return use(item)
        except Broken as broken:
            return broken

    def some(first: int, end: int) -> list[T | Broken]:
        return [one(item) for item in items[first : min(first + TOGETHER, end)]]

    for start in range(0, len(items), step):
        end = min(start + step, len(items))
        yield list(chain.from_iterable(pool.map(partial(some, end=end), range(start, end, TOGETHER))))


def _blocks(
    listing: Listing, plan: pack.Plan, data: Data, pool: ThreadPoolExecutor, seen: Counter[str]
) -> Iterator[Block]:
    channels, height, width = plan.shape
    shape = channels, height, width

    def use_own(item: Item) -> tuple[np.ndarray, list[str]]:
        found = plates.read(listing.read(item), item.name, "own")
        facts = ["image", f"format {found.format}", *(f"note {note}" for note in found.notes)]
        if found.size != shape[1:]:
            facts.append("resized")
        if isinstance(found.pixels, Image.Image) and found.pixels.mode == "RGBA" and shape[0] != 4:
            facts.append("flattened")
        return found.render(shape, plan.dtype, data.fit), facts

    def use(item: Item) -> tuple[np.ndarray, list[str]]:
        found = picture.read(listing.read(item))
        # what is lost is counted here, where the picture is at hand; `Counter` is only touched by one thread, below
        facts = ["image", f"format {found.format}"]
        if found.size != shape[1:]:
            facts.append("resized")
        if found.image.mode == "RGBA" and shape[0] != 4:
            facts.append("flattened")
        if found.bits > 8:
            facts.append("16 bits")
        return picture.render(found.image, shape, data.fit), facts

    step = min(block_rows(math.prod(shape) * plan.dtype.itemsize), 512)
    start = 0
    for results in treated(listing.items, use_own if data.bits == "own" else use, pool, step):
        good: list[np.ndarray] = []
        kept: list[int] = []
        skipped: list[tuple[str, str]] = []
        for i, result in enumerate(results, start):
            if isinstance(result, Broken):
                skipped.append((printable(listing.items[i].name), str(result)))
            else:
                good.append(result[0])
                kept.append(i)
                seen.update(result[1])
        values = np.stack(good) if good else np.empty((0, *shape), plan.dtype)
        start += len(results)
        yield Block(values, np.array(kept, dtype=np.int64), len(results), tuple(skipped))


def _conversions(seen: Counter[str], shape: tuple[int, int, int], data: Data) -> tuple[str, ...]:
    formats = {name.removeprefix("format "): n for name, n in seen.items() if name.startswith("format ")}
    total = seen["image"]
    notes = []
    if len(formats) > 1:
        listed = ", ".join(f"{n} {name}" for name, n in sorted(formats.items(), key=lambda pair: (-pair[1], pair[0])))
        notes.append(f"mixed formats: {listed}; what compression did to some shows as a difference between them")
    if seen["resized"]:
        how = {"crop": "centre cropped", "pad": "padded", "stretch": "stretched"}[data.fit]
        notes.append(
            f"{seen['resized']} of {total} images were resized to {shape[1]} x {shape[2]} (H x W), {how} where the "
            "aspect ratio differs"
        )
    if seen["flattened"]:
        notes.append(f"{seen['flattened']} of {total} images had an alpha channel and were laid on white")
    if seen["16 bits"]:
        notes.append(
            f"{seen['16 bits']} of {total} images had more than 8 bits per channel and were scaled to 8; "
            "--bits own keeps them"
        )
    return (*notes, *counted(told_of(seen), total))


def told_of(seen: Counter[str]) -> Counter[str]:
    """What readers noted of single images, among all that was counted."""
    return Counter({fact.removeprefix("note "): n for fact, n in seen.items() if fact.startswith("note ")})


def counted(told: Counter[str], of: int) -> list[str]:
    """What was said of single images, each with how many of them it was said of."""
    return [f"{n:,} of {of:,} images: {note}" for note, n in sorted(told.items())]


def _form(
    listing: Listing, data: Data, pool: ThreadPoolExecutor, progress: Progress | None
) -> tuple[tuple[int, int, int], np.dtype, tuple[str, ...]]:
    """(C, H, W) and type as asked for, or else as an evenly spread sample of the images suggests."""
    if data.size is not None and data.channels is not None and data.bits == "8":
        return (data.channels, *data.size), pack.BYTES, ()
    sample = [listing.items[i] for i in surveyed(len(listing.items))]
    sizes: Counter[tuple[int, int]] = Counter()
    uses: dict[str, Counter[int]] = {}  # of each type: images of another than the commonest are left out
    types: Counter[str] = Counter()
    done = 0

    def look(item: Item) -> tuple[tuple[int, int], int, str]:
        found = plates.read(listing.read(item), item.name, data.bits)
        return found.size, found.channels, found.dtype.name

    for results in treated(sample, look, pool, 64):
        for result in results:
            if not isinstance(result, Broken):
                sizes[result[0]] += 1
                uses.setdefault(result[2], Counter())[result[1]] += 1
                types[result[2]] += 1
        done += len(results)
        if progress is not None:
            progress(done, len(sample), f"looking at {listing.where}")
    if not sizes:  # all of the sample is broken: whatever the others are, they come as they may
        sizes[(64, 64)], uses[pack.BYTES.name], types[pack.BYTES.name] = 1, Counter({3: 1}), 1
    size, notes = (data.size, ()) if data.size is not None else choose_size(sizes, data.longest)
    dtype = np.dtype(commonest(types))
    if types[dtype.name] < AGREE * sum(types.values()):
        counts = ", ".join(f"{n:,} {name}" for name, n in types.most_common())
        raise UserError(
            f"{data.source}: images of several types ({counts}); convert them to one, or leave --bits own out"
        )
    depth_of(dtype, data.value_range)  # before the time that reading takes
    channels = channels_of(uses[dtype.name], dtype, data.channels)
    if channels not in picture.MODES:
        raise UserError(
            f"{data.source}: images of {channels} channels; convert them to 1, 3 or 4, which can be looked at"
        )
    return (channels, *size), dtype, notes


def surveyed(count: int) -> list[int]:
    """Which of `count` images settle what was not asked for."""
    return np.linspace(0, count - 1, min(count, SURVEYED)).round().astype(int).tolist()


def commonest(counts: Counter[S]) -> S:
    """The value that was counted most, of several the least."""
    return min(counts, key=lambda value: (-counts[value], value))


def channels_of(uses: Counter[int], dtype: np.dtype, asked: int | None) -> int:
    """Of 8 bits what was asked for or is in use; of more what there is. UserError if that is not what was asked for."""
    used = commonest(uses)
    if dtype == np.uint8 and used in picture.MODES:
        return asked or choose_channels(uses)
    if asked not in (None, used):
        raise UserError(
            f"--channels {asked}: with --bits own, images of {dtype} keep the channels that they have ({used}); leave "
            "it out"
        )
    return used


def choose_channels(uses: Counter[int]) -> int:
    """4 if at least half of the images use alpha; else 3 if 1 in 20 uses colour (or alpha); else 1."""
    total = sum(uses.values())
    if uses[4] >= ALPHA_SHARE * total:
        return 4
    return 3 if uses[3] + uses[4] >= COLOUR_SHARE * total else 1


def choose_size(sizes: Counter[tuple[int, int]], longest: int) -> tuple[tuple[int, int], tuple[str, ...]]:
    """One (height, width) for images of these sizes, and what to say about it.

    The commonest if nine tenths agree; else the median area at the median aspect ratio. At most `longest` on the
    long side. A size that no image has is one that networks take.
    """
    common = min(sizes, key=lambda size: (-sizes[size], size))
    agreed = sizes[common] >= AGREE * sum(sizes.values())
    if agreed and max(common) <= longest:
        return common, ()
    all_sizes = np.array(list(_repeated(sizes)), dtype=np.float64)
    area, aspect = np.median(all_sizes.prod(axis=1)), np.median(all_sizes[:, 1] / all_sizes[:, 0])
    height, width = math.sqrt(area / aspect), math.sqrt(area * aspect)
    scale = min(1.0, longest / max(height, width))
    size = (_multiple(height * scale, longest), _multiple(width * scale, longest))
    size = taken.smaller(*size) or size
    why = f"all images are {common[0]} x {common[1]}" if len(sizes) == 1 else "the images differ in size"
    return size, (f"size {size[0]} x {size[1]} (H x W) was chosen: {why}; say another with --size H W",)


def _multiple(length: float, longest: int) -> int:
    return max(STEP, min(STEP * round(length / STEP), longest // STEP * STEP))


def _repeated(sizes: Counter[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    return (size for size in sorted(sizes) for _ in range(sizes[size]))
