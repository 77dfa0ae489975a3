"""How near a run is to equilibrium: the two-sample test, the regret at its checkpoints, and what the log says."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zerosum import atomic, checkpoint, runlog, sample
from zerosum import data as data_sets
from zerosum import run as runs
from zerosum.data.loader import Loader
from zerosum.data.sides import Sides
from zerosum.data.spec import Dataset
from zerosum.data.split import held_out_part, train_part
from zerosum.equilibrium import gap
from zerosum.equilibrium.gap import Regret, regret
from zerosum.equilibrium.two_sample import LEAST, TwoSample, two_sample
from zerosum.equilibrium.verdict import Evidence, Verdict, verdict
from zerosum.errors import UserError
from zerosum.feeds import loader_of
from zerosum.trainer import Training
from zerosum.view import SilentView

FORMAT = 1
PICTURE = "equilibrium.png"
SAMPLES, QUICK_SAMPLES = 2_000, 400
QUICK_TURNS, QUICK_BATCHES = 5, 4
PURPOSE = "equilibrium"

Say = Callable[[str, int, int], None]
"""Told what is done now, and how much of it."""


@dataclass(frozen=True)
class Logged:
    """One line of the log that says something about the way to equilibrium; None where it does not."""

    images_seen: int
    gap: float | None
    distance: float | None
    diversity: float | None


@dataclass(frozen=True)
class Equilibrium:
    """Everything that `zerosum equilibrium` found about one checkpoint of a run."""

    run: str
    images_seen: int
    real: str
    """Which real images the judges saw, in words."""
    unseen: bool
    """Whether the generator never trained on them."""
    test: TwoSample
    regret: tuple[Regret, ...]
    """At every kept checkpoint up to this one, oldest first."""
    logged: tuple[Logged, ...]
    verdict: Verdict
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; the schema is in docs/equilibrium.md."""
        test = dataclasses.asdict(self.test) | {"found": self.test.found, "broken": self.test.broken is not None}
        return {
            "zerosum": "equilibrium",
            "format": FORMAT,
            "run": self.run,
            "images_seen": self.images_seen,
            "real": self.real,
            "unseen": self.unseen,
            "two_sample": test,
            "regret": [dataclasses.asdict(point) for point in self.regret],
            "logged": [dataclasses.asdict(line) for line in self.logged],
            "verdict": dataclasses.asdict(self.verdict),
            "notes": list(self.notes),
        }


def measure(
    path: Path,
    dataset: Dataset | Sides,
    *,
    samples: int | None = None,
    seed: int = 0,
    quick: bool = False,
    which: str = "last",
    say: Say = lambda what, done, total: None,
) -> Equilibrium:
    """Measure the run in `path`, which was trained on `dataset`, at its checkpoint `which` (last, best, images seen).

    `samples` of each kind at most (2,000; 400 if `quick`). The run's folder is only read. Torch's generator and
    threads are left as they were. Raises UserError.
    """
    recipe = sample.read_recipe(path)
    run = runs.from_json(recipe["run"])
    if isinstance(dataset, Sides):
        raise UserError(
            f"{path}: translates images, and equilibrium is measured of generators that make them of noise; zerosum "
            f"evaluate {path} measures translations"
        )
    notes = []
    if recipe["data"].get("fingerprint") != dataset.fingerprint:
        notes.append("the data are not what the run was trained on: what follows compares with what is there now")
    with _kept():
        model = sample.load(path, which)
        training = Training(run, dataset, torch.device("cpu"), path, SilentView())
        real, control, words, unseen = _real(run, dataset, samples or (QUICK_SAMPLES if quick else SAMPLES), seed)
        if not unseen:
            notes.append("no real images were held out: the judges compare with images that the generator trained on")
        test = two_sample(
            real,
            _fake(training, model, len(real), seed),
            control,
            seed=seed,
            quick=quick,
            progress=partial(say, "judges"),
        )
        numbers = [n for n in checkpoint.numbers(path) if n <= model.images_seen]
        points = _regrets(training, path, numbers[-1:] if quick else numbers, seed, quick, say, notes)
    logged = _logged(path, model.images_seen)
    evidence = Evidence(
        test=test,
        regret=points,
        gaps=tuple(line.gap for line in logged if line.gap is not None),
        distances=tuple(line.distance for line in logged if line.distance is not None),
        diversity=next((line.diversity for line in reversed(logged) if line.diversity is not None), None),
        d_wins=training.watch.won,
        copies=_copies(path, model.images_seen),
    )
    return Equilibrium(
        path.resolve().name, model.images_seen, words, unseen, test, points, logged, verdict(evidence), tuple(notes)
    )


def write(found: Equilibrium, path: Path) -> None:
    """Write it as JSON. UserError if the disk refuses."""
    atomic.write_file(path, json.dumps(found.to_json(), indent=1, allow_nan=False).encode())


