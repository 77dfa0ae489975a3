"""Networks that are born small and double (Karras et al. 2017, arXiv:1710.10196, sec. 2)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


class Growing(nn.Module, ABC):
    """A network of `stages` doublings, all allocated from the start and those not yet born left out.

    `grown` says how many there are: 2.25 is two, and a third faded in by a quarter. It is whole unless `grow` says
    otherwise, and a buffer, so that checkpoints and averages have it. The integers beside it decide what is computed,
    for a device is not to be asked in every forward.
    """

    grown: Tensor
    alpha: Tensor
    base: tuple[int, ...]
    """(..., height, width) of the smallest size's features: of its pixels, where none are folded."""

    def __init__(self, stages: int, folds: int = 0) -> None:
        super().__init__()
        self.stages, self.folds = stages, folds
        self.register_buffer("grown", torch.zeros(()))
        self.register_buffer("alpha", torch.zeros(()), persistent=False)
        self.grow(float(stages))
        self.register_load_state_dict_post_hook(_regrow)

    @property
    def complete(self) -> bool:
        """Whether all doublings are there, the last one faded in."""
        return self.size == self.stages

    def grow(self, grown: float) -> None:
        """Have so many doublings, from 0 to `stages`."""
        if not 0 <= grown <= self.stages:
            raise ValueError(f"grown={grown}: from 0 to {self.stages}")
        self.size = float(np.float32(grown))  # what the buffer holds, so that a checkpoint brings back the same alpha
        self.born = math.ceil(self.size)
        self.fading = self.size < self.born
        with torch.no_grad():
            self.grown.fill_(self.size)
            self.alpha.fill_(self.size - self.born + 1)

    @abstractmethod
    def newest(self) -> Iterator[nn.Parameter]:
        """The parameters of the doubling that is fading in; none where none is."""

    def fade(self, old: Tensor, new: Tensor) -> Tensor:
        """(1 - alpha) old + alpha new: at 0 exactly the old, at 1 exactly the new."""
        return torch.lerp(old, new, self.alpha.to(new.dtype))

    def shrunk(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c a b"]:
        """Images of the final size, or of the present one, at the present one: means of pixels."""
        times = x.shape[2] // (self.base[-2] << self.born + self.folds)
        return F.avg_pool2d(x, times) if times > 1 else x

    def faded(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c a b"]:
        """Real images as they are shown at this age: between two sizes while one fades in (sec. 2, figure 2)."""
        x = self.shrunk(x)
        return self.fade(doubled(F.avg_pool2d(x, 2)), x) if self.fading else x


def doubled(x: Float[Tensor, "n c h w"], times: int = 1) -> Float[Tensor, "n c a b"]:
    """Each pixel twice a side, so many times."""
    return F.interpolate(x, scale_factor=float(2**times)) if times else x


def _regrow(network: nn.Module, _: Any) -> None:
    """What the loaded buffer says, the integers say too."""
    assert isinstance(network, Growing)
    network.grow(float(network.grown))
