"""How good a GAN is after a few minutes on this machine: our default beside the textbook, SNGAN and R3GAN.

Every run trains on the same images from nothing and is stopped by the clock, which counts everything but the scoring:
the trial of the machine, building, compiling, training. Choices (our default's, every opponent's learning rate) are
made on validation images, 10,000 training images that nobody trains on. The samples of every mark are kept in the
folder of runs, so that they can be scored on the test images once (`--final`), when all choices are made.
"""

from __future__ import annotations

import io
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
from zerosum.bench.arms import R3GAN_A_MINUTE, RATES, Arm, bracketed, default, opponents
from zerosum.bench.field import Course, Field, everything, made
from zerosum.bench.protocol import Bench, Result
from zerosum.bench.report import Column, Report, Table, Target
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
ACCURACY = 0.93
THIRD = 1 / 3
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

Rows = dict[str, list[Result]]


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
    if options.minutes is not None and options.minutes <= 0:
        raise UserError(f"--minutes {options.minutes:g}: must be more than 0")
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
        f"{CLOSE - 1:.0%} of it, ran on all seeds, and the best on average is held against the default. "
        f"One that was more than {FAR:g} times as far as the best opponent ran on the first seed alone, and where "
        "that was so on Fashion-MNIST, on the other courses at its best rate there alone.",
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
        tables.append(Table(f"{field.course.title}: validation images", _columns(field), {**rows, **real}))
        about += _paced(field, entries, rows)
        targets += _targets(field, rows, floor)
        known += [k for k in field.known if k not in known]
        drawn = _pictures(bench, field, entries, rows, floor["frechet"])
        shown += [(f"{bench.name}/{p.name}", words) for p, words in drawn]
        if options.final:
            found = {e.title: [_final(field, e, seed) for seed in e.seeds] for e in entries if e.chosen}
            tables.append(Table(f"{field.course.title}: test images, once", _final_columns(field), found))
            targets += _final_targets(field, found, rows)
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

    first: dict[str, dict[float, float]] = {}
    for name in arms:
        known = best.get(name)
        if known is not None and not known.near:
            first[name] = {known.times: distance(name, known.times, seeds[0])}
            continue
        start = RATES if known is None else (known.times / 2, known.times)
        first[name] = bracketed(partial(distance, name, seed=seeds[0]), start)
    nearest = min((d for found in first.values() for d in found.values()), default=0.0)
    for name, found in first.items():
        near = min(found.values()) <= FAR * nearest
        close = [t for t in found if near and found[t] <= CLOSE * min(found.values())]
        mean = {t: float(np.mean([distance(name, t, seed) for seed in seeds])) for t in close} or found
        chosen = min(mean, key=lambda t: mean[t])
        best.setdefault(name, Best(chosen, near))
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


# --- the page --------------------------------------------------------------------------------------------------------


def _columns(field: Field) -> tuple[Column, ...]:
    last = field.marks[-1]
    return (
        *(Column(f"frechet_{m:g}", f"Frechet distance at {m:g} min", ".2f") for m in field.marks),
        Column(f"recall_{last:g}", f"recall at {last:g} min", ".3f"),
        Column(f"precision_{last:g}", f"precision at {last:g} min", ".3f"),
        Column("told_apart", "fresh judges right", ".1%"),
        Column("images_per_second", "images/s", ",.0f"),
    )


def _final_columns(field: Field) -> tuple[Column, ...]:
    first, last = field.marks[0], field.marks[-1]
    marks = dict.fromkeys((first, last))
    return (
        *(Column(f"frechet_{m:g}", f"Frechet distance at {m:g} min", ".2f") for m in marks),
        *(Column(f"imagenet_{m:g}", f"in EfficientNet-Lite0's features at {m:g} min", ".2f") for m in marks),
        Column(f"recall_{last:g}", f"recall at {last:g} min", ".3f"),
        Column(f"told_apart_{last:g}", "fresh judges right", ".1%"),
    )


def _mean(results: Sequence[Result], key: str) -> float:
    return float(np.mean([r[key] for r in results]))


def _rivals(rows: Rows) -> list[str]:
    return [title for title in rows if not title.startswith("default")]


