"""From a folder to a translator to files, by the commands, as a user would."""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zerosum import api, checkpoint, cli, sample
from zerosum import run as runs
from zerosum.data import deep
from zerosum.data.depth import EIGHT_BITS, Depth
from zerosum.data.spec import Direction, Made, Spec
from zerosum.errors import UserError
from zerosum.translation import evaluate as evaluation
from zerosum.translation.model import Route, Translator, Wish
from zerosum.translation.stills import Names

SMALL = (
    "--algorithm.networks.width", "4", "--algorithm.networks.patch.width", "4", "--size", "16", "16", "--images", "24",
    "--batch-size", "4", "--memory-format", "contiguous", "--precision", "fp32", "--threads", "1", "--seed", "1",
)  # fmt: skip


picking = importlib.import_module("zerosum.recipes.pick")


@pytest.fixture(scope="module", autouse=True)
def _untimed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picking, "estimate", lambda *_: 100.0)
        yield


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def photo(seed: int, height: int = 20, width: int = 20, channels: int = 3) -> np.ndarray:
    """A smooth random picture, uint8 (C, H, W)."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    values = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    return np.ascontiguousarray(values[:channels])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pix2pix from grey to colour."""
    folder = tmp_path_factory.mktemp("pairs")
    for i in range(24):
        values = photo(i)
        deep.write(values.mean(0, keepdims=True).astype(np.uint8), made(folder / "data/A") / f"{i:02}.png")
        deep.write(values, made(folder / "data/B") / f"{i:02}.png")
    out = folder / "run"
    assert run("train", folder / "data", "--algorithm", "pix2pix", "--out", out, "--held-out", "4", *SMALL) == 0
    return out


