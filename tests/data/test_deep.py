"""Pictures in their own depth: every format there and back, bit for bit, and what is refused."""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawn import encoded, noise, smooth
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zerosum.data import deep, picture, png
from zerosum.data.deep import Deep, read, suffix_for, write
from zerosum.data.depth import Stored
from zerosum.data.picture import Broken
from zerosum.errors import UserError

DEPTHS: tuple[Stored, ...] = ("uint8", "uint16", "int16", "float32")
EVERY = {
    "uint8": np.arange(256, dtype=np.uint8).reshape(1, 16, 16),
    "uint16": np.arange(65536, dtype=np.uint16).reshape(1, 256, 256),
    "int16": np.arange(-32768, 32768).astype(np.int16).reshape(1, 256, 256),
}
EXTREMES = np.array([0, -0.0, 1e-45, -3.4028235e38, 3.4028235e38, 1 / 3, 16777216, -1e-30], np.float32)


def drawn(stored: Stored, channels: int, height: int = 9, width: int = 11, seed: int = 0) -> np.ndarray:
    """Values (C, H, W) over the whole range; an alpha channel of 8 bits is nowhere 0, where colours are not kept."""
    rng = np.random.default_rng(seed)
    if stored == "float32":
        return rng.normal(0, 1000, (channels, height, width)).astype(np.float32)
    info = np.iinfo(stored)
    values = rng.integers(info.min, info.max, (channels, height, width), np.dtype(stored), endpoint=True)
    if stored == "uint8" and channels in (2, 4):
        values[-1] |= 1
    return values


def written(values: np.ndarray, suffix: str, folder: Path) -> bytes:
    path = folder / f"a{suffix}"
    write(values, path)
    return path.read_bytes()


def same(found: Deep, values: np.ndarray) -> bool:
    same_kind = found.values.dtype == values.dtype and found.values.shape == values.shape
    return same_kind and found.values.tobytes() == values.tobytes() and found.values.flags.c_contiguous


# ---- there and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".dcm"])
@pytest.mark.parametrize("stored", EVERY)
def test_every_value_comes_back(stored: str, suffix: str, tmp_path: Path) -> None:  # trap 8
    if suffix == ".dcm":
        pytest.importorskip("pydicom")
    values = EVERY[stored]
    if not deep.holds(deep.SUFFIXES[suffix], stored, 1):
        with pytest.raises(UserError, match=r"\.tif, \.tiff, \.npy, \.dcm"):
            write(values, tmp_path / f"a{suffix}")
        return
    found = read(written(values, suffix, tmp_path), f"a{suffix}")
    assert same(found, values)
    assert found.format == deep.SUFFIXES[suffix]


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_real_numbers_come_back(suffix: str, tmp_path: Path) -> None:
    values = np.concatenate([EXTREMES, drawn("float32", 1, 1, 56).ravel()]).reshape(1, 8, 8)
    assert same(read(written(values, suffix, tmp_path), "a"), values)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stored", DEPTHS)
def test_every_depth_with_every_number_of_channels(stored: Stored, channels: int, tmp_path: Path) -> None:
    values = drawn(stored, channels)
    for suffix in (".png", ".tif", ".npy"):
        if deep.holds(deep.SUFFIXES[suffix], stored, channels):
            assert same(read(written(values, suffix, tmp_path), f"a{suffix}"), values), suffix
    assert same(read(written(values, suffix_for(stored, channels), tmp_path), "a"), values)


