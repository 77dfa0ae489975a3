"""Exact resume: a run that was killed or stopped, once or often, ends as the run that never was (design rule 10)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import little_runs
import tiny
from little_runs import Processes, assert_equal_runs, events, recipe, told, train
from zerosum import algorithms, checkpoint, session
from zerosum.engine import has_fast_bf16
from zerosum.run import Run
from zerosum.runlog import EVENTS, read_status

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")

DELAY = 0.005  # seconds for each batch of real images: so that a run is not over too soon
CONDITIONAL = (("dcgan", "fp32"), ("r3gan", "bf16"))


def lines(out: Path) -> int:
    """How many events have been logged."""
    path = out / EVENTS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def interrupt(processes: Processes, run: Run, out: Path, number: int, after: int, moment: random.Random) -> int:
    """Play on, and send a signal at a random moment after so many new events. Returns the exit code."""
    before = lines(out)
    process = processes.start(train, run, out, delay_seconds=DELAY)
    until = time.monotonic() + little_runs.PATIENCE
    while process.is_alive() and lines(out) < before + after and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(moment.uniform(0, 0.05))
    assert process.pid is not None
    if process.is_alive():
        os.kill(process.pid, number)
    code, text = processes.end(process)
    assert code in (0, -number), text
    return code


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", algorithms.names())
def test_killed_at_random_moments(name: str, precision: str, tmp_path: Path, processes: Processes) -> None:
    """Three SIGKILLs, each wherever the process happens to be, and then to the end."""
    if precision == "bf16" and algorithms.translates(name) and not has_fast_bf16():
        pytest.skip("bf16 is emulated here: no run takes it, and translators take a minute")
    conditional = (name, precision) in CONDITIONAL or algorithms.settings(name).algorithm.labels != "optional"
    run = recipe(name, 18, precision=precision, conditional=conditional)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    processes.must(train, run, whole)
    moment = random.Random(f"{name} {precision}")
    codes = [interrupt(processes, run, killed, signal.SIGKILL, after, moment) for after in (2, 4, 2)]
    assert codes.count(-signal.SIGKILL) >= 2, "it was over before it could be killed"
    processes.must(train, run, killed)
    assert_equal_runs(whole, killed)
    assert read_status(killed)["state"] == "finished"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal(number: int, tmp_path: Path, processes: Processes) -> None:
    """It saves at the step where it is, between two lines of the log as well, and goes on from there."""
    run = recipe("gan", log_every=1_000, checkpoint_every=1_000)  # all scores wait in the checkpoint
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    processes.must(train, run, whole)
    moment = random.Random(number)
    assert interrupt(processes, run, stopped, number, 1, moment) == 0
    status, saved = read_status(stopped), checkpoint.numbers(stopped)[-1]
    assert (status["state"], status["text"]) == ("stopped", f"stopped by {signal.Signals(number).name}")
    assert 0 < saved == status["images_seen"] < run.images
    assert "then saving" in told(stopped)
    processes.must(train, run, stopped)
    assert_equal_runs(whole, stopped)


def test_two_signals_of_one_ctrl_c_are_one(tmp_path: Path, processes: Processes) -> None:
    """torchrun sends its processes the SIGINT that the terminal sent them already."""
    process = processes.start(train, recipe("gan", 400), tmp_path / "run", delay_seconds=0.02)
    while lines(tmp_path / "run") < 2:
        assert process.is_alive()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    assert processes.end(process)[0] == 0
    assert read_status(tmp_path / "run")["text"] == "stopped by SIGINT"


def test_second_ctrl_c_stops_at_once(tmp_path: Path, processes: Processes) -> None:
    """In the middle of a step that takes for ever."""
    out = tmp_path / "run"
    process = processes.start(train, recipe("gan", 400), out, delay_seconds=3.0)
    while "running" not in read_status(out)["state"] or not checkpoint.numbers(out):
        assert process.is_alive()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.7)
    asked = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    code, _ = processes.end(process)
    assert code != 0
    assert time.monotonic() - asked < 2.5
    assert read_status(out)["text"] == "interrupted"


@pytest.mark.parametrize("name", ["gan", "wgan_gp"])
def test_extended(name: str, tmp_path: Path, processes: Processes) -> None:
    """A finished run that is given more images equals the run that was given them at once; killed or not."""
    short, run = recipe(name, 13), recipe(name)
    whole, extended = tmp_path / "whole", tmp_path / "extended"
    processes.must(train, run, whole)
    processes.must(train, short, extended)
    assert any(event.get("final") for event in events(extended)), "nothing was due at the end"
    process = processes.start(train, run, extended, images=run.images, delay_seconds=DELAY)
    time.sleep(0.05)
    process.kill()
    processes.end(process)
    processes.must(train, run, extended, images=run.images)
    assert_equal_runs(whole, extended)


def test_finished_run_stays_what_it_is(tmp_path: Path, processes: Processes) -> None:
    """Resuming a run that is over loses nothing: not its last grid, not its last line."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    for out in (whole, again, again):
        processes.must(train, recipe("gan", 13), out)
    assert_equal_runs(whole, again)
    assert events(again)[-1]["final"]
    assert read_status(again)["state"] == "finished"


