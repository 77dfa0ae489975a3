"""TIFF: what other programs write, and what does not hold together."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from drawn import encoded, noise
from PIL import Image

from zerosum.data import tiff
from zerosum.data.deep import read
from zerosum.data.picture import Broken


def made(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, **options)
    return file.getvalue()


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "rowsperstrip": 5},
        {"tile": (16, 16)},
        {"tile": (16, 32), "compression": "zlib"},
        {"planarconfig": "separate", "compression": "zlib", "rowsperstrip": 7},
        {"planarconfig": "separate", "tile": (16, 16)},
    ],
)
def test_colour_of_16_bits(options: dict[str, Any], bigtiff: bool, byteorder: str) -> None:
    values = numbers(3, 33, 41)
    stored = values if "planarconfig" in options else values.transpose(1, 2, 0)
    raw = made(stored, photometric="rgb", bigtiff=bigtiff, byteorder=byteorder, **options)
    found = read(raw, "a.tif")
    assert np.array_equal(found.values, values)
    assert (found.values.dtype, found.format, found.notes) == (np.uint16, "TIFF", ())


def test_pillow_and_tifffile_read_what_is_written() -> None:
    for values in (numbers(1, 7, 9), numbers(1, 7, 9).astype(np.float32) / 7):
        with Image.open(io.BytesIO(tiff.encode(values))) as image:
            assert np.array_equal(np.asarray(image), values[0])
    for channels in (2, 3, 4):
        values = noise(channels, 7, 9)
        with Image.open(io.BytesIO(tiff.encode(values))) as image:
            assert image.mode == {2: "LA", 3: "RGB", 4: "RGBA"}[channels]
            assert np.array_equal(np.asarray(image), values.transpose(1, 2, 0))
    for values in (numbers(6, 7, 9), numbers(3, 7, 9).astype(np.int16)):
        with tifffile.TiffFile(io.BytesIO(tiff.encode(values))) as file:
            assert len(file.pages) == 1
            assert np.array_equal(file.asarray(), values)
            assert np.array_equal(read(tiff.encode(values), "a.tif").values, values)


def test_what_pillow_writes() -> None:
    grey = numbers(8, 9)
    assert np.array_equal(read(encoded(Image.fromarray(grey), "TIFF"), "a.tif").values[0], grey)
    real = grey.astype(np.float32) / 3
    deflated = encoded(Image.fromarray(real), "TIFF", compression="tiff_adobe_deflate")
    assert np.array_equal(read(deflated, "a.tif").values[0], real)
    packed = encoded(Image.fromarray(grey), "TIFF", compression="packbits")
    assert np.array_equal(read(packed, "a.tif").values[0], grey)


def test_lzw_is_read_or_its_remedy_named() -> None:
    grey = numbers(40, 50) // 9
    raw = encoded(Image.fromarray(grey), "TIFF", compression="tiff_lzw")
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        with pytest.raises(Broken, match=r"zerosum\[tiff\]"):
            read(raw, "a.tif")
    else:
        assert np.array_equal(read(raw, "a.tif").values[0], grey)


@pytest.mark.parametrize("bits", [8, 16])
def test_white_as_zero_is_inverted(bits: int) -> None:
    grey = numbers(8, 9) >> (16 - bits)
    raw = made(grey.astype(f"u{bits // 8}"), photometric="miniswhite")
    assert np.array_equal(read(raw, "a.tif").values[0], (1 << bits) - 1 - grey)
    signed = read(made(grey.astype(np.float32), photometric="miniswhite"), "a.tif")
    assert np.array_equal(signed.values[0], grey)
    assert signed.notes == (tiff.WHITE_LEAST,)


def test_channels_that_are_no_colours_are_kept_in_8_bits_too() -> None:
    values = noise(4, 7, 9)  # red, green, blue and infrared, say: not alpha
    raw = made(values.transpose(1, 2, 0), photometric="rgb", extrasamples=["unspecified"])
    assert np.array_equal(read(raw, "a.tif").values, values)
    signed = made(noise(7, 9).view(np.int8))
    assert read(signed, "a.tif").values.dtype == np.int16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_tag_of_orientation(orientation: int) -> None:
    values = numbers(8, 9) >> 8
    tag = [(tiff.ORIENTATION, 3, 1, orientation, True)]
    wide = read(made(values, extratags=tag), "a.tif").values
    narrow = read(made(values.astype(np.uint8), extratags=tag), "a.tif").values  # by Pillow
    assert wide.dtype == np.uint16
    assert np.array_equal(wide, narrow)
    assert np.array_equal(read(made(values.astype(np.float64) + 0.5, extratags=tag), "a.tif").values, wide + 0.5)
    assert wide.shape == (1, 8, 9) if orientation < 5 else (1, 9, 8)


def test_the_first_page_of_several_is_said() -> None:
    pages = numbers(2, 8, 9)
    found = read(made(pages, photometric="minisblack"), "a.tif")
    assert np.array_equal(found.values[0], pages[0])
    assert found.notes == (tiff.FIRST_PAGE,)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"photometric": "separated"}, "neither grey nor RGB"),
        ({"photometric": "minisblack", "volumetric": True, "tile": (16, 16, 16)}, "layers"),
    ],
)
def test_what_is_not_read(options: dict[str, Any], reason: str) -> None:
    shape = (16, 32, 32) if "volumetric" in options else (8, 9, 4)
    with pytest.raises(Broken, match=reason):
        read(made(numbers(*shape), **options), "a.tif")


# ---- what does not hold together -----------------------------------------------------------------------


def by_hand(
    width: int, height: int, strips: list[bytes], rows: int, compression: int = 1, bits: int = 16, fill: int = 1
) -> bytes:
    """A little-endian TIFF with one grey page, laid out by hand: header, strips, offsets, sizes, directory."""
    body, offsets = b"", []
    for strip in strips:
        offsets.append(8 + len(body))
        body += strip
    sizes = [len(strip) for strip in strips]
    lists_at = 8 + len(body)
    body += struct.pack(f"<{2 * len(strips)}I", *offsets, *sizes)
    n = len(strips)
    one = n == 1
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 1)),
        (266, 3, 1, fill),
        *((273, 4, n, offsets[0] if one else lists_at), (277, 3, 1, 1), (278, 4, 1, rows)),
        (279, 4, n, sizes[0] if one else lists_at + 4 * n),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


def test_by_hand() -> None:
    values = numbers(10, 6)
    strips = [values[:5].tobytes(), values[5:].tobytes()]
    assert np.array_equal(read(by_hand(6, 10, strips, 5), "a.tif").values[0], values)
    packed = [zlib.compress(strip) for strip in strips]
    assert np.array_equal(read(by_hand(6, 10, packed, 5, 8), "a.tif").values[0], values)


def test_bombs() -> None:
    for side in (20_000, 4_000_000_000):
        with pytest.raises(Broken, match="more than"):
            read(by_hand(side, side, [b"\0" * 99], side), "a.tif")
    bomb = zlib.compress(bytes(50_000_000))
    with pytest.raises(Broken, match="more than its share"):
        read(by_hand(6, 10, [bomb], 10, 8), "a.tif")


def test_what_a_packed_strip_holds_is_counted_before_it_is_decoded() -> None:
    values = np.full((10, 6), 0x4141, np.uint16)  # 120 bytes
    packed = b"\x80" + b"\x02AAA" + bytes([257 - 117]) + b"A" + b"\0"  # the last byte fills up: it says nothing
    assert np.array_equal(read(by_hand(6, 10, [packed], 10, 32773), "a.tif").values[0], values)
    bomb = (bytes([257 - 128]) + b"A") * 200_000
    for strip in (bomb, packed[:-1] + b"\0A"):
        with pytest.raises(Broken, match="more than its share"):
            read(by_hand(6, 10, [strip], 10, 32773), "a.tif")
    backwards = bytes(int(f"{byte:08b}"[::-1], 2) for byte in bomb)  # which would be counted wrongly
    with pytest.raises(Broken, match="fill order 2"):
        read(by_hand(6, 10, [backwards], 10, 32773, fill=2), "a.tif")


def test_lzw_is_decoded_into_the_room_of_its_strip() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    bomb = by_hand(6, 10, [imagecodecs.lzw_encode(bytes(50_000_000))], 10, 5)
    tracemalloc.start()
    try:
        with contextlib.suppress(Broken):
            read(bomb, "a.tif")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_strips_that_are_missing_or_beyond_the_end() -> None:
    values = numbers(10, 6)
    with pytest.raises(Broken, match="missing"):
        read(by_hand(6, 10, [values[:5].tobytes()], 5), "a.tif")
    with pytest.raises(Broken, match="cut short"):
        read(by_hand(6, 10, [values.tobytes(), b""], 5), "a.tif")
    with pytest.raises(Broken, match="damaged"):
        read(by_hand(6, 10, [zlib.compress(values[:3].tobytes())] * 2, 5, 8), "a.tif")
    with pytest.raises(Broken, match="compression 7"):
        read(by_hand(6, 10, [values.tobytes()], 10, 7), "a.tif")
