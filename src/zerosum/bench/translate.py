"""Image to image: our engine beside the textbook's loops of the same networks, step by step; memory; a large image."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from zerosum.bench import protocol
from zerosum.bench import textbook_translation as textbook
from zerosum.bench.memory import peak_bytes
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target, at_least, below
from zerosum.bench.timing import in_turns, times_quicker
from zerosum.data.loader import scale
from zerosum.data.sides import Sides
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.engine import has_fast_bf16, kept_memory
from zerosum.networks import ResBlocks, UNet
from zerosum.recipes.base import from_settings
from zerosum.run import Run
from zerosum.sample import to_uint8
from zerosum.schedule import Constant
from zerosum.trainer import Training
from zerosum.translation.model import Route, Translator
from zerosum.view import SilentView

Name = Literal["pix2pix", "cyclegan"]
Part = Literal["training", "memory", "image"]
SEEDS = (0, 1, 2)
SECONDS, LEAST = 6.0, 3  # of all arms of a course together, and rounds at least
STEPS = 3  # of which memory is the peak
SIZE = (768, 1024)  # height and width of the large image
BLOCKS = 6  # of the residual generator, as published for images of up to 128 pixels
RATIO = 1.6
TEXTBOOK, KEPT = "textbook", "textbook, memory kept"
EQUAL = -2  # the arm of ours that does what the textbook does, among all
CPU = torch.device("cpu")
WORKER = "import sys; from zerosum.bench.translate import work; work(sys.argv[1])"


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What this benchmark can be told beside what every benchmark can."""

    algorithms: tuple[Name, ...] = ("pix2pix", "cyclegan")
    """Which algorithms train."""
    sizes: tuple[int, ...] = (64, 128)
    """Sides of their images, in pixels: powers of two."""
    batches: tuple[int, ...] = (1, 4)
    """Images a step."""
    parts: tuple[Part, ...] = ("training", "memory", "image")
    """What is measured: rates, peaks of memory, a large image."""


OPTIONS = Options


@dataclass(frozen=True)
class Course:
    """What trains: an algorithm on noise of so many pixels a side, with the papers' networks at this width."""

    algorithm: Name
    size: int
    batch: int
    width: int

    @property
    def title(self) -> str:
        return f"{self.algorithm}, {self.size}x{self.size}, batch {self.batch}"

    @property
    def file(self) -> str:
        return f"{self.algorithm}-{self.size}-batch{self.batch}"

    def data(self) -> Sides:
        random = np.random.default_rng(0)
        a, b = random.integers(0, 256, (2, 100, 3, self.size, self.size), dtype=np.uint8)
        return Sides(ArrayDataset(a), ArrayDataset(b), paired=self.algorithm == "pix2pix")

    def run(self) -> Run:
        """As `zerosum train --algorithm` has it, with the networks of the textbook and, like it, without averages."""
        run = from_settings(self.algorithm, Data(source="noise"))
        algorithm: Any = run.algorithm
        networks = replace(
            algorithm.networks, width=self.width, patch=replace(algorithm.networks.patch, width=self.width)
        )
        if self.algorithm == "cyclegan":
            networks = replace(networks, blocks=BLOCKS)
        algorithm = replace(algorithm, networks=networks)
        return replace(run, algorithm=algorithm, batch_size=self.batch, images=10**9, ema_half_life=Constant(0))

    def textbook(self, sides: Sides, seed: int) -> textbook.Pix2Pix | textbook.CycleGAN:
        a, b = (side.gather(np.arange(len(side)))[0] for side in (sides.a, sides.b))
        if self.algorithm == "pix2pix":
            return textbook.Pix2Pix(a, b, self.batch, seed, self.width)
        return textbook.CycleGAN(a, b, self.batch, seed, self.width, BLOCKS)


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    courses = [
        Course(name, size, batch, 8 if bench.quick else 64)
        for name in options.algorithms
        for size in options.sizes[: 1 if bench.quick else None]
        for batch in options.batches[: 1 if bench.quick else None]
    ]
    tables, targets = list[Table](), list[Target]()
    headline: dict[str, Any] = {}
    if "training" in options.parts:
        rates = {course.title: _rates(bench, course) for course in courses}
        tables += [_rate_table(title, results) for title, results in rates.items()]
        headline = {title: statistics.median(ratios) for title, ratios in _beside(rates, KEPT).items()}
        for words, ratios in (("textbook", _beside(rates, TEXTBOOK)), (KEPT, _beside(rates, KEPT))):
            targets += [
                at_least(f"{title}: ours / {words}, images a second", found, RATIO, ".2f")
                for title, found in ratios.items()
            ]
    if "memory" in options.parts:
        peaks = {course.title: [_peaks(bench, course)] for course in courses}
        tables.append(_peak_table(peaks))
        targets += [
            below(f"{title}: ours / textbook, peak memory", [r["ratio"] for r in results], 1.0, ".2f")
            for title, results in peaks.items()
        ]
    if "image" in options.parts:
        tables += [_image(bench, kind) for kind in ("resnet", "unet")]
    return Report(
        title="Image to image: training and translating beside the textbook",
        about=ABOUT,
        data=tuple(_record(course) for course in {c.file.rsplit("-", 1)[0]: c for c in courses}.values()),
        tables=tuple(tables),
        targets=tuple(targets),
        headline={f"times the {KEPT}": headline},
        arithmetic="as each arm says",
    )  # fmt: skip


