"""DiffAugment: what each policy does to an image, that gradients pass, and that D alone sees it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zerosum.data.augment import POLICIES, Policy, augment


def images(channels: int = 3, n: int = 64, size: tuple[int, int] = (16, 8)) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(n, channels, *size) * 2 - 1


def test_nothing_asked_is_nothing_done() -> None:
    x = images()
    assert augment(x, ()) is x


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("policy", POLICIES)
def test_each_image_draws_for_itself_and_the_seed_decides(policy: Policy, channels: int) -> None:
    x = images(channels, 1).expand(64, -1, -1, -1)
    torch.manual_seed(1)
    first = augment(x, (policy,))
    torch.manual_seed(1)
    assert torch.equal(augment(x, (policy,)), first)
    assert len({tuple(image.flatten().tolist()) for image in first}) > 10
    assert first.shape == x.shape


def test_colour_is_one_affine_map_an_image_on_grey() -> None:
    """On one channel saturation does nothing: brightness, then contrast about the mean."""
    x = images(1)
    y = augment(x, ("colour",))
    centred, moved = x - x.mean((1, 2, 3), keepdim=True), y - y.mean((1, 2, 3), keepdim=True)
    factor = (moved * centred).sum((1, 2, 3)) / centred.square().sum((1, 2, 3))
    torch.testing.assert_close(moved, factor[:, None, None, None] * centred, atol=1e-5, rtol=1e-4)
    assert 0.5 <= float(factor.min()) < 0.6
    assert 1.4 < float(factor.max()) <= 1.5
    shift = (y - x).mean((1, 2, 3))
    assert float(shift.abs().max()) <= 0.5
    assert float(shift.min()) < -0.3 < 0.3 < float(shift.max())


def test_saturation_keeps_each_pixels_grey() -> None:
    grey = images(1).expand(-1, 3, -1, -1)
    y = augment(grey, ("colour",))
    torch.testing.assert_close(y, y.mean(1, keepdim=True).expand_as(y), atol=1e-5, rtol=0.0)


def test_colour_leaves_alpha_alone() -> None:
    x = images(4)
    y = augment(x, ("colour",))
    assert torch.equal(y[:, 3], x[:, 3])
    assert not torch.equal(y[:, :3], x[:, :3])


def test_each_image_of_a_pair_has_colours_of_its_own_and_they_move_together() -> None:
    x = images(5)  # grey with one of colour and alpha on it
    torch.manual_seed(0)
    y = augment(x, ("colour",), (1, 4))
    torch.manual_seed(0)
    assert torch.equal(y[:, :1], augment(x[:, :1], ("colour",)))
    assert torch.equal(y[:, 1:], augment(x[:, 1:], ("colour",)))
    assert torch.equal(y[:, 4], x[:, 4])
    twice = x[:, :1].repeat(1, 2, 1, 1)
    for policy in ("translation", "cutout"):
        moved = augment(twice, (policy,), (1, 1))
        assert torch.equal(moved[:, 0], moved[:, 1])


def test_translation_moves_by_whole_pixels_up_to_an_eighth_and_fills_with_black() -> None:
    x = images(2, 200)
    y = augment(x, ("translation",))
    found = set()
    for before, after in zip(x, y, strict=True):
        for down in range(-2, 3):
            for across in range(-1, 2):
                rolled = before.roll((down, across), (1, 2))
                if down:
                    rolled[:, slice(None, down) if down > 0 else slice(down, None)] = -1.0
                if across:
                    rolled[:, :, slice(None, across) if across > 0 else slice(across, None)] = -1.0
                if torch.equal(rolled, after):
                    found.add((down, across))
                    break
            else:
                continue
            break
        else:
            raise AssertionError("no shift makes this image")
    assert found == {(down, across) for down in range(-2, 3) for across in range(-1, 2)}


def test_translation_is_undone_in_what_stayed_in_sight() -> None:
    """Of coordinates as channels, which say by how much."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(8.0), indexing="ij")
    places = torch.stack([rows, columns])
    x = torch.cat([images(1, 200), places.expand(200, -1, -1, -1)], 1)
    for before, after in zip(x, augment(x, ("translation",)), strict=True):
        inside = after[1] >= 0  # what comes in is -1
        moved = places[:, inside] - after[1:, inside]
        assert torch.equal(moved, moved[:, :1].expand_as(moved)), "all pixels alike"
        down, across = (int(shift) for shift in moved[:, 0])
        back = after.roll((-down, -across), (1, 2))
        kept = back[1] >= 0
        assert torch.equal(back[:, kept], before[:, kept])
        assert int(kept.sum()) == (16 - abs(down)) * (8 - abs(across))


def test_colour_can_be_undone() -> None:
    """Contrast keeps an image's mean and saturation each pixel's grey, and no value is clipped: nothing is lost."""
    x = images(3, 200).double()
    torch.manual_seed(4)
    y = augment(x, ("colour",))
    torch.manual_seed(4)  # the same numbers, in their order
    ranges = (-0.5, 0.5), (0.0, 2.0), (0.5, 1.5)
    brightness, saturation, contrast = (
        torch.empty(200, 1, 1, 1, dtype=torch.float64).uniform_(low, high) for low, high in ranges
    )
    mean = y.mean((1, 2, 3), keepdim=True)
    saturated = mean + (y - mean) / contrast
    grey = saturated.mean(1, keepdim=True)
    brightened = grey + (saturated - grey) / saturation
    torch.testing.assert_close(brightened - brightness, x)
    assert float(y.abs().max()) > 1, "beyond what an image holds"


def test_cutout_blackens_one_rectangle_of_half_the_sides() -> None:
    x = images(3, 300)
    hidden = (augment(x, ("cutout",)) == -1.0).all(1)  # (n, h, w)
    rows, columns = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None, :])
    heights, widths = rows.sum(1), columns.sum(1)
    assert int(heights.max()) == 8
    assert int(widths.max()) == 4
    assert int(heights.min()) >= 4, "its middle lies within the image"
    assert int(widths.min()) >= 2
    assert bool(hidden.any(0).all()), "every pixel is hidden at times"


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_pass(policy: Policy) -> None:
    x = images(3, 2).double().requires_grad_()

    def fixed(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augment(x, (policy,))

    assert torch.autograd.gradcheck(fixed, x[:, :, :4, :4])
    assert torch.autograd.gradgradcheck(fixed, x[:, :, :4, :4])
