"""Recipes for 2-D mixtures, where the right answer is known."""

from __future__ import annotations

from zerosum.data.spec import Data
from zerosum.recipes.base import from_settings
from zerosum.run import Run


def ring(algorithm: str = "r3gan") -> Run:
    """Eight Gaussians on a ring of radius 2, with any algorithm's own toy settings (`zerosum bench ring`, 3 seeds).

    R3GAN: 8 modes and 96.5 % of samples within 3 sigma in 20 s of one AMD EPYC core; WGAN-GP: 8, 95.6 %, 22 s.
    """
    return from_settings(algorithm, Data(source="ring"), toy=True)
