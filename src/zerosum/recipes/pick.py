"""From data to a sensible run: what was picked, and why, in plain sentences."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from zerosum import algorithms, memory
from zerosum import data as sources
from zerosum.data.sides import Sides
from zerosum.data.spec import Data, Dataset, Spec
from zerosum.data.store import ArrayDataset
from zerosum.engine import (
    MemoryFormat,
    Precision,
    can_compile,
    choose_device,
    kept_memory,
    rivals,
    settled_format,
    settled_precision,
)
from zerosum.errors import SizeError, UserError
from zerosum.recipes import growing
from zerosum.recipes import images as image_recipes
from zerosum.recipes.base import FRAMES, from_settings, with_cadence
from zerosum.recipes.images import FEW
from zerosum.recipes.transfer import Origin
from zerosum.run import Run, check, check_length
from zerosum.trainer import Training
from zerosum.view import SilentView

LONGEST_ON_CPU = 64  # pixels: the largest image that two cores learn in minutes
NAMED = 5  # files skipped that are named
DEFAULT_MINUTES = 10.0
ESTIMATE_SECONDS, MOST_SECONDS = 1.0, 10.0  # of a trial
TRIAL_SHARE = 0.02  # of a run by the clock, for the trial that says how many images it will see
GAIN = 1.05
COMPARED = 4.0  # seconds of each, compiled and not: a wrong choice costs more than that
WORTH_COMPILING = 30 * 60  # seconds that a run lasts before compiling is tried: that takes up to a minute
PROBE_SHARE = 0.03  # of the training time, at most
UNSET = Run.augment_images  # the paper's: what is picked for two sides has its own
TO_ALL = 5  # adaptive augmentation may go from none to all in a fifth of a run (docs/log.md, 2026-12-01)
ALONE = ("ssgan",)  # its agreement is about images that moved
BY_HEART = 2_000  # times that D sees each image: from there on it had better see them augmented


@dataclass(frozen=True)
class Choice:
    """A run, the data it will read, and why it is what it is."""

    run: Run
    dataset: Dataset | Sides
    reasons: list[str]


def pick(
    data: Data,
    *,
    algorithm: str | None = None,
    images: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    progress: Callable[[int, int, str], None] | None = None,
    dataset: Dataset | Sides | None = None,
    adjust: Callable[[Run], Run] = lambda run: run,
    memory_limit: int | None = None,
    out: Path = Path(),
    weights_of: Path | None = None,
) -> Choice:
    """A complete run for this data. What the caller gives is kept; the rest follows from the data's shape and count.

    `adjust` puts settings of the caller's own into the run that was picked, before it is timed. `weights_of`: the run
    whose weights this one is to begin with, and whose game it plays if no algorithm is named. UserError if there is not
    enough memory (`memory_limit` bytes, or what is free), even in micro-batches, or disk at `out`.
    """
    check_length(images, minutes)
    given = dataset
    origin, named = None if weights_of is None else Origin.of(weights_of), algorithm is not None
    if origin is not None:
        data = data if dataset is not None else origin.sized(data)
        algorithm = algorithm or origin.algorithm
    if algorithm is not None and data.pairing is None and algorithms.translates(algorithm):
        data = replace(data, pairing="auto")  # such an algorithm asks for two sides
    if algorithm is None and origin is None and dataset is None:
        data = sources.as_meant(data)
    if dataset is None:
        data = for_device(data, device)
        dataset = sources.read(data, progress)
    lender = None if named else origin
    run, why = _recipe(data, dataset, algorithm, lender)
    by_clock = run.images is None  # before a caller says so of what names its length in images
    try:
        networks = _shapes(adjust(run), dataset.spec)
    except SizeError as misfit:
        if given is not None or data.size is not None:
            raise
        found, data = dataset.spec.shape[1:], replace(data, size=misfit.nearest)
        dataset = sources.read(data, progress)
        run, why = _recipe(data, dataset, algorithm, lender)
        by_clock = run.images is None
        networks = _shapes(adjust(run), dataset.spec)
        size = f"size {_by(misfit.nearest)} for {_by(found)}"
        why = [f"{size}, which the networks take; --size H W sets another", *why]
    read = (
        [*dataset.notes, *_skipped(dataset.skipped, checked=data.bits == "8")]
        if isinstance(dataset, ArrayDataset | Sides)
        else []
    )
    reasons = [*read, *why]
    if origin is not None:
        origin.check_networks(networks)
        reasons += [origin.begins] * named + origin.warnings(dataset.spec)
    # The caller's own settings come before the clock is asked and once more after it, which sets threads and cadence.
    run = adjust(run)
    generated = dataset.spec.is_image and dataset.spec.target is None
    if generated and len(dataset) < run.batch_size:
        reasons.append(f"a batch of {run.batch_size} shows some images twice: there are {len(dataset)}")
    fit = _fitted(run, dataset, device, memory_limit, adjust, reasons)
    run = run if fit is None else replace(run, micro_batches=fit.run.micro_batches)
    run = adjust(_with_length(run, dataset, images, minutes, device, adjust, reasons, by_clock))
    if fit is not None:
        expected = replace(run, images=run.images or FRAMES * run.grid_every)  # by the clock: see `with_cadence`
        reasons.append(memory.sentence(fit, expected, dataset.spec, out))
    return Choice(run, dataset, reasons)


def for_device(data: Data, device: str) -> Data:
    """The data at a size that the device learns in minutes, if none was asked for."""
    if data.size is not None or choose_device(device).type != "cpu":
        return data
    return replace(data, longest=min(data.longest, LONGEST_ON_CPU))


def _shapes(run: Run, spec: Spec) -> dict[str, nn.Module]:
    """The run's networks without their weights, for which there may be too little memory."""
    with torch.device("meta"):
        return run.algorithm.players(run.sees(spec))


