"""JSON of a run's folder, asked for its fields: what is missing or of another kind is `Damaged`, and named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from zerosum.metrics.intervals import Interval

T = TypeVar("T")


class Damaged(Exception):
    """A file, or a part of one, is not what it ought to be; the message names the part."""


class Fields:
    """A JSON object, asked for its fields: `Damaged` names the one that is missing or of another kind."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self.values, self.path = values, path

    def _get(self, name: str, kinds: tuple[type, ...], wanted: str) -> Any:
        value = self.values.get(name)
        if type(value) not in kinds:
            shown = "missing" if name not in self.values else f"{_short(value)}, not {wanted}"
            raise Damaged(f"{self.path}{name} is {shown}")
        return value

    def number(self, name: str) -> float:
        value = self._get(name, (int, float), "a number")
        if (known := finite(value)) is None:
            raise Damaged(f"{self.path}{name} is {_short(value)}, not a finite number")
        return known

    def integer(self, name: str) -> int:
        return int(self._get(name, (int,), "a whole number"))

    def text(self, name: str) -> str:
        return str(self._get(name, (str,), "text"))

    def mapping(self, name: str) -> dict[str, Any]:
        return dict(self._get(name, (dict,), "an object"))

    def object(self, name: str) -> Fields:
        return Fields(self.mapping(name), f"{self.path}{name}.")

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        return None if self.values.get(name) is None else read(name)

    def objects(self, name: str) -> list[Fields]:
        """A list of objects; empty if the field is not there."""
        items = self.values.get(name)
        if items is None:
            return []
        for i, item in enumerate(self._get(name, (list,), "a list")):
            if not isinstance(item, dict):
                raise Damaged(f"{self.path}{name}[{i}] is {_short(item)}, not an object")
        return [Fields(item, f"{self.path}{name}[{i}].") for i, item in enumerate(items)]

    def numbers(self, name: str) -> list[float]:
        return [Fields({str(i): v}, f"{self.path}{name}.").number(str(i)) for i, v in enumerate(self._list(name))]

    def texts(self, name: str) -> list[str]:
        return [Fields({str(i): v}, f"{self.path}{name}.").text(str(i)) for i, v in enumerate(self._list(name))]

    def _list(self, name: str) -> list[Any]:
        return [] if self.values.get(name) is None else list(self._get(name, (list,), "a list"))

    def interval(self) -> Interval:
        """This object as an `Interval`."""
        how = self.optional("how", self.text) or ""
        level = self.optional("level", self.number) or 0.0
        return Interval(self.number("value"), self.number("low"), self.number("high"), level, how)


def finite(value: Any) -> float | None:
    """The number, if it is one."""
    try:
        return float(value) if type(value) in (int, float) and math.isfinite(value) else None
    except OverflowError:  # a whole number that no float holds
        return None


def load(text: str) -> Any:
    """JSON, in which what is not finite becomes null: it could not be written again."""

    def number(digits: str) -> float | None:
        return finite(float(digits))

    return json.loads(text, parse_constant=lambda _: None, parse_float=number)


def sentence(text: str) -> str:
    """With a capital and a full stop: some messages are written to stand in a line of a terminal."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 40 else shown[:37] + "..."
