"""Little runs for tests: random pixels, tiny networks, and processes to run them in, which can be killed.

The processes are forked from one server that has torch imported and warm, so that each starts within
milliseconds. It uses one thread from its first moment on: a process that has used several must not be forked.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from zerosum import algorithms, atomic, checkpoint, pictures, session
from zerosum.algorithms.pix2pix import Pix2Pix
from zerosum.data.sides import Sides
from zerosum.data.spec import Dataset
from zerosum.errors import UserError
from zerosum.metrics import probe
from zerosum.networks import MLP, Translators
from zerosum.run import Run
from zerosum.runlog import grids, read_events
from zerosum.schedule import Linear
from zerosum.view import Level, SilentView

TIMES = ("seconds", "images_per_second")  # what a resumed run need not repeat
MAKE_FILM = session.make_film  # `quick_sessions` replaces it
PATIENCE = 200  # seconds that a process is given before a test calls it stuck


class Slow:
    """Images that take their time, so that a run lasts long enough to be disturbed."""

    def __init__(self, dataset: Dataset, seconds: float) -> None:
        self.dataset, self.seconds = dataset, seconds
        self.spec, self.class_names, self.fingerprint = dataset.spec, dataset.class_names, dataset.fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def gather(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if self.seconds:
            time.sleep(self.seconds)
        return self.dataset.gather(index)


def recipe(name: str, steps: int = 24, **changes: Any) -> Run:
    """A tiny run of an algorithm: schedules that move, cadences (in steps: 2, 9 and 5) that do not divide each other.

    It ends where neither a grid nor a checkpoint is due.
    """
    run = tiny.run(name, seed=3)
    step = run.batch_size * run.algorithm.rounds
    usual = {
        "adam_g": replace(run.adam_g, lr=Linear(1e-3, 1e-4, 15 * step)),
        "ema_half_life": Linear(0, 10 * step, 20 * step),
        "images": steps * step,
        "log_every": 2 * step,
        "probe_every": 4 * step,
        "regret_every": 7 * step,
        "grid_every": 9 * step,
        "checkpoint_every": 5 * step,
    }
    return replace(run, **(usual | changes))


def uncoupled(name: str, steps: int = 18) -> Run:
    """A run whose samples do not influence each other, in float64: many processes play it as one."""
    run = recipe(name, steps, precision="fp64")
    return replace(run, algorithm=replace(run.algorithm, networks=tiny.small(MLP())))


class Told(SilentView):
    """A view that keeps what it is told in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def message(self, text: str, level: Level = "info") -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{level}: {text}\n")


def told(out: Path) -> str:
    """What the sessions of a run have said."""
    path = out.with_suffix(".told")
    return path.read_text(encoding="utf-8") if path.exists() else ""


# ---- jobs: what a process does ------------------------------------------------------------------------------------


def data_of(run: Run, delay_seconds: float = 0.0) -> Dataset | Sides:
    """What a run plays on, each batch as slow as told."""
    if not isinstance(run.algorithm.networks, Translators):
        return Slow(tiny.images(), delay_seconds)
    sides = tiny.sides(paired=isinstance(run.algorithm, Pix2Pix))
    return replace(sides, a=Slow(sides.a, delay_seconds))


def train(run: Run, out: Path, *, images: int | None = None, delay_seconds: float = 0.0) -> None:
    """What a person does again and again: start the run, or go on with it."""
    view, data = Told(out.with_suffix(".told")), data_of(run, delay_seconds)
    if (out / "recipe.json").exists():
        session.resume(out, data, images=images, view=view)
    else:
        session.start(run, data, out, view=view)


def train_with_hook(run: Run, out: Path, hook: Callable[[str, Path], None]) -> None:
    atomic.hook = hook
    train(run, out)


class Count:
    """An `atomic.hook` that writes down every operation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, operation: str, path: Path) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([operation, path.name]) + "\n")


class DieAt:
    """An `atomic.hook` that kills its process before the n-th operation."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, operation: str, path: Path) -> None:
        self.n -= 1
        if self.n < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FullAt:
    """An `atomic.hook` that finds the disk full at the n-th operation, and from then on if `ever_after`."""

    def __init__(self, n: int, ever_after: bool = False) -> None:
        self.n, self.ever_after = n, ever_after

    def __call__(self, operation: str, path: Path) -> None:
        self.n -= 1
        if self.n == -1 or (self.n < 0 and self.ever_after):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ---- processes ----------------------------------------------------------------------------------------------------


