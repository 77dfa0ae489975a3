"""Proof, on a user's own recipe, that a killed and resumed run is the run that was never interrupted.

Two short runs of the recipe, each in processes of its own: one in peace; one that kills itself (SIGKILL)
while it writes a checkpoint, at the rename, and is then resumed. What both leave must be equal, to the bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zerosum import atomic, checkpoint, sample, session
from zerosum import data as data_sets
from zerosum import run as runs
from zerosum.errors import UserError
from zerosum.run import Run
from zerosum.runlog import ENVIRONMENT, RECIPE, grids, read_events

STEPS, SAVES = 24, 6  # of a trial
TIMES = ("seconds", "images_per_second")  # what may differ
KILL = signal.SIGTERM if os.name == "nt" else signal.SIGKILL  # there, SIGTERM ends a process at once


@dataclass(frozen=True)
class Compared:
    """One kind of thing: how many there were, and which were not equal."""

    what: str
    count: int
    different: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What `resume` found. `images` is the length of both runs, `killed_at` where one was killed."""

    images: int
    killed_at: int
    resumed_from: int
    rows: tuple[Compared, ...]

    @property
    def equal(self) -> bool:
        return not any(row.different for row in self.rows)


def resume(path: Path, images: int | None = None, tell: Callable[[str], None] = lambda _: None) -> Verdict:
    """Try the recipe of the run in `path` for `images` (24 steps, if not given). Raises UserError."""
    recipe = sample.read_recipe(path)
    run = shortened(runs.from_json(recipe["run"]), images)
    assert run.images is not None
    step = run.batch_size * run.algorithm.rounds
    kill_at = run.images // 2 // step * step
    with tempfile.TemporaryDirectory(prefix="zerosum-verify-") as folder:
        work = Path(folder)
        device = _device(path)
        (work / "run.json").write_text(runs.dumps(run), encoding="utf-8")
        tell(f"1 of 3: {run.images:,} images without interruption")
        _child(work, "whole", device)
        if _fingerprint(work / "whole") != recipe["data"]["fingerprint"]:
            tell("warning: the data are not those that the run began with; both trials use them as they are")
        tell(f"2 of 3: the same, killed while it writes a checkpoint at {kill_at:,} images or later")
        _child(work, "killed", device, kill_at)
        have = checkpoint.numbers(work / "killed")
        tell(f"3 of 3: resumed from {have[-1] if have else 0:,} images")
        _child(work, "killed", device)
        rows = compare(work / "whole", work / "killed")
    return Verdict(run.images, kill_at, have[-1] if have else 0, rows)


def shortened(run: Run, images: int | None) -> Run:
    """The recipe, for a short time, with everything logged and much saved."""
    step = run.batch_size * run.algorithm.rounds
    images = STEPS * step if images is None else images
    if images < 2 * SAVES * step:
        raise UserError(f"--images {images}: too few to be interrupted; give {2 * SAVES * step} or more")
    every = images // step // SAVES * step
    return replace(
        run,
        images=images,
        minutes=None,
        log_every=step,
        probe_every=every,
        regret_every=every,
        grid_every=every,
        checkpoint_every=every,
    )


def compare(a: Path, b: Path) -> tuple[Compared, ...]:
    """Everything that two run folders hold of the training itself."""
    number_a, number_b = checkpoint.numbers(a)[-1], checkpoint.numbers(b)[-1]
    one, two = (
        checkpoint.load(checkpoint.path_of(a, number_a)),
        checkpoint.load(checkpoint.path_of(b, number_b)),
    )
    return (
        _compared("images seen", {"images": number_a}, {"images": number_b}),
        _compared("tensors (sha256)", _hashes(one), _hashes(two)),
        _compared("state", _flat(_timeless(one.state)), _flat(_timeless(two.state))),
        _compared("logged values", _logged(a), _logged(b)),
        _compared("sample grids", _files(a), _files(b)),
    )


def _compared(what: str, one: dict[str, Any], two: dict[str, Any]) -> Compared:
    names = sorted(one.keys() | two.keys())
    return Compared(what, len(names), tuple(n for n in names if n not in one or n not in two or one[n] != two[n]))


def _hashes(saved: checkpoint.Checkpoint) -> dict[str, str]:
    hashes = {}
    for name, tensor in saved.tensors.items():
        content = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        hashes[name] = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + content).hexdigest()
    return hashes


def _timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in TIMES}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}/{key}".lstrip("/")).items()}
    return {name: value}


def _logged(path: Path) -> dict[str, Any]:
    return {
        f"line {i}, {event['event']} at {event['images_seen']}: {name}": value
        for i, event in enumerate(read_events(path))
        for name, value in _timeless(event).items()
    }


def _files(path: Path) -> dict[str, str]:
    return {grid.name: hashlib.sha256(grid.read_bytes()).hexdigest() for grid in grids(path)}


def _fingerprint(path: Path) -> str:
    return sample.read_recipe(path)["data"]["fingerprint"]


def _device(path: Path) -> str:
    """Where the run was trained, as it recorded."""
    try:
        return str(json.loads((path / ENVIRONMENT).read_text(encoding="utf-8"))["device"])
    except (OSError, ValueError, KeyError, TypeError):
        return "auto"


def _child(work: Path, name: str, device: str, kill_at: int | None = None) -> None:
    words = [
        sys.executable,
        "-m",
        "zerosum.verify",
        str(work),
        name,
        device,
        *([] if kill_at is None else [str(kill_at)]),
    ]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    wanted = 0 if kill_at is None else -KILL
    if done.returncode != wanted and not (os.name == "nt" and kill_at is not None):
        raise UserError(f"verify: the {name} run ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")


def _play(work: Path, name: str, device: str, kill_at: int | None) -> None:
    """What the child does: start the run, or go on with it."""
    if kill_at is not None:

        def kill(operation: str, path: Path) -> None:
            if operation == "rename" and path.parent.name == "checkpoints" and int(path.name) >= kill_at:
                os.kill(os.getpid(), KILL)

        atomic.hook = kill
    out = work / name
    run = runs.from_json(json.loads((work / "run.json").read_text(encoding="utf-8")))
    dataset = data_sets.open(run.data)
    if (out / RECIPE).exists():
        session.resume(out, dataset, device=device)
    else:
        session.start(run, dataset, out, device=device)


if __name__ == "__main__":
    try:
        _play(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else None)
    except UserError as problem:
        sys.exit(str(problem))
