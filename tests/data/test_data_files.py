"""Folders and zips: which files, which labels, which shape, and what happens to the broken ones."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from drawn import encoded, folder_of, noise, pngs, smooth, zip_of
from PIL import Image

from zerosum.data import ArrayDataset, Data, check, listing, plates
from zerosum.data import open as open_data
from zerosum.data.labels import NoSplit
from zerosum.data.spec import Dataset
from zerosum.errors import UserError


def opened(path: Path, **settings: object) -> ArrayDataset:
    return open_data(Data(source=str(path), **settings))  # type: ignore[arg-type]


def everything(found: ArrayDataset) -> np.ndarray:
    return found.gather(np.arange(len(found)))[0]


def test_a_folder_becomes_a_dataset(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path, pngs(4)))
    assert isinstance(found, Dataset)
    assert found.spec.shape == (3, 6, 5)
    assert found.spec.classes == 0
    assert len(found) == 4
    values, labels = found.gather(np.array([3, 0]))
    assert labels is None
    assert values.dtype == np.uint8
    assert values.flags.c_contiguous
    assert values.flags.writeable
    assert np.array_equal(values[0], noise(6, 5, 3, seed=3).transpose(2, 0, 1))
    assert found.skipped == ()
    assert found.notes == ()


def test_order_is_by_name_however_the_disk_lists(tmp_path: Path) -> None:
    files = pngs(6)
    a = opened(folder_of(tmp_path / "a", files))
    b = opened(folder_of(tmp_path / "b", dict(reversed(files.items()))))
    c = opened(zip_of(tmp_path / "c.zip", dict(reversed(files.items()))))
    assert np.array_equal(everything(a), everything(b))
    assert np.array_equal(everything(a), everything(c))
    assert a.fingerprint == b.fingerprint == c.fingerprint


def test_the_fingerprint_sees_pixels_labels_and_class_names(tmp_path: Path) -> None:
    files = {f"{c}/{name}": raw for c, part in (("x", pngs(2)), ("y", pngs(2))) for name, raw in part.items()}
    first = opened(folder_of(tmp_path / "1", files)).fingerprint
    assert first == opened(folder_of(tmp_path / "2", files)).fingerprint
    renamed = {name.replace("y/", "z/"): raw for name, raw in files.items()}
    assert first != opened(folder_of(tmp_path / "3", renamed)).fingerprint
    changed = files | {"x/000.png": pngs(9)["008.png"]}
    assert first != opened(folder_of(tmp_path / "4", changed)).fingerprint
    flat = {name.replace("/", ""): raw for name, raw in files.items()}
    assert first != opened(folder_of(tmp_path / "5", flat)).fingerprint


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    files = pngs(3, prefix="dogs/") | pngs(2, prefix="cats/deep/") | pngs(1, prefix="birds/")
    for source in (folder_of(tmp_path / "a", files), zip_of(tmp_path / "a.zip", files)):
        found = opened(source)
        assert found.class_names == ("birds", "cats", "dogs")
        assert found.spec.classes == 3
        assert found.labels is not None
        assert found.labels.dtype == np.int64
        assert found.labels.tolist() == [0, 1, 1, 2, 2, 2]


def test_folders_around_everything_mean_nothing(tmp_path: Path) -> None:
    files = {f"photos/2024/{name}": raw for name, raw in (pngs(2, prefix="a/") | pngs(2, prefix="b/")).items()}
    assert opened(zip_of(tmp_path / "x.zip", files)).class_names == ("a", "b")
    assert opened(folder_of(tmp_path / "y", pngs(3, prefix="only/"))).labels is None


def test_images_beside_the_sub_folders_mean_no_labels(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path, pngs(2) | pngs(2, prefix="a/") | pngs(2, prefix="b/")))
    assert found.labels is None
    assert found.class_names == ()
    assert any("no labels" in note for note in found.notes)


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:  # the held-out half is never trained on
    files: dict[str, bytes] = {}
    for side, count in (("train", 3), ("test", 2), ("val", 1)):
        for name in ("a", "b"):
            files |= pngs(count, prefix=f"set/{side}/{name}/")
    folder_of(tmp_path, files)
    assert [len(opened(tmp_path, split=split)) for split in ("train", "test", "all")] == [6, 4, 12]
    assert opened(tmp_path, split="test").class_names == ("a", "b")
    assert any("train" in note for note in opened(tmp_path).notes)


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--split test"):
        opened(folder_of(tmp_path / "a", pngs(3)), split="test")
    with pytest.raises(NoSplit, match=r"--split test: .*b has only train, val; leave --split out"):
        opened(folder_of(tmp_path / "b", pngs(3, prefix="train/") | pngs(2, prefix="val/")), split="test")


@pytest.mark.parametrize(
    "table",
    [
        "file,label\n000.png,cat\n001.png,dog\n002.png,cat\n",
        "\ufeffLabel;Image\r\ncat;000.png\r\ndog;001.png\r\ncat;002.png\r\n",
        "000.png\tcat\n001.png\tdog\n\n002.png\tcat\n",
        "000,cat\n001,dog\n002,cat\n",
        'filename,width,class\n"./000.png",3,cat\n001,3,dog\nin\\002.png,3,cat\n',
    ],
)
def test_a_table_gives_labels(tmp_path: Path, table: str) -> None:
    folder_of(tmp_path, {f"in/{name}": raw for name, raw in pngs(3).items()})
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8", newline="")
    found = opened(tmp_path, labels=str(tmp_path / "labels.csv"))
    assert found.class_names == ("cat", "dog")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 0]
    assert opened(tmp_path, labels="labels.csv").class_names == ("cat", "dog")  # as found in the source


def test_a_table_may_leave_images_out_and_count_in_numbers(tmp_path: Path) -> None:
    folder_of(tmp_path, pngs(4))
    (tmp_path / "t.csv").write_text("file,label\n003.png,10\n000.png,9\n001.png,0\n")
    found = opened(tmp_path, labels=str(tmp_path / "t.csv"))
    assert found.labels is not None
    assert found.labels.tolist() == [9, 0, 10]
    assert len(found.class_names) == 11
    assert any("left out 1" in note for note in found.notes)


def test_a_table_and_a_split_go_together(tmp_path: Path) -> None:
    folder_of(tmp_path, pngs(2, prefix="train/") | pngs(2, prefix="test/"))
    lines = [f"{side}/00{i}.png,{'xy'[i]}" for side in ("train", "test") for i in range(2)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *lines]))
    for split, count in (("train", 2), ("test", 2), ("all", 4)):
        found = opened(tmp_path, labels="t.csv", split=split)
        assert len(found) == count
        assert found.class_names == ("x", "y")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,label\n000.png,a\nmissing.png,b\n", "missing.png"),
        ("file,label\n000.png,a\n000.png,b\n", "twice"),
        ("file,label\n000.png,a\n001.png\n", "no file and label"),
        ("width,height\n3,4\n", "its columns are width, height"),
        ("a,b,c\n000.png,x,y\n", "its columns are a, b, c; call them file and label"),
        ("file,label\n000.png,a\0b\n", "NUL"),
        ("", "empty"),
        ("file,quality\n000.png,3\n", "columns"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, table: str, message: str) -> None:
    folder_of(tmp_path, pngs(3))
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(UserError, match=message) as error:
        opened(tmp_path, labels=str(tmp_path / "t.csv"))
    assert "t.csv" in str(error.value)


def test_a_table_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    folder_of(tmp_path, pngs(3))
    with pytest.raises(UserError, match="no such file"):
        opened(tmp_path, labels="nowhere.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="UTF-8"):
        opened(tmp_path, labels="t.csv")


def test_one_broken_image_is_named_and_skipped(tmp_path: Path) -> None:
    good = pngs(5, prefix="a/") | pngs(5, prefix="b/")
    raw = good["a/002.png"]
    bad = good | {"a/002.png": raw[: len(raw) // 2], "b/004.png": b"", "b/003.png": b"not an image"}
    for source in (folder_of(tmp_path / "f", bad), zip_of(tmp_path / "f.zip", bad)):
        found = opened(source)
        assert [name for name, _ in found.skipped] == ["a/002.png", "b/003.png", "b/004.png"]
        assert all(reason for _, reason in found.skipped)
        assert found.labels is not None
        assert found.labels.tolist() == [0] * 4 + [1] * 3
        rest = {name: raw for name, raw in good.items() if name not in dict(found.skipped)}
        assert np.array_equal(everything(found), everything(opened(folder_of(tmp_path / "rest", rest))))


def test_too_few_images_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        opened(tmp_path / "empty")
    with pytest.raises(UserError, match="at least 2"):
        opened(folder_of(tmp_path / "one", pngs(1)))
    with pytest.raises(UserError, match=r"1 of 3 images.*001\.png"):
        opened(folder_of(tmp_path / "two", pngs(1) | {"001.png": b"x", "002.png": b"y"}))
    with pytest.raises(UserError, match=r"images\.npy"):
        opened(folder_of(tmp_path / "arrays", {"images.npy": b"", "readme.txt": b""}))
    with pytest.raises(UserError, match="one image"):
        opened(folder_of(tmp_path / "single", pngs(1)) / "000.png")


def test_hidden_files_and_the_macs_own_are_passed_over(tmp_path: Path) -> None:
    files = pngs(2) | {".DS_Store.png": b"x", "__MACOSX/._000.png": b"x", ".git/0.png": b"x", "Thumbs.db": b"x"}
    for source in (folder_of(tmp_path / "f", files), zip_of(tmp_path / "f.zip", files)):
        found = opened(source)
        assert len(found) == 2
        assert found.skipped == ()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    folder_of(tmp_path / "set", pngs(2, prefix="a/"))
    folder_of(tmp_path / "elsewhere", pngs(3, prefix="in/"))
    (tmp_path / "set" / "a" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "self").symlink_to(tmp_path / "set" / "self")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere" / "in")
    (tmp_path / "set" / "b.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "set" / "pipe.png")
    found = opened(tmp_path / "set")
    assert len(found) == 5
    assert [name for name, _ in found.skipped] == ["b.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not text")
def test_names_that_are_not_text(tmp_path: Path) -> None:
    folder_of(tmp_path, pngs(2))
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.png", "wb") as file:
        file.write(b"broken")
    found = opened(tmp_path, memory_megabytes=0)
    assert len(found) == 2
    assert len(found.skipped) == 1
    found.skipped[0][0].encode()  # printable
    assert opened(tmp_path, memory_megabytes=0).skipped == found.skipped


def test_names_of_drives_in_a_zip_are_refused(tmp_path: Path) -> None:
    names = ["a.png", "C:/evil.png", "d:evil.png", "a/b.png:stream.png"]
    found = listing.zip_file(zip_of(tmp_path / "x.zip", dict(zip(names, pngs(4).values(), strict=True))))
    assert [item.name for item in found.items] == ["a.png"]
    assert sorted(name for name, _ in found.refused) == sorted(names[1:])
    assert {why for _, why in found.refused} == {"by its path it lies outside the zip (a colon may name a drive)"}


def test_dicom_files_without_a_suffix_are_found_where_dicom_is_read(tmp_path: Path) -> None:
    scan = bytes(128) + b"DICM and more"
    files = {
        "a/IM000001": scan,
        "b.dcm": scan,
        "LICENSE": b"text" * 99,
        "DICOMDIR": scan,
        "c.txt": scan,
        ".hidden": scan,
    }
    for list_of, source in (
        (listing.folder, folder_of(tmp_path / "x", files)),
        (listing.zip_file, zip_of(tmp_path / "x.zip", files)),
    ):
        found = list_of(source, plates.suffixes("own"))
        assert [item.name for item in found.items] == ["a/IM000001", "b.dcm"]
        assert found.read(found.items[0]) == scan
        assert list_of(source).items == ()


def test_unsafe_names_in_a_zip_write_nothing(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    files = pngs(2) | {f"../{name}": raw for name, raw in pngs(2, prefix="out").items()}
    found = opened(zip_of(inside / "x.zip", files))
    assert len(found) == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "x.zip"]
    outside = [name for name in files if name.startswith("../")]
    for memory in (1024, 0, 0):  # read, packed, found packed: they are named each time
        assert [name for name, _ in opened(inside / "x.zip", memory_megabytes=memory).skipped] == outside
    assert [name for name, _ in check(Data(source=str(inside / "x.zip"))).unreadable] == outside
    with pytest.raises(UserError, match=r"1 of 4 images.*\.\./out000\.png: by its path it lies outside"):
        opened(zip_of(inside / "y.zip", {name: files[name] for name in [*outside, "001.png"]} | {"/a.png": b""}))
    with pytest.raises(UserError, match=r"no images found.*2 are refused: \.\./out000\.png: by"):
        opened(zip_of(inside / "z.zip", {name: files[name] for name in outside}))


def test_names_cannot_command_a_terminal(tmp_path: Path) -> None:
    assert listing.printable("\x1b[2Jevil\nfake\u202egnp.png") == "?[2Jevil?fake?gnp.png"
    assert listing.printable("Köln \u5199\u771f.png") == "Köln \u5199\u771f.png"
    files = {f"{folder}/{name}": raw for folder in ("\x1b[2Ja", "b") for name, raw in pngs(2).items()}
    found = opened(zip_of(tmp_path / "x.zip", files | {"b/\x1b[2J.png": b"broken"}))
    assert found.class_names == ("?[2Ja", "b")
    assert [name for name, _ in found.skipped] == ["b/?[2J.png"]
    folder_of(tmp_path / "x", pngs(2))
    (tmp_path / "t.csv").write_text("file,label\n\x1b[2J.png,a\n")
    with pytest.raises(UserError) as caught:
        opened(tmp_path / "x", labels=str(tmp_path / "t.csv"))
    assert str(caught.value).isprintable()


def test_a_zip_bomb_and_a_locked_member_are_broken_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_FILE", 1000)
    path = zip_of(tmp_path / "x.zip", pngs(2) | {"big.png": bytes(100_000)})
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("001.png").header_offset
    found = opened(path)
    assert len(found) == 2
    assert "limit" in dict(found.skipped)["big.png"]
    for place in (start + 6, raw.rindex(b"001.png") - 46 + 8):  # the flag for encryption, in both headers
        raw[place] |= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="encrypted"):
        opened(path)


def test_a_damaged_zip_is_a_clear_error(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", pngs(3))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="damaged"):
        opened(path)


def test_the_commonest_size_is_taken_if_most_agree(tmp_path: Path) -> None:
    found = opened(folder_of(tmp_path, pngs(19, 12, 10) | pngs(1, 30, 10, prefix="x")))
    assert found.spec.shape == (3, 12, 10)
    assert any("1 of 20 images were resized" in note for note in found.notes)


def test_mixed_sizes_meet_in_the_middle_and_it_is_said(tmp_path: Path) -> None:
    files = {f"{i}.png": encoded(smooth(40 + 10 * i, 80 + 20 * i)) for i in range(5)}
    found = opened(folder_of(tmp_path, files))
    assert found.spec.shape == (3, 64, 128)  # the median is 60 x 120: the nearest multiples of 16
    assert any("64 x 128" in note and "--size" in note for note in found.notes)


def test_the_longest_side_is_what_was_asked_for(tmp_path: Path) -> None:
    folder_of(tmp_path, pngs(3, height=80, width=160))
    shapes = {n: opened(tmp_path, longest=n, memory_megabytes=0).spec.shape[1:] for n in (256, 100, 64, 16)}
    assert shapes == {256: (80, 160), 100: (48, 96), 64: (32, 64), 16: (16, 16)}
    assert opened(tmp_path, longest=64, size=(20, 30)).spec.shape[1:] == (20, 30)
    with pytest.raises(UserError, match=r"--longest 15: give at least 16"):
        opened(tmp_path, longest=15)


def test_large_images_are_brought_to_256(tmp_path: Path) -> None:
    files = {f"{i}.png": encoded(smooth(300, 600, i)) for i in range(2)}
    assert opened(folder_of(tmp_path, files)).spec.shape == (3, 128, 256)
    assert opened(tmp_path, size=(300, 600)).spec.shape == (3, 300, 600)


def test_channels_are_read_from_the_pixels(tmp_path: Path) -> None:
    grey = {f"g{i}.png": encoded(Image.fromarray(noise(6, 6, seed=i)).convert("RGB")) for i in range(9)}
    assert opened(folder_of(tmp_path / "grey", grey)).spec.shape == (1, 6, 6)
    one = grey | {"c.png": encoded(smooth(6, 6))}
    assert opened(folder_of(tmp_path / "some", one)).spec.shape == (3, 6, 6)
    hole = smooth(6, 6).convert("RGBA")
    hole.putpixel((0, 0), (0, 0, 0, 0))
    holes = {f"{i}.png": encoded(hole) for i in range(3)} | {"c.png": encoded(smooth(6, 6))}
    assert opened(folder_of(tmp_path / "holes", holes)).spec.shape == (4, 6, 6)
    few = {"h.png": encoded(hole)} | one
    found = opened(folder_of(tmp_path / "few", few))
    assert found.spec.shape == (3, 6, 6)
    assert any("laid on white" in note for note in found.notes)
    for channels in (1, 3, 4):
        assert opened(tmp_path / "few", channels=channels).spec.shape == (channels, 6, 6)


def test_mixed_formats_are_said(tmp_path: Path) -> None:  # trap 2
    files = pngs(3) | {f"j{i}.jpg": encoded(smooth(6, 5, i), "JPEG") for i in range(2)}
    assert any("3 PNG, 2 JPEG" in note for note in opened(folder_of(tmp_path, files)).notes)


def test_limit_takes_the_first_by_name(tmp_path: Path) -> None:
    folder_of(tmp_path, pngs(6))
    whole, some = opened(tmp_path), opened(tmp_path, limit=3)
    assert len(some) == 3
    assert np.array_equal(everything(some), everything(whole)[:3])
    assert len(opened(tmp_path, limit=100)) == 6


@pytest.mark.parametrize(("limit", "counts"), [(3, [1, 1, 1]), (6, [3, 1, 2]), (4, [2, 1, 1]), (2, [1, 1, 0])])
def test_limit_takes_as_many_of_each_class(tmp_path: Path, limit: int, counts: list[int]) -> None:
    folder_of(tmp_path, pngs(9, prefix="a/") | pngs(1, prefix="b/") | pngs(2, prefix="c/"))
    whole, some = opened(tmp_path), opened(tmp_path, limit=limit)
    assert some.labels is not None
    assert np.bincount(some.labels, minlength=3).tolist() == counts
    assert some.class_names == ("a", "b", "c")
    first = [start + i for start, count in zip((0, 9, 10), counts, strict=True) for i in range(count)]
    assert np.array_equal(everything(some), everything(whole)[first])
    report = check(Data(source=str(tmp_path), limit=limit))
    assert list(report.classes.values()) == counts


@pytest.mark.parametrize(
    "settings",
    [{"size": (0, 4)}, {"channels": 2}, {"fit": "squash"}, {"split": "valid"}, {"limit": 1}, {"memory_megabytes": -1}],
)
def test_settings_that_mean_nothing_are_named(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(settings)).replace('_', '-')} "):
        opened(folder_of(tmp_path, pngs(2)), **settings)


def test_progress_is_told_and_ends(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    open_data(Data(source=str(folder_of(tmp_path, pngs(5)))), lambda *news: told.append(news))
    assert told[-1][:2] == (5, 5)
    assert all(0 < done <= total and what for done, total, what in told)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("digitz", "digits"),
        ("fashion_mnist", "fashion-mnist"),
        ("CIFAR10", "cifar10"),
        ("", "digits"),
        ("q", "give"),
    ],
)
def test_a_source_that_is_not_there_is_answered_with_the_nearest(source: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        open_data(Data(source=source))


def test_a_path_with_a_slip_is_answered_with_its_neighbour(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos", pngs(2))
    with pytest.raises(UserError, match=r"did you mean .*photos"):
        opened(tmp_path / "photo")


def test_a_file_of_an_unknown_kind(tmp_path: Path) -> None:
    for head in (b"Rar!...", b"\0\0\0\x20ftypisom"):
        (tmp_path / "x.bin").write_bytes(head)
        with pytest.raises(UserError, match="not read"):
            opened(tmp_path / "x.bin")


def test_att_faces(data_folder: Path) -> None:
    found = opened(data_folder / "att_faces")
    assert found.spec.shape == (1, 112, 92)
    assert len(found) == 400
    assert found.labels is not None
    assert np.bincount(found.labels).tolist() == [10] * 40


def test_emoji_keep_their_alpha(data_folder: Path) -> None:
    found = opened(data_folder / "emoji" / "google", limit=200)
    assert found.spec.shape == (4, 64, 64)
    assert found.labels is None
    alpha = everything(found)[:, 3]
    assert alpha.min() == 0
    assert alpha.max() == 255
