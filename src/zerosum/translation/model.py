"""A trained translator, ready for images of any size, depth and number of channels, and for the frames of films."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import inference, sample
from zerosum.data import making, picture
from zerosum.data.depth import WHOLE_RANGE, Depth
from zerosum.data.loader import scale
from zerosum.data.spec import Direction, Made, Spec
from zerosum.errors import UserError
from zerosum.networks import Translators
from zerosum.sample import to_stored
from zerosum.translation.tiles import tiled

CPU = torch.device("cpu")
TILE, OVERLAP = 512, 128  # pixels: half of what a residual generator of 9 blocks sees is some 90


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How images are to be translated."""

    direction: Direction | None = None
    """The way that was trained for, if not given."""
    make: bool = False
    """Make side A of each photo first, as it was made for training."""
    value_range: tuple[float, float] | None = None
    """Of images of more than 8 bits: the values that are -1 and +1."""
    tile: int = TILE
    overlap: int = OVERLAP


@dataclass(frozen=True, eq=False)
class Route:
    """One way through a translator: its network, (n, *source.shape) -> (n, *target.shape) in [-1, 1]."""

    generator: nn.Module
    source: Spec
    target: Spec

    @property
    def multiple(self) -> int:
        """Of which height and width must be multiples."""
        return int(self.generator.multiple)  # type: ignore[arg-type]

    @property
    def wide(self) -> bool:
        return self.source.depth.wide or self.target.depth.wide


