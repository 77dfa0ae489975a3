"""The verdict about a game on real runs that circle, converge, collapse and settle, on points."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zerosum import sample, session
from zerosum.algorithms.gan import GAN
from zerosum.algorithms.r3gan import R3GAN
from zerosum.algorithms.wgan_gp import WGANGP
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target
from zerosum.bench.training import settled, shortened
from zerosum.data.source import open_source
from zerosum.data.spec import Data
from zerosum.equilibrium.measure import measure as measure_game
from zerosum.equilibrium.verdict import Kind
from zerosum.game import Adam
from zerosum.metrics.probe import Probe, Reading
from zerosum.networks import MLP
from zerosum.recipes.base import PROBES, from_settings
from zerosum.run import Run
from zerosum.runlog import RunLog
from zerosum.schedule import Constant, Cosine
from zerosum.trainer import Training
from zerosum.view import SilentView

CHOSEN = (0, 1, 2)  # the seeds that the verdict's rule was chosen on; the others confirm it
SEEDS = (*CHOSEN, 10, 11, 12)
SMALL = MLP(latent=1, width=4, depth=2)
SAMPLES = 1_000  # of each kind for the judges, at most, and for the mean of the samples
ASIDE = 0.25  # standard deviations of the data: so far is a mean on one side of the data's
CIRCLES = 3  # times, at least, that it changes sides in the last half of a run that circles
COLUMNS = (
    Column("verdict", "verdict", ""),
    Column("changes", "times that G's mean changes sides", ".0f"),
    Column("diversity", "diversity at the end", ".2f"),
    Column("judge", "best judge", ".1%"),
    Column("first", "median distance, 3rd quarter", ".3g"),
    Column("last", "4th quarter", ".3g"),
    Column("seconds", "training, s", ".0f"),
)


@dataclass(frozen=True)
class Case:
    """A run, and what there is to be said about its game."""

    run: Run
    expected: tuple[Kind, ...] = ()
    """Empty: cycling if it circles, else anything but that."""


def measure(bench: Bench) -> Report:
    arms = cases()
    if bench.quick:
        arms = {name: replace(case, run=_paced(shortened(case.run))) for name, case in arms.items()}
    rows = {
        name: {seed: _judged(bench, name, settled(bench, case.run, seed)) for seed in bench.seeds}
        for name, case in arms.items()
    }
    tables, targets = [], []
    for title, chosen in (("Seeds that the rule was chosen on", True), ("New seeds", False)):
        found = {name: [r for s, r in of.items() if (s in CHOSEN) == chosen] for name, of in rows.items()}
        if any(found.values()):
            tables.append(Table(title, COLUMNS, found))
            targets += [_target(f"{title.lower()}: {name}", arms[name], results) for name, results in found.items()]
    sources = dict.fromkeys(case.run.data for case in arms.values())
    return Report(
        title="What is said about a game",
        about=(
            f"Runs on points, {PROBES} probes each, and what `zerosum equilibrium` says of them at their end, with "
            f"{SAMPLES:,} samples of each kind for the judges. Its words about the course of a run come from the "
            "logged distances alone.",
            "Whether a run circles is seen elsewhere: in how often the mean of G's samples goes from one side of the "
            f"data's mean to the other (by more than {ASIDE} standard deviations, along either axis) in the last half "
            f"of the run. {CIRCLES} times or more is circling. The averaged generator is measured, as everywhere; the "
            "half-life of that average is 0 in the first four.",
            "The two WGANs and gan-small have tiny networks and no penalty, so nothing damps them (gan-small is the "
            "original game with the common beta1 of 0.9); whether they still circle at the end differs by seed. "
            "r3gan-small has such networks, R1 and R2, and a learning rate that falls to 0; r3gan-short ends long "
            "before it is done.",
            "The verdict's rule was chosen on the first three seeds, and the others were trained after that.",
        ),
        data=tuple(data_record(data, open_source(data), data.source) for data in sources),
        tables=tuple(tables),
        targets=tuple(targets),
    )


def cases() -> dict[str, Case]:
    """Games that are known to circle (unregularised: Mescheder et al. 2018, arXiv:1801.04406), and others."""
    unpenalised = WGANGP(networks=SMALL, critic_steps=1, penalty_weight=Constant(0.0))
    small = _moons(R3GAN(networks=SMALL, gamma=Constant(0.1)), 400_000)
    cooling = replace(small.adam_g, lr=Cosine(2e-3, 0.0, 200_000))
    cooled = replace(small, adam_g=cooling, adam_d=cooling)
    return {
        "wgan-unpenalised": Case(_moons(unpenalised, 600_000, beta2=0.9)),
        "wgan-unpenalised-momentum": Case(_moons(unpenalised, 600_000, beta1=0.5, beta2=0.9)),
        "gan-small": Case(_moons(GAN(networks=replace(SMALL, width=8)), 400_000, beta1=0.9, beta2=0.999)),
        "r3gan-small": Case(cooled, ("settled short",)),
        "r3gan-short": Case(_ring("r3gan", 60_000), ("converging",)),
        "gan-momentum": Case(_ring("gan", 150_000, networks=MLP(latent=64, width=64), beta1=0.9), ("G collapsed",)),
    }


def _moons(algorithm: Any, images: int, *, beta1: float = 0.0, beta2: float = 0.99) -> Run:
    run = from_settings("gan", Data(source="moons"), toy=True)
    adam = Adam(lr=Constant(5e-4), beta1=beta1, beta2=beta2)
    run = replace(run, algorithm=algorithm, adam_g=adam, adam_d=adam, batch_size=64, ema_half_life=Constant(0.0))
    return _paced(replace(run, images=images))


def _ring(algorithm: str, images: int, *, networks: MLP | None = None, beta1: float | None = None) -> Run:
    run = from_settings(algorithm, Data(source="ring"), toy=True)
    played: Any = run.algorithm
    if networks is not None:
        run = replace(run, algorithm=replace(played, networks=networks))
    if beta1 is not None:
        run = replace(run, adam_g=replace(run.adam_g, beta1=beta1), adam_d=replace(run.adam_d, beta1=beta1))
    return _paced(replace(run, images=images))


def _paced(run: Run) -> Run:
    """Probed as often as `zerosum train` does at most; what is not looked at is left out."""
    assert run.images is not None
    every = max(1, run.images // PROBES)
    return replace(run, probe_every=every, log_every=every, regret_every=0, checkpoint_every=run.images, threads=1)


# --- a run and its verdict -------------------------------------------------------------------------------------------


class Centre:
    """Stands where the probe stands, and also notes where the mean of the samples is, in the data's deviations."""

    def __init__(self, probe: Probe) -> None:
        self.probe, self.reference, self.source = probe, probe.reference, probe.source
        real = probe.loader.real("centre", 0, len(probe.loader.dataset))
        self.mean, self.deviation = real.mean(0), real.std(0)
        self.latents = probe.loader.latent("centre", 0, SAMPLES)
        self.at: list[Tensor] = []

    def __call__(self, generators: Mapping[str, nn.Module], critics: Mapping[str, nn.Module]) -> Reading:
        points = sample.generate(generators["G"], self.latents, None)
        self.at.append((points.mean(0) - self.mean) / self.deviation)
        return self.probe(generators, critics)


