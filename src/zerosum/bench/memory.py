"""What a run is predicted to take, beside what it took: the peak of a process of its own, and its folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from zerosum import checkpoint, memory, session
from zerosum import data as sources
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, at_most
from zerosum.bench.training import settled, shortened
from zerosum.data.spec import Data, Dataset
from zerosum.data.store import ArrayDataset
from zerosum.recipes.base import from_settings
from zerosum.recipes.images import digits, quick
from zerosum.run import Run

SEEDS = (0,)
NOISE = Data(source="noise")
FASHION = Data(source="fashion-mnist")
STEPS = 16
NEAR = 0.2  # of what is measured, at most, between it and the prediction
PARTS = ("process", "networks", "average", "moments", "turn", "regret", "probe", "end")
WORKER = "import sys; from zerosum.bench.memory import work; work(sys.argv[1])"


def _dcgan() -> Run:
    run = from_settings("dcgan", NOISE)
    algorithm: Any = run.algorithm
    return replace(run, algorithm=replace(algorithm, networks=replace(algorithm.networks, width=64)))


# Those of the first part were looked at when the constants for memory were chosen, those of the second were not.
KNOWN: dict[str, Callable[[], Run]] = {
    "digits": digits,
    "fashion": lambda: quick(FASHION),
    "fashion-512": lambda: replace(quick(FASHION), batch_size=512),
    "dcgan-64x64": _dcgan,
    "r3gan-32x32": lambda: from_settings("r3gan", NOISE),
}
NEW: dict[str, Callable[[], Run]] = {
    "wgan-gp-32x32": lambda: from_settings("wgan_gp", NOISE),
    "sngan-32x32": lambda: replace(from_settings("sngan", NOISE), batch_size=256),
    "r3gan-split": lambda: replace(from_settings("r3gan", NOISE), micro_batches=4),
}


def measure(bench: Bench) -> Report:
    rows: dict[str, dict[str, list[Result]]] = {"known": {}, "new": {}}
    records = {}
    for part, cases in (("known", KNOWN), ("new", NEW)):
        for name, make in list(cases.items())[: 1 if bench.quick else None]:
            rows[part][name] = []
            for seed in bench.seeds:
                run = _short(shortened(make()) if bench.quick else make(), 4 if bench.quick else STEPS)
                run = settled(bench, run, seed)
                dataset = _data(name, run, bench)
                records[dataset.fingerprint] = data_record(run.data, dataset, _source(run))
                protocol = {"run": recipe(run), "data": dataset.fingerprint}
                rows[part][name].append(bench.arm(name, seed, protocol, partial(_apart, bench, name, run)))
    every = [(name, results) for part in rows.values() for name, results in part.items()]
    columns = (
        Column("predicted_mb", "predicted, MB", ",.0f"),
        Column("measured_mb", "measured, MB", ",.0f"),
        Column("memory_off", "off by", "+.1%"),
        Column("predicted_disk_mb", "disk predicted, MB", ".1f"),
        Column("disk_mb", "measured, MB", ".1f"),
        Column("disk_off", "off by", "+.1%"),
    )
    return Report(
        title="Memory and disk, predicted and measured",
        about=(
            f"Each case is a process of its own that opens the data, predicts, and then plays {STEPS} steps with three "
            "probes, one regret, five sample grids, three checkpoints, film and report. Memory is the largest "
            "resident set that the process ever had (VmHWM): interpreter, torch and data are in it. Disk is the "
            "run's folder at its fullest: just before an old checkpoint is removed, or at the end. MB is 10^6 bytes.",
            "The cases of the second table were not looked at when the constants for memory were chosen; "
            "those for disk were changed after looking at some of them. Networks and "
            "batches are the recipes' and settings' own unless the name says otherwise; dcgan-64x64 has "
            "width 64, sngan-32x32 batches of 256, r3gan-split four micro-batches.",
            "The parts say what the prediction is made of: of turn, regret and probe the heaviest counts. On a GPU "
            "nothing was measured.",
        ),
        data=tuple(records.values()),
        tables=(
            Table("Predicted and measured", columns, rows["known"]),
            Table("Not looked at before", columns, rows["new"]),
            Table(
                "Parts of the prediction, MB",
                tuple(Column(part, part, ",.1f") for part in PARTS),
                {name: [r["parts"] for r in results] for name, results in every},
            ),
        ),
        targets=tuple(
            at_most(f"{name}: {what}, off by", [abs(r[key]) for r in results], NEAR, ".1%")
            for name, results in every
            for what, key in (("memory", "memory_off"), ("disk", "disk_off"))
        ),
    )  # fmt: skip


def _short(run: Run, steps: int) -> Run:
    n = run.batch_size * run.algorithm.rounds
    half = n * steps // 2
    return replace(
        run, images=n * steps, minutes=None, log_every=n, probe_every=half, regret_every=n * steps,
        grid_every=half // 2, checkpoint_every=half,
    )  # fmt: skip


def _source(run: Run) -> str:
    return "uniform noise as uint8 images, from a fixed key" if run.data.source == "noise" else run.data.source


def _data(name: str, run: Run, bench: Bench) -> Dataset:
    return _open(name, run, None if bench.options.data is None else str(bench.options.data))


def _open(name: str, run: Run, root: str | None) -> Dataset:
    if run.data.source != "noise":
        return sources.open(replace(run.data, root=root if run.data.source == FASHION.source else None))
    side = 64 if "64x64" in name else 32
    return ArrayDataset(np.random.default_rng(0).integers(0, 256, (2_000, 3, side, side), dtype=np.uint8))


def _apart(bench: Bench, name: str, run: Run) -> Result:
    """`work` in a process of its own."""
    from zerosum.run import dumps

    order = {"name": name, "run": json.loads(dumps(run)), "root": bench.options.data and str(bench.options.data)}
    done = subprocess.run([sys.executable, "-c", WORKER, json.dumps(order)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def work(text: str) -> None:
    """Predict, play, and print what came of it as JSON."""
    from zerosum.run import from_json

    order = json.loads(text)
    run, fullest = from_json(order["run"]), 0
    dataset = _open(order["name"], run, order["root"])
    need = memory.predict(run, dataset.spec, torch.device("cpu"))
    disk = memory.disk(run, dataset.spec, need)
    prune = checkpoint.prune

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"

        def fill(*arguments: Any) -> None:
            nonlocal fullest
            fullest = max(fullest, _size(out))
            prune(*arguments)

        checkpoint.prune = fill  # type: ignore[assignment]
        session.start(run, dataset, out, device="cpu")
        fullest = max(fullest, _size(out))
    peak, mb = peak_bytes(), 1e6
    result = {
        "predicted_mb": need.peak / mb, "measured_mb": peak / mb, "memory_off": need.peak / peak - 1,
        "predicted_disk_mb": disk / mb, "disk_mb": fullest / mb, "disk_off": disk / fullest - 1,
        "parts": {part: getattr(need, part) / mb for part in PARTS},
    }  # fmt: skip
    print(json.dumps(result))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak_bytes() -> int:
    """The largest resident set that this process has had.

    Not by getrusage where it can be helped: under Linux that counts what the parent had when it made this process.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        info = psutil.Process().memory_info()
        if sys.platform == "win32":
            return info.peak_wset
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
