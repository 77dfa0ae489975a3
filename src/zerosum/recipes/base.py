"""What recipes share: from an algorithm's own settings to a run."""

from __future__ import annotations

from dataclasses import replace

from zerosum import algorithms
from zerosum.data.spec import Data
from zerosum.equilibrium.gap import QUICK_STEPS
from zerosum.run import Run

ROWS = 200  # lines of the log of a run
PROBES = 100  # of a run, if they cost little enough
REGRETS, REGRET_SHARE = 40, 0.015  # of a run, and of its time, at most
FRAMES = 60  # sample grids, so frames of the film, of a run
CHECKPOINTS = 10


def from_settings(algorithm: str, data: Data, *, toy: bool = False) -> Run:
    """An algorithm as its file declares it, on this data."""
    s = algorithms.settings(algorithm, toy=toy)
    run = Run(
        data=data, algorithm=s.algorithm, adam_g=s.adam_g, adam_d=s.adam_d, batch_size=s.batch_size, images=s.images,
        ema_half_life=s.ema_half_life, augment=s.augment, conditional=s.algorithm.labels != "optional",
    )  # fmt: skip
    return with_cadence(run, s.images)


def with_cadence(run: Run, images: int, probe_every: int = 1) -> Run:
    """How often to log, probe, draw and save in a run of about so many images; `probe_every`: at most so often."""
    every = max(probe_every, images // PROBES)
    return replace(
        run,
        log_every=max(1, images // ROWS),
        probe_every=every,
        # At most 1.5 % of the time: a step is a step, so nothing need be timed.
        regret_every=max(images // REGRETS, int(QUICK_STEPS / REGRET_SHARE) * run.batch_size * run.algorithm.rounds),
        grid_every=max(1, images // FRAMES),
        # What may end at any probe should have kept what it then calls its best.
        checkpoint_every=every if run.until == "converged" else max(1, images // CHECKPOINTS),
    )
