"""How good a GAN is after a few minutes on this machine: our default beside the textbook, SNGAN and R3GAN.

Every run trains on the same images from nothing and is stopped by the clock, which counts everything but the scoring:
the trial of the machine, building, compiling, training. Choices (our default's, every opponent's learning rate) are
made on validation images, 10,000 training images that nobody trains on. The samples of every mark are kept in the
folder of runs, so that they can be scored on the test images once (`--final`), when all choices are made.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from zerosum import atomic, pictures
from zerosum.bench import protocol
from zerosum.bench import speedrun_page as page
from zerosum.bench.arms import R3GAN_A_MINUTE, RATES, Arm, bracketed, default, opponents
from zerosum.bench.field import Course, Field, everything, made
from zerosum.bench.protocol import Bench, Result
from zerosum.bench.report import Report, Table, Target
from zerosum.bench.speedrun_page import Rows
from zerosum.data.augment import POLICIES
from zerosum.errors import UserError

Name = Literal["fashion-mnist", "few", "cifar10", "long"]
COURSES: dict[Name, Course] = {
    "fashion-mnist": Course("fashion-mnist", "Fashion-MNIST", "fashion-mnist", (1.0, 2.0, 5.0), (0, 1, 2)),
    "few": Course("few", "400 images of Fashion-MNIST", "fashion-mnist", (2.0, 4.0, 8.0), (0, 1), few=400),
    "cifar10": Course("cifar10", "CIFAR-10", "cifar10", (2.0, 5.0, 10.0), (0, 1)),
    "long": Course("long", "Fashion-MNIST, half an hour", "fashion-mnist", (1.0, 5.0, 10.0, 20.0, 30.0), (0,)),
}
SEEDS: tuple[int, ...] = ()  # each course has its own
FAR = 2.0  # times the best opponent's distance: beyond, an opponent runs on the first seed alone
CLOSE = 1.1  # times the distance at its best rate: rates that are no further on the first seed run on all
SHOWN, COLUMNS = 100, 10
REAL = ("frechet", "precision", "recall")  # of training images in place of samples


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What the speedrun can be told beside what every benchmark can."""

    courses: tuple[Name, ...] = ()
    """Only these; all whose data are here if not given."""
    arms: tuple[Literal["default", "textbook", "sngan", "r3gan"], ...] = ()
    """Only these; all if not given."""
    minutes: float | None = None
    """Run so long in place of the course's own length."""
    paced: int | None = None
    """To fill the table on a slower or a busy machine: with so many threads, an opponent's run that is
    missing reaches a mark not by the clock but when it has seen the images that its other rates saw by then."""
    final: bool = False
    """Also score the samples that were kept on the test images, by an extractor of their own: once, at the end."""


OPTIONS = Options


@dataclass(frozen=True)
class Best:
    """How many times its published rate an opponent is best at, and whether it is near the best of all opponents."""

    times: float
    near: bool


