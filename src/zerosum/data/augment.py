"""Differentiable augmentation (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training",
arXiv:2006.10738, sec. 3.2): what D sees, real and fake alike, in its own turn and in G's.

Gradients reach G through T. What G draws changed already is changed twice before D sees it, where real images are once:
so a game that is settled draws images as they are. A run that ends before may draw changed ones (docs/augmentation.md).
Every image draws for itself, from torch's own generator, as dropout does: the game seeds it by step and process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Policy = Literal["colour", "translation", "cutout", "adaptive", "filtering", "noise", "adaptive_cutout"]
POLICIES: tuple[Policy, ...] = ("colour", "translation", "cutout")  # DiffAugment; the others are of `data.adaptive`
BRIGHTNESS, CONTRAST = 0.5, 0.5  # at most, up or down; saturation goes from none to double
SHIFT, CUT = 1 / 8, 1 / 2  # of the image's sides


def augment(
    x: Float[Tensor, "n c h w"], policies: Sequence[Policy], images: Sequence[int] = ()
) -> Float[Tensor, "n c h w"]:
    """T(x): images in [-1, 1] through these policies, in the order of the paper's code; black is what is not there.

    `images`: channels of each of several images that x holds on each other, as a critic of pairs is given them. They
    move together, and each has colours of its own.
    """
    if "colour" in policies:
        x = torch.cat([_colour(part) for part in x.split(list(images), 1)], 1) if len(images) > 1 else _colour(x)
    if "translation" in policies:
        x = _translation(x)
    if "cutout" in policies:
        x = _cutout(x)
    return x


def _uniform(x: Float[Tensor, "n c h w"], low: float, high: float) -> Float[Tensor, "n 1 1 1"]:
    return torch.empty(len(x), 1, 1, 1, dtype=x.dtype, device=x.device).uniform_(low, high)


def _colour(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Brightness, then saturation about each pixel's grey, then contrast about the image's mean. Not of alpha."""
    x, alpha = x[:, :3], x[:, 3:]
    x = x + _uniform(x, -BRIGHTNESS, BRIGHTNESS)
    x = _stretched(x, x.mean(1, keepdim=True), _uniform(x, 0.0, 2.0))
    x = _stretched(x, x.mean((1, 2, 3), keepdim=True), _uniform(x, 1 - CONTRAST, 1 + CONTRAST))
    return torch.cat([x, alpha], 1) if alpha.shape[1] else x


def _stretched(x: Tensor, centre: Tensor, factor: Tensor) -> Tensor:
    return centre + (x - centre) * factor


def _translation(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Moved by whole pixels, up to an eighth of the side either way."""
    for dim in (2, 3):
        size = x.shape[dim]
        most = int(size * SHIFT + 0.5)
        shift = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        source = torch.arange(size, device=x.device) - shift  # (n, size)
        shape = [len(x), 1, 1, 1]
        shape[dim] = size
        inside = ((source >= 0) & (source < size)).view(shape)
        index = source.clamp(0, size - 1).view(shape).expand(x.shape)
        x = torch.where(inside, x.gather(dim, index), -1.0)
    return x


def _cutout(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """A rectangle of half the sides, its middle anywhere in the image, is black."""
    hidden = torch.ones(1, dtype=torch.bool, device=x.device)
    for dim in (2, 3):
        size = x.shape[dim]
        cut = int(size * CUT + 0.5)
        first = torch.randint(0, size + (1 - cut % 2), (len(x), 1), device=x.device) - cut // 2
        pixel = torch.arange(size, device=x.device)
        shape = [len(x), 1, 1, 1]
        shape[dim] = size
        hidden = hidden & ((pixel >= first) & (pixel < first + cut)).view(shape)
    return torch.where(hidden, -1.0, x)
