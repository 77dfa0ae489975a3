"""Whatever happens in the middle of a write, nothing saved is lost and the run goes on exactly.

A kill, or a full disk, at every single write, fsync and rename of a run: checkpoints, log, status, grids.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import little_runs
from little_runs import (
    Count,
    DieAt,
    FullAt,
    Processes,
    assert_equal_runs,
    in_fork,
    leftovers,
    recipe,
    train,
    train_with_hook,
)
from zerosum import checkpoint
from zerosum.networks import MLP
from zerosum.run import Run
from zerosum.runlog import read_events, read_status

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")


Whole = tuple[Path, list[tuple[str, str]]]


def short() -> Run:
    """Five steps: checkpoints at 0, 16, 32 and the end, so that old ones are removed; grids at 0, 32, the end."""
    run = recipe("gan", 5, log_every=16, checkpoint_every=16, grid_every=32)
    return replace(run, algorithm=replace(run.algorithm, networks=MLP(latent=4, width=4, depth=1)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run without faults, and every operation that it made."""
    folder = tmp_path_factory.mktemp("whole")
    processes = Processes(folder)
    processes.must(train_with_hook, short(), folder / "run", Count(folder / "operations"))
    processes.close()
    lines = (folder / "operations").read_text().splitlines()
    return folder / "run", [tuple(json.loads(line)) for line in lines]


def assert_whole_checkpoints(out: Path) -> None:
    """What has the name of a checkpoint is one."""
    for number in checkpoint.numbers(out):
        checkpoint.load(checkpoint.path_of(out, number))


def test_operations_are_all_seen(whole: Whole) -> None:
    """The hook sees each kind of file written, forced to the disk, and renamed."""
    _, operations = whole
    for name in ("recipe.json", "status.json", "000000000032.png", "real.png"):
        assert ("rename", name) in operations
    for number in (0, 16, 32, 40):
        assert ("rename", f"{number:012d}") in operations
    assert operations.count(("write", "tensors.safetensors")) == 4
    assert operations.count(("fsync", "tensors.safetensors")) == 4
    assert operations.count(("write", "state.json")) == operations.count(("fsync", "state.json")) == 4
    assert operations.count(("fsync", "checkpoints")) == 4
    assert operations.count(("fsync", "events.jsonl")) == 4
    assert operations.count(("write", "events.jsonl")) > 4


def everywhere(processes: Processes, job: Callable[..., None], count: int, *args: object) -> None:
    """Do the job for 0 .. count-1, in two processes."""
    both = [processes.start(job, range(first, count, 2), *args) for first in (0, 1)]
    for process in both:
        code, text = processes.end(process)
        assert code == 0, text


def survive_kills(numbers: range, straight: Path, folder: Path, begun: Path | None) -> None:
    """Play a run, or go on with a copy of `begun`, killed at operation n; then to the end."""
    for n in numbers:
        out = folder / f"{n}"
        if begun:
            shutil.copytree(begun, out)
        code, text = in_fork(train_with_hook, short(), out, DieAt(n), said=folder / f"{n}.txt")
        assert code == -signal.SIGKILL, (n, text)
        assert_whole_checkpoints(out)
        assert not begun or checkpoint.numbers(out)[-1] >= 32, "nothing is lost"
        train(short(), out)
        assert_equal_runs(straight, out)
        shutil.rmtree(out)


def test_killed_at_every_operation(whole: Whole, tmp_path: Path, processes: Processes) -> None:
    straight, operations = whole
    everywhere(processes, survive_kills, len(operations), straight, tmp_path, None)


def test_killed_at_every_operation_of_a_resumed_run(whole: Whole, tmp_path: Path, processes: Processes) -> None:
    """From a folder with everything that a resumed run has to clear away: later events, grids and leftovers."""
    straight, operations = whole
    begun, counted = tmp_path / "begun", tmp_path / "counted"
    last = max(n for n, (operation, name) in enumerate(operations) if (operation, name) == ("rename", f"{40:012d}"))
    processes.run(train_with_hook, short(), begun, DieAt(last))
    assert leftovers(begun)
    assert read_events(begun)[-1]["images_seen"] == 40
    shutil.copytree(begun, counted)
    processes.must(train_with_hook, short(), counted, Count(tmp_path / "operations"))
    assert_equal_runs(straight, counted)
    count = len((tmp_path / "operations").read_text().splitlines())
    everywhere(processes, survive_kills, count, straight, tmp_path, begun)


def survive_full_disks(numbers: range, straight: Path, folder: Path, operations: list[tuple[str, str]]) -> None:
    """The run ends with an error that says so, nothing half-made stays behind, and it can go on."""
    for n in numbers:
        out, where, ever_after = folder / f"{n}", (n, *operations[n]), n % 6 == 0
        code, text = in_fork(train_with_hook, short(), out, FullAt(n, ever_after), said=folder / f"{n}.txt")
        assert code == 2, (where, text)
        assert "could not be written: the disk is full; what was saved before is intact" in text, (
            where,
            text,
        )
        assert "Traceback" not in text, (where, text)
        assert leftovers(out) == [], where
        assert_whole_checkpoints(out)
        if (out / "status.json").exists() and not ever_after and n < len(operations) - 4:
            status = read_status(out)
            assert status["state"] == "failed", where
            assert "the disk is full" in status["text"], where
        if n % 3 == 0:  # a kill leaves no less, and is gone on from everywhere
            train(short(), out)
            assert_equal_runs(straight, out)
        shutil.rmtree(out)


def test_disk_full_at_every_operation(whole: Whole, tmp_path: Path, processes: Processes) -> None:
    """At that one, or from then on."""
    straight, operations = whole
    everywhere(processes, survive_full_disks, len(operations), straight, tmp_path, operations)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few hundred kilobytes, if this machine lets us have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "zerosum-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_small_disk(small_disk: Path, whole: Whole, processes: Processes) -> None:
    """A real full disk, then a larger one."""
    out = small_disk / "run"
    filler = small_disk / "filler"
    pages = sum(1 + p.stat().st_size // 4096 for p in whole[0].rglob("*") if p.is_file())
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - pages * 3 // 4 * 4096))
    code, text = processes.run(train, short(), out)
    assert code == 2, text
    assert "the disk is full" in text
    assert "Traceback" not in text
    assert leftovers(out) == []
    assert_whole_checkpoints(out)
    assert checkpoint.numbers(out), "it was full before anything was saved"
    filler.unlink()
    processes.must(train, short(), out)
    assert_equal_runs(whole[0], out)


def test_film_on_a_full_disk(tmp_path: Path, processes: Processes) -> None:
    """The run is over and saved; that its film does not fit is an error of its own."""
    code, text = processes.run(film_only, short(), tmp_path / "run")
    assert code == 2
    assert "film.mp4 could not be written: the disk is full" in text
    assert read_status(tmp_path / "run")["state"] == "finished"
    assert leftovers(tmp_path / "run") == []


def film_only(run: Run, out: Path) -> None:
    little_runs.session.make_film = little_runs.MAKE_FILM
    train_with_hook(run, out, FullFor("film.mp4"))


class FullFor:
    """An `atomic.hook` that has no room for one file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, operation: str, path: Path) -> None:
        if self.name in path.name:
            FullAt(0)(operation, path)
