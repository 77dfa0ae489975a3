"""Any field of a recipe as an option: `--algorithm.gamma 0.1`, `--adam-g.lr cosine:3e-4:0:200000`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tyro.constructors import StructConstructorSpec, StructTypeInfo

from zerosum.data.spec import Data
from zerosum.errors import UserError
from zerosum.parsing import nearest, new_registry, parse
from zerosum.run import Run, to_json

registry = new_registry()


@registry.struct_rule
def _data(info: StructTypeInfo) -> StructConstructorSpec | None:
    """The data are open by now: how they are read is for the command's own options to say."""
    return StructConstructorSpec(lambda: info.default, ()) if info.type is Data else None


def show(run: Run, prog: str) -> None:
    """Print every field with its value and meaning."""
    _parse(run, ["--help"], prog)


def apply(run: Run, words: Sequence[str], own: Sequence[str]) -> Run:
    """The run with the fields that `words` name; `own` are the command's options, to hint at in a message.

    Raises UserError for a name that is no field, SystemExit for a value that does not fit (said by then).
    """
    known = ["--" + path.replace("_", "-") for path in _paths(to_json(run))]
    known = [name for name in known if not name.startswith("--data.")]
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            hints = nearest(name, [*known, *own])
            raise UserError(
                f"{name}: there is no such option{hints or '; --recipe-help lists the fields of the recipe'}"
            )
    return _parse(run, words, "zerosum train") if words else run


def _paths(value: Any, before: str = "") -> Iterator[str]:
    """The dotted names of the leaves of a JSON tree."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _paths(inner, f"{before}{name}.")
        elif name != "kind":
            yield before + name


def _parse(run: Run, words: Sequence[str], prog: str) -> Run:
    try:
        return parse(
            Run, words, prog=prog, default=run, flags=False, registry=registry,
            description="Every field of the recipe, with the value that was picked.\n\n"
            "SCHEDULE: a number, linear:START:END:IMAGES or cosine:START:END:IMAGES.",
        )  # fmt: skip
    except ValueError as error:  # a dataclass that checks its own values
        raise UserError(str(error)) from error
