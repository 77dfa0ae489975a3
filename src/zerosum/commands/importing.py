"""`zerosum import`: somebody else's translator, made one that runs here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from zerosum.commands.base import Command
from zerosum.data.spec import Direction
from zerosum.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Import(Command):
    """Take over a generator of pytorch-CycleGAN-and-pix2pix (latest_net_G.pth and the like).

    The file is opened in a process of its own that runs none of what is in it; what comes out is a folder of plain
    weights for zerosum translate. Architecture, widths and norms are recognised from the weights.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum import horse2zebra/latest_net_G.pth --out models/zebras",
        "zerosum import facades/latest_net_G.pth --statistics stored --out models/facades",
        "zerosum import latest_net_G_A.pth --back latest_net_G_B.pth --out models/monet",
        "zerosum import both.pth --part G_AB --back both.pth --back-part G_BA --out models/monet",
    )

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The checkpoint of a generator."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder to write."""
    back: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The generator of the way back, for --direction B2A."""
    statistics: Literal["image", "stored"] = "image"
    """Batch norm goes by each image's own mean and variance, as the published test script does, or by those that
    training has stored, as it does with --eval."""
    part: str | None = None
    """Of a file with several generators: which, by name."""
    back_part: str | None = None
    """The same of the file of the way back; as --part, if that is another file and nothing is given."""

    def run(self) -> int:
        from zerosum.translation import checkpoints, imported

        if self.back is None and self.back_part is not None:
            raise UserError(f"--back-part {self.back_part}: is of the file of the way back; give that with --back")
        imported.check(self.out)
        there = checkpoints.read(self.file, part=self.part, statistics=self.statistics)
        parts: dict[Direction, imported.Part] = {"A2B": imported.Part(self.file, there)}
        if self.back is not None:
            another = self.back.resolve() != self.file.resolve()
            named = self.part if self.back_part is None and another else self.back_part
            found = checkpoints.read(self.back, part=named, statistics=self.statistics, option="--back-part")
            if imported.alike(there, found):
                raise UserError(
                    f"--back {self.back}: holds the weights of the way there once more; give the generator of the way "
                    "back, by --back-part if one file holds both"
                )
            parts["B2A"] = imported.Part(self.back, found)
        for direction, part in parts.items():
            kind, found = type(part.found.description).__name__, part.found
            weights = sum(p.numel() for p in found.network.parameters())
            sides = f"{found.source.shape[0]} to {found.target.shape[0]} channels"
            print(f"{direction}: {kind}, {sides}, {weights:,} weights", file=sys.stderr)
            for note in found.notes:
                print(f"note: {note}", file=sys.stderr)
        imported.keep(parts, self.out)
        print(self.out)
        return 0
