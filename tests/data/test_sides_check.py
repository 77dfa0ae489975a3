"""`check_sides`: what is said of two sides before a run is spent on them, and the command that says it."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from drawn import encoded, folder_of, noise, smooth, zip_of
from PIL import Image, ImageFilter

from zerosum import cli
from zerosum.data import Data, SidesReport, check, check_sides, dicom, tiff
from zerosum.errors import UserError

picking = importlib.import_module("zerosum.recipes.pick")


@pytest.fixture(autouse=True)
def _untimed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picking, "estimate", lambda *_: 100.0)
        patch.setattr(picking, "probe_interval", lambda *_: 1_000)
        yield


def checked(source: Path | str, **settings: Any) -> SidesReport:
    return check_sides(Data(source=str(source), **settings))


def shape(seed: int, side: int = 32) -> Image.Image:
    """Some rectangles on a ground, whose edges tell it from others."""
    random = np.random.default_rng(seed)
    values = np.full((side, side, 3), 40, np.uint8)
    for _ in range(4):
        top, left = random.integers(0, side - 8, 2)
        high, wide = random.integers(4, side // 2, 2)
        values[top : top + high, left : left + wide] = random.integers(60, 256, 3)
    return Image.fromarray(values)


def drawn(image: Image.Image) -> Image.Image:
    """What may be its partner: the same edges in other colours."""
    return image.convert("L").filter(ImageFilter.GaussianBlur(1)).point(lambda v: 255 - v)


def test_a_report_on_pairs(tmp_path: Path) -> None:
    files = {f"trainA/{i:02}.png": encoded(shape(i)) for i in range(20)}
    files |= {f"trainB/{i:02}.png": encoded(drawn(shape(i))) for i in range(20)}
    files |= {f"testA/{i:02}.png": encoded(shape(i)) for i in (3, 40)}
    files |= {f"testB/{i:02}.png": encoded(drawn(shape(50 + i))) for i in (3, 40)}
    files["trainA/04.png"] = files["trainA/05.png"]
    files["trainB/06.png"] = encoded(drawn(shape(6)).resize((48, 48)))
    files["trainA/07.png"] = files["trainB/07.png"]
    files["trainA/08.png"] = b"this is text"
    files["trainB/09.png"] = encoded(drawn(shape(9)).resize((32, 20)))
    del files["trainB/10.png"], files["trainA/11.png"]
    for source in (folder_of(tmp_path / "x", files), zip_of(tmp_path / "x.zip", files)):
        report = checked(source, pairing="folders")
        a, b = report.sides
        assert report.paired
        assert (report.count, a.count, b.count) == (16, 16, 16)
        assert (a.side, a.sizes, b.sizes) == ("a", {"32 x 32": 16}, {"32 x 32": 15, "48 x 48": 1})
        assert (a.channels_used, b.channels_used) == ({"colour": 15, "grey": 1}, {"grey": 16})
        assert a.depths == b.depths == {"8 bits": 16}
        assert {name for name, _ in report.alone} == {"trainA/10.png", "trainB/11.png"}
        assert [name for name, _ in report.unreadable] == ["trainA/08.png", "trainA/09.png"]
        assert "aspect ratios differ" in report.unreadable[1][1]
        assert report.unlike_sizes == 1
        assert report.unlike_examples == ("trainA/06.png (32 x 32 and 48 x 48)",)
        assert a.exact_examples == ((("trainA/04.png", "trainA/05.png"), 2),)
        assert report.on_both_examples == (("trainA/07.png", "trainA/07.png, side B"),)
        assert report.has_test
        assert (a.in_test, b.in_test) == (1, 0)
        assert a.in_test_examples == (("trainA/03.png", "testA/03.png"),)
        assert report.alignment is not None
        assert report.alignment.sure
        assert report.alignment.partners > report.alignment.strangers + 0.2
        json.dumps(report.to_dict())


def test_partners_that_do_not_belong_together_are_noticed(tmp_path: Path) -> None:
    files = {f"A/{i:02}.png": encoded(shape(i)) for i in range(30)}
    files |= {f"B/{i:02}.png": encoded(drawn(shape(100 + i))) for i in range(30)}
    report = checked(folder_of(tmp_path / "x", files), pairing="folders")
    assert report.alignment is not None
    assert not report.alignment.sure
    few = {name: raw for name, raw in files.items() if name[2:4] < "06"}
    assert checked(folder_of(tmp_path / "few", few), pairing="folders").alignment is None


def test_a_report_on_unpaired_sides(tmp_path: Path) -> None:
    files = {f"trainA/a{i}.png": encoded(smooth(20, 30, i)) for i in range(5)}
    files |= {f"trainB/b{i}.jpg": encoded(smooth(24, 24, 100 + i), "JPEG") for i in range(4)}
    files |= {"trainB/same.png": files["trainA/a3.png"], "trainB/bad.jpg": b""}
    report = checked(folder_of(tmp_path, files), pairing="auto")
    a, b = report.sides
    assert not report.paired
    assert (report.count, a.count, b.count) == (5, 5, 5)
    assert (a.sizes, b.sizes) == ({"20 x 30": 5}, {"24 x 24": 4, "20 x 30": 1})
    assert report.on_both_examples == (("trainA/a3.png", "trainB/same.png"),)
    assert [name for name, _ in report.unreadable] == ["trainB/bad.jpg"]
    assert (report.alone, report.alignment, report.has_test) == ((), None, False)
    assert any("unpaired: no names of files agree" in note for note in report.notes)


def test_joined_files_deep_files_and_made_sides(tmp_path: Path) -> None:
    wide = {f"{i}.png": encoded(Image.fromarray(noise(8, 16, 3, seed=i))) for i in range(3)}
    report = checked(folder_of(tmp_path / "joined", wide | {"odd.png": encoded(smooth(8, 15))}), pairing="joined")
    assert [side.sizes for side in report.sides] == [{"8 x 8": 3}, {"8 x 8": 3}]
    assert "two halves" in report.unreadable[0][1]
    folder_of(tmp_path / "deep", {f"B/{i}.png": encoded(smooth(8, 8, i)) for i in range(3)})
    (tmp_path / "deep/A").mkdir()
    for i in range(3):
        np.save(tmp_path / f"deep/A/{i}.npy", np.float32(noise(1, 8, 8, seed=i)) * 10 - 1000)
    report = checked(tmp_path / "deep", pairing="folders", bits="own")
    assert [side.depths for side in report.sides] == [{"float32": 3}, {"8 bits": 3}]
    assert (report.sides[0].lowest >= -1000, report.sides[0].highest <= 1550) == (True, True)
    report = checked(folder_of(tmp_path / "photos", wide), made="edges")
    assert [side.side for side in report.sides] == ["b"]
    assert checked(tmp_path / "photos", made="edges", limit=2).count == 2


def test_what_is_said_of_single_files_is_said_with_how_many(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    scan = dicom.encode(noise(1, 8, 8))  # a secondary capture: text may be burned in
    pages = io.BytesIO()
    tifffile.imwrite(pages, np.zeros((2, 8, 8), np.uint16), photometric="minisblack", metadata=None)
    files = {"A/0.dcm": scan, "A/1.dcm": scan, "A/2.tif": pages.getvalue()}
    files |= {f"B/{i}.png": encoded(smooth(8, 8, i)) for i in range(3)}
    report = checked(folder_of(tmp_path, files), pairing="unpaired", bits="own")
    assert f"2 of 6 images: {dicom.MAYBE_TEXT}" in report.notes
    assert f"1 of 6 images: {tiff.FIRST_PAGE}" in report.notes


def test_sides_of_which_nothing_is_left_are_one_error(tmp_path: Path) -> None:
    files = {f"A/{i}.png": encoded(smooth(8, 8, i)) for i in range(3)} | {"B/0.png": b"text", "B/1.png": b""}
    with pytest.raises(UserError, match=r"no image of side B can be used \(B/0.png: not a readable"):
        checked(folder_of(tmp_path, files), pairing="unpaired")


def test_the_check_of_one_side_says_when_there_are_two(tmp_path: Path) -> None:
    named = folder_of(tmp_path / "x", {f"{side}/{i}.png": encoded(smooth(8, 9, i)) for i in range(3) for side in "AB"})
    assert any("--pairing auto" in note for note in check(Data(source=str(named))).notes)
    wide = folder_of(tmp_path / "y", {f"{i}.png": encoded(smooth(8, 16, i)) for i in range(3)})
    assert any("--pairing joined" in note for note in check(Data(source=str(wide))).notes)
    plain = folder_of(tmp_path / "z", {f"{side}/{i}.png": encoded(smooth(8, 9, i)) for i in range(3) for side in "ABC"})
    assert not any("--pairing" in note for note in check(Data(source=str(plain))).notes)


# --- the command ---------------------------------------------------------------------------------------------------


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def test_the_command_says_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"A/{i:02}.png": encoded(shape(i)) for i in range(20)}
    files |= {f"B/{i:02}.png": encoded(drawn(shape(i))) for i in range(20)}
    files |= {"A/20.png": encoded(shape(20)), "A/21.png": b"text", "B/21.png": encoded(shape(21))}
    source = folder_of(tmp_path / "x", files)
    assert run("data", "check", source, "--pairing", "auto") == 0
    out = capsys.readouterr().out
    for part in (
        "20 pairs", "side A       20 images; 32 x 32 (height x width)", "colour; 8 bits; values",
        "unreadable   1 left out", "A/21.png: not a readable image", "no partner   1 left out", "A/20.png: it has no",
        "duplicates   side A: 0 exact, ", "alignment    edges of partners agree by", "partners belong together",
        "a run here", "taken for pairs: their names agree",
    ):  # fmt: skip
        assert part in out, part
    assert out.count("taken for pairs") == 1
    assert run("data", "check", source, "--pairing", "auto", "--json", "--size", "16", "16") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["paired"], content["count"], content["run"]["shape"]) == (True, 20, [3, 16, 16])


def test_the_status_says_that_a_run_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(3):
        for side in "AB":
            (tmp_path / "deep" / side).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / f"deep/{side}/{i}.npy", np.float32(noise(1, 8, 8, seed=i)))
    assert run("data", "check", tmp_path / "deep", "--pairing", "folders", "--bits", "own") == 1
    out = capsys.readouterr().out
    assert "3 pairs" in out
    assert "cannot be: --value-range is missing" in out


@pytest.mark.parametrize(
    ("names", "words", "said"),
    [
        (("trainA/1.png", "trainA/2.png"), ("--pairing", "auto"), "side A is there (trainA), but no image of side B"),
        (("A/1.png", "A/2.png", "B/3.png", "B/4.png"), ("--pairing", "folders"), "none of 2 images of side A"),
        (("1.png", "2.png"), ("--pairing", "folders"), "has no two sides that can be told from each other"),
    ],
)
def test_sides_that_are_not_there_are_one_error(
    names: tuple[str, ...], words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder_of(tmp_path / "x", {name: encoded(smooth(8, 8, i)) for i, name in enumerate(names)})
    assert run("data", "check", source, *words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert [said in line for line in told.err.splitlines() if "error:" in line] == [True]
    assert run("train", source, "--algorithm", "pix2pix", *words, "--out", tmp_path / "run") == 2
    assert [said in line for line in capsys.readouterr().err.splitlines() if "error:" in line] == [True]
    assert not (tmp_path / "run").exists()
