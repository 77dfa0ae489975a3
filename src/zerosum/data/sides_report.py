"""`zerosum data check` of two-sided data: what is on each side, and what of it belongs together."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from zerosum.data import duplicates, files, picture, sides
from zerosum.data.pack import Progress
from zerosum.data.picture import Broken
from zerosum.data.plates import Plate
from zerosum.data.report import EXAMPLES, commonest
from zerosum.data.shelf import Shelf
from zerosum.data.spec import Data, Side
from zerosum.data.split import held_out_count
from zerosum.errors import UserError

CELLS = (48, 48)  # at which the edges of partners are compared
COMPARED, FEWEST = 256, 12  # pairs of which they are, at most and at least
SURE = 3.0  # standard errors by which partners must agree more than strangers
USES = {1: "grey", 3: "colour", 4: "alpha"}


@dataclass(frozen=True, kw_only=True)
class SideReport:
    """What is on one side."""

    side: Side
    count: int
    """Of images that can be used."""
    sizes: dict[str, int] = field(default_factory=dict)  # 'H x W' and how many, commonest first
    channels_used: dict[str, int] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)  # bits per channel as stored; with --bits own the type
    lowest: float = math.nan  # of all values, as decoded
    highest: float = math.nan
    exact_duplicates: int = 0  # images that equal an earlier one of this side in every pixel
    exact_examples: tuple[tuple[tuple[str, ...], int], ...] = ()  # of each group: the first names, how many in all
    near_duplicates: int = 0  # further images that look like an earlier one
    near_examples: tuple[tuple[str, str], ...] = ()
    in_test: int = 0  # images of the test split that equal one of these
    in_test_examples: tuple[tuple[str, str], ...] = ()  # here, and there


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How far the edges of two images agree (correlation, -1 to 1): of partners, and of images that are none."""

    partners: float
    strangers: float
    sure: bool
    """Whether partners surely agree more."""


@dataclass(frozen=True, kw_only=True)
class SidesReport:
    """What `check_sides` found."""

    source: str
    paired: bool
    count: int  # pairs, or images of the smaller side
    held_out: int  # of them: those that a run with these settings keeps out of training
    sides: tuple[SideReport, ...]
    """A and B as the data have them; B alone, if A is made."""
    unreadable: tuple[tuple[str, str], ...]
    """Files that cannot be used, and pairs of which one cannot, by name and reason."""
    alone: tuple[tuple[str, str], ...]
    """Images without a partner, by name and reason."""
    unlike_sizes: int = 0  # pairs whose images differ in size
    unlike_examples: tuple[str, ...] = ()
    on_both: int = 0  # images of A that equal one of B
    on_both_examples: tuple[tuple[str, str], ...] = ()
    alignment: Alignment | None = None  # of pairs, if there are enough
    has_test: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Looked:
    """One image as the report sees it."""

    name: str
    size: tuple[int, int]
    channels: int
    depth: str
    low: float
    high: float
    digest: bytes
    thumbnail: np.ndarray
    edges: np.ndarray | None
    notes: tuple[str, ...]  # of its file


_Row = tuple[_Looked, ...]


def check_sides(data: Data, progress: Progress | None = None) -> SidesReport:
    """Look at every image of both sides, at its own size. UserError if they cannot be told from each other."""
    found = sides.find(data)
    shelves = [one.keep(range(min(len(one), data.limit or len(one)))) for one in found.shelves]
    rows, broken = _look(shelves, found.paired, progress)
    columns = _columns(shelves, rows)
    for shelf, bad in zip(shelves, broken, strict=True):
        if not columns[shelf.sides[0]]:
            whose = " and ".join(side.upper() for side in shelf.sides)
            raise UserError(f"{shelf.where}: no image of side {whose} can be used ({': '.join(bad[0])})")
    others = _test_side(data, progress)
    pairs = [row for row in rows[0] if len(row) == 2] if found.paired else []
    unlike = [(a, b) for a, b in pairs if a.size != b.size]
    equal = _shared(columns["a"], columns["b"]) if len(columns) == 2 else []
    count = min(map(len, columns.values()))
    every = [image for images in columns.values() for image in images]
    told = files.counted(Counter(note for image in every for note in image.notes), len(every))
    return SidesReport(
        source=data.source if data.target is None else f"{data.source} and {data.target}", paired=found.paired,
        count=count, held_out=held_out_count(count, data), has_test=bool(others),
        sides=tuple(_side(side, images, others.get(side, [])) for side, images in columns.items()),
        unreadable=(*(one for shelf in shelves for one in shelf.refused), *(one for bad in broken for one in bad)),
        alone=found.skipped,
        unlike_sizes=len(unlike), unlike_examples=tuple(_sizes(a, b) for a, b in unlike[:EXAMPLES]),
        on_both=len(equal), on_both_examples=tuple(equal[:EXAMPLES]), alignment=_alignment(pairs),
        notes=(*found.notes, *told),
    )  # fmt: skip