@given(st.sampled_from(DEPTHS), st.integers(1, 6), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_any_shape_comes_back(stored: Stored, channels: int, height: int, width: int, seed: int) -> None:
    from zerosum.data import tiff

    values = drawn(stored, channels, height, width, seed)
    assert same(read(tiff.encode(values), "a"), values)
    if deep.holds("PNG", stored, channels) and stored == "uint16":
        assert same(read(png.encode(values, {}), "a"), values)


def test_jpeg_is_near_and_of_full_colour(tmp_path: Path) -> None:
    values = np.asarray(smooth(32, 48)).transpose(2, 0, 1)
    found = read(written(values, ".jpg", tmp_path), "a.jpg")
    assert found.format == "JPEG"
    assert np.abs(found.values.astype(int) - values).mean() < 2
    with pytest.raises(UserError, match=r"does not hold 4 channels of uint8; these do: \.png, \.tif"):
        write(drawn("uint8", 4), tmp_path / "b.jpg")


def test_the_best_suffix() -> None:
    assert [suffix_for(stored, 3) for stored in DEPTHS] == [".png", ".png", ".tif", ".tif"]
    assert suffix_for("uint16", 5) == ".tif"


# ---- independent readers and writers -------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "kind"), [(1, "gray16be"), (3, "rgb48be"), (4, "rgba64be")])
def test_png_of_16_bits_from_another_writer(channels: int, kind: str) -> None:
    import av

    values = drawn("uint16", channels, 37, 53)
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 53, 37, kind, 1
    frame = av.VideoFrame(53, 37, kind)
    rows = values.transpose(1, 2, 0).astype(">u2").tobytes()
    plane = frame.planes[0]
    length = 53 * channels * 2
    plane.update(b"".join(rows[i * length : (i + 1) * length].ljust(plane.line_size, b"\0") for i in range(37)))
    raw = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    assert same(read(raw, "a.png"), values)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pillow_reads_png_of_16_bits(channels: int) -> None:
    values = drawn("uint16", channels)
    with Image.open(io.BytesIO(png.encode(values, {"prompt": "a cat", "név": "ő"}))) as image:
        pixels = np.asarray(image)
        assert image.info["prompt"] == "a cat"
        assert image.info["név"] == "ő"
    if channels == 1:
        assert np.array_equal(pixels, values[0])
    elif channels == 2:
        assert np.array_equal(pixels, (values >> 8).transpose(1, 2, 0)[..., [0, 0, 0, 1]][..., -pixels.shape[2] :])
    else:
        assert np.array_equal(pixels, (values >> 8).transpose(1, 2, 0)), "Pillow keeps the upper byte"


def test_text_goes_into_png_of_8_bits_too(tmp_path: Path) -> None:
    write(drawn("uint8", 2), tmp_path / "a.png", {"seed": "7"})
    with Image.open(tmp_path / "a.png") as image:
        assert (image.mode, image.text) == ("LA", {"seed": "7"})


def test_interlaced_png_of_16_bits() -> None:
    values = drawn("uint16", 3, 13, 10)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    data = b""
    for top, left, down, right in passes:  # PNG specification, 8.2
        part = values[:, top::down, left::right].transpose(1, 2, 0).astype(">u2")
        data += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    assert same(read(_png(10, 13, 2, data, interlaced=1), "a.png"), values)


def test_a_transparent_colour_of_16_bits_is_alpha() -> None:
    values = drawn("uint16", 3, 4, 5)
    key = values[:, 2, 3]
    data = b"".join(b"\0" + row.tobytes() for row in values.transpose(1, 2, 0).astype(">u2"))
    found = read(_png(5, 4, 2, data, (b"tRNS", key.astype(">u2").tobytes())), "a.png").values
    assert np.array_equal(found[:3], values)
    assert np.array_equal(found[3] == 0, (values == key[:, None, None]).all(0))
    assert set(found[3].ravel().tolist()) == {0, 65535}


def _png(width: int, height: int, colour: int, data: bytes, *extra: tuple[bytes, bytes], interlaced: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png._chunk(kind, part) for kind, part in chunks)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK"])
def test_8_bits_are_as_picture_reads_them(mode: str) -> None:
    raw = encoded(smooth(9, 8).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    pixels = np.asarray(picture.read(raw).image)
    expected = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    found = read(raw, "a.png")
    assert found.values.dtype == np.uint8
    assert np.array_equal(found.values, expected[[0, 3]] if mode == "LA" else expected)
    assert found.notes == ()


def test_depth_that_is_lost_is_said() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    found = read(encoded(grey, "PPM"), "a.pgm")
    assert found.values.dtype == np.uint8
    assert found.notes == ("PPM of 16 bits is read in 8",)


# ---- rotation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_of_16_bits(orientation: int, channels: int) -> None:
    values = drawn("uint16", channels, 6, 9)
    exif = Image.Exif()
    exif[picture.ORIENTATION] = orientation
    raw = png.encode(values, {})
    raw = raw[:33] + png._chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + raw[33:]  # after IHDR
    small = Image.fromarray((values >> 8).astype(np.uint8)[0])
    turned = picture.read(encoded(small, "PNG", exif=exif)).image
    found = read(raw, "a.png").values
    assert found.shape[1:] == (turned.height, turned.width)
    assert np.array_equal(found[0] >> 8, np.asarray(turned))


@pytest.mark.parametrize("stored", DEPTHS)
def test_every_depth_is_turned_alike(stored: Stored) -> None:
    values = drawn(stored, 3, 4, 5)
    places = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    for orientation in range(9):
        expected = values.ravel()[picture.upright(places, orientation)]
        assert np.array_equal(picture.upright(values, orientation), expected)


# ---- .npy ----------------------------------------------------------------------------------------------


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_where_the_channels_of_an_array_are() -> None:
    shapes = {
        (5, 6): (1, 5, 6),
        (3, 5, 6): (3, 5, 6),
        (5, 6, 3): (3, 5, 6),
        (3, 5, 4): (3, 5, 4),  # both could be: first
        (7, 50, 60): (7, 50, 60),
        (50, 60, 7): (7, 50, 60),
        (9, 9, 9): (9, 9, 9),
    }
    for shape, expected in shapes.items():
        values = np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)
        found = read(npy(values), "a.npy").values
        assert found.shape == expected
        axes = (0, 1, 2) if len(shape) == 2 or shape == expected else (2, 0, 1)
        assert np.array_equal(found, values.reshape(1, *shape) if len(shape) == 2 else values.transpose(axes))


def test_other_types_come_as_what_holds_them_exactly() -> None:
    whole = np.array([[0, 1], [-3, 1 << 24]])
    for kind in ("<i4", ">i8", "<f8", ">f4"):
        found = read(npy(whole.astype(kind)), "a.npy").values
        assert found.dtype == np.float32
        assert np.array_equal(found[0], whole)
    assert read(npy(np.array([[-128, 127]], np.int8)), "a").values.tolist() == [[[-128, 127]]]
    assert read(npy(np.array([[1.5, 2]], np.float16)), "a").values.dtype == np.float32
    assert read(npy(np.array([[True, False]])), "a").values.tolist() == [[[255, 0]]]
    assert read(npy(np.asfortranarray(np.arange(30, dtype=">u2").reshape(5, 6))), "a").values[0, 4, 5] == 29
    for values in ([[0.1]], [[1e300]], [[(1 << 24) + 1]]):
        with pytest.raises(Broken, match="exactly"):
            read(npy(np.array(values)), "a.npy")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[1.0, math.nan], [math.inf, 0]], np.float32), "2 of its values"),
        (np.array([[math.nan]]), "1 of its values"),
        (np.zeros((2, 2), np.complex64), "complex64"),
        (np.array([["a"]]), "no image"),
        (np.array([[{}]], object), "never loaded"),
        (np.zeros((2, 2, 2, 2)), "not one image"),
        (np.zeros((0, 4), np.uint8), "no image"),
    ],
)
def test_arrays_that_are_no_image(values: np.ndarray, reason: str) -> None:
    with pytest.raises(Broken, match=reason):
        read(npy(values), "a.npy")


