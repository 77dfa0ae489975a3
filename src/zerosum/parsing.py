"""From words to dataclasses: tyro, with the few rules that this package needs."""

from __future__ import annotations

import dataclasses
import difflib
import io
import os
import shutil
import sys
import textwrap
import types
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from zerosum.errors import UserError
from zerosum.schedule import Schedule

T = TypeVar("T")
METAVAR: dict[Any, str] = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def _schedule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Schedule] | None:
    if info.type is not Schedule:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="SCHEDULE",
        instance_from_str=lambda words: Schedule.parse(words[0]),
        is_instance=lambda value: isinstance(value, Schedule),
        str_from_instance=lambda value: [str(value)],
    )


def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`X | None` reads like X; "none" is None. (tyro's own rule reports both attempts when neither fits.)"""
    options = get_args(info.type)
    if get_origin(info.type) not in (Union, types.UnionType) or len(options) != 2 or types.NoneType not in options:
        return None
    inner = next(option for option in options if option is not types.NoneType)
    if get_origin(inner) is Literal:
        return _choice(get_args(inner))
    parts = get_args(inner) if get_origin(inner) is tuple else (inner,)
    if not all(part in METAVAR for part in parts):
        return None

    def read(words: list[str]) -> Any:
        if words[0].lower() == "none":
            return None
        values = tuple(part(word) for part, word in zip(parts, words, strict=True))
        return values if get_origin(inner) is tuple else values[0]

    def write(value: Any) -> list[str]:
        if value is None:
            return ["none"]
        return [str(v) for v in (value if isinstance(value, tuple) else (value,))]

    return PrimitiveConstructorSpec(
        nargs=len(parts),
        metavar=" ".join(METAVAR[part] for part in parts),
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, (*parts, tuple)),
        str_from_instance=write,
    )


def _choice(values: tuple[Any, ...]) -> PrimitiveConstructorSpec[Any]:
    by_word = {str(value): value for value in values} | {"none": None}
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(map(str, values)) + "}",
        instance_from_str=lambda words: by_word[words[0]],
        is_instance=lambda value: value is None or value in values,
        str_from_instance=lambda value: ["none" if value is None else str(value)],
        choices=tuple(by_word),
    )


def new_registry() -> ConstructorRegistry:
    """The rules above, to which more may be added."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_schedule)
    registry.primitive_rule(_optional)
    return registry


def colour_wanted(*streams: Any) -> bool:
    """Whether people look at these streams, and want colour (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and all(stream is not None and stream.isatty() for stream in streams)


class _Captured(io.StringIO):
    """tyro asks standard output whether it is a terminal, even for what it writes to standard error."""

    def __init__(self, stream: Any, colour: bool) -> None:
        super().__init__()
        self.stream, self.colour = stream, colour

    def isatty(self) -> bool:
        return self.colour

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Decides between boxes drawn and boxes typed."""
        return self.stream.encoding or "ascii"

    def hand_over(self) -> None:
        """Print what was caught; lines of prose longer than the screen are wrapped."""
        width = shutil.get_terminal_size().columns
        for line in self.getvalue().splitlines():
            prose = len(line) > width and line[:1].isalnum()
            print(textwrap.fill(line, width) if prose else line.rstrip(), file=self.stream)


def parse(
    kind: type[T],
    words: Sequence[str],
    *,
    prog: str,
    description: str,
    default: T | None = None,
    flags: bool = True,
    registry: ConstructorRegistry | None = None,
) -> T:
    """An instance of `kind` from words of the command line. SystemExit after help (0) or an error (2).

    `flags`: booleans are set by their name alone; otherwise they take True or False.
    """
    booleans = tyro.conf.FlagCreatePairsOff if flags else tyro.conf.FlagConversionOff
    config = [booleans, tyro.conf.AvoidSubcommands, tyro.conf.SuppressFixed]
    colour = colour_wanted(sys.stdout, sys.stderr)
    out, err = _Captured(sys.stdout, colour), _Captured(sys.stderr, colour)
    more: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with redirect_stdout(out), redirect_stderr(err):
            return tyro.cli(
                kind, args=list(words), prog=prog, description=description, config=config,
                registry=registry or new_registry(), **more,
            )  # fmt: skip
    finally:
        err.hand_over()
        out.hand_over()


def nearest(word: str, known: Sequence[str]) -> str:
    """ "; did you mean ...?" with the names most like a wrong one, for the end of a message; "" if none is.

    Dotted names are found by their last part too: --width finds --algorithm.networks.width.
    """

    def likeness(name: str) -> float:
        pairs = ((word, name), (word.split(".")[-1].lstrip("-"), name.split(".")[-1].lstrip("-")))
        return max(difflib.SequenceMatcher(None, a, b).ratio() for a, b in pairs)

    scores = {name: likeness(name) for name in known}
    best = max(scores.values(), default=0.0)
    found = [name for name, score in scores.items() if score >= max(0.65, best - 0.05)][:3]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def split_off(words: Sequence[str], own: dict[str, int]) -> tuple[list[str], list[str]]:
    """Words of a command with options `own` (how many values each has), and all other options with theirs."""
    mine: list[str] = []
    rest: list[str] = []
    i = 0
    while i < len(words):
        word = words[i]
        if word == "--":
            raise UserError("--: not used here; give the options by their names")
        if not word.startswith("-") or _is_number(word):
            mine.append(word)
            i += 1
            continue
        name, equals, _ = word.partition("=")
        name = name.replace("_", "-")
        if name in own:
            count = 0 if equals else own[name]
            mine.extend(words[i : i + 1 + count])
            i += 1 + count
        else:
            end = i + 1
            while end < len(words) and not equals and (not words[end].startswith("-") or _is_number(words[end])):
                end += 1
            rest.extend(words[i:end])
            i = end
    return mine, rest


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def options_of(kind: type) -> dict[str, int]:
    """The options of a dataclass, without its positional words, by how many values each takes."""
    found = {"--help": 0, "-h": 0}
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, marks = _unwrap(hints[field.name])
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found |= options_of(hint)
        elif tyro.conf.Positional not in marks and tyro.conf.Fixed not in marks:
            inner = next((o for o in get_args(hint) if get_origin(o) is tuple), hint)
            count = len(get_args(inner)) if get_origin(inner) is tuple else 0 if hint is bool else 1
            named = next((name for mark in marks if (name := getattr(mark, "name", None))), field.name)
            found["--" + named.replace("_", "-")] = count
    return found


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """X and what is said about it, of Annotated[X, ...]."""
    return (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
