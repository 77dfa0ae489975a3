"""Files are whole or not there, and what the disk refuses is said."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zerosum import atomic
from zerosum.errors import UserError

Write = Callable[[Path], None]


def operations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the hook will have been told."""
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(atomic, "hook", lambda operation, path: seen.append((operation, path.name)))
    return seen


def fail(monkeypatch: pytest.MonkeyPatch, operation: str, number: int = errno.ENOSPC) -> None:
    """Let every such operation fail."""

    def hook(name: str, path: Path) -> None:
        if name == operation:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic, "hook", hook)


def test_names_of_files_stay_apart() -> None:
    assert atomic.safe_names(["T-shirt/top", "Bag"]) == ["T-shirt_top", "Bag"]
    assert atomic.safe_names(["a/b", "a?b", "c"]) == ["0-a_b", "1-a_b", "2-c"]
    assert atomic.safe_names(["Cat", "cat"]) == ["0-Cat", "1-cat"], "one on disks that know no capitals"


def test_file_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forced to the disk before it gets its name, and the name after."""
    seen = operations(monkeypatch)
    path = tmp_path / "new" / "file"
    atomic.write_file(path, b"one")
    assert path.read_bytes() == b"one"
    temporary = seen[0][1]
    assert seen == [("write", temporary), ("fsync", temporary), ("rename", "file"), ("fsync", "new")]
    assert temporary.startswith(".tmp-file-")
    atomic.write_file(path, b"")
    assert path.read_bytes() == b""
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_folder_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = operations(monkeypatch)
    path = tmp_path / "all" / "one"
    atomic.write_folder(path, {"a": b"1", "b": b"2"})
    assert {p.name: p.read_bytes() for p in path.iterdir()} == {"a": b"1", "b": b"2"}
    within = [("write", "a"), ("fsync", "a"), ("write", "b"), ("fsync", "b")]
    assert seen == [*within, ("fsync", seen[4][1]), ("rename", "one"), ("fsync", "all")]


def test_large_file_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "CHUNK", 10)
    seen = operations(monkeypatch)
    atomic.write_file(tmp_path / "file", bytes(range(25)))
    assert [operation for operation, _ in seen].count("write") == 3
    assert (tmp_path / "file").read_bytes() == bytes(range(25))


def test_folder_is_never_replaced(tmp_path: Path) -> None:
    atomic.write_folder(tmp_path / "one", {"a": b"1"})
    with pytest.raises(FileExistsError):
        atomic.write_folder(tmp_path / "one", {"a": b"2"})
    assert (tmp_path / "one" / "a").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("operation", ["write", "fsync", "rename"])
def test_full_disk(operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays, nothing half-made is left, and the message says what to do."""
    path = tmp_path / "file"
    atomic.write_file(path, b"old")
    atomic.write_folder(tmp_path / "kept", {"a": b"1"})
    fail(monkeypatch, operation)
    writers: list[Write] = [
        lambda path: atomic.write_file(path, b"new"),
        lambda path: atomic.write_folder(path.with_name("folder"), {"a": b"1"}),
    ]
    for write in writers:
        with pytest.raises(UserError, match="the disk is full; what was saved before is intact: free some"):
            write(path)
        assert path.read_bytes() == b"old"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "kept"]


def test_other_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, "write", errno.EROFS)
    with pytest.raises(UserError, match=r"file could not be written: Read-only file system; what"):
        atomic.write_file(tmp_path / "file", b"new")
    (tmp_path / "in the way").write_bytes(b"")
    with pytest.raises(UserError, match="could not be written"):
        atomic.write_file(tmp_path / "in the way" / "file", b"new")
    with pytest.raises(UserError, match="could not be written"):
        atomic.write_folder(tmp_path / "in the way" / "folder", {})
    with pytest.raises(UserError, match="could not be written: No such file"):
        atomic.remove_folder(tmp_path / "none")


def test_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended is there at once, and no part of what did not fit."""
    path = tmp_path / "log"
    atomic.append(path, b"one\n")
    atomic.append(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    seen = operations(monkeypatch)
    atomic.sync(path)
    assert seen == [("fsync", "log")]
    fail(monkeypatch, "write")
    with pytest.raises(UserError, match="the disk is full"):
        atomic.append(path, b"three\n")
    fail(monkeypatch, "fsync")
    with pytest.raises(UserError, match="the disk is full"):
        atomic.sync(path)
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_append_to_a_device_that_is_full() -> None:
    with pytest.raises(UserError, match="the disk is full"):
        atomic.append(Path("/dev/full"), b"one\n")


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may take the first bytes of a line and refuse the rest."""
    path = tmp_path / "log"
    atomic.append(path, b"one\n")
    calls = 0

    def hook(operation: str, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            with open(path, "ab") as file:
                file.write(b"tw")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "hook", hook)
    with pytest.raises(UserError):
        atomic.append(path, b"two\n")
    assert path.read_bytes() == b"one\n"


def test_remove_folder_and_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder goes at one stroke; what a kill leaves of it, or of a write, is swept away, and nothing else."""
    atomic.write_folder(tmp_path / "one", {"a": b"1"})
    seen = operations(monkeypatch)
    atomic.remove_folder(tmp_path / "one")
    assert seen == [("rename", "one")]
    assert list(tmp_path.iterdir()) == []
    half, folder = atomic._temporary(tmp_path / "file"), atomic._temporary(tmp_path / "folder")
    half.write_bytes(b"half")
    folder.mkdir()
    (folder / "a").write_bytes(b"half")
    others = [".hidden", ".tmp-notes", ".tmp-thesis"]
    (tmp_path / ".hidden").write_bytes(b"somebody's")
    (tmp_path / ".tmp-notes").write_bytes(b"somebody's")
    (tmp_path / ".tmp-thesis").mkdir()
    atomic.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == others
    atomic.sweep(tmp_path / "none")
