"""How good are generated images: sources -> features -> statistics -> distances -> measurements -> a verdict.

Every stage is separate, and features and statistics are kept in the user's cache by what they depend on. Every number
comes with its interval (disjoint parts of both sides) and its floor (real against other real images, at the same n).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zerosum import randomness
from zerosum.data.spec import Dataset
from zerosum.errors import UserError
from zerosum.metrics import measurement, neighbours, registered
from zerosum.metrics.balance import class_balance
from zerosum.metrics.cache import Cache, address, hash_of_values
from zerosum.metrics.detail import detail, fine_power, grain, grain_ratio
from zerosum.metrics.distances import frechet, kernel_distance
from zerosum.metrics.evaluation import ClassResult, Evaluation, Pairs
from zerosum.metrics.features.base import Extractor
from zerosum.metrics.features.choose import Choice, choose
from zerosum.metrics.features.classifier import Classifier, classifier, guesses_well, not_trained_on, unfit
from zerosum.metrics.features.inception import NAME as INCEPTION
from zerosum.metrics.features.weak import Pixels
from zerosum.metrics.intervals import Interval, binomial, disjoint, fewer, over_parts, smaller
from zerosum.metrics.measurement import Better, Measurement, Protocol
from zerosum.metrics.sources import Fakes, Reals
from zerosum.metrics.statistics import Statistics, statistics
from zerosum.metrics.verdict import Share, verdict

MOST, QUICK = 10_000, 1_000  # images a side, if the user does not say
LEAST = 50  # images a side: fewer allow no interval worth its name
PARTS = 8  # that both sides are cut into for the intervals
COPY_CHECKED = 2_000  # fakes whose nearest training images are looked for
PAIRS = 16  # suspicious ones that are shown
LEAST_OF_CLASS = 40  # images of a class on either side, for numbers of its own
NAMED = 5  # classes that a note names
LEVEL = 0.95
# What a number can be, by key; others any. Not the kernel distance: being unbiased, it is below 0 as often as above.
SHARES = ("precision", "recall", "coverage", "authenticity", "agreement")
POSSIBLE = {
    **dict.fromkeys(SHARES, (0.0, 1.0)),
    **dict.fromkeys(("frechet", "density", "class balance"), (0.0, math.inf)),
}
ANY = (-math.inf, math.inf)

Say = Callable[[str, int, int | None], None]
"""What is being done, how far it is, of how many."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be asked of an evaluation."""

    n: int | None = None
    """Images a side; 10,000, or half of the real images to measure with if that is fewer, if not given."""
    seed: int = 0
    features: str | None = None
    quick: bool = False
    download: bool = False
    lpips: bool = False
    """Of a translator: also LPIPS to the truth."""


@dataclass(frozen=True, eq=False)
class Side:
    """Some images as every stage sees them; a part of it is cut by `at`."""

    features: Tensor
    power: Tensor | None
    """Fine power of each image (n,); None for points."""
    grain: Tensor | None
    """Grain of each image (n,); None for points."""
    classes: Tensor | None
    """Class numbers (n,): true labels where both sides have some, else a classifier's guesses; None without."""
    named: Tensor | None = None
    """What a classifier says that each image shows (n,), where `classes` are what it is to show; None without."""
    known: Statistics | None = None

    def __len__(self) -> int:
        return len(self.features)

    def at(self, index: np.ndarray) -> Side:
        where = torch.from_numpy(index)
        return Side(
            self.features[where], None if self.power is None else self.power[where],
            None if self.grain is None else self.grain[where],
            None if self.classes is None else self.classes[where],
            None if self.named is None else self.named[where],
        )  # fmt: skip

    @cached_property
    def statistics(self) -> Statistics:
        return self.known or statistics(self.features)


@dataclass(frozen=True)
class Metric:
    """Numbers that one function gives for (real, fake): their keys, names and settings, and which way is better."""

    names: Mapping[str, tuple[str, str, Better]]
    function: Callable[[Side, Side], dict[str, float]]
    judge: Classifier | None = None
    """Whose guesses the numbers are of; None: they are no guesses."""


def evaluate(real: Reals, fakes: Fakes, settings: Settings, cache: Cache, say: Say = lambda *_: None) -> Evaluation:
    """Measure `fakes` against `real`. UserError if there are too few images or the features cannot be had."""
    return _Work(real, fakes, settings, cache, say).run()


