"""Distances between features against torch-fidelity's and torchmetrics': the same numbers, and how long they take."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from zerosum import randomness
from zerosum.bench.protocol import Bench, Result, data_record
from zerosum.bench.report import Column, Report, Table, Target, at_most
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.metrics.distances import frechet, kernel_distance, kernel_estimate
from zerosum.metrics.neighbours import density_coverage, precision_recall
from zerosum.metrics.statistics import Accumulator, statistics

SEEDS = (0,)
SAMPLES, DIMENSIONS = 10_000, 2_048  # a side
STREAMED = 50_000
SUBSETS, SIZE = 100, 1_000  # torch-fidelity's and torchmetrics' own
FEW = 20  # subsets where all do the same in float64
ROUNDS = 2
MEGABYTES, STATISTICS_SECONDS, NEIGHBOURS_SECONDS, PARITY = 200.0, 20.0, 30.0, 1e-6
FIDELITY, TORCHMETRICS = "torch-fidelity", "torchmetrics"

Work = Callable[[], float]


def measure(bench: Bench) -> Report:
    n, d, size = (300, 16, 50) if bench.quick else (SAMPLES, DIMENSIONS, SIZE)
    x, y = _features(n, d, 0), 1.05 * _features(n, d, 1)
    data = Data(source="noise")
    known = data_record(
        data, ArrayDataset(torch.cat((x, y)).numpy()),
        "correlated rectified normal numbers as two sets of float32 features, from a fixed key",
    )  # fmt: skip
    contests: dict[str, dict[str, Work]] = {
        "Frechet, of features": _frechet_of_features(x, y),
        "Frechet, of statistics": _frechet_of_statistics(x, y),
        "kernel estimate, by default": _kernel_by_default(x, y, size),
        "kernel, the same subsets": _kernel_same_subsets(x.double(), y.double(), size),
        "kernel, all pairs": {"ours": partial(kernel_distance, x, y)},
        "precision and recall": _precision_recall(x, y),
        "density and coverage": {"ours": lambda: density_coverage(x, y)[0]},
    }
    rounds = 1 if bench.quick else ROUNDS
    rows: dict[str, list[Result]] = {}
    for name, arms in contests.items():
        protocol = {"data": known, "size": size, "rounds": rounds, "arms": sorted(arms)}
        rows[name] = [bench.arm(name.replace(" ", "-").replace(",", ""), 0, protocol, partial(_contest, arms, rounds))]
    streamed = 2_000 if bench.quick else STREAMED
    stream = bench.arm(
        "statistics", 0, {"n": streamed, "dimensions": d}, partial(_stream_apart, streamed, d, bench.options.threads)
    )
    targets = [
        at_most(f"statistics of {streamed:,} x {d:,}, s", [stream["seconds"]], STATISTICS_SECONDS, ".1f"),
        at_most("the same, MB above the baseline", [stream["megabytes"]], MEGABYTES, ".0f"),
        at_most("precision and recall, s", [rows["precision and recall"][0]["ours"]], NEIGHBOURS_SECONDS, ".1f"),
        *_ratios(rows),
        *_parity(rows),
    ]
    missing = [name for name in (FIDELITY, TORCHMETRICS) if not any(name in arms for arms in contests.values())]
    return Report(
        title="Distances between features",
        about=(
            f"Two sets of {n:,} features in {d:,} dimensions, float32, in memory. The arms of a row take turns, "
            f"{rounds} round(s); a time is the least of its arm, and a ratio is ours over theirs.",
            "Theirs are the functions that their metrics call on features; ours are in float64 throughout. "
            "Frechet of features includes means and covariances. "
            f"The kernel estimate by default: ours takes {n // size} disjoint subsets of {size:,}, each sample once; "
            f"theirs take {SUBSETS} that overlap, in float32, and their spread is no standard error of the result. "
            f"The values differ by chance. The same subsets: {FEW} of {size:,}, features in float64 for all, equal "
            "work. All pairs: theirs have nothing like it. "
            "Precision and recall: theirs in float32, whose rounding moves some samples over the edge.",
            "Statistics: a process of its own that receives blocks of 1,000 rows; the memory is the process's "
            "highest resident set, by the system's record, above the resident set just before the first block.",
            *(
                f"{name} is not installed, so its arms are left out: pip install 'zerosum[bench]'."
                for name in missing
            ),
        ),
        data=(known,),
        tables=(
            Table(
                "Seconds",
                (
                    Column("ours", "ours", ".2f"),
                    Column(FIDELITY, FIDELITY, ".2f"),
                    Column(TORCHMETRICS, TORCHMETRICS, ".2f"),
                    Column(f"ratio {FIDELITY}", f"ours / {FIDELITY}", ".2f"),
                    Column(f"ratio {TORCHMETRICS}", f"ours / {TORCHMETRICS}", ".2f"),
                    Column(f"difference {FIDELITY}", f"differs from {FIDELITY} by", ".1e"),
                    Column(f"difference {TORCHMETRICS}", f"differs from {TORCHMETRICS} by", ".1e"),
                ),
                rows,
            ),
            Table(
                "Streaming statistics",
                (Column("seconds", "seconds", ".2f"), Column("megabytes", "MB above the baseline", ".0f")),
                {f"{streamed:,} x {d:,}": [stream]},
            ),
        ),
        targets=tuple(targets),
    )  # fmt: skip


def _ratios(rows: Mapping[str, list[Result]]) -> list[Target]:
    wanted = [name for name in rows if name not in ("kernel, all pairs", "density and coverage")]
    return [
        at_most(f"{name}: ours / {other}", [result[f"ratio {other}"]], 1.0, ".2f")
        for name in wanted
        for result in rows[name]
        for other in (FIDELITY, TORCHMETRICS)
        if f"ratio {other}" in result
    ]


def _parity(rows: Mapping[str, list[Result]]) -> list[Target]:
    return [
        at_most(f"{name}: relative difference from {other}", [result[f"difference {other}"]], PARITY, ".1e")
        for name in ("Frechet, of statistics", "kernel, the same subsets")
        for result in rows[name]
        for other in (FIDELITY, TORCHMETRICS)
        if f"difference {other}" in result
    ]


def _features(n: int, d: int, number: int) -> Tensor:
    """(n, d) float32, correlated and not negative as a network's last layer is; covariances of full rank."""
    mixing = randomness.normal(0, "bench/metrics/mixing", 0, d, d).float() * torch.logspace(0, -1, d) / d**0.5
    return (randomness.normal(0, f"bench/metrics/{number}", 0, n, d).float() @ mixing.T + 0.1).relu()


