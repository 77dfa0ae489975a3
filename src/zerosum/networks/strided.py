"""The 4x4 convolution of stride 2 and its transpose, computed as a processor does them quickest.

One trilinear form in an image x, a kernel w and a smaller image y, sum x[2q - 1 + k] w[k] y[q], gives three maps:
`down` (x, w to y), `up` (y, w to x) and `kernel` (x, y to w). Each one's derivatives are the other two, so that
gradients of gradients come out by themselves. torch is slow at two of them (docs/log.md of 2026-11-24 has the times).
`up` to a few channels, which leaves a processor's vectors empty, is a 2x2 convolution that makes 2x2 pixels at once. In
bf16, the kernel's gradient on maps of few pixels, where torch does not use its threads, is a matrix product of unfolded
patches. Elsewhere (other layers, another device, an export) these are torch's own layers and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

if TYPE_CHECKING:
    from jaxtyping import Float

FEW = 4  # channels up to which a convolution leaves the vectors empty
PIXELS = 64  # of the smaller image, up to which torch's own kernel gradient is slow
INPUTS = 1024  # to one output, from which a matrix product is worth unfolding for


class Halve(nn.Conv2d):
    """Conv2d(channels, features, 4, stride=2, padding=1): (n, c, 2h, 2w) -> (n, f, h, w).

    Odd sides are torch's own: from h and w alone `up` could not tell that there was a pixel more.
    """

    def __init__(self, channels: int, features: int, *, bias: bool = True) -> None:
        super().__init__(channels, features, 4, 2, 1, bias=bias)

    def forward(self, input: Float[Tensor, "n c H W"]) -> Float[Tensor, "n f h w"]:
        if not _ours(input, self.weight) or input.shape[2] % 2 or input.shape[3] % 2:
            return super().forward(input)
        x, w = _cast(input, self.weight)
        return _Down.apply(x, w, self.bias) if torch.is_grad_enabled() else down(x, w, _like(self.bias, w))


class Double(nn.ConvTranspose2d):
    """ConvTranspose2d(features, channels, 4, stride=2, padding=1): (n, f, h, w) -> (n, c, 2h, 2w)."""

    def __init__(self, features: int, channels: int, *, bias: bool = True) -> None:
        super().__init__(features, channels, 4, 2, 1, bias=bias)

    def forward(
        self, input: Float[Tensor, "n f h w"], output_size: list[int] | None = None
    ) -> Float[Tensor, "n c H W"]:
        if not _ours(input, self.weight):
            return super().forward(input, output_size)
        y, w = _cast(input, self.weight)
        return _Up.apply(y, w, self.bias) if torch.is_grad_enabled() else up(y, w, _like(self.bias, w))


def _ours(x: Tensor, w: Tensor) -> bool:
    """On the processor, a layer that torch is slow at: from or to few channels, or a wide one in bf16."""
    if x.device.type != "cpu" or torch.onnx.is_in_onnx_export():
        return False
    wide = w[0].numel() >= INPUTS and w.is_contiguous(memory_format=torch.channels_last)
    return w.shape[1] <= FEW or (wide and torch.is_autocast_enabled("cpu"))


def _cast(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """As autocast would."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return x.to(dtype), w.to(dtype)


