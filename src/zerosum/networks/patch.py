"""The critic that judges patches (Isola et al. 2017, arXiv:1611.07004, app. 6.1.2).

Convolutions of 4x4, the first `layers` of them strided, then two that are not: each logit sees 16, 34, 70, 142 or 286
pixels across for 1 to 5 layers. LeakyReLU 0.2, no normalisation after the first layer, weights from N(0, 0.02).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from zerosum.data.spec import Spec
from zerosum.errors import SizeError, UserError
from zerosum.networks.blocks import at_least_one, none_or_more
from zerosum.networks.init import radford_
from zerosum.networks.strided import Halve
from zerosum.networks.translators import Norm, leaky, norm_layer

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

PUBLISHED = 3  # strided layers: 70x70 pixels
LEAST = 3  # pixels that the strided layers must leave: the two that follow take one each


@dataclass(frozen=True, kw_only=True)
class Patch:
    """The patch critic; the papers' has width 64 and 3 layers, with batch (pix2pix) or instance norm (CycleGAN)."""

    width: int = 64
    """Features at half the image's size; doubled with every further layer, up to 8 times."""
    layers: int | None = None
    """Strided layers: 3 for patches of 70x70 pixels, 0 for single pixels. If not given 3, or 2 where the image's
    shorter side is below 24 pixels, or 1 where it is below 12."""
    norm: Norm = "instance"
    """Normalisation between the layers; "batch" couples the samples, "none" is for penalties on single samples."""

    def __post_init__(self) -> None:
        at_least_one(**{"patch.width": self.width})
        none_or_more(**{"patch.layers": self.layers or 0})

    def critic(self, spec: Spec, given: Spec | None = None) -> nn.Module:
        """Images (n, C, H, W), C with the channels of `given` -> (n, h, w) logits. SizeError if they are too small."""
        images = [spec.shape[0]] if given is None else [given.shape[0], spec.shape[0]]
        return _Critic(self, images, self._layers(spec))

    def _layers(self, spec: Spec) -> int:
        if not spec.is_image:
            raise UserError(f"data: the patch critic judges images, but the data has shape {spec.shape}")
        height, width = spec.shape[1:]
        shortest = min(map(min, spec.sizes))
        fitting = max((shortest // LEAST).bit_length() - 1, 0)
        layers = max(min(fitting, PUBLISHED), 1) if self.layers is None else self.layers
        if layers > fitting:
            side = LEAST << layers
            if min(height, width) >= side:
                raise UserError(
                    f"--fit bucket: some images come to {shortest} pixels one way, and {layers} strided layers of the "
                    f"patch critic need {side}; give a larger --size, another --fit or "
                    f"--algorithm.networks.patch.layers {fitting}"
                )
            nearest = max(height, side), max(width, side)
            raise SizeError(
                f"--size {height} {width}: {layers} strided layers of the patch critic need {side} pixels each way; "
                f"give --size {nearest[0]} {nearest[1]} or --algorithm.networks.patch.layers {fitting}",
                nearest,
            )
        return layers


class _Critic(nn.Module):
    def __init__(self, patch: Patch, images: list[int], strided: int) -> None:
        super().__init__()
        self.images = images  # channels of each, for what treats them apart (augmentation)
        channels = sum(images)
        widths = [patch.width * min(2**i, 8) for i in range(strided + 1)] if strided else [patch.width, 2 * patch.width]
        bias = patch.norm == "none"
        first = Halve(channels, widths[0]) if strided else nn.Conv2d(channels, widths[0], 1)
        layers: list[nn.Module] = [first, leaky("none")]
        for number, (a, b) in enumerate(pairwise(widths), 1):
            if number < strided:
                layers.append(Halve(a, b, bias=bias))
            else:
                layers.append(nn.Conv2d(a, b, 4, padding=1, bias=bias) if strided else nn.Conv2d(a, b, 1, bias=bias))
            layers += [norm_layer(patch.norm, b), leaky(patch.norm)]
        layers.append(nn.Conv2d(widths[-1], 1, 4, padding=1) if strided else nn.Conv2d(widths[-1], 1, 1))
        self.layers = nn.Sequential(*layers)
        radford_(self)

    def forward(self, x: Float[Tensor, "n c H W"]) -> Float[Tensor, "n h w"]:
        return self.layers(x).squeeze(1)
