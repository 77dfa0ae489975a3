"""Does it help my classifier? The study of Frid-Adar et al. 2018 (arXiv:1803.01229), for any labelled images.

One classifier, trained on each part's training images as they are, with classical augmentation, with synthetic images
at several ratios, and with both; over folds or draws and over seeds; tested on real images that neither the classifier
nor the GAN has seen. What is compared with what, and by which number, is fixed here, before anything is measured.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from zerosum import atomic
from zerosum.applications.classify import STEPS, Probabilities, Scores, fit, scores, terms
from zerosum.applications.effects import NONE, Effect, Variance, effect, holm, mean_interval, of_test_images
from zerosum.applications.parts import Part
from zerosum.applications.study_kept import SCORES, SECONDS, Kept, written
from zerosum.applications.synthetic import Labelled, OfGAN, Passed, Source, by_class, gated, in_shares, minutes_of
from zerosum.errors import UserError
from zerosum.runlog import read_status

MADE = 4  # raise it when a study's synthetic images, or what of them passes, come to be others
MADE_FOR_SEVERAL = 5  # the same, of a study of several ratios, whose arms have them in common
PRIMARY = "balanced_accuracy"
KEYS = ("balanced_accuracy", "auc", "sensitivity", "specificity")
REAL, CLASSICAL = "real images alone", "classical augmentation"
GATE = "gate.json"
NAMED = 3  # classes of a fold or draw that a sentence names
NEEDED = 3  # folds or draws from which on a verdict is given
BESIDE = 30.0  # seconds that a GAN takes beside its minutes: a trial on the machine, drawing, the search for copies
GIVEN = {  # what a user gives the settings of a study by
    "ratios": "--ratios", "seeds": "--seeds", "positive": "--positive", "flip": "--flip",
    "of the source": "--minutes, or the recipes of another zerosum",
    "classes": "the names of the classes",
    "parts": "--labelled, --draws, --folds, --seed, --groups, or the data and how they are read",
    "synthetic images": "another zerosum",
}  # fmt: skip

Told = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is tried: all of it is decided before the first training."""

    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Synthetic images for each real one."""
    seeds: int = 3
    """Classifiers trained in each arm of each part."""
    steps: int = STEPS
    """Batches that each of them sees."""
    positive: int | None = None
    """Of two classes, the one that sensitivity is of; the last if not given."""
    flip: bool = False
    """Classical augmentation mirrors, too."""
    gate: bool = True
    """Synthetic images must pass `synthetic.gated`."""

    def __post_init__(self) -> None:
        if not self.ratios or not all(0 < ratio < math.inf for ratio in self.ratios):
            raise UserError(f"--ratios {' '.join(map(str, self.ratios))}: give one or more numbers above 0")
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds}: must be 1 or more")

    @property
    def primary(self) -> float:
        """The ratio that the verdict is about: 1 if it is tried, else the first."""
        return 1.0 if 1.0 in self.ratios else self.ratios[0]

    @property
    def arms(self) -> dict[str, tuple[bool, float]]:
        """By title: whether augmentation is classical, too, and synthetic images for each real one."""
        found = {REAL: (False, 0.0), CLASSICAL: (True, 0.0)}
        for ratio in self.ratios:
            found[f"synthetic, {ratio:g} to 1"] = (False, ratio)
        for ratio in self.ratios:
            found[f"classical and synthetic, {ratio:g} to 1"] = (True, ratio)
        return found


@dataclass(frozen=True, eq=False)
class Study:
    """Images, labels and parts, and where what is found is kept: a study that was stopped goes on."""

    data: Labelled
    class_names: tuple[str, ...]
    parts: Sequence[Part]
    plan: Plan
    source: Source
    out: Path

    def run(self, say: Told = lambda text: None) -> dict[str, dict[str, list[Scores]]]:
        """Scores of every arm and part, one a seed: {arm: {part: [scores]}}."""
        self.settle()
        return {arm: dict(found) for arm, found in _turned([self._part(part, say) for part in self.parts]).items()}

    def settle(self) -> None:
        """Write the plan, or hold it against what is there. UserError if that was of another plan, or other data."""
        made = MADE if len(set(self.plan.ratios)) == 1 else MADE_FOR_SEVERAL
        settings = {**asdict(self.plan), "source": self.source.name, "of the source": self.source.about}
        about = {**settings, "classes": self.class_names, "parts": self._digests, "synthetic images": made}
        wanted = json.loads(json.dumps(about))
        path = self.out / "plan.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = None
        except ValueError as error:
            raise UserError(f"{path}: is damaged ({error}); give another --out") from error
        if not isinstance(known, dict | None):
            raise UserError(f"{path}: is damaged (it holds no settings); give another --out")
        if known is not None and known != wanted:
            other = "; ".join(GIVEN.get(k, k) for k in {**wanted, **known} if known.get(k) != wanted.get(k))
            raise UserError(
                f"--out {self.out}: holds a study with other settings ({other}); give another folder, or what that "
                "study was begun with"
            )
        atomic.write_file(path, (json.dumps(wanted, indent=1) + "\n").encode())

    @cached_property
    def _digests(self) -> dict[str, list[str]]:
        """SHA-256 of what each part trains on and tests on. UserError if an image is on both sides."""
        found = {}
        for part in self.parts:
            sides = [{_hash(image) for image in self.data.images[side]} for side in (part.train, part.test)]
            if both := sides[0] & sides[1]:
                raise UserError(f"{part.name}: {len(both)} test images are among the training images; take them out")
            found[part.name] = [self._digest(index) for index in (part.train, part.test)]
        return found

    def _digest(self, index: np.ndarray) -> str:
        """Of these images with their labels, however they are ordered."""
        some = zip(self.data.images[index], self.data.labels[index].tolist(), strict=True)
        each = sorted(f"{_hash(image)} {label}" for image, label in some)
        return hashlib.sha256("\n".join(each).encode()).hexdigest()

    def _part(self, part: Part, say: Told) -> tuple[str, dict[str, list[Scores]]]:
        train, test = self.data.of(part.train), self.data.of(part.test)
        folder = self._folder(part)
        kept = Kept(folder)
        missing = self._missing(kept)
        made: Passed | None = None
        if missing:
            made, seconds = self.synthetic(part, say)
            gate = {**_gate(made, self.class_names), SECONDS: round(seconds, 3)}
            atomic.write_file(folder / GATE, (json.dumps(gate, indent=1) + "\n").encode())
        for arm, seed in missing:
            assert made is not None
            classical, ratio = self.plan.arms[arm]
            more = made.first(round(ratio * len(train)))
            say(f"{part.name}: {arm}, classifier {seed + 1} of {self.plan.seeds}")
            began = time.perf_counter()
            judge = self._fit(train.joined(more) if ratio else train, self._seed(part, seed), classical)
            seconds = time.perf_counter() - began
            p = judge(test.images).astype(np.float32)  # as they are kept
            kept.add(arm, seed, scores(p, test.labels, self.plan.positive), p, seconds)
        return part.name, {arm: [kept.of(arm, s) for s in range(self.plan.seeds)] for arm in self.plan.arms}

    def synthetic(self, part: Part, say: Told = lambda text: None) -> tuple[Passed, float]:
        """What the source of a part makes of its training images and the gate lets through, for all arms of the part.

        As many as the largest ratio asks for. Of any number from the first on, each class has its share (`in_shares`),
        so an arm of a smaller ratio has as many of each, whatever others are tried (`Passed.first`). Beside them the
        seconds that drawing and the gate took, its classifier and its search for copies too; those of the training of a
        GAN are not in it, for its run counts them, over all its sessions.
        """
        train, number, folder = self.data.of(part.train), self.parts.index(part), self.gan_of(part)
        if isinstance(self.source, OfGAN) and read_status(folder)["state"] != "finished":
            say(f"{part.name}: training its {self.source.name}")
        draw = self.source(train, self.class_names, number, folder)
        say(f"{part.name}: images of its {self.source.name}")
        count = max(round(max(self.plan.ratios) * len(train)), 1)
        began = time.perf_counter()
        passed = gated(draw, in_shares(train.labels, count), train, self.judge(train, part))
        return passed, time.perf_counter() - began

    def _missing(self, kept: Kept) -> list[tuple[str, int]]:
        """Arms and seeds of a part that are not measured yet."""
        return [(arm, seed) for arm in self.plan.arms for seed in range(self.plan.seeds) if not kept.has(arm, seed)]

    @property
    def done(self) -> bool:
        """Whether all of it is measured."""
        return not any(self._missing(Kept(self._folder(part))) for part in self.parts)

    @property
    def worth(self) -> dict[str, float]:
        """What one test patient, or image where none are named, changes in a score: of the part that has fewest.

        The AUC, a share of pairs, has no such step.
        """
        classes = len(self.class_names)
        of, others = np.maximum(np.min([self._patients(part) for part in self.parts], 0), 1)
        last = classes - 1 if self.plan.positive is None else self.plan.positive
        sought = [last] if classes == 2 else list(range(classes))
        return {
            "balanced_accuracy": 1 / (classes * int(of.min())),
            "sensitivity": 1 / (len(sought) * int(of[sought].min())),
            "specificity": 1 / (len(sought) * int(others[sought].min())),
        }

    def _patients(self, part: Part) -> np.ndarray:
        """Test patients with images of each class, and with images of any other: (2, K)."""
        labels = self.data.labels[part.test]
        groups = np.arange(len(labels)) if part.groups is None else part.groups
        classes = [labels == k for k in range(len(self.class_names))]
        return np.array(
            [[len(np.unique(groups[of])) for of in classes], [len(np.unique(groups[~of])) for of in classes]]
        )

    @property
    def doubt(self) -> Doubt:
        """What its differences may be due to.

        Folds are of unlike sizes where patients have unlike numbers of images. The mean of test over training images
        stands for all of them: that of the first fold alone would make the bounds too narrow if it is a small one.
        """
        return Doubt(fmean(part.overlap for part in self.parts), self.worth, self._shared())

    def _shared(self) -> Shared | None:
        """Of a study that was measured, where all parts are tested on the same images; else None."""
        first = self.parts[0]
        if not first.shared:
            return None
        assert first.groups is not None
        labels = self.data.labels[first.test]
        found = {}
        for arm in self.plan.arms:
            shape = len(labels), len(self.class_names)
            each = [
                terms(Kept(self._folder(part)).probabilities(arm, seed, shape), labels, self.plan.positive)
                for part in self.parts
                for seed in range(self.plan.seeds)
            ]
            found[arm] = {key: np.mean([one[key] for one in each], 0) for key in KEYS}
        return Shared(found, labels, first.groups)

    def minutes(self, arm: str) -> float:
        """What one classifier of an arm took, with the synthetic images that it needs: a mean over parts and seeds."""
        spent = [
            Kept(self._folder(part)).seconds(arm, seed) / 60 for part in self.parts for seed in range(self.plan.seeds)
        ]
        made = [self.synthetic_minutes(part) for part in self.parts] if self.plan.arms[arm][1] else [0.0]
        return fmean(spent) + fmean(made)

    def synthetic_minutes(self, part: Part) -> float:
        """What the synthetic images of a part that was measured took: the GAN, drawing, and the gate."""
        return minutes_of(self.gan_of(part)) + self.gate_of(part)[SECONDS] / 60

    def left(self, minutes: float, seconds: float) -> float:
        """Seconds that what is not measured yet will take: GANs of so many minutes, classifiers of so many seconds.

        0 minutes: of a source that is no GAN.
        """
        total = 0.0
        for part in self.parts:
            missing = len(self._missing(Kept(self._folder(part))))
            if missing:  # then the gate's classifier is trained, too
                gan = max(minutes - minutes_of(self.gan_of(part)), 0.0)
                total += 60 * gan + (BESIDE if minutes else 0.0) + seconds * (missing + self.plan.gate)
        return total

    @property
    def all_minutes(self) -> float:
        """What all classifiers, GANs and gates took, over all sessions."""
        classifiers = sum(
            Kept(self._folder(part)).seconds(arm, seed)
            for part in self.parts
            for arm in self.plan.arms
            for seed in range(self.plan.seeds)
        )
        return classifiers / 60 + sum(self.synthetic_minutes(part) for part in self.parts)

    def judge(self, train: Labelled, part: Part) -> Probabilities | None:
        """The gate's, if there is one: a classifier of its own seed, trained on what the part trains on."""
        return self._fit(train, self._seed(part, self.plan.seeds), True) if self.plan.gate else None

    def _seed(self, part: Part, seed: int) -> int:
        """Of a classifier: alike in all arms of a part, for they are compared, and in no two parts, which count."""
        return seed + (self.plan.seeds + 1) * self.parts.index(part)

    def gan_of(self, part: Part) -> Path:
        """The folder that the source of a part keeps things in."""
        return self._folder(part) / "gan"

    def gate_of(self, part: Part) -> dict[str, Any]:
        """What the gate let through of a part that was measured: counts by what they are of."""
        return written(self._folder(part) / GATE)

    def scores_of(self, part: Part) -> dict[str, dict[str, float]]:
        """What every classifier of a part that was measured scored, by arm and seed."""
        return written(self._folder(part) / SCORES)

    def _folder(self, part: Part) -> Path:
        return self.out / part.name.replace(" ", "-")

    def _fit(self, on: Labelled, seed: int, classical: bool) -> Probabilities:
        return fit(
            on.images, on.labels, len(self.class_names), seed=seed, classical=classical, flip=self.plan.flip,
            steps=self.plan.steps,
        )  # fmt: skip