class Translator:
    """Translators by direction, as the user's data name the sides; `default` is the one that was trained for.

    `made`: how side A was made of photos, if it was; `origin`: where the networks come from, for the files they write.
    """

    def __init__(
        self,
        routes: Mapping[Direction, Route],
        default: Direction,
        origin: Mapping[str, str],
        made: Made | None = None,
        precision: inference.Precision = "auto",
    ) -> None:
        self.routes, self.default, self.origin, self.made, self.precision = routes, default, origin, made, precision

    @cached_property
    def _ready(self) -> dict[tuple[Direction, bool], nn.Module]:
        return {}

    def route(self, direction: Direction | None) -> Route:
        """The way asked for, or the one trained for. UserError if it was not trained."""
        wanted = direction or self.default
        if wanted not in self.routes:
            raise UserError(f"--direction {wanted}: this translator goes {' and '.join(self.routes)} only")
        return self.routes[wanted]

    def check(self, wish: Wish) -> None:
        """UserError for what is wrong whatever the images are."""
        self.route(wish.direction)
        if wish.make:
            self._maker(wish.direction)
        if wish.value_range is not None:
            Depth("float32", *wish.value_range)

    def network(self, direction: Direction | None, *, wide: bool = False) -> Callable[[Tensor], Tensor]:
        """The network of a way as this machine runs it quickest; in fp32 for images of more than 8 bits (`wide`)."""
        key = (direction or self.default, wide)
        if key not in self._ready:
            route = self.route(direction)
            precision = "fp32" if wide or route.wide else inference.resolve(self.precision, route.source)
            self._ready[key] = inference.Ready(route.generator, precision)
        return self._ready[key]

    def __call__(
        self,
        values: np.ndarray,
        direction: Direction | None = None,
        *,
        depth: Depth | None = None,
        tile: int = TILE,
        overlap: int = OVERLAP,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Translate one image (C, H, W) of uint8, uint16, int16 or float32 to (C', H, W).

        Stored like it, in its range, if the two sides of the training data were stored alike; else as the target side
        was. `depth` says which of its values are -1 and +1, if not those of the training data or of its whole type.
        UserError for channels that the translator was not trained on, or values of no known range.
        """
        route = self.route(direction)
        values, given = self._fitting(values, route), depth or self._depth(values, route)
        x = scale(values, torch.float32, CPU, given)
        with torch.inference_mode():
            y = tiled(
                self.network(direction, wide=given.wide), x, tile=tile, overlap=overlap,
                multiple=route.multiple, progress=progress,
            )  # fmt: skip
        return to_stored(y, self._written(given, route))

    def stored(self, values: np.ndarray, direction: Direction | None = None, depth: Depth | None = None) -> Depth:
        """How the translation of an image will be stored: nothing is translated. UserError as of the translation."""
        route = self.route(direction)
        return self._written(depth or self._depth(self._fitting(values, route), route), route)

    def frames(self, frames: np.ndarray, wish: Wish) -> np.ndarray:
        """Translate frames of a film, uint8 (n, H, W, 3) to uint8 (n, H, W, 3)."""
        made = []
        for frame in frames:
            values = np.ascontiguousarray(frame.transpose(2, 0, 1))
            values = self.make(values, wish.direction) if wish.make else values
            made.append(colour(self(values, wish.direction, tile=wish.tile, overlap=wish.overlap)))
        return np.ascontiguousarray(np.stack(made).transpose(0, 2, 3, 1))

    def make(self, photo: np.ndarray, direction: Direction | None = None) -> np.ndarray:
        """Side A of a photo uint8 (C, H, W), as it was made for training. UserError if it is not what is taken."""
        return making.make(self._maker(direction), _whole(photo))

    def _maker(self, direction: Direction | None) -> Made:
        if self.made is None:
            raise UserError("--make: side A of this translator's data was not made of photos; leave it out")
        if (direction or self.default) != "A2B":
            instead = ", or give --direction A2B" if "A2B" in self.routes else ""
            raise UserError(f"--make: this translator goes from side B, photos as they are: leave it out{instead}")
        return self.made

    def _fitting(self, values: np.ndarray, route: Route) -> np.ndarray:
        """The image with the channels that the network takes, as it was trained on them."""
        values = self._channels(values, route)
        return picture.without_rims(values[None])[0] if values.dtype == np.uint8 else values

    def _channels(self, values: np.ndarray, route: Route) -> np.ndarray:
        have, wanted = len(values), route.source.shape[0]
        if have == wanted:
            return values
        values = _whole(values)
        if len(values) == wanted:
            return values
        if values.dtype == np.uint8 and len(values) in picture.MODES and wanted in picture.MODES:
            pixels = np.asarray(picture.to_channels(picture.from_pixels(values), wanted))
            return pixels[None] if wanted == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
        if have == 1:
            return values.repeat(wanted, 0)
        raise UserError(f"the image has {have} channels of {values.dtype}; this translator was trained on {wanted}")

    def _depth(self, values: np.ndarray, route: Route) -> Depth:
        """Which values of the image are -1 and +1."""
        stored = values.dtype.name
        if stored == route.source.depth.stored:
            return route.source.depth
        if stored in WHOLE_RANGE:
            return Depth(stored, *WHOLE_RANGE[stored])  # type: ignore[arg-type]
        raise UserError(
            f"the image holds {stored} values, and this translator was trained on {route.source.depth.stored}: say "
            "with --value-range which of them are black and white"
        )

    def _written(self, given: Depth, route: Route) -> Depth:
        """How the translation is stored: as the image was, if both sides were alike in training, else as the target."""
        return given if route.source.depth == route.target.depth else route.target.depth


def _whole(values: np.ndarray) -> np.ndarray:
    """Grey with alpha (2, H, W) in four channels, as training sees it; everything else as it is."""
    return values[[0, 0, 0, 1]] if len(values) == 2 else values


def colour(image: np.ndarray) -> np.ndarray:
    """uint8 (C, H, W) as three channels, for a film: alpha lies on white."""
    if image.dtype != np.uint8:
        raise UserError(f"films hold 8 bits, and this translator makes {image.dtype}; translate the frames as files")
    if len(image) not in picture.MODES:
        raise UserError(f"films hold colour, and this translator makes {len(image)} channels")
    return np.asarray(picture.to_channels(picture.from_pixels(image), 3)).transpose(2, 0, 1)


def of_run(path: Path, which: str = "last", precision: inference.Precision = "auto") -> Translator:
    """The averaged translators of a run folder: of its last checkpoint, its best, or one by images seen. UserError."""
    recipe, run, saved = sample.stored(path, which)
    if not isinstance(run.algorithm.networks, Translators):
        raise UserError(f"{path}: was trained to make images of noise; draw some with zerosum sample {path}")
    spec = sample.spec_of(recipe["data"])
    a, b = spec.sides
    forward: Direction = run.data.direction
    backward: Direction = "B2A" if forward == "A2B" else "A2B"
    networks = run.algorithm.players(spec)
    routes: dict[Direction, Route] = {}
    for name, generator in networks.items():
        if not name.startswith("G"):
            continue
        way, source, target = (backward, b, a) if name.endswith("BA") else (forward, a, b)
        routes[way] = Route(sample.averaged(generator, saved, name), source, target)
    origin = {"zerosum": "generated", "run": path.resolve().name, "images_seen": str(saved.images_seen)}
    return Translator(routes, forward, origin, run.data.made, precision)
