"""The curves of a run, drawn from its log as inline SVG in the colours of the page that holds them."""

from __future__ import annotations

import io
import itertools
import math
import re
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

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
        "Distance to held-out images",
        ("distance",),
        "How far generated images are from real ones that are not trained on, in whitened simple features: lower is "
        "nearer. What the stop advisor goes by.",
        {"distance": "Frechet distance"},
        span=(0.0, None),
    ),
    Chart(
        "D's memory",
        ("overfitting",),
        "How much surer D is of its training images than of real ones it has never seen. At 0 it treats them alike; "
        "near 1 it knows its images by heart, and what it teaches G is to copy them.",
        {"overfitting": "surer of training images"},
        (0.0, "fair"),
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


def charts(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of CHARTS that the log has numbers for, drawn: what the page's template shows of each."""
    series = _series(events)
    return [drawn for chart in CHARTS if (drawn := _drawn(chart, series))]


def finite(value: Any) -> float | None:
    """The number, if it is one."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _series(events: list[dict[str, Any]]) -> Series:
    """Every number in the log by its name, over images seen. Where a run went back, the undone part goes."""
    series: Series = {}
    for event in events:
        seen = finite(event.get("images_seen"))
        if event.get("event") not in ("progress", "probe") or seen is None:
            continue
        for name, value in event.items():
            number = finite(value)
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
    label = f"{chart.title} over images seen; at the end: " + ", ".join(f"{k['name']} {k['last']}" for k in legend)
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
