"""A set that has been read: its values in memory or mapped from a file, and what there is to say about it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from zerosum.data.spec import Spec

WHOLE = (
    1 << 30
)  # bytes: sets up to this size are hashed whole, larger ones by header and a sample of their rows
SAMPLED_ROWS = 4096
BLOCK = 1 << 24  # bytes of values that are looked at in one go


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """A `Dataset` over one array: uint8 (N, C, H, W) for images, float32 (N, d) for points.

    `values` may be a mapped file or a view with other strides (colour last); `gather` always returns fresh,
    contiguous, writable arrays. `skipped` names every file that was left out, with the reason; `notes` are
    plain sentences about choices that were made on the way (a size, a conversion, a split).
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> Spec:
        return Spec(tuple(self.values.shape[1:]), len(self.class_names))

    def __len__(self) -> int:
        return len(self.values)

    def gather(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Values (n, C, H, W) uint8 or (n, d) float32, and labels (n,) int64 or None, of `index` (n,)."""
        if self.values.flags.c_contiguous:
            values = np.take(self.values, index, axis=0)
        else:  # np.take would first copy the whole set to straighten it
            values = np.ascontiguousarray(self.values[index])
        return values, None if self.labels is None else self.labels[index]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, type, class names, labels and values: the same wherever the set lives.

        Above 1 GiB of values, of 4,096 evenly spread rows instead of all, so that it does not read a whole
        disk.
        """
        header = {
            "shape": list(self.values.shape),
            "dtype": self.values.dtype.str,
            "classes": list(self.class_names),
            "labelled": self.labels is not None,
        }
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").tobytes())
        rows = len(self.values)
        if self.values.nbytes > WHOLE:
            for i in np.linspace(0, rows - 1, min(rows, SAMPLED_ROWS)).round().astype(np.int64):
                digest.update(self.values[i].tobytes())
        else:
            step = block_rows(self.values.nbytes // max(rows, 1))
            for start in range(0, rows, step):
                digest.update(self.values[start : start + step].tobytes())
        return digest.hexdigest()


def block_rows(row_bytes: int) -> int:
    """How many rows of this size to treat at a time: 1 .. 4096, about 16 MB."""
    return int(min(max(BLOCK // max(row_bytes, 1), 1), 4096))


def map_file(path: Path, dtype: np.dtype | type, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """A read-only array over part of a file. Its pages belong to the file: they cost no anonymous memory.

    Raises ValueError if the file is too short, OSError if it cannot be opened.
    """
    # np.asarray gives the plain array class: a memmap makes every result of every operation a memmap too
    return np.asarray(np.memmap(path, mode="r", dtype=dtype, shape=shape, offset=offset))
