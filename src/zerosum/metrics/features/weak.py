"""Features that need no weights and no download. Weak by design, and labelled so.

`RandomConvolutions` and `Coordinates` are also what the running checks of a training compare, as modules on tensors.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum import randomness
from zerosum.data.spec import Spec
from zerosum.metrics.features.base import Extractor, hash_of, resized, unit

PIXELS_SIDE = 32  # larger images are brought down to it: more numbers would say no more
AS_FOUND = "size as found, 8 bits scaled to [-1, 1]"


class RandomConvolutionNetwork(nn.Module):
    """Two layers of fixed random 3x3 convolutions, averaged over a 4x4 grid: (N, C, H, W) to (N, d).

    They see local texture and coarse layout, not meaning. Weights are keyed, so numbers agree between machines up to
    rounding.
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


class PointNetwork(nn.Module):
    """A toy point is its own feature."""

    name = "coordinates"

    def forward(self, x: Tensor) -> Tensor:
        return x


def cheap(spec: Spec) -> nn.Module:
    """The features that the running checks use for this data, as a module on scaled tensors."""
    return RandomConvolutionNetwork(spec.shape[0]) if spec.is_image else PointNetwork()


class RandomConvolutions(Extractor):
    """Fixed random convolutions: 512 numbers an image."""

    def __init__(self, spec: Spec) -> None:
        self.network = RandomConvolutionNetwork(spec.shape[0])
        weights = hash_of(self.network.state_dict())
        super().__init__("random convolutions", weights, weak=True, dimensions=512, preparation=AS_FOUND)

    def extract(self, values: np.ndarray) -> Tensor:
        return self.network(unit(values))


class Pixels(Extractor):
    """The pixels themselves, of images brought down to 32 x 32 where they are larger."""

    def __init__(self, spec: Spec) -> None:
        channels, height, width = spec.shape
        self.channels, self.shrink = channels, max(height, width) > PIXELS_SIDE
        self.size = (PIXELS_SIDE, PIXELS_SIDE) if self.shrink else (height, width)
        shape = (channels, *self.size)
        to = f"bicubic with antialiasing to {PIXELS_SIDE} x {PIXELS_SIDE} in 8 bits, scaled to [-1, 1]"
        super().__init__(
            "pixels", _none("pixels"), weak=True, dimensions=math.prod(shape),
            preparation=to if self.shrink else AS_FOUND,
        )  # fmt: skip

    def extract(self, values: np.ndarray) -> Tensor:
        return unit(resized(values, self.channels, PIXELS_SIDE) if self.shrink else values).flatten(1)


class Coordinates(Extractor):
    """The coordinates of a point: for toy data nothing better exists, so not weak."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(
            "coordinates", _none("coordinates"), weak=False, dimensions=spec.shape[0], preparation="raw coordinates"
        )

    def extract(self, values: np.ndarray) -> Tensor:
        return unit(values)


def _none(name: str) -> str:
    """In place of weights, where there are none."""
    return hashlib.sha256(name.encode()).hexdigest()