@dataclass(frozen=True)
class Entry:
    """A row of a table: an arm with the name of its files and its seeds. `chosen`: no rate that lost to another."""

    title: str
    file: str
    arm: Arm
    seeds: tuple[int, ...]
    chosen: bool = True

    @property
    def ours(self) -> bool:
        return self.title.startswith("default")


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    if options.paced is not None and options.paced < 1:
        raise UserError(f"--paced {options.paced}: must be 1 thread or more")
    tables, targets, known, shown = list[Table](), list[Target](), list[Result](), list[tuple[str, str]]()
    best: dict[str, Best] = {}
    about = [
        "Every run begins from nothing and is stopped by the clock: trial of the machine, building and training count, "
        "scoring does not. Frechet distance, precision and recall are of 10,000 samples against 10,000 validation "
        "images, which nobody trained on and all choices are made on, in the features of a classifier that was "
        "trained for this. Fresh judges (the best of three) tell samples from validation images: a half is a guess.",
        "The default is what a bare `zerosum train --minutes` picks. The textbook DCGAN is a plain loop of its own: "
        "Radford's networks at width 64 and 32 x 32 pixels, BatchNorm in both, Adam at 2e-4 and beta1 0.5, batch 64, "
        "fp32. SNGAN and R3GAN have their published losses and networks in our engine, thinner (width 16), "
        "SNGAN at a constant rate as its paper has it, R3GAN with rates and gamma that fall over the run as in its "
        "authors' recipe for this size, but without their augmentation. Probes, grids and checkpoints are in nobody's "
        f"time. On Fashion-MNIST each opponent ran at {', '.join(f'{t:g}' for t in RATES)} times its published rate on "
        "the first seed, on the other courses at the best there and at half of it, on all of them at further halves "
        "or doubles until the best had a worse one on either side. The best, and any within "
        f"{CLOSE - 1:.0%} of it, ran on all seeds, and of these the best on average is scored on the test images. "
        "On the validation images the default is held against all rows, those of one run too. "
        f"One that was more than {FAR:g} times as far as the best opponent ran on the first seed alone, and one of "
        "which that is so on Fashion-MNIST and on another course, there at its best rate on Fashion-MNIST alone.",
    ]  # fmt: skip
    for name in options.courses or COURSES:
        try:
            field = Field(bench, _course(bench, COURSES[name]))
        except UserError as error:
            if options.courses:
                raise
            bench.say(f"{name} is left out: {error}")
            continue
        floor = bench.arm(f"{_file(field.course.data)}controls", 0, _controls(field), field.controls)
        rows, entries = _rows(bench, field, best)
        real = {"real images": [{f"{key}_{m:g}": floor[key] for key in REAL for m in field.marks}]}
        tables.append(Table(f"{field.course.title}: validation images", page.columns(field), {**rows, **real}))
        about += _paced(field, entries, rows)
        targets += page.targets(field, rows, floor)
        known += [k for k in field.known if k not in known]
        drawn = _pictures(bench, field, entries, rows, floor["frechet"])
        shown += [(f"{bench.name}/{p.name}", words) for p, words in drawn]
        if options.final:
            found = {e.title: [_final(field, e, seed) for seed in e.seeds] for e in entries if e.chosen}
            tables.append(Table(f"{field.course.title}: test images, once", page.final_columns(field), found))
            targets += page.final_targets(field, found, rows)
    return Report(
        title="Speedrun: how good in a few minutes of two cores", about=tuple(about), data=tuple(known),
        tables=tuple(tables), targets=tuple(targets), pictures=tuple(shown), arithmetic="bf16 where a trial chose it",
    )  # fmt: skip


def _course(bench: Bench, course: Course) -> Course:
    options = bench.options
    assert isinstance(options, Options)
    seeds = bench.seeds or (course.seeds[:1] if bench.quick else course.seeds)
    if options.minutes is None:
        return replace(course, seeds=seeds)
    within = tuple(mark for mark in course.marks if mark < options.minutes)
    return replace(course, seeds=seeds, marks=(*within, options.minutes))


def _controls(field: Field) -> Result:
    return {"judge": field.protocol["judge"]}


def _file(data: str) -> str:
    return "" if data == "fashion-mnist" else f"{data}-"


def _rows(bench: Bench, field: Field, best: dict[str, Best]) -> tuple[Rows, list[Entry]]:
    """All runs of a course by title. `best`: of each opponent, filled by the first course that it runs on."""
    options = bench.options
    assert isinstance(options, Options)
    wanted = options.arms or ("default", "textbook", "sngan", "r3gan")
    last, seeds = field.marks[-1], field.course.seeds
    entries: list[Entry] = []
    if "default" in wanted and field.course.few is None:
        entries.append(Entry("default", "default", default(last), seeds))
    elif "default" in wanted:  # which augments so few images
        entries.append(Entry("default", "default-augmented", default(last, augment=POLICIES), seeds))
        entries.append(Entry("default, not augmented", "default", default(last, augment=()), seeds))
    if field.name != "long":
        known = {name: arm for name, arm in opponents(last).items() if name.split()[0].lower() in wanted}
        entries += _searched(field, known, best)
    return {e.title: [_run(field, e, seed) for seed in e.seeds] for e in entries}, entries


