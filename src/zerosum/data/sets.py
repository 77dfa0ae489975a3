"""The sets that have a name: where their files may be, how to fetch them, what their classes are."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from zerosum.data import cifar, files, listing, toy
from zerosum.data.array_files import idx_rows
from zerosum.data.arrays import at_hand, finish, joined
from zerosum.data.cache import cache_folder
from zerosum.data.pack import Progress, key
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

DIGITS = tuple(str(i) for i in range(10))
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
IDX_FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
CELEBA_TRAIN, CELEBA_VALIDATION = 162_770, 19_867  # the published partition: by number, in this order, then test
HELD_OUT = 0.2  # of each class of digits

T = TypeVar("T")

_NAMED = {
    "digits": "1,797 handwritten digits, 8 x 8, grey, 10 classes; comes with scikit-learn",
    "fashion-mnist": "70,000 pieces of clothing, 28 x 28, grey, 10 classes",
    "mnist": "70,000 handwritten digits, 28 x 28, grey, 10 classes",
    "cifar10": "60,000 small photos, 32 x 32, colour, 10 classes",
    "celeba": "202,599 faces of celebrities, 218 x 178, colour",
    "ring": "points: eight Gaussians on a ring of radius 2, sigma 0.1",
    "grid": "points: 25 Gaussians on a 5 x 5 grid, sigma 0.05",
    "moons": "points: two interleaving half circles",
}


def named() -> dict[str, str]:
    """The names that `data.source` knows, each with one line of description."""
    return dict(_NAMED)


def open_named(data: Data, progress: Progress | None = None) -> ArrayDataset:
    """Open the set called `data.source`. UserError if it is not here and cannot be fetched."""
    if data.labels is not None:
        raise UserError(f"--labels {data.labels}: {data.source} has its own labels or none; leave --labels out")
    match data.source:
        case "digits":
            return _digits(data)
        case "mnist" | "fashion-mnist":
            return _mnist(data, progress)
        case "cifar10":
            return _cifar10(data, progress)
        case "celeba":
            return _celeba(data, progress)
        case name:
            draws = [toy.draw(name, split) for split in _sides(data)]
            return finish(at_hand(name, np.concatenate(draws)), None, (), data, name="")


def _sides(data: Data) -> tuple[str, ...]:
    return ("train", "test") if data.split == "all" else (data.split,)


def _digits(data: Data) -> ArrayDataset:
    values, labels = _embedded_digits()
    images = np.round(values * 255 / 16).astype(np.uint8)
    notes: tuple[str, ...] = ()
    if data.split != "all":
        chosen = np.flatnonzero(_held_out(labels) == (data.split == "test"))
        images, labels = images[chosen], labels[chosen]
        share = f"{HELD_OUT:.0%}" if data.split == "test" else f"{1 - HELD_OUT:.0%}"
        notes = (f"digits has no published split: {data.split} is a fixed random {share} of each class",)
    return finish(at_hand("digits", images), labels, DIGITS, data, name=key("digits", data), notes=notes)


def _embedded_digits() -> tuple[np.ndarray, np.ndarray]:
    """The images (1797, 8, 8), from 0 to 16, and labels (1797,) int64 that scikit-learn carries.

    Read from its file, if that is where it has been: importing scikit-learn takes seconds, most of all a start's.
    """
    package = importlib.util.find_spec("sklearn")
    path = Path(package.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if package else Path()
    if path.is_file():
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images, found.target.astype(np.int64)


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Which items are for testing, (n,) bool: a keyed random fifth of each class, the same everywhere and always."""
    held = np.zeros(len(labels), dtype=bool)
    for c in np.unique(labels):
        digest = hashlib.blake2b(f"0/digits/held out/{c}".encode(), digest_size=16).digest()
        members = np.flatnonzero(labels == c)
        # ranks of raw 64-bit words: unlike a shuffle, the same in every version of NumPy
        words = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(len(members))
        held[members[np.argsort(words)[: round(HELD_OUT * len(members))]]] = True
    return held


def _mnist(data: Data, progress: Progress | None) -> ArrayDataset:
    import_name = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[data.source]
    wanted = [IDX_FILES[side] for side in _sides(data)]

    def look() -> list[Path] | None:
        places = [p / inner for p in _places(data) for inner in ("", "raw", f"{import_name}/raw", data.source)]
        if data.source == "fashion-mnist" and data.root is None:
            places.append(DEBIAN_FASHION)
        for place in places:
            found = [_plain_or_packed(place / name) for name in wanted]
            if all(path is not None for path in found):
                return [path for path in found if path is not None]
        return None

    def fetch(root: Path) -> None:
        from torchvision import datasets

        getattr(datasets, import_name)(str(root), download=True)

    paths = _find_or_fetch(data, look, fetch, f"the IDX files {', '.join(wanted)} (.gz or plain)")
    parts = [idx_rows(path, data) for path in paths]
    if any(labels is None for _, labels in parts):
        raise UserError(f"--root {paths[0].parent}: the file of labels is missing beside {paths[0].name}")
    labels = np.concatenate([part for _, part in parts if part is not None])
    names = DIGITS if data.source == "mnist" else CLOTHES
    rows = joined(data.source, [rows for rows, _ in parts])
    return finish(rows, labels, names, data, name=_pack_name(paths, data), progress=progress)


