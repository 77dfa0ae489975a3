"""A run as a studio to design in: its generator, its critic, and the items that it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zerosum import data as sources
from zerosum import sample, snapshot
from zerosum.applications.design import Studio
from zerosum.data.split import train_part
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.metrics.features.weak import RandomConvolutions

MOST = 20_000  # items of the catalogue that designs are held against


def of_run(path: Path, which: str = "last") -> Studio:
    """UserError where the run's data are not there any more, or are no images."""
    model = sample.load(path, which, "fp32")
    if not model.spec.is_image:
        raise UserError(f"{path}: makes points, not images; there is nothing to design")
    recipe, run, saved = sample.stored(path, which)
    critic = run.algorithm.players(sample.spec_of(recipe["data"]))["D"]
    snapshot.fit(critic, saved.under("players/D/"), saved.path)
    critic.float().eval().requires_grad_(False)
    whole = sources.read(run.data)
    if not isinstance(whole, ArrayDataset):
        raise UserError(f"{path}: was trained on two sides, and designs are made of noise")
    part = train_part(whole, run.data)
    items, labels = part.gather(np.arange(min(len(part), MOST)))
    return Studio(model, critic, RandomConvolutions(model.spec), items, labels if model.spec.classes else None)
