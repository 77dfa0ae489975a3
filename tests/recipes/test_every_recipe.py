"""Every recipe is built and stepped once, on random data of its own data's shape (design rule 12)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from zerosum import checkpoint, recipes
from zerosum.algorithms.r1gan import R1GAN
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.networks import Progressive
from zerosum.recipes import images
from zerosum.run import check

DATA: dict[str, ArrayDataset] = {
    "digits": tiny.images((1, 8, 8), classes=10),
    "mnist": tiny.images((1, 28, 28), classes=10),
    "fashion-mnist": tiny.images((1, 28, 28), classes=10),
    "cifar10": tiny.images((3, 32, 32), classes=10),
    "ring": tiny.points(classes=8),
    "grid": tiny.points(classes=25),
    "moons": tiny.points(classes=2),
}


@pytest.mark.parametrize("name", recipes.ALL)
def test_it_builds_and_steps(name: str) -> None:
    recipe = recipes.ALL[name]
    assert recipe.__doc__, "a recipe says what it reached"
    run = recipe()
    check(run)
    assert run == recipe(), "the same each time"
    assert run.data.source in DATA, "say here what this recipe's data looks like"
    data = DATA[run.data.source]
    small = replace(run, batch_size=4, micro_batches=1, precision="fp32", threads=1)
    t = tiny.training(small, data)
    t.step()
    assert t.turns.skipped == 0
    assert all(math.isfinite(v) for v in t.turns.read_scores().values())
    assert t.probe.draw({"G": t.ema["G"].network}).size[0] > 0


@pytest.mark.parametrize("classes", [0, 3])
def test_the_recipe_for_few_images_steps_and_goes_on_exactly(classes: int, tmp_path: Path) -> None:
    data = tiny.images((3, 48, 40), 40, classes=classes)
    run, _ = images.bare(Data(source="photos"), data.spec, len(data))
    check(run)
    networks = Progressive(latent=6, width=4, widest=8, folds=1)
    assert isinstance(run.algorithm, R1GAN)
    small = replace(
        run, batch_size=4, micro_batches=1, precision="fp32", threads=1, conditional=classes > 0,
        algorithm=replace(run.algorithm, networks=networks, every=2),
    )  # fmt: skip
    t, other = (tiny.training(small, data) for _ in range(2))
    for _ in range(3):
        t.step()
    assert all(math.isfinite(v) for v in t.turns.read_scores().values())
    tiny.keep(t, tmp_path)
    saved = checkpoint.newest(tmp_path, print)
    assert saved is not None
    other.restore(saved)
    for _ in range(3):
        t.step()
        other.step()
    for name in ("G", "D"):
        assert tiny.equal(tiny.weights(t.players.networks[name]), tiny.weights(other.players.networks[name]))
