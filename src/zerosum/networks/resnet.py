"""The residual networks of SNGAN and WGAN-GP.

Miyato et al. 2018, arXiv:1802.05957, Table 4; Gulrajani et al. 2017, arXiv:1704.00028, appendix F. Both
papers use the same blocks. SNGAN: `spectral=True`, the critic sums its features over the image. WGAN-GP:
`spectral=False`, it averages them, and has no normalisation or `norm_critic="layer"`.
With classes: BatchNorm by class in G, projection in D (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.networks.blocks import BatchNorm, Head, Networks, Projection, at_least_one, base_size, spectral, stages_for
from zerosum.networks.init import scaled_

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from zerosum.networks.blocks import Label

RELU = math.sqrt(2)  # gain of a layer that follows a ReLU
PLAIN = 2  # blocks of the critic that do not halve, at its end


@dataclass(frozen=True, kw_only=True)
class ResNet(Networks):
    """Residual pair of SNGAN and WGAN-GP.

    The papers' CIFAR-10 sizes: SNGAN width 128 and generator_width 256, WGAN-GP 128 and 128.
    """

    latent: int = 128
    """Length of the latent vector z."""
    width: int = 64
    """Features of every layer of the critic."""
    generator_width: int = 64
    """Features of every layer of the generator."""
    stages: int | None = None
    """How often the image is halved; until its shorter side would fall below 4, if not given."""
    spectral: bool = True
    """Spectral normalisation of every layer of the critic."""
    norm_critic: Literal["none", "layer"] = "none"
    """Layer normalisation in the critic: per sample, so allowed with gradient penalties."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width, generator_width=self.generator_width)

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> images (n, C, H, W) in [-1, 1]."""
        return _Generator(self, spec)

    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module:
        """Images (n, C, H, W) -> (n,) logits."""
        return _Critic(self, spec, head)


class _Generator(nn.Module):
    def __init__(self, net: ResNet, spec: Spec) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        height, width = base_size(spec.shape, stages)
        features = net.generator_width
        self.base = (features, height, width)
        self.project = scaled_(nn.Linear(net.latent, features * height * width))
        self.blocks = nn.ModuleList(_Up(features, spec.classes) for _ in range(stages))
        self.norm = nn.BatchNorm2d(features)
        self.to_image = scaled_(nn.Conv2d(features, spec.shape[0], 3, padding=1))

    def forward(self, z: Float[Tensor, "n z"], label: Label | None = None) -> Float[Tensor, "n c h w"]:
        x = self.project(z).unflatten(1, self.base)
        for block in self.blocks:
            x = block(x, label)
        return torch.tanh(self.to_image(F.relu(self.norm(x))))


class _Up(nn.Module):
    """BatchNorm, ReLU, doubling, 3x3, BatchNorm, ReLU, 3x3; beside it a doubling 1x1."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.norm1 = BatchNorm(features, classes)
        self.conv1 = scaled_(nn.Conv2d(features, features, 3, padding=1), RELU)
        self.norm2 = BatchNorm(features, classes)
        self.conv2 = scaled_(nn.Conv2d(features, features, 3, padding=1), RELU)
        self.shortcut = scaled_(nn.Conv2d(features, features, 1))

    def forward(self, x: Float[Tensor, "n c h w"], label: Label | None) -> Float[Tensor, "n c 2*h 2*w"]:
        y = _double(F.relu(self.norm1(x, label)))
        y = self.conv2(F.relu(self.norm2(self.conv1(y), label)))
        return y + _double(self.shortcut(x))  # a 1x1 convolution before or after repeating pixels: the same


class _Critic(nn.Module):
    def __init__(self, net: ResNet, spec: Spec, head: Head | None) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        # The paper's critic of 32x32 images stops at 8x8, where its generator starts from 4x4.
        halvings = stages - 1 if stages > 1 and min(base_size(spec.shape, stages)) <= 4 else stages
        blocks = [_Down(net, spec.shape[0], halve=True, first=True)]
        blocks += [_Down(net, net.width, halve=True) for _ in range(halvings - 1)]
        blocks += [_Down(net, net.width, halve=False) for _ in range(PLAIN)]
        self.blocks = nn.ModuleList(blocks)
        self.mean = not net.spectral
        self.head = head(net.width) if head else Projection(net.width, spec.classes, normalise=net.spectral)

    def forward(
        self, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"] | None = None, *more: Any
    ) -> Float[Tensor, " n"] | Any:
        for block in self.blocks:
            x = block(x)
        x = F.relu(x)
        return self.head(x.mean((2, 3)) if self.mean else x.sum((2, 3)), label, *more)


class _Down(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, then 2x2 means if it halves, beside a 1x1; the first block starts at 3x3."""

    def __init__(self, net: ResNet, inputs: int, *, halve: bool, first: bool = False) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        layered = net.norm_critic == "layer" and not first
        # One group over all features and pixels, with a scale and a shift per feature: layer normalisation.
        self.norm1 = nn.GroupNorm(1, inputs) if layered else nn.Identity()
        self.norm2 = nn.GroupNorm(1, net.width) if layered else nn.Identity()
        gain = 1.0 if first else RELU
        self.conv1 = spectral(scaled_(nn.Conv2d(inputs, net.width, 3, padding=1), gain), net.spectral)
        self.conv2 = spectral(scaled_(nn.Conv2d(net.width, net.width, 3, padding=1), RELU), net.spectral)
        self.shortcut: nn.Module = nn.Identity()
        if halve:
            self.shortcut = spectral(scaled_(nn.Conv2d(inputs, net.width, 1)), net.spectral)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        y = x if self.first else F.relu(self.norm1(x))
        y = self.conv2(F.relu(self.norm2(self.conv1(y))))
        if not self.halve:
            return x + y
        return F.avg_pool2d(y, 2) + self.shortcut(F.avg_pool2d(x, 2))


def _double(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
