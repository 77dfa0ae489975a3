"""`pick`: a bare folder of images, whatever their size, gets a run that works."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zerosum import algorithms, recipes
from zerosum.data import Data
from zerosum.errors import UserError
from zerosum.networks import DCGAN
from zerosum.run import Run

picking = importlib.import_module("zerosum.recipes.pick")


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "estimate", lambda *_: 1000.0)


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Data]:
    def make(height: int, width: int, **settings: object) -> Data:
        folder = tmp_path / f"{height}x{width}"
        folder.mkdir(exist_ok=True)
        random = np.random.default_rng(0)
        for i in range(4):
            pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png", compress_level=0)
        return Data(source=str(folder), **settings)  # type: ignore[arg-type]

    return make


def built(choice: recipes.Choice) -> tuple[int, ...]:
    """The data's height and width, if the run's networks take them."""
    assert set(choice.run.algorithm.players(choice.dataset.spec)) == {"G", "D"}
    return choice.dataset.spec.shape[1:]


SHAPES = {
    (400, 600): (48, 64), (200, 200): (64, 64), (150, 150): (64, 64), (100, 100): (64, 64), (240, 160): (64, 48),
    (270, 480): (32, 64), (17, 23): (16, 20), (3, 3): (4, 4), (64, 48): (64, 48), (5, 61): (4, 60),
}  # fmt: skip


@pytest.mark.parametrize("size", SHAPES)
def test_a_folder_of_any_size_fits(size: tuple[int, int], photos: Callable[..., Data]) -> None:
    choice = recipes.pick(photos(*size), images=64, device="cpu")
    assert built(choice) == SHAPES[size]
    said = " ".join(choice.reasons)
    if size != SHAPES[size]:
        assert "--size H W" in said
        assert "x".join(map(str, SHAPES[size])) in said
    else:
        assert "--size" not in said


@pytest.mark.parametrize("size", [(400, 600), (200, 200), (150, 150), (100, 100), (240, 160), (270, 480)])
def test_larger_images_fit_too(
    size: tuple[int, int], photos: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there is a GPU: nothing brings them to 64 pixels."""
    monkeypatch.setattr(picking, "LONGEST_ON_CPU", 256)
    height, width = built(recipes.pick(photos(*size), images=64, device="cpu"))
    assert max(height, width) <= 256
    assert 0.8 < width / height / (size[1] / size[0]) < 1.25


@pytest.mark.parametrize("name", algorithms.names())
def test_the_networks_say_what_they_take(name: str, photos: Callable[..., Data]) -> None:
    """The original GAN's take anything, so nothing is changed for it."""
    expected = (17, 23) if name == "gan" else (16, 20)
    choice = recipes.pick(photos(17, 23), algorithm=name, images=64, device="cpu")
    assert built(choice) == expected
    assert choice.run.data.size == (None if name == "gan" else expected)


def test_the_callers_own_networks_are_asked(photos: Callable[..., Data]) -> None:
    def shallow(run: Run) -> Run:
        return replace(run, algorithm=replace(run.algorithm, networks=DCGAN(latent=4, width=4, stages=1)))

    assert built(recipes.pick(photos(18, 26), images=64, device="cpu", adjust=shallow)) == (18, 26)


def test_the_run_is_complete_without_being_picked_again(photos: Callable[..., Data]) -> None:
    from zerosum import data

    choice = recipes.pick(photos(17, 23), images=64, device="cpu")
    assert data.open(choice.run.data).fingerprint == choice.dataset.fingerprint  # type: ignore[attr-defined]


def test_a_size_that_was_asked_for_is_not_changed(photos: Callable[..., Data], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--size 17 23: .* nearest are 20x24 and 16x20; give --size 20 24"):
        recipes.pick(photos(40, 40, size=(17, 23)), images=64, device="cpu")
