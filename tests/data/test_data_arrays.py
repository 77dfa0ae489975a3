"""Arrays: from Python, from torch, from .npy, .npz and IDX files."""

from __future__ import annotations

import gzip
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import idx_bytes, idx_files, noise, smooth
from PIL import Image

from zerosum.data import ArrayDataset, Data, from_arrays, from_torch, picture
from zerosum.data import open as open_data
from zerosum.data.labels import NoSplit
from zerosum.errors import UserError


def opened(path: Path, **settings: object) -> ArrayDataset:
    return open_data(Data(source=str(path), **settings))  # type: ignore[arg-type]


def everything(found: ArrayDataset) -> np.ndarray:
    return found.gather(np.arange(len(found)))[0]


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((5, 9, 7), (1, 9, 7)),
        ((5, 9, 7, 3), (3, 9, 7)),
        ((5, 4, 9, 7), (4, 9, 7)),
        ((5, 1, 9, 7), (1, 9, 7)),
        ((5, 3, 4, 4), (3, 4, 4)),  # both readings are possible: channels come first
    ],
)
def test_layouts(shape: tuple[int, ...], spec: tuple[int, ...]) -> None:
    images = noise(*shape)
    found = from_arrays(images)
    assert found.spec.shape == spec
    expected = images[:, None] if images.ndim == 3 else images
    if images.shape[1:] != spec and images.ndim == 4:
        expected = images.transpose(0, 3, 1, 2)
    if spec[0] == 4:
        expected = picture.without_rims(expected)
    assert np.array_equal(everything(found), expected)
    assert everything(found).flags.c_contiguous


def test_gather_gives_fresh_writable_arrays() -> None:
    images = noise(6, 1, 4, 4)
    images.flags.writeable = False
    found = from_arrays(images, [0, 1, 2, 0, 1, 2])
    values, labels = found.gather(np.array([5, 5, 0]))
    assert labels is not None
    values[:] = 7
    labels[:] = 7
    assert np.array_equal(everything(found), images)
    assert found.gather(np.array([5]))[1] == np.array([2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_real_images_within_0_and_1(dtype: type) -> None:  # trap 8
    every = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    scaled = (every / 255).astype(dtype)
    # half precision is finer than 1/255 everywhere in 0 .. 1
    assert np.array_equal(everything(from_arrays(scaled))[:, 0], every)


@pytest.mark.parametrize("images", [noise(3, 4, 4) / 1.0, noise(3, 4, 4) / 127.5 - 1, np.full((3, 4, 4), np.nan)])
def test_real_images_of_other_ranges_are_refused(images: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"0 \.\. 1"):
        from_arrays(images)


def test_booleans_are_black_and_white() -> None:
    mask = noise(3, 4, 4) > 128
    assert np.array_equal(everything(from_arrays(mask))[:, 0], mask * np.uint8(255))


def test_points() -> None:
    points = np.random.default_rng(0).normal(size=(10, 3))
    found = from_arrays(points)
    assert found.spec.shape == (3,)
    assert not found.spec.is_image
    assert everything(found).dtype == np.float32
    points[4, 1] = np.inf
    with pytest.raises(UserError, match="finite"):
        from_arrays(points)


@pytest.mark.parametrize(
    "images",
    [
        noise(1, 4, 4),
        noise(4, 4),
        noise(3, 2, 4, 2),
        noise(3, 5, 5, 5, 5),
        noise(3, 0, 4),
        np.zeros((3, 4, 4), np.int64),
        np.array(3.0),
        np.array([["a", "b"]] * 3),
        np.array([object(), object()]),
        np.zeros((3, 4, 4), complex),
    ],
)
def test_arrays_that_are_no_images_are_refused(images: np.ndarray) -> None:
    with pytest.raises(UserError):
        from_arrays(images)


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        ([2, 0, 2], [2, 0, 2], ("0", "1", "2")),
        (np.array([[1], [0], [1]], np.uint8), [1, 0, 1], ("0", "1")),
        (np.eye(3)[[2, 0, 1]], [2, 0, 1], ("0", "1", "2")),
        ([3.0, 1.0, 0.0], [3, 1, 0], ("0", "1", "2", "3")),
        (["dog", "cat", "dog"], [1, 0, 1], ("cat", "dog")),
        ([b"dog", b"cat", b"dog"], [1, 0, 1], ("cat", "dog")),
        ([-1, 1, -1], [0, 1, 0], ("-1", "1")),
        ([5000, 90000, 5000], [0, 1, 0], ("5000", "90000")),
        ([True, False, True], [1, 0, 1], ("0", "1")),
    ],
)
def test_labels(labels: object, numbers: list[int], names: tuple[str, ...]) -> None:
    found = from_arrays(noise(3, 4, 4), labels)  # type: ignore[arg-type]
    assert found.labels is not None
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == numbers
    assert found.class_names == names
    assert found.spec.classes == len(names)


