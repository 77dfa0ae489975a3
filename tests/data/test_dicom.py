"""DICOM: values as the file means them, and none of its words."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import encoded, smooth
from PIL import Image, features

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import apply_rescale, get_decoder  # noqa: E402
from pydicom.uid import (  # noqa: E402
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

from zerosum.data import deep, dicom  # noqa: E402
from zerosum.data.deep import read, write  # noqa: E402
from zerosum.data.picture import Broken  # noqa: E402

SECRET = "DOE^JANE"


def numbers(low: int, high: int, *shape: int, kind: str = "i2") -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, shape, endpoint=True).astype(kind)


def dataset(values: np.ndarray, syntax: str = ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """A CT slice, or what `elements` make of it; values are (H, W), (H, W, 3) or (frames, H, W)."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = CTImageStorage, generate_uid(), "CT"
    colour = values.shape[-1] == 3
    made.Rows, made.Columns = values.shape[-3:-1] if colour else values.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        made.PlanarConfiguration = 0
    bits = values.dtype.itemsize * 8
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    made.add_new(0x7FE00010, "OW" if bits > 8 else "OB", data + b"\0" * (len(data) % 2))
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def saved(made: Dataset, plain: bool = False) -> bytes:
    file = io.BytesIO()
    if plain:  # as old archives keep them: no preamble, no file meta
        pydicom.dcmwrite(file, made, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return file.getvalue()
    pydicom.dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()


# ---- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2"])
def test_values_without_a_rescale_keep_their_type(kind: str, syntax: str) -> None:
    info = np.iinfo(kind)
    values = numbers(info.min, info.max, 6, 8, kind=kind)
    found = read(saved(dataset(values, syntax)), "a.dcm")
    assert found.format == "DICOM"
    assert found.values.dtype == ("i2" if kind == "i1" else kind)
    assert np.array_equal(found.values[0], values)
    assert found.notes == ()


def test_ct_comes_in_hounsfield_units() -> None:
    stored = numbers(0, 4095, 16, 16, kind="u2")
    made = dataset(stored, BitsStored=12, HighBit=11, RescaleSlope="1", RescaleIntercept="-1024")
    found = read(saved(made), "a.dcm").values
    assert found.dtype == np.int16
    assert np.array_equal(found[0], stored.astype(int) - 1024)
    assert np.array_equal(found[0], apply_rescale(stored, made)), "pydicom's own"


def test_a_rescale_that_int16_cannot_hold_is_float32() -> None:
    stored = numbers(0, 65535, 5, 7, kind="u2")
    for slope, intercept in (("1", "-1024"), ("0.37", "2.5")):
        found = read(saved(dataset(stored, RescaleSlope=slope, RescaleIntercept=intercept)), "a.dcm").values
        assert found.dtype == np.float32
        assert np.array_equal(found[0], (stored * float(slope) + float(intercept)).astype(np.float32))


def test_monochrome1_is_inverted() -> None:
    unsigned = numbers(0, 4095, 5, 7, kind="u2")
    found = read(saved(dataset(unsigned, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")), "a.dcm")
    assert np.array_equal(found.values[0], 4095 - unsigned)
    assert found.notes == (dicom.INVERTED,)
    signed = numbers(-32768, 32767, 5, 7)
    found = read(saved(dataset(signed, PhotometricInterpretation="MONOCHROME1")), "a.dcm")
    assert np.array_equal(found.values[0], -1 - signed)


def test_colour() -> None:
    values = numbers(0, 255, 6, 5, 3, kind="u1")
    assert np.array_equal(read(saved(dataset(values)), "a").values, values.transpose(2, 0, 1))
    planes = dataset(values, PlanarConfiguration=1, PixelData=values.transpose(2, 0, 1).tobytes())
    assert np.array_equal(read(saved(planes), "a").values, values.transpose(2, 0, 1))


def test_unused_bits_are_not_values() -> None:
    values = numbers(0, 4095, 6, 6, kind="u2")
    found = read(saved(dataset(values | 0xA000, BitsStored=12, HighBit=11)), "a").values
    assert np.array_equal(found[0], values)


def test_real_pixels() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    made = dataset(values)
    del made.PixelData
    made.FloatPixelData = values.tobytes()
    assert np.array_equal(read(saved(made), "a").values[0], values)


def test_the_first_frame_and_its_own_rescale() -> None:
    frames = numbers(0, 4095, 3, 6, 8, kind="u2")
    made = dataset(frames, NumberOfFrames=3)
    items = []
    for intercept in ("-1000", "-2000", "-3000"):
        transformation, item = Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = "1", intercept
        item.PixelValueTransformationSequence = [transformation]
        items.append(item)
    made.PerFrameFunctionalGroupsSequence = items
    found = read(saved(made), "a.dcm")
    assert np.array_equal(found.values[0], frames[0].astype(int) - 1000)
    assert found.notes == (dicom.FIRST_FRAME,)


def test_rle() -> None:
    values = numbers(0, 9, 20, 30, kind="u2")
    made = dataset(values)
    made.compress(RLELossless)
    assert np.array_equal(read(saved(made), "a").values[0], values)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="a Pillow without JPEG 2000")
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_jpeg_2000(kind: str) -> None:
    values = numbers(0, np.iinfo(kind).max, 20, 30, kind=kind)
    made = dataset(values)
    made.PixelData = encapsulate([encoded(Image.fromarray(values), "JPEG2000", irreversible=False, no_jp2=True)])
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = JPEG2000Lossless
    assert np.array_equal(read(saved(made), "a").values[0], values)


def test_jpeg_in_colour() -> None:
    image = smooth(24, 32)
    made = dataset(np.asarray(image), PhotometricInterpretation="YBR_FULL_422")
    raw = encoded(image, "JPEG", quality=95)
    made.PixelData = encapsulate([raw])
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    with Image.open(io.BytesIO(raw)) as alone:
        assert np.array_equal(read(saved(made), "a").values, np.asarray(alone).transpose(2, 0, 1))


def test_files_without_a_prefix_go_by_their_suffix() -> None:
    values = numbers(-9, 999, 6, 8)
    raw = saved(dataset(values, ImplicitVRLittleEndian), plain=True)
    assert raw[128:132] != b"DICM"
    assert np.array_equal(read(raw, "slice.DCM").values[0], values)
    with pytest.raises(Broken):
        read(raw, "slice")


# ---- written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "colour"])
def test_what_is_written_is_a_secondary_capture_of_nobody(kind: str, tmp_path: Path) -> None:
    info = np.iinfo("u1" if kind == "colour" else kind)
    values = numbers(info.min, info.max, 3 if kind == "colour" else 1, 5, 7, kind=info.dtype.str)
    write(values, tmp_path / "a.dcm")
    found = read((tmp_path / "a.dcm").read_bytes(), "a.dcm")
    assert found.values.dtype == values.dtype
    assert np.array_equal(found.values, values)
    made = pydicom.dcmread(tmp_path / "a.dcm")
    pixels = made.pixel_array
    assert np.array_equal(pixels, values.transpose(1, 2, 0) if kind == "colour" else values[0]), "pydicom's own reader"
    assert (made.Modality, list(made.ImageType)) == ("OT", ["DERIVED", "SECONDARY"])
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert not made.PatientName
    assert not made.PatientID
    write(values, tmp_path / "b.dcm")
    other = pydicom.dcmread(tmp_path / "b.dcm")
    assert made.SOPInstanceUID != other.SOPInstanceUID
    assert made.StudyInstanceUID != other.StudyInstanceUID


# ---- privacy -------------------------------------------------------------------------------------------


def full_of_names(**elements: Any) -> Dataset:
    """A file whose every word is a name."""
    made = dataset(numbers(0, 4095, 8, 8, kind="u2"), RescaleSlope="1", RescaleIntercept="-1024")
    del made.HighBit
    for keyword in (
        *("PatientName", "OtherPatientNames", "ReferringPhysicianName", "OperatorsName", "PatientBirthName"),
        *("PatientAddress", "InstitutionName", "PatientComments", "ImageComments", "StudyDescription", "PatientID"),
        *("SeriesDescription", "ProtocolName", "DeviceSerialNumber", "AccessionNumber", "StationName"),
    ):
        setattr(made, keyword, SECRET)
    item = Dataset()
    item.PatientName = item.PatientID = SECRET
    made.RequestAttributesSequence = made.ReferencedPatientSequence = [item]
    made.private_block(0x0009, SECRET, create=True).add_new(1, "LO", SECRET)
    made.file_meta.SourceApplicationEntityTitle = SECRET
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"Modality": SECRET},
        {"BurnedInAnnotation": SECRET},
        {"SpecificCharacterSet": SECRET},
        {"PhotometricInterpretation": SECRET},
        {"NumberOfFrames": "7"},
        {"BitsStored": 40},
        {"Rows": 9},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12},
    ],
)
def test_no_word_of_the_header_gets_out(
    elements: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as ours:
        warnings.simplefilter("ignore")  # making such a file is warned of, with the names
        raw = saved(full_of_names(**elements))
    assert SECRET.encode() in raw
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read(raw, f"{SECRET}.dcm")
        except Broken as broken:
            said = [str(broken)]
        else:
            said = [repr(found), *found.notes]
            for suffix in (".dcm", ".tif", ".npy"):
                write(found.values, tmp_path / f"out{suffix}")
                assert SECRET.encode() not in (tmp_path / f"out{suffix}").read_bytes()
                assert b"DOE" not in (tmp_path / f"out{suffix}").read_bytes()
    shown = capfd.readouterr()
    said += [str(w.message) for w in caught] + [caplog.text, shown.out, shown.err]
    assert not ours
    assert not [text for text in said if SECRET in text or "DOE" in text]


@pytest.mark.parametrize("place", ["syntax", "slope", "sequence"])
def test_names_where_numbers_belong(place: str, caplog: pytest.LogCaptureFixture) -> None:
    made = full_of_names()
    if place == "sequence":
        made.PerFrameFunctionalGroupsSequence = [Dataset()]
    raw = saved(made)
    secret = SECRET.encode()
    if place == "syntax":
        raw = raw.replace(b"1.2.840.10008.1.2.1\0", secret.ljust(20, b"."), 1)
    elif place == "slope":
        raw = raw.replace(b"DS\x06\0-1024 ", b"DS\x08\0" + secret)
    else:
        raw = raw.replace(b"\x00\x52\x30\x92SQ", b"\x00\x52\x30\x92LO", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(Broken) as broken:
            read(raw, "a.dcm")
    assert not [t for t in (str(broken.value), caplog.text, *(str(w.message) for w in caught)) if "DOE" in t]


def test_text_burned_into_the_picture_is_warned_of() -> None:
    values = numbers(0, 255, 6, 8, kind="u1")
    cases: list[tuple[dict[str, str], tuple[str, ...]]] = [
        ({"BurnedInAnnotation": "YES"}, (dicom.TEXT,)),
        ({"BurnedInAnnotation": "NO", "Modality": "US"}, ()),
        ({"Modality": "US"}, (dicom.MAYBE_TEXT,)),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, (dicom.MAYBE_TEXT,)),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, (dicom.MAYBE_TEXT,)),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6"}, ()),
        ({"Modality": "MR"}, ()),
    ]
    for elements, notes in cases:
        assert read(saved(dataset(values, **elements)), "a.dcm").notes == notes


