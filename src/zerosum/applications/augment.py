"""`zerosum augment`: from labelled data to the study, its report, and the synthetic set."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zerosum import atomic, pictures, sample, session
from zerosum.applications import parts as splitting
from zerosum.applications import study_report
from zerosum.applications.classify import fit
from zerosum.applications.parts import Part
from zerosum.applications.study import BESIDE, NEEDED, Plan, Study, Verdict, rows, shortage, verdict
from zerosum.applications.synthetic import Labelled, OfGAN, by_class, minutes_of
from zerosum.data.labels import NoSplit
from zerosum.data.picture import from_pixels
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.errors import SizeError, UserError
from zerosum.recipes.pick import for_device
from zerosum.run import Run
from zerosum.view import clock

SYNTHETIC, CARD = "synthetic", "card.json"
NAMED = 12  # classes that a line on screen names
TRIAL_STEPS = 10  # of a classifier, to tell how long all of them will take
LIMITS = (
    "For training classifiers beside the real images that it was made from, never for testing them nor for diagnosis: "
    "an image may show what no real one has, and whether the set gives away whom it was made from was not tested."
)
Open = Callable[[Data], ArrayDataset]
Told = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study can be told."""

    labelled: int | None = None
    """Draw so many labelled images, several times, one of a group at most, and test on the set's own test images (or on
    half of the set)."""
    folds: int = 5
    """Stratified folds, where all labels are used."""
    draws: int = 5
    """Draws of `labelled` images."""
    minutes: float = 5.0
    """Minutes that the GAN of each fold or draw is trained for."""
    positive: str | None = None
    """Of two classes, the one that sensitivity is of."""
    groups: Path | None = None
    """A CSV (columns file and group; or for arrays a value a line, test images last): images of a group stay on one
    side."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Found:
    """A study that is done: what it says, and where."""

    verdict: Verdict
    report: Path
    synthetic: Path


class Opened(NamedTuple):
    """What a study is made of."""

    whole: ArrayDataset
    """All images that it needs, in one set."""
    parts: list[Part]
    """Which of them are trained on and tested on."""
    counts: dict[str, dict[str, int]]
    """Of each class, how many there are (`parts.counted`), without the set's own test images."""
    tests: int
    """Test images of the set's own that are used, the last of `whole`."""
    notes: tuple[str, ...]
    """What there is to say first: how images were read, and which of them are at odds. Files and patients are named in
    it, so it is for the screen alone."""


def study(
    data: Data, options: Options, plan: Plan, out: Path, *, open_data: Open, say: Told, device: str = "auto",
    shorten: Callable[[Run], Run] = lambda run: run,
) -> Found:  # fmt: skip
    """The whole study of `data` in the folder `out`, going on where it was stopped. UserError if it cannot be made."""
    if not 0 < options.minutes < math.inf:
        raise UserError(f"--minutes {options.minutes:g}: must be a number above 0")
    data = for_device(data, device)  # as `zerosum train` reads them
    found = opened(data, options, open_data)
    gan = OfGAN(options.minutes, data, device=device, shorten=shorten)
    try:
        gan.check_size(found.whole.spec, len(found.parts[0].train))
    except SizeError as misfit:
        if data.size is not None:
            raise
        height, width = misfit.nearest
        say(f"size {height} x {width} (H x W), which the networks take; --size H W sets another")
        data = replace(data, size=misfit.nearest)
        gan = replace(gan, data=data)
        found = opened(data, options, open_data)
    parts = found.parts
    whole, left_out = splitting.without_empty(found.whole)
    if left_out:
        more = f" and {len(left_out) - splitting.NAMED:,} more" if len(left_out) > splitting.NAMED else ""
        say(f"classes without any image are left out: {', '.join(left_out[: splitting.NAMED])}{more}")
    if len(whole.class_names) < 2:
        raise _no_classes(data)
    splitting.refuse_missing(whole, parts)
    for note in found.notes:
        say(note)
    say(f"{data.source}: {described(found, options)}")
    if len(parts) < NEEDED:
        given = f"--folds {options.folds}" if options.labelled is None else f"--draws {options.draws}"
        say(f"{given}: no verdict will be given, for {NEEDED} are the least to tell by; all else is measured")
    if kept_out := parts[0].kept_out:
        say(f"{kept_out:,} training images belong together with test images (--groups, or alike): no draw takes them")
    plan = replace(plan, positive=positive(options.positive, whole.class_names))
    assert whole.labels is not None
    images = Labelled(np.ascontiguousarray(whole.values), whole.labels)
    made = Study(images, whole.class_names, parts, plan, gan, out)
    made.settle()  # before a trial is made of what it would refuse
    folder = made.out / SYNTHETIC
    done = made.done and is_card(folder / CARD, made)
    if not done:
        say(f"about {clock(expected(made, options.minutes))} to go; it can be stopped, and the same command goes on")
    measured = made.run(say)
    short = shortage({part.name: made.gate_of(part) for part in parts}, max(plan.ratios))
    doubt = made.doubt
    judged = verdict(measured, plan, doubt, short)
    if not done:
        say("the synthetic set")
        synthetic_set(made, options, whole, data.source, judged.sentence)
    about = found._replace(whole=whole)
    report = study_report.write(made, rows(measured, plan, doubt), judged, options, about, data.source, folder)
    say(f"{report} shows real training images: pass it on only where those may go")
    return Found(judged, report, folder)


