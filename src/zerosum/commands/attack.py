"""`zerosum attack`: how a classifier that zerosum trained stands small changes of its images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from zerosum.commands.base import Command, DataOptions, fresh_folder
from zerosum.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from zerosum.data.spec import Data


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
    fingerprint: str
    """Of all the data."""


@dataclass(frozen=True, kw_only=True)
class Attack(Command):
    """Change images so that a classifier errs, and say how accurate it stays.

    FGSM and PGD change every pixel by at most epsilon, knowing all weights. The classifier is that of a run of
    --algorithm ssgan, or one trained on a third of the data; then the images are those that it has not seen, so give a
    run its data with --split test. Any other is attacked from Python (applications.attack.robust_accuracy). That one
    classifier stands these attacks proves nothing about others.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum attack digits",
        "zerosum attack mnist --split test --run runs/mnist-ssgan-001",
        "zerosum attack ./xrays --epsilons 0.002 0.004 0.008 --steps 50",
    )

    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
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
        out = fresh_folder(self.out, Path("attack"), "attack.json")
        import numpy as np

        from zerosum import atomic, pictures
        from zerosum.applications.attack import check_epsilons, robust_accuracy
        from zerosum.applications.pictures import attack_sheet
        from zerosum.view import progress_bar

        check_epsilons(self.epsilons)
        target = self._target(self.data.plain())
        with progress_bar("attacking") as tick:
            found = robust_accuracy(
                target.network, target.images, target.labels, self.epsilons, steps=self.steps, seed=self.seed, told=tick
            )
        head = f"accuracy on {len(target.images):,} images as they are: {found.clean.value:.1%}"
        commonest = float(np.bincount(target.labels).max() / len(target.labels))
        if found.clean.low <= commonest:
            head += f"\nnaming the commonest class: {commonest:.1%}; the classifier cannot be told from that here"
        print(f"{head}\nepsilon    noise     FGSM      PGD ({self.steps} steps)")
        for row in found.rows:
            print(f"{row.epsilon:<9g}{row.noise.value:>7.1%}{row.fgsm.value:>9.1%}{row.pgd.value:>9.1%}")
        record = {
            "classifier": target.about, "images": len(target.images), "steps": self.steps, "seed": self.seed,
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
        from zerosum import api, randomness, sample
        from zerosum import run as runs
        from zerosum.applications import trained
        from zerosum.data.classes import labels_of
        from zerosum.data.source import as_seen
        from zerosum.data.split import held_out_part
        from zerosum.metrics.cache import Cache
        from zerosum.metrics.features.classifier import SIDE, classifier, not_trained_on, unfit
        from zerosum.view import progress_bar

        if self.run_folder is None:
            found = whole = api.open_images(data)
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
            index = not_trained_on(len(found))[: self.number]
            about = f"trained on a third of {data.source}, accuracy {made.accuracy:.4f}"
        else:
            model = trained.load(self.run_folder)
            network, names = model.network, model.class_names
            if not model.spec.is_image:
                raise UserError(f"{self.run_folder}: is of points, and images are attacked")
            found = whole = api.open_images(as_seen(data, model.spec))
            if labels_of(found) is None:
                raise UserError(f"{data.source}: has no labels; sort the images into a folder a class")
            if found.class_names != names:
                raise UserError(f"{data.source}: its classes are not those of {self.run_folder} ({', '.join(names)})")
            about = f"{self.run_folder.name} at {model.images_seen:,} images"
            recipe = sample.read_recipe(self.run_folder)
            own = runs.from_json(recipe["run"]).data
            alike = found.fingerprint == recipe["data"]["fingerprint"]
            # Of one source read in another way it is not known which were held out.
            if alike or same_source(own, data):
                unseen = held_out_part(found, own) if alike else None
                if unseen is None:
                    raise UserError(f"{data.source}: {self.run_folder} was trained on these images; give others")
                found, about = unseen, f"{about}, images that it held out of training"
            index = randomness.permutation(self.seed, "attack/images", 0, len(found))[: self.number]
        images, labels = found.gather(index)
        assert labels is not None
        return _Target(network, names, images, labels, about, whole.fingerprint)


def same_source(a: Data, b: Data) -> bool:
    """Whether both are read from one source, in whatever way, and not one its training part and one its test part."""
    apart = {a.split, b.split} == {"train", "test"}
    return not apart and (a.source == b.source or Path(a.source).resolve() == Path(b.source).resolve())
