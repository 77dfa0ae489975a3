"""What every benchmark has in common: options, one file per finished measurement, a record of the circumstances."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from zerosum import atomic, session
from zerosum import run as runs
from zerosum.bench import report
from zerosum.calibrate import calibrate
from zerosum.data.sides import Sides
from zerosum.data.source import TWO_SIDED
from zerosum.data.spec import Data, Dataset
from zerosum.errors import UserError
from zerosum.networks import Networks
from zerosum.run import Run

CADENCE = (
    "log_every",
    "probe_every",
    "regret_every",
    "grid_every",
    "checkpoint_every",
)  # of a timed run: fitted to the machine's speed
NEWER = (
    "noise_input",
    "noise_hidden",
    "fixed_lengths",
    "batch_norm",
    "folds",
)  # than what was measured with such networks
OF_LABELS = ("class_balance", "labelled")
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every benchmark can be told."""

    seeds: tuple[int, ...] = ()
    """Repeat with each of these; the benchmark's own seeds if not given."""
    out: Path | None = None
    """Where results go: runs/bench/results, or with --quick a temporary folder, if not given."""
    runs: Path | None = None
    """Where the trained runs stay, with films and checkpoints: runs/bench, or with --quick beside the results."""
    data: Path | None = None
    """The folder of the data's files, for benchmarks that read some; found as `zerosum train` finds it if not given."""
    threads: int = 2
    """Processor threads."""
    again: bool = False
    """Measure anew what was measured before."""
    quick: bool = False
    """A tiny budget that only shows that the benchmark works: its numbers mean nothing."""