def opened(data: Data, options: Options, open_data: Open) -> Opened:
    """All that the study needs of `data`. UserError if no study can be made of them."""
    train = _labelled(open_data(data), data)
    test = None if options.labelled is None else _test(data, open_data)
    if test is not None:
        for what, a, b in (
            ("classes", train.class_names, test.class_names),
            ("shape", train.spec.shape, test.spec.shape),
        ):
            if a != b:
                raise UserError(
                    f"{data.source}: the {what} of the training images ({a}) and of the test images ({b}) differ; give "
                    "both sides the same folders and size"
                )
    # Before the search for images alike, which takes long: a wrong table is refused at once.
    named = None if options.groups is None else _named(data, train, test, options.groups)
    whole = train
    if test is not None:
        labels = np.concatenate([train.labels, test.labels])
        whole = ArrayDataset(np.concatenate([train.values, test.values]), labels, train.class_names)
    alike = splitting.alike(whole.values)

    def names() -> list[str] | None:
        return _names(data, train, test)

    splitting.refuse_overlap(alike.same, len(train), names)
    groups = splitting.groups_of(whole, named, alike)
    classes, seed, kinds = whole.labels, options.seed, whole.class_names
    assert classes is not None
    if options.labelled is None:
        parts = splitting.folds(classes, groups, options.folds, seed, class_names=kinds, named=named)
    else:
        tested = np.arange(len(train), len(whole))
        if test is None:
            asked = f"--labelled {options.labelled}"
            tested = splitting.folds(classes, groups, 2, seed, asked, class_names=kinds, named=named)[0].test
        parts = splitting.draws(
            classes, groups, tested, options.labelled, options.draws, seed, class_names=kinds, named=named
        )
    counts = splitting.counted(classes[: len(train)], groups[: len(train)], kinds)
    at_odds = splitting.at_odds(alike.same, whole, named, len(train), names)
    return Opened(whole, parts, counts, len(whole) - len(train), (*train.notes, *at_odds))


def described(found: Opened, options: Options) -> str:
    """Which images are studied, what is trained on, and what is tested on, in a line."""
    count, parts = len(found.whole) - found.tests, found.parts
    kind = "training images" if found.tests else "images"
    start = f"{count:,} {kind} ({splitting.in_words(found.counts, NAMED)})"
    if options.labelled is None:
        return f"{start}; {len(parts)} folds, each tested on by what the others trained"
    drawn, tested, labels = parts[0].train, len(parts[0].test), found.whole.labels
    assert labels is not None
    share = splitting.counted(labels[drawn], np.arange(len(drawn)), found.whole.class_names)
    own = f"the set's own {tested:,} test images" if found.tests else f"{tested:,} of the images, half of the set"
    return f"{start}; {len(parts)} draws of {len(drawn)} ({splitting.in_words(share, NAMED)}), tested on {own}"


def _test(data: Data, open_data: Open) -> ArrayDataset | None:
    """The published test images; None where there are none."""
    try:
        return _labelled(open_data(replace(data, split="test")), data)
    except NoSplit:
        return None


