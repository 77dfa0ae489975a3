"""Gradient penalties on the critic: pure functions, one number a sample, shape (N,).

They need gradients of gradients, so the forward that they share must run in full precision (open the turn with
``full_precision=True``) and stay out of compiled graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def zero_centred(x: Float[Tensor, "n ..."], d_x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """||grad_x D(x)||^2 for each sample: R1 on real x, R2 on fake x (Mescheder et al. 2018, eq. 9, 10; no gamma/2).

    `x` must be a leaf that requires grad and `d_x` its critic logits, not yet backpropagated.
    """
    (gradient,) = torch.autograd.grad(d_x.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    x: Float[Tensor, "n ..."],
    x_fake: Float[Tensor, "n ..."],
    epsilon: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """(||grad D(x_hat)||_2 - 1)^2 at x_hat = eps x + (1 - eps) x_fake (Gulrajani et al. 2017, algorithm 1, lines 6, 7).

    `epsilon` is uniform in (0, 1), one a sample. Runs the critic itself, in full precision.
    """
    epsilon = epsilon.view(-1, *[1] * (x.dim() - 1))
    x_hat = (epsilon * x + (1 - epsilon) * x_fake).detach().requires_grad_()
    with torch.autocast(x.device.type, enabled=False):
        squared = zero_centred(x_hat, critic(x_hat))
    # The root's slope is infinite at 0, where a dead critic starts; the paper's code has the same guard.
    return (torch.sqrt(squared + 1e-12) - 1).square()
