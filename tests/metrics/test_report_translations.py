"""The report of a translator: examples in rows, and its numbers beside those of what needs no training."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
import report_files
from PIL import Image
from report_files import Page

from zerosum.metrics.report import write_report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    run = report_files.make_translation(tmp_path_factory.mktemp("made") / "horses-cyclegan-1")
    return run, Page((run / "report.html").read_text("utf-8"))


def test_each_direction_has_its_rows(made: tuple[Path, Page]) -> None:
    run, page = made
    assert "A to B Input Output Back again Target Images that were not trained on" in page.text
    assert "B to A Input Output Back again Images that were not trained on" in page.text
    assert "differ from what they were by 0.0321 on average, of a range of 1 (0.0292 to 0.0350)" in page.text
    images = [image for image in page.all("img") if "an example a row" in (image["alt"] or "")]
    assert [image["alt"] for image in images] == [
        "A to B, an example a row: Input, Output, Back again, Target",
        "B to A, an example a row: Input, Output, Back again",
    ]
    for image, way in zip(images, ("A2B", "B2A"), strict=True):
        data = base64.b64decode((image["src"] or "").split(",")[1])
        assert data == (run / f"evaluation-{way}.png").read_bytes()
    assert {"href": "#translations"} in page.all("a")


def test_the_picture_says_what_it_is_of(made: tuple[Path, Page]) -> None:
    run, _ = made
    with Image.open(run / "evaluation-A2B.png") as image:
        assert image.text == {  # type: ignore[attr-defined]
            "zerosum": "generated", "what": "horses at 10,000 images", "direction": "A2B",
            "columns": "Input, Output, Back again, Target",
        }  # fmt: skip
        scale = 7  # of 24 pixels, to about 160
        assert image.size == (2 + 4 * (24 * scale + 2), 2 + 5 * (16 * scale + 2))
        first = report_files.translated().directions[0].rows[1, 2, :, 3, 5]
        x, y = 2 + 2 * (24 * scale + 2) + 5 * scale, 2 + (16 * scale + 2) + 3 * scale
        assert image.getpixel((x, y)) == tuple(first.tolist()), "row by row, column by column"


def test_numbers_stand_beside_those_of_baselines(made: tuple[Path, Page]) -> None:
    _, page = made
    for part in (
        "measurement the run identity colour transfer real against real",
        "L1 (range 1) lower is better 0.1000 0.0930 to 0.1070 0.200 0.187 to 0.213 0.300 0.281 to 0.319 none",
        "kernel distance lower is better 0.1000 0.0930 to 0.1070 0.200 0.187 to 0.213 0.300 0.281 to 0.319 0.010",
        "taken for the other side higher is better",
    ):
        assert part in page.text, part
    assert len(page.all("b")) == 5, "the best of each row"


def test_nothing_is_said_of_what_noise_alone_has(made: tuple[Path, Page]) -> None:
    run, page = made
    assert "latents" not in page.text
    assert "zerosum equilibrium" not in page.text
    both = ", ".join(["input, output, back again, target"] * 2)
    assert f"the same inputs all through training, not picked by hand. In each row, from the left: {both}" in page.text
    assert "Error of translations" in page.text
    lines = json.loads((run / "report.json").read_text("utf-8"))["verdict"]
    assert [(line["about"], line["standing"]) for line in lines[:2]] == [("images", "good"), ("images", "open")]


def test_without_the_pictures_the_numbers_are_shown(made: tuple[Path, Page], tmp_path: Path) -> None:
    run = Path(shutil.copytree(made[0], tmp_path / "run"))
    for way in ("A2B", "B2A"):
        (run / f"evaluation-{way}.png").unlink()
    page = Page(write_report(run).read_text("utf-8"))
    assert "evaluation-A2B.png cannot be read" in page.text
    assert not [image for image in page.all("img") if "an example a row" in (image["alt"] or "")]
    assert "measurement the run identity colour transfer" in page.text
