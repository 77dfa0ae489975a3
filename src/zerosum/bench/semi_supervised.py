"""MNIST from few labels: the semi-supervised game against the same network with those labels alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from zerosum import randomness
from zerosum.algorithms.ssgan import SSGAN
from zerosum.applications import trained
from zerosum.bench import protocol
from zerosum.bench.field import SOURCES
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, at_least
from zerosum.bench.training import TIMES, played, shortened
from zerosum.data.augment import augment
from zerosum.data.classes import drawn_labels
from zerosum.data.source import open_source
from zerosum.data.spec import Data, Spec
from zerosum.data.split import held_out_part, train_part
from zerosum.data.store import ArrayDataset
from zerosum.ema import EMA
from zerosum.losses import consistency
from zerosum.metrics.features.base import unit
from zerosum.networks import ClassesOrFake
from zerosum.recipes.images import cooled, semi_supervised
from zerosum.recipes.pick import pick
from zerosum.run import Run
from zerosum.schedule import Linear

SEEDS = (0, 1, 2, 3, 4)
PUBLISHED = 100  # labels: the count that the targets are of, over all seeds
CURVE = (20, 50, 100, 500, 1_000)
CURVE_SEEDS = 2
MINUTES, CURVE_MINUTES = 8.0, 4.0
MEAN, WORST = 0.97, 0.95
STEPS = 3_000  # batches of the supervised network: its accuracy no longer rises
HELD = 5_000  # training images that choices are made by
SOURCE = SOURCES["mnist"]
ACCURACY = Column("accuracy", "accuracy", ".2%")


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What this benchmark can be told beside what every benchmark can."""

    labels: tuple[int, ...] = ()
    """Only these numbers of labels; 20, 50, 100, 500 and 1,000 if not given."""
    minutes: float | None = None
    """Train so long in place of 8 minutes (4 where there are not 100 labels)."""
    final: bool = False
    """Also score on the test images: once, at the end."""


OPTIONS = Options


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    root = None if options.data is None else str(options.data)
    data = Data(source="mnist", root=root, held_out=HELD)
    dataset = open_source(data)
    test_data = replace(data, split="test", held_out=0)
    test = open_source(test_data)
    known = (data_record(data, dataset, SOURCE), data_record(test_data, test, SOURCE))
    held = held_out_part(dataset, data)
    assert held is not None
    validation = _arrays(held)
    stage = _Stage(bench, options, data, dataset, known)
    parts = {"validation images": validation}
    if options.final:
        parts["test images, once"] = (test.values, _labels(test))
    tables, targets = [], []
    for words, (images, labels) in parts.items():
        rows: dict[str, list[Result]] = {}
        for count in options.labels or CURVE:
            seeds = bench.seeds if count == PUBLISHED else bench.seeds[:CURVE_SEEDS]
            rows[f"{count} labels, semi-supervised"] = [
                stage.scored(stage.game(count, seed), f"ssgan-{count}", seed, words, images, labels) for seed in seeds
            ]
            rows[f"{count} labels alone"] = [
                stage.scored(stage.alone(count, seed), f"alone-{count}", seed, words, images, labels) for seed in seeds
            ]
            if count == PUBLISHED:
                rows[f"{count} labels, agreement without a game"] = [
                    stage.scored(stage.agreeing(count, seed), f"agreeing-{count}", seed, words, images, labels)
                    for seed in seeds[:CURVE_SEEDS]
                ]
        tables.append(Table(f"Accuracy, {words}", (ACCURACY, *TIMES[:3]), rows))
        if found := rows.get(f"{PUBLISHED} labels, semi-supervised"):
            accuracy = [r["accuracy"] for r in found]
            mean = float(np.mean(accuracy))
            targets.append(at_least(f"{words}: mean over {len(accuracy)} seeds, 100 labels", [mean], MEAN, ".2%"))
            targets.append(at_least(f"{words}: worst seed, 100 labels", accuracy, WORST, ".2%"))
    return Report(
        title="MNIST from few labels", about=ABOUT, data=known, tables=tuple(tables), targets=tuple(targets),
        arithmetic="bf16 where a trial chose it; scored in fp32",
    )  # fmt: skip


ABOUT = (
    "Labels are drawn by the seed, as many of each class; all other training images are seen without theirs. The game "
    "is what `zerosum train mnist --algorithm ssgan --labelled N` plays; its averaged critic classifies. The same "
    "network with the labels alone has the same augmentation, optimiser and average of weights, and 3,000 batches of "
    "them, over which its rate falls from the game's to 0. The recipe also asks two looks at an unlabelled image to "
    "agree on its class: `agreement without a game` is that network with the labels and that alone, at the game's "
    "rates for as many images as the game saw, in fp32. What it lacks is G.",
    f"Choices were made on {HELD:,} held-out training images.",
)