def test_class_names() -> None:
    found = from_arrays(noise(3, 4, 4), [1, 0, 1], class_names=("a", "b", "c"))
    assert found.class_names == ("a", "b", "c")
    with pytest.raises(UserError, match="class_names"):
        from_arrays(noise(3, 4, 4), [1, 0, 2], class_names=("a", "b"))


@pytest.mark.parametrize("labels", [[0, 1], [0.5, 1, 2], [np.nan, 0, 1], np.zeros((3, 2, 2)), [1j, 0, 1], [[2, 3]] * 3])
def test_labels_that_do_not_fit_are_refused(labels: object) -> None:
    with pytest.raises(UserError, match="label"):
        from_arrays(noise(3, 4, 4), labels)  # type: ignore[arg-type]


class Items(torch.utils.data.Dataset):
    def __init__(self, items: list[object]) -> None:
        self.items = items
        self.classes = ["no", "yes"]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> object:
        return self.items[i]


def test_torch_datasets() -> None:
    values = noise(4, 3, 6, 5)
    tensors = [torch.from_numpy(one) for one in values]
    assert np.array_equal(everything(from_torch(Items(list(tensors)))), values)
    labelled = from_torch(Items([(one, torch.tensor(i % 2)) for i, one in enumerate(tensors)]))
    assert labelled.labels is not None
    assert labelled.labels.tolist() == [0, 1, 0, 1]
    assert labelled.class_names == ("no", "yes")
    floats = from_torch(Items([(one / 255, 0) for one in tensors]))
    assert np.array_equal(everything(floats), values)
    images = from_torch(Items([(Image.fromarray(one.transpose(1, 2, 0)), 1) for one in values]))
    assert np.array_equal(everything(images), values)
    greys = from_torch(Items([Image.fromarray(one[0]) for one in values]))
    assert np.array_equal(everything(greys), values[:, :1])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "empty"),
        ([torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)], "item 1"),
        ([(torch.zeros(3, 4, 4), 0), torch.zeros(3, 4, 4)], "1 of 2"),
        ([(torch.zeros(3, 4, 4), "cat")] * 2, "label of item 0"),
        ([torch.full((3, 4, 4), -1.0)] * 2, r"0 \.\. 1"),
        ([torch.zeros(3, 4, 4, requires_grad=True)] * 2, "item 0"),
    ],
)
def test_torch_datasets_that_do_not_fit(items: list[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_torch(Items(items))


def test_npy(tmp_path: Path) -> None:
    images = noise(5, 6, 7, 3)
    np.save(tmp_path / "a.npy", images)
    found = opened(tmp_path / "a.npy")
    assert np.array_equal(everything(found), images.transpose(0, 3, 1, 2))
    mapped = opened(tmp_path / "a.npy", memory_megabytes=0)
    assert np.array_equal(everything(mapped), everything(found))
    assert mapped.fingerprint == found.fingerprint
    assert everything(mapped).flags.writeable
    assert len(opened(tmp_path / "a.npy", limit=2)) == 2
    with pytest.raises(UserError, match=r"--split test"):
        opened(tmp_path / "a.npy", split="test")
    with pytest.raises(UserError, match=r"--labels x.csv: .* leave --labels out"):
        opened(tmp_path / "a.npy", labels="x.csv")


def test_arrays_are_resized_as_files_are(tmp_path: Path) -> None:  # trap 1
    images = np.stack([np.asarray(smooth(12, 12, i)) for i in range(3)])
    np.save(tmp_path / "a.npy", images)
    for settings in ({"memory_megabytes": 1024}, {"memory_megabytes": 0}):
        found = opened(tmp_path / "a.npy", size=(6, 8), fit="stretch", channels=1, **settings)
        assert found.spec.shape == (1, 6, 8)
        for i in range(3):
            expected = smooth(12, 12, i).convert("L").resize((8, 6), Image.Resampling.BICUBIC)
            # Pillow may take the two directions in the other order, which shows in the last bit
            assert np.abs(everything(found)[i, 0].astype(int) - np.asarray(expected)).max() <= 1
        assert any("3 x 12 x 12 to 1 x 6 x 8" in note for note in found.notes)


def test_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "sprung"),))

    array = np.array([Trap(), Trap()], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=array)
    np.savez(tmp_path / "b.npz", images=noise(2, 4, 4), labels=array)
    for name in ("a.npy", "a.npz", "b.npz"):
        for memory in (1024, 0):
            with pytest.raises(UserError, match="holds Python objects, which are never loaded"):
                opened(tmp_path / name, memory_megabytes=memory)
    assert not (tmp_path / "sprung").exists()


