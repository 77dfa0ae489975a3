"""Films read: what a film is, its frames as they are meant to be seen, and whether all of it is there."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from zerosum.data import picture
from zerosum.errors import UserError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# The only demultiplexers that see the bytes: others read play lists, follow addresses, or take text for a picture.
FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,asf,flv,ogg"
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "3gp", "mkv", "webm", "avi", "gif", "mts", "m2ts", "ts", "mpg", "mpeg", "wmv", "flv"),
        "ogv",
    )
)
BRIGHT = {16: "PQ", 18: "HLG"}  # transfer curves of high dynamic range, by their number in ITU-T H.273
UNSPECIFIED, HD_LINES = 2, 720  # colours of unknown kind are BT.709 from this height on, as players have it
EXACT = 0x2 | 0x2000 | 0x40000  # of swscale: bilinear, colour for every pixel, rounded; else 10 bits come out darker


@dataclass(frozen=True)
class Info:
    """A film before it is decoded."""

    frames: int | None
    """As the file counts them; else length times rate; None: the file says neither."""
    rate: float
    """Frames a second, on average."""
    seconds: float | None
    """None: the file does not say."""
    width: int
    """Pixels, upright."""
    height: int
    sound: bool


@dataclass(frozen=True)
class Shown:
    """A frame: uint8 (H, W, 3), upright, alpha on white; and when it is shown."""

    pixels: np.ndarray
    start: int
    """In units of the film's `time_base`, from the start of the film. Rises from frame to frame."""
    duration: int
    """In the same units; of the average rate where the file does not say."""


