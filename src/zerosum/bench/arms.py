"""Who runs in the speedrun: our default, the textbook's DCGAN in a loop of its own, SNGAN and R3GAN at a like cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from zerosum import sample
from zerosum.algorithms.r3gan import R3GAN
from zerosum.algorithms.sngan import SNGAN
from zerosum.bench.field import CPU, Field, everything
from zerosum.bench.protocol import Result, recipe
from zerosum.bench.textbook import Textbook
from zerosum.data.spec import Data
from zerosum.game import Adam
from zerosum.networks import R3, SNDCGAN
from zerosum.recipes import pick
from zerosum.recipes.base import from_settings
from zerosum.recipes.images import quick
from zerosum.run import Run
from zerosum.schedule import Schedule
from zerosum.trainer import Training
from zerosum.view import SilentView

RATES = (1.0, 2.0, 4.0)  # times the published learning rate: a few minutes call for boldness


class Player(Protocol):
    """A model in training."""

    chosen: Result
    """What the machine was found to do quickest."""

    def step(self) -> int:
        """One step more; real images seen."""
        ...

    def draw(self, count: int) -> np.ndarray:
        """So many samples, uint8 (n, C, H, W), of the model as it is."""
        ...


@dataclass(frozen=True)
class Arm:
    """`protocol` decides the run; `enter(field, seed)` builds it, on the clock."""

    protocol: Result
    enter: Callable[[Field, int], Player]


class Ours:
    """A run as `zerosum train --minutes` makes it: the trial of the machine is on the clock."""

    def __init__(self, field: Field, seed: int, minutes: float, adjust: Callable[[Run], Run]) -> None:
        def timed(run: Run) -> Run:
            return replace(adjust(run), seed=seed, minutes=minutes, images=None)

        run = pick(field.data, minutes=minutes, device="cpu", dataset=field.train, adjust=timed).run
        self.training = Training(run, field.train, CPU, Path("unused"), SilentView())
        settled = ("precision", "memory_format", "compile", "threads", "micro_batches")
        self.chosen: Result = {name: getattr(run, name) for name in settled}

    def step(self) -> int:
        self.training.step()
        return self.training.seen

    def draw(self, count: int) -> np.ndarray:
        z = self.training.loader.latent("speedrun", 0, count)
        return sample.to_uint8(sample.generate(self.training.averaged["G"], z, None))


def default(minutes: float, **changes: Any) -> Arm:
    """What a bare `zerosum train` picks, with these of its fields changed."""
    picked = replace(quick(Data(source="")), **changes)
    return Arm(
        {"picked": recipe(picked), "minutes": minutes},
        lambda field, seed: Ours(field, seed, minutes, lambda run: replace(run, **changes)),
    )


def published(run: Run, minutes: float, times: float) -> Arm:
    """An algorithm as its paper has it, in our engine, at so many times its learning rates."""

    def at(adam: Adam) -> Adam:
        return replace(adam, lr=Schedule(adam.lr.start * times, adam.lr.end * times, adam.lr.images, adam.lr.shape))

    bold = replace(run, adam_g=at(run.adam_g), adam_d=at(run.adam_d), minutes=minutes, images=None)

    def adjust(found: Run) -> Run:
        # What the trial of the machine has settled in `found` stays.
        return replace(
            bold, data=found.data, precision=found.precision, memory_format=found.memory_format,
            compile=found.compile, threads=found.threads, micro_batches=found.micro_batches,
        )  # fmt: skip

    return Arm({"run": recipe(bold), "minutes": minutes}, lambda field, seed: Ours(field, seed, minutes, adjust))


class Plain:
    """The textbook's loop; its samples are cropped to the size of the data."""

    def __init__(self, field: Field, seed: int, lr: float) -> None:
        threads = field.bench.options.threads
        torch.set_num_threads(threads)
        game = Textbook(everything(field.train)[0], seed, lr)
        self.step, self.draw = game.step, game.draw
        self.chosen: Result = {"precision": "fp32", "memory_format": "contiguous", "threads": threads}


def textbook(times: float) -> Arm:
    """Radford's networks in a plain loop, fp32, eager, at 32 x 32."""
    lr = 2e-4 * times
    return Arm({"textbook": 1, "lr": lr}, lambda field, seed: Plain(field, seed, lr))


def opponents(minutes: float) -> dict[str, dict[float, Arm]]:
    """By name, and by how many times the published learning rate."""
    sngan = replace(from_settings("sngan", Data(source="")), algorithm=SNGAN(networks=SNDCGAN(latent=128, width=16)))
    r3gan = from_settings("r3gan", Data(source=""))
    game: Any = r3gan.algorithm
    r3gan = replace(r3gan, algorithm=R3GAN(networks=R3(width=32, widest=128), gamma=game.gamma))
    return {
        "textbook DCGAN": {times: textbook(times) for times in RATES},
        "SNGAN": {times: published(sngan, minutes, times) for times in RATES},
        "R3GAN": {times: published(r3gan, minutes, times) for times in RATES},
    }
