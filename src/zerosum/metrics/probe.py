"""The running check: how near and how varied the fakes are, in cheap features. Draws nothing that training draws."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import sample
from zerosum.data.loader import Loader
from zerosum.data.spec import Spec
from zerosum.metrics import features
from zerosum.metrics.distances import kernel_distance, spread

SAMPLES = 256
GRID = 64
GRID_POINTS = 2_000
GRID_CLASSES = 10


class Probe:
    """Compares a few averaged-generator samples with as many real ones; also keeps the fixed latents of the grids.

    The distance is a kernel distance in weak features: good for choosing between checkpoints of one run, and no more.
    """

    def __init__(self, loader: Loader, spec: Spec) -> None:
        self.loader, self.spec = loader, spec
        self.features = features.cheap(spec).to(loader.device)

    @torch.no_grad()
    def __call__(self, generator: nn.Module) -> tuple[float, float]:
        """(kernel distance to real, spread of the fakes relative to real) for the generator, in eval mode."""
        fake = sample.generate(generator, *self._latents)
        x = self.features(fake.to(self.loader.device).float().clamp(-1, 1) if self.spec.is_image else fake.float())
        if not bool(torch.isfinite(x).all()):
            return float(np.finfo(np.float32).max), 0.0
        return kernel_distance(x, self._real), spread(x) / self._real_spread

    @cached_property
    def _latents(self) -> tuple[Tensor, Tensor | None]:
        return self.loader.latent("probe", 0, SAMPLES), self.loader.label("probe/real", 0, SAMPLES)

    @cached_property
    def _real(self) -> Tensor:
        with torch.no_grad():
            return self.features(self.loader.real("probe/real", 0, SAMPLES).float())

    @cached_property
    def _real_spread(self) -> float:
        return max(spread(self._real), 1e-12)

    @cached_property
    def fixed(self) -> tuple[Tensor, Tensor | None, int | None]:
        """The latents, labels and number of columns of every sample grid: one column a class, if it has some."""
        if not self.spec.is_image:
            return self.loader.latent("grid", 0, GRID_POINTS), self._grid_labels(GRID_POINTS), None
        columns = min(self.spec.classes, GRID_CLASSES) or 8
        n = columns * (GRID // columns)
        return self.loader.latent("grid", 0, n), self._grid_labels(n), columns

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
