"""Faces from few photos: a game that grows beside one that does not, augmentation, the best recipe, inversion."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from zerosum import data as sources
from zerosum import pictures, sample
from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.bench import protocol
from zerosum.bench.folders import halves, made, split, there
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target, at_least, at_most, below
from zerosum.bench.textbook import Textbook
from zerosum.bench.training import played, shortened
from zerosum.data.spec import Data, Dataset
from zerosum.errors import UserError
from zerosum.latent import tools
from zerosum.metrics.distances import kernel_distance
from zerosum.metrics.features.base import Extractor
from zerosum.metrics.features.imagenet import ImageNet
from zerosum.metrics.features.weak import Pixels, RandomConvolutions
from zerosum.metrics.neighbours import copying, density_coverage
from zerosum.metrics.registered import nearest_registered
from zerosum.metrics.verdict import RARE
from zerosum.recipes import pick
from zerosum.recipes.images import bare, named
from zerosum.run import Run

SEEDS: tuple[int, ...] = ()  # each course has its own
FACES = "AT&T (ORL) Database of Faces (Samaria and Harter 1994): 400 grey photos of 40 people, 92x112"
FACADES = "CMP Facades (Tylecek and Sara 2013) in pix2pix's release: the photos, 256x256"
SAMPLES, SHOWN, INVERTED = 2_000, 64, 20
PLANTED = 2  # raise it when the numbers of planted copies change their meaning
THOUSAND = 1_000.0
Name = Literal["growth", "few", "best", "colour"]
Adjust = Callable[[Run], Run]


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What this benchmark can be told beside what every benchmark can."""

    courses: tuple[Name, ...] = ()
    """Only these; all if not given."""
    minutes: float | None = None
    """Train so long in place of the course's own length."""
    final: bool = False
    """Also score what was trained, and its samples kept, on the test images: once, at the end."""


OPTIONS = Options
MEASURED = (
    Column("kernel", "kernel distance x 1000", ".2f"),
    Column("density", "density", ".3f"),
    Column("coverage", "coverage", ".3f"),
    Column("copies", "nearer than 99 % of unseen", ".1%"),
    Column("copies_p", "by chance (p)", ".2g"),
    Column("images_per_second", "images/s", ",.0f"),
    Column("images_seen", "images seen", ",.0f"),
)
INVERSION = (
    Column("unseen", "photos never seen", ".2f"),
    Column("own", "the model's own samples", ".2f"),
    Column("nearest", "nearest training photo", ".2f"),
    Column("pca", "PCA of as many numbers", ".2f"),
    Column("seconds", "seconds a photo", ".1f"),
)
ABOUT = (
    "Trained by the clock, as `zerosum train --minutes` does it. Which photo is in which part was written down before "
    "(`src/zerosum/bench/splits/faces.json`): of `growth` and `best` people are kept apart, of `few` other photos of "
    "the same people. No photo is flipped.",
    "Kernel distance of 2,000 samples to unseen photos in features of EfficientNet-Lite0, times 1,000; it is unbiased, "
    "so real photos have about 0 of others. `real photos` are the training photos in place of samples: the floor. "
    "Copies: the share of samples nearer to a training photo, pixel by pixel, mirrored or moved by up to two, than all "
    "but 1 % of the unseen photos are; planted ones are in the table of copies.",
    "Inversion: root mean squared error of pixels in grey levels of 256. PCA is of the training photos, with as many "
    "components as the latent has numbers.",
)  # fmt: skip
REAL = "real photos"


@dataclass(frozen=True)
class Arm:
    """`algorithm` by name, or what is picked if None; `adjust` changes the recipe. `plain`: the textbook's loop."""

    file: str
    algorithm: str | None = None
    adjust: Adjust = lambda run: run
    plain: bool = False


@dataclass(frozen=True)
class Course:
    """Arms by title, on the training part of a set; held against its other parts."""

    title: str
    set: Literal["people", "few", "facades"]
    minutes: float
    seeds: tuple[int, ...]
    arms: Mapping[str, Arm]


