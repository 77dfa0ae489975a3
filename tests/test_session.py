"""A session: what it refuses, what it leaves in the folder, what it says of itself, and what it does to the process."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import little_runs
import tiny
from little_runs import Processes, events, leftovers, recipe
from zerosum import atomic, checkpoint, session
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.game import Adam
from zerosum.runlog import Lock, grids, read_status
from zerosum.schedule import Constant, Linear
from zerosum.view import Level, SilentView, Status

DATA = tiny.images()
FILM = session.make_film, session.write_report


class Ear(SilentView):
    """Keeps what it is told; calls `at_update` whenever the trainer reports."""

    def __init__(self, at_update: Callable[[], None] = lambda: None) -> None:
        self.messages: list[tuple[str, str]] = []
        self.lines: list[str] = []
        self.closed = 0
        self.at_update = at_update

    def update(self, status: Status) -> None:
        self.at_update()

    def message(self, text: str, level: Level = "info") -> None:
        self.messages.append((level, text))

    def finish(self, lines: list[str]) -> None:
        self.lines = lines

    def close(self) -> None:
        self.closed += 1


def boom() -> None:
    raise ZeroDivisionError("a fault of our own")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "make_film", lambda out: None)
    monkeypatch.setattr(session, "write_report", lambda out: out / "report.html")
    monkeypatch.setattr(little_runs.probe, "SAMPLES", 16)
    monkeypatch.setattr(little_runs.pictures, "GRID_WIDTH", (1, 1))


def test_a_recipe_counts_the_files_left_out_and_names_the_first() -> None:
    broken = tuple((f"{i}.png", "no picture") for i in range(30))
    known = session.data_record(DATA.spec, dataclasses.replace(DATA, skipped=broken))["left_out"]
    assert known == {"count": 30, "files": [list(file) for file in broken[:20]]}
    assert session.data_record(DATA.spec, DATA)["left_out"] == {"count": 0, "files": []}


# ---- the folder ---------------------------------------------------------------------------------------------------


def test_what_a_run_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the README promises, film and report included."""
    monkeypatch.setattr(session, "make_film", FILM[0])
    monkeypatch.setattr(session, "write_report", FILM[1])
    view = Ear()
    out = session.start(recipe("gan", 6, grid_every=24), DATA, tmp_path / "run", view=view)
    names = (
        "checkpoints environment.json events.jsonl film.gif film.mp4 lock real.png recipe.json report.html report.json"
    )
    assert sorted(p.name for p in out.iterdir()) == [*names.split(), "samples", "status.json"]
    assert [int(p.stem) for p in grids(out)] == [0, 24, 48]
    assert view.lines[0].startswith("finished at 48 images")
    assert any(line.startswith("film") for line in view.lines)
    assert not any("--resume" in line for line in view.lines)
    assert view.closed == 1
    content = json.loads((out / "recipe.json").read_text())
    assert content["run"]["threads"] == 1
    assert content["run"]["precision"] == "fp32"
    assert content["data"]["count"] == len(DATA)
    with Image.open(grids(out)[-1]) as image:
        assert image.text == {"images_seen": "48"}
    (out / "film.mp4").unlink()
    (out / "report.html").unlink()
    damaged = grids(out)[1]  # as a power cut may leave it: film and report do without
    damaged.write_bytes(damaged.read_bytes()[:-20])
    session.resume(out, DATA)
    assert (out / "film.mp4").exists()
    assert (out / "report.html").exists()


def test_holds_a_run_already(tmp_path: Path) -> None:
    out = session.start(recipe("gan", 2), DATA, tmp_path / "run")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    for lost in ((), ("recipe.json",)):  # checkpoints alone are worth keeping too
        for name in lost:
            (out / name).unlink()
            del before[out / name]
        with pytest.raises(UserError, match=f"--out {out}: holds a run already; go on with --resume {out}, or"):
            session.start(recipe("gan", 2), DATA, out)
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    """Live and averaged, but with optimisers of its own; and says so, after a resume too."""
    first = session.start(recipe("gan", 2), DATA, tmp_path / "first")
    taught = checkpoint.load(checkpoint.path_of(first, checkpoint.numbers(first)[-1]))
    out = session.start(replace(recipe("gan", 2), seed=5), DATA, tmp_path / "run", weights_of=first)
    begun = checkpoint.load(checkpoint.path_of(out, 0))
    weights = {name: value for name, value in begun.tensors.items() if not name.startswith("adam/")}
    assert weights
    assert set(weights) == {name for name in taught.tensors if not name.startswith("adam/")}
    assert all(bool((value == taught.tensors[name]).all()) for name, value in weights.items())
    assert not [name for name in begun.tensors if name.startswith("adam/")]
    origin = {"run": "first", "images_seen": taught.images_seen}
    assert json.loads((out / "recipe.json").read_text())["from"] == origin
    session.resume(out, DATA, images=taught.images_seen + 16)
    assert json.loads((out / "recipe.json").read_text())["from"] == origin