@pytest.fixture(scope="module")
def cycle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CycleGAN, colour both ways."""
    folder = tmp_path_factory.mktemp("cycle")
    for i in range(24):
        deep.write(photo(i), made(folder / "data/trainA") / f"a{i:02}.png")
        deep.write(255 - photo(100 + i), made(folder / "data/trainB") / f"b{i:02}.png")
    out = folder / "run"
    more = ("--algorithm.networks.blocks", "1", "--held-out", "4", "--adam-g.lr", "2e-4", "--adam-d.lr", "2e-4")
    assert run("train", folder / "data", "--algorithm", "cyclegan", "--out", out, *more, *SMALL) == 0
    return out


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read(path: Path) -> np.ndarray:
    return deep.read(path.read_bytes(), path.name).values


def test_an_image_comes_out_as_large_as_it_went_in(pairs: Path, tmp_path: Path) -> None:
    deep.write(photo(50, 33, 21, 1), tmp_path / "in.png")
    assert run("translate", pairs, tmp_path / "in.png", tmp_path / "out.png") == 0
    found = read(tmp_path / "out.png")
    assert found.shape == (3, 33, 21)
    assert found.dtype == np.uint8
    assert Image.open(tmp_path / "out.png").text["zerosum"] == "generated"  # type: ignore[attr-defined]


def test_sixteen_bits_stay_sixteen(pairs: Path, tmp_path: Path) -> None:
    values = photo(50, 16, 16, 1).astype(np.uint16) * 257
    deep.write(values, tmp_path / "in.png")
    assert run("translate", pairs, tmp_path / "in.png", tmp_path / "out.png") == 0
    found = read(tmp_path / "out.png")
    assert found.dtype == np.uint16
    assert len(np.unique(found)) > 256, "levels that 8 bits do not have"


def test_a_folder_and_a_zip_give_the_same(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made(tmp_path / "in" / "more")
    deep.write(photo(50, 16, 16, 1), source.parent / "one.png")
    deep.write(photo(51, 16, 24, 1), source / "two.png")
    (source / "text.png").write_text("no picture")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted(source.parent.rglob("*.png")):
            archive.write(path, path.relative_to(source.parent))
    assert run("translate", pairs, source.parent, tmp_path / "a") == 0
    assert "left out more/text.png: not a readable image" in capsys.readouterr().err
    assert run("translate", pairs, tmp_path / "in.zip", tmp_path / "b") == 0
    for name in ("one.png", "more/two.png"):
        assert (read(tmp_path / "a" / name) == read(tmp_path / "b" / name)).all()


def test_files_that_differ_by_their_suffixes_stay_apart(pairs: Path, tmp_path: Path) -> None:
    source = made(tmp_path / "in/more")
    names = ("7.bmp", "7.jpg", "7.png", "7.webp", "7.webp.png", "more/7.webp", "8.Bmp")
    for i, name in enumerate(names):
        Image.fromarray(photo(i, 16, 16).transpose(1, 2, 0)).save(source.parent / name, quality=100)
        assert run("translate", pairs, source.parent / name, tmp_path / f"alone{i}.png") == 0
    assert run("translate", pairs, source.parent, tmp_path / "out") == 0
    found = ("7.bmp.png", "7.jpg", "7.png", "7.webp.png.png", "7.webp.png", "more/7.png", "8.png")
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")} == set(found)
    for i, name in enumerate(found):
        if name != "7.jpg":  # which loses a little
            assert (read(tmp_path / "out" / name) == read(tmp_path / f"alone{i}.png")).all(), name


def test_odd_images_of_a_folder_are_left_out(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made(tmp_path / "in")
    deep.write(photo(0, 16, 16), source / "colour.png")
    deep.write(np.concatenate([photo(0), photo(1)[:2]]), source / "five.tif")
    deep.write(photo(0, 16, 16).astype(np.int16), source / "signed.tif")
    deep.write(photo(0, 16, 16, 1).astype(np.uint16) * 257, source / "unsigned.png")
    assert run("translate", pairs, source, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "left out five.tif: the image has 5 channels of uint8; this translator was trained on 1" in said
    assert "left out signed.tif: the image has 3 channels of int16" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"colour.png", "unsigned.png"}
    deep.write(photo(0, 16, 16, 1).astype(np.int16), source / "signed.tif")
    assert run("translate", pairs, source, tmp_path / "ranged", "--value-range", "-1024", "3071") == 0
    assert "left out unsigned.png: --value-range -1024 3071: uint16 holds 0 to 65535 only" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "ranged").iterdir()} == {"colour.png", "signed.tif"}
    assert (read(tmp_path / "ranged/colour.png") == read(tmp_path / "out/colour.png")).all(), "a range for 8 bits"


def test_a_disk_that_refuses_ends_a_folder(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep.write(photo(0, 16, 16, 1), made(tmp_path / "in/more") / "one.png")
    made(tmp_path / "out")
    (tmp_path / "out/more").touch()
    assert run("translate", pairs, tmp_path / "in", tmp_path / "out") == 2
    assert "could not be written" in capsys.readouterr().err


@pytest.mark.parametrize("direction", ["A2B", "B2A"])
def test_grey_with_alpha_is_seen_as_in_training(direction: str, cycle: Path, tmp_path: Path) -> None:
    values = np.asarray(Image.fromarray(photo(0).transpose(1, 2, 0)).convert("LA")).copy()
    values[:, :5, 1], values[:, 5:10, 1] = 0, 100
    seen = Image.fromarray(values, "LA")
    seen.save(tmp_path / "in.png")
    Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen.convert("RGBA")).save(tmp_path / "laid.png")
    for name in ("in", "laid"):
        words = (tmp_path / f"{name}.png", tmp_path / f"{name}-out.png", "--direction", direction)
        assert run("translate", cycle, *words) == 0
    assert (read(tmp_path / "in-out.png") == read(tmp_path / "laid-out.png")).all()


def test_names_of_upper_and_lower_case_are_the_same() -> None:
    names, values = Names(["a/X.webp", "a/x.bmp", "b/x.bmp"]), photo(0)
    assert [str(names.of(name, values)) for name in ("a/X.webp", "a/x.bmp", "b/x.bmp")] == [
        "a/X.webp.png", "a/x.bmp.png", "b/x.png",
    ]  # fmt: skip


def test_both_ways_of_a_cycle(cycle: Path, tmp_path: Path) -> None:
    deep.write(photo(50), tmp_path / "in.png")
    assert run("translate", cycle, tmp_path / "in.png", tmp_path / "there.png") == 0
    assert run("translate", cycle, tmp_path / "in.png", tmp_path / "back.png", "--direction", "B2A") == 0
    assert (read(tmp_path / "there.png") != read(tmp_path / "back.png")).any()


class Itself(torch.nn.Module):
    """A network that changes nothing."""

    multiple = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


TWELVE = Depth("uint16", 0, 4095)


def itself(source: Depth, target: Depth, way: Direction = "A2B", made: Made | None = None) -> Translator:
    sides = (Spec((1, 16, 16), depth=source), Spec((1, 16, 16), depth=target))
    return Translator({way: Route(Itself(), *sides)}, way, {}, made, "fp32")


@pytest.mark.parametrize("given", [EIGHT_BITS, TWELVE, Depth("uint16", 0, 65535), Depth("int16", -1024, 3071)])
def test_an_image_stays_as_deep_as_it_was_where_both_sides_are_alike(given: Depth) -> None:
    values = np.linspace(given.low, given.high, 256).round().astype(given.dtype).reshape(1, 16, 16)
    for depth in (EIGHT_BITS, TWELVE):
        found = itself(depth, depth)(values, depth=given)
        assert found.dtype == values.dtype
        assert (found == values).all()
    assert itself(EIGHT_BITS, TWELVE)(values, depth=given).max() == 4095
    assert itself(TWELVE, EIGHT_BITS)(values, depth=given).dtype == np.uint8


def test_only_what_comes_from_side_a_is_made() -> None:
    wish, photos = Wish(make=True), photo(0)
    itself(EIGHT_BITS, EIGHT_BITS, made="edges").check(wish)
    back = itself(EIGHT_BITS, EIGHT_BITS, "B2A", "edges")
    for refused in (lambda: back.check(wish), lambda: back.make(photos), lambda: back.frames(photos[None], wish)):
        with pytest.raises(UserError, match=r"^--make: this translator goes from side B, .*: leave it out$"):
            refused()
    both = Translator({**back.routes, "A2B": back.routes["B2A"]}, "B2A", {}, "edges", "fp32")
    both.check(Wish(make=True, direction="A2B"))
    with pytest.raises(UserError, match="or give --direction A2B"):
        both.check(wish)


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("in.png", "out.xyz", "images are not written as .xyz; give .png"),
        ("in.png", "out", "images are not written as a file without suffix"),
        ("deep.png", "out.jpg", "JPEG does not hold 3 channels of uint16; these do: .png"),
        ("in.gif", "out.xyz", "films are written as .mp4"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_the_work(
    name: str, target: str, said: str, pairs: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    deep.write(photo(0, 16, 16, 1), tmp_path / "in.png")
    deep.write(photo(0, 16, 16, 1).astype(np.uint16) * 257, tmp_path / "deep.png")
    Image.fromarray(photo(0, 16, 16)[0]).save(tmp_path / "in.gif")

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("translated before the target was looked at")

    monkeypatch.setattr(Translator, "__call__", worked)
    assert run("translate", pairs, tmp_path / name, tmp_path / target) == 2
    assert said in capsys.readouterr().err


def test_a_gif_becomes_a_still_or_a_film(pairs: Path, tmp_path: Path) -> None:
    grey = photo(0, 16, 16, 1)
    Image.fromarray(grey[0]).save(tmp_path / "in.gif")
    deep.write(grey, tmp_path / "in.png")
    for source, target in (("in.gif", "a.png"), ("in.png", "b.png"), ("in.gif", "c.gif")):
        assert run("translate", pairs, tmp_path / source, tmp_path / target) == 0
    assert (read(tmp_path / "a.png") == read(tmp_path / "b.png")).all()
    assert (tmp_path / "c.gif").read_bytes().startswith(b"GIF")


def test_large_images_in_tiles(cycle: Path, tmp_path: Path) -> None:
    deep.write(photo(50, 70, 90), tmp_path / "in.png")
    assert run("translate", cycle, tmp_path / "in.png", tmp_path / "out.png", "--tile", "32", "--overlap", "16") == 0
    assert read(tmp_path / "out.png").shape == (3, 70, 90)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing.png", "out.png"), "nothing.png: there is no such file or folder"),
        (("in.png", "in.png"), "is the input as well"),
        (("in.png", "out.png", "--direction", "B2A"), "--direction B2A: this translator goes A2B only"),
        (("in.png", "out.png", "--blend", "0.5"), "--blend 0.5: is for films"),
        (("in.png", "out.png", "--value-range", "9", "1"), "--value-range 9 1: give the lower value first"),
        (("in.png", "out.png", "--make"), "--make: side A of this translator's data was not made of photos"),
        (("in.png", "out.xyz"), "images are not written as .xyz"),
        (("in.png", "out.mp4"), "is an image by its name, and"),
        (("text.png", "out.png"), "not a readable image"),
        (("empty", "out"), "holds no images"),
    ],
)
def test_what_cannot_be_is_said(
    words: tuple[str, ...], said: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep.write(photo(50, 16, 16, 1), tmp_path / "in.png")
    (tmp_path / "text.png").write_text("no picture")
    made(tmp_path / "empty")
    paths = [tmp_path / words[0], tmp_path / words[1], *words[2:]]
    assert run("translate", pairs, *paths) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_commands_for_noise_send_on(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sample", pairs) == 2
    assert f"zerosum translate {pairs}" in capsys.readouterr().err
    assert run("equilibrium", pairs) == 2
    assert "translates images" in capsys.readouterr().err


def test_what_a_run_leaves(pairs: Path, cycle: Path) -> None:
    for out, shape in ((pairs, [1, 16, 16]), (cycle, [3, 16, 16])):
        record = json.loads((out / "recipe.json").read_text())["data"]
        assert record["shape"] == shape
        assert record["target"]["shape"] == [3, 16, 16]
        assert (out / "film.mp4").is_file()
        assert (out / "report.html").is_file()
        probes = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines() if '"probe"' in line]
        assert probes
        assert ("l1" if out == pairs else "cycle") in probes[-1]


def test_a_run_goes_on_with_its_pool(cycle: Path, tmp_path: Path) -> None:
    shutil.copytree(cycle, tmp_path / "run")
    assert run("train", "--resume", tmp_path / "run", "--images", "48") == 0
    before, after = (
        checkpoint.load(checkpoint.path_of(out, checkpoint.numbers(out)[-1])) for out in (cycle, tmp_path / "run")
    )
    assert (before.images_seen, after.images_seen) == (24, 48)
    pools = [saved.under("carried/pool_A_16x16/")["images"] for saved in (before, after)]
    assert pools[0].shape == (50, 3, 16, 16)
    filled = [(pool != 0).flatten(1).any(1).sum().item() for pool in pools]
    assert filled == [24, 48]
    assert (pools[0][:24] == pools[1][:24]).all(), "until it is full, what is in it stays"


WORDS = ("--features", "random", "-n", "16", "--no-cache")


def shown(run: Path, way: str) -> tuple[str, tuple[int, int]]:
    """What the picture of a direction says of its columns, and its size."""
    with Image.open(run / f"evaluation-{way}.png") as image:
        return image.text["columns"], image.size  # type: ignore[attr-defined]


def test_evaluation_measures_against_baselines(pairs: Path, tmp_path: Path) -> None:
    source = pairs.parent / "data"
    out = tmp_path / "run"
    assert (
        run("train", source, "--algorithm", "pix2pix", "--out", out, "--held-out", "16", *SMALL, "--images", "8") == 0
    )
    assert run("evaluate", out, *WORDS, "--json", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())["measurements"]
    for arm in ("the run", "identity", "mean image", "nearest pair"):
        assert f"A2B {arm}: l1" in found
        assert f"A2B {arm}: ssim" in found
    assert "A2B the run: kernel" in found
    assert found["A2B the run: joint"]["floor"]["value"] >= 0
    assert "A2B domain classifier" in found
    assert shown(out, "A2B") == ("Input, Output, Target", (2 + 3 * 162, 2 + 8 * 162))
    assert not (out / "evaluation-B2A.png").exists()
    page, report = (out / "report.html").read_text(), json.loads((out / "report.json").read_text())
    assert "A to B, an example a row: Input, Output, Target" in page
    (way,) = report["evaluation"]["directions"]
    assert way["arms"] == ["the run", "identity", "mean image", "nearest pair"]
    for arm in way["arms"]:
        assert f"A2B {arm}: {way['metrics'][0]}" in report["evaluation"]["measurements"]


def test_evaluation_of_more_than_are_compared_with(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All inputs have their own truth, and pairs are seen whole, not as they are cut for training."""
    monkeypatch.setattr(evaluation, "MOST", 16)
    more = ("--out", tmp_path / "run", "--held-out", "18", "--jitter", "2", *SMALL, "--images", "8")
    assert run("train", pairs.parent / "data", "--algorithm", "pix2pix", *more) == 0
    assert run("evaluate", tmp_path / "run", *WORDS[:2], "-n", "18", "--no-cache", "--json", tmp_path / "x.json") == 0
    found = json.loads((tmp_path / "x.json").read_text())["measurements"]
    assert found["A2B the run: l1"]["protocol"]["n_real"] == 18
    trained = runs.from_json(sample.read_recipe(tmp_path / "run")["run"])
    trial = api._trial(tmp_path / "run", trained, "best", "train")
    assert trial.train.jitter == trial.unseen.jitter == 0
    assert trial.selection == "the best checkpoint by the probe"


