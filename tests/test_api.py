"""What Python users see: `import zerosum` and what it gives."""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
import zerosum
from zerosum import sweeps
from zerosum.algorithms.r3gan import R3GAN
from zerosum.data.spec import Spec
from zerosum.networks import Networks
from zerosum.runlog import read_status

QUIET = zerosum.SilentView()


@pytest.fixture
def run() -> zerosum.Run:
    """Three steps on digits."""
    return replace(tiny.run("r3gan", toy=True), data=zerosum.Data(source="digits"), batch_size=16, images=48)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> Iterator[None]:
    """Nothing is left in the checkout; picking does not try the recipe out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(importlib.import_module("zerosum.recipes.pick"), "estimate", lambda *_: 1000.0)
        yield


def test_import_loads_no_torch_and_every_name_is_there() -> None:
    code = "import sys, zerosum; zerosum.UserError, zerosum.Constant; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for name in zerosum.__all__:
        assert getattr(zerosum, name) is not None
        assert name in dir(zerosum)
    assert zerosum.recipes.digits().data.source == "digits"
    with pytest.raises(AttributeError, match="nonsense"):
        zerosum.nonsense  # noqa: B018
    assert callable(zerosum.train)
    assert callable(zerosum.sweep), "a module of that name would take its place"


def test_train_a_run_and_load_it(run: zerosum.Run) -> None:
    model = zerosum.train(run, view=QUIET)
    assert isinstance(model, zerosum.Model)
    out = Path("runs/digits-r3gan-001")
    assert read_status(out)["state"] == "finished"
    again = zerosum.load(str(out)).sample(5, seed=7)
    assert np.array_equal(model.sample(5, seed=7).images, again.images)
    assert again._repr_png_().startswith(b"\x89PNG")
    longer = zerosum.resume(out, images=64, view=QUIET)
    assert longer.images_seen == 64


def test_train_a_name_picks_a_recipe() -> None:
    model = zerosum.train("digits", images=64, seed=5, out="here", view=QUIET)
    assert model.run.seed == 5
    assert model.run.images == 64
    assert Path("here/report.html").exists()


class Pictures(torch.utils.data.Dataset[Any]):
    """A user's torch dataset."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 8, 8), i / 20), i % 2


@pytest.mark.parametrize("kind", ["array", "pair", "torch", "dataset"])
def test_own_data(kind: str, run: zerosum.Run) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 2
    data = {"array": images, "pair": (images, labels), "torch": Pictures(), "dataset": tiny.images()}[kind]
    one = replace(run, conditional=kind != "array", algorithm=replace(tiny.small_algorithm("r3gan", toy=True)))
    model = zerosum.train(one, data=data, view=QUIET)
    assert model.spec.shape == (1, 8, 8)
    out = Path("runs/array-r3gan-001")
    with pytest.raises(zerosum.UserError, match=r"zerosum.resume\('runs"):
        zerosum.resume(out, images=64)
    assert zerosum.resume(out, data=data, images=64, view=QUIET).images_seen == 64


def test_own_data_alone_has_a_recipe_picked() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    model = zerosum.train(data=images, images=64, out="mine", view=QUIET)
    assert model.spec.shape == (1, 8, 8)


def test_wrong_data_and_wrong_words_are_refused(run: zerosum.Run) -> None:
    with pytest.raises(zerosum.UserError, match="str is not understood"):
        zerosum.train(run, data="digits")
    with pytest.raises(zerosum.UserError, match="algorithm=dcgan"):
        zerosum.train(run, algorithm="dcgan")
    with pytest.raises(zerosum.UserError, match="nowhere"):
        zerosum.train("nowhere")
    with pytest.raises(zerosum.UserError, match="not a run folder"):
        zerosum.load("nowhere")
    assert list(Path().iterdir()) == []


@dataclass(frozen=True, kw_only=True)
class Plain(Networks):
    """A user's networks: two linear maps."""

    latent: int = 3

    def generator(self, spec: Spec) -> nn.Module:
        return PlainG(self.latent, spec.shape)

    def critic(self, spec: Spec) -> nn.Module:
        return PlainD(spec.shape)


class PlainG(nn.Module):
    def __init__(self, latent: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.map = nn.Linear(latent, int(np.prod(shape)))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.tanh(self.map(z)).view(-1, *self.shape)


class PlainD(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.map = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 8), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.map(x).squeeze(1)


def test_own_networks(run: zerosum.Run) -> None:
    model = zerosum.train(replace(run, algorithm=R3GAN(networks=Plain())), out="plain", view=QUIET)
    assert zerosum.load("plain").sample(2).images.shape == (2, 1, 8, 8)
    assert model.latent == 3


def test_sweep_is_a_table_that_is_not_made_twice(run: zerosum.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    table = zerosum.sweep(run, seeds=[0, 3], out="s", view=QUIET)
    assert [row["seed"] for row in table.rows] == [0, 3]
    with open("s/sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished", "finished"]
    assert all(float(row["distance_best"]) <= float(row["distance_last"]) for row in rows)
    assert rows[0]["distance_last"] != rows[1]["distance_last"]
    assert table.mean("images_seen") == 48
    assert table.deviation("images_seen") == 0
    assert "<td>seed</td>" in table._repr_html_()
    assert len(str(table).splitlines()) == 5

    def never(*_: Any, **__: Any) -> Path:
        raise AssertionError("trained again")

    monkeypatch.setattr(sweeps, "play", never)
    monkeypatch.setattr(sweeps, "play_on", never)
    before = Path("s/sweep.csv").read_bytes()
    zerosum.sweep(run, seeds=[0, 3], out="s", view=QUIET)
    assert Path("s/sweep.csv").read_bytes() == before
    with pytest.raises(AssertionError):
        zerosum.sweep(run, seeds=[0, 3, 4], out="s", view=QUIET)
    with pytest.raises(zerosum.UserError, match="another recipe"):
        zerosum.sweep(replace(run, batch_size=8), seeds=[0], out="s", view=QUIET)
    with pytest.raises(zerosum.UserError, match="each once"):
        zerosum.sweep(run, seeds=[1, 1], out="s", view=QUIET)


def test_sweep_goes_on_with_a_seed_that_was_stopped(run: zerosum.Run) -> None:
    zerosum.sweep(replace(run, images=16), seeds=[0], out="s", view=QUIET)
    status = Path("s/seed-0/status.json")
    status.write_text(status.read_text().replace("finished", "stopped"))
    table = zerosum.sweep(replace(run, images=16), seeds=[0], out="s", view=QUIET)
    assert table.rows[0]["state"] == "finished"
