"""The benchmark of translators: its parts keep apart, its quick pass, and what stands in the split lists."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zerosum import bench as benchmarks
from zerosum.bench import scenes
from zerosum.data import open_sides
from zerosum.equilibrium import two_sample
from zerosum.errors import UserError

picking = importlib.import_module("zerosum.recipes.pick")


def drawings(folder: Path, names: list[str], size: tuple[int, int] = (64, 64)) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(folder.name))
    for name in names:
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(folder / name)


def test_no_drawing_is_on_both_sides_or_in_two_parts() -> None:
    emoji = scenes.split("emoji")
    parts = [set(emoji[name]) for name in ("train_a", "train_b", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert min(map(len, parts)) > 200
    bases = [{name[:-4].split("-")[0] for name in part} for part in parts]
    shared = set.union(*(a & b for i, a in enumerate(bases) for b in bases[:i]))
    # Of flags, keys and people many begin alike and are drawn unlike.
    flags, keys = (
        {f"{0x1F1E6 + i:x}" for i in range(26)} | {"1f3f4", "1f3f3"},
        {f"{ord(c):04x}" for c in "0123456789#*"},
    )
    assert shared - flags - keys <= {"1f468", "1f469", "1f9d1"}
    facades = scenes.split("facades")
    assert not set(facades["train_a"]) & set(facades["train_b"])
    cats = scenes.split("cat2dog")
    assert len(set(cats["validation_a"])) == len(set(cats["validation_b"])) == 150


def test_quick_on_drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i}.png" for i in range(90)]
    parts = {"train_a": names[:30], "train_b": names[30:60], "validation": names[60:76], "test": names[70:]}
    monkeypatch.setattr(scenes, "split", lambda name: parts)
    monkeypatch.setattr(two_sample, "LEAST_STEPS", 5)
    monkeypatch.setattr(two_sample, "STEPS", 5)
    monkeypatch.setattr(picking, "estimate", lambda *_: 100.0)
    for side in ("google", "twitter"):
        drawings(tmp_path / "emoji" / side / "64", names)
    out, words = tmp_path / "out", ["--data", str(tmp_path), "--scenes", "emoji", "--arms", "default", "cut"]
    words = ["image-to-image", "--quick", "--threads", "1", "--out", str(out), *words]
    assert benchmarks.main(words) == 0
    written = json.loads((out / "image-to-image.json").read_text())
    assert [t["title"].split(", ")[-1] for t in written["tables"]] == [
        "A2B: validation images",
        "B2A: validation images",
    ]
    there, back = (table["arms"] for table in written["tables"])
    assert set(there) == {"default", "CUT, the default's networks", "identity", "colour transfer", "real images"}
    assert "CUT, the default's networks" not in back  # it goes one way
    assert 1 <= there["default"]["runs"][0]["A2B the run: rank"] <= 16
    assert there["default"]["runs"][0]["cycle"] > 0
    assert any("taken for the other side" in target["what"] for target in written["targets"])
    sheet = out / "image-to-image" / "emoji-default-seed0.png"
    with Image.open(sheet) as image:
        assert image.width > 3 * 3 * 64
    assert str(tmp_path) not in (out / "image-to-image.json").read_text()

    before = sheet.stat().st_mtime_ns
    assert benchmarks.main([*words, "--final"]) == 0
    written = json.loads((out / "image-to-image.json").read_text())
    assert len(written["tables"]) == 4
    assert not [t["what"] for t in written["targets"] if "against default" in t["what"]], "it is no rival of its own"
    assert not [p for p in (out / "image-to-image").glob("*.json") if str(tmp_path) in p.read_text()]
    assert sheet.stat().st_mtime_ns == before  # nothing was trained again


def test_pairs_are_scored_as_pairs_and_facades_cut_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i}.png" for i in range(40)]
    for part, these in (("train", names), ("val", names[:16]), ("test", names[16:32])):
        drawings(tmp_path / "facades" / part, these, (128, 64))
    monkeypatch.setattr(scenes, "split", lambda name: {"train_a": names[:20], "train_b": names[20:]})
    paired = scenes.facades(tmp_path, tmp_path / "work")
    unpaired = scenes.unpaired_facades(tmp_path, tmp_path / "work")
    assert open_sides(paired.judged["validation"]).paired
    assert open_sides(unpaired.judged["test"]).paired  # the truth, kept aside
    with (
        Image.open(tmp_path / "facades" / "train" / "25.png") as joined,
        Image.open(tmp_path / "work" / "unpaired-facades" / "B" / "25.png") as right,
    ):
        assert np.array_equal(np.asarray(joined)[:, 64:], np.asarray(right))
    assert len(list((tmp_path / "work" / "unpaired-facades" / "A").iterdir())) == 20


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no folder facades/train"):
        scenes.facades(tmp_path, tmp_path / "work")
    with pytest.raises(UserError, match="--data"):
        benchmarks.main(["image-to-image", "--quick", "--out", str(tmp_path)])
