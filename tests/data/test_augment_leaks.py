"""Augmentation does not leak into samples: behind it, images that were changed already differ from those that were not.

G has nothing more to learn when T(G(z)) is distributed as T(x). So a T leaks if T(T(x)) is distributed as T(x), whoever
D is; if it is not, a G that draws changed images is found out. Here x is one image and T(x) many draws of it. Two sets
are compared by the means of their pixels and of the squares of those.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from zerosum.data.adaptive import FAMILIES, MOST, Family, transformed
from zerosum.data.augment import POLICIES, Policy, augment

DRAWS = 40_000
# In standard errors. Of one distribution their mean square is 1, and even where all pixels move as one, which is when
# they spread most, they are more than 4 in one case of 16,000.
SAME, APART = 4.0, 8.0


def standard_errors(x: Tensor, y: Tensor) -> float:
    """How far two sets (n, c, h, w) are apart in the means of pixels and of their squares, in standard errors."""
    first, second = (torch.cat([t.flatten(1), t.flatten(1).square()], 1) for t in (x, y))
    squared = (first.mean(0) - second.mean(0)).square().sum()
    expected = first.var(0).sum() / len(first) + second.var(0).sum() / len(second)
    return float((squared / expected).sqrt())


def behind(change: Callable[[Tensor], Tensor], image: Tensor) -> list[float]:
    """How far T(G(z)) is from T(x), if none, half and all of what G draws is changed already."""
    torch.manual_seed(0)
    real = image.expand(DRAWS, -1, -1, -1)
    found = []
    for share in (0.0, 0.5, 1.0):
        drawn = torch.where(torch.rand(DRAWS, 1, 1, 1) < share, change(real), real)
        found.append(standard_errors(change(real), change(drawn)))
    return found


def even(value: float, size: int = 8) -> Tensor:
    """An image of one value, (1, 1, size, size)."""
    return torch.full((1, 1, size, size), value, dtype=torch.float64)


def dots(*rows: int) -> Tensor:
    """An image for each of these rows, with one white pixel there, in the middle of its width: (rows, 1, 8, 8)."""
    x = even(-1.0).repeat(len(rows), 1, 1, 1)
    for image, row in zip(x, rows, strict=True):
        image[0, row, 4] = 1.0
    return x


def light_above() -> Tensor:
    """White above and black below, (1, 1, 4, 4): so small that blits move it by less than half a pixel, by none."""
    x = even(1.0, 4)
    x[:, :, 2:] = -1.0
    return x


def coloured() -> Tensor:
    """Pixels of many colours, from -0.5 to 0.5: (1, 3, 4, 4)."""
    return torch.rand(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5


def turned(x: Tensor, p: float) -> Tensor:
    """Each image (c, h, h) with probability p by a quarter turn that is drawn evenly, none among them."""
    quarters = torch.where(torch.rand(len(x)) < p, torch.randint(4, (len(x),)), 0)
    return torch.stack([torch.rot90(x, k, (2, 3)) for k in range(4)])[quarters, torch.arange(len(x))]


# ---- what does not leak --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "image"),
    [(("colour",), coloured()), (("translation",), dots(4)), (("cutout",), even(1.0)), (POLICIES, even(0.5))],
    ids=["colour", "translation", "cutout", "all"],
)
def test_no_policy_of_diffaugment_leaks(policies: tuple[Policy, ...], image: Tensor) -> None:  # trap 27
    """By hand, if all is changed already: 26 standard errors (translation: a dot is in 25 places in place of 9), 48
    (cutout: two rectangles), some 35 (colour: brightness alone has twice its variance) and 40 (all three); of half of
    it half as many.
    """
    none, half, all_of_it = behind(lambda x: augment(x, policies), image)
    assert none < SAME
    assert half > APART
    assert all_of_it > half


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_of_ada_leaks_at_the_most_that_p_may_be(family: Family) -> None:  # trap 27
    """By hand, if all is changed already: 23 standard errors (blit: light above is left in 0.2 of T(x) more than light
    below, and in 0.04 of T(T(x))), and about as many of the others.
    """
    none, half, all_of_it = behind(lambda x: transformed(x, MOST, (family,)), light_above())
    assert none < SAME
    assert half > APART
    assert all_of_it > half


# ---- what does, so that it would be seen ---------------------------------------------------------------------------


def test_a_quarter_turn_in_every_image_leaks() -> None:  # trap 27
    """Turned twice is as turned once: no G can be told from another, until some images are left as they are."""
    assert max(behind(lambda x: turned(x, 1.0), light_above())) < SAME
    none, half, all_of_it = behind(lambda x: turned(x, MOST), light_above())
    assert none < SAME
    assert half > APART
    assert all_of_it > half


def test_ada_would_leak_if_p_were_all() -> None:  # trap 27
    """The same of blits, for which p stays below: at the most that it may be they are told apart (above)."""
    assert max(behind(lambda x: transformed(x, 1.0, ("blit",)), light_above())) < SAME


def test_a_move_drawn_evenly_hides_places_that_come_again() -> None:
    """What translation cannot say, as docs/augmentation.md has it: rows 0, 3 and 6, moved by one row or none, are rows
    0 to 7 and out of sight, each as often; so are rows 1, 4 and 7.
    """
    torch.manual_seed(0)
    one, other = (dots(*rows).repeat(DRAWS // 3, 1, 1, 1) for rows in ((0, 3, 6), (1, 4, 7)))
    assert standard_errors(one, other) > APART
    assert standard_errors(augment(one, ("translation",)), augment(other, ("translation",))) < SAME