@pytest.mark.parametrize("descr", ["|V0", "|S0", "<U0", "<M8[s]", [("a", "<u2")], ("<u2", (3,)), ("<u2", (0,))])
def test_arrays_of_what_is_no_number(descr: object) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (4, 4)})  # type: ignore[no-untyped-call]
    with pytest.raises(Broken, match="are no image: uint8"):
        read(file.getvalue() + bytes(32), "a.npy")


# ---- what is broken ------------------------------------------------------------------------------------


def header_of(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("side", [20_000, 1_000_000_000])
def test_bombs_are_refused_by_what_they_claim(side: int) -> None:
    with pytest.raises(Broken, match="more than"):
        read(header_of((side, side)), "a.npy")
    side = min(side, 2**31 - 1)
    with pytest.raises(Broken, match="pixels"):
        read(_png(side, side, 2, bytes(100)), "a.png")


def test_many_channels_are_a_bomb_too() -> None:
    with pytest.raises(Broken, match="channels"):
        read(header_of((60_000, 1_000, 1_000)), "a.npy")


@pytest.mark.filterwarnings("ignore")  # of Pillow
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".jpg", ".dcm"])
def test_truncated_files(suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if suffix == ".dcm":
        pytest.importorskip("pydicom")
    values = noise(3, 40, 30) if suffix == ".jpg" else drawn("uint16", 1 if suffix == ".dcm" else 3, 40, 30)
    raw = written(values, suffix, tmp_path)
    for end in {0, 1, 9, 40, 140, len(raw) // 2, len(raw) - 60, len(raw) - 25} - {len(raw)}:
        with pytest.raises(Broken, match=r"\w"):
            read(raw[:end], f"a{suffix}")
    assert capfd.readouterr() == ("", "")


def test_a_png_that_inflates_to_too_little() -> None:
    values = drawn("uint16", 3, 20, 10)
    data = b"".join(b"\0" + row.tobytes() for row in values.transpose(1, 2, 0).astype(">u2"))
    assert same(read(_png(10, 20, 2, data), "a.png"), values)
    with pytest.raises(Broken):
        read(_png(10, 20, 2, data[:-200]), "a.png")


@pytest.mark.filterwarnings("ignore")  # of Pillow
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".dcm", ".jpg"])
def test_noise_and_damage_end_in_one_kind_of_error(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = noise(3, 12, 10) if suffix == ".jpg" else drawn("uint16", 1, 12, 10)
    if suffix == ".dcm":
        pytest.importorskip("pydicom")
    raw = written(values, suffix, tmp_path)
    reasons: list[str] = []
    for _ in range(60):
        damaged = bytearray(raw)
        for place in rng.integers(0, min(len(raw), 400), 3):
            damaged[place] = rng.integers(256)
        try:
            found = read(bytes(damaged), f"a{suffix}")
        except Broken as broken:
            reasons.append(str(broken))
        else:
            assert found.values.ndim == 3
    assert reasons
    assert all(reasons)


@pytest.mark.parametrize(
    "name", ["a.png", "a.tif", "a.npy", "a.dcm", "../../x.DCM", "nul\0.tiff", "", "é\udcff.png", "."]
)
@pytest.mark.parametrize("raw", [b"", b"just some text, no picture\n" * 20])
def test_text_is_no_picture_whatever_its_name(raw: bytes, name: str) -> None:
    with pytest.raises(Broken, match=r"\w"):
        read(raw, name)


def test_what_is_written_is_whole_or_not_there(tmp_path: Path) -> None:
    values = drawn("uint16", 3)
    for name, reason in {
        "a.gif": r"written as \.gif; give \.png",
        "a": "without suffix",
        "a.jpg": "does not hold 3 channels of uint16",
        "a.dcm": "does not hold 3",
    }.items():
        with pytest.raises(UserError, match=reason):
            write(values, tmp_path / name)
    with pytest.raises(UserError, match="65500"):
        write(np.zeros((1, 1, 65501), np.uint8), tmp_path / "long.jpg")
    with pytest.raises(ValueError, match="no image"):
        write(values.astype(np.float64), tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full.png").mkdir()
    with pytest.raises(UserError, match="could not be written"):
        write(values, tmp_path / "full.png")
    assert [path.name for path in tmp_path.iterdir()] == ["full.png"]
