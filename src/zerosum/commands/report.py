"""`zerosum report`: film and page of a run, again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from zerosum.commands.base import Command


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Make a run's film and report again from what its folder holds.

    Runs write both when they end; this is for runs that were killed, or go on, or are of an older version.
    """

    examples: ClassVar[tuple[str, ...]] = ("zerosum report runs/digits-r3gan-001",)

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""

    def run(self) -> int:
        from zerosum import sample, session
        from zerosum.metrics.report import write_report
        from zerosum.runlog import FILM

        sample.read_recipe(self.path)
        session.make_film(self.path)
        print(write_report(self.path))
        if (self.path / FILM).exists():
            print(self.path / FILM)
        return 0