# --- what follows from it --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shared:
    """What each image of a shared test set adds to the scores of each arm (`classify.terms`)."""

    terms: Mapping[str, Mapping[str, np.ndarray]]
    labels: np.ndarray
    groups: np.ndarray

    def variance(self, key: str, arm: str, against: str | None = None) -> Variance:
        """Of an arm's mean, or of what it gains over another."""
        base = 0 if against is None else self.terms[against][key]
        return of_test_images(self.terms[arm][key] - base, self.labels, self.groups)


@dataclass(frozen=True)
class Doubt:
    """What differences may be due to: see `effects.effect`."""

    overlap: float = 0.0
    worth: Mapping[str, float] = field(default_factory=dict)
    """By score."""
    shared: Shared | None = None

    def of(self, key: str, arm: str, against: str | None = None) -> tuple[float, float, Variance]:
        """As `effect` takes it."""
        tested = NONE if self.shared is None else self.shared.variance(key, arm, against)
        return self.overlap, self.worth.get(key, 0.0), tested


@dataclass(frozen=True)
class Row:
    """An arm: its means over parts with bounds, and what it gains over the arm that it builds on."""

    arm: str
    means: Mapping[str, tuple[float, float, float]]
    against: str | None
    gain: Effect | None
    adjusted: float | None
    """The gain's chance, adjusted for how many arms are held against another (Holm)."""


