"""The running check: how near and how varied the fakes are, and whether D knows its training images by heart.

It works on copies and in cheap features, and draws nothing that training draws.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from zerosum import pictures, sample
from zerosum.data.loader import Loader
from zerosum.data.spec import Spec
from zerosum.metrics import features
from zerosum.metrics.distances import kernel_distance, spread
from zerosum.metrics.noise import dominance
from zerosum.metrics.reference import Reference
from zerosum.networks import Growing, coupled

SAMPLES, OF_POINTS = 256, 1_024  # points cost next to nothing, and their modes need more
REAL = 1_000  # at most, for the statistics of the real side
FLOORS = 4  # draws, at most, whose mean is the floor: a single one is off by a tenth
GRID = 64
GRID_POINTS = 2_000
GRID_CLASSES = 10
WORST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Reading:
    """What one probe found; every error is a standard error."""

    distance: float
    """The Frechet distance of the same latents' samples from real images: see `reference`."""
    distance_error: float
    """From the draw of the latents, so of the value itself; two readings of one run, which share them, differ more
    surely than that."""
    kernel_distance: float
    """In plain weak features, from as many real ones: unbiased, but soon at its floor."""
    diversity: float
    """Spread of the fakes relative to real ones: 1 is alike. Of a game of classes that within them, if it is less."""
    overfitting: float | None = None
    """How much surer D is of its training images than of held-out ones: `noise.dominance`, 0 to 1."""
    overfitting_error: float | None = None
    floor: float | None = None
    """The distance of real images in place of the fakes: the same all through the run."""
    l1: float | None = None
    """Of a translator of pairs: mean absolute difference from the held-out targets, from 0 to 1."""
    cycle: float | None = None
    """Of translators both ways: mean absolute difference after there and back again, from 0 to 1."""
    growing: bool | None = None
    """Whether G has doublings yet to come; None of one that has not."""

    def row(self) -> dict[str, float]:
        """For the log: what was measured."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Probe:
    """Compares a few samples with real ones; also keeps the fixed latents of the grids.

    `held_out` draws from the images that are not trained on; None if there are none. Distances are in weak features:
    good for choosing between checkpoints of one run, and no more. Every reading of a run has the same latents: what
    they chance to be moves all readings alike, and the differences stay (common random numbers).
    """

    def __init__(self, loader: Loader, held_out: Loader | None, spec: Spec) -> None:
        self.loader, self.held_out, self.spec = loader, held_out, spec
        self.samples = SAMPLES if spec.is_image else OF_POINTS
        self.features = features.cheap(spec).to(loader.device)

    @torch.no_grad()
    def __call__(self, generators: Mapping[str, nn.Module], critics: Mapping[str, nn.Module] | None = None) -> Reading:
        """A reading of the averaged generator G (in eval mode) and of D, if it is among the critics."""
        generator, critic = generators["G"], (critics or {}).get("D")
        growing = True if isinstance(generator, Growing) and not generator.complete else None
        real, label = self._real
        latents = self.loader.latent("probe", 0, self.samples)
        fake = sample.generate(generator, latents, label)
        fake = fake.to(self.loader.device).float().clamp(-1, 1) if self.spec.is_image else fake.float()
        found, x = self.reference(fake), self.features(fake)
        if found is None:
            return Reading(WORST, 0.0, WORST, 0.0, floor=self.floor, growing=growing)
        kernel, diversity = kernel_distance(x, real), self._diversity(x, label)
        overfitting, error = self._overfitting(critic)
        return Reading(*found, kernel, diversity, overfitting, error, self.floor, growing=growing)

    def _overfitting(self, critic: nn.Module | None) -> tuple[float, float] | tuple[None, None]:
        if critic is None or self.held_out is None:
            return None, None
        # A copy, so that no mode and no statistic of D moves. Batch statistics, where D has them, as in its own turns.
        twin = copy.deepcopy(critic).train(coupled(critic))
        logits = [twin(*batch).reshape(len(batch[0]), -1).mean(1) for batch in self._for_critic]
        if not all(bool(torch.isfinite(x).all()) for x in logits):
            return None, None
        return dominance(*logits)

    @property
    def source(self) -> Loader:
        """The real side: the held-out images, or those that are trained on if there are none."""
        return self.held_out or self.loader

    @cached_property
    def _for_critic(self) -> list[tuple[Tensor, Tensor | None]]:
        """Training and held-out images for D, as many of each, with their labels."""
        assert self.held_out is not None
        n = min(SAMPLES, len(self.held_out.dataset), len(self.loader.dataset))
        names = ((self.loader, "probe/train"), (self.held_out, "probe/held out"))
        return [(loader.real(name, 0, n), loader.label(name, 0, n)) for loader, name in names]

    @cached_property
    def reference(self) -> Reference:
        """The real side of the distance: up to REAL held-out images; training images where there are fewer.

        A few dozen images would be a worse target than those that are trained on: means and covariances of few
        features are not learned by heart, but those of 50 images are off by more than what is to be seen. Training
        images give the components in which they are compared.
        """
        train = self.loader.real("probe/components", 0, min(REAL, len(self.loader.dataset)))
        sides = [] if self.held_out is None else [self.held_out.real("probe/statistics", 0, self._held)]
        sides += [self.loader.real("probe/statistics", 0, self._filled)] if self._filled else []
        return Reference(self.spec, train, torch.cat(sides), self.samples)

    @property
    def _held(self) -> int:
        return 0 if self.held_out is None else min(REAL, len(self.held_out.dataset))

    @property
    def _filled(self) -> int:
        """How many training images stand beside the held-out ones."""
        return min(REAL - self._held, len(self.loader.dataset))

    @cached_property
    def floor(self) -> float | None:
        """The distance of as many other training images as there are samples, on average over FLOORS draws.

        None where too few are left for a draw.
        """
        n = self.samples
        draws = min(FLOORS, (len(self.loader.dataset) - self._filled) // n)
        if not draws:
            return None
        real = (self.loader.real("probe/statistics", self._filled + i * n, n) for i in range(draws))
        return statistics.fmean(distance for distance, _ in filter(None, map(self.reference, real)))

    @cached_property
    def _real(self) -> tuple[Tensor, Tensor | None]:
        """Features of the real side, each image once if there are enough, and the labels that the fakes are to have."""
        n = self.samples if self.held_out is None else min(self.samples, len(self.held_out.dataset))
        with torch.no_grad():
            real = self.features(self.source.real("probe/real", 0, n).float())
        return real, self.source.label("probe/real", 0, self.samples)

    def _diversity(self, x: Tensor, label: Tensor | None) -> float:
        """All fakes may differ where those of a class are one and the same."""
        within = spread(x, label) / self._real_spread_of_classes if label is not None else math.nan
        return min(spread(x) / self._real_spread, within if math.isfinite(within) else math.inf)

    @cached_property
    def _real_spread(self) -> float:
        return max(spread(self._real[0]), 1e-12)

    @cached_property
    def _real_spread_of_classes(self) -> float:
        real, label = self._real
        assert label is not None
        return max(spread(real, label[: len(real)]), 1e-12)

    @cached_property
    def fixed(self) -> tuple[Tensor, Tensor | None, int | None]:
        """The latents, labels and number of columns of every sample grid: of one class each, if it has some."""
        if not self.spec.is_image:
            return self.loader.latent("grid", 0, GRID_POINTS), self._grid_labels(GRID_POINTS), None
        turn = min(self.spec.classes, GRID_CLASSES)
        columns = sample.columns_in_turn(GRID, turn, self.spec) if turn else 8
        n = columns * (GRID // columns)
        return self.loader.latent("grid", 0, n), self._grid_labels(n), columns

    def draw(self, generators: Mapping[str, nn.Module]) -> Image.Image:
        """The fixed latents through G in eval mode, as one picture."""
        z, label, columns = self.fixed
        x = sample.generate(generators["G"], z, label)
        if not self.spec.is_image:
            return sample.picture(x, self.spec, real=self.real_values)
        known = self.loader.dataset.class_names
        names = [known[k] for k in label[:columns].tolist()] if label is not None and known else ()
        return pictures.named(sample.picture(x, self.spec, columns=columns), columns=names)

    def _grid_labels(self, n: int) -> Tensor | None:
        if not self.spec.classes:
            return None
        return (torch.arange(n) % min(self.spec.classes, GRID_CLASSES)).to(self.loader.device)

    @cached_property
    def real_values(self) -> np.ndarray:
        """Real examples to look at beside the fakes: uint8 images, or points."""
        n = GRID if self.spec.is_image else GRID_POINTS
        x = self.loader.real("grid/real", 0, n)
        return sample.to_uint8(x) if self.spec.is_image else x.float().cpu().numpy()
