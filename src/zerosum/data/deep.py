"""One picture in its own depth: from the bytes of a file to values as they are stored, and back into a file.

Of 8 bits and fewer `picture.py` is the one home; here is what it cannot hold: 16 bits, signed and real numbers, and any
number of channels. Nothing is rounded on the way in (a rescale of DICOM aside) or out.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from zerosum import atomic, pictures
from zerosum.data import dicom, picture, png, tiff
from zerosum.data.depth import Stored
from zerosum.data.picture import Broken
from zerosum.errors import UserError

NUMPY = b"\x93NUMPY"
EXACT = 1 << 24  # whole numbers up to here are float32 numbers
SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".npy": "NPY",
    **dict.fromkeys(dicom.SUFFIXES, "DICOM"),
}  # of what `write` writes
LONGEST = {"JPEG": 65500, "DICOM": 65535}  # pixels a side
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Deep:
    """A decoded picture, upright: values (C, H, W) of uint8, uint16, int16 or float32, all finite."""

    values: np.ndarray
    format: str  # PNG, JPEG, TIFF, NPY, DICOM, or another that Pillow names
    notes: tuple[str, ...] = ()  # what a user should know: warnings, what was left out


def read(raw: bytes, name: str) -> Deep:
    """Decode a file's bytes (the first page or frame, if there are several). Raises Broken with the reason.

    The content says what it is; `name` only where it does not: DICOM without its prefix. uint8, uint16, int16 and
    float32 stay what they are; booleans become 0 and 255, int8 int16, other numbers float32 if that holds them exactly.
    """
    if raw[dicom.PREFIX_AT : dicom.PREFIX_AT + 4] == dicom.PREFIX:
        return _deep("DICOM", *dicom.read(raw))
    if raw.startswith(NUMPY):
        return _deep("NPY", _npy(raw))
    if raw.startswith(tiff.MAGIC) and (found := tiff.read(raw)) is not None:
        return _deep("TIFF", *found)
    if name.lower().endswith(dicom.SUFFIXES):
        return _deep("DICOM", *dicom.read(raw))
    return _picture(raw)


def _picture(raw: bytes) -> Deep:
    found = picture.read(raw)
    if found.format == "PNG" and found.bits == 16:
        return _deep("PNG", picture.upright(png.decode(raw), found.orientation))
    notes = (f"{found.format} of {found.bits} bits is read in 8",) if found.bits > 8 else ()
    values = np.asarray(found.image)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return _deep(found.format, values[[0, 3]] if found.mode == "LA" else values, notes)


def _deep(format: str, values: np.ndarray, notes: tuple[str, ...] = ()) -> Deep:
    if values.dtype.name not in get_args(Stored):
        values = _brought(values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Broken(f"{np.count_nonzero(~np.isfinite(values))} of its values are infinite or not a number")
    return Deep(np.ascontiguousarray(values, values.dtype.newbyteorder("=")), format, notes)


def _brought(values: np.ndarray) -> np.ndarray:
    """Values of another type in one of the four."""
    kind, name = values.dtype.kind, values.dtype.name
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if name == "int8":
        return values.astype(np.int16)
    if kind not in "iuf":
        raise Broken(f"values of type {name} are no image: uint8, uint16, int16 and float32 are")
    with np.errstate(over="ignore"):
        real = values.astype(np.float32)
    exact = (values >= -EXACT) & (values <= EXACT) if kind in "iu" else (real == values) | np.isnan(values)
    if not exact.all():
        raise Broken(f"float32 does not hold its values of type {name} exactly: convert it, if rounding is meant")
    return real


def _npy(raw: bytes) -> np.ndarray:
    """The array of a .npy file as (C, H, W).

    (H, W) is grey. Of three axes the first is the channels if it has 1, 3 or 4, else the last if it has; else the
    shorter of the two, the first if they are equal.
    """
    file = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
    except Exception as error:  # whatever the damaged bytes lead to
        raise Broken(f"a damaged .npy file ({error})") from error
    if dtype.hasobject:
        raise Broken("Python objects, which are never loaded (they can run code): save plain numbers")
    if dtype.kind not in "biuf":  # texts, records and arrays in arrays: NumPy itself stumbles over those of no bytes
        raise Broken(f"values of type {dtype.name} are no image: uint8, uint16, int16 and float32 are")
    if len(shape) not in (2, 3):
        raise Broken(f"an array of shape {shape} is not one image: (H, W), (C, H, W) or (H, W, C) is")
    first = len(shape) == 2 or _channels_first(shape)
    channels, height, width = (1, *shape) if len(shape) == 2 else shape if first else (shape[2], *shape[:2])
    picture.check_size(width, height, channels)
    there, claimed = len(raw) - file.tell(), channels * height * width * dtype.itemsize
    if there != claimed:
        raise Broken(f"its header claims {claimed} bytes of values, {there} are there")
    values = np.frombuffer(raw, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")
    return values[None] if len(shape) == 2 else values if first else values.transpose(2, 0, 1)


def _channels_first(shape: tuple[int, ...]) -> bool:
    if shape[0] in picture.MODES or shape[2] in picture.MODES:
        return shape[0] in picture.MODES
    return shape[0] <= shape[2]


def holds(format: str, stored: str, channels: int) -> bool:
    """Whether files of this format hold that many channels of that type, exactly (JPEG aside, which loses a little)."""
    if format == "PNG":
        return stored in ("uint8", "uint16") and channels <= 4
    if format == "JPEG":
        return stored == "uint8" and channels in (1, 3)
    if format == "DICOM":
        return (stored != "float32" and channels == 1) or (stored == "uint8" and channels == 3)
    return True


def suffix_for(stored: Stored, channels: int) -> str:
    """Of which suffix a file should be that holds such values, if nothing else was asked for: .png, else .tif."""
    return ".png" if holds("PNG", stored, channels) else ".tif"


def check(path: Path, stored: str, channels: int, longest: int) -> str:
    """The format of the file `path` that is to hold such values, `longest` pixels on its longer side.

    UserError for a suffix that is not known, or what its format does not hold.
    """
    format = SUFFIXES.get(path.suffix.lower())
    fitting = ", ".join(suffix for suffix, name in SUFFIXES.items() if holds(name, stored, channels))
    if format is None:
        raise UserError(f"{path}: images are not written as {path.suffix or 'a file without suffix'}; give {fitting}")
    if not holds(format, stored, channels):
        raise UserError(f"{path}: {format} does not hold {channels} channels of {stored}; these do: {fitting}")
    if longest > LONGEST.get(format, longest):
        raise UserError(f"{path}: {format} holds up to {LONGEST[format]} pixels a side, not {longest}; give .tif")
    return format


def write(values: np.ndarray, path: Path, text: dict[str, str] | None = None) -> None:
    """Write values (C, H, W) of uint8, uint16, int16 or float32 as they are, in the format of the suffix.

    Whole or not at all. `text` goes into the chunks of a PNG and the description of a TIFF; the others have no place
    for it. UserError as of `check`, or if the disk refuses.
    """
    stored, channels = values.dtype.name, len(values)
    if values.ndim != 3 or 0 in values.shape or stored not in get_args(Stored):
        raise ValueError(f"{stored} {values.shape} is no image (C, H, W) of one of {', '.join(get_args(Stored))}")
    format = check(path, stored, channels, max(values.shape[1:]))
    if format == "PNG" and stored == "uint8":
        pictures.save_png(picture.from_pixels(values), path, text)
        return
    atomic.write_file(path, _encoded(values, format, text or {}))


def _encoded(values: np.ndarray, format: str, text: dict[str, str]) -> bytes:
    if format == "PNG":
        return png.encode(values, text)
    if format == "TIFF":
        return tiff.encode(values, text)
    if format == "DICOM":
        return dicom.encode(values)
    file = io.BytesIO()
    if format == "NPY":
        np.save(file, values, allow_pickle=False)
    else:
        picture.from_pixels(values).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()
