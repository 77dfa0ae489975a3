"""The exponential moving average of a player's weights: what is sampled, saved as the model, and measured."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """A frozen copy of a network whose parameters follow the live ones with a half-life in images.

    Half-life, not decay per step, so that batch 32 twice and batch 64 once move it alike (Karras et al. 2020, app. B).
    Buffers (BatchNorm statistics, counters, spectral norm's vectors) are copied, not averaged.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._live: list[Tensor] = list(network.parameters())
        self._mean: list[Tensor] = list(self.network.parameters())
        self._live_buffers = list(network.buffers())
        self._buffers = list(self.network.buffers())

    @torch.no_grad()
    def update(self, images: int, half_life_images: float) -> None:
        """Move once, after `images` more images. A half-life of 0 copies."""
        decay = 0.5 ** (images / half_life_images) if half_life_images > 0 else 0.0
        torch._foreach_lerp_(self._mean, self._live, 1.0 - decay)
        for mine, theirs in zip(self._buffers, self._live_buffers, strict=True):
            mine.copy_(theirs)
