"""Regret: what each player could still gain by some extra turns, its opponent frozen.

At an equilibrium nobody gains by moving alone. The sum of what both would gain is the duality gap, estimated as in
Grnarova et al. 2019 ("A domain agnostic measure for monitoring and evaluating GANs", arXiv:1811.05512, eq. 3 and
sec. 4): from the present weights, by some updates of one player against the other's frozen ones, judged on data that
those updates did not see. Both numbers are lower bounds: a longer or cleverer search may gain more.

Symbols (paper -> here): M(u, v) -> each player's own loss; V(u, v_worst) -> D's loss after its turns; U(u_worst, v) ->
G's; k -> turns. Differs from the paper: where the losses are not zero-sum (the non-saturating one), the gap is the sum
of the gains in each player's own loss (Nikaido and Isoda 1955), which is the duality gap if they are.

The algorithm's own step is played, on deep copies, with numbers of its own: nothing that trains is touched.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zerosum import distributed, randomness
from zerosum.data.loader import Loader
from zerosum.data.sides import SIDES
from zerosum.data.sides_loader import SidesLoader
from zerosum.engine import Engine
from zerosum.game import Batch, Minimise, Players, Source, Turns
from zerosum.metrics.intervals import Interval, over_parts
from zerosum.run import Run
from zerosum.scores import HUGE
from zerosum.seats import seated

TURNS, BATCHES = 20, 16
QUICK_TURNS, QUICK_BATCHES = 3, 2  # while training goes on
QUICK_STEPS = 15  # that a quick one takes the time of: 2 x 3 + 3 x 2, and copying the players
PURPOSE = "regret"


@dataclass(frozen=True)
class Gain:
    """What one side (D, or G) gains by its extra turns: its loss before less its loss after, in units of the loss."""

    side: str
    before: float
    after: float
    gain: Interval


@dataclass(frozen=True)
class Regret:
    """The gains of all sides at one point of a run, and their sum, the duality gap. Intervals are 95 %."""

    images_seen: int
    turns: int
    """k: extra turns of each side."""
    judged: int
    """Samples of either kind that the losses were taken on."""
    distinct: int
    """Different real samples among them: fewer, if the set is small, and the intervals are wider for it."""
    gains: tuple[Gain, ...]
    gap: Interval

    def of(self, side: str) -> Interval | None:
        """The gain of D or of G; None if it has no turns in this algorithm."""
        return next((g.gain for g in self.gains if g.side == side), None)

    def row(self) -> dict[str, float]:
        """For a line of the log: regret/D, regret/G and regret/gap, each with its _low and _high."""
        named = {f"regret/{g.side}": g.gain for g in self.gains} | {"regret/gap": self.gap}
        row: dict[str, float] = {}
        for name, estimate in named.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        return row


def regret(
    run: Run,
    players: Players,
    optimisers: Mapping[str, torch.optim.Optimizer],
    engine: Engine,
    play: Loader | SidesLoader,
    judge: Loader | SidesLoader,
    seen: int,
    *,
    turns: int = TURNS,
    batches: int = BATCHES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Regret:
    """How much each side still gains by `turns` extra turns from where it stands, at `seen` images.

    `play` gives the real samples for the extra turns (the training part), `judge` those that the losses are taken on,
    before and after, `batches` batches of the run's size (the held-out part; if there is none, `play` again). Draws
    are keyed by `seed`, the same at every point of a run, so that a curve shows the players and not the draws.

    The extra turns use the optimisers' moments and a learning rate that falls from the largest value of the recipe to
    zero: at the run's own, a late gain would be small only because the rate is. Costs about 2 x turns + 3 x batches
    steps of the algorithm, without updates of the frozen side. The networks, optimisers and torch's generator are
    left as they were. Under torchrun one process may call it alone; it then plays with its share of the batch, so that
    it needs no more memory than in training.
    """
    if turns < 1 or batches < 2:
        raise ValueError(f"turns={turns}, batches={batches}: at least 1 and 2")
    count = run.batch_size // distributed.world()
    algorithm = run.algorithm

    def batch(loader: Loader | SidesLoader, purpose: str, number: int) -> Batch:
        source = Addressed(loader, f"{PURPOSE}/{seed}/{purpose}")
        return Batch(source, number * count * algorithm.rounds, count, count)

    def rehearse(side: str | None) -> list[dict[str, float]]:
        """The losses of all sides on every batch of `judge`, after the extra turns of one side (of none: None)."""
        nets, carried, optims = copy.deepcopy((players.networks, players.carried, dict(optimisers)))
        twins = seated(run, nets, engine, carried)
        referee = Turns(twins, optims, engine, micro_batches=run.micro_batches, boundary=algorithm.boundary)
        rehearsal = Rehearsal(referee, side, turns, {name: _rate(run, name) for name in nets})
        number = 0
        while side is not None and rehearsal.left:
            engine.seed(randomness.torch_seed(seed, f"{PURPOSE}/{side}", number))
            algorithm.step(rehearsal, twins, batch(play, "play", number), seen)
            number += 1
            tick()
        losses = []
        for number in range(batches):
            engine.seed(randomness.torch_seed(seed, f"{PURPOSE}/judge", number))
            rehearsal.losses = {}
            algorithm.step(rehearsal, twins, batch(judge, "judge", number), seen)
            losses.append({name: sum(values) / len(values) for name, values in rehearsal.losses.items()})
            tick()
        return losses

    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, 2 * turns + 3 * batches)

    with distributed.apart(), _generators_kept(engine):
        before = rehearse(None)
        sides = sorted(before[0])
        after = {side: rehearse(side) for side in sides}
    drawn = batches * count * algorithm.rounds
    distinct = min(drawn, len(judge))
    # Real samples that come again add nothing: the interval is that of as many as are different.
    wider = math.sqrt(drawn / distinct)
    gained = {side: [b[side] - a[side] for b, a in zip(before, after[side], strict=True)] for side in sides}
    return Regret(
        images_seen=seen,
        turns=turns,
        judged=drawn,
        distinct=distinct,
        gains=tuple(
            Gain(
                side,
                before=_mean([b[side] for b in before]),
                after=_mean([a[side] for a in after[side]]),
                gain=_interval(gained[side], wider),
            )
            for side in sides
        ),
        gap=_interval([sum(both) for both in zip(*gained.values(), strict=True)], wider),
    )


class Rehearsal:
    """A `game.Turn` that lets one side move for a number of turns, and only writes down the losses of everybody else.

    So an algorithm's own step serves as a rehearsal, whatever is in it: the turns of the frozen sides are played, but
    their `minimise` changes nothing. With no turns left, nobody moves.
    """

    def __init__(self, turns: Turns, side: str | None, extra: int, rates: Mapping[str, float]) -> None:
        self.turns = turns
        self.side = side
        self.extra = self.left = extra if side is not None else 0
        self.rates = rates
        self.losses: dict[str, list[float]] = {}
        """Of every turn that was only watched, by side."""

    @contextmanager
    def __call__(self, *names: str, full_precision: bool = False) -> Iterator[Minimise]:
        side = names[0][0]  # "G_AB", "G_BA" -> G
        if self.left and side == self.side:
            for name in names:
                for group in self.turns.optimisers[name].param_groups:
                    group["lr"] = self.rates[name] * self.left / self.extra
            self.left -= 1
            with self.turns(*names, full_precision=full_precision) as minimise:
                yield minimise
            return
        self.turns.thaw()
        total = 0.0

        def watch(loss: Tensor, share: float | None = None) -> None:
            nonlocal total
            mean = float(loss.detach().mean())
            # A loss may overflow, and neither intervals nor JSON know infinity.
            mean = HUGE if math.isnan(mean) else min(max(mean, -HUGE), HUGE)
            total += mean * (self.turns.share if share is None else share)

        with self.turns.engine.forward(full_precision):
            yield watch
        self.losses.setdefault(side, []).append(total)

    @contextmanager
    def ahead(self, *names: str) -> Iterator[None]:
        if self.left and names[0][0] == self.side:
            with self.turns.ahead(*names):
                yield
            return
        self.turns.thaw()
        with self.turns.engine.forward():
            yield

    def split(self, batch: Batch) -> Iterator[Batch]:
        return self.turns.split(batch)

    def note(self, *, real: Tensor, fake: Tensor) -> None:
        """D's accuracy is for the log of a run; here there is none."""

    def log(self, **losses: Tensor) -> None:
        """As little are the parts of a loss."""


