"""`zerosum equilibrium`: how near a run is to equilibrium, and in one sentence what is the matter if it is not."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from zerosum.commands.base import Command
from zerosum.errors import UserError
from zerosum.parsing import colour_wanted

if TYPE_CHECKING:
    from zerosum.equilibrium.measure import Equilibrium
    from zerosum.metrics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class EquilibriumCommand(Command):
    """Test whether a run is at equilibrium: generated like real, and nobody gains by moving alone.

    Fresh discriminators of three sizes try to tell generated from real images that the run did not train on; the
    same test of real against real is the control. Then each player gets extra turns on a copy, the other frozen:
    what it gains, it still had to learn. Everything stays on this machine.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum equilibrium runs/digits-r3gan-001",
        "zerosum equilibrium runs/digits-r3gan-001 --quick",
        "zerosum equilibrium runs/clothes --checkpoint best -n 5000 --json clothes.json",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    number: Annotated[int | None, tyro.conf.arg(name="n", aliases=["-n"], metavar="INT")] = None
    """Images of each kind for the judges, at most; 2,000 if not given."""
    seed: int = 0
    """Latents, choices of images and the judges are drawn from it."""
    checkpoint: str = "last"
    """last, best, or a number of images seen."""
    quick: bool = False
    """Fewer images, shorter training of the judges, one checkpoint: a first look."""
    json: Path | None = None
    """Also write everything to this file."""

    def run(self) -> int:
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: must be 0 or more")
        if self.number is not None and self.number < 1:
            raise UserError(f"-n {self.number}: must be 1 or more")
        from zerosum import api
        from zerosum.equilibrium import measure, picture
        from zerosum.metrics.report import write_report
        from zerosum.runlog import EQUILIBRIUM
        from zerosum.view import progress_bar

        with progress_bar("reading") as tick:
            found = api.equilibrium_of(
                self.path, n=self.number, seed=self.seed, quick=self.quick, checkpoint=self.checkpoint,
                say=lambda what, done, total: tick(done, total, what),
            )  # fmt: skip
        show(found)
        for path in (self.path / EQUILIBRIUM, self.json):
            if path is not None:
                measure.write(found, path)
                print(path)
        picture.draw(found, self.path / measure.PICTURE)
        print(self.path / measure.PICTURE)
        print(write_report(self.path))
        return 0


def show(found: Equilibrium) -> None:
    """The tables and the verdict, on standard output."""
    test = found.test
    print(f"{found.run} at {found.images_seen:,} images; real images: {found.real}")
    print()
    print(f"fresh judges, right on {2 * test.judged:,} images (50 % is a guess)")
    print(f"  {'':<20} {'generated against real':<26} real against real")
    for fake, control in zip(test.fake, test.control, strict=True):
        mark = "" if control.guesses else "   BROKEN"
        print(f"  {fake.judge:<20} {_share(fake.accuracy):<26} {_share(control.accuracy)}{mark}")
    print(f"  intervals hold together at {100 * (1 - test.alpha):.0f} %; an accuracy of {100 * test.detectable:.1f} %")
    print("  is found in 4 of 5 cases, a smaller one may go unseen")
    if found.regret:
        print()
        print(
            f"what each player still gains in {found.regret[-1].turns} extra turns, the other frozen (fall of its loss)"
        )
        print(f"  {'images seen':>12}  " + "  ".join(f"{g.side:<26}" for g in found.regret[-1].gains) + "  gap")
        for point in found.regret:
            gains = "  ".join(f"{_gain(g.gain):<26}" for g in point.gains)
            print(f"  {point.images_seen:>12,}  {gains}  {_gain(point.gap)}")
    print()
    for note in found.notes:
        print(f"note: {note}")
    good = found.verdict.kind == "at equilibrium"
    colour = "32" if good else "33"
    text = f"{found.verdict.sentence}."
    print(f"\x1b[{colour}m{text}\x1b[0m" if colour_wanted(sys.stdout) else text)


def _share(x: Interval) -> str:
    return f"{100 * x.value:.1f} % ({100 * x.low:.1f} to {100 * x.high:.1f})"


def _gain(x: Interval) -> str:
    return f"{x.value:.3g} ({x.low:.3g} to {x.high:.3g})"