# ---- what is refused -----------------------------------------------------------------------------------


def test_what_is_not_read() -> None:
    values = numbers(0, 4095, 6, 8, kind="u2")
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], b"\0\0"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
        ({"RescaleSlope": "0"}, "slope"),
        ({"ModalityLUTSequence": [table]}, "table"),
        ({"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}, "64 bits"),
        ({"BitsStored": 12, "HighBit": 15}, "lowest"),
        ({"Rows": 20_000, "Columns": 20_000}, "more than the limit"),
        ({"Rows": 60}, "damaged"),
        ({"Rows": 0}, "no image"),
    ]
    for elements, reason in cases:
        with pytest.raises(Broken, match=reason):
            read(saved(dataset(values, **elements)), "a.dcm")
    empty = dataset(values)
    del empty.PixelData, empty.Rows
    with pytest.raises(Broken, match="no picture"):
        read(saved(empty), "a.dcm")


def test_a_compression_without_a_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(numbers(0, 9, 6, 8, kind="u2"))
    made.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    decoder = get_decoder(JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(Broken, match=r"JPEG Lossless.*decoder is missing.*pylibjpeg"):
        read(saved(made), "a.dcm")


def test_a_deflated_set_is_refused_before_it_is_inflated() -> None:
    raw = saved(dataset(np.zeros((2000, 2000), np.uint16), DeflatedExplicitVRLittleEndian))
    assert len(raw) < 20_000
    with pytest.raises(Broken, match="deflated"):
        read(raw, "a.dcm")


def test_without_pydicom_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raw = saved(dataset(numbers(0, 9, 4, 4)))
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(Broken, match=r"zerosum\[dicom\]"):
        read(raw, "a.dcm")
    with pytest.raises(deep.UserError, match=r"zerosum\[dicom\]"):
        write(numbers(0, 9, 1, 4, 4), tmp_path / "a.dcm")
    assert list(tmp_path.iterdir()) == []