def _look(
    shelves: Sequence[Shelf], paired: bool, progress: Progress | None
) -> tuple[list[list[_Row]], list[list[tuple[str, str]]]]:
    """What each shelf holds, row by row, and the names and reasons of what of it cannot be used."""
    rows: list[list[_Row]] = []
    broken: list[list[tuple[str, str]]] = []
    with files.quiet(), ThreadPoolExecutor(files.THREADS) as pool:
        for shelf in shelves:
            compared = set(np.linspace(0, len(shelf) - 1, min(len(shelf), COMPARED)).astype(int)) if paired else set()

            def use(i: int, shelf: Shelf = shelf, compared: set[int] = compared) -> _Row:
                names = (shelf.names[i], f"{shelf.names[i]}, side B")  # of pairs, which are called by A
                return tuple(
                    _seen(plate, name, i in compared) for plate, name in zip(shelf.load(i), names, strict=False)
                )

            mine: list[_Row] = []
            bad: list[tuple[str, str]] = []
            done = 0
            for results in files.treated(range(len(shelf)), use, pool, 256):
                for i, one in enumerate(results, done):
                    if isinstance(one, Broken):
                        bad.append((shelf.names[i], str(one)))
                    else:
                        mine.append(one)
                done += len(results)
                if progress is not None:
                    progress(done, len(shelf), f"checking {shelf.where}")
            rows.append(mine)
            broken.append(bad)
    return rows, broken


def _seen(plate: Plate, name: str, compared: bool) -> _Looked:
    pixels = plate.pixels
    if isinstance(pixels, np.ndarray):
        depth, low, high = plate.dtype.name, float(np.nanmin(pixels)), float(np.nanmax(pixels))
        head = f"{pixels.dtype} {pixels.shape}".encode()
        digest = hashlib.blake2b(head + np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest()
    else:
        depth, (low, high) = f"{plate.bits} bits", picture.extremes(pixels)
        digest = duplicates.digest(pixels)
    shown = _shown(plate, low, high)
    edges = _edges(shown) if compared else None
    thumbnail = duplicates.thumbnail(shown)
    return _Looked(name, plate.size, plate.channels, depth, low, high, digest, thumbnail, edges, plate.notes)


def _shown(plate: Plate, low: float, high: float) -> Image.Image:
    """The image in 8 bits: of a deeper one the first channels, from its darkest to its brightest value."""
    if not isinstance(plate.pixels, np.ndarray):
        return plate.pixels
    channels = 3 if len(plate.pixels) >= 3 else 1
    values = (np.nan_to_num(plate.pixels[:channels].astype(np.float64)) - low) / max(high - low, 1e-12)
    return picture.from_pixels((255 * values).clip(0, 255).astype(np.uint8))


def _edges(image: Image.Image) -> np.ndarray:
    """Strength of the edges, (cells,) with mean 0 and norm 1; all 0 where there are none."""
    grey = picture.resize(picture.to_channels(image, 1), CELLS, "stretch")
    down, across = np.gradient(np.asarray(grey, np.float32))
    strength = np.hypot(down, across).ravel()
    strength -= strength.mean()
    return strength / max(float(np.linalg.norm(strength)), 1e-6)


def _columns(shelves: Sequence[Shelf], rows: list[list[_Row]]) -> dict[Side, list[_Looked]]:
    """The images of each side."""
    return {
        side: [row[number] for row in found]
        for shelf, found in zip(shelves, rows, strict=True)
        for number, side in enumerate(shelf.sides)
    }


def _test_side(data: Data, progress: Progress | None) -> dict[Side, list[_Looked]]:
    """The images of the test split, if training reads another and there is one."""
    if data.split != "train":
        return {}
    try:
        found = sides.find(replace(data, split="test"))
    except UserError:  # there is no such split
        return {}
    return _columns(found.shelves, _look(found.shelves, False, progress)[0])


def _side(side: Side, images: list[_Looked], test: list[_Looked]) -> SideReport:
    groups = duplicates.exact([one.digest for one in images])
    repeats = {i for group in groups for i in group[1:]}
    single = np.array([i for i in range(len(images)) if i not in repeats])
    near = single[duplicates.near(np.stack([images[i].thumbnail for i in single]))]
    shared = _shared(images, test)
    return SideReport(
        side=side, count=len(images),
        sizes=commonest(Counter(f"{h} x {w}" for h, w in (one.size for one in images))),
        channels_used=commonest(Counter(USES.get(one.channels, f"{one.channels} channels") for one in images)),
        depths=commonest(Counter(one.depth for one in images)),
        lowest=min(one.low for one in images), highest=max(one.high for one in images),
        exact_duplicates=len(repeats),
        exact_examples=tuple((tuple(images[i].name for i in g[:EXAMPLES]), len(g)) for g in groups[:EXAMPLES]),
        near_duplicates=len(near),
        near_examples=tuple((images[a].name, images[b].name) for a, b in near[:EXAMPLES]),
        in_test=len(shared), in_test_examples=tuple(shared[:EXAMPLES]),
    )  # fmt: skip


def _shared(some: list[_Looked], others: list[_Looked]) -> list[tuple[str, str]]:
    """Images of the others that equal one of these in every pixel: the names of both."""
    known = {one.digest: one.name for one in reversed(some)}
    return [(known[one.digest], one.name) for one in others if one.digest in known]


def _sizes(a: _Looked, b: _Looked) -> str:
    (h, w), (h2, w2) = a.size, b.size
    return f"{a.name} ({h} x {w} and {h2} x {w2})"


def _alignment(pairs: Sequence[_Row]) -> Alignment | None:
    """Whether the edges of partners agree more than those of strangers, which have what all images share."""
    compared = [(a.edges, b.edges) for a, b in pairs if a.edges is not None and b.edges is not None]
    shown = [(a, b) for a, b in compared if a.any() and b.any()]
    if len(shown) < FEWEST:
        return None
    a, b = (np.stack(side) for side in zip(*shown, strict=True))
    agree = a @ b.T
    own = agree.diagonal()
    others = (agree.sum(1) - own) / (len(own) - 1)
    gain = own - others
    sure = gain.mean() > SURE * gain.std(ddof=1) / math.sqrt(len(gain))
    return Alignment(partners=float(own.mean()), strangers=float(others.mean()), sure=bool(sure))
