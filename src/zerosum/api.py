"""Training from Python and from the command line: the one way from a wish to a run folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from zerosum import data as data_sets
from zerosum import distributed, recipes, runlog, sample, session
from zerosum import run as runs
from zerosum.data.sides import Sides
from zerosum.data.source import as_seen
from zerosum.data.spec import Data, Dataset
from zerosum.data.split import held_out_part, train_part
from zerosum.engine import choose_device
from zerosum.equilibrium.measure import Equilibrium, Say, measure
from zerosum.errors import UserError
from zerosum.metrics import evidence, sources
from zerosum.metrics.evaluation import Evaluation
from zerosum.metrics.evidence import Record
from zerosum.metrics.report import write_report
from zerosum.networks import Translators
from zerosum.recipes import Choice
from zerosum.run import Run
from zerosum.sample import Model
from zerosum.translation.evaluate import Trial
from zerosum.translation.imported import is_imported
from zerosum.translation.model import of_run
from zerosum.view import SilentView, View, choose_view, progress_bar

FROM_PYTHON = "(from Python)"
"""The source of data that were handed over in Python: no name by which to open them again."""

RUNS = Path("runs")


@dataclass(frozen=True)
class Plan:
    """What is about to be trained, and where."""

    run: Run
    dataset: Dataset | Sides
    out: Path
    weights_of: Path | None = None


def train(
    run: Run | str | Path = "digits",
    *,
    data: Any = None,
    algorithm: str | None = None,
    images: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    view: View | None = None,
    device: str = "auto",
    weights_of: str | Path | None = None,
) -> Model:
    """Train, and return the generator. The call that `zerosum train` makes.

    `run` is a complete `Run`, or the name or path of data for which a recipe is picked. `data`, if given,
    replaces what the run would read: a `Dataset`, an array of images uint8 (N, C, H, W), (N, H, W, C) or
    (N, H, W), a pair (images, labels), or a torch Dataset. `out` is the run's folder (a new one under runs/
    if not given), `view` what to show (what suits the place, if not given; `SilentView()` for nothing),
    `weights_of` the folder of another run, to begin with its last weights: of its game, unless `run` or `algorithm`
    says another of the same networks. Raises UserError, which names arguments as the command does (`weights_of` is
    --from there).
    """
    if not isinstance(weights_of, str | Path | None):
        raise UserError(f"weights_of: {type(weights_of).__name__} is no folder; give the path of the run")
    wanted: dict[str, Any] = {"images": images, "minutes": minutes, "seed": seed}

    def plan() -> Plan:
        dataset: Dataset | Sides | None
        if isinstance(run, Run):
            if algorithm is not None:
                raise UserError(
                    f"algorithm={algorithm}: the run has an algorithm; give a name of data to have one picked"
                )
            chosen, dataset = run, None if data is None else as_dataset(data)
        else:
            dataset = None if data is None else as_dataset(data)
            source = str(run) if data is None else FROM_PYTHON
            choice = pick(
                Data(source=source),
                algorithm=algorithm,
                images=images,
                minutes=minutes,
                device=device,
                dataset=dataset,
                weights_of=None if weights_of is None else Path(weights_of),
            )
            chosen, dataset = choice.run, choice.dataset
        chosen = replace(chosen, **{name: value for name, value in wanted.items() if value is not None})
        if data is not None:
            chosen = replace(chosen, data=replace(chosen.data, source=FROM_PYTHON))
        if dataset is None:
            dataset = open_data(chosen.data)
        begin = None if weights_of is None else Path(weights_of)
        return Plan(chosen, dataset, reserve(chosen) if out is None else Path(out), begin)

    given = None if data is None else lambda: as_dataset(data)
    return sample.load(play(plan, device=device, view=view, dataset=given))


def resume(
    path: str | Path,
    *,
    data: Any = None,
    images: int | None = None,
    minutes: float | None = None,
    view: View | None = None,
    device: str = "auto",
) -> Model:
    """Go on with the run in a folder, bit for bit, and return its generator; `images`, `minutes` extend it.

    `data` is needed, and only needed, if the run was trained on data from Python. Raises UserError.
    """
    return sample.load(play_on(Path(path), data=data, images=images, minutes=minutes, view=view, device=device))


def equilibrium_of(
    path: str | Path,
    *,
    data: Any = None,
    n: int | None = None,
    seed: int = 0,
    quick: bool = False,
    checkpoint: str = "last",
    say: Say = lambda what, done, total: None,
) -> Equilibrium:
    """How near the run in a folder is to equilibrium; writes nothing. The call that `zerosum equilibrium` makes.

    `data` is needed, and only needed, if the run was trained on data from Python. `n` is the largest number of
    images of each kind. Raises UserError.
    """
    path = Path(path)
    run = runs.from_json(sample.read_recipe(path)["run"])
    if data is None and run.data.source == FROM_PYTHON:
        raise UserError(
            f"{path}: its data were handed over in Python; measure it there with "
            f"zerosum.equilibrium_of({str(path)!r}, data=...)"
        )
    dataset = open_data(run.data) if data is None else as_dataset(data)
    return measure(path, dataset, samples=n, seed=seed, quick=quick, which=checkpoint, say=say)


def play(
    plan: Callable[[], Plan],
    *,
    device: str = "auto",
    view: View | None = None,
    dataset: Callable[[], Dataset | Sides] | None = None,
) -> Path:
    """Train what `plan` says. Of several processes one plans; `dataset` opens the data of the others."""
    # Before they join: a plan may try the recipe out, which joined processes would do together.
    mine = plan() if _is_first() else None
    with _together(device):
        shared = distributed.by_writer(lambda: (runs.to_json(mine.run), mine.out, mine.weights_of) if mine else None)
        if mine is None:
            assert shared is not None
            run = runs.from_json(shared[0])
            mine = Plan(run, dataset() if dataset else open_data(run.data), *shared[1:])
        try:
            return session.start(
                mine.run, mine.dataset, mine.out, view=_view(view), device=device, weights_of=mine.weights_of
            )
        finally:
            if distributed.is_writer() and mine.out.is_dir() and not any(mine.out.iterdir()):
                mine.out.rmdir()  # reserved, but the run could not begin


def play_on(
    path: Path,
    *,
    data: Any = None,
    images: int | None = None,
    minutes: float | None = None,
    view: View | None = None,
    device: str = "auto",
) -> Path:
    """Go on with the run in `path`."""
    run = runs.from_json(sample.read_recipe(path)["run"])
    if data is None and run.data.source == FROM_PYTHON:
        raise UserError(
            f"--resume {path}: its data were handed over in Python; go on there with "
            f"zerosum.resume({str(path)!r}, data=...)"
        )

    def dataset() -> Dataset | Sides:
        return open_data(run.data) if data is None else as_dataset(data)

    mine = dataset() if _is_first() else None  # the first packs what is not packed yet, then the others read
    with _together(device):
        distributed.barrier()
        return session.resume(
            path,
            dataset() if mine is None else mine,
            images=images,
            minutes=minutes,
            view=_view(view),
            device=device,
        )


def pick(
    data: Data,
    *,
    algorithm: str | None = None,
    images: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    dataset: Dataset | Sides | None = None,
    adjust: Callable[[Run], Run] = lambda run: run,
    memory_limit: int | None = None,
    out: Path = Path(),
    weights_of: Path | None = None,
) -> Choice:
    """A recipe for these data (see `recipes.pick`), with a progress bar while they are read."""
    with progress_bar(f"reading {data.source}") as tick:
        return recipes.pick(
            data,
            algorithm=algorithm,
            images=images,
            minutes=minutes,
            device=device,
            progress=tick,
            dataset=dataset,
            adjust=adjust,
            memory_limit=memory_limit,
            out=out,
            weights_of=weights_of,
        )


def _view(view: View | None) -> View:
    if view is not None:
        return view
    return choose_view() if distributed.is_writer() else SilentView()


# --- data --------------------------------------------------------------------------------------------------


def open_data(data: Data) -> Dataset | Sides:
    """The data that a recipe names, with a progress bar where it takes long. Raises UserError."""
    with progress_bar(f"reading {data.source}") as tick:
        return data_sets.read(data, tick)


def open_images(data: Data) -> Dataset:
    """The same, of one-sided data."""
    found = open_data(data)
    if isinstance(found, Sides):
        raise UserError(f"{data.source}: has two sides, and one is to be measured; name its folder")
    return found


def as_dataset(data: Any) -> Dataset | Sides:
    """What people have at hand as a Dataset: one already, an array, (images, labels), or a torch Dataset."""
    if isinstance(data, Dataset | Sides):
        return data
    if isinstance(data, np.ndarray):
        return data_sets.from_arrays(data)
    if isinstance(data, tuple) and len(data) == 2:
        return data_sets.from_arrays(*data)
    if isinstance(data, torch.utils.data.Dataset):
        return data_sets.from_torch(data)
    raise UserError(
        f"data: {type(data).__name__} is not understood; give an array of images, (images, labels), "
        "a torch Dataset, or a zerosum Dataset"
    )


def _images(data: Any) -> Dataset:
    found = as_dataset(data)
    if isinstance(found, Sides):
        raise UserError("data: two sides, and images of one are to be measured; give one of them")
    return found


# --- folders -----------------------------------------------------------------------------------------------


def reserve(run: Run, under: Path = RUNS) -> Path:
    """Make the next free folder DATA-ALGORITHM-NUMBER and return it: two processes never get the same."""
    source = run.data.source.rstrip("/\\")
    name = "array" if source == FROM_PYTHON else re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).name.split(".")[0])
    stem = f"{name.strip('-') or 'data'}-{type(run.algorithm).__name__.lower()}"
    pattern = re.compile(re.escape(stem) + r"-(\d+)")
    try:
        under.mkdir(parents=True, exist_ok=True)
        taken = [int(found[1]) for p in under.iterdir() if (found := pattern.fullmatch(p.name))]
        number = max(taken, default=0) + 1
        while True:
            out = under / f"{stem}-{number:03d}"
            try:
                out.mkdir()
            except FileExistsError:  # somebody was quicker
                number += 1
            else:
                return out
    except OSError as error:
        raise UserError(
            f"{under}: no folder can be made there ({error.strerror}); choose a place with --out DIR"
        ) from error


# --- processes ---------------------------------------------------------------------------------------------


@contextmanager
def _together(device: str) -> Iterator[None]:
    """Under torchrun: all processes, joined. Alone: nothing."""
    joined = distributed.start(choose_device(device))
    try:
        yield
        distributed.barrier()  # the first still writes film and report; who leaves before may take its process down
    finally:
        if joined:
            distributed.stop()


def _is_first() -> bool:
    """Whether this is the process that will write (torchrun sets RANK), before the processes have joined."""
    return int(os.environ.get("RANK", "0")) == 0


# --- evidence ----------------------------------------------------------------------------------------------


def evaluate(
    what: Any,
    *,
    against: Any = None,
    n: int | None = None,
    seed: int = 0,
    features: str | None = None,
    quick: bool = False,
    checkpoint: str = "last",
    split: Literal["train", "test", "all"] = "train",
    root: str | None = None,
    cache: bool = True,
    download: bool = False,
    lpips: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Evaluation:
    """Measure generated images against real ones. The call that `zerosum evaluate` makes.

    `what` is a run's folder, a folder, zip or array file of images, or an array; `against` the real images: a name, a
    path or an array. A run is measured against its own data if nothing else is said. `split` and `root` are of
    `against`. `lpips` is of translators of pairs. Nothing leaves the machine. Raises UserError.
    """
    from zerosum.metrics.cache import open_cache
    from zerosum.metrics.evaluate import Settings
    from zerosum.metrics.evaluate import evaluate as measure
    from zerosum.translation.evaluate import evaluate as measure_translations

    settings = Settings(n=n, seed=seed, features=features, quick=quick, download=download, lpips=lpips)
    told, kept = progress or (lambda *_: None), open_cache(keep=cache)
    if isinstance(what, str | Path) and sources.is_run(what):
        run = runs.from_json(sample.read_recipe(Path(what))["run"])
        if isinstance(run.algorithm.networks, Translators):
            if against is not None:
                raise UserError(f"--against {against}: a translator is measured on its own sides; leave it out")
            return measure_translations(_trial(Path(what), run, checkpoint, split), settings, kept, told)
    if isinstance(what, str | Path) and is_imported(Path(what)):
        raise UserError(
            f"{what}: an imported model has no data of its own to be measured on; translate images of one side into a "
            "folder (zerosum translate), then evaluate that folder --against images of the other side"
        )
    if lpips:
        raise UserError(f"--lpips: compares translations with the truth, and {what} is not a translator's run")
    named = isinstance(against, str | Path)
    handed_over = None if against is None or named else _images(against)
    fakes = own = None
    if isinstance(what, str | Path) and sources.is_run(what):
        fakes, own = sources.of_run(Path(what), checkpoint)
    if against is not None:
        data = Data(source=str(against) if named else FROM_PYTHON, split=split, root=root)
    elif own is not None:
        data = replace(own, split=split, root=root or own.root)
    else:
        raise UserError(f"--against is missing: {what} is not a run, so say which real images to measure it against")
    if data.source == FROM_PYTHON and handed_over is None:
        raise UserError(f"{what}: its data were handed over in Python; give them with against=")
    if fakes is None or own is None:
        real = sources.reals(data, open_images, handed_over)
        if isinstance(what, str | Path):
            fakes = sources.of_data(Data(source=str(what)), open_images, real.train)
        else:
            fakes = sources.of_dataset(_images(what), "array", real.train)
    elif (data.source, data.split) == (own.source, own.split):
        real = sources.reals(replace(own, root=root or own.root), open_images, handed_over)
    else:  # other images than it was trained on: all of them to compare with, its own to look for copies in
        like = replace(data, size=own.size, longest=own.longest, channels=own.channels, fit=own.fit, held_out=0)
        spec = sample.spec_of(sample.read_recipe(Path(what))["data"])
        if spec.is_image and handed_over is None:
            like = as_seen(like, spec)
        originals = None if own.source == FROM_PYTHON else sources.reals(own, open_images)
        real = sources.reals(like, open_images, handed_over, originals)
    return measure(real, fakes, settings, kept, told)


def _trial(path: Path, run: Run, checkpoint: str, split: Literal["train", "test", "all"]) -> Trial:
    """A run of a translator, and images of both sides that it never saw: held out of training, or the test split."""
    if run.data.source == FROM_PYTHON:
        raise UserError(f"{path}: its data were handed over in Python; translate and compare them there")
    if split == "test" and run.data.split != "train":
        raise UserError(f"--split test: {path} was trained on --split {run.data.split}, so it knows them; leave it out")
    translator = of_run(path, checkpoint, "fp32")
    data = replace(run.data, jitter=0)  # as translate sees them, not cut out of larger ones
    whole = open_data(data)
    assert isinstance(whole, Sides)
    unseen: Dataset | Sides | None = held_out_part(whole, run.data)
    words = "held out of training"
    if split == "test":
        a, _ = whole.spec.sides
        unseen, words = open_data(replace(data, split="test", size=a.shape[1:], limit=None)), "test split"  # type: ignore[arg-type]
    if not isinstance(unseen, Sides):
        raise UserError(
            f"{path}: no images were held out of training, so there is nothing to measure on; give --split test if the "
            "data have one, or train with --held-out"
        )
    seen = int(translator.origin["images_seen"])
    return Trial(
        translator, train_part(whole, run.data), unseen, f"{path.name} at {seen:,} images",
        f"{run.data.source}, {words}", seen,
        selection="the best checkpoint by the probe" if checkpoint == "best" and split != "test" else "none",
    )  # fmt: skip


def compare(
    *paths: str | Path, evaluated: Mapping[str, Any] | None = None
) -> tuple[dict[str, Record], tuple[str, ...]]:
    """The evaluations of some runs by their names, and the measurements that they share.

    Runs that have none yet are evaluated now, with the options `evaluated` of `evaluate`. Raises UserError, naming the
    field, if two were not measured alike.
    """
    if len(paths) < 2:
        raise UserError(f"{len(paths)} runs: comparing needs two or more")
    if not (evaluated or {}).get("against"):
        _of_the_same_data([path for path in map(Path, paths) if evidence.read(path / runlog.EVALUATION) is None])
    records: dict[str, Record] = {}
    for path in map(Path, paths):
        record = evidence.read(path / runlog.EVALUATION)
        if record is None:
            sample.read_recipe(path)
            keep(evaluate(path, **(evaluated or {})), path)
            record = evidence.read(path / runlog.EVALUATION)
            assert record is not None
        records[str(path)] = record
    return records, evidence.alike(records)


def _of_the_same_data(runs: list[Path]) -> None:
    """UserError, before anything is measured, if runs that are to be evaluated were trained on different data."""
    known = [(run, sample.read_recipe(run)) for run in runs]
    for run, recipe in known[1:]:
        first, before = known[0]
        if recipe["data"]["fingerprint"] != before["data"]["fingerprint"]:
            names = (before["run"]["data"]["source"], recipe["run"]["data"]["source"])
            raise UserError(
                f"{first} and {run}: trained on different data ({names[0]} and {names[1]}), so their numbers do not "
                "compare; evaluate each --against the same data first, if that makes sense"
            )


def has_fuller(run: Path, evaluation: Evaluation) -> bool:
    """Whether this is a quick look and the run's folder holds a full evaluation of the same weights."""
    try:
        known = evidence.read(run / runlog.EVALUATION)
    except UserError:  # damaged, or of another version: it is to be made anew anyhow
        return False
    if known is None or not evaluation.quick:
        return False
    return known.content.get("images_seen") == evaluation.images_seen and not known.content.get("quick", False)


def keep(evaluation: Evaluation, run: Path) -> Path:
    """Write an evaluation into its run's folder, where `compare` finds it, and the report anew; returns its path."""
    for found in evaluation.directions:
        evidence.write_rows(found, evaluation.what, run / runlog.ROWS[found.direction])
    evidence.write(evaluation, run / runlog.EVALUATION)
    if evaluation.pairs is not None:
        evidence.write_pairs(evaluation.pairs, run / runlog.NEAREST)
    return write_report(run)
