"""The named sets: where they are looked for, how they are split, and what is said when they are not there."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision
from drawn import encoded, folder_of, idx_files, noise, smooth, zip_of

from zerosum.data import ArrayDataset, Data, cifar, named, sets, toy
from zerosum.data import open as open_data
from zerosum.errors import UserError


def everything(found: ArrayDataset) -> np.ndarray:
    return found.gather(np.arange(len(found)))[0]


def test_names() -> None:
    assert list(named()) == ["digits", "fashion-mnist", "mnist", "cifar10", "celeba", "ring", "grid", "moons"]
    assert all(named().values())


def test_importing_data_imports_no_torch() -> None:
    script = "import sys, zerosum.data; sys.exit(any(n in sys.modules for n in ('torch', 'sklearn', 'torchvision')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_digits_are_split_once_and_for_all() -> None:  # the held-out half is never trained on
    whole, train, test = (open_data(Data(source="digits", split=s)) for s in ("all", "train", "test"))
    assert (len(whole), len(train), len(test)) == (1797, 1438, 359)
    assert train.spec == test.spec == whole.spec
    assert train.spec.shape == (1, 8, 8)
    assert train.class_names == tuple("0123456789")
    for found in (whole, train, test):
        assert found.labels is not None
        counts = np.bincount(found.labels) / len(found)
        assert np.abs(counts - np.bincount(whole.labels) / 1797).max() < 0.003  # type: ignore[arg-type]
    # every image is on one side (some digits occur twice, so count them)
    sides = sorted(row.tobytes() for side in (train, test) for row in everything(side))
    assert sides == sorted(row.tobytes() for row in everything(whole))
    assert open_data(Data(source="digits")).fingerprint == train.fingerprint
    assert train.fingerprint[:16] == "9c389a9d972b9cfd"


def test_digits_are_those_that_scikit_learn_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    known, quick = load_digits(), sets._embedded_digits()
    monkeypatch.setattr(sets.importlib.util, "find_spec", lambda name: None)  # as if its files lay elsewhere
    for images, labels in (quick, sets._embedded_digits()):
        assert images.shape == (1797, 8, 8)
        assert np.array_equal(images, known.images)
        assert np.array_equal(labels, known.target)


def test_digits_are_scaled_to_the_whole_range() -> None:  # trap 8
    values = everything(open_data(Data(source="digits", split="all")))
    assert set(np.unique(values)) == {round(v * 255 / 16) for v in range(17)}
    bigger = open_data(Data(source="digits", size=(32, 32), channels=3))
    assert bigger.spec.shape == (3, 32, 32)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("inner", ["", "raw", "torchvision"])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_layouts(tmp_path: Path, name: str, inner: str, packed: bool) -> None:
    folder = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
    place = tmp_path / (f"{folder}/raw" if inner == "torchvision" else inner)
    train, test = noise(5, 28, 28), noise(3, 28, 28, seed=1)
    idx_files(place, "train", train, np.array([0, 9, 1, 2, 3]), packed)
    idx_files(place, "t10k", test, np.array([1, 2, 3]), packed)
    expected = {"train": train, "test": test, "all": np.concatenate([train, test])}
    for split, images in expected.items():
        found = open_data(Data(source=name, root=str(tmp_path), split=split))  # type: ignore[arg-type]
        assert np.array_equal(everything(found)[:, 0], images)
        assert found.spec.classes == 10
    assert found.class_names[9] == {"mnist": "9", "fashion-mnist": "Ankle boot"}[name]


def test_mnist_without_labels_beside_it(tmp_path: Path) -> None:
    idx_files(tmp_path, "train", noise(5, 28, 28), np.arange(5))
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="labels"):
        open_data(Data(source="mnist", root=str(tmp_path)))


def test_fashion_mnist_from_debians_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx_files(tmp_path, "train", noise(5, 28, 28), np.arange(5), packed=True)
    monkeypatch.setattr(sets, "DEBIAN_FASHION", tmp_path)
    assert len(open_data(Data(source="fashion-mnist"))) == 5


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "celeba"])
def test_a_set_that_is_not_here_says_what_to_do(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "DEBIAN_FASHION", tmp_path / "nowhere")
    for root in (None, str(tmp_path)):
        with pytest.raises(UserError, match=r"--download.*--root"):
            open_data(Data(source=name, root=root))


def test_a_download_that_fails_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["file:///nowhere/"])
    with pytest.raises(UserError, match=r"mnist could not be downloaded.*--root") as error:
        open_data(Data(source="mnist", root=str(tmp_path / "new"), download=True))
    assert "\n" not in str(error.value)


def test_a_download_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(root: str, download: bool) -> None:
        assert download
        idx_files(Path(root) / "MNIST" / "raw", "train", noise(4, 28, 28), np.arange(4))

    monkeypatch.setattr(torchvision.datasets, "MNIST", fetch)
    assert len(open_data(Data(source="mnist", root=str(tmp_path), download=True))) == 4
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda *_, **__: pytest.fail("fetched again"))
    assert len(open_data(Data(source="mnist", root=str(tmp_path), download=True))) == 4


def binary_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    return np.concatenate([labels[:, None].astype(np.uint8), images.reshape(len(images), -1)], axis=1).tobytes()


def python_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """As Python 2 pickled the published batches: a dictionary of a list of labels and an array's raw bytes."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    raw = images.tobytes()
    numbers = b"".join(b"K" + bytes([label]) for label in labels.tolist())
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85" + text(b"b") + b"\x87Rq\x09("
        b"K\x01K" + bytes([len(images)]) + b"M\x00\x0c\x86cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R("
        b"K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<I", len(raw)) + raw + b"tb"
    )
    names = b"(" + b"".join(text(b"name.png") for _ in labels) + b"e"
    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + text(b"training batch 1 of 5") + text(b"labels")
        + b"]q\x05(" + numbers + b"e" + text(b"data") + array + text(b"filenames") + b"]" + names + b"u."
    )  # fmt: skip


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


