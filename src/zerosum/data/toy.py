"""Mixtures of Gaussians in the plane, where the right answer is known: what a GAN covers can be counted.

The ring of eight and the grid of 25 are the sets on which mode collapse is usually shown (Metz et al. 2016,
arXiv:1611.02163; Srivastava et al. 2017, arXiv:1705.07761). Points are float32 (N, 2) in raw coordinates.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

POINTS = 100_000
RING_RADIUS, RING_SIGMA = 2.0, 0.1
GRID_SPACING, GRID_SIGMA = 2.0, 0.05
MOONS_SIGMA = 0.1

Modes = tuple[np.ndarray, float]  # centres (k, 2) float64, and the standard deviation along each axis


def ring_modes() -> Modes:
    """Eight centres evenly spaced on a circle of radius 2, the first at angle 0; sigma 0.1."""
    angle = 2 * math.pi * np.arange(8) / 8
    return RING_RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1), RING_SIGMA


def grid_modes() -> Modes:
    """25 centres, {-4, -2, 0, 2, 4} squared; sigma 0.05."""
    steps = GRID_SPACING * (np.arange(5) - 2)
    x, y = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64), GRID_SIGMA


def draw(name: str, split: str, count: int = POINTS) -> np.ndarray:
    """`count` points of 'ring', 'grid' or 'moons', (count, 2) float32; each split is its own draw."""
    digest = hashlib.blake2b(f"0/toy/{name}/{split}".encode(), digest_size=16).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
    if name == "moons":
        centres, sigma = (
            _two_arcs(random.random(count) * math.pi, random.integers(2, size=count)),
            MOONS_SIGMA,
        )
    else:
        modes, sigma = ring_modes() if name == "ring" else grid_modes()
        centres = modes[random.integers(len(modes), size=count)]
    return (centres + sigma * random.standard_normal((count, 2))).astype(np.float32)


def _two_arcs(angle: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Points of the upper half circle round (0, 0), or of the lower one round (1, 1/2)."""
    sign = 1 - 2 * lower
    return np.stack([lower + sign * np.cos(angle), 0.5 * lower + sign * np.sin(angle)], axis=1)


def mode_report(samples: np.ndarray, centres: np.ndarray, sigma: float, share: float = 0.02) -> tuple[int, float]:
    """How many modes the samples (n, d) cover, and the share of samples that lie in any mode.

    A sample lies in a mode if it is within 3 sigma of its centre; a mode counts as covered if at least
    `share` of all samples lie in it. (In the plane a perfect sampler has 1 - exp(-9/2) = 98.9 % of its
    samples within 3 sigma.) A sample that is not finite lies in no mode.
    """
    squared = ((samples[:, None, :].astype(np.float64) - centres[None]) ** 2).sum(axis=2)
    inside = squared <= (3 * sigma) ** 2
    return int((inside.mean(axis=0) >= share).sum()), float(inside.any(axis=1).mean())
