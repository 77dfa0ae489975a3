"""Optical flow: where each pixel of one frame was in another.

TV-L1 (Zach, Pock and Bischof 2007, doi:10.1007/978-3-540-74936-3_22; Sanchez et al. 2013, doi:10.5201/ipol.2013.26),
from coarse to fine, for two directions at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

DATA, COUPLING, STEP = 30.0, 0.3, 0.25  # lambda (for greys 0 to 1), theta, tau of the paper
WARPS, COARSE_WARPS, ITERATIONS = 3, 10, 15  # warps at full size, and at each smaller one; iterations after each
LEAST_SIDE = 16  # pixels: the smallest picture of the pyramid
MOST_PIXELS = 1 << 18  # larger frames are reduced: time grows with the pixels, and large motions need it
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Motion:
    """From a frame back to the one before it."""

    back: Float[Tensor, "2 H W"]
    """Pixels to the right and down: a pixel at (x, y) was at (x, y) + back."""
    valid: Bool[Tensor, "H W"]
    """Was it there at all? Not where it was hidden, outside, or where both directions disagree."""

    def resized(self, height: int, width: int) -> Motion:
        """For pictures of another size."""
        if self.back.shape[1:] == (height, width):
            return self
        valid = F.interpolate(self.valid[None, None].float(), (height, width), mode="bilinear") > 0.99
        return Motion(_resized(self.back[None], (height, width))[0], valid[0, 0])


def motion(before: Float[Tensor, "3 H W"], now: Float[Tensor, "3 H W"]) -> Motion:
    """The motion that leads from `before` to `now`, RGB in [0, 1]."""
    height, width = now.shape[1:]
    pair = torch.stack([now, before])
    factor = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
    grey = (pair * pair.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    if factor < 1:
        grey = _shrunk(grey, factor)
    grey = _smoothed(grey)
    flows = _tv_l1(grey, grey.flip(0))
    valid = consistent(flows[0], flows[1])
    return Motion(flows[0], valid).resized(height, width)


def warp(image: Float[Tensor, "C H W"], back: Float[Tensor, "2 H W"], mode: str = "bilinear") -> Float[Tensor, "C H W"]:
    """Every pixel from where it was: `image` at (x, y) + back. Beyond the edge lies the edge."""
    return _warp(image[None], back[None], mode)[0]


def consistent(back: Float[Tensor, "2 H W"], forth: Float[Tensor, "2 H W"]) -> Bool[Tensor, "H W"]:
    """Where going back and forth again leads home, within the picture (Sundaram, Brox and Keutzer 2010, eq. 5)."""
    height, width = back.shape[1:]
    returned = warp(forth, back)
    lost = (back + returned).square().sum(0)
    home = lost <= 0.01 * (back.square().sum(0) + returned.square().sum(0)) + 0.5
    x = torch.arange(width, device=back.device) + back[0]
    y = torch.arange(height, device=back.device)[:, None] + back[1]
    return home & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _tv_l1(first: Float[Tensor, "n 1 H W"], second: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n 2 H W"]:
    """The flow that finds `first` in `second`: first(x) = second(x + flow), greys in [0, 1]."""
    levels = [(first, second)]
    while min(levels[-1][0].shape[2:]) >= 2 * LEAST_SIDE:
        levels.append((_shrunk(levels[-1][0], 0.5), _shrunk(levels[-1][1], 0.5)))
    flow = first.new_zeros(len(first), 2, *levels[-1][0].shape[2:])
    for level, (a, b) in reversed(list(enumerate(levels))):
        flow = _resized(flow, a.shape[2:])
        with_slopes = torch.cat([b, *_slopes(b)], 1)
        across, down = torch.zeros_like(flow), torch.zeros_like(flow)  # the dual variable p
        for _ in range(COARSE_WARPS if level else WARPS):
            warped = _warp(with_slopes, flow)
            slope = warped[:, 1:]
            energy = slope.square().sum(1, keepdim=True) + 1e-9
            rest = warped[:, :1] - a - (slope * flow).sum(1, keepdim=True)
            for _ in range(ITERATIONS):
                residual = rest + (slope * flow).sum(1, keepdim=True)
                v = flow - (residual / energy).clamp(-DATA * COUPLING, DATA * COUPLING) * slope
                flow = v + COUPLING * _divergence(across, down)
                right, below = _differences(flow)
                damping = 1 + STEP / COUPLING * (right.square() + below.square()).sqrt()
                across = (across + STEP / COUPLING * right) / damping
                down = (down + STEP / COUPLING * below) / damping
    return flow


def _warp(image: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    height, width = image.shape[2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    at = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], -1)
    return F.grid_sample(image, at, mode=mode, padding_mode="border", align_corners=True)


def _shrunk(image: Tensor, factor: float) -> Tensor:
    size = [max(1, round(side * factor)) for side in image.shape[2:]]
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def _smoothed(image: Tensor) -> Tensor:
    """By 1 2 1 each way: slopes between pixels are then what interpolation makes of them."""
    weight = image.new_tensor([1, 2, 1]) / 4
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(F.conv2d(wide, weight.view(1, 1, 1, 3)), weight.view(1, 1, 3, 1))


def _resized(flow: Tensor, size: tuple[int, ...]) -> Tensor:
    if flow.shape[2:] == size:
        return flow
    scale = flow.new_tensor([size[1] / flow.shape[3], size[0] / flow.shape[2]])
    return F.interpolate(flow, size, mode="bilinear") * scale[:, None, None]


def _slopes(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences, to the right and down."""
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """To the right and to the lower neighbour; 0 at the edge."""
    return F.pad(x.diff(dim=-1), (0, 1)), F.pad(x.diff(dim=-2), (0, 0, 0, 1))


def _divergence(across: Tensor, down: Tensor) -> Tensor:
    """Minus the adjoint of `_differences`."""
    return (
        F.pad(across[..., :-1], (0, 1)) - F.pad(across[..., :-1], (1, 0))
        + F.pad(down[..., :-1, :], (0, 0, 0, 1)) - F.pad(down[..., :-1, :], (0, 0, 1, 0))
    )  # fmt: skip