def _job(function: Callable[..., None], said: Path, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    quick_sessions()
    with open(said, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        function(*args, **named)
    except UserError as error:  # as the command does
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)


def in_fork(function: Callable[..., None], *args: Any, said: Path) -> tuple[int, str]:
    """Let a fork of this process (one of `Processes`, not of pytest) do it: its exit code and what it said."""
    said.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            _job(function, said, args, {})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, said.read_text() if said.exists() else ""


class Processes:
    """Starts jobs in processes of their own and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["pytest", "little_runs_warm"])
        with pytest.MonkeyPatch.context() as patch:  # the server finds what it is to import there only
            patch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # two threads on busy cores: no spinning
            patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
            forkserver.ensure_running()
        self.folder = folder
        self.started: list[BaseProcess] = []

    def start(self, function: Callable[..., None], *args: Any, **named: Any) -> BaseProcess:
        said = self.folder / f"process-{len(self.started)}.txt"
        process = self.context.Process(target=_job, args=(function, said, args, named))
        process.start()
        self.started.append(process)
        return process

    def end(self, process: BaseProcess) -> tuple[int, str]:
        """Wait for it: its exit code and what it said."""
        process.join(PATIENCE)
        assert process.exitcode is not None, "the process is stuck"
        return process.exitcode, (self.folder / f"process-{self.started.index(process)}.txt").read_text()

    def run(self, function: Callable[..., None], *args: Any, **named: Any) -> tuple[int, str]:
        return self.end(self.start(function, *args, **named))

    def must(self, function: Callable[..., None], *args: Any, **named: Any) -> None:
        code, text = self.run(function, *args, **named)
        assert code == 0, text

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.join()


def as_rank(rank: int, world: int, port: int, function: Callable[..., None], *args: Any, **named: Any) -> None:
    """What torchrun makes of a process."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    function(*args, **named)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


# ---- comparing ----------------------------------------------------------------------------------------------------


def events(out: Path) -> list[dict[str, Any]]:
    """The log without times."""
    return [{k: v for k, v in event.items() if k not in TIMES} for event in read_events(out)]


def assert_equal_runs(one: Path, other: Path) -> None:
    """Every tensor and value of the last checkpoint, every event, every byte of the sample grids."""
    numbers = checkpoint.numbers(one), checkpoint.numbers(other)
    assert numbers[0][-1] == numbers[1][-1]
    a, b = (checkpoint.load(checkpoint.path_of(run, numbers[0][-1])) for run in (one, other))
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        assert tensor.dtype == b.tensors[name].dtype, name
        assert tensor.numpy().tobytes() == b.tensors[name].numpy().tobytes(), name
    assert {**a.state, "seconds": 0} == {**b.state, "seconds": 0}
    assert events(one) == events(other)
    assert [p.name for p in grids(one)] == [p.name for p in grids(other)]
    for p, q in zip(grids(one), grids(other), strict=True):
        assert p.read_bytes() == q.read_bytes(), p.name
    assert (one / "real.png").read_bytes() == (other / "real.png").read_bytes()
    assert checkpoint.best(one) == checkpoint.best(other)
    assert leftovers(other) == []


def leftovers(out: Path) -> list[str]:
    """Files that a writer has not finished."""
    return sorted(str(p.relative_to(out)) for p in out.rglob(".*"))


def quick_sessions() -> None:
    """What takes long and is tested elsewhere is left out or made small: in this process, for good."""
    session.make_film = lambda out: None
    session.write_report = lambda out: out / "report.html"
    session.environment = lambda device: {}
    probe.SAMPLES = 16
    pictures.GRID_WIDTH = (1, 1)
    os.fsync = lambda descriptor: None  # no test pulls the plug
    torch.set_num_threads(1)


def warm() -> None:
    """Import what a first step imports, once for all forks."""
    quick_sessions()
    with tempfile.TemporaryDirectory() as folder:
        for name in algorithms.names():
            run = recipe(name, 1)
            session.start(run, data_of(run), Path(folder) / name)
