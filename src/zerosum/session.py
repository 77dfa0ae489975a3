"""A session: start a run or go on with one, hold its folder, listen for Ctrl-C, and leave film and report behind."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image

from zerosum import atomic, checkpoint, distributed, inference, pictures, sample, snapshot
from zerosum import run as runs
from zerosum.data.sides import Sides
from zerosum.data.spec import Dataset, Spec
from zerosum.data.split import held_out_count
from zerosum.data.store import ArrayDataset
from zerosum.engine import choose_device, kept_memory, processor, settled_format, settled_precision
from zerosum.equilibrium import advisor
from zerosum.errors import UserError
from zerosum.film import save_film
from zerosum.metrics.report import write_report
from zerosum.recipes.transfer import Origin
from zerosum.run import Run
from zerosum.runlog import (
    ENVIRONMENT,
    FILM,
    LOOP,
    REAL,
    RECIPE,
    Lock,
    RunLog,
    State,
    grid_path,
    grids,
    read_events,
    read_status,
    write_status,
)
from zerosum.trainer import Training
from zerosum.view import SilentView, View

FORMAT = 1
FILM_SECONDS = 8
CONVERGED = "converged"  # the status text of a run that ended by itself before its length
SAME_SECONDS = 0.5
LEFT_OUT = 20  # files left out that recipe.json names


def start(
    run: Run,
    dataset: Dataset | Sides,
    out: Path,
    *,
    view: View | None = None,
    device: str = "auto",
    weights_of: Path | None = None,
) -> Path:
    """Train a new run in the folder `out` and return it, from the last weights of another run if one is named.

    UserError if `out` holds a run already, or if the other run's networks are not this one's.
    """
    return _play(run, dataset, out, view or SilentView(), device, fresh=True, weights_of=weights_of)


def resume(
    out: Path,
    dataset: Dataset | Sides,
    *,
    images: int | None = None,
    minutes: float | None = None,
    view: View | None = None,
    device: str = "auto",
) -> Path:
    """Go on with the run in `out` from its newest whole checkpoint, bit for bit; `images`, `minutes` extend it.

    However the session before it ended, what the run leaves is what it would have left uninterrupted: every
    tensor and every value of the last checkpoint, every event, every sample grid; times and rates aside; on the
    same machine with as many threads and processes. An extended run equals a longer one in the same way: what
    only its old end made (a grid and a "final" probe, where none was due) goes; that end's checkpoint may stay.
    UserError if no checkpoint is whole. Under torchrun every process reads `recipe.json`, the writer the rest.
    """
    recipe = sample.read_recipe(out)
    if "seal" in recipe and recipe["seal"] != sample.seal(recipe):
        raise UserError(
            f"--resume {out}: {RECIPE} was changed since zerosum wrote it, so the run would go on as another one; put "
            "back the original, or train anew"
        )
    run = runs.from_json(recipe["run"])
    done = max(checkpoint.numbers(out), default=0)
    if images is not None and images < done:
        raise UserError(f"--images {images}: {out} has seen {done:,} already; give more to make it longer")
    if images is not None or minutes is not None:
        # Whoever makes a run longer that had said it was done wants it to go on.
        ended_itself = distributed.by_writer(lambda: read_status(out)["text"] == CONVERGED)
        until = "length" if ended_itself else run.until
        run = replace(run, images=images, minutes=minutes, until=until)
        if not (run.adam_g.lr(done) or run.adam_d.lr(done)):
            raise UserError(
                f"--resume {out}: its learning rates have come to 0, as its recipe says, so more training would change "
                "nothing; begin a new run with its weights: --from"
            )
    return _play(run, dataset, out, view or SilentView(), device, fresh=False)


def _play(
    run: Run,
    dataset: Dataset | Sides,
    out: Path,
    view: View,
    device_name: str,
    *,
    fresh: bool,
    weights_of: Path | None = None,
) -> Path:
    device = choose_device(device_name)
    joined = distributed.start(device)
    writer = distributed.is_writer()
    if not writer:
        view = SilentView()
    try:
        runs.check(run)
        inference.refuse_narrow(run.precision, dataset.spec)
        # What the machine decides is settled here, written to recipe.json, and used again on resume.
        held_out = held_out_count(len(dataset), run.data)
        run = replace(
            run, data=replace(run.data, held_out=held_out), precision=settled_precision(run.precision),
            memory_format=settled_format(run.memory_format),
            threads=run.threads or torch.get_num_threads(),
        )  # fmt: skip
        training = Training(run, dataset, device, out, view)
        origin = None if weights_of is None else _take_over(training, Origin.of(weights_of))
        lock: Lock | None = None
        outcome = ""

        def take() -> None:
            nonlocal lock
            lock = _take(out, fresh)
            write_recipe(training, fresh, origin)

        try:
            distributed.by_writer(take)
            if not fresh:
                _go_back(training)
            if writer:
                training.log = RunLog(out)
            _announce(training, fresh)
            signals: list[int] = []
            with _status(training, signals), _signals(training, signals), kept_memory():
                outcome = training.train()
            if writer:
                view.finish(_finish(training, outcome))
        except KeyboardInterrupt as stop:
            if lock and (out / RECIPE).exists():
                stop.add_note(_where(out, outcome))
            raise
        finally:
            if lock:
                lock.release()
        return out
    finally:
        view.close()
        if joined:
            distributed.stop()


def check_place(out: Path) -> None:
    """UserError if no new run can be made in the folder `out`. Makes nothing."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--out {out}: {there} is no folder that can be written to; choose another folder")
    _check_free(out)


