"""The classifier that a semi-supervised game leaves behind: its critic, with averaged weights.

And which of some images it was trained on: what it says of those tells nothing about others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import run as runs
from zerosum import sample
from zerosum.data import duplicates
from zerosum.data.picture import from_pixels
from zerosum.data.spec import Data, Dataset, Spec
from zerosum.data.split import train_part
from zerosum.data.store import block_rows
from zerosum.errors import UserError
from zerosum.metrics.features.base import CHUNK, unit
from zerosum.metrics.sources import Open


class _Classes(nn.Module):
    """Images (n, C, H, W) in [-1, 1] -> class logits (n, K), of a critic that ends in `ClassesOrFake`."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(x, None, True)[0]


@dataclass(frozen=True, eq=False)
class Trained:
    """A classifier by its run: `network` maps images in [-1, 1] to logits of `class_names`."""

    network: nn.Module
    class_names: tuple[str, ...]
    spec: Spec
    images_seen: int

    @torch.no_grad()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of each class, float64 (n, K), from images uint8 (n, C, H, W)."""
        parts = [self.network(unit(images[i : i + CHUNK])).double().softmax(1) for i in range(0, len(images), CHUNK)]
        return torch.cat(parts).numpy()

    def numbers_of(self, names: Sequence[str]) -> np.ndarray:
        """The classifier's number of each of these classes, int64 (k,). UserError names those that it does not have."""
        return sample.numbers_of(names, self.class_names)


def load(path: Path, which: str = "last") -> Trained:
    """The classifier of a run of --algorithm ssgan. UserError if the run has none."""
    recipe, run, saved = sample.stored(path, which)
    if run.algorithm.labels != "critic":
        name = type(run.algorithm).__name__
        raise UserError(f"{path}: {name} trains no classifier; zerosum train DATA --algorithm ssgan does")
    spec = sample.spec_of(recipe["data"])
    critic = sample.averaged(run.algorithm.players(spec)["D"], saved, "D")
    return of_critic(critic, tuple(recipe["data"]["class_names"]), spec, saved.images_seen)


def of_critic(critic: nn.Module, class_names: tuple[str, ...], spec: Spec, images_seen: int) -> Trained:
    """Of a critic that ends in `networks.ClassesOrFake`."""
    return Trained(_Classes(critic).eval(), class_names, spec, images_seen)


def alone(some: Sequence[str], every: Sequence[str]) -> str:
    """Which classes images are of, in words, where they are not of all."""
    return f" of {', '.join(some)} alone" if len(some) < len(every) else ""


# --- what it was trained on ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Known:
    """Which of some images a run was trained on."""

    each: np.ndarray | None
    """(n,) bool; None where it cannot be told."""
    same_source: bool
    """They are of the run's source, in whatever way it was read."""
    why_not: str = ""
    """Why it cannot be told."""


def known(path: Path, found: Dataset, data: Data, open_images: Open) -> Known:
    """Which of the images `found` that `data` names, read as the run in `path` sees them, it was trained on.

    Image by image: a copy of its folder with some files more or less has another fingerprint. Images are the same if
    all their pixels are, in 8 bits. Those that it used without their labels count, too.
    """
    recipe = sample.read_recipe(path)
    own, fingerprint = runs.from_json(recipe["run"]).data, recipe["data"]["fingerprint"]
    same = same_source(own, data)
    if found.fingerprint == fingerprint:
        whole = found  # wherever they are now
    else:
        try:
            whole = open_images(replace(own, download=False))
        except (UserError, OSError):
            return Known(None, same, f"its data, {own.source}, cannot be read any more")
        if whole.fingerprint != fingerprint:  # and with them which were held out
            return Known(None, same, f"its data, {own.source}, have changed since")
        if (data.fit, found.spec.depth) != (own.fit, whole.spec.depth):
            return Known(None, same, f"its data are read with --fit {own.fit} --bits {own.bits}")
    trained_on = set(_digests(train_part(whole, own)))
    return Known(np.array([digest in trained_on for digest in _digests(found)]), same)


def same_source(a: Data, b: Data) -> bool:
    """Whether both are read from one source, in whatever way, and not one its training part and one its test part."""
    apart = {a.split, b.split} == {"train", "test"}
    return not apart and (a.source == b.source or Path(a.source).resolve() == Path(b.source).resolve())


def _digests(images: Dataset) -> list[bytes]:
    found: list[bytes] = []
    for first in range(0, len(images), step := block_rows(math.prod(images.spec.shape))):
        values, _ = images.gather(np.arange(first, min(first + step, len(images))))
        found += [duplicates.digest(from_pixels(image)) for image in values]
    return found