def test_bytes_of_another_kind_are_not_called_objects(tmp_path: Path) -> None:
    (tmp_path / "junk.npy").write_bytes(noise(400).tobytes())
    with zipfile.ZipFile(tmp_path / "junk.npz", "w") as archive:
        archive.writestr("images.npy", noise(400).tobytes())
    for name in ("junk.npy", "junk.npz"):
        for memory in (1024, 0):
            with pytest.raises(UserError, match=rf"{name} is damaged, or not what its name says \(.*magic"):
                opened(tmp_path / name, memory_megabytes=memory)
    np.savez(tmp_path / "a.npz", images=noise(2, 4, 4))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(UserError, match="rename it"):
        opened(tmp_path / "a.npy")


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_longer_than_its_header_says(tmp_path: Path, packed: bool) -> None:
    path = idx_files(tmp_path, "train", noise(5, 4, 4), np.arange(5), packed=packed)
    raw = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    path.write_bytes(gzip.compress(raw + b"x") if packed else raw + b"x")
    for memory in (1024, 0):
        with pytest.raises(UserError, match="longer than its header"):
            opened(path, memory_megabytes=memory)


def test_fortran_order(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(noise(4, 5, 6)))
    assert np.array_equal(everything(opened(tmp_path / "a.npy"))[:, 0], noise(4, 5, 6))
    with pytest.raises(UserError, match="Fortran"):
        opened(tmp_path / "a.npy", memory_megabytes=0)


@pytest.mark.parametrize(
    "keys", [("images", "labels"), ("x", "y"), ("X", "y"), ("arr_0", "arr_1"), ("train_images", "train_labels")]
)
def test_npz_keys(tmp_path: Path, keys: tuple[str, str]) -> None:
    images, labels = noise(4, 5, 6), np.array([0, 1, 1, 0])
    np.savez_compressed(tmp_path / "a.npz", **{keys[0]: images, keys[1]: labels})
    for memory in (1024, 0):
        found = opened(tmp_path / "a.npz", memory_megabytes=memory)
        assert np.array_equal(everything(found)[:, 0], images)
        assert found.labels is not None
        assert found.labels.tolist() == [0, 1, 1, 0]
        assert found.class_names == ("0", "1")


def test_npz_splits(tmp_path: Path) -> None:
    parts = {side: noise(n, 4, 4, seed=n) for side, n in (("train", 4), ("val", 2), ("test", 3))}
    arrays = {f"{side}_images": part for side, part in parts.items()}
    arrays |= {f"{side}_labels": np.arange(len(part))[:, None] for side, part in parts.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    for memory in (1024, 0):
        for split, sides in (("train", ["train"]), ("test", ["test"]), ("all", ["train", "val", "test"])):
            found = opened(tmp_path / "a.npz", split=split, memory_megabytes=memory)
            expected = np.concatenate([parts[side] for side in sides])
            assert np.array_equal(everything(found)[:, 0], expected)
            assert found.spec.classes == 4  # as in the split that has most
    np.savez(tmp_path / "b.npz", x_train=parts["train"], y_train=[0, 1, 0, 1], x_val=parts["val"], y_val=[0, 1])
    assert len(opened(tmp_path / "b.npz")) == 4
    with pytest.raises(NoSplit, match=r"--split test: .*b\.npz has only train, val; leave --split out"):
        opened(tmp_path / "b.npz", split="test")
    np.savez(tmp_path / "c.npz", x_test=parts["test"], y_test=[0, 1, 0])
    with pytest.raises(UserError, match=r"--split train: .*c\.npz has only test; give one of them") as refused:
        opened(tmp_path / "c.npz")
    assert not isinstance(refused.value, NoSplit)


def test_npz_without_known_keys_or_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pictures=noise(3, 4, 4))
    with pytest.raises(UserError, match="pictures"):
        opened(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", noise(3, 4, 4), noise(7))
    assert opened(tmp_path / "b.npz").labels is None
    np.savez(tmp_path / "c.npz", images=noise(3, 4, 4), labels=noise(2))
    with pytest.raises(UserError, match="2 labels for 3 images"):
        opened(tmp_path / "c.npz")
    with zipfile.ZipFile(tmp_path / "d.npz", "w"):
        pass
    with pytest.raises(UserError, match="nothing"):
        opened(tmp_path / "d.npz")


@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path: Path, packed: bool) -> None:
    images, labels = noise(5, 6, 7), np.array([3, 0, 1, 2, 3])
    path = idx_files(tmp_path, "train", images, labels, packed)
    for memory in (1024, 0):
        found = opened(path, memory_megabytes=memory)
        assert np.array_equal(everything(found)[:, 0], images)
        assert found.labels is not None
        assert found.labels.tolist() == labels.tolist()
    bigger = opened(path, size=(12, 14), memory_megabytes=0)
    assert bigger.spec.shape == (1, 12, 14)