class Bench:
    """One benchmark being run: where it writes, what it has measured before, and under what circumstances."""

    def __init__(self, name: str, options: Options, seeds: tuple[int, ...]) -> None:
        if options.threads < 1:
            raise UserError(f"--threads {options.threads}: must be 1 or more")
        if any(seed < 0 for seed in options.seeds):
            raise UserError(f"--seeds {min(options.seeds)}: must be 0 or more")
        minutes = getattr(options, "minutes", None)  # of benchmarks that train by the clock
        if minutes is not None and minutes <= 0:
            raise UserError(f"--minutes {minutes:g}: must be more than 0")
        self.name, self.options, self.quick = name, options, options.quick
        self.seeds = tuple(dict.fromkeys(options.seeds)) or (seeds[:1] if options.quick else seeds)
        # Not where the project keeps its own, for they are another machine's.
        default = Path("runs") / "bench" / "results"
        self.out = options.out or (Path(tempfile.mkdtemp(prefix="zerosum-bench-")) if self.quick else default)
        self.runs = options.runs or (self.out / "runs" if self.quick else Path("runs") / "bench")
        self.folder = self.out / name
        self.records: list[dict[str, Any]] = []
        self._measured = set[Path]()  # by this very call, which --again does once
        torch.set_num_threads(options.threads)

    def arm(
        self,
        arm: str,
        seed: int,
        protocol: Mapping[str, Any],
        work: Callable[[], Result],
        pictures: Sequence[Path] = (),
    ) -> Result:
        """The result of `work`, or what it was when it was measured by the same protocol before.

        UserError if there is one by another protocol: hours of work are not replaced unasked.

        `pictures` are the files that `work` leaves beside it: where one is missing, the work is done again.

        Written to `<out>/<name>/<arm>-seed<seed>.json` when it ends. The commit is recorded but is no part of the
        protocol: after a change that matters, measure with --again.
        """
        path = self.folder / f"{arm}-seed{seed}.json"
        shared = {"seed": seed, "threads": self.options.threads, "quick": self.quick}
        wanted = plain({**protocol, **shared})
        record = None if self.options.again and path not in self._measured else _read(path)
        if record is not None and record["protocol"] != wanted:
            known = record["protocol"]
            other = sorted(key for key in known.keys() | wanted.keys() if known.get(key) != wanted.get(key))
            raise UserError(
                f"{path}: was measured with other settings ({', '.join(other)}); --out another folder keeps both, "
                "--again replaces it"
            )
        if record is None or not all(p.is_file() for p in pictures):
            self.say(f"{arm}, seed {seed}")
            torch.set_num_threads(self.options.threads)
            circumstances = environment(self.quick)
            record = {"protocol": wanted, "environment": circumstances, "result": plain(work())}
            atomic.write_file(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
        else:
            self.say(f"{arm}, seed {seed}: measured before")
        self._measured.add(path)
        self.records.append(record)
        return record["result"]

    def say(self, text: str) -> None:
        print(f"bench {self.name}: {text}", file=sys.stderr, flush=True)

    def publish(self, found: report.Report) -> bool:
        """Write `<name>.json` and `<name>.md`, print both tables; whether every target was met.

        Where those hold what this call did not measure they stay, and it writes `<name>-part` beside them.
        """
        ours = published(self.name)
        lost = report.lacking(_written(self.out, self.name), found)
        page = f"{self.name}-part" if lost else self.name
        if lost:
            self.say(f"{self.out / self.name}.json stays: it has {lost[0]}, which this call did not measure")
        record = plain({"benchmark": self.name, **report.to_json(found), "environment": report.together(self.records)})
        atomic.write_file(self.out / f"{page}.json", (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())
        text = report.markdown(found, self.name, self.records, quick=self.quick)
        atomic.write_file(self.out / f"{page}.md", text.encode())
        report.show(found)
        if ours is not None:
            asked = {table.title for table in found.tables}
            beside = [table for table in report.tables_of(ours) if table.title in asked]
            report.show_tables(beside, f", as the project measured it ({_machine(ours)})")
        self.say(f"written to {self.out / page}.json and .md")
        return all(target.met for target in found.targets)


def published(name: str) -> dict[str, Any] | None:
    """What the project itself measured: it lies in the package, or in the checkout that this runs from. None if not."""
    package = Path(__file__).resolve().parents[1]
    folders = package / "bench" / "published", package.parents[1] / "benchmarks" / "results"
    return next((found for folder in folders if (found := _written(folder, name))), None)


def _written(folder: Path, name: str) -> dict[str, Any] | None:
    """What a benchmark published there; None if nothing, or what cannot be read."""
    try:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _machine(written: Mapping[str, Any]) -> str:
    """In a few words: what it ran on and when its commit was."""
    place = written.get("environment", {})
    speed = place.get("calibration", {})
    rates = [c["convolution_gflops"] for c in (speed if isinstance(speed, list) else [speed]) if c]
    rate = f", convolution {sum(rates) / len(rates):.0f} GFLOP/s" if rates else ""
    system, cores = _each(place.get("system", "unknown machine")), _each(place.get("cores", "?"))
    return f"{system}, {cores} cores{rate}"


def _each(value: Any) -> str:
    """A value that measurements share, or each of theirs once."""
    return ", ".join(dict.fromkeys(map(str, value if isinstance(value, list) else [value])))


def _read(path: Path) -> dict[str, Any] | None:
    """A finished measurement; None if there is none or it cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    whole = isinstance(record, dict) and {"protocol", "environment", "result"} <= set(record)
    return record if whole else None


def plain(value: Any) -> Any:
    """Plain JSON values: tuples as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def recipe(run: Run) -> dict[str, Any]:
    """What decides a run, for its protocol: without cadence, what is left to the machine, and where its files are.

    What only two-sided data, adaptive augmentation, games of labels or noisy networks have is left out of the
    others: what was measured before there were any stays known.
    """
    target = None if run.data.target is None else _named(run.data.target)
    data = replace(run.data, source=_named(run.data.source), target=target, root=None, cache=None)
    value = runs.to_json(replace(run, data=data))
    unused = {name for name in TWO_SIDED if getattr(run.data, name) == getattr(Data, name)}
    value["data"] = {name: v for name, v in value["data"].items() if name not in unused}
    game = value["algorithm"]
    newer = ((game, "noise"), *((game["networks"], name) for name in NEWER))
    for part, name in newer:
        if part.get(name) == 0:  # or False
            del part[name]
    labels = [name for name in OF_LABELS if getattr(run, name) == getattr(Run, name)]
    left_out = {*CADENCE, *labels, *([] if "adaptive" in run.augment else ["augment_images"])}
    return {name: v for name, v in value.items() if name not in left_out and v != "auto"}


def named(networks: Networks) -> str:
    """Networks in one line, for a protocol: what is newer than measurements of them only where it is in use."""
    told = (f"{name}={value!r}" for name, value in vars(networks).items() if name not in NEWER or value)
    return f"{type(networks).__name__}({', '.join(told)})"


def _named(source: str) -> str:
    """A set by its name, a folder or file by the last part of its path: what is in it, the record of data says."""
    return Path(source).name if Path(source).is_absolute() else source


def data_record(data: Data, dataset: Dataset | Sides, source: str) -> dict[str, Any]:
    """What was read: where the public can have it, and the SHA-256 of what it was."""
    return {"source": source, "split": data.split, "count": len(dataset), "sha256": dataset.fingerprint}


def environment(quick: bool = False) -> dict[str, Any]:
    """The circumstances of a measurement: commit, machine, versions, its speed and its load at that moment."""
    known = session.environment()
    kept = ("python", "system", "processor", "cores", "threads", "memory_gigabytes", "versions")
    machine = {name: known[name] for name in kept}
    commit, changed = git_commit()
    return {
        "commit": commit,
        "changed_since_commit": changed,
        **machine,
        "load_average": round(psutil.getloadavg()[0], 2),
        "calibration": {name: round(v, 1) for name, v in calibrate(0.02 if quick else 1.0).items()},
    }


def git_commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout this package runs from, and whether src/ differs from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None, None

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "src", "pyproject.toml"))
    except (OSError, subprocess.CalledProcessError):
        return None, None
