"""Films of samples: H.264 for a player or a page, a GIF for where only pictures may go."""

from __future__ import annotations

import io
import itertools
import math
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from zerosum import atomic
from zerosum.errors import UserError
from zerosum.pictures import on_white

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

GIF_BYTES, GIF_FRAMES, GIF_WIDTH = 3_000_000, 120, 540
ENCODERS = ("libx264", "h264", "libopenh264", "libvpx-vp9", "mpeg4")  # browsers play all but the last
OPTIONS = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "30", "deadline": "realtime", "cpu-used": "5"},
}
BIT_RATE = 4_000_000  # a second, of encoders that know no constant quality


def add_video(container: OutputContainer, size: tuple[int, int], rate: Fraction | int) -> VideoStream:
    """A stream for frames of `size` (width, height; both even), with the first of ENCODERS that the container takes.

    `rate`: frames a second, for the encoder's guess; frames with time stamps may come at any time.
    """
    import av  # 0.1 s to import, needed only here
    from av.video.reformatter import ColorRange, Colorspace
    from av.video.stream import VideoStream

    able = av.codecs_available & container.supported_codecs
    encoder = next(name for name in ENCODERS if name in able and av.Codec(name, "w"))
    stream = container.add_stream(encoder, rate=rate, options=OPTIONS.get(encoder, {}))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
    stream.codec_context.thread_count = 1  # what it shows must not depend on the number of cores
    stream.codec_context.colorspace = Colorspace.SMPTE170M  # what the conversion to YUV uses
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.bit_rate = 0 if encoder in OPTIONS else BIT_RATE
    return stream


def save_film(
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
    """A translator of few images that goes on with more of them draws more rows; a film has one size."""
    if image.size == size:
        return image
    return ImageOps.pad(image, size, Image.Resampling.BOX, color="white")


class _Mp4:
    """A film in the making at `path`, for PIL images (L or RGB) of one size; white makes odd sizes even."""

    def __init__(self, path: Path, size: tuple[int, int], frames_per_second: int, hold_last_seconds: float):
        import av

        self.path, self.hold = path, round(frames_per_second * hold_last_seconds)
        self.sheet = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), "white")
        self.to_frame = av.VideoFrame.from_image
        fast = {"movflags": "+faststart"}  # a browser may begin before it has all
        self.container = av.open(str(path), "w", format="mp4", options=fast)
        self.stream = add_video(self.container, self.sheet.size, frames_per_second)

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
    return paletted(image) if image.mode == "RGB" else image


def paletted(image: Image.Image) -> Image.Image:
    """An RGB image in 256 colours: black and white, as captions are, and those chosen for it alone. Mode P."""
    sketch = image.resize((96, 96), Image.Resampling.NEAREST)  # the same palette ten times sooner
    chosen = sketch.quantize(254, Image.Quantize.MEDIANCUT).getpalette() or []
    colours = Image.new("P", (1, 1))
    colours.putpalette([0, 0, 0, 255, 255, 255, *chosen[: 3 * 254]])
    return image.quantize(palette=colours, dither=Image.Dither.NONE)