def test_weights_taken_over_are_the_live_ones_where_nothing_is_averaged(tmp_path: Path) -> None:
    """The other run's average goes into the same memory, and must not stay there."""
    first = session.start(replace(recipe("gan", 2), ema_half_life=Constant(1e6)), DATA, tmp_path / "first")
    taught = checkpoint.load(checkpoint.path_of(first, checkpoint.numbers(first)[-1])).tensors
    run = replace(recipe("gan", 2), ema_half_life=Constant(0))
    out = session.start(run, DATA, tmp_path / "run", weights_of=first)
    begun = checkpoint.load(checkpoint.path_of(out, 0)).tensors
    names = [name for name in taught if name.startswith("players/G/")]
    assert names
    assert any(bool((taught[n] != taught[n.replace("players", "ema")]).any()) for n in names)
    for name in names:
        assert bool((begun[name] == taught[name]).all())
        assert bool((begun[name.replace("players", "ema")] == taught[name]).all())


def test_before_its_first_checkpoint_it_has_no_weights_to_go_on_with(tmp_path: Path) -> None:
    first = session.start(recipe("gan", 2), DATA, tmp_path / "first")
    out = session.start(recipe("gan", 2), DATA, tmp_path / "run", weights_of=first)
    shutil.rmtree(checkpoint.folder(out))
    (out / "events.jsonl").write_text("")
    with pytest.raises(UserError, match="ended before its first checkpoint, which was to hold the weights of another"):
        session.resume(out, DATA)


def test_weights_of_other_networks_are_refused_and_nothing_begins(tmp_path: Path) -> None:
    first = session.start(recipe("gan", 2), DATA, tmp_path / "first")
    with pytest.raises(UserError, match=f"--from {first}: its networks are not those of this run"):
        session.start(recipe("gan", 2), tiny.images((3, 8, 8)), tmp_path / "run", weights_of=first)
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_not_a_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="not a run folder"):
            session.resume(path, DATA)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="file: cannot be written: File exists; choose another folder"):
        session.start(recipe("gan", 2), DATA, tmp_path / "file")


def test_somebody_is_at_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "run")
    with pytest.raises(UserError, match="another process is training here"):
        session.start(recipe("gan", 2), DATA, tmp_path / "run")
    lock.release()
    out = session.start(recipe("gan", 2), DATA, tmp_path / "run")
    lock = Lock(out)
    with pytest.raises(UserError, match="another process is training here"):
        session.resume(out, DATA)
    lock.release()
    session.resume(out, DATA)