@dataclass(frozen=True)
class Verdict:
    """What the study says, in a sentence, of the comparison that was fixed beforehand."""

    answer: str
    sentence: str
    gain: Effect


def rows(found: Mapping[str, Mapping[str, Sequence[Scores]]], plan: Plan, doubt: Doubt) -> list[Row]:
    """One for each arm."""
    arms, made = plan.arms, []
    for arm, (classical, ratio) in arms.items():
        means = {key: _share(mean_interval(_by_part(found[arm], key), *doubt.of(key, arm))) for key in KEYS}
        against = (CLASSICAL if classical else REAL) if ratio else None
        gain = None
        if against is not None:
            pairs = zip(_by_part(found[arm], PRIMARY), _by_part(found[against], PRIMARY), strict=True)
            gain = effect([a - b for a, b in pairs], *doubt.of(PRIMARY, arm, against))
        made.append((arm, means, against, gain))
    chances = iter(holm([gain.p for *_, gain in made if gain is not None]))
    return [Row(*row, None if row[3] is None else next(chances)) for row in made]


def shortage(gates: Mapping[str, Mapping[str, Any]], most: float) -> str:
    """Where fewer images passed the gate than were asked for, in a sentence; "" if nowhere.

    `gates`: by fold or draw. `most`: the largest ratio, for which they were asked for; arms of smaller ones lack those
    that are missing among the first.
    """
    short = [
        f"{name}: {counts['passed']} of {counts['wanted']} of {kind}"
        for name, gate in gates.items()
        for kind, counts in gate["passed of each class"].items()
        if counts["passed"] < counts["wanted"]
    ]
    if not short:
        return ""
    some = "; ".join(short[:NAMED]) + (f"; and {len(short) - NAMED} more" if len(short) > NAMED else "")
    return f" Fewer synthetic images passed the gate than {most:g} to 1 asks for ({some})."


