"""Who runs in the speedrun: our default, the textbook's DCGAN in a loop of its own, SNGAN and R3GAN at a like cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from zerosum.schedule import Cosine, Schedule
from zerosum.trainer import Training
from zerosum.view import SilentView

RATES = (1.0, 2.0, 4.0)  # times the published learning rate: a few minutes call for boldness
R3GAN_A_MINUTE = 22_000  # images, about: see `_r3gan`
FURTHEST = (0.25, 32.0)  # times: no search goes on beyond


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
        threads = torch.get_num_threads()
        game = Textbook(everything(field.train)[0], seed, lr)
        self.step, self.draw = game.step, game.draw
        self.chosen: Result = {"precision": "fp32", "memory_format": "contiguous", "threads": threads}


def textbook(times: float) -> Arm:
    """Radford's networks in a plain loop, fp32, eager, at 32 x 32."""
    lr = 2e-4 * times
    return Arm({"textbook": 1, "lr": lr}, lambda field, seed: Plain(field, seed, lr))


def opponents(minutes: float) -> dict[str, Callable[[float], Arm]]:
    """By name: the arm at so many times its published learning rate."""
    sngan = replace(from_settings("sngan", Data(source="")), algorithm=SNGAN(networks=SNDCGAN(latent=128, width=16)))
    return {
        "textbook DCGAN": textbook,
        "SNGAN": lambda times: published(sngan, minutes, times),
        "R3GAN": lambda times: published(_r3gan(minutes), minutes, times),
    }


def _r3gan(minutes: float) -> Run:
    """Its authors' settings for this size (gamma 0.05, a tenth of it in the end; rates that fall to a quarter).

    The falls take the run's length in images, at a rate that was measured once: a run by the clock cannot know it.
    """
    run, images = from_settings("r3gan", Data(source="")), max(int(minutes * R3GAN_A_MINUTE), 1)
    falling = replace(run.adam_g, lr=Cosine(2e-4, 5e-5, images))
    algorithm = R3GAN(networks=R3(width=16, widest=64), gamma=Cosine(0.05, 0.005, images))
    return replace(run, algorithm=algorithm, adam_g=falling, adam_d=falling)


def bracketed(distance: Callable[[float], float], first: Sequence[float]) -> dict[float, float]:
    """The distance at each of these rates and, while the best is the lowest or highest, at half or twice that."""
    found = {times: distance(times) for times in first}
    while True:
        best, low, high = min(found, key=lambda t: found[t]), min(found), max(found)
        if best == low and low > FURTHEST[0]:
            found[low / 2] = distance(low / 2)
        elif best == high and high < FURTHEST[1]:
            found[high * 2] = distance(high * 2)
        else:
            return found
