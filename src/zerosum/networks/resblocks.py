"""The residual generator of CycleGAN and CUT (Johnson et al. 2016, arXiv:1603.08155; Zhu et al. 2017, arXiv:1703.10593,
app. 7.2).

In the paper's notation c7s1-64, d128, d256, R256 (6 or 9 times), u128, u64, c7s1-3: a 7x7 convolution, two that halve,
residual blocks at a quarter of the size, two that double, a 7x7 convolution and tanh. Reflection padding where the
stride is 1, ReLU, weights from N(0, 0.02). Halving and doubling are plain convolutions; the antialiased ones of CUT's
published code are left out. With `attention` the network says what to change and where, and keeps the
rest of its input (Pumarola et al. 2018, arXiv:1807.09251, eq. 1; Mejjati et al. 2018, arXiv:1806.02311). With `even`
no pixel is met by more taps than its neighbour, which 3x3 ones at stride 2 draw as a chequerboard (Odena et al. 2016,
"Deconvolution and Checkerboard Artifacts", doi:10.23915/distill.00003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks.blocks import at_least_one
from zerosum.networks.init import radford_
from zerosum.networks.patch import Patch
from zerosum.networks.reflecting import Reflecting
from zerosum.networks.strided import Double, Halve
from zerosum.networks.translators import Norm, Translators, check_sides, named, norm_layer, share_dropped

if TYPE_CHECKING:
    from jaxtyping import Float

HALVINGS = 2
SMALLEST = 8  # pixels: a block reflects the border of what is left, so two must be
CLOSED = -3.0  # the logit that an untrained attention is near


@dataclass(frozen=True, kw_only=True)
class ResBlocks(Translators):
    """Residual blocks at a quarter of the image's size, and the patch critic (Zhu et al. 2017)."""

    width: int = 64
    """Features at the image's own size; four times as many in the blocks."""
    blocks: int = 9
    """Residual blocks; the paper has 6 for images of 128 pixels and 9 for larger ones."""
    norm: Norm = "instance"
    """Normalisation in the generator."""
    dropout: float = 0.0
    """Share of the features that are dropped in the middle of every block, in training."""
    bias: bool = False
    """Biases before a normalisation, which undoes them; published checkpoints may have them."""
    attention: bool = False
    """Change the input where a map of the network's own says so, and keep it elsewhere: an untrained network is nearly
    the identity. For sides that look alike: else it may stay that. Off where their channels differ."""
    even: bool = False
    """Halve and double by 4x4 convolutions, in place of the paper's 3x3."""
    patch: Patch = Patch()
    """The critic."""

    def __post_init__(self) -> None:
        at_least_one(width=self.width, blocks=self.blocks)
        share_dropped(self.dropout)

    def generator(self, source: Spec, target: Spec) -> nn.Module:
        """Images (n, *source.shape) -> (n, *target.shape) in [-1, 1], and `features`.

        SizeError where height or width is no multiple of 4.
        """
        check_sides(source, target, HALVINGS, SMALLEST)
        return _Generator(self, source.shape[0], target.shape[0])

    def critic(self, spec: Spec, given: Spec | None = None) -> nn.Module:
        """Images (n, C, H, W), C with the channels of `given` -> (n, h, w) logits."""
        return self.patch.critic(spec, given)


class _Generator(nn.Module):
    def __init__(self, net: ResBlocks, inputs: int, outputs: int) -> None:
        super().__init__()
        self.multiple = 2**HALVINGS
        self.attention = net.attention and inputs == outputs
        w, bias = net.width, net.bias or net.norm == "none"

        def normalised(features: int, **layer: nn.Module) -> nn.Sequential:
            return named(norm=norm_layer(net.norm, features), relu=nn.ReLU(inplace=net.norm != "none"), **layer)

        def halve(channels: int, features: int) -> nn.Conv2d:
            if net.even:
                return Halve(channels, features, bias=bias)
            return nn.Conv2d(channels, features, 3, 2, 1, bias=bias)

        def double(features: int, channels: int) -> nn.ConvTranspose2d:
            if net.even:
                return Double(features, channels, bias=bias)
            return nn.ConvTranspose2d(features, channels, 3, 2, 1, output_padding=1, bias=bias)

        # Cut so that each part ends where `features` looks: at a convolution or a block.
        self.encoder = nn.Sequential(
            named(conv=Reflecting(inputs, w, 7, bias=bias)),
            normalised(w, conv=halve(w, 2 * w)),
            normalised(2 * w, conv=halve(2 * w, 4 * w)),
            normalised(4 * w, block=_Block(net, 4 * w, bias)),
            *(named(block=_Block(net, 4 * w, bias)) for _ in range(net.blocks - 1)),
        )
        last = Reflecting(w, outputs + self.attention, 7)
        self.decoder = nn.Sequential(
            named(conv=double(4 * w, 2 * w)),
            normalised(2 * w, conv=double(2 * w, w)),
            normalised(w, conv=last),
        )
        radford_(self)
        if self.attention:
            assert last.bias is not None
            with torch.no_grad():
                last.bias[-1] = CLOSED

    def forward(self, x: Float[Tensor, "n a h w"]) -> Float[Tensor, "n b h w"]:
        y = self.decoder(self.encoder(x))
        if not self.attention:
            return torch.tanh(y)
        change, attention = torch.tanh(y[:, :-1]), torch.sigmoid(y[:, -1:])
        return attention * change + (1 - attention) * x

    def features(self, x: Float[Tensor, "n a h w"], layers: Sequence[int]) -> list[Tensor]:
        """What the forward has at these layers, in the order asked for; nothing behind the last of them is computed.

        Layer 0 is the image, 1 to 3 the convolutions of c7s1-64, d128 and d256 (before their normalisation), 4 and on
        the residual blocks. CUT (Park et al. 2020, arXiv:2007.15651) compares the patches of layers 0, 2, 3, 4 and 8:
        the pixels, both halvings, the first and the fifth block.
        """
        wrong = [layer for layer in layers if not 0 <= layer <= len(self.encoder)]
        if wrong or not layers:
            raise UserError(
                f"layers {[*layers]}: this generator has layers 0 (the image) to {len(self.encoder)} (its last block)"
            )
        found = {0: x}
        for number, part in enumerate(self.encoder[: max(layers)], 1):
            x = part(x)
            found[number] = x
        return [found[layer] for layer in layers]


class _Block(nn.Module):
    """3x3, norm, ReLU, 3x3, norm, added to what came in."""

    def __init__(self, net: ResBlocks, features: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = Reflecting(features, features, 3, bias=bias)
        self.norm1 = norm_layer(net.norm, features)
        self.dropout = nn.Dropout(net.dropout)
        self.conv2 = Reflecting(features, features, 3, bias=bias)
        self.norm2 = norm_layer(net.norm, features)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        y = self.dropout(F.relu(self.norm1(self.conv1(x)), inplace=True))
        return x + self.norm2(self.conv2(y))