def _recipe(
    data: Data, dataset: Dataset | Sides, algorithm: str | None, origin: Origin | None
) -> tuple[Run, list[str]]:
    """The recipe for these data, and why."""
    spec = dataset.spec
    if origin is not None:
        origin.check(spec)
        _check_pairs(algorithm, spec)
        # How long, and behind what: as for these data, but for a game that is nothing without its own.
        run = origin.lend(_recipe(data, dataset, algorithm if algorithm in ALONE else None, None)[0])
        warnings = _warnings(len(dataset)) if spec.is_image and spec.target is None else []
        return run, [_said(dataset), origin.why, *warnings]
    if spec.target is not None:
        assert isinstance(dataset, Sides)
        return _for_sides(data, dataset, algorithm)
    if data.source == "digits" and algorithm is None and spec.shape == (1, 8, 8):
        run = replace(image_recipes.digits(), data=data)
        return run, ["the digits recipe: R3GAN's loss with feed-forward networks, enough for 8x8 pixels and quick"]
    if spec.is_image:
        return _for_images(data, dataset, algorithm)
    run = from_settings(algorithm or "r3gan", data, toy=True)
    kind = type(run.algorithm).__name__
    return run, [f"{kind} with small feed-forward networks: the data are points in {spec.shape[0]}-D"]


def _fitted(
    run: Run, dataset: Dataset | Sides, device: str, limit: int | None, adjust: Callable[[Run], Run], reasons: list[str]
) -> memory.Fit | None:
    """What the run will take, before a step of it is tried; None if that cannot be told."""
    run = replace(run, images=run.images or FRAMES * run.batch_size)  # the length is still to come: any will do
    check(run)
    rehearsed = adjust(with_cadence(run, run.images or 1))  # what it does on the way counts too
    may_split = adjust(replace(run, micro_batches=0)).micro_batches == 0  # the user's own number would be back
    try:
        fit = memory.fit(rehearsed, dataset.spec, choose_device(device), limit, may_split=may_split)
    except RuntimeError as error:  # an algorithm of one's own may look at values
        reasons.append(f"memory could not be told beforehand: {str(error).splitlines()[0]}")
        return None
    reasons += fit.reasons
    return fit


