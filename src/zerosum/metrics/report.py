"""The report: one page about a run that stands alone, made from the files of its folder and nothing else.

Whatever is missing, damaged or half-written is left out and named on the page: a run that was killed has a
right to its report too.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from zerosum import atomic
from zerosum.metrics.curves import charts, finite
from zerosum.runlog import (
    ENVIRONMENT,
    EVENTS,
    FILM,
    LOOP,
    REAL,
    RECIPE,
    REPORT,
    STATUS,
    grids,
    read_events,
    read_status,
)
from zerosum.view import clock

EMBED_FILM_BYTES = 8_000_000  # a browser opens a page with a film of this size at once
IMAGE_SIDE, STAGE_SIDE, STAGES = 1200, 360, 4


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run folder and return its path. Reads only files of that folder.

    Raises UserError if the disk is full. What is missing or damaged in the folder is said on the page.
    """
    page = _Page(run_dir)
    template = files("zerosum.metrics").joinpath("report.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(template).render(**page.content())
    path = run_dir / REPORT
    atomic.write_file(path, html.encode("utf-8", "replace"))  # a folder's name need not be valid Unicode
    return path


class _Page:
    """Reads a run folder, keeping note of what could not be read."""

    def __init__(self, run: Path):
        self.run = run
        self.notes: list[str] = []

    def content(self) -> dict[str, Any]:
        recipe, environment = self._json(RECIPE), self._json(ENVIRONMENT)
        events = self._events()
        frames = [image for path in _spread(grids(self.run)) if (image := self._image(path, STAGE_SIDE))]
        return {
            "title": _title(recipe, self.run.resolve().name),
            "folder": self.run.resolve().name,
            "facts": self._facts(events, recipe),
            "newest": self._newest(),
            "real": self._image(self.run / REAL, IMAGE_SIDE) if self._there(REAL) else None,
            "film": self._film(),
            "stages": frames if len(frames) > 1 else [],
            "charts": charts(events),
            "messages": [_message(e) for e in events if e.get("event") in ("warning", "error", "note")],
            "command": _command(environment),
            "recipe": list(_flat(recipe)),
            "environment": list(_flat(environment)),
            "notes": self.notes,
        }

    def _there(self, name: str) -> bool:
        if (self.run / name).exists():
            return True
        self.notes.append(f"{name} is not there")
        return False

    def _json(self, name: str) -> dict[str, Any]:
        if not self._there(name):
            return {}
        try:
            value = json.loads((self.run / name).read_text("utf-8"))
        except (ValueError, OSError) as error:
            self.notes.append(f"{name} cannot be read: {error}")
            return {}
        return value if isinstance(value, dict) else {"": value}

    def _events(self) -> list[dict[str, Any]]:
        if not self._there(EVENTS):
            return []
        events = read_events(self.run)
        with open(self.run / EVENTS, "rb") as file:
            cut = sum(1 for line in file if line.strip()) - len(events)
        if cut > 0:
            self.notes.append(f"{EVENTS}: {cut} line{'s' if cut > 1 else ''} cut off or damaged, left out")
        return events

    def _facts(self, events: list[dict[str, Any]], recipe: dict[str, Any]) -> list[tuple[str, str]]:
        rows = [e for e in events if e.get("event") == "progress"]
        seen = max((int(v) for e in events if (v := finite(e.get("images_seen"))) is not None), default=None)
        seconds = next((v for e in reversed(rows) if (v := finite(e.get("seconds"))) is not None), None)
        skipped = next((v for e in reversed(rows) if (v := finite(e.get("skipped"))) is not None), 0.0)
        facts = [("state", self._state(events))]
        if seen is not None:
            facts.append(("images seen", f"{seen:,}"))
        if seconds is not None:
            facts.append(("training time", clock(seconds)))
        if seen and seconds:
            facts.append(
                (
                    "images a second",
                    f"{seen / seconds:,.0f}" if seen > 10 * seconds else f"{seen / seconds:.2g}",
                )
            )
        if count := sum(e.get("event") in ("warning", "error") for e in events):
            facts.append(("health messages", f"{count:,}"))
        if skipped:
            facts.append(("updates skipped", f"{skipped:,.0f}"))
        data = recipe.get("data")
        if isinstance(data, dict) and isinstance(data.get("count"), int):
            facts.append(("training images", f"{data['count']:,}"))
        return facts

    def _state(self, events: list[dict[str, Any]]) -> str:
        if any(e.get("event") == "finished" for e in events):
            return "finished"
        if not (self.run / STATUS).exists():
            return "not finished"
        try:
            status = read_status(self.run)
            return ": ".join(str(status[key]) for key in ("state", "text") if status.get(key))
        except (KeyError, TypeError):
            self.notes.append(f"{STATUS} is damaged")
            return "not known"

    def _newest(self) -> dict[str, Any] | None:
        for path in reversed(grids(self.run)):  # a damaged one gives way to the one before
            if image := self._image(path, IMAGE_SIDE):
                return image
        self.notes.append("there is no sample grid yet")
        return None

    def _image(self, path: Path, side: int) -> dict[str, Any] | None:
        """A PNG as data, made smaller if a side is longer than `side`."""
        try:
            data = path.read_bytes()
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                image.load()
                if max(image.size) > side:
                    image.thumbnail((side, side))
                    out = io.BytesIO()
                    image.save(out, "PNG")
                    data = out.getvalue()
                size = image.size
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:  # PIL raises them all
            note = f"{path.name} cannot be read: {error}"
            self.notes += [] if note in self.notes else [note]
            return None
        seen = int(path.stem) if path.stem.isdigit() else 0
        return {"src": _data(data, "image/png"), "width": size[0], "height": size[1], "seen": f"{seen:,}"}

    def _film(self) -> dict[str, str] | None:
        for name, kind in ((FILM, "video/mp4"), (LOOP, "image/gif")):
            path = self.run / name
            if not path.exists():
                continue
            size = path.stat().st_size
            if 0 < size <= EMBED_FILM_BYTES:
                return {"kind": kind, "src": _data(path.read_bytes(), kind)}
            self.notes.append(f"{name} ({size / 1e6:.1f} MB) is not in this page: watch it in the run folder")
        return None


def _data(data: bytes, kind: str) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")


def _title(recipe: dict[str, Any], folder: str) -> str:
    inner = recipe.get("run")
    run = inner if isinstance(inner, dict) else recipe
    algorithm, data = run.get("algorithm"), run.get("data")
    kind = algorithm.get("kind") if isinstance(algorithm, dict) else algorithm
    source = data.get("source") if isinstance(data, dict) else data
    return f"{kind} on {source}" if isinstance(kind, str) and isinstance(source, str) else folder


def _command(environment: dict[str, Any]) -> str:
    """The command that made the run, if it was one that can make it again."""
    command = environment.get("command")
    return command if isinstance(command, str) and "--resume" not in command else ""


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested dictionary as rows: dotted name, value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _message(event: dict[str, Any]) -> dict[str, str]:
    seen = finite(event.get("images_seen"))
    return {
        "seen": "" if seen is None else f"{seen:,.0f}",
        "kind": str(event["event"]),
        "text": str(event.get("text", "")),
    }


def _spread(paths: list[Path]) -> list[Path]:
    """STAGES of them, evenly, first and last included."""
    last = len(paths) - 1
    return paths if last < STAGES else [paths[round(i * last / (STAGES - 1))] for i in range(STAGES)]
