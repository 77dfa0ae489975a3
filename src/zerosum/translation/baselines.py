"""What a translation must beat: doing nothing, moving the colours, the mean image, the nearest known pair.

Images are float32 (n, C, H, W) in [0, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

COARSE = 32  # pixels a side: at which the nearest image is looked for
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
CHUNK = 256


def identity(x: Float[Tensor, "n c h w"], channels: int) -> Float[Tensor, "n k h w"]:
    """The input itself, in as many channels as the output has: grey in each, or the brightness of colour."""
    have = x.shape[1]
    if have == channels:
        return x
    weights = x.new_tensor(LUMA) if have in (3, 4) else x.new_full((have,), 1 / have)
    grey = (x[:, : len(weights)] * weights[:, None, None]).sum(1, keepdim=True)
    if channels == 4:
        return torch.cat([x[:, :3] if have == 3 else grey.expand(-1, 3, -1, -1), torch.ones_like(grey)], 1)
    return x[:, :3] if channels == 3 and have == 4 else grey.expand(-1, channels, -1, -1)


def colour_transfer(
    x: Float[Tensor, "n c h w"], source: Float[Tensor, "m c h w"], target: Float[Tensor, "k c h w"]
) -> Float[Tensor, "n c h w"]:
    """The linear map that brings the mean and covariance of all source pixels to those of all target pixels.

    The one that moves colours least (Monge and Kantorovich; Pitie and Kokaram 2007, "The linear Monge-Kantorovitch
    linear colour mapping for example-based colour transfer", eq. 10), clamped to [0, 1].
    """
    (a, left), (b, right) = (_colours(images) for images in (source, target))
    root = _root(left)
    inverse = torch.linalg.pinv(root, hermitian=True, rtol=1e-6)
    moves = inverse @ _root(root @ right @ root) @ inverse
    moved = torch.einsum("dc,nchw->ndhw", moves, x.double() - a[:, None, None]) + b[:, None, None]
    return moved.clamp(0, 1).to(x.dtype)


def _colours(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (c,) and covariance (c, c) of all pixels, float64."""
    pixels = images.double().transpose(0, 1).flatten(1)
    return pixels.mean(1), torch.cov(pixels).reshape(len(pixels), len(pixels))


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def nearest_pair(
    x: Float[Tensor, "n c h w"], known: Float[Tensor, "m c h w"], answers: Float[Tensor, "m k h w"]
) -> Float[Tensor, "n k h w"]:
    """For each input the target of the training input that is nearest to it, in pixels at a coarse size."""
    a, b = (_coarse(images) for images in (x, known))
    index = torch.cat([torch.cdist(part, b).argmin(1) for part in a.split(CHUNK)])
    return answers[index]


def _coarse(images: Tensor) -> Tensor:
    height, width = (min(side, COARSE) for side in images.shape[2:])
    return F.adaptive_avg_pool2d(images.float(), (height, width)).flatten(1)
