"""Whether the input can starve a training: the loader alone beside the training rate, and how long a folder takes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target, at_least
from zerosum.bench.training import shortened
from zerosum.data import files, listing
from zerosum.data.loader import Loader
from zerosum.data.mapped import map_file
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.game import Batch
from zerosum.recipes import quickest
from zerosum.recipes.images import quick as default_pick
from zerosum.run import Run

SEEDS = (0,)
NOISE = Data(source="noise")
IMAGES, CLASSES, ROUNDS = 60_000, 10, 5
TRAINED_SECONDS = 2.0  # of training, with one thread and with all, in every round
RATIO, RATE = 20.0, 60_000.0  # wanted: times the training rate; images a second
JPEGS, JPEG_SIZE, SIZE = 2_000, (218, 178), (64, 64)  # height and width of the files, and what they are brought to

Open = Callable[[Path], ArrayDataset]


def measure(bench: Bench) -> Report:
    count, rounds = (200, 1) if bench.quick else (IMAGES, ROUNDS)
    grey, colour = _noise((1, 28, 28), count), _noise((3, 32, 32), count)
    run = default_pick(NOISE)
    run = shortened(run) if bench.quick else run
    arms = {
        "28x28": partial(_loading, grey, run, rounds),
        "32x32x3": partial(_loading, colour, run, rounds),
        "32x32x3, mirrored": partial(_loading, colour, run, rounds, flip=True),
        "32x32x3, mapped file": partial(_mapped, colour, run, rounds),
    }
    protocol = {"run": recipe(run), "images": count, "rounds": rounds, "data": [grey.fingerprint, colour.fingerprint]}
    loaded = {
        name: [bench.arm(name.replace(", ", "-").replace(" ", "-"), 0, protocol, work)] for name, work in arms.items()
    }
    jpegs = 40 if bench.quick else JPEGS
    folder = {"jpegs": jpegs, "height and width": JPEG_SIZE, "size": SIZE, "rounds": rounds}
    opened = bench.arm("folder", 0, folder, partial(_folder, jpegs, rounds))
    return Report(
        title="Input",
        about=(
            f"The loader alone: {count:,} images in memory, a whole pass in batches of {run.batch_size}, as a step "
            "asks for them: for D real images, labels and latents, and the same again for G, everything by address. "
            "An image counts once, as it does in training. Beside it, in the same process and in turns, "
            f"the default recipe trains for {TRAINED_SECONDS:.0f} s with one thread and with all, and the quicker "
            f"counts. Medians over {rounds} round(s).",
            "mirrored: half of the images are. mapped file: the same values in a file that the system has in memory, "
            "as sets that are larger than the memory allowed for them are read.",
            f"The folder: {jpegs:,} JPEGs of {JPEG_SIZE[1]}x{JPEG_SIZE[0]} from a fixed key, decoded and brought to "
            f"{SIZE[1]}x{SIZE[0]} with one thread and with two, in turns; and the same folder found in the cache, as "
            "every command after the first finds what took long to decode.",
        ),
        data=(
            data_record(NOISE, grey, "uniform noise as uint8 images, 28x28, from a fixed key"),
            data_record(NOISE, colour, "uniform noise as uint8 images, 32x32 in colour, from a fixed key"),
        ),
        tables=(
            Table(
                "The loader",
                (
                    Column("loader", "loader, images/s", ",.0f"),
                    Column("training", "training, images/s", ",.0f"),
                    Column("ratio", "loader / training", ",.0f"),
                    Column("slowest", "least ratio of a round", ",.0f"),
                ),
                loaded,
            ),
            Table(
                "A folder of JPEGs",
                (
                    Column("seconds", "seconds", ".3f"),
                    Column("rate", "images/s", ",.0f"),
                    Column("ratio", "times as quick as 1 thread", ".2f"),
                ),
                {name: [row] for name, row in opened["rows"].items()},
            ),
        ),
        targets=(
            *(at_least(f"{arm}: loader / training", [r["ratio"] for r in rows], RATIO) for arm, rows in loaded.items()),
            *(at_least(f"{arm}: images/s", [r["loader"] for r in rows], RATE, ",.0f") for arm, rows in loaded.items()),
            Target("the folder, whoever reads it", "same bytes", opened["bytes"], opened["bytes"] == "same bytes"),
        ),
    )  # fmt: skip


def _noise(shape: tuple[int, int, int], count: int) -> ArrayDataset:
    random = np.random.default_rng(0)
    values = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    return ArrayDataset(values, np.arange(count) % CLASSES, tuple(map(str, range(CLASSES))))


def _loading(dataset: ArrayDataset, run: Run, rounds: int, flip: bool = False) -> Result:
    latent = run.algorithm.networks.latent
    loader = Loader(dataset, seed=run.seed, latent=latent, conditional=True, flip=flip)
    _pass(loader, run.batch_size, 0)  # the first one also sets things up
    pairs = []
    for i in range(rounds):
        rate = _pass(loader, run.batch_size, 1 + i)
        pairs.append((rate, quickest(run, dataset, "cpu", TRAINED_SECONDS if rounds > 1 else 0.05)[0]))
    ratios = [loading / training for loading, training in pairs]
    loading, training = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"loader": loading, "training": training, "ratio": statistics.median(ratios), "slowest": min(ratios)}


def _pass(loader: Loader, batch: int, number: int) -> float:
    """Images a second of one pass over the set: what a step of two turns asks for, and nothing else."""
    steps = len(loader.dataset) // batch
    began = time.perf_counter()
    for i in range(number * steps, (number + 1) * steps):
        b = Batch(loader, i * batch, batch, batch)
        _ = (b.image, b.label, b.z, b.image2, b.label2, b.z2)
    return steps * batch / (time.perf_counter() - began)


def _mapped(dataset: ArrayDataset, run: Run, rounds: int) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.u8"
        dataset.values.tofile(path)
        values = map_file(path, np.uint8, dataset.values.shape)
        return _loading(ArrayDataset(values, dataset.labels, dataset.class_names), run, rounds)


def _folder(count: int, rounds: int) -> Result:
    """Seconds to open a folder of JPEGs, by arm; and whether all arms read the same bytes."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        _draw(root / "jpegs", count)
        found = listing.folder(root / "jpegs")

        def decode(threads: int) -> ArrayDataset:
            with tempfile.TemporaryDirectory() as cache:  # an empty one
                return files.open_files(found, Data(source="jpegs", size=SIZE, cache=cache), threads=threads)

        packed = Data(source="jpegs", size=SIZE, cache=place)
        files.open_files(found, replace(packed, memory_megabytes=0))
        arms: dict[str, Callable[[], ArrayDataset]] = {
            "1 thread": partial(decode, 1),
            "2 threads": partial(decode, 2),
            "found in the cache": lambda: files.open_files(found, packed),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        prints = set()
        for _ in range(rounds):
            for name, work in arms.items():
                began = time.perf_counter()
                dataset = work()
                seconds[name].append(time.perf_counter() - began)
                prints.add(dataset.fingerprint)
    first = seconds["1 thread"]
    rows = {
        name: {
            "seconds": statistics.median(times),
            "rate": count / statistics.median(times),
            "ratio": statistics.median(a / b for a, b in zip(first, times, strict=True)),
        }
        for name, times in seconds.items()
    }
    return {"rows": rows, "bytes": "same bytes" if len(prints) == 1 else "other bytes"}


def _draw(folder: Path, count: int) -> None:
    """JPEGs of smooth colours from a fixed key: as large as photographs of that size, about 6 KB each."""
    folder.mkdir()
    random = np.random.default_rng(0)
    height, width = JPEG_SIZE
    for i in range(count):
        few = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        few.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg", quality=90)
