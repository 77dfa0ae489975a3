"""Two sides: every layout they may be found in, what belongs to what, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import encoded, folder_of, noise, smooth, zip_of
from PIL import Image

from zerosum.data import Data, Sides, buckets, check, making, open_sides, pack, picture, sizes
from zerosum.data import open as open_data
from zerosum.data.depth import Depth
from zerosum.data.mapped import mapping_of
from zerosum.data.sides import SIDES
from zerosum.data.split import held_out_part, train_part
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError


def opened(source: Path | str, **settings: Any) -> Sides:
    return open_sides(Data(source=str(source), **settings))


def flat(value: int, height: int = 8, width: int = 8) -> Image.Image:
    """A grey picture whose value says which it is."""
    return Image.new("L", (width, height), value)


def values(found: Sides, side: str, bucket: int = 0) -> np.ndarray:
    dataset = found.buckets[bucket][SIDES.index(side)]  # type: ignore[arg-type]
    return dataset.gather(np.arange(len(dataset)))[0]


def told(found: Sides, side: str) -> list[int]:
    """The values that `flat` pictures are told by, in order."""
    return values(found, side)[:, 0, 0, 0].tolist()


def flats(names: dict[str, int], **size: int) -> dict[str, bytes]:
    return {name: encoded(flat(value, **size)) for name, value in names.items()}


def side_by_side(count: int, height: int = 8) -> dict[str, bytes]:
    return {f"{i:02}.png": encoded(Image.fromarray(noise(height, 2 * height, 3, seed=i))) for i in range(count)}


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


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_mixed_sizes_come_to_one(tmp_path: Path, fit: Any) -> None:
    pictures = {i: smooth(20 + 4 * i, 40 - 6 * i, seed=i) for i in range(4)}
    files = {f"{side}/{i}.png": encoded(one) for side in "AB" for i, one in pictures.items()}
    found = opened(folder_of(tmp_path, files), size=(16, 24), fit=fit, jitter=4)
    assert found.spec.shape == (3, 16, 24)
    assert found.a.spec.shape == (3, 20, 28)
    for i, one in pictures.items():
        assert np.array_equal(values(found, "b")[i], picture.render(one, (3, 20, 28), fit))
    assert "resized" in " ".join(found.notes)


def test_what_is_measured_is_the_middle(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path, side_by_side(3)), jitter=5)
    seen = found.gather("b", np.array([2, 0]))
    assert np.array_equal(seen, values(found, "b")[[2, 0]][:, :, 2:10, 2:10])
    assert seen.flags.c_contiguous


def mixed(count: int, heights: Callable[[int], int], widths: Callable[[int], int]) -> dict[str, bytes]:
    return {f"{i:03}.png": encoded(flat(i, heights(i), widths(i))) for i in range(count)}


def both(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{side}/{name}": raw for side in "AB" for name, raw in files.items()}


def test_buckets_keep_aspect_ratios_and_pairs(tmp_path: Path) -> None:
    files = both(mixed(60, lambda i: (64, 48, 80)[i % 3], lambda i: (64, 96, 52)[i % 3])) | {"A/bad.png": b"text"}
    found = opened(folder_of(tmp_path, files | {"B/bad.png": b"text"}), fit="bucket", jitter=2)
    assert [len(a) for a, _ in found.buckets] == [20, 20, 20]
    assert {a.spec.shape[1:] for a, _ in found.buckets} == {(66, 66), (50, 90), (82, 50)}
    assert found.spec.shape in {(1, 64, 64), (1, 48, 88), (1, 80, 48)}
    assert len(found) == 60
    for k in range(3):
        a, b = values(found, "a", k)[:, 0, 0, 0], values(found, "b", k)[:, 0, 0, 0]
        assert np.array_equal(a, b)
        assert len(set(a % 3)) == 1
    assert ("A/bad.png", "not a readable image of a known format") in found.skipped
    assert "sizes (H x W)" in " ".join(found.notes)


def test_unpaired_sides_share_their_buckets(tmp_path: Path) -> None:
    files = {f"trainA/{name}": raw for name, raw in mixed(40, lambda i: 64, lambda i: (64, 96)[i % 2]).items()}
    files |= {f"trainB/d{name}": raw for name, raw in mixed(30, lambda i: 64, lambda i: (64, 96, 24)[i % 3]).items()}
    found = opened(folder_of(tmp_path, files), fit="bucket")
    assert not found.paired
    assert len(found.buckets) == 2, "what one side alone has is no bucket"
    assert all(a.spec.shape[1:] == b.spec.shape[1:] for a, b in found.buckets)
    assert (found.count("a"), found.count("b")) == (40, 30)


@pytest.mark.parametrize("area", [16, 100, 32 * 32, 64 * 64, 96 * 96, 128 * 128, 192 * 256, 256 * 256, 512 * 512])
def test_bucket_sizes_are_ones_that_networks_take(area: int) -> None:
    found = buckets.candidates(area)
    assert found
    assert len(set(found)) == len(found)
    assert all(sizes.takes(*size) for size in found)
    if area >= 32 * 32:
        assert all(abs(h * w / area - 1) < 0.25 for h, w in found)
        assert max(w / h for h, w in found) > 2
        assert min(w / h for h, w in found) < 0.5


def test_few_buckets_of_enough_images() -> None:
    rng = np.random.default_rng(0)
    shapes = np.stack([np.full(1000, 256), (256 * np.exp(rng.normal(0, 0.4, 1000))).astype(int)], axis=1)
    chosen, (places,) = buckets.choose([shapes], 256 * 256)
    assert 3 <= len(chosen) <= buckets.MOST
    counts = np.bincount(places, minlength=len(chosen))
    assert counts.min() >= 20
    assert (np.diff(counts) <= 0).all(), "the commonest first"
    aspect = np.log([w / h for h, w in chosen])
    wanted = np.log(shapes[:, 1] / shapes[:, 0])
    assert np.array_equal(places, np.abs(wanted[:, None] - aspect).argmin(axis=1))
    alone, (where,) = buckets.choose([shapes[:5]], 256 * 256)
    assert len(alone) == 1
    assert (where == 0).all()


# ---- packs and depth -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairing", ["folders", "unpaired"])
def test_a_packed_set_is_the_same_and_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairing: Any
) -> None:
    files = {f"A/{i}.png": encoded(smooth(9, 7, seed=i)) for i in range(6)}
    files |= {f"B/{i}.png": encoded(flat(i, 9, 7)) for i in range(6)} | {"A/bad.png": b"?", "B/bad.png": b"?"}
    folder, cache = folder_of(tmp_path / "x", files), str(tmp_path / "cache")
    plain = opened(folder, pairing=pairing)
    mapped = opened(folder, pairing=pairing, memory_megabytes=0, cache=cache)
    monkeypatch.setattr(picture, "read", lambda raw: pytest.fail("it is in the pack"))
    again = opened(folder, pairing=pairing, memory_megabytes=0, cache=cache)
    for found in (mapped, again):
        assert isinstance(found.a, ArrayDataset)
        assert mapping_of(found.a.values) is not None, "rows of a mapped file are announced"
        for side in SIDES:
            assert np.array_equal(values(found, side), values(plain, side))
        assert (found.fingerprint, found.spec) == (plain.fingerprint, plain.spec)
        assert (found.notes, found.skipped) == (plain.notes, plain.skipped)
    read = opened(folder, pairing=pairing, cache=cache)
    assert isinstance(read.a, ArrayDataset)
    assert mapping_of(read.a.values) is None
    assert np.array_equal(values(read, "a"), values(plain, "a"))


def test_packs_and_fingerprints_of_8_bits_are_what_they_were(tmp_path: Path) -> None:
    """Golden: what older versions packed is found, and what they trained on is known again."""
    images = noise(5, 3, 4, 4)
    header = {"classes": [], "dtype": "|u1", "labelled": False, "shape": [5, 3, 4, 4]}
    expected = hashlib.sha256(json.dumps(header, sort_keys=True).encode() + images.tobytes()).hexdigest()
    assert ArrayDataset(images).fingerprint == expected
    folder = folder_of(tmp_path / "x", {f"{i}.png": encoded(smooth(4, 4, seed=i)) for i in range(3)})
    open_data(Data(source=str(folder), memory_megabytes=0, cache=str(tmp_path)))
    (path,) = (tmp_path / "packed").glob("*.json")
    assert "dtype" not in json.loads(path.read_text())["body"]
    assert pack.key("x", Data(source="x")) == "85b9e510f15c17c1a3a9c718d74e7397"


def test_the_declared_range_is_part_of_the_fingerprint() -> None:
    images = noise(5, 1, 4, 4).astype(np.int16)
    found = {ArrayDataset(images, depth=Depth("int16", low, 3071)).fingerprint for low in (-1024, -1000)}
    assert len(found) == 2


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("memory", [0, 64])
def test_deep_images_keep_their_values(tmp_path: Path, memory: int) -> None:
    pytest.importorskip("zerosum.data.deep")
    scans = np.random.default_rng(0).integers(-1024, 3072, (4, 2, 6, 7)).astype(np.int16)
    files = {f"A/{i}.npy": npy(scan) for i, scan in enumerate(scans)}
    files |= {f"B/{i}.png": encoded(flat(i, 6, 7)) for i in range(4)}
    folder = folder_of(tmp_path / "x", files)
    settings = {"bits": "own", "memory_megabytes": memory, "cache": str(tmp_path)}
    with pytest.raises(UserError, match=r"--value-range.*int16"):
        opened(folder, **settings)
    found = opened(folder, value_range=(-1024.0, 3071.0), **settings)
    assert found.spec.shape == (2, 6, 7)
    assert found.spec.depth == Depth("int16", -1024, 3071)
    assert found.spec.target is not None
    assert found.spec.target.depth == Depth()
    assert np.array_equal(values(found, "a"), scans)
    assert told(found, "b") == [0, 1, 2, 3]
    resized = values(opened(folder, value_range=(-1024.0, 3071.0), size=(4, 4), **settings), "a")
    assert resized.dtype == np.int16


def test_deep_images_of_another_type_are_named(tmp_path: Path) -> None:
    pytest.importorskip("zerosum.data.deep")
    real = np.linspace(0, 1, 36, dtype=np.float32).reshape(6, 6)
    files = {f"A/{i}.npy": npy(real) for i in range(3)} | {f"B/{i}.png": encoded(flat(i, 6, 6)) for i in range(4)}
    files |= {
        "A/3.npy": npy(real[None].repeat(2, axis=0)),
        "A/4.png": encoded(flat(4, 6, 6)),
        "B/4.png": files["B/0.png"],
    }
    found = opened(folder_of(tmp_path, files), bits="own", value_range=(0.0, 1.0))
    assert len(found) == 3
    assert {name: reason.split(",")[0] for name, reason in found.skipped} == {
        "A/3.npy": "it has 2 channels",
        "A/4.png": "it holds uint8 values",
    }
    with pytest.raises(UserError, match="--channels 3"):
        opened(tmp_path, bits="own", value_range=(0.0, 1.0), channels=3)


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


@pytest.mark.parametrize(
    "settings", [{"fit": "bucket"}, {"made": "grey"}, {"target": "x"}, {"jitter": 4}, {"value_range": (0.0, 1.0)}]
)
def test_one_sided_sets_refuse_what_only_translation_reads(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = folder_of(tmp_path, side_by_side(3))
    for use in (open_data, check):
        with pytest.raises(UserError, match="translation"):
            use(Data(source=str(folder), **settings))


# ---- held out --------------------------------------------------------------------------------------------------------


def numbered(count: int, size: int = 2) -> ArrayDataset:
    """Images whose two channels are their number."""
    digits = np.arange(count, dtype="<u2").view(np.uint8).reshape(-1, 2, 1, 1)
    return ArrayDataset(np.broadcast_to(digits, (count, 2, size, size)))


def numbers(found: Sides, side: str) -> list[int]:
    every = [values(found, side, k)[:, :, 0, 0].copy().view("<u2")[:, 0] for k in range(len(found.buckets))]
    return np.concatenate(every).tolist()


def test_of_pairs_both_images_are_held_out() -> None:
    sides, data = Sides(numbered(250), numbered(250), paired=True), Data(source="x")
    train, away = train_part(sides, data), held_out_part(sides, data)
    assert away is not None
    assert len(away) == 25
    assert numbers(away, "a") == numbers(away, "b")
    assert numbers(train, "a") == numbers(train, "b")
    assert sorted(numbers(train, "a") + numbers(away, "a")) == list(range(250))
    single = held_out_part(numbered(250), data)
    assert single is not None
    assert numbers(away, "a") == single.gather(np.arange(25))[0][:, :, 0, 0].copy().view("<u2")[:, 0].tolist()
    assert len({sides.fingerprint, train.fingerprint, away.fingerprint}) == 3
    assert (train.spec, train.paired) == (sides.spec, True)


def test_of_unpaired_sides_each_holds_out_its_own() -> None:
    sides, data = Sides(numbered(700), numbered(300), paired=False), Data(source="x")
    train, away = train_part(sides, data), held_out_part(sides, data)
    assert away is not None
    assert (away.count("a"), away.count("b")) == (30, 30)
    for side, count in (("a", 700), ("b", 300)):
        assert sorted(numbers(train, side) + numbers(away, side)) == list(range(count))
    few = Sides(numbered(50), numbered(40), paired=False)
    assert train_part(few, data) is few
    assert held_out_part(few, data) is None
    with pytest.raises(UserError, match="--held-out 39"):
        train_part(few, Data(source="x", held_out=39))


def test_images_of_all_sizes_are_held_out() -> None:
    others = tuple((numbered(count, size), numbered(count, size)) for count, size in ((100, 3), (1, 4)))
    sides = Sides(numbered(150), numbered(150), True, others=others)
    train, away = train_part(sides, Data(source="x")), held_out_part(sides, Data(source="x"))
    assert away is not None
    assert len(away) == 25
    assert len(train) == 226
    assert len(away.buckets) >= 2
    assert numbers(away, "a") == numbers(away, "b")
    for k in range(2):
        whole, kept, out = (values(one, "a", k)[:, 0, 0, 0].tolist() for one in (sides, train, away))
        assert sorted(kept + out) == sorted(whole)


def test_sides_that_do_not_go_together_are_an_error() -> None:
    with pytest.raises(ValueError, match="do not go together"):
        Sides(numbered(5), numbered(6), paired=True)
    with pytest.raises(ValueError, match="do not go together"):
        Sides(numbered(5, 2), numbered(5, 3), paired=False)


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
