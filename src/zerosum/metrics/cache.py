"""What has been worked out before, kept by what it depends on: features, statistics, classifiers.

One safetensors file an entry, `KIND/KEY.safetensors`, in the user's cache folder. The key is a hash of everything that
decides the content, so an entry is never wrong, only there or not; a damaged one is as good as none and is made again.
All of it may be deleted at any time. Nothing leaves the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from torch import Tensor

from zerosum import atomic
from zerosum.data.cache import cache_folder
from zerosum.errors import UserError

FOLDER = "evidence"
ABOUT = "zerosum"  # the entry of the file's own metadata that holds ours

Kept = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and plain JSON values about them."""


@dataclass(frozen=True)
class Cache:
    """A folder of entries; `Cache(None)` keeps nothing. What cannot be written is not kept, and `notes` says so."""

    folder: Path | None
    notes: list[str] = field(default_factory=list, compare=False)

    def get(self, kind: str, key: str) -> Kept | None:
        """An entry, verified; None if there is none, or none that is whole."""
        if self.folder is None:
            return None
        path = self._path(self.folder, kind, key)
        try:
            data = path.read_bytes()
            about = _about(data)
            tensors = safetensors.torch.load(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            self._damaged(path, str(error))
            return None
        if about["sha256"] != _seal(tensors, about["about"]):
            self._damaged(path, "it does not match its checksum")
            return None
        return tensors, about["about"]

    def put(self, kind: str, key: str, tensors: dict[str, Tensor], about: dict[str, Any] | None = None) -> None:
        """Keep an entry, whole or not at all."""
        if self.folder is None:
            return
        about = about or {}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        record = json.dumps({"sha256": _seal(tensors, about), "about": about}, allow_nan=False)
        try:
            atomic.write_file(
                self._path(self.folder, kind, key), safetensors.torch.save(tensors, metadata={ABOUT: record})
            )
        except UserError as error:  # a full or read-only disk costs time later, not the result now
            self._note(f"not kept for the next time: {error}")

    def made(self, kind: str, key: str, make: Callable[[], Kept]) -> Kept:
        """The entry, from the cache or made now and kept."""
        found = self.get(kind, key)
        if found is None:
            found = make()
            self.put(kind, key, *found)
        return found

    def size(self) -> int:
        """Bytes of all entries."""
        if self.folder is None or not self.folder.is_dir():
            return 0
        return sum(path.stat().st_size for path in self.folder.rglob("*.safetensors"))

    @staticmethod
    def _path(folder: Path, kind: str, key: str) -> Path:
        return folder / kind / f"{key}.safetensors"

    def _damaged(self, path: Path, why: str) -> None:
        self._note(f"{path} is damaged ({why}) and was made again")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def open_cache(folder: str | None = None, *, keep: bool = True) -> Cache:
    """The user's cache (`folder`, ZEROSUM_CACHE, or the platform's place), or one that keeps nothing."""
    return Cache(cache_folder(folder) / FOLDER if keep else None)


def address(*parts: object) -> str:
    """SHA-256, hex, of plain values: the key of what depends on them and nothing else."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def hash_of_values(values: np.ndarray) -> str:
    """SHA-256, hex, of the shape, type and bytes of images or points."""
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape};".encode())
    for start in range(0, len(values), 1024):
        digest.update(np.ascontiguousarray(values[start : start + 1024]).tobytes())
    return digest.hexdigest()


def _about(data: bytes) -> dict[str, Any]:
    """Our record in the header of a safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"][ABOUT])


def _seal(tensors: dict[str, Tensor], about: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
