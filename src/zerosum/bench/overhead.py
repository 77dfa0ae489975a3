"""Where our loop spends what a bare one does not: each part timed by itself, beside what the bare loop does for it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from contextlib import suppress

import torch

from zerosum import randomness
from zerosum.bench.bare import Bare
from zerosum.scores import Score
from zerosum.trainer import Training

REPEATS = 512
Work = Callable[[], object]


class _Leave(Exception):
    """Leaves a turn before anything is minimised."""


def parts(training: Training, bare: Bare, reals: int, repeats: int = REPEATS) -> dict[str, float]:
    """Milliseconds a step that ours takes longer, by part: means, since some work is saved up.

    `reals`: batches of real images in a step.
    For a step of one turn of D and one of G. `training` is spoilt by it: its scores are no longer those of a game.
    """
    loader, turns, first, count = training.loader, training.turns, training.seen, training.local
    networks = [list(network.parameters()) for network in training.players.networks.values()]
    logits, value = torch.randn(2, count), torch.tensor(1.0)

    position = itertools.count(first, count)

    def latents() -> None:
        sample = next(position)
        for purpose in ("z", "z2"):
            loader.latent(purpose, sample, count)

    def images() -> None:
        for purpose in ("real", "real2")[:reals]:
            loader.real(purpose, first, count)

    def seed() -> None:
        training.engine.seed(randomness.torch_seed(training.run.seed, "step/0", time.perf_counter_ns()))

    def rates() -> None:
        for optimiser, settings in zip(
            training.optimisers.values(), (training.run.adam_g, training.run.adam_d), strict=True
        ):
            for group in optimiser.param_groups:
                group["lr"] = settings.lr(training.seen)

    def empty_turns() -> None:
        for name in ("D", "G"):
            with suppress(_Leave), turns(name):
                raise _Leave

    def bare_turns() -> None:
        bare.D.requires_grad_(True)
        bare.opt_d.zero_grad(set_to_none=True)
        bare.D.requires_grad_(False)
        bare.opt_g.zero_grad(set_to_none=True)

    @torch.no_grad()
    def guard() -> None:  # as in `game.Turns`, on weights in place of gradients
        for parameters in networks:
            math.isfinite(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tuple(parameters)))))

    kept = [Score() for _ in range(4)]  # loss and gradient of either player

    def scores() -> None:
        turns.note(real=logits[0], fake=logits[1])
        for score in kept:
            score.add(value)

    def average() -> None:
        for ema in training.ema.values():
            ema.update(training.images_per_step, 10_000.0)

    def housekeeping() -> None:
        training.done()
        for every in (training.run.log_every, training.run.grid_every, training.run.checkpoint_every):
            training.due(every)

    pairs: dict[str, tuple[Work, Work | None]] = {
        "latents": (latents, lambda: [bare.draws.latent() for _ in range(2)]),
        "images": (images, lambda: [bare.draws.real() for _ in range(reals)]),
        "seed": (seed, None),
        "rates": (rates, None),
        "freeze, clear": (empty_turns, bare_turns),
        "guard": (guard, None),
        "scores": (scores, None),
        "average": (average, bare.average),
        "housekeeping": (housekeeping, None),
    }
    return {
        name: _ms(ours, repeats) - (0.0 if theirs is None else _ms(theirs, repeats))
        for name, (ours, theirs) in pairs.items()
    }


def _ms(work: Work, repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return 1e3 * (time.perf_counter() - began) / repeats