ABOUT = (
    "The papers' networks at width 64: pix2pix's U-Net (as deep as the image can be halved) and critic of pairs, "
    f"CycleGAN's residual generators of {BLOCKS} blocks and critics, with the identity loss and a pool of 50. The "
    "textbook is a plain loop of its own, written from the papers: fp32, eager, torch's norms and Adam, critics frozen "
    "in the generators' turn. Ours is the engine of `zerosum train`, with its guard and, in the last arm, the averaged "
    "generators that it draws from unless told not to (`--ema-half-life 0`), which the papers and the textbook have "
    "not; targets are for what the textbook does too. bf16 with "
    "channels last is what a trial chooses on a processor that multiplies bf16. A step has the same losses and leaves "
    "the same weights in both (a test holds it), but for pix2pix's norm in batches of 4: batch norm in the textbook, "
    "as published, and in ours instance norm, which is the same for one image. Each arm is a process of its own, for "
    "what one frees the next would find; they take turns step by step; medians. `zerosum train` has the C library keep "
    "freed memory; the second arm is the textbook with that, and what is gained beside it, a ratio of medians, is the "
    "number to go by. How long a loop waits for fresh memory without depends on the machine, here a virtual one, and "
    "on how many processes are there: pix2pix's textbook took 190 to 310 ms a step at 64x64 alone or beside two "
    "others, and two to three times that beside five.",
    f"Peak memory is the largest resident set of a process that builds an arm and takes {STEPS} steps, "
    "interpreter and torch included.",
    f"The large image has {SIZE[1]:,}x{SIZE[0]} pixels: from uint8 to uint8, by generators of 9 blocks and of 8 "
    "halvings. The textbook runs them on the whole image, in fp32, eager, without gradients; ours is what "
    "`zerosum translate` does, and the same in fp32. Peaks again are of a process each. MB is 10^6 bytes.",
)


def _record(course: Course) -> Mapping[str, Any]:
    kind = "pairs" if course.algorithm == "pix2pix" else "two sides"
    sides = course.data()
    source = f"uniform noise as uint8 images of {course.size}x{course.size}, {kind}, from a fixed key"
    return data_record(Data(source="noise"), sides, source)


# --- training --------------------------------------------------------------------------------------------------------


def ladder(run: Run, threads: int) -> dict[str, Run]:
    """Our engine, a switch more in every arm, the last but one what a trial chooses here; then with averages too."""
    plain = replace(run, precision="fp32", memory_format="contiguous", compile="off", threads=threads)
    arms = {"ours, fp32": plain, "ours, fp32, channels last": replace(plain, memory_format="channels_last")}
    if has_fast_bf16():
        arms["ours, bf16, channels last"] = replace(plain, precision="bf16", memory_format="channels_last")
    averaged = from_settings(type(run.algorithm).__name__.lower(), run.data).ema_half_life
    quickest = list(arms)[-1]
    return {**arms, f"{quickest}, averaged": replace(arms[quickest], ema_half_life=averaged)}


