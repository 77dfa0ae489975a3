"""The convolution of stride 1 that reflects the image at its border, computed as a processor does it quickest.

Under autocast torch reflects in fp32 on a processor, and casts there and back for it; copying pixels needs no more than
the type that they have. To a few channels, which leaves a processor's vectors empty, a convolution of stride 2 makes
2x2 pixels at once. On another device these are torch's own operators and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.networks.strided import FEW

if TYPE_CHECKING:
    from jaxtyping import Float


class Reflecting(nn.Conv2d):
    """Conv2d(channels, features, side, padding=side // 2, padding_mode="reflect"): (n, c, h, w) -> (n, f, h, w)."""

    def __init__(self, channels: int, features: int, side: int, *, bias: bool = True) -> None:
        super().__init__(channels, features, side, padding=side // 2, padding_mode="reflect", bias=bias)

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f h w"]:
        x = reflected(input, self.kernel_size[0] // 2)
        few = self.out_channels <= FEW and input.device.type == "cpu" and not torch.compiler.is_compiling()
        if few and input.shape[2] % 2 == input.shape[3] % 2 == 0:
            return by_four(x, self.weight, self.bias)
        return F.conv2d(x, self.weight, self.bias)


def reflected(x: Float[Tensor, "n c h w"], margin: int) -> Float[Tensor, "n c H W"]:
    """The image with `margin` pixels more on every side, mirrored at its border."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):  # shapes alone have none
        return F.pad(x, (margin,) * 4, mode="reflect")
    x = x.to(torch.get_autocast_dtype(kind))
    with torch.autocast(kind, enabled=False):
        return F.pad(x, (margin,) * 4, mode="reflect")


def by_four(
    x: Float[Tensor, "n c H W"], w: Float[Tensor, "f c k k"], bias: Float[Tensor, " f"] | None
) -> Float[Tensor, "n f h w"]:
    """conv2d(x, w, bias) with h and w even: y[2q + r] is the sum over j of x[2q + j] w[j - r], for r of 0 and 1."""
    shifted = [F.pad(w, (across, 1 - across, down, 1 - down)) for down in (0, 1) for across in (0, 1)]
    kernels = torch.stack(shifted, 1).flatten(0, 1)
    biases = None if bias is None else bias.repeat_interleave(4)
    return F.pixel_shuffle(F.conv2d(x, kernels.contiguous(memory_format=_format(x)), biases, stride=2), 2)


def _format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
