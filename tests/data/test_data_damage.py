"""Damaged files: every outcome is a set that names what it left out, or one clear error; nothing else, and no hang."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn import encoded, folder_of, idx_files, noise, pngs, smooth, zip_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zerosum.data import Data, check, picture
from zerosum.data import open as open_data
from zerosum.data.picture import Broken, Picture
from zerosum.errors import UserError

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Cut at some point, or change some bytes, or put some in; positions are fractions of the length."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "swap"]))
    places = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=6))
    values = draw(st.lists(st.integers(0, 255), min_size=len(places), max_size=len(places)))

    def damage(raw: bytes) -> bytes:
        changed = bytearray(raw)
        if kind == "cut":
            return bytes(changed[: int(places[0] * len(raw))])
        for place, value in zip(places, values, strict=True):
            at = int(place * len(raw))
            if kind == "insert":
                changed.insert(at, value)
            elif kind == "swap":
                changed[at] = value
            else:
                changed[at] ^= 1 << value % 8
        return bytes(changed)

    return damage


IMAGES = {
    "png": encoded(smooth(16, 12)),
    "palette.png": encoded(smooth(16, 12).quantize(16)),
    "grey16.png": encoded(Image.fromarray(noise(16, 12).astype(np.uint16) * 257)),
    "jpg": encoded(smooth(16, 12), "JPEG"),
    "exif.jpg": encoded(
        smooth(16, 12), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
    "webp": encoded(smooth(16, 12), "WEBP"),
    "bmp": encoded(smooth(16, 12), "BMP"),
    "tif": encoded(smooth(16, 12), "TIFF", compression="tiff_lzw"),
    "gif": encoded(smooth(16, 12), "GIF"),
    "ppm": encoded(smooth(16, 12), "PPM"),
}


def read(raw: bytes) -> Picture | str:
    """The picture, or the reason why there is none."""
    try:
        return picture.read(raw)
    except Broken as broken:
        return str(broken)


@pytest.mark.parametrize("kind", IMAGES)
@given(damage=damages())
@settings(max_examples=60)
def test_an_image_is_read_or_broken(kind: str, damage: Callable[[bytes], bytes]) -> None:
    found = read(damage(IMAGES[kind]))
    if isinstance(found, str):
        assert found
    else:
        assert found.image.mode in ("L", "RGB", "RGBA")
        assert picture.render(found.image, (3, 4, 4), "crop").shape == (3, 4, 4)


@given(damage=damages(), kind=st.sampled_from(sorted(IMAGES)), memory=st.sampled_from([0, 1024]))
@settings(max_examples=30)
def test_a_folder_with_a_damaged_image(damage: Callable[[bytes], bytes], kind: str, memory: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        raw = damage(IMAGES[kind])
        folder = folder_of(Path(name) / "set", pngs(3) | {f"9.{kind}": raw})
        found = open_data(Data(source=str(folder), size=(6, 5), cache=name, memory_megabytes=memory))
        alone = read(raw)
        assert found.skipped == (((f"9.{kind}", alone),) if isinstance(alone, str) else ())
        assert len(found) + len(found.skipped) == 4
        assert check(Data(source=str(folder))).unreadable == found.skipped
        del found  # Windows cannot remove a mapped file


@functools.cache
def whole(kind: str) -> tuple[str, dict[str, bytes]]:
    """The name of the file to damage, and the bytes of it and of those beside it."""
    with tempfile.TemporaryDirectory() as name:
        path = whole_files(Path(name))[kind]
        return path.name, {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}


def whole_files(folder: Path) -> dict[str, Path]:
    labels = np.arange(6) % 2
    np.save(folder / "a.npy", noise(6, 5, 4))
    np.savez(folder / "a.npz", images=noise(6, 5, 4), labels=labels)
    np.savez_compressed(folder / "b.npz", images=noise(6, 5, 4), labels=labels)
    return {
        "npy": folder / "a.npy",
        "npz": folder / "a.npz",
        "packed npz": folder / "b.npz",
        "idx": idx_files(folder / "i", "train", noise(6, 5, 4), labels),
        "packed idx": idx_files(folder / "j", "train", noise(6, 5, 4), labels, packed=True),
        "zip": zip_of(folder / "a.zip", pngs(3, prefix="a/") | pngs(3, prefix="b/")),
    }


@pytest.mark.parametrize("kind", ["npy", "npz", "packed npz", "idx", "packed idx", "zip"])
@given(damage=damages(), memory=st.sampled_from([0, 1024]))
@settings(max_examples=40)
def test_a_damaged_container(kind: str, damage: Callable[[bytes], bytes], memory: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        which, files = whole(kind)
        path = folder_of(Path(name), files | {which: damage(files[which])}) / which
        try:
            found = open_data(Data(source=str(path), cache=name, memory_megabytes=memory))
        except UserError:
            return
        assert len(found) >= 2
        values, labels = found.gather(np.arange(len(found)))
        assert values.dtype in (np.uint8, np.float32)
        assert labels is None or (labels.shape == (len(found),) and labels.max() < found.spec.classes)
        assert all(file and reason for file, reason in found.skipped)
        del found


@given(raw=st.binary(max_size=400))
@settings(max_examples=60)
def test_any_bytes_as_any_file(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        for suffix in ("npy", "npz", "gz", "zip", "idx", "csv"):
            path = Path(name) / f"a.{suffix}"
            path.write_bytes(raw)
            if suffix == "csv":
                folder_of(Path(name) / "set", pngs(2))
                data = Data(source=str(Path(name) / "set"), labels=str(path))
            else:
                data = Data(source=str(path))
            with pytest.raises(UserError):
                open_data(data)
