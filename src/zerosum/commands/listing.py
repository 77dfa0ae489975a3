"""`zerosum list`: the runs of a folder, at a glance."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from zerosum.commands.base import Command
from zerosum.errors import UserError
from zerosum.parsing import colour_wanted
from zerosum.runlog import RECIPE, STATUS, read_events, read_status

COLOURS = {"running": "cyan", "finished": "green", "stopped": "yellow", "failed": "red", "unreadable": "red"}


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """List the runs of a folder with their state.

    The score is the smallest kernel distance that the run logged: smaller is better, and comparable for the
    same data only.
    """

    examples: ClassVar[tuple[str, ...]] = ("zerosum list", "zerosum list ~/experiments --json")

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="[DIR]")] = Path("runs")
    """The folder that holds run folders, or is one."""
    json: bool = False
    """Print a JSON list instead of a table."""

    def run(self) -> int:
        if not self.folder.is_dir():
            if self.folder != Path("runs"):
                raise UserError(f"{self.folder}: there is no such folder; name the one that holds your runs")
            rows = []
        else:
            rows = find(self.folder)
        if self.json:
            print(json.dumps(rows, indent=1))
        elif rows:
            print(_table(rows), end="")
        else:
            print(f"no runs in {self.folder}; zerosum train digits makes one", file=sys.stderr)
        return 0


def find(folder: Path) -> list[dict[str, Any]]:
    """One record per run folder in `folder`, by name; a broken one is there with state "unreadable"."""
    inside = [folder] if (folder / RECIPE).exists() else sorted(p for p in folder.iterdir() if (p / RECIPE).exists())
    return [_row(path) for path in inside]


def _row(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"run": str(path), "state": "unreadable"}
    try:
        recipe = json.loads((path / RECIPE).read_text(encoding="utf-8"))
        status = read_status(path)
        scores = [e["distance"] for e in read_events(path) if e.get("event") == "probe" and "distance" in e]
        stamp = path / STATUS if (path / STATUS).exists() else path / RECIPE
        return row | {
            "data": str(recipe["run"]["data"]["source"]),
            "algorithm": str(recipe["run"]["algorithm"]["kind"]),
            "images_seen": int(status["images_seen"]),
            "minutes": round(float(status["seconds"]) / 60, 2),
            "score": min(map(float, scores)) if scores else None,
            "when": datetime.fromtimestamp(stamp.stat().st_mtime).astimezone().isoformat(timespec="seconds"),
            "text": str(status["text"]),
            "state": str(status["state"]),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return row | {"text": f"{type(error).__name__}: {error}"}


def _table(rows: list[dict[str, Any]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("run", "state", "data", "algorithm"):
        table.add_column(name, overflow="fold")
    for name in ("images", "minutes", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True)
    for row in rows:
        state = Text(row["state"], COLOURS.get(row["state"], ""))
        if "data" not in row:
            table.add_row(Text(row["run"]), state)
            continue
        score = "" if row["score"] is None else f"{row['score']:.4g}"
        when = row["when"][:16].replace("T", " ")
        table.add_row(
            Text(row["run"]), state, Text(row["data"]), Text(row["algorithm"]), f"{row['images_seen']:,}",
            f"{row['minutes']:.1f}", score, when,
        )  # fmt: skip
    looked_at = sys.stdout.isatty()
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=colour_wanted(sys.stdout), width=None if looked_at else 240, highlight=False,
        color_system="auto" if colour_wanted(sys.stdout) else None,
    )  # fmt: skip
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().strip("\n").splitlines()) + "\n"
