"""`zerosum import`: somebody else's translator, made one that runs here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from zerosum.commands.base import Command


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

    def run(self) -> int:
        from zerosum.translation import checkpoints, imported
        from zerosum.translation.model import Direction

        parts: dict[Direction, imported.Part] = {}
        files: dict[Direction, Path | None] = {"A2B": self.file, "B2A": self.back}
        for direction, file in files.items():
            if file is not None:
                found = checkpoints.read(file, part=self.part, statistics=self.statistics)
                parts[direction] = imported.Part(file, found)
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
