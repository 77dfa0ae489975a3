"""`zerosum data`: look at data before training on them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from zerosum.commands.base import Command, DataOptions
from zerosum.errors import UserError

if TYPE_CHECKING:
    from zerosum.data import Report

SHOWN = 8  # of a list


@dataclass(frozen=True, kw_only=True)
class DataCommand(Command):
    """Look at data before training on them.

    check: counts, sizes, channels, unreadable files, duplicates, classes, and the memory and the time that a
    run takes here. Status 1 if a run cannot be.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum data check ./photos",
        "zerosum data check digits --json",
        "zerosum data check photos.zip --size 64 64 --fit pad",
    )

    what: tyro.conf.Positional[Literal["check"]]
    """What to do."""
    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    json: bool = False
    """Print JSON instead of text."""

    def run(self) -> int:
        from zerosum import api
        from zerosum import data as data_sets
        from zerosum.data import pack
        from zerosum.view import progress_bar

        data, reasons, misfit = self.data.plain(), [], ""
        try:
            choice = api.pick(data)
            data, reasons = choice.run.data, choice.reasons
        except UserError as error:  # data that cannot be read at all are an error of the check too, below
            misfit = str(error)
        with progress_bar(f"checking {data.source}") as tick:
            report = data_sets.check(data, tick)
        if self.json:
            run = {"misfit": misfit} if misfit else {"shape": list(report.shape), "reasons": reasons}
            print(json.dumps(_plain(report.to_dict() | {"run": run}), indent=1))
        else:
            lines = _lines(report, [f"cannot be: {misfit}"] if misfit else reasons, str(pack.folder(data)))
            print("\n".join(lines))
        return 1 if misfit else 0


def _plain(value: Any) -> Any:
    """JSON has no word for a number that is not finite."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(report: Report, reasons: list[str], cache: str) -> Iterator[str]:
    def line(name: str, text: str) -> str:
        return f"{name:<11}  {text}"

    yield line("data", f"{report.source}: {report.count:,} {report.kind}")
    if report.held_out:
        yield line("held out", f"{report.held_out:,} of them: not trained on, to measure with (--held-out N)")
    if report.unreadable:
        yield line("unreadable", f"{len(report.unreadable):,} files, which are skipped")
        yield from (line("", f"{name}: {reason}") for name, reason in report.unreadable[:SHOWN])
        yield from _more(len(report.unreadable))
    if report.kind == "images":
        yield line("sizes", f"{_counts(report.sizes)} (height x width)")
        if report.formats:
            yield line("formats", _counts(report.formats))
        pixels = (_counts(report.channels_used), _counts(report.modes), f"bits {_counts(report.bits)}")
        yield line("pixels", "; ".join(pixels))
    yield line("values", f"{report.lowest:.4g} to {report.highest:.4g}")
    if report.classes:
        yield line("classes", f"{len(report.classes)}: {_counts(report.classes)}")
    else:
        yield line("classes", "none: no labels")
    if report.kind == "images":
        text = f"{report.exact_duplicates:,} exact, {report.near_duplicates:,} more that look alike"
        yield line("duplicates", text)
        same = [_equal(names, count) for names, count in report.exact_examples]
        alike = [f"{a} ~ {b}" for a, b in report.near_examples]
        yield from (line("", text) for text in [*same, *alike][:SHOWN])
        yield from _more(len(same) + len(alike))
    where = "in memory" if report.in_memory else f"mapped from the packed cache in {cache} (zerosum doctor: its size)"
    yield line("memory", f"{_size(report.memory_bytes)}, {where}")
    yield from (line("note", note) for note in report.notes)
    yield from (line("" if i else "a run here", reason) for i, reason in enumerate(reasons))


def _more(count: int) -> Iterator[str]:
    if count > SHOWN:
        yield f"{'':<11}  ... and {count - SHOWN:,} more (all that are known: --json)"


def _equal(names: Sequence[str], count: int) -> str:
    shown = names[:SHOWN]
    return " = ".join(shown) + (f" and {count - len(shown):,} more" if count > len(shown) else "")


def _counts(counts: Mapping[str, int]) -> str:
    first = list(counts.items())[:SHOWN]
    shown = [f"{name} ({count:,})" if len(counts) > 1 else name for name, count in first]
    return ", ".join(shown) + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")


def _size(count: int) -> str:
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
