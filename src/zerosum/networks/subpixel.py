"""Small convolutional networks that never work at the image's own resolution, for speed on a processor.

A 3x3 convolution at full size on a few channels costs as much time as ten times its arithmetic elsewhere. So the critic
begins by folding each 2x2 pixels into channels, and the generator ends by unfolding them (sub-pixel convolution,
Shi et al. 2016, arXiv:1609.05158, sec. 3.2). In between: the strided 4x4 convolutions, BatchNorm in G alone, ReLU and
LeakyReLU of DCGAN (Radford et al. 2015), and 3x3 convolutions at the smallest size, where they are cheap. A fully
connected hidden layer, after z in G and before the logit in D, makes and sees the image as a whole: it costs a tenth of
a step and halves the distance to the data that is reached in a minute (docs/log.md, 2026-11-24).
With classes: BatchNorm by class in G; D projects its last features (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zerosum.data.spec import Spec
from zerosum.networks.blocks import (
    BatchNorm,
    Head,
    Networks,
    Projection,
    at_least_one,
    base_size,
    none_or_more,
    stages_for,
)
from zerosum.networks.init import leaky_gain, radford_, scaled_

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from zerosum.networks.blocks import Label

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
    hidden: int = 256
    """Units of G's fully connected hidden layer, after z; 0 for none."""
    critic_hidden: int = 128
    """Units of D's fully connected hidden layer, before the logit; 0 for none."""
    stages: int | None = None
    """How often the image is halved; until its shorter side would fall below 4, if not given."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width)
        none_or_more(depth=self.depth, hidden=self.hidden, critic_hidden=self.critic_hidden)

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> images (n, C, H, W) in [-1, 1]."""
        return _Generator(self, spec)

    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module:
        """Images (n, C, H, W) -> (n,) logits."""
        return _Critic(self, spec, head)


def _widths(net: Subpixel, stages: int) -> list[int]:
    """Features per stage, from half the image's size down to the base."""
    return [net.width * min(2**i, 8) for i in range(stages)]


class _Generator(nn.Module):
    def __init__(self, net: Subpixel, spec: Spec) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)[::-1]
        self.base = (*base_size(spec.shape, stages), widths[0])
        inputs, hidden = net.latent, list[nn.Module]()
        if net.hidden:
            inputs = net.hidden
            hidden = [nn.Linear(net.latent, inputs, bias=False), nn.BatchNorm1d(inputs), nn.ReLU()]
        self.hidden = nn.Sequential(*hidden)
        self.project = nn.Linear(inputs, self.base[0] * self.base[1] * widths[0], bias=False)
        self.norm = BatchNorm(widths[0], spec.classes)
        same = [nn.Conv2d(widths[0], widths[0], 3, padding=1, bias=False) for _ in range(net.depth)]
        up = [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList([*same, *up])
        self.norms = nn.ModuleList([BatchNorm(layer.out_channels, spec.classes) for layer in [*same, *up]])
        self.image = nn.Conv2d(widths[-1], 4 * spec.shape[0], 3, padding=1)
        radford_(self)

    def forward(self, z: Float[Tensor, "n z"], label: Label | None = None) -> Float[Tensor, "n c h w"]:
        # Channels come last in the projection, so that no copy is needed where they come last in memory.
        x = self.project(self.hidden(z)).unflatten(1, self.base).permute(0, 3, 1, 2)
        x = torch.relu(self.norm(x, label))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x), label))
        return torch.tanh(nn.functional.pixel_shuffle(self.image(x), 2))


class _Critic(nn.Module):
    def __init__(self, net: Subpixel, spec: Spec, head: Head | None) -> None:
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
        features, hidden = widths[-1] * height * width, list[nn.Module]()
        if net.critic_hidden:
            hidden = [scaled_(nn.Linear(features, net.critic_hidden), leaky_gain(SLOPE)), nn.LeakyReLU(SLOPE)]
            features = net.critic_hidden
        self.hidden = nn.Sequential(*hidden)
        self.head = head(features) if head else Projection(features, spec.classes)

    def forward(
        self, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"] | None = None, *more: Any
    ) -> Float[Tensor, " n"] | Any:
        # Channels last here too: flattening then copies nothing, and the gradient comes back as the features lie.
        return self.head(self.hidden(self.layers(x).permute(0, 2, 3, 1).flatten(1)), label, *more)