class _Stage:
    def __init__(
        self, bench: Bench, options: Options, data: Data, dataset: ArrayDataset, known: tuple[Any, ...]
    ) -> None:
        self.bench, self.options, self.data, self.dataset, self.known = bench, options, data, dataset, known

    def _run(self, count: int, seed: int) -> Run:
        return self._asked(semi_supervised(self.data), count, seed)

    def _asked(self, run: Run, count: int, seed: int) -> Run:
        minutes = self.options.minutes or (MINUTES if count == PUBLISHED else CURVE_MINUTES)
        run = replace(run, labelled=count, seed=seed, minutes=minutes, images=None)
        return shortened(run) if self.bench.quick else run

    def game(self, count: int, seed: int) -> tuple[Result, Callable[[], trained.Trained]]:
        """The times of a game, played now or before, and its classifier."""
        run, arm = self._run(count, seed), f"ssgan-{count}"

        def work() -> Result:
            settled = pick(
                self.data, algorithm="ssgan", minutes=run.minutes, images=run.images, device="cpu",
                dataset=self.dataset, adjust=lambda found: self._asked(found, count, seed),
            ).run  # fmt: skip
            return played(self.bench, arm, settled, self.dataset)[1]

        times = self.bench.arm(arm, seed, {"data": list(self.known), "run": recipe(run)}, work)
        return times, lambda: trained.load(self.bench.runs / self.bench.name / f"{arm}-seed{seed}")

    def alone(self, count: int, seed: int) -> tuple[Result, Callable[[], trained.Trained]]:
        """No times, and the same network trained on the labelled images."""
        return {}, lambda: alone(self._run(count, seed), self.dataset, 20 if self.bench.quick else STEPS)

    def agreeing(self, count: int, seed: int) -> tuple[Result, Callable[[], trained.Trained]]:
        """And the same network trained on those and on the other images' agreement, as long as the game played."""
        run, seen = self._run(count, seed), self.game(count, seed)[0]["images_seen"]
        return {"images_seen": seen}, lambda: alone(run, self.dataset, seen // run.batch_size, agreeing=True)

    def scored(
        self, found: tuple[Result, Callable[[], trained.Trained]], arm: str, seed: int, words: str,
        images: np.ndarray, labels: np.ndarray,
    ) -> Result:  # fmt: skip
        times, model = found
        part = "final" if "test" in words else "validation"
        run = recipe(self._run(int(arm.split("-")[1]), seed))

        def work() -> Result:
            right = model().probabilities(images).argmax(1) == labels
            return {"accuracy": float(right.mean()), "images": len(labels)}

        protocol = {"data": list(self.known), "run": run, "times": times}  # a score is of one run, not of its like
        return {**times, **self.bench.arm(f"{arm}-{part}", seed, protocol, work)}


def alone(run: Run, dataset: ArrayDataset, steps: int, *, agreeing: bool = False) -> trained.Trained:
    """The critic of `run` trained on its labelled images and nothing else, with its augmentation, rate and average.

    `agreeing`: on the other images too, as the game has them: two looks at each agree; the rate falls as the game's.
    """
    assert run.labelled is not None
    assert isinstance(run.algorithm, SSGAN)
    seen = steps * run.batch_size
    falling = cooled(run, seen).adam_d.lr if agreeing else Linear(run.adam_d.lr.start, 0.0, seen)
    train = train_part(dataset, run.data)
    values, labels = _arrays(train)
    chosen = drawn_labels(labels, run.labelled, run.seed)
    spec = dataset.spec
    networks: Any = run.algorithm.networks
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.torch_seed(run.seed, "weights", 0))
        critic = networks.critic(Spec(spec.shape), partial(ClassesOrFake, classes=spec.classes)).train()
        adam, average = run.adam_d.optimiser(critic), EMA(critic)
        for step in range(steps):
            index = chosen[randomness.order(run.seed, "alone", step * run.batch_size, run.batch_size, len(chosen))]
            x = augment(unit(values[index]), run.augment, ())
            logits, _ = critic(x, None, True)
            loss = F.cross_entropy(logits, torch.from_numpy(labels[index]))
            if agreeing:
                other = randomness.order(run.seed, "real", step * run.batch_size, run.batch_size, len(values))
                looks = [critic(augment(unit(values[other]), run.augment, ()), None, True)[0] for _ in range(2)]
                loss = loss + run.algorithm.weight_consistency * consistency(*looks).mean()
            for group in adam.param_groups:
                group["lr"] = falling(step * run.batch_size)
            adam.zero_grad()
            loss.backward()
            adam.step()
            average.update(run.batch_size, run.ema_half_life((step + 1) * run.batch_size))
    return trained.of_critic(copy.deepcopy(average.network), dataset.class_names, spec, steps * run.batch_size)


def _arrays(data: Any) -> tuple[np.ndarray, np.ndarray]:
    values, labels = data.gather(np.arange(len(data)))
    assert labels is not None
    return values, labels


def _labels(data: ArrayDataset) -> np.ndarray:
    assert data.labels is not None
    return data.labels
