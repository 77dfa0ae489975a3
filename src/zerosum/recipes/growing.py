"""How long each size of a game that grows lasts: by the clock, for small sizes take little time and learn quickly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.data.spec import Spec
from zerosum.game import LATE
from zerosum.networks import Growing
from zerosum.run import Run
from zerosum.schedule import Linear

AVERAGED = 20  # half-lives of the average that the last size lasts


def stages(run: Run, spec: Spec) -> int:
    """How often its networks double on these data before they are whole; 0 of networks that do not grow."""
    if not isinstance(run.algorithm, ProgressiveGAN):
        return 0
    with torch.device("meta"):
        critic = run.algorithm.players(run.sees(spec))["D"]
    return critic.stages if isinstance(critic, Growing) else 0


def grows(run: Run, spec: Spec) -> bool:
    """Whether its networks become larger as it goes on."""
    return isinstance(run.algorithm, ProgressiveGAN) and run.algorithm.growth != (0,) and stages(run, spec) > 0


def doublings(run: Run, spec: Spec) -> int:
    """How often this game's networks double on these data before they are whole; 0 if that is settled, or none do."""
    game = run.algorithm
    if not isinstance(game, ProgressiveGAN) or game.growth or game.size_images != ProgressiveGAN().size_images:
        return 0
    return stages(run, spec)


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
