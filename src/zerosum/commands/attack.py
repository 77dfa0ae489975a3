"""`zerosum attack`: how a classifier that zerosum trained stands small changes of its images."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from zerosum.commands.base import Command, OneSidedOptions, fresh_folder, refuse_form
from zerosum.data.spec import Data
from zerosum.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from zerosum.applications.trained import Known

LEAST = 2  # images that a run was not trained on, as many as a set needs


@dataclass(frozen=True, eq=False)
class _Target:
    """A classifier, and images uint8 (n, C, H, W) that it has not seen, with their labels int64 (n,)."""

    network: nn.Module
    names: tuple[str, ...]
    """Of the classes."""
    images: np.ndarray
    labels: np.ndarray
    about: str
    """Which classifier, and which part of the data the images are, in words."""
    classes: tuple[str, ...]
    """That the images are of; those of a run may be more."""
    fingerprint: str
    """Of all the data."""
    left_out: int | None
    """Images of the data that it was trained on; None where that cannot be told."""


@dataclass(frozen=True, kw_only=True)
class Attack(Command):
    """Change images so that a classifier errs, and say how accurate it stays.

    FGSM and PGD change every pixel by at most epsilon, knowing all weights. The classifier is that of a run of
    --algorithm ssgan, or one trained on a third of the data. Images that it was trained on are left out, so give a run
    its data with --split test. Any other is attacked from Python (applications.attack.robust_accuracy). That one
    classifier stands these attacks proves nothing about others.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum attack digits",
        "zerosum attack mnist --split test --run runs/mnist-ssgan-001",
        "zerosum attack ./xrays --epsilons 0.002 0.004 0.008 --steps 50",
    )

    data: tyro.conf.OmitArgPrefixes[OneSidedOptions] = field(default_factory=OneSidedOptions)
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run", metavar="RUN")] = None
    """A run of --algorithm ssgan; a classifier is trained on the data if not given."""
    epsilons: tuple[float, ...] = (0.01, 0.02, 0.04, 0.08)
    """The most that a pixel changes, as a share of the way from black to white (1/255 is 0.0039)."""
    steps: int = 20
    """Steps of PGD."""
    number: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"], metavar="INT")] = 1000
    """Images that are attacked."""
    seed: int = 0
    """PGD's starts and, with --run, the images are drawn from it."""
    out: Path | None = None
    """The folder to write, attack.json and attack.png; attack, with a number behind it from the second on, if not
    given."""

    def run(self) -> int:
        for option, value, least in (("-n", self.number, 1), ("--seed", self.seed, 0), ("--steps", self.steps, 1)):
            if value < least:
                raise UserError(f"{option} {value}: must be {least} or more")
        if self.run_folder is not None:
            refuse_form(self.data, self.run_folder)
        out = fresh_folder(self.out, Path("attack"), "attack.json")
        import numpy as np

        from zerosum import atomic, pictures
        from zerosum.applications import trained
        from zerosum.applications.attack import check_epsilons, robust_accuracy
        from zerosum.applications.pictures import attack_sheet
        from zerosum.view import progress_bar

        check_epsilons(self.epsilons)
        target = self._target(self.data.plain())
        with progress_bar("attacking") as tick:
            found = robust_accuracy(
                target.network, target.images, target.labels, self.epsilons, steps=self.steps, seed=self.seed, told=tick
            )
        alone = trained.alone(target.classes, target.names)
        head = f"accuracy on {len(target.images):,} images{alone} as they are: {found.clean.value:.1%}"
        commonest = float(np.bincount(target.labels).max() / len(target.labels))
        if found.clean.low <= commonest:
            head += f"\nnaming the commonest class: {commonest:.1%}; the classifier cannot be told from that here"
        print(f"{head}\nepsilon    noise     FGSM      PGD ({self.steps} steps)")
        for row in found.rows:
            print(f"{row.epsilon:<9g}{row.noise.value:>7.1%}{row.fgsm.value:>9.1%}{row.pgd.value:>9.1%}")
        if not found.clean.value:
            print("none was right before, so attack.png shows what was said before and after", file=sys.stderr)
        record = {
            "classifier": target.about, "images": len(target.images), "left out": target.left_out,
            "classes": target.classes, "steps": self.steps, "seed": self.seed,
            "data": {"source": self.data.source, "split": self.data.split, "fingerprint": target.fingerprint},
            "clean": asdict(found.clean), "commonest class": commonest,
            "rows": [asdict(row) for row in found.rows],
        }  # fmt: skip
        atomic.write_file(out / "attack.json", (json.dumps(record, indent=1) + "\n").encode())
        pictures.save_png(attack_sheet(found, target.names), out / "attack.png", {"zerosum": "altered"})
        print(out / "attack.json")
        print(out / "attack.png")
        return 0

    def _target(self, data: Data) -> _Target:
        import numpy as np

        from zerosum import api, randomness
        from zerosum.applications import trained
        from zerosum.data.classes import labels_of
        from zerosum.data.source import as_seen
        from zerosum.metrics.cache import Cache
        from zerosum.metrics.features.classifier import SIDE, classifier, not_trained_on, unfit
        from zerosum.view import progress_bar

        left_out: int | None
        if self.run_folder is None:
            found = api.open_images(data)
            if max(found.spec.shape[1:], default=0) > SIDE:
                raise UserError(f"--size: classifiers of up to {SIDE} pixels are attacked; give --size {SIDE} {SIDE}")
            if (reason := unfit(found)) is not None:
                raise UserError(
                    f"{data.source}: {reason}, and the classifier to attack is trained on them; give other data. "
                    "One of your own is attacked from Python: applications.attack.robust_accuracy"
                )
            with progress_bar("training a classifier") as tick:
                made = classifier(found, Cache(None), told=tick)
            network: nn.Module = made.network
            names = made.class_names
            unseen = not_trained_on(len(found))
            left_out, index = len(found) - len(unseen), unseen[: self.number]
            number = np.arange(len(names))
            about = f"trained on a third of {data.source}, accuracy {made.accuracy:.4f}"
        else:
            model = trained.load(self.run_folder)
            network, names = model.network, model.class_names
            if not model.spec.is_image:
                raise UserError(f"{self.run_folder}: is of points, and images are attacked")
            found = api.open_images(as_seen(data, model.spec))
            if labels_of(found) is None:
                raise UserError(f"{data.source}: has no labels; sort the images into a folder a class")
            try:
                number = model.numbers_of(found.class_names)
            except UserError as error:
                raise UserError(f"{data.source}: {error}; leave such images out") from error
            about = f"{self.run_folder.name} at {model.images_seen:,} images"
            known = trained.known(self.run_folder, found, data, api.open_images)
            unseen, left_out = self._unseen(known, len(found))
            if left_out is not None:
                about += ", images that it was not trained on"
            index = unseen[randomness.permutation(self.seed, "attack/images", 0, len(unseen))[: self.number]]
        images, labels = found.gather(index)
        assert labels is not None
        return _Target(network, names, images, number[labels], about, found.class_names, found.fingerprint, left_out)

    def _unseen(self, known: Known, count: int) -> tuple[np.ndarray, int | None]:
        """Which of `count` images the run was not trained on, and how many the others are; None if it cannot be told.

        UserError where hardly any is left.
        """
        import numpy as np

        run = self.run_folder
        if known.each is None:
            told = f"on which of these images {run} was trained cannot be told: {known.why_not}"
            if known.same_source:
                raise UserError(f"{self.data.source}: {told}; give others")
            print(f"warning: {told}", file=sys.stderr)
            return np.arange(count), None
        unseen = np.flatnonzero(~known.each)
        left_out = count - len(unseen)
        if len(unseen) < LEAST:
            but = f", all but {len(unseen)}" if len(unseen) else ""
            raise UserError(f"{self.data.source}: {run} was trained on these images{but}; give others")
        if left_out:
            print(f"{left_out:,} of {count:,} images are left out: {run} was trained on them", file=sys.stderr)
        return unseen, left_out
