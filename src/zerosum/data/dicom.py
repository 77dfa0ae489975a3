"""DICOM, by pydicom (the extra `dicom`): the numbers of a picture, and nothing else of its file.

A DICOM file is full of names. Of its header only the elements of `WANTED` are kept while it is parsed; they are read as
bytes and used as numbers, or compared with words of this module. So no text of a file gets into a value, a note, an
error, a log or what is written.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zerosum.data import picture
from zerosum.data.picture import Broken
from zerosum.errors import UserError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUFFIXES = (".dcm", ".dicom")
PREFIX, PREFIX_AT = b"DICM", 128
NEEDED = "pip install 'zerosum[dicom]'"

TRANSFER_SYNTAX = 0x00020010
SOP_CLASS, MODALITY, BURNED_IN = 0x00080016, 0x00080060, 0x00280301
SAMPLES, PHOTOMETRIC, PLANAR, FRAMES, ROWS, COLUMNS = 0x280002, 0x280004, 0x280006, 0x280008, 0x280010, 0x280011
ALLOCATED, STORED, HIGH_BIT, SIGNED = 0x280100, 0x280101, 0x280102, 0x280103
INTERCEPT, SLOPE, MODALITY_TABLE = 0x281052, 0x281053, 0x283000
SHARED_GROUPS, FRAME_GROUPS, VALUE_TRANSFORMATION = 0x52009229, 0x52009230, 0x00289145
PIXELS, FLOAT_PIXELS = 0x7FE00010, 0x7FE00008
WANTED = [
    *(SOP_CLASS, MODALITY, BURNED_IN, SAMPLES, PHOTOMETRIC, PLANAR, FRAMES, ROWS, COLUMNS, ALLOCATED, STORED, HIGH_BIT),
    *(SIGNED, INTERCEPT, SLOPE, MODALITY_TABLE, SHARED_GROUPS, FRAME_GROUPS, PIXELS, FLOAT_PIXELS),
]

PHOTOMETRICS = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# ultrasound (also within vessels), endoscopes, photographs of the outside, microscopes, whatever has no name of its
# own: where devices and people are known to write into the picture
OFTEN_BURNED_IN = ("US", "IVUS", "ES", "XC", "GM", "OT", "SC")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

FIRST_FRAME = "only the first of its frames was read"
INVERTED = "stored with white as the least value (MONOCHROME1); inverted, so that more is brighter"
TEXT = "WARNING: the file says that text is burned into the picture: look for names before it is shared or trained on"
MAYBE_TEXT = (
    "WARNING: text may be burned into the picture (usual for ultrasound, photographs and secondary captures, and the "
    "file does not say that there is none): look for names before it is shared or trained on"
)


@dataclass(frozen=True)
class _Header:
    """The elements of `WANTED`, as bytes."""

    elements: Dataset

    def raw(self, tag: int) -> bytes:
        element: Any = self.elements.get_item(tag)
        value = None if element is None else element.value
        return value if isinstance(value, bytes) else b""

    def text(self, tag: int) -> str:
        return self.raw(tag).decode("ascii", "replace").split("\\")[0].strip(" \0")

    def whole(self, tag: int, default: int | None = None) -> int:
        value = self.raw(tag)[:2]
        if len(value) == 2:
            element: Any = self.elements.get_item(tag)
            return int.from_bytes(value, "little" if element.is_little_endian else "big")
        if default is None:
            raise Broken("a DICOM file that holds no picture")
        return default

    def first(self, tag: int) -> _Header | None:
        """The first item of a sequence."""
        items = self.elements[tag].value if tag in self.elements else None
        return _Header(items[0]) if items else None


def read(raw: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first frame as values (C, H, W), rescaled as the file says, and what to say of it. Raises Broken.

    uint8, uint16, int16 or float32; after a rescale int16 where whole numbers fit into it, else float32, rounded.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise Broken(f"DICOM files need pydicom: {NEEDED}") from None
    # What pydicom warns of and logs may quote the header.
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        header, syntax = _parsed(raw)
        values, notes = _frame(header, syntax)
        return _rescaled(values, *_rescale(header)), (*notes, *_warning(header))
    except Broken:
        raise
    except Exception:  # whatever the damaged bytes lead to; its words may be those of the header
        raise Broken("a damaged DICOM file, or none") from None


def _parsed(raw: bytes) -> tuple[_Header, str]:
    """What is wanted of the header, and the transfer syntax: the UID that says how the pixels are coded."""
    from pydicom import dcmread, uid
    from pydicom.filereader import read_dataset

    syntax = ""
    if raw[PREFIX_AT : PREFIX_AT + 4] == PREFIX:
        file = io.BytesIO(raw)
        file.seek(PREFIX_AT + 4)
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != TRANSFER_SYNTAX >> 16)
        syntax = _Header(meta).text(TRANSFER_SYNTAX)
        if syntax not in uid.AllTransferSyntaxes:
            raise Broken("a DICOM file of a transfer syntax that the standard does not know")
        if syntax == uid.DeflatedExplicitVRLittleEndian:  # the whole set, to be inflated to whatever it holds
            raise Broken("a deflated DICOM file is not read here: save it as explicit VR little endian")
    parsed = dcmread(io.BytesIO(raw), force=True, specific_tags=WANTED)
    if not syntax:
        little = parsed.original_encoding[1] is not False
        syntax = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    return _Header(parsed), syntax


def _frame(header: _Header, syntax: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first frame (C, H, W) as stored, with more being brighter."""
    from pydicom import uid
    from pydicom.pixels import get_decoder

    rows, columns, samples = header.whole(ROWS), header.whole(COLUMNS), header.whole(SAMPLES, 1)
    picture.check_size(columns, rows, samples)
    photometric = header.text(PHOTOMETRIC)
    if photometric not in PHOTOMETRICS:
        raise Broken("a DICOM file whose photometric interpretation is not grey, RGB or YBR (a palette, perhaps)")
    name = uid.UID(syntax).name
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Broken(f"compressed as {name}, which is not read here") from None
    if not decoder.is_available:
        needs = "; ".join(decoder.missing_dependencies)
        raise Broken(f"compressed as {name}, and the decoder is missing; pydicom takes one of: {needs}")
    real = header.raw(FLOAT_PIXELS)
    data = real or header.raw(PIXELS)
    if not data:
        raise Broken("a DICOM file that holds no picture")
    allocated = header.whole(ALLOCATED)
    stored = allocated if real else header.whole(STORED)
    if allocated not in (8, 16, 32) or not 0 < stored <= allocated:
        raise Broken(f"{stored} bits in {allocated} are not read here (8, 16 and 32 are)")
    if header.whole(HIGH_BIT, stored - 1) != stored - 1:
        raise Broken("a DICOM file whose bits are not the lowest of their word")
    frames = int(header.text(FRAMES) or 1)
    signed = header.whole(SIGNED, 0)
    element: Any = header.elements.get_item(PIXELS)
    options: dict[str, Any] = {
        "rows": rows, "columns": columns, "samples_per_pixel": samples, "photometric_interpretation": photometric,
        "planar_configuration": header.whole(PLANAR, 0), "bits_allocated": allocated, "bits_stored": stored,
        "pixel_representation": signed, "pixel_keyword": "FloatPixelData" if real else "PixelData",
        "number_of_frames": frames if decoder.is_encapsulated else 1, "pixel_vr": "OF" if real else element.VR,
    }  # fmt: skip
    values, _ = decoder.as_array(data, index=0, **options)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    notes = (FIRST_FRAME,) if frames > 1 else ()
    if photometric == "MONOCHROME1":
        top = -1 if signed else (1 << stored) - 1  # least and greatest of a signed number add up to -1
        return (top - values.astype(np.int64)).astype(values.dtype), (*notes, INVERTED)
    return values, notes


