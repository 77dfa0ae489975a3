"""The report's content as one page of HTML that stands alone: no scripts, and nothing from outside."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from zerosum.metrics import directions
from zerosum.metrics.intervals import Interval
from zerosum.metrics.measurement import SHOWN_OF_CLASS, Measurement
from zerosum.metrics.report.content import Content, Facts
from zerosum.metrics.report.records import Direction, Equilibrium, Evaluation, Judgement, Regret, TwoSample
from zerosum.metrics.report.strips import Scale, around, axis, strip
from zerosum.view import clock, words

GAUGE = Scale(0.35, 1.06)  # accuracies: a guess is 0.5, and none is far below but by a fault
TICKS = (0.5, 0.75, 1.0)


def render(content: Content) -> str:
    environment = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["data"] = _data
    evaluation, equilibrium = content.evaluation, content.equilibrium
    test = equilibrium.two_sample if equilibrium else None
    of_class = _of_class(evaluation) if evaluation else {}
    return environment.get_template("page.html").render(
        content=content,
        facts=list(_facts(content.facts)),
        evaluation=evaluation,
        measurements=list(_measurements(evaluation.measurements)) if evaluation else [],
        translations=list(_translations(evaluation)) if evaluation else [],
        classes=list(_classes(evaluation, of_class)) if evaluation else [],
        of_class=list(of_class.values()),
        nearest=_nearest(evaluation),
        test=test,
        gauge=axis(GAUGE, {tick: words.percent(tick) for tick in TICKS}),
        judges=_judges(test) if test else [],
        regret=_regret(equilibrium.regrets[-1]) if equilibrium and equilibrium.regrets else None,
        protocol=list(_protocol(evaluation)) if evaluation else [],
        equilibrium_protocol=list(_equilibrium_protocol(equilibrium)) if equilibrium else [],
        recipe=list(_flat(content.recipe)),
        machine=list(_flat(content.environment)),
    )


def _template(name: str) -> str:
    return files("zerosum.metrics.report").joinpath(name).read_text("utf-8")


@dataclass(frozen=True)
class Row:
    """A measured number in a table: as text, and as a strip."""

    name: str
    detail: str
    value: str
    interval: str
    floor: str
    n: str
    better: str
    strip: Markup


def _measurements(measurements: Mapping[str, Measurement]) -> Iterator[Row]:
    for m in measurements.values():
        value, interval = words.measured(m.value, m.low, m.high)
        yield Row(
            m.protocol.metric, m.protocol.settings, value, interval or "none", _floor(m.floor),
            f"{m.n_fake:,}" if m.n_fake == m.n_real else f"{m.n_fake:,} / {m.n_real:,}", m.better, _strip(m),
        )  # fmt: skip


def _floor(floor: Interval | None) -> str:
    if floor is None:
        return "none"
    value, interval = words.measured(floor.value, floor.low, floor.high)
    return f"{value} ({interval})" if interval and floor.low < floor.high else value


def _strip(m: Measurement) -> Markup:
    band = (m.floor.low, m.floor.high) if m.floor else ()
    return strip(around((m.value, m.low, m.high, *band)), m.value, (m.low, m.high), band=band)


def _translations(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Each direction of a translator: what its pictures show, and its numbers beside those of the baselines."""
    for found in evaluation.directions:
        rows = [row for metric in found.metrics if (row := _beside(evaluation, found, metric))]
        back = evaluation.measurements.get(directions.key(found.direction, directions.CYCLE, "l1"))
        yield {
            "direction": found, "title": " to ".join(found.direction.split("2")), "rows": rows,
            "back": _cell(back) if back else None, "floors": any(row["floor"] != "none" for row in rows),
        }  # fmt: skip


def _beside(evaluation: Evaluation, found: Direction, metric: str) -> dict[str, Any] | None:
    """One metric of all arms; None if no arm was measured by it."""
    of = {arm: evaluation.measurements.get(directions.key(found.direction, arm, metric)) for arm in found.arms}
    known = [(arm, m) for arm, m in of.items() if m is not None]
    if not known:
        return None
    arm, first = known[0]
    values = [m.value for _, m in known]
    best = min(values) if first.better == "lower" else max(values)
    return {
        "name": first.protocol.metric.removeprefix(directions.named(found.direction, arm, "")),
        "better": first.better,
        "cells": [(arm, *_cell(m), m is not None and m.value == best) for arm, m in of.items()],
        "floor": _floor(first.floor),
    }


def _cell(m: Measurement | None) -> tuple[str, str]:
    return ("", "") if m is None else words.measured(m.value, m.low, m.high)


def _of_class(evaluation: Evaluation) -> dict[str, str]:
    """What is shown of single classes: its key, and its name."""
    known = {key: m.protocol.metric for c in evaluation.classes for key, m in c.measurements.items()}
    return {key: known[key] for key in SHOWN_OF_CLASS if key in known}


