"""Feed-forward networks for points and small images (Goodfellow et al. 2014, arXiv:1406.2661).

The paper's pair has rectifiers in G and maxout (Goodfellow et al. 2013, arXiv:1302.4389) in D; in place of its dropout
in D there may be Gaussian noise, as the authors of the semi-supervised GAN have it on digits (Salimans et al. 2016,
arXiv:1606.03498, sec. 5.1 and their code): at sqrt(p / (1 - p)) of a unit's size it varies as much as dropout of a
share p. Theirs is 0.5, and 0.3 on images from 0 to 1, which is 0.6 of what is from -1 to 1. Noise is something only
beside weights that cannot grow: theirs are normalised (Salimans and Kingma 2016, "Weight Normalization",
arXiv:1602.07868, eq. 2) to lengths g that stay as they are -> FixedLength.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks.blocks import Head, Networks, Projection, at_least_one, none_or_more, one_hot, required, spectral
from zerosum.networks.init import leaky_gain, scaled_

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from zerosum.networks.blocks import Label

Activation = Literal["relu", "leaky_relu", "tanh", "maxout"]

PIECES = 5  # linear pieces of a maxout unit, as in the paper's code
GAIN: dict[Activation, float] = {
    "relu": leaky_gain(0.0),
    "leaky_relu": leaky_gain(0.2),
    "tanh": 5 / 3,
    "maxout": 0.745,  # 1 / sqrt(E[m^2]) for m the largest of 5 standard normals
}


@dataclass(frozen=True, kw_only=True)
class MLP(Networks):
    """Feed-forward networks (Goodfellow et al. 2014); both get a one-hot class as input too.

    A critic that is given a head does not: the class goes to the head alone.
    """

    latent: int = 100
    """Length of the latent vector z."""
    width: int = 256
    """Units of every hidden layer."""
    depth: int = 3
    """Hidden layers of each network."""
    generator_activation: Activation = "relu"
    """What follows every hidden layer of the generator."""
    critic_activation: Activation = "leaky_relu"
    """What follows every hidden layer of the critic (slope 0.2); the paper uses maxout."""
    spectral: bool = False
    """Spectral normalisation of every layer of the critic (Miyato et al. 2018)."""
    noise_input: float = 0.0
    """Standard deviation of the noise on what the critic sees while it trains, whose values are from -1 to 1."""
    noise_hidden: float = 0.0
    """The same on what every hidden layer of the critic gives: its head sees it, too."""
    fixed_lengths: bool = False
    """Every hidden unit of the critic keeps the length of its weights, so that they cannot outgrow the noise."""
    batch_norm: bool = False
    """BatchNorm before every activation of the generator (Ioffe and Szegedy 2015)."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width, depth=self.depth)
        none_or_more(noise_input=self.noise_input, noise_hidden=self.noise_hidden)
        if self.spectral and self.fixed_lengths:
            raise UserError(
                "--algorithm.networks.fixed-lengths True: spectral normalisation undoes it; give one of the two"
            )

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> (n, *spec.shape): through tanh for images, unbounded for points."""
        return _Generator(self, spec)

    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module:
        """x (n, *spec.shape) -> (n,) logits."""
        return _Critic(self, spec, head)


class _Generator(nn.Module):
    def __init__(self, net: MLP, spec: Spec) -> None:
        super().__init__()
        self.shape, self.classes, self.bounded = spec.shape, spec.classes, spec.is_image
        self.layers = _Layers(net, net.latent + spec.classes, net.generator_activation, batch_norm=net.batch_norm)
        self.last = scaled_(nn.Linear(net.width, math.prod(spec.shape)))

    def forward(self, z: Float[Tensor, "n z"], label: Label | None = None) -> Float[Tensor, "n ..."]:
        x = self.last(self.layers(_with_class(z, label, self.classes))).unflatten(1, self.shape)
        return torch.tanh(x) if self.bounded else x


class _Critic(nn.Module):
    def __init__(self, net: MLP, spec: Spec, head: Head | None) -> None:
        super().__init__()
        self.classes = 0 if head else spec.classes
        inputs = math.prod(spec.shape) + self.classes
        self.noise = net.noise_input
        self.layers = _Layers(
            net, inputs, net.critic_activation, normalise=net.spectral, noises=(net.noise_input, net.noise_hidden),
            fixed=net.fixed_lengths,
        )  # fmt: skip
        self.head = head(net.width) if head else Projection(net.width, normalise=net.spectral)

    def forward(
        self, x: Float[Tensor, "n ..."], label: Int[Tensor, " n"] | None = None, *more: Any
    ) -> Float[Tensor, " n"] | Any:
        x = _noisy(x.flatten(1), self.noise, self.training)  # not of the class
        return self.head(self.layers(_with_class(x, label, self.classes)), label, *more)


class _Layers(nn.Module):
    """The hidden layers, with an activation each. `noises`: on what the first sees, and on what each gives."""

    def __init__(
        self, net: MLP, inputs: int, activation: Activation, *, normalise: bool = False,
        noises: tuple[float, float] = (0.0, 0.0), fixed: bool = False, batch_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.activation, self.noise = activation, noises[1]
        units = net.width * (PIECES if activation == "maxout" else 1)
        sizes = [inputs] + [net.width] * (net.depth - 1)
        self.hidden = nn.ModuleList(
            spectral(scaled_(nn.Linear(size, units), GAIN[activation]), normalise) for size in sizes
        )
        for i, layer in enumerate(self.hidden if fixed else ()):
            parametrize.register_parametrization(layer, "weight", FixedLength(noises[min(i, 1)]))
        self.norms = nn.ModuleList(nn.BatchNorm1d(units) if batch_norm else nn.Identity() for _ in sizes)

    def forward(self, x: Float[Tensor, "n i"]) -> Float[Tensor, "n w"]:
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = _noisy(_activate(norm(layer(x)), self.activation), self.noise, self.training)
        return x


class FixedLength(nn.Module):
    """Rows of a weight (out, in) at a length that a sum of its inputs has a variance of about 1 with.

    Values spread evenly from -1 to 1, and rectified standard normals, vary by about a third, beside their noise of
    standard deviation `noise`. A parametrization, as SpectralNorm is.
    """

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.length = (1 / 3 + noise**2) ** -0.5

    def forward(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        return self.length * F.normalize(weight, dim=1)


def _noisy(x: Float[Tensor, "n u"], std: float, training: bool) -> Float[Tensor, "n u"]:
    return x + std * torch.randn_like(x) if std and training else x


def _activate(x: Float[Tensor, "n u"], activation: Activation) -> Float[Tensor, "n w"]:
    if activation == "relu":
        return F.relu(x)
    if activation == "leaky_relu":
        return F.leaky_relu(x, 0.2)
    if activation == "tanh":
        return torch.tanh(x)
    return x.unflatten(1, (-1, PIECES)).amax(2)


def _with_class(x: Float[Tensor, "n i"], label: Tensor | None, classes: int) -> Float[Tensor, "n j"]:
    return torch.cat([x, one_hot(required(label), classes, x)], 1) if classes else x
