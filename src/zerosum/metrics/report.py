"""The report: one page about a run that stands alone, made from the files of its folder and nothing else.

Whatever is missing, damaged or half-written is left out and named on the page: a run that was killed has a
right to its report too.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from zerosum import atomic
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
POINTS = 400  # of a curve: more cannot be seen
SMOOTH_FROM = 40  # points: a curve of so many gets its local mean drawn over it
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: for every kind of colour vision
INK, RULE = "#010203", "#040506"  # stand for the page's own text and line colours, which differ by night
STYLES = ("-", "--", ":", "-.")

Series = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Chart:
    """Curves in one picture. `keys`: names in the log, or a prefix with its slash; `level`: a line across."""

    title: str
    keys: tuple[str, ...]
    reading: str
    names: dict[str, str] = field(default_factory=dict)
    level: tuple[float, str] | None = None
    span: tuple[float | None, float | None] = (None, None)
    percent: bool = False


CHARTS = (
    Chart(
        "D's accuracy",
        ("accuracy/real", "accuracy/fake"),
        "At 50 % D can only guess: it no longer tells generated from real. Near 100 % on both, D wins and "
        "G has little to learn from; one high and one low: D calls nearly everything real, or nearly "
        "everything fake.",
        {"accuracy/real": "on real images", "accuracy/fake": "on generated images"},
        (0.5, "50 %"),
        (0.0, 1.02),
        percent=True,
    ),
    Chart(
        "Losses",
        ("loss/",),
        "The players pull against each other, so these need not fall: what matters is that none runs away.",
    ),
    Chart(
        "Diversity",
        ("diversity",),
        "How much generated images differ among themselves, relative to real ones (1 is alike). "
        "A fall towards 0 is collapse.",
        {"diversity": "spread relative to real"},
        (1.0, "real"),
        (0.0, None),
    ),
    Chart(
        "Distance to the real data",
        ("kernel_distance",),
        "A quick kernel distance on few samples, in simple features: lower is nearer. Good for choosing "
        "among the checkpoints of this run, not for comparing with anything else.",
        {"kernel_distance": "kernel distance"},
    ),
    Chart(
        "Speed",
        ("images_per_second",),
        "Real images that D saw in a second.",
        {"images_per_second": "images per second"},
        span=(0.0, None),
    ),
)


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run folder and return its path. Reads only files of that folder.

    Raises UserError if the disk is full. What is missing or damaged in the folder is said on the page.
    """
    page = _Page(run_dir)
    template = files("zerosum.metrics").joinpath("report.html").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
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
        series = _series(events)
        charts = [drawn for chart in CHARTS if (drawn := _drawn(chart, series))]
        frames = [image for path in _spread(grids(self.run)) if (image := self._image(path, STAGE_SIDE))]
        return {
            "title": _title(recipe, self.run.resolve().name),
            "folder": self.run.resolve().name,
            "facts": self._facts(events, recipe),
            "newest": self._newest(),
            "real": self._image(self.run / REAL, IMAGE_SIDE) if self._there(REAL) else None,
            "film": self._film(),
            "stages": frames if len(frames) > 1 else [],
            "charts": charts,
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
        seen = max((int(v) for e in events if (v := _finite(e.get("images_seen"))) is not None), default=None)
        seconds = next((v for e in reversed(rows) if (v := _finite(e.get("seconds"))) is not None), None)
        skipped = next((v for e in reversed(rows) if (v := _finite(e.get("skipped"))) is not None), 0.0)
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


def _finite(value: Any) -> float | None:
    """The number, if it is one."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


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
    seen = _finite(event.get("images_seen"))
    return {
        "seen": "" if seen is None else f"{seen:,.0f}",
        "kind": str(event["event"]),
        "text": str(event.get("text", "")),
    }


def _spread(paths: list[Path]) -> list[Path]:
    """STAGES of them, evenly, first and last included."""
    last = len(paths) - 1
    return paths if last < STAGES else [paths[round(i * last / (STAGES - 1))] for i in range(STAGES)]


# --- curves -----------------------------------------------------------------------------------------------


def _series(events: list[dict[str, Any]]) -> Series:
    """Every number in the log by its name, over images seen. Where a run went back, the undone part goes."""
    series: Series = {}
    for event in events:
        seen = _finite(event.get("images_seen"))
        if event.get("event") not in ("progress", "probe") or seen is None:
            continue
        for name, value in event.items():
            number = _finite(value)
            if name == "images_seen" or number is None:
                continue
            points = series.setdefault(name, [])
            while points and points[-1][0] >= seen:
                points.pop()
            points.append((seen, number))
    return series


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most POINTS points: means over equal numbers of neighbours."""
    size = math.ceil(len(points) / POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _smooth(values: tuple[float, ...]) -> list[float]:
    """Means over about a twentieth of the curve around each point; a short curve stays as it is."""
    reach = len(values) // 40 if len(values) >= SMOOTH_FROM else 0
    total = list(itertools.accumulate(values, initial=0.0))
    spans = ((max(0, i - reach), min(len(values), i + reach + 1)) for i in range(len(values)))
    return [(total[b] - total[a]) / (b - a) for a, b in spans]


def _drawn(chart: Chart, series: Series) -> dict[str, Any] | None:
    keys = [
        name
        for key in chart.keys
        for name in sorted(series)
        if name == key or (key[-1] == "/" and name.startswith(key))
    ]
    if not keys:
        return None
    lines = [_thinned(series[key]) for key in keys]
    legend = []
    for i, key in enumerate(keys):
        last = series[key][-1][1]
        legend.append(
            {
                "name": chart.names.get(key, key.rsplit("/", 1)[-1]),
                "last": f"{100 * last:.0f} %" if chart.percent else f"{last:,.4g}",
                "colour": f"c{i % len(COLOURS)}",
                "dash": ("", "6 3", "2 3", "6 2 2 2")[i % len(STYLES)],
            }
        )
    label = f"{chart.title} over images seen; at the end: " + ", ".join(
        f"{k['name']} {k['last']}" for k in legend
    )
    return {
        "title": chart.title,
        "reading": chart.reading,
        "legend": legend,
        "label": label,
        "svg": Markup(_svg(chart, lines)),
        "smooth": any(len(line) >= SMOOTH_FROM for line in lines),
    }


def _svg(chart: Chart, lines: list[list[tuple[float, float]]]) -> str:
    """The curves as an inline SVG whose colours follow the page. No text of the user's goes in."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

    settings: Any = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), RULE),
        "svg.fonttype": "none", "svg.hashsalt": chart.title, "font.size": 9, "grid.linewidth": 0.5,
        "axes.formatter.useoffset": False, "text.parse_math": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(4.8, 2.3))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.1, 0.19, 0.82, 0.78))
        for i, points in enumerate(lines):
            x, y = zip(*points, strict=True)
            colour, style, marker = (
                COLOURS[i % len(COLOURS)],
                STYLES[i % len(STYLES)],
                "o" if len(x) == 1 else "",
            )
            if len(x) >= SMOOTH_FROM:
                axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.35)
            axes.plot(x, _smooth(y), style, color=colour, linewidth=1.7, marker=marker, markersize=4)
        if chart.level:
            axes.axhline(chart.level[0], color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                chart.level[1], (1, chart.level[0]), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_ylim(*chart.span)
        axes.grid(axis="y")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel("images seen")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if chart.percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every figure, where a page may have each once
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = svg.replace("xlink:href", "href")
    for i, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{i})")
    return svg.replace(INK, "currentColor").replace(RULE, "var(--rule)")