def whole(run: Run) -> Run:
    """The same networks, all of them from the start."""
    assert isinstance(run.algorithm, ProgressiveGAN)
    return replace(run, algorithm=replace(run.algorithm, growth=(0,)))


DEFAULT = Arm("default")
TEXTBOOK = Arm("textbook", plain=True)
COURSES: dict[Name, Course] = {
    "growth": Course(
        "300 faces, grown and at their final size", "people", 25, (0, 1),
        {"progressive": Arm("grows", "progressive"), "fixed size": Arm("whole", "progressive", whole)},
    ),
    "few": Course(
        "100 faces", "few", 15, (0, 1),
        {"default": DEFAULT, "default, not augmented": Arm("plain", None, lambda run: replace(run, augment=())),
         "textbook DCGAN": TEXTBOOK},
    ),
    "best": Course("300 faces, longer", "people", 45, (0,), {"default": DEFAULT}),
    "colour": Course("400 facades in colour", "facades", 20, (0,), {"default": DEFAULT, "textbook DCGAN": TEXTBOOK}),
}  # fmt: skip


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    if options.data is None:
        raise UserError("--data: name the folder that holds att_faces and facades (benchmarks/README.md)")
    tables, targets, known = list[Table](), list[Target](), list[Mapping[str, Any]]()
    for name in options.courses or COURSES:
        stage = Stage(bench, name)
        known += [record for record in [stage.record] if record not in known]
        for part in ("validation", "test") if options.final else ("validation",):
            arms = [(title, arm) for title, arm in stage.arms if part == "validation" or stage.testable(arm)]
            if lost := [title for title, arm in stage.arms if (title, arm) not in arms]:
                bench.say(f"{name}: no samples were kept of {', '.join(lost)}, so none are scored on test photos")
            if not arms:
                continue
            where = f"{stage.course.title}: {'test photos, once' if part == 'test' else 'validation photos'}"
            rows = {title: [stage.scored(arm, seed, part) for seed in stage.seeds] for title, arm in arms}
            real = stage.real(part)
            tables.append(Table(where, MEASURED, {**rows, REAL: [real]}))
            targets += stage.targets(where, rows, real)
            if part == "validation":  # of neither was anything chosen
                tables += stage.more(where)
                targets += stage.more_targets(where)
    return Report(
        title="Faces from few photos", about=ABOUT, data=tuple(known), tables=tuple(tables), targets=tuple(targets),
        arithmetic="bf16 where a trial chose it; scored in fp32",
    )  # fmt: skip


