"""The U-Net of pix2pix (Isola et al. 2017, arXiv:1611.07004, app. 6.1.1).

An encoder that halves the image down to where its size allows, a decoder that doubles it again, and skips: level i of
the decoder is given the features of the same size in the encoder beside its own. Convolutions of 4x4 and stride 2,
LeakyReLU 0.2 in the encoder, ReLU in the decoder, tanh at its end, weights from N(0, 0.02). Neither the first nor the
innermost layer of the encoder is normalised, so that one pixel and one image do. The paper's networks for 256x256 and
128x128 are those of depth 8 and 7, down to one pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks.blocks import at_least_one
from zerosum.networks.init import radford_
from zerosum.networks.patch import Patch
from zerosum.networks.strided import Double, Halve
from zerosum.networks.translators import Norm, Translators, check_sides, leaky, named, norm_layer, share_dropped

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SHALLOWEST, DEEPEST = 2, 8
DROPPED = 3  # levels of the decoder, from the innermost, that drop features


@dataclass(frozen=True, kw_only=True)
class UNet(Translators):
    """Encoder and decoder with skips, and the patch critic (Isola et al. 2017)."""

    width: int = 64
    """Features at half the image's size; doubled with every further halving, up to 8 times."""
    depth: int | None = None
    """How often the image is halved, 2 or more; if not given as often as height and width of all sizes can be, up to 8
    times."""
    norm: Norm = "batch"
    """Normalisation in the generator."""
    dropout: float = 0.5
    """Share of the features that the three innermost levels of the decoder drop in training: the paper's only noise."""
    bias: bool = False
    """Biases before a normalisation, which undoes them; published checkpoints may have them."""
    patch: Patch = Patch(norm="batch")
    """The critic."""

    def __post_init__(self) -> None:
        at_least_one(width=self.width)
        share_dropped(self.dropout)
        if self.depth is not None and self.depth < SHALLOWEST:
            raise UserError(f"--algorithm.networks.depth {self.depth}: must be at least {SHALLOWEST}")

    def generator(self, source: Spec, target: Spec) -> nn.Module:
        """Images (n, *source.shape) -> (n, *target.shape) in [-1, 1]. SizeError where the size cannot be halved so."""
        depth = self.depth or _halvings(source)
        check_sides(source, target, depth, 2**depth)
        return _Generator(self, source.shape[0], target.shape[0], depth)

    def critic(self, spec: Spec, given: Spec | None = None) -> nn.Module:
        """Images (n, C, H, W), C with the channels of `given` -> (n, h, w) logits."""
        return self.patch.critic(spec, given)


def _halvings(spec: Spec) -> int:
    common = math.gcd(*(length for size in spec.sizes for length in size))
    return min(max((common & -common).bit_length() - 1, SHALLOWEST), DEEPEST)


class _Generator(nn.Module):
    def __init__(self, net: UNet, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.multiple = 2**depth
        widths = [net.width * min(2**i, 8) for i in range(depth)]
        bias = net.bias or net.norm == "none"
        self.encoder = nn.ModuleList()
        for level, (a, b) in enumerate(pairwise([inputs, *widths])):
            if level in (0, depth - 1):
                self.encoder.append(named(conv=Halve(a, b), relu=leaky("none")))
            else:
                norm = norm_layer(net.norm, b)
                self.encoder.append(named(conv=Halve(a, b, bias=bias), norm=norm, relu=leaky(net.norm)))
        self.decoder = nn.ModuleList()
        for level in reversed(range(1, depth)):
            a, b = widths[level] * (1 if level == depth - 1 else 2), widths[level - 1]
            dropped = nn.Dropout(net.dropout if level >= depth - DROPPED else 0.0)
            self.decoder.append(named(conv=Double(a, b, bias=bias), norm=norm_layer(net.norm, b), dropout=dropped))
        self.decoder.append(named(conv=Double(2 * widths[0], outputs)))
        radford_(self)

    def forward(self, x: Float[Tensor, "n a h w"]) -> Float[Tensor, "n b h w"]:
        # The skips are kept behind the LeakyReLU: the ReLU that follows makes the same of them as of what is before it.
        skips: list[Tensor] = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        x = F.relu(skips.pop())
        for level in self.decoder:
            x = level(x)
            if skips:
                x = F.relu(torch.cat([skips.pop(), x], 1), inplace=True)
        return torch.tanh(x)
