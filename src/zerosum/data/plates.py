"""One decoded image of either kind: with 8 bits as a picture, deeper as an array."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from zerosum.data import picture
from zerosum.data.picture import Broken
from zerosum.data.spec import Fit


@dataclass(frozen=True)
class Plate:
    """An upright image: L, RGB or RGBA if it is to have 8 bits, else (C, H, W) uint8, uint16, int16 or float32."""

    pixels: Image.Image | np.ndarray
    bits: int  # per channel, as the file stored them
    format: str = ""  # of the file
    notes: tuple[str, ...] = ()  # what a user should know of it
    alpha: bool = False  # of an array uint16 of 4 channels: whether the last says how much of the others is seen

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        if isinstance(self.pixels, np.ndarray):
            return self.pixels.shape[1], self.pixels.shape[2]
        return self.pixels.height, self.pixels.width

    @property
    def channels(self) -> int:
        """As many as it uses: a grey picture that is stored as colour has 1."""
        return len(self.pixels) if isinstance(self.pixels, np.ndarray) else picture.channels_in_use(self.pixels)

    @property
    def dtype(self) -> np.dtype:
        return self.pixels.dtype if isinstance(self.pixels, np.ndarray) else np.dtype(np.uint8)

    def halves(self) -> tuple[Plate, Plate]:
        """What is left and what is right of the middle. Raises Broken if no column is in the middle."""
        height, width = self.size
        if width % 2:
            raise Broken(f"its width of {width} pixels has no two halves: A and B must be equally wide")
        middle = width // 2
        if isinstance(self.pixels, np.ndarray):
            return replace(self, pixels=self.pixels[..., :middle]), replace(self, pixels=self.pixels[..., middle:])
        boxes = ((0, 0, middle, height), (middle, 0, width, height))
        left, right = (replace(self, pixels=self.pixels.crop(box)) for box in boxes)
        return left, right

    def render(self, shape: tuple[int, int, int], dtype: np.dtype, fit: Fit) -> np.ndarray:
        """The image at `shape` (C, H, W), contiguous. Raises Broken if it is not of that type or number of channels."""
        if self.dtype != dtype:
            raise Broken(f"it holds {self.dtype} values, the others {dtype}; convert it, or leave --bits own out")
        if not isinstance(self.pixels, np.ndarray):
            return picture.render(self.pixels, shape, fit)
        if len(self.pixels) != shape[0]:
            raise Broken(f"it has {len(self.pixels)} channels, the others {shape[0]}")
        real = self.pixels.astype(np.float32, order="C")
        if self.alpha:  # colours weighted by it, so that invisible ones do not bleed into visible ones
            real[:3] *= real[3:] / np.iinfo(dtype).max
        fitted = np.stack([np.asarray(picture.resize(Image.fromarray(one), shape[1:], fit)) for one in real])
        if dtype.kind == "f":
            return fitted
        limits = np.iinfo(dtype)  # which the bicubic filter may overshoot
        if self.alpha:
            fitted[:3] *= limits.max / np.maximum(fitted[3:], 1)
        whole = fitted.round().clip(limits.min, limits.max).astype(dtype)
        return picture.without_rims(whole[None])[0] if self.alpha else whole


DECODED = 3  # how images are decoded in their own depth: part of the key of a pack of them


def suffixes(bits: Literal["8", "own"]) -> frozenset[str]:
    """Of which files."""
    if bits == "8":
        return picture.SUFFIXES
    from zerosum.data import deep

    return picture.SUFFIXES | frozenset(deep.SUFFIXES)


def has_alpha(format: str, channels: int) -> bool:
    """Whether the last channel of a file is alpha. PNG's is, of 2 or 4; elsewhere it may be infrared, or anything."""
    return format == "PNG" and channels in (2, 4)


def read(raw: bytes, name: str, bits: Literal["8", "own"]) -> Plate:
    """The bytes of the file `name`, decoded. Raises Broken with the reason."""
    if bits == "8":
        plain = picture.read(raw)
        return Plate(plain.image, plain.bits, plain.format)
    from zerosum.data import deep

    found = deep.read(raw, name)
    values = found.values
    if len(values) == 2 and has_alpha(found.format, 2):  # networks see 1, 3 or 4 channels
        values = values[[0, 0, 0, 1]]
    shallow = values.dtype == np.uint8 and len(values) in picture.MODES
    pixels = picture.from_pixels(values) if shallow else values
    alpha = not shallow and has_alpha(found.format, len(values))
    return Plate(pixels, 8 * values.dtype.itemsize, found.format, found.notes, alpha)
