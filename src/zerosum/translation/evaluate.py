"""How good translations are: against the truth where it is known, against the other side's images, and against the
baselines that need no training. The same measurements, intervals and record as `metrics.evaluate` makes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from zerosum import pictures, randomness
from zerosum.data.loader import scale
from zerosum.data.sides import SIDES, Sides
from zerosum.data.spec import Dataset, Direction, Side
from zerosum.equilibrium.two_sample import learned
from zerosum.errors import UserError
from zerosum.metrics import directions, measurement, pixels
from zerosum.metrics.cache import Cache, hash_of_values
from zerosum.metrics.directions import CYCLE, RUN, DirectionResult
from zerosum.metrics.distances import frechet, kernel_distance
from zerosum.metrics.evaluate import LEVEL, PARTS, Say, Settings, versions
from zerosum.metrics.evaluation import Evaluation
from zerosum.metrics.features.base import Extractor
from zerosum.metrics.features.choose import choose
from zerosum.metrics.intervals import Interval, binomial, disjoint, over_parts
from zerosum.metrics.measurement import Better, Measurement, Protocol
from zerosum.metrics.neighbours import ranks
from zerosum.metrics.perceptual import ALEXNET, LPIPS, SEEN
from zerosum.metrics.statistics import statistics
from zerosum.metrics.verdict import Finding, Kind
from zerosum.sample import to_uint8
from zerosum.translation import baselines
from zerosum.translation.model import CPU, Translator

LEAST, MOST, QUICK = 16, 1_000, 200  # images of a side that are translated
OF_PART = 4  # images of a part, at least
ROWS = 8  # examples that are shown of a direction
KNOWN = 2_000  # training images of a side, at most, that baselines and the domain classifier learn from
RANKED = 200  # images among which the true counterpart is looked for
COMPONENTS, FOR_EACH = 32, 3  # of features, for Frechet's distance of few images: at most, and images for each
OF_PIXELS: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor], Better]] = {
    "l1": ("L1 (range 1)", pixels.mean_absolute, "lower"),
    "psnr": ("PSNR (dB)", pixels.psnr, "higher"),
    "ssim": ("SSIM", pixels.ssim, "higher"),
}
LEARNED = "lpips"
COMPARED = (*OF_PIXELS, LEARNED, "kernel", "frechet", "joint", "rank", "domain")  # of all arms


@dataclass(frozen=True, eq=False)
class Trial:
    """What is measured: the translator, the sides it was trained on, and those that it never saw."""

    translator: Translator
    train: Sides
    unseen: Sides
    what: str
    against: str
    images_seen: int | None = None
    lossy: bool = False
    selection: str = "none"
    """How the checkpoint was chosen, if by numbers of the same images."""
    notes: tuple[str, ...] = ()


def evaluate(trial: Trial, settings: Settings, cache: Cache, say: Say = lambda *_: None) -> Evaluation:
    """Measure a translator in every direction that it goes. UserError if there are too few images."""
    began = time.perf_counter()
    trial = _at_one_size(trial)
    measurements: dict[str, Measurement] = {}
    findings: list[Finding] = []
    shown: list[DirectionResult] = []
    for direction in trial.translator.routes:  # one after the other: each holds some thousand images
        way = _Way(trial, direction, settings, cache, say)
        found = way.measured()
        measurements |= {f"{direction} {name}": value for name, value in found.items()}
        findings += way.verdict(found)
        shown.append(way.shown(measurements))
        if len(shown) == 1:
            choice, samples = way.choice, to_uint8(way.arms[RUN][:64] * 2 - 1)
    return Evaluation(
        what=trial.what, against=trial.against, images_seen=trial.images_seen, choice=choice,
        measurements=measurements, classes=(), classes_from="", p_values={}, verdict=tuple(findings),
        notes=tuple(dict.fromkeys([*trial.notes, *cache.notes])), directions=tuple(shown), samples=samples,
        seconds=time.perf_counter() - began, quick=settings.quick,
    )  # fmt: skip


class _Way:
    """One direction: inputs that were not trained on, what is made of them by each arm, and the other side."""

    def __init__(self, trial: Trial, direction: Direction, settings: Settings, cache: Cache, say: Say) -> None:
        self.trial, self.direction, self.seed, self.say = trial, direction, settings.seed, say
        self.source, self.target = SIDES if direction == trial.translator.default else SIDES[::-1]
        train, unseen = trial.train, trial.unseen
        self.lpips = self._lpips(settings)
        most = unseen.count(self.source)
        n = min(QUICK if settings.quick else MOST, most) if settings.n is None else settings.n
        if most < LEAST:
            raise UserError(
                f"only {most} images of side {direction[0]} were not trained on, and {LEAST} are needed: train with "
                f"--held-out {LEAST} or more, or evaluate with --split test, if it has as many"
            )
        if not LEAST <= n <= most:
            raise UserError(
                f"-n {n}: give {LEAST} to {most:,}: so many images of side {direction[0]} were not trained on"
            )
        self.n = n
        self.inputs = self._images(unseen, self.source, n, "inputs")
        # Of pairs the first n are the inputs' own.
        self.real = self._images(unseen, self.target, max(n, MOST), "inputs" if unseen.paired else "real")
        self.known = {side: self._images(train, side, KNOWN, "known") for side in SIDES}
        data = _side(train, self.target)
        told = partial(self._told, "features")
        self.choice = choose(data, cache, settings.features, told, download=settings.download)

    def _lpips(self, settings: Settings) -> LPIPS | None:
        if not settings.lpips:
            return None
        if not self.trial.unseen.paired:
            raise UserError("--lpips: is measured to the truth, and these sides are not paired: leave it out")
        channels = _side(self.trial.unseen, self.target).spec.shape[0]
        if channels not in SEEN:  # said before the work
            raise UserError(
                f"--lpips: is of grey and of colour, and side {self.target} has {channels} channels; leave it out"
            )
        if settings.download:
            ALEXNET.download(partial(self._told, "AlexNet's weights"))
        return LPIPS()

    def _told(self, what: str, done: int, of: int) -> None:
        self.say(what, done, of)

    def _images(self, sides: Sides, side: Side, most: int, purpose: str) -> Tensor:
        """Up to `most` images of a side, keyed, as they are measured: float32 (n, C, H, W) in [0, 1]."""
        dataset = _side(sides, side)
        key = "pair" if sides.paired else side
        index = randomness.permutation(self.seed, f"translation/{purpose}/{key}", 0, len(dataset))[:most]
        values = sides.gather(side, index)
        return (scale(values, torch.float32, CPU, dataset.spec.depth) + 1) / 2

    @cached_property
    def arms(self) -> dict[str, Tensor]:
        """What each makes of the inputs, (n, C, H, W) in [0, 1]: the run, and what needs no training."""
        x, known, answers = self.inputs, self.known[self.source], self.known[self.target]
        arms = {RUN: self._translated(self.direction, x), "identity": baselines.identity(x, answers.shape[1])}
        if self.trial.train.paired:
            arms["mean image"] = answers.mean(0, keepdim=True).expand(len(x), -1, -1, -1)
            arms["nearest pair"] = baselines.nearest_pair(x, known, answers)
        else:
            given = baselines.identity(known, answers.shape[1])
            arms["colour transfer"] = baselines.colour_transfer(arms["identity"], given, answers)
        return arms

    def _translated(self, direction: Direction, x: Tensor) -> Tensor:
        network = self.trial.translator.network(direction, wide=True)  # fp32: numbers are the same on every machine
        parts = []
        for start in range(0, len(x), 16):
            self.say(f"translating {direction}", start, len(x))
            with torch.no_grad():
                parts.append(network(x[start : start + 16] * 2 - 1))
        return (torch.cat(parts).clamp(-1, 1) + 1) / 2

    @cached_property
    def back(self) -> Tensor | None:
        """What the other direction, if there is one, makes of what this one made."""
        other = next((d for d in self.trial.translator.routes if d != self.direction), None)
        return None if other is None else self._translated(other, self.arms[RUN])

    @cached_property
    def truth(self) -> Tensor | None:
        """What the inputs should become."""
        return self.real[: self.n] if self.trial.unseen.paired else None

    def measured(self) -> dict[str, Measurement]:
        found: dict[str, Measurement] = {}
        for arm, made in self.arms.items():
            if self.truth is not None:
                found |= self._of_pixels(arm, made, self.truth)
        found |= self._distances()
        found |= self._domain()
        if self.back is not None:
            found |= self._of_pixels(CYCLE, self.back, self.inputs, only="l1")
        return found

    def shown(self, measurements: Mapping[str, Measurement]) -> DirectionResult:
        """The first examples, and by which metrics the arms stand beside each other."""
        metrics = [m for m in COMPARED if directions.key(self.direction, RUN, m) in measurements]
        columns = {"Input": self.inputs, "Output": self.arms[RUN], "Back again": self.back, "Target": self.truth}
        known = {name: images for name, images in columns.items() if images is not None}
        rows = [pictures.in_colour(to_uint8(images[:ROWS] * 2 - 1)) for images in known.values()]
        return DirectionResult(
            direction=self.direction, arms=tuple(self.arms), metrics=tuple(metrics), columns=tuple(known),
            rows=np.stack(rows, 1),
        )  # fmt: skip

    # --- numbers ---------------------------------------------------------------------------------------------------

    def _of_pixels(self, arm: str, made: Tensor, truth: Tensor, only: str | None = None) -> dict[str, Measurement]:
        out, functions = {}, dict(OF_PIXELS)
        if self.lpips is not None:
            functions[LEARNED] = ("LPIPS (AlexNet)", self.lpips, "lower")
        for key, (name, function, better) in functions.items():
            if only not in (None, key) or (key == "ssim" and min(made.shape[2:]) < pixels.WINDOW):
                continue
            each = torch.cat([function(a, b) for a, b in zip(made.split(64), truth.split(64), strict=True)]).numpy()
            parts = [each[i] for i in disjoint(len(each), PARTS, self.seed, "translation/parts")]
            interval = over_parts(lambda part: float(np.mean(part)), parts, float(each.mean()), LEVEL)
            told = self._protocol(name, arm)
            if key == LEARNED:
                assert self.lpips is not None
                told = replace(told, extractor="LPIPS", weights=self.lpips.weights, preparation=self.lpips.preparation)
            out[f"{arm}: {key}"] = measurement.measured(interval, None, better, told)
        return out

    def _distances(self) -> dict[str, Measurement]:
        """Of each arm from the real other side, with the floor of training images of that side."""
        extractor = self.choice.extractor
        real = self._features(extractor, self.real, "the other side")
        known = self._features(extractor, self.known[self.target], "the other side, training")
        floor = known[: self.n]
        out: dict[str, Measurement] = {}
        kinds: list[tuple[str, str, Callable[[Tensor, Tensor], float]]] = [
            ("kernel", "kernel distance", kernel_distance)
        ]
        fewest = min(len(real), self.n, len(floor))
        if near := _frechet_of(known, fewest):
            kinds.append(("frechet", f"Frechet distance{near[0]}", near[1]))
        paired = self.truth is not None and self.trial.train.paired
        joint = self._joint(extractor, known, real) if paired else None
        for arm, made in self.arms.items():
            fake = self._features(extractor, made, arm)
            varied = fake.unique(dim=0).shape[0] > 1
            for key, name, distance in kinds:
                if key == "kernel" and not varied:
                    continue  # one image again and again has no spread to be compared
                value = self._between(distance, fake, real)
                least = _floor(self._between(distance, floor, real)) if len(floor) > 1 else None
                out[f"{arm}: {key}"] = measurement.measured(value, least, "lower", self._protocol(name, arm, extractor))
            if joint is not None:
                out[f"{arm}: joint"] = joint(arm, fake)
            if self.truth is not None and varied:
                pool = min(self.n, RANKED)
                places = ranks(fake[:pool], real[:pool]).numpy()
                parts = [places[i] for i in disjoint(pool, PARTS, self.seed, "translation/parts")]
                interval = over_parts(lambda part: float(np.mean(part)), parts, float(places.mean()), LEVEL)
                name = f"mean rank of the true counterpart among {pool}"
                out[f"{arm}: rank"] = measurement.measured(
                    interval, None, "lower", self._protocol(name, arm, extractor)
                )
        return out

    def _joint(self, extractor: Extractor, known: Tensor, real: Tensor) -> Callable[[str, Tensor], Measurement] | None:
        """Frechet's distance of inputs with what was made of them from inputs with their true counterparts.

        DeVries et al. 2019, arXiv:1907.08175 (FJD): features of both, the input's scaled to the length of the other's.
        An answer that is a real image, but not this input's, is far.
        """
        channels = self.real.shape[1]
        given, known_given = (
            self._features(extractor, baselines.identity(x, channels), what)
            for x, what in ((self.inputs, "the inputs"), (self.known[self.source], "the inputs, training"))
        )
        weight = known.norm(dim=1).mean() / known_given.norm(dim=1).mean()
        pairs = torch.cat([weight * known_given, known], 1)
        near = _frechet_of(pairs, min(self.n, len(pairs)))
        if near is None:
            return None
        truth = torch.cat([weight * given, real[: self.n]], 1)
        least = _floor(self._between(near[1], pairs[: self.n], truth))

        def measure(arm: str, fake: Tensor) -> Measurement:
            value = self._between(near[1], torch.cat([weight * given, fake], 1), truth)
            protocol = self._protocol(f"Frechet distance of pairs{near[0]}", arm, extractor)
            return measurement.measured(value, least, "lower", protocol)

        return measure

    def _between(self, distance: Callable[[Tensor, Tensor], float], a: Tensor, b: Tensor) -> Interval:
        """The distance with its interval by disjoint parts of both, fewer where either side has few."""
        whole, parts = distance(a, b), min(PARTS, len(a) // OF_PART, len(b) // OF_PART)
        alone = Interval(whole, math.nan, math.nan, LEVEL, "none: its parts would be too small for this distance")
        if parts < 2:
            return alone
        mine, theirs = (
            disjoint(len(x), parts, self.seed, f"translation/{name}") for x, name in ((a, "made"), (b, "real"))
        )
        pairs = [(torch.from_numpy(i), torch.from_numpy(j)) for i, j in zip(mine, theirs, strict=True)]
        try:
            return over_parts(lambda pair: distance(a[pair[0]], b[pair[1]]), pairs, whole, LEVEL)
        except UserError:  # of Frechet, which needs more samples than dimensions
            return alone

    def _features(self, extractor: Extractor, images: Tensor, what: str) -> Tensor:
        return extractor(to_uint8(images * 2 - 1), partial(self._told, f"features of {what}"))

    def _domain(self) -> dict[str, Measurement]:
        """How often a classifier of the two sides takes the translations for the other side."""
        sides = {self.source: self.known[self.source], self.target: self.known[self.target]}
        channels = sides[self.target].shape[1]
        a, b = (to_uint8(baselines.identity(sides[s], channels) * 2 - 1) for s in (self.source, self.target))
        self.say("a classifier of the sides", 0, None)
        look = learned(b, a, seed=self.seed)
        new_a, new_b = (to_uint8(baselines.identity(x, channels) * 2 - 1) for x in (self.inputs, self.real[: self.n]))
        right = int((look(new_b) > 0).sum()) + int((look(new_a) <= 0).sum())
        accuracy = binomial(right, len(new_a) + len(new_b), LEVEL)
        out = {"domain classifier": measurement.measured(accuracy, None, "higher", self._protocol(
            "a classifier of the sides is right", "unseen real images"))}  # fmt: skip
        for arm, made in self.arms.items():
            taken = int((look(to_uint8(made * 2 - 1)) > 0).sum())
            share = binomial(taken, len(made), LEVEL)
            protocol = self._protocol("taken for the other side", arm)
            out[f"{arm}: domain"] = measurement.measured(share, None, "higher", protocol)
        return out

    def _protocol(self, metric: str, arm: str, extractor: Extractor | None = None) -> Protocol:
        return Protocol(
            metric=directions.named(self.direction, arm, metric),
            extractor="pixels" if extractor is None else extractor.name,
            weights="" if extractor is None else extractor.weights,
            preparation="none" if extractor is None else extractor.preparation,
            real=self.trial.against, real_sha256=self._sha256, n_real=len(self.real), n_fake=self.n,
            real_lossy=self.trial.lossy, fake_lossy=False, seed=self.seed, versions=versions(),
            selection=self.trial.selection,
        )  # fmt: skip

    @cached_property
    def _sha256(self) -> str:
        return hash_of_values(to_uint8(self.real * 2 - 1))

    # --- words -----------------------------------------------------------------------------------------------------

    def verdict(self, found: Mapping[str, Measurement]) -> list[Finding]:
        """What the numbers of this direction say, a sentence each."""
        rivals = [arm for arm in self.arms if arm != RUN]
        out = []
        for key, words in (("l1", "nearer to the truth"), ("kernel", "nearer to the other side's images")):
            mine = found.get(f"{RUN}: {key}")
            known = {arm: found[f"{arm}: {key}"] for arm in rivals if f"{arm}: {key}" in found}
            if mine is None or not known:
                continue
            best = min(known, key=lambda arm: known[arm].value)
            high, low = mine.high, known[best].low
            surely = high is not None and low is not None and high < low
            better = mine.value < known[best].value
            kind: Kind = "nothing found" if surely else "cannot say" if better else "differs"
            how = "surely " if surely else "" if better else "not "
            values = f"{mine.value:.3g} against {known[best].value:.3g}"
            out.append(Finding(kind, f"{self.direction}: {how}{words} than the best baseline, {best} ({values})."))
        return out


def _floor(found: Interval) -> Interval:
    """As a floor, which is a point where it has no bounds."""
    return replace(found, low=found.value, high=found.value) if math.isnan(found.low) else found


def _frechet_of(known: Tensor, n: int) -> tuple[str, Callable[[Tensor, Tensor], float]] | None:
    """Frechet's distance of n samples a side, of few in the leading components of `known`; what to add to its name."""
    if n > known.shape[1]:
        return "", lambda a, b: frechet(statistics(a), statistics(b))
    count = min(COMPONENTS, n // FOR_EACH)
    if count < 2:
        return None
    axes = torch.linalg.svd(known - known.mean(0), full_matrices=False).Vh[:count].T
    name = f" in the {count} leading components of training images"
    return name, lambda a, b: frechet(statistics(a @ axes), statistics(b @ axes))


def _at_one_size(trial: Trial) -> Trial:
    """The trial at the commonest size of training, with a note of what is left out. UserError if that is everything."""
    size = trial.train.spec.sizes[0]
    train, unseen = (sides.at(size) for sides in (trial.train, trial.unseen))
    assert train is not None
    if unseen is None:
        sizes = ", ".join(f"{height}x{width}" for height, width in trial.unseen.spec.sizes)
        raise UserError(
            f"{trial.against}: the run is measured at its commonest size, {size[0]}x{size[1]}, and these images come "
            f"to {sizes}; measure it on images held out of training, or train with another --fit than bucket"
        )
    left = sum(trial.unseen.count(side) - unseen.count(side) for side in SIDES)
    said = f"measured at {size[0]}x{size[1]}, the commonest size: {left:,} unseen images of other sizes are left out"
    return replace(trial, train=train, unseen=unseen, notes=(*trial.notes, said) if left else trial.notes)


def _side(sides: Sides, side: Side) -> Dataset:
    return sides.buckets[0][SIDES.index(side)]
