"""A set that has been read: its values in memory or mapped from a file, and what there is to say about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from zerosum.data.depth import EIGHT_BITS, Depth
from zerosum.data.mapped import Mapping, mapping_of
from zerosum.data.spec import Spec
from zerosum.errors import UserError

WHOLE = 1 << 30  # bytes: larger sets are hashed by a sample of their rows
SAMPLED_ROWS = 4096
BLOCK = 1 << 24  # bytes of values that are looked at in one go


def check_images(images: np.ndarray, labels: np.ndarray | None = None) -> None:
    """UserError unless these are images uint8 (n, C, H, W), one or more, and the labels int64 (n,)."""
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise UserError(
            f"images: {images.dtype} {images.shape}; give uint8 (n, C, H, W), one or more, of 0 for black to 255"
        )
    if labels is not None and (labels.dtype != np.int64 or labels.shape != (len(images),)):
        raise UserError(f"labels: {labels.dtype} {labels.shape}; give int64 ({len(images)},), a class for each image")


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """A `Dataset` over one array: (N, C, H, W) of `depth`, mostly uint8, for images, float32 (N, d) for points.

    `values` may be a mapped file or a view with other strides (colour last); `gather` always returns fresh,
    contiguous, writable arrays, images in 8 bits; `stored` gives them in `depth`. `skipped` names every file that was
    left out, with the reason; `notes` are plain sentences about choices that were made on the way (a size, a
    conversion, a split).
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    depth: Depth = EIGHT_BITS

    @property
    def spec(self) -> Spec:
        return Spec(tuple(self.values.shape[1:]), len(self.class_names), self.depth)

    def __len__(self) -> int:
        return len(self.values)

    def gather(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Values uint8 (n, C, H, W) or float32 (n, d), and labels (n,) int64 or None, of `index` (n,)."""
        values, labels = self.stored(index)
        return self.depth.eight_bits(values), labels

    def in_eight_bits(self) -> ArrayDataset:
        """The set as `gather` has it; itself if it has no more."""
        if not self.depth.wide:
            return self
        return replace(self, values=self.depth.eight_bits(self.values), depth=EIGHT_BITS)

    def stored(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """As `gather`, values in `depth`."""
        if self._mapping is not None:
            self._mapping.announce(index % len(self))  # an index beyond the end is for numpy to refuse
        if self.values.flags.c_contiguous:
            values = np.take(self.values, index, axis=0)
        else:  # np.take would first copy the whole set to straighten it
            values = np.ascontiguousarray(self.values[index])
        return values, None if self.labels is None else self.labels[index]

    def scan(self) -> Iterator[np.ndarray]:
        """All values in order, in contiguous blocks of some rows."""
        if self._mapping is not None:
            self._mapping.announce_all()
        step = block_rows(self.values.nbytes // max(len(self), 1))
        for start in range(0, len(self), step):
            yield np.ascontiguousarray(self.values[start : start + step])

    @cached_property
    def _mapping(self) -> Mapping | None:
        return mapping_of(self.values)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, type, class names, labels and values: the same wherever the set lives.

        Above 1 GiB of values, of 4,096 evenly spread rows instead of all: it must not read a whole disk.
        """
        header = {
            "shape": list(self.values.shape),
            "dtype": self.values.dtype.str,
            "classes": list(self.class_names),
            "labelled": self.labels is not None,
        }
        if self.depth != EIGHT_BITS:
            header["range"] = [self.depth.low, self.depth.high]
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").tobytes())
        if self.values.nbytes > WHOLE:
            chosen = np.linspace(0, len(self) - 1, min(len(self), SAMPLED_ROWS)).round().astype(np.int64)
            for part in np.array_split(chosen, 64):
                digest.update(self.stored(part)[0].tobytes())
        else:
            for block in self.scan():
                digest.update(block.tobytes())
        return digest.hexdigest()


def block_rows(row_bytes: int) -> int:
    """How many rows of this size to treat at a time: 1 .. 4096, about 16 MB."""
    return int(min(max(BLOCK // max(row_bytes, 1), 1), 4096))
