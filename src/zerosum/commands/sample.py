"""`zerosum sample`: from a run to pictures, arrays and films."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from zerosum.commands import films
from zerosum.commands.base import Command
from zerosum.errors import UserError

if TYPE_CHECKING:
    from zerosum.sample import Model, Samples

STRIP_STEPS = 8
NAMED = re.compile(r"\d{6,}\.(png|tif)")
RECORD = "samples.json"


@dataclass(frozen=True, kw_only=True)
class Sample(Command):
    """Draw images from a trained run.

    The same seed gives the same bytes, and number i of a seed is the same image however many are asked for.
    What is written follows from how --out ends: .png is one grid, .npz arrays, anything else a folder with
    one PNG per image (of real numbers TIFF), as deep as the run's data; with --interpolate .png is a strip, and .mp4
    or .gif a film of the walk; with --truncation .mp4 or .gif is a film of the same samples while it falls from none to
    what is given. A grid of 2 to 16 classes has each in columns of its own, by name.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum sample runs/digits-r3gan-001 -n 64 --seed 7 --out grid.png",
        "zerosum sample runs/clothes -n 1000 --out clothes/ --classes Dress Coat",
        "zerosum sample runs/clothes --checkpoint best --truncation 1.5 --out arrays.npz",
        "zerosum sample runs/clothes -n 16 --truncation 0.5 --film fewer-surprises.mp4",
        "zerosum sample runs/digits-r3gan-001 --interpolate --stops 4 --out walk.png --film walk.mp4",
        "zerosum sample runs/clothes --interpolate --still --classes Dress Coat --out between.png",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    number: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"], metavar="INT")] = 64
    """How many images."""
    seed: int = 0
    """Latents are drawn from it."""
    out: Path | None = None
    """A .png, .npz, .mp4, .gif, or a folder; RUN/generated-seedSEED.png if not given."""
    classes: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="[CLASS ...]", help_behavior_hint="(default: all, in turn)")
    ] = ()
    """Of a class-conditional run: draw these classes, in turn."""
    truncation: float | None = None
    """Draw each number of the latent within plus and minus this: fewer surprises, less variety."""
    interpolate: bool = False
    """Walk from one latent to the next, on the sphere."""
    stops: int = 2
    """Latents that the walk visits, each of one of --classes in turn."""
    still: bool = False
    """Keep the latent, and walk from class to class alone."""
    steps: int | None = None
    """Images between two stops, or of a film of truncation; 8 in a strip, 48 in a film, if not given."""
    film: Path | None = None
    """Besides --out, a film (.mp4 or .gif) of the walk, or of the samples while --truncation falls from none."""
    checkpoint: str = "last"
    """last, best (by the distance that the run logs), or a number of images seen."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32, bf16 (twice as quick where the processor is made for it; some pixels differ by a grey level, a few by
    more), or auto: bf16 for images where it is quick."""

    def run(self) -> int:
        out = self.out or self.path / f"generated-seed{self.seed}.png"
        self._check(out)
        from zerosum import sample

        model = sample.load(self.path, self.checkpoint, self.precision)
        if self.interpolate:
            for path in [out] if self.film is None else [out, self.film]:
                self._walk(model, path)
            return 0
        asked = self._films(out)
        if asked and not model.spec.is_image:
            raise UserError(f"{asked[-1]}: this run makes points, and a film is of images; give --out a .png or .npz")
        if out not in asked:
            self._draw(model, out)
        if asked:
            self._fall(model, asked)
        return 0

    def _check(self, out: Path) -> None:
        """Refuse what cannot go together before torch is loaded."""
        asked = self._films(out)
        if self.film is not None:
            films.check(self.film)
        if not self.interpolate:
            for name, value, default in (("--stops", self.stops, 2), ("--still", self.still, False)):
                if value != default:
                    raise UserError(f"{name} {value}: only goes with --interpolate")
            if asked and self.truncation is None:
                option = "--out" if self.film is None else "--film"
                raise UserError(
                    f"{option} {asked[-1]}: films are of walks, or of a truncation that falls; add --interpolate or "
                    "--truncation"
                )
            if self.steps is not None and not asked:
                raise UserError(f"--steps {self.steps}: goes with --interpolate, or with a film of --truncation")
        elif self.number != Sample.number:
            raise UserError(f"-n {self.number}: a walk has --steps images between two of --stops; leave it out")
        elif self.truncation is not None:
            raise UserError(
                f"--truncation {self.truncation}: does not go with --interpolate; leave one of them out (--film shows "
                "either)"
            )
        elif out.suffix.lower() not in (".png", ".npz", *films.SUFFIXES):
            raise UserError(f"--out {out}: with --interpolate give a .png (strip), .mp4, .gif or .npz")
        if out.suffix.lower() in (".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pdf", ".npy"):
            raise UserError(f"--out {out}: give a .png, .npz, .mp4 or .gif, or a folder for a file per image")
        if self.steps is not None and self.steps < 2:
            raise UserError(f"--steps {self.steps}: must be 2 or more")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: must be 0 or more")

    def _films(self, out: Path) -> list[Path]:
        """What of --out and --film is a film by its name."""
        return [path for path in (out, self.film) if path is not None and films.is_film(path)]

    def _draw(self, model: Model, out: Path) -> None:
        from zerosum.view import progress_bar

        with progress_bar("drawing") as tick:
            samples = model.sample(
                self.number, self.seed, classes=self.classes or None, truncation=self.truncation,
                progress=lambda done: tick(done, self.number),
            )  # fmt: skip
        if out.suffix.lower() == ".png":
            self._png(samples, out)
        elif out.suffix.lower() == ".npz":
            self._npz(samples, out)
        else:
            self._folder(samples, out)

    def _walk(self, model: Model, out: Path) -> None:
        steps = self.steps or (films.STEPS if films.is_film(out) else STRIP_STEPS)
        samples = model.interpolate(steps, self.seed, stops=self.stops, classes=self.classes or None, still=self.still)
        if out.suffix.lower() == ".png":
            self._png(samples, out)
        elif out.suffix.lower() == ".npz":
            self._npz(samples, out)
        else:
            self._film(samples, out)

    def _fall(self, model: Model, paths: list[Path]) -> None:
        """Films of the samples while truncation falls from none to what it is to be."""
        from zerosum.latent import tools
        from zerosum.view import progress_bar

        assert self.truncation is not None  # `_check`: no film is of anything else here
        steps = self.steps or films.STEPS
        with progress_bar("drawing the film") as tick:
            found = tools.truncated(
                model, self.number, self.truncation, seed=self.seed, classes=self.classes or None, steps=steps,
                progress=lambda done: tick(done, steps * self.number),
            )  # fmt: skip
        captions = [f"truncation {t:.2f}" if math.isfinite(t) else "no truncation" for t in found.truncations]
        for path in paths:
            films.save(path, found.images, None, captions)
            _made(path)

    def _png(self, samples: Samples, out: Path) -> None:
        from zerosum import pictures

        pictures.save_png(samples.picture(), out, self._text(samples))
        _made(out)

    def _npz(self, samples: Samples, out: Path) -> None:
        import numpy as np

        from zerosum import atomic

        arrays = {"images": samples.images, "protocol": np.array(json.dumps(self._record(samples)))}
        if samples.labels is not None:
            arrays["labels"] = samples.labels
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type,unused-ignore]
        atomic.write_file(out, buffer.getvalue())
        _made(out)

    def _folder(self, samples: Samples, out: Path) -> None:
        from zerosum import atomic
        from zerosum.data import deep
        from zerosum.view import progress_bar

        _images_only(samples, out)
        _clear(out)
        suffix = deep.suffix_for(samples.depth.stored, samples.images.shape[1])
        with progress_bar("writing") as tick:
            for i, image in enumerate(samples.images):
                text = self._text(samples) | {"number": str(i)}
                deep.write(image, out / f"{i:06d}{suffix}", text)
                tick(i + 1, len(samples))
        record = self._record(samples)
        if samples.labels is not None:
            record["labels"] = samples.labels.tolist()
        atomic.write_file(out / RECORD, json.dumps(record, indent=1).encode())
        _made(out)

    def _film(self, samples: Samples, out: Path) -> None:
        _images_only(samples, out)
        films.save(out, samples.seen[:, None], 1)
        _made(out)

    def _record(self, samples: Samples) -> dict[str, Any]:
        return {
            "zerosum": "generated",
            "run": self.path.resolve().name,
            "count": len(samples),
            **samples.protocol,
        }

    def _text(self, samples: Samples) -> dict[str, str]:
        """What every file says of itself: that it is generated, by what, from which seed."""
        return {
            name: str(value) for name, value in self._record(samples).items() if value is not None and name != "count"
        }


def _images_only(samples: Samples, out: Path) -> None:
    if samples.images.ndim != 4:
        raise UserError(f"{out}: this run makes points, not images; give --out a name that ends in .png or .npz")


def _clear(out: Path) -> None:
    """Make the folder, or take away what an earlier call left there; nobody else's files are touched."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        here = sorted(out.iterdir())
        if here and not (out / RECORD).exists():
            raise UserError(f"--out {out}: holds other files; choose a folder that is new, empty, or of zerosum sample")
        for path in here:
            if NAMED.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); choose another place") from error


def _made(path: Path) -> None:
    print(path)
