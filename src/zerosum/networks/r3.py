"""R3GAN's residual networks without normalisation (Huang et al. 2024, arXiv:2501.05441, sec. 4 and appendix).

Both networks are stages of inverted bottlenecks (1x1 widens, grouped 3x3, 1x1 narrows), with bilinear
resampling between stages. G starts from a learned tensor at the base size, each feature scaled by a linear
map of z. D ends in its mirror: a learned weight per feature and pixel, summed over the image, then a linear
map. Initialisation stands in for normalisation (fix-up, Zhang et al. 2019, arXiv:1901.09321): the last layer
of each block starts at zero, the others are scaled by L^(-1/4) with L blocks. G has no output activation:
its images are unbounded while it learns, and sampling clamps them.
With classes: G gets an embedding of the class beside z, D's features meet another in an inner product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks.blocks import ClassEmbedding, Head, Networks, at_least_one, base_size, required, stages_for
from zerosum.networks.init import leaky_gain, scaled_

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from zerosum.networks.blocks import Label

SLOPE = 0.2


@dataclass(frozen=True, kw_only=True)
class R3(Networks):
    """Residual networks without normalisation (R3GAN, Huang et al. 2024); the defaults suit two CPU cores.

    The paper's networks have blocks=2: for CIFAR-10 width=768 and widest=768, for 256x256 faces width=96 and
    widest=768.
    """

    latent: int = 64
    """Length of the latent vector z."""
    width: int = 32
    """Features at the image's own size; doubled with every halving, up to `widest`."""
    widest: int = 256
    """Most features at any size."""
    blocks: int = 1
    """Residual blocks per size (the paper's 2)."""
    expansion: int = 2
    """How many times wider a block is inside."""
    group_width: int = 16
    """Features per group of the 3x3 convolutions (the cardinality is width x expansion / group_width)."""
    stages: int | None = None
    """How often the image is halved; until its shorter side would fall below 4, if not given."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width, blocks=self.blocks, expansion=self.expansion)
        at_least_one(group_width=self.group_width)
        if self.widest < self.width:
            raise UserError(
                f"--algorithm.networks.widest {self.widest}: must be at least --algorithm.networks.width {self.width}"
            )
        for name, inside in (("width", self.width), ("widest", self.widest)):
            if inside * self.expansion % self.group_width:
                raise UserError(
                    f"--algorithm.networks.group-width {self.group_width}: must divide "
                    f"{name} x expansion = {inside * self.expansion}"
                )

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> images (n, C, H, W), unbounded: clamp to [-1, 1] to show them."""
        return _Generator(self, spec)

    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module:
        """Images (n, C, H, W) -> (n,) logits."""
        return _Critic(self, spec, head)


def _widths(net: R3, stages: int) -> list[int]:
    """Features per size, from the image's own down to the base."""
    return [min(net.width * 2**i, net.widest) for i in range(stages + 1)]


class _Generator(nn.Module):
    def __init__(self, net: R3, spec: Spec) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)[::-1]
        self.classes = spec.classes
        inputs = net.latent
        if spec.classes:
            self.embedding = ClassEmbedding(spec.classes, net.latent)  # N(0, 1), as z beside which it stands
            inputs += net.latent
        self.basis = nn.Parameter(torch.randn(widths[0], *base_size(spec.shape, stages)))
        self.modulate = scaled_(nn.Linear(inputs, widths[0], bias=False))
        layers = _blocks(net, widths[0], stages)
        for a, b in pairwise(widths):
            double = nn.Upsample(scale_factor=2.0, mode="bilinear")
            layers += [*_match(a, b), double, *_blocks(net, b, stages)]
        self.layers = nn.Sequential(*layers)
        self.to_image = scaled_(nn.Conv2d(widths[-1], spec.shape[0], 1, bias=False))

    def forward(self, z: Float[Tensor, "n z"], label: Label | None = None) -> Float[Tensor, "n c h w"]:
        if self.classes:
            z = torch.cat([z, self.embedding(required(label))], 1)
        return self.to_image(self.layers(self.basis * self.modulate(z)[:, :, None, None]))


class _Critic(nn.Module):
    def __init__(self, net: R3, spec: Spec, head: Head | None) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)
        last = widths[-1]
        base = base_size(spec.shape, stages)
        self.from_image = scaled_(nn.Conv2d(spec.shape[0], widths[0], 1, bias=False))
        layers = _blocks(net, widths[0], stages)
        for a, b in pairwise(widths):  # bilinear halving is the mean of 2x2 pixels
            layers += [nn.AvgPool2d(2), *_match(a, b), *_blocks(net, b, stages)]
        self.layers = nn.Sequential(*layers)
        # A depthwise convolution as large as its input, written as the product and sum that it is: the double
        # backward of a grouped convolution goes through its groups one by one.
        self.basis = nn.Parameter(torch.randn(last, *base) / math.sqrt(math.prod(base)))
        self.head = head(last) if head else _Head(last, spec.classes)

    def forward(
        self, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"] | None = None, *more: Any
    ) -> Float[Tensor, " n"] | Any:
        return self.head((self.layers(self.from_image(x)) * self.basis).sum((2, 3)), label, *more)


class _Head(nn.Module):
    """From features to a logit: linear, or with classes the inner product of what is linear and class embedding."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.linear = scaled_(nn.Linear(features, features if classes else 1, bias=False))
        if classes:
            self.embedding = nn.Embedding(classes, features)
            nn.init.normal_(self.embedding.weight, 0.0, 1 / math.sqrt(features))

    def forward(self, features: Float[Tensor, "n c"], label: Int[Tensor, " n"] | None) -> Float[Tensor, " n"]:
        x = self.linear(features)
        return (x * self.embedding(required(label))).sum(1) if self.classes else x.squeeze(1)


def _blocks(net: R3, features: int, stages: int) -> list[nn.Module]:
    gain = leaky_gain(SLOPE) * (net.blocks * (stages + 1)) ** -0.25
    return [_Block(features, features * net.expansion, net.group_width, gain) for _ in range(net.blocks)]


def _match(inputs: int, outputs: int) -> list[nn.Module]:
    """A linear 1x1 from one width to another; none between equal widths."""
    return [] if inputs == outputs else [scaled_(nn.Conv2d(inputs, outputs, 1, bias=False))]


class _Block(nn.Module):
    """x + narrow(act(grouped(act(widen(x))))), biases before activations only; the identity at the start."""

    def __init__(self, features: int, inside: int, group_width: int, gain: float) -> None:
        super().__init__()
        groups = inside // group_width
        self.widen = scaled_(nn.Conv2d(features, inside, 1), gain)
        self.grouped = scaled_(nn.Conv2d(inside, inside, 3, padding=1, groups=groups), gain)
        self.narrow = scaled_(nn.Conv2d(inside, features, 1, bias=False), 0.0)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        y = F.leaky_relu(self.widen(x), SLOPE)
        y = F.leaky_relu(self.grouped(y), SLOPE)
        return x + self.narrow(y)
