"""Two-sided data: images to translate from and to, in pairs or not, from whatever layout they are found in."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from zerosum.data import files, layout, listing, plates, sets, shelf, source
from zerosum.data.pack import Progress
from zerosum.data.picture import Broken
from zerosum.data.reader import Reader
from zerosum.data.shelf import Shelf
from zerosum.data.spec import Data, Dataset, Side, Spec, as_stored
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

AGREE = 0.9  # of the smaller side's names must have a partner for two folders to be taken for pairs
SIDES: tuple[Side, Side] = ("a", "b")


@dataclass(frozen=True, eq=False)
class Sides:
    """Images to translate from, `a`, and to, `b`. If `paired`, item i of one belongs to item i of the other.

    Both hold images `jitter` pixels higher and wider than networks see, (N, C, H + jitter, W + jitter). With fit
    "bucket", a and b are those of the commonest size, and `others` those of the other sizes.
    """

    a: Dataset
    b: Dataset
    paired: bool
    jitter: int = 0
    others: tuple[tuple[Dataset, Dataset], ...] = ()
    names: tuple[str, str] = ("A", "B")  # what the user's data call them: B and A if they are translated backwards
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for a, b in self.buckets:
            if a.spec.shape[1:] != b.spec.shape[1:] or (self.paired and len(a) != len(b)):
                raise ValueError(f"sides of {len(a)} {a.spec.shape} and {len(b)} {b.spec.shape} do not go together")

    @property
    def buckets(self) -> tuple[tuple[Dataset, Dataset], ...]:
        """Both sides at each size."""
        return ((self.a, self.b), *self.others)

    @property
    def spec(self) -> Spec:
        """What networks see, of the commonest size, and which other sizes there are."""
        a, b = (self._seen(one.spec) for one in (self.a, self.b))
        return replace(a, target=b, paired=self.paired)

    def _seen(self, stored: Spec) -> Spec:
        height, width = self.size_of(stored)
        more = tuple(self.size_of(a.spec) for a, _ in self.others)
        return Spec((stored.shape[0], height, width), depth=stored.depth, more_sizes=more)

    def size_of(self, stored: Spec) -> tuple[int, int]:
        """Height and width that networks see of images that are kept so."""
        height, width = stored.shape[1:]
        return height - self.jitter, width - self.jitter

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of both sides' fingerprints, of whether they are pairs, and of how much is cut off at random."""
        digest = hashlib.sha256(f"{'paired' if self.paired else 'unpaired'} {self.jitter}".encode())
        for a, b in self.buckets:
            digest.update(f" {a.fingerprint} {b.fingerprint}".encode())
        return digest.hexdigest()

    def at(self, size: tuple[int, int]) -> Sides | None:
        """The images that networks see at one size (H, W); None if there are none."""
        found = next(((a, b) for a, b in self.buckets if self.size_of(a.spec) == size), None)
        return None if found is None else replace(self, a=found[0], b=found[1], others=())

    def count(self, side: Side) -> int:
        """How many images a side has, of all sizes."""
        return sum(len(bucket[SIDES.index(side)]) for bucket in self.buckets)

    def __len__(self) -> int:
        """How many pairs; of unpaired sides how many images the smaller has."""
        return min(self.count("a"), self.count("b"))

    def gather(self, side: Side, index: np.ndarray, bucket: int = 0) -> np.ndarray:
        """Images `index` (n,) of one side and size as they are measured, the middle of each: (n, C, H, W)."""
        values, _ = as_stored(self.buckets[bucket][SIDES.index(side)], index)
        margin = self.jitter // 2
        height, width = (length - self.jitter for length in values.shape[2:])
        return np.ascontiguousarray(values[:, :, margin : margin + height, margin : margin + width])


def two_sided(data: Data) -> bool:
    """Whether the data are to be read as two sides."""
    return data.pairing is not None or data.made is not None or data.target is not None


def as_meant(data: Data) -> Data:
    """The data as two sides if their folders' names mean nothing else (trainA, trainB) and nothing else was said."""
    if two_sided(data) or data.labels is not None or data.source in sets.named():
        return data
    images = source.image_listing(source.find(data.source))
    return replace(data, pairing="auto") if images is not None and layout.means_sides(images) else data


def read(data: Data, progress: Progress | None = None) -> Dataset | Sides:
    """The data as they are asked for, one-sided or two-sided. Raises UserError."""
    return open_sides(data, progress) if two_sided(data) else source.open_source(data, progress)


def open_sides(data: Data, progress: Progress | None = None, threads: int | None = None) -> Sides:
    """Read the two sides that `data` describes, in `THREADS` threads if not given.

    `direction` B2A makes side B of the data `Sides.a`: networks always translate from a to b. Raises UserError, with a
    remedy, whenever the data cannot be used as asked.
    """
    found = find(data)
    with files.quiet(), ThreadPoolExecutor(threads or files.THREADS) as pool:
        reader = Reader(found.shelves, data, pool, progress)
        pairs = reader.read()
    stores = [store for pair in pairs for store in pair]
    notes = (*found.notes, *reader.notes, *(note for store in stores for note in store.notes))
    refused = (one for rows in found.shelves for one in rows.refused)
    skipped = (*refused, *found.skipped, *reader.unread, *(one for store in stores for one in store.skipped))
    forward = data.direction == "A2B"
    (a, b), *others = pairs if forward else [(b, a) for a, b in pairs]
    names = ("A", "B") if forward else ("B", "A")
    unique = tuple(dict.fromkeys(notes)), tuple(dict.fromkeys(skipped))  # both sides of a pair say the same
    return Sides(a, b, found.paired, data.jitter, tuple(others), names, *unique)


