"""How long each size of a game that grows lasts: by the clock, for small sizes take little time and learn quickly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.data.spec import Spec
from zerosum.game import LATE, Adam
from zerosum.networks import Growing
from zerosum.run import Run
from zerosum.schedule import Constant, Linear, Schedule

AVERAGED = 20  # half-lives of the average that the last size lasts


def doublings(run: Run, spec: Spec) -> int:
    """How often this game's networks double on these data before they are whole; 0 if that is settled, or none do."""
    game = run.algorithm
    if not isinstance(game, ProgressiveGAN) or game.growth or game.size_images != ProgressiveGAN().size_images:
        return 0
    with torch.device("meta"):
        critic = run.algorithm.players(run.sees(spec))["D"]
    return critic.stages if isinstance(critic, Growing) else 0


def rates(run: Run, stages: int, estimate: Callable[[Run], float]) -> list[float]:
    """Real images a second at each size, from the smallest."""
    assert isinstance(run.algorithm, ProgressiveGAN)
    found = []
    for size in range(stages + 1):
        growth = (0,) * size + (LATE,) * (stages - size)
        found.append(estimate(replace(run, algorithm=replace(run.algorithm, growth=growth))))
    return found


def shares(sizes: int) -> list[float]:
    """Of the time: each size twice as long as the one before, the last a little more than half of it all."""
    return [2**size / (2**sizes - 1) for size in range(sizes)]


def average(rates: Sequence[float]) -> float:
    """Images a second over such a run as a whole."""
    return sum(rate * share for rate, share in zip(rates, shares(len(rates)), strict=True))


def paced(run: Run, rates: Sequence[float], images: int) -> Run:
    """The run of about so many images with its doublings where each size has its share of the time.

    Each fades in over half of its own time, the last one, too. The average is of what was seen since, not of sizes
    that are long gone: where large images are slow, most of a run's images are small ones.
    """
    assert isinstance(run.algorithm, ProgressiveGAN)
    parts = [rate * share / average(rates) for rate, share in zip(rates, shares(len(rates)), strict=True)]
    growth = tuple(round(images * part) for part in accumulate(parts[:-1]))
    fades = tuple(round(images * part / 2) for part in parts[1:])
    half_life = max(images * parts[-1] / AVERAGED, 1.0)
    return replace(
        run, algorithm=replace(run.algorithm, growth=growth, fades=fades),
        ema_half_life=Linear(0, half_life, max(round(10 * half_life), 1)),
    )  # fmt: skip


def taking_over(run: Run, other: Run, seen: int) -> Run:
    """`run` with the game of another one whose weights it begins with: whole, at its rates, for its own length.

    Rates fall as this run's do: the other's have come to their end. Its average goes on from the half-life that it
    had after `seen` images: with a shorter one what was taken over would be gone, with a longer one it would stay.
    """

    def rated(adam: Adam, theirs: Adam) -> Adam:
        falls = adam.lr.end / adam.lr.start if adam.lr.start else 1.0
        start = theirs.lr.start
        return replace(theirs, lr=replace(adam.lr, start=start, end=start * falls))

    game = other.algorithm
    if isinstance(game, ProgressiveGAN):
        game = replace(game, growth=(0,), fades=())
    return replace(
        run, algorithm=game, adam_g=rated(run.adam_g, other.adam_g), adam_d=rated(run.adam_d, other.adam_d),
        ema_half_life=_rest(other.ema_half_life, seen),
    )  # fmt: skip


def _rest(schedule: Schedule, seen: int) -> Schedule:
    """From where it is after so many images, in a straight line to its end."""
    left = schedule.after + schedule.images - seen
    return Linear(schedule(seen), schedule.end, left) if left > 0 else Constant(schedule.end)
