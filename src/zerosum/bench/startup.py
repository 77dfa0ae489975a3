"""How long a person waits for `import zerosum` and for `zerosum --help`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from zerosum.bench.protocol import Bench, Result
from zerosum.bench.report import Column, Report, Table, below

SEEDS = (0,)
RUNS = 5
SECONDS = 1.0
NO_TORCH = "; import sys; sys.exit(int('torch' in sys.modules))"  # exit status 1 if it was loaded
COMMANDS: dict[str, Sequence[str]] = {
    "import zerosum": (sys.executable, "-c", "import zerosum" + NO_TORCH),
    "zerosum --help": (sys.executable, "-m", "zerosum", "--help"),
    "zerosum train --help": (sys.executable, "-m", "zerosum", "train", "--help"),
    "Python alone": (sys.executable, "-c", "pass"),
}
WANTED = ("import zerosum", "zerosum --help")


def measure(bench: Bench) -> Report:
    runs = 2 if bench.quick else RUNS

    def work(command: Sequence[str]) -> Result:
        first, *times = [_seconds(command) for _ in range(runs + 1)]
        return {"seconds": statistics.median(times), "fastest": min(times), "slowest": max(times), "first": first}

    rows = {
        name: [bench.arm(name.replace(" ", "-"), 0, {"runs": runs}, lambda command=command: work(command))]
        for name, command in COMMANDS.items()
    }
    return Report(
        title="Startup",
        about=(
            f"Wall time of a whole process: the median of {runs} after a first one, which is listed by itself (it may have to "
            "read from the disk and compile). The import is also checked not to load torch.",
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
                ),
                rows,
            ),
        ),
        targets=tuple(below(f"{name}, s", [rows[name][0]["seconds"]], SECONDS, ".2f") for name in WANTED),
    )


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
