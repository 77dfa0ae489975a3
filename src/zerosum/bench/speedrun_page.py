"""What the speedrun's page shows of its runs: columns, targets, curves."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from zerosum.bench.field import Field
from zerosum.bench.protocol import Result
from zerosum.bench.report import Column, Target

ACCURACY = 0.93
THIRD = 1 / 3
FAR_BELOW = 0.3
# Of arms by name; told apart by every kind of colour vision.
COLOURS = {
    "default": "#0072B2",
    "default, not augmented": "#56B4E9",
    "textbook DCGAN": "#E69F00",
    "SNGAN": "#009E73",
    "R3GAN": "#CC79A7",
}

Rows = dict[str, list[Result]]
"""Runs by the title of their arm."""


def columns(field: Field) -> tuple[Column, ...]:
    last = field.marks[-1]
    return (
        *(Column(f"frechet_{m:g}", f"Frechet distance at {m:g} min", ".2f") for m in field.marks),
        Column(f"recall_{last:g}", f"recall at {last:g} min", ".3f"),
        Column(f"precision_{last:g}", f"precision at {last:g} min", ".3f"),
        Column("told_apart", "fresh judges right", ".1%"),
        Column("images_per_second", "images/s", ",.0f"),
    )


def final_columns(field: Field) -> tuple[Column, ...]:
    first, last = field.marks[0], field.marks[-1]
    marks = dict.fromkeys((first, last))
    return (
        *(Column(f"frechet_{m:g}", f"Frechet distance at {m:g} min", ".2f") for m in marks),
        *(Column(f"imagenet_{m:g}", f"in EfficientNet-Lite0's features at {m:g} min", ".2f") for m in marks),
        Column(f"recall_{last:g}", f"recall at {last:g} min", ".3f"),
        Column(f"told_apart_{last:g}", "fresh judges right", ".1%"),
    )


def _mean(results: Sequence[Result], key: str) -> float:
    return float(np.mean([r[key] for r in results]))


def _rivals(rows: Rows) -> list[str]:
    return [title for title in rows if not title.startswith("default")]


def targets(field: Field, rows: Rows, floor: Result) -> Iterator[Target]:
    right = floor["accuracy"]
    if field.name == "fashion-mnist":
        yield Target("the judge's accuracy on test images", f"at least {ACCURACY:.0%}", f"{right:.1%}",
                     right >= ACCURACY)  # fmt: skip
    yield from _against(field, rows, rows, "frechet", "validation images")


def final_targets(field: Field, rows: Rows, validated: Rows) -> Iterator[Target]:
    yield from _against(field, rows, validated, "frechet", "test images")
    yield from _against(field, rows, validated, "imagenet", "test images, EfficientNet-Lite0")


def _against(field: Field, rows: Rows, validated: Rows, key: str, where: str) -> Iterator[Target]:
    """Our worst seed against the best opponent's mean; where outside the spread is asked for, against the best run of
    any opponent at any rate.

    Which of ours is held against them was settled on the validation images (`validated`).
    """
    if not _rivals(rows) or "default" not in rows:
        return
    first, last = (f"{key}_{m:g}" for m in (field.marks[0], field.marks[-1]))
    among = _mean if field.name == "fashion-mnist" else _best
    rival = min(_rivals(rows), key=lambda arm: among(rows[arm], last))
    mine_all = (arm for arm in rows if arm.startswith("default"))
    ours = min(mine_all, key=lambda arm: _mean(validated[arm], f"frechet_{field.marks[-1]:g}"))
    mine = partial(_worst, rows[ours])
    what = f"{field.course.title}, {where}: {ours}"
    if field.name != "fashion-mnist":
        bound = _best(rows[rival], last)
        yield Target(f"{what} against {rival} (its best seed)", f"below {bound:.2f}", f"{mine(last):.2f} (worst seed)",
                     mine(last) < bound)  # fmt: skip
        return
    at = _mean(rows[rival], last)
    minutes = tuple(f"{m:g}" for m in (field.marks[0], field.marks[-1]))
    yield Target(f"{what} at {minutes[0]} min against {rival} at {minutes[1]}", f"at most {at:.2f}",
                 f"{mine(first):.2f} (worst seed)", mine(first) <= at)  # fmt: skip
    yield Target(f"{what} at {minutes[1]} min against {rival}", f"at most a third: {at * THIRD:.2f}",
                 f"{mine(last):.2f} (worst seed)", mine(last) <= at * THIRD)  # fmt: skip
    recall = f"recall_{field.marks[-1]:g}"
    if key == "frechet":
        wanted, found = _mean(rows[rival], recall), min(r[recall] for r in rows[ours])
        yield Target(f"{what}: recall", f"at least {wanted:.3f}", f"{found:.3f} (worst seed)", found >= wanted)


def _worst(results: Sequence[Result], key: str) -> float:
    return max(r[key] for r in results)


def _best(results: Sequence[Result], key: str) -> float:
    return min(r[key] for r in results)


def curves(field: Field, rows: Rows, floor: float) -> bytes:
    """A colour for each opponent: bold at the rate that it ends nearest with, thin and faint at the others."""
    import matplotlib  # slow to import

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(9, 4.2), dpi=110)
    heights = {t: np.array([[r[f"frechet_{m:g}"] for m in field.marks] for r in results], dtype=float)
               for t, results in rows.items()}  # fmt: skip
    names = {t: t if t.startswith("default") else t.partition(",")[0] for t in rows}
    end = {t: float(np.nan_to_num(h[:, -1], nan=np.inf).mean()) for t, h in heights.items()}  # nan: it came apart
    for title, name in names.items():
        best = title == min((t for t in rows if names[t] == name), key=lambda t: end[t])
        width, marks, alpha = (2.5, 4, 1.0) if best else (0.9, 2, 0.45)
        draw = partial(axes.plot, field.marks, color=COLOURS[name], alpha=alpha)
        draw(heights[title].mean(0), linewidth=width, label=title if best else None)
        for height in heights[title]:
            draw(height, marker="o", linestyle="", markersize=marks)
    if floor > FAR_BELOW * min(float(np.nanmin(h)) for h in heights.values()):
        axes.axhline(floor, color="black", linewidth=1, linestyle="--", label="real images")
    else:  # a line there would press all others together
        axes.plot([], [], " ", label=f"real images: {floor:.2f}, far below")
    axes.set(xscale="log", yscale="log", xlabel="minutes", ylabel="Frechet distance")
    axes.set_xticks(field.marks, [f"{m:g}" for m in field.marks])
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(
        fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5), title="thin: at other rates", title_fontsize=7
    )
    figure.tight_layout()
    held = io.BytesIO()
    figure.savefig(held, format="png", metadata={"Software": "zerosum"})
    pyplot.close(figure)
    return held.getvalue()
