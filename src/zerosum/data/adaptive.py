"""Adaptive discriminator augmentation (Karras et al. 2020, "Training Generative Adversarial Networks with Limited
Data", arXiv:2006.06676, sec. 2, 3 and app. B): what D sees passes many random transformations, each with probability p,
and p follows how much D overfits.

Symbols (paper -> here): p -> p; r_t = E[sign(D_train)] -> overfit; its target 0.6 -> TARGET; the ADA length of 500k
images -> images. The families are the paper's pixel blitting, geometry and colour, which it finds best; filtering,
noise and cutout are there on request.
Differs from the paper: images are sampled bilinearly, mirrored at their edges, without the wavelet filter around it;
the bands of the filter are of the Fourier transform; p stays below 0.8, where augmentations do not leak; r_t is a
running mean over some 256 images; only half turns are drawn of images that are not square.

Everything is differentiable twice, so that penalties on the raw image go through it; torch's own grid sampler is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from zerosum import distributed
from zerosum.data.augment import Policy

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Family = Literal["blit", "geometry", "colour", "filter", "noise", "cutout"]
FAMILIES: tuple[Family, ...] = ("blit", "geometry", "colour")
# Asked for beside "adaptive". Its cutout is another than DiffAugment's "cutout": grey, and with probability p.
MORE: dict[Policy, Family] = {"filtering": "filter", "noise": "noise", "adaptive_cutout": "cutout"}
TARGET = 0.6
MOST = 0.8  # of p
MEMORY = 256  # images that r_t remembers: four batches of the paper's
SHIFT = 0.125  # of the image's side: at most in whole pixels, the standard deviation in fractions
SCALE, BRIGHTNESS, CONTRAST, SATURATION, NOISE = 0.2, 0.2, 0.5, 1.0, 0.1  # standard deviations (scales: of log2)
BANDS = (1 / 8, 1 / 4, 1 / 2)  # of the highest frequency: where one band of the filter ends and the next begins
POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # of natural images in each band, as the paper expects it
CUT = 0.5  # of the sides


class Adaptive(nn.Module):
    """T(x; p), with p as a buffer. `images`: how many it takes, seen by D, for p to go from 0 to 1."""

    p: Tensor
    overfit: Tensor

    def __init__(self, images: int, families: Sequence[Family] = FAMILIES) -> None:
        super().__init__()
        self.images = images
        self.families = tuple(families)
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("overfit", torch.zeros(()))

    @torch.no_grad()
    def observe(self, real: Tensor, fake: Tensor, *, boundary: float) -> None:
        """Follow D's logits (N,) of real and of fake images, as they stand in its turn; on all processes at once.

        The sign is that of the distance to `boundary`, the algorithm's. What is not finite, in a turn that will be
        skipped, changes nothing.
        """
        sign = (real.float() - boundary).sign().mean()  # of what is no number torch says 0
        found = torch.stack([sign, torch.ones_like(sign), real.float().sum() + fake.float().sum()])
        sign, ranks, finite = distributed.sum_over_ranks(found)
        count = len(real) * distributed.world()
        sane = finite.isfinite()
        told = torch.where(sane, sign / ranks, self.overfit).to(self.overfit)
        self.overfit.lerp_(told, min(count / MEMORY, 1.0))
        self.p.add_((self.overfit - TARGET).sign() * sane * (count / self.images)).clamp_(0.0, MOST)

    def forward(self, x: Float[Tensor, "n c h w"], images: Sequence[int] = ()) -> Float[Tensor, "n c h w"]:
        """T(x). `images`: channels of each of several images on each other: they move as one, in their own colours."""
        with torch.autocast(x.device.type, enabled=False):
            return transformed(x if x.dtype == torch.float64 else x.float(), self.p, self.families, images)


def transformed(
    x: Float[Tensor, "n c h w"], p: Float[Tensor, ""] | float, families: Sequence[Family], images: Sequence[int] = ()
) -> Float[Tensor, "n c h w"]:
    """T(x; p): each transformation of these families with probability p, in the paper's order, each image by itself."""
    draw = _Draw(x, p)
    if {"blit", "geometry"} & set(families):
        x = sampled(x, _inverse(draw, x.shape[2], x.shape[3], families))
    for name, change in (("colour", _coloured), ("filter", _filtered)):
        if name in families:
            x = torch.cat([change(part, draw) for part in x.split(list(images) or [x.shape[1]], 1)], 1)
    if "noise" in families:
        x = x + _in_colour(x, images) * torch.randn_like(x) * draw.normal(NOISE).abs()[:, None, None, None]
    return _cut(x, draw, images) if "cutout" in families else x


def _in_colour(x: Float[Tensor, "n c h w"], images: Sequence[int]) -> Float[Tensor, "c 1 1"]:
    """1 for each channel that is seen, 0 for the alpha of an image of four."""
    each = list(images) or [x.shape[1]]
    return x.new_tensor([float(channels != 4 or k < 3) for channels in each for k in range(channels)])[:, None, None]


