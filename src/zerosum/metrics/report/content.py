"""All that a report says about a run, as data: what `report.json` holds and what the page shows."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from zerosum.equilibrium.advisor import LEAST
from zerosum.metrics import measurement
from zerosum.metrics.measurement import Measurement
from zerosum.metrics.report.curves import Curves, curves
from zerosum.metrics.report.fields import finite, sentence
from zerosum.metrics.report.read import Folder
from zerosum.metrics.report.records import Advice, Equilibrium, Evaluation, Film, Picture, Sentence
from zerosum.runlog import ENVIRONMENT, NEAREST, REAL, RECIPE, grids
from zerosum.view import words

FORMAT = 1
EMBED_FILM_BYTES = 8_000_000  # a browser opens a page with a film of this size at once
IMAGE_SIDE, STAGE_SIDE, STAGES = 1200, 360, 4

About = Literal["images", "game", "stopping", "health"]
Standing = Literal["good", "bad", "open", "unknown"]

GOOD = ("nothing found", "at equilibrium")
OPEN = ("converging", "not enough data", "test broken", "cannot say")


@dataclass(frozen=True)
class Line:
    """One line of the verdict."""

    about: About
    standing: Standing
    kind: str
    """What was found, in a word or two; "not measured" if nothing was looked at."""
    text: str
    images_seen: int | None = None
    """Where in the run it was measured."""
    command: str = ""
    """What would find out, or find out again."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A run in numbers; None where the folder does not say."""

    state: str
    images_seen: int | None
    seconds: float | None
    real_images: int | None
    held_out: int | None
    left_out: int | None
    left_out_files: tuple[tuple[str, str], ...] = ()
    """The first of the files that were left out, each with the reason."""
    updates_skipped: int | None
    warnings: int
    probe_every: int = 0
    """Images between two probes; 0 for none."""

    @property
    def images_per_second(self) -> float | None:
        return self.images_seen / self.seconds if self.images_seen and self.seconds else None


@dataclass(frozen=True)
class Message:
    """What the watch, or an error, said during the run."""

    kind: str
    images_seen: int | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a report; None or none where the folder has no whole one."""

    samples: Picture | None
    columns: tuple[str, ...]
    """Of a translator's sample grid: what stands in each row."""
    real: Picture | None
    nearest: Picture | None
    stages: tuple[Picture, ...]
    film: Film | None


@dataclass(frozen=True, kw_only=True)
class Content:
    """The report. `to_json` leaves out what pictures look like; the schema is in docs/report.md."""

    title: str
    folder: str
    verdict: tuple[Line, ...]
    facts: Facts
    pictures: Pictures
    curves: tuple[Curves, ...]
    evaluation: Evaluation | None
    equilibrium: Equilibrium | None
    advice: Advice | None
    messages: tuple[Message, ...]
    command: str
    """The one that made the run; empty if it is not known, or would not make it again."""
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    notes: tuple[str, ...]
    """What was missing or damaged in the folder."""

    def to_json(self) -> dict[str, Any]:
        return {"zerosum": "report", "format": FORMAT, **_plain(self)}


def gather(folder: Folder) -> Content:
    """Read a run's folder into the report's content."""
    recipe, environment, events = folder.object(RECIPE), folder.object(ENVIRONMENT), folder.events()
    evaluation, equilibrium = folder.evaluation(), folder.equilibrium()
    messages = tuple(_message(e) for e in events if e.get("event") in ("warning", "error", "note"))
    facts = _facts(folder, events, recipe, messages)
    translates = "target" in _object(recipe, "data")
    advised = folder.advice(events, facts.seconds or 0.0)
    advice = advised if isinstance(advised, Advice) else None
    pictures = _pictures(folder, _columns(events) if translates else ())
    return Content(
        title=_title(recipe, folder.name), folder=folder.name,
        verdict=tuple(
            line
            for line in _verdict(shlex.quote(str(folder.run)), facts, evaluation, equilibrium, advised, messages)
            if not (translates and line.about == "game")  # of which zerosum equilibrium says nothing yet
        ),
        facts=facts, pictures=pictures,
        curves=tuple(curves(events, equilibrium.regrets if equilibrium else (), advice)),
        evaluation=evaluation, equilibrium=equilibrium, advice=advice, messages=messages,
        command=_command(environment), recipe=recipe, environment=environment, notes=tuple(folder.notes),
    )  # fmt: skip


