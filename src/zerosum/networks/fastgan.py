"""FastGAN's networks for few images (Liu et al. 2021, "Towards Faster and Stabilized GAN Training for High-fidelity
Few-shot Image Synthesis", arXiv:2101.04775, sec. 3, figures 3 and 4).

G: nearest-neighbour doubling, 3x3 convolution, BatchNorm and gated linear unit a size; and features of small sizes gate
those of large ones channel by channel (skip-layer excitation, eq. 1). D: residual halvings, and two small decoders that
rebuild what it was shown from its features: all of it, and a quarter of it from features of more pixels.
Differs from the paper: widths for a small machine; no noise within G, so that a latent is an image; D's logits are
averaged to one an image; sides need not be equal; what is rebuilt is as large as D's features times 4.
With classes: BatchNorm by class in G; D projects its last features (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.networks.blocks import (
    BatchNorm,
    Head,
    Networks,
    Projection,
    at_least_one,
    base_size,
    none_or_more,
    spectral,
    stages_for,
)
from zerosum.networks.init import radford_

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from zerosum.networks.blocks import Label

SLOPE = 0.2
REACH = 3  # doublings between the features that gate and those that are gated; the paper's 4 are of larger images
POOLED = 4  # pixels a side that gating features are pooled to
BUILT = 2  # doublings of a decoder


@dataclass(frozen=True, kw_only=True)
class FastGAN(Networks):
    """Few weights, gates across sizes, a critic that rebuilds what it sees (Liu et al. 2021)."""

    latent: int = 128
    """Length of the latent vector z (the paper's 256)."""
    width: int = 32
    """Features at half the image's size; doubled with every further halving, up to 8 times."""
    decoder: int = 32
    """Features of D's decoders; 0 for none."""
    stages: int | None = None
    """How often the image is halved; until its shorter side would fall below 4, if not given."""

    def __post_init__(self) -> None:
        at_least_one(latent=self.latent, width=self.width)
        none_or_more(decoder=self.decoder)

    def generator(self, spec: Spec) -> nn.Module:
        """z (n, latent) -> images (n, C, H, W) in [-1, 1]."""
        return Generator(self, spec)

    def critic(self, spec: Spec, head: Head | None = None) -> nn.Module:
        """Images (n, C, H, W) -> (n,) logits; asked to, also what it rebuilds and of what (`Rebuilt`)."""
        return _Critic(self, spec, head)


@dataclass(frozen=True)
class Rebuilt:
    """What D's decoders made of the images that it saw (n, C, h, w), and those images as large."""

    whole: Tensor
    whole_seen: Tensor
    part: Tensor
    part_seen: Tensor


def _widths(net: FastGAN, stages: int) -> list[int]:
    """Features per size, from the base up to half the image's size, and at its own."""
    return [net.width * min(2**i, 8) for i in range(stages - 1, -1, -1)] + [net.width]


class Generator(nn.Module):
    """z -> image; `mixed` takes what is small from one latent and what is large from another."""

    def __init__(self, net: FastGAN, spec: Spec) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)
        self.base = (2 * widths[0], *base_size(spec.shape, stages))
        self.project = nn.Linear(net.latent, self.base[0] * self.base[1] * self.base[2], bias=False)
        self.norm = BatchNorm(self.base[0], spec.classes)
        self.layers = nn.ModuleList(nn.Conv2d(a, 2 * b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(2 * b, spec.classes) for b in widths[1:])
        pooled = [min(POOLED, side) for side in self.base[1:]]
        self.gates = nn.ModuleList(_Gate(widths[i], widths[i + REACH], pooled) for i in range(stages + 1 - REACH))
        self.image = nn.Conv2d(widths[-1], spec.shape[0], 3, padding=1)
        radford_(self)

    def forward(self, z: Float[Tensor, "n z"], label: Label | None = None) -> Float[Tensor, "n c h w"]:
        return self._image(self._start(z, label), label, None)

    def mixed(
        self,
        z: Float[Tensor, "n z"],
        style: Float[Tensor, "n z"],
        label: Label | None = None,
        style_label: Label | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Shapes of `z`, gated by the small features of `style`, each with its class (sec. 3.1: style mixing)."""
        small = self._features(self._start(style, style_label), style_label)
        return self._image(self._start(z, label), label, small)

    def _start(self, z: Tensor, label: Tensor | None) -> Tensor:
        return F.glu(self.norm(self.project(z).unflatten(1, self.base), label), 1)

    def _features(self, x: Tensor, label: Tensor | None) -> list[Tensor]:
        """Of the sizes that gate others."""
        found = [x]
        for i in range(max(len(self.gates) - 1, 0)):
            found.append(self._larger(i, found[-1], label, found))
        return found

    def _image(self, x: Tensor, label: Tensor | None, style: list[Tensor] | None) -> Tensor:
        small = [x]
        for i in range(len(self.layers)):
            small.append(self._larger(i, small[-1], label, small if style is None else style))
        return torch.tanh(self.image(small[-1]))

    def _larger(self, i: int, x: Tensor, label: Tensor | None, small: list[Tensor]) -> Tensor:
        """Layer i of x (n, c, h, w) at twice the size, gated by what is REACH sizes smaller."""
        x = F.glu(self.norms[i](self.layers[i](_doubled(x)), label), 1)
        k = i + 1 - REACH
        return x * self.gates[k](small[k]) if k >= 0 else x


class _Gate(nn.Module):
    """Skip-layer excitation: features of a small size -> a factor for each channel of a large one (eq. 1)."""

    def __init__(self, small: int, large: int, pooled: list[int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d((pooled[0], pooled[1])),
            nn.Conv2d(small, large, (pooled[0], pooled[1])),
            nn.LeakyReLU(0.1),
            nn.Conv2d(large, large, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Float[Tensor, "n a h w"]) -> Float[Tensor, "n b 1 1"]:
        return self.layers(x)


class _Critic(nn.Module):
    def __init__(self, net: FastGAN, spec: Spec, head: Head | None) -> None:
        super().__init__()
        stages = stages_for(spec.shape, net.stages)
        widths = _widths(net, stages)[:-1][::-1]  # from half the image's size down to the base
        self.first = nn.Sequential(nn.Conv2d(spec.shape[0], widths[0], 4, 2, 1), nn.LeakyReLU(SLOPE))
        self.halvings = nn.ModuleList(_Halving(a, b) for a, b in pairwise(widths))
        height, width = base_size(spec.shape, stages)
        features = widths[-1] * height * width
        self.decoders = nn.ModuleList(
            _decoder(w, net.decoder, spec.shape[0]) for w in (widths[-2:][0], widths[-1]) if net.decoder
        )
        radford_(self)
        for layer in (*self.first.modules(), *self.halvings.modules()):
            if isinstance(layer, nn.Conv2d):
                spectral(layer)  # as in the authors' code
        self.head = head(features) if head else Projection(features, spec.classes, normalise=True)

    def forward(
        self, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"] | None = None, *more: Any, rebuild: bool = False
    ) -> Float[Tensor, " n"] | tuple[Float[Tensor, " n"], Rebuilt] | Any:
        """Logits; with `rebuild` also what the decoders make of the features, and of which images."""
        features = [self.first(x)]
        for halving in self.halvings:
            features.append(halving(features[-1]))
        logit = self.head(features[-1].flatten(1), label, *more)
        return (logit, self._rebuilt(x, features[-2:][0], features[-1])) if rebuild else logit

    def _rebuilt(self, x: Tensor, larger: Tensor, smallest: Tensor) -> Rebuilt:
        """All of the image from the smallest features, and a quarter of it from a quarter of the larger ones."""
        part_decoder, whole_decoder = self.decoders
        quarter = torch.randint(4, (len(x),), device=x.device)
        whole, part = whole_decoder(smallest), part_decoder(_quarter(larger, quarter))
        size, part_size = whole.shape[2:], part.shape[2:]
        return Rebuilt(
            whole, F.adaptive_avg_pool2d(x, (size[0], size[1])),
            part, F.adaptive_avg_pool2d(_quarter(x, quarter), (part_size[0], part_size[1])),
        )  # fmt: skip


def _quarter(x: Float[Tensor, "n c h w"], which: Int[Tensor, " n"]) -> Float[Tensor, "n c a b"]:
    """Of each image one of its four corners: 0 and 1 above, 2 and 3 below."""
    height, width = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    rows, columns = (slice(height), slice(-height, None)), (slice(width), slice(-width, None))
    corners = [x[:, :, a, b] for a in rows for b in columns]
    return torch.stack(corners, 1)[torch.arange(len(x), device=x.device), which]


class _Halving(nn.Module):
    """The mean of a strided convolution with one more, and of pooled pixels through a linear map (figure 4)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE),
        )  # fmt: skip
        self.direct = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE)
        )

    def forward(self, x: Float[Tensor, "n a h w"]) -> Float[Tensor, "n b i j"]:
        return (self.main(x) + self.direct(x)) / 2


def _decoder(inputs: int, width: int, channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(BUILT):
        layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(inputs, 2 * width, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(2 * width), nn.GLU(1)]
        inputs = width
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0)