@pytest.mark.parametrize("version", ["bin", "py"])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar_batches(tmp_path: Path, version: str, packed: bool) -> None:
    encode, suffix = {"bin": (binary_batch, ".bin"), "py": (python_batch, "")}[version]
    batches = {}
    for i, stem in enumerate((*cifar.TRAIN, *cifar.TEST)):
        batches[stem] = (noise(4, 3, 32, 32, seed=i), np.array([i, 9, 0, 3]))
    folder = f"cifar-10-batches-{version}"
    files = {f"{folder}/{stem}{suffix}": encode(*batch) for stem, batch in batches.items()}
    if packed:
        tarred(tmp_path / "cifar-10-anything.tar.gz", files)
    else:
        folder_of(tmp_path, files)
    for split, stems in (("train", cifar.TRAIN), ("test", cifar.TEST), ("all", cifar.TRAIN + cifar.TEST)):
        found = open_data(Data(source="cifar10", root=str(tmp_path), split=split))  # type: ignore[arg-type]
        assert np.array_equal(everything(found), np.concatenate([batches[stem][0] for stem in stems]))
        assert found.labels is not None
        assert found.labels.tolist() == np.concatenate([batches[stem][1] for stem in stems]).tolist()
        assert found.class_names == cifar.CLASS_NAMES


def test_the_hand_made_batch_is_a_true_pickle() -> None:
    """What the reader is tested with is what Python itself takes for a pickled batch."""
    import pickle

    images, labels = noise(4, 3, 32, 32), np.array([1, 2, 3, 4])
    found = pickle.loads(python_batch(images, labels), encoding="bytes")
    assert np.array_equal(found[b"data"], images.reshape(4, 3072))
    assert found[b"labels"] == [1, 2, 3, 4]


def test_a_pickle_in_a_batch_is_never_run(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "sprung",))

    place = tmp_path / "cifar-10-batches-py"
    folder_of(place, {stem: pickle.dumps({"data": Trap(), "labels": [1]}) for stem in cifar.TRAIN})
    with pytest.raises(UserError, match="CIFAR-10"):
        open_data(Data(source="cifar10", root=str(tmp_path)))
    assert not (tmp_path / "sprung").exists()


