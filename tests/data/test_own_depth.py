"""A GAN of noise on images of more than 8 bits: trained on and drawn as they are, looked at and measured in 8."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zerosum import cli, inference, sample
from zerosum import data as sources
from zerosum.applications import parts
from zerosum.data import deep, picture, plates
from zerosum.data.depth import Depth
from zerosum.data.loader import Loader
from zerosum.data.plates import Plate
from zerosum.data.source import as_seen
from zerosum.data.spec import Data, Fit, Spec
from zerosum.data.split import Part
from zerosum.errors import UserError
from zerosum.latent import tools
from zerosum.sample import read_recipe


def images(folder: Path, dtype: str = "uint16", n: int = 6, channels: int = 1, suffix: str = ".png") -> np.ndarray:
    """Noise over the whole of a type, or from -1,000 to 3,000, a file each."""
    random = np.random.default_rng(0)
    low, high = (0, np.iinfo(dtype).max) if dtype.startswith("u") else (-1_000, 3_000)
    values = random.uniform(low, high, (n, channels, 16, 16)).astype(dtype)
    folder.mkdir()
    for number, value in enumerate(values):
        deep.write(value, folder / f"{number}{suffix}")
    return values


def test_the_game_sees_every_bit_and_the_measures_eight(tmp_path: Path) -> None:
    values = images(tmp_path / "x")
    found = sources.open(Data(source=str(tmp_path / "x"), bits="own", cache=str(tmp_path / "cache")))
    assert found.spec == Spec((1, 16, 16), 0, Depth("uint16", 0, 65535))
    part = Part(found, np.array([4, 1]), "train")
    assert np.array_equal(part.stored(np.array([0, 1]))[0], values[[4, 1]])
    seen = part.gather(np.array([0, 1]))[0]
    assert seen.dtype == np.uint8
    assert np.abs(seen - values[[4, 1]] / 257).max() <= 0.5
    real = Loader(part, seed=0, latent=4).real("D", 0, 2)
    drawn = sorted(sample.to_stored(real, found.spec.depth).tolist())
    assert drawn == sorted(values[[4, 1]].tolist()), "bit for bit"


def test_a_pack_keeps_the_depth_and_not_the_range(tmp_path: Path) -> None:
    values = images(tmp_path / "x", "int16", suffix=".tif")
    data = Data(source=str(tmp_path / "x"), bits="own", cache=str(tmp_path / "cache"), memory_megabytes=0)
    with pytest.raises(UserError, match="--value-range is missing: the images hold int16"):
        sources.open(data)
    for high in (3_000.0, 1_000.0):
        found = sources.open(Data(**{**vars(data), "value_range": (-1_000.0, high)}))
        assert np.array_equal(found.stored(np.arange(6))[0], values)
        assert found.gather(np.arange(6))[0].max() == 255
        assert found.spec.depth == Depth("int16", -1_000, high)
    assert len(list((tmp_path / "cache").rglob("*.u8"))) == 1, "one pack for all ranges"
    assert (
        len({sources.open(Data(**{**vars(data), "value_range": (-1_000.0, h)})).fingerprint for h in (1e3, 3e3)}) == 2
    )


def test_images_of_another_type_are_named_and_left_out(tmp_path: Path) -> None:
    images(tmp_path / "x", n=15)
    deep.write(np.zeros((1, 16, 16), np.uint8), tmp_path / "x" / "shallow.png")
    found = sources.open(Data(source=str(tmp_path / "x"), bits="own", cache=str(tmp_path / "cache")))
    assert len(found) == 15
    assert found.skipped == (
        ("shallow.png", "it holds uint8 values, the others uint16; convert it, or leave --bits own out"),
    )


def test_images_that_are_left_out_do_not_settle_the_channels(tmp_path: Path) -> None:
    """Ten grey ones stay grey beside one in colour that is of another type."""
    images(tmp_path / "x", dtype="uint8", n=10)
    deep.write(np.full((4, 16, 16), 40_000, np.uint16), tmp_path / "x" / "cut_out.png")
    found = sources.open(Data(source=str(tmp_path / "x"), bits="own", cache=str(tmp_path / "cache")))
    assert [name for name, _ in found.skipped] == ["cut_out.png"]
    assert found.spec.shape[0] == 1


@pytest.mark.parametrize(("dtype", "full"), [("uint8", 255), ("uint16", 65535)])
def test_grey_with_alpha_is_colour_with_alpha(tmp_path: Path, dtype: str, full: int) -> None:
    """As with 8 bits; no network here is of two channels."""
    (tmp_path / "x").mkdir()
    for number in range(4):
        plane = np.full((2, 16, 16), full // 3, dtype)
        plane[1] = full
        plane[1, :, 8 + number :] = 0
        if dtype == "uint8":
            Image.fromarray(plane.transpose(1, 2, 0), "LA").save(tmp_path / "x" / f"{number}.png")
        else:
            deep.write(plane, tmp_path / "x" / f"{number}.png")
    found = sources.open(Data(source=str(tmp_path / "x"), bits="own", cache=str(tmp_path / "cache")))
    assert (found.spec.shape, found.skipped) == ((4, 16, 16), ())
    values = found.stored(np.arange(4))[0]
    assert values.dtype == dtype
    assert (values[:, :3] == full // 3).all()
    assert [int((image[3, 0] == full).sum()) for image in values] == [8, 9, 10, 11]


def test_what_reading_did_is_said_as_of_eight_bits(tmp_path: Path) -> None:
    images(tmp_path / "x", dtype="uint8", n=4, channels=3)
    (tmp_path / "x" / "0.png").rename(tmp_path / "elsewhere.png")
    Image.open(tmp_path / "elsewhere.png").save(tmp_path / "x" / "0.jpg")
    cut_out = Image.fromarray(np.random.default_rng(1).integers(0, 255, (16, 16, 4), dtype=np.uint8))
    cut_out.save(tmp_path / "x" / "9.png")
    said = {
        bits: sources.open(Data(source=str(tmp_path / "x"), bits=bits, cache=str(tmp_path / "cache"))).notes
        for bits in ("8", "own")
    }
    assert said["own"] == said["8"]
    assert "mixed formats: 4 PNG, 1 JPEG; what compression did to some" in said["own"][0]
    assert said["own"][1] == "1 of 5 images had an alpha channel and were laid on white"


def test_a_folder_of_two_types_is_refused(tmp_path: Path) -> None:
    images(tmp_path / "x", n=5)
    for number in range(4):
        deep.write(np.zeros((1, 16, 16), np.uint8), tmp_path / "x" / f"shallow{number}.png")
    with pytest.raises(UserError, match=r"images of several types \(5 uint16, 4 uint8\); convert them"):
        sources.open(Data(source=str(tmp_path / "x"), bits="own", cache=str(tmp_path / "cache")))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "PLANES", "--bits", "own"), "images of 2 channels; convert them to 1, 3 or 4"),
        (("train", "X", "--bits", "own", "--channels", 3), "images of uint16 keep the channels that they have (1)"),
        (("train", "X", "--value-range", 0, 9), "--value-range 0 9: is for images that keep more than 8 bits"),
        (("train", "digits", "--bits", "own"), "is for folders and zips of images, which digits is not"),
        (("data", "check", "X", "--bits", "own"), "--bits own: what is checked is looked at in 8 bits"),
    ],
)
def test_what_cannot_be_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], told: str
) -> None:
    images(tmp_path / "x")
    images(tmp_path / "planes", channels=2, suffix=".tif")
    named = {"X": tmp_path / "x", "PLANES": tmp_path / "planes"}
    assert cli.main([str(named.get(str(word), word)) for word in words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_samples_are_written_as_deep_as_the_data(tmp_path: Path) -> None:
    images(tmp_path / "x", n=12)
    run, out = tmp_path / "run", tmp_path / "out"
    words = ("train", tmp_path / "x", "--bits", "own", "--images", 8, "--batch-size", 4, "--threads", 1, "--out", run)
    assert cli.main([str(word) for word in words]) == 0
    assert read_recipe(run)["data"]["depth"] == {"stored": "uint16", "low": 0, "high": 65535}
    assert read_recipe(run)["run"]["precision"] == "fp32"
    model = sample.load(run)
    assert model.precision == "fp32", "bf16 has no 16 bits"
    made = model.sample(3)
    assert made.images.dtype == np.uint16
    assert np.array_equal(
        made.images, sample.to_stored(sample.generate(model.ready, model.latents(3), None), made.depth)
    )
    assert np.abs(model.values(model.latents(3), None) - made.images / 257).max() <= 0.51
    assert len(np.unique(made.images)) > 256
    assert made.picture().mode == "L"
    assert cli.main(["sample", str(run), "-n", "3", "--out", str(out)]) == 0
    written = [deep.read(path.read_bytes(), path.name).values for path in sorted(out.glob("*.png"))]
    assert np.array_equal(np.stack(written), made.images)
    assert b"generated" in (out / "000000.png").read_bytes()
    assert cli.main(["sample", str(run), "-n", "2", "--out", str(out)]) == 0
    assert len(list(out.glob("*.png"))) == 2
    with pytest.raises(UserError, match="--precision bf16: carries 8 bits"):
        inference.resolve("bf16", model.spec)
    words = ("train", tmp_path / "x", "--bits", "own", "--images", 8, "--precision", "bf16", "--out", tmp_path / "no")
    assert cli.main([str(word) for word in words]) == 2


def test_images_given_to_a_deep_run_are_read_in_its_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = images(tmp_path / "x", "int16", n=120, suffix=".tif")
    run = tmp_path / "run"
    words = ("train", tmp_path / "x", "--bits", "own", "--value-range", -1_000, 3_000, "--images", 8, "--batch-size", 4)
    assert cli.main([str(word) for word in (*words, "--threads", 1, "--out", run)]) == 0
    model = sample.load(run)
    photos = tools.photos(model, [tmp_path / "x" / "3.tif"])
    assert np.array_equal(photos, model.spec.depth.eight_bits(values[3:4]))
    data = as_seen(Data(source=str(tmp_path / "x")), model.spec)
    assert (data.bits, data.value_range, data.size) == ("own", (-1_000, 3_000), (16, 16))
    assert as_seen(Data(source="digits"), model.spec).bits == "8"
    out = tmp_path / "out"
    assert cli.main(["sample", str(run), "-n", "4", "--out", str(out)]) == 0
    assert b"generated" in (out / "000000.tif").read_bytes()
    assert json.loads((out / "samples.json").read_text())["depth"] == {"stored": "int16", "low": -1000, "high": 3000}
    written = deep.read((out / "000001.tif").read_bytes(), "000001.tif").values
    assert np.array_equal(written, model.sample(4).images[1])
    capsys.readouterr()
    words = ("evaluate", run, "--against", tmp_path / "x", "--features", "pixels", "--split", "all")
    assert cli.main([str(word) for word in words]) == 0, "as the run's own data are read"


def test_names_of_files_are_those_of_every_depth(tmp_path: Path) -> None:
    images(tmp_path / "x", "int16", suffix=".npy")
    data = Data(source=str(tmp_path / "x"), bits="own", value_range=(-1_000.0, 3_000.0), cache=str(tmp_path / "cache"))
    found = sources.open(data)
    assert parts.file_names(data, found) == [f"{number}.npy" for number in range(6)]


def test_a_deep_set_without_its_depth_is_refused() -> None:
    class Shallow:
        spec, class_names, fingerprint = Spec((1, 2, 2), 0, Depth("uint16", 0, 9)), (), "x"

        def __len__(self) -> int:
            return 2

        def gather(self, index: np.ndarray) -> tuple[np.ndarray, None]:
            return np.zeros((len(index), 1, 2, 2), np.uint8), None

    with pytest.raises(UserError, match="no method `stored`"):
        Loader(Shallow(), seed=0, latent=2)


def test_eight_bits_are_left_as_they_are() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert Depth().eight_bits(values) is values
    deep_values = np.array([-5_000, -1_000, 1_000, 3_000, 9_000], np.int16)
    assert Depth("int16", -1_000, 3_000).eight_bits(deep_values).tolist() == [0, 0, 128, 255, 255]


# ---- alpha ---------------------------------------------------------------------------------------------------------

CREAM = (59_110, 52_685, 49_601)


def cut_out(radius: float = 25, side: int = 64) -> np.ndarray:
    """A cream disc with a soft edge, uint16 (4, side, side); what is hidden is black, as most programs write it."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(radius - np.hypot(x, y), 0, 1) * 65535
    values = np.stack([*(np.full((side, side), float(c)) for c in CREAM), alpha]).round().astype(np.uint16)
    values[:3, values[3] == 0] = 0
    return values


