"""From a stream of images to a set: in memory if it fits, else in a packed file that is made once and then
mapped. What took long to decode is packed too, though it fits, so that it is decoded once and not at every command.

A pack is three files: `KEY.u8`, the rows one after the other, as bytes; `KEY.labels.npy` if there are labels; and
`KEY.json`, the header, which is written last and says what the others must be. Each is written under another
name, forced to the disk and renamed, so that a killed or a second, simultaneous builder leaves nothing that
could be mistaken for a whole pack; since the key says what the bytes must be, it does not matter whose copy
wins. The header's time is that of the last use: building a pack removes those that nobody used for 30 days.

A pack that is read into memory is held against its checksum; of a mapped one only the size is, for that would
read all of it at every command.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from zerosum.data.cache import cache_folder
from zerosum.data.mapped import map_file
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

VERSION = 2  # of the pack's layout and of the way images are decoded and resized: part of every key
KEPT_SECONDS = 2.0  # a set in memory that took longer than this to make is kept in a pack
UNUSED_SECONDS = 30 * 86_400  # a pack that nobody opened for so long is removed; it can be built again
STALE_SECONDS = 600  # a builder writes all the time: a temporary file untouched for so long belongs to a dead one
OURS = re.compile(r"(?P<begun>\.tmp-)?(?P<name>[0-9a-f]{32})\.(u8|labels\.npy|json)(?(begun)-[0-9a-f]{8})")

BYTES = np.dtype(np.uint8)  # what the values are, unless a header says something else

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Block:
    """Some consecutive images of a source: those that could be read, names and reasons of the others."""

    values: np.ndarray  # (b, C, H, W), or (b', C, H, W) from b images of which b - b' are broken
    kept: np.ndarray  # (b',) int64: their positions in the source
    read: int  # b
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Plan:
    """A set as it will be once all its images have been read."""

    where: str  # for messages
    count: int  # images at most
    shape: tuple[int, ...]  # (C, H, W)
    labels: np.ndarray | None  # (count,) by position in the source
    class_names: tuple[str, ...]
    notes: Callable[[], tuple[str, ...]]  # asked when all images have been read
    refused: tuple[tuple[str, str], ...] = ()  # names and reasons of images that are not even tried
    dtype: np.dtype = BYTES  # a structured one keeps several arrays of an item beside each other: `shape` is () then

    @property
    def bytes(self) -> int:
        return self.count * int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def key(identity: object, data: Data) -> str:
    """Names a pack by what its bytes depend on: the source with names, sizes and times, and how it is brought
    to shape.
    """
    settings = [VERSION, data.size or data.longest, data.channels, data.fit, data.limit, data.split]
    text = json.dumps([settings, identity], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def with_labels(name: str, labels: np.ndarray | None, class_names: tuple[str, ...]) -> str:
    """The pack's name if these are its labels: they may come from another file than the images, and change alone."""
    raw = b"" if labels is None else labels.astype("<i8").tobytes()
    return hashlib.sha256(json.dumps([name, class_names]).encode() + raw).hexdigest()[:32]


def fits_in_memory(bytes: int, data: Data) -> bool:
    return bytes <= data.memory_megabytes << 20


def build(plan: Plan, blocks: Iterable[Block], data: Data, name: str, progress: Progress | None = None) -> ArrayDataset:
    """Read all blocks into memory, or into the pack `name`. Raises UserError if fewer than two images can be used."""
    told = _tell(blocks, plan, progress)
    if not fits_in_memory(plan.bytes, data):
        _pack(plan, told, folder(data), name)
        found = find(data, name)
        if found is None:
            where = cache_folder(data.cache)
            raise UserError(f"--cache {where}: a packed set was written but cannot be read back; try another disk")
        return found
    began = time.perf_counter()
    values = np.empty((plan.count, *plan.shape), dtype=plan.dtype)
    kept: list[np.ndarray] = []
    skipped: list[tuple[str, str]] = []
    n = 0
    for block in told:
        values[n : n + len(block.values)] = block.values
        n += len(block.values)
        kept.append(block.kept)
        skipped.extend(block.skipped)
    every = (*plan.refused, *skipped)
    _enough(n, every, plan)
    whole = Block(values[:n], np.concatenate(kept), plan.count, tuple(skipped))
    if time.perf_counter() - began > KEPT_SECONDS:
        with suppress(UserError):  # a full or closed cache costs time at the next command, and nothing else
            _pack(plan, [whole], folder(data), name)
    labels = None if plan.labels is None else plan.labels[whole.kept]
    return ArrayDataset(whole.values, labels, plan.class_names, every, plan.notes())


def _tell(blocks: Iterable[Block], plan: Plan, progress: Progress | None) -> Iterator[Block]:
    done = 0
    for block in blocks:
        yield block
        done += block.read
        if progress is not None:
            progress(done, plan.count, f"reading {plan.where}")


def _enough(usable: int, skipped: Sequence[tuple[str, str]], plan: Plan) -> None:
    if usable < 2:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
        why += f"; and {len(skipped) - 3:,} more" if len(skipped) > 3 else ""
        raise UserError(
            f"{plan.where}: {usable} of {usable + len(skipped)} images can be used, and a set needs at "
            f"least 2{f' ({why})' if why else ''}"
        )


def folder(data: Data) -> Path:
    return cache_folder(data.cache) / "packed"


