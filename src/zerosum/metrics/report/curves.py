"""The curves of a run, from its log and its other records: as numbers, and as inline SVG in the colours of the page."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from markupsafe import Markup

from zerosum.equilibrium.advisor import CHANCE
from zerosum.metrics.report.fields import finite
from zerosum.metrics.report.records import Advice, Regret
from zerosum.view import words

POINTS = 400  # of a curve: more cannot be seen
SMOOTH_FROM = 40  # points: a curve of so many gets its local mean drawn over it
WIDE = 1.96  # standard errors to each side: a band of 95 %
SPREAD = 5.0  # a curve whose values differ by a larger factor, all above 0, is drawn on a logarithmic scale
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: for every kind of colour vision
AT_FLOOR = "At the line, generated images are as near as real training images are."
INK, RULE = "#010203", "#040506"  # stand for the page's own text and line colours, which differ by night
STYLES = ("-", "--", ":", "-.")
DASHES = ("", "6 3", "2 3", "6 2 2 2")  # the same for the legend


class Point(NamedTuple):
    """One value of a curve, and the ends of its 95 % interval if it has one."""

    images_seen: float
    value: float
    low: float | None = None
    high: float | None = None


Series = dict[str, list[Point]]


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
    falls: bool = False
    """Whether it falls by large factors when all goes well, and may be drawn on a logarithmic scale."""
    advised: bool = False
    """Whether the stop advisor's best moment and its forecast are marked."""
    floor: str = ""
    """The name in the log of what real data would have: the line across, where it is known."""


@dataclass(frozen=True)
class Line:
    """One curve of a chart; `key` is its name in the log."""

    key: str
    name: str
    points: tuple[Point, ...]

    @property
    def banded(self) -> bool:
        return any(p.low is not None for p in self.points)


@dataclass(frozen=True)
class Curves:
    """A chart with its numbers."""

    chart: Chart
    lines: tuple[Line, ...]
    end: float
    """Images seen where the run's longest curve ends, and so the axis of each."""
    best: int | None = None
    """Images seen of the best moment, where the chart marks it."""
    forecast: Point | None = None
    """What the stop advisor expects, where the chart shows it."""

    def shown(self, value: float) -> str:
        return words.percent(value) if self.chart.percent else f"{value:,.4g}"

    @property
    def label(self) -> str:
        """The chart in words, for those who do not see it."""
        ends = ", ".join(f"{line.name} {self.shown(line.points[-1].value)}" for line in self.lines)
        return f"{self.chart.title} over images seen; at the end: {ends}"

    @property
    def legend(self) -> list[dict[str, str]]:
        return [
            {"name": line.name, "last": self.shown(line.points[-1].value), "colour": f"c{i % len(COLOURS)}",
             "dash": DASHES[i % len(DASHES)]}
            for i, line in enumerate(self.lines)
        ]  # fmt: skip

    @property
    def smooth(self) -> bool:
        return any(len(_thinned(line.points)) >= SMOOTH_FROM for line in self.lines)

    @property
    def banded(self) -> bool:
        return any(line.banded for line in self.lines)

    @property
    def svg(self) -> Markup:
        return Markup(_svg(self))

    def to_json(self) -> dict[str, Any]:
        level = self.chart.level
        return {
            "title": self.chart.title,
            "reading": self.chart.reading,
            "level": level and {"value": level[0], "name": level[1]},
            "best": self.best,
            "forecast": self.forecast and list(self.forecast),
            "lines": [
                {"key": line.key, "name": line.name, "points": [list(p) for p in _thinned(line.points)]}
                for line in self.lines
            ],
        }


