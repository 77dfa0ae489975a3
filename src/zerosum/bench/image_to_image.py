"""Translators trained from nothing for some minutes, beside what needs no training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from zerosum import pictures
from zerosum.algorithms.cut import CUT
from zerosum.bench import protocol
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target, at_least, below
from zerosum.bench.scenes import SCENES, Scene
from zerosum.bench.training import played, shortened
from zerosum.data import open_sides
from zerosum.data.spec import Direction
from zerosum.errors import UserError
from zerosum.metrics import directions
from zerosum.metrics.cache import Cache
from zerosum.metrics.directions import CYCLE, RUN
from zerosum.metrics.evaluate import Settings
from zerosum.recipes import pick
from zerosum.recipes.images import quick_translation, translation
from zerosum.run import Run
from zerosum.translation import evaluate as evaluation
from zerosum.translation.evaluate import Trial
from zerosum.translation.model import Translator, of_run

SEEDS = (0,)
FLIPS = 0.6  # of translations, that a classifier of the sides should take for the other side
SHOWN, COLUMNS = 24, 3  # examples of a sheet, and beside each other
SCORING = 2  # raise it when numbers change their meaning
Name = Literal["facades", "edges", "emoji", "unpaired-facades", "cat2dog"]


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What this benchmark can be told beside what every benchmark can."""

    scenes: tuple[Name, ...] = ()
    """Only these; all if not given."""
    arms: tuple[Literal["default", "paper", "cut"], ...] = ()
    """Only these; all that a scene has if not given."""
    minutes: float | None = None
    """Train so long in place of the scene's own length."""
    final: bool = False
    """Also score what was trained on the test images: once, at the end."""


OPTIONS = Options
MEASURED = (
    Column("l1", "L1 (range 1)", ".4f"),
    Column("psnr", "PSNR, dB", ".2f"),
    Column("ssim", "SSIM", ".3f"),
    Column("frechet", "Frechet distance", ".4g"),
    Column("joint", "Frechet distance of pairs", ".4g"),
    Column("kernel", "kernel distance", ".4f"),
    Column("rank", "mean rank of the counterpart", ".1f"),
    Column("domain", "taken for the other side", ".1%"),
    Column("cycle", "there and back, L1", ".4f"),
    Column("images_per_second", "images/s", ".1f"),
)
REAL = "real images"


@dataclass(frozen=True)
class Arm:
    """`algorithm` as its paper has it, or what is picked if it is None; `adjust` changes the recipe."""

    title: str
    file: str
    algorithm: str | None
    adjust: Callable[[Run], Run] = lambda run: run


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    if options.data is None:
        raise UserError("--data: name the folder that holds facades, cat2dog and emoji (benchmarks/README.md)")
    tables, targets = list[Table](), list[Target]()
    known, shown = list[Mapping[str, Any]](), list[tuple[str, str]]()
    for name in options.scenes or SCENES:
        stage = Stage(bench, name, SCENES[name](options.data, bench.runs / bench.name / "data"))
        known.append(stage.record)
        arms = stage.arms
        parts = {"validation images": {arm.title: [stage.trained(arm, seed) for seed in bench.seeds] for arm in arms}}
        if options.final:
            parts["test images, once"] = {arm.title: [stage.final(arm, seed) for seed in bench.seeds] for arm in arms}
        for words, rows in parts.items():
            for direction in stage.directions(rows):
                found = stage.rows(rows, direction)
                where = f"{stage.scene.title}, {direction}: {words}"
                tables.append(Table(where, MEASURED, found))
                targets += stage.targets(where, found)
        if stage.scene.shown:
            shown += [(f"{bench.name}/{stage.picture(arm, bench.seeds[0]).name}", stage.caption(arm)) for arm in arms]
    return Report(
        title="Image to image: what some minutes of two cores make", about=ABOUT, data=tuple(known),
        tables=tuple(tables), targets=tuple(targets), pictures=tuple(shown),
        arithmetic="bf16 where a trial chose it; scored in fp32",
    )  # fmt: skip


