"""Side A from photos: what each function must draw, and must not."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from drawn import noise, smooth
from PIL import Image
from scipy import ndimage

from zerosum.data import making
from zerosum.data.spec import Made
from zerosum.errors import UserError

KINDS = get_args(Made)


def disc(size: int = 64, radius: float = 20.0, inside: int = 200, outside: int = 60) -> np.ndarray:
    """A disc in colour, (3, size, size), with a soft rim as lenses give it."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    share = np.clip(radius - np.hypot(y, x) + 0.5, 0, 1)
    return np.round(outside + (inside - outside) * share).astype(np.uint8)[None].repeat(3, axis=0)


def ink(drawing: np.ndarray) -> np.ndarray:
    assert set(np.unique(drawing)) <= {0, 255}
    return drawing[0] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 33, 20), (4, 7, 50), (3, 1, 1)])
def test_shapes_types_and_repetition(kind: Any, shape: tuple[int, int, int]) -> None:
    photo = noise(*shape)
    before = photo.copy()
    made = making.make(kind, photo)
    assert made.shape == (making.channels(kind, shape[0]), *shape[1:])
    assert made.dtype == np.uint8
    assert made.flags.writeable
    assert np.array_equal(made, making.make(kind, photo))
    assert np.array_equal(photo, before)


@pytest.mark.parametrize("kind", ["edges", "scribble"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_flat_photo_is_white_paper(kind: Any, channels: int) -> None:
    assert (making.make(kind, np.full((channels, 32, 32), 90, np.uint8)) == 255).all()


def test_the_edge_of_a_disc_is_a_thin_closed_ring() -> None:
    found = ink(making.edges(disc()))
    y, x = np.nonzero(found)
    assert np.abs(np.hypot(y - 31.5, x - 31.5) - 20).max() < 1.5
    angles = np.sort(np.arctan2(y - 31.5, x - 31.5))
    assert np.diff(angles).max() < 0.2, "no gap"
    assert found.sum() < 1.3 * 2 * np.pi * 20, "one pixel wide"


def test_edges_of_a_turned_photo_are_turned() -> None:
    photo = np.asarray(smooth(48, 48, seed=3)).transpose(2, 0, 1)
    upright = ink(making.edges(photo))
    assert upright.any()
    turned = ink(making.edges(np.ascontiguousarray(np.rot90(photo, axes=(1, 2)))))
    assert (np.rot90(turned, -1) == upright).mean() > 0.99


def test_faint_noise_draws_nothing_and_a_border_is_no_edge() -> None:
    photo = (128 + noise(3, 64, 64) % 4).astype(np.uint8)
    assert not ink(making.edges(photo)).any()
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, None].repeat(64, axis=1).repeat(3, axis=0)
    for one in (ramp, ramp.transpose(0, 2, 1)):
        found = ink(making.edges(np.ascontiguousarray(one)))
        assert not found[[0, -1]].any()
        assert not found[:, [0, -1]].any()


def test_colours_of_one_brightness_have_an_edge() -> None:
    photo = np.empty((3, 32, 32), np.uint8)
    photo[:, :, :16] = np.array([200, 60, 60])[:, None, None]
    photo[:, :, 16:] = np.array([50, 130, 110])[:, None, None]
    brightness = making.grey(photo)
    assert abs(int(brightness[0, 0, 0]) - int(brightness[0, 0, -1])) <= 2
    assert ink(making.edges(photo))[:, 14:18].any(axis=1).mean() > 0.9


def test_weak_edges_live_where_they_are_joined_to_strong_ones() -> None:
    photo = np.full((1, 64, 64), 100, np.uint8)
    photo[:, 10:54, 30:] = np.linspace(112, 220, 44).astype(np.uint8)[:, None]  # a step that grows along its line
    photo[:, 60, 5:25] = 106  # a faint line by itself
    found = ink(making.edges(photo))
    assert found[20:54, 28:32].any(axis=1).all()
    assert not found[57:64, 4:26].any()


def test_grey_is_luma() -> None:
    photo = noise(3, 9, 9)
    luma = np.tensordot([0.299, 0.587, 0.114], photo.astype(float), 1)
    assert np.abs(making.grey(photo)[0] - luma).max() <= 1
    assert np.array_equal(making.grey(photo[:1]), photo[:1])


def test_small_has_no_fine_detail_but_the_same_light() -> None:
    photo = noise(3, 64, 64)
    made = making.small(photo)
    assert np.abs(made.mean(axis=(1, 2)) - photo.mean(axis=(1, 2))).max() < 2
    detail = [np.abs(np.diff(one.astype(int), axis=2)).mean() for one in (photo, made)]
    assert detail[1] < detail[0] / 4
    assert np.array_equal(making.small(np.full((3, 8, 8), 7, np.uint8)), np.full((3, 8, 8), 7, np.uint8))


def test_a_mask_blanks_one_rectangle_and_nothing_else() -> None:
    places = set()
    for seed in range(20):
        photo = noise(3, 40, 60, seed=seed) // 2  # nothing is blank by itself
        made = making.mask(photo)
        blank = (made == making.BLANK).all(axis=0)
        y, x = np.nonzero(blank)
        box = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
        assert blank[box].all()
        assert 10 <= y.max() - y.min() + 1 <= 20
        assert 15 <= x.max() - x.min() + 1 <= 30
        assert np.array_equal(np.where(blank, 0, made), np.where(blank, 0, photo))
        places.add((int(y.min()), int(x.min())))
    assert len(places) > 15
    assert (making.mask(np.zeros((4, 8, 8), np.uint8))[3] == 255).any(), "the gap is opaque"


def test_scribbles_are_few_thick_strokes() -> None:
    photo = np.asarray(Image.fromarray(disc(128, 40).transpose(1, 2, 0)).convert("RGB")).transpose(2, 0, 1).copy()
    photo[:, 10:14, 10:14] = 255  # too small to be drawn
    found = ink(making.scribble(photo))
    assert not found[5:19, 5:19].any()
    y, x = np.nonzero(found)
    assert np.abs(np.hypot(y - 63.5, x - 63.5) - 40).max() < 6
    assert ndimage.binary_erosion(found).any(), "three pixels and more"
    strokes = ndimage.label(ink(making.scribble(noise(3, 256, 256))), np.ones((3, 3)))[1]
    assert strokes <= making.STROKES


def test_what_cannot_be_drawn_from_is_refused() -> None:
    with pytest.raises(UserError, match="--made oil"):
        making.make("oil", noise(3, 4, 4))  # type: ignore[arg-type]
    for photo in (noise(2, 4, 4), noise(4, 4), noise(3, 4, 4).astype(np.uint16)):
        with pytest.raises(UserError, match=r"--made grey.*8 bits"):
            making.make("grey", photo)
