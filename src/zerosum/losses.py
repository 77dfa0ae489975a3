"""Adversarial losses: pure functions of the critic's logits. Logits in, one loss a sample out, shape (N,).

Under mixed precision logits come in bf16; every loss is computed in float32 at least.

Symbols (paper -> here): D(x) -> d_real, D(G(z)) -> d_fake (logits, before any sigmoid); sigma -> sigmoid;
softplus(t) = log(1 + e^t), so -log sigma(t) = softplus(-t), which neither overflows nor saturates.
Every loss asserts the shape (N,), or equal shapes of two: (N,1) against (N,) would broadcast to (N,N) in silence.
A patch critic's map of logits (N, h, w) counts as its mean loss: each patch is a verdict (Isola et al. 2017, 3.2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy as _cross_entropy
from torch.nn.functional import relu, softplus

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    Logits = Float[Tensor, " n"] | Float[Tensor, "n h w"]


def _full(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _pair(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    if d_real.shape != d_fake.shape or d_real.dim() not in (1, 3):
        raise ValueError(
            f"logits must be (N,) or (N, h, w) and alike, not {tuple(d_real.shape)} and {tuple(d_fake.shape)}: let the "
            "critic return one logit a sample, or a patch"
        )
    return _full(d_real), _full(d_fake)


def _one(d_fake: Tensor) -> Tensor:
    if d_fake.dim() not in (1, 3):
        raise ValueError(
            f"logits must be (N,) or (N, h, w), not {tuple(d_fake.shape)}: let the critic return one logit a sample, "
            "or a patch"
        )
    return _full(d_fake)


def per_sample(values: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """The mean over everything but the samples, in float32 at least."""
    return _full(values) if values.dim() == 1 else _full(values).flatten(1).mean(1)


def discriminator(d_real: Logits, d_fake: Logits) -> Float[Tensor, " n"]:
    """-log D(x) - log(1 - D(G(z))): what D minimises (Goodfellow et al. 2014, eq. 1, negated)."""
    d_real, d_fake = _pair(d_real, d_fake)
    return per_sample(softplus(-d_real) + softplus(d_fake))


def non_saturating(d_fake: Logits) -> Float[Tensor, " n"]:
    """-log D(G(z)): G's loss with strong gradients early on (Goodfellow et al. 2014, sec. 3)."""
    d_fake = _one(d_fake)
    return per_sample(softplus(-d_fake))


def minimax(d_fake: Logits) -> Float[Tensor, " n"]:
    """log(1 - D(G(z))): G's side of the value function itself (Goodfellow et al. 2014, eq. 1); saturates."""
    d_fake = _one(d_fake)
    return per_sample(-softplus(d_fake))


def wasserstein_critic(d_real: Logits, d_fake: Logits) -> Float[Tensor, " n"]:
    """D(G(z)) - D(x): the negated estimate of the Wasserstein distance (Gulrajani et al. 2017, eq. 3)."""
    d_real, d_fake = _pair(d_real, d_fake)
    return per_sample(d_fake - d_real)


def wasserstein_generator(d_fake: Logits) -> Float[Tensor, " n"]:
    """-D(G(z)) (Gulrajani et al. 2017, algorithm 1, line 11); also G's hinge loss (Miyato et al. 2018, eq. 17)."""
    d_fake = _one(d_fake)
    return per_sample(-d_fake)


def hinge(d_real: Logits, d_fake: Logits) -> Float[Tensor, " n"]:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Miyato et al. 2018, eq. 16)."""
    d_real, d_fake = _pair(d_real, d_fake)
    return per_sample(relu(1 - d_real) + relu(1 + d_fake))


def relativistic(d_better: Logits, d_worse: Logits) -> Float[Tensor, " n"]:
    """softplus(-(D(a) - D(b))): the relativistic pairing loss (Huang et al. 2024, eq. 2).

    D minimises it with (real, fake), G with (fake, real). f(t) = -log(1 + e^-t) in the paper's max-min form.
    """
    d_better, d_worse = _pair(d_better, d_worse)
    return per_sample(softplus(-(d_better - d_worse)))


def least_squares(d_real: Logits, d_fake: Logits) -> Float[Tensor, " n"]:
    """(D(x) - 1)^2 + D(G(z))^2: D's side (Mao et al. 2017, arXiv:1611.04076, eq. 9, without its halves)."""
    d_real, d_fake = _pair(d_real, d_fake)
    return per_sample((d_real - 1).square() + d_fake.square())


