"""The exponential moving average of a player's weights: what is sampled, saved as the model, and measured."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zerosum.networks.growing import Growing

Given = Callable[[int, int], tuple[Tensor | None, ...]]
SETTLED, AT_ONCE = 1024, 64  # inputs that BatchNorm's statistics are taken from; no more at once than are drawn


class EMA:
    """A frozen copy of a network whose parameters follow the live ones with a half-life in images.

    Half-life, not decay per step, so that batch 32 twice and batch 64 once move it alike (Karras et al. 2020, app. B).
    Buffers (BatchNorm statistics, counters, spectral norm's vectors) are copied, not averaged. So are the weights of a
    size that is fading in or new since the last update: an average would hold on to what they were born as.

    `shared`: the copy holds the live weights themselves, for a half-life that is 0 throughout: no memory, no work.
    """

    def __init__(self, network: nn.Module, *, shared: bool = False) -> None:
        self._shared = shared and can_share(network)
        known = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in network.parameters()} if self._shared else {}
        self.network = copy.deepcopy(network, known).eval().requires_grad_(False)
        self._live: list[Tensor] = list(network.parameters())
        self._mean: list[Tensor] = list(self.network.parameters())
        self._settled = False
        self._live_buffers = list(network.buffers())
        self._buffers = list(self.network.buffers())
        self._growing = [
            (mine, theirs)
            for mine, theirs in [(self.network, network)]
            if isinstance(mine, Growing) and isinstance(theirs, Growing)
        ]

    @torch.no_grad()
    def update(self, images: int, half_life_images: float) -> None:
        """Move once, after `images` more images. A half-life of 0 copies."""
        self._settled = False
        if not self._shared:
            decay = 0.5 ** (images / half_life_images) if half_life_images > 0 else 0.0
            torch._foreach_lerp_(self._mean, self._live, 1.0 - decay)
        for mine, theirs in zip(self._buffers, self._live_buffers, strict=True):
            mine.copy_(theirs)
        for average, network in self._growing:
            self._grow(average, network)

    def _grow(self, average: Growing, network: Growing) -> None:
        """Let the average be as large, and copy what is fading in and what was born since the last update.

        A fade that is shorter than a step is over by now: `newest` names what came with it in the middle of the fade.
        """
        middles = [number + 0.5 for number in range(average.born, network.born)]
        newborn: set[nn.Parameter] = set()
        for size in (*middles, network.size):
            average.grow(size)
            newborn.update(average.newest())
        for mine, theirs in zip(self._mean, self._live, strict=True):
            if mine in newborn:
                mine.copy_(theirs)

    def settled(self, given: Given) -> nn.Module:
        """The average, ready to draw from: BatchNorm has statistics of its own (see `settle`)."""
        if not self._settled:
            settle(self.network, given)
            self._settled = True
        return self.network


def can_share(network: nn.Module) -> bool:
    """Whether an average can be the live weights themselves: not where parameters come and go."""
    return not isinstance(network, Growing)


@torch.no_grad()
def settle(network: nn.Module, given: Given) -> None:
    """Give BatchNorm the statistics of what this network makes of the inputs that `given(first, count)` draws.

    Those of the moving weights are of other features: averaged weights need a pass of their own (Izmailov et al. 2018,
    "Averaging Weights Leads to Wider Optima", arXiv:1803.05407, sec. 3.2). The network is and stays in eval mode.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for first in range(0, SETTLED, AT_ONCE) if norms else ():
        network(*given(first, AT_ONCE))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
