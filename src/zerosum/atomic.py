"""Files that are whole or not there: written under another name, forced to the disk, then renamed.

`hook` is called before every write, fsync and rename; the tests put one in that kills the process there.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from zerosum.errors import UserError

CHUNK = 1 << 22


def _nothing(operation: str, path: Path) -> None:
    return


hook: Callable[[str, Path], None] = _nothing


def _temporary(path: Path) -> Path:
    return path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:8]}")


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        for start in range(0, max(len(data), 1), CHUNK):
            hook("write", path)
            file.write(data[start : start + CHUNK])
        file.flush()
        hook("fsync", path)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    hook("fsync", folder)
    if os.name == "nt":  # a folder cannot be opened there, and its entries are journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"the disk is full: {path} could not be written; what was saved before is intact: free some space, "
            "then go on with --resume"
        )
    return error


def write_file(path: Path, data: bytes) -> None:
    """Replace one file by `data`, or leave it as it was. UserError if the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        _write(temporary, data)
        hook("rename", path)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _explain(error, path) from error


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder with these files, all or nothing; an older folder of that name is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        for name, data in files.items():
            _write(temporary / name, data)
        _sync_folder(temporary)
        if path.exists():
            shutil.rmtree(path)
        hook("rename", path)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _explain(error, path) from error


def sweep(folder: Path) -> None:
    """Remove what a killed writer left half-made."""
    for left in folder.glob(".tmp-*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
