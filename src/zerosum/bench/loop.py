"""What our loop costs beside a bare PyTorch loop that does the same work, and where the difference goes."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from zerosum.algorithms.r3gan import R3GAN
from zerosum.bench import bare as bare_loops
from zerosum.bench import overhead
from zerosum.bench.bare import Bare, Step
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target, at_most
from zerosum.bench.training import settled, shortened
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.game import Algorithm, Batch, Players, Turn
from zerosum.recipes import estimate
from zerosum.recipes.base import from_settings, with_cadence
from zerosum.recipes.images import fashion_mnist_r3gan
from zerosum.run import Run
from zerosum.trainer import Training
from zerosum.view import SilentView

SEEDS = (0, 1, 2)
NOISE = Data(source="noise")
WARM_UP = 10  # steps that are not counted
LONG_STEP, RATIO, OVERHEAD = 20.0, 1.05, 0.2  # ms; the ratio allowed from there on; ms a turn allowed below
TURNS = 2  # of a step, in every arm
HALF_LIFE = 10_000  # images, of the bare loop's average: any will do
LENGTH = 300.0  # seconds of the run whose cadence of logs, grids and checkpoints is used


@dataclass(frozen=True)
class Arm:
    """A run that is measured for so many steps."""

    run: Run
    dataset: ArrayDataset
    steps: int

    @property
    def warm_up(self) -> int:
        return min(WARM_UP, self.steps)


class Interleaved(Algorithm):
    """An algorithm that, before each of its own steps, takes one of the bare loop, and times both.

    What lies between the end of the bare step and the next call is all of ours: the step, and everything that the
    trainer does around it.
    """

    def __init__(self, inner: Algorithm, bare: Step, state: Bare) -> None:
        self.networks, self.inner, self.bare, self.state = inner.networks, inner, bare, state
        self.ours_ms: list[float] = []
        self.bare_ms: list[float] = []
        self._ours_began: float | None = None

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return self.inner.players(spec)

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        began = time.perf_counter()
        if self._ours_began is not None:
            self.ours_ms.append(1e3 * (began - self._ours_began))
        self.bare(self.state)
        self._ours_began = time.perf_counter()
        self.bare_ms.append(1e3 * (self._ours_began - began))
        self.inner.step(turn, p, batch, seen)


def measure(bench: Bench) -> Report:
    arms = _arms(bench.quick)
    rows: dict[str, list[Result]] = {}
    for name, arm in [*arms.items(), ("control", arms["dcgan"])]:
        work = _control if name == "control" else _compare
        rows[name] = []
        for seed in bench.seeds:
            run = settled(bench, arm.run, seed)
            protocol = {"run": recipe(run), "data": arm.dataset.fingerprint, "steps": arm.steps}
            rows[name].append(bench.arm(name, seed, protocol, partial(work, arm, run)))
    parts = {name: [r["parts"] for r in results] for name, results in rows.items() if name != "control"}
    return Report(
        title="The loop against a bare PyTorch loop",
        about=(
            "The same networks from the same weights, the same losses, fused Adam, the same average of weights; "
            "batches from a NumPy array, latents from torch.randn in the bare loop and addressed ones in ours. "
            "One process takes one step of the bare loop, one of ours, and so on; ours is everything from the end "
            "of a bare step to the beginning of the next, with the logs, grids and checkpoints of a run of "
            f"{LENGTH:.0f} s. Medians over the steps of a run. The target for steps of {LONG_STEP:.0f} ms and more "
            "is the ratio; below, the cost a turn.",
            "control is the bare loop against itself: how far from 1 chance alone goes. r3gan is its loss "
            "on plain convolutions, dcgan the paper's algorithm at width 32, both at 28x28 and batch 64; "
            "the tiny ones are their settings for points in the plane, with one thread.",
            "The parts of our cost are timed one by one, in milliseconds a step, less what the bare loop spends "
            "on the same; what they leave of the whole is unexplained: caches, allocation, and whatever is not "
            "listed.",
        ),
        data=(
            data_record(
                NOISE, arms["dcgan"].dataset, "uniform noise as uint8 images, from a fixed key: speed asks for no more"
            ),
            data_record(NOISE, arms["dcgan-tiny"].dataset, "normal points in the plane, from a fixed key"),
        ),
        tables=(
            Table(
                "A step",
                (
                    Column("bare_ms", "bare, ms", ".2f"),
                    Column("ours_ms", "ours, ms", ".2f"),
                    Column("ratio", "ours / bare", ".3f"),
                    Column("pair_ratio", "median of pairs", ".3f"),
                    Column("mean_ratio", "ratio of means", ".3f"),
                    Column("overhead_ms", "more a turn, ms", ".3f"),
                ),
                rows,
            ),
            Table("Where it goes, ms a step", tuple(Column(part, part, ".3f") for part in parts["dcgan"][0]), parts),
        ),
        targets=tuple(_target(name, results) for name, results in rows.items() if name != "control"),
    )


def _target(name: str, results: list[Result]) -> Target:
    if all(r["bare_ms"] >= LONG_STEP for r in results):
        return at_most(f"{name}: ours / bare", [r["ratio"] for r in results], RATIO, ".3f")
    return at_most(f"{name}: more a turn, ms", [r["overhead_ms"] for r in results], OVERHEAD, ".3f")


def _arms(quick: bool) -> dict[str, Arm]:
    images, points = _noise(10 if quick else 60_000)
    long, short = (3, 3) if quick else (300, 1_500)
    # As `zerosum train` would: networks this small are quicker with one thread.
    toys = {name: replace(from_settings(name, NOISE, toy=True), threads=1) for name in ("dcgan", "r3gan")}
    arms = {
        "dcgan": Arm(from_settings("dcgan", NOISE), images, long),
        "r3gan": Arm(replace(fashion_mnist_r3gan(), data=NOISE, minutes=10.0), images, long),
        "dcgan-tiny": Arm(toys["dcgan"], points, short),
        "r3gan-tiny": Arm(toys["r3gan"], points, short),
    }
    return {name: replace(arm, run=shortened(arm.run)) for name, arm in arms.items()} if quick else arms


def _noise(count: int) -> tuple[ArrayDataset, ArrayDataset]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    return ArrayDataset(images), ArrayDataset(random.standard_normal((count, 2), dtype=np.float32))


def _bare(training: Training) -> tuple[Bare, Step]:
    """The same run by hand, from the same weights."""
    run = training.run
    assert isinstance(training.dataset, ArrayDataset)
    numbers = bare_loops.draws(training.dataset.values, run.batch_size, run.algorithm.networks.latent)
    decay = 0.5 ** (run.batch_size / HALF_LIFE)
    step = bare_loops.r3gan(run.algorithm.gamma(0)) if isinstance(run.algorithm, R3GAN) else bare_loops.dcgan
    return Bare(training.players.networks, run.adam_g, run.adam_d, numbers, decay), step


def _training(arm: Arm, run: Run, folder: str) -> Training:
    run = with_cadence(run, int(LENGTH * estimate(run, arm.dataset, "cpu", arm.steps / 300)))
    run = replace(run, images=(arm.warm_up + arm.steps + 1) * run.batch_size, minutes=None)
    return Training(run, arm.dataset, torch.device("cpu"), Path(folder), SilentView())


def _compare(arm: Arm, run: Run) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        training = _training(arm, run, folder)
        bare, step = _bare(training)
        timer = Interleaved(training.run.algorithm, step, bare)
        training.run = replace(training.run, algorithm=timer)
        training.train()
        reals = 2 if step is not bare_loops.dcgan else 1
        costs = overhead.parts(training, bare, reals, min(overhead.REPEATS, arm.steps))
    found = _statistics(timer.ours_ms, timer.bare_ms, arm.warm_up)
    difference = found["ours_ms"] - found["bare_ms"]
    return {**found, "parts": {**costs, "unexplained": difference - sum(costs.values()), "together": difference}}


def _control(arm: Arm, run: Run) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        training = _training(arm, run, folder)
    pairs = [_bare(training) for _ in range(2)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(arm.warm_up + arm.steps):
        for (bare, step), spent in zip(pairs, times, strict=True):
            began = time.perf_counter()
            step(bare)
            spent.append(1e3 * (time.perf_counter() - began))
    return _statistics(*times, arm.warm_up)


def _statistics(ours_ms: list[float], bare_ms: list[float], warm_up: int) -> Result:
    """Of steps in pairs, in milliseconds, the first ones left out."""
    ours, bare = ours_ms[warm_up:], bare_ms[warm_up : len(ours_ms)]
    a, b = statistics.median(ours), statistics.median(bare)
    return {
        "steps": len(ours), "ours_ms": a, "bare_ms": b, "ratio": a / b, "overhead_ms": (a - b) / TURNS,
        "mean_ratio": statistics.fmean(ours) / statistics.fmean(bare),
        "pair_ratio": statistics.median(x / y for x, y in zip(ours, bare, strict=True)),
    }  # fmt: skip