def test_idx_that_is_not_whole(tmp_path: Path) -> None:
    path = idx_files(tmp_path, "train", noise(5, 6, 7), np.arange(5))
    whole = path.read_bytes()
    labels = tmp_path / "train-labels-idx1-ubyte"
    with pytest.raises(UserError, match="labels, not images"):
        opened(labels)
    for raw, message in (
        (whole[:-1], "not a whole"),
        (whole[:9], "cut short"),
        (b"\0\0\x0d\x03" + whole[4:], "0x0d"),
        (b"\0\0\x08\x09" + whole[4:], "9 dimensions"),
        (b"\0\1\x08\x03" + whole[4:], "not read"),
        (b"", "not read"),
    ):
        path.write_bytes(raw)
        with pytest.raises(UserError, match=message):
            opened(path)
        (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
        with pytest.raises(UserError):
            opened(tmp_path / "x.gz")
        with pytest.raises(UserError):
            opened(tmp_path / "x.gz", memory_megabytes=0)
    path.write_bytes(whole)
    labels.write_bytes(idx_bytes(np.arange(4, dtype=np.uint8)))
    with pytest.raises(UserError, match="4 labels for 5 images"):
        opened(path)
    labels.write_bytes(idx_bytes(noise(5, 2)))
    with pytest.raises(UserError, match="should hold labels"):
        opened(path)


def anonymous_megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads RssAnon from /proc")
@pytest.mark.parametrize("last", [False, True])
def test_a_million_images_take_little_memory(tmp_path: Path, last: bool) -> None:
    """12 GB of 64 x 64 colour images, as a sparse file: batches come without the set coming to memory."""
    count = 1_000_000
    shape = (count, 64, 64, 3) if last else (count, 3, 64, 64)
    path = tmp_path / "million.npy"
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        file.truncate(offset + 12288 * count)
        mark = np.arange(12288, dtype=np.int64).astype(np.uint8)
        file.seek(offset + 12288 * 777_777)
        file.write(mark.tobytes())
    before = anonymous_megabytes()
    found = opened(path)
    assert found.spec.shape == (3, 64, 64)
    assert len(found) == count
    random = np.random.default_rng(0)
    for _ in range(50):
        values, _ = found.gather(random.integers(count, size=64))
        assert values.shape == (64, 3, 64, 64)
    value = found.gather(np.array([777_777]))[0][0]
    assert np.array_equal(value, mark.reshape(64, 64, 3).transpose(2, 0, 1) if last else mark.reshape(3, 64, 64))
    assert len(found.fingerprint) == 64
    assert anonymous_megabytes() - before < 200
    assert len(list(tmp_path.iterdir())) == 1  # no second copy


def test_pneumonia(data_folder: Path) -> None:
    path = data_folder / "pneumonia_mnist" / "pneumoniamnist_full.npz"
    for split, counts in (("train", [1214, 3494]), ("test", [234, 390]), ("all", [1583, 4273])):
        found = opened(path, split=split)
        assert found.spec.shape == (1, 28, 28)
        assert found.labels is not None
        assert np.bincount(found.labels).tolist() == counts