def _real(run: runs.Run, dataset: Dataset, most: int, seed: int) -> tuple[np.ndarray, np.ndarray, str, bool]:
    """Real samples to test with, as many other ones as control, which they are, and whether G never saw the former."""
    training = train_part(dataset, run.data)
    held_out = held_out_part(dataset, run.data)
    parts = [] if held_out is None else [("held out of training", held_out)]
    if run.data.split == "train" and run.data.source in data_sets.named():
        try:
            published = data_sets.open(replace(run.data, split="test", limit=None, held_out=0))
        except UserError:  # its files are elsewhere: the held-out part has to do
            published = None
        if published is not None and published.spec.shape == dataset.spec.shape:
            parts.append(("of the test split", published))
    n = min(most, sum(len(part) for _, part in parts), len(training))
    if n >= LEAST:
        taken, values, words = 0, [], []
        for name, part in parts:
            count = min(n - taken, len(part))
            if count:
                values.append(_draw(part, run, 0, count, seed, "real"))
                words.append(f"{count:,} {name}")
                taken += count
        return np.concatenate(values), _draw(training, run, 0, n, seed, "control"), " and ".join(words), True
    n = min(most, len(training) // 2)
    both = _draw(training, run, 0, 2 * n, seed, "real")
    return both[:n], both[n:], f"{n:,} that were trained on", False


def _draw(dataset: Dataset, run: runs.Run, first: int, count: int, seed: int, purpose: str) -> np.ndarray:
    """Different real samples as the game shows them (mirrored, if the run does), back in the values of the data."""
    loader = Loader(dataset, seed=seed, latent=1, flip=run.data.flip)
    x = loader.real(f"{PURPOSE}/{purpose}", first, count)
    return sample.to_uint8(x) if dataset.spec.is_image else x.numpy()


def _fake(training: Training, model: sample.Model, n: int, seed: int) -> np.ndarray:
    """Samples of the averaged generator, rounded as all images of the package are; classes as often as in the data."""
    assert isinstance(training.loader, Loader)
    loader = Loader(training.loader.dataset, seed=seed, latent=model.latent, conditional=training.run.conditional)
    purpose = f"{PURPOSE}/fake"
    x = sample.generate(model.generator, loader.latent(purpose, 0, n), loader.label(purpose, 0, n))
    return sample.to_uint8(x) if training.spec.is_image else x.float().numpy()


def _regrets(
    training: Training, path: Path, numbers: list[int], seed: int, quick: bool, say: Say, notes: list[str]
) -> tuple[Regret, ...]:
    """The regret at each of these checkpoints; leaves `training` at the last one."""
    run, held_out = training.run, held_out_part(training.dataset, training.run.data)
    judge = training.loader
    if held_out is not None:
        judge = loader_of(run, held_out, training.engine)
    turns, batches = (QUICK_TURNS, QUICK_BATCHES) if quick else (gap.TURNS, gap.BATCHES)
    points = []
    for i, number in enumerate(numbers):
        try:
            training.restore(checkpoint.load(checkpoint.path_of(path, number)))
        except checkpoint.Damaged as damage:
            notes.append(f"{damage}; left out of the curve")
            continue

        def tick(done: int, total: int, before: int = i) -> None:
            say("extra turns", before * total + done, len(numbers) * total)

        points.append(
            regret(
                run, training.players, training.optimisers, training.engine, training.loader, judge, training.seen,
                turns=turns, batches=batches, seed=seed, progress=tick,
            )
        )  # fmt: skip
    return tuple(points)


def _logged(path: Path, images_seen: int) -> tuple[Logged, ...]:
    """What probes logged, in order; where the run went back, the undone part is not there."""

    def number(event: dict[str, Any], name: str) -> float | None:
        value = event.get(name)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    lines: dict[int, Logged] = {}
    for event in runlog.read_events(path):
        seen = event.get("images_seen")
        if not isinstance(seen, int) or seen > images_seen or event.get("event") == "progress":
            continue
        line = Logged(seen, number(event, "regret/gap"), number(event, "distance"), number(event, "diversity"))
        if (line.gap, line.distance, line.diversity) != (None, None, None):
            lines = {known: value for known, value in lines.items() if known <= seen}
            before = lines.get(seen, Logged(seen, None, None, None))
            named = {k: v for k, v in dataclasses.asdict(line).items() if v is not None}
            lines[seen] = replace(before, **named)
    return tuple(lines.values())


def _copies(path: Path, images_seen: int) -> str:
    """The sentence of `evaluation.json` about copied training images, if there is one for this checkpoint."""
    try:
        record = json.loads((path / runlog.EVALUATION).read_text(encoding="utf-8"))
        if record["images_seen"] != images_seen:
            return ""
        return next((str(f["text"]).removeprefix("Copies: ") for f in record["verdict"] if f["kind"] == "copies"), "")
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # not evaluated, or by another version: then nothing is known of copies


@contextmanager
def _kept() -> Iterator[None]:
    """Torch's generator and number of threads are afterwards what they were; building networks moves both."""
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