def _contest(arms: Mapping[str, Work], rounds: int) -> Result:
    """Seconds of every arm, the least of its rounds, and how ours compares."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    values = {}
    for _ in range(rounds):
        for name, work in arms.items():
            began = time.perf_counter()
            values[name] = work()
            seconds[name].append(time.perf_counter() - began)
    found: Result = {name: min(spent) for name, spent in seconds.items()}
    for name in arms:
        if name != "ours":
            found[f"ratio {name}"] = found["ours"] / found[name]
            found[f"difference {name}"] = abs(values["ours"] - values[name]) / abs(values[name])
    return {**found, "values": values, "rounds": seconds}


def _module(name: str) -> ModuleType | None:
    """A module of an optional package; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _frechet_of_features(x: Tensor, y: Tensor) -> dict[str, Work]:
    arms: dict[str, Work] = {"ours": lambda: frechet(statistics(x), statistics(y))}
    fidelity = _module("torch_fidelity.metric_fid")
    if fidelity:
        arms[FIDELITY] = lambda: _fidelity_frechet(fidelity, *(fidelity.fid_features_to_statistics(f) for f in (x, y)))
    return arms


def _frechet_of_statistics(x: Tensor, y: Tensor) -> dict[str, Work]:
    a, b = statistics(x), statistics(y)
    arms: dict[str, Work] = {"ours": lambda: frechet(a, b)}
    fidelity, torchmetrics = _module("torch_fidelity.metric_fid"), _module("torchmetrics.image.fid")
    if fidelity:
        same = [{"mu": s.mean.numpy(), "sigma": s.covariance.numpy()} for s in (a, b)]
        arms[FIDELITY] = lambda: _fidelity_frechet(fidelity, *same)
    if torchmetrics:
        arms[TORCHMETRICS] = lambda: float(torchmetrics._compute_fid(a.mean, a.covariance, b.mean, b.covariance))
    return arms


