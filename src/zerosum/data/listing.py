"""Which image files a folder or an archive holds, in an order that does not change, and how to read each.

Nothing is ever unpacked to disk, so an archive cannot write outside its place. Hidden files and __MACOSX are
passed over.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from zerosum.data import dicom
from zerosum.data.picture import SUFFIXES, Broken
from zerosum.errors import UserError

MAX_FILE = 1 << 28  # bytes: an image file that unpacks to more than this is taken for a decompression bomb
MAX_TAR = 1 << 30  # bytes: a packed tar has no index, so its image files are held in memory


@dataclass(frozen=True)
class Item:
    """One image file: its path inside the source (with /), its size in bytes, and a mark that changes with it."""

    name: str
    bytes: int
    stamp: int


@dataclass(frozen=True)
class Listing:
    """The image files of one source, sorted by name, and the function that reads one (raises Broken)."""

    where: str  # for messages
    identity: str  # what tells this source from another with the same names, for the cache
    items: tuple[Item, ...]
    read: Callable[[Item], bytes]
    others: tuple[str, ...] = ()  # names of some other files found, for helpful errors
    refused: tuple[tuple[str, str], ...] = ()  # images that are not items, by name and reason

    def keep(self, chosen: list[Item]) -> Listing:
        return replace(self, items=tuple(chosen))


def printable(name: str) -> str:
    """A file name that any terminal or log can take, on one line: what is not UTF-8, or not seen, becomes a `?`."""
    text = name.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)


def _wanted(name: str, suffixes: frozenset[str] = SUFFIXES) -> bool:
    return PurePosixPath(name).suffix.lower() in suffixes


def _bare(name: str, suffixes: frozenset[str]) -> bool:
    """Whether it may be a DICOM image, of which many have no suffix: only its content can tell."""
    path = PurePosixPath(name)  # a DICOMDIR is the list of the others
    return not path.suffix and path.name != "DICOMDIR" and suffixes.issuperset(dicom.SUFFIXES)


def _is_dicom(opened: Callable[..., IO[bytes]], *where: Any) -> bool:
    """Whether a file, as it is opened for reading bytes, begins as DICOM does; one that cannot be read does not."""
    try:
        with opened(*where) as file:
            return file.read(dicom.PREFIX_AT + len(dicom.PREFIX))[dicom.PREFIX_AT :] == dicom.PREFIX
    except Exception:  # of a zip almost anything
        return False


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _answers(question: Callable[[], bool]) -> bool:
    """False where the system cannot say: at a link that leads to itself, or into a place closed to us."""
    try:
        return question()
    except OSError:
        return False


def folder(path: Path, suffixes: frozenset[str] = SUFFIXES) -> Listing:
    """All files of these suffixes in a folder and its sub-folders. Links are followed, no folder is visited twice.

    With DICOM's suffixes among them also DICOM files that have none.
    """
    items: list[Item] = []
    others: list[str] = []
    visited: set[tuple[int, int]] = set()
    waiting = [(path, "")]
    while waiting:
        here, prefix = waiting.pop()
        try:
            status = here.stat()
            # Windows before Python 3.12 may give 0 for both; there links to folders are rare
            place = (status.st_dev, status.st_ino)
            if place in visited and place != (0, 0):
                continue
            visited.add(place)
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(
                f"cannot read the folder {here}: {error.strerror or error}; check its permissions"
            ) from error
        inner = []
        for entry in entries:
            name = prefix + entry.name
            if _hidden(entry.name):
                continue
            if _answers(entry.is_dir):
                inner.append((here / entry.name, name + "/"))
            elif _answers(entry.is_file) and (
                _wanted(name, suffixes) or (_bare(name, suffixes) and _is_dicom(open, entry.path, "rb"))
            ):
                status = entry.stat()
                items.append(Item(name, status.st_size, status.st_mtime_ns))
            elif entry.is_symlink() and _wanted(name, suffixes) and not os.path.exists(entry.path):
                items.append(Item(name, 0, 0))  # a link to nothing: reading it will name it
            else:
                others.append(name)
        waiting.extend(reversed(inner))

    def read(item: Item) -> bytes:
        try:
            return (path / item.name).read_bytes()
        except OSError as error:
            raise Broken(error.strerror or str(error)) from error

    items.sort(key=lambda item: item.name)
    return Listing(str(path), str(path.resolve()), tuple(items), read, tuple(others[:20]))


def zip_file(path: Path, suffixes: frozenset[str] = SUFFIXES) -> Listing:
    """All files of these suffixes in a zip, and of DICOM's as in a folder, read where they are."""
    try:
        archive = zipfile.ZipFile(path)
        members = {info.filename.replace("\\", "/"): info for info in archive.infolist()}
    except Exception as error:  # a damaged index raises almost anything; the file as a whole cannot be used
        raise UserError(
            f"cannot read {path} as a zip ({_short(error)}): it is damaged; make or fetch it again"
        ) from error
    items, others, refused = [], [], []
    for name, info in sorted(members.items()):
        parts = name.split("/")
        # Would lie outside the zip's own folder, on Windows by a drive's letter (C:): named, never read.
        outside = ".." in parts or parts[0] == "" or ":" in name
        if info.is_dir() or (any(_hidden(part) for part in parts) and not outside):
            continue
        if not (_wanted(name, suffixes) or (_bare(name, suffixes) and _is_dicom(archive.open, info))):
            others.append(name)
        elif outside:
            colon = " (a colon may name a drive)" if ":" in name else ""
            refused.append((printable(name), f"by its path it lies outside the zip{colon}"))
        else:
            items.append(Item(name, info.file_size, info.CRC))

    def read(item: Item) -> bytes:
        if item.bytes > MAX_FILE:
            raise Broken(f"unpacks to {item.bytes / 2**20:.0f} MB, more than the limit of {MAX_FILE >> 20} MB")
        try:
            return archive.read(members[item.name])
        except Exception as error:  # wrong checksums, unknown methods, passwords: all mean that this one is broken
            raise Broken(f"cannot be unpacked ({_short(error)})") from error

    status = path.stat()
    identity = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    return Listing(str(path), identity, tuple(items), read, tuple(others[:20]), tuple(refused))


def tar_file(path: Path) -> Listing:
    """All image files in a tar, plain or packed; they are held in memory as they are."""
    held: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not member.isfile() or not _wanted(name) or any(_hidden(part) for part in name.split("/")):
                    continue
                total += member.size
                if member.size > MAX_FILE or total > MAX_TAR:
                    raise UserError(f"{path} is too large to be read packed: unpack it and give the folder")
                opened = archive.extractfile(member)
                held[name] = opened.read() if opened is not None else b""
    except UserError:
        raise
    except Exception as error:  # as with a zip
        raise UserError(f"cannot read {path} as a tar ({_short(error)}): it is damaged; fetch it again") from error
    status = path.stat()
    identity = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    items = tuple(Item(name, len(held[name]), 0) for name in sorted(held))
    return Listing(str(path), identity, items, lambda item: held[item.name])


def _short(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
