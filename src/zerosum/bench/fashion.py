"""Fashion-MNIST in minutes on two cores: how fast, how near, how varied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from zerosum import pictures, recipes
from zerosum.bench import judge as judges
from zerosum.bench.judge import Convolutional, Judge
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Summary, Table, at_least, summary
from zerosum.bench.training import TIMES, settled, shortened, train
from zerosum.data.loader import scale
from zerosum.data.source import open_source
from zerosum.data.spec import Data
from zerosum.metrics import features
from zerosum.metrics.distances import kernel_distance, spread
from zerosum.run import Run

SEEDS = (0, 1, 2)
SAMPLES = 2_000
FLOORS = 5  # draws of real images for the floor
SHOWN, COLUMNS = 100, 10
ACCURACY = 0.90
SOURCE = "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747), as its authors publish it (IDX files)"
NEARNESS = (
    Column("kernel_distance", "kernel distance to test images", ".4f"),
    Column("diversity", "spread relative to real", ".3f"),
)


def measure(bench: Bench) -> Report:
    root = None if bench.options.data is None else str(bench.options.data)
    train_data, test_data = (Data(source="fashion-mnist", root=root, split=s) for s in ("train", "test"))
    train_set, test_set = open_source(train_data), open_source(test_data)
    labels, test_labels = train_set.labels, test_set.labels
    assert labels is not None
    assert test_labels is not None
    known = (data_record(train_data, train_set, SOURCE), data_record(test_data, test_set, SOURCE))
    samples = min(100 if bench.quick else SAMPLES, len(test_set) // 2, len(train_set))
    candidate = Convolutional(epochs=1, width=4 if bench.quick else 32)
    weak = features.cheap(train_set.spec)
    random = np.random.default_rng(0)
    order = random.permutation(len(test_set))
    reference, others = test_set.values[order[:samples]], test_set.values[order[samples : 2 * samples]]

    @torch.no_grad()
    def see(images: np.ndarray) -> torch.Tensor:
        x = scale(np.array(images), torch.float32, torch.device("cpu"))  # a copy: read from a file, it may be read-only
        return torch.cat([weak(part) for part in x.split(500)])

    @cache
    def judge() -> tuple[Judge, float]:
        """Trained on real images if something is left to measure; and its confidence on the test images."""
        fitted = candidate(train_set.values, labels)
        return fitted, float(fitted(test_set.values).max(1).mean())

    @cache
    def real() -> tuple[torch.Tensor, float]:
        seen = see(reference)
        return seen, spread(seen)

    def examine(images: np.ndarray) -> Result:
        fake = see(images)
        return {
            **judges.verdict(judge()[0], images, judge()[1]),
            "kernel_distance": kernel_distance(fake, real()[0]),
            "diversity": spread(fake) / real()[1],
        }

    def floor() -> Result:
        """Real training images in place of samples, several draws: how near nothing but chance comes."""
        draws = [train_set.values[random.choice(len(train_set), samples, replace=False)] for _ in range(FLOORS)]
        s: Summary = summary([kernel_distance(see(draw), real()[0]) for draw in draws])
        return {"floor_mean": s.mean, "floor_low": s.low, "floor_high": s.high}

    protocol = {"data": list(known), "samples": samples, "judge": f"{candidate}", "features": weak.name}
    controls: dict[str, Callable[[], Result]] = {
        "test images": lambda: {
            **examine(others),
            "accuracy": judges.accuracy(judge()[0], test_set.values, test_labels),
        },
        "shuffled pixels": lambda: examine(judges.shuffled(others)),
        "the mean image": lambda: examine(judges.mean_image(train_set.values, samples)),
    }

    def trained(arm: str, run: Run) -> Result:
        def work() -> Result:
            model, times = train(bench, arm, run, train_set)
            images = model.sample(samples, seed=run.seed).images
            about = {"zerosum": "generated", "arm": arm, "seed": str(run.seed)}
            pictures.save_png(pictures.grid(images[:SHOWN], columns=COLUMNS), picture, about)
            return {**times, **examine(images)}

        picture = bench.folder / f"{arm}-seed{run.seed}.png"
        return bench.arm(arm, run.seed, {**protocol, "run": recipe(run)}, work, (picture,))

    arms = {name: replace(run, data=train_data) for name, run in _arms(bench).items()}
    rows = {arm: [trained(arm, settled(bench, run, seed)) for seed in bench.seeds] for arm, run in arms.items()}
    rows |= {name: [bench.arm(name.replace(" ", "-"), 0, protocol, work)] for name, work in controls.items()}
    floors = bench.arm("floor", 0, protocol, floor)
    seed = bench.seeds[0]
    return Report(
        title="Fashion-MNIST in minutes",
        about=(
            f"28x28, unconditional, {samples:,} samples of the averaged generator at the end, none chosen. dcgan is "
            "the textbook DCGAN; r3gan is the loss and penalties of R3GAN on plain convolutional networks.",
            "The judge is a small convolutional network trained for one pass over the real training images. The "
            f"kernel distance (unbiased, cubic) is between {samples:,} samples and {samples:,} test images in "
            f"features that are weak by design ({weak.name}); it is no FID, and compares only within this table. "
            f"Real training images in place of samples give {floors['floor_mean']:.5f} ({floors['floor_low']:.5f} "
            f".. {floors['floor_high']:.5f} in {FLOORS} draws): the floor.",
            "Controls: other test images, the same with their pixels shuffled, and the mean training image.",
        ),
        data=known,
        tables=(Table("What came of it", (*judges.VERDICT, *NEARNESS, *TIMES), rows),),
        targets=(
            at_least("the judge's accuracy on test images", [rows["test images"][0]["accuracy"]], ACCURACY, ".1%"),
        ),
        pictures=tuple(
            (f"{bench.name}/{arm}-seed{seed}.png", f"{arm}, seed {seed}: {SHOWN} samples, none chosen.") for arm in arms
        ),
    )


def _arms(bench: Bench) -> dict[str, Run]:
    arms = {
        "dcgan": recipes.fashion_mnist_dcgan(),
        "r3gan": recipes.fashion_mnist_r3gan(),
    }
    if bench.quick:
        return {arm: shortened(run) for arm, run in arms.items()}
    return arms
