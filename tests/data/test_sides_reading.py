"""Two sides, read: one size or a few, packs, depth, and what is held out."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import encoded, folder_of, noise, smooth
from sided import flat, opened, side_by_side, told, values

from zerosum.data import Data, Sides, buckets, pack, picture, sizes
from zerosum.data import open as open_data
from zerosum.data.depth import Depth
from zerosum.data.mapped import mapping_of
from zerosum.data.sides import SIDES
from zerosum.data.split import held_out_part, train_part
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

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
    assert pack.key("x", Data(source="x")) == "8047498972d4e3e3693f15488dce42ff"


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


def test_what_the_decoder_says_of_files_is_said(tmp_path: Path) -> None:
    deep = b"P5 6 6 65535\n" + noise(36, 2).tobytes()
    files = {f"{side}/{i}.pgm": deep for side in "AB" for i in range(2)}
    assert "4 of 4 images: PPM of 16 bits is read in 8" in opened(folder_of(tmp_path, files), bits="own").notes
    assert "--bits own" in " ".join(opened(tmp_path).notes)


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