CHARTS = (
    Chart(
        "Distance to real images",
        ("distance",),
        "How far generated images are from real ones, held out of training where there are enough, in whitened simple "
        "features: lower is nearer. What the stop advisor goes by; not for comparing with anything but this run.",
        {"distance": "Frechet distance"},
        falls=True,
        advised=True,
        floor="floor",
    ),
    Chart(
        "Kernel distance",
        ("kernel_distance",),
        "A quick kernel distance on few samples, in simple features. It is unbiased, so where the samples are as near "
        "as real ones it wanders about 0.",
        {"kernel_distance": "kernel distance"},
        (0.0, "real"),
    ),
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
        "Diversity",
        ("diversity",),
        "How much generated images differ among themselves, relative to real ones (1 is alike); in a game of classes "
        "those of a class, if that is less. A fall towards 0 is collapse.",
        {"diversity": "spread relative to real"},
        (1.0, "real"),
        (0.0, None),
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
        "Error of translations",
        ("l1", "cycle"),
        "The mean difference of pixels, of a range of 1: of translations from what they should be, where that is "
        "known, and of images that went there and back from what they were.",
        {"l1": "from the target", "cycle": "there and back"},
        span=(0.0, None),
    ),
    Chart(
        "Chance of a better score",
        ("chance_of_better",),
        "What the stop advisor thought at the time: the chance that training on would still bring a better score.",
        {"chance_of_better": "chance"},
        (CHANCE, words.percent(CHANCE)),
        (0.0, 1.02),
        percent=True,
    ),
    Chart(
        "Regret",
        ("regret/",),
        "What each player still gains by extra turns while the other stands still, in units of its loss. At an "
        "equilibrium nobody gains: both are 0 within their bands.",
        {"regret/D": "D gains", "regret/G": "G gains", "regret/gap": "together (duality gap)"},
        (0.0, "none"),
    ),
    Chart(
        "Losses",
        ("loss/",),
        "The players pull against each other, so these need not fall: what matters is that none runs away.",
    ),
    Chart(
        "Speed",
        ("images_per_second",),
        "Real images that D saw in a second.",
        {"images_per_second": "images per second"},
        span=(0.0, None),
    ),
)


def curves(events: list[dict[str, Any]], regrets: Iterable[Regret] = (), advice: Advice | None = None) -> list[Curves]:
    """Those of CHARTS that there are numbers for, in their order."""
    known, later = series(events), _regrets(regrets)
    for name, points in later.items():  # of two curves of one thing, the one that was followed more closely
        known[name] = max(known.get(name, []), points, key=len)
    end = max((points[-1].images_seen for points in known.values()), default=0.0)
    found = []
    for chart in CHARTS:
        keys = [
            name
            for key in chart.keys
            for name in sorted(known)
            if name == key or (key[-1] == "/" and name.startswith(key))
        ]
        if chart.floor in known:
            chart = replace(chart, level=(known[chart.floor][-1].value, "real"), reading=f"{chart.reading} {AT_FLOOR}")
        lines = tuple(Line(key, chart.names.get(key, key.rsplit("/", 1)[-1]), tuple(known[key])) for key in keys)
        if lines and chart.advised and advice:
            expected = advice.forecast
            ahead = Point(float(expected.images_seen), expected.value, expected.low, expected.high)
            found.append(Curves(chart, lines, end, advice.best.images_seen, ahead))
        elif lines:
            found.append(Curves(chart, lines, end))
    return found


def series(events: list[dict[str, Any]]) -> Series:
    """Every number in the log by its name, over images seen. Where a run went back, the undone part goes.

    `x_error` is the standard error of `x`, and `x_low`, `x_high` are the ends of its interval: they are its band.
    """
    found: Series = {}
    for event in events:
        seen = finite(event.get("images_seen"))
        if event.get("event") not in ("progress", "probe", "regret") or seen is None:
            continue
        numbers = {name: n for name, value in event.items() if (n := finite(value)) is not None}
        for name, value in numbers.items():
            base, _, ending = name.rpartition("_")
            if name == "images_seen" or (ending in ("error", "low", "high") and base in numbers):
                continue
            points = found.setdefault(name, [])
            while points and points[-1].images_seen >= seen:
                points.pop()
            points.append(Point(seen, value, *_band(name, value, numbers)))
    return found


def _band(name: str, value: float, numbers: dict[str, float]) -> tuple[float | None, float | None]:
    error, low, high = (numbers.get(f"{name}_{ending}") for ending in ("error", "low", "high"))
    if error is not None:
        return value - WIDE * error, value + WIDE * error
    return (low, high) if low is not None and high is not None else (None, None)


