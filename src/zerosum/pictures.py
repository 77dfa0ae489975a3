"""Pictures of samples: grids, strips, scatter plots, films, and drawings in the characters of a terminal.

Images come in as uint8 arrays (n, C, H, W) with C = 1 grey, 3 colour or 4 colour with alpha, and leave as
`PIL.Image`s. No torch here: what a page, a film or a terminal shows must not need it.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin
from rich.color import Color
from rich.style import Style
from rich.text import Text

from zerosum import atomic
from zerosum.errors import UserError

Colour = Literal["truecolor", "256", "none"]

GRID_WIDTH = (480, 900)  # pixels: small images are enlarged until their grid is about this wide
GRID_GREY = 96  # between the images: seen beside black digits and beside white paper
GIF_BYTES, GIF_FRAMES, GIF_WIDTH = 3_000_000, 120, 540
ENCODERS = ("libx264", "h264", "libopenh264", "libvpx-vp9", "mpeg4")  # browsers play all but the last
GREY, VERMILION = (168, 168, 168), (213, 94, 0)  # told apart by every kind of colour vision
RAMP = " .:-=+*#%@"
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

    def box(self, i: int) -> tuple[int, int, int, int]:
        row, column = divmod(i, self.columns)
        w, h = self.width * self.scale, self.height * self.scale
        x, y = self.padding + column * (w + self.padding), self.padding + row * (h + self.padding)
        return x, y, x + w, y + h


def grid(
    images: np.ndarray, columns: int | None = None, padding: int = 2, scale: int | None = None
) -> Image.Image:
    """Images (n, C, H, W) uint8, row by row, in one picture: mode L, RGB or RGBA as C is 1, 3 or 4.

    Near-square unless `columns` is given. Each pixel becomes `scale` x `scale` equal pixels; if not given,
    the smallest factor that makes the picture 480 to 900 pixels wide (and not taller). Raises UserError.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] not in (1, 3, 4) or 0 in images.shape:
        raise UserError(
            f"images: {images.dtype} {images.shape} cannot be drawn; "
            "give uint8 (n, C, H, W) with n > 0 and C 1, 3 or 4"
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
    points: np.ndarray, real: np.ndarray | None = None, lim: float | None = None, size: int = 480
) -> Image.Image:
    """Generated points (n, 2) in colour over real points (m, 2) in grey: RGB, size x size, axes -lim to lim.

    Give `lim`, or always the same `real`, to every frame of a film, so that the axes stay where they are.
    Points outside and points that are not finite are left out.
    """
    for name, value in (("points", points), ("real", real)):
        if value is not None and (value.ndim != 2 or value.shape[1] != 2):
            raise UserError(f"{name}: shape {value.shape} is not a set of points in the plane; give (n, 2)")
    if lim is None:
        reference = np.abs(points if real is None else real)
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


