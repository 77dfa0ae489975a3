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
    from zerosum.data import Report, SidesReport

SHOWN = 8  # of a list


@dataclass(frozen=True, kw_only=True)
class DataCommand(Command):
    """Look at data before training on them.

    check: counts, sizes, channels, unreadable files, duplicates, classes, and the memory and the time that a
    run takes here. Of two sides (--pairing, --target, --made) both, and what of them belongs together. Status 1 if a
    run cannot be.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum data check ./photos",
        "zerosum data check digits --json",
        "zerosum data check photos.zip --size 64 64 --fit pad",
        "zerosum data check ./facades --pairing joined",
        "zerosum data check ./horses --target ./zebras --pairing unpaired",
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

        data = self.data.plain()
        run: dict[str, Any]
        try:
            choice = api.pick(data)
            data, run = choice.run.data, {"shape": list(choice.dataset.spec.shape), "reasons": choice.reasons}
        except UserError as error:  # data that cannot be read at all are an error of the check too, below
            run = {"misfit": str(error)}
        with progress_bar(f"checking {data.source}") as tick:
            report = data_sets.check_sides(data, tick) if data_sets.two_sided(data) else data_sets.check(data, tick)
        status = 1 if "misfit" in run else 0
        if self.json:
            print(json.dumps(_plain(report.to_dict() | {"run": run}), indent=1))
            return status
        if isinstance(report, data_sets.SidesReport):
            lines = [*_lines_of_sides(report)]
        else:
            lines = [*_lines(report, str(pack.folder(data)))]
        told = [f"cannot be: {run['misfit']}"] if status else run["reasons"]
        lines += [_line("note", note) for note in report.notes if note not in told]
        print("\n".join([*lines, *(_line("" if i else "a run here", reason) for i, reason in enumerate(told))]))
        return status


def _plain(value: Any) -> Any:
    """JSON has no word for a number that is not finite."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(name: str, text: str) -> str:
    return f"{name:<11}  {text}"


def _lines(report: Report, cache: str) -> Iterator[str]:
    yield _line("data", f"{report.source}: {report.count:,} {report.kind}")
    if report.held_out:
        yield _line("held out", f"{report.held_out:,} of them: not trained on, to measure with (--held-out N)")
    if report.unreadable:
        yield from _listed("unreadable", f"{len(report.unreadable):,} files, which are skipped", report.unreadable)
    if report.kind == "images":
        yield _line("sizes", f"{_counts(report.sizes)} (height x width)")
        if report.formats:
            yield _line("formats", _counts(report.formats))
        pixels = (_counts(report.channels_used), _counts(report.modes), f"bits {_counts(report.bits)}")
        yield _line("pixels", "; ".join(pixels))
    yield _line("values", f"{report.lowest:.4g} to {report.highest:.4g}")
    if report.classes:
        yield _line("classes", f"{len(report.classes)}: {_counts(report.classes)}")
    else:
        yield _line("classes", "none: no labels")
    if report.kind == "images":
        text = f"{report.exact_duplicates:,} exact, {report.near_duplicates:,} more that look alike"
        yield _line("duplicates", text)
        same = [_equal(names, count) for names, count in report.exact_examples]
        alike = [f"{a} ~ {b}" for a, b in report.near_examples]
        yield from _first([*same, *alike], len(same) + len(alike))
    where = "in memory" if report.in_memory else f"mapped from the packed cache in {cache} (zerosum doctor: its size)"
    yield _line("memory", f"{_size(report.memory_bytes)}, {where}")


def _lines_of_sides(report: SidesReport) -> Iterator[str]:
    what = "pairs" if report.paired else "images on the smaller side, unpaired"
    yield _line("data", f"{report.source}: {report.count:,} {what}")
    if report.held_out:
        yield _line("held out", f"{report.held_out:,} of them: not trained on, to measure with (--held-out N)")
    for side in report.sides:
        yield _line(f"side {side.side.upper()}", f"{side.count:,} images; {_counts(side.sizes)} (height x width)")
        pixels = (_counts(side.channels_used), _counts(side.depths), f"values {side.lowest:.4g} to {side.highest:.4g}")
        yield _line("", "; ".join(pixels))
    if report.unreadable:
        yield from _listed("unreadable", f"{len(report.unreadable):,} left out", report.unreadable)
    if report.alone:
        yield from _listed("no partner", f"{len(report.alone):,} left out", report.alone)
    if report.unlike_sizes:
        yield _line("sizes", f"{report.unlike_sizes:,} pairs whose images differ in size, and are brought to one")
        yield from _first(report.unlike_examples, report.unlike_sizes)
    for side in report.sides:
        name = f"side {side.side.upper()}"
        counted = f"{side.exact_duplicates:,} exact, {side.near_duplicates:,} more that look alike"
        yield _line("duplicates", f"{name}: {counted}")
        same = [_equal(names, count) for names, count in side.exact_examples]
        alike = [f"{a} ~ {b}" for a, b in side.near_examples]
        yield from _first([*same, *alike], len(same) + len(alike))
        if report.has_test:
            yield _line("test split", f"{name}: {side.in_test:,} images of it are in training too")
            yield from _first([f"{a} = {b}" for a, b in side.in_test_examples], side.in_test)
    if report.on_both:
        yield _line("both sides", f"{report.on_both:,} images of side B equal one of side A")
        yield from _first([f"{a} = {b}" for a, b in report.on_both_examples], report.on_both)
    if (found := report.alignment) is not None:
        agree = f"edges of partners agree by {found.partners:.2f}, of others by {found.strangers:.2f} (1: the same)"
        says = "partners belong together" if found.sure else "partners may not lie over one another: look at some"
        yield _line("alignment", f"{agree}: {says}")


def _listed(name: str, text: str, found: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A heading, and the first images by name and reason."""
    yield _line(name, text)
    yield from _first([f"{one}: {reason}" for one, reason in found], len(found))


def _first(texts: Sequence[str], count: int) -> Iterator[str]:
    """The first of so many."""
    yield from (_line("", text) for text in texts[:SHOWN])
    yield from _more(count)


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
