"""What can be measured: a run, or images from anywhere; and the real images that it is measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor

from zerosum import randomness, sample
from zerosum import run as runs
from zerosum.data import source as data_source
from zerosum.data.classes import labels_of
from zerosum.data.sets import named
from zerosum.data.spec import Data, Dataset
from zerosum.data.split import held_out_part, train_part
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.metrics.features.base import Told
from zerosum.runlog import RECIPE
from zerosum.sample import Model

LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
LOSSY_SETS = ("celeba",)

Open = Callable[[Data], Dataset]


@dataclass(frozen=True, eq=False)
class Reals:
    """Real images: those that were trained on (or could have been), and others of their kind if some were held out."""

    train: Dataset
    held_out: Dataset | None
    what: str
    lossy: bool
    flips: bool = False
    notes: tuple[str, ...] = ()
    originals: Reals | None = None
    """Where copies are looked for, if not here: what a run was trained on, when it is measured against other images."""


@dataclass(frozen=True, eq=False)
class Fakes:
    """What is measured: where it comes from, and how to have n of it, with labels where each is known."""

    what: str
    most: int | None
    """How many there are; None: as many as are asked for."""
    lossy: bool
    shape: tuple[int, ...]
    take: Callable[[int, int, Reals, Told | None], tuple[np.ndarray, np.ndarray | None]]
    """(n, seed, what it is measured against, progress) to values and labels, which number the classes of that."""
    run: Path | None = None
    images_seen: int | None = None
    notes: tuple[str, ...] = ()


def is_run(path: str | Path) -> bool:
    return (Path(path) / RECIPE).is_file()


def reals(data: Data, open_data: Open, dataset: Dataset | None = None, originals: Reals | None = None) -> Reals:
    """The real images that `data` names (or `dataset`), split as a run splits them."""
    whole = open_data(data) if dataset is None else dataset
    split = "" if data.split == "train" else f", {data.split} split"
    train, held_out = train_part(whole, data), held_out_part(whole, data)
    part = "" if held_out is None else ", training part"
    what = f"{data.source}{split}{part}"
    return Reals(train, held_out, what, _lossy(data), data.flip, _skipped(whole, data.source), originals)


def of_run(path: Path, which: str = "last") -> tuple[Fakes, Data]:
    """The averaged generator of a run as a source, and its data, with how many of them it has held out."""
    run = runs.from_json(sample.read_recipe(path)["run"])
    model = sample.load(path, which, "fp32")  # so that a number does not depend on what the machine is made for
    seen = model.images_seen
    fakes = Fakes(f"{path.name} at {seen:,} images", None, False, model.spec.shape, partial(draw, model), path, seen)
    # A run writes down how many images it has held out; one that is older than that has held out none.
    return fakes, replace(run.data, held_out=run.data.held_out or 0)


def draw(
    model: Model, n: int, seed: int, real: Reals, told: Told | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """n samples without truncation, and their labels if the model is conditional: in the shares that `real` has.

    Values are uint8 (n, C, H, W), or points float32 (n, d); latents are those of `zerosum sample` with this seed.
    Labels int64 (n,) number the classes of `real`; what is drawn is the model's class of that name. UserError if the
    model is conditional and `real` has no labels, or images of a class that the model does not have.
    """
    labels: np.ndarray | None = None
    asked: Tensor | None = None
    if model.spec.classes:
        every = labels_of(real.train) if real.train.class_names else None
        if every is None:
            raise UserError("this run is conditional, and the real images have no labels to take the shares from")
        try:
            own = model.relabelled(every, real.train.class_names)
        except UserError as error:
            raise UserError(
                f"{real.what}: {error}; leave such images out, or name their classes as the run does"
            ) from error
        order = randomness.order(seed, "evaluate/labels", 0, n, len(every))
        labels, asked = every[order].astype(np.int64), torch.from_numpy(own[order])
    progress = None if told is None else lambda done: told(done, n)
    return model.values(model.latents(n, seed), asked, progress), labels


def of_data(data: Data, open_data: Open, like: Dataset) -> Fakes:
    """A folder, zip or array file as a source, brought to the size and channels of the real images."""
    shape = like.spec.shape
    if like.spec.is_image:
        data = data_source.as_seen(data, like.spec)
    found = open_data(data)
    if found.spec.shape != shape:
        raise UserError(f"{data.source}: values of shape {found.spec.shape}, and the real ones have {shape}")
    return replace(of_dataset(found, data.source, like, _lossy(data)), notes=_skipped(found, data.source))


def of_dataset(found: Dataset, what: str, like: Dataset, lossy: bool = False) -> Fakes:
    """A set that is open as a source: n of it in keyed order. Its labels count if its classes are those of `like`."""
    if found.spec.shape != like.spec.shape:
        raise UserError(f"{what}: values of shape {found.spec.shape}, and the real ones have {like.spec.shape}")

    def take(n: int, seed: int, real: Reals, told: Told | None) -> tuple[np.ndarray, np.ndarray | None]:
        values, own = found.gather(np.sort(randomness.permutation(seed, "evaluate/fakes", 0, len(found))[:n]))
        return values, own if found.class_names and found.class_names == like.class_names else None

    return Fakes(what, len(found), lossy, found.spec.shape, take)


def _skipped(found: Dataset, what: str) -> tuple[str, ...]:
    """What to say of files that could not be read."""
    skipped = found.skipped if isinstance(found, ArrayDataset) else ()
    if not skipped:
        return ()
    name, reason = skipped[0]
    return (f"{what}: {len(skipped):,} of the files could not be read and were left out, such as {name} ({reason})",)


def _lossy(data: Data) -> bool:
    """Whether images were compressed with loss, as far as names tell."""
    if data.source in named():
        return data.source in LOSSY_SETS
    path = Path(data.source).expanduser()
    listing = data_source.image_listing(path) if path.exists() else None
    return listing is not None and any(PurePath(item.name).suffix.lower() in LOSSY for item in listing.items)
