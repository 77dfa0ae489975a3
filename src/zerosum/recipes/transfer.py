"""A run that begins with the weights of another one: that one's game, on other data, for its own length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zerosum import checkpoint, sample
from zerosum import run as runs
from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.data.spec import Data, Spec
from zerosum.errors import UserError
from zerosum.game import Adam, Algorithm
from zerosum.networks import Growing
from zerosum.run import Run
from zerosum.schedule import Constant, Linear, Schedule

PICKED = "r1gan"  # what plays where no algorithm is named


@dataclass(frozen=True)
class Origin:
    """The run whose last weights another one begins with."""

    path: Path
    run: Run
    spec: Spec
    seen: int
    """Images at its last checkpoint."""

    @staticmethod
    def of(path: Path) -> Origin:
        """Raises UserError if it is not a run."""
        recipe = sample.read_recipe(path)
        seen = max(checkpoint.numbers(path), default=0)
        return Origin(path, runs.from_json(recipe["run"]), sample.spec_of(recipe["data"]), seen)

    @property
    def algorithm(self) -> str | None:
        """By name; None if it is what is picked, so that what else is picked suits the new data."""
        name = type(self.run.algorithm).__module__.rpartition(".")[2]
        return None if name == PICKED else name

    @property
    def why(self) -> str:
        """What `lend` does, in a sentence."""
        return (
            f"begins with the weights of {self.path}, after {self.seen:,} images: its networks, batches and rates; "
            "--algorithm chooses others"
        )

    def sized(self, data: Data) -> Data:
        """The data at the size and with the channels of this run's, where they say none."""
        if not self.spec.is_image:
            return data
        channels, height, width = self.spec.shape
        return replace(data, size=data.size or (height, width), channels=data.channels or channels)  # type: ignore[arg-type]

    def lend(self, run: Run) -> Run:
        """`run` with the game of this one: whole, in its batches, at its rates.

        Rates fall as `run`'s do: this one's have come to their end. Its average goes on from the half-life that it had
        reached: with a shorter one what was taken over would be gone, with a longer one it would stay. Raises
        UserError if its networks are not whole yet.
        """

        def rated(mine: Adam, theirs: Adam) -> Adam:
            falls = mine.lr.end / mine.lr.start if mine.lr.start else 1.0
            most = max(theirs.lr.start, theirs.lr.end)  # it may have begun at 0
            return replace(theirs, lr=replace(mine.lr, start=most, end=most * falls))

        other = self.run
        return replace(
            run, algorithm=self._whole(), batch_size=other.batch_size, conditional=other.conditional,
            adam_g=rated(run.adam_g, other.adam_g), adam_d=rated(run.adam_d, other.adam_d),
            ema_half_life=_rest(other.ema_half_life, self.seen),
        )  # fmt: skip

    def _whole(self) -> Algorithm:
        """The game with networks that need not grow any more."""
        game = self.run.algorithm
        if not isinstance(game, ProgressiveGAN):
            return game
        with torch.device("meta"):
            critic = game.players(self.run.sees(self.spec))["D"]
        if isinstance(critic, Growing) and (grown := game.grown(self.seen, critic.stages)) < critic.stages:
            raise UserError(
                f"--from {self.path}: its networks have doubled {grown:.3g} times of {critic.stages}, and what is yet "
                f"to come never learned; first go on with it, zerosum train --resume {self.path}, or give --algorithm "
                "progressive, which grows them once more"
            )
        return replace(game, growth=(0,), fades=())


def _rest(schedule: Schedule, seen: int) -> Schedule:
    """From where it is after so many images, in a straight line to its end."""
    left = schedule.after + schedule.images - seen
    return Linear(schedule(seen), schedule.end, left) if left > 0 else Constant(schedule.end)
