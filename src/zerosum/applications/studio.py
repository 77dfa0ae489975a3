"""A run as a studio to design in: its generator, its critic, and the items that it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zerosum import data as sources
from zerosum import randomness, sample, snapshot
from zerosum.applications.design import CPU, Studio
from zerosum.data.loader import scale
from zerosum.data.split import train_part
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.metrics.features.weak import RandomConvolutions
from zerosum.networks.blocks import decoupled

MOST = 20_000  # items of the catalogue that designs are held against


def of_run(path: str | Path, which: str = "last", items: ArrayDataset | None = None) -> Studio:
    """`items`: the catalogue; what the run was trained on, if not given.

    UserError where that is not there any more, or the run makes no images.
    """
    path = Path(path)
    model = sample.load(path, which, "fp32")
    if not model.spec.is_image:
        raise UserError(f"{path}: makes points, not images; there is nothing to design")
    recipe, run, saved = sample.stored(path, which)
    critic = run.algorithm.players(sample.spec_of(recipe["data"]))["D"]
    snapshot.fit(critic, saved.under("players/D/"), saved.path)
    critic.float().eval().requires_grad_(False)
    whole = items or sources.read(run.data)
    assert isinstance(whole, ArrayDataset)  # of noise: `sample.load` refuses two sides
    part = whole if items else train_part(whole, run.data)
    order = randomness.permutation(0, "design/catalogue", 0, len(part))
    values, labels = part.gather(np.sort(order[:MOST]))
    # A critic that looks at a whole batch would find that designs for one taste are too much alike.
    usual, kinds = part.gather(order[: run.batch_size])
    label = torch.from_numpy(kinds) if model.spec.classes and kinds is not None else None
    critic = decoupled(critic, scale(usual, torch.float32, CPU), label)
    return Studio(model, critic, RandomConvolutions(model.spec), values, labels if model.spec.classes else None)