def _plain_or_packed(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _cifar10(data: Data, progress: Progress | None) -> ArrayDataset:
    Found = tuple[Path, list[tuple[str, bytes]] | None]

    def look() -> Found | None:
        for place in _places(data):
            tars = sorted(place.glob("cifar*10*.tar.gz")) if place.is_dir() else []
            inner = [place, *(place / name for name in ("cifar-10-batches-bin", "cifar-10-batches-py"))]
            for here in (*inner, *tars):
                if not here.exists():
                    continue
                batches = cifar.find_batches(here, data.split)
                if batches is not None or here.is_file() or (here / "train" / cifar.CLASS_NAMES[0]).is_dir():
                    return here, batches
        return None

    def fetch(root: Path) -> None:
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import download_and_extract_archive

        # not CIFAR10(download=True), which would go on to unpickle what it fetched
        download_and_extract_archive(CIFAR10.url, str(root), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)

    what = "cifar-10-batches-bin, cifar-10-batches-py, a cifar10 .tar.gz, or train and test with class folders"
    place, batches = _find_or_fetch(data, look, fetch, what)
    if batches is None:
        images = listing.tar_file(place) if place.is_file() else listing.folder(place)
        return files.open_files(images, data, progress)
    values, labels = cifar.read_batches(batches)
    rows = at_hand(data.source, values)
    return finish(rows, labels, cifar.CLASS_NAMES, data, name=_pack_name([place], data), progress=progress)


def _celeba(data: Data, progress: Progress | None) -> ArrayDataset:
    def look() -> listing.Listing | None:
        for place in _places(data):
            for inner in ("img_align_celeba/img_align_celeba", "img_align_celeba", ""):
                for here in (place / "celeba" / inner, place / inner):
                    if (here / "000001.jpg").is_file():
                        return listing.folder(here)
            for here in (place / "celeba", place):
                if (here / "img_align_celeba.zip").is_file():
                    return listing.zip_file(here / "img_align_celeba.zip")
        return None

    def fetch(root: Path) -> None:
        from torchvision.datasets import CelebA

        CelebA(str(root), split="all", download=True)

    found = _find_or_fetch(data, look, fetch, "img_align_celeba (folder or zip)")
    ends = {"train": CELEBA_TRAIN, "val": CELEBA_TRAIN + CELEBA_VALIDATION, "test": 1_000_000}
    first = {"train": 0, "all": 0, "test": ends["val"]}[data.split]
    last = ends["train"] if data.split == "train" else ends["test"]
    numbered = [(item, Path(item.name).stem) for item in found.items]
    chosen = [item for item, stem in numbered if stem.isdecimal() and first < int(stem) <= last]
    # the split has been made; what is left is a plain list of files
    return files.open_files(found.keep(chosen), replace(data, split="all"), progress)


def _places(data: Data) -> list[Path]:
    """Where the files of a named set may be: where the user says, else where downloads go."""
    return [Path(data.root).expanduser()] if data.root is not None else [cache_folder() / "sets"]


def _find_or_fetch(data: Data, look: Callable[[], T | None], fetch: Callable[[Path], None], what: str) -> T:
    """What `look` finds, if need be after `fetch` into the first place. One clear UserError if that is nothing."""
    found = look()
    if found is not None:
        return found
    root = _places(data)[0]
    by_hand = f"or put {what} into a folder and give it with --root DIR"
    if data.source == "fashion-mnist":
        by_hand = f"or install Debian's package dataset-fashion-mnist, {by_hand}"
    if not data.download:
        raise UserError(f"{data.source} is not in {root}: add --download to fetch it, {by_hand}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        fetch(root)
    except Exception as error:  # of torchvision, urllib, ssl, gdown or the disk: for the user it is one failure
        reason = str(error).strip().split("\n")[-1] or type(error).__name__
        raise UserError(
            f"{data.source} could not be downloaded to {root} ({reason}): check the network and the disk and try "
            f"again, {by_hand}"
        ) from error
    found = look()
    if found is None:
        raise UserError(f"{data.source} was downloaded to {root}, but without {what}: fetch it by hand, {by_hand}")
    return found


def _pack_name(paths: list[Path], data: Data) -> str:
    return key([[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths], data)