class Film:
    """A film opened for one pass: `events` gives its frames, and its packets of sound, in the order of the file.

    UserError if there is no such file, no film in it, nothing to see, or pictures of more pixels than a still may have.
    """

    def __init__(self, path: Path) -> None:
        from av.video.reformatter import VideoReformatter

        self.path, self.notes, self.faults = path, dict[str, None](), 0
        self.container = _open(path)
        self.stream: VideoStream = _pictures(self.container, path)
        codec = self.stream.codec_context
        if codec.width or codec.height:  # else they are not known before the first frame
            try:
                self._check_size(codec.width, codec.height)
            except UserError:
                self.container.close()
                raise
        unit, rate = self.stream.time_base, self.stream.average_rate or self.stream.guessed_rate
        self.time_base = Fraction(unit.numerator, unit.denominator) if unit else Fraction(1, 90_000)
        self.rate = Fraction(rate.numerator, rate.denominator) if rate else Fraction(25)
        self.sound = list(self.container.streams.audio)
        self.cut = cut_short(path)
        self.zero = max(self.container.start_time or 0, 0) / 1_000_000  # s; MPEG streams begin anywhere
        self.aspect = Fraction(1)  # width of a pixel over its height, upright; known after the first frame
        self._reached, self._shown = 0.0, 0
        self._reformatter: Any = VideoReformatter()  # keeps its tables from frame to frame
        if self.container.streams.subtitles:
            self.notes["subtitles are left out"] = None

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def seconds(self) -> float | None:
        """How long the film says it is."""
        if self.stream.duration:  # which AVI shortens to what there is, but not the number of frames
            return float(max(self.stream.duration * self.time_base, self.stream.frames / self.rate))
        return self.container.duration / 1_000_000 if self.container.duration else None

    @property
    def frames(self) -> int | None:
        """How many frames it says it has, or should have by length and rate."""
        seconds = self.seconds
        return self.stream.frames or (round(seconds * self.rate) if seconds else None)

    @property
    def incomplete(self) -> bool:
        """After `events`: did the film end before its time, cut short or damaged?"""
        seconds = self.seconds
        short = seconds is None or self._reached < seconds - 0.1 - 2 / self.rate
        if self.container.format.name == "gif":  # whose numbers are those of the frames found
            missing = True
        else:
            missing = self._shown < self.stream.frames if self.stream.frames else short
        return (self.cut and missing) or (self.faults > 0 and short)

    def events(self, sound: bool = True) -> Iterator[Shown | Packet]:
        """All that can be decoded. What is damaged is left out and counted in `faults`."""
        import av

        durations: dict[int | None, int] = {}
        queue: deque[int] = deque()  # AVI: when its packets were due; no times of showing
        timeless = self.container.format.name == "avi"
        zero, step = round(self.zero / self.time_base), max(round(1 / (self.rate * self.time_base)), 1)
        second = round(1 / self.time_base)
        last: int | None = None
        size: tuple[int, int] | None = None
        for packet in self._packets(sound):
            if packet.stream.index != self.stream.index:
                yield packet
                continue
            durations[packet.pts] = packet.duration or 0
            if timeless and packet.size and packet.dts is not None:
                queue.append(packet.dts)
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                self.faults += 1
                if timeless and queue:  # no frame comes of it: the others keep their times
                    queue.pop()
                continue
            for frame in decoded:
                self._check_size(frame.width, frame.height)
                due = queue.popleft() if queue else frame.pts
                start = due - zero if due is not None else last + step if last is not None else 0
                if last is not None and start < last - second:  # recordings one after the other in a file
                    start, zero = last + step, zero + start - last - step
                    self.zero = float(zero * self.time_base)
                last = max(start, 0 if last is None else last + 1)
                self._shown += 1
                if size is None:
                    size, self.aspect = (frame.width, frame.height), _aspect(self.stream, frame)
                self._remark(frame, size)
                yield Shown(self._pixels(frame, size), last, durations.pop(frame.pts, 0) or step)

    def _packets(self, sound: bool) -> Iterator[Packet]:
        """Packets of pictures, and of sound if wanted, until the end or until nothing can be read any more."""
        import av

        wanted = [self.stream, *(self.sound if sound else ())]
        try:
            for packet in self.container.demux(wanted):
                if packet.pts is not None:
                    end = packet.pts + (packet.duration or 0)
                    if packet.stream.index == self.stream.index or not self.stream.duration:
                        self._reached = max(self._reached, float(end * packet.time_base) - self.zero)
                yield packet
        except av.FFmpegError:
            self.faults += 1

    def _check_size(self, width: int, height: int) -> None:
        """The limit of still images: a film of a few bytes may claim any size."""
        try:
            picture.check_size(width, height)
        except picture.Broken as broken:
            raise UserError(f"{self.path}: {broken}") from broken

    def _remark(self, frame: VideoFrame, size: tuple[int, int]) -> None:
        bits = frame.format.components[0].bits
        if bits > 8:
            self.notes[f"{bits} bits a colour become 8"] = None
        curve = BRIGHT.get(self.stream.codec_context.color_trc)
        if curve:
            self.notes[f"the high dynamic range ({curve}) is not converted: colours look pale"] = None
        if size != (frame.width, frame.height):
            self.notes[f"{frame.width} x {frame.height} pixels amid the film are brought to its first size"] = None

    def _pixels(self, frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
        alpha = any(part.is_alpha for part in frame.format.components)
        untold = frame.colorspace == UNSPECIFIED and frame.height >= HD_LINES and not frame.format.is_rgb
        pixels: np.ndarray = self._reformatter.reformat(
            frame, *size, "rgba" if alpha else "rgb24", "ITU709" if untold else None, interpolation=EXACT
        ).to_ndarray()
        if alpha:
            pixels, opaque = pixels[..., :3], pixels[..., 3:]
            if opaque.min() < 255:
                self.notes["transparency is laid on white"] = None
                pixels = (pixels * (opaque / 255) + (255 - opaque)).round().astype(np.uint8)
        return np.ascontiguousarray(upright(pixels, _matrix(frame)))


def frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a film, uint8 (H, W, 3), upright, alpha on white. UserError if it is none; see `Film`."""
    with Film(path) as film:
        for event in film.events(sound=False):
            if isinstance(event, Shown):
                yield event.pixels


def probe(path: Path) -> Info:
    """What a film is. One frame is decoded: only that tells how the camera was held. UserError if there is none."""
    with Film(path) as film:
        first = next((event for event in film.events(sound=False) if isinstance(event, Shown)), None)
        if first is None:
            raise nothing_decoded(path)
        height, width, _ = first.pixels.shape
        return Info(film.frames, float(film.rate), film.seconds, width, height, bool(film.sound))


def nothing_decoded(path: Path) -> UserError:
    return UserError(f"{path}: not one picture of this film can be decoded: it is damaged, or not a film")


def upright(pixels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Pixels (H, W, C) as they are meant to be shown, by the display matrix (9,) of the film; None: as they are.

    A pixel (p, q) = (column, row) belongs at (a p + c q, b p + d q), for a matrix a b . c d . ..., the origin aside.
    """
    if matrix is None:
        return pixels
    a, b, _, c, d = (int(value) for value in matrix[:5])
    if abs(b) > abs(a):
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _aspect(stream: VideoStream, frame: VideoFrame) -> Fraction:
    """Width over height of a pixel as shown, once upright."""
    stored, matrix = stream.sample_aspect_ratio, _matrix(frame)
    if not stored:
        return Fraction(1)
    aspect = Fraction(stored.numerator, stored.denominator)
    return 1 / aspect if matrix is not None and matrix[0] == 0 else aspect


def last_duration(path: Path, index: int) -> int:
    """How long the last frame of a film's stream `index` is shown, in its time base: by its packets, not decoded."""
    with _open(path) as container:
        packets = container.demux(container.streams[index])
        return max(((p.pts, p.duration or 0) for p in packets if p.pts is not None), default=(0, 0))[1]


def _matrix(frame: VideoFrame) -> np.ndarray | None:
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32)