def find(data: Data, name: str) -> ArrayDataset | None:
    """The pack `name`, if it is there and whole, in memory if it fits.

    A damaged one is as good as none, and is built again.
    """
    where = folder(data)
    try:
        header = json.loads((where / f"{name}.json").read_bytes())
        body = header["body"]
        if header["sha256"] != _digest(body):
            return None
        shape = tuple(body["shape"])
        dtype = _dtype(body.get("dtype", BYTES.str))
        path = where / f"{name}.u8"
        if path.stat().st_size != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            return None
        labels = None
        if body["labels_sha256"] is not None:
            raw = (where / f"{name}.labels.npy").read_bytes()
            if hashlib.sha256(raw).hexdigest() != body["labels_sha256"]:
                return None
            labels = np.load(io.BytesIO(raw), allow_pickle=False)
        skipped = tuple((name, reason) for name, reason in body["skipped"])
        _used(where / f"{name}.json")
        values = map_file(path, dtype, shape)
        if fits_in_memory(values.nbytes, data):
            values = np.array(values)
            if body.get("crc32") not in (None, zlib.crc32(_raw(values))):  # None: packed before there were checksums
                return None
        return ArrayDataset(values, labels, tuple(body["class_names"]), skipped, tuple(body["notes"]))
    except (OSError, ValueError, KeyError, TypeError):  # absent, cut short or overwritten, in whatever way
        return None


def _dtype(written: str | list) -> np.dtype:
    """The inverse of `_written`."""
    return np.dtype(written if isinstance(written, str) else [(name, kind, tuple(s)) for name, kind, s in written])


def _written(dtype: np.dtype) -> str | list:
    """A type for JSON; of a structured one the name, type and shape of every field."""
    return dtype.str if dtype.names is None else [list(field) for field in dtype.descr]


def _raw(values: np.ndarray) -> memoryview:
    """The bytes of an array, one after the other."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _pack(plan: Plan, blocks: Iterable[Block], where: Path, name: str) -> None:
    """Write the pack `name`."""
    with _explained(where):
        where.mkdir(parents=True, exist_ok=True)
        _sweep(where)
        if shutil.disk_usage(where).free < plan.bytes:
            raise OSError(errno.ENOSPC, "not enough room", str(where))
    kept: list[np.ndarray] = []
    skipped = list(plan.refused)
    n = checksum = 0
    with _explained(where), _whole_file(where / f"{name}.u8") as file:
        for block in blocks:
            # written, not mapped: on a full disk a write fails, but a store into a mapped page kills the process
            raw = _raw(block.values)
            file.write(raw)
            checksum = zlib.crc32(raw, checksum)
            n += len(block.values)
            kept.append(block.kept)
            skipped.extend(block.skipped)
        _enough(n, skipped, plan)
    labels_sha256 = None
    if plan.labels is not None:
        packed = io.BytesIO()
        np.save(packed, plan.labels[np.concatenate(kept)], allow_pickle=False)
        labels_sha256 = hashlib.sha256(packed.getvalue()).hexdigest()
        with _explained(where), _whole_file(where / f"{name}.labels.npy") as file:
            file.write(packed.getvalue())
    body = {
        "source": plan.where,
        "shape": [n, *plan.shape],
        "crc32": checksum,
        "labels_sha256": labels_sha256,
        "class_names": list(plan.class_names),
        "skipped": [list(pair) for pair in skipped],
        "notes": list(plan.notes()),
    }
    if plan.dtype != BYTES:
        body["dtype"] = _written(plan.dtype)
    with _explained(where), _whole_file(where / f"{name}.json") as file:
        file.write(json.dumps({"sha256": _digest(body), "body": body}, indent=1).encode())


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that gets its name only when it is whole and on the disk; else nothing stays of it."""
    temporary = path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except PermissionError:
            # Windows: another process has mapped a pack of this name, which holds the same bytes
            if not path.exists() or path.stat().st_size != temporary.stat().st_size:
                raise
    finally:
        temporary.unlink(missing_ok=True)
    if os.name != "nt":
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _used(header: Path) -> None:
    """Note that a pack is in use."""
    with suppress(OSError):  # a cache that cannot be written cannot be swept either
        os.utime(header)


def held(where: Path) -> tuple[int, int]:
    """How many packs the folder holds, and the bytes of all their files."""
    count = size = 0
    for path in (path for paths in _ours(where).values() for path in paths):
        with suppress(OSError):  # swept by another process meanwhile
            size += path.stat().st_size
            count += path.suffix == ".json"
    return count, size


def _ours(where: Path) -> dict[str, list[Path]]:
    """The files of each pack by its name, the header last; what a builder has begun, each by its own."""
    packs: dict[str, list[Path]] = {}
    for path in sorted(where.iterdir(), reverse=True) if where.is_dir() else ():
        if matched := OURS.fullmatch(path.name):
            packs.setdefault(path.name if matched["begun"] else matched["name"], []).append(path)
    return packs


def _sweep(where: Path) -> None:
    """Remove what killed builders left, and the packs that nobody has used for long."""
    for name, paths in _ours(where).items():
        try:
            if min(map(_age, paths)) > (STALE_SECONDS if name.startswith(".tmp-") else UNUSED_SECONDS):
                for path in paths:
                    path.unlink()
        except OSError:
            continue  # another builder was quicker, or Windows keeps a file that is still open


def _age(path: Path) -> float:
    """Seconds since the file was written or used."""
    return time.time() - path.stat().st_mtime


@contextmanager
def _explained(where: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error with a remedy."""
    remedy = "give another place with --cache DIR or ZEROSUM_CACHE, or a smaller --size or --limit"
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"the disk of the packed cache {where} is full: free some space, or {remedy}") from error
        raise UserError(f"cannot write the packed cache {where} ({error.strerror or error}): {remedy}") from error
