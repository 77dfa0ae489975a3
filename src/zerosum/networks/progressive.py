"""Progressive GAN's networks, which grow (Karras et al. 2017, arXiv:1710.10196, sec. 2 to 4 and table 2).

Both begin at the smallest size and double. G: nearest-neighbour doubling and two 3x3 convolutions a size, pixelwise
normalisation after each. D: its mirror, halving by the mean of 2x2 pixels, with one feature more in the end, the spread
over the minibatch. Weights are N(0, 1) and scaled as they are used (equalised learning rate), images leave and enter by
1x1 convolutions of each size, and G has no output activation: sampling clamps.
Differs from the paper: sides need not be equal; G's images come at the final size always, doubled as they are; with
`folds` images leave by 3x3 and enter by 1x1 convolutions of 2x2 pixels or more (sub-pixel convolution, Shi et al. 2016,
arXiv:1609.05158, sec. 3.2), which leaves out what costs most on a processor.
With classes: G gets an embedding of the class beside z; D projects its last features (Miyato & Koyama 2018,
arXiv:1802.05637).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks.blocks import (
    ClassEmbedding,
    Head,
    MinibatchStd,
    Networks,
    at_least_one,
    base_size,
    none_or_more,
    required,
    stages_for,
)
from zerosum.networks.equalised import equalised
from zerosum.networks.growing import Growing, doubled
from zerosum.networks.init import leaky_gain

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from zerosum.networks.blocks import Label

SLOPE = 0.2
GAIN = leaky_gain(SLOPE)
TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class Progressive(Networks):
    """Networks that grow (Karras et al. 2017); the defaults suit two CPU cores.

    The paper's have latent=512, width=16 and widest=512 for 1024x1024.
    """

    latent: int = 128
    """Length of the latent vector z."""
    width: int = 32
    """Features at the image's own size, or where it is folded; doubled with every halving, up to `widest`."""
    widest: int = 128
    """Most features at any size."""
    stages: int | None = None
    """How often the image is halved; until its shorter side would fall below 4, if not given."""
    folds: int = 0
    """So many of these halvings are not learned: features begin and end with 2x2 pixels (1), 4x4 (2) in one place."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width)
        none_or_more(folds=self.folds)
        if self.widest < self.width:
            raise UserError(
                f"--algorithm.networks.widest {self.widest}: must be at least --algorithm.networks.width {self.width}"
            )

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> images (n, C, H, W), unbounded: clamp to [-1, 1] to show them."""
        return _Generator(self, spec)

    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module:
        """Images (n, C, H, W), or as small as it has grown -> (n,) logits."""
        return _Critic(self, spec, head)


def _doublings(net: Progressive, spec: Spec) -> int:
    """How often the networks double, from the base to the image's own size or where it is folded."""
    stages = stages_for(spec.shape, net.stages)
    if net.folds >= stages:
        raise UserError(
            f"--algorithm.networks.folds {net.folds}: images of {spec.shape[1]}x{spec.shape[2]} are halved "
            f"{stages} times; give at most {stages - 1}"
        )
    return stages - net.folds


def _widths(net: Progressive, stages: int) -> list[int]:
    """Features per size, from the base up."""
    return [min(net.width * 2**i, net.widest) for i in range(stages, -1, -1)]


