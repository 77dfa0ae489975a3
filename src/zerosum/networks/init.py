"""How weights start. Everything is drawn from torch's global generator, which the trainer seeds.

Symbols: a layer's fan-in is the number of inputs that one of its outputs sums over.
"""

from __future__ import annotations

import math
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def leaky_gain(slope: float) -> float:
    """sqrt(2 / (1 + slope^2)): what keeps the second moment across a LeakyReLU (He et al. 2015, eq. 15).

    `slope` is the factor below zero: 0 is ReLU, 1 the identity.
    """
    return math.sqrt(2 / (1 + slope**2))


def scaled_(layer: Layer, gain: float = 1.0) -> Layer:
    """Weights from N(0, gain^2 / fan-in), biases 0; returns the layer (He et al. 2015, arXiv:1502.01852).

    Unit-variance inputs give outputs of variance gain^2. A gain of 0 gives a layer that starts at zero.
    """
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def radford_(network: nn.Module) -> None:
    """Weights from N(0, 0.02), BatchNorm scales, by class or not, from N(1, 0.02), biases 0 (Radford et al. 2015)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, getattr(module, "mean", 0.0), 0.02)
        elif isinstance(module, _BatchNorm) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
