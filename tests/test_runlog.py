"""The run folder: the log, the status, and who may write."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zerosum import atomic, runlog
from zerosum.errors import UserError
from zerosum.runlog import (
    EVENTS,
    LOCK,
    STATUS,
    Lock,
    RunLog,
    grid_path,
    grids,
    is_running,
    read_events,
    read_status,
    rewind_events,
    write_status,
)


def test_events(tmp_path: Path) -> None:
    """A line an event, there at once; values come back exactly; what is not finite has no place in JSON."""
    log = RunLog(tmp_path)
    assert read_events(tmp_path) == []
    log.write("progress", 8, loss=0.1 + 0.2, text="naïve\u2028\n", none=None, many=[1, 2])
    log.write("progress", 16, loss=math.nan, gradient=math.inf, norm=1.0)
    assert (tmp_path / EVENTS).read_bytes().count(b"\n") == 2
    assert read_events(tmp_path) == [
        {
            "event": "progress",
            "images_seen": 8,
            "loss": 0.30000000000000004,
            "text": "naïve\u2028\n",
            "none": None,
            "many": [1, 2],
        },
        {"event": "progress", "images_seen": 16, "norm": 1.0},
    ]
    log.sync()
    RunLog(tmp_path).write("probe", 24)
    assert len(read_events(tmp_path)) == 3, "an old log is gone on with"


def test_no_log_yet(tmp_path: Path) -> None:
    assert read_events(tmp_path) == []


def test_line_cut_off_by_a_kill(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write("progress", 8, loss=1.0)
    whole = (tmp_path / EVENTS).read_bytes()
    for length in range(1, len(whole)):
        (tmp_path / EVENTS).write_bytes(whole + whole[:length])
        found = read_events(tmp_path)
        assert len(found) in (1, 2)
        assert found[0] == json.loads(whole)
        rewind_events(tmp_path, 8)
        assert (tmp_path / EVENTS).read_bytes() == whole * len(found)
    (tmp_path / EVENTS).write_bytes(whole + b"\xff\xfe\n3\n")
    assert len(read_events(tmp_path)) == 1


def test_rewind(tmp_path: Path) -> None:
    """What came after the checkpoint goes, and what only an end makes; what stays keeps its bytes."""
    log = RunLog(tmp_path)
    for seen in (0, 8, 16):
        log.write("progress", seen, loss=seen / 3)
    before = (tmp_path / EVENTS).read_bytes()
    log.write("warning", 16, text="back to 16", rolled_back=True)
    log.write("probe", 16, final=True)
    log.write("progress", 24)
    everything = (tmp_path / EVENTS).read_bytes()
    rewind_events(tmp_path, 16)
    assert (tmp_path / EVENTS).read_bytes() == before
    (tmp_path / EVENTS).write_bytes(everything)
    rewind_events(tmp_path, 24)
    kept = read_events(tmp_path)
    assert [e["images_seen"] for e in kept] == [0, 8, 16, 16, 24], "the roll-back to 16 lies before 24"
    (tmp_path / EVENTS).write_bytes(everything)
    rewind_events(tmp_path, 24, ended=True)
    assert (tmp_path / EVENTS).read_bytes() == everything
    rewind_events(tmp_path, -1)
    assert (tmp_path / EVENTS).read_bytes() == b""


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that says so; the log keeps whole lines and can be gone on with."""

    def full(operation: str, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = RunLog(tmp_path)
    log.write("progress", 8)
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "hook", full)
        for attempt in (lambda: log.write("progress", 16), log.sync):
            with pytest.raises(UserError, match=r"events.jsonl could not be written: the disk is full"):
                attempt()
        with pytest.raises(UserError, match="the disk is full"):
            rewind_events(tmp_path, 0)
        with pytest.raises(UserError, match="the disk is full"):
            write_status(tmp_path, "running", 8, 1.0)
    log.write("progress", 16)
    assert [e["images_seen"] for e in read_events(tmp_path)] == [8, 16]


