"""The study as one page that stands alone, and as numbers."""

from __future__ import annotations

import base64
import datetime
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined

from zerosum import atomic, pictures, session
from zerosum.applications import parts as splitting
from zerosum.applications.classify import WIDTH
from zerosum.applications.parts import Part
from zerosum.applications.study import KEYS, PRIMARY, Row, Study, Verdict

if TYPE_CHECKING:
    from zerosum.applications.augment import Opened, Options

SHOWN = 8  # images of each class, real and synthetic
TITLES = {
    "balanced_accuracy": "balanced accuracy", "auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity",
}  # fmt: skip


def write(
    made: Study, rows: Sequence[Row], verdict: Verdict, options: Options, about: Opened, name: str, synthetic: Path,
) -> Path:  # fmt: skip
    """`study.json` and `report.html` in the study's folder; the page's path.

    `name`: of the data. `synthetic`: the folder of the synthetic set, a folder a class.
    """
    out, data = made.out, about.whole
    gates = {part.name: made.gate_of(part) for part in made.parts}
    record: dict[str, Any] = {
        "verdict": {"answer": verdict.answer, "sentence": verdict.sentence, **asdict(verdict.gain)},
        "rows": [
            {
                "arm": row.arm, "means": {key: list(value) for key, value in row.means.items()},
                "against": row.against, "gain": None if row.gain is None else asdict(row.gain),
                "adjusted": row.adjusted,
                "minutes": round(made.minutes(row.arm), 3),
            }
            for row in rows
        ],
        "plan": asdict(made.plan),
        "parts": {p.name: _counts(made, p) for p in made.parts},
        "kept out": made.parts[0].kept_out,
        "classes": list(made.class_names),
        "gate": gates,
        "scores": {part.name: made.scores_of(part) for part in made.parts},
        "source": made.source.name,
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()},
        "date": datetime.date.today().isoformat(),
        "data": {"name": name, "count": len(data), "sha256": data.fingerprint},
        "images of each class": about.counts,
        "test images of the set's own": about.tests,
        "minutes": round(made.all_minutes, 1),
        "environment": session.environment(),
    }  # fmt: skip
    text = json.dumps(_finite(record), indent=1, default=_plain, allow_nan=False)
    atomic.write_file(out / "study.json", (text + "\n").encode())
    environment = Environment(
        loader=FunctionLoader(lambda name: files("zerosum.applications").joinpath(name).read_text("utf-8")),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("study.html").render(
        verdict=verdict, rows=rows, keys=[(key, TITLES[key]) for key in KEYS], primary=TITLES[PRIMARY],
        made=made, options=options, gates=gates, record=json.loads(text), picture=_picture(rows),
        sheet=_sheet(made, synthetic), shown=SHOWN, width=WIDTH, count=_count(about),
    )  # fmt: skip
    atomic.write_file(out / "report.html", page.encode())
    return out / "report.html"


def _counts(made: Study, part: Part) -> dict[str, Any]:
    """How many images a part trains on and tests on."""
    of_each = np.bincount(made.data.labels[part.train], minlength=len(made.class_names)).tolist()
    return {
        "train": len(part.train), "test": len(part.test),
        "train of each class": dict(zip(made.class_names, of_each, strict=True)),
    }  # fmt: skip


def _count(about: Opened) -> str:
    """60 (a: 30 in 2 groups, b: 20; images alike, or of one patient, are one group; and 10 test images)."""
    tests = f"; and {about.tests:,} test images" if about.tests else ""
    return f"{len(about.whole):,} ({splitting.in_words(about.counts)}{tests})"


def _finite(value: Any) -> Any:
    """With None for what is not finite: JSON has no other word for it."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not go into JSON")


def _picture(rows: Sequence[Row]) -> str:
    """Every arm's balanced accuracy with its bounds, as a data URL of an SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.42 * len(rows) + 0.9))
    axes = figure.subplots()
    for y, row in enumerate(rows):
        mean, low, high = row.means[PRIMARY]
        colour = "#0072B2" if row.against is None else "#D55E00"
        axes.errorbar(
            mean, y, xerr=[[mean - low], [high - mean]] if np.isfinite([low, high]).all() else None, fmt="o",
            color=colour, capsize=3,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.arm for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"{TITLES[PRIMARY]}, with 95 % bounds")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _sheet(made: Study, synthetic: Path) -> str:
    """Real training images of each class above synthetic ones, as a data URL of a PNG."""
    from PIL import Image

    train = made.data.of(made.parts[0].train)
    lines = []
    for number, kind in enumerate(atomic.safe_names(made.class_names)):
        real = train.images[train.labels == number][:SHOWN]
        found = sorted((synthetic / kind).glob("*.png"))[:SHOWN]
        made_up = [np.asarray(Image.open(path)) for path in found]
        shaped = [x[None] if x.ndim == 2 else x.transpose(2, 0, 1) for x in made_up]
        blank = np.full_like(train.images[0], 255)
        for some in (list(real), shaped):
            lines += [*some, *[blank] * (SHOWN - len(some))]
    buffer = io.BytesIO()
    pictures.grid(np.stack(lines), columns=SHOWN).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
