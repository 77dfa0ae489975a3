"""A run as a studio to design in: its generator, its critic, and the items that it was trained on."""

from __future__ import annotations

import sys
from dataclasses import replace
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
    """`items`: the catalogue; what the run was trained on, if not given, with a warning if that has changed.

    UserError where that is not there any more, has another shape, another number of classes or classes that the run
    does not have, or the run makes no images.
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
    source = "items" if items else run.data.source
    if whole.spec.shape != model.spec.shape:
        raise UserError(
            f"{source}: images of {whole.spec.shape} (C, H, W), and {path} was trained on {model.spec.shape}; give "
            "back those, or train a run on these"
        )
    if model.spec.classes not in (0, whole.spec.classes):
        raise UserError(
            f"{source}: {whole.spec.classes} classes, and {path} was trained on {model.spec.classes}; give back those, "
            "or train a run on these"
        )
    if not items and whole.fingerprint != recipe["data"]["fingerprint"]:
        print(
            f"warning: {source}: is not what {path} was trained on; designs are held against what is there now",
            file=sys.stderr,
        )
    if model.spec.classes and whole.labels is not None:
        try:
            whole = replace(whole, labels=model.relabelled(whole.labels, whole.class_names))
        except UserError as error:
            raise UserError(f"{source}: {error}; give back those of {path}, or train a run on these") from error
    part = whole if items else train_part(whole, run.data)
    order = randomness.permutation(0, "design/catalogue", 0, len(part))
    values, labels = part.gather(np.sort(order[:MOST]))
    # A critic that looks at a whole batch would find that designs for one taste are too much alike.
    usual, kinds = part.gather(order[: run.batch_size])
    label = torch.from_numpy(kinds) if model.spec.classes and kinds is not None else None
    critic = decoupled(critic, scale(usual, torch.float32, CPU), label)
    return Studio(model, critic, RandomConvolutions(model.spec), values, labels if model.spec.classes else None)
