"""Pictures of samples: grids, strips, scatter plots, captions.

Images come in as uint8 arrays (n, C, H, W) with C = 1 grey, 3 colour or 4 colour with alpha, and leave as
`PIL.Image`s. No torch here: what a page, a film or a terminal shows must not need it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from zerosum import atomic
from zerosum.errors import UserError

GRID_WIDTH = (480, 900)  # pixels: small images are enlarged until their grid is about this wide
GRID_GREY = 96  # between the images: seen beside black digits and beside white paper
GREY, VERMILION = (168, 168, 168), (213, 94, 0)  # told apart by every kind of colour vision
LEGIBLE = 12  # pixels: a smaller picture of a thing can hardly be named
CELLS = "zerosum_cells"  # key of PIL's `info` under which a grid remembers its geometry


@dataclass(frozen=True)
class Cells:
    """Where a grid keeps its images: a terminal can then show few of them well, not all of them badly."""

    count: int
    columns: int
    width: int
    height: int
    scale: int
    padding: int
    size: tuple[int, int]  # of the whole picture: a resized or cropped copy no longer fits this geometry
    left: int = 0
    top: int = 0

    def box(self, i: int) -> tuple[int, int, int, int]:
        row, column = divmod(i, self.columns)
        w, h = self.width * self.scale, self.height * self.scale
        x = self.left + self.padding + column * (w + self.padding)
        y = self.top + self.padding + row * (h + self.padding)
        return x, y, x + w, y + h


def grid(images: np.ndarray, columns: int | None = None, padding: int = 2, scale: int | None = None) -> Image.Image:
    """Images (n, C, H, W) uint8, row by row, in one picture: mode L, RGB or RGBA as C is 1, 3 or 4.

    Near-square unless `columns` is given. Each pixel becomes `scale` x `scale` equal pixels; if not given,
    the smallest factor that makes the picture 480 to 900 pixels wide (and not taller). Raises UserError.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] not in (1, 3, 4) or 0 in images.shape:
        raise UserError(
            f"images: {images.dtype} {images.shape} cannot be drawn; give uint8 (n, C, H, W) with n > 0 and C 1, 3 or 4"
        )
    n, channels, h, w = images.shape
    if columns is None:
        columns = min(n, math.ceil(math.sqrt(n * h / w)))
    for name, value, least in (
        ("columns", columns, 1),
        ("padding", padding, 0),
        ("scale", 1 if scale is None else scale, 1),
    ):
        if value < least:
            raise UserError(f"{name}={value}: a grid needs {name} of {least} or more")
    rows = -(-n // columns)
    if scale is None:
        scale = _scale(columns * w, (columns + 1) * padding, rows * h, (rows + 1) * padding)
    size = (padding + columns * (w * scale + padding), padding + rows * (h * scale + padding))
    cells = Cells(n, columns, w, h, scale, padding, size)
    background = (GRID_GREY,) * channels if channels < 4 else (0, 0, 0, 0)  # alpha: transparent
    canvas = np.empty((size[1], size[0], channels), np.uint8)
    canvas[:] = background
    for i, image in enumerate(images):
        x0, y0, x1, y1 = cells.box(i)
        canvas[y0:y1, x0:x1] = image.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
    picture = Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
    picture.info[CELLS] = cells
    return picture


def strip(images: np.ndarray, padding: int = 2, scale: int | None = None) -> Image.Image:
    """Images (n, C, H, W) uint8 side by side in one row."""
    return grid(images, columns=len(images) or 1, padding=padding, scale=scale)


def _scale(width: int, gaps: int, height: int, row_gaps: int) -> int:
    low, high = GRID_WIDTH
    scale = max(1, -(-(low - gaps) // width))
    while scale > 1 and (scale * width + gaps > high or scale * height + row_gaps > high):
        scale -= 1
    return scale


def fewer(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The first images of a grid, as many as stay recognisable in `width` x `height` pixels, drawn to fit.

    Anything that is not a grid of this module comes back as it is.
    """
    cells = picture.info.get(CELLS)
    if not isinstance(cells, Cells) or cells.size != picture.size:
        return picture
    for rows in range(1, max(1, (height + 1) // (min(cells.height, LEGIBLE) + 1)) + 1):
        room = max(1, (height + 1) // rows - 1)
        h = room // cells.height * cells.height or room  # whole multiples where there is room: crisp pixels
        w = max(1, min(width, round(cells.width * h / cells.height)))
        columns = max(1, (width + 1) // (w + 1))
        if rows * columns >= cells.count:
            break
    count = min(cells.count, rows * columns)
    size = (min(count, columns) * (w + 1) - 1, -(-count // columns) * (h + 1) - 1)
    out = Image.new(picture.mode, size, 0)
    for i in range(count):
        row, column = divmod(i, columns)
        original = picture.crop(cells.box(i)).resize((cells.width, cells.height), Image.Resampling.NEAREST)
        resample = Image.Resampling.BOX if h < cells.height else Image.Resampling.NEAREST
        out.paste(original.resize((w, h), resample), (column * (w + 1), row * (h + 1)))
    return out


def scatter(
    points: np.ndarray | None, real: np.ndarray | None = None, lim: float | None = None, size: int = 480
) -> Image.Image:
    """Generated points (n, 2) in colour over real points (m, 2) in grey, or one of both: RGB, size x size, -lim to lim.

    Give `lim`, or always the same `real`, to every frame of a film, so that the axes stay where they are.
    Points outside and points that are not finite are left out.
    """
    for name, value in (("points", points), ("real", real)):
        if value is not None and (value.ndim != 2 or value.shape[1] != 2):
            raise UserError(f"{name}: shape {value.shape} is not a set of points in the plane; give (n, 2)")
    if lim is None:
        known = points if real is None else real
        reference = np.abs(np.zeros(0) if known is None else known)
        reference = reference[np.isfinite(reference)]
        lim = float(reference.max()) * 1.25 if reference.size and reference.max() > 0 else 1.0
    canvas = np.full((size, size, 3), 255, np.float32)
    canvas[size // 2, :] = canvas[:, size // 2] = 226.0  # the two axes
    radius = max(1.0, size / 240)
    for cloud, colour in ((real, GREY), (points, VERMILION)):
        if cloud is not None:
            cover = _dots(cloud, lim, size, radius)[..., None]
            canvas = canvas * (1 - cover) + np.array(colour, np.float32) * cover
    image = Image.fromarray(canvas.round().astype(np.uint8))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(10, size // 36))
    draw.text((6, size // 2 + 2), f"-{lim:.3g}", (120, 120, 120), font)
    draw.text((size - 6, size // 2 + 2), f"{lim:.3g}", (120, 120, 120), font, anchor="ra")
    if points is not None:
        draw.text((6, 4), "generated", VERMILION, font)
    if real is not None:
        draw.text((size - 6, 4), "real", (120, 120, 120), font, anchor="ra")
    return image


def _dots(points: np.ndarray, lim: float, size: int, radius: float) -> np.ndarray:
    """How much of each pixel (size, size) the points cover, 0 to 1; where many lie, the colour is fuller."""
    fine = 2  # draw twice as large, then average: smooth edges
    reach = math.ceil(radius * fine)
    side, margin = size * fine, reach
    wide = side + 2 * margin
    points = points[np.isfinite(points).all(1) & (np.abs(points) <= lim).all(1)].astype(np.float64)
    x = ((points[:, 0] / lim + 1) / 2 * (side - 1)).round().astype(np.int64) + margin
    y = ((1 - points[:, 1] / lim) / 2 * (side - 1)).round().astype(np.int64) + margin
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (dy * wide + dx)[dy * dy + dx * dx <= (radius * fine) ** 2]
    count = np.bincount(((y * wide + x)[:, None] + disc).ravel(), minlength=wide * wide).reshape(wide, wide)
    count = count[margin : margin + side, margin : margin + side]
    cover = (1 - 0.4 ** np.arange(16, dtype=np.float32))[np.minimum(count, 15)]
    return cover.reshape(size, fine, size, fine).mean((1, 3))


def named(picture: Image.Image, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Image.Image:
    """A grid of this module with a name at the left of each row and above each column, on white, cut to fit."""
    cells = picture.info[CELLS]
    assert isinstance(cells, Cells)
    if not rows and not columns:
        return picture
    height = max(11, min(18, picture.width // 30))
    font = ImageFont.load_default(height)
    rows = [_cut(name, font, picture.width // 2) for name in rows]
    columns = [_cut(name, font, cells.width * cells.scale) for name in columns]
    left = math.ceil(max(map(font.getlength, rows))) + height if rows else 0
    top = round(height * 1.7) if columns else 0
    out = Image.new(picture.mode, (picture.width + left, picture.height + top), "white")
    out.paste(picture, (left, top))
    moved = replace(cells, left=cells.left + left, top=cells.top + top, size=out.size)
    out.info[CELLS] = moved
    draw = ImageDraw.Draw(out)
    for i, name in enumerate(rows):
        _, y0, _, y1 = moved.box(i * cells.columns)
        draw.text((left - height // 2, (y0 + y1) // 2), name, "black", font, anchor="rm")
    for i, name in enumerate(columns):
        x0, _, x1, _ = moved.box(i)
        draw.text(((x0 + x1) // 2, round(height * 0.85)), name, "black", font, anchor="mm")
    return out


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of the text as goes into so many pixels, dots for the rest where there is room for them."""
    text = " ".join(text.split())
    ends = [len(text), *range(len(text) - 1, 3, -1)]
    for end in ends:
        words = text[:end] + "..." * (end < len(text))
        if font.getlength(words) <= width:
            return words
    return next((text[:end] for end in range(4, 0, -1) if font.getlength(text[:end]) <= width), "")


def caption(image: Image.Image, text: str) -> Image.Image:
    """The image over a white bar with one line of text, cut to fit; width and mode stay as they are."""
    height = max(11, min(18, image.width // 30))
    font = ImageFont.load_default(height)
    words = _cut(text, font, image.width - height)
    out = Image.new(image.mode, (image.width, image.height + round(height * 1.7)), "white")
    out.paste(image, (0, 0))
    middle = image.height + round(height * 0.85)
    ImageDraw.Draw(out).text((height // 2, middle), words, "black", font, anchor="lm")
    return out


def is_whole(path: Path) -> bool:
    """Whether a picture can be read to its end: a power cut may have left half of it."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):  # Pillow raises them all
        return False
    return True


def save_png(image: Image.Image, path: Path, text: dict[str, str] | None = None) -> None:
    """Write a PNG, whole or not at all, that carries `text` as tEXt chunks (iTXt beyond Latin-1)."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=png_text(text or {}))
    atomic.write_file(path, buffer.getvalue())


def png_text(text: dict[str, str]) -> PngImagePlugin.PngInfo:
    """The chunks that carry `text` in a PNG."""
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    return info


def in_colour(images: np.ndarray) -> np.ndarray:
    """Images (n, C, H, W) uint8 as (n, 3, H, W), to stand side by side: alpha on white, of more the first three."""
    channels = images.shape[1]
    if channels in (1, 2):
        return images[:, :1].repeat(3, 1)
    if channels == 4:
        alpha = images[:, 3:].astype(np.float32) / 255
        return (images[:, :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return images[:, :3]


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB, or L if it is grey, with what is transparent lying on white."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        sheet = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(sheet, image).convert("RGB")
    return image.convert("RGB")