def off_cream(images: np.ndarray) -> int:
    """How far any colour of images uint16 (..., 4, H, W) is from cream, hidden ones too."""
    return int(np.abs(images[..., :3, :, :].astype(int) - np.array(CREAM)[:, None, None]).max())


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_thing_on_nothing_has_no_dark_rim_in_16_bits(fit: Fit, tmp_path: Path) -> None:
    deep.write(cut_out(), tmp_path / "disc.png")
    plate = plates.read((tmp_path / "disc.png").read_bytes(), "disc.png", "own")
    for shape in ((4, 64, 64), (4, 16, 16), (4, 33, 21), (4, 90, 70)):
        found = plate.render(shape, np.dtype(np.uint16), fit)
        assert found.shape == shape
        assert found.dtype == np.uint16
        assert found.flags.c_contiguous
        assert off_cream(found) <= 2
        assert (found[3].min(), found[3].max()) == (0, 65535)
    seen = np.random.default_rng(0).integers(257 * picture.FAINT, 65536, (4, 9, 7), dtype=np.uint16)
    assert np.array_equal(Plate(seen, 16, alpha=True).render((4, 9, 7), seen.dtype, fit), seen), "bit for bit"


def test_four_channels_of_an_array_are_four_numbers(tmp_path: Path) -> None:
    """Red, green, blue and infrared, say."""
    values = cut_out()
    deep.write(values, tmp_path / "bands.npy")
    plate = plates.read((tmp_path / "bands.npy").read_bytes(), "bands.npy", "own")
    assert np.array_equal(plate.render((4, 64, 64), values.dtype, "crop"), values)
    small, red = plate.render((4, 16, 16), values.dtype, "crop"), Plate(values[:1], 16)
    assert np.array_equal(small[:1], red.render((1, 16, 16), values.dtype, "crop"))


def test_a_folder_of_cut_outs_has_no_dark_rims(tmp_path: Path) -> None:
    """From files to what networks see, and back as samples go."""
    (tmp_path / "x").mkdir()
    for number in range(4):
        deep.write(cut_out(20 + number), tmp_path / "x" / f"{number}.png")
    data = Data(source=str(tmp_path / "x"), bits="own", size=(16, 16), cache=str(tmp_path / "cache"))
    found = sources.open(data)
    assert found.spec == Spec((4, 16, 16), 0, Depth("uint16", 0, 65535))
    back = sample.to_stored(Loader(found, seed=0, latent=4).real("D", 0, 4), found.spec.depth)
    assert off_cream(back) <= 2
    assert (back[:, 3].min(), back[:, 3].max()) == (0, 65535)
    looked_at = found.gather(np.arange(4))[0]
    assert np.abs(looked_at[:, :3] - np.array(CREAM)[:, None, None] / 257).max() <= 0.5
