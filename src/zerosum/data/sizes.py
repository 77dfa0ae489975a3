"""Which sizes a network takes that halves an image several times: the one home of that rule.

Without `stages`, an image is halved the largest k times for which min(H, W) / 2^k >= 4, and at least once. 2^k must
divide height and width, which need not be equal.
"""

from __future__ import annotations

SMALLEST = 4  # pixels: below, there is nothing left to halve


def halvings(height: int, width: int, stages: int | None = None) -> int:
    """How many times an image of this size is halved: `stages`, if given."""
    return stages or max((min(height, width) // SMALLEST).bit_length() - 1, 1)


def takes(height: int, width: int, stages: int | None = None) -> bool:
    """Whether an image of this size can be halved so."""
    step = 2 ** halvings(height, width, stages)
    return min(height, width) >= SMALLEST and height % step == 0 and width % step == 0


def larger(height: int, width: int, stages: int | None = None) -> tuple[int, int]:
    """The nearest size that is taken and not smaller. Rounding can change the number of halvings: until it settles."""
    height, width = max(height, SMALLEST), max(width, SMALLEST)
    while not takes(height, width, stages):
        step = 2 ** halvings(height, width, stages)
        height, width = -(-height // step) * step, -(-width // step) * step
    return height, width


def smaller(height: int, width: int, stages: int | None = None) -> tuple[int, int] | None:
    """The nearest size that is taken and not larger, or None where there is none."""
    while not takes(height, width, stages):
        step = 2 ** halvings(height, width, stages)
        if min(height, width) < max(step, SMALLEST):
            return None
        height, width = height // step * step, width // step * step
    return height, width


def nearer(height: int, width: int, a: tuple[int, int], b: tuple[int, int] | None) -> tuple[int, int]:
    """Which of two sizes changes height and width by fewer pixels; `a` of equals."""
    sizes = [a] if b is None else [a, b]
    return min(sizes, key=lambda size: abs(size[0] - height) + abs(size[1] - width))
