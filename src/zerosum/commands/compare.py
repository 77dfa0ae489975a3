"""`zerosum compare`: runs beside each other, if they were measured alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from zerosum.commands.base import Command
from zerosum.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Compare(Command):
    """Put runs beside each other: a table of their measurements, and a picture.

    Runs without an evaluation are evaluated first. Those measured by unlike protocols are refused, and the message
    says which field differs. The picture has a row for each run, of the same latents where they have as many numbers.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum compare runs/digits-r3gan-001 runs/digits-dcgan-001",
        "zerosum compare runs/a runs/b runs/c --out beside.png",
    )

    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
    """The runs' folders."""
    out: Path = Path("comparison.png")
    """The picture."""
    images: int = 12
    """Images of each run in it."""

    def run(self) -> int:
        if len(set(self.paths)) < 2:
            raise UserError(f"{' '.join(map(str, self.paths)) or 'no runs'}: give two different runs or more")
        if self.images < 1:
            raise UserError(f"--images {self.images}: must be 1 or more")
        from zerosum import api, pictures, sample
        from zerosum.commands.evaluate import comparison, progress, write_table
        from zerosum.metrics import evidence

        with progress() as say:
            records, shared = api.compare(*self.paths, evaluated={"progress": say})
        names = {Path(path).name if len({p.name for p in self.paths}) == len(self.paths) else path: record
                 for path, record in records.items()}  # fmt: skip
        write_table(comparison({name: record.measurements for name, record in names.items()}, shared))
        for name, record in names.items():
            for finding in record.content["verdict"]:
                print(f"{name}: {finding['text']}")
        samples = [sample.load(path).sample(self.images, 0).seen for path in self.paths]
        if samples[0].ndim == 4:
            about = {"zerosum": "generated", "rows": ", ".join(names)}
            pictures.save_png(evidence.side_by_side(samples), self.out, about)
            print(self.out)
        return 0
