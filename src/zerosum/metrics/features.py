"""Features that need no download: what the running checks compare. Weak by design, and labelled so."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum import randomness
from zerosum.data.spec import Spec


class RandomConvolutions(nn.Module):
    """Two layers of fixed random 3x3 convolutions, averaged over a 4x4 grid: (N, C, H, W) to (N, d).

    Weak features: they see local texture and coarse layout, not meaning. Weights are keyed, so numbers agree between
    machines up to rounding.
    """

    name = "random convolutions (weak)"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = self._keyed("first", 16, channels)
        self.second = self._keyed("second", 32, 16)
        self.eval().requires_grad_(False)

    @staticmethod
    def _keyed(name: str, out: int, into: int) -> nn.Conv2d:
        layer = nn.Conv2d(into, out, 3, padding=1)
        weights = randomness.normal(0, f"features/{name}/{into}", 0, out, into * 9)
        with torch.no_grad():
            layer.weight.copy_(weights.view_as(layer.weight) / (into * 9) ** 0.5)
            assert layer.bias is not None
            layer.bias.zero_()
        return layer

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = F.avg_pool2d(x, 2, ceil_mode=True)
        x = F.relu(self.second(x))
        return F.adaptive_avg_pool2d(x, (4, 4)).flatten(1)


class Points(nn.Module):
    """A toy point is its own feature."""

    name = "coordinates"

    def forward(self, x: Tensor) -> Tensor:
        return x


def cheap(spec: Spec) -> nn.Module:
    """The features that the running checks use for this data."""
    return RandomConvolutions(spec.shape[0]) if spec.is_image else Points()