class _Generator(Growing):
    def __init__(self, net: Progressive, spec: Spec) -> None:
        stages = _doublings(net, spec)
        super().__init__(stages, net.folds)
        widths = _widths(net, stages)
        self.base = (widths[0], *base_size(spec.shape, stages + net.folds))
        self.classes = spec.classes
        inputs = net.latent
        if spec.classes:
            self.embedding = ClassEmbedding(spec.classes, net.latent)  # N(0, 1), as z beside which it stands
            inputs += net.latent
        # A 4x4 convolution of one pixel, as table 2 has it, is this linear map.
        self.project = equalised(nn.Linear(inputs, math.prod(self.base)), GAIN)
        self.first = Conv(widths[0], widths[0], normed=True)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2.0), Conv(a, b, normed=True), Conv(b, b, normed=True))
            for a, b in pairwise(widths)
        )
        # Pixels that lie together in one place know of their neighbours through a 3x3 convolution alone.
        side, pixels = 3 if net.folds else 1, spec.shape[0] << 2 * net.folds
        self.to_image = nn.ModuleList(equalised(nn.Conv2d(a, pixels, side, padding=side // 2)) for a in widths)

    def forward(self, z: Float[Tensor, "n z"], label: Label | None = None) -> Float[Tensor, "n c h w"]:
        z = pixel_norm(z)
        if self.classes:
            z = torch.cat([z, self.embedding(required(label))], 1)
        x = pixel_norm(F.leaky_relu(self.project(z).unflatten(1, self.base), SLOPE))
        x = before = self.first(x)
        for block in self.blocks[: self.born]:
            before, x = x, block(x)
        image = self._image(self.born, x)
        if self.fading:
            image = self.fade(doubled(self._image(self.born - 1, before)), image)
        return doubled(image, self.stages - self.born)

    def _image(self, size: int, features: Tensor) -> Tensor:
        image = self.to_image[size](features)
        return F.pixel_shuffle(image, 1 << self.folds) if self.folds else image

    def newest(self) -> Iterator[nn.Parameter]:
        if self.fading:
            yield from self.blocks[self.born - 1].parameters()
            yield from self.to_image[self.born].parameters()


class _Critic(Growing):
    def __init__(self, net: Progressive, spec: Spec, head: Head | None) -> None:
        stages = _doublings(net, spec)
        super().__init__(stages, net.folds)
        widths = _widths(net, stages)
        self.base = base_size(spec.shape, stages + net.folds)
        last = widths[0]
        pixels = spec.shape[0] << 2 * net.folds
        self.from_image = nn.ModuleList(equalised(nn.Conv2d(pixels, a, 1), GAIN) for a in widths)
        self.blocks = nn.ModuleList(  # from each size to the one below
            nn.Sequential(Conv(b, b), Conv(b, a), nn.AvgPool2d(2)) for a, b in pairwise(widths)
        )
        self.last = nn.Sequential(MinibatchStd(), Conv(last + 1, last))
        self.whole = equalised(nn.Linear(last * math.prod(self.base), last), GAIN)
        self.head = head(last) if head else _Head(last, spec.classes)

    def forward(
        self, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"] | None = None, *more: Any
    ) -> Float[Tensor, " n"] | Any:
        x = self.shrunk(x)
        y = self._features(self.born, x)
        for k in reversed(range(self.born)):
            y = self.blocks[k](y)
            if self.fading and k == self.born - 1:
                y = self.fade(self._features(k, F.avg_pool2d(x, 2)), y)
        features = F.leaky_relu(self.whole(self.last(y).flatten(1)), SLOPE)
        return self.head(features, label, *more)

    def _features(self, size: int, image: Tensor) -> Tensor:
        x = F.pixel_unshuffle(image, 1 << self.folds) if self.folds else image
        return F.leaky_relu(self.from_image[size](x), SLOPE)

    def newest(self) -> Iterator[nn.Parameter]:
        if self.fading:
            yield from self.blocks[self.born - 1].parameters()
            yield from self.from_image[self.born].parameters()


class _Head(nn.Module):
    """From features to a logit, as `Projection`, with an equalised layer."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.linear = equalised(nn.Linear(features, 1))
        if classes:
            self.embedding = equalised(nn.Embedding(classes, features))

    def forward(self, features: Float[Tensor, "n c"], label: Int[Tensor, " n"] | None) -> Float[Tensor, " n"]:
        logit = self.linear(features).squeeze(1)
        return logit + (features * self.embedding(required(label))).sum(1) if self.classes else logit


class Conv(nn.Module):
    """3x3, LeakyReLU and, in G, pixelwise normalisation."""

    def __init__(self, inputs: int, outputs: int, *, normed: bool = False) -> None:
        super().__init__()
        self.conv = equalised(nn.Conv2d(inputs, outputs, 3, padding=1), GAIN)
        self.normed = normed

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        x = F.leaky_relu(self.conv(x), SLOPE)
        return pixel_norm(x) if self.normed else x


def pixel_norm(x: Float[Tensor, "n c ..."]) -> Float[Tensor, "n c ..."]:
    """x / sqrt(mean over the features of x^2 + 1e-8), each pixel by itself (Karras et al. 2017, sec. 4.2)."""
    return x * (x.square().mean(1, keepdim=True) + TINY).rsqrt()