def _rescale(header: _Header) -> tuple[float, float]:
    """Slope and intercept: of the file, or of its first frame (in files of many frames, PS3.3 C.7.6.16.2.9)."""
    if MODALITY_TABLE in header.elements:
        raise Broken("a DICOM file whose values go through a table (Modality LUT Sequence), which is not read here")
    for tag in (FRAME_GROUPS, SHARED_GROUPS):
        group = header.first(tag)
        found = None if group is None else group.first(VALUE_TRANSFORMATION)
        if found is not None:
            header = found
            break
    slope, intercept = float(header.text(SLOPE) or 1), float(header.text(INTERCEPT) or 0)
    if not (np.isfinite(slope) and np.isfinite(intercept) and slope):
        raise Broken("a DICOM file whose rescale slope or intercept is no usable number")
    return slope, intercept


def _rescaled(values: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    if (slope, intercept) == (1, 0):
        return values
    real = values.astype(np.float64) * slope + intercept
    info = np.iinfo(np.int16)
    whole = slope.is_integer() and intercept.is_integer()
    return real.astype(np.int16 if whole and real.min() >= info.min and real.max() <= info.max else np.float32)


def _warning(header: _Header) -> tuple[str, ...]:
    said, kind = header.text(BURNED_IN), header.text(SOP_CLASS)
    if said == "YES":
        return (TEXT,)
    secondary = kind == SECONDARY_CAPTURE or kind.startswith(SECONDARY_CAPTURE + ".")
    return (MAYBE_TEXT,) if said != "NO" and (secondary or header.text(MODALITY) in OFTEN_BURNED_IN) else ()


def encode(values: np.ndarray) -> bytes:
    """A secondary capture of values (1, H, W) uint8, uint16 or int16, or (3, H, W) uint8, derived, of nobody.

    The elements that the standard wants of a patient and a study are there and empty; the UIDs are new. UserError if
    pydicom is not there.
    """
    try:
        from pydicom import dcmwrite, uid
        from pydicom.dataset import Dataset, FileMetaDataset
    except ImportError:
        raise UserError(f"writing DICOM files needs pydicom: {NEEDED}, or write .png or .tif") from None

    channels, height, width = values.shape
    bits = values.dtype.itemsize * 8
    data = np.ascontiguousarray(values.transpose(1, 2, 0), values.dtype.newbyteorder("<")).tobytes()
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = uid.SecondaryCaptureImageStorage, uid.generate_uid(None)
    made.StudyInstanceUID, made.SeriesInstanceUID = uid.generate_uid(None), uid.generate_uid(None)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(made, keyword, "")
    made.ReferringPhysicianName = made.AccessionNumber = made.PatientOrientation = ""
    made.SeriesNumber, made.InstanceNumber = 1, 1
    made.Modality, made.ConversionType, made.ImageType = "OT", "WSD", ["DERIVED", "SECONDARY"]
    made.Rows, made.Columns, made.SamplesPerPixel = height, width, channels
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    if channels == 3:
        made.PhotometricInterpretation, made.PlanarConfiguration = "RGB", 0
    else:
        made.PhotometricInterpretation = "MONOCHROME2"
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = 0, 1, "US"
    made.add_new(PIXELS, "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))
    file = io.BytesIO()
    dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()
