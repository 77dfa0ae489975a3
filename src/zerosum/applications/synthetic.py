"""Where labelled images that were not photographed come from, and which of them are let through.

A source is given the training images of one fold or draw and nothing else. Three of them are controls, whose answer is
known: copies of the training images must not help, images under wrong labels must hurt, and fresh real images (an
oracle, which no GAN is) must help.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from zerosum import randomness, sample, session
from zerosum import run as runs
from zerosum.applications.classify import Probabilities
from zerosum.applications.parts import groups_of
from zerosum.checkpoint import numbers
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.metrics.features.weak import Pixels
from zerosum.metrics.registered import nearest_registered
from zerosum.recipes.images import against_learning_by_heart, bare, digits, few, quick
from zerosum.recipes.pick import pick
from zerosum.run import Run
from zerosum.runlog import read_status

AS_NEAR = 0.01  # of the real images' distances to each other: what is nearer to one of them than that is a copy
PARTS = 10  # of the training images, each held against the others
MORE = 4  # times as many as are wanted are drawn, at most, until enough pass the gate
LEAST = 0.5  # probability that a classifier of the real training images must give the class that is claimed


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images uint8 (n, C, H, W) and labels int64 (n,), none of which a test image is."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, index: np.ndarray) -> Labelled:
        return Labelled(self.images[index], self.labels[index])

    def joined(self, other: Labelled) -> Labelled:
        return Labelled(np.concatenate([self.images, other.images]), np.concatenate([self.labels, other.labels]))


Draw = Callable[[np.ndarray, int], np.ndarray]
"""(labels int64 (n,), first) -> images uint8 (n, C, H, W) of these classes: numbers first .. first+n-1."""


class Source(Protocol):
    """Makes a `Draw` of the training images of one fold; `folder` is its own to keep things in."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str:
        """All that decides what it makes, beside the images that it is given."""
        ...

    def __call__(self, train: Labelled, class_names: tuple[str, ...], seed: int, folder: Path) -> Draw: ...


@dataclass(frozen=True)
class OfGAN:
    """A class-conditional GAN trained on the fold's training images for some minutes, augmentation as there are few."""

    minutes: float
    data: Data
    name: str = "gan"
    device: str = "auto"
    shorten: Callable[[Run], Run] = lambda run: run

    @property
    def about(self) -> str:
        """Minutes, and a hash of all recipes that `recipes.pick` may choose for labelled images, as they are used here.

        Left out are the rules that it chooses by, and what a trial on the machine settles: how many images the minutes
        leave time for, what is fitted to that, and the arithmetic.
        """
        data = Data(source=self.name, flip=self.data.flip)  # which images they are, a study knows by their hashes
        recipes = (replace(digits(), data=data), quick(data), few(data))
        told = "\n".join(runs.dumps(self._asked(recipe, 0)) for recipe in recipes)
        return f"{self.minutes:g} minutes, recipes {hashlib.sha256(told.encode()).hexdigest()[:12]}"

    def check_size(self, spec: Spec, count: int) -> None:
        """SizeError where the networks for `count` such images do not take their height and width."""
        run = self._asked(bare(self.data, spec, count)[0], 0)
        with torch.device("meta"):  # shapes alone
            run.algorithm.players(run.sees(spec))

    def __call__(self, train: Labelled, class_names: tuple[str, ...], seed: int, folder: Path) -> Draw:
        dataset, threads = ArrayDataset(train.images, train.labels, class_names), torch.get_num_threads()
        if not numbers(folder):  # never begun, or stopped before there was anything to go on from
            shutil.rmtree(folder, ignore_errors=True)
            session.start(self._run(dataset, seed), dataset, folder, device=self.device)
        elif read_status(folder)["state"] != "finished":
            session.resume(folder, dataset, device=self.device)
        torch.set_num_threads(threads)  # the run has its own number
        if read_status(folder)["state"] != "finished":  # Ctrl-C and SIGTERM end a run in good order: so ends the study
            raise KeyboardInterrupt
        model = sample.load(folder, "last", "fp32")

        def draw(labels: np.ndarray, first: int) -> np.ndarray:
            z = randomness.normal(seed, "augment", first, len(labels), model.latent).float()
            return model.values(z, torch.from_numpy(labels))

        return draw

    def _run(self, dataset: ArrayDataset, seed: int) -> Run:
        def adjust(found: Run) -> Run:
            return self._asked(found, seed)

        data = replace(self.data, held_out=0)
        found = pick(data, minutes=self.minutes, device=self.device, dataset=dataset, adjust=adjust)
        runs.check(found.run)
        return found.run

    def _asked(self, found: Run, seed: int) -> Run:
        """A recipe as it is used here."""
        asked = replace(
            found, seed=seed, conditional=True, class_balance="even", minutes=self.minutes, images=None,
            augment=against_learning_by_heart(found, ("colour", "translation")),
        )  # fmt: skip
        return self.shorten(asked)


def minutes_of(folder: Path) -> float:
    """What the GAN in a source's folder was trained for; 0 if there is none."""
    return float(read_status(folder)["seconds"]) / 60


@dataclass(frozen=True)
class Copies:
    """A control: the training images themselves, again. They know nothing new."""

    name: str = "copies"

    @property
    def about(self) -> str:
        return self.name

    def __call__(self, train: Labelled, class_names: tuple[str, ...], seed: int, folder: Path) -> Draw:
        return _of_class(train, seed)


