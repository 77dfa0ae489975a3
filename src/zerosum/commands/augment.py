"""`zerosum augment`: does a GAN help my classifier?"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from zerosum.commands.base import Command, OneSidedOptions, refuse_file
from zerosum.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Augment(Command):
    """Find out whether synthetic images help a classifier of your labelled ones.

    One classifier is trained on real images alone, with classical augmentation, with images of a GAN at several ratios,
    and with both; tested over folds, or over draws of a few labels, on real images that nothing was trained on. The
    report says in one sentence whether they help, hurt, or whether that cannot be told. It can be stopped and goes on.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum augment ./xrays --groups patients.csv",
        "zerosum augment pneumonia.npz --labelled 100 --draws 5 --minutes 8 --positive 1",
        "zerosum augment ./lesions --folds 4 --ratios 1 2 --out studies/lesions",
    )

    data: tyro.conf.OmitArgPrefixes[OneSidedOptions] = field(default_factory=OneSidedOptions)
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The study's folder; studies/DATA if not given. A study that was stopped goes on there."""
    labelled: int | None = None
    """Draw so many labelled images, several times, and test on the set's own test images (or on half of it). A draw has
    one image of a patient at most (--groups), and one of several alike. All labels, in folds, if not given."""
    folds: int | None = None
    """Folds, each tested on by what was trained on the others; 5 if not given. Not with --labelled."""
    draws: int | None = None
    """How often --labelled images are drawn; 5 if not given."""
    minutes: float = 5.0
    """Minutes of training for the GAN of each fold or draw."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Synthetic images for each real one. The verdict is about 1, or the first where that is not among them."""
    seeds: int = 3
    """Classifiers in each arm of each fold or draw."""
    positive: str | None = None
    """Of two classes the one to be found, such as the disease: sensitivity is of it. The last if not given."""
    groups: Path | None = None
    """A CSV with columns file and group, such as each image's patient: a group stays on one side. For arrays a value a
    line, test images last."""
    seed: int = 0
    """Folds and draws are made from it."""
    device: str = "auto"
    """cpu, cuda or mps."""

    def run(self) -> int:
        for name, least in (("labelled", 2), ("folds", 2), ("draws", 1), ("seeds", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} {value}: must be {least} or more")
        if self.labelled is not None and self.folds is not None:
            raise UserError(
                f"--folds {self.folds}: is for studies of all labels, and --labelled {self.labelled} makes draws; give "
                "--draws, or drop --labelled"
            )
        if self.labelled is None and self.draws is not None:
            raise UserError(f"--draws {self.draws}: is for draws of --labelled images; give that, or --folds")
        refuse_file(self.out)
        from zerosum import api
        from zerosum.applications import augment
        from zerosum.applications.study import Plan
        from zerosum.data.store import ArrayDataset
        from zerosum.engine import choose_device

        choose_device(self.device)  # a study asks for it late
        data = self.data.plain()
        out = self.out or Path("studies") / Path(data.source).stem
        usual = augment.Options
        options = augment.Options(
            labelled=self.labelled, folds=usual.folds if self.folds is None else self.folds,
            draws=usual.draws if self.draws is None else self.draws, minutes=self.minutes, positive=self.positive,
            groups=self.groups, seed=self.seed,
        )  # fmt: skip
        plan = Plan(ratios=self.ratios, seeds=self.seeds, flip=data.flip)

        def opened(wanted: object) -> ArrayDataset:
            found = api.open_images(wanted)  # type: ignore[arg-type]
            assert isinstance(found, ArrayDataset)
            return found

        try:
            found = augment.study(
                data, options, plan, out, open_data=opened, device=self.device,
                say=lambda text: print(text, file=sys.stderr, flush=True),
            )  # fmt: skip
        except KeyboardInterrupt as stop:
            stop.add_note(f"stopped; the same command goes on with what is in {out}")
            raise
        print(found.verdict.sentence)
        print(found.report)
        print(found.synthetic)
        return 0