def _searched(field: Field, arms: Mapping[str, Callable[[float], Arm]], best: dict[str, Best]) -> Iterator[Entry]:
    """Each opponent at every rate it was tried at, the one chosen on the validation images marked."""
    key, seeds = f"frechet_{field.marks[-1]:g}", field.course.seeds

    def entry(name: str, times: float, seeds: tuple[int, ...], *, chosen: bool = False) -> Entry:
        return Entry(f"{name}, {_times(times)}", f"{_named(name)}-lr{times:g}", arms[name](times), seeds, chosen)

    def distance(name: str, times: float, seed: int) -> float:
        found = _run(field, entry(name, times, (seed,)), seed)[key]
        return math.inf if found is None else float(found)  # it came apart

    def searched(name: str, start: Sequence[float]) -> dict[float, float]:
        return bracketed(partial(distance, name, seed=seeds[0]), start)

    first: dict[str, dict[float, float]] = {}
    for name in arms:
        known = best.get(name)
        if known is None:
            first[name] = searched(name, RATES)
        elif known.near:
            first[name] = searched(name, (known.times / 2, known.times))
        else:
            first[name] = {known.times: distance(name, known.times, seeds[0])}

    def near(name: str) -> bool:
        nearest = min(d for found in first.values() for d in found.values())
        return min(first[name].values()) <= FAR * nearest < math.inf

    for name in [name for name, known in best.items() if name in first and not known.near and near(name)]:
        first[name] |= searched(name, (best[name].times / 2, best[name].times))  # far elsewhere: now it is made up for
    for name, found in first.items():
        close = [t for t in found if near(name) and found[t] <= CLOSE * min(found.values())]
        mean = {t: float(np.mean([distance(name, t, seed) for seed in seeds])) for t in close} or found
        chosen = min(mean, key=lambda t: mean[t])
        best.setdefault(name, Best(chosen, near(name)))
        for t in sorted(found):
            yield entry(name, t, seeds if t in close else seeds[:1], chosen=t == chosen)


def _named(name: str) -> str:
    """An opponent in the name of its files."""
    return name.replace(" ", "-").lower()


def _times(times: float) -> str:
    return "published rate" if times == 1.0 else f"{times:g} times the rate"


def _stem(field: Field, entry: Entry, seed: int) -> str:
    return f"{field.name}-{entry.file}-seed{seed}"


def _run(field: Field, entry: Entry, seed: int) -> Result:
    """One run, from the files if it was played before."""
    bench, options = field.bench, field.bench.options
    assert isinstance(options, Options)
    folder = bench.runs / bench.name / _stem(field, entry, seed)
    # Pictures that go into the project come from Fashion-MNIST alone: it is free to share. Others are no result.
    shared = field.course.data == "fashion-mnist"
    picture = (bench.folder if shared else folder) / f"{_stem(field, entry, seed)}.png"

    def work() -> Result:
        real, rows = field.real, list[Result]()  # the judge is trained before the clock runs
        pace = None if entry.ours or options.paced is None else _pace(field, entry)
        if pace is not None:
            assert options.paced is not None
            torch.set_num_threads(options.paced)
        began, paused = time.perf_counter(), 0.0
        player = entry.arm.enter(field, seed)
        while len(rows) < len(field.marks):
            seen = player.step()
            minutes = (time.perf_counter() - began - paused) / 60
            if minutes < field.marks[len(rows)] if pace is None else seen < pace[len(rows)]:
                continue
            stopped = time.perf_counter()
            images = player.draw(field.samples)
            rows.append({"minutes": minutes, "images_seen": seen, **field.score(images, real)})
            bench.say(f"{entry.title}, seed {seed}, {minutes:.1f} min: {rows[-1]['frechet']:.2f}")
            np.save(made(folder) / f"{field.marks[len(rows) - 1]:g}.npy", images)
            paused += time.perf_counter() - stopped
        sheet = pictures.grid(images[:SHOWN], columns=COLUMNS)
        pictures.save_png(sheet, picture, {"zerosum": "generated", "arm": entry.file})
        return {
            "marks": rows,
            "images_per_second": None if pace else rows[-1]["images_seen"] / rows[-1]["minutes"] / 60,
            **({"paced": pace} if pace else {}),
            "told_apart": field.told_apart(images, everything(field.validation)[0]),
            **player.chosen,
            **_flat(rows, field),
        }

    kept = (picture,) if shared else ()
    return bench.arm(f"{field.name}-{entry.file}", seed, {**entry.arm.protocol, **field.protocol}, work, kept)