class Stage:
    """A course as the benchmark's options have it."""

    def __init__(self, bench: Bench, name: Name) -> None:
        assert isinstance(bench.options, Options)
        self.bench, self.name, self.course = bench, name, COURSES[name]
        assert bench.options.data is not None
        self.folder = _folder(self.course.set, bench.options.data, bench.runs / bench.name / "data")
        self.data = self._data("train")
        self.train = sources.open(self.data)
        self.minutes = 0.01 if bench.quick else bench.options.minutes or self.course.minutes
        self.seeds = bench.options.seeds or (self.course.seeds[:1] if bench.quick else self.course.seeds)
        self.samples = 60 if bench.quick else SAMPLES

    def _data(self, part: str) -> Data:
        size: tuple[int, int] = (80, 64) if self.course.set != "facades" else (64, 64)
        if self.bench.quick:
            size = (size[0] // 4, size[1] // 4)
        channels: Literal[1, 3] = 1 if self.course.set != "facades" else 3
        return Data(source=str(self.folder / part), split="all", size=size, channels=channels, held_out=0)

    @property
    def arms(self) -> list[tuple[str, Arm]]:
        return list(self.course.arms.items())

    @property
    def record(self) -> Result:
        return data_record(self.data, self.train, FACADES if self.course.set == "facades" else FACES)

    # --- training ----------------------------------------------------------------------------------------------------

    def _about(self, arm: Arm, seed: int) -> tuple[Result, Adjust]:
        """The protocol of a run, and what makes it out of what is picked."""

        def adjust(found: Run) -> Run:
            asked = replace(arm.adjust(found), seed=seed, minutes=self.minutes, images=None)
            return shortened(asked) if self.bench.quick else asked

        about: Result = {"course": self.name, "data": [self.record], "minutes": self.minutes}
        if arm.plain:
            return {**about, "textbook": 1}, adjust
        run, _ = named(arm.algorithm, self.data) if arm.algorithm else bare(self.data, self.train.spec, len(self.train))
        return {**about, "run": recipe(adjust(run))}, adjust

    def trained(self, arm: Arm, seed: int) -> Result:
        """One training; its samples, its sheet and, of our own, its folder are kept in the folder of runs."""
        about, adjust = self._about(arm, seed)
        kept = self.kept(arm, seed)

        def work() -> Result:
            if arm.plain:
                images, found = self._plain(seed)
            else:
                run = pick(
                    self.data, algorithm=arm.algorithm, minutes=self.minutes, device="cpu", dataset=self.train,
                    adjust=adjust,
                ).run  # fmt: skip
                folder, found = played(self.bench, self._file(arm), run, self.train)
                model = sample.load(folder, precision="fp32")
                images = model.values(model.latents(self.samples, seed=1), None)
                found |= {"augment": " ".join(run.augment), "precision": run.precision}
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, images)
            sheet = pictures.grid(images[:SHOWN])
            pictures.save_png(sheet, kept.with_suffix(".png"), {"zerosum": "generated", "arm": arm.file})
            return found

        return self.bench.arm(self._file(arm), seed, about, work)

    def _file(self, arm: Arm) -> str:
        return f"{self.name}-{arm.file}"

    def kept(self, arm: Arm, seed: int) -> Path:
        return self.bench.runs / self.bench.name / f"{self._file(arm)}-seed{seed}.npy"

    def _plain(self, seed: int) -> tuple[np.ndarray, Result]:
        torch.set_num_threads(self.bench.options.threads)
        game = Textbook(_all(self.train), seed)
        began, seen = time.perf_counter(), 0
        while (seconds := time.perf_counter() - began) < 60 * self.minutes:
            seen = game.step()
        return game.draw(self.samples), {"images_seen": seen, "images_per_second": seen / seconds, "precision": "fp32"}

    # --- scoring -----------------------------------------------------------------------------------------------------

    @cached_property
    def features(self) -> Extractor:
        return RandomConvolutions(self.train.spec) if self.bench.quick else ImageNet(self.train.spec.shape)

    @cached_property
    def _seen(self) -> tuple[np.ndarray, torch.Tensor]:
        images = _all(self.train)
        return images, self.features(images)

    def testable(self, arm: Arm) -> bool:
        """Whether samples of its runs are there, or were scored on the test photos."""
        return all(
            self.kept(arm, seed).is_file() or (self.bench.folder / f"{self._file(arm)}-test-seed{seed}.json").is_file()
            for seed in self.seeds
        )

    def _run(self, arm: Arm, seed: int) -> Path:
        """The folder of one of our own runs."""
        return self.bench.runs / self.bench.name / f"{self._file(arm)}-seed{seed}"

    def _unseen(self, part: str) -> np.ndarray:
        return _all(sources.open(self._data(part)))

    def scored(self, arm: Arm, seed: int, part: str) -> Result:
        times = self.trained(arm, seed)
        path = self.kept(arm, seed)

        def work() -> Result:
            if not path.is_file():
                raise UserError(f"{path} is not there: the samples of this run were not kept; train it --again")
            return self._score(np.load(path, allow_pickle=False), self._unseen(part))

        found = self.bench.arm(f"{self._file(arm)}-{part}", seed, self._about(arm, seed)[0], work)
        return {**times, **found}

    def real(self, part: str) -> Result:
        """The training photos in place of samples. Of copies nothing: they are those."""
        score = partial(self._near, self._seen[0], self._unseen(part))
        return self.bench.arm(f"{self.name}-real-{part}", 0, {"data": [self.record]}, score)

    def _near(self, images: np.ndarray, unseen: np.ndarray) -> Result:
        fake, real = self.features(images), self.features(unseen)
        density, coverage = density_coverage(real, fake)
        return {"kernel": THOUSAND * kernel_distance(fake, real), "density": density, "coverage": coverage}

    def _score(self, images: np.ndarray, unseen: np.ndarray) -> Result:
        return {**self._near(images, unseen), **self._copies(images, unseen)}

    def _copies(self, images: np.ndarray, unseen: np.ndarray) -> Result:
        pixels, seen = Pixels(self.train.spec), self._seen[0]
        found = copying(*nearest_registered(images, seen, pixels), nearest_registered(unseen, seen, pixels)[0])
        return {"copies": found.share.value, "copies_expected": found.expected, "copies_p": found.p_value}

    def planted(self) -> dict[str, list[Result]]:
        """What the test for copies says of unseen photos a third of which are training photos, in each guise.

        One half of the unseen photos stands for samples, and is held against the other: of none planted, the test has
        to find that they are no copies (each photo stands there several times, and the test takes them for different
        ones, so that it errs in one of two hundred). Of so few it takes more than a quarter to be surer than one in a
        thousand.
        """
        unseen = self._unseen("validation")
        made, judging = unseen[::2], unseen[1::2]
        guises = {
            "as they are": lambda x: x, "mirrored": lambda x: x[..., ::-1],
            "moved by two pixels": lambda x: np.roll(x, (2, -2), (2, 3)), "none planted": None,
        }  # fmt: skip

        def work(change: Callable[[np.ndarray], np.ndarray] | None) -> Result:
            fakes = np.concatenate([made] * (200 // len(made) + 1))[:200].copy()
            if change is not None:
                fakes[::3] = change(self._seen[0][: len(fakes[::3])])
            return self._copies(fakes, judging)

        def measured(name: str, change: Callable[[np.ndarray], np.ndarray] | None) -> Result:
            file = f"{self.name}-planted-{name.replace(' ', '-')}-validation"
            return self.bench.arm(file, 0, {"data": [self.record], "scoring": PLANTED}, partial(work, change))

        return {name: [measured(name, change)] for name, change in guises.items()}

    # --- inversion ---------------------------------------------------------------------------------------------------

    def inversion(self) -> Result:
        """Of the first arm's run: how near its latents come to photos that it never saw."""
        (_, arm), *_ = self.arms
        seed = self.seeds[0]
        folder = self._run(arm, seed)

        def work() -> Result:
            if not folder.is_dir():
                raise UserError(f"{folder} is not there: this run was not kept; train it --again")
            model = sample.load(folder, precision="fp32")
            few = 2 if self.bench.quick else INVERTED
            unseen, own = self._unseen("validation")[:few], model.values(model.latents(few, seed=2), None)
            restarts, steps = (1, 3) if self.bench.quick else (8, 300)
            invert = partial(tools.invert, model, restarts=restarts, steps=steps)
            began = time.perf_counter()
            found = invert(unseen)
            seconds = (time.perf_counter() - began) / few
            sheet = pictures.grid(tools.sheet(unseen, found), columns=3)
            pictures.save_png(sheet, folder.with_name(f"{folder.name}-inverted.png"), {"zerosum": "generated"})
            seen = self._seen[0]
            return {
                "unseen": float(found.greys.mean()),
                "own": float(invert(own).greys.mean()),
                "nearest": _rms(unseen, seen[_nearest(unseen, seen)]),
                "pca": _rms(unseen, _pca(unseen, seen, model.latent)),
                "seconds": seconds,
            }

        return self.bench.arm(f"{self.name}-inversion-validation", seed, self._about(arm, seed)[0], work)

    # --- tables ------------------------------------------------------------------------------------------------------

    def targets(self, where: str, rows: Mapping[str, Sequence[Result]], real: Result) -> Iterator[Target]:
        """What the courses are to reach. Excess: of the kernel distance, over that of real photos."""
        if self.name == "few":
            found = {title: [r["kernel"] for r in runs] for title, runs in rows.items()}
            ours, floor = found.get("default", []), real["kernel"]
            if ours and (plain := found.get("default, not augmented")):
                excess = [(a - floor) / (b - floor) for a, b in zip(ours, plain, strict=True)]
                yield at_most(f"{where}: excess kernel distance augmented, of that without", excess, 0.5, ".2f")
            if ours and (textbook := found.get("textbook DCGAN")):
                yield below(f"{where}: kernel distance, against the textbook's best", ours, min(textbook), ".2f")
        if self.name in ("few", "best"):
            for runs in [rows["default"]] if "default" in rows else []:
                yield at_least(f"{where}: no copies, p", [r["copies_p"] for r in runs], RARE, ".2g")

    def more(self, where: str) -> Iterator[Table]:
        if self.name != "best":
            return
        columns = tuple(c for c in MEASURED if c.key.startswith("copies"))
        yield Table(f"{where}: planted copies", columns, self.planted())
        yield Table(f"{where}: inversion", INVERSION, {self.arms[0][0]: [self.inversion()]})

    def more_targets(self, where: str) -> Iterator[Target]:
        if self.name != "best":
            return
        for name, (found,) in self.planted().items():
            bound = at_least if name == "none planted" else at_most
            yield bound(f"{where}: photos planted {name}, p", [found["copies_p"]], RARE, ".2g")
        found = self.inversion()
        yield at_most(f"{where}: inversion of unseen photos, times that of own samples",
                      [found["unseen"] / found["own"]], 1.5, ".2f")  # fmt: skip
        for rival in ("nearest", "pca"):
            yield below(f"{where}: inversion of unseen photos, against {rival}", [found["unseen"]], found[rival], ".2f")


# --- the sets --------------------------------------------------------------------------------------------------------


def _folder(name: str, root: Path, work: Path) -> Path:
    """The parts of a set as folders: train, validation and test."""
    if name == "facades":
        parts = {"train": "train", "validation": "val", "test": "test"}

        def fill(draft: Path) -> None:
            for part, folder in parts.items():
                source = there(root, "facades", folder)
                halves(source, sorted(path.name for path in source.glob("*.jpg")), draft / part, left=True)

        return made(work / "facade-photos", fill)
    source, lists, start = there(root, "att_faces"), split("faces"), "few_" if name == "few" else ""

    def sort(draft: Path) -> None:
        for part in ("train", "validation", "test"):
            (draft / part).mkdir()
            for photo in lists[f"{start}{part}"]:
                shutil.copyfile(source / photo, draft / part / photo.replace("/", "-"))

    return made(work / f"faces-{name}", sort)


def _all(data: Dataset) -> np.ndarray:
    return data.gather(np.arange(len(data)))[0]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def _rms(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over images of the root mean squared difference of pixels, in grey levels."""
    return float(np.sqrt(np.square(_flat(a) - _flat(b)).mean(1)).mean())


def _nearest(images: np.ndarray, among: np.ndarray) -> np.ndarray:
    a, b = _flat(images), _flat(among)
    return np.array([np.square(b - row).sum(1).argmin() for row in a])


def _pca(images: np.ndarray, train: np.ndarray, components: int) -> np.ndarray:
    """The images as the mean and the first principal components of the training images have them."""
    known = _flat(train)
    mean = known.mean(0)
    axes = np.linalg.svd(known - mean, full_matrices=False)[2][: min(components, len(train) - 1)]
    return np.clip(mean + (_flat(images) - mean) @ axes.T @ axes, 0, 255).reshape(images.shape)