def _rates(bench: Bench, course: Course) -> list[Result]:
    protocol = {"run": recipe(course.run()), "seconds": SECONDS, "bf16": has_fast_bf16()}
    return [bench.arm(course.file, seed, protocol, partial(_compare, bench, course, seed)) for seed in bench.seeds]


def _compare(bench: Bench, course: Course, seed: int) -> Result:
    threads = bench.options.threads
    with ExitStack() as stack:
        arms = {
            name: stack.enter_context(asked({"course": asdict(course), "arm": name, "threads": threads, "seed": seed}))
            for name in (TEXTBOOK, KEPT, *ladder(course.run(), threads))
        }
        taken = in_turns(arms, 0 if bench.quick else SECONDS, LEAST)
    rows = {
        name: {
            "rate": course.batch / statistics.median(times),
            "milliseconds": 1e3 * statistics.median(times),
            "ratio": times_quicker(taken[TEXTBOOK], times),
        }
        for name, times in taken.items()
    }
    return {"arms": rows, "rounds": len(taken[TEXTBOOK]), "ratio": rows[list(rows)[EQUAL]]["ratio"]}


@contextmanager
def asked(order: Mapping[str, Any]) -> Iterator[Callable[[], object]]:
    """What takes a step of an arm, in a process of its own that goes when the context ends."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, json.dumps({**order, "asked": True})],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        question, answer = process.stdin, process.stdout

        def step() -> None:
            question.write("\n")
            if not answer.readline():
                raise RuntimeError(f"{order} ended with status {process.wait()}")

        yield step
        question.close()


@contextmanager
def _stepping(order: Mapping[str, Any]) -> Iterator[Callable[[], object]]:
    """What takes a step of an arm, here."""
    course, arm = Course(**order["course"]), order["arm"]
    sides, seed = course.data(), order["seed"]
    if arm in (TEXTBOOK, KEPT):
        with kept_memory() if arm == KEPT else nullcontext():
            yield course.textbook(sides, seed).step
        return
    run = replace(ladder(course.run(), order["threads"])[arm], seed=seed)
    with tempfile.TemporaryDirectory() as folder, kept_memory():
        yield Training(run, sides, CPU, Path(folder), SilentView()).step


def _beside(rates: Mapping[str, list[Result]], arm: str) -> dict[str, list[float]]:
    """By course and seed, how many times the images of that arm ours makes, in which it does what the textbook does."""

    def ratio(arms: Mapping[str, Result]) -> float:
        ours: float = arms[list(arms)[EQUAL]]["rate"]
        return ours / arms[arm]["rate"]

    return {title: [ratio(r["arms"]) for r in results] for title, results in rates.items()}


def _rate_table(title: str, results: list[Result]) -> Table:
    columns = (
        Column("rate", "images/s", ".2f"),
        Column("milliseconds", "ms a step", ",.0f"),
        Column("ratio", "times the textbook", ".2f"),
        Column("kept", "times it with memory kept", ".2f"),
    )

    def row(arms: Mapping[str, Result], name: str) -> Result:
        return {**arms[name], "kept": arms[name]["rate"] / arms[KEPT]["rate"]}

    return Table(title, columns, {name: [row(r["arms"], name) for r in results] for name in results[0]["arms"]})


# --- memory ----------------------------------------------------------------------------------------------------------


def _peaks(bench: Bench, course: Course) -> Result:
    arms = [TEXTBOOK, KEPT, *ladder(course.run(), bench.options.threads)]
    protocol = {"run": recipe(course.run()), "steps": STEPS, "bf16": has_fast_bf16()}

    def peaks() -> Result:
        shared = {"course": asdict(course), "threads": bench.options.threads, "seed": 0}
        orders = {arm: {**shared, "arm": arm} for arm in arms}
        found = {arm: _apart(order) for arm, order in orders.items()}
        return {**found, "ratio": found[arms[EQUAL]] / found[TEXTBOOK]}

    return bench.arm(f"memory-{course.file}", 0, protocol, peaks)


def _apart(order: Mapping[str, Any]) -> float:
    """The peak, in MB, of a process of its own that does what `order` says (`work`)."""
    done = subprocess.run([sys.executable, "-c", WORKER, json.dumps(order)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{order} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def work(text: str) -> None:
    """Take a step of an arm whenever asked; or some steps, or translate once, and print this process's peak in MB."""
    order = json.loads(text)
    torch.set_num_threads(order["threads"])
    if "asked" in order:
        with _stepping(order) as step:
            for _ in sys.stdin:
                step()
                print(flush=True)
        return
    if "course" in order:
        with _stepping(order) as step:
            for _ in range(STEPS):
                step()
    else:
        _translators(order["kind"], order["width"], order["arm"])[order["arm"]](_photo(order["size"]))
    print(peak_bytes() / 1e6)


