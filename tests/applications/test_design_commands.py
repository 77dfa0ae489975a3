"""`zerosum recommend` and `zerosum design`, end to end: what they write, and what is said of sizes that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from zerosum import cli, data, engine, sample
from zerosum.applications import kept
from zerosum.applications.recommend import DVBPR, Settings
from zerosum.data.spec import Data
from zerosum.metrics.features import imagenet
from zerosum.recipes.pick import LONGEST_ON_CPU

ITEMS, USERS, TAKEN = 24, 6, 6
FEW = ("--triplets", "1280", "--factors", "4")  # ten steps of DVBPR


def run_cli(*words: object) -> int:
    return cli.main([str(word) for word in words])


def shop(folder: Path, side: int) -> tuple[Path, Path]:
    """A folder of grey images, and a table of who took which of them."""
    random = np.random.default_rng(side)
    images, table = folder / "shirts", folder / "bought.csv"
    images.mkdir(parents=True)
    for i in range(ITEMS):
        Image.fromarray(random.integers(0, 256, (side, side), dtype=np.uint8)).save(images / f"{i:02}.png")
    lines = [
        f"user-{user},{item:02}.png,{time}"
        for user in range(USERS)
        for time, item in enumerate(random.permutation(ITEMS)[:TAKEN].tolist())
    ]
    table.write_text("\n".join(["user,item,time", *lines]) + "\n")
    return images, table


@pytest.fixture(autouse=True)
def _weak_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quicker than an ImageNet network, and the same wherever the tests run."""
    monkeypatch.setattr(imagenet, "PACKAGES", ("no_such_package",))


@pytest.fixture(scope="module")
def shirts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Images of 8 x 8, who took them, and a run on them of two steps."""
    folder = tmp_path_factory.mktemp("shop")
    images, table = shop(folder, 8)
    source = Data(source=str(images))
    training = tiny.training(tiny.run("r1gan", data=source), data.read(source))
    for _ in range(2):
        training.step()
    torch.manual_seed(0)
    for average in training.ema.values():
        tiny.lively(average.network)
    return images, table, tiny.keep(training, folder / "run")


def test_from_a_table_to_designs(
    shirts: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, table, run = shirts
    taste, out = tmp_path / "taste", tmp_path / "designs"
    assert run_cli("recommend", images, "--interactions", table, "--out", taste, *FEW) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(taste)
    assert "36 lines of 6 users and 24 items of 8x8 pixels" in told.err
    assert "random convolutions; they are weak" in told.err
    rows = json.loads((taste / "ranking.json").read_text())
    assert list(rows) == ["popularity", "BPR", "VBPR", "DVBPR"]
    for row in rows.values():
        assert row["warm"]["count"] + row["cold"]["count"] == 2 * USERS
        assert all(part["auc"] is None or 0 <= part["auc"] <= 1 for part in (row["warm"], row["cold"]))
    assert rows["VBPR"]["features"]["name"] == "random convolutions"
    assert rows["DVBPR"]["kept"]["interactions"] == USERS * TAKEN, "those that were measured with, too"
    assert 0 < rows["DVBPR"]["kept"]["triplets"] <= 1280

    words = ("design", run, "--taste", taste, "--for", "user-3", "-n", 2, "--steps", 2)
    assert run_cli(*words, "--out", out) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "designs.png")
    record = json.loads((out / "designs.json").read_text())
    made = sorted(out.glob("design-*.png"))
    assert len(made) == len(record["scores"]) == len(record["latents"]) == 2
    assert record["scores"] == sorted(record["scores"], reverse=True) or not record["all within"]
    assert (record["for"], record["run"], record["taste"]) == ("user-3", str(run), str(taste))
    assert (record["checkpoint"], record["steps"], record["seed"]) == ("last", 2, 0)
    assert record["images seen"] == sample.load(run).images_seen > 0
    scorer = kept.load(taste).of("user-3")
    for path, score in zip(made, record["scores"], strict=True):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            assert image.text == {"zerosum": "generated", "run": "run", "for": "user-3"}  # type: ignore[attr-defined]
            x = torch.from_numpy(np.array(image)).float()[None, None] / 127.5 - 1
        assert float(scorer(x)) == pytest.approx(score, rel=1e-4, abs=1e-5)
    with Image.open(out / "designs.png") as sheet:
        assert sheet.text["zerosum"] == "generated"  # type: ignore[attr-defined]
    assert run_cli(*words, "--out", out) == 2
    assert "holds designs.json already" in capsys.readouterr().err


def test_the_kept_taste_is_of_the_size_that_train_brings_photos_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "choose_device", lambda name: torch.device("cpu"))
    images, table = shop(tmp_path, LONGEST_ON_CPU + 16)
    assert run_cli("recommend", images, "--interactions", table, "--out", tmp_path / "taste", *FEW) == 0
    assert kept.load(tmp_path / "taste").shape == (1, LONGEST_ON_CPU, LONGEST_ON_CPU)
    sized = ("--size", 32, 16, "--out", tmp_path / "sized")
    assert run_cli("recommend", images, "--interactions", table, *sized, *FEW) == 0
    assert kept.load(tmp_path / "sized").shape == (1, 32, 16)


def test_a_taste_of_another_size_is_refused_with_the_size_to_give(
    shirts: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = DVBPR(1, np.zeros((1, 3, 16, 8), dtype=np.uint8), Settings(factors=4))
    kept.save(model, ("ann",), tmp_path)
    assert run_cli("design", shirts[2], "--taste", tmp_path, "--for", "ann") == 2
    assert "zerosum recommend --size 8 8 --channels 1" in capsys.readouterr().err
