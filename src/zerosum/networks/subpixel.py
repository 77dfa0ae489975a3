"""Small convolutional networks that never work at the image's own resolution, for speed on a processor.

A 3x3 convolution at full size on a few channels costs as much time as ten times its arithmetic elsewhere. So the critic
begins by folding each 2x2 pixels into channels, and the generator ends by unfolding them (sub-pixel convolution,
Shi et al. 2016, arXiv:1609.05158, sec. 3.2). In between: the strided 4x4 convolutions, BatchNorm in G alone, ReLU and
LeakyReLU of DCGAN (Radford et al. 2015), and 3x3 convolutions at the smallest size, where they are cheap.
With classes: BatchNorm by class in G; D projects its last features (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from zerosum.data.spec import Spec
from zerosum.networks.blocks import BatchNorm, Networks, Projection, at_least_one, base_size, stages_for
from zerosum.networks.init import leaky_gain, radford_, scaled_

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

SLOPE = 0.2


@dataclass(frozen=True, kw_only=True)
class Subpixel(Networks):
    """Strided and sub-pixel convolutions, BatchNorm in G alone; samples do not influence each other in D."""

    latent: int = 64
    """Length of the latent vector z."""
    width: int = 32
    """Features at half the image's size; doubled with every further halving, up to 8 times."""
    depth: int = 1
    """3x3 convolutions at the smallest size, in each network."""
    stages: int | None = None
    """How often the image is halved; until its shorter side would fall below 4, if not given."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width)
        if self.depth:
            at_least_one(depth=self.depth)

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> images (n, C, H, W) in [-1, 1]."""
        return _Generator(self, spec)

    def critic(self, spec: Spec) -> nn.Module:
        """Images (n, C, H, W) -> (n,) logits."""
        return _Critic(self, spec)


def _widths(net: Subpixel, stages: int) -> list[int]:
    """Features per stage, from half the image's size down to the base."""
    return [net.width * min(2**i, 8) for i in range(stages)]


class _Generator(nn.Module):
    def __init__(self, net: Subpixel, spec: Spec) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)[::-1]
        self.base = (*base_size(spec.shape, stages), widths[0])
        self.project = nn.Linear(net.latent, self.base[0] * self.base[1] * widths[0], bias=False)
        self.norm = BatchNorm(widths[0], spec.classes)
        same = [nn.Conv2d(widths[0], widths[0], 3, padding=1, bias=False) for _ in range(net.depth)]
        up = [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList([*same, *up])
        self.norms = nn.ModuleList([BatchNorm(layer.out_channels, spec.classes) for layer in [*same, *up]])
        self.image = nn.Conv2d(widths[-1], 4 * spec.shape[0], 3, padding=1)
        radford_(self)

    def forward(self, z: Float[Tensor, "n z"], label: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n c h w"]:
        # Channels come last in the projection, so that no copy is needed where they come last in memory.
        x = self.project(z).unflatten(1, self.base).permute(0, 3, 1, 2)
        x = torch.relu(self.norm(x, label))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x), label))
        return torch.tanh(nn.functional.pixel_shuffle(self.image(x), 2))


class _Critic(nn.Module):
    def __init__(self, net: Subpixel, spec: Spec) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)
        height, width = base_size(spec.shape, stages)
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * spec.shape[0], widths[0], 3, padding=1)]
        for a, b in pairwise(widths):
            layers += [nn.LeakyReLU(SLOPE), nn.Conv2d(a, b, 4, 2, 1)]
        for _ in range(net.depth):
            layers += [nn.LeakyReLU(SLOPE), nn.Conv2d(widths[-1], widths[-1], 3, padding=1)]
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(SLOPE))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                scaled_(layer, leaky_gain(SLOPE))
        self.head = Projection(widths[-1] * height * width, spec.classes)

    def forward(self, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"] | None = None) -> Float[Tensor, " n"]:
        # Channels last here too: flattening then copies nothing, and the gradient comes back as the features lie.
        return self.head(self.layers(x).permute(0, 2, 3, 1).flatten(1), label)
