"""Directions in the latent space along which one thing changes.

`factorised`: Shen and Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs", arXiv:2007.06600, eq. 5 to 7:
G's first layers map z by A; the unit vectors n that change what they give most, |A n|, are the eigenvectors of A^T A of
the largest eigenvalues. `labelled`: Shen et al. 2020, "Interpreting the Latent Space of GANs", arXiv:1907.10786,
sec. 3.2: the normal of the hyperplane that parts latents whose images are of a class from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

LEAST_OF_CLASS = 20  # samples on either side of a hyperplane


@dataclass(frozen=True)
class Direction:
    """A unit vector (latent,), its name, and how much it is one: a singular value, or how often its side is right."""

    name: str
    vector: Tensor
    strength: float


def factorised(generator: nn.Module, latent: int, count: int, label: Tensor | None = None) -> list[Direction]:
    """The `count` directions that change what G's first layers give most, strongest first.

    UserError if G has no linear layer that meets the latent itself, or for more directions than it has numbers.
    """
    if not 1 <= count <= latent:
        raise UserError(f"--count {count}: from 1 to {latent}, the numbers of a latent")
    weights = _first_layers(generator, latent, label)
    if not weights:
        raise UserError("directions: no linear layer of this generator meets the latent itself; name classes with --by")
    _, values, rows = torch.linalg.svd(torch.cat(weights).double(), full_matrices=False)
    count = min(count, len(values))
    return [
        Direction(f"direction {i + 1}", _signed(rows[i]).float(), float(values[i] / values[0])) for i in range(count)
    ]


@torch.no_grad()
def _first_layers(generator: nn.Module, latent: int, label: Tensor | None) -> list[Float[Tensor, "f z"]]:
    """Weights of the linear layers that are given z, scaled or not, alone or with more behind it."""
    z = torch.randn(1, latent, generator=torch.Generator().manual_seed(0))
    found: list[Tensor] = []

    def look(layer: nn.Module, given: tuple[Any, ...]) -> None:
        x = given[0]
        assert isinstance(layer, nn.Linear)
        if x.shape[-1] >= latent and float(F.cosine_similarity(x[:, :latent], z)) > 1 - 1e-5:
            found.append(layer.weight[:, :latent].clone())

    hooks = [m.register_forward_pre_hook(look) for m in generator.modules() if isinstance(m, nn.Linear)]
    try:
        generator(z, label)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _signed(vector: Tensor) -> Tensor:
    """An eigenvector has no sign: its largest number is made positive, so that it is the same on every machine."""
    return vector * vector[vector.abs().argmax()].sign()


def labelled(z: Float[Tensor, "n z"], of_class: Bool[np.ndarray, " n"], name: str) -> Direction:
    """From latents whose images are not of a class to those whose are; `strength` is how often the plane is right,
    over both kinds alike, on latents that it was not fitted to.

    UserError for a class of too few samples.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.model_selection import cross_val_score

    fewer = int(min(of_class.sum(), (~of_class).sum()))
    if fewer < LEAST_OF_CLASS:
        raise UserError(
            f"class {name}: {fewer} samples of it or of others are too few for a direction; draw more with -n, or give "
            "--by other classes"
        )
    plane = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1_000)
    right = cross_val_score(plane, z.numpy(), of_class, cv=5, scoring="balanced_accuracy").mean()
    normal = torch.from_numpy(plane.fit(z.numpy(), of_class).coef_[0]).float()
    return Direction(name, normal / normal.norm(), float(right))


def along(z: Float[Tensor, " z"], direction: Direction, distances: Sequence[float]) -> Float[Tensor, "k z"]:
    """Latents at these distances from z, in units of a normal latent's standard deviation."""
    return z + torch.tensor(distances, dtype=z.dtype)[:, None] * direction.vector.to(z.dtype)
