"""The default recipe on scikit-learn's digits: does it find all ten, do they look real, are they new, is it quick?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from zerosum import algorithms, pictures, recipes
from zerosum.algorithms.dcgan import DCGAN
from zerosum.bench import judge as judges
from zerosum.bench.judge import Convolutional, Fit, Judge
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, at_least, below
from zerosum.bench.training import TIMES, settled, shortened, train
from zerosum.data.source import open_source
from zerosum.data.spec import Data
from zerosum.networks import DCGAN as Networks
from zerosum.run import Run

SEEDS = (0, 1, 2)
SAMPLES = 1_000
PAIRS = 16  # samples shown beside their nearest neighbours
SECONDS, CLASSES, RAREST, CONFIDENCE, ACCURACY = 90.0, 10, 0.04, 0.90, 0.97
SOURCE = (
    "digits of scikit-learn (Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, test part), embedded"
)
JUDGES: dict[str, Fit] = {
    "logistic regression": judges.logistic,
    "support vectors": judges.support_vectors,
    "convolutional": Convolutional(),
    "convolutional, shifted": Convolutional(shift=True),
}
NEIGHBOURS = (
    Column("neighbour_mean", "distance to nearest training image, mean", ".3f"),
    Column("neighbour_p01", "1st percentile", ".3f"),
    Column("copies", "nearer than 99 % of held-out", ".1%"),
)


def measure(bench: Bench) -> Report:
    samples = 100 if bench.quick else SAMPLES
    train_data, test_data = (Data(source="digits", split=s) for s in ("train", "test"))
    train_set, test_set = open_source(train_data), open_source(test_data)
    real, held_out, labels, held_out_labels = train_set.values, test_set.values, train_set.labels, test_set.labels
    assert labels is not None
    assert held_out_labels is not None
    data = (data_record(train_data, train_set, SOURCE), data_record(test_data, test_set, SOURCE))
    candidates = {"logistic regression": JUDGES["logistic regression"]} if bench.quick else JUDGES

    # The judge: chosen and fitted on the training side alone.
    protocol = {"data": list(data), "candidates": list(candidates)}
    choice = bench.arm("judge", 0, protocol, partial(judges.cross_validation, candidates, real, labels))

    @cache
    def judge() -> tuple[Judge, float]:
        """Fitted only if something is left to measure; and its confidence on held-out digits."""
        fitted = JUDGES[choice["chosen"]](real, labels)
        return fitted, float(fitted(held_out).max(1).mean())

    held_out_distance = judges.nearest(held_out, real)[0]

    def examine(images: np.ndarray) -> Result:
        distance = judges.nearest(images, real)[0]
        return {
            **judges.verdict(judge()[0], images, judge()[1]),
            "neighbour_mean": float(distance.mean()),
            "neighbour_p01": float(np.percentile(distance, 1)),
            "copies": float((distance < np.percentile(held_out_distance, 1)).mean()),
        }

    protocol = {"data": list(data), "judge": choice["chosen"], "samples": samples}
    controls = {
        "held-out digits": lambda: {
            **examine(held_out),
            "accuracy": judges.accuracy(judge()[0], held_out, held_out_labels),
        },
        "shuffled pixels": lambda: examine(judges.shuffled(held_out)),
        "the mean digit": lambda: examine(judges.mean_image(real, samples)),
    }

    def trained(arm: str, run: Run) -> Result:
        def work() -> Result:
            model, times = train(bench, arm, run, train_set)
            images = model.sample(samples, seed=run.seed).images
            about = {"zerosum": "generated", "arm": arm, "seed": str(run.seed)}
            pictures.save_png(pictures.grid(images[:64]), grid, about)
            pictures.save_png(_pairs(images, real), pairs, about)
            return {**times, **examine(images)}

        grid, pairs = (bench.folder / f"{arm}-seed{run.seed}{end}.png" for end in ("", "-neighbours"))
        return bench.arm(arm, run.seed, {**protocol, "run": recipe(run)}, work, (grid, pairs))

    ours = [trained("recipe", settled(bench, _recipe(bench), seed)) for seed in bench.seeds]
    minutes = round(statistics.fmean(r["training_seconds"] for r in ours) / 60, 2)
    plain = [trained("plain-dcgan", settled(bench, _dcgan(minutes), seed)) for seed in bench.seeds]
    rows = {"the recipe": ours, "a plain small DCGAN, as long": plain}
    rows |= {name: [bench.arm(name.replace(" ", "-"), 0, protocol, work)] for name, work in controls.items()}
    return _report(bench, data, choice, rows)


def _recipe(bench: Bench) -> Run:
    run = recipes.digits()
    return shortened(run) if bench.quick else run


def _dcgan(minutes: float) -> Run:
    """DCGAN's own settings, narrower, for as long as the recipe took."""
    s = algorithms.settings("dcgan")
    return Run(
        data=Data(source="digits"), algorithm=DCGAN(networks=Networks(latent=100, width=32)), adam_g=s.adam_g,
        adam_d=s.adam_d, batch_size=s.batch_size, minutes=max(minutes, 0.01), ema_half_life=s.ema_half_life,
    )  # fmt: skip