def test_cifar_as_images(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for side, count in (("train", 3), ("test", 2)):
        for name in cifar.CLASS_NAMES:
            files |= {f"{side}/{name}/{i}.jpg": encoded(smooth(32, 32, i), "JPEG") for i in range(count)}
    folder_of(tmp_path / "folder", files)
    tarred(tmp_path / "cifar10_jpg.tar.gz", files)
    prints = set()
    for root in (tmp_path / "folder", tmp_path, tmp_path / "cifar10_jpg.tar.gz"):
        sizes = [len(open_data(Data(source="cifar10", root=str(root), split=s))) for s in ("train", "test", "all")]
        assert sizes == [30, 20, 50]
        found = open_data(Data(source="cifar10", root=str(root)))
        assert found.class_names == cifar.CLASS_NAMES
        prints.add(found.fingerprint)
    assert len(prints) == 1


def test_celeba_is_split_as_published(tmp_path: Path) -> None:
    numbers = [1, 2, 162_770, 162_771, 182_637, 182_638, 202_599]
    files = {f"{n:06}.jpg": encoded(smooth(22, 18, n), "JPEG") for n in numbers}
    folder_of(tmp_path / "a" / "celeba" / "img_align_celeba", files)
    folder_of(tmp_path / "b" / "img_align_celeba" / "img_align_celeba", files)
    (tmp_path / "c").mkdir()
    zip_of(tmp_path / "c" / "img_align_celeba.zip", {f"img_align_celeba/{n}": raw for n, raw in files.items()})
    for root in "abc":
        for split, count in (("train", 3), ("test", 2), ("all", 7)):
            found = open_data(Data(source="celeba", root=str(tmp_path / root), split=split))  # type: ignore[arg-type]
            assert len(found) == count
            assert found.spec.shape == (3, 22, 18)
            assert found.labels is None


def test_points_take_no_image_settings() -> None:
    with pytest.raises(UserError, match="--size and --channels"):
        open_data(Data(source="ring", size=(4, 4)))
    with pytest.raises(UserError, match=r"--labels x.csv: .* leave --labels out"):
        open_data(Data(source="ring", labels="x.csv"))


def test_toys_are_the_same_everywhere_and_their_splits_differ() -> None:
    for name in ("ring", "grid", "moons"):
        train, again, test, both = (open_data(Data(source=name, split=s)) for s in ("train", "train", "test", "all"))
        assert train.spec.shape == (2,)
        assert train.labels is None
        assert everything(train).dtype == np.float32
        assert np.array_equal(everything(train), everything(again))
        rows = [{row.tobytes() for row in everything(found)} for found in (train, test)]
        assert not rows[0] & rows[1]
        assert (len(train), len(test), len(both)) == (100_000, 100_000, 200_000)
        assert len(open_data(Data(source=name, limit=10))) == 10


@pytest.mark.parametrize(("name", "modes"), [("ring", toy.ring_modes()), ("grid", toy.grid_modes())])
def test_mixtures_have_the_moments_they_claim(name: str, modes: toy.Modes) -> None:
    centres, sigma = modes
    points = toy.draw(name, "train").astype(np.float64)
    nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(centres))
    assert np.abs(counts / len(points) - 1 / len(centres)).max() < 0.005
    offsets = points - centres[nearest]
    assert np.abs(offsets.mean(axis=0)).max() < 4 * sigma / np.sqrt(len(points))
    assert np.abs(offsets.std(axis=0) / sigma - 1).max() < 0.01
    covered, inside = toy.mode_report(points, centres, sigma)
    assert covered == len(centres)
    assert abs(inside - (1 - np.exp(-4.5))) < 0.002


def test_ring_is_the_ring_of_the_benchmark() -> None:
    centres, sigma = toy.ring_modes()
    assert np.allclose(np.hypot(*centres.T), 2)
    assert len(centres) == 8
    assert sigma == 0.1
    assert len(toy.grid_modes()[0]) == 25


def test_a_mode_counts_with_two_percent_within_three_sigma() -> None:
    centres, sigma = toy.ring_modes()
    samples = np.repeat(centres[:1], 1000, axis=0)
    assert toy.mode_report(samples, centres, sigma) == (1, 1.0)
    samples[:20] = centres[1] + [0.0, 2.99 * sigma]
    assert toy.mode_report(samples, centres, sigma) == (2, 1.0)
    samples[:20] = centres[1] + [0.0, 3.01 * sigma]
    assert toy.mode_report(samples, centres, sigma) == (1, 0.98)
    samples[:19] = centres[1]
    assert toy.mode_report(samples, centres, sigma)[0] == 1  # 1.9 %
    assert toy.mode_report(samples, centres, sigma, share=0.019)[0] == 2
    samples[:] = np.nan
    assert toy.mode_report(samples, centres, sigma) == (0, 0.0)


def test_moons_lie_on_two_arcs() -> None:
    points = toy.draw("moons", "train")
    upper = np.abs(np.hypot(points[:, 0], points[:, 1]) - 1)
    lower = np.abs(np.hypot(points[:, 0] - 1, points[:, 1] - 0.5) - 1)
    assert np.minimum(upper, lower).max() < 6 * toy.MOONS_SIGMA
    assert abs((upper < lower).mean() - 0.5) < 0.02


def test_mnist(data_folder: Path) -> None:
    for split, count in (("train", 60_000), ("test", 10_000)):
        found = open_data(Data(source="mnist", root=str(data_folder / "mnist"), split=split))  # type: ignore[arg-type]
        assert found.spec.shape == (1, 28, 28)
        assert len(found) == count
        assert found.spec.classes == 10
