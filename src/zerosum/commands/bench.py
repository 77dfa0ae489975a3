"""`zerosum bench`: the committed benchmarks, run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from zerosum.commands.base import Command


@dataclass(frozen=True, kw_only=True)
class Bench(Command):
    """Run a benchmark of the project and write its result.

    Each benchmark has options of its own: zerosum bench NAME --help.
    """

    examples: ClassVar[tuple[str, ...]] = ("zerosum bench", "zerosum bench digits", "zerosum bench digits --help")
    passes_on: ClassVar[bool] = True

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[NAME]")] = ""
    """Which one; lists them if not given."""
    rest: tyro.conf.Fixed[tuple[str, ...]] = ()

    def run(self) -> int:
        from zerosum import bench

        if not self.name:
            width = max(map(len, bench.BENCHMARKS))
            print("\n".join(f"{name:<{width}}  {text}" for name, text in bench.BENCHMARKS.items()))
            return 0
        return bench.main([self.name, *self.rest]) or 0
