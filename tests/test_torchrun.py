"""Several processes play as one: the same weights, one writer, one end; and when one fails, none is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import little_runs
import tiny
from little_runs import Processes, as_rank, assert_equal_runs, events, free_port, leftovers, train, uncoupled
from zerosum import checkpoint, session
from zerosum.data.loader import Loader
from zerosum.run import Run
from zerosum.runlog import EVENTS, grids, read_status

pytestmark = pytest.mark.skipif(os.name == "nt" or not torch.distributed.is_available(), reason="needs fork, gloo")

TESTS = Path(little_runs.__file__).parent
NAMES = ("r3gan", "wgan_gp")
EXACT = 1e-12


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@dataclass
class Torchrun:
    """Two processes, started as people start them."""

    folder: Path
    delay_seconds: float
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        words += [str(TESTS / "resume" / "torchrun_worker.py"), str(self.folder), str(self.delay_seconds), *self.names]
        self.said = open(self.folder / "said.txt", "w+")  # noqa: SIM115 - closed in `end`
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
        self.process = subprocess.Popen(
            [sys.executable, *words],
            env=environment,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def end(self) -> tuple[int, str]:
        try:
            code = self.process.wait(little_runs.PATIENCE)
        finally:
            self.process.kill()
            self.said.seek(0)
            text = self.said.read()
            self.said.close()
        return code, text


def two(processes: Processes, function: Callable[..., None], *args: Any, **named: Any) -> list[tuple[int, str]]:
    """Two ranks without torchrun, which would end one when the other fails: exit code and words of each."""
    port = free_port()
    both = [processes.start(as_rank, rank, 2, port, function, *args, **named) for rank in (0, 1)]
    return [processes.end(process) for process in both]


def assert_near_runs(one: Path, other: Path, *, relative: bool = False) -> None:
    """The same checkpoint within 1e-12, the same events within 1e-9.

    Where D's logits are `relative`, its accuracy is taken at each process's own midpoint: a log's matter only. So are
    regrets: the writer rehearses alone, with its share of the batch.
    """
    a, b = (checkpoint.newest(run, print) for run in (one, other))
    assert a is not None
    assert b is not None
    assert a.images_seen == b.images_seen
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        far = (tensor.double() - b.tensors[name].double()).abs().max() if tensor.numel() else torch.zeros(())
        assert float(far) < EXACT, name
    assert [p.name for p in grids(one)] == [p.name for p in grids(other)]
    for x, y in zip(events(one), events(other), strict=True):
        assert x.keys() == y.keys()
        for key, value in x.items():
            if (relative and key.startswith("accuracy/")) or key.startswith("regret/"):
                continue
            near = pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
            assert y[key] == near, (x["images_seen"], key)


def test_two_ranks_equal_one(tmp_path: Path, processes: Processes) -> None:
    """Penalties, five turns of D, twins and a last bias included; one writer; then on with one process.

    Stopped by a SIGTERM to torchrun and gone on with, two ranks end bit for bit where two ranks end.
    """
    ran, two_of, alone = tmp_path / "torchrun", tmp_path / "two", tmp_path / "alone"
    for folder in (ran, two_of, alone):
        folder.mkdir()
    launch = Torchrun(ran, 0.05, ("wgan_gp", "r3gan"))
    for name in NAMES:
        processes.must(train, uncoupled(name), alone / name)
        for code, text in two(processes, train, uncoupled(name), two_of / name):
            assert code == 0, text
        assert_near_runs(alone / name, two_of / name, relative=True)
        assert leftovers(two_of / name) == []
        lines = (two_of / name / EVENTS).read_text().splitlines()
        assert len(lines) == len(set(lines)), "two have written"

    out, until = ran / "r3gan", time.monotonic() + little_runs.PATIENCE
    while not (out / EVENTS).exists() or (out / EVENTS).read_bytes().count(b"\n") < 5:
        assert launch.process.poll() is None, launch.end()
        assert time.monotonic() < until
        time.sleep(0.01)
    assert_equal_runs(two_of / "wgan_gp", ran / "wgan_gp")
    launch.process.send_signal(signal.SIGTERM)
    code, text = launch.end()
    assert code != 0
    assert read_status(out)["state"] == "stopped", text
    assert 0 < checkpoint.numbers(out)[-1] == read_status(out)["images_seen"] < uncoupled("r3gan").images
    shutil.copytree(out, tmp_path / "one")
    for code, text in two(processes, train, uncoupled("r3gan"), out):
        assert code == 0, text
    assert_equal_runs(two_of / "r3gan", out)
    processes.must(train, uncoupled("r3gan"), tmp_path / "one")
    assert_near_runs(alone / "r3gan", tmp_path / "one", relative=True)


@pytest.mark.parametrize("name", ["gan", "dcgan"])
def test_killed_and_resumed_with_two_ranks(name: str, tmp_path: Path, processes: Processes) -> None:
    """Between two lines of the log, where each rank has scores of its own; with BatchNorm too. And one rank to two."""
    run = little_runs.recipe(name, 14, precision="fp64", log_every=56, checkpoint_every=24)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert [code for code, _ in two(processes, train, run, whole)] == [0, 0]
    port = free_port()
    both = [processes.start(as_rank, rank, 2, port, train, run, killed, delay_seconds=0.02) for rank in (0, 1)]
    while checkpoint.numbers(killed)[-1:] != [48]:
        assert both[0].is_alive()
        time.sleep(0.005)
    for process in both:
        process.kill()
        processes.end(process)
    elsewhere = tmp_path / "elsewhere"  # another machine, where only the recipe was copied to
    elsewhere.mkdir()
    shutil.copy(killed / "recipe.json", elsewhere)
    port = free_port()
    both = [processes.start(as_rank, r, 2, port, train, run, out) for r, out in enumerate((killed, elsewhere))]
    assert [processes.end(process)[0] for process in both] == [0, 0]
    assert_equal_runs(whole, killed)
    assert [p.name for p in elsewhere.iterdir()] == ["recipe.json"]
    if name == "gan":  # uncoupled
        one, more = tmp_path / "one", replace(run, images=24 * 8)
        processes.must(train, run, one)
        shutil.copytree(one, tmp_path / "both")
        processes.must(train, more, one, images=more.images)
        assert [code for code, _ in two(processes, train, more, tmp_path / "both", images=more.images)] == [0, 0]
        assert_near_runs(one, tmp_path / "both")


def test_mistakes_end_all(tmp_path: Path, processes: Processes) -> None:
    """Each process says the same and ends; none waits for the other."""
    run = uncoupled("gan")
    for code, text in two(processes, train, replace(run, batch_size=9), tmp_path / "nine"):
        assert code == 2
        assert "--batch-size 9: must be a multiple of processes x micro-batches = 2 x 1" in text
    assert not (tmp_path / "nine").exists()
    processes.must(train, run, tmp_path / "run")
    for code, text in two(processes, start_again, run, tmp_path / "run"):
        assert code == 2
        assert "holds a run already" in text
    for number in checkpoint.numbers(tmp_path / "run"):
        (checkpoint.path_of(tmp_path / "run", number) / checkpoint.STATE).write_text("{}")
    for code, text in two(processes, train, run, tmp_path / "run"):
        assert code == 2
        assert "there is no whole checkpoint" in text


def start_again(run: Run, out: Path) -> None:
    session.start(run, tiny.images(), out)


@pytest.mark.parametrize("rank", [0, 1])
def test_death_of_one_ends_the_other(rank: int, tmp_path: Path, processes: Processes) -> None:
    """It does not wait for half an hour; and the run can go on."""
    run, out, begun = uncoupled("gan", 400), tmp_path / "run", time.monotonic()
    port = free_port()
    both = [processes.start(as_rank, r, 2, port, train, run, out, delay_seconds=0.02) for r in (0, 1)]
    while checkpoint.numbers(out)[-1:] < [40]:
        assert both[0].is_alive()
        time.sleep(0.005)
    both[rank].kill()
    code, text = processes.end(both[1 - rank])
    assert code == 2, text
    assert "another process of this run has ended or does not answer (" in text
    assert "Connection closed by peer" in text or "reset" in text
    assert time.monotonic() - begun < 60
    status = read_status(out)
    assert status["state"] == ("stopped" if rank == 0 else "failed")
    assert "killed" in status["text"] if rank == 0 else "start all of them again with --resume" in status["text"]
    both[rank].join()
    processes.must(train, run, out, images=checkpoint.numbers(out)[-1] + 16)


def test_full_disk_on_the_writer(tmp_path: Path, processes: Processes) -> None:
    """The writer says it; the other one ends with it."""
    run = uncoupled("gan")
    (zero, said), (one, _) = two(processes, little_runs.train_with_hook, run, tmp_path / "run", little_runs.FullAt(70))
    assert zero == 2
    assert "the disk is full" in said
    assert one != 0
    assert [code for code, _ in two(processes, train, run, tmp_path / "run")] == [0, 0]
    processes.must(train, run, tmp_path / "one")
    assert_near_runs(tmp_path / "one", tmp_path / "run")


def test_roll_back_of_two_ranks(tmp_path: Path, processes: Processes) -> None:
    """Both go back, to the same checkpoint, though only the writer has it."""
    run = replace(uncoupled("gan", 40), checkpoint_every=64)
    (zero, said), (one, _) = two(processes, spoil, run, tmp_path / "run")
    assert (zero, one) == (2, 2)
    assert "again, after half the learning rate" in said
    back = [e for e in events(tmp_path / "run") if e.get("rolled_back")]
    assert len(back) == 1
    assert back[0]["images_seen"] == 64


def spoil(run: Run, out: Path) -> None:
    """Images that are not numbers from sample 100 on: of one rank, but the gradient is everyone's."""
    real = Loader.real

    def poisoned(self: Loader, purpose: str, first: int, count: int) -> torch.Tensor:
        x = real(self, purpose, first, count)
        if purpose == "real" and first >= 100 and first % 8 == 4:  # rank 1's half of a batch
            x = x * float("nan")
        return x

    Loader.real = poisoned  # type: ignore[method-assign]
    train(run, out)