def test_lock_is_given_back_however_it_ends(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        session.start(recipe("gan", 2), DATA, tmp_path / "run", view=Ear(boom))
    Lock(tmp_path / "run").release()


def test_leftovers_are_swept(tmp_path: Path) -> None:
    """What a killed session was writing, wherever it was, goes when the next one begins."""
    out = session.start(recipe("gan", 2), DATA, tmp_path / "run")
    for name in (".tmp-status.json-0123abcd", "samples/.tmp-8.png-0123abcd", "checkpoints/.tmp-8-0123abcd"):
        (out / name).write_bytes(b"half")
    session.resume(out, DATA)
    assert leftovers(out) == []


def test_other_data_are_named(tmp_path: Path) -> None:
    """It goes on with them, says so each time, and remembers what the run began with."""
    out = session.start(recipe("gan", 2), DATA, tmp_path / "run")
    known = json.loads((out / "recipe.json").read_text())["data"]
    for images in (24, 32):
        view = Ear()
        session.resume(out, tiny.images(count=30), images=images, view=view)
        assert [level for level, text in view.messages if "(40 items then, 30 now)" in text] == ["warning"]
        assert json.loads((out / "recipe.json").read_text())["data"] == known


def test_resume_keeps_the_recipe(tmp_path: Path) -> None:
    """Only the length may change, and is remembered."""
    run = recipe("gan", 2, precision="bf16", micro_batches=2)
    out = session.start(run, DATA, tmp_path / "run")
    before = json.loads((out / "recipe.json").read_text())["run"]
    session.resume(out, DATA, images=32)
    assert json.loads((out / "recipe.json").read_text())["run"] == {**before, "images": 32}
    assert checkpoint.numbers(out)[-1] == 32
    session.resume(out, DATA)
    with pytest.raises(UserError, match=r"--images 24: .* has seen 32 already; give more to make it longer"):
        session.resume(out, DATA, images=24)
    assert json.loads((out / "recipe.json").read_text())["run"]["images"] == 32, "fewer than it has seen"
    assert read_status(out)["state"] == "finished"


def test_a_run_whose_rates_are_at_0_is_not_made_longer(tmp_path: Path) -> None:
    adam = Adam(lr=Linear(1e-3, 0, 16))
    out = session.start(recipe("gan", 3, adam_g=adam, adam_d=adam), DATA, tmp_path / "run")
    with pytest.raises(UserError, match=r"its learning rates have come to 0.*--from"):
        session.resume(out, DATA, images=96)


def test_time_goes_on(tmp_path: Path) -> None:
    """Seconds count from the first session on, and a limit in minutes is for all of them together."""
    out = session.start(recipe("gan", 4), DATA, tmp_path / "run")
    first = read_status(out)["seconds"]
    session.resume(out, DATA, images=48)
    second = read_status(out)["seconds"]
    assert second > first > 0
    session.resume(out, DATA, minutes=first / 60)
    assert read_status(out)["state"] == "finished"
    assert read_status(out)["images_seen"] == 48


def test_checkpoints_taken_away(tmp_path: Path) -> None:
    """A run without its checkpoints cannot go on, and what is left of it is not thrown away."""
    out = session.start(recipe("gan", 4), DATA, tmp_path / "run")
    for number in checkpoint.numbers(out):
        atomic.remove_folder(checkpoint.path_of(out, number))
    before = events(out), [p.name for p in grids(out)]
    with pytest.raises(UserError, match="there is no whole checkpoint"):
        session.resume(out, DATA)
    assert (events(out), [p.name for p in grids(out)]) == before


@pytest.mark.parametrize("name", ["nowhere/run", "file", "file/run", "locked/run"])
def test_a_place_for_a_run_is_looked_at_before_work_begins(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "locked").mkdir(mode=0o500)
    if name == "nowhere/run" or (name == "locked/run" and os.access(tmp_path / "locked", os.W_OK)):  # root may
        session.check_place(tmp_path / name)
    else:
        with pytest.raises(UserError, match=f"--out {tmp_path / name}: .* is no folder that can be written to"):
            session.check_place(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "locked"]


def test_a_run_in_the_place_is_refused_before_work_begins(tmp_path: Path) -> None:
    out = session.start(recipe("gan", 2), DATA, tmp_path / "run")
    with pytest.raises(UserError, match="holds a run already; go on with --resume"):
        session.check_place(out)


# ---- the status ---------------------------------------------------------------------------------------------------


def test_states(tmp_path: Path) -> None:
    """Running while it runs; finished; stopped by whom; failed of what."""
    out, during = tmp_path / "run", []
    run = recipe("gan", 4)
    session.start(run, DATA, out, view=Ear(lambda: during.append(read_status(out)["state"])))
    assert set(during) == {"running"}
    assert read_status(out) == {**read_status(out), "state": "finished", "images_seen": 32, "text": ""}
    for number in (signal.SIGTERM, signal.SIGINT):
        out = tmp_path / number.name
        view = Ear(lambda number=number: os.kill(os.getpid(), number))
        session.start(run, DATA, out, view=view)
        assert read_status(out)["state"] == "stopped"
        assert read_status(out)["text"] == f"stopped by {number.name}"
        assert f"go on      zerosum train --resume {out}" in view.lines
        assert ("info", "stopping after this step, then saving (Ctrl-C again stops at once)") in view.messages
    out = tmp_path / "crashed"
    with pytest.raises(ZeroDivisionError):
        session.start(run, DATA, out, view=Ear(boom))
    assert (read_status(out)["state"], read_status(out)["text"]) == ("failed", "crashed")
    session.resume(out, DATA)
    assert read_status(out)["state"] == "finished"


def test_stopped_at_once_it_says_where_the_run_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a step, and while film and report are written."""

    def interrupt(*_: object) -> Path:
        raise KeyboardInterrupt

    out = tmp_path / "training"
    with pytest.raises(KeyboardInterrupt) as stop:
        session.start(recipe("gan", 2), DATA, out, view=Ear(lambda: (interrupt(), None)[1]))
    assert stop.value.__notes__ == [f"stopped; go on with zerosum train --resume {out}"]
    assert read_status(out)["state"] == "stopped"
    monkeypatch.setattr(session, "write_report", interrupt)
    out = tmp_path / "report"
    with pytest.raises(KeyboardInterrupt) as stop:
        session.start(recipe("gan", 2), DATA, out)
    assert stop.value.__notes__[0].endswith(f"the run is finished: zerosum report {out}")
    assert read_status(out)["state"] == "finished"


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    session.start(recipe("gan", 2), DATA, tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        session.start(recipe("gan", 2), DATA, tmp_path / "other", view=Ear(boom))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_resuming_with_data_of_another_shape_is_refused(tmp_path: Path) -> None:
    out = session.start(recipe("gan", 2), DATA, tmp_path / "run")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"--resume .*: the data's shape was .* and is \[3, 8, 8\] now"):
        session.resume(out, tiny.images((3, 8, 8)), images=10_000)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("program", "processes", "command"),
    [
        ("/usr/bin/zerosum", 1, "zerosum train digits"),
        ("/some/where/zerosum/__main__.py", 1, "zerosum train digits"),
        ("/some/where/zerosum/__main__.py", 2, "torchrun --nproc-per-node 2 -m zerosum train digits"),
        ("/home/me/experiment.py", 1, ""),
    ],
)
def test_the_command_is_recorded(program: str, processes: int, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "train", "digits"])
    monkeypatch.setattr(session.distributed, "world", lambda: processes)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert session.environment()["command"] == command


def test_in_a_thread(tmp_path: Path) -> None:
    """Where signals cannot be caught it trains all the same."""
    thread = threading.Thread(target=session.start, args=(recipe("gan", 2), DATA, tmp_path / "run"))
    thread.start()
    thread.join(30)
    assert read_status(tmp_path / "run")["state"] == "finished"


# ---- a million images ---------------------------------------------------------------------------------------------

MILLION = Spec((3, 64, 64), 0)


class Million:
    """1,000,000 images of 3x64x64 in a file of 12 GB that takes no room: all but a few pixels are holes."""

    spec = MILLION
    class_names = ()
    fingerprint = "a million"

    def __init__(self, path: Path) -> None:
        self.values = np.memmap(path, np.uint8, "r", shape=(1_000_000, *MILLION.shape))
        self.peak = 0  # kilobytes

    def __len__(self) -> int:
        return len(self.values)

    def gather(self, index: np.ndarray) -> tuple[np.ndarray, None]:
        values = self.values[index]
        self.peak = max(self.peak, anonymous_kilobytes())
        return values, None


def anonymous_kilobytes() -> int:
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))


def train_on_a_million(path: Path, out: Path) -> None:
    run = recipe("gan", 6)
    run = replace(run, algorithm=replace(run.algorithm, networks=replace(run.algorithm.networks, width=4)))
    before, data = anonymous_kilobytes(), Million(path)
    session.start(run, data, out)
    print((max(data.peak, anonymous_kilobytes()) - before) // 1024)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_a_million_images_in_little_memory(tmp_path: Path, processes: Processes) -> None:
    path = tmp_path / "images"
    with open(path, "wb") as file:
        file.truncate(1_000_000 * 3 * 64 * 64)
    if path.stat().st_blocks > 1_000_000:
        pytest.skip("this file system keeps no holes")
    code, text = processes.run(train_on_a_million, path, tmp_path / "run")
    assert code == 0, text
    assert int(text) < 500, "megabytes"
