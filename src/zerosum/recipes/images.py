"""Recipes for small images, sized for two processor cores."""

from __future__ import annotations

from dataclasses import replace

from zerosum.data.spec import Data
from zerosum.recipes.base import cadence, from_settings
from zerosum.run import Run


def digits() -> Run:
    """scikit-learn's 8x8 handwritten digits, unconditional."""
    run = from_settings("r3gan", Data(source="digits"))
    images = 200_000
    return replace(run, images=images, **cadence(images))


def fashion_mnist_dcgan() -> Run:
    """Fashion-MNIST at 28x28 with the DCGAN, 5 minutes."""
    return replace(from_settings("dcgan", Data(source="fashion-mnist")), minutes=5.0)


def fashion_mnist_r3gan() -> Run:
    """Fashion-MNIST at 28x28 with R3GAN, 10 minutes."""
    return replace(from_settings("r3gan", Data(source="fashion-mnist")), minutes=10.0)
