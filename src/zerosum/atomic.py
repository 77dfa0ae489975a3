"""Files that are whole or not there: written under another name, forced to the disk, then renamed.

`hook` is called before every write, fsync and rename; the tests put one in that kills the process there.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from zerosum.errors import UserError

CHUNK = 1 << 22
_TEMPORARY = re.compile(r"\.tmp-.+-[0-9a-f]{8}")  # what `_temporary` names


def _nothing(operation: str, path: Path) -> None:
    return


hook: Callable[[str, Path], None] = _nothing


def safe_name(text: str) -> str:
    """As the name of a file or folder: letters, digits, spaces, - _ and . as they are, _ for all else."""
    return "".join(c if c.isalnum() or c in " -_." else "_" for c in text).strip(". ") or "_"


def safe_names(texts: Sequence[str]) -> list[str]:
    """`safe_name` of each, no two the same: else all are numbered, even where only capitals tell two apart."""
    names = [safe_name(text) for text in texts]
    alike = len({name.casefold() for name in names}) < len(names)
    return [f"{number}-{name}" for number, name in enumerate(names)] if alike else names


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


def explain(error: OSError, path: Path) -> UserError:
    """What to tell a user whose disk refuses a write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{path} could not be written: the disk is full; what was saved before is intact: "
            "free some space, then go on (a run: with --resume)"
        )
    reason = error.strerror or str(error)
    return UserError(f"{path} could not be written: {reason}; what was saved before is intact")


def write_file(path: Path, data: bytes) -> None:
    """Replace one file by `data`, or leave it as it was. UserError if the disk refuses (it is full, say)."""
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(temporary, data)
        hook("rename", path)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):  # a disk that failed may fail here too; `sweep` comes later
            temporary.unlink(missing_ok=True)
        raise explain(error, path) from error


def append(path: Path, data: bytes) -> None:
    """Add `data` to the end of a file, whole or not at all (a kill aside). UserError if the disk refuses."""
    with open(path, "ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            while data:
                hook("write", path)
                data = data[file.write(data) :]
        except OSError as error:
            with suppress(OSError):  # no half line
                file.truncate(before)
            raise explain(error, path) from error


def sync(path: Path) -> None:
    """Force what was appended to the disk. UserError if the disk refuses."""
    try:
        with open(path, "rb+") as file:
            hook("fsync", path)
            os.fsync(file.fileno())
    except OSError as error:
        raise explain(error, path) from error


def rename(path: Path, target: Path) -> None:
    """Give a complete file its name in the same folder, once it is on the disk. UserError if the disk refuses."""
    sync(path)
    try:
        hook("rename", target)
        os.replace(path, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise explain(error, target) from error


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder with these files, all or nothing. UserError if the disk refuses.

    FileExistsError if it is there: no system replaces a full folder in one move, so none is ever replaced.
    """
    if path.exists():
        raise FileExistsError(path)
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            _write(temporary / name, data)
        _sync_folder(temporary)
        hook("rename", path)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise explain(error, path) from error


def remove_folder(path: Path) -> None:
    """Remove a folder at one stroke: a kill in the middle leaves it whole, or nothing under its name.

    UserError if the disk refuses.
    """
    temporary = _temporary(path)
    try:
        hook("rename", path)
        os.replace(path, temporary)
    except OSError as error:
        raise explain(error, path) from error
    shutil.rmtree(temporary, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a killed writer of ours left half-made; other people's names stay."""
    for left in folder.glob(".tmp-*"):
        if not _TEMPORARY.fullmatch(left.name):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