# --- the verdict ---------------------------------------------------------------------------------------------------


def _verdict(
    run: str,
    facts: Facts,
    evaluation: Evaluation | None,
    equilibrium: Equilibrium | None,
    advice: Advice | str,
    messages: tuple[Message, ...],
) -> list[Line]:
    """The images, the game, and when to stop; what was not measured comes with the command that would."""
    images = _measured("images", "evaluate", run, facts, evaluation)
    if evaluation is not None and not evaluation.directions and [line.standing for line in images] == ["good"]:
        images = [_qualified(images[0], evaluation, equilibrium)]
    lines = [*images, *_measured("game", "equilibrium", run, facts, equilibrium)]
    if warnings := [m for m in messages if m.kind in ("warning", "error")]:
        last = warnings[-1]
        lines.append(Line("health", "bad", last.kind, f"The watch last said: {sentence(last.text)}", last.images_seen))
    if isinstance(advice, Advice):
        lines.append(Line("stopping", "open", "stop" if advice.stop else "go on", advice.text, advice.images_seen))
    else:
        seen = facts.images_seen
        enough = max(2 * seen, (LEAST + 1) * facts.probe_every) if seen else 0
        longer = f" --images {enough}" if enough and facts.state == "finished" else ""
        lines.append(Line("stopping", "unknown", "not measured", advice, None, f"zerosum train --resume {run}{longer}"))
    return lines


def _measured(about: About, command: str, run: str, facts: Facts, found: Evaluation | Equilibrium | None) -> list[Line]:
    command = f"zerosum {command} {run}"
    if found is None or not found.verdict:
        what = "How good the images are" if about == "images" else "Whether the game is at equilibrium"
        return [Line(about, "unknown", "not measured", f"{what} has not been measured.", None, command)]
    at, end = found.images_seen, facts.images_seen
    again = command if at is not None and end is not None and at < end else ""
    return [Line(about, _standing(s), s.kind, s.text, at, again) for s in found.verdict]


def _qualified(line: Line, evaluation: Evaluation, equilibrium: Equilibrium | None) -> Line:
    """Praise, with what speaks against it: the first line must not say more than the rest of the page bears out."""
    but = []
    if worse := [m.protocol.metric for m in evaluation.measurements.values() if _worse(m)]:
        names = f"{', '.join(worse[:-1])} and {worse[-1]} are" if len(worse) > 1 else f"{worse[0]} is"
        but.append(f"{names} worse than between real images")
    test = equilibrium.two_sample if equilibrium and equilibrium.images_seen == evaluation.images_seen else None
    if test and (told := [j for j in test.fake if j.accuracy.low > 0.5]):
        best = max(told, key=lambda j: j.accuracy.value)
        but.append(f"a fresh discriminator tells them from real ones {words.share(best.accuracy.value)[0]} of the time")
    return replace(line, standing="open", text=f"{line.text} But {', and '.join(but)}.") if but else line


def _worse(m: Measurement) -> bool:
    """Whether the value lies beyond its floor on the bad side, the two intervals not touching."""
    if m.floor is None or m.low is None or m.high is None:
        return False
    return m.low > m.floor.high if m.better == "lower" else m.high < m.floor.low


def _standing(found: Sentence) -> Standing:
    return "good" if found.kind in GOOD else "open" if found.kind in OPEN else "bad"


# --- the rest ------------------------------------------------------------------------------------------------------


