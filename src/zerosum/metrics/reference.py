"""The real side of the running check: principal components of cheap features, whitened, and the real statistics there.

A cheap feature says little, and most of what it says is the same for all: brightness. Whitening counts each direction
in which real images vary as much as any other, so that the distance goes on moving when the coarse ones agree. On the
digits recipe it fell by 8 times its noise over the last four fifths of a run in which the plain kernel distance stood
at its floor from the first tenth on (docs/log.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zerosum import randomness
from zerosum.data.spec import Spec
from zerosum.metrics import features
from zerosum.metrics.noise import frechet_reading
from zerosum.metrics.statistics import statistics

COMPONENTS, OF_POINTS = 64, 16  # at most; the waves of points in the plane hold no more than noise beyond
PER_COMPONENT = 4  # samples, fake and real, that each component asks for
WAVES = 128
FINEST = 8  # octaves start at the data's spread and end at 1/8 of it


class Waves(nn.Module):
    """Cosines of random projections of points, (N, d) to (N, WAVES) (Rahimi and Recht 2007), on four length scales.

    Coordinates alone would show where the points are on average and how far they scatter, but not their modes.
    """

    name = "random waves (weak)"

    def __init__(self, dimensions: int, spread: float) -> None:
        super().__init__()
        scales = spread / 2.0 ** (torch.arange(WAVES) % (1 + int(math.log2(FINEST)))).double()
        directions = randomness.normal(0, "features/waves", 0, WAVES, dimensions)
        self.directions = (directions / scales[:, None]).T.float()
        self.phase = (2 * math.pi * randomness.uniform(0, "features/waves/phase", 0, WAVES)[:, 0]).float()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x.cpu() @ self.directions + self.phase)


class Reference:
    """Measures fakes against real ones: the Frechet distance in the whitened components of the training images.

    `train` (n, ...) give the components, `real` (m, ...) the statistics to be near to: held-out ones, if there are
    some. Both in [-1, 1] if they are images. As many components as `fakes` samples and the real ones can carry, or
    `components`, if that is fewer.
    """

    def __init__(self, spec: Spec, train: Tensor, real: Tensor, fakes: int, components: int = COMPONENTS) -> None:
        self.features = features.cheap(spec) if spec.is_image else Waves(spec.shape[0], float(train.std(0).mean()))
        self.features.to(train.device)
        x = self._of(train)
        self._mean = x.mean(0)
        _, scale, directions = torch.linalg.svd(x - self._mean, full_matrices=False)
        alive = int((scale > 1e-6 * scale[0].clamp(min=1e-6)).sum())  # a dead feature has nothing to be whitened
        most = min(components, COMPONENTS if spec.is_image else OF_POINTS, alive)
        self.components = max(1, min(most, fakes // PER_COMPONENT, len(real) // PER_COMPONENT))
        self._whiten = directions[: self.components].T * (len(x) ** 0.5 / scale[: self.components].clamp(min=1e-6))
        self._real = statistics(self._components(self._of(real)))
        self.name = f"{self.features.name}, {self.components} whitened components"

    @torch.no_grad()
    def _of(self, x: Tensor) -> Tensor:
        return torch.cat([self.features(part).double().cpu() for part in x.float().split(256)])

    def _components(self, x: Tensor) -> Tensor:
        return (x - self._mean) @ self._whiten

    def __call__(self, fake: Tensor) -> tuple[float, float] | None:
        """(distance, standard error) of fakes, scaled as the real ones are; None if they are not finite."""
        x = self._of(fake)
        return frechet_reading(self._components(x), self._real) if bool(torch.isfinite(x).all()) else None
