"""The nearest image whoever mirrored or moved it, and that planted copies are seen at one threshold in every guise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zerosum.data.spec import Spec
from zerosum.metrics import registered
from zerosum.metrics.features.weak import Pixels
from zerosum.metrics.neighbours import copying
from zerosum.metrics.registered import nearest_registered

SHAPE = (1, 20, 16)


def faces(count: int, seed: int) -> np.ndarray:
    """Smooth images that differ, uint8 (count, 1, 20, 16)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : SHAPE[1], 0 : SHAPE[2]]
    a, b, c, d = random.uniform(0, 2 * np.pi, (4, count, 1, 1))
    u, v = random.uniform(0.1, 0.4, (2, count, 1, 1))
    waves = np.sin(u * rows + a) * np.cos(v * columns + b) + 0.5 * np.sin(v * rows + c) + 0.5 * np.sin(u * columns + d)
    return ((waves + 2) * 63).astype(np.uint8)[:, None]


def moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """By whole pixels; what comes in is the edge again."""
    out = np.pad(images, ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")
    return out[:, :, 3 - down : 3 - down + SHAPE[1], 3 - right : 3 - right + SHAPE[2]]


GUISES = {
    "as they are": lambda x: x, "mirrored": lambda x: x[..., ::-1], "moved by two": lambda x: moved(x, 2, -2),
    "mirrored and moved": lambda x: moved(x[..., ::-1], -1, 2),
}  # fmt: skip


@pytest.mark.parametrize("guise", GUISES)
def test_whoever_moved_it_it_is_found(guise: str) -> None:
    among = faces(300, 0)
    distance, index = nearest_registered(GUISES[guise](among[40:60]), among, Pixels(Spec(SHAPE)))
    assert index.tolist() == list(range(40, 60))
    assert float(distance.max()) < 1e-6


def test_the_distance_by_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered, "BLOCK", 7)
    monkeypatch.setattr(registered, "AT_ONCE", 2)
    x, among = faces(5, 1), faces(20, 2)
    monkeypatch.setattr(registered, "CANDIDATES", 40)  # all: what is left out by the first look is another matter
    distance, index = nearest_registered(x, among, Pixels(Spec(SHAPE)))
    for i, image in enumerate(x):
        least = {}
        for j, other in enumerate(among):
            for turned in (other, other[..., ::-1]):
                for down in range(-2, 3):
                    for right in range(-2, 3):
                        a = image[:, max(down, 0) : 20 + min(down, 0), max(right, 0) : 16 + min(right, 0)]
                        b = turned[:, max(-down, 0) : 20 - max(down, 0), max(-right, 0) : 16 - max(right, 0)]
                        apart = (a.astype(float) - b).ravel() * 2 / 255
                        least[j] = min(least.get(j, np.inf), float(np.sqrt((apart**2).mean())))
        assert int(index[i]) == min(least, key=lambda j: least[j])
        assert float(distance[i]) == pytest.approx(min(least.values()), rel=1e-5)


def test_large_images_are_looked_at_small() -> None:
    among = faces(50, 3).repeat(4, 2).repeat(4, 3)
    two = np.roll(among[:5], 2, 3)
    distance, index = nearest_registered(two, among, Pixels(Spec(among.shape[1:])))
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert torch.isfinite(distance).all()


@pytest.mark.parametrize("guise", [*GUISES, "none"])
def test_planted_copies_are_told_at_one_threshold_and_no_others(guise: str) -> None:
    train, held, fresh = faces(300, 4), faces(200, 5), faces(400, 6)
    fakes = fresh.copy()
    if guise != "none":
        fakes[::20] = GUISES[guise](train[:20])
    pixels = Pixels(Spec(SHAPE))
    known, _ = nearest_registered(held, train, pixels)
    found = copying(*nearest_registered(fakes, train, pixels), known)
    if guise == "none":
        assert found.p_value > 0.01
    else:
        assert found.p_value < 1e-3
        assert set(found.fake[:16].tolist()) <= set(range(0, 400, 20))


# ---- at the size of `zerosum bench faces` --------------------------------------------------------------------------

HEIGHT, WIDTH = 80, 64


def photos(count: int, seed: int) -> np.ndarray:
    """Noise whose waves are the weaker the shorter they are, as those of photos: uint8 (count, 1, 80, 64)."""
    rows, columns = 2 * HEIGHT, 2 * WIDTH  # of which a quarter is cut out: the edges of a photo do not meet
    waves = np.fft.rfft2(np.random.default_rng(seed).standard_normal((count, rows, columns)))
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns))
    frequency[0, 0] = np.inf  # no mean
    values = np.fft.irfft2(waves / frequency, s=(rows, columns))[:, :HEIGHT, :WIDTH]
    values = (values - values.mean((1, 2), keepdims=True)) / values.std((1, 2), keepdims=True)
    return (128 + 45 * values).clip(0, 255).astype(np.uint8)[:, None]


LARGE_GUISES = {
    "mirrored": lambda x: x[..., ::-1], "moved by two": lambda x: np.roll(x, (2, -2), (2, 3)),
    "mirrored and moved": lambda x: np.roll(x[..., ::-1], (2, -2), (2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("guise", LARGE_GUISES)
def test_copies_of_large_images_are_far_nearer_than_others(guise: str) -> None:
    """They are looked at in 32 x 32, where two pixels are 0.8 down and 1 to the left: what is left over is little."""
    among, others = photos(300, 7), photos(40, 8)
    pixels = Pixels(Spec((1, HEIGHT, WIDTH)))
    distance, index = nearest_registered(LARGE_GUISES[guise](among[40:60]), among, pixels)
    apart, _ = nearest_registered(others, among, pixels)
    assert index.tolist() == list(range(40, 60))
    assert float(distance.max()) < float(apart.min()) / 2
