"""What a feature extractor is: images to numbers that mean something, and everything a result must say about it."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from zerosum.data.loader import scale
from zerosum.data.picture import render_all

CHUNK = 64

Told = Callable[[int, int], None]
"""How far a piece of work is: done, of how many."""


class Extractor(ABC):
    """From values to features: uint8 (n, C, H, W) images, or float32 (n, d) points, to float32 (n, dimensions).

    Calling one works in padded chunks of CHUNK, on the CPU, without gradients: the features of a value do not depend
    on how many are asked for, nor on what stands beside it. Networks are in eval mode.
    """

    def __init__(self, name: str, weights: str, *, weak: bool, dimensions: int, preparation: str) -> None:
        self.name = name
        self.weights = weights
        """SHA-256 of its weights, hex."""
        self.weak = weak
        """Sees texture and layout, not meaning: results must say so."""
        self.dimensions = dimensions
        self.preparation = preparation
        """How an image is brought to size and range, in words."""

    @property
    def key(self) -> str:
        """SHA-256 over name, weights and preparation: with the images' own hash, the address of their features."""
        text = json.dumps([self.name, self.weights, self.preparation, self.dimensions])
        return hashlib.sha256(text.encode()).hexdigest()

    @torch.no_grad()
    def __call__(self, values: np.ndarray, told: Told | None = None) -> Tensor:
        """Features float32 (n, dimensions), one row a value, in order; all of them, the last few too."""
        out = torch.empty(len(values), self.dimensions)
        for start in range(0, len(values), CHUNK):
            part = np.array(values[start : start + CHUNK])  # a copy: what comes from a file may be read-only
            count = len(part)
            if count < CHUNK:
                part = np.concatenate((part, np.zeros((CHUNK - count, *part.shape[1:]), part.dtype)))
            out[start : start + count] = self.extract(part)[:count]
            if told:
                told(start + count, len(values))
        return out

    @abstractmethod
    def extract(self, values: np.ndarray) -> Tensor:
        """The features of one chunk: values (CHUNK, C, H, W) uint8 or (CHUNK, d) float32."""


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, hex, over names, types, shapes and values of some weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def unit(values: np.ndarray) -> Tensor:
    """A chunk as float32: images scaled to [-1, 1], points as they are."""
    return scale(values, torch.float32, torch.device("cpu"))


def resized(values: np.ndarray, channels: int, side: int) -> np.ndarray:
    """Images uint8 (n, C, H, W) stretched to (n, channels, side, side) uint8: bicubic, with antialiasing.

    From 8 bits to 8 bits by `data.picture`, the one home of resizing (Parmar et al. 2022, arXiv:2104.11222). Alpha is
    laid on white; grey becomes three equal channels.
    """
    return render_all(values, (channels, side, side), "stretch")
