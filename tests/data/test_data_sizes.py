"""The sizes that halving networks take."""

from __future__ import annotations

import pytest

from zerosum.data import sizes


@pytest.mark.parametrize("stages", [None, 1, 3])
def test_the_nearest_sizes_are_the_nearest(stages: int | None) -> None:
    """Against a search of all sizes: nothing that is taken lies between an image and its advice."""
    side = 48
    taken = [(h, w) for h in range(1, 2 * side) for w in range(1, 2 * side) if sizes.takes(h, w, stages)]
    for height in range(1, side, 3):
        for width in range(1, side, 2):
            up, down = sizes.larger(height, width, stages), sizes.smaller(height, width, stages)
            above = [size for size in taken if size[0] >= height and size[1] >= width]
            below = [size for size in taken if size[0] <= height and size[1] <= width]
            assert up in above
            assert (down in below) if below and down else down is None
            if stages is not None:  # the multiples of one number: then the nearest is the same on both sides
                assert up == min(above)
                assert down == (max(below) if below else None)


def test_what_cannot_be_halved_has_nothing_below() -> None:
    assert sizes.smaller(3, 100) is None
    assert sizes.larger(3, 3) == (4, 4)
    assert sizes.smaller(20, 20, 5) is None
    assert sizes.larger(20, 20, 5) == (32, 32)
    assert sizes.smaller(176, 256) == (160, 256)  # five halvings
