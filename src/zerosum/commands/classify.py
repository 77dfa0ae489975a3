"""`zerosum classify`: the classifier that a semi-supervised run has trained."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from zerosum.commands.attack import same_source
from zerosum.commands.base import Command, DataOptions
from zerosum.errors import UserError

if TYPE_CHECKING:
    from zerosum.data.spec import Dataset


@dataclass(frozen=True, kw_only=True)
class Classify(Command):
    """Say what images show, by a classifier that was trained with few labels (--algorithm ssgan).

    Writes a table: a line for each image with the class and how sure the classifier is of it. Where the images have
    labels of the run's classes, or of some of them, the share that is right is said, too, and whether the run was
    trained on these images: then it says little of others.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum classify runs/xrays ./new --out found.csv",
        "zerosum classify runs/digits-ssgan-001 mnist --split test",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    out: Path | None = None
    """The table (CSV); to standard output if not given."""
    checkpoint: str = "last"
    """last, best, or a number of images seen."""

    def run(self) -> int:
        if self.out is not None and self.out.is_dir():
            raise UserError(f"--out {self.out}: is a folder; give a file that ends in .csv")
        import numpy as np

        from zerosum import api, atomic
        from zerosum.applications import parts, trained
        from zerosum.data.source import as_seen
        from zerosum.data.store import ArrayDataset
        from zerosum.metrics.intervals import binomial

        model = trained.load(self.path, self.checkpoint)
        if not model.spec.is_image:
            raise UserError(f"{self.path}: is of points, and images are classified")
        data = as_seen(self.data.plain(), model.spec)
        found = api.open_images(data)
        if not isinstance(found, ArrayDataset) or found.spec.shape != model.spec.shape:
            raise UserError(f"{data.source}: images of {model.spec.shape} are wanted, not {found.spec.shape}")
        p = model.probabilities(found.in_eight_bits().values)
        names = parts.file_names(data, found) or [str(i) for i in range(len(found))]
        table = io.StringIO()
        lines = csv.writer(table, lineterminator="\n")
        lines.writerow(["file", "class", "probability"])
        for name, row in zip(names, p, strict=True):
            lines.writerow([name, model.class_names[row.argmax()], f"{row.max():.4f}"])
        if self.out is None:
            print(table.getvalue(), end="")
        else:
            atomic.write_file(self.out, table.getvalue().encode())
            print(self.out)
        if found.labels is None:
            return 0
        if others := [name for name in found.class_names if name not in model.class_names]:
            print(
                f"how many are right is not known: {others[0]} is none of the run's classes "
                f"({', '.join(model.class_names)})",
                file=sys.stderr,
            )
            return 0
        number = np.array([model.class_names.index(name) for name in found.class_names])  # where some are missing
        right = binomial(int((p.argmax(1) == number[found.labels]).sum()), len(found))
        some = f"; of {', '.join(found.class_names)} alone" if len(number) < len(model.class_names) else ""
        known = "; the run was trained on these images, or on some of them" if self._trained_on(found) else ""
        print(f"right: {right.value:.2%} ({right.low:.2%} to {right.high:.2%}){some}{known}", file=sys.stderr)
        return 0

    def _trained_on(self, found: Dataset) -> bool:
        """Whether the run's data are these images, or of their source, in whatever way it was read."""
        from zerosum import run as runs
        from zerosum import sample

        recipe = sample.read_recipe(self.path)
        own = runs.from_json(recipe["run"]).data
        return found.fingerprint == recipe["data"]["fingerprint"] or same_source(own, self.data.plain())
