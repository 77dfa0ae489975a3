"""The study of `zerosum augment` on chest X-rays with few labels, and on planted controls whose answer is known."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import numpy as np

from zerosum.applications import parts as splitting
from zerosum.applications.parts import Part
from zerosum.applications.study import PRIMARY, Plan, Study, rows, verdict
from zerosum.applications.synthetic import Copies, Fresh, Labelled, Mislabelled, OfGAN, Source
from zerosum.bench import protocol
from zerosum.bench.protocol import Bench, Result, data_record
from zerosum.bench.report import Column, Report, Table, Target
from zerosum.bench.training import shortened
from zerosum.data.source import open_source
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

SEEDS = (0,)
LABELS = (50, 100, 200)
CONTROLLED = 50  # labels of the controls: beside more, as many fresh images again teach too little to be told
DRAWS = 5
MINUTES = 4.0
RATIO = 1.0
ASIDE = 2_000  # training images that no draw has: what an oracle makes
SOURCE = "PneumoniaMNIST (Yang et al. 2023, MedMNIST v2): 28x28 chest X-rays, normal and pneumonia, as .npz"
MEASURED = (
    Column("before", "classical alone", ".4f"), Column("gain", "gained by synthetic images beside it", "+.4f"),
    Column("low", "at least", "+.4f"), Column("high", "at most", "+.4f"), Column("answer", "verdict"),
    Column("passed", "passed the gate", ".0%"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What this benchmark can be told beside what every benchmark can."""

    labels: tuple[int, ...] = ()
    """Only these numbers of labels; 50, 100 and 200 if not given."""
    minutes: float | None = None
    """Train each GAN so long in place of 4 minutes."""
    controls: bool = False
    """Only the planted controls."""


OPTIONS = Options


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    if len(bench.seeds) > 1:
        raise UserError(f"--seeds {' '.join(map(str, bench.seeds))}: one seed makes all the draws; give one")
    if options.data is None:
        raise UserError("--data: name the .npz file of PneumoniaMNIST (benchmarks/README.md)")
    data = Data(source=str(options.data), held_out=0)
    train, test = open_source(data), open_source(Data(source=str(options.data), split="test", held_out=0))
    known = (data_record(data, train, SOURCE),)
    stage = _Stage(bench, data, train, test, options.minutes or MINUTES)
    controls: dict[str, tuple[Source, str, bool]] = {
        "copies of training images": (Copies(), "cannot be told", False),
        "wrong labels": (Mislabelled(stage.aside), "hurts", False),
        "fresh real images": (Fresh(stage.aside), "helps", False),
    }
    tables, targets = list[Table](), list[Target]()
    found = {name: [stage.measured(CONTROLLED, name, *of[::2])] for name, of in controls.items()}
    tables.append(Table(f"Planted controls, {CONTROLLED} labels, {DRAWS} draws", MEASURED, found))
    for name, (_, wanted, _) in controls.items():
        said = found[name][0]["answer"]
        right = said == wanted or (wanted == "cannot be told" and said == "hurts")
        targets.append(Target(f"verdict on {name}", wanted, said, right))
    if not options.controls:
        gan = OfGAN(stage.minutes, data, device="cpu", shorten=shortened if bench.quick else lambda run: run)
        real = {f"{n} labels": [stage.measured(n, "gan", gan, True)] for n in options.labels or LABELS}
        tables.append(Table(f"A GAN of the labelled images, {stage.minutes:g} minutes", MEASURED, real))
    return Report(
        title="Does a GAN help a classifier of chest X-rays?", about=ABOUT, data=known, tables=tuple(tables),
        targets=tuple(targets), arithmetic="bf16 where a trial chose it; classifiers in fp32",
    )  # fmt: skip


ABOUT = (
    f"The study that `zerosum augment --labelled N --draws {DRAWS}` makes, with synthetic and real images 1 to 1: "
    "balanced accuracy on the published test images of a classifier with classical augmentation, with and without "
    "synthetic ones. Bounds are of 95 %, over draws. Nothing was tuned on these data.",
    "Controls stand in for the GAN and pass no gate: copies of the training images, which know nothing new; real "
    f"images under labels drawn at random; and {ASIDE:,} real training images that no draw has.",
)


class _Stage:
    def __init__(self, bench: Bench, data: Data, train: ArrayDataset, test: ArrayDataset, minutes: float) -> None:
        assert train.labels is not None
        assert test.labels is not None
        self.bench, self.data, self.minutes = bench, data, minutes
        self.seed, self.draws = bench.seeds[0], 2 if bench.quick else DRAWS
        self.names = train.class_names
        self.whole = Labelled(np.concatenate([train.values, test.values]), np.concatenate([train.labels, test.labels]))
        order = np.random.default_rng(self.seed).permutation(len(train))
        self.aside = Labelled(train.values, train.labels).of(order[:ASIDE])
        # Equal images count as one; what equals an image that is kept aside is in no draw either.
        groups = splitting.groups_of(ArrayDataset(train.values, train.labels, train.class_names))
        self.groups = np.concatenate([groups, len(train) + np.arange(len(test))])
        self.kept_aside = np.flatnonzero(np.isin(groups, groups[order[:ASIDE]]))
        self.tested = np.arange(len(train), len(train) + len(test))
        self.sha = train.fingerprint

    def parts(self, labels: int) -> list[Part]:
        blocked = self.groups.copy()
        blocked[self.kept_aside] = self.groups[self.tested[0]]  # as if they were of the test images
        return splitting.draws(self.whole.labels, blocked, self.tested, labels, self.draws, self.seed)

    def measured(self, labels: int, name: str, source: Source, gate: bool) -> Result:
        quick = self.bench.quick
        plan = Plan(ratios=(RATIO,), seeds=1 if quick else 3, gate=gate, steps=5 if quick else Plan().steps)
        about = {
            "sha256": self.sha,
            "labels": labels,
            "source": source.name,
            "plan": str(plan),
            "minutes": self.minutes,
            "draws": self.draws,
            "aside": ASIDE,
            "doubt": "draws and test images; one test image at least",
        }
        folder = self.bench.runs / self.bench.name / f"{name.replace(' ', '-')}-{labels}-seed{self.seed}"

        def work() -> Result:
            if self.bench.options.again:
                shutil.rmtree(folder, ignore_errors=True)  # a study goes on where it was
            made = Study(self.whole, self.names, self.parts(labels), plan, source, folder)
            scores = made.run(self.bench.say)
            doubt = made.doubt
            said = verdict(scores, plan, doubt)
            base = next(row for row in rows(scores, plan, doubt) if row.arm == "classical augmentation")
            gates = [made.gate_of(part) for part in made.parts]
            return {
                "before": base.means[PRIMARY][0], "gain": said.gain.difference, "low": said.gain.low,
                "high": said.gain.high, "answer": said.answer,
                "passed": sum(g["passed"] for g in gates) / sum(g["drawn"] for g in gates),
            }  # fmt: skip

        return self.bench.arm(f"{name.replace(' ', '-')}-{labels}", self.seed, about, work)
