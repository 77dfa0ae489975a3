"""A run that begins with the weights of another one: that one's game, on other data, for its own length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from zerosum import algorithms, sample
from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.checkpoint import Checkpoint
from zerosum.data.spec import Data, Spec
from zerosum.errors import UserError
from zerosum.game import Adam, Algorithm
from zerosum.recipes import growing
from zerosum.run import Run
from zerosum.schedule import Constant, Linear, Schedule


@dataclass(frozen=True)
class Origin:
    """The run whose last weights another one begins with."""

    path: Path
    run: Run
    spec: Spec
    saved: Checkpoint
    """Its last one."""

    @staticmethod
    def of(path: Path) -> Origin:
        """Raises UserError if it is not a run, or has no weights that learned."""
        try:
            recipe, run, saved = sample.stored(path, "last")
        except UserError as error:
            raise UserError(f"--from {error}") from error
        if not saved.images_seen:
            raise UserError(
                f"--from {path}: it has not seen an image yet, so there is nothing to begin with; first go on with it: "
                f"zerosum train --resume {path}"
            )
        return Origin(path, run, sample.spec_of(recipe["data"]), saved)

    @property
    def seen(self) -> int:
        """Images that its weights have learned from."""
        return self.saved.images_seen

    @property
    def algorithm(self) -> str | None:
        """By name; None if it is one of the user's own."""
        package, _, name = type(self.run.algorithm).__module__.rpartition(".")
        return name if package == algorithms.__name__ else None

    @property
    def begins(self) -> str:
        return f"begins with the weights of {self.path}, after {self.seen:,} images"

    @property
    def why(self) -> str:
        """What `lend` and `sized` do, in a sentence."""
        own = "its networks, batches and rates"
        if self.spec.is_image:
            own = f"{own}, and images of its size and channels if nothing else is said"
        return f"{self.begins}: {own}; --algorithm chooses other settings"

    def sized(self, data: Data) -> Data:
        """The data at the size and with the channels of this run's, where they say none."""
        if not self.spec.is_image:
            return data
        channels, height, width = self.spec.shape
        target = self.spec.target
        if target is not None and target.shape[0] != channels:  # one number would be of both sides
            return replace(data, size=data.size or (height, width))
        return replace(data, size=data.size or (height, width), channels=data.channels or channels)  # type: ignore[arg-type]

    def check(self, spec: Spec) -> None:
        """UserError for data that its networks are not of, before a recipe for them is timed."""
        mine, theirs = _taken(self.spec, self.run), _taken(spec, self.run)
        if mine != theirs:
            raise UserError(
                f"--from {self.path}: its networks are for {mine}, and these data are {theirs}; give data of that kind "
                "(--size, --channels), or leave --from out"
            )

    def check_networks(self, networks: Mapping[str, nn.Module]) -> None:
        """UserError if its weights are not of these networks, which may be on the meta device."""
        for name, network in networks.items():
            wanted = {key: value.shape for key, value in network.state_dict().items()}
            if wanted != {key: value.shape for key, value in self.saved.under(f"players/{name}/").items()}:
                raise UserError(
                    f"--from {self.path}: its networks are not those of this run ({type(self.run.algorithm).__name__} "
                    "of that size, width and number of classes are wanted); leave --algorithm and its networks, "
                    "--conditional, --size and --channels to it, or leave --from out"
                )

    def warnings(self, spec: Spec) -> list[str]:
        """What a user should know who has such data."""
        if not self.spec.depth.wide or spec.depth.wide:
            return []
        return [f"the images of {self.path} have more than 8 bits, these are read in 8: --bits own keeps them"]

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
        stages = growing.stages(self.run, self.spec)
        if stages and (grown := game.grown(self.seen, stages)) < stages:
            raise UserError(
                f"--from {self.path}: its networks have doubled {grown:.3g} times of {stages}, and what is yet "
                f"to come never learned; first go on with it, zerosum train --resume {self.path} --minutes 20, or give "
                "--algorithm progressive, which grows them once more"
            )
        return replace(game, growth=(0,), fades=())


def _taken(spec: Spec, run: Run) -> str:
    """What networks of this run's game see of such data, in words. A translator takes any size."""
    classes = f", {spec.classes} classes" if run.conditional else ""
    if not spec.is_image:
        return f"points in {spec.shape[0]}-D{classes}"
    if spec.target is not None:
        return f"two sides of {spec.shape[0]} and {spec.target.shape[0]} channels{classes}"
    channels, height, width = spec.shape
    return f"images of {height}x{width} in {channels} channel{'s' * (channels > 1)}{classes}"


def _rest(schedule: Schedule, seen: int) -> Schedule:
    """From where it is after so many images, in a straight line to its end."""
    left = schedule.after + schedule.images - seen
    return Linear(schedule(seen), schedule.end, left) if left > 0 else Constant(schedule.end)
