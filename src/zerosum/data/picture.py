"""One picture: from the bytes of a file to uint8 (C, H, W), upright, of the size and channels asked for.

The one home of decoding and resizing. Every resize is bicubic with antialiasing: the filter grows with the
reduction, as it must (Parmar et al. 2022, arXiv:2104.11222). With alpha the colours are weighted by it, so
that invisible pixels do not bleed into visible ones.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, TiffImagePlugin, UnidentifiedImageError

from zerosum.data.spec import Fit

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "tif", "tiff", "gif"),
        *("ppm", "pgm", "pbm", "pnm"),
    )
)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")  # only these decoders see the bytes
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ORIENTATION = 0x0112  # EXIF tag; its values 2 .. 8 say how the camera was held
SIDEWAYS = 5  # and from here on, that what was stored as rows are columns
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # tags
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FAINT = 16  # of 255 (of 16 bits that share): below, a colour is not seen, and once weighted by alpha hardly known
COLOUR_TOLERANCE = 4  # grey saved as colour may differ by rounding between its channels


class Broken(Exception):
    """An image that cannot be used; the message is the reason. The set goes on without it."""


@dataclass(frozen=True)
class Picture:
    """A decoded image, upright, with 8 bits in mode L, RGB or RGBA; and what the file held."""

    image: Image.Image
    format: str
    mode: str  # PIL's name for how the pixels were stored: P, LA, I;16, CMYK ...
    bits: int  # per channel, as stored
    orientation: int = 1  # EXIF's, 1 to 8, as stored; `image` has been turned already

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.height, self.image.width


def read(raw: bytes) -> Picture:
    """Decode a file's bytes (the first frame, if there are several). Raises Broken with the reason."""
    with _opened(raw) as opened:
        format, mode, bits = opened.format or "", opened.mode, _bits(opened, raw)
        opened.load()
        orientation = _orientation(opened)
        return Picture(_upright(eight_bits(opened), orientation), format, mode, bits, orientation)


def measure(raw: bytes) -> tuple[int, int]:
    """Height and width, upright, as the file's header says: nothing is decoded. Raises Broken with the reason."""
    with _opened(raw) as opened:
        width, height = opened.size
        if isinstance(opened, TiffImagePlugin.TiffImageFile):  # some Pillows give its size upright already
            width, height = (int(opened.tag_v2[tag]) for tag in (TIFF_WIDTH, TIFF_HEIGHT))
        return (width, height) if SIDEWAYS <= _orientation(opened) <= max(UPRIGHT) else (height, width)


@contextmanager
def _opened(raw: bytes) -> Iterator[Image.Image]:
    """A file's header; whatever is wrong with it, or comes to light while it is used, is Broken with the reason."""
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
            check_size(opened.width, opened.height)
            yield opened
    except Broken:
        raise
    except UnidentifiedImageError as error:  # its own text holds a memory address
        raise Broken("not a readable image of a known format" if raw else "the file is empty") from error
    except Image.DecompressionBombError as error:
        raise Broken("more pixels than the limit (a decompression bomb?)") from error
    except Exception as error:  # decoders raise all sorts of errors on damaged bytes: each means just "broken"
        raise Broken(str(error).strip() or type(error).__name__) from error


def check_size(width: int, height: int, channels: int = 1) -> None:
    """Refuse, by what a file's header claims and before room is made for it, what Pillow takes for a bomb (Broken)."""
    if not (width > 0 and height > 0 and channels > 0):
        raise Broken(f"{width} x {height} pixels in {channels} channels are no image")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise Broken(f"{width} x {height} pixels are more than the limit of {limit}")
    if limit is not None and width * height * channels > len(MODES[4]) * limit:
        raise Broken(f"{width} x {height} pixels in {channels} channels are more than 4 channels of {limit}")


def _bits(image: Image.Image, raw: bytes) -> int:
    if image.format == "PNG":
        return raw[24]  # in the header chunk, which comes first: width, height, then bits per channel
    return {"1": 1, "F": 32, "I": 16}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return 1  # a damaged note about the camera is no reason to lose the picture


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Values (C, H, W) of any type, turned as EXIF's `orientation` asks: what `read` does to an image of 8 bits."""
    turn = UPRIGHT.get(orientation)
    if turn is None:
        return values
    channels, height, width = values.shape
    places = Image.fromarray(np.arange(height * width, dtype=np.int32).reshape(height, width))
    return values.reshape(channels, -1)[:, np.asarray(places.transpose(turn))]