class _Work:
    """One evaluation while it is made: what all its stages share."""

    def __init__(self, real: Reals, fakes: Fakes, settings: Settings, cache: Cache, say: Say) -> None:
        self.real, self.fakes, self.settings, self.cache, self.say = real, fakes, settings, cache, say
        self.seed = settings.seed
        self.began = time.perf_counter()
        self.notes: list[str] = [*real.notes, *fakes.notes]
        if settings.quick:
            self.notes.append("a quick look: without --quick there are more images, and numbers of single classes")
        if fakes.shape != real.train.spec.shape:
            raise UserError(f"{fakes.what} has shape {fakes.shape}, and {real.what} has {real.train.spec.shape}")

    def _count(self, have: int) -> tuple[int, bool]:
        """Images a side of so many real ones, and whether as many others are left for the floor."""
        wanted, made = self.settings.n, self.fakes.most
        most = have if made is None else min(have, made)
        n = min(QUICK if self.settings.quick else MOST, have // 2, most) if wanted is None else wanted
        there = f"{have:,} real images to measure with" + (
            "" if made is None else f" and {made:,} in {self.fakes.what}"
        )
        if most < LEAST or (wanted is None and n < LEAST):
            raise UserError(f"there are {there}; it takes {LEAST} on each side, and {2 * LEAST} real ones for floors")
        if not LEAST <= n <= most:
            raise UserError(f"-n {n}: give {LEAST} to {most:,}: there are {there}")
        if n > have // 2:
            self.notes.append(
                f"no floors: real against real at n = {n:,} needs {2 * n:,} real images, and there are {have:,}; "
                f"-n {have // 2} gives them"
            )
        return n, n <= have // 2

    def run(self) -> Evaluation:
        train = self.real.train
        choice = choose(
            train, self.cache, self.settings.features, partial(self._told, "training a classifier"),
            download=self.settings.download,
        )  # fmt: skip
        self.extractor = choice.extractor
        self.guess = self._guesser(choice)
        pool = np.arange(len(train)) if self.guess is None else not_trained_on(len(train))
        self.n, floored = self._count(len(pool))
        n, pool = self.n, pool[randomness.permutation(self.seed, "evaluate/real", 0, len(pool))]
        real_values, real_labels = train.gather(np.sort(pool[:n]))
        self.real_sha256 = hash_of_values(real_values)
        values, fake_labels = self.fakes.take(n, self.seed, self.real, partial(self._told, "drawing"))
        names, source = self._classes(fake_labels, real_labels)
        asked = fake_labels is not None and real_labels is not None
        if asked and self.guess is None and not self.settings.quick:
            self.notes.append("whether images show the class asked for is not said: no classifier learned the classes")
        real = self._side(real_values, real_labels, "real images", asked=asked)
        if bool((real.features == real.features[0]).all()):
            raise UserError(
                f"--features {self.extractor.name}: all {n:,} real images have the same features, so nothing can be "
                "said of others; choose other features, or other real images with --against"
            )
        fake = self._side(values, fake_labels, "generated images", asked=asked)
        other: Side | None = None
        if floored:
            other = self._side(*train.gather(np.sort(pool[n : 2 * n])), "other real images", asked=asked)
        measurements: dict[str, Measurement] = {}
        for metric in self._metrics(real, bool(names)):
            measurements |= self._measured(metric, real, fake, other)
        p_values: dict[str, float] = {}
        classes: tuple[ClassResult, ...] = ()
        if names:
            assert real.classes is not None
            assert fake.classes is not None
            p_values["class balance"] = class_balance(real.classes, fake.classes, len(names)).p_value
            classes = self._per_class(real, fake, other, names)
        p_values |= _spoilt(real, fake)
        pairs = None
        if train.spec.is_image:
            more, p_copies, pairs = self._copying(values)
            measurements |= more
            p_values |= p_copies
        if self.extractor.weak:
            self.notes.append(
                f"{self.extractor.name} are weak features: they see texture and layout, not meaning; distances in them "
                "rank alike images only roughly"
            )
        self.notes += sorted({r for m in measurements.values() for r in m.protocol.remarks()})
        self.notes += self.cache.notes
        return Evaluation(
            what=self.fakes.what, against=self.real.what, images_seen=self.fakes.images_seen, choice=choice,
            measurements=measurements, classes=classes, classes_from=source, p_values=p_values,
            verdict=verdict(measurements, [c.share for c in classes], p_values, guessed=not asked),
            notes=tuple(self.notes), pairs=pairs, samples=values[:64], seconds=time.perf_counter() - self.began,
            quick=self.settings.quick,
        )  # fmt: skip

    def _told(self, what: str, done: int, of: int) -> None:
        self.say(what, done, of)

    # --- sides -----------------------------------------------------------------------------------------------------

    def _guesser(self, choice: Choice) -> Classifier | None:
        """The classifier that knows the classes of the real images, if they have any that can be learned."""
        train = self.real.train
        found = choice.extractor if isinstance(choice.extractor, Classifier) else None
        if found is None and unfit(train) is None and not self.settings.quick:
            found = classifier(train, self.cache, told=partial(self._told, "training a classifier"))
        return found if found is not None and guesses_well(found, train) else None

    def _classes(self, fake_labels: np.ndarray | None, real_labels: np.ndarray | None) -> tuple[tuple[str, ...], str]:
        """Names of the classes, and where their numbers come from."""
        if fake_labels is not None and real_labels is not None:
            return self.real.train.class_names, "the labels of both sides"
        if self.guess is None:
            return (), ""
        return self.guess.class_names, f"a classifier's guesses on both sides ({_right(self.guess)})"

    def _side(self, values: np.ndarray, labels: np.ndarray | None, what: str, *, asked: bool) -> Side:
        """Of images whose labels are what they are to show, if `asked`; else what they show is up to the guesser."""
        sha = hash_of_values(values)
        features = self._features(self.extractor, values, sha, what)
        classes = None if labels is None else torch.from_numpy(labels.astype(np.int64))
        named: Tensor | None = None
        if self.guess is not None:
            own = features if self.guess is self.extractor else self._features(self.guess, values, sha, what)
            named = self.guess.probabilities(own).argmax(1)
        if named is not None and not asked:
            classes, named = named, None
        images = values.ndim == 4
        power, grains = (fine_power(values), grain(values)) if images else (None, None)
        side = Side(features, power, grains, classes, named)
        return replace(side, known=self._statistics(side, sha))

    def _features(self, extractor: Extractor, values: np.ndarray, sha: str, what: str) -> Tensor:
        def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
            return {"features": extractor(values, partial(self._told, f"features of {what}"))}, {}

        return self.cache.made("features", address("features", sha, extractor.key), make)[0]["features"]

    def _registered(
        self, extractor: Pixels, values: np.ndarray, among: np.ndarray, among_sha: str
    ) -> tuple[Tensor, Tensor]:
        def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
            distance, index = registered.nearest_registered(values, among, extractor)
            return {"distance": distance, "index": index}, {}

        key = address("registered", hash_of_values(values), among_sha, extractor.key, registered.SETTINGS)
        kept = self.cache.made("statistics", key, make)[0]
        return kept["distance"], kept["index"]

    def _statistics(self, side: Side, sha: str) -> Statistics:
        def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
            found = statistics(side.features)
            return {"mean": found.mean, "covariance": found.covariance}, {}

        key = address("statistics", sha, self.extractor.key)
        kept = self.cache.made("statistics", key, make)[0]
        return Statistics(len(side), kept["mean"], kept["covariance"])

    # --- numbers ---------------------------------------------------------------------------------------------------

    def _metrics(self, real: Side, classes: bool) -> list[Metric]:
        name = "FID" if self.extractor.name == INCEPTION else "Frechet distance"
        near: dict[str, tuple[str, str, Better]] = {
            "precision": ("precision", "k = 3", "higher"),
            "recall": ("recall", "k = 3", "higher"),
            "density": ("density", "k = 5", "higher"),
            "coverage": ("coverage", "k = 5", "higher"),
        }
        found = [Metric({"kernel": ("kernel distance", "cubic", "lower")}, _kernel)]
        if self.n > self.extractor.dimensions:
            found.insert(0, Metric({"frechet": (name, "", "lower")}, _frechet))
        else:
            self.notes.append(
                f"no Frechet distance: it needs more than {self.extractor.dimensions} images a side, not {self.n}; the "
                "kernel distance is unbiased at any number"
            )
        found.append(Metric(near, _neighbours))
        if not self.settings.quick:
            found.append(Metric({"authenticity": ("authenticity", "", "higher")}, _authenticity))
        if real.power is not None:
            found.append(Metric({"detail": ("fine detail", "log2 of the ratio to real", "higher")}, _detail))
            found.append(Metric({"grain": ("grain", "log2 of the ratio to real", "lower")}, _grain))
        if real.named is not None:
            found.append(Metric(_named(""), _agreement, self.guess))
        if classes:
            judge = self.guess if real.named is None else None  # labels of both sides are no guesses
            balance: tuple[str, str, Better] = "class balance", "KL(fake || real), nats", "lower"
            found.append(Metric({"class balance": balance}, _balance, judge))
        return found

    def _measured(
        self, metric: Metric, real: Side, fake: Side, other: Side | None, parts: int = PARTS
    ) -> dict[str, Measurement]:
        """The metric's numbers for (real, fake), each with interval and floor."""
        self.say(", ".join(name for name, _, _ in metric.names.values()), 0, None)
        values = self._intervals(metric, real, fake, parts)
        floors = None if other is None else self._intervals(metric, real, other, parts)
        out = {}
        for key, (name, settings, better) in metric.names.items():
            if metric.judge is not None:
                settings = ", ".join(filter(None, (settings, f"judge {_right(metric.judge)}")))
            protocol = self._protocol(name, settings, metric.judge or self.extractor, len(real), len(fake))
            floor = floors[key] if floors else None
            found = values[key]
            if isinstance(found, Interval):
                known = floor if isinstance(floor, Interval) else None
                out[key] = measurement.measured(found, known, better, protocol)
            else:
                out[key] = Measurement(
                    value=found, low=None, high=None, level=None, floor=None, better=better, protocol=protocol,
                    how=f"none: {parts} parts of the samples would be too small for this metric",
                )  # fmt: skip
        return out

    def _intervals(self, metric: Metric, real: Side, fake: Side, parts: int) -> dict[str, Interval | float]:
        """Each number with its interval by disjoint parts of both sides; bare where the parts are too small."""
        whole = metric.function(real, fake)
        for m in (parts, parts // 2):
            mine = disjoint(len(real), m, self.seed, "evaluate/parts/real")
            theirs = disjoint(len(fake), m, self.seed, "evaluate/parts/fake")
            try:
                found = [metric.function(real.at(i), fake.at(j)) for i, j in zip(mine, theirs, strict=True)]
            except UserError:
                continue  # the parts are too small for this metric
            return {key: self._interval(key, found, whole[key], len(fake)) for key in whole}
        return dict(whole)

    @staticmethod
    def _interval(key: str, parts: list[dict[str, float]], whole: float, n: int) -> Interval:
        found = over_parts(itemgetter(key), parts, whole, LEVEL, POSSIBLE.get(key, ANY))
        alike = found.low == found.high and key in SHARES  # none or all in every part: that is not for sure
        return binomial(round(whole * n), n, LEVEL) if alike or key == "agreement" else found

    def _protocol(self, metric: str, settings: str, extractor: Extractor, n_real: int, n_fake: int) -> Protocol:
        return Protocol(
            metric=metric, settings=settings, extractor=extractor.name, weights=extractor.weights,
            preparation=extractor.preparation, real=self.real.what, real_sha256=self.real_sha256, n_real=n_real,
            n_fake=n_fake, real_lossy=self.real.lossy, fake_lossy=self.fakes.lossy, fake_flips=self.real.flips and
            self.fakes.run is not None, seed=self.seed, versions=versions(),
        )  # fmt: skip

    def _per_class(self, real: Side, fake: Side, other: Side | None, names: tuple[str, ...]) -> tuple[ClassResult, ...]:
        assert real.classes is not None
        assert fake.classes is not None
        out = []
        for c, name in enumerate(names):
            mine, theirs = (np.flatnonzero(side.classes == c) for side in (real, fake))
            share = Share(
                name,
                binomial(len(mine), len(real), LEVEL),
                binomial(len(theirs), len(fake), LEVEL),
                fewer(len(theirs), len(fake), len(mine), len(real)),
            )
            measurements: dict[str, Measurement] = {}
            m = min(len(mine), len(theirs))
            if m >= LEAST_OF_CLASS and not self.settings.quick:
                rest: Side | None = None
                if other is not None and other.classes is not None:
                    others = np.flatnonzero(other.classes == c)
                    if len(others) >= LEAST_OF_CLASS:
                        m = min(m, len(others))
                        rest = other.at(others[:m])
                near: tuple[str, Better] = f"k = 5, class {name}", "higher"
                metrics = [
                    Metric({"kernel": ("kernel distance", f"cubic, class {name}", "lower")}, _kernel),
                    Metric({"density": ("density", *near), "coverage": ("coverage", *near)}, _density),
                ]
                if real.named is not None:
                    metrics.append(Metric(_named(f"class {name}"), _agreement, self.guess))
                if m > 2 * self.extractor.dimensions:
                    metrics.append(Metric({"frechet": ("Frechet distance", f"class {name}", "lower")}, _frechet))
                for metric in metrics:
                    measurements |= self._measured(metric, real.at(mine[:m]), fake.at(theirs[:m]), rest, parts=4)
            out.append(ClassResult(share, measurements))
        few = [c.share.name for c in out if not c.measurements]
        if few and not self.settings.quick:
            named = ", ".join(few[:NAMED]) + (f" and {len(few) - NAMED} more" if len(few) > NAMED else "")
            self.notes.append(
                f"no numbers of their own for {named}: it takes {LEAST_OF_CLASS} images of a class on either side; -n "
                "gives more"
            )
        return tuple(out)

    def _copying(self, values: np.ndarray) -> tuple[dict[str, Measurement], dict[str, float], Pairs | None]:
        """Whether fakes lie nearer to training images than held-out real images do, by their pixels, moved or not."""
        known = self.real.originals or self.real
        train, held_out = known.train, known.held_out
        if held_out is None:
            self.notes.append("no check for copies: no real images were held out of training to compare with")
            return {}, {}, None
        extractor = Pixels(train.spec)
        values = values[: QUICK if self.settings.quick else COPY_CHECKED]
        self.say("nearest training images", 0, None)
        old = _all(train)
        new, fake = (self._registered(extractor, images, old, train.fingerprint) for images in (_all(held_out), values))
        found = neighbours.copying(*fake, new[0], pairs=PAIRS)
        settings = f"share nearer than the 1st percentile of held-out, {registered.SETTINGS}"
        protocol = replace(
            self._protocol("copies", settings, extractor, len(train), len(values)),
            real=known.what, real_sha256=train.fingerprint,
        )  # fmt: skip
        chance = Interval(found.expected, found.expected, found.expected, LEVEL, "by the choice of the threshold")
        pairs = Pairs(values[found.fake], train.gather(found.train)[0], tuple(float(d) for d in found.distance))
        measured = {"copies": measurement.measured(found.share, chance, "lower", protocol)}
        return measured, {"copies": found.p_value}, pairs


def _frechet(real: Side, fake: Side) -> dict[str, float]:
    return {"frechet": frechet(real.statistics, fake.statistics)}


def _kernel(real: Side, fake: Side) -> dict[str, float]:
    return {"kernel": kernel_distance(real.features, fake.features)}


def _neighbours(real: Side, fake: Side) -> dict[str, float]:
    precision, recall = neighbours.precision_recall(real.features, fake.features)
    return {"precision": precision, "recall": recall, **_density(real, fake)}


def _density(real: Side, fake: Side) -> dict[str, float]:
    density, coverage = neighbours.density_coverage(real.features, fake.features)
    return {"density": density, "coverage": coverage}


def _named(settings: str) -> dict[str, tuple[str, str, Better]]:
    return {"agreement": ("label agreement", settings, "higher")}


def _right(judge: Classifier) -> str:
    """How good a judge is, in words."""
    return f"{100 * judge.accuracy:.1f} % right on real images new to it"


def _agreement(_: Side, fake: Side) -> dict[str, float]:
    """The share of images that a classifier takes for what they are to show."""
    assert fake.named is not None
    assert fake.classes is not None
    return {"agreement": float((fake.named == fake.classes).double().mean())}


def _authenticity(real: Side, fake: Side) -> dict[str, float]:
    return {"authenticity": neighbours.authenticity(real.features, fake.features)}


def _detail(real: Side, fake: Side) -> dict[str, float]:
    assert real.power is not None
    assert fake.power is not None
    return {"detail": detail(real.power, fake.power)}


def _grain(real: Side, fake: Side) -> dict[str, float]:
    assert real.grain is not None
    assert fake.grain is not None
    return {"grain": grain_ratio(real.grain, fake.grain)}


def _spoilt(real: Side, fake: Side) -> dict[str, float]:
    """How often, by chance, single fakes have as much less detail than real images, and as much more grain."""
    if real.power is None or fake.power is None or real.grain is None or fake.grain is None:
        return {}
    return {
        "detail": smaller(fake.power.numpy(), real.power.numpy()),
        "grain": smaller(real.grain.numpy(), fake.grain.numpy()),
    }


def _balance(real: Side, fake: Side) -> dict[str, float]:
    assert real.classes is not None
    assert fake.classes is not None
    classes = int(max(real.classes.max(), fake.classes.max(), torch.tensor(1))) + 1
    return {"class balance": class_balance(real.classes, fake.classes, classes).divergence}


def _all(data: Dataset) -> np.ndarray:
    return data.gather(np.arange(len(data)))[0]


def versions() -> tuple[tuple[str, str], ...]:
    return tuple((name, version(name)) for name in ("torch", "numpy", "pillow"))