@dataclass(frozen=True, eq=False)
class Fresh:
    """A control: real images that were kept aside, of the class asked for. What a perfect generator would make."""

    aside: Labelled
    name: str = "oracle"

    @property
    def about(self) -> str:
        return self.name

    def __call__(self, train: Labelled, class_names: tuple[str, ...], seed: int, folder: Path) -> Draw:
        return _of_class(self.aside, seed)


@dataclass(frozen=True, eq=False)
class Mislabelled:
    """A control: real images that were kept aside, under labels drawn at random."""

    aside: Labelled
    name: str = "shuffled labels"

    @property
    def about(self) -> str:
        return self.name

    def __call__(self, train: Labelled, class_names: tuple[str, ...], seed: int, folder: Path) -> Draw:
        order = randomness.permutation(seed, "augment/shuffled", 0, len(self.aside))
        return _of_class(Labelled(self.aside.images, self.aside.labels[order]), seed)


def _of_class(known: Labelled, seed: int) -> Draw:
    """Images of each class in keyed order, in endless passes."""
    members = {int(k): np.flatnonzero(known.labels == k) for k in np.unique(known.labels)}

    def draw(labels: np.ndarray, first: int) -> np.ndarray:
        index = np.empty(len(labels), dtype=np.int64)
        for k in np.unique(labels):
            at = np.flatnonzero(labels == k)
            own = members[int(k)]
            index[at] = own[randomness.order(seed, f"augment/{k}", first, len(at), len(own))]
        return known.images[index]

    return draw


# --- the gate --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Passed:
    """What a source gave and was let through, and how much was not."""

    found: Labelled
    wanted: np.ndarray
    """The classes that were asked for, int64: a class that seldom passes is rarer in `found`."""
    places: np.ndarray
    """Of those of `wanted` that `found` has, ascending."""
    drawn: int
    other_class: int
    """Of those drawn: a classifier of the real training images took them for another class."""
    copies: int
    """Of those drawn: as near to a training image as hardly any two of them are to each other."""

    def first(self, count: int) -> Labelled:
        """What there is of the first `count` that were wanted: none stands in for one of them that did not pass."""
        return self.found.of(np.flatnonzero(self.places < count))


def gated(draw: Draw, wanted: np.ndarray, train: Labelled, judge: Probabilities | None) -> Passed:
    """Images of the classes `wanted` int64 (n,), fewer where the source's do not pass.

    An image passes if `judge`, trained on the real training images alone, gives its class LEAST, and if it is no copy
    of one of them, mirrored or moved by a pixel or two. Without a judge all pass: for controls that would not.
    """
    if judge is None:
        return Passed(Labelled(draw(wanted, 0), wanted), wanted, np.arange(len(wanted)), len(wanted), 0, 0)
    pixels = Pixels(Spec(train.images.shape[1:]))
    nearest = _apart(train, pixels)
    missing = np.arange(len(wanted))  # places that nothing has passed for yet
    made = np.empty((len(wanted), *train.images.shape[1:]), dtype=np.uint8)
    drawn = wrong = copied = 0
    while len(missing) and drawn < MORE * len(wanted):
        labels = wanted[missing]
        images = draw(labels, drawn)
        drawn += len(missing)
        agrees = judge(images)[np.arange(len(labels)), labels] >= LEAST
        near = nearest_registered(images, train.images, pixels)[0].numpy() <= nearest
        wrong += int((~agrees).sum())
        copied += int((agrees & near).sum())
        good = agrees & ~near
        made[missing[good]] = images[good]
        missing = missing[~good]
    places = np.setdiff1d(np.arange(len(wanted)), missing)  # in the order of `wanted`, whenever they passed
    return Passed(Labelled(made, wanted).of(places), wanted, places, drawn, wrong, copied)


def in_shares(labels: np.ndarray, count: int) -> np.ndarray:
    """`count` of the labels int64 (n,), again from the start where there are fewer; of any number of them from the
    first on, each class has its share, to about one."""
    place, kinds = np.empty(len(labels)), np.unique(labels)
    for number, kind in enumerate(kinds):
        at = np.flatnonzero(labels == kind)
        place[at] = (np.arange(len(at)) + (number + 0.5) / len(kinds)) / len(at)  # classes of one size take turns
    return labels[np.argsort(place, kind="stable")][np.arange(count) % len(labels)]


def by_class(passed: Passed, class_names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """How many of each class passed, of how many that were asked for."""
    counts = (np.bincount(labels, minlength=len(class_names)) for labels in (passed.found.labels, passed.wanted))
    rows = zip(class_names, *(count.tolist() for count in counts), strict=True)
    return {name: {"passed": got, "wanted": asked} for name, got, asked in rows}


def _apart(train: Labelled, pixels: Pixels) -> float:
    """How near real images are to each other at the nearest, but for a share AS_NEAR: a part at a time to the rest.

    Of one picture that is there several times, once: else nothing but an exact copy would be a copy.
    """
    images = train.images[np.unique(groups_of(ArrayDataset(train.images)), return_index=True)[1]]
    if len(images) < 2:
        return 0.0  # an exact copy is one
    order = randomness.permutation(0, "augment/parts", 0, len(images))
    found = []
    for part in np.array_split(order, min(PARTS, len(order))):
        rest = np.setdiff1d(order, part)
        found.append(nearest_registered(images[part], images[rest], pixels)[0].numpy())
    return float(np.quantile(np.concatenate(found), AS_NEAR))