def _check_free(out: Path) -> None:
    if (out / RECIPE).exists() or checkpoint.numbers(out):
        raise UserError(f"--out {out}: holds a run already; go on with --resume {out}, or choose another folder")


def _take(out: Path, fresh: bool) -> Lock:
    try:
        lock = Lock(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}; choose another folder") from error
    try:
        if fresh:
            _check_free(out)
    except UserError:
        lock.release()
        raise
    for folder in (out, out / "samples", checkpoint.folder(out)):
        atomic.sweep(folder)
    return lock


def data_record(spec: Spec, dataset: Dataset | Sides) -> dict[str, Any]:
    left_out = dataset.skipped if isinstance(dataset, ArrayDataset | Sides) else ()
    return {
        **sample.record_of(spec),
        "class_names": [] if isinstance(dataset, Sides) else list(dataset.class_names),
        "count": len(dataset),
        "fingerprint": dataset.fingerprint,
        "left_out": {"count": len(left_out), "files": [list(file) for file in left_out[:LEFT_OUT]]},
    }


def _take_over(training: Training, origin: Origin) -> dict[str, Any]:
    """Put the last weights of another run, live and averaged, into one that is to begin; where they come from."""
    origin.check_networks(training.players.networks)
    saved = origin.saved
    for name, average in training.ema.items():
        snapshot.fit(average.network, saved.under(f"ema/{name}/"), saved.path)
    for name, network in training.players.networks.items():  # last: an average may share its weights
        snapshot.fit(network, saved.under(f"players/{name}/"), saved.path)
    return {"run": origin.path.resolve().name, "images_seen": origin.seen}


def write_recipe(training: Training, fresh: bool, origin: dict[str, Any] | None = None) -> None:
    """`recipe.json` and what stands beside it; of a run that goes on, UserError if the data do not fit it.

    `origin`: the run whose weights this one begins with.
    """
    out, record = training.out, data_record(training.spec, training.dataset)
    if not fresh:
        before = sample.read_recipe(out)
        known, origin = before["data"], before.get("from")
        for name in ("shape", "classes", "target", "depth", "more_sizes"):
            was, now = known.get(name), record.get(name)
            if was != now:
                raise UserError(
                    f"--resume {out}: the data's {name} was {was} when the run began and is {now} now; its networks "
                    "were built for the old one: give back the old data, or start a new run"
                )
        if known["fingerprint"] != record["fingerprint"]:
            training.view.message(
                f"the data is not what the run began with ({known['count']:,} items then, {record['count']:,} now): "
                "it goes on, but not as it would have",
                "warning",
            )
            record = known
    content: dict[str, Any] = {"format": FORMAT, "run": runs.to_json(training.run), "data": record}
    if origin is not None:
        content["from"] = origin
    content["seal"] = sample.seal(content)
    atomic.write_file(out / RECIPE, json.dumps(content, indent=1).encode())
    atomic.write_file(out / ENVIRONMENT, json.dumps(environment(training.device), indent=1).encode())
    if not (out / REAL).exists():
        real = training.probe.real_values
        image = pictures.grid(real, columns=8) if training.spec.is_image else pictures.scatter(None, real)
        pictures.save_png(image, out / REAL, {"content": "real data"})


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """The machine and the versions that a run was made with."""
    packages = {}
    for name in ("zerosum", "torch", "torchvision", "numpy", "pillow", "safetensors", "scikit-learn", "av"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gigabytes": round(psutil.virtual_memory().total / 2**30, 1),
        "device": str(device or "cpu"),
        "processes": distributed.world(),
        "command": _command(),
        "versions": packages,
    }


def _command() -> str:
    """The command line that made this process, if it was one of zerosum's."""
    program = Path(sys.argv[0])
    if distributed.world() > 1 and program.name == "__main__.py":
        start = ["torchrun", "--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", "1"), "-m"]
    elif program.name.startswith("zerosum") or program.parts[-2:] == ("zerosum", "__main__.py"):
        start = []
    else:
        return ""
    return shlex.join([*start, "zerosum", *sys.argv[1:]])


def _go_back(training: Training) -> None:
    if training.go_back():
        return
    out = training.out

    def begun() -> bool:
        return bool(checkpoint.numbers(out)) or any(e["images_seen"] > 0 for e in read_events(out))

    if distributed.by_writer(begun):
        raise UserError(f"--resume {out}: there is no whole checkpoint; start anew with another --out")
    if "from" in distributed.by_writer(lambda: sample.read_recipe(out)):
        raise UserError(
            f"--resume {out}: ended before its first checkpoint, which was to hold the weights of another run; start "
            "anew with --from and another --out"
        )
    if distributed.is_writer():  # it ended before its first checkpoint: from the beginning
        checkpoint.forget_after(out, -1, lambda number: False)


