"""TIFF with more than 8 bits, or with channels that are no colours: from bytes to values and back, by tifffile."""

from __future__ import annotations

import io
import json
import logging
import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from zerosum.data import picture
from zerosum.data.picture import Broken

if TYPE_CHECKING:
    from tifffile import TiffPage

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big endian; the last two are BigTIFF
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # photometric interpretations (TIFF 6.0, section 3 and 8)
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3}
ALPHA = (1, 2)  # kinds of extra sample: alpha by which the colours are multiplied, and by which they are not
NONE, LZW, DEFLATE, PACKBITS = (1,), (5,), (8, 32946), (32773,)  # compressions, by tag 259
ORIENTATION = 274
FIRST_PAGE = "only the first page of the file was read"
WHITE_LEAST = "the file says that its least value is white; the values were kept as they are"
CODECS = "its compression needs imagecodecs: pip install 'zerosum[tiff]', or save it uncompressed or with deflate"


def read(raw: bytes) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """The first page as values (C, H, W), upright, in their own type, and what to say of them. Raises Broken.

    None for what `picture.read` reads: 8 bits or fewer in grey, colours that it knows, and their alpha; and for a file
    whose header cannot be read at all, which it will refuse.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said by Broken, once
    try:
        file = tifffile.TiffFile(io.BytesIO(raw))
        page = file.pages.first
        if _is_picture(page):
            return None
    except Exception:  # whatever the damaged bytes lead to
        return None
    try:
        _check(page, raw)
        values = page.asarray(squeeze=False, maxworkers=1)  # (planes, 1, H, W, samples)
        notes = (FIRST_PAGE,) if file.pages.is_multipage else ()
    except Broken:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise Broken(CODECS) from error
        raise Broken(f"a damaged TIFF file ({str(error).strip() or type(error).__name__})") from error
    values = values[:, 0].transpose(0, 3, 1, 2).reshape(-1, *values.shape[2:4])
    if page.photometric == WHITE_IS_ZERO and values.dtype.kind == "u":
        values = (1 << page.bitspersample) - 1 - values
    elif page.photometric == WHITE_IS_ZERO:
        notes = (*notes, WHITE_LEAST)
    orientation = page.tags.valueof(ORIENTATION, 1)
    return picture.upright(values, orientation) if orientation != 1 else values, notes


def _is_picture(page: TiffPage) -> bool:
    if page.bitspersample != 8:
        return not isinstance(page.bitspersample, int) or page.bitspersample < 8
    colours = COLOURS.get(page.photometric)
    if colours is None or page.samplesperpixel <= colours:
        return page.dtype == np.uint8 or colours is None
    return page.samplesperpixel == colours + 1 and page.extrasamples[:1] in [(kind,) for kind in ALPHA]


def _check(page: TiffPage, raw: bytes) -> None:
    """Refuse what this does not read, and what does not hold together.

    tifffile puts zeros where strips or tiles are missing, and inflates them to whatever they hold (those of LZW aside:
    imagecodecs decodes into as much room as a strip or tile has).
    """
    planes, layers, height, width, samples = page.shaped
    picture.check_size(width, height, planes * samples)
    if layers != 1:
        raise Broken(f"a volume of {layers} layers, not an image")
    if page.photometric not in COLOURS:
        raise Broken(f"more than 8 bits in colours (photometric {int(page.photometric)}) that are neither grey nor RGB")
    if page.compression not in (*NONE, *LZW, *DEFLATE, *PACKBITS):
        raise Broken(f"compression {int(page.compression)} is not read here: save it uncompressed or with deflate")
    if page.dtype is None:
        raise Broken(
            f"values of {page.bitspersample} bits and sample format {int(page.sampleformat)} are not read here"
        )
    if page.fillorder != 1 and page.compression not in NONE:
        raise Broken("compressed with the bits of each byte reversed (fill order 2), which is not read here")
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    picture.check_size(columns, rows, samples)
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(parts) != planes * math.ceil(height / rows) * (math.ceil(width / columns) if page.is_tiled else 1):
        raise Broken("a damaged TIFF file: some of its strips or tiles are missing")
    room = rows * columns * samples * page.dtype.itemsize
    for offset, size in parts:
        if not 0 < offset < offset + size <= len(raw):
            raise Broken("the file is cut short: a strip or tile lies outside it")
        if _held(raw[offset : offset + size], page.compression, room + 1) > room:
            raise Broken("a damaged TIFF file: a strip or tile holds more than its share of the image")


def _held(data: bytes, compression: int, most: int) -> int:
    """How many bytes a deflated or packed strip or tile holds, as far as `most`; 0 of other kinds."""
    if compression in DEFLATE:
        return len(zlib.decompressobj().decompress(data, most))
    return _unpacked(data, most) if compression in PACKBITS else 0


def _unpacked(data: bytes, most: int) -> int:
    """By its headers alone (TIFF 6.0, section 9): n + 1 bytes as they are, one byte 257 - n times; of 128 nothing."""
    held = at = 0
    while at + 1 < len(data) and held < most:
        n = data[at]
        if n < 128:
            held += min(n + 1, len(data) - at - 1)
            at += n + 2
        elif n > 128:
            held += 257 - n
            at += 2
        else:
            at += 1
    return held


def encode(values: np.ndarray, text: dict[str, str] | None = None) -> bytes:
    """A TIFF of values (C, H, W) of any depth, deflated: C of 1 to 4 as grey and RGB with or without alpha.

    Other channels, and signed ones, follow each other as planes without a meaning. `text` is its description, as JSON.
    """
    import tifffile

    channels = len(values)
    coloured = channels <= 4 and values.dtype != np.int16
    data = values[0] if channels == 1 else np.ascontiguousarray(values.transpose(1, 2, 0)) if coloured else values
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(
            data,
            photometric="rgb" if coloured and channels > 2 else "minisblack",
            planarconfig=None if channels == 1 else "contig" if coloured else "separate",
            extrasamples=("unassalpha",) if coloured and channels in (2, 4) else None,
            compression="zlib",
            metadata=None,
            description=json.dumps(text) if text else None,
            software="zerosum",
        )
    return file.getvalue()
