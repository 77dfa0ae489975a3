"""Runs recorded for the stop advisor: what the probe said at every moment, and what was true, measured afterwards.

Runs of up to some minutes of one core, on purpose of every kind: some settle, some collapse, some wear out on data
that D learns by heart, some are still improving when they end. Twenty-five are for choosing the advisor's constants,
the others were decided on, recorded and looked at only when the constants were frozen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from zerosum import sample
from zerosum.algorithms.dcgan import DCGAN as DCGANGame
from zerosum.algorithms.gan import GAN
from zerosum.algorithms.r3gan import R3GAN
from zerosum.algorithms.sngan import SNGAN
from zerosum.algorithms.wgan_gp import WGANGP
from zerosum.bench.protocol import Bench, Result, recipe
from zerosum.data.loader import Loader
from zerosum.data.source import open_source
from zerosum.data.spec import Data
from zerosum.game import Adam
from zerosum.metrics.probe import Reading
from zerosum.metrics.reference import Reference
from zerosum.networks import DCGAN, MLP
from zerosum.recipes.base import from_settings, with_cadence
from zerosum.run import Run
from zerosum.schedule import Constant, Linear
from zerosum.trainer import Training
from zerosum.view import SilentView

PROBES = 180  # of each run, evenly
TRUTH = 1_024  # samples, fake and real, for what is true of a moment


@dataclass(frozen=True)
class Case:
    """A run to record, and what it is there for."""

    run: Run
    purpose: str


DIGITS, FASHION, RING = Data(source="digits"), Data(source="fashion-mnist"), Data(source="ring")


def development() -> dict[str, Case]:
    """Those that the constants are chosen on. The first readings of all had other latents each time: docs/log.md."""
    r3gan, gan = R3GAN(networks=MLP(latent=32, width=128), gamma=Constant(1.0)), GAN(networks=MLP(latent=32, width=128))
    return {
        "digits-r3gan": Case(_digits(r3gan, 750_000), "improves to the end"),
        "digits-r3gan-600": Case(
            _digits(r3gan, 1_500_000, seed=21, data=replace(DIGITS, limit=600)), "600 images only"
        ),
        "digits-gan": Case(_digits(gan, 900_000, beta1=0.5), "as in 2014"),
        "digits-gan-500": Case(_digits(gan, 1_800_000, seed=12, data=replace(DIGITS, limit=500)), "500 images only"),
        "digits-gan-momentum": Case(
            _digits(GAN(networks=MLP(latent=64, width=128)), 1_200_000, lr=1e-3, beta1=0.9), "the common beta1 of 0.9"
        ),
        "digits-dcgan": Case(
            _digits(DCGANGame(networks=MLP(latent=32, width=128)), 1_500_000, seed=22, beta1=0.5), "settles"
        ),
        "digits-wgan-gp": Case(
            _digits(WGANGP(networks=MLP(latent=32, width=128), critic_steps=2), 900_000, seed=11, beta2=0.9),
            "improves to the end",
        ),
        "digits-sngan-300": Case(
            _digits(
                SNGAN(networks=MLP(latent=32, width=96, spectral=True)), 1_800_000, data=replace(DIGITS, limit=300)
            ),
            "300 images only",
        ),
        "fashion-gan": Case(
            _fashion(GAN(networks=MLP(latent=64, width=128)), 1_200_000, lr=5e-4, beta1=0.5, seed=24),
            "feed-forward networks",
        ),
        "fashion-wgan-gp": Case(
            _fashion(WGANGP(networks=MLP(latent=64, width=128), critic_steps=2), 900_000, lr=5e-4, beta2=0.9),
            "feed-forward networks",
        ),
        "fashion-sngan": Case(
            _fashion(SNGAN(networks=MLP(latent=64, width=128, spectral=True)), 750_000, lr=5e-4, seed=13),
            "feed-forward networks",
        ),
        "fashion-r3gan": Case(
            _fashion(
                R3GAN(networks=DCGAN(latent=64, width=8, norm_critic=False), gamma=Constant(5.0)), 72_000, lr=1e-3
            ),
            "convolutions",
        ),
        "fashion-dcgan-1000": Case(_convolutional(120_000, limit=1_000), "1,000 images only"),
        "ring-r3gan": Case(_ring("r3gan", 1_500_000), "settles"),
        "ring-gan-momentum": Case(
            _ring("gan", 4_500_000, networks=MLP(latent=64, width=64), beta1=0.9), "the common beta1 of 0.9"
        ),
        "ring-sngan": Case(_ring("sngan", 3_000_000), "settles"),
        "grid-r3gan": Case(replace(_ring("r3gan", 6_000_000), data=Data(source="grid")), "25 modes"),
        "grid-wgan-gp": Case(replace(_ring("wgan_gp", 4_500_000), data=Data(source="grid"), seed=23), "25 modes"),
        "moons-gan": Case(replace(_ring("gan", 4_500_000), data=Data(source="moons"), seed=14), "other points"),
        "digits-r3gan-400": Case(
            _digits(
                R3GAN(networks=MLP(latent=32, width=128), gamma=Constant(1.0)),
                1_200_000,
                seed=31,
                data=replace(DIGITS, limit=400),
            ),
            "400 images only",
        ),
        "digits-sngan": Case(
            _digits(SNGAN(networks=MLP(latent=32, width=96, spectral=True)), 1_500_000, seed=32), "all digits"
        ),
        "fashion-gan-2000": Case(
            _fashion(
                GAN(networks=MLP(latent=64, width=128)),
                1_200_000,
                lr=5e-4,
                beta1=0.5,
                seed=33,
                data=replace(FASHION, limit=2_000),
            ),
            "2,000 images only",
        ),
        "fashion-dcgan-3000": Case(_convolutional(120_000, limit=3_000, seed=34), "convolutions, 3,000 images"),
        "ring-gan": Case(replace(_ring("gan", 3_000_000), seed=35), "the original game"),
        "moons-wgan-gp": Case(replace(_ring("wgan_gp", 4_500_000), data=Data(source="moons"), seed=36), "other points"),
    }


def frozen() -> dict[str, Case]:
    """New runs, decided on when the constants had been frozen: the advisor is judged on these alone."""
    return {
        "digits-wgan-gp-500": Case(
            _digits(
                WGANGP(networks=MLP(latent=32, width=128), critic_steps=2), 1_200_000, seed=41, beta2=0.9,
                data=replace(DIGITS, limit=500),
            ),
            "500 images only",
        ),
        "fashion-sngan-1000": Case(
            _fashion(
                SNGAN(networks=MLP(latent=64, width=128, spectral=True)), 750_000, lr=5e-4, seed=42,
                data=replace(FASHION, limit=1_000),
            ),
            "1,000 images only",
        ),
        "grid-gan": Case(replace(_ring("gan", 4_500_000), data=Data(source="grid"), seed=43), "25 modes"),
        "moons-sngan": Case(replace(_ring("sngan", 3_000_000), data=Data(source="moons"), seed=44), "other points"),
    }  # fmt: skip


def _convolutional(images: int, *, limit: int, seed: int = 0) -> Run:
    """DCGAN on so many images of clothes."""
    return _fashion(
        DCGANGame(networks=DCGAN(latent=64, width=8)), images, lr=5e-4, beta1=0.5, beta2=0.999, seed=seed,
        data=replace(FASHION, limit=limit),
    )  # fmt: skip


class Recorder:
    """Stands where the probe stands, and keeps the networks instead of measuring them: that is done afterwards."""

    def __init__(self, training: Training, folder: Path) -> None:
        self.training, self.reference, self.folder = training, training.probe.reference, folder

    def __call__(self, generators: Mapping[str, nn.Module], critics: Mapping[str, nn.Module]) -> Reading:
        tensors = {f"G/{name}": value for name, value in generators["G"].state_dict().items()}
        tensors |= {f"D/{name}": value for name, value in critics["D"].state_dict().items()}
        safetensors.torch.save_file(tensors, self.folder / f"{self.training.seen:012d}.safetensors")
        return Reading(1.0, 0.0, 0.0, 1.0)


def record(bench: Bench, name: str, case: Case) -> Result:
    """A run, trained from the beginning; what its probe says at every moment, and what is true of it.

    The probe's readings are those that it gives during training: it never changes the training, and its draws belong
    to the images seen. The truth is the same distance from real images that neither training nor probe knows, with more
    samples on both sides.
    """
    run = case.run

    def work() -> Result:
        dataset = open_source(run.data)
        folder = bench.runs / bench.name / name
        training = Training(run, dataset, torch.device("cpu"), folder, SilentView())
        seconds = _trained(training, run)
        test = open_source(replace(run.data, split="test", limit=None))
        unseen = Loader(test, seed=run.seed, latent=1)
        train = training.loader.real("truth/components", 0, min(TRUTH, len(training.loader)))
        reals, components = unseen.real("truth", 0, min(TRUTH, len(test))), training.probe.reference.components
        truth = Reference(training.spec, train, reals, TRUTH, components)
        latents = training.loader.latent("truth", 0, TRUTH)
        generator, critic = training.averaged["G"], training.players.networks["D"]
        rows = []
        for path in sorted((folder / "snapshots").glob("*.safetensors")):
            tensors = safetensors.torch.load_file(path)
            for player, network in (("G", generator), ("D", critic)):
                own = {k.removeprefix(f"{player}/"): v for k, v in tensors.items() if k.startswith(f"{player}/")}
                network.load_state_dict(own)
            seen = int(path.stem)
            reading = training.probe({"G": generator}, {"D": critic})
            fake = sample.generate(generator, latents, None)
            found = truth(fake.clamp(-1, 1) if training.spec.is_image else fake)
            score, error = (None, None) if found is None else found
            rows.append({"images_seen": seen, **reading.row(), "truth": score, "truth_error": error})
        features = {"probe": training.probe.reference.name, "truth": truth.name, "truth_reals": min(TRUTH, len(test))}
        return {"purpose": case.purpose, "images": run.images, "seconds": seconds, **features, "probes": rows}

    protocol = {"run": recipe(run), "probes": PROBES, "probe_every": run.probe_every, "truth_samples": TRUTH}
    return bench.arm(name, run.seed, protocol, work)


def _trained(training: Training, run: Run) -> float:
    """Train from the beginning, keeping the networks of every probe; or, if that was done before, when."""
    folder = training.out / "snapshots"
    ended, wanted = training.out / "seconds.json", recipe(run)
    if ended.exists() and (before := json.loads(ended.read_text()))["run"] == wanted:
        return before["seconds"]
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    recorder: Any = Recorder(training, folder)
    assert run.images is not None
    training.run = replace(run, grid_every=10 * run.images, checkpoint_every=10 * run.images)
    measured, training.probe = training.probe, recorder
    training._grid = training.save = lambda: None  # type: ignore[method-assign]
    training.train()
    training.run, training.probe = run, measured
    ended.write_text(json.dumps({"run": wanted, "seconds": training.seconds}))
    return training.seconds


def _digits(algorithm: Any, images: int, *, lr: float = 5e-4, data: Data = DIGITS, **more: Any) -> Run:
    return _run(algorithm, data, images, lr, **more)


def _fashion(algorithm: Any, images: int, *, lr: float, data: Data = FASHION, **more: Any) -> Run:
    return _run(algorithm, data, images, lr, **more)


def _run(
    algorithm: Any, data: Data, images: int, lr: float, *, beta1: float = 0.0, beta2: float = 0.99, seed: int = 0
) -> Run:
    adam = Adam(lr=Constant(lr), beta1=beta1, beta2=beta2)
    run = Run(
        data=data, algorithm=algorithm, adam_g=adam, adam_d=adam, batch_size=64, images=images, seed=seed,
        ema_half_life=Linear(0, 10_000, 100_000), threads=1, precision="fp32",
    )  # fmt: skip
    return paced(run, images)


def paced(run: Run, images: int) -> Run:
    return replace(with_cadence(run, images), images=images, probe_every=images // PROBES, regret_every=0)


def _ring(algorithm: str, images: int, *, networks: Any = None, beta1: float | None = None) -> Run:
    run = from_settings(algorithm, RING, toy=True)
    played: Any = run.algorithm
    if networks is not None:
        run = replace(run, algorithm=replace(played, networks=networks))
    if beta1 is not None:
        run = replace(run, adam_g=replace(run.adam_g, beta1=beta1), adam_d=replace(run.adam_d, beta1=beta1))
    return paced(replace(run, images=images, threads=1, precision="fp32"), images)
