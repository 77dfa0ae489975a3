"""What the networks share: sizes, spectral normalisation, class conditions, and what the game asks of them.

The two questions that the game asks: `coupled` (do the samples of a batch influence each other?) and
`stateful` with `track` (which layers keep a running state, and may they move it now?).
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from zerosum.data import sizes
from zerosum.data.spec import Spec
from zerosum.errors import SizeError, UserError
from zerosum.networks.init import scaled_

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Label = Int[Tensor, " n"] | Float[Tensor, "n k"]
    """Classes, or the shares of each."""

SPREAD_TINY = 1e-8

Head = Callable[[int], nn.Module]
"""From the number of a critic's features to the module that ends it: forward(features (n, c), label, *more)."""


class Networks(ABC):
    """A description of a generator and a critic that fit each other; a recipe's `networks`.

    `generator(spec)`: forward(z (n, latent), label (n,) int64 | None) -> (n, *spec.shape); images in [-1, 1]. A label
    may also be shares of the classes (n, classes) that sum to one, for what lies between them.
    `critic(spec)`: forward(x (n, *spec.shape), label (n,) int64 | None) -> (n,) logits. With `head`, it ends in that
    module in place of its own, which is given the features, the label and whatever else the call has.
    With `spec.classes` = 0 the label is ignored; above 0 it is required. Weights are drawn from torch's
    global generator. Raises UserError where the data's shape does not suit the networks.
    """

    latent: int

    @abstractmethod
    def generator(self, spec: Spec) -> nn.Module: ...

    @abstractmethod
    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module: ...


# ---- sizes -----------------------------------------------------------------------------------------------


def stages_for(shape: tuple[int, ...], stages: int | None = None) -> int:
    """How many times a network halves an image of `shape` (C, H, W), by the rule of `data.sizes`.

    `stages` overrides the number. Raises SizeError that names the nearest sizes that work.
    """
    if len(shape) != 3:
        raise UserError(f"data: these networks make images, but the data has shape {shape}; use MLP")
    height, width = shape[1:]
    if stages is not None and stages < 1:
        raise UserError(
            f"--algorithm.networks.stages {stages}: a network halves the image at least once; give 1 or more"
        )
    k = sizes.halvings(height, width, stages)
    if sizes.takes(height, width, stages):
        return k

    up, down = sizes.larger(height, width, stages), sizes.smaller(height, width, stages)
    given, above = f"--size {height} {width}", f"--size {up[0]} {up[1]}"
    if min(height, width) < sizes.SMALLEST:
        smallest = f"{sizes.SMALLEST}x{sizes.SMALLEST}"
        raise SizeError(
            f"{given}: the smallest image is {smallest}; give {above}, or --algorithm gan, which takes any size", up
        )
    near = f"{up[0]}x{up[1]}" + (f" and {down[0]}x{down[1]}" if down else "")
    fits = _trailing_zeros(math.gcd(height, width))
    nearer = sizes.nearer(height, width, up, down)
    remedy = f"give --size {nearer[0]} {nearer[1]}" + (f" or --algorithm.networks.stages {fits}" if fits else "")
    times = "once" if k == 1 else f"{k} times"
    raise SizeError(
        f"{given}: the network halves the image {times}, so height and width must be multiples of {2**k}; the nearest "
        f"{'are' if down else 'is'} {near}; {remedy}",
        down or up,
    )


def base_size(shape: tuple[int, ...], stages: int) -> tuple[int, int]:
    """Height and width of an image of `shape` (C, H, W) after `stages` halvings."""
    return shape[1] >> stages, shape[2] >> stages


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1


def at_least_one(**values: int) -> None:
    """Refuse counts below 1 by the name of their field."""
    for name, value in values.items():
        if value < 1:
            raise UserError(f"--algorithm.networks.{name.replace('_', '-')} {value}: must be at least 1")


