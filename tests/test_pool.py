"""The image pool: what it shows, what it keeps, and that it is the same on every rank and after a restart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.pool import Pool
from zerosum.randomness import uniform


def slow(size: int, fakes: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Zhu et al. 2017, sec. 4, one image after the other: what is shown, and what is kept in the end."""
    kept: list[Tensor] = []
    shown = []
    for fake, chance in zip(fakes, u.tolist(), strict=True):
        if len(kept) < size:
            kept.append(fake)
            shown.append(fake)
        elif chance < 0.5:
            place = int(2 * chance * size)
            shown.append(kept[place])
            kept[place] = fake
        else:
            shown.append(fake)
    return torch.stack(shown), torch.stack(kept)


def numbered(count: int) -> Tensor:
    return torch.arange(1.0, count + 1)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_it_is_the_papers_pool_whatever_the_batch(batch: int) -> None:
    fakes, u = numbered(48), uniform(0, "u", 0, 48)[:, 0].float()
    pool = Pool(10, (1, 2, 2))
    shown = [pool(f, v) for f, v in zip(fakes.split(batch), u.split(batch), strict=True)]
    expected, kept = slow(10, fakes, u)
    assert torch.equal(torch.cat(shown), expected)
    assert torch.equal(pool.images, kept)
    assert int(pool.filled) == 10
    old = (torch.cat(shown) != fakes).any((1, 2, 3))[10:]
    assert 0.3 < float(old.float().mean()) < 0.7, "half of them are older ones"


def test_what_it_shows_is_a_copy() -> None:  # trap 32
    pool = Pool(2, (1, 2, 2))
    fakes = numbered(2)
    shown = pool(fakes, torch.tensor([0.9, 0.9]))
    shown.zero_()
    fakes.zero_()
    assert torch.equal(pool.images, numbered(2))
    older = pool(numbered(1) * 9, torch.tensor([0.1]))
    older.zero_()
    assert pool.images.flatten().tolist() == [9.0] * 4 + [2.0] * 4


def test_a_fake_that_is_not_finite_does_not_stay() -> None:
    pool = Pool(2, (1, 2, 2))
    broken, u = torch.full((1, 1, 2, 2), torch.nan), torch.tensor([0.1])
    pool(broken, u)
    assert int(pool.filled) == 0, "nor does it take a place that another could fill"
    pool(numbered(2), torch.tensor([0.9, 0.9]))
    shown = pool(broken, u)
    assert torch.equal(shown, numbered(1))
    assert torch.equal(pool.images, numbered(2))


def test_none_is_kept_where_none_is_wanted() -> None:
    fakes = numbered(3)
    assert torch.equal(Pool(0, (1, 2, 2))(fakes, torch.rand(3)), fakes)
    with pytest.raises(UserError, match=r"--algorithm\.pool -1: must be 0 or more"):
        Pool(-1, (1, 2, 2))
