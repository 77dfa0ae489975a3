"""`zerosum translate`: an image, a folder, a zip or a film through a trained translator."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from zerosum.commands.base import Command
from zerosum.data.spec import Direction
from zerosum.errors import UserError

if TYPE_CHECKING:
    from zerosum.translation.model import Translator, Wish

NAMED = 5  # files that could not be used, by name


@dataclass(frozen=True, kw_only=True)
class Translate(Command):
    """Turn images into others: by a run of pix2pix, cyclegan or cut, or an imported checkpoint.

    An image comes out as large as it went in, and as deep (8 bits, 16, real numbers), or as deep as the side that
    it goes to if the sides of the training data differed; a folder or zip becomes a folder of the same names; a
    film keeps its frame rate, length and sound. Large images are translated in overlapping tiles.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum translate runs/facades-pix2pix-001 drawing.png house.png",
        "zerosum translate runs/horses-cyclegan-001 photos/ zebras/",
        "zerosum translate runs/horses-cyclegan-001 zebras.zip horses/ --direction B2A",
        "zerosum translate runs/horses-cyclegan-001 race.mp4 zebras.mp4 --blend 0.5",
        "zerosum translate runs/scribbles-pix2pix-001 photo.jpg again.png --make",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INPUT")]
    """An image, a folder or zip of images, or a film. Of a GIF whose OUTPUT is an image, the first frame."""
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUTPUT")]
    """What to write: a file for a file, a folder for a folder or zip."""
    direction: Direction | None = None
    """Which way to go; the one that was trained for, if not given. CycleGAN goes both."""
    make: bool = False
    """INPUT are photos: make side A of each first (edges, scribble ...), as for training."""
    blend: float = 0.0
    """Of films: how much of each frame is taken over from the one before, along its motion: 0 (none) to 1."""
    flicker: bool = False
    """Of films: measure how much frames differ along their motion, before and after blending."""
    value_range: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LOW HIGH")] = None
    """Of images of more than 8 bits: the values that are black and white, if not those of the training data."""
    tile: int = 512
    """Larger images are translated in tiles of so many pixels a side, to bound memory."""
    overlap: int = 128
    """Pixels that neighbouring tiles share."""
    checkpoint: str = "last"
    """last, best (by the distance that the run logs), or a number of images seen."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32, bf16 (twice as quick where the processor is made for it), or auto. Deep images are always fp32."""

    def run(self) -> int:
        self._check()
        from zerosum.translation import stills
        from zerosum.translation.load import load
        from zerosum.translation.model import Wish
        from zerosum.view import progress_bar

        translator = load(self.path, self.checkpoint, self.precision)
        wish = Wish(
            direction=self.direction, make=self.make, value_range=self.value_range, tile=self.tile,
            overlap=self.overlap,
        )  # fmt: skip
        translator.check(wish)
        if self._is_film():
            return self._film(translator, wish)
        many = self.source.is_dir() or self.source.suffix.lower() == ".zip"
        with progress_bar("translating") as tick:
            work = stills.all_of if many else stills.one
            done = work(translator, self.source, self.target, wish, lambda n, of, what: tick(n, of, what))
        for note in done.notes:
            print(f"note: {note}", file=sys.stderr)
        for name, reason in done.skipped[:NAMED]:
            print(f"left out {name}: {reason}", file=sys.stderr)
        if len(done.skipped) > NAMED:
            print(f"left out {len(done.skipped) - NAMED:,} more", file=sys.stderr)
        print(self.target)
        return 0

    def _is_film(self) -> bool:
        from zerosum.data import deep
        from zerosum.translation.decode import SUFFIXES

        suffix = self.source.suffix.lower()
        still = suffix == ".gif" and self.target.suffix.lower() in deep.SUFFIXES
        return self.source.is_file() and suffix in SUFFIXES and not still

    def _check(self) -> None:
        """Refuse what cannot go together before torch is loaded."""
        from zerosum.data import deep
        from zerosum.translation import video

        if not self.source.exists():
            raise UserError(f"{self.source}: there is no such file or folder")
        if self.target.exists() and self.source.samefile(self.target):
            raise UserError(f"{self.target}: is the input as well; give the translation another name")
        film = self._is_film()
        if self.blend and not film:
            raise UserError(f"--blend {self.blend:g}: is for films; leave it out")
        if self.tile < 1:
            raise UserError(f"--tile {self.tile}: must be 1 pixel or more; 512 is usual")
        if not 0 <= self.overlap < self.tile:
            raise UserError(f"--overlap {self.overlap}: must be 0 or more, and less than --tile {self.tile}")
        if not 0 <= self.blend <= 1:
            raise UserError(f"--blend {self.blend:g}: must be from 0 (none) to 1")
        if self.flicker and not film:
            raise UserError("--flicker: is for films; leave it out")
        if film and self.value_range is not None:
            raise UserError("--value-range: is for images of more than 8 bits; leave it out")
        many = self.source.is_dir() or self.source.suffix.lower() == ".zip"
        if many and self.target.is_file():
            raise UserError(f"{self.target}: is a file; give a folder for the translations of {self.source}")
        if many and not self.target.exists() and self.target.suffix.lower() in deep.SUFFIXES:
            raise UserError(f"{self.target}: names one image; give a folder for the translations of {self.source}")
        if not many and self.target.is_dir():
            raise UserError(f"{self.target}: is a folder; give the name of a file for the translation of {self.source}")
        if film:
            video.kind_of(self.target)
        elif not many and self.target.suffix.lower() not in deep.SUFFIXES:
            if self.target.suffix.lower() in video.CONTAINERS:
                raise UserError(
                    f"{self.source}: is an image by its name, and {self.target} is a film; if that is a film, too, "
                    "give it the name of one, such as .mp4"
                )
            suffix, known = self.target.suffix or "a file without suffix", ", ".join(deep.SUFFIXES)
            raise UserError(f"{self.target}: images are not written as {suffix}; give {known}")

    def _film(self, translator: Translator, wish: Wish) -> int:
        from zerosum.translation.film import translate_film
        from zerosum.view import progress_bar

        with progress_bar("translating") as tick:
            report, flicker = translate_film(
                translator, self.source, self.target, wish, blend=self.blend if self.flicker or self.blend else None,
                progress=lambda done, of: tick(done, of, "frames"),
            )  # fmt: skip
        for note in report.notes:
            print(f"note: {note}", file=sys.stderr)
        sound = f", sound {report.sound}" if report.sound else ""
        print(f"{report.frames:,} frames, {report.seconds:.1f} s{sound}", file=sys.stderr)
        if flicker is not None:
            blended = f", {flicker.blended:.2g} blended (sharpness {flicker.sharpness:.0%})" if self.blend else ""
            print(
                f"flicker (warping error): {flicker.source:.2g} in the source, {flicker.translated:.2g} "
                f"translated{blended}", file=sys.stderr,
            )  # fmt: skip
        print(self.target)
        return 0