def _open(path: Path) -> InputContainer:
    import av

    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        return av.open(str(path.absolute()), container_options={"format_whitelist": FORMATS})
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path}: not a film that can be read, or one whose table of contents is missing (a download that broke "
            f"off?); known are MP4, MOV, Matroska, WebM, AVI, GIF, MPEG, WMV, FLV and Ogg"
        ) from error


def _pictures(container: InputContainer, path: Path) -> VideoStream:
    from av.stream import Disposition

    moving = [s for s in container.streams.video if Disposition.attached_pic not in s.disposition]  # no covers
    found = [s for s in moving if s.codec_context is not None]
    if found:
        return found[0]
    container.close()
    reason = "its pictures are of a kind that cannot be decoded here" if moving else "it has no pictures"
    raise UserError(f"{path}: {reason}")


def cut_short(path: Path) -> bool:
    """Does the file end before its own headers say it does? False for formats that do not say."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes_end(file, size) > size
        if head[:4] == b"RIFF":
            return struct.unpack("<I", head[4:8])[0] + 8 > size
        if head[:4] == b"\x1a\x45\xdf\xa3":
            end = _segment_end(file)
            return end is not None and end > size
        if head[:3] == b"GIF":
            file.seek(max(size - 1, 0))
            return file.read(1) != b";"
    return False


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box of an MP4 file ends (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return size + 1
        length = struct.unpack(">I", head[:4])[0]
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        if length < 8:  # 0: to the end of the file; else it is damaged, which decoding finds out
            return size
        at += length
    return at


def _segment_end(file: BinaryIO) -> int | None:
    """Where the segment of a Matroska file ends (RFC 8794, sections 4 to 6); None: it was never closed, or is odd."""
    at = 4
    for _ in range(2):  # the header, then the segment, whose number takes four bytes too
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return None
        first, *rest = head
        more = 8 - first.bit_length()
        if more > 7:
            return None
        unknown = first == (1 << (8 - more)) - 1 and all(byte == 255 for byte in rest[:more])
        length = int.from_bytes(bytes([first & ((1 << (7 - more)) - 1), *rest[:more]]), "big")
        end = at + 1 + more + length
        at = end + 4
    return None if unknown else end