def _said(dataset: Dataset | Sides) -> str:
    """What the data are, in a few words."""
    spec, count = dataset.spec, len(dataset)
    if spec.target is not None:
        a, b = spec.sides
        pairs = "pairs" if spec.paired else "images of the smaller side"
        return f"{count:,} {pairs}, {a.shape[0]} to {b.shape[0]} channels of {_by(a.shape[1:])} (height x width)"
    if not spec.is_image:
        return f"{count:,} points in {spec.shape[0]}-D"
    kind = {1: "grey", 3: "colour", 4: "colour with alpha"}[spec.shape[0]]
    return f"{count:,} {kind} images of {_by(spec.shape[1:])} (height x width)"


def _for_images(data: Data, dataset: Dataset | Sides, algorithm: str | None) -> tuple[Run, list[str]]:
    count = len(dataset)
    run, why = image_recipes.named(algorithm, data) if algorithm else image_recipes.bare(data, dataset.spec, count)
    return run, [_said(dataset), why, *_warnings(count)]


def _warnings(count: int) -> list[str]:
    """What so many images are too few for."""
    return [f"fewer than {FEW:,} images: watch for copies of them among the samples"] if count < FEW else []


def _for_sides(data: Data, dataset: Sides, algorithm: str | None) -> tuple[Run, list[str]]:
    spec, reasons = dataset.spec, [_said(dataset)]
    if algorithm is None:
        name, why = ("pix2pix", "pairs") if spec.paired else ("cyclegan", "not pairs")
        reasons.append(
            f"{name}'s game with thinner residual networks and bolder steps: the sides are {why}; --algorithm {name} "
            "plays it as its paper has it"
        )
        run = image_recipes.quick_translation(data, dataset)
        if getattr(run.algorithm.networks, "attention", False):
            reasons.append("the sides look alike: the generators begin as nearly the identity, and change some of it")
        return run, reasons
    _check_pairs(algorithm, spec)
    return image_recipes.translation(algorithm, data), reasons