def caption(image: Image.Image, text: str) -> Image.Image:
    """The image over a white bar with one line of text, cut to fit; width and mode stay as they are."""
    height = max(11, min(18, image.width // 30))
    font = ImageFont.load_default(height)
    words = text
    while len(words) > 3 and font.getlength(words) > image.width - height:
        words = words.removesuffix("...")[:-1] + "..."
    out = Image.new(image.mode, (image.width, image.height + round(height * 1.7)), "white")
    out.paste(image, (0, 0))
    middle = image.height + round(height * 0.85)
    ImageDraw.Draw(out).text((height // 2, middle), words, "black", font, anchor="lm")
    return out


def save_png(image: Image.Image, path: Path, text: dict[str, str] | None = None) -> None:
    """Write a PNG, whole or not at all, that carries `text` as tEXt chunks (iTXt beyond Latin-1)."""
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    atomic.write_file(path, buffer.getvalue())


def film(
    frames: Iterable[Image.Image],
    mp4: Path | None,
    gif: Path | None = None,
    frames_per_second: int = 12,
    hold_last_seconds: float = 1.5,
) -> None:
    """Write frames as H.264 (yuv420p, even sizes) and, if asked, as an endless GIF of at most about 3 MB.

    Frames are taken one at a time, so a generator of any length will do; the first sets the size, alpha lies
    on white, and the last stays for `hold_last_seconds`. Raises UserError if there are no frames.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError("frames: there are none; a film needs at least one")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        makers: dict[Path, _Mp4 | _Gif] = {}
        if mp4:
            draft = Path(folder) / "film.mp4"
            makers[mp4] = _Mp4(draft, first.size, frames_per_second, hold_last_seconds)
        if gif:
            makers[gif] = _Gif(frames_per_second, hold_last_seconds)
        for frame in itertools.chain([first], frames):
            flat = _fitted(on_white(frame), first.size)
            for maker in makers.values():
                maker.add(flat)
        for path, maker in makers.items():
            atomic.write_file(path, maker.encoded())


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Networks that grow change the size of their samples; a film has one size."""
    if image.size == size:
        return image
    return ImageOps.pad(image, size, Image.Resampling.BOX, color="white")


class _Mp4:
    """A film in the making at `path`, for PIL images (L or RGB) of one size; white makes odd sizes even."""

    def __init__(self, path: Path, size: tuple[int, int], frames_per_second: int, hold_last_seconds: float):
        import av  # 0.1 s to import, needed only here
        from av.video.reformatter import ColorRange, Colorspace

        self.path, self.hold = path, round(frames_per_second * hold_last_seconds)
        self.sheet = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), "white")
        self.to_frame = av.VideoFrame.from_image
        encoder = next(name for name in ENCODERS if name in av.codecs_available and av.Codec(name, "w"))
        options = {"crf": "20", "preset": "veryfast"} if encoder == "libx264" else {}
        fast = {"movflags": "+faststart"}  # a browser may begin before it has all
        self.container = av.open(str(path), "w", format="mp4", options=fast)
        stream = self.container.add_stream(encoder, rate=frames_per_second, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *self.sheet.size, "yuv420p"
        stream.codec_context.thread_count = 2  # fixed: the bytes must not depend on the number of cores
        stream.codec_context.colorspace = Colorspace.SMPTE170M  # what the conversion to YUV uses
        stream.codec_context.color_range = ColorRange.MPEG
        if not options:
            stream.codec_context.bit_rate = 4_000_000
        self.stream = stream

    def add(self, image: Image.Image) -> None:
        self.sheet.paste(image)
        self.container.mux(self.stream.encode(self.to_frame(self.sheet)))

    def encoded(self) -> bytes:
        for _ in range(self.hold):
            self.container.mux(self.stream.encode(self.to_frame(self.sheet)))
        self.container.mux(self.stream.encode(None))
        self.container.close()
        return self.path.read_bytes()


class _Gif:
    """Keeps evenly spaced frames of a stream, at most GIF_FRAMES, and writes them within GIF_BYTES."""

    def __init__(self, frames_per_second: int, hold_last_seconds: float):
        self.seconds, self.hold = 1 / frames_per_second, hold_last_seconds
        self.frames: list[Image.Image] = []
        self.newest: list[Image.Image] = []  # the latest frame, unless it is already in `frames`
        self.every, self.seen = 1, 0

    def add(self, image: Image.Image) -> None:
        """image: L or RGB."""
        self.newest = [image]
        if self.seen % self.every == 0:
            self.frames.append(_shrunk(image, GIF_WIDTH / image.width))
            self.newest = []
            if len(self.frames) > GIF_FRAMES:
                self._thin()
        self.seen += 1

    def _thin(self) -> None:
        self.newest = self.newest or self.frames[-1:] * (len(self.frames) % 2 == 0)
        self.frames, self.every = self.frames[::2], self.every * 2

    def encoded(self) -> bytes:
        self.newest = [_shrunk(image, GIF_WIDTH / image.width) for image in self.newest]
        while True:
            frames = self.frames + self.newest
            step = max(20, round(self.seconds * self.every * 100) * 10)  # GIF counts hundredths of a second
            times = [step] * (len(frames) - 1) + [step + round(self.hold * 100) * 10]
            out = io.BytesIO()
            frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
            excess = len(out.getvalue()) / GIF_BYTES
            if excess <= 1 or frames[0].width <= 64:
                return out.getvalue()
            while excess > 1 and len(self.frames) >= GIF_FRAMES // 2:  # motion can spare frames
                self._thin()
                excess /= 2
            if excess > 1:  # then detail
                factor = min(0.9, 0.95 / math.sqrt(excess))
                self.frames = [_shrunk(frame, factor) for frame in self.frames]
                self.newest = [_shrunk(frame, factor) for frame in self.newest]


def _shrunk(image: Image.Image, factor: float) -> Image.Image:
    """The image by `factor` if that is below 1, in at most 256 greys or colours chosen for it alone."""
    if factor < 1:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = (image.convert("RGB") if image.mode == "P" else image).resize(size, Image.Resampling.BOX)
    if image.mode != "RGB":
        return image
    sketch = image.resize((96, 96), Image.Resampling.NEAREST)  # the same palette ten times sooner
    return image.quantize(palette=sketch.quantize(256, Image.Quantize.MEDIANCUT), dither=Image.Dither.NONE)


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB, or L if it is grey, with what is transparent lying on white."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        sheet = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(sheet, image).convert("RGB")
    return image.convert("RGB")


def terminal(image: Image.Image, columns: int, rows: int, colour: Colour = "truecolor") -> list[Text]:
    """The image as lines of text, at most `columns` x `rows` characters, its shape kept.

    With colour each character is an upper half-block: two square pixels, area-averaged (or, if there is room,
    each pixel an equal square). With 'none' a character's weight stands for brightness.
    """
    image = on_white(image)
    factor = min(columns / image.width, 2 * rows / image.height)
    factor = float(int(factor)) if factor >= 1 else factor
    width, height = max(1, int(image.width * factor)), max(1, int(image.height * factor))
    image = image.resize((width, height), Image.Resampling.BOX)
    if colour == "none":
        grey = np.asarray(image.convert("L").resize((width, -(-height // 2)), Image.Resampling.BOX))
        return [Text("".join(RAMP[int(v) * len(RAMP) // 256] for v in line)) for line in grey]
    pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    codes = _ansi256(pixels) if colour == "256" else pixels @ np.array([65536, 256, 1])
    below = np.vstack([codes, np.full((height % 2, width), -1)])[1::2]  # -1: nothing there
    lines = []
    for upper, lower in zip(codes[::2].tolist(), below.tolist(), strict=True):
        line = Text(no_wrap=True, end="")
        for pair, run in itertools.groupby(zip(upper, lower, strict=True)):
            line.append("▀" * len(list(run)), _style(*pair, colour))
        lines.append(line)
    return lines


@functools.lru_cache(maxsize=1 << 14)
def _style(upper: int, lower: int, colour: Colour) -> Style:
    def of(code: int) -> Color:
        if colour == "256":
            return Color.from_ansi(code)
        return Color.from_rgb(code >> 16, code >> 8 & 255, code & 255)

    return Style(color=of(upper), bgcolor=None if lower < 0 else of(lower))


def _ansi256(pixels: np.ndarray) -> np.ndarray:
    """Codes (h, w) of the nearest of xterm's 216 colours and 24 greys, for pixels (h, w, 3)."""
    levels = np.array([0, 95, 135, 175, 215, 255])
    cube = np.abs(pixels[..., None] - levels).argmin(-1)
    shade = np.clip((pixels.mean(-1) - 8) / 10, 0, 23).round().astype(np.int64)
    far = ((levels[cube] - pixels) ** 2).sum(-1)
    grey_far = ((8 + 10 * shade[..., None] - pixels) ** 2).sum(-1)
    return np.where(grey_far < far, 232 + shade, 16 + cube @ np.array([36, 6, 1]))
