"""`zerosum classify`: the classifier that a semi-supervised run has trained."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from zerosum.commands.base import Command, OneSidedOptions, refuse_form
from zerosum.errors import UserError

if TYPE_CHECKING:
    from zerosum.applications.trained import Known


@dataclass(frozen=True, kw_only=True)
class Classify(Command):
    """Say what images show, by a classifier that was trained with few labels (--algorithm ssgan).

    Writes a table: a line for each image with the class and how sure the classifier is of it. Where the images have
    labels of the run's classes, or of some of them, the share that is right is said, too, and how many of these images
    the run was trained on: what it says of those tells little of others.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum classify runs/xrays ./new --out found.csv",
        "zerosum classify runs/digits-ssgan-001 mnist --split test",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    data: tyro.conf.OmitArgPrefixes[OneSidedOptions] = field(default_factory=OneSidedOptions)
    out: Path | None = None
    """The table (CSV); to standard output if not given."""
    checkpoint: str = "last"
    """last, best, or a number of images seen."""

    def run(self) -> int:
        if self.out is not None and self.out.is_dir():
            raise UserError(f"--out {self.out}: is a folder; give a file that ends in .csv")
        refuse_form(self.data, self.path)
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
        try:
            number = model.numbers_of(found.class_names)
        except UserError as error:
            print(f"how many are right is not known: {error}", file=sys.stderr)
            return 0
        right = binomial(int((p.argmax(1) == number[found.labels]).sum()), len(found))
        alone = trained.alone(found.class_names, model.class_names)
        known = _said(trained.known(self.path, found, data, api.open_images))
        print(
            f"right: {right.value:.2%} ({right.low:.2%} to {right.high:.2%}){alone and ';' + alone}{known}",
            file=sys.stderr,
        )
        return 0


def _said(known: Known) -> str:
    """How many of the images the run was trained on, in words, behind others."""
    if known.each is not None:
        count = int(known.each.sum())
        return f"; the run was trained on {count:,} of these images" if count else ""
    if known.same_source:
        return "; the run was trained on these images, or on some of them"
    return f"; whether the run was trained on these images cannot be told: {known.why_not}"
