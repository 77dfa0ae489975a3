"""`zerosum recommend` and `zerosum design`, end to end: what they write, and what is said of sizes that do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from zerosum import cli, data, engine, sample
from zerosum.applications import kept, studio
from zerosum.applications import taste as tastes
from zerosum.applications.design import steady
from zerosum.applications.recommend import DVBPR, Settings
from zerosum.data.spec import Data
from zerosum.latent import tools
from zerosum.metrics.features import imagenet
from zerosum.recipes.pick import LONGEST_ON_CPU

ITEMS, USERS, TAKEN = 24, 6, 6
FEW = ("--steps", "10", "--factors", "4")  # ten steps of each


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


def trained(images: Path, out: Path, conditional: bool = False) -> Path:
    """A run on them of two steps, whose images differ."""
    source = Data(source=str(images))
    training = tiny.training(tiny.run("r1gan", data=source, conditional=conditional), data.read(source))
    for _ in range(2):
        training.step()
    torch.manual_seed(0)
    for average in training.ema.values():
        tiny.lively(average.network)
    return tiny.keep(training, out)


def taste_of(user: str, out: Path) -> Path:
    """The taste of one user, of whom nothing was learned, for images of 8 x 8."""
    kept.save(DVBPR(1, np.zeros((1, 1, 8, 8), dtype=np.uint8), Settings(factors=4)), (user,), out)
    return out


@pytest.fixture(autouse=True)
def _weak_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quicker than an ImageNet network, and the same wherever the tests run."""
    monkeypatch.setattr(imagenet, "PACKAGES", ("no_such_package",))


@pytest.fixture(scope="module")
def shirts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Images of 8 x 8, who took them, and a run on them of two steps."""
    folder = tmp_path_factory.mktemp("shop")
    images, table = shop(folder, 8)
    return images, table, trained(images, folder / "run")


@pytest.fixture(scope="module")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Images of 8 x 8 in the classes a and b, the taste of ann, and a class-conditional run on them of two steps."""
    folder = tmp_path_factory.mktemp("clothes")
    images = shop(folder, 8)[0]
    for number, path in enumerate(sorted(images.iterdir())):
        (images / "ab"[number % 2]).mkdir(exist_ok=True)
        path.rename(images / "ab"[number % 2] / path.name)
    return images, taste_of("ann", folder / "taste"), trained(images, folder / "run", conditional=True)


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
    assert 0 < rows["DVBPR"]["kept"]["steps"] <= 10

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
    assert (record["classes"], record["near"], record["start"]) == (None, None, None)
    scorer = kept.load(taste).of("user-3")
    for path, score in zip(made, record["scores"], strict=True):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            assert image.text == {"zerosum": "generated", "run": "run", "for": "user-3"}  # type: ignore[attr-defined]
            x = torch.from_numpy(np.array(image)).float()[None, None] / 127.5 - 1
        assert float(steady(scorer, x)) == pytest.approx(score, rel=1e-4, abs=1e-5)
    with Image.open(out / "designs.png") as sheet:
        assert sheet.text["zerosum"] == "generated"  # type: ignore[attr-defined]
    assert run_cli(*words, "--out", out) == 2
    assert "holds designs.json already" in capsys.readouterr().err


def test_a_taste_is_kept_though_nothing_can_be_said_of_it(
    shirts: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> tastes.Ranking:
        raise ZeroDivisionError

    monkeypatch.setattr(tastes, "ranking", broken)
    with pytest.raises(ZeroDivisionError):
        run_cli("recommend", shirts[0], "--interactions", shirts[1], "--out", tmp_path, *FEW)
    assert len(kept.load(tmp_path).users) == USERS


def test_the_newest_taste_is_taken_where_none_is_named(
    shirts: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("design", shirts[2], "--for", "zoe")
    assert run_cli(*words) == 2
    said = capsys.readouterr().err
    assert "--taste is missing, and there is none in tastes/: " in said
    assert "make one with zerosum recommend" in said
    for age, name in enumerate(("new", "old", "older")):
        folder = taste_of(name, Path("tastes", name))
        os.utime(folder / kept.ABOUT, (1_000 - age, 1_000 - age))
    assert run_cli(*words) == 2
    said = capsys.readouterr().err
    assert f"--taste {Path('tastes', 'new')}: the newest in tastes/" in said
    assert "--for zoe: there is no such user among 1 (new, ...)" in said


def test_designs_of_a_class_near_an_item(
    clothes: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, taste, run = clothes
    near = min((images / "a").iterdir())
    words = ("--taste", taste, "--for", "ann", "-n", 3, "--steps", 2, "--out", tmp_path)
    assert run_cli("design", run, *words, "--classes", "a", "--near", near, "--reach", 0.2) == 0
    record = json.loads((tmp_path / "designs.json").read_text())
    assert record["classes"] == ["a"] * len(record["scores"])
    assert len(record["scores"]) > 1
    model = sample.load(run, "last", "fp32")
    start = tools.invert(model, tools.photos(model, [near]), classes=["a"])
    z = torch.tensor(record["latents"])
    assert float((z - start.z).norm(dim=1).max()) <= 0.2 * float(start.z.norm()) * 1.001
    off, score = float(start.errors[0]) * 127.5, float(steady(kept.load(taste).of("ann"), start.images)[0])
    assert record["start"] == pytest.approx({"grey levels off": off, "score": score}, rel=1e-4, abs=1e-5)
    assert f"{near}  {off:.1f} of 256 grey levels off; what was found scores {score:.3f}" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [(), ("--classes", "a", "b")])
def test_a_start_is_looked_for_in_one_class(
    clothes: tuple[Path, Path, Path],
    classes: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, taste, run = clothes
    monkeypatch.setattr(studio, "of_run", lambda *_: pytest.fail("the catalogue was read"))
    assert run_cli("design", run, "--taste", taste, "--for", "ann", "--near", "x.png", *classes) == 2
    assert "give it with --classes, one of a, b" in capsys.readouterr().err


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
