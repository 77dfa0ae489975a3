"""`zerosum invert`: the latents of photos."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from zerosum.commands import films
from zerosum.commands.base import Command, refuse_file
from zerosum.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Invert(Command):
    """Find the latents whose images come nearest to photos of yours.

    Of many drawn latents the nearest few are improved by gradient descent, for each photo. Written are a sheet (photo,
    what was found, where they differ), latents.npz for zerosum explore, and with --film a film: how the latent of one
    photo was found, or a walk from photo to photo.
    Errors are root mean squares of pixels, in grey levels of 256.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum invert runs/faces-progressive-001 me.jpg",
        "zerosum invert runs/faces-progressive-001 me.jpg --film me.mp4",
        "zerosum invert runs/faces-progressive-001 me.jpg you.jpg --out both/ --film both.mp4",
        "zerosum invert runs/faces-progressive-001 me.jpg --restarts 16 --steps 1000",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    photos: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PHOTO [PHOTO ...]")]
    """Image files; cropped to the shape of the run's images."""
    out: Path | None = None
    """The folder to write; RUN/inverted if not given."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[CLASS ...]", help_behavior_hint="")] = ()
    """Of a class-conditional run: the class of each photo, or one for all."""
    restarts: int = 8
    """How many starts are followed for each photo."""
    steps: int = 300
    """Steps that each of them is followed for."""
    seed: int = 0
    """The starts are drawn from it."""
    film: Path | None = None
    """A film (.mp4 or .gif): of one photo, beside it the images from the first guess to the nearest; of several, from
    each one's latent to the next, on the sphere."""
    checkpoint: str = "last"
    """last, best (by the distance that the run logs), or a number of images seen."""

    def run(self) -> int:
        self._check()
        from zerosum import atomic, pictures, sample
        from zerosum.latent import tools
        from zerosum.view import progress_bar

        model = sample.load(self.path, self.checkpoint, "fp32")
        images = tools.photos(model, self.photos)
        with progress_bar("inverting") as tick:
            found = tools.invert(
                model, images, classes=self.classes or None, restarts=self.restarts, steps=self.steps, seed=self.seed,
                progress=lambda done, of: tick(done, of),
            )  # fmt: skip
        labels = model.labels(len(images), self.classes) if model.spec.classes else None
        out = self.out or self.path / "inverted"
        text = {"zerosum": "generated", "run": self.path.resolve().name, "what": "photo, inversion, difference"}
        sheet = pictures.grid(tools.sheet(images, found), columns=3)
        heads = ("photo", "inverted", "difference")
        pictures.save_png(pictures.named(sheet, columns=heads), out / "inverted.png", text)
        atomic.write_file(out / "latents.npz", tools.keep(found, [str(path) for path in self.photos], model, labels))
        for path, error in zip(self.photos, found.greys.tolist(), strict=True):
            print(f"{path}  {error:.1f} of 256 grey levels off", file=sys.stderr)
        print(out / "inverted.png")
        print(out / "latents.npz")
        if self.film is not None:
            if len(images) == 1:
                frames = tools.descent(model, images[0], found.ways[0], labels)
                films.save(self.film, frames, 2, _captions(frames))
            else:
                films.save(self.film, model.values(*tools.way(found.z, labels, films.STEPS))[:, None], 1)
            print(self.film)
        return 0

    def _check(self) -> None:
        if not self.photos:
            raise UserError("PHOTO is missing: name the image files to find the latents of")
        for photo in self.photos:
            if not photo.is_file():
                what = "is a folder; name image files in it" if photo.is_dir() else "there is no such image file"
                raise UserError(f"{photo}: {what}")
        if self.film is not None:
            films.check(self.film)
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: must be 0 or more")
        refuse_file(self.out)


def _captions(frames: np.ndarray) -> list[str]:
    """Of frames (frames, 2, C, H, W), how far the second image is from the first."""
    import numpy as np

    apart = frames[:, 0].astype(np.float32) - frames[:, 1]
    errors = np.sqrt(np.square(apart).mean((1, 2, 3)))
    return [f"{error:.1f} of 256 grey levels off" for error in errors]