def _regrets(regrets: Iterable[Regret]) -> Series:
    """The gains of `equilibrium.json` as curves."""
    found: Series = {}
    for regret in sorted(regrets, key=lambda r: r.images_seen):
        gains = {f"regret/{side}": gain for side, gain in regret.gains.items()}
        if regret.gap is not None:
            gains["regret/gap"] = regret.gap
        for name, gain in gains.items():
            found.setdefault(name, []).append(Point(float(regret.images_seen), gain.value, gain.low, gain.high))
    return found


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most POINTS points: means over equal numbers of neighbours."""
    size = math.ceil(len(points) / POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return list(points) if size == 1 else [_mean(group) for group in groups]


def _mean(points: Sequence[Point]) -> Point:
    lows = [p.low for p in points if p.low is not None]
    highs = [p.high for p in points if p.high is not None]
    x, y = (sum(values) / len(points) for values in ((p.images_seen for p in points), (p.value for p in points)))
    return Point(x, y, *(sum(ends) / len(ends) if ends else None for ends in (lows, highs)))


def _smooth(values: Sequence[float]) -> list[float]:
    """Means over about a twentieth of the curve around each point; a short curve stays as it is."""
    reach = len(values) // 40 if len(values) >= SMOOTH_FROM else 0
    total = list(itertools.accumulate(values, initial=0.0))
    spans = ((max(0, i - reach), min(len(values), i + reach + 1)) for i in range(len(values)))
    return [(total[b] - total[a]) / (b - a) for a, b in spans]


def _svg(curves: Curves) -> str:
    """The curves as an inline SVG whose colours follow the page. No text of the user's goes in."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

    chart = curves.chart
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
        if chart.falls and _spreads(curves.lines, chart.level):
            axes.set_yscale("log")
        for i, line in enumerate(curves.lines):
            points = _thinned(line.points)
            x, y = [p.images_seen for p in points], [p.value for p in points]
            colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
            if band := [(p.images_seen, p.low, p.high) for p in points if p.low is not None and p.high is not None]:
                at, bottom, top = zip(*band, strict=True)
                if len(band) == 1:
                    axes.vlines(at, bottom, top, color=colour, alpha=0.5, linewidth=4)
                axes.fill_between(at, bottom, top, color=colour, alpha=0.2, linewidth=0)
            if len(x) >= SMOOTH_FROM:
                axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.35)
            marker = "o" if len(x) < SMOOTH_FROM / 2 else ""
            axes.plot(x, _smooth(y), style, color=colour, linewidth=1.7, marker=marker, markersize=3)
        if chart.level:
            axes.axhline(chart.level[0], color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                chart.level[1], (1, chart.level[0]), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", annotation_clip=False,
            )  # fmt: skip
        if curves.best is not None:
            axes.axvline(curves.best, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate(
                "best", (curves.best, 1), xycoords=("data", "axes fraction"), xytext=(3, -3),
                textcoords="offset points", va="top",
            )  # fmt: skip
        end = curves.end or 1.0
        if curves.forecast is not None:
            ahead = curves.forecast
            low, high = (ahead.value if x is None else x for x in (ahead.low, ahead.high))
            axes.vlines(ahead.images_seen, low, high, color=INK, linewidth=1.2)
            axes.plot([ahead.images_seen], [ahead.value], "D", color=INK, markersize=4)
            axes.annotate(
                "forecast", (ahead.images_seen, ahead.value), xytext=(-7, 0), textcoords="offset points", va="center",
                ha="right",
            )  # fmt: skip
            end = max(end, ahead.images_seen)
        axes.set_xlim(-0.02 * end, 1.02 * end)
        axes.set_ylim(*chart.span)
        axes.grid(axis="y")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0, which="both")
        axes.set_xlabel("images seen")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if axes.get_yscale() == "log":
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
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


def _spreads(lines: tuple[Line, ...], level: tuple[float, str] | None = None) -> bool:
    values = [p.value for line in lines for p in line.points] + ([level[0]] if level else [])
    return min(values) > 0 and max(values) > SPREAD * min(values)
