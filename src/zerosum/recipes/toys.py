"""Recipes for 2-D mixtures, where the right answer is known."""

from __future__ import annotations

from zerosum.data.spec import Data
from zerosum.recipes.base import from_settings
from zerosum.run import Run


def ring(algorithm: str = "r3gan") -> Run:
    """Eight Gaussians on a ring of radius 2, with any algorithm's own toy settings."""
    return from_settings(algorithm, Data(source="ring"), toy=True)
