"""IDX files, the format of MNIST: a magic number, the lengths, then the values, all big-endian; plain or gzip."""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from zerosum.data.mapped import map_file
from zerosum.errors import UserError

UBYTE = 0x08
KINDS = (UBYTE, 0x09, 0x0B, 0x0C, 0x0D, 0x0E)  # the types that the format knows


@dataclass(frozen=True)
class Idx:
    """The header of an IDX file of unsigned bytes, and how to open what follows it."""

    path: Path
    shape: tuple[int, ...]

    @property
    def packed(self) -> bool:
        return _is_gzip(self.path)

    @property
    def offset(self) -> int:
        return 4 + 4 * len(self.shape)

    def values(self) -> np.ndarray:
        """All values, uint8: read if packed, else mapped. UserError if the file is not as long as its header says."""
        try:
            with open_stream(self.path) as file:
                if not self.packed:
                    file.seek(self.offset + math.prod(self.shape))
                    ends(file, self.path)
                    return map_file(self.path, np.uint8, self.shape, self.offset)
                file.seek(self.offset)
                # what the header promises and no more: a gzip may unpack to anything
                raw = file.read(math.prod(self.shape))
                ends(file, self.path)
            return np.frombuffer(raw, dtype=np.uint8).reshape(self.shape)
        except UserError:
            raise
        except Exception as error:  # wrong checksums, streams cut short, sizes that do not agree: damaged all the same
            raise damaged(self.path, f"{error}") from error


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not a whole IDX file ({why}): fetch or write it again")


def ends(file: IO[bytes], path: Path) -> None:
    """UserError if there is more in the file than was announced: then the header is not this file's."""
    if file.read(1):
        raise damaged(path, "it is longer than its header says")


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def open_stream(path: Path) -> IO[bytes]:
    return gzip.open(path) if _is_gzip(path) else open(path, "rb")  # type: ignore[return-value]


def looks_like_idx(path: Path) -> bool:
    """True if the file begins as IDX files do (a gzip is taken at its word)."""
    if _is_gzip(path):
        return True
    with open(path, "rb") as file:
        head = file.read(4)
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in KINDS


def header(path: Path) -> Idx:
    """Read the header. UserError if it is not one, or not of unsigned bytes."""
    try:
        with open_stream(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0":
                raise damaged(path, f"it begins with {magic.hex(' ') or 'nothing'} instead of 00 00")
            kind, dimensions = magic[2], magic[3]
            if kind != UBYTE:
                raise UserError(f"{path} holds values of IDX type 0x{kind:02x}; only unsigned bytes (0x08) are read")
            if not 1 <= dimensions <= 4:
                raise damaged(path, f"it claims {dimensions} dimensions")
            raw = file.read(4 * dimensions)
            if len(raw) < 4 * dimensions:
                raise damaged(path, "the header is cut short")
    except UserError:
        raise
    except Exception as error:  # gzip raises OSError, EOFError or zlib.error
        raise damaged(path, f"{error}") from error
    return Idx(path, struct.unpack(f">{dimensions}I", raw))


def labels_beside(path: Path) -> np.ndarray | None:
    """The labels that belong to a file of images by the usual name (train-labels-idx1-ubyte), or None."""
    if "images" not in path.name:
        return None
    stem = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    for name in (stem, f"{stem}.gz"):
        beside = path.with_name(name)
        if beside.is_file():
            found = header(beside)
            if len(found.shape) != 1:
                raise UserError(f"{beside} should hold labels, but has {len(found.shape)} dimensions")
            return np.array(found.values())
    return None
