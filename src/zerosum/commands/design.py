"""`zerosum design`: new items to a taste."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from zerosum.commands.base import Command, fresh_folder
from zerosum.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from zerosum.applications.kept import UserScorer
    from zerosum.sample import Model


@dataclass(frozen=True, kw_only=True)
class Design(Command):
    """Design items that a user would like: images of a run's generator, as real as real ones.

    Of thousands of latents those that score highest are followed uphill. Kept are the best that the run's critic finds
    no less real than nine in ten real items, that lie no farther from the catalogue than three in four real items, and
    that differ from each other.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum design runs/shirts-r1gan-001 --for user-17 -n 12",
        "zerosum design runs/shirts-r1gan-001 --taste tastes/shirts --for user-17 --near shirt.png",
        "zerosum design runs/clothes --taste tastes/clothes --for ann --classes dress coat",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run whose generator designs."""
    taste: Path | None = None
    """A folder that zerosum recommend wrote; the newest in tastes/ if not given."""
    user: Annotated[str, tyro.conf.arg(name="for", metavar="USER")]
    """Whose taste."""
    number: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"], metavar="INT")] = 12
    """How many designs."""
    near: Path | None = None
    """An image to start from: this item, more to the user's taste. Of a class-conditional run give its class, too."""
    reach: float = 0.5
    """How far from it, as a share of its latent's length."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[CLASS ...]", help_behavior_hint="")] = ()
    """Of a class-conditional run: design these alone."""
    steps: int = 60
    """Steps that each candidate is followed for."""
    seed: int = 0
    """Candidates are drawn from it."""
    out: Path | None = None
    """The folder to write; RUN/designs/USER, with a number behind it from the second on, if not given."""
    checkpoint: str = "last"
    """last, best, or a number of images seen."""

    def run(self) -> int:
        from zerosum import api, atomic, pictures, sample
        from zerosum import run as runs
        from zerosum.applications import kept
        from zerosum.applications.design import check_search
        from zerosum.applications.studio import of_run
        from zerosum.data.picture import from_pixels
        from zerosum.view import progress_bar

        check_search(self.number, self.steps, self.seed, self.reach)
        out = fresh_folder(self.out, self.path / "designs" / atomic.safe_name(self.user), "designs.json")
        folder = self.taste or kept.newest()
        if self.taste is None:
            print(f"--taste {folder}: the newest in {kept.FOLDER}/", file=sys.stderr)
        taste = kept.load(folder)
        scorer = taste.of(self.user)
        recipe = sample.read_recipe(self.path)
        run = runs.from_json(recipe["run"])
        if run.data.source == api.FROM_PYTHON:
            raise UserError(
                f"{self.path}: its data were handed over in Python; from Python, give studio.of_run its items"
            )
        classes = run.made(sample.spec_of(recipe["data"])).classes
        if self.near is not None and classes and len(self.classes) != 1:
            raise UserError(
                f"--near {self.near}: {self.path} was trained with labels, and the start is looked for in one class; "
                f"give it with --classes, one of {', '.join(recipe['data']['class_names'])}"
            )
        studio = of_run(self.path, self.checkpoint)
        if studio.model.spec.shape != taste.shape:
            channels, height, width = studio.model.spec.shape
            raise UserError(
                f"--taste {folder}: is of images {taste.shape}, and {self.path} makes {studio.model.spec.shape}; "
                f"make one of such images: zerosum recommend --size {height} {width} --channels {channels}"
            )
        wanted = studio.model.labels(max(len(self.classes), 1), self.classes or None) if self.classes else None
        start, about_start = (None, None) if self.near is None else self._start(self.near, studio.model, scorer)
        with progress_bar("designing") as tick:
            found = studio.design(
                scorer,
                self.number,
                near=start,
                reach=self.reach,
                classes=wanted,
                steps=self.steps,
                seed=self.seed,
                told=tick,
            )
        text = {"zerosum": "generated", "run": self.path.resolve().name, "for": self.user}
        for number, image in enumerate(found.images):
            pictures.save_png(from_pixels(image), out / f"design-{number + 1:02d}.png", text)
        pictures.save_png(pictures.grid(found.images), out / "designs.png", text)
        record = {
            "for": self.user, "scores": found.scores.tolist(), "realism": found.realism.tolist(),
            "distance": found.distance.tolist(), "least realism": found.limit[0], "largest distance": found.limit[1],
            "all within": found.real, "apart": found.apart, "latents": found.z.tolist(), "run": str(self.path),
            "checkpoint": self.checkpoint, "images seen": studio.model.images_seen,
            "classes": None if found.label is None else [studio.model.called[k] for k in found.label.tolist()],
            "classes asked for": list(self.classes), "steps": self.steps, "taste": str(folder), "seed": self.seed,
            "reach": self.reach, "near": None if self.near is None else str(self.near), "start": about_start,
        }  # fmt: skip
        atomic.write_file(out / "designs.json", (json.dumps(record, indent=1) + "\n").encode())
        if not found.real:
            print(
                "too few designs that are unlike each other are as real as the catalogue; the most liked of the others "
                "make up the number"
            )
        if len(found.images) < self.number:
            print(f"only {len(found.images)} designs: all others that were found are the same as one of them")
        if found.apart < len(found.images):
            print(
                f"only {found.apart} of {len(found.images)} designs are unlike each other; the rest make up the number"
            )
        print(out / "designs.png")
        return 0

    def _start(self, near: Path, model: Model, scorer: UserScorer) -> tuple[Tensor, dict[str, Any]]:
        """The latent (latent,) whose image is nearest to `near`, and for the record how far off it is and its score."""
        from zerosum.applications.design import steady
        from zerosum.latent import tools
        from zerosum.view import progress_bar

        photo = tools.photos(model, [near])
        with progress_bar("finding the item's latent") as tick:
            found = tools.invert(model, photo, classes=self.classes or None, progress=lambda done, of: tick(done, of))
        off, score = float(found.greys[0]), float(steady(scorer, found.images)[0])
        print(f"{near}  {off:.1f} of 256 grey levels off; what was found scores {score:.3f}", file=sys.stderr)
        return found.z[0], {"grey levels off": off, "score": score}
