"""Flicker of translated films: measured by what changes along the motion of the source, and lessened by blending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zerosum.errors import UserError
from zerosum.translation.flow import GREY, Motion, motion, warp

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

CUT = 0.25  # a scene ends where fewer pixels than this share are found again
DOUBT = 0.1  # a difference of colours, 0 to 1, between a source frame and the one before it, moved, that is a change
SPECK, HALO = 3, 5  # pixels: what is lost and smaller is noise; how far beside what is lost nothing is taken over


@dataclass(frozen=True)
class Flicker:
    """The flow warping error of a film and its translation, E_warp of Lai et al. 2018 (arXiv:1808.00449).

    Between a frame and the one before it, moved by the optical flow of the source: the mean squared difference over the
    pixels whose flow is valid, colours from 0 to 1; then the mean over pairs of neighbouring frames. Pairs across a cut
    are left out. What the source has of it is the floor: noise, light that changes, errors of the flow.
    """

    pairs: int
    cuts: int
    valid: float
    """Share of pixels compared, 0 to 1."""
    source: float
    translated: float
    blended: float
    """As `translated` where nothing was blended."""
    sharpness: float
    """Energy of the gradients after blending over that before it; 1: none was lost."""


class Blend:
    """Temporal blending, and the measure of what it does; frame after frame, in order.

    A translated frame is mixed with the output before it, moved by the flow of the source:
    output = (1 - w) translated + w moved; w = `strength` where the flow is valid and the source kept its colour, less
    where the colour changed, 0 where it was lost, beside that, and after a cut. 0 changes nothing, and only measures;
    at 1 what can be followed is never renewed, so that old errors stay.
    """

    def __init__(self, strength: float) -> None:
        if not 0 <= strength <= 1:
            raise UserError(f"strength={strength:g}: give a number from 0 (no blending) to 1")
        self.strength = strength
        self._before: tuple[Tensor, Tensor, Tensor] | None = None  # source, translated, output
        self._pairs = self._cuts = 0
        self._errors = np.zeros(3)
        self._valid = 0.0
        self._energy = np.zeros(2)

    def __call__(self, source: np.ndarray, translated: np.ndarray) -> np.ndarray:
        """The next frames: uint8 (n, H, W, 3) of the source and (n, H', W', 3) translated -> uint8 (n, H', W', 3)."""
        return np.stack([self._next(s, t) for s, t in zip(source, translated, strict=True)])

    @property
    def flicker(self) -> Flicker:
        """Of all frames so far."""
        pairs = max(self._pairs, 1)
        source, translated, blended = (float(error) / pairs for error in self._errors)
        sharpness = float(self._energy[1] / max(self._energy[0], 1e-12))
        return Flicker(self._pairs, self._cuts, self._valid / pairs, source, translated, blended, sharpness)

    @torch.no_grad()
    def _next(self, source_pixels: np.ndarray, translated_pixels: np.ndarray) -> np.ndarray:
        source, translated = _colours(source_pixels), _colours(translated_pixels)
        output = translated
        if self._before is not None:
            seen = motion(self._before[0], source)
            source_moved = warp(self._before[0], seen.back)
            if is_cut(seen, source_moved - source):
                self._cuts += 1
            else:
                there = seen.resized(*translated.shape[1:])
                moved = warp(self._before[2], there.back, "bicubic").clamp(0, 1)
                weight = self.strength * _trust(seen, source_moved - source, translated.shape[1:])
                output = translated + weight * (moved - translated)
                pairs = [(source_moved, source)]
                pairs += [(warp(self._before[i], there.back), now) for i, now in ((1, translated), (2, output))]
                self._measure(pairs, seen.valid, there.valid)
        self._energy += [_gradient_energy(translated), _gradient_energy(output)]
        self._before = source, translated, output
        return output.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    def _measure(self, pairs: Sequence[tuple[Tensor, Tensor]], valid: Tensor, valid_there: Tensor) -> None:
        """`pairs`: moved and now, of the source, the translation and the output."""
        self._pairs += 1
        self._valid += float(valid.float().mean())
        masks = (valid, valid_there, valid_there)
        self._errors += [_mean_square(a - b, mask) for (a, b), mask in zip(pairs, masks, strict=True)]


def is_cut(seen: Motion, difference: Float[Tensor, "3 H W"]) -> bool:
    """Is this the first frame of another scene? `difference`: to the frame before it, moved."""
    found = seen.valid & (difference.abs().mean(0) < DOUBT)
    return float(found.float().mean()) < CUT


def _trust(seen: Motion, difference: Float[Tensor, "3 H W"], size: torch.Size) -> Float[Tensor, "h w"]:
    """How far to believe that a pixel is the one before it, moved: 0 to 1, at the translation's size.

    A translator's pixel depends on its neighbours: beside what was lost (specks aside) all is new, too. Without that,
    whatever moves before a plain ground draws a trail of its outline behind it.
    """
    trust = torch.exp(-((difference.square().mean(0).sqrt() / DOUBT) ** 2)) * seen.valid
    lost = (trust < 0.5).float()[None, None]
    solid = 1 - F.max_pool2d(1 - lost, SPECK, 1, SPECK // 2)
    trust = trust * (1 - F.max_pool2d(solid, 2 * HALO + 1, 1, HALO)[0, 0])
    if trust.shape == size:
        return trust
    return F.interpolate(trust[None, None], tuple(size), mode="bilinear")[0, 0]


def _colours(pixels: np.ndarray) -> Float[Tensor, "3 H W"]:
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1).contiguous() / 255


def _mean_square(difference: Float[Tensor, "3 H W"], valid: Bool[Tensor, "H W"]) -> float:
    return float((difference.square().mean(0) * valid).sum() / valid.sum().clamp(min=1))


def _gradient_energy(image: Float[Tensor, "3 H W"]) -> float:
    """Mean squared difference between neighbours, of greys."""
    grey = (image * image.new_tensor(GREY)[:, None, None]).sum(0)
    return float(grey.diff(dim=0).square().mean() + grey.diff(dim=1).square().mean())
