"""`zerosum export`: a generator as a file that other programs run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from zerosum.commands.base import Command
from zerosum.data.spec import Direction


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write a generator as an ONNX file, which needs neither zerosum nor torch.

    Of a run that makes images of noise, a translator, or an imported checkpoint: the averaged weights, in fp32. It
    takes any number of images at once, and a translator any size that its network takes. If onnxruntime is installed,
    the file is first tried with it and compared with torch.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum export runs/digits-r3gan-001 digits.onnx",
        "zerosum export runs/clothes clothes.onnx --checkpoint best",
        "zerosum export runs/horses-cyclegan-001 horses.onnx --direction B2A",
        "zerosum export models/zebras zebras.onnx",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder, or an imported model's."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """The file to write, ending in .onnx."""
    direction: Direction | None = None
    """Of a translator: which way; the one that was trained for, if not given."""
    checkpoint: str = "last"
    """last, best (by the distance that the run logs), or a number of images seen."""

    def run(self) -> int:
        from zerosum.exports import export

        made = export(self.path, self.out, direction=self.direction, checkpoint=self.checkpoint)
        if made.difference is None:
            said = "not tried: onnxruntime is not installed (pip install 'zerosum[onnx]')"
        else:
            said = f"tried with onnxruntime: differs from torch by {made.difference:.1g} at most"
        print(f"{' and '.join(made.inputs)} to {made.output}; {said}", file=sys.stderr)
        print(self.out)
        return 0
