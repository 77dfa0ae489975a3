"""PNG with 16 bits a channel, which Pillow reads and writes in 8 where there is more than one channel."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from zerosum import pictures
from zerosum.data.picture import Broken

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels: grey, grey and alpha, RGB, RGBA (PNG specification, 11.2.1)
UP = 2  # the filter: a row less the one above it, modulo 256 (9.2)
CHANNELS = {"gray16be": 1, "ya16be": 2, "rgb48be": 3, "rgba64be": 4}  # what FFmpeg's decoder makes of them


def decode(raw: bytes) -> np.ndarray:
    """Values (C, H, W) uint16, bit for bit, not turned, of a PNG that Pillow has read to its end.

    (FFmpeg's decoder takes some damage for black pixels.) Raises Broken.
    """
    import av

    codec = av.CodecContext.create("png", "r")
    frames = [*codec.decode(av.Packet(raw)), *codec.decode(None)]
    channels = CHANNELS.get(frames[0].format.name) if frames else None
    if channels is None:
        raise Broken("a PNG of 16 bits that cannot be decoded")
    frame, plane = frames[0], frames[0].planes[0]
    rows = np.frombuffer(bytes(plane), np.uint8, frame.height * plane.line_size).reshape(frame.height, -1)
    samples = rows[:, : frame.width * channels * 2].copy().view(">u2")
    return samples.astype(np.uint16).reshape(frame.height, frame.width, channels).transpose(2, 0, 1)


def encode(values: np.ndarray, text: dict[str, str]) -> bytes:
    """A PNG of values (C, H, W) uint16 with C up to 4, which carries `text` as `pictures.save_png` does."""
    channels, height, width = values.shape
    rows = np.ascontiguousarray(values.transpose(1, 2, 0), ">u2").view(np.uint8).reshape(height, -1)
    lines = np.full((height, 1 + rows.shape[1]), UP, np.uint8)
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    head = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), *((kind, data) for kind, data, *_ in pictures.png_text(text).chunks)]
    chunks += [(b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")]
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
