"""Files of arrays to a set: .npy, .npz and IDX. Nothing in them is ever unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from zerosum.data import idx, pack
from zerosum.data.arrays import Rows, at_hand, finish, joined
from zerosum.data.labels import encode, no_split
from zerosum.data.pack import Progress
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

SPLITS = ("train", "val", "test")
SPLIT_KEYS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"), ("X_{}", "y_{}"))
KEYS = (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels"), ("arr_0", "arr_1"))

T = TypeVar("T")


def open_npy(path: Path, data: Data, progress: Progress | None = None) -> ArrayDataset:
    """A .npy file. It is mapped, so that only what is used of it is ever in memory; a small one is read."""
    if zipfile.is_zipfile(path):
        raise UserError(f"{path} is a .npz file, whatever its name says: rename it")
    with open(path, "rb") as file:
        _guarded(path, lambda: _npy_header(file))
    array = _guarded(path, lambda: np.load(path, mmap_mode="r", allow_pickle=False))
    if data.split == "test":
        raise no_split(str(path))
    return finish(at_hand(str(path), array), None, (), data, name=_pack_name(path, data), progress=progress)


def open_npz(path: Path, data: Data, progress: Progress | None = None) -> ArrayDataset:
    """A .npz file with keys {train,val,test}_images and _labels, x_train and y_train, images and labels, x
    and y, or arr_0 and arr_1.
    """
    with _guarded(path, lambda: zipfile.ZipFile(path)) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    pairs, used = _choose(path, set(sizes), data.split)
    rows = joined(str(path), [_member(path, images, sizes[images], data) for images, _ in used])
    numbers: np.ndarray | None = None
    names: tuple[str, ...] = ()
    if all(labels in sizes for _, labels in pairs):
        # encoded over all splits together: a class means the same number in each, also if one of them lacks it
        found = {labels: _guarded(path, partial(_load, path, labels)) for _, labels in pairs}
        if "arr_1" not in found or _could_be_labels(found["arr_1"], rows):
            numbers, names = _together(path, found, [labels for _, labels in used])
    return finish(rows, numbers, names, data, name=_pack_name(path, data), progress=progress)


def _choose(path: Path, keys: set[str], split: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs of keys (images, labels): all that belong together, and those of this split."""
    for images, labels in SPLIT_KEYS:
        here = [side for side in SPLITS if images.format(side) in keys]
        if here:
            used = [side for side in here if split in ("all", side)]
            if not used and split == "test":
                raise no_split(str(path), here)
            if not used:
                raise UserError(f"--split {split}: {path} has only {', '.join(here)}; give one of them, or all")
            pairs = {side: (images.format(side), labels.format(side)) for side in here}
            return list(pairs.values()), [pairs[side] for side in used]
    for pair in KEYS:
        if pair[0] in keys:
            if split == "test":
                raise no_split(str(path))
            return [pair], [pair]
    raise UserError(
        f"{path} holds {', '.join(sorted(keys)) or 'nothing'}; name the arrays images and labels (or x and y, or "
        "train_images, train_labels, test_images ...)"
    )


def _could_be_labels(array: np.ndarray, rows: Rows) -> bool:
    """An array with no name to say so is taken for labels only if it looks like nothing else."""
    return array.ndim == 1 and len(array) == rows.shape[0] and array.dtype.kind in "biuUS"


def _together(path: Path, found: dict[str, np.ndarray], used: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    ends = np.cumsum([len(part) if part.ndim else 0 for part in found.values()])
    try:
        every = np.concatenate(list(found.values()))
    except ValueError as error:
        raise UserError(f"{path}: the labels of its splits do not go together ({error})") from error
    numbers, names = encode(every, str(path))
    parts = dict(zip(found, np.split(numbers, ends[:-1]), strict=True))
    return np.concatenate([parts[key] for key in used]), names


def _load(path: Path, key: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        with archive.open(f"{key}.npy") as file:
            _npy_header(file)
        with archive.open(f"{key}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _member(path: Path, key: str, size: int, data: Data) -> Rows:
    """One array of a .npz: read if it is small, else to be had as a stream."""
    where = f"{path}: {key}"
    if pack.fits_in_memory(size, data):
        return at_hand(where, _guarded(path, lambda: _load(path, key)))

    def stream(step: int) -> Iterator[np.ndarray]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            shape, _, dtype = _npy_header(file)
            yield from _read_rows(file, shape, dtype, step, where)

    def look() -> tuple[tuple[int, ...], bool, np.dtype]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            return _npy_header(file)

    shape, fortran, dtype = _guarded(path, look)
    if fortran:
        raise UserError(f"{where} is in Fortran order: save np.ascontiguousarray of it")
    return Rows(where, shape, dtype, stream=lambda step: _guarded_stream(path, stream(step)))


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise UserError(
            f"{file.name} holds Python objects, which are never loaded (they can run code): save plain numbers, such "
            "as np.stack(images).astype(np.uint8)"
        )
    return shape, fortran, dtype


def open_idx(
    path: Path, data: Data, progress: Progress | None = None, class_names: tuple[str, ...] = ()
) -> ArrayDataset:
    """An IDX file of images, plain or gzip; its labels are those in the file beside it, if there is one."""
    if data.split == "test":
        raise no_split(str(path))
    rows, labels = idx_rows(path, data)
    return finish(rows, labels, class_names, data, name=_pack_name(path, data), progress=progress)


def idx_rows(path: Path, data: Data) -> tuple[Rows, np.ndarray | None]:
    """The images of an IDX file, and their labels from the file beside it, or None."""
    head = idx.header(path)
    if len(head.shape) < 3:
        raise UserError(f"{path} holds {len(head.shape)} dimensions: labels, not images; give the file of the images")
    labels = idx.labels_beside(path)
    if not head.packed or pack.fits_in_memory(math.prod(head.shape), data):
        return at_hand(str(path), head.values(), mapped=not head.packed), labels

    def stream(step: int) -> Iterator[np.ndarray]:
        with idx.open_stream(path) as file:
            file.seek(head.offset)
            yield from _read_rows(file, head.shape, np.dtype(np.uint8), step, str(path))

    lazily = Rows(str(path), head.shape, np.dtype(np.uint8), stream=lambda step: _guarded_stream(path, stream(step)))
    return lazily, labels


def _read_rows(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, step: int, where: str) -> Iterator[np.ndarray]:
    row = math.prod(shape[1:]) * dtype.itemsize
    for start in range(0, shape[0], step):
        n = min(step, shape[0] - start)
        raw = file.read(n * row)
        if len(raw) < n * row:
            raise UserError(
                f"{where} is cut short: {shape[0]} images are announced, {start + len(raw) // row} are there"
            )
        if start + n == shape[0] and file.read(1):
            raise UserError(f"{where} is longer than its header says: fetch or write it again")
        yield np.frombuffer(raw, dtype=dtype).reshape(n, *shape[1:])


def _guarded_stream(path: Path, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    while True:
        block = _guarded(path, lambda: next(blocks, None))
        if block is None:
            return
        yield block


def _guarded(path: Path, load: Callable[[], T]) -> T:
    try:
        return load()
    except UserError:
        raise
    except Exception as error:  # NumPy's and zip's readers raise whatever the damaged bytes lead them to
        raise UserError(f"{path} is damaged, or not what its name says ({error}): write it again") from error


def _pack_name(path: Path, data: Data) -> str:
    status = path.stat()
    return pack.key([str(path.resolve()), status.st_size, status.st_mtime_ns], data)
