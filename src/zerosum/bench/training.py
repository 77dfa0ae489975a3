"""A trained arm of a benchmark: a run as `zerosum train` makes it, its times, and a picture."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from zerosum import sample, session
from zerosum.bench.protocol import Bench, Result
from zerosum.bench.report import Column
from zerosum.data.sides import Sides
from zerosum.data.spec import Dataset
from zerosum.recipes import probe_interval, quickest
from zerosum.recipes.base import with_cadence
from zerosum.run import Run
from zerosum.runlog import read_status

TIMES = (
    Column("training_seconds", "training, s", ".1f"),
    Column("wall_seconds", "with film and report, s", ".1f"),
    Column("images_seen", "images seen", ",.0f"),
    Column("images_per_second", "images/s", ",.0f"),
    Column("threads", "threads", ".3g"),
)

SMALL_BATCH, SMALL_WIDTH = 16, 8


def train(bench: Bench, arm: str, run: Run, dataset: Dataset) -> tuple[sample.Model, Result]:
    """Train from the beginning, whatever was there, and return the averaged generator and the times.

    `wall_seconds` is everything: networks, first and last checkpoint, film and report too. As with `zerosum train`,
    the run takes one thread or all, whichever is quicker here; if it lasts so many minutes, its cadence of grids and
    checkpoints comes from that trial too. The trial is not in the times.
    """
    rate, run = quickest(run, dataset, "cpu", 0.1 if bench.quick else 2.0)
    if run.images is None and run.minutes is not None:
        run = with_cadence(run, max(1, int(rate * 60 * run.minutes)), probe_interval(run, dataset, rate, "cpu"))
    folder, times = played(bench, arm, run, dataset)
    return sample.load(folder), times


def played(bench: Bench, arm: str, run: Run, dataset: Dataset | Sides) -> tuple[Path, Result]:
    """Play a complete run from the beginning, whatever was there, and return its folder and the times.

    A folder of that name holds a run that ended: it is played beside it, and takes its place then.
    """
    folder = bench.runs / bench.name / f"{arm}-seed{run.seed}"
    playing = folder.with_name(f"{folder.name}.playing")
    if playing.exists():
        shutil.rmtree(playing)
    began = time.perf_counter()
    session.start(run, dataset, playing, device="cpu")
    wall = time.perf_counter() - began
    torch.set_num_threads(bench.options.threads)
    status = read_status(playing)
    if status["state"] != "finished":  # Ctrl-C and SIGTERM end a run in good order
        raise KeyboardInterrupt
    if folder.exists():
        shutil.rmtree(folder)
    playing.rename(folder)
    seconds, images = status["seconds"], status["images_seen"]
    times = {"training_seconds": seconds, "wall_seconds": round(wall, 3), "images_seen": images, "threads": run.threads}
    return folder, {**times, "images_per_second": images / seconds}


def settled(bench: Bench, run: Run, seed: int) -> Run:
    """A recipe as a benchmark plays it: this seed, at most these threads, fp32."""
    return replace(run, seed=seed, threads=run.threads or bench.options.threads, precision="fp32")


def shortened(run: Run) -> Run:
    """For --quick: some steps of small networks with small batches, and a grid, a probe and a checkpoint on the way."""
    half = 4 * SMALL_BATCH
    algorithm: Any = run.algorithm  # a frozen dataclass, as its networks are, but only its own type says so
    return replace(
        run,
        algorithm=replace(algorithm, networks=replace(algorithm.networks, width=SMALL_WIDTH)),
        batch_size=SMALL_BATCH,
        images=2 * half,
        minutes=None,
        log_every=half,
        probe_every=half,
        grid_every=half,
        checkpoint_every=half,
    )


def sheet(rows: Sequence[Sequence[Image.Image]], gap: int = 6) -> Image.Image:
    """Pictures of one size in rows, on white."""
    width, height = rows[0][0].size
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (columns * (width + gap) - gap, len(rows) * (height + gap) - gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            canvas.paste(picture, (x * (width + gap), y * (height + gap)))
    return canvas


def read_picture(path: Path) -> Image.Image:
    with Image.open(path, formats=["PNG"]) as image:
        return image.convert("RGB")