def verdict(found: Mapping[str, Mapping[str, Sequence[Scores]]], plan: Plan, doubt: Doubt, short: str = "") -> Verdict:
    """Of synthetic images at the plan's primary ratio beside classical augmentation, against that alone.

    `short`: what `shortage` says.
    """
    arm = f"classical and synthetic, {plan.primary:g} to 1"
    row = next(row for row in rows(found, plan, doubt) if row.arm == arm)
    assert row.gain is not None
    gain, before = row.gain, row.means[PRIMARY][0] - row.gain.difference
    answer = gain.answer if gain.pairs >= NEEDED else "cannot be told"
    words = {"helps": "Synthetic images help", "hurts": "Synthetic images hurt"}
    start = words.get(answer, "Whether synthetic images help cannot be told")
    by = f"balanced accuracy {before:.3f} becomes {before + gain.difference:.3f} ({gain.difference:+.3f}"
    bounds = f", between {gain.low:+.3f} and {gain.high:+.3f} with 95 % confidence" if gain.pairs > 1 else ""
    more = "" if gain.pairs >= NEEDED else f"; {NEEDED} folds or draws are the least to tell by"
    sentence = f"{start}: beside classical augmentation, {by}{bounds}, over {gain.pairs} folds or draws){more}.{short}"
    return Verdict(answer, sentence, gain)


def _share(interval: tuple[float, float, float]) -> tuple[float, float, float]:
    """With bounds that a share can have."""
    mean, low, high = interval
    return mean, max(low, 0.0), min(high, 1.0)


def _by_part(found: Mapping[str, Sequence[Scores]], key: str) -> list[float]:
    """The mean over seeds of each part, in their order."""
    return [fmean(getattr(one, key) for one in some) for some in found.values()]


def _turned(parts: Sequence[tuple[str, dict[str, list[Scores]]]]) -> dict[str, dict[str, list[Scores]]]:
    return {arm: {name: found[arm] for name, found in parts} for arm in parts[0][1]}


def _gate(made: Passed, class_names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "passed": len(made.found), "passed of each class": by_class(made, class_names), "drawn": made.drawn,
        "taken for another class": made.other_class,
        "copies of training images": made.copies,
    }  # fmt: skip


def _hash(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
