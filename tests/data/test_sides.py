"""Two sides: every layout they may be found in, what belongs to what, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import encoded, folder_of, noise, smooth, zip_of
from PIL import Image
from sided import flat, flats, opened, side_by_side, told, values

import tiny
from zerosum import parsing
from zerosum import run as runs
from zerosum.commands.base import DataOptions
from zerosum.data import Data, check, making
from zerosum.data import open as open_data
from zerosum.errors import UserError

# ---- joined files ----------------------------------------------------------------------------------------------------


def test_joined_files_are_cut_in_the_middle(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path, side_by_side(3)), pairing="joined")
    assert found.paired
    assert len(found) == 3
    assert found.spec.shape == (3, 8, 8)
    assert found.spec.paired
    assert found.spec.target is not None
    assert found.spec.target.shape == (3, 8, 8)
    for i in range(3):
        whole = noise(8, 16, 3, seed=i).transpose(2, 0, 1)
        assert np.array_equal(values(found, "a")[i], whole[:, :, :8])
        assert np.array_equal(values(found, "b")[i], whole[:, :, 8:])
    assert "left half" in " ".join(found.notes)


def test_twice_as_wide_as_high_is_taken_for_joined_and_nothing_else_is(tmp_path: Path) -> None:
    assert opened(folder_of(tmp_path / "a", side_by_side(3))).paired
    wider = side_by_side(3) | {"wide.png": encoded(smooth(8, 18))}
    with pytest.raises(UserError, match=r"no two sides.*--target.*--pairing joined"):
        opened(folder_of(tmp_path / "b", wider))
    found = opened(folder_of(tmp_path / "b", wider), pairing="joined", size=(8, 8))
    assert len(found) == 4


def test_a_joined_file_of_odd_width_is_named(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path, side_by_side(3) | {"odd.png": encoded(smooth(8, 17))}), pairing="joined")
    assert len(found) == 3
    ((name, reason),) = found.skipped
    assert name == "odd.png"
    assert "17" in reason


def test_backwards_the_sides_change_places(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, side_by_side(3))
    there, back = opened(folder), opened(folder, direction="B2A")
    assert np.array_equal(values(there, "a"), values(back, "b"))
    assert np.array_equal(values(there, "b"), values(back, "a"))
    assert (there.names, back.names) == (("A", "B"), ("B", "A"))


# ---- two folders -----------------------------------------------------------------------------------------------------

LAYOUTS = [
    "{split}{side}/{name}.png",
    "set/{split}{side}/{name}.png",
    "{split}_{side}/street/{name}.png",
    "{split}/{side}/{name}.png",
    "{side}/{split}/{name}.png",
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packed", [False, True])
def test_the_folders_say_side_and_split(tmp_path: Path, layout: str, packed: bool) -> None:
    names = {
        layout.format(split=split, side=side, name=f"{i}"): 100 * (side == "B") + 10 * (split == "test") + i
        for split, count in (("train", 3), ("test", 2))
        for side in "AB"
        for i in range(count)
    }
    source = (zip_of if packed else folder_of)(tmp_path / ("x.zip" if packed else "x"), flats(names))
    train, test, every = (opened(source, split=split) for split in ("train", "test", "all"))
    assert (told(train, "a"), told(train, "b")) == ([0, 1, 2], [100, 101, 102])
    assert (told(test, "a"), told(test, "b")) == ([10, 11], [110, 111])
    assert sorted(told(every, "a")) == [0, 1, 2, 10, 11]
    assert re.search(r"side A is \w*A \(2 images\), side B is \w*B \(2\)", " ".join(test.notes))
    assert [b - a for a, b in zip(told(every, "a"), told(every, "b"), strict=True)] == [100] * 5
    assert all(found.paired for found in (train, test, every))


def test_two_folders_of_any_name_are_the_sides(tmp_path: Path) -> None:
    names = {f"{folder}/{i}.{end}": 100 * (folder == "photo") + i for i in range(3) for folder, end in SIDES_OF_MASKS}
    found = opened(folder_of(tmp_path, flats(names)))
    assert (told(found, "a"), told(found, "b")) == ([0, 1, 2], [100, 101, 102])
    assert "side A is mask" in " ".join(found.notes)
    assert opened(tmp_path / "photo", target=str(tmp_path / "mask")).names == ("A", "B")
    assert told(opened(tmp_path / "photo", target=str(tmp_path / "mask")), "a") == [100, 101, 102]


SIDES_OF_MASKS = (("mask", "png"), ("photo", "bmp"))


def test_images_outside_the_sides_are_left_out_with_a_note(tmp_path: Path) -> None:
    names = {f"train{side}/{i}.png": i for side in "AB" for i in range(2)} | {"preview.png": 9}
    found = opened(folder_of(tmp_path, flats(names)))
    assert len(found) == 2
    assert "preview.png" in " ".join(found.notes)


def test_images_without_a_partner_are_named(tmp_path: Path) -> None:
    names = {f"A/{i}.png": i for i in range(4)} | {f"B/{i}.png": 100 + i for i in range(1, 6)}
    found = opened(folder_of(tmp_path, flats(names)), pairing="folders")
    assert told(found, "a") == [1, 2, 3]
    assert told(found, "b") == [101, 102, 103]
    assert {name for name, _ in found.skipped} == {"A/0.png", "B/4.png", "B/5.png"}
    assert "3 images without a partner" in " ".join(found.notes)


def test_of_two_files_of_one_name_the_first_is_the_partner(tmp_path: Path) -> None:
    names = {"A/0.png": 0, "A/1.png": 1, "B/0.bmp": 100, "B/0.png": 50, "B/1.png": 101}
    found = opened(folder_of(tmp_path, flats(names)), pairing="folders")
    assert told(found, "b") == [100, 101]
    ((name, reason),) = found.skipped
    assert name == "B/0.png"
    assert "B/0.bmp" in reason


def test_no_partner_at_all_is_one_error(tmp_path: Path) -> None:
    names = {f"A/cat{i}.png": i for i in range(3)} | {f"B/dog{i}.png": i for i in range(3)}
    with pytest.raises(UserError, match=r"A/cat0.png.*B/dog0.png.*--pairing unpaired"):
        opened(folder_of(tmp_path, flats(names)), pairing="folders")
    assert not opened(tmp_path).paired, "taken for what it is if nothing is asked for"


@pytest.mark.parametrize(("present", "missing"), [("A", "B"), ("B", "A")])
def test_a_missing_side_is_one_error(tmp_path: Path, present: str, missing: str) -> None:
    names = {f"train{present}/{i}.png": i for i in range(3)}
    with pytest.raises(UserError, match=f"no image of side {missing}.*train{missing}"):
        opened(folder_of(tmp_path, flats(names)))


def test_a_side_without_that_split_is_one_error(tmp_path: Path) -> None:
    names = {f"train{side}/{i}.png": i for side in "AB" for i in range(3)} | {"testA/0.png": 0, "testA/1.png": 1}
    folder = folder_of(tmp_path, flats(names))
    with pytest.raises(UserError, match=r"no image of side B \(--split test\)"):
        opened(folder, split="test")
    assert len(opened(folder)) == 3
    plain = folder_of(tmp_path / "plain", flats({f"{side}/{i}.png": i for side in "AB" for i in range(3)}))
    with pytest.raises(UserError, match="--split test"):
        opened(plain, split="test")


def test_partners_must_lie_over_one_another(tmp_path: Path) -> None:
    files = {f"A/{i}.png": encoded(smooth(30, 40, seed=i)) for i in range(4)}
    files |= {f"B/{i}.png": encoded(flat(i, 90, 120)) for i in range(2)}
    files |= {"B/2.png": encoded(flat(2, 90, 121)), "B/3.png": encoded(flat(3, 90, 123))}
    found = opened(folder_of(tmp_path, files), size=(12, 16))
    assert len(found) == 3, "0.8 % is near enough, 2.5 % is not"
    ((name, reason),) = found.skipped
    assert name == "A/3.png"
    assert "B/3.png" in reason
    assert "2 %" in reason


def test_a_broken_file_takes_its_partner_along_and_both_are_named(tmp_path: Path) -> None:
    files = flats({f"{side}/{i}.png": i for side in "AB" for i in range(4)})
    files |= {"A/1.png": b"this is text", "B/2.png": files["B/2.png"][:40]}
    found = opened(folder_of(tmp_path, files))
    assert told(found, "a") == told(found, "b") == [0, 3]
    assert [name for name, _ in found.skipped] == ["A/1.png", "A/2.png"]
    assert "not a readable image" in found.skipped[0][1]
    assert "B/2.png" in found.skipped[1][1]


def test_nothing_but_text_is_one_error(tmp_path: Path) -> None:
    files = {f"{side}/{i}.png": b"text" for side in "AB" for i in range(3)}
    for fit in ("crop", "bucket"):
        with pytest.raises(UserError, match=r"A/0.png: not a readable image"):
            opened(folder_of(tmp_path, files), fit=fit)


# ---- unpaired --------------------------------------------------------------------------------------------------------


def test_unpaired_sides_differ_in_number_channels_and_names(tmp_path: Path) -> None:
    files = {f"trainA/cat{i}.png": encoded(flat(i)) for i in range(5)}
    files |= {f"trainB/dog{i}.png": encoded(Image.fromarray(noise(8, 8, 4, seed=i))) for i in range(3)}
    found = opened(folder_of(tmp_path, files))
    assert not found.paired
    assert (found.count("a"), found.count("b"), len(found)) == (5, 3, 3)
    assert found.spec.shape == (1, 8, 8)
    assert found.spec.target is not None
    assert found.spec.target.shape == (4, 8, 8)
    assert not found.spec.paired
    assert told(found, "a") == list(range(5))
    assert opened(tmp_path, channels=3).spec.shape == (3, 8, 8)


def test_names_that_agree_are_pairs_unless_it_is_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, flats({f"{side}/{i}.png": i for side in "AB" for i in range(12)}))
    paired, unpaired = opened(folder), opened(folder, pairing="unpaired")
    assert paired.paired
    assert not unpaired.paired
    assert "--pairing unpaired" in " ".join(paired.notes)
    wider = opened(folder, pairing="unpaired", jitter=2)
    assert len({paired.fingerprint, unpaired.fingerprint, wider.fingerprint}) == 3
    assert opened(folder).fingerprint == paired.fingerprint


def test_arrays_and_named_sets_are_sides_too(tmp_path: Path) -> None:
    np.save(tmp_path / "photos.npy", noise(30, 8, 8, 3))
    found = opened("digits", target=str(tmp_path / "photos.npy"), limit=20)
    assert not found.paired, "that row numbers agree means nothing"
    assert (found.count("a"), found.count("b")) == (20, 20)
    assert found.spec.shape == (1, 8, 8)
    assert np.array_equal(values(found, "b"), noise(30, 8, 8, 3)[:20].transpose(0, 3, 1, 2))
    np.save(tmp_path / "masks.npy", noise(30, 8, 8))
    pairs = opened(tmp_path / "photos.npy", target=str(tmp_path / "masks.npy"), pairing="folders", jitter=2)
    assert pairs.paired
    assert pairs.spec.shape == (3, 8, 8)
    with pytest.raises(UserError, match="points"):
        opened("digits", target="ring")


# ---- made ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["edges", "grey", "small", "mask", "scribble"])
def test_a_side_is_made_of_the_photos(tmp_path: Path, kind: Any) -> None:
    files = {f"{i}.png": encoded(smooth(24, 20, seed=i)) for i in range(3)}
    found = opened(folder_of(tmp_path, files), made=kind, jitter=3)
    assert found.paired
    photos, drawings = values(found, "b"), values(found, "a")
    assert photos.shape == (3, 3, 27, 23)
    assert found.spec.shape == (making.channels(kind, 3), 24, 20)
    for photo, drawing in zip(photos, drawings, strict=True):
        assert np.array_equal(drawing, making.make(kind, photo))


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"labels": "x.csv"}, "--labels x.csv"),
        ({"pairing": "made"}, "--made edges"),
        ({"made": "edges", "pairing": "folders"}, "--made edges"),
        ({"made": "edges", "bits": "own"}, "--bits own"),
        ({"made": "edges", "target": "x"}, "--target x"),
        ({"pairing": "joined", "target": "x"}, "--target x"),
        ({"value_range": (0.0, 1.0)}, "--value-range 0 1"),
        ({"jitter": -1}, "--jitter -1"),
        ({"pairing": "unpaired"}, "--pairing unpaired"),
        ({"pairing": "folders"}, "--pairing folders"),
        ({"target": "nowhere"}, "nowhere"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    folder = folder_of(tmp_path, side_by_side(3))
    with pytest.raises(UserError, match=named):
        opened(folder, **settings)


def test_settings_come_from_the_command_line_and_survive_the_recipe() -> None:
    words = ["x", "--target", "y", "--pairing", "unpaired", "--made", "edges", "--direction", "B2A", "--jitter", "30"]
    words += ["--bits", "own", "--fit", "bucket", "--value-range", "-1024", "3071"]
    data = parsing.parse(DataOptions, words, prog="", description="").plain()
    assert data == Data(
        source="x", target="y", pairing="unpaired", made="edges", direction="B2A", jitter=30, bits="own", fit="bucket",
        value_range=(-1024.0, 3071.0),
    )  # fmt: skip
    run = replace(tiny.run("r3gan"), data=data)
    assert runs.from_json(json.loads(runs.dumps(run))).data == data


@pytest.mark.parametrize("settings", [{"fit": "bucket"}, {"made": "grey"}, {"target": "x"}, {"jitter": 4}])
def test_one_sided_sets_refuse_what_only_translation_reads(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = folder_of(tmp_path, side_by_side(3))
    for use in (open_data, check):
        with pytest.raises(UserError, match="translation"):
            use(Data(source=str(folder), **settings))


# ---- real data -------------------------------------------------------------------------------------------------------


def present(folder: Path, *names: str) -> Iterable[Path]:
    for name in names:
        if not (folder / name).is_dir():
            pytest.skip(f"no {name} in {folder}")
        yield folder / name


def test_facades_are_joined(data_folder: Path) -> None:
    (folder,) = present(data_folder, "facades")
    found = opened(folder, limit=24, size=(64, 64), jitter=8, direction="B2A")
    assert found.paired
    assert found.spec.shape == (3, 64, 64)
    assert (found.a.spec.shape, len(found)) == ((3, 72, 72), 24)
    labels, photos = values(found, "a"), values(found, "b")
    assert saturation(labels) > 2 * saturation(photos), "labels are pure colours, and lie to the right"
    assert len(opened(folder, split="test", limit=12, size=(32, 32))) == 12


def saturation(images: np.ndarray) -> float:
    return float((images.max(axis=1).astype(int) - images.min(axis=1)).mean())


def test_cats_and_dogs_are_unpaired(data_folder: Path) -> None:
    (folder,) = present(data_folder, "cat2dog")
    found = opened(folder, limit=24, size=(32, 32))
    assert not found.paired
    assert (found.count("a"), found.count("b")) == (24, 24)
    bucketed = opened(folder, limit=120, size=(32, 32), fit="bucket")
    assert len(bucketed.buckets) > 1


def test_horses_fit_their_masks(data_folder: Path) -> None:
    (folder,) = present(data_folder, "weizmann_horse")
    found = opened(folder, limit=24, size=(48, 64))
    assert found.paired
    assert len(found) == 24
    assert found.spec.shape == (1, 48, 64)
    assert found.spec.target is not None
    assert found.spec.target.shape == (3, 48, 64)
    assert not found.skipped


def test_emoji_are_pairs_or_not_as_one_says(data_folder: Path) -> None:
    google, twitter = present(data_folder, "emoji/google", "emoji/twitter")
    found = opened(google, target=str(twitter), limit=24)
    assert found.paired
    assert found.spec.shape == (4, 64, 64)
    assert not opened(google, target=str(twitter), limit=24, pairing="unpaired").paired