class _Draw:
    """Numbers for each of n images: what a transformation is where it happens, which it does with probability p."""

    def __init__(self, x: Tensor, p: Tensor | float) -> None:
        self.n, self.like, self.p = len(x), x.new_empty(()), p

    def happens(self, p: Tensor | float | None = None) -> Tensor:
        return torch.rand(self.n, device=self.like.device) < (self.p if p is None else p)

    def uniform(self, low: float, high: float, otherwise: float = 0.0, p: Tensor | float | None = None) -> Tensor:
        value = torch.rand(self.n, device=self.like.device, dtype=self.like.dtype) * (high - low) + low
        return torch.where(self.happens(p), value, otherwise)

    def normal(self, spread: float) -> Tensor:
        value = torch.randn(self.n, device=self.like.device, dtype=self.like.dtype) * spread
        return torch.where(self.happens(), value, 0.0)

    def pair(self, low: float, high: float) -> tuple[Tensor, Tensor]:
        """Two uniform numbers of one transformation: both happen, or neither does."""
        values = torch.rand(self.n, 2, device=self.like.device, dtype=self.like.dtype) * (high - low) + low
        return torch.where(self.happens()[:, None], values, 0.0).unbind(1)  # type: ignore[return-value]

    def normal_pair(self, spread: float) -> tuple[Tensor, Tensor]:
        """The same of normal numbers."""
        values = torch.randn(self.n, 2, device=self.like.device, dtype=self.like.dtype) * spread
        return torch.where(self.happens()[:, None], values, 0.0).unbind(1)  # type: ignore[return-value]

    def whole(self, count: int) -> Tensor:
        """Of 0 .. count - 1; 0 where it does not happen."""
        value = torch.randint(count, (self.n,), device=self.like.device)
        return torch.where(self.happens(), value, 0).to(self.like.dtype)


# --- geometry --------------------------------------------------------------------------------------------------------


def _matrix(rows: Sequence[Sequence[Tensor | float]], like: Tensor) -> Float[Tensor, "n a b"]:
    """Of numbers and tensors (n,)."""
    n = next(len(v) for row in rows for v in row if isinstance(v, Tensor))
    full = [[v if isinstance(v, Tensor) else like.new_full((n,), v) for v in row] for row in rows]
    return torch.stack([torch.stack(row, -1) for row in full], -2)


def _scaled(x: Tensor, y: Tensor, like: Tensor) -> Tensor:
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]], like)


def _moved(x: Tensor, y: Tensor, like: Tensor) -> Tensor:
    return _matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]], like)


def _turned(cos: Tensor, sin: Tensor, like: Tensor) -> Tensor:
    return _matrix([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], like)


def _inverse(draw: _Draw, height: int, width: int, families: Sequence[Family]) -> Float[Tensor, "n 3 3"]:
    """From a pixel of the transformed image to where it comes from, about the middle, in pixels (x right, y down)."""
    like = draw.like
    steps: list[Tensor] = []  # each the inverse of a transformation, in their order
    if "blit" in families:
        steps.append(_scaled(1 - 2 * draw.whole(2), torch.ones(draw.n, device=like.device, dtype=like.dtype), like))
        quarters = draw.whole(4) if height == width else 2 * draw.whole(2)
        angle = quarters * (math.pi / 2)
        steps.append(_turned(angle.cos().round(), angle.sin().round(), like))  # whole numbers: no pixel is mixed
        x, y = draw.pair(-SHIFT, SHIFT)
        steps.append(_moved((x * width).round(), (y * height).round(), like))
    if "geometry" in families:
        both = torch.exp2(draw.normal(SCALE))
        steps.append(_scaled(both, both, like))
        # One of the two turns happens with probability p.
        p = 1 - (1 - draw.p) ** 0.5
        before, after = (draw.uniform(-math.pi, math.pi, p=p) for _ in range(2))
        steps.append(_turned(before.cos(), before.sin(), like))
        one = torch.exp2(draw.normal(SCALE))
        steps.append(_scaled(one, 1 / one, like))
        steps.append(_turned(after.cos(), after.sin(), like))
        x, y = draw.normal_pair(SHIFT)
        steps.append(_moved(x * width, y * height, like))
    found = steps[0]
    for step in steps[1:]:
        found = found @ step
    return found