def _fidelity_frechet(fidelity: ModuleType, a: Any, b: Any) -> float:
    return fidelity.fid_statistics_to_metric(a, b, False)["frechet_inception_distance"]


def _kernel_by_default(x: Tensor, y: Tensor, size: int) -> dict[str, Work]:
    arms: dict[str, Work] = {"ours": lambda: kernel_estimate(x, y, len(x) // size, size, 0)[0]}
    return arms | _theirs(x, y, SUBSETS, size)


def _kernel_same_subsets(x: Tensor, y: Tensor, size: int) -> dict[str, Work]:
    """Ours on the subsets that torch-fidelity draws; torchmetrics' too."""
    drawn = np.random.RandomState(0)
    pairs = [[torch.from_numpy(drawn.choice(len(f), size, replace=False)) for f in (x, y)] for _ in range(FEW)]
    arms: dict[str, Work] = {"ours": lambda: float(np.mean([kernel_distance(x[i], y[j]) for i, j in pairs]))}
    torchmetrics = _module("torchmetrics.image.kid")
    arms |= _theirs(x, y, FEW, size)
    if torchmetrics:
        arms[TORCHMETRICS] = lambda: float(np.mean([float(torchmetrics.poly_mmd(x[i], y[j])) for i, j in pairs]))
    return arms


def _theirs(x: Tensor, y: Tensor, subsets: int, size: int) -> dict[str, Work]:
    arms: dict[str, Work] = {}
    fidelity, torchmetrics = _module("torch_fidelity.metric_kid"), _module("torchmetrics.image.kid")
    if fidelity:
        settings = {"kid_subsets": subsets, "kid_subset_size": size, "rng_seed": 0, "verbose": False}
        arms[FIDELITY] = lambda: fidelity.kid_features_to_metric(x, y, **settings)["kernel_inception_distance_mean"]
    if torchmetrics:

        def work() -> float:
            drawn = torch.Generator().manual_seed(0)
            chosen = [[torch.randperm(len(f), generator=drawn)[:size] for f in (x, y)] for _ in range(subsets)]
            return float(np.mean([float(torchmetrics.poly_mmd(x[i], y[j])) for i, j in chosen]))

        arms[TORCHMETRICS] = work
    return arms


def _precision_recall(x: Tensor, y: Tensor) -> dict[str, Work]:
    arms: dict[str, Work] = {"ours": lambda: precision_recall(x, y)[0]}
    fidelity = _module("torch_fidelity.metric_prc")
    if fidelity:
        settings = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
        arms[FIDELITY] = lambda: fidelity.prc_features_to_metric(y, x, **settings)["precision"]
    return arms


def _stream_apart(n: int, d: int, threads: int) -> Result:
    """`stream` in a process of its own, whose memory holds nothing else."""
    code = f"from zerosum.bench.metrics import stream; stream({n}, {d}, {threads})"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def stream(n: int, d: int, threads: int) -> None:
    """Print, as JSON, what the statistics of n features in blocks cost."""
    torch.set_num_threads(threads)
    block, generator = 1_000, torch.Generator().manual_seed(0)
    (torch.ones(d, 64) @ torch.ones(64, 64)).double()  # what torch loads on first use
    features = torch.empty(block, d)
    baseline = psutil.Process().memory_info().rss
    seconds, collected = 0.0, Accumulator(d)
    for start in range(0, n, block):
        features.normal_(generator=generator)
        began = time.perf_counter()
        collected.add(features[: n - start])
        seconds += time.perf_counter() - began
    began = time.perf_counter()
    collected.finish()
    seconds += time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "megabytes": (_peak() - baseline) / 1e6}))


def _peak() -> int:
    """The most bytes that this process has had in memory, by the system's own record."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":  # what getrusage says there counts the parent in
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1_024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
