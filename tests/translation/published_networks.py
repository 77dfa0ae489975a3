"""The generators of pytorch-CycleGAN-and-pix2pix, built from the description of their naming, with random weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def norm_of(kind: str, features: int) -> nn.Module:
    return {
        "batch": lambda: nn.BatchNorm2d(features),
        "biased batch": lambda: nn.BatchNorm2d(features),
        "instance": lambda: nn.InstanceNorm2d(features),
        "tracked instance": lambda: nn.InstanceNorm2d(features, track_running_stats=True),
        "none": nn.Identity,
    }[kind]()


class Model(nn.Module):
    """Everything is under `model`."""

    def __init__(self, model: nn.Module, skips: bool = False) -> None:
        super().__init__()
        self.model = model
        self.skips = skips

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.model(x)], 1) if self.skips else self.model(x)


class ConvBlock(nn.Module):
    def __init__(self, width: int, norm: str, dropout: bool, bias: bool) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm_of(norm, width), nn.ReLU(),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), norm_of(norm, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def has_bias(norm: str) -> bool:
    return norm not in ("batch", "none")


def resnet(a: int, b: int, width: int, blocks: int, norm: str, dropout: bool) -> nn.Module:
    bias = has_bias(norm)
    layers: list[nn.Module] = [
        nn.ReflectionPad2d(3),
        nn.Conv2d(a, width, 7, bias=bias),
        norm_of(norm, width),
        nn.ReLU(),
    ]
    for w in (width, 2 * width):
        layers += [nn.Conv2d(w, 2 * w, 3, 2, 1, bias=bias), norm_of(norm, 2 * w), nn.ReLU()]
    layers += [ConvBlock(4 * width, norm, dropout, bias) for _ in range(blocks)]
    for w in (2 * width, width):
        layers += [nn.ConvTranspose2d(2 * w, w, 3, 2, 1, 1, bias=bias), norm_of(norm, w), nn.ReLU()]
    return Model(nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, b, 7), nn.Tanh()))


def unet(a: int, b: int, width: int, depth: int, norm: str, dropout: bool) -> nn.Module:
    bias, wide = has_bias(norm), 8 * width
    down = nn.Conv2d(wide, wide, 4, 2, 1, bias=bias)
    up = nn.ConvTranspose2d(wide, wide, 4, 2, 1, bias=bias)
    inner = Model(nn.Sequential(nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm_of(norm, wide)), skips=True)
    outer = [(wide, wide, dropout)] * (depth - 5) + [(wide // (2 * k), wide // k, False) for k in (1, 2, 4)]
    for few, many, drops in outer:
        down = nn.Conv2d(few, many, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(2 * many, few, 4, 2, 1, bias=bias)
        layers = [nn.LeakyReLU(0.2), down, norm_of(norm, many), inner, nn.ReLU(), up, norm_of(norm, few)]
        inner = Model(nn.Sequential(*layers, *([nn.Dropout(0.5)] if drops else [])), skips=True)
    first, last = nn.Conv2d(a, width, 4, 2, 1, bias=bias), nn.ConvTranspose2d(2 * width, b, 4, 2, 1)
    return Model(Model(nn.Sequential(first, inner, nn.ReLU(), last, nn.Tanh())))


def trained(network: nn.Module) -> nn.Module:
    """With weights, statistics and biases that are nowhere what they start as, and outputs in the middle of tanh."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                inputs = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.weight[:, 0].numel() / 4
                module.weight.normal_(0, inputs**-0.5)
                if module.bias is not None:
                    module.bias.normal_(0, 0.3)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.3)
            if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.num_batches_tracked.fill_(7)
    return network


KINDS: dict[str, tuple[Callable[..., nn.Module], int, list[int]]] = {
    "resnet 6": (resnet, 6, [64, 128]),
    "resnet 9": (resnet, 9, [64]),
    "unet 128": (unet, 7, [128]),
    "unet 256": (unet, 8, [256]),
    "unet 64": (unet, 6, [64, 128]),
}
NORMS = ["instance", "tracked instance", "batch", "biased batch", "none"]


def gap(ours: Tensor, theirs: Tensor) -> float:
    assert theirs.std() > 0.05, "an output that tanh has flattened compares nothing"
    return float((ours - theirs).abs().max())
