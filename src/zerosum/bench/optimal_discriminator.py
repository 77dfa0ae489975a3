"""D between two known Gaussians against the closed form, p_data / (p_data + p_g) (Goodfellow et al. 2014, prop. 1)."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import randomness
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, at_most
from zerosum.bench.training import settled
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.game import Adam, Algorithm, Batch, Players, Turn
from zerosum.losses import discriminator, optimal_logits
from zerosum.networks import MLP
from zerosum.run import Run
from zerosum.schedule import Constant, Cosine
from zerosum.trainer import Training
from zerosum.view import SilentView

SEEDS = (0, 1, 2)
OFFSETS = (1.0, 2.0)  # m: the mean of what G makes
POINTS = 1_000_000
IMAGES = 2_000_000
BATCH = 1_000
REACH = 2.0  # the comparison goes from -REACH to m + REACH
ERROR = 0.1  # of a logit


class Shift(nn.Module):
    """z (n, 1) -> z + m: its samples are normal with mean m."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return z + self.offset


@dataclass(frozen=True, kw_only=True)
class FixedGenerator(Algorithm):
    """Goodfellow's D against a G that never moves."""

    networks: MLP = MLP(latent=1, width=64, depth=3)
    offset: float = 1.0

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": Shift(self.offset), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn("D") as minimise:
            for b in turn.split(batch):
                minimise(discriminator(p.D(b.image), p.D(p.G(b.z))))


def measure(bench: Bench) -> Report:
    count = POINTS // 100 if bench.quick else POINTS
    points = randomness.normal(0, "bench/optimal-discriminator", 0, count, 1).float().numpy()
    data, dataset = Data(source="N(0, 1)"), ArrayDataset(points)
    known = data_record(data, dataset, "a standard normal, drawn by zerosum.randomness from a fixed key")
    rows = {}
    for offset in OFFSETS:
        run = _run(data, offset, IMAGES // 100 if bench.quick else IMAGES)
        rows[f"m = {offset:g}"] = [
            bench.arm(f"m{offset:g}", r.seed, {"data": known, "run": recipe(r)}, partial(_examine, r, dataset))
            for r in (settled(bench, run, seed) for seed in bench.seeds)
        ]
    return Report(
        title="The optimal discriminator",
        about=(
            "Real points are N(0, 1), G's are N(m, 1) and stay so. D is a small feed-forward network, trained by "
            "the original game's loss through the same turns as every run. The best D's logit is log p_data(x) - "
            "log p_g(x) = m^2/2 - m x (Goodfellow et al. 2014, proposition 1); the error is the largest absolute "
            f"difference of logits from -2 to m + 2, and its mean under the real points' density. D saw {IMAGES:,} "
            "points of either kind.",
            "The target is for m = 1. With m = 2 the two hardly meet: of a million points of G some 30 lie below "
            "x = -2, where the logit is 6, so no finite sample settles it there.",
        ),
        data=(known,),
        tables=(
            Table(
                "Logits",
                (
                    Column("largest_error", "largest error of a logit", ".3f"),
                    Column("mean_error", "mean error under p_data", ".4f"),
                    Column("loss", "D's loss", ".5f"),
                    Column("best_loss", "the best possible", ".5f"),
                ),
                rows,
            ),
        ),
        targets=(
            at_most("largest error of a logit, m = 1", [r["largest_error"] for r in rows["m = 1"]], ERROR, ".3f"),
        ),
    )


def _run(data: Data, offset: float, images: int) -> Run:
    adam = Adam(lr=Cosine(2e-3, 0.0, images), beta1=0.9)
    return Run(
        data=data, algorithm=FixedGenerator(offset=offset), adam_g=adam, adam_d=adam, batch_size=BATCH, images=images,
        ema_half_life=Constant(0), threads=1,
    )  # fmt: skip


def _examine(run: Run, dataset: ArrayDataset) -> Result:
    algorithm = run.algorithm
    assert isinstance(algorithm, FixedGenerator)
    assert run.images is not None
    with tempfile.TemporaryDirectory() as folder:
        training = Training(run, dataset, torch.device("cpu"), Path(folder), SilentView())
        while training.seen < run.images:
            training.step()
    m = algorithm.offset
    x = torch.linspace(-REACH, m + REACH, 2_001, dtype=torch.float64)
    best = optimal_logits(_normal(x, 0.0), _normal(x, m))
    with torch.no_grad():
        error = (training.players.D(x.float()[:, None]).double() - best).abs()
        # The loss over both densities, by the trapezoid rule on a wide grid
        wide = torch.linspace(-8.0, m + 8.0, 20_001, dtype=torch.float64)
        p, q = _normal(wide, 0.0), _normal(wide, m)
        mine = training.players.D(wide.float()[:, None]).double()
    weight = _normal(x, 0.0)
    return {
        "largest_error": float(error.max()),
        "mean_error": float((error * weight).sum() / weight.sum()),
        "loss": _loss(wide, p, q, mine),
        "best_loss": _loss(wide, p, q, -m * wide + m * m / 2),
    }


def _normal(x: Tensor, mean: float) -> Tensor:
    return torch.exp(-0.5 * (x - mean) ** 2) / math.sqrt(2 * math.pi)


def _loss(x: Tensor, p: Tensor, q: Tensor, logits: Tensor) -> float:
    """E_p[softplus(-D)] + E_q[softplus(D)]."""
    values = p * nn.functional.softplus(-logits) + q * nn.functional.softplus(logits)
    return float(np.trapezoid(values.numpy(), x.numpy()))
