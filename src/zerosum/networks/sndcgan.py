"""The standard CNN of spectral normalisation (Miyato et al. 2018, arXiv:1802.05957, Table 3).

G is DCGAN-like, with a 3x3 convolution at full size in the end; D alternates 3x3 convolutions of stride 1 and
4x4 ones of stride 2, LeakyReLU 0.1, every layer spectrally normalised.
With classes: BatchNorm by class in G, projection in D (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.networks.blocks import BatchNorm, Head, Networks, Projection, at_least_one, base_size, spectral, stages_for
from zerosum.networks.init import leaky_gain, radford_, scaled_

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from zerosum.networks.blocks import Label

SLOPE = 0.1


@dataclass(frozen=True, kw_only=True)
class SNDCGAN(Networks):
    """A plain convolutional pair, the critic spectrally normalised (Miyato et al. 2018, Table 3)."""

    latent: int = 128
    """Length of the latent vector z."""
    width: int = 64
    """Features at the image's own size (the paper's 64); doubled with every halving, up to 8 times."""
    stages: int | None = None
    """How often the image is halved; until its shorter side would fall below 4, if not given."""
    spectral: bool = True
    """Spectral normalisation of every layer of the critic; without it, it has no normalisation."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width)

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> images (n, C, H, W) in [-1, 1]."""
        return _Generator(self, spec)

    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module:
        """Images (n, C, H, W) -> (n,) logits."""
        return _Critic(self, spec, head)


def _widths(net: SNDCGAN, stages: int) -> list[int]:
    """Features per size, from the image's own down to the base."""
    return [net.width * min(2**i, 8) for i in range(stages + 1)]


class _Generator(nn.Module):
    def __init__(self, net: SNDCGAN, spec: Spec) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)[::-1]
        height, width = base_size(spec.shape, stages)
        self.base = (widths[0], height, width)
        self.project = nn.Linear(net.latent, widths[0] * height * width, bias=False)
        self.norms = nn.ModuleList(BatchNorm(w, spec.classes) for w in widths)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths))
        self.to_image = nn.Conv2d(widths[-1], spec.shape[0], 3, 1, 1)
        for part in (self.project, self.ups, self.to_image):
            radford_(part)

    def forward(self, z: Float[Tensor, "n z"], label: Label | None = None) -> Float[Tensor, "n c h w"]:
        x = F.relu(self.norms[0](self.project(z).unflatten(1, self.base), label))
        for up, norm in zip(self.ups, self.norms[1:], strict=True):
            x = F.relu(norm(up(x), label))
        return torch.tanh(self.to_image(x))


class _Critic(nn.Module):
    def __init__(self, net: SNDCGAN, spec: Spec, head: Head | None) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)
        height, width = base_size(spec.shape, stages)

        def conv(a: int, b: int, kernel: int, stride: int) -> nn.Conv2d:
            layer = nn.Conv2d(a, b, kernel, stride, padding=1)
            return spectral(scaled_(layer, leaky_gain(SLOPE)), net.spectral)

        layers = [conv(spec.shape[0], widths[0], 3, 1)]
        for a, b in pairwise(widths):
            layers += [conv(a, a, 4, 2), conv(a, b, 3, 1)]
        self.convs = nn.ModuleList(layers)
        features = widths[-1] * height * width
        self.head = head(features) if head else Projection(features, spec.classes, normalise=net.spectral)

    def forward(
        self, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"] | None = None, *more: Any
    ) -> Float[Tensor, " n"] | Any:
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
        return self.head(x.flatten(1), label, *more)