def _targets(field: Field, rows: Rows, floor: Result) -> Iterator[Target]:
    right = floor["accuracy"]
    if field.name == "fashion-mnist":
        yield Target("the judge's accuracy on test images", f"at least {ACCURACY:.0%}", f"{right:.1%}",
                     right >= ACCURACY)  # fmt: skip
    yield from _against(field, rows, rows, "frechet", "validation images")


def _final_targets(field: Field, rows: Rows, validated: Rows) -> Iterator[Target]:
    yield from _against(field, rows, validated, "frechet", "test images")
    yield from _against(field, rows, validated, "imagenet", "test images, EfficientNet-Lite0")


def _against(field: Field, rows: Rows, validated: Rows, key: str, where: str) -> Iterator[Target]:
    """Our worst seed against the best opponent's mean; its best seed where outside the spread is asked for.

    Which of ours is held against them was settled on the validation images (`validated`).
    """
    if not _rivals(rows) or "default" not in rows:
        return
    first, last = (f"{key}_{m:g}" for m in (field.marks[0], field.marks[-1]))
    rival = min(_rivals(rows), key=lambda arm: _mean(rows[arm], last))
    mine_all = (arm for arm in rows if arm.startswith("default"))
    ours = min(mine_all, key=lambda arm: _mean(validated[arm], f"frechet_{field.marks[-1]:g}"))
    mine = partial(_worst, rows[ours])
    what = f"{field.course.title}, {where}: {ours}"
    if field.name != "fashion-mnist":
        bound = min(r[last] for r in rows[rival])
        yield Target(f"{what} against {rival} (its best seed)", f"below {bound:.2f}", f"{mine(last):.2f} (worst seed)",
                     mine(last) < bound)  # fmt: skip
        return
    at = _mean(rows[rival], last)
    minutes = tuple(f"{m:g}" for m in (field.marks[0], field.marks[-1]))
    yield Target(f"{what} at {minutes[0]} min against {rival} at {minutes[1]}", f"at most {at:.2f}",
                 f"{mine(first):.2f} (worst seed)", mine(first) <= at)  # fmt: skip
    yield Target(f"{what} at {minutes[1]} min against {rival}", f"at most a third: {at * THIRD:.2f}",
                 f"{mine(last):.2f} (worst seed)", mine(last) <= at * THIRD)  # fmt: skip
    recall = f"recall_{field.marks[-1]:g}"
    if key == "frechet":
        wanted, found = _mean(rows[rival], recall), min(r[recall] for r in rows[ours])
        yield Target(f"{what}: recall", f"at least {wanted:.3f}", f"{found:.3f} (worst seed)", found >= wanted)


def _worst(results: Sequence[Result], key: str) -> float:
    return max(r[key] for r in results)


def _pictures(
    bench: Bench, field: Field, entries: Sequence[Entry], rows: Rows, floor: float
) -> Iterator[tuple[Path, str]]:
    """The curves, and samples of the first seed at the last mark."""
    curves = bench.folder / f"{field.name}-curves.png"
    atomic.write_file(curves, _curves(field, rows, floor))
    yield curves, f"{field.course.title}: Frechet distance over time; lines are means, marks are runs"
    if field.course.data == "fashion-mnist":
        for e in entries:
            sheet = bench.folder / f"{_stem(field, e, e.seeds[0])}.png"
            yield sheet, f"{field.course.title}, {e.title}: {field.marks[-1]:g} min"


def _curves(field: Field, rows: Rows, floor: float) -> bytes:
    import matplotlib  # slow to import

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.2), dpi=110)
    for title, results in rows.items():
        heights = [[r[f"frechet_{m:g}"] for m in field.marks] for r in results]
        (line,) = axes.plot(
            field.marks, np.mean(heights, 0), label=title, linewidth=2.5 if title.startswith("default") else 1.2
        )
        for height in heights:
            axes.plot(field.marks, height, "o", color=line.get_color(), markersize=3)
    axes.axhline(floor, color="black", linewidth=1, linestyle="--", label="real images")
    axes.set(xscale="log", yscale="log", xlabel="minutes", ylabel="Frechet distance")
    axes.set_xticks(field.marks, [f"{m:g}" for m in field.marks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.tight_layout()
    held = io.BytesIO()
    figure.savefig(held, format="png", metadata={"Software": "zerosum"})
    pyplot.close(figure)
    return held.getvalue()
