"""Equalised learning rate (Karras et al. 2017, arXiv:1710.10196, sec. 4.1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from jaxtyping import Float

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.Embedding)


class Equalised(nn.Module):
    """A parametrization: forward(weight) -> weight * scale, He's constant at run time.

    Adam's step does not depend on a parameter's scale, so that one that is stored with variance 1 learns as quickly,
    relative to what it does, in every layer.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
        return weight * self.scale


def equalised(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights from N(0, 1), used as gain / sqrt(fan-in) times that; biases 0.

    Of an embedding that is projected on features (sec. 3 of Miyato & Koyama 2018) fan-in is their number.
    """
    nn.init.normal_(layer.weight)
    if not isinstance(layer, nn.Embedding) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
    parametrize.register_parametrization(layer, "weight", Equalised(gain / math.sqrt(layer.weight[0].numel())))
    return layer
