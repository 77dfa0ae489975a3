"""The same recipe with several seeds: one run says little (Lucic et al. 2018, arXiv:1711.10337)."""

from __future__ import annotations

import csv
import html
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from zerosum import atomic, sample
from zerosum import run as runs
from zerosum.api import FROM_PYTHON, Plan, as_dataset, open_data, play, play_on
from zerosum.errors import UserError
from zerosum.run import Run
from zerosum.runlog import RECIPE, read_events, read_status
from zerosum.view import View

TABLE = "sweep.csv"
COLUMNS = (
    "seed", "state", "images_seen", "seconds", "distance_last", "distance_best",
    "diversity_last", "accuracy_real_last", "accuracy_fake_last", "skipped",
)  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """A row per seed, then mean and standard deviation. Prints, and shows itself in a notebook."""

    rows: tuple[dict[str, Any], ...]
    out: Path

    def mean(self, column: str) -> float:
        """Over the seeds that have it; NaN if none has."""
        values = self._values(column)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, column: str) -> float:
        """The standard deviation over the seeds (n - 1 in the denominator); NaN for fewer than two."""
        values = self._values(column)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def _values(self, column: str) -> list[float]:
        return [float(row[column]) for row in self.rows if row[column] is not None]

    def cells(self) -> list[list[str]]:
        """The table as text: header, one row per seed, mean, standard deviation."""
        numbers = [c for c in COLUMNS if c not in ("seed", "state")]
        return [
            list(COLUMNS),
            *([_text(row[c]) for c in COLUMNS] for row in self.rows),
            ["mean", "", *(_text(self.mean(c)) for c in numbers)],
            ["deviation", "", *(_text(self.deviation(c)) for c in numbers)],
        ]

    def __str__(self) -> str:
        cells = self.cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
        return "\n".join("  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in cells)

    def _repr_html_(self) -> str:
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self.cells())
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def sweep(
    run: Run,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    out: str | Path,
    data: Any = None,
    view: View | None = None,
    device: str = "auto",
) -> Sweep:
    """Train `run` with each seed, in `out`/seed-N, and write `out`/sweep.csv after each.

    Seeds that are finished are not trained again, and one that was stopped goes on: call it again to complete
    the table. UserError if `out` holds runs of another recipe.
    """
    folder = Path(out)
    if len(set(seeds)) != len(seeds) or not seeds:
        raise UserError(f"seeds={list(seeds)}: give one or more, each once")
    if data is not None:
        run = replace(run, data=replace(run.data, source=FROM_PYTHON))
    dataset = open_data(run.data) if data is None else as_dataset(data)
    for number, seed in enumerate(seeds):
        one, place = replace(run, seed=seed), folder / f"seed-{seed}"
        if not (place / RECIPE).exists():
            plan = partial(Plan, one, dataset, place)
            play(plan, device=device, view=view, dataset=lambda: dataset)
        else:
            _same(one, place)
            if read_status(place)["state"] != "finished":
                play_on(place, data=dataset, view=view, device=device)
        table = Sweep(tuple(_row(s, folder / f"seed-{s}") for s in seeds[: number + 1]), folder)
        _write(table)
        if table.rows[-1]["state"] == "stopped":  # somebody asked this run to stop: the sweep, too
            break
    return table


def _same(run: Run, place: Path) -> None:
    """UserError if the run there has another recipe. What the machine decided does not count."""
    there = runs.from_json(sample.read_recipe(place)["run"])
    data = replace(there.data, held_out=run.data.held_out)
    there = replace(there, threads=run.threads, precision=run.precision, memory_format=run.memory_format)
    if replace(there, data=data) != run:
        raise UserError(f"out={place.parent}: {place.name} was trained with another recipe; choose another folder")


def _row(seed: int, place: Path) -> dict[str, Any]:
    status, events = read_status(place), read_events(place)
    probes = [e for e in events if e["event"] == "probe"]
    progress = [e for e in events if e["event"] == "progress"]
    probe, last = (probes or [{}])[-1], (progress or [{}])[-1]
    distances = [e["distance"] for e in probes if "distance" in e]
    values = (
        seed, status["state"], status["images_seen"], round(status["seconds"], 1),
        probe.get("distance"), min(distances, default=None), probe.get("diversity"),
        last.get("accuracy/real"), last.get("accuracy/fake"), last.get("skipped"),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _write(table: Sweep) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    atomic.write_file(table.out / TABLE, text.getvalue().encode())


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
