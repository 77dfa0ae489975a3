"""`zerosum explore`: a run's latent space, to look at."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from zerosum.commands import films
from zerosum.commands.base import Command
from zerosum.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from PIL import Image
    from torch import Tensor

    from zerosum.latent.directions import Direction
    from zerosum.sample import Model

    Film = tuple[np.ndarray, int, Sequence[str]]
    """Images (frames, n, C, H, W), how many of them in a row, and a caption for each frame or none."""
    Looked = tuple["Sheet", Callable[[], Film]]
    """A sheet, and what makes the film."""

MANY = 6  # of what --count counts
DRAWN = 2_000  # samples whose classes are told, at least


@dataclass(frozen=True)
class Sheet:
    """Images (rows, columns, C, H, W), and what stands beside the rows and above the columns."""

    images: np.ndarray
    rows: Sequence[str] = ()
    heads: Sequence[str] = ()

    def picture(self) -> Image.Image:
        from zerosum import pictures

        images = self.images
        sheet = pictures.grid(images.reshape(-1, *images.shape[2:]), columns=images.shape[1])
        return pictures.named(sheet, self.rows, self.heads)


@dataclass(frozen=True, kw_only=True)
class Explore(Command):
    """Look around in a run's latent space.

    directions: along each of a few, one thing changes; the sheet has a row for each. Those that change most are found
    from the weights; with --by DATA, one for each class of labelled images (smiling, glasses ...).
    neighbours: samples beside the training images nearest to them.
    mix: the shapes of some samples in the style of others, where the network takes them apart (fastgan).
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum explore runs/faces-progressive-001 directions --count 6 --out directions.png",
        "zerosum explore runs/faces-progressive-001 directions --by faces-by-glasses/ --film glasses.mp4",
        "zerosum explore runs/faces-progressive-001 directions --latents inverted/latents.npz",
        "zerosum explore runs/faces-fastgan-001 mix --count 5 --film styles.mp4",
        "zerosum explore runs/faces-fastgan-001 neighbours -n 8 --count 5",
    )

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    what: tyro.conf.Positional[Literal["directions", "neighbours", "mix"]]
    """What to look at."""
    number: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"], metavar="INT")] = 8
    """Samples: rows of neighbours, or shapes to mix; with --by, samples to learn from, 2,000 at least."""
    count: int | None = None
    """Directions, neighbours of each sample, or styles to mix with: 6 if not given; with --by, every class."""
    seed: int = 0
    """Samples are drawn from it."""
    latents: Path | None = None
    """Begin at these instead of at samples: latents.npz of zerosum invert."""
    steps: int = 7
    """Of directions: images in a row."""
    reach: float = 3.0
    """Of directions: how far to go to either side, in standard deviations of a latent's numbers."""
    by: str | None = None
    """Of directions: labelled images, by name or path, whose classes they are to be of."""
    features: str | None = None
    """Of neighbours: what images are compared by, as in zerosum evaluate."""
    out: Path | None = None
    """The sheet, a .png; RUN/WHAT.png if not given."""
    film: Path | None = None
    """Besides, a film (.mp4 or .gif): there and back along each direction; from sample to sample beside the nearest
    images; the shapes in a style that goes from each to the next."""
    checkpoint: str = "last"
    """last, best (by the distance that the run logs), or a number of images seen."""

    def run(self) -> int:
        self._check()
        from zerosum import pictures, sample

        model = sample.load(self.path, self.checkpoint)
        if not model.spec.is_image:
            raise UserError(f"{self.path}: makes points, not images; zerosum sample draws them")
        looked = {"directions": self._directions, "neighbours": self._neighbours, "mix": self._mix}[self.what]
        sheet, film = looked(model)
        out = self.out or self.path / f"{self.what}.png"
        text = {"zerosum": "generated", "run": self.path.resolve().name, "what": self.what, "seed": str(self.seed)}
        pictures.save_png(sheet.picture(), out, text)
        print(out)
        if self.film is not None:
            films.save(self.film, *film())
            print(self.film)
        return 0

    def _check(self) -> None:
        only: dict[str, tuple[Any, Any, str]] = {
            "--by": (self.by, None, "directions"),
            "--steps": (self.steps, 7, "directions"), "--reach": (self.reach, 3.0, "directions"),
            "--features": (self.features, None, "neighbours"),
        }  # fmt: skip
        for option, (value, default, what) in only.items():
            if value != default and what != self.what:
                raise UserError(f"{option} {value}: is of {what}; leave it out")
        for option, count in (("-n", self.number), ("--count", self.count)):
            if count is not None and count < 1:
                raise UserError(f"{option} {count}: must be 1 or more")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: must be 0 or more")
        if self.steps < 2:
            raise UserError(f"--steps {self.steps}: must be 2 or more")
        if not 0 < self.reach < math.inf:
            raise UserError(f"--reach {self.reach:g}: must be above 0")
        if self.film is not None:
            films.check(self.film)
            if self.what == "neighbours" and self.number < 2:
                raise UserError(f"--film {self.film}: goes from sample to sample; give -n 2 or more")
            if self.what == "mix" and self._many < 2:
                raise UserError(f"--film {self.film}: goes from style to style; give --count 2 or more")
        if self.out is not None and self.out.suffix.lower() != ".png":
            raise UserError(f"--out {self.out}: a sheet is a .png")

    @property
    def _many(self) -> int:
        return MANY if self.count is None else self.count

    def _latents(self, model: Model, n: int) -> tuple[Tensor, Tensor | None]:
        """Where to begin: latents (n, latent), fewer if fewer were given, and their labels."""
        from zerosum.latent import tools

        if self.latents is None:
            return model.latents(n, self.seed), model.labels(n, None)
        z, label = tools.kept(self.latents, model)
        if model.spec.classes and label is None:
            raise UserError(f"--latents {self.latents}: has no classes, and this run was trained with labels")
        return z[:n], None if label is None else label[:n]

    def _directions(self, model: Model) -> Looked:
        import numpy as np

        from zerosum.latent import tools

        along = tools.factorised(model, self._many) if self.by is None else self._by_class(model)
        z, label = self._latents(model, 1)
        for direction in along:
            kind = "of the strongest" if self.by is None else "of samples on its side"
            print(f"{direction.name}: {direction.strength:.0%} {kind}", file=sys.stderr)
        if along[0].note:
            print(f"note: {along[0].note}", file=sys.stderr)
        found = tools.walks(model, z[0], label, along, steps=self.steps, reach=self.reach)

        def film() -> Film:
            smooth = tools.walks(model, z[0], label, along, steps=films.STEPS, reach=self.reach).images
            frames = np.concatenate([np.concatenate([row, row[::-1]]) for row in smooth])[:, None]
            return frames, 1, [d.name for d in along for _ in range(2 * films.STEPS)]

        places = [f"{place:+.1f}" for place in np.linspace(-self.reach, self.reach, self.steps)]
        return Sheet(found.images, [d.name for d in along], places), film

    def _by_class(self, model: Model) -> list[Direction]:
        from zerosum import api
        from zerosum.data.source import as_seen
        from zerosum.data.spec import Data
        from zerosum.latent import tools
        from zerosum.metrics.cache import open_cache
        from zerosum.metrics.features.classifier import classifier, unfit
        from zerosum.view import progress_bar

        try:
            data = api.open_images(as_seen(Data(source=str(self.by)), model.spec))
        except UserError as error:
            raise UserError(f"--by {error}") from error
        if (reason := unfit(data)) is not None:
            raise UserError(f"--by {self.by}: {reason}; give images in a folder a class")
        with progress_bar("learning the classes") as tick:
            judge = classifier(data, open_cache(), told=lambda done, of: tick(done, of, ""))
        with progress_bar("drawing") as tick:
            found = tools.by_class(
                model, judge, n=max(self.number, DRAWN), seed=self.seed, progress=lambda done: tick(done, None, "")
            )
        named = {direction.name for direction in found}
        for name in judge.class_names:
            if name not in named:
                print(f"{name}: left out, for too few samples are of it, or are not", file=sys.stderr)
        return found[: self.count]

    def _neighbours(self, model: Model) -> Looked:
        import numpy as np

        from zerosum import api
        from zerosum.data.split import train_part
        from zerosum.latent import tools
        from zerosum.metrics.cache import open_cache
        from zerosum.metrics.features.choose import choose

        if model.run.data.source == api.FROM_PYTHON:
            raise UserError(f"{self.path}: its data were handed over in Python; use zerosum.latent from there")
        data = train_part(api.open_images(model.run.data), model.run.data)
        choice = choose(data, open_cache(), self.features)
        z, label = self._latents(model, self.number)
        images = model.values(z, label)
        if self.film is not None:
            if len(z) < 2:
                raise UserError(f"--film {self.film}: goes from latent to latent; give --latents two or more")
            images = np.concatenate([images, model.values(*tools.way(z, label, films.STEPS))])
        print(f"nearest by {choice.extractor.name}: {choice.reason}", file=sys.stderr)
        index, _ = tools.neighbours(images, data, choice.extractor, self._many)
        near = data.gather(index.reshape(-1))[0].reshape(*index.shape, *images.shape[1:])
        every = np.concatenate([images[:, None], near], 1)
        walk = every[len(z) :]
        caption = "a sample, and what is nearest in the data"
        heads = ["sample", "nearest", *(f"no. {i}" for i in range(2, 1 + self._many))]
        return Sheet(every[: len(z)], heads=heads), lambda: (walk, 1 + self._many, [caption] * len(walk))

    def _mix(self, model: Model) -> Looked:
        """The styles above, the shapes at the left, their mixtures between; the corner is empty."""
        import numpy as np
        import torch

        from zerosum.latent import tools

        z, label = self._latents(model, self.number + self._many)
        if len(z) < 2:
            raise UserError("mix: takes two latents or more")
        rows = min(self.number, len(z) - 1)
        shapes, styles = z[:rows], z[rows:]
        if self.film is not None and len(styles) < 2:
            raise UserError(f"--film {self.film}: goes from style to style; give --latents more, or a smaller -n")
        kinds = (None, None) if label is None else (label[:rows], label[rows:])
        made = tools.mixed(model, shapes, styles, kinds)
        of_rows, of_columns = (tools.image_of(model, *part) for part in zip((shapes, styles), kinds, strict=True))
        top = np.concatenate([np.full_like(of_columns[:1], 255), of_columns])
        below = np.concatenate([of_rows[:, None], made], 1)

        def film() -> Film:
            """The shapes above, below them in a style that goes from each to the next, and back to the first."""
            classes = None if kinds[1] is None else torch.cat([kinds[1], kinds[1][:1]])
            going, kind = tools.way(torch.cat([styles, styles[:1]]), classes, films.STEPS)
            turned = tools.mixed(model, shapes, going, (kinds[0], kind)).swapaxes(0, 1)
            still = np.broadcast_to(of_rows, turned.shape)
            return np.concatenate([still, turned], 1), rows, ()

        heads = ["", *(f"style {i}" for i in range(1, 1 + len(styles)))]
        return Sheet(np.concatenate([top[None], below]), ["", *(f"shape {i}" for i in range(1, 1 + rows))], heads), film
