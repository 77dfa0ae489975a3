"""What `zerosum equilibrium` found, in a picture: the judges beside the 50 % line, and what each player could gain."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from zerosum import atomic
from zerosum.equilibrium.measure import Equilibrium
from zerosum.metrics.report.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(found: Equilibrium, path: Path) -> None:
    """Write the picture as a PNG. UserError if the disk refuses."""
    out = io.BytesIO()
    plot(found).savefig(out, format="png", metadata={"Software": None})
    atomic.write_file(path, out.getvalue())


def plot(found: Equilibrium) -> Figure:
    """The two charts side by side: judges, and gains over the run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9.6, 3.9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(found.verdict.kind, x=0.01, ha="left", fontsize=12, fontweight="bold")
    left, right = figure.subplots(1, 2)

    test = found.test
    for i, (judgements, name, colour, mark) in enumerate(
        ((test.fake, "generated against real", COLOURS[1], "o"), (test.control, "real against real", COLOURS[0], "s"))
    ):
        y = [-j + (0.12, -0.12)[i] for j in range(len(judgements))]
        value = [j.accuracy.value for j in judgements]
        reach = (
            [j.accuracy.value - j.accuracy.low for j in judgements],
            [j.accuracy.high - j.accuracy.value for j in judgements],
        )
        left.errorbar(value, y, xerr=reach, fmt=mark, color=colour, capsize=3, markersize=5, label=name)
    left.axvline(0.5, color="black", linewidth=1, linestyle=(0, (4, 3)))
    left.axvspan(1 - test.detectable, test.detectable, color="black", alpha=0.06, linewidth=0)
    left.set_yticks([-i for i in range(len(test.fake))], [j.judge for j in test.fake])
    left.set_ylim(-len(test.fake) + 0.45, 0.55)
    lowest = min(j.accuracy.low for j in (*test.fake, *test.control))
    left.set_xlim(min(0.4, lowest - 0.02), 1.01)
    left.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    left.set_xlabel(f"right answers of fresh judges, {2 * test.judged:,} images each\n(grey: may go unseen)")
    left.legend(loc="lower right", fontsize=8, frameon=False)

    for i, side in enumerate(sorted({g.side for point in found.regret for g in point.gains})):
        known = [(p.images_seen, gain) for p in found.regret if (gain := p.of(side)) is not None]
        x, gains = zip(*known, strict=True)
        reach = ([g.value - g.low for g in gains], [g.high - g.value for g in gains])
        beside = (2 * i - 1) * 0.004 * (max(x) - min(x) or 1)  # so that neither hides the other
        right.errorbar(
            [seen + beside for seen in x], [g.value for g in gains], yerr=reach, fmt="o-", color=COLOURS[i],
            capsize=3, markersize=5, linewidth=1.5, label=f"{side} gains",
        )  # fmt: skip
    logged = [(line.images_seen, line.gap) for line in found.logged if line.gap is not None]
    if logged:
        right.plot(
            *zip(*logged, strict=True), color=COLOURS[2], linewidth=1, alpha=0.7, label="gap, logged in training"
        )
    right.axhline(0, color="black", linewidth=1, linestyle=(0, (4, 3)))
    if found.regret or logged:
        right.legend(loc="best", fontsize=8, frameon=False)
    turns = found.regret[-1].turns if found.regret else 0
    right.set_ylabel(f"fall of its loss in {turns} extra turns")
    right.set_xlabel("images seen")
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
