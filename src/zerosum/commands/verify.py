"""`zerosum verify`: proofs on the user's own runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from zerosum.commands.base import Command
from zerosum.parsing import colour_wanted

SHOWN = 5  # differences named of each kind


@dataclass(frozen=True, kw_only=True)
class Verify(Command):
    """Prove a promise on your own recipe.

    resume: trains the run's recipe for a short time twice in a temporary folder, once in peace and once
    killed (SIGKILL) while it writes a checkpoint and then resumed, and compares every tensor and every logged
    value. Status 1 if anything differs.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum verify resume runs/digits-r3gan-001",
        "zerosum verify resume runs/clothes --images 20000",
    )

    what: tyro.conf.Positional[Literal["resume"]]
    """What to prove."""
    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder; it is only read."""
    images: int | None = None
    """Length of the trial in real images; 24 steps if not given."""

    def run(self) -> int:
        from zerosum import verify

        verdict = verify.resume(self.path, self.images, lambda text: print(text, file=sys.stderr))
        lengths = (verdict.images, verdict.killed_at, verdict.resumed_from)
        print("{}: {:,} images, killed at {:,}, resumed from {:,}".format(self.path, *lengths))
        for row in verdict.rows:
            result = "equal" if not row.different else f"{len(row.different)} DIFFER"
            print(f"  {row.what:<18} {row.count:>7,} compared   {result}")
            for name in row.different[:SHOWN]:
                print(f"    {name}")
        text, colour = ("resumed exactly", "32") if verdict.equal else ("NOT resumed exactly", "31")
        print(f"\x1b[{colour}m{text}\x1b[0m" if colour_wanted(sys.stdout) else text)
        return 0 if verdict.equal else 1