def _pace(field: Field, entry: Entry) -> list[int]:
    """Images at each mark: the most that a run of this opponent at any rate saw there by the clock.

    R3GAN, whose rates fall over its images, has those that they fall over where no run of it is known.
    """
    name = entry.title.split(",")[0]
    twins = field.bench.folder.glob(f"{field.name}-{_named(name)}-lr*-seed*.json")
    found = [json.loads(path.read_text(encoding="utf-8"))["result"] for path in sorted(twins)]
    options = field.bench.options
    assert isinstance(options, Options)
    clocked = [r["marks"] for r in found if "marks" in r and "paced" not in r]
    if clocked:
        return [max(marks[i]["images_seen"] for marks in clocked) for i in range(len(field.marks))]
    if name == "R3GAN":
        return [int(mark * R3GAN_A_MINUTE) for mark in field.marks]
    raise UserError(f"--paced {options.paced}: no run of {name} by the clock in {field.bench.folder}")


def _paced(field: Field, entries: Sequence[Entry], rows: Rows) -> Iterator[str]:
    """What the page says of such runs."""
    known = [e.title for e in entries if any("paced" in r for r in rows[e.title])]
    if known:
        yield (
            f"{field.course.title}: runs without images/s ({'; '.join(known)}) were played without a clock, on "
            "a slower processor or in one thread beside another: each reached a mark when it had seen as many images "
            "as that opponent's quickest run by the clock at any rate had by then (R3GAN, where it had none, as many "
            "as its rates fall over)."
        )


def _flat(rows: list[Result], field: Field) -> Result:
    """The numbers of each mark under keys of their own, for the table."""
    return {
        f"{key}_{mark:g}": row[key]
        for mark, row in zip(field.marks, rows, strict=True)
        for key in ("frechet", "precision", "recall", "images_seen")
    }


def _final(field: Field, entry: Entry, seed: int) -> Result:
    """The kept samples on the test images: of the last mark, and of our first, which is held against their last."""
    bench = field.bench
    folder = bench.runs / bench.name / _stem(field, entry, seed)

    def work() -> Result:
        found: Result = {}
        for mark in dict.fromkeys((field.marks[0], field.marks[-1]) if entry.ours else field.marks[-1:]):
            path = folder / f"{mark:g}.npy"
            if not path.is_file():
                raise UserError(f"{path} is not there: the samples of this run were not kept; run it --again")
            found |= {f"{key}_{mark:g}": value for key, value in field.final(np.load(path, allow_pickle=False)).items()}
        return found

    return bench.arm(f"{field.name}-{entry.file}-final", seed, {**entry.arm.protocol, **field.protocol}, work)


def _pictures(
    bench: Bench, field: Field, entries: Sequence[Entry], rows: Rows, floor: float
) -> Iterator[tuple[Path, str]]:
    """The curves, and samples of the first seed at the last mark."""
    curves = bench.folder / f"{field.name}-curves.png"
    atomic.write_file(curves, page.curves(field, rows, floor))
    yield curves, f"{field.course.title}: Frechet distance over time; lines are means, marks are runs"
    if field.course.data == "fashion-mnist":
        for e in entries:
            sheet = bench.folder / f"{_stem(field, e, e.seeds[0])}.png"
            yield sheet, f"{field.course.title}, {e.title}: {field.marks[-1]:g} min"
