"""The running check of translators: how near their outputs are to the other side, and how true to what they were given.

The same questions as `probe` asks of samples, asked of the translations of held-out inputs; it changes nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from zerosum import pictures, sample
from zerosum.data.sides import SIDES
from zerosum.data.sides_loader import SidesLoader
from zerosum.metrics import features
from zerosum.metrics.distances import kernel_distance, spread
from zerosum.metrics.probe import REAL, WORST, Reading
from zerosum.metrics.reference import Reference

SAMPLES = 128  # translated for a reading; a translator costs more than a generator of small images
AT_ONCE = 16
SHOWN = 6  # rows of a sample grid
HALF = 2.0  # images span [-1, 1]: differences are given of a range of 1


class Way:
    """One direction: which player goes it, from which side to which, and the real side that its outputs are held to.

    Images are taken as they are measured, the middle of each, unflipped; of several sizes those of the commonest.
    """

    def __init__(self, player: str, loader: SidesLoader, held_out: SidesLoader | None) -> None:
        self.player = player
        self.source, self.target = SIDES[::-1] if player.endswith("BA") else SIDES
        self.loader, self.held_out = loader, held_out
        self.unseen = held_out or loader
        spec = loader.sides.spec
        self.spec = dict(zip(SIDES, spec.sides, strict=True))[self.target]
        self.features = features.cheap(self.spec).to(loader.device)

    @property
    def count(self) -> int:
        return min(SAMPLES, self.unseen.count(self.source))

    @cached_property
    def inputs(self) -> Tensor:
        return self.unseen.still(self.source, "probe", self.count)

    @cached_property
    def targets(self) -> Tensor | None:
        """What the inputs should become, where that is known."""
        return self.unseen.still(self.target, "probe", self.count) if self.unseen.sides.paired else None

    @cached_property
    def reference(self) -> Reference:
        train = self.loader.still(self.target, "probe/components", min(REAL, self.loader.count(self.target)))
        return Reference(self.spec, train, self.real, self.count)

    @cached_property
    def real(self) -> Tensor:
        """Held-out images of the other side, filled up with training images: see `probe.Probe.reference`."""
        held = 0 if self.held_out is None else min(REAL, self.held_out.count(self.target))
        more = min(REAL - held, self.loader.count(self.target))
        parts = [(self.held_out, held), (self.loader, more)]
        return torch.cat([one.still(self.target, "probe/real", n) for one, n in parts if one is not None and n])

    @cached_property
    def plain(self) -> tuple[Tensor, float]:
        """Plain features of the real side, and how far they spread."""
        x = torch.cat([self.features(part) for part in self.real[: self.count].float().split(256)])
        return x, max(spread(x), 1e-12)


class TranslationProbe:
    """`probe.Probe` for translators: of `G` from A to B, or of `G_AB` and `G_BA`."""

    def __init__(self, loader: SidesLoader, held_out: SidesLoader | None, players: Iterable[str]) -> None:
        self.source = held_out or loader
        """Images that the losses of a regret are taken on."""
        self.ways = [Way(player, loader, held_out) for player in players]

    @property
    def reference(self) -> Reference:
        return self.ways[0].reference

    @torch.no_grad()
    def __call__(self, generators: Mapping[str, nn.Module], critics: Mapping[str, nn.Module] | None = None) -> Reading:
        """A reading of the averaged translators, in eval mode: the mean over both ways where there are two."""
        readings = []
        for way in self.ways:
            made = translated(generators[way.player], way.inputs).float().clamp(-1, 1)
            found = way.reference(made)
            if found is None:
                return Reading(WORST, 0.0, WORST, 0.0)
            real, usual = way.plain
            x = torch.cat([way.features(part) for part in made.split(256)])
            back = self._back(way, generators, made)
            readings.append((*found, kernel_distance(x, real), spread(x) / usual, _l1(made, way.targets), back))
        distance, error, kernel, diversity, l1, cycle = zip(*readings, strict=True)
        return Reading(
            statistics.fmean(distance), math.hypot(*error) / len(error), statistics.fmean(kernel), min(diversity),
            l1=_mean(l1), cycle=_mean(cycle),
        )  # fmt: skip

    def _other(self, way: Way) -> Way | None:
        return next((w for w in self.ways if w.source == way.target), None)

    def _back(self, way: Way, generators: Mapping[str, nn.Module], made: Tensor) -> float | None:
        other = self._other(way)
        return None if other is None else _l1(translated(generators[other.player], made), way.inputs)

    @torch.no_grad()
    def draw(self, generators: Mapping[str, nn.Module]) -> Image.Image:
        """Rows of input and output, with the way back and the true target where there are any; both ways beside."""
        shown = min(SHOWN, *(len(way.inputs) for way in self.ways))  # unpaired sides may be unlike in number
        columns = [column for way in self.ways for column in self._columns(way, generators, shown)]
        rows = np.stack([pictures.in_colour(column) for column in columns], 1)  # (rows, columns, 3, H, W)
        return pictures.grid(rows.reshape(-1, *rows.shape[2:]), columns=len(columns))

    def _columns(self, way: Way, generators: Mapping[str, nn.Module], shown: int) -> Iterator[np.ndarray]:
        given = way.inputs[:shown]
        made = translated(generators[way.player], given)
        yield sample.to_uint8(given)
        yield sample.to_uint8(made)
        if other := self._other(way):
            yield sample.to_uint8(translated(generators[other.player], made))
        if way.targets is not None:
            yield sample.to_uint8(way.targets[:shown])

    @cached_property
    def real_values(self) -> np.ndarray:
        """Real examples of the first way's other side, uint8 (n, C, H, W)."""
        way = self.ways[0]
        return sample.to_uint8(way.real[:64])


def translated(generator: nn.Module, x: Tensor) -> Tensor:
    """G(x) for any number of images, AT_ONCE at a time."""
    return torch.cat([generator(part) for part in x.split(AT_ONCE)])


def _l1(x: Tensor, y: Tensor | None) -> float | None:
    return None if y is None else float((x.float() - y.float()).abs().mean()) / HALF


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None