@dataclass(frozen=True)
class Addressed:
    """A source under purposes of its own: its draws are independent of those of training."""

    source: Source
    prefix: str

    def real(self, purpose: str, first: int, count: int) -> Tensor:
        # Of two-sided data the purpose begins with the side.
        name = f"{purpose}/{self.prefix}" if purpose in SIDES else f"{self.prefix}/{purpose}"
        return self.source.real(name, first, count)

    def label(self, purpose: str, first: int, count: int) -> Tensor | None:
        return self.source.label(f"{self.prefix}/{purpose}", first, count)

    def latent(self, purpose: str, first: int, count: int) -> Tensor:
        return self.source.latent(f"{self.prefix}/{purpose}", first, count)

    def uniform(self, purpose: str, first: int, count: int) -> Tensor:
        return self.source.uniform(f"{self.prefix}/{purpose}", first, count)


def _rate(run: Run, player: str) -> float:
    schedule = run.adam_of(player).lr
    return max(schedule.start, schedule.end)


def _interval(values: list[float], wider: float) -> Interval:
    """The mean over batches with its t interval, made wider by a factor."""
    found = over_parts(float, values)
    low, high = (found.value + wider * (end - found.value) for end in (found.low, found.high))
    return replace(found, low=low, high=high)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


@contextmanager
def _generators_kept(engine: Engine) -> Iterator[None]:
    """What torch's own generators were before, they are again afterwards."""
    devices: Any = [engine.device.index or 0] if engine.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