def _check_pairs(algorithm: str | None, spec: Spec) -> None:
    if algorithm == "pix2pix" and not spec.paired:
        raise UserError("--algorithm pix2pix: learns from pairs, and the sides are not paired; cyclegan and cut do not")


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _with_length(
    run: Run,
    dataset: Dataset | Sides,
    images: int | None,
    minutes: float | None,
    device: str,
    adjust: Callable[[Run], Run],
    reasons: list[str],
    by_clock_alone: bool,
) -> Run:
    """Set the length as asked, or as the recipe says; fit to it the cadence, and the rates of a recipe by the clock."""
    if images is None and minutes is None:
        images, minutes = run.images, run.minutes
    if images is None and minutes is None:
        minutes = DEFAULT_MINUTES
    run = replace(run, images=images, minutes=minutes)
    check(run)
    rate, found = quickest(run, dataset, device)
    run = adjust(found)
    # By the clock, learning rates fall and sizes grow over what it leaves time for: that is worth a longer trial.
    share = 0.0 if minutes is None else min(TRIAL_SHARE * 60 * minutes, MOST_SECONDS)
    stages = growing.doublings(run, dataset.spec)
    seconds = max(share / (stages + 1), ESTIMATE_SECONDS)
    rates = growing.rates(run, stages, lambda sized: estimate(sized, dataset, device, seconds)) if stages else []
    if stages:
        rate = growing.average(rates)
    elif (
        minutes is not None or run != found
    ):  # the user's own threads, say, which the trial took for the most it may use
        rate = estimate(run, dataset, device, seconds)
    how = f"{run.precision}, {run.memory_format.replace('_', ' ')}, {run.threads} thread{'s' * (run.threads != 1)}"
    how += ", compiled" * (run.compile == "on")
    reasons.append(f"{how}: " + ("what a trial found quickest here" if run == found else "as you asked"))
    expected = images
    if minutes is not None:
        by_clock = max(int(rate * 60 * minutes), 1)
        expected = by_clock if images is None else min(images, by_clock)
    assert expected is not None
    here = len(reasons)
    if stages:
        run = adjust(growing.paced(run, rates, expected))
        reasons.append(f"it grows {stages} times: each size has twice the time of the one before")
    if by_clock_alone:
        run = image_recipes.cooled(run, expected)
    by_heart = expected >= BY_HEART * len(dataset) and not isinstance(dataset, Sides)
    if by_clock_alone and by_heart and not run.augment:
        policies = image_recipes.against_learning_by_heart(run)
        run = replace(run, augment=policies)
        if adjust(run).augment == policies:  # the user may have said otherwise
            reasons.append(
                f"D will see each of the {len(dataset):,} images {expected // len(dataset):,} times: it sees them "
                "augmented, or it would learn them by heart; --augment alone switches that off"
            )
    if "adaptive" in run.augment and run.augment_images == UNSET:  # a paper's, whose runs are fifty times as long
        run = adjust(replace(run, augment_images=max(expected // TO_ALL, 1)))
        reasons.append(f"adaptive augmentation may go from none to all in {run.augment_images:,} images")
    probe, grid = pauses(run, dataset, device)
    run = with_cadence(run, expected, _interval(probe, rate))
    grids = min(FRAMES, 1 + math.ceil(expected / (run.batch_size * run.algorithm.rounds)))  # no more than steps
    takes = expected / rate + expected // run.probe_every * probe + grids * grid
    takes = takes if minutes is None else min(takes, 60 * minutes)
    reasons.insert(here, f"about {rate:,.0f} images a second here: {expected:,} images in {_time(takes)}")
    return run


def _skipped(files: tuple[tuple[str, str], ...], *, checked: bool) -> list[str]:
    """The first few of the files that were left out, by name and reason, and how many there are.

    `checked`: `zerosum data check` would leave them out, too.
    """
    named = [f"skipped {name}: {reason}" for name, reason in files[:NAMED]]
    rest = len(files) - len(named)
    where = "; zerosum data check names them all" if checked else ""
    return [*named, f"skipped {rest:,} more{where}"] if rest else named


def probe_interval(run: Run, dataset: Dataset | Sides, images_per_second: float, device: str = "auto") -> int:
    """Images between two probes at which they take PROBE_SHARE of the time, from one that is tried here."""
    return _interval(pauses(run, dataset, device)[0], images_per_second)


def _interval(probe: float, images_per_second: float) -> int:
    return max(1, math.ceil(probe * images_per_second / PROBE_SHARE))


def pauses(run: Run, dataset: Dataset | Sides, device: str = "auto") -> tuple[float, float]:
    """Seconds that a probe takes here, and a sample grid, before which an average has its BatchNorm settled."""
    with _trial(run, dataset, device) as training:
        training.probe(training.averaged, training.players.networks)  # the first one also reads the real side
        training.step()
        begun = time.perf_counter()
        training.probe.draw(training.averaged)
        drawn = time.perf_counter()
        training.probe(training.averaged, training.players.networks)
        return time.perf_counter() - drawn, drawn - begun


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def quickest(
    run: Run, dataset: Dataset | Sides, device: str = "auto", seconds: float = ESTIMATE_SECONDS
) -> tuple[float, Run]:
    """Real images a second, and the run with the machine's side settled so that it gets them.

    What the run leaves open is tried one after the other: precision and memory format by one thread, which other work
    on the machine disturbs least, then more threads, which small networks do not need. Another than the plain choice
    must be quicker by GAIN: it changes the last digits. Precisions take turns, and the better of two counts: a second
    in which the machine did something else would make the whole run a slow one.
    """
    most = run.threads or torch.get_num_threads()

    def tried(
        precision: Precision, memory_format: MemoryFormat, threads: int = 1, share: float = 1.0
    ) -> tuple[float, Run]:
        rival = replace(run, precision=precision, memory_format=memory_format, threads=threads)
        return estimate(rival, dataset, device, share * seconds), rival

    networks = _shapes(run, dataset.spec).values()
    pairs = [
        *dict.fromkeys(
            (precision, memory_format if run.memory_format == "auto" else run.memory_format)
            for precision, memory_format in rivals(choose_device(device), networks)
            if run.precision in ("auto", precision)
            and not (precision == "bf16" and run.precision == "auto" and dataset.spec.wide)
        )
    ] or [(settled_precision(run.precision), settled_format(run.memory_format))]
    rounds = [[tried(*pair, share=0.5) for pair in pairs] for _ in range(2)] if pairs[1:] else [[tried(*pairs[0])]]
    found = [max(of, key=lambda pair: pair[0]) for of in zip(*rounds, strict=True)]
    best = max(found, key=lambda pair: pair[0])
    best = best if best[0] > GAIN * found[0][0] else found[0]
    if most > 1:
        best = max(best, tried(best[1].precision, best[1].memory_format, most), key=lambda pair: pair[0])
    if run.compile != "auto":
        return best
    if growing.grows(run, dataset.spec):  # each size and fade would have to be compiled, and the trial sees one
        return best[0], replace(best[1], compile="off")
    return _compiled(best[0], best[1], dataset, device, seconds)


def _compiled(rate: float, run: Run, dataset: Dataset | Sides, device: str, seconds: float) -> tuple[float, Run]:
    """The same, compiled if the run is so long that what is gained pays for compiling, which is tried."""
    eager, rival = replace(run, compile="off"), replace(run, compile="on")
    lasts = min(math.inf if run.images is None else run.images / rate, 60 * (run.minutes or math.inf))
    if lasts < WORTH_COMPILING or not can_compile():
        return rate, eager
    began = time.perf_counter()
    try:
        quicker = estimate(rival, dataset, device, max(seconds, COMPARED))
    except RuntimeError:  # the compiler is no use here: torch's errors of that kind are all of this type
        return rate, eager
    left = lasts - (time.perf_counter() - began)  # the run compiles once more
    rate = estimate(eager, dataset, device, max(seconds, COMPARED))  # beside it: the machine may be busier by now
    return (quicker, rival) if quicker * left > GAIN * rate * lasts else (rate, eager)


def estimate(run: Run, dataset: Dataset | Sides, device: str = "auto", seconds: float = ESTIMATE_SECONDS) -> float:
    """Real images a second that this run trains at here, from a few steps on networks that are thrown away.

    Of a game with lazy penalties whole rounds, from one to the next, unless that would take MOST_SECONDS.
    """
    more = run.algorithm.more_d_turns
    around = round(1 / more) if more else 1
    with _trial(run, dataset, device) as training:
        training.step()  # the first one also allocates and chooses kernels
        begin, start = training.seen, time.perf_counter()
        for step in itertools.count(1):
            training.step()
            elapsed = time.perf_counter() - start
            if elapsed >= seconds and (step % around == 0 or elapsed >= MOST_SECONDS):
                break
        return (training.seen - begin) / elapsed


@contextmanager
def _trial(run: Run, dataset: Dataset | Sides, device: str) -> Iterator[Training]:
    """The run, ready to step, on networks that are thrown away."""
    run = replace(
        run, precision=settled_precision(run.precision), memory_format=settled_format(run.memory_format),
        threads=run.threads or torch.get_num_threads(),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, kept_memory():  # as a session has it
        training = Training(run, dataset, choose_device(device), Path(folder), SilentView())
        training.seen = run.algorithm.heaviest_at // 2  # late enough, whatever grows; and steps go on from there
        yield training
