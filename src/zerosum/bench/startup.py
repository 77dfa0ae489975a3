"""How long a person waits for `import zerosum` and for `zerosum --help`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from functools import partial

from zerosum.bench.protocol import Bench, Result
from zerosum.bench.report import Column, Report, Table, Target, below

SEEDS = (0,)
RUNS = 5
SECONDS = 1.0
TORCH = 3  # exit status of a process that has loaded torch
LOADED = f"; import sys; sys.exit({TORCH} if 'torch' in sys.modules else 0)"
COMMANDS = {  # what the `zerosum` command does is the same as these words do
    "import zerosum": "import zerosum",
    "zerosum --help": "from zerosum.cli import main; main(['--help'])",
    "zerosum train --help": "from zerosum.cli import main; main(['train', '--help'])",
    "Python alone": "pass",
}
WANTED = ("import zerosum", "zerosum --help")


def measure(bench: Bench) -> Report:
    runs = 1 if bench.quick else RUNS

    def work(code: str) -> Result:
        (first, _), *rest = [_run(code) for _ in range(runs + 1)]
        times = [seconds for seconds, _ in rest]
        return {
            "seconds": statistics.median(times), "fastest": min(times), "slowest": max(times), "first": first,
            "torch": "loaded" if any(loaded for _, loaded in rest) else "not loaded",
        }  # fmt: skip

    rows = {
        name: [bench.arm(name.strip("-").replace(" ", "-"), 0, {"runs": runs, "code": code}, partial(work, code))]
        for name, code in COMMANDS.items()
    }
    targets = [below(f"{name}, s", [rows[name][0]["seconds"]], SECONDS, ".2f") for name in WANTED]
    loaded = [rows[name][0]["torch"] for name in WANTED]
    targets.append(Target("torch, in both", "not loaded", ", ".join(loaded), set(loaded) == {"not loaded"}))
    return Report(
        title="Startup",
        about=(
            f"Wall time of a whole process: the median of {runs} after a first one, which is listed by itself (it "
            "may have to read from the disk and compile).",
        ),
        data=(),
        tables=(
            Table(
                "Seconds",
                (
                    Column("seconds", "median", ".3f"),
                    Column("fastest", "fastest", ".3f"),
                    Column("slowest", "slowest", ".3f"),
                    Column("first", "first", ".3f"),
                    Column("torch", "torch"),
                ),
                rows,
            ),
        ),
        targets=tuple(targets),
    )


def _run(code: str) -> tuple[float, bool]:
    """Wall time of a process that runs `code`, and whether it loaded torch."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + LOADED], stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, TORCH):
        raise RuntimeError(f"{code!r} ended with status {done.returncode}")
    return seconds, done.returncode == TORCH