def _facts(
    folder: Folder, events: list[dict[str, Any]], recipe: Mapping[str, Any], messages: tuple[Message, ...]
) -> Facts:
    rows = [e for e in reversed(events) if e.get("event") == "progress"]
    seconds, skipped = (next((v for e in rows if (v := finite(e.get(key))) is not None), None) for key in
                        ("seconds", "skipped"))  # fmt: skip
    finished = any(e.get("event") == "finished" for e in events)
    data, run = _object(recipe, "data"), _object(recipe, "run")
    left_out = _object(data, "left_out")
    return Facts(
        state="finished" if finished else folder.state() or "not finished",
        images_seen=max((int(v) for e in events if (v := finite(e.get("images_seen"))) is not None), default=None),
        seconds=seconds, real_images=_whole(data.get("count")),
        held_out=_whole(_object(run, "data").get("held_out")), left_out=_whole(left_out.get("count")),
        left_out_files=_pairs(left_out.get("files")),
        updates_skipped=_whole(skipped),
        warnings=sum(m.kind in ("warning", "error") for m in messages),
        probe_every=_whole(run.get("probe_every")) or 0,
    )  # fmt: skip


def _object(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    found = value if isinstance(value, list) else []
    return tuple((str(pair[0]), str(pair[1])) for pair in found if isinstance(pair, list) and len(pair) == 2)


def _whole(value: Any) -> int | None:
    return None if (number := finite(value)) is None else int(number)


def _columns(events: list[dict[str, Any]]) -> tuple[str, ...]:
    """What stands in each row of a translator's sample grids, as its probes tell (see `metrics.translation`)."""
    known = {key for event in events if event.get("event") == "probe" for key in event}
    more = [name for key, name in (("cycle", "back again"), ("l1", "target")) if key in known]
    return ("input", "output", *more) * (2 if "cycle" in known else 1)


def _pictures(folder: Folder, columns: tuple[str, ...]) -> Pictures:
    paths = grids(folder.run)
    newest = None
    for path in reversed(paths):  # a damaged one gives way to the one before
        if newest := folder.picture(path, IMAGE_SIDE):
            break
    if newest is None:
        folder.note("there is no sample grid yet")
    if not folder.has(REAL):
        folder.note(f"{REAL} is not there")
    real, nearest = (folder.picture(folder.run / n, IMAGE_SIDE) if folder.has(n) else None for n in (REAL, NEAREST))
    stages = tuple(picture for path in _spread(paths) if (picture := folder.picture(path, STAGE_SIDE)))
    return Pictures(
        samples=newest, columns=columns, real=real, nearest=nearest, stages=stages if len(stages) > 1 else (),
        film=folder.film(EMBED_FILM_BYTES),
    )  # fmt: skip


def _spread(paths: list[Any]) -> list[Any]:
    """STAGES of them, evenly, first and last included."""
    last = len(paths) - 1
    return paths if last < STAGES else [paths[round(i * last / (STAGES - 1))] for i in range(STAGES)]


def _title(recipe: Mapping[str, Any], folder: str) -> str:
    run = _object(recipe, "run") or recipe
    algorithm, data = run.get("algorithm"), run.get("data")
    kind = algorithm.get("kind") if isinstance(algorithm, dict) else algorithm
    source = data.get("source") if isinstance(data, dict) else data
    return f"{kind} on {source}" if isinstance(kind, str) and isinstance(source, str) else folder


def _command(environment: Mapping[str, Any]) -> str:
    """The command that made the run, if it was one that can make it again."""
    command = environment.get("command")
    return command if isinstance(command, str) and "--resume" not in command else ""


def _message(event: dict[str, Any]) -> Message:
    return Message(str(event["event"]), _whole(event.get("images_seen")), str(event.get("text", "")))


def _plain(value: Any) -> Any:
    """Records as JSON's own kinds of values. Numbers that are not finite become null, and bytes are left out."""
    if isinstance(value, Curves):
        return _plain(value.to_json())
    if isinstance(value, Measurement):
        return _plain(measurement.to_json(value))
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if not isinstance(getattr(value, f.name), bytes)]
        return {name: _plain(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
