"""The study of `zerosum augment` on chest X-rays with few labels, and on planted controls whose answer is known."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zerosum.applications import parts as splitting
from zerosum.applications.augment import expected
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
from zerosum.view import clock

SEEDS = (0,)
LABELS = (50, 100, 200)
DRAWS = 5
MINUTES = 4.0
RATIO = 1.0
# Labels, draws and images to one of the controls: so many that a gain of a few points can be told from chance.
CONTROLLED, CONTROL_DRAWS, CONTROL_RATIO = 50, 10, 4.0
ASIDE = 2_000  # training images that no draw has: what an oracle makes
SOURCE = "PneumoniaMNIST (Yang et al. 2023, MedMNIST v2): 28x28 chest X-rays, normal and pneumonia, as .npz"
MEASURED = (
    Column("before", "classical alone", ".4f"), Column("gain", "gained by synthetic images beside it", "+.4f"),
    Column("low", "at least", "+.4f"), Column("high", "at most", "+.4f"), Column("answer", "verdict"),
    Column("passed", "passed the gate", ".0%"), Column("had", "had, of those wanted", ".0%"),
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
        raise UserError("--data: name pneumoniamnist.npz of MedMNIST (https://medmnist.com; benchmarks/README.md)")
    data = Data(source=str(options.data), held_out=0)
    train, test = open_source(data), open_source(replace(data, split="test"))
    known = (data_record(data, train, SOURCE), data_record(replace(data, split="test"), test, SOURCE))
    stage = _Stage(bench, data, train, test, options.minutes or MINUTES)
    controls: dict[str, tuple[Source, str, bool]] = {
        "copies of training images": (Copies(), "cannot be told", False),
        "wrong labels": (Mislabelled(stage.aside), "hurts", False),
        "fresh real images": (Fresh(stage.aside), "helps", False),
    }
    tables, targets = list[Table](), list[Target]()
    found = {name: [stage.measured(CONTROLLED, name, *of[::2])] for name, of in controls.items()}
    title = f"Planted controls, {CONTROLLED} labels, {CONTROL_DRAWS} draws, {CONTROL_RATIO:g} images to 1"
    tables.append(Table(title, MEASURED, found))
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
    "synthetic ones. Bounds are of 95 %, over draws and test images; which X-rays are of one child is not known, so "
    "they take each for itself, but for pictures alike. Neither GAN nor classifier was tuned on these data.",
    "Controls stand in for the GAN and pass no gate: copies of the training images, which know nothing new; real "
    "images under labels drawn at random, which are right for three in five by chance; and "
    f"{ASIDE:,} real training images that no draw has and that are unlike all test images (of which two draws share "
    "one in ten; the bounds do not know of that). They have more draws and more images to one than the study, so that "
    "what they must show can be told from chance.",
)


class _Stage:
    def __init__(self, bench: Bench, data: Data, train: ArrayDataset, test: ArrayDataset, minutes: float) -> None:
        assert train.labels is not None
        assert test.labels is not None
        self.bench, self.data, self.minutes = bench, data, minutes
        self.seed = bench.seeds[0]
        self.names = train.class_names
        self.whole = Labelled(np.concatenate([train.values, test.values]), np.concatenate([train.labels, test.labels]))
        # Images alike count as one: like a test image, they are never trained on; like one kept aside, in no draw.
        self.groups = splitting.groups_of(ArrayDataset(self.whole.images, self.whole.labels, train.class_names))
        self.tested = np.arange(len(train), len(train) + len(test))
        order = np.random.default_rng(self.seed).permutation(len(train))
        apart = order[~np.isin(self.groups[order], self.groups[self.tested])]
        self.aside = self.whole.of(apart[:ASIDE])
        self.kept_aside = np.flatnonzero(np.isin(self.groups, self.groups[apart[:ASIDE]]))
        self.sha = [train.fingerprint, test.fingerprint]

    def parts(self, labels: int, draws: int) -> list[Part]:
        blocked = self.groups.copy()
        blocked[self.kept_aside] = self.groups[self.tested[0]]  # as if they were of the test images
        return splitting.draws(self.whole.labels, blocked, self.tested, labels, draws, self.seed)

    def measured(self, labels: int, name: str, source: Source, gate: bool) -> Result:
        """A study; `gate`: not a control."""
        quick = self.bench.quick
        ratio, draws = (RATIO, DRAWS) if gate else (CONTROL_RATIO, CONTROL_DRAWS)
        draws = 2 if quick else draws
        plan = Plan(ratios=(ratio,), seeds=1 if quick else 3, gate=gate, steps=5 if quick else Plan().steps)
        about: dict[str, Any] = {
            "sha256": self.sha,
            "labels": labels,
            "source": source.name,
            "plan": str(plan),
            "minutes": self.minutes,
            "draws": draws,
            "aside": ASIDE,
            "apart": "images alike, test images too",
            "doubt": "draws and test images; one test image at least",
        }
        if isinstance(source, OfGAN):
            about["of the source"] = source.about
        folder = self.bench.runs / self.bench.name / f"{name.replace(' ', '-')}-{labels}-seed{self.seed}"

        def work() -> Result:
            if self.bench.options.again:
                shutil.rmtree(folder, ignore_errors=True)  # a study goes on where it was
            made = Study(self.whole, self.names, self.parts(labels, draws), plan, source, folder)
            minutes = self.minutes if isinstance(source, OfGAN) else 0.0
            self.bench.say(f"about {clock(expected(made, minutes))} to go")
            scores = made.run(self.bench.say)
            doubt = made.doubt
            said = verdict(scores, plan, doubt)
            base = next(row for row in rows(scores, plan, doubt) if row.arm == "classical augmentation")
            gates = [made.gate_of(part) for part in made.parts]
            kinds = [kind for gate in gates for kind in gate["passed of each class"].values()]
            passed = sum(kind["passed"] for kind in kinds)
            return {
                "before": base.means[PRIMARY][0], "gain": said.gain.difference, "low": said.gain.low,
                "high": said.gain.high, "answer": said.answer,
                "passed": passed / sum(gate["drawn"] for gate in gates),
                "had": passed / sum(kind["wanted"] for kind in kinds),
            }  # fmt: skip

        return self.bench.arm(f"{name.replace(' ', '-')}-{labels}", self.seed, about, work)