def _pairs(images: np.ndarray, real: np.ndarray) -> Any:
    """The first samples above their nearest training images; then those that come nearest to one, above theirs."""
    distance, index = judges.nearest(images, real)
    nearest = np.argsort(distance, kind="stable")[:PAIRS]
    first = np.arange(len(nearest))
    rows = [images[first], real[index[first]], images[nearest], real[index[nearest]]]
    return pictures.grid(np.concatenate(rows), columns=len(first))


def _report(bench: Bench, data: Any, choice: Result, rows: Mapping[str, list[Result]]) -> Report:
    ours, (held_out,) = rows["the recipe"], rows["held-out digits"]

    def of(key: str) -> list[float | None]:
        return [r[key] for r in ours]

    targets = (
        at_least("the judge's accuracy on held-out digits", [held_out["accuracy"]], ACCURACY, ".1%"),
        below("training, s", of("training_seconds"), SECONDS, ".1f"),
        below("with film and report, s", of("wall_seconds"), SECONDS, ".1f"),
        at_least("classes found", of("classes_found"), CLASSES, ".0f"),
        at_least("share of the rarest class", of("rarest_share"), RAREST, ".1%"),
        at_least("confidence relative to held-out digits", of("relative_confidence"), CONFIDENCE, ".1%"),
        at_least("mean distance to the training set", of("neighbour_mean"), held_out["neighbour_mean"], ".3f"),
        at_least("its 1st percentile", of("neighbour_p01"), held_out["neighbour_p01"], ".3f"),
    )
    judged = {name: [found] for name, found in choice["candidates"].items()}
    seed = bench.seeds[0]
    folder = f"{bench.name}/recipe-seed{seed}"
    return Report(
        title="Digits: the default recipe",
        about=(
            "scikit-learn's 8x8 digits, unconditional. A fixed random fifth of each class is held out: neither "
            f"the GAN nor the judge sees it in training. {SAMPLES:,} samples are drawn from the averaged generator "
            "at the end, none chosen. The judge is the candidate with the lowest log loss in 5-fold "
            f"cross-validation on the training digits ({choice['chosen']}); its confidence is the mean of its "
            "largest probability.",
            "Distances are Euclidean over the 64 pixels, black 0 and white 1. If samples were copies, they would "
            f"lie nearer to the training set than the {held_out['judged']} held-out digits do, of which 1 % lie "
            "nearer than the 1st percentile. With so few held-out digits that percentile rests on three or four "
            "of them.",
            "Controls: held-out digits judged as if they were samples (the ceiling), the same with their pixels "
            "shuffled, and the mean training digit (the floor); and a plain DCGAN of width 32, trained as long as "
            "the recipe was on average.",
        ),
        data=data,
        tables=(
            Table("What came of it", (*judges.VERDICT, *NEIGHBOURS, *TIMES), rows),
            Table(
                "The judges, cross-validated",
                (Column("log_loss", "log loss", ".4f"), Column("accuracy", "accuracy", ".2%")),
                judged,
            ),
        ),
        targets=targets,
        pictures=(
            (f"{folder}.png", f"64 samples of the recipe, seed {seed}, none chosen."),
            (
                f"{folder}-neighbours.png",
                "Rows 1 and 2: the first samples and, below each, its nearest training digit. Rows 3 and 4: the "
                "samples that come nearest to a training digit, and those digits.",
            ),
        ),
    )