def _named(data: Data, train: ArrayDataset, test: ArrayDataset | None, table: Path) -> np.ndarray:
    """The group of every image, test images last: of those, too, for nobody of them may be trained on."""
    count = len(train) + (0 if test is None else len(test))
    return splitting.named_groups(table, _names(data, train, test), count)


def _names(data: Data, train: ArrayDataset, test: ArrayDataset | None) -> list[str] | None:
    """The file of every image, test images last; None of other sources."""
    names = splitting.file_names(data, train)
    if names is None or test is None:
        return names
    last = splitting.file_names(replace(data, split="test"), test)
    return None if last is None else [*names, *last]


def _labelled(found: ArrayDataset, data: Data) -> ArrayDataset:
    if not found.spec.is_image or found.labels is None or len(found.class_names) < 2:
        raise _no_classes(data)
    return found.in_eight_bits()


def _no_classes(data: Data) -> UserError:
    return UserError(
        f"{data.source}: has no labels of two or more classes; sort the images into a folder a class, or give --labels "
        "a CSV"
    )


def positive(name: str | None, class_names: tuple[str, ...]) -> int | None:
    """The number of the class that sensitivity is of. UserError if there is none of that name."""
    if name is None:
        return None
    if len(class_names) != 2:
        raise UserError(f"--positive {name}: is for two classes, and there are {len(class_names)}")
    if name not in class_names:
        raise UserError(f"--positive {name}: no such class; the classes are {', '.join(class_names)}")
    return class_names.index(name)


def expected(made: Study, minutes: float) -> float:
    """How many seconds it takes: the GANs by the clock, the classifiers by a trial of one.

    With the synthetic set at the end, which is drawn and passes the gate once more, however much is measured already.
    """
    plan, part = made.plan, made.parts[0]
    train = made.data.of(part.train)
    classes = len(made.class_names)
    fit(train.images, train.labels, classes, seed=0, classical=True, steps=1)
    began = time.perf_counter()
    fit(train.images, train.labels, classes, seed=0, classical=True, steps=TRIAL_STEPS)
    step = (time.perf_counter() - began) / TRIAL_STEPS
    once_more = plan.steps * step + BESIDE if plan.gate else 0.0
    return made.left(minutes, plan.steps * step) + once_more


def synthetic_set(made: Study, options: Options, data: ArrayDataset, name: str, sentence: str) -> Path:
    """The images of the first part's GAN that its classifiers were given, in a folder a class, with a card.

    All that passed the gate, as many as the largest ratio asks for, numbered in the order in which arms of smaller
    ratios take the first of them. Each file says that it is synthetic. They are drawn anew, as they were when they
    were measured. `name`: of the data; a path in it stays here.
    """
    part, folder = made.parts[0], made.out / SYNTHETIC
    passed, _ = made.synthetic(part)
    kinds = atomic.safe_names(made.class_names)
    for number, (image, label) in enumerate(zip(passed.found.images, passed.found.labels.tolist(), strict=True)):
        source = f"{made.source.name} of {part.name}"
        text = {"zerosum": "generated", "class": made.class_names[label], "source": source}
        pictures.save_png(from_pixels(image), folder / kinds[label] / f"{number:05d}.png", text)
    recipe = sample.read_recipe(made.gan_of(part))["run"]
    about = {
        "synthetic": True, "images": by_class(passed, made.class_names),
        "made by": f"{made.source.name}, trained on {part.name} of this study",
        "recipe": f"{recipe['algorithm']['kind']} with {recipe['algorithm']['networks']['kind']}",
        "minutes of training": round(minutes_of(made.gan_of(part)), 2),
        "data": {"name": Path(name).name, "count": len(data), "sha256": data.fingerprint},
        "seed": options.seed, "seed of the recipe": recipe["seed"],
        "date": datetime.date.today().isoformat(), "zerosum": session.environment()["versions"]["zerosum"],
        "drawn": passed.drawn, "taken for another class": passed.other_class,
        "copies of training images": passed.copies, "verdict": sentence, "limits of use": LIMITS,
    }  # fmt: skip
    atomic.write_file(folder / CARD, (json.dumps(about, indent=1) + "\n").encode())
    return folder


def is_card(path: Path, made: Study) -> bool:
    """Whether it is that of the images that were measured in this study: it is written when all of them are."""
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(images == made.gate_of(made.parts[0])["passed of each class"])