def sampled(x: Float[Tensor, "n c h w"], inverse: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n c h w"]:
    """The image whose pixel at u is x at `inverse` u, bilinear, mirrored at the edges; coordinates as of `_inverse`.

    Where those are whole, each pixel is one of x, unchanged.
    """
    n, c, height, width = x.shape
    rows = torch.arange(height, device=x.device, dtype=x.dtype) - (height - 1) / 2
    columns = torch.arange(width, device=x.device, dtype=x.dtype) - (width - 1) / 2
    m = inverse[:, :2, :, None, None]  # (n, 2, 3, 1, 1)
    across = m[:, 0, 0] * columns + m[:, 0, 1] * rows[:, None] + (m[:, 0, 2] + (width - 1) / 2)
    down = m[:, 1, 0] * columns + m[:, 1, 1] * rows[:, None] + (m[:, 1, 2] + (height - 1) / 2)
    left, top = across.floor(), down.floor()
    right_part, lower_part = across - left, down - top
    flat = x.flatten(2)
    out: Tensor | None = None
    for dy in (0, 1):
        row = _mirrored(top.long() + dy, height)
        for dx in (0, 1):
            at = (row * width + _mirrored(left.long() + dx, width)).view(n, 1, -1).expand(-1, c, -1)
            weight = (right_part if dx else 1 - right_part) * (lower_part if dy else 1 - lower_part)
            part = flat.gather(2, at).view(x.shape) * weight[:, None]
            out = part if out is None else out + part
    assert out is not None
    return out


def _mirrored(i: Int[Tensor, "n h w"], size: int) -> Int[Tensor, "n h w"]:
    """Indices beyond the edges come back from it."""
    i = i % (2 * size)
    return torch.minimum(i, 2 * size - 1 - i)


# --- colour, frequencies, cutout -------------------------------------------------------------------------------------


def _coloured(x: Float[Tensor, "n c h w"], draw: _Draw) -> Float[Tensor, "n c h w"]:
    """Brightness, contrast, luma flip, hue, saturation: one affine map of colours an image. Not of alpha."""
    like = draw.like
    ones = torch.ones(draw.n, device=like.device, dtype=like.dtype)
    light = draw.normal(BRIGHTNESS)
    contrast = torch.exp2(draw.normal(CONTRAST))
    flip = 1 - 2 * draw.whole(2)
    if x.shape[1] not in (3, 4):  # grey, or channels that are no colours: a luma flip is a negative
        return (x + light[:, None, None, None]) * (contrast * flip)[:, None, None, None]
    # About the grey axis v = (1, 1, 1) / sqrt(3): what lies along it is luma, what is across it is colour.
    angle = draw.uniform(-math.pi, math.pi)
    saturation = torch.exp2(draw.normal(SATURATION))
    cos, sin = (angle.cos() * saturation)[:, None, None], (angle.sin() * saturation)[:, None, None]
    along = like.new_full((3, 3), 1 / 3)
    cross = like.new_tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    turn = along * (flip * ones)[:, None, None] + cos * (torch.eye(3).to(like) - along) + sin * cross
    matrix = turn * contrast[:, None, None]
    shift = (light * contrast * flip)[:, None, None, None]
    colours = torch.einsum("nij,njhw->nihw", matrix, x[:, :3]) + shift
    return torch.cat([colours, x[:, 3:]], 1) if x.shape[1] > 3 else colours


def _filtered(x: Float[Tensor, "n c h w"], draw: _Draw) -> Float[Tensor, "n c h w"]:
    """Four bands of frequencies, each made stronger or weaker; the power that natural images have stays."""
    height, width = x.shape[2:]
    rows = torch.fft.fftfreq(height, device=x.device, dtype=x.dtype)[:, None]
    columns = torch.fft.rfftfreq(width, device=x.device, dtype=x.dtype)
    radius = (rows.square() + columns.square()).sqrt() * 2  # of the highest along an axis
    band = sum(((radius >= edge).long() for edge in BANDS), torch.zeros_like(radius, dtype=torch.long))
    power = x.new_tensor(POWER)
    gains = torch.ones(len(x), len(POWER), dtype=x.dtype, device=x.device)
    for i in range(len(POWER)):
        one = torch.ones_like(gains)
        one[:, i] = torch.exp2(draw.normal(1.0))
        gains = gains * one / (one.square() * power).sum(1, keepdim=True).sqrt()
    changed = torch.fft.rfft2(x) * gains[:, band][:, None]
    return torch.fft.irfft2(changed, s=(height, width))


def _cut(x: Float[Tensor, "n c h w"], draw: _Draw, images: Sequence[int] = ()) -> Float[Tensor, "n c h w"]:
    """A rectangle of half the sides, its middle anywhere, is 0, which is grey (app. B). Alpha stays as it is."""
    hidden = draw.happens()[:, None, None, None]
    for dim in (2, 3):
        size = x.shape[dim]
        middle = torch.rand(len(x), 1, device=x.device) * size
        apart = (torch.arange(size, device=x.device) + 0.5 - middle).abs()
        shape = [len(x), 1, 1, 1]
        shape[dim] = size
        hidden = hidden & (apart < CUT * size / 2).view(shape)
    return torch.where(hidden & (_in_colour(x, images) > 0), 0.0, x)