def _classes(evaluation: Evaluation, of_class: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    if not evaluation.classes:
        return
    scale = around(x for c in evaluation.classes for x in (0.0, c.real_share, c.fake_low, c.fake_high))
    for c in evaluation.classes:
        share, interval = words.share(c.fake_share, c.fake_low, c.fake_high)
        yield {
            "name": c.name,
            "real": words.share(c.real_share)[0],
            "share": share,
            "interval": interval,
            "strip": strip(scale, c.fake_share, (c.fake_low, c.fake_high), line=c.real_share),
            "measured": [(*_cell(m), _floor(m.floor) if m else "") for m in map(c.measurements.get, of_class)],
        }


def _nearest(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation.nearest_distances:
        return ""
    first, last = evaluation.nearest_distances[0], evaluation.nearest_distances[-1]
    return f"{words.measured(first)[0]} to {words.measured(last)[0]}"


def _judges(test: TwoSample) -> list[tuple[str, list[dict[str, Any]]]]:
    groups = (
        ("Generated against real", test.fake, "c1"),
        ("Control: real against other real images", test.control, "c0"),
    )
    return [(name, [_judge(j, colour) for j in found]) for name, found, colour in groups if found]


def _judge(j: Judgement, colour: str) -> dict[str, Any]:
    value, interval = words.share(j.accuracy.value, j.accuracy.low, j.accuracy.high)
    if j.accuracy.low > 0.5:
        says = "tells them apart"
    else:
        says = "can only guess" if j.accuracy.high >= 0.5 else "is below a guess"
    picture = strip(GAUGE, j.accuracy.value, (j.accuracy.low, j.accuracy.high), line=0.5, colour=colour)
    return {"name": j.judge, "value": value, "interval": interval, "n": f"{j.n:,}", "says": says, "strip": picture}


def _regret(regret: Regret) -> dict[str, Any]:
    gains = [*regret.gains.items(), *([("both together", regret.gap)] if regret.gap else [])]
    scale = around(x for _, gain in gains for x in (0.0, gain.low, gain.high))
    rows = []
    for name, gain in gains:
        value, interval = words.measured(gain.value, gain.low, gain.high)
        says = "still gains" if gain.low > 0 else "gains nothing sure"
        picture = strip(scale, gain.value, (gain.low, gain.high), line=0.0)
        rows.append({"name": name, "value": value, "interval": interval, "says": says, "strip": picture})
    return {"seen": f"{regret.images_seen:,}", "turns": regret.turns, "rows": rows}


def _facts(facts: Facts) -> Iterator[tuple[str, str]]:
    yield "state", facts.state
    if facts.images_seen is not None:
        yield "images seen", f"{facts.images_seen:,}"
    if facts.seconds is not None:
        yield "training time", clock(facts.seconds)
    if rate := facts.images_per_second:
        yield "images a second", f"{rate:,.0f}" if rate > 10 else f"{rate:.2g}"
    if facts.warnings:
        yield "health messages", f"{facts.warnings:,}"
    if facts.updates_skipped:
        yield "updates skipped", f"{facts.updates_skipped:,}"
    if facts.real_images is not None:
        held_out = f" ({facts.held_out:,} held out)" if facts.held_out else ""
        yield "real images", f"{facts.real_images:,}{held_out}"
    if facts.left_out:
        named = [f"{name}: {reason}" for name, reason in facts.left_out_files]
        if (more := facts.left_out - len(named)) > 0:
            named.append(f"and {more:,} more")
        yield "files left out", f"{facts.left_out:,} ({'; '.join(named)})"


def _protocol(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """What all measurements of the evaluation have in common, then what is each one's own."""
    features = evaluation.features
    yield "measured", evaluation.what
    yield "against", evaluation.against
    names = {
        "name": "features",
        "reason": "chosen because",
        "preparation": "preparation",
        "weights": "weights, SHA-256",
    }
    for key, name in names.items():
        if features.get(key):
            yield name, str(features[key])
    if evaluation.classes_from:
        yield "classes from", evaluation.classes_from
    protocols = [m.protocol for m in evaluation.measurements.values()]
    if protocols:
        first = protocols[0]
        yield "real images, SHA-256", first.real_sha256
        yield "seed", str(first.seed)
        yield "lossy format", f"real {_yes(first.real_lossy)}, generated {_yes(first.fake_lossy)}"
        yield "mirrored", f"real {_yes(first.real_flips)}, generated {_yes(first.fake_flips)}"
        yield "truncation", "none" if first.truncation is None else str(first.truncation)
        yield "chosen by this number", first.selection
        yield "versions", ", ".join(f"{name} {version}" for name, version in first.versions)
    made: dict[str, list[str]] = {}
    for m in evaluation.measurements.values():
        made.setdefault(f"{m.how}, {words.percent(m.level)}" if m.level else m.how, []).append(m.protocol.metric)
    for how, metrics in made.items():
        yield f"intervals of {', '.join(metrics)}", how
    for m in evaluation.measurements.values():
        if m.protocol.extractor != features.get("name"):
            yield f"{m.protocol.metric} is in", f"{m.protocol.extractor}: {m.protocol.preparation}"


def _equilibrium_protocol(equilibrium: Equilibrium) -> Iterator[tuple[str, str]]:
    if equilibrium.real:
        yield "real images", equilibrium.real
    if test := equilibrium.two_sample:
        yield (
            "test",
            "classifier two-sample test (Lopez-Paz and Oquab 2017), fresh discriminators; intervals are exact ",
        )
        "and corrected for the number of tests"
        if test.trained_on is not None:
            yield "trained on", f"{test.trained_on:,} images of each kind"
        if test.judged is not None:
            yield "scored on", f"{test.judged:,} others of each kind"
        if test.alpha is not None:
            yield (
                "false alarms",
                f"at most {words.percent(test.alpha)} in all {len(test.fake) + len(test.control)} tests",
            )
        if test.detectable is not None:
            yield "detectable", f"accuracies of {words.share(test.detectable)[0]} and more; smaller ones may go unseen"
    if equilibrium.regrets:
        yield "regret", "after Grnarova et al. 2019: a lower bound, since a longer search may gain more; 95 % intervals"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _data(data: bytes, kind: str = "image/png") -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested dictionary as rows: dotted name, value."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