def least_squares_generator(d_fake: Logits) -> Float[Tensor, " n"]:
    """(D(G(z)) - 1)^2: G's side (Mao et al. 2017, eq. 9, without its half)."""
    d_fake = _one(d_fake)
    return per_sample((d_fake - 1).square())


def l1(x: Float[Tensor, "n ..."], y: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """The mean absolute difference of images (Isola et al. 2017, eq. 3; Zhu et al. 2017, eq. 2)."""
    if x.shape != y.shape:
        raise ValueError(f"images of shape {tuple(x.shape)} and {tuple(y.shape)} cannot be compared pixel by pixel")
    return per_sample((x - y).abs())


def patch_nce(
    query: Float[Tensor, "n s d"], key: Float[Tensor, "n s d"], temperature: float = 0.07
) -> Float[Tensor, " n"]:
    """The contrastive loss of s patches an image (Park et al. 2020, arXiv:2007.15651, eq. 3 and 4), mean over patches.

    `query` and `key` are features of unit length: a patch of the output must be nearer to the patch of the input at the
    same place than to the s - 1 others of that image.
    """
    if query.shape != key.shape or query.dim() != 3:
        raise ValueError(f"features must be (n, s, d) and alike, not {tuple(query.shape)} and {tuple(key.shape)}")
    logits = _full(query) @ _full(key).transpose(1, 2) / temperature
    return -logits.log_softmax(2).diagonal(dim1=1, dim2=2).mean(1)


def cross_entropy(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"] | None) -> Float[Tensor, " n"]:
    """-log p(y | x) from the logits of the classes (Odena et al. 2017, eq. 3; Salimans et al. 2016, sec. 5)."""
    if logits.dim() != 2 or label is None or label.shape != logits.shape[:1]:
        shape = None if label is None else tuple(label.shape)
        raise ValueError(f"class logits (N, K) and labels (N,) are needed, not {tuple(logits.shape)} and {shape}")
    return _cross_entropy(_full(logits), label, reduction="none")


def feature_matching(real: Float[Tensor, "n c"], fake: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """|| E f(x) - E f(G(z)) ||^2 / c, one loss of the whole batch (Salimans et al. 2016, sec. 3.1)."""
    if real.shape != fake.shape or real.dim() != 2:
        raise ValueError(f"features must be (N, C) and alike, not {tuple(real.shape)} and {tuple(fake.shape)}")
    return (_full(real).mean(0) - _full(fake).mean(0)).square().mean().expand(len(fake))


def consistency(one: Float[Tensor, "n k"], other: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """How far two looks at the same image are apart: the squared distance of their class probabilities.

    The Pi model of Laine and Aila 2017 (arXiv:1610.02242, Algorithm 1), there over k; with a GAN, Wei et al. 2018
    (arXiv:1803.01541).
    """
    if one.shape != other.shape or one.dim() != 2:
        raise ValueError(f"logits must be (N, K) and alike, not {tuple(one.shape)} and {tuple(other.shape)}")
    return (_full(one).softmax(1) - _full(other).softmax(1)).square().sum(1)


def optimal_logits(p_data: Float[Tensor, " n"], p_g: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The best D's logits, log p_data(x) - log p_g(x), from the two densities (Goodfellow et al. 2014, prop. 1)."""
    p_data, p_g = _pair(p_data, p_g)
    return torch.log(p_data) - torch.log(p_g)