def _announce(training: Training, fresh: bool) -> None:
    run, spec = training.run, training.spec
    sizes = {name: sum(p.numel() for p in m.parameters()) for name, m in training.players.networks.items()}
    lines = [
        f"data       {run.data.source}: {len(training.dataset):,} of {' x '.join(map(str, spec.shape))}"
        + (f", {spec.classes} classes" if spec.classes else "")
        + (f"; {run.data.held_out:,} held out of training" if run.data.held_out else ""),
        f"algorithm  {type(run.algorithm).__name__}, " + ", ".join(f"{n} {s:,} weights" for n, s in sizes.items()),
        f"machine    {training.device}, {run.precision}, {run.memory_format.replace('_', ' ')}, threads {run.threads}, "
        f"seed {run.seed}",
        f"folder     {training.out}",
    ]
    if not fresh:
        lines.append(f"going on from {training.seen:,} images")
    training.view.start(f"{type(run.algorithm).__name__} on {run.data.source}", lines, run.images, run.minutes)


def _finish(training: Training, outcome: str) -> list[str]:
    """Film and report from what the folder holds; returns where everything is."""
    out = training.out
    frames = grids(out)
    try:
        make_film(out)
        report = write_report(out)
    except OSError as error:
        raise atomic.explain(error, out) from error
    lines = [f"{outcome} at {training.seen:,} images, {training.seconds:,.0f} s"]
    if outcome == "finished" and (young := training.players.young):
        lines.append(
            f"grown      {young.size:.2f} of {young.stages} doublings: its images are coarser than they could be; give "
            "it longer, or let it grow sooner (--algorithm.growth or --algorithm.size-images)"
        )
    if outcome == "stopped":
        lines.append(f"go on      zerosum train --resume {out}")
    if advice := advisor.sentence(read_events(out), checkpoint.numbers(out), training.seconds):
        lines.append(f"advice     {advice}")
    lines += [f"report     {report}", f"samples    {frames[-1] if frames else grid_path(out, training.seen)}"]
    if (out / FILM).exists():
        lines.append(f"film       {out / FILM}, {out / LOOP}")
    return lines


def _where(out: Path, outcome: str) -> str:
    """For who stopped a session at once: where the run stands. `outcome` is empty before its training ended."""
    if outcome == "finished":
        return f"stopped before film and report were written; the run is finished: zerosum report {out}"
    return f"stopped; go on with zerosum train --resume {out}"


def make_film(out: Path) -> None:
    """`film.mp4` and `film.gif` of the fixed latents through training, from the sample grids of a run folder."""
    frames = [path for path in grids(out) if pictures.is_whole(path)]  # the report names those that are not
    if len(frames) < 2:
        return

    def captioned() -> Iterator[Image.Image]:
        for path in frames:
            with Image.open(path) as image:
                yield pictures.caption(image, f"{int(path.stem):,} images seen")

    per_second = max(4, min(24, round(len(frames) / FILM_SECONDS)))
    save_film(captioned(), out / FILM, out / LOOP, frames_per_second=per_second)


@contextmanager
def _status(training: Training, signals: list[int]) -> Iterator[None]:
    """Keep `status.json` true, however the session ends."""
    if not distributed.is_writer():
        yield
        return

    def write(state: State, text: str = "") -> None:
        write_status(training.out, state, training.seen, training.seconds, text)

    try:
        write("running")
        yield
    except BaseException as error:
        try:
            if isinstance(error, KeyboardInterrupt):
                write("stopped", "interrupted")
            else:
                write("failed", str(error) if isinstance(error, UserError) else "crashed")
        except UserError:  # the disk is full: the error that ended the run says so already
            training.view.message(f"{training.out / 'status.json'} could not be written", "warning")
        raise
    if training.finished:
        write("finished", CONVERGED if training.advisor.ends(training.run.until) else "")
    else:
        write("stopped", _asked(signals))


def _asked(signals: list[int]) -> str:
    """Why a run was stopped, for its status: the command's exit status follows from it."""
    return f"stopped by {signal.Signals(signals[0]).name}" if signals else "asked to stop"


@contextmanager
def _signals(training: Training, came: list[int]) -> Iterator[None]:
    """First Ctrl-C or SIGTERM: stop after this step and save. A second Ctrl-C: at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = 0.0

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if training.stop_requested:
            # torchrun passes on the Ctrl-C that the terminal gave to all: the same one, a moment later.
            if number == signal.SIGINT and time.monotonic() - asked > SAME_SECONDS:
                raise KeyboardInterrupt
            return
        training.stop_requested, asked = True, time.monotonic()
        came.append(number)
        training.view.message("stopping after this step, then saving (Ctrl-C again stops at once)", "info")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
