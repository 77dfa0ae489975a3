"""A network that is given the class as one more input (Mirza and Osindero 2014, arXiv:1411.1784, sec. 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zerosum.networks.blocks import one_hot, required

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Beside(nn.Module):
    """Joins the class to what comes in: a one-hot vector to vectors, as many planes of ones and zeros to images.

    `network` is built for so many more inputs or channels, and knows of no classes.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network = network
        self.classes = classes

    def forward(self, x: Float[Tensor, "n i ..."], label: Int[Tensor, " n"] | None = None) -> Any:
        y = one_hot(required(label), self.classes, x)
        if x.dim() == 4:
            y = y[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.network(torch.cat([x, y], 1))