def _judged(bench: Bench, name: str, run: Run) -> Result:
    def work() -> Result:
        folder = bench.runs / bench.name / f"{name}-seed{run.seed}"
        dataset = open_source(run.data)
        training, centre = _trained(run, folder)
        found = measure_game(folder, dataset, samples=SAMPLES, quick=bench.quick)
        distances = [line.distance for line in found.logged if line.distance is not None][1:]  # of a trained G
        half = distances[len(distances) // 2 :]
        path = torch.stack(centre.at)[1:]
        axes = path[len(path) // 2 :].unbind(1)
        return {
            "verdict": found.verdict.kind, "changes": max(changes(axis.tolist()) for axis in axes),
            "diversity": next(line.diversity for line in reversed(found.logged) if line.diversity is not None),
            "judge": found.test.best.accuracy.value, "first": _median(half[: len(half) // 2]),
            "last": _median(half[len(half) // 2 :]), "seconds": training.seconds, "distances": distances,
        }  # fmt: skip

    return bench.arm(name, run.seed, {"run": recipe(run), "probes": PROBES, "samples": SAMPLES}, work)


def _trained(run: Run, folder: Path) -> tuple[Training, Centre]:
    """A run's folder as a session leaves it, but for film and report."""
    if folder.exists():
        shutil.rmtree(folder)
    training = Training(run, open_source(run.data), torch.device("cpu"), folder, SilentView())
    session.write_recipe(training, fresh=True)
    training.log = RunLog(folder)
    assert isinstance(training.probe, Probe)
    centre: Any = Centre(training.probe)
    training.probe = centre
    training._grid = lambda: None  # type: ignore[method-assign]
    training.train()
    return training, centre


def changes(path: Sequence[float]) -> int:
    """How often it goes from more than ASIDE on one side of 0 to as much on the other."""
    sides = [x > 0 for x in path if abs(x) > ASIDE]
    return sum(a != b for a, b in pairwise(sides))


def _median(values: Sequence[float]) -> float:
    return float(torch.tensor(values).median())


def _target(what: str, case: Case, results: Sequence[Result]) -> Target:
    if case.expected:
        right, wanted = [r["verdict"] in case.expected for r in results], " or ".join(case.expected)
    else:
        right = [(r["verdict"] == "cycling") == (r["changes"] >= CIRCLES) for r in results]
        wanted = f"cycling where G's mean changes sides {CIRCLES} times or more, and only there"
    said = ", ".join(f"{r['verdict']} ({r['changes']})" for r in results)
    return Target(what, wanted, f"{said}: {sum(right)} of {len(right)} right", bool(right) and all(right))
