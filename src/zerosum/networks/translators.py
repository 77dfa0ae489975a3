"""Networks that make an image of another image: what describes a pair of them, and what the pairs share.

Symbols: A is the side that is given, B the side that is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data import sizes
from zerosum.data.spec import Spec
from zerosum.errors import SizeError, UserError

if TYPE_CHECKING:
    from jaxtyping import Float

Norm = Literal["instance", "scaled_instance", "batch", "none"]


class Translators(ABC):
    """A description of a generator and a critic of images that are made of images; a recipe's `networks`.

    `generator(source, target)`: forward(x (n, *source.shape)) -> (n, *target.shape), both in [-1, 1]. Its `multiple` is
    what height and width must be multiples of; it takes any such size, not only that of `source`.
    `critic(spec, given)`: forward(x) -> (n, h, w), a map of logits, each of one patch of the image. x is
    (n, *spec.shape); with `given`, the side that the image is made of, its channels follow in x, and D judges the pair.
    Weights are drawn from torch's global generator; labels are not used. Raises UserError where the data's shape does
    not suit the networks.
    """

    latent: ClassVar[int] = 0
    """They draw none."""

    @abstractmethod
    def generator(self, source: Spec, target: Spec) -> nn.Module: ...

    @abstractmethod
    def critic(self, spec: Spec, given: Spec | None = None) -> nn.Module: ...


class InstanceNorm(nn.Module):
    """Every channel of every image by its own mean and variance (Ulyanov et al. 2016, arXiv:1607.08022, eq. 3).

    nn.InstanceNorm2d computes the same, but its gradient is wrong for a batch of one image where channels come last
    (torch 2.14), and on a processor it is slow: GroupNorm with a group a channel needs a third of its time, and where
    channels come last BatchNorm, which is the same thing for one image, a fifth.
    """

    def __init__(self, features: int, *, scaled: bool = False) -> None:
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.ones(features)) if scaled else None
        self.bias = nn.Parameter(torch.zeros(features)) if scaled else None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if x.is_contiguous() or x.device.type != "cpu":
            return F.group_norm(x, self.features, self.weight, self.bias)
        images = [F.batch_norm(image, None, None, self.weight, self.bias, training=True) for image in x.split(1)]
        return torch.cat(images) if len(images) > 1 else images[0]


def norm_layer(norm: Norm, features: int) -> nn.Module:
    """The layer by its name."""
    if norm == "batch":
        return nn.BatchNorm2d(features)
    return nn.Identity() if norm == "none" else InstanceNorm(features, scaled=norm == "scaled_instance")


def leaky(norm: Norm) -> nn.LeakyReLU:
    """LeakyReLU 0.2 behind such a norm: in place, but not on what a convolution itself gives, which may be a view."""
    return nn.LeakyReLU(0.2, inplace=norm != "none")


def named(**layers: nn.Module) -> nn.Sequential:
    """Layers one after the other, each under its name."""
    return nn.Sequential(OrderedDict(layers))


def check_sides(source: Spec, target: Spec, halvings: int, smallest: int) -> None:
    """Refuse sides of unlike sizes, and sizes that cannot be halved so often; `smallest` is in pixels.

    Raises SizeError that names the nearest sizes that work, or UserError if it is one of `more_sizes` that does not.
    """
    for spec in (source, target):
        if not spec.is_image:
            raise UserError(f"data: these networks make images of images, but the data has shape {spec.shape}")
    height, width = source.shape[1:]
    if source.shape[1:] != target.shape[1:]:
        other = f"{target.shape[1]}x{target.shape[2]}"
        raise UserError(
            f"data: the sides are {height}x{width} and {other}, and these networks keep the size; "
            f"give --size {height} {width}"
        )
    misfit = next((one for one in source.sizes if min(one) < smallest or not sizes.takes(*one, halvings)), None)
    if misfit is None:
        return
    if misfit != (height, width):
        raise UserError(
            f"--fit bucket: some images come to {misfit[0]}x{misfit[1]}, and the generator halves them {halvings} "
            f"times, so height and width must be multiples of {2**halvings}, from {smallest} on; give a larger --size, "
            "another --fit, or networks that halve less often"
        )
    up = sizes.larger(max(height, smallest), max(width, smallest), halvings)
    down = sizes.smaller(height, width, halvings)
    if down is not None and min(down) < smallest:
        down = None
    near = f"the nearest are {up[0]}x{up[1]} and {down[0]}x{down[1]}" if down else f"the nearest is {up[0]}x{up[1]}"
    nearer = sizes.nearer(height, width, up, down)
    raise SizeError(
        f"--size {height} {width}: the generator halves the image {halvings} times, so height and width must be "
        f"multiples of {2**halvings}, from {smallest} on; {near}; give --size {nearer[0]} {nearer[1]}",
        down or up,
    )


def share_dropped(dropout: float) -> None:
    """Refuse what is no share."""
    if not 0 <= dropout < 1:
        raise UserError(f"--algorithm.networks.dropout {dropout:g}: must be at least 0 and below 1")