def test_a_test_split_that_was_trained_on_is_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--split", "all", "--out", tmp_path / "run", "--held-out", "4", *SMALL, "--images", "8")
    assert run("train", pairs.parent / "data", "--algorithm", "pix2pix", *more) == 0
    assert run("evaluate", tmp_path / "run", "--split", "test") == 2
    assert "trained on --split all, so it knows them" in capsys.readouterr().err


class Halves:
    """In place of LPIPS, whose weights are a download."""

    weights, preparation = "none", "none"

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x - y).abs().flatten(1).mean(1) / 2


def test_too_few_images_to_measure_are_said_to_be_that(cycle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", cycle, "--features", "random", "--no-cache") == 2
    said = capsys.readouterr().err
    assert "only 4 images of side A were not trained on, and 16 are needed: train with --held-out 16" in said


def test_no_images_at_all_are_refused(
    cycle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "LEAST", 3)
    assert run("evaluate", cycle, "--features", "random", "-n", "0", "--no-cache") == 2
    assert "-n 0: give 3 to 4: so many images of side A" in capsys.readouterr().err


def test_lpips_stands_beside_the_pixels(
    pairs: Path, cycle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zerosum.translation.evaluate.LPIPS", Halves)
    more = ("--out", tmp_path / "run", "--held-out", "16", *SMALL, "--images", "8")
    assert run("train", pairs.parent / "data", "--algorithm", "pix2pix", *more) == 0
    assert run("evaluate", tmp_path / "run", *WORDS, "--lpips", "--json", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())["measurements"]
    for arm in ("the run", "identity", "mean image", "nearest pair"):
        assert found[f"A2B {arm}: lpips"]["value"] == pytest.approx(found[f"A2B {arm}: l1"]["value"] / 2)
    assert "LPIPS" in (tmp_path / "run" / "report.html").read_text()
    capsys.readouterr()
    assert run("evaluate", cycle, *WORDS[:2], "--no-cache", "--lpips") != 0
    assert "not paired: leave it out" in capsys.readouterr().err
    with pytest.raises(UserError, match="not a translator's run"):
        api.evaluate(np.zeros((20, 1, 8, 8), np.uint8), against="digits", lpips=True)


def test_an_evaluation_shows_both_ways_of_a_cycle(cycle: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "run", ("--algorithm.networks.blocks", "1", "--held-out", "16", *SMALL, "--images", "8")
    assert run("train", cycle.parent / "data", "--algorithm", "cyclegan", "--out", out, *more) == 0
    assert run("evaluate", out, *WORDS) == 0
    for way in ("A2B", "B2A"):
        assert shown(out, way)[0] == "Input, Output, Back again"
    found = json.loads((out / "report.json").read_text())["evaluation"]
    assert [way["direction"] for way in found["directions"]] == ["A2B", "B2A"]
    for name in ("A2B there and back: l1", "B2A colour transfer: kernel", "B2A the run: domain"):
        assert name in found["measurements"]