# --- which images belong to which side -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """One shelf of pairs (or of photos, of which the other side is made), or a shelf for each side."""

    shelves: tuple[Shelf, ...]
    paired: bool
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()  # images without a partner, by name and reason


def find(data: Data) -> Found:
    """The images of both sides that `data` describes, before any is read. UserError as of `open_sides`."""
    source.validate(data)
    _refuse(data)
    return _find(data)


def _refuse(data: Data) -> None:
    """UserError for settings that contradict each other."""
    pairing = data.pairing or "auto"
    if data.labels is not None:
        raise UserError(f"--labels {data.labels}: translation uses no classes; leave it out")
    if data.made is None and pairing == "made":
        raise UserError("--pairing made: say how side A is made from the images: --made edges, for instance")
    if data.made is not None and pairing not in ("auto", "made"):
        raise UserError(f"--made {data.made}: side A is made, so --pairing {pairing} does not apply; leave one out")
    if data.made is not None and data.bits == "own":
        raise UserError(f"--made {data.made}: is for images of 8 bits; leave --bits own out")
    if data.target is not None and (data.made is not None or pairing == "joined"):
        other = f"--made {data.made}" if data.made is not None else "--pairing joined"
        raise UserError(f"--target {data.target}: with {other} side B comes from {data.source}; leave one out")


def _find(data: Data) -> Found:
    pairing = data.pairing or "auto"
    opened = _opened(data.source, data)
    if data.made is not None:
        note = f"side A is made from the images of {data.source} ({data.made}), which are side B"
        return Found((replace(_whole(opened, data.source, data), sides=("b",)),), True, (note,))
    if data.target is not None:
        target = _whole(_opened(data.target, data), data.target, data)
        return _together(_whole(opened, data.source, data), target, data)
    if pairing != "joined" and isinstance(opened, listing.Listing):
        halves = layout.two_sides(opened, data.split)
        if halves is not None:
            a, b = (shelf.of_files(half, [_identity(opened), half.name], data.bits) for half in halves[:2])
            return _together(a, b, data, halves[2])
    if pairing not in ("auto", "joined"):
        raise UserError(f"--pairing {pairing}: {_no_sides(data)}")
    whole = _whole(opened, data.source, data)
    if pairing == "auto" and not _twice_as_wide(whole):
        raise UserError(f"{_no_sides(data)}; say --pairing joined if A and B are side by side in each file, or --made")
    return Found((shelf.joined(whole),), True, ("side A is the left half of each image, side B the right",))


def _no_sides(data: Data) -> str:
    return (
        f"{data.source} has no two sides that can be told from each other: give side B with --target, or sub-folders "
        "such as A and B or trainA and trainB"
    )


def _opened(name: str, data: Data) -> listing.Listing | ArrayDataset:
    """Files that are still to be read, or a named set or file of arrays."""
    if name not in sets.named():
        images = source.image_listing(source.find(name), plates.suffixes(data.bits))
        if images is not None:
            files.refuse_empty(images, name)
            return images
    if data.bits == "own":
        raise UserError(f"--bits own: {name} holds no image files; leave it out")
    return source.open_source(replace(source.one_sided(data, name), size=None, channels=None, limit=None))


def _whole(opened: listing.Listing | ArrayDataset, name: str, data: Data) -> Shelf:
    """Everything in a source, of the split asked for."""
    if isinstance(opened, ArrayDataset):
        return shelf.of_array(opened, name)
    return shelf.of_files(layout.one_side(opened, data.split), _identity(opened), data.bits)


def _identity(opened: listing.Listing) -> list[str]:
    return [opened.identity, files.listed(opened)]


def _twice_as_wide(whole: Shelf) -> bool:
    """Whether every image of a sample is: what joined files of square images are."""
    for i in files.surveyed(len(whole)):
        try:
            height, width = whole.measure(i)
        except Broken:
            continue  # named when it is read
        if width != 2 * height:
            return False
    return True


def _together(a: Shelf, b: Shelf, data: Data, notes: tuple[str, ...] = ()) -> Found:
    """Pairs, if that is asked for or if nearly all names of the smaller side are found on the other."""
    rows, alone = shelf.matched(a, b)
    pairing = data.pairing or "auto"
    if pairing == "auto":
        agree = len(rows) >= AGREE * min(len(a), len(b)) and not (a.numbered or b.numbered)
        pairing, other = ("folders", "unpaired") if agree else ("unpaired", "folders")
        taken = "pairs: their names agree" if agree else "unpaired: no names of files agree"
        notes += (f"the sides are taken for {taken}; if that is wrong, say --pairing {other}",)
    if pairing == "unpaired":
        return Found((a, replace(b, sides=("b",))), False, notes)
    if not rows:
        raise UserError(
            f"--pairing folders: none of {len(a):,} images of side A (such as {a.names[0]}) has a partner of the same "
            f"name among {len(b):,} of side B (such as {b.names[0]}): rename them, or say --pairing unpaired"
        )
    if alone:
        listed = ", ".join(name for name, _ in alone[:5]) + (", ..." if len(alone) > 5 else "")
        notes += (f"left out {len(alone):,} images without a partner: {listed}",)
    return Found((shelf.paired(a, b, rows),), True, notes, tuple(alone))
