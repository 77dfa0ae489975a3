"""Deep convolutional networks (Radford et al. 2015, arXiv:1511.06434, sec. 3).

Strided 4x4 convolutions instead of pooling, BatchNorm in G except at its output and in D except at its input,
ReLU and tanh in G, LeakyReLU 0.2 in D, weights from N(0, 0.02).
With classes: G gets an embedding of the class beside z; D projects its last features (Miyato & Koyama 2018,
arXiv:1802.05637).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.networks.blocks import (
    ClassEmbedding,
    Head,
    Networks,
    Projection,
    at_least_one,
    base_size,
    required,
    stages_for,
)
from zerosum.networks.init import radford_
from zerosum.networks.strided import FEW, Double, Halve

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from zerosum.networks.blocks import Label


@dataclass(frozen=True, kw_only=True)
class DCGAN(Networks):
    """Strided convolutions with BatchNorm (Radford et al. 2015); the paper's size is width 128."""

    latent: int = 100
    """Length of the latent vector z."""
    width: int = 64
    """Features at half the image's size; doubled with every further halving, up to 8 times."""
    stages: int | None = None
    """How often the image is halved; until its shorter side would fall below 4, if not given."""
    norm_critic: bool = True
    """BatchNorm in the critic; switch it off where samples must not influence each other (penalties)."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width)

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> images (n, C, H, W) in [-1, 1]."""
        return _Generator(self, spec)

    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module:
        """Images (n, C, H, W) -> (n,) logits."""
        return _Critic(self, spec, head)


def _widths(net: DCGAN, stages: int) -> list[int]:
    """Features per stage, from half the image's size down to the base."""
    return [net.width * min(2**i, 8) for i in range(stages)]


class _Generator(nn.Module):
    def __init__(self, net: DCGAN, spec: Spec) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)[::-1]
        height, width = base_size(spec.shape, stages)
        self.base = (widths[0], height, width)
        self.classes = spec.classes
        inputs = net.latent
        if spec.classes:
            self.embedding = ClassEmbedding(spec.classes, net.latent)
            inputs += net.latent
        self.project = nn.Linear(inputs, widths[0] * height * width, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for a, b in pairwise(widths):
            layers += [Double(a, b, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        layers += [Double(widths[-1], spec.shape[0]), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        radford_(self)
        if spec.classes:
            nn.init.normal_(self.embedding.weight)  # on the scale of z, beside which it stands

    def forward(self, z: Float[Tensor, "n z"], label: Label | None = None) -> Float[Tensor, "n c h w"]:
        if self.classes:
            z = torch.cat([z, self.embedding(required(label))], 1)
        return self.layers(self.project(z).unflatten(1, self.base))


class _Critic(nn.Module):
    def __init__(self, net: DCGAN, spec: Spec, head: Head | None) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)
        height, width = base_size(spec.shape, stages)
        norm = net.norm_critic
        # In place, but not on what a wide strided convolution gives, which may be a view.
        layers: list[nn.Module] = [Halve(spec.shape[0], widths[0]), nn.LeakyReLU(0.2, inplace=spec.shape[0] <= FEW)]
        for a, b in pairwise(widths):
            layers.append(Halve(a, b, bias=not norm))
            layers += [nn.BatchNorm2d(b)] if norm else []
            layers.append(nn.LeakyReLU(0.2, inplace=norm))
        self.layers = nn.Sequential(*layers)
        features = widths[-1] * height * width
        self.head = head(features) if head else Projection(features, spec.classes)
        radford_(self)

    def forward(
        self, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"] | None = None, *more: Any
    ) -> Float[Tensor, " n"] | Any:
        return self.head(self.layers(x).flatten(1), label, *more)