def eight_bits(image: Image.Image) -> Image.Image:
    """Any of PIL's modes as L, RGB or RGBA."""
    if image.mode in ("L", "RGB", "P", "1") and "transparency" in image.info:
        return _without_hidden_colour(image.convert("RGBA"))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return _without_hidden_colour(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bit_grey(np.asarray(image)))
    return image.convert("RGB")


def _without_hidden_colour(image: Image.Image) -> Image.Image:
    """Fully transparent pixels get one colour, black: what nobody can see tells nothing apart (see `without_rims`)."""
    pixels = np.array(image)
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def _eight_bit_grey(values: np.ndarray) -> np.ndarray:
    """16-bit greys 0 .. 65535 (or real ones, 0 .. 1) scaled to 0 .. 255 with rounding, never clipped."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # so written that NaN is refused too
            raise Broken(f"floating-point pixels from {low} to {high}; only 0 .. 1 has a known meaning")
        return (values * 255).round().astype(np.uint8)
    if low < 0 or high > 65535:
        raise Broken(f"integer pixels from {low} to {high}; only 0 .. 65535 has a known meaning")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def channels_in_use(image: Image.Image) -> int:
    """4 if any pixel is transparent, else 3 if any has a colour, else 1."""
    if image.mode == "L":
        return 1
    red, green, blue, *alpha = image.split()
    if alpha and _extrema(alpha[0])[0] < 255:
        return 4
    pairs = ((red, green), (green, blue), (blue, red))
    return 3 if any(_extrema(ImageChops.difference(*p))[1] > COLOUR_TOLERANCE for p in pairs) else 1


def _extrema(band: Image.Image) -> tuple[int, int]:
    return band.getextrema()  # type: ignore[return-value]  # of one 8-bit band


def extremes(image: Image.Image) -> tuple[int, int]:
    """Least and greatest value in any channel."""
    every = [_extrema(band) for band in image.split()]
    return min(low for low, _ in every), max(high for _, high in every)


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """An L, RGB or RGBA image with 1, 3 or 4 channels; alpha that must go is laid on white."""
    if image.mode == MODES[channels]:
        return image
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(MODES[channels])


def from_pixels(values: np.ndarray) -> Image.Image:
    """An L, RGB or RGBA image from uint8 (C, H, W)."""
    return Image.fromarray(values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0)))


def render(image: Image.Image, shape: tuple[int, int, int], fit: Fit) -> np.ndarray:
    """Bring an L, RGB or RGBA image to `shape` (C, H, W); the result is uint8 and contiguous."""
    channels, height, width = shape
    pixels = np.asarray(resize(to_channels(image, channels), (height, width), fit))
    values = np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))
    return without_rims(values[None])[0]


def render_all(values: np.ndarray, shape: tuple[int, int, int], fit: Fit) -> np.ndarray:
    """`render` for many small images (n, C, H, W) at once: the same bytes, about ten times as fast.

    Resizing goes along the rows, then along the columns, and no row knows its neighbours. So one tall picture of all
    images, one below the other, is resized along its rows, and again with every image turned on its side.
    """
    channels, height, width = shape
    tall = to_channels(from_pixels(np.concatenate(list(values), axis=1)), channels)
    resized = values.shape[2:] != (height, width)
    if channels == 4 and resized:
        tall = tall.convert("RGBa")  # colours weighted by alpha, as for one image
    mode = tall.mode
    pixels = np.asarray(tall).reshape(len(values), *values.shape[2:], channels)
    if not resized:
        return without_rims(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    (left, top, right, bottom), inner = _geometry(values.shape[3], values.shape[2], (height, width), fit)
    for length, start, end in ((inner[0], left, right), (inner[1], top, bottom)):
        n, rows, columns, _ = pixels.shape
        tall = Image.frombytes(mode, (columns, n * rows), pixels.tobytes())
        tall = tall.resize((length, n * rows), Image.Resampling.BICUBIC, box=(start, 0, end, n * rows))
        pixels = np.asarray(tall).reshape(n, rows, length, channels).swapaxes(1, 2)
    if mode == "RGBa":
        n, rows, columns, _ = pixels.shape
        plain = Image.frombytes(mode, (columns, n * rows), pixels.tobytes()).convert("RGBA")
        pixels = np.asarray(plain).reshape(pixels.shape)
    return without_rims(np.ascontiguousarray(_padded(pixels, (height, width), axis=1).transpose(0, 3, 1, 2)))


def without_rims(images: np.ndarray) -> np.ndarray:
    """Images (n, C, H, W) of uint8 or uint16 so that what is as good as transparent has the colour beside it.

    Of four channels the last is alpha; other numbers of channels come back as they are. Networks see colours and alpha
    as four numbers, and what they draw between a thing and nothing lies between both colours: black where nothing is
    seen would be a dark rim. Colours come from means, weighted by alpha, over squares that double until something is
    seen in them; an image in which nothing is seen becomes black.
    """
    faint = images[:, 3:] < FAINT * (np.iinfo(images.dtype).max // 255)
    if images.shape[1] != 4 or not faint.any():
        return images
    weight = np.where(faint, 0, images[:, 3:]).astype(np.float32)
    levels = [(images[:, :3] * weight, weight)]
    while max(levels[-1][1].shape[2:]) > 1:
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    beside = np.zeros_like(levels[-1][0])
    for colour, weight in reversed(levels):
        height, width = weight.shape[2:]
        wide = beside.repeat(2, 2).repeat(2, 3)[:, :, :height, :width]
        beside = np.where(weight > 0, colour / np.maximum(weight, 1), wide)
    colours = np.where(faint, beside.round().astype(images.dtype), images[:, :3])
    return np.concatenate([colours, images[:, 3:]], 1)


def _halved(values: np.ndarray) -> np.ndarray:
    """Sums over squares of 2 x 2."""
    n, channels, height, width = values.shape
    even = np.pad(values, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)))
    return even.reshape(n, channels, (height + 1) // 2, 2, (width + 1) // 2, 2).sum((3, 5))


def resize(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Bring an image to `size` (height, width): crop the centre, pad with the edge's colours, or stretch."""
    if (image.height, image.width) == size:
        return image
    (left, top, right, bottom), (width, height) = _geometry(image.width, image.height, size, fit)
    mode = image.mode
    if mode == "RGBA":
        image = image.convert("RGBa")  # colours weighted by alpha
    # along the rows first, always: some versions of Pillow choose the order, and it shows in the last bit
    image = image.resize((width, image.height), Image.Resampling.BICUBIC, box=(left, 0, right, image.height))
    image = image.resize((width, height), Image.Resampling.BICUBIC, box=(0, top, width, bottom)).convert(mode)
    return image if fit != "pad" else Image.fromarray(_padded(np.asarray(image), size, axis=0))


def _geometry(
    w: int, h: int, size: tuple[int, int], fit: Fit
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """Which box (left, top, right, bottom) of an image to take, and the (width, height) to bring it to."""
    height, width = size
    if fit in ("crop", "bucket"):  # the size is that of its bucket already
        scale = min(w / width, h / height)
        left, top = max((w - width * scale) / 2, 0.0), max((h - height * scale) / 2, 0.0)
        return (left, top, w - left, h - top), (width, height)
    scale = max(w / width, h / height)
    inner = (width, height) if fit == "stretch" else (max(round(w / scale), 1), max(round(h / scale), 1))
    return (0.0, 0.0, float(w), float(h)), inner


def _padded(pixels: np.ndarray, size: tuple[int, int], axis: int) -> np.ndarray:
    """Rows and columns, at `axis` and `axis` + 1, brought to `size` by repeating the edges, the same on both sides."""
    margins = [(0, 0)] * pixels.ndim
    for i in (0, 1):
        missing = size[i] - pixels.shape[axis + i]
        margins[axis + i] = (missing // 2, missing - missing // 2)
    return np.pad(pixels, margins, mode="edge")
