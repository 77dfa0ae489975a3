"""The classifier that a semi-supervised game leaves behind: its critic, with averaged weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import sample
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.metrics.features.base import CHUNK, unit


class _Classes(nn.Module):
    """Images (n, C, H, W) in [-1, 1] -> class logits (n, K), of a critic that ends in `ClassesOrFake`."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(x, None, True)[0]


@dataclass(frozen=True, eq=False)
class Trained:
    """A classifier by its run: `network` maps images in [-1, 1] to logits of `class_names`."""

    network: nn.Module
    class_names: tuple[str, ...]
    spec: Spec
    images_seen: int

    @torch.no_grad()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of each class, float64 (n, K), from images uint8 (n, C, H, W)."""
        parts = [self.network(unit(images[i : i + CHUNK])).double().softmax(1) for i in range(0, len(images), CHUNK)]
        return torch.cat(parts).numpy()


def load(path: Path, which: str = "last") -> Trained:
    """The classifier of a run of --algorithm ssgan. UserError if the run has none."""
    recipe, run, saved = sample.stored(path, which)
    if run.algorithm.labels != "critic":
        name = type(run.algorithm).__name__
        raise UserError(f"{path}: {name} trains no classifier; zerosum train DATA --algorithm ssgan does")
    spec = sample.spec_of(recipe["data"])
    critic = sample.averaged(run.algorithm.players(spec)["D"], saved, "D")
    return of_critic(critic, tuple(recipe["data"]["class_names"]), spec, saved.images_seen)


def of_critic(critic: nn.Module, class_names: tuple[str, ...], spec: Spec, images_seen: int) -> Trained:
    """Of a critic that ends in `networks.ClassesOrFake`."""
    return Trained(_Classes(critic).eval(), class_names, spec, images_seen)
