"""Films made for the tests: grey levels that count the frames, and a sine tone."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TONE_HZ, SAMPLES_A_SECOND = 440, 48_000


def pictures(n: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """Frames (H, W, 3) of `size` (width, height): grey by number, the left half bright red, the top quarter blue."""
    frames = []
    for i in range(n):
        frame = np.full((size[1], size[0], 3), 20 + 10 * (i % 20), np.uint8)
        frame[:, : size[0] // 2] = (220, 30, 30)
        frame[: size[1] // 4] = (30, 30, 220)
        frames.append(frame)
    return frames


def tone(seconds: float, start: float = 0.0) -> np.ndarray:
    at = np.arange(round(start * SAMPLES_A_SECOND), round((start + seconds) * SAMPLES_A_SECOND))
    return (0.3 * np.sin(2 * np.pi * TONE_HZ * at / SAMPLES_A_SECOND)).astype(np.float32)


def make(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    rate: Fraction = Fraction(25),
    times: Sequence[int] | None = None,  # ms
    video: str = "libx264",
    sound: str | None = "aac",
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    turn: int = 0,  # degrees, anticlockwise
    aspect: Fraction | None = None,
    **container: str,
) -> Path:
    """A film with pictures and a tone as long, one after the other in the file as cameras write it."""
    with av.open(str(path), "w", container_options=container) as out:
        stream: Any = out.add_stream(video, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(turn)
        track: Any = out.add_stream(sound, rate=SAMPLES_A_SECOND) if sound else None
        if track is not None:
            track.layout, track.bit_rate = "mono", 128_000
        heard = 0
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if picture.shape[2] == 3 else "rgba")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            out.mux(stream.encode(frame))
            if track is not None:
                until = round(Fraction(i + 1) / rate * SAMPLES_A_SECOND)
                samples = tone((until - heard) / SAMPLES_A_SECOND, heard / SAMPLES_A_SECOND)
                block = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = SAMPLES_A_SECOND, heard, Fraction(1, SAMPLES_A_SECOND)
                out.mux(track.encode(block))
                heard = until
        out.mux(stream.encode(None))
        if track is not None:
            out.mux(track.encode(None))
    return path


def repeated(path: Path, source: Path, times: int) -> Path:
    """A film again and again, without encoding it again."""
    with av.open(str(path), "w") as out:
        tracks: dict[int, Any] = {}
        for i in range(times):
            with av.open(str(source)) as film:
                for stream in film.streams:
                    if i == 0:
                        tracks[stream.index] = out.add_stream_from_template(stream, opaque=True)
                for packet in film.demux():
                    if packet.dts is not None and (i == 0 or packet.dts >= 0):  # sound begins before it is heard
                        later = round(i * film.duration / 1_000_000 / packet.time_base)
                        packet.pts, packet.dts = (packet.pts or 0) + later, packet.dts + later
                        packet.stream = tracks[packet.stream.index]
                        out.mux(packet)
    return path


def seen(path: Path) -> list[np.ndarray]:
    """All frames, decoded by PyAV itself."""
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def seconds_shown(path: Path) -> list[float]:
    with av.open(str(path)) as film:
        return [frame.time for frame in film.decode(video=0)]


def heard(path: Path) -> np.ndarray:
    """All samples of the first channel, as the player hears them."""
    with av.open(str(path)) as film:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLES_A_SECOND)
        blocks = [b.to_ndarray() for frame in film.decode(audio=0) for b in resampler.resample(frame)]
        return np.concatenate([b[0] for b in blocks])


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as film:
        return [bytes(packet) for packet in film.demux(audio=0) if packet.size]


def pitch_hz(samples: np.ndarray) -> float:
    """The strongest frequency."""
    strength = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(strength.argmax() * SAMPLES_A_SECOND / len(samples))