ABOUT = (
    "Each arm is trained from nothing by the clock, as `zerosum train --minutes` does it; the averaged generator is "
    "scored on images that were not trained on. Which image is in which part was written down before "
    "(`src/zerosum/bench/splits`). Choices were made on validation images alone.",
    "Frechet and kernel distance are between translations and real images of the other side, in features of "
    "EfficientNet-Lite0. Of so few images Frechet's is taken in the leading components of the training images' "
    "features, so it compares within a table only; of pairs it is of input and translation together, so that a real "
    "photo that belongs to another input is far. `real images` are training images in place of translations.",
    "The rank is where the true counterpart stands among 200, or all if there are fewer, by nearness to the "
    "translation in the same features. A classifier of both sides, trained on real images alone, says which side "
    "it takes a translation for.",
)


class Stage:
    """A scene as the benchmark's options have it."""

    def __init__(self, bench: Bench, name: str, scene: Scene) -> None:
        assert isinstance(bench.options, Options)
        self.bench, self.name, self.scene, self.options = bench, name, scene, bench.options
        self.minutes = 0.01 if bench.quick else bench.options.minutes or scene.minutes
        self.train = open_sides(scene.data)

    @property
    def record(self) -> Result:
        return data_record(self.scene.data, self.train, self.scene.source)

    @property
    def arms(self) -> list[Arm]:
        paper = Arm("pix2pix", "paper", "pix2pix") if self.train.paired else Arm("CycleGAN", "paper", "cyclegan")
        known = {"paper": paper, "cut": Arm("CUT, the default's networks", "cut", None, as_cut)}
        arms = [Arm("default", "default", None), *(known[name] for name in self.scene.rivals)]
        return [arm for arm in arms if not self.options.arms or arm.file in self.options.arms]

    def _file(self, arm: Arm) -> str:
        return f"{self.name}-{arm.file}"

    def folder(self, arm: Arm, seed: int) -> Path:
        return self.bench.runs / self.bench.name / f"{self._file(arm)}-seed{seed}"

    def picture(self, arm: Arm, seed: int) -> Path:
        """Only what is free to share goes into the project."""
        folder = self.bench.folder if self.scene.shown else self.folder(arm, seed)
        return folder / f"{self._file(arm)}-seed{seed}.png"

    def caption(self, arm: Arm) -> str:
        return f"{self.scene.title}, {arm.title}: input, translation and, if known, target, of validation images"

    def _about(self, arm: Arm, seed: int) -> tuple[Result, Callable[[Run], Run]]:
        """The protocol of a run, and what makes it out of what is picked."""

        def adjust(found: Run) -> Run:
            asked = replace(arm.adjust(found), seed=seed, minutes=self.minutes, images=None)
            return shortened(asked) if self.bench.quick else asked

        data = self.scene.data
        run = translation(arm.algorithm, data) if arm.algorithm else quick_translation(data, self.train)
        return {"scene": self.name, "data": [self.record], "run": recipe(adjust(run)), "scoring": SCORING}, adjust

    def trained(self, arm: Arm, seed: int) -> Result:
        """One training and its numbers on validation images; from the files if it was done before."""
        about, adjust = self._about(arm, seed)

        def work() -> Result:
            run = pick(
                self.scene.data, algorithm=arm.algorithm, minutes=self.minutes, device="cpu", dataset=self.train,
                adjust=adjust,
            ).run  # fmt: skip
            folder, times = played(self.bench, self._file(arm), run, self.train)
            settled = {key: getattr(run, key) for key in ("precision", "memory_format")}
            found = self._scored(folder, "validation")
            picture = self.picture(arm, seed)
            pictures.save_png(self._sheet(of_run(folder)), picture, {"zerosum": "generated", "arm": arm.file})
            return {**times, **settled, **found}

        # Of what may not be shown the picture goes with the run's folder, which is no reason to train again.
        shown = (self.picture(arm, seed),) if self.scene.shown else ()
        return self.bench.arm(self._file(arm), seed, about, work, shown)

    def final(self, arm: Arm, seed: int) -> Result:
        folder = self.folder(arm, seed)

        def work() -> Result:
            if not folder.is_dir():
                raise UserError(f"{folder} is not there: this run was not kept; train it --again")
            return self._scored(folder, "test")

        return self.bench.arm(f"{self._file(arm)}-final", seed, self._about(arm, seed)[0], work)

    def _scored(self, folder: Path, part: str) -> Result:
        """Every number of every direction: "A2B the run: l1" and so on, and with ", floor" the real images'."""
        known = open_sides(replace(self.scene.data, jitter=0))  # whole, as those that they are held against
        trial = Trial(of_run(folder), known, open_sides(self.scene.judged[part]), folder.name, part)
        features = "random" if self.bench.quick else "imagenet"
        found = evaluation.evaluate(trial, Settings(features=features), Cache(None)).measurements
        floors = {f"{key}, floor": m.floor.value for key, m in found.items() if m.floor is not None}
        return {**{key: m.value for key, m in found.items()}, **floors}

    def _sheet(self, translator: Translator) -> Image.Image:
        """Input, translation and target beside each other, the first way that was trained."""
        unseen = open_sides(self.scene.judged["validation"])
        index = np.linspace(0, len(unseen) - 1, min(SHOWN, len(unseen))).round().astype(int)
        tiles = []
        for i in index:
            here = np.array([i])
            x = unseen.gather("a", here)[0]
            row = [x, translator(x), *([unseen.gather("b", here)[0]] if unseen.paired else [])]
            tiles += [image if len(image) == 3 else image.repeat(3, 0) for image in row]
        return pictures.grid(np.stack(tiles), columns=COLUMNS * len(row))

    # --- tables ------------------------------------------------------------------------------------------------------

    def directions(self, rows: Mapping[str, Sequence[Result]]) -> list[Direction]:
        keys = {key for results in rows.values() for result in results for key in result}
        return [d for d in ("A2B", "B2A") if any(key.startswith(d) for key in keys)]

    def rows(self, rows: Mapping[str, Sequence[Result]], direction: Direction) -> dict[str, list[Result]]:
        """The trained arms, then the baselines and real images, which are the same in every run."""
        back = directions.key(direction, CYCLE, "l1")
        found = {
            title: [{**r, **part(r, direction, RUN), "cycle": r.get(back)} for r in results]
            for title, results in rows.items()
            if any(name.startswith(direction) for name in results[0])
        }
        first = next(results[0] for title, results in rows.items() if title in found)
        names = dict.fromkeys(key[4:].split(":")[0] for key in first if key.startswith(direction) and ":" in key)
        for name in names:
            if name not in (RUN, CYCLE):
                found[name] = [part(first, direction, name)]
        found[REAL] = [
            {key.removesuffix(", floor"): v for key, v in part(first, direction, RUN).items() if "floor" in key}
        ]
        return found

    def targets(self, where: str, rows: Mapping[str, Sequence[Result]]) -> Iterator[Target]:
        """Of the default alone: against every baseline."""
        if "default" not in rows or self.name == "cat2dog":
            return
        ours, trained = rows["default"], [arm.title for arm in self.arms]
        paired = {"l1": ".4f", "frechet": ".4g", "joint": ".4g"}
        keys = paired if self.train.paired else {"rank": ".1f", "kernel": ".4f"}
        for key, form in keys.items():
            rivals = {
                name: found[0][key] for name, found in rows.items() if key in found[0] and name not in (*trained, REAL)
            }
            best = min(rivals, key=lambda name: rivals[name])
            yield below(f"{where}: {key}, against {best}", [r[key] for r in ours], rivals[best], form)
        if not self.train.paired:
            yield at_least(f"{where}: taken for the other side", [r["domain"] for r in ours], FLIPS, ".0%")


def part(result: Result, direction: Direction, name: str) -> Result:
    """The numbers of one direction and one arm by their own names."""
    start = directions.key(direction, name, "")
    return {key.removeprefix(start): value for key, value in result.items() if key.startswith(start)}


def as_cut(run: Run) -> Run:
    """CUT in place of CycleGAN, with the same networks and rates."""
    game: Any = run.algorithm
    return replace(run, algorithm=CUT(networks=game.networks))
