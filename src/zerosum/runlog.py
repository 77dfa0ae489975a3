"""The run folder: names of its files, the event log, the state that `zerosum list` shows, and one writer at a time."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from pathlib import Path
from typing import IO, Any, Literal

from zerosum import atomic
from zerosum.errors import UserError

RECIPE, EVENTS, STATUS, ENVIRONMENT, LOCK = "recipe.json", "events.jsonl", "status.json", "environment.json", "lock"
REAL, FILM, LOOP = "real.png", "film.mp4", "film.gif"
REPORT, REPORT_DATA = "report.html", "report.json"
EVALUATION, NEAREST, EQUILIBRIUM = "evaluation.json", "evaluation-nearest.png", "equilibrium.json"
ROWS = {"A2B": "evaluation-A2B.png", "B2A": "evaluation-B2A.png"}  # of a translator: examples, by direction
State = Literal["running", "stopped", "finished", "failed"]

if os.name == "nt":
    import msvcrt

    def _claim(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
else:
    import fcntl

    def _claim(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock(file: IO[str]) -> bool:
    """Lock an open file; False if another process has it. On file systems without locks everybody gets it."""
    try:
        _claim(file)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def grid_path(run: Path, images_seen: int) -> Path:
    """The sample grid of the fixed latents at a point of the run."""
    return run / "samples" / f"{images_seen:012d}.png"


def grids(run: Path) -> list[Path]:
    """All sample grids, oldest first."""
    return sorted(p for p in (run / "samples").glob("*.png") if p.stem.isdigit())


class Lock:
    """Held by the process that writes a run folder; gone with the process, however it ends."""

    def __init__(self, run: Path) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self._file = open(run / LOCK, "a", encoding="utf-8")  # noqa: SIM115 - held until release
        for attempt in reversed(range(5)):  # who only looks (`is_running`) holds it for an instant too
            if _lock(self._file):
                return
            if attempt:
                time.sleep(0.02)
        self._file.close()
        raise UserError(f"{run}: another process is training here; stop it or choose another --out")

    def release(self) -> None:
        self._file.close()


def is_running(run: Path) -> bool:
    """Whether a live process holds the run's lock."""
    try:
        file = open(run / LOCK, encoding="utf-8")  # noqa: SIM115 - closed below; to read: any user may look
    except OSError:
        return False
    with file:
        return not _lock(file)


class RunLog:
    """Appends events to `events.jsonl`, one JSON object a line: {"event", "images_seen", ...}.

    A value that is not finite is left out: JSON has no word for it. UserError if the disk refuses.

    Lines are pushed to the disk by `sync`, which the trainer calls before each checkpoint: so every event up to a
    checkpoint is there if the checkpoint is.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / EVENTS
        self.path.touch()

    def write(self, event: str, images_seen: int, **values: Any) -> None:
        known = {k: v for k, v in values.items() if not isinstance(v, float) or math.isfinite(v)}
        line = json.dumps({"event": event, "images_seen": images_seen, **known}, allow_nan=False)
        atomic.append(self.path, (line + "\n").encode())

    def sync(self) -> None:
        atomic.sync(self.path)


def read_events(run: Path) -> list[dict[str, Any]]:
    """All whole lines of the log; a last line cut off by a kill is left out."""
    try:
        text = (run / EVENTS).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # only a killed writer leaves such a line, and only the last
        if isinstance(event, dict):
            events.append(event)
    return events


def rewind_events(run: Path, images_seen: int, *, ended: bool = False) -> None:
    """Drop what was logged after the checkpoint at `images_seen`, which the run goes on from.

    So goes what only the end of a run logs ("final"), unless the run has `ended` there, and the word of a
    roll-back to that very checkpoint ("rolled_back"): it comes after it though it bears the same number, and
    will come again.
    """

    def before(event: dict[str, Any]) -> bool:
        seen = event.get("images_seen", 0)
        later = seen > images_seen or (seen == images_seen and event.get("rolled_back"))
        return not later and (ended or not event.get("final"))

    kept = [event for event in read_events(run) if before(event)]
    atomic.write_file(run / EVENTS, "".join(json.dumps(e) + "\n" for e in kept).encode())


def write_status(run: Path, state: State, images_seen: int, seconds: float, text: str = "") -> None:
    status = {"state": state, "images_seen": images_seen, "seconds": round(seconds, 3), "text": text}
    atomic.write_file(run / STATUS, json.dumps(status).encode())


def _kinds(value: Any) -> tuple[type, ...]:
    return (int, float) if isinstance(value, int | float) else (type(value),)


def read_status(run: Path) -> dict[str, Any]:
    """The last written state; "running" without a live process becomes "stopped" (it was killed).

    It is a note for people: whatever is wrong with the file, nobody is stopped by it.
    """
    status: dict[str, Any] = {"state": "running", "images_seen": 0, "seconds": 0.0, "text": ""}
    try:
        written = json.loads((run / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not written yet, or by a process that was killed before
        written = None
    if isinstance(written, dict) and all(type(written.get(name)) in _kinds(value) for name, value in status.items()):
        status |= written
    if status["state"] == "running" and not is_running(run):
        status |= {"state": "stopped", "text": "killed"}
    return status
