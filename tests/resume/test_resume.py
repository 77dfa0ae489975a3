"""Exact resume: a run that was killed or stopped, once or often, ends as the run that never was (design rule 10)."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

import little_runs
from little_runs import Processes, assert_equal_runs, events, recipe, told, train
from zerosum import algorithms, checkpoint
from zerosum.run import Run
from zerosum.runlog import EVENTS, read_status

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")

DELAY = 0.002  # seconds for each batch of real images: a run of 40 steps takes about half a second
CASES = [(name, precision, False) for name in algorithms.names() for precision in ("fp32", "bf16")]
CASES += [("dcgan", "fp32", True), ("r3gan", "bf16", True)]


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


@pytest.mark.parametrize(("name", "precision", "conditional"), CASES)
def test_killed_at_random_moments(
    name: str, precision: str, conditional: bool, tmp_path: Path, processes: Processes
) -> None:
    """Three SIGKILLs, each wherever the process happens to be, and then to the end."""
    run = recipe(name, precision=precision, conditional=conditional)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    processes.must(train, run, whole)
    moment = random.Random(f"{name} {precision} {conditional}")
    codes = [interrupt(processes, run, killed, signal.SIGKILL, after, moment) for after in (2, 4, 3)]
    assert codes.count(-signal.SIGKILL) >= 2, "it was over before it could be killed"
    processes.must(train, run, killed)
    assert_equal_runs(whole, killed)
    assert read_status(killed)["state"] == "finished"