def test_grids(tmp_path: Path) -> None:
    assert grids(tmp_path) == []
    for seen in (1_000_000, 8, 0):
        grid_path(tmp_path, seen).parent.mkdir(exist_ok=True)
        grid_path(tmp_path, seen).write_bytes(b"")
    (tmp_path / "samples" / "mine.png").write_bytes(b"")
    (tmp_path / "samples" / ".tmp-000000000016.png-ab").write_bytes(b"")
    assert [int(p.stem) for p in grids(tmp_path)] == [0, 8, 1_000_000]


# ---- status and lock ----------------------------------------------------------------------------------------------


def test_status(tmp_path: Path) -> None:
    write_status(tmp_path, "failed", 8, 1.23456, "why")
    assert read_status(tmp_path) == {"state": "failed", "images_seen": 8, "seconds": 1.235, "text": "why"}
    assert list(tmp_path.iterdir()) == [tmp_path / STATUS]


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"state": 3}', '{"state": "finished"}', "\x00"])
def test_an_odd_status_stops_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / STATUS).write_text(text)
    assert read_status(tmp_path) == {"state": "stopped", "images_seen": 0, "seconds": 0.0, "text": "killed"}


def test_running_means_somebody_holds_the_lock(tmp_path: Path) -> None:
    write_status(tmp_path, "running", 8, 1.0)
    killed = {"state": "stopped", "images_seen": 8, "seconds": 1.0, "text": "killed"}
    assert read_status(tmp_path) == killed
    lock = Lock(tmp_path)
    assert is_running(tmp_path)
    assert read_status(tmp_path)["state"] == "running"
    lock.release()
    assert not is_running(tmp_path)
    assert read_status(tmp_path) == killed
    write_status(tmp_path, "finished", 8, 1.0)
    assert read_status(tmp_path)["state"] == "finished"


def test_status_before_it_is_written(tmp_path: Path) -> None:
    """A run that has just begun runs; one that was killed before its first word was killed."""
    assert read_status(tmp_path)["state"] == "stopped"
    lock = Lock(tmp_path)
    assert read_status(tmp_path) == {"state": "running", "images_seen": 0, "seconds": 0.0, "text": ""}
    (tmp_path / STATUS).write_bytes(b"")
    assert read_status(tmp_path)["state"] == "running"
    lock.release()


def test_lock_is_for_one(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "new")
    with pytest.raises(UserError, match="another process is training here; stop it or choose another --out"):
        Lock(tmp_path / "new")
    lock.release()
    Lock(tmp_path / "new").release()


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_lock_goes_with_its_process(tmp_path: Path) -> None:
    """However the process ends, and though the file stays."""
    program = (
        "import sys, time; from pathlib import Path; from zerosum.runlog import Lock;"
        "lock = Lock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"locked\n"
        assert is_running(tmp_path)
        with pytest.raises(UserError):
            Lock(tmp_path)
        process.kill()
        process.wait()
    assert (tmp_path / LOCK).exists()
    assert not is_running(tmp_path)
    Lock(tmp_path).release()


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There one has to take care oneself."""

    def claim(file: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(runlog, "_claim", claim)
    lock = Lock(tmp_path)
    assert not is_running(tmp_path)
    lock.release()


def test_looking_needs_no_permission_and_disturbs_nobody(tmp_path: Path) -> None:
    """`zerosum list` looks at runs of others, and at the moment when somebody starts."""
    Lock(tmp_path).release()
    (tmp_path / LOCK).chmod(0o444)
    assert not is_running(tmp_path)
    (tmp_path / LOCK).chmod(0o644)
    before = (tmp_path / LOCK).stat().st_mtime_ns
    for _ in range(20):
        is_running(tmp_path)
    assert (tmp_path / LOCK).stat().st_mtime_ns == before
    assert not is_running(tmp_path / "none")
    assert not (tmp_path / "none").exists()
