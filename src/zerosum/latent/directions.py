"""Directions in the latent space along which one thing changes.

`factorised`: Shen and Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs", arXiv:2007.06600, eq. 5 to 7:
G's first layers map z by A; the unit vectors n that change what they give most, |A n|, are the eigenvectors of A^T A of
the largest eigenvalues. A BatchNorm that directly follows (Ioffe and Szegedy 2015, arXiv:1502.03167) is part of A: with
its moving variance it is linear, and divides out what scale the layer has. `labelled`: Shen et al. 2020, "Interpreting
the Latent Space of GANs", arXiv:1907.10786, sec. 3.2: the normal of the hyperplane that parts latents whose images are
of a class from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zerosum.errors import UserError
from zerosum.networks.blocks import BatchNorm

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

LEAST_OF_CLASS = 20  # samples on either side of a hyperplane
BESIDE = "what the first layer gives is used beside its BatchNorm, too; directions are ranked without the norm's scale"
STILL = "the first layer's BatchNorm keeps no moving variance; directions are ranked without the norm's scale"


@dataclass(frozen=True)
class Direction:
    """A unit vector (latent,), its name, and how much it is one: a singular value, or how often its side is right.

    `note`: what its rank does not take in, in words; empty where there is nothing to say.
    """

    name: str
    vector: Tensor
    strength: float
    note: str = ""


def factorised(generator: nn.Module, latent: int, count: int, label: Tensor | None = None) -> list[Direction]:
    """The `count` directions that change what G's first layers give most, strongest first; G is in eval mode.

    What a layer gives is taken behind the BatchNorm that directly follows it: diag(gamma / sqrt(var + eps)) A z. Where
    that cannot be done, directions are ranked by A alone, and their `note` says why.
    UserError if G has no linear layer that meets the latent itself, or for more directions than it has numbers.
    """
    if not 1 <= count <= latent:
        raise UserError(f"--count {count}: from 1 to {latent}, the numbers of a latent")
    z = torch.randn(1, latent, generator=torch.Generator().manual_seed(0))
    layers = _first_layers(generator, z, label)
    if not layers:
        raise UserError("directions: no linear layer of this generator meets the latent itself; name classes with --by")
    maps, note = [], ""
    for layer in layers:
        scale, why = _scale_behind(generator, layer, z, label)
        maps.append(scale[:, None] * layer.weight.detach()[:, :latent])
        note = note or why
    _, values, rows = torch.linalg.svd(torch.cat(maps).double(), full_matrices=False)
    count = min(count, len(values))
    return [
        Direction(f"direction {i + 1}", _signed(rows[i]).float(), float(values[i] / values[0]), note)
        for i in range(count)
    ]


@torch.no_grad()
def _first_layers(generator: nn.Module, z: Float[Tensor, "1 z"], label: Tensor | None) -> list[nn.Linear]:
    """The linear layers that are given z, scaled or not, alone or with more behind it."""
    latent = z.shape[1]
    found: list[nn.Linear] = []

    def look(layer: nn.Module, given: tuple[Any, ...]) -> None:
        x = given[0]
        assert isinstance(layer, nn.Linear)
        if x.shape[-1] >= latent and float(F.cosine_similarity(x[:, :latent], z)) > 1 - 1e-5:
            found.append(layer)

    hooks = [m.register_forward_pre_hook(look) for m in generator.modules() if isinstance(m, nn.Linear)]
    try:
        generator(z, label)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _scale_behind(
    generator: nn.Module, layer: nn.Linear, z: Float[Tensor, "1 z"], label: Tensor | None
) -> tuple[Float[Tensor, " f"], str]:
    """What the BatchNorm that directly follows `layer` multiplies each of its outputs by, ones if none follows; and why
    it is left out, where it is.

    The layer is made to give numbers, one for each output. A norm that is given these very numbers follows directly,
    and where they lie shows which of its features each output belongs to: they may have been moved on the way.
    """
    count = layer.out_features
    numbers = (-1.0 - torch.arange(count)).requires_grad_()  # below 0: a rectifier on the way would change them
    met: list[tuple[nn.Module, Tensor]] = []

    def give_numbers(*_: Any) -> Tensor:
        return numbers[None].clone()

    def look(norm: nn.Module, given: tuple[Any, ...]) -> None:
        x = given[0].detach()
        if not met and x.numel() == count and torch.equal(x.flatten().sort().values, numbers.detach().flip(0)):
            met.append((norm, (-1 - x).long().movedim(1, 0).flatten(1)))  # (features, outputs in each)

    def end_here(norm: nn.Module, _: tuple[Any, ...], made: Tensor) -> Tensor:
        return made.detach() if met and norm is met[0][0] else made

    hooks = [layer.register_forward_hook(give_numbers)]
    for norm in generator.modules():
        if isinstance(norm, BatchNorm | _BatchNorm):
            hooks += [norm.register_forward_pre_hook(look), norm.register_forward_hook(end_here)]
    try:
        with torch.enable_grad():
            image = generator(z, label)
    finally:
        for hook in hooks:
            hook.remove()
    scale = torch.ones(count)
    if not met:
        return scale, ""
    norm, outputs = met[0]
    gain = _gain(norm)
    if gain is None:
        return scale, STILL
    # The way through the norm was cut: an image that still depends on the layer does so by another.
    if image.requires_grad and torch.autograd.grad(image.sum(), numbers, allow_unused=True)[0] is not None:
        return scale, BESIDE
    scale[outputs] = gain[:, None]
    return scale, ""


@torch.no_grad()
def _gain(norm: nn.Module) -> Float[Tensor, " c"] | None:
    """gamma / sqrt(var + eps) of each feature of a BatchNorm in eval mode; None if it keeps no moving variance.

    Where each class has a gamma, the root mean square of them: |A n|^2 is then its mean over the classes.
    """
    if isinstance(norm, BatchNorm):
        gain = _gain(norm.norm)
        return gain * norm.scale.weight.square().mean(0).sqrt() if norm.classes and gain is not None else gain
    assert isinstance(norm, _BatchNorm)
    if norm.running_var is None:
        return None
    gain = (norm.running_var + norm.eps).rsqrt()
    return gain * norm.weight if norm.affine else gain


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
