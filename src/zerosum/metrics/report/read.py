"""What a run's folder holds, as typed records. Whatever is missing or damaged becomes a note, and the rest is used.

The only place of the report that parses, with `fields`. A run that was killed has a right to its report, and so has one
whose files an older or a newer version wrote.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from zerosum import checkpoint
from zerosum.equilibrium import advisor
from zerosum.errors import UserError
from zerosum.metrics import measurement
from zerosum.metrics.measurement import Measurement
from zerosum.metrics.report.fields import Damaged, Fields, finite, load, sentence
from zerosum.metrics.report.records import (
    Advice,
    ClassRow,
    Direction,
    Equilibrium,
    Evaluation,
    Film,
    Judgement,
    Picture,
    Regret,
    Sentence,
    TwoSample,
)
from zerosum.runlog import (
    EQUILIBRIUM,
    EVALUATION,
    EVENTS,
    FILM,
    LOOP,
    ROWS,
    STATUS,
    read_events,
    read_status,
)

T = TypeVar("T")

ROWS_SIDE = 2400  # pixels: of the pictures of rows, which are long


class Folder:
    """Reads a run's folder, keeping note of what could not be read."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.notes: list[str] = []

    @property
    def name(self) -> str:
        return self.run.resolve().name

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def has(self, name: str) -> bool:
        return (self.run / name).exists()

    def object(self, name: str, *, expected: bool = True) -> dict[str, Any]:
        """A JSON object; empty, with a note, if it cannot be read, or if it is `expected` and not there."""
        if not self.has(name):
            if expected:
                self.note(f"{name} is not there")
            return {}
        try:
            value = load((self.run / name).read_text("utf-8"))
        except (ValueError, OSError, RecursionError) as error:
            self.note(f"{name} cannot be read: {error}")
            return {}
        return value if isinstance(value, dict) else {"": value}

    def events(self) -> list[dict[str, Any]]:
        if not self.has(EVENTS):
            self.note(f"{EVENTS} is not there")
            return []
        events = read_events(self.run)
        with open(self.run / EVENTS, "rb") as file:
            cut = sum(1 for line in file if line.strip()) - len(events)
        if cut > 0:
            self.note(f"{EVENTS}: {cut} line{'s' if cut > 1 else ''} cut off or damaged, left out")
        return events

    def state(self) -> str | None:
        """What `status.json` says of the run; None if there is none."""
        if not self.has(STATUS):
            return None
        try:
            status = read_status(self.run)
            return ": ".join(str(status[key]) for key in ("state", "text") if status.get(key))
        except (KeyError, TypeError):
            self.note(f"{STATUS} is damaged")
            return "not known"

    def evaluation(self) -> Evaluation | None:
        return self._record(EVALUATION, "evaluate", self._evaluation)

    def equilibrium(self) -> Equilibrium | None:
        return self._record(EQUILIBRIUM, "equilibrium", self._equilibrium)

    def advice(self, events: list[dict[str, Any]], seconds: float) -> Advice | str:
        """What the stop advisor says of the log; where it gives no advice, why."""
        none = "The log has no readings of its distance to the data that could say whether to go on."
        readings = list(_readings(events))
        saved = checkpoint.numbers(self.run)
        try:
            advice, text = advisor.replayed(readings, saved).advice, advisor.sentence(readings, saved, seconds)
        except (ArithmeticError, ValueError) as error:
            self.note(f"{EVENTS}: the stop advisor can make nothing of the readings: {error}")
            return none
        if advice is None or text is None:
            return none if text is None else sentence(text)
        seen = readings[-1]["images_seen"]
        return Advice(
            stop=advice.stop, text=sentence(text), best=advice.best, chance=advice.chance, forecast=advice.forecast,
            images_seen=seen,
        )  # fmt: skip

    def picture(self, path: Path, side: int) -> Picture | None:
        """A PNG, made smaller if a side is longer than `side` pixels; None, with a note, if it cannot be read."""
        try:
            data = path.read_bytes()
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                image.load()
                if max(image.size) > side:
                    image.thumbnail((side, side))
                    out = io.BytesIO()
                    image.save(out, "PNG")
                    data = out.getvalue()
                width, height = image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # PIL raises them all
            self.note(f"{path.name} cannot be read: {error}")
            return None
        seen = int(path.stem) if path.stem.isdigit() else None
        return Picture(path.relative_to(self.run).as_posix(), seen, width, height, data)

    def film(self, most: int) -> Film | None:
        """The film, or the smaller animated image; None, with a note, where both have more bytes than `most`."""
        for name, kind in ((FILM, "video/mp4"), (LOOP, "image/gif")):
            if not self.has(name):
                continue
            size = (self.run / name).stat().st_size
            if 0 < size <= most:
                return Film(name, kind, (self.run / name).read_bytes())
            self.note(f"{name} ({size / 1e6:.1f} MB) is not in this page: watch it in the run folder")
        return None

    # --- the records that other commands leave ---------------------------------------------------------------------

    def _record(self, name: str, command: str, read: Callable[[Fields], T]) -> T | None:
        values = self.object(name, expected=False)
        if not values:
            return None
        try:
            return read(Fields(values))
        except Damaged as error:
            self.note(f"{name} cannot be read: {error}; zerosum {command} makes it again")
            return None

    def _parts(self, name: str, items: Iterator[tuple[str, Callable[[], T]]]) -> Iterator[tuple[str, T]]:
        """Those parts that can be read; the others are named."""
        for key, read in items:
            try:
                yield key, read()
            except Damaged as error:
                self.note(f"{name}: {key} cannot be read: {error}")

    def _evaluation(self, f: Fields) -> Evaluation:
        def class_row(c: Fields) -> ClassRow:
            return ClassRow(
                name=c.text("name"), real_share=c.number("real_share"), fake_share=c.number("fake_share"),
                fake_low=c.number("fake_share_low"), fake_high=c.number("fake_share_high"),
                measurements=self._measurements(c, c.text("name")),
            )  # fmt: skip

        classes = ((f"class {i + 1}", lambda c=c: class_row(c)) for i, c in enumerate(f.objects("classes")))
        ways = enumerate(f.objects("directions"), 1)
        directions = ((f"direction {i}", lambda d=d: self._direction(d)) for i, d in ways)
        return Evaluation(
            what=f.text("what"), against=f.text("against"), images_seen=f.optional("images_seen", f.integer),
            features=f.mapping("features"), measurements=self._measurements(f, "measurements"),
            classes_from=f.text("classes_from"),
            classes=tuple(row for _, row in self._parts(EVALUATION, iter(classes))),
            directions=tuple(way for _, way in self._parts(EVALUATION, iter(directions))),
            nearest_distances=tuple(f.numbers("nearest_distances")),
            verdict=tuple(Sentence(v.text("kind"), v.text("text")) for v in f.objects("verdict")),
            notes=tuple(f.texts("notes")),
        )  # fmt: skip

    def _direction(self, f: Fields) -> Direction:
        name = f.text("direction")
        if name not in ROWS:
            raise Damaged(f"{f.path}direction is {name!r}, not one of {', '.join(ROWS)}")
        return Direction(
            direction=name, arms=tuple(f.texts("arms")), metrics=tuple(f.texts("metrics")),
            columns=tuple(f.texts("columns")), picture=self.picture(self.run / ROWS[name], ROWS_SIDE),
        )  # fmt: skip

    def _measurements(self, f: Fields, where: str) -> dict[str, Measurement]:
        def read(value: Any) -> Measurement:
            try:
                return _measurement(value)
            except (UserError, ValueError, TypeError) as error:
                raise Damaged(str(error)) from error

        found = f.mapping("measurements").items()
        items = ((key, lambda value=value: read(value)) for key, value in found)
        return dict(self._parts(f"{EVALUATION}, {where}", iter(items)))

    def _equilibrium(self, f: Fields) -> Equilibrium:
        points = ((f"point {i + 1}", lambda r=r: _regret(r)) for i, r in enumerate(f.objects("regret")))
        test, verdict = f.optional("two_sample", f.object), f.object("verdict")
        return Equilibrium(
            images_seen=f.optional("images_seen", f.integer),
            real=f.optional("real", f.text) or "",
            verdict=(Sentence(verdict.text("kind"), sentence(verdict.text("sentence"))),),
            notes=tuple(f.texts("notes")),
            two_sample=None if test is None else _two_sample(test),
            regrets=tuple(r for _, r in self._parts(f"{EQUILIBRIUM}, regret", iter(points))),
        )