def _peak_table(peaks: Mapping[str, list[Result]]) -> Table:
    arms = [name for name in next(iter(peaks.values()))[0] if name != "ratio"]
    columns = [Column(name, f"{name}, MB", ",.0f") for name in arms]
    return Table("Peak memory of a process", (*columns, Column("ratio", "of the textbook", ".2f")), peaks)


# --- a large image ---------------------------------------------------------------------------------------------------


def _image(bench: Bench, kind: str) -> Table:
    width, size = (4, [256, 512]) if bench.quick else (64, list(SIZE))
    protocol = {"kind": kind, "width": width, "size": size, "bf16": has_fast_bf16(), "least": LEAST}

    def compare() -> Result:
        photo, arms = _photo(size), _translators(kind, width)
        taken = in_turns({n: partial(arm, photo) for n, arm in arms.items()}, 0 if bench.quick else SECONDS, LEAST)
        shared = {"kind": kind, "width": width, "size": size, "threads": bench.options.threads}
        return {
            name: {
                "seconds": statistics.median(times),
                "ratio": times_quicker(taken[TEXTBOOK], times),
                "peak_mb": _apart({**shared, "arm": name}),
            }
            for name, times in taken.items()
        }

    result = bench.arm(f"image-{kind}", 0, protocol, compare)
    columns = (
        Column("seconds", "seconds", ".2f"),
        Column("ratio", "times the textbook", ".2f"),
        Column("peak_mb", "peak, MB", ",.0f"),
    )
    title = f"An image of {SIZE[1]:,}x{SIZE[0]}, {'9 residual blocks' if kind == 'resnet' else 'U-Net of 8 halvings'}"
    return Table(title, columns, {name: [row] for name, row in result.items()})


def _photo(size: list[int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8)


Arm = Callable[[np.ndarray], np.ndarray]


def _translators(kind: str, width: int, only: str = "") -> dict[str, Arm]:
    """What turns an image uint8 (C, H, W) into another, by arm; `only` this one if given."""
    torch.manual_seed(0)
    spec = Spec((3, 256, 256))

    def plain() -> Arm:
        # In training mode but without dropout: batch norm by the image's own statistics, as pix2pix's paper tests
        network = textbook.resnet(3, 3, 9, width) if kind == "resnet" else textbook.unet(3, 3, 8, width, dropout=0.0)

        @torch.no_grad()
        def translate(photo: np.ndarray) -> np.ndarray:
            return to_uint8(network(scale(photo[None], torch.float32, CPU)))[0]

        return translate

    def ours(precision: Literal["auto", "fp32"]) -> Arm:
        networks = ResBlocks(width=width) if kind == "resnet" else UNet(width=width, norm="scaled_instance")
        route = Route(networks.generator(spec, spec), spec, spec)
        return Translator({"A2B": route}, "A2B", {}, precision=precision)

    arms: dict[str, Callable[[], Arm]] = {
        TEXTBOOK: plain,
        "ours, fp32": partial(ours, "fp32"),
        "ours": partial(ours, "auto"),
    }
    return {name: make() for name, make in arms.items() if only in ("", name)}