def none_or_more(**values: int | float) -> None:
    """Refuse what is below 0, or no number, by the name of its field."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise UserError(f"--algorithm.networks.{name.replace('_', '-')} {value:g}: must be 0 or more and finite")


# ---- spectral normalisation ------------------------------------------------------------------------------


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value (Miyato et al. 2018, arXiv:1802.05957, Algorithm 1).

    A parametrization: forward(weight) -> weight / sigma, with the weight seen as the matrix (out, fan-in) and
    sigma = u^T W v, where u and v follow the singular vectors by one power iteration per turn of the player:
    in training mode, the first forward while `due` is True iterates and sets `due` to False; in evaluation
    mode nothing moves. The game sets `due` through `track`; a loop of your own sets it before every update.
    Sums instead of matrix products: they keep full precision under autocast.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Float[Tensor, "out ..."], iterations: int = 15) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.due = True
        self.register_buffer("u", F.normalize(torch.randn_like(matrix[:, 0]), dim=0))
        self.register_buffer("v", torch.zeros_like(matrix[0]))
        for _ in range(iterations):  # to start near the true sigma: one step a turn would take a while
            self._iterate(matrix)

    @torch.no_grad()
    def _iterate(self, matrix: Float[Tensor, "out fan"]) -> None:
        self.v.copy_(F.normalize((matrix * self.u[:, None]).sum(0), dim=0))
        self.u.copy_(F.normalize((matrix * self.v).sum(1), dim=0))

    def forward(self, weight: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
        matrix = weight.flatten(1)
        if self.training and self.due:
            self._iterate(matrix.detach())
            self.due = False
        # Copies: the next turn's iteration must not change what this forward's graph has kept.
        u, v = self.u.clone(), self.v.clone()
        return weight / (matrix * (u[:, None] * v)).sum()


Weighted = TypeVar("Weighted", nn.Linear, nn.Conv2d, nn.Embedding)


def spectral(layer: Weighted, on: bool = True) -> Weighted:
    """The layer with SpectralNorm on its weight (as it is now: initialise first); unchanged if not `on`."""
    if on:
        norm = SpectralNorm(layer.weight)
        parametrize.register_parametrization(layer, "weight", norm)
        norm.due = True  # registering ran it once
    return layer


# ---- classes ---------------------------------------------------------------------------------------------


def required(label: Tensor | None) -> Tensor:
    """The label that a class-conditional network cannot do without."""
    if label is None:
        raise UserError("label: this network is class-conditional; give a class index for every sample")
    return label


def one_hot(label: Tensor, classes: int, like: Float[Tensor, ...]) -> Float[Tensor, "n k"]:
    """Rows of the identity, in the dtype of `like`, for classes (n,); shares of classes (n, k) are what they are."""
    if label.is_floating_point():
        return label.to(like.dtype)
    return torch.eye(classes, dtype=like.dtype, device=like.device)[label]


class ClassEmbedding(nn.Embedding):
    """A vector for each class (n,), or the mean of several where a label is shares of classes (n, k).

    `mean`: around which its numbers begin: 1 of what is a scale.
    """

    def __init__(self, classes: int, features: int, mean: float = 0.0) -> None:
        super().__init__(classes, features)
        self.mean = mean

    def forward(self, input: Tensor) -> Float[Tensor, "n d"]:
        return input @ self.weight if input.is_floating_point() else super().forward(input)


class BatchNorm(nn.Module):
    """BatchNorm over images; with classes, each has a scale and a shift of its own.

    Ioffe & Szegedy 2015, arXiv:1502.03167; by class: de Vries et al. 2017, arXiv:1707.00683, as Miyato &
    Koyama 2018, arXiv:1802.05637, use it.
    """

    def __init__(self, features: int, classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.norm = nn.BatchNorm2d(features, affine=not classes)
        if classes:
            self.scale = ClassEmbedding(classes, features, mean=1.0)
            self.shift = ClassEmbedding(classes, features)
            nn.init.ones_(self.scale.weight)
            nn.init.zeros_(self.shift.weight)

    def forward(self, x: Float[Tensor, "n c h w"], label: Label | None) -> Float[Tensor, "n c h w"]:
        x = self.norm(x)
        if not self.classes:
            return x
        label = required(label)
        return x * self.scale(label)[:, :, None, None] + self.shift(label)[:, :, None, None]


class Projection(nn.Module):
    """From features to a logit: linear, plus with classes the inner product of features and class embedding.

    Miyato & Koyama 2018, arXiv:1802.05637, eq. 3: f(x, y) = y^T V phi(x) + psi(phi(x)).
    """

    def __init__(self, features: int, classes: int = 0, *, normalise: bool = False) -> None:
        super().__init__()
        self.classes = classes
        self.linear = spectral(scaled_(nn.Linear(features, 1)), normalise)
        if classes:
            embedding = nn.Embedding(classes, features)
            nn.init.normal_(embedding.weight, 0.0, 1 / math.sqrt(features))
            self.embedding = spectral(embedding, normalise)

    def forward(self, features: Float[Tensor, "n c"], label: Int[Tensor, " n"] | None) -> Float[Tensor, " n"]:
        logit = self.linear(features).squeeze(1)
        if not self.classes:
            return logit
        return logit + (features * self.embedding(required(label))).sum(1)


class MinibatchStd(nn.Module):
    """One feature more: how much the samples of the batch differ, so that D sees collapse (Karras et al. 2017, sec. 3).

    The standard deviation over the batch of every feature of every pixel, averaged to one number, the same everywhere.
    `settled`: that number whatever the batch is (`decoupled`).
    """

    settled: Tensor | None = None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        spread = self.spread(x) if self.settled is None else self.settled
        return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], 1)

    def spread(self, x: Float[Tensor, "n c h w"]) -> Tensor:
        apart = x - x.mean(0)
        return (apart.square().mean(0) + SPREAD_TINY).sqrt().mean()  # the root's slope is infinite at 0


# ---- what the game asks ----------------------------------------------------------------------------------


def coupled(network: nn.Module) -> bool:
    """Whether, in training, the samples of a batch influence each other: with BatchNorm or minibatch std they do."""
    return any(isinstance(module, _BatchNorm | MinibatchStd) for module in network.modules())


@torch.no_grad()
def decoupled(critic: nn.Module, x: Tensor, label: Tensor | None) -> nn.Module:
    """The critic, in eval mode, with its minibatch std as it is over the batch x, whatever it is given later: each
    sample is then judged for itself. A copy where it has any, else itself."""
    if not any(isinstance(module, MinibatchStd) for module in critic.modules()):
        return critic
    twin = copy.deepcopy(critic)

    def settle(module: nn.Module, seen: tuple[Tensor, ...]) -> None:
        assert isinstance(module, MinibatchStd)
        module.settled = module.spread(seen[0])

    hooks = [m.register_forward_pre_hook(settle) for m in twin.modules() if isinstance(m, MinibatchStd)]
    twin(x, label)
    for hook in hooks:
        hook.remove()
    return twin


def stateful(network: nn.Module) -> list[nn.Module]:
    """The layers that keep a running state: for `track`. Collect once, and again after a deep copy."""
    found: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, _InstanceNorm) and module.running_mean is not None:
            module.__dict__.setdefault("moving_momentum", module.momentum)
            found.append(module)
        elif isinstance(module, SpectralNorm) or (isinstance(module, _BatchNorm) and module.running_mean is not None):
            found.append(module)
    return found


def track(modules: Iterable[nn.Module], on: bool) -> None:
    """Let these layers (of `stateful`) move their running state in training mode, or keep it still.

    A still BatchNorm normalises by the batch's statistics all the same; a still SpectralNorm uses the u and v
    that it has. What a network computes does not depend on this, except for the power iteration itself.
    """
    for module in modules:
        if isinstance(module, SpectralNorm):
            module.due = on
        elif isinstance(module, _InstanceNorm):
            # track_running_stats=False would not do here: torch then goes on updating the statistics
            module.momentum = module.__dict__["moving_momentum"] if on else 0.0
        elif isinstance(module, _BatchNorm):
            module.track_running_stats = on
