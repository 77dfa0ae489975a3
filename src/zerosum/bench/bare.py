"""The loop that a good engineer writes by hand in plain PyTorch: what our own loop is measured against.

It is on purpose outside the rule that every loss has one home: this is what the package is compared with. A test holds
that it plays the same game: from the same numbers it reaches the same weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.game import Adam


@dataclass(frozen=True)
class Draws:
    """Where a bare loop takes its numbers from: real batches and latents, fresh at every call."""

    real: Callable[[], Tensor]
    latent: Callable[[], Tensor]


def draws(values: np.ndarray, batch: int, latent: int) -> Draws:
    """Random rows of an array (uint8 images to [-1, 1], or float32 points) and torch's normal numbers."""

    def real() -> Tensor:
        index = torch.randint(len(values), (batch,)).numpy()
        x = torch.from_numpy(values[index])
        return x.float().mul_(2 / 255).sub_(1) if x.dtype == torch.uint8 else x

    return Draws(real, lambda: torch.randn(batch, latent))


class Bare:
    """Networks, optimisers and averaged weights, and nothing else."""

    def __init__(
        self, networks: Mapping[str, nn.Module], adam_g: Adam, adam_d: Adam, draws: Draws, decay: float
    ) -> None:
        self.G, self.D = copy.deepcopy(networks["G"]), copy.deepcopy(networks["D"])
        self.opt_g, self.opt_d = _adam(self.G, adam_g), _adam(self.D, adam_d)
        self.ema = copy.deepcopy(self.G).requires_grad_(False)
        self.draws, self.decay = draws, decay
        self._mean: tuple[Tensor, ...] = tuple(self.ema.parameters())
        self._live: tuple[Tensor, ...] = tuple(self.G.parameters())
        self._pairs = list(zip(self.ema.buffers(), self.G.buffers(), strict=True))

    @torch.no_grad()
    def average(self) -> None:
        torch._foreach_lerp_(self._mean, [p.detach() for p in self._live], 1 - self.decay)
        for mine, theirs in self._pairs:
            mine.copy_(theirs)


def _adam(network: nn.Module, adam: Adam) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        network.parameters(), lr=adam.lr(0), betas=(adam.beta1, adam.beta2), eps=adam.eps, fused=True
    )


Step = Callable[[Bare], None]


def dcgan(bare: Bare) -> None:
    """One step of the non-saturating game, D then G, as the DCGAN paper plays it."""
    G, D, numbers = bare.G, bare.D, bare.draws
    D.requires_grad_(True)
    bare.opt_d.zero_grad(set_to_none=True)
    fake = G(numbers.latent())
    (F.softplus(-D(numbers.real())).mean() + F.softplus(D(fake.detach())).mean()).backward()
    bare.opt_d.step()

    D.requires_grad_(False)
    bare.opt_g.zero_grad(set_to_none=True)
    F.softplus(-D(fake)).mean().backward()
    bare.opt_g.step()
    bare.average()


def r3gan(gamma: float) -> Step:
    """One step of R3GAN: the relativistic loss with both zero-centred penalties, D then G."""

    def step(bare: Bare) -> None:
        G, D, numbers = bare.G, bare.D, bare.draws
        D.requires_grad_(True)
        bare.opt_d.zero_grad(set_to_none=True)
        real = numbers.real().requires_grad_()
        with torch.no_grad():
            fake = G(numbers.latent())
        fake.requires_grad_()
        d_real, d_fake = D(real), D(fake)
        (by_real,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
        (by_fake,) = torch.autograd.grad(d_fake.sum(), fake, create_graph=True)
        penalty = by_real.square().flatten(1).sum(1) + by_fake.square().flatten(1).sum(1)
        (F.softplus(d_fake - d_real) + gamma / 2 * penalty).mean().backward()
        bare.opt_d.step()

        D.requires_grad_(False)
        bare.opt_g.zero_grad(set_to_none=True)
        d_fake, d_real = D(G(numbers.latent())), D(numbers.real())
        F.softplus(d_real - d_fake).mean().backward()
        bare.opt_g.step()
        bare.average()

    return step
