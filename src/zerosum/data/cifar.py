"""CIFAR-10 as published: the binary version, and the Python version read without unpickling.

A pickle is a program, and running one that a user supplies is out of the question. But the pixels and labels
of a batch are plain constants in that program, so its operations are only listed (`pickletools`), never
executed.
"""

from __future__ import annotations

import pickletools
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from zerosum.data.picture import SUFFIXES
from zerosum.errors import UserError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
MAX_BATCH = 1 << 26  # bytes: twice that of a batch
TRAIN, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)
STRINGS = frozenset(("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINUNICODE", "SHORT_BINUNICODE"))
INTEGERS = frozenset(("BININT", "BININT1", "BININT2"))


def find_batches(place: Path, split: str) -> list[tuple[str, bytes]] | None:
    """Names and bytes of the batches of one split ('train', 'test' or 'all') in a folder or a tar; None if
    not there.
    """
    stems = {"train": TRAIN, "test": TEST, "all": TRAIN + TEST}[split]
    if place.is_dir():
        for suffix in (".bin", ""):
            paths = [place / f"{stem}{suffix}" for stem in stems]
            if all(path.is_file() for path in paths):
                return [(str(path), path.read_bytes()) for path in paths]
        return None
    held: dict[str, tuple[str, bytes]] = {}
    try:
        with tarfile.open(place) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.suffix.lower() in SUFFIXES:
                    return None  # the images one by one, as some publish them
                if member.isfile() and name.stem in stems and member.size <= MAX_BATCH:
                    opened = archive.extractfile(member)
                    held[name.stem] = (str(name), opened.read() if opened is not None else b"")
    except Exception as error:  # tarfile, gzip and zlib have an error each for a damaged file
        raise UserError(f"cannot read {place} as a tar ({error}): it is damaged; fetch it again") from error
    return [held[stem] for stem in stems] if all(stem in held for stem in stems) else None


def read_batches(batches: list[tuple[str, bytes]]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) uint8 and labels (n,) int64 of all batches, one after the other."""
    parts = [(_binary if name.endswith(".bin") else _python)(name, raw) for name, raw in batches]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _binary(name: str, raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one label and 3,072 pixels."""
    if len(raw) % (1 + PIXELS):
        raise _damaged(name)
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 1 + PIXELS)
    return _checked(name, rows[:, 1:], rows[:, 0].astype(np.int64))


def _python(name: str, raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A pickled dictionary with an array 'data' and a list 'labels'."""
    pixels: bytes | str = b""
    labels: list[int] = []
    key: bytes | str = ""
    try:
        for operation, argument, _ in pickletools.genops(raw):
            if operation.name in STRINGS and isinstance(argument, str | bytes):
                key = argument
                if len(argument) > len(pixels):
                    pixels = argument  # the longest constant by far
            elif operation.name in INTEGERS and key in ("labels", b"labels") and isinstance(argument, int):
                labels.append(argument)
        data = pixels.encode("latin-1") if isinstance(pixels, str) else pixels
    except Exception as error:  # pickletools reports damage by ValueError, IndexError, UnicodeDecodeError ...
        raise _damaged(name) from error
    if len(data) % PIXELS:
        raise _damaged(name)
    return _checked(name, np.frombuffer(data, dtype=np.uint8).reshape(-1, PIXELS), np.array(labels, dtype=np.int64))


def _checked(name: str, rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(rows) == 0 or len(rows) != len(labels) or labels.min() < 0 or labels.max() >= len(CLASS_NAMES):
        raise _damaged(name)
    return rows.reshape(-1, 3, 32, 32), labels


def _damaged(name: str) -> UserError:
    return UserError(f"{name} is not a whole batch of CIFAR-10: fetch it again (--download)")
