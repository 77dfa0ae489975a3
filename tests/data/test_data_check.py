"""`check`: the report on a set, and the search for duplicates."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from drawn import encoded, folder_of, idx_files, noise, pngs, smooth, zip_of
from PIL import Image

from zerosum.data import Data, check, duplicates, picture
from zerosum.data import open as open_data
from zerosum.data.report import EXAMPLES as NAMED
from zerosum.errors import UserError


def test_a_report_on_a_mixed_folder(tmp_path: Path) -> None:
    hole = smooth(40, 60, 5).convert("RGBA")
    hole.putpixel((0, 0), (0, 0, 0, 0))
    files = {
        "a/1.png": encoded(smooth(40, 60, 1)),
        "a/2.png": encoded(smooth(40, 60, 2)),
        "a/2 copy.png": encoded(smooth(40, 60, 2)),
        "a/2 again.jpg": encoded(smooth(40, 60, 2), "JPEG", quality=70),
        "a/2 small.png": encoded(smooth(40, 60, 2).resize((30, 20))),
        "a/4.png": encoded(smooth(40, 60, 4).convert("L")),
        "b/5.png": encoded(hole),
        "b/6.png": encoded(Image.fromarray(noise(40, 60).astype(np.uint16) * 257)),
        "b/7.png": b"broken",
        "b/8.png": encoded(smooth(40, 60, 8))[:80],
    }
    for source in (folder_of(tmp_path / "x", files), zip_of(tmp_path / "x.zip", files)):
        data = Data(source=str(source))
        report = check(data)
        assert report.kind == "images"
        assert report.count == 8
        assert [name for name, _ in report.unreadable] == ["b/7.png", "b/8.png"]
        assert report.sizes == {"40 x 60": 7, "20 x 30": 1}
        assert report.formats == {"PNG": 7, "JPEG": 1}
        assert report.bits == {"8": 7, "16": 1}
        assert report.channels_used == {"colour": 5, "grey": 2, "alpha": 1}
        assert sum(report.modes.values()) == 8
        assert report.classes == {"a": 6, "b": 2}
        assert report.exact_duplicates == 1
        assert report.exact_examples == ((("a/2 copy.png", "a/2.png"), 2),)
        assert report.near_duplicates == 2
        assert {later for _, later in report.near_examples} <= {"a/2 again.jpg", "a/2 small.png", "a/2 copy.png"}
        assert report.shape == open_data(data).spec.shape
        assert report.memory_bytes == 8 * int(np.prod(report.shape))
        assert report.in_memory
        assert any("formats" in note for note in report.notes)
        json.dumps(report.to_dict())
    assert check(Data(source=str(tmp_path / "x"), size=(8, 8), channels=1)).shape == (1, 8, 8)
    assert not check(Data(source=str(tmp_path / "x"), memory_megabytes=0)).in_memory


def test_arrays_and_names_are_checked_too(tmp_path: Path) -> None:
    images = noise(20, 8, 8)
    images[7] = images[3]
    report = check(Data(source=str(idx_files(tmp_path, "train", images, np.arange(20) % 4)), size=(16, 16)))
    assert report.sizes == {"8 x 8": 20}
    assert report.shape == (1, 16, 16)
    assert report.memory_bytes == 20 * 256
    assert report.exact_examples == ((("image 3", "image 7"), 2),)
    assert report.classes == {"0": 5, "1": 5, "2": 5, "3": 5}
    digits = check(Data(source="digits"))
    assert digits.count == 1438
    assert digits.highest == 255
    points = check(Data(source="ring"))
    assert points.kind == "points"
    assert points.shape == (2,)
    json.dumps(points.to_dict())


def test_a_large_group_of_equal_images_is_named_by_its_first(tmp_path: Path) -> None:
    np.save(tmp_path / "same.npy", np.repeat(noise(2, 8, 8), [200, 1], axis=0))
    report = check(Data(source=str(tmp_path / "same.npy")))
    assert report.exact_duplicates == 199
    ((names, count),) = report.exact_examples
    assert count == 200
    assert names == tuple(f"image {i}" for i in range(NAMED))


def test_what_looks_wrong_is_noted(tmp_path: Path) -> None:
    dark = {
        f"{c}/{i}.png": encoded(Image.fromarray(noise(6, 6, seed=i) // 16))
        for c, n in (("a", 20), ("b", 1))
        for i in range(n)
    }
    notes = " ".join(check(Data(source=str(folder_of(tmp_path, dark)))).notes)
    assert "brightest value is 15" in notes
    assert "b (1)" in notes


def test_nothing_to_check_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of 1 images"):
        check(Data(source=str(folder_of(tmp_path / "a", {"a.png": b"x"}))))
    with pytest.raises(UserError, match="no images"):
        check(Data(source=str(folder_of(tmp_path / "b", {"a.txt": b"x"}))))
    with pytest.raises(UserError, match="did you mean digits"):
        check(Data(source="digit"))


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    check(Data(source=str(folder_of(tmp_path, pngs(3)))), lambda *news: told.append(news))
    assert told[-1][:2] == (3, 3)


def pictures(count: int) -> list[Image.Image]:
    return [smooth(48, 64, seed) for seed in range(count)]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((32, 24), Image.Resampling.BICUBIC),
        lambda image: picture.read(encoded(image, "JPEG", quality=60)).image,
        lambda image: image.resize((100, 90), Image.Resampling.BICUBIC),
    ],
)
def test_changed_copies_are_found_and_others_are_not(change: object) -> None:
    originals = pictures(60)
    copies = [change(image) for image in originals]  # type: ignore[operator]
    thumbnails = np.stack([duplicates.thumbnail(image) for image in originals + copies])
    pairs = duplicates.near(thumbnails)
    assert {tuple(pair) for pair in pairs.tolist()} == {(i, i + 60) for i in range(60)}


def test_the_search_equals_comparing_all_with_all() -> None:
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (40, 8, 9, 3))
    noisy = np.concatenate([base + random.normal(0, s, base.shape) for s in (0, 1, 2, 4, 8)])
    thumbnails = noisy.round().clip(0, 255).astype(np.uint8)
    hashes = duplicates.difference_hash(thumbnails)
    flat = thumbnails.reshape(len(thumbnails), -1).astype(float)
    wanted = set()
    for j in range(len(flat)):
        for i in range(j):
            bits = bin(int(hashes[i]) ^ int(hashes[j])).count("1")
            allowed = max(duplicates.ALIKE * min(flat[i].std(), flat[j].std()), duplicates.NOISE)
            if bits <= duplicates.BITS and np.sqrt(((flat[i] - flat[j]) ** 2).mean()) <= allowed:
                wanted.add((i, j))
    pairs = duplicates.near(thumbnails)
    assert set(pairs[:, 1].tolist()) == {later for _, later in wanted} != set()
    assert {tuple(pair) for pair in duplicates.near(thumbnails, every=True).tolist()} == wanted
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_all_pairs_of_a_chain_are_found_where_they_are_asked_for() -> None:
    """The last is like the two before it, which are not like each other."""
    middle = np.random.default_rng(0).integers(10, 246, (8, 9, 3))
    chain = np.stack([middle + 2, middle - 2, middle]).astype(np.uint8)
    assert len(duplicates.near(chain)) == 1
    assert sorted(duplicates.near(chain, every=True).tolist()) == [[0, 2], [1, 2]]
    assert duplicates.near(chain[:1], every=True).shape == duplicates.near(chain[:0], every=True).shape == (0, 2)


def test_exact_groups() -> None:
    assert duplicates.exact([b"a", b"b", b"a", b"c", b"b", b"a"]) == [[0, 2, 5], [1, 4]]
    one = smooth(5, 5)
    assert duplicates.digest(one) == duplicates.digest(one.copy())
    assert duplicates.digest(one) != duplicates.digest(one.resize((6, 6)))


def test_sixty_thousand_images_take_seconds() -> None:
    """The search itself; reading and reducing the images is linear."""
    random = np.random.default_rng(0)
    thumbnails = random.integers(0, 256, (60_000, 8, 9, 3), dtype=np.uint8)
    thumbnails[50_000:50_100] = thumbnails[:100]
    thumbnails[:, 3:5] = 0  # and much of each image is the same
    began = time.process_time()
    pairs = duplicates.near(thumbnails)
    assert time.process_time() - began < 20
    assert len(pairs) == 100
    blank = duplicates.near(np.zeros((5_000, 8, 9, 3), np.uint8))
    assert len(blank) > 4_900


def test_faces_are_not_duplicates_but_saved_again_they_are(data_folder: Path, tmp_path: Path) -> None:
    report = check(Data(source=str(data_folder / "att_faces")))
    assert report.count == 400
    assert report.exact_duplicates == report.near_duplicates == 0
    faces = sorted((data_folder / "att_faces" / "s1").glob("*.pgm"))
    files = {face.name: face.read_bytes() for face in faces}
    files |= {f"{face.stem}.jpg": encoded(Image.open(face), "JPEG", quality=75) for face in faces}
    assert check(Data(source=str(folder_of(tmp_path, files)))).near_duplicates == len(faces)