def test_killed_before_the_first_checkpoint(tmp_path: Path, processes: Processes) -> None:
    """It begins anew, without anything said twice."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = recipe("gan", 6)
    processes.must(train, run, whole)
    processes.run(little_runs.train_with_hook, run, killed, DieAtFolder())
    assert (killed / "recipe.json").exists()
    assert lines(killed) == 1
    assert checkpoint.numbers(killed) == []
    processes.must(train, run, killed)
    assert_equal_runs(whole, killed)


class DieAtFolder:
    """An `atomic.hook` that kills its process before the first checkpoint gets its name."""

    def __call__(self, operation: str, path: Path) -> None:
        if operation == "rename" and path.parent.name == "checkpoints":
            os.kill(os.getpid(), signal.SIGKILL)


# ---- damage -------------------------------------------------------------------------------------------------------


def truncate(saved: Path) -> None:
    path = saved / checkpoint.TENSORS
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit_of_a_tensor(saved: Path) -> None:
    path = saved / checkpoint.TENSORS
    data = bytearray(path.read_bytes())
    data[-8] ^= 4
    path.write_bytes(data)


def change_the_state(saved: Path) -> None:
    path = saved / checkpoint.STATE
    text = path.read_text()
    assert text.count('"lr_scale": 1.0') == 1
    path.write_text(text.replace('"lr_scale": 1.0', '"lr_scale": 3.0'))


def empty_the_state(saved: Path) -> None:
    (saved / checkpoint.STATE).write_bytes(b"")


def lose_the_tensors(saved: Path) -> None:
    (saved / checkpoint.TENSORS).unlink()


DAMAGES = [truncate, flip_a_bit_of_a_tensor, change_the_state, empty_the_state, lose_the_tensors]


def test_damaged_checkpoints(tmp_path: Path, processes: Processes) -> None:
    """Each damage is seen, named, and the checkpoint before it leads to the same end; none left is an error."""
    run = recipe("r3gan", 16)
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    processes.must(train, run, whole)
    processes.must(train, run, damaged)
    for damage in DAMAGES:
        last, before = checkpoint.path_of(damaged, checkpoint.numbers(damaged)[-1]), told(damaged)
        damage(last)
        processes.must(train, run, damaged)
        warned = told(damaged).removeprefix(before)
        assert warned.startswith(f"warning: {last}"), damage.__name__
        assert "going back to the checkpoint before it" in warned
        assert_equal_runs(whole, damaged)
    for number in checkpoint.numbers(damaged):
        truncate(checkpoint.path_of(damaged, number))
    code, text = processes.run(train, run, damaged)
    assert code == 2
    assert "there is no whole checkpoint" in text
    assert len(events(damaged)) == len(events(whole)), "nothing is thrown away"


# ---- one run at a time --------------------------------------------------------------------------------------------


def test_second_process_is_refused(tmp_path: Path, processes: Processes) -> None:
    """Two processes in one folder: the second says so and touches nothing. A killed one leaves no lock behind."""
    out, run = tmp_path / "run", recipe("gan", 400)
    first = processes.start(train, run, out, delay_seconds=0.02)
    while lines(out) < 2:
        assert first.is_alive()
        time.sleep(0.01)
    code, text = processes.run(train, run, out)
    assert code == 2
    assert "another process is training here" in text
    code, text = processes.run(start_here, run, out)
    assert code == 2
    assert read_status(out)["state"] == "running"
    assert first.is_alive()
    first.kill()
    processes.end(first)
    status = read_status(out)
    assert (status["state"], status["text"]) == ("stopped", "killed")
    processes.must(train, run, out, images=checkpoint.numbers(out)[-1] + 8)
    assert read_status(out)["state"] == "finished"


def start_here(run: Run, out: Path) -> None:
    session.start(run, tiny.images(), out)


def test_fresh_interpreter_and_two_threads(tmp_path: Path, processes: Processes) -> None:
    """Nothing forked: what was killed had two threads and a warm-up of its own."""
    run = recipe("gan", 12, threads=2)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    processes.must(train, run, whole)
    program = (
        "import sys; from pathlib import Path; import little_runs as l; l.quick_sessions();"
        "l.train(l.recipe('gan', 12, threads=2), Path(sys.argv[1]), delay_seconds=0.02)"
    )
    folder = str(Path(little_runs.__file__).parent)
    environment = {**os.environ, "PYTHONPATH": folder, "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen([sys.executable, "-c", program, str(killed)], env=environment)
    while lines(killed) < 6 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    processes.must(train, run, killed)
    assert_equal_runs(whole, killed)
