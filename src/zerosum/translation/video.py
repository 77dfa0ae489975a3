"""Films through a translator: every frame translated, time stamps and sound kept, memory the same for any length."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zerosum import atomic
from zerosum.errors import UserError
from zerosum.film import add_video, paletted
from zerosum.translation.decode import Film, Info, Shown, frames, last_duration, nothing_decoded, probe

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

__all__ = ["CONTAINERS", "Info", "Report", "frames", "kind_of", "part_of", "probe", "translate_video"]

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".gif": "gif"}
GIF_UNIT = Fraction(1, 100)  # s; the unit of a GIF's delays
GIF_LEAST = 2  # units; browsers show what is shorter for ten units
PARTS = 100  # unfinished films beside one target
Frames = np.ndarray
"""uint8 (n, H, W, 3), in the order of the film."""


@dataclass(frozen=True)
class Report:
    """What became of a film."""

    path: Path
    frames: int
    seconds: float
    """From the start of the first frame to the end of the last."""
    rate: float
    """Frames a second, on average."""
    width: int
    """Pixels, as stored."""
    height: int
    sound: str
    """What was done with it: "copied", "encoded anew (aac)", "left out", or "" if there is none."""
    notes: tuple[str, ...]
    """What differs from the source and was not asked for, a sentence each."""


def part_of(target: Path) -> Path:
    """Where a film is while it is not complete: `film.part.mp4` beside `film.mp4`, so that players know it.

    `film.part2.mp4` and so on where that is taken: whose it is nobody can tell, and it may be the source itself.
    """
    names = (f"{target.stem}.part{number}{target.suffix}" for number in ("", *range(2, PARTS + 1)))
    free = next((part for part in map(target.with_name, names) if not os.path.lexists(part)), None)
    if free is None:
        raise UserError(f"{target}: {PARTS} unfinished films lie beside it, {target.stem}.part...: remove some")
    return free


def kind_of(target: Path) -> str:
    """The container of a film of this name. UserError if films are not written under such names."""
    kind = CONTAINERS.get(target.suffix.lower())
    if kind is None:
        raise UserError(f"{target}: films are written as {', '.join(CONTAINERS)}: give the target such a name")
    return kind


def translate_video(
    source: Path,
    target: Path,
    translate: Callable[[Frames], Frames],
    *,
    batch: int = 1,
    progress: Callable[[int, int | None], None] | None = None,
) -> Report:
    """Send every frame of `source` through `translate`, `batch` at a time, into `target` (a suffix of CONTAINERS).

    `translate`: uint8 (n, H, W, 3), upright, n <= `batch` -> uint8 (n, H', W', 3), one size for the whole film.
    `progress(done, total)` is told after each batch; total is None where the file does not tell.

    The film grows as `part_of(target)` and gets its name when it is complete. Whatever ends it before (Ctrl-C, an error
    of `translate`, damage in `source`), what was done by then stays there, playable, and the error says where and how
    much it is: in its text if it is a UserError, in a note if not. A disk that is full leaves nothing. UserError for a
    source that is not a film or is damaged, a target that cannot be, a disk that refuses.
    """
    kind = kind_of(target)
    if batch < 1:
        raise UserError(f"batch={batch}: give 1 or more")
    with Film(source) as film:
        if target.exists() and source.samefile(target):
            raise UserError(f"{target}: is the source as well: give the translation another name")
        writer = _Writer(target, kind, film)
        try:
            for done in _translated(film, translate, batch, writer):
                if progress:
                    progress(done, film.frames)
            writer.finish()
        except UserError as error:
            raise UserError(f"{error}; {writer.keep()}") from error
        except BaseException as error:
            error.add_note(writer.keep())
            raise
        if not writer.count:
            raise nothing_decoded(source)
        if film.incomplete:
            whole = "" if film.seconds is None else f" of {film.seconds:.1f}"
            raise UserError(
                f"{source}: is damaged or cut short: {writer.count} frames, {writer.seconds:.1f}{whole} s, could be "
                f"decoded; {writer.keep()}"
            )
        atomic.rename(writer.part, target)
        return writer.report()


def _translated(film: Film, translate: Callable[[Frames], Frames], batch: int, writer: _Writer) -> Iterator[int]:
    """Translate and write the whole film; gives the number of frames done, batch by batch."""
    waiting: list[Shown] = []

    def flush() -> int:
        given = np.stack([shown.pixels for shown in waiting])
        results = translate(given)
        if results.dtype != np.uint8 or results.ndim != 4 or len(results) != len(given) or results.shape[3] != 3:
            raise UserError(
                f"translate: {given.shape} gave {results.dtype} {results.shape}; it must give uint8 (n, H, W, 3)"
            )
        for shown, pixels in zip(waiting, results, strict=True):
            writer.picture(pixels, shown)
        waiting.clear()
        return writer.count

    for event in film.events(sound=writer.takes_sound):
        if not isinstance(event, Shown):
            writer.sound(event)
            continue
        waiting.append(event)
        if len(waiting) == batch:
            yield flush()
    if waiting:
        yield flush()


class _Writer:
    """The target in the making, at `part`. It is opened with the first picture, whose size is that of all."""

    def __init__(self, target: Path, kind: str, film: Film) -> None:
        self.target, self.part, self.kind, self.film = target, part_of(target), kind, film
        self.takes_sound = kind != "gif" and bool(film.sound)
        self.count, self.dropped = 0, 0
        self.notes: dict[str, None] = {}
        left = target.with_name(f"{target.stem}.part{target.suffix}")
        if left not in (self.part, film.path):  # of a process that was killed, or of another that is still at work
            self.notes[f"{left} was there before, perhaps of a translation that did not end"] = None
        self._early: list[Packet] = []  # sound that comes before the first picture
        self._durations: dict[int | None, int] = {}  # of frames that are in the encoder, by their time
        self._tracks: dict[int, tuple[AudioStream, str]] = {}  # by number in the source; its encoder, "" if copied
        self._heard: dict[int, int] = {}  # of each track, the newest packet's time
        self._container: OutputContainer | None = None
        self._gif_shown: int | None = None  # when the newest frame of a GIF is shown, in GIF_UNIT
        self._flushed, self._refused = False, False
        self._span = (0, 0)  # from the first frame's start to the last one's end

    @property
    def seconds(self) -> float:
        return float((self._span[1] - self._span[0]) * self.film.time_base)

    def picture(self, pixels: np.ndarray, shown: Shown) -> None:
        """Write one frame, uint8 (H, W, 3)."""
        with self._writing():
            if self._container is None:
                self._open(pixels.shape[1], pixels.shape[0])
                self._span = (shown.start, shown.start)
            if pixels.shape[:2] != self.size:
                raise UserError(f"translate: gave {pixels.shape[:2]} after {self.size}; a film has one size")
            self.count += 1
            self._span = (self._span[0], shown.start + shown.duration)
            if self.kind == "gif":
                self._gif(pixels, shown)
                return
            odd = ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0))
            frame = self._to_frame(np.pad(pixels, odd, mode="edge"), format="rgb24")
            frame.pts, frame.time_base = shown.start, self.film.time_base
            self._durations[shown.start] = shown.duration
            self._mux(self.stream.encode(frame))

    def sound(self, packet: Packet) -> None:
        """Write a packet of sound of the source."""
        with self._writing():
            if self._container is None:
                self._early.append(packet)
            elif packet.stream.index in self._tracks:
                self._hear(packet)

    def finish(self) -> None:
        """Write what the encoders hold back, and close."""
        if self._container is None:
            return
        with self._writing():
            if not self._flushed:
                self._flushed = True
                self._mux(self.stream.encode(None))
                for number, (track, encoder) in self._tracks.items():
                    if encoder:
                        self._mux_sound(number, track.encode(None))
            self._container.close()

    def keep(self) -> str:
        """Leave what there is in good order; says what that is."""
        import av

        try:
            self.finish()
        except (UserError, av.FFmpegError):  # the disk, or what stopped the film anyway: said by now
            self._refused = True
        if self._refused or not self.count:
            if self._container is not None:
                with suppress(av.FFmpegError):
                    self._container.close()
                with suppress(OSError):  # a folder that takes nothing gives nothing back
                    self.part.unlink(missing_ok=True)
            return "nothing of it was kept"
        return f"{self.part} holds the translation of {self.count} frames, {self.seconds:.1f} s"

    def report(self) -> Report:
        first, last = self._span
        written = self.count - self.dropped
        rate = written / self.seconds if last > first else 0.0
        sound = ""
        if self.film.sound:
            anew = [encoder for _, encoder in self._tracks.values() if encoder]
            sound = f"encoded anew ({anew[0]})" if anew else "copied" if self._tracks else "left out"
        notes = [*self.film.notes, *self.notes]
        if self.film.faults:
            notes.append(f"{self.film.faults} damaged packets of the source were skipped")
        if self.dropped:
            notes.append(f"{self.dropped} frames were left out: a GIF shows at most 50 a second")
        if self.film.sound and not self._tracks:
            notes.append(f"the sound was left out: {self.target.suffix} cannot hold it")
        return Report(self.target, written, self.seconds, rate, *self._stored, sound, tuple(notes))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._refused = True
            raise atomic.explain(error, self.target) from error

    def _open(self, width: int, height: int) -> None:
        import av

        self._to_frame: Any = av.VideoFrame.from_ndarray  # its stub knows no palettes
        self.size = (height, width)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        for copied in (True, False):
            try:
                self._begin(width, height, copied)
                break
            except av.FFmpegError as error:  # a header that this sound does not fit into
                if isinstance(error, OSError) or not copied or not self._tracks:
                    raise
        for packet in self._early:
            if packet.stream.index in self._tracks:
                self._hear(packet)
        self._early.clear()

    def _begin(self, width: int, height: int, copied: bool) -> None:
        import av
        from av.video.stream import VideoStream

        film, options = self.film, {}
        if self.kind in ("mp4", "mov"):
            options = {"movflags": "+faststart"}  # a browser may begin before it has all
        if self.kind == "gif":
            options = {"loop": str(_loops(film.path)), "final_delay": str(_last_delay(film))}
        self._container = av.open(str(self.part.absolute()), "w", format=self.kind, container_options=options)
        if self.kind == "gif":
            stream = self._container.add_stream("gif", rate=100)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
            stream.codec_context.time_base = GIF_UNIT
        else:
            even = (width + width % 2, height + height % 2)
            if even != (width, height):
                self.notes[f"{width} x {height} pixels became {even[0]} x {even[1]}: films need even sizes"] = None
            stream = add_video(self._container, even, film.rate)
            stream.codec_context.time_base = film.time_base
            stream.codec_context.max_b_frames = 0  # reordered frames at uneven times would falsify the film's length
            stream.codec_context.sample_aspect_ratio = film.aspect
        self.stream, self._stored = stream, (stream.width, stream.height)
        self._tracks = {}
        for track in film.sound if self.takes_sound else ():
            self._add_sound(track, copied)
        self._container.start_encoding()

    def _add_sound(self, track: AudioStream, copied: bool) -> None:
        import av

        assert self._container is not None
        if copied:
            with suppress(ValueError):  # not a kind of sound that this container takes
                self._tracks[track.index] = self._container.add_stream_from_template(track, opaque=True), ""
                return
        able = self._container.supported_codecs & av.codecs_available
        encoder = next((name for name in ("aac", "libopus") if name in able), None)
        if encoder is None or track.codec_context is None:
            return
        rates = av.Codec(encoder, "w").audio_rates
        stream = self._container.add_stream(encoder, rate=track.rate if not rates or track.rate in rates else 48_000)
        stream.layout = track.layout.name
        self._tracks[track.index] = stream, encoder

    def _hear(self, packet: Packet) -> None:
        import av

        assert self._container is not None
        number = packet.stream.index
        track, encoder = self._tracks[number]
        zero = round(self.film.zero / packet.time_base)
        if not encoder:
            if packet.dts is not None:  # else it is the end of the file
                packet.dts -= zero
                packet.pts = None if packet.pts is None else packet.pts - zero
                packet.stream = track
                self._mux_sound(number, [packet])
            return
        encoded: list[Packet] = []
        try:
            frame: Any
            for frame in packet.decode():
                frame.pts = None if frame.pts is None else frame.pts - zero
                encoded += track.encode(frame)
        except (av.FFmpegError, ValueError):
            self.film.faults += 1
        self._mux_sound(number, encoded)

    def _mux_sound(self, number: int, packets: Iterable[Packet]) -> None:
        """Write what goes on in time; what goes back is damage, which no container takes."""
        assert self._container is not None
        for packet in packets:
            if packet.dts is not None and packet.dts <= self._heard.get(number, packet.dts - 1):
                self.film.faults += 1
                continue
            self._heard[number] = packet.dts or 0
            self._container.mux(packet)

    def _mux(self, packets: Iterable[Packet]) -> None:
        assert self._container is not None
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, 0)
            self._container.mux(packet)

    def _gif(self, pixels: np.ndarray, shown: Shown) -> None:
        assert self._container is not None
        at = round(shown.start * self.film.time_base / GIF_UNIT)
        if self._gif_shown is not None and at - self._gif_shown < GIF_LEAST:
            self.dropped += 1
            return
        image = paletted(Image.fromarray(pixels))
        chosen = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
        colours = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
        colours[: len(chosen), 1:] = chosen
        frame = self._to_frame((np.asarray(image), colours), format="pal8")
        frame.pts, frame.time_base = at, GIF_UNIT
        self._gif_shown = at
        self._container.mux(self.stream.encode(frame))


def _loops(path: Path) -> int:
    """How often a GIF is shown again, 0: for ever; -1: not at all. Other films go on for ever as GIFs."""
    if path.suffix.lower() != ".gif":
        return 0
    with Image.open(path, formats=["GIF"]) as image:
        return image.info.get("loop", -1)


def _last_delay(film: Film) -> int:
    """For how many hundredths of a second the last frame is shown, or -1: as long as the one before.

    A GIF's header is written before its frames, so the source is read to its end, without decoding, beforehand.
    """
    return round(last_duration(film.path, film.stream.index) * film.time_base / GIF_UNIT) or -1