def _like(bias: Tensor | None, w: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(w.dtype)


class _Down(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.bias = None if bias is None else bias.dtype
        return down(x, w, _like(bias, w))

    @staticmethod
    def backward(ctx: Any, y: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, w = ctx.saved_tensors
        by_x, by_w, by_bias = (*ctx.needs_input_grad, False)[:3]
        return (
            _Up.apply(y, w) if by_x else None,
            _Kernel.apply(x, y) if by_w else None,
            y.sum((0, 2, 3)).to(ctx.bias) if by_bias else None,  # summed in fp32; a sum asked for in fp32 copies all
        )


class _Up(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(y, w)
        ctx.bias = None if bias is None else bias.dtype
        return up(y, w, _like(bias, w))

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        y, w = ctx.saved_tensors
        by_y, by_w, by_bias = (*ctx.needs_input_grad, False)[:3]
        return (
            _Down.apply(x, w) if by_y else None,
            _Kernel.apply(x, y) if by_w else None,
            x.sum((0, 2, 3)).to(ctx.bias) if by_bias else None,
        )


class _Kernel(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return kernel(x, y)

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        by_x, by_y = ctx.needs_input_grad
        return _Up.apply(y, w) if by_x else None, _Down.apply(x, w) if by_y else None


def down(
    x: Float[Tensor, "n c H W"], w: Float[Tensor, "f c 4 4"], bias: Float[Tensor, " f"] | None = None
) -> Float[Tensor, "n f h w"]:
    """y[q] = bias + sum over k of x[2q - 1 + k] w[k]."""
    if x.shape[2] * x.shape[3] >= 4 * PIXELS or w[0].numel() < INPUTS:
        return F.conv2d(x, w, bias, stride=2, padding=1)
    rows, patches = _rows(w).t(), _patches(x)
    y = patches @ rows if bias is None else torch.addmm(bias, patches, rows)
    return y.view(len(x), x.shape[2] // 2, x.shape[3] // 2, -1).permute(0, 3, 1, 2)


def up(
    y: Float[Tensor, "n f h w"], w: Float[Tensor, "f c 4 4"], bias: Float[Tensor, " c"] | None = None
) -> Float[Tensor, "n c H W"]:
    """x[p] = bias + sum over k, q with 2q - 1 + k = p of y[q] w[k]."""
    if w.shape[1] > FEW:
        return F.conv_transpose2d(y, w, bias, stride=2, padding=1)
    # Blocks of 2x2 pixels that begin at odd ones: each meets the four y around it, through a tap of each of its pixels.
    taps = F.pixel_unshuffle(w, 2).transpose(0, 1).flip(2, 3)
    each = None if bias is None else bias.repeat_interleave(4)
    blocks = F.conv2d(y, taps.contiguous(memory_format=_format(y)), each, padding=1)
    return F.pixel_shuffle(blocks, 2)[:, :, 1:-1, 1:-1]


def kernel(x: Float[Tensor, "n c H W"], y: Float[Tensor, "n f h w"]) -> Float[Tensor, "f c 4 4"]:
    """w[k] = sum over samples and q of y[q] x[2q - 1 + k]."""
    channels, features = x.shape[1], y.shape[1]
    if y.shape[2] * y.shape[3] > PIXELS or channels * 16 < INPUTS:
        w = x.new_empty(()).expand(features, channels, 4, 4)  # only its shape is read
        only = (False, True, False)
        return torch.ops.aten.convolution_backward(
            y, x, w, None, (2, 2), (1, 1), (1, 1), False, (0, 0), 1, only
        )[1]  # fmt: skip
    return (_columns(y).t() @ _patches(x)).view(features, 4, 4, channels).permute(0, 3, 1, 2)


def _format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _patches(x: Float[Tensor, "n c H W"]) -> Float[Tensor, "patches pixels"]:
    """What each y meets of x, channels last: a row of 4 pixels is one piece of memory."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    n, height, width, c = padded.shape
    across, down = width * c, 2 * width * c
    size = (n, height // 2 - 1, width // 2 - 1, 4, 4 * c)
    return padded.as_strided(size, (height * across, down, 2 * c, across, 1)).reshape(-1, 16 * c)


def _columns(y: Float[Tensor, "n f h w"]) -> Float[Tensor, "places f"]:
    return y.permute(0, 2, 3, 1).reshape(-1, y.shape[1])


def _rows(w: Float[Tensor, "f c 4 4"]) -> Float[Tensor, "f pixels"]:
    return w.permute(0, 2, 3, 1).reshape(len(w), -1)
