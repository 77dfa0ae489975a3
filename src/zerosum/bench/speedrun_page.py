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
    """Our worst seed against the best opponent's mean; its best seed where outside the spread is asked for.

    Which of ours is held against them was settled on the validation images (`validated`).
    """
    if not _rivals(rows) or "default" not in rows:
        return
    first, last = (f"{key}_{m:g}" for m in (field.marks[0], field.marks[-1]))
    rival = min(_rivals(rows), key=lambda arm: _mean(rows[arm], last))
    mine_all = (arm for arm in rows if arm.startswith("default"))
    ours = min(mine_all, key=lambda arm: _mean(validated[arm], f"frechet_{field.marks[-1]:g}"))
    mine = partial(_worst, rows[ours])
    what = f"{field.course.title}, {where}: {ours}"
    if field.name != "fashion-mnist":
        bound = min(r[last] for r in rows[rival])
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


def curves(field: Field, rows: Rows, floor: float) -> bytes:
    import matplotlib  # slow to import

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.2), dpi=110)
    for title, results in rows.items():
        heights = [[r[f"frechet_{m:g}"] for m in field.marks] for r in results]
        (line,) = axes.plot(
            field.marks, np.mean(heights, 0), label=title, linewidth=2.5 if title.startswith("default") else 1.2
        )
        for height in heights:
            axes.plot(field.marks, height, "o", color=line.get_color(), markersize=3)
    axes.axhline(floor, color="black", linewidth=1, linestyle="--", label="real images")
    axes.set(xscale="log", yscale="log", xlabel="minutes", ylabel="Frechet distance")
    axes.set_xticks(field.marks, [f"{m:g}" for m in field.marks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.tight_layout()
    held = io.BytesIO()
    figure.savefig(held, format="png", metadata={"Software": "zerosum"})
    pyplot.close(figure)
    return held.getvalue()