def _measurement(value: Any) -> Measurement:
    """As `measurement.from_json` gives it, with every number that is shown looked at: JSON holds anything."""
    found = measurement.from_json(value)
    f = Fields(value)
    f.number("value")
    f.optional("low", f.number)
    f.optional("high", f.number)
    if value["floor"] is not None:
        f.object("floor").interval()
    protocol = f.object("protocol")
    for name in ("n_real", "n_fake"):
        protocol.integer(name)
    return found


def _readings(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The whole readings of the log, in order; where the run went back, the undone ones are not there."""
    kept: list[dict[str, Any]] = []
    for event in events:
        seen, distance, error = (
            event.get("images_seen"),
            *(finite(event.get(k)) for k in ("distance", "distance_error")),
        )
        if event.get("event") != "probe" or event.get("final") or type(seen) is not int or finite(seen) is None:
            continue
        if distance is None or error is None or min(distance, error) < 0:
            continue
        while kept and kept[-1]["images_seen"] >= seen:
            kept.pop()
        floor = finite(event.get("floor"))
        kept.append(
            {"event": "probe", "images_seen": seen, "distance": distance, "distance_error": error}
            | ({"floor": floor} if floor is not None and floor > 0 else {})
            | ({"growing": True} if event.get("growing") is True else {})
        )
    yield from kept


def _two_sample(f: Fields) -> TwoSample:
    def judgements(name: str) -> tuple[Judgement, ...]:
        return tuple(
            Judgement(j.text("judge"), j.integer("n"), j.object("accuracy").interval()) for j in f.objects(name)
        )

    return TwoSample(
        fake=judgements("fake"), control=judgements("control"), trained_on=f.optional("trained_on", f.integer),
        judged=f.optional("judged", f.integer), detectable=f.optional("detectable", f.number),
        alpha=f.optional("alpha", f.number),
    )  # fmt: skip


def _regret(f: Fields) -> Regret:
    gains = {g.text("side"): g.object("gain").interval() for g in f.objects("gains")}
    gap = f.optional("gap", f.object)
    return Regret(
        images_seen=f.integer("images_seen"), turns=f.optional("turns", f.integer), gains=gains,
        gap=None if gap is None else gap.interval(),
    )  # fmt: skip
