"""One picture: modes, depth, rotation, alpha, resizing."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import encoded, noise, smooth
from PIL import Image

from zerosum.data import picture
from zerosum.data.arrays import from_arrays
from zerosum.data.picture import Broken
from zerosum.data.spec import Fit

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read(format: str) -> None:
    original = smooth(60, 50)
    found = picture.read(encoded(original, format))
    assert found.format == format
    assert found.size == (60, 50)
    difference = np.abs(pixels(found.image.convert("RGB")).astype(int) - pixels(original).astype(int))
    assert difference.mean() < 8
    if format in ("PNG", "BMP", "TIFF", "PPM"):
        assert difference.max() == 0


def test_the_first_frame_of_several() -> None:
    first, second = smooth(8, 8, 1).quantize(), smooth(8, 8, 2).quantize()
    raw = encoded(first, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(pixels(picture.read(raw).image), pixels(first.convert("RGB")))


def test_every_exif_orientation_is_turned_upright() -> None:
    upright = smooth(9, 14)
    # how a camera held in each way stores the same scene
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }
    for orientation, image in stored.items():
        exif = Image.Exif()
        exif[picture.ORIENTATION] = orientation
        for format in ("PNG", "TIFF"):
            raw = encoded(image, format, exif=exif)
            found = picture.read(raw)
            assert np.array_equal(pixels(found.image), pixels(upright)), (orientation, format)
            assert picture.measure(raw) == (9, 14)


def test_a_header_is_measured_without_the_rest() -> None:
    raw = encoded(smooth(60, 50))
    assert picture.measure(raw[:200]) == (60, 50)
    for bad in (b"", b"text", raw[:20]):
        with pytest.raises(Broken):
            picture.measure(bad)


def test_an_orientation_that_means_nothing_leaves_the_picture() -> None:
    exif = Image.Exif()
    exif[picture.ORIENTATION] = 77
    assert picture.read(encoded(smooth(4, 6), exif=exif)).size == (4, 6)


def test_all_65536_greys_are_scaled_with_rounding() -> None:  # trap 8
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = picture.read(encoded(Image.fromarray(values)))
    assert found.bits == 16
    assert found.image.mode == "L"
    assert np.array_equal(pixels(found.image), np.round(values / 257).astype(np.uint8))
    # 8 bits written as 16 come back as they were, all 256 of them
    every = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for format in ("PNG", "TIFF", "PPM"):
        grey = picture.read(encoded(Image.fromarray(every), format)).image
        assert np.array_equal(pixels(grey).ravel(), np.arange(256)), format


def test_all_256_values_survive_from_file_to_array() -> None:  # trap 8
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for image in (Image.fromarray(every), Image.merge("RGB", [Image.fromarray(every)] * 3)):
        shape = (len(image.getbands()), 16, 16)
        values = picture.render(picture.read(encoded(image)).image, shape, "crop")
        assert np.array_equal(values[0], every)
        assert np.array_equal(pixels(picture.from_pixels(values)), pixels(image))


def test_real_greys_need_a_known_range() -> None:
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    found = picture.read(encoded(Image.fromarray(ramp), "TIFF"))
    assert np.array_equal(pixels(found.image), np.round(ramp * 255).astype(np.uint8))
    for bad in (ramp * 2, ramp - 0.5, np.full((4, 4), np.nan, np.float32)):
        with pytest.raises(Broken, match="floating-point"):
            picture.read(encoded(Image.fromarray(bad), "TIFF"))
    with pytest.raises(Broken, match="65535"):
        picture.read(encoded(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("1", "L"), ("L", "L"), ("LA", "RGBA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("CMYK", "RGB")],
)
def test_modes_become_grey_colour_or_alpha(mode: str, expected: str) -> None:
    format = "TIFF" if mode == "CMYK" else "PNG"
    found = picture.read(encoded(smooth(6, 6).convert(mode), format))
    assert found.image.mode == expected
    assert found.mode == mode
    assert found.bits == (1 if mode == "1" else 8)


def test_cmyk_jpegs_are_not_inverted() -> None:
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    found = picture.read(encoded(red.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels(found.image).reshape(-1, 3).mean(0) - (200, 30, 40)).max() < 12


def test_a_palette_with_a_transparent_entry_gets_alpha() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0] + [0] * 750)
    image.putpixel((0, 0), 0)
    found = picture.read(encoded(image, transparency=0))
    assert found.image.mode == "RGBA"
    assert found.image.getpixel((0, 0)) == (0, 0, 0, 0)
    assert found.image.getpixel((1, 1)) == (0, 255, 0, 255)


def test_channels_in_use_look_at_the_pixels() -> None:
    grey = Image.fromarray(noise(6, 6))
    assert picture.channels_in_use(grey) == 1
    assert picture.channels_in_use(grey.convert("RGB")) == 1
    assert picture.channels_in_use(grey.convert("RGBA")) == 1
    assert picture.channels_in_use(smooth(6, 6)) == 3
    hole = grey.convert("RGBA")
    hole.putpixel((2, 2), (9, 9, 9, 254))
    assert picture.channels_in_use(hole) == 4


def test_alpha_that_must_go_is_laid_on_white() -> None:
    image = Image.new("RGBA", (2, 1))
    image.putdata([(255, 0, 0, 255), (0, 0, 255, 0)])
    colour = picture.render(image, (3, 1, 2), "crop")
    assert colour[:, 0, 0].tolist() == [255, 0, 0]
    assert colour[:, 0, 1].tolist() == [255, 255, 255]
    assert picture.render(image, (1, 1, 2), "crop")[0, 0, 1] == 255
    assert picture.render(image, (4, 1, 2), "crop")[3, 0].tolist() == [255, 0]


def test_invisible_colours_do_not_bleed_when_resized() -> None:
    pixels_ = np.zeros((16, 16, 4), np.uint8)
    pixels_[:, :, 0] = 255  # red everywhere, but visible only on the left
    pixels_[:, 8:, :3] = (0, 255, 0)
    pixels_[:, :8, 3] = 255
    small = picture.render(Image.fromarray(pixels_), (4, 4, 4), "stretch")
    visible = small[3] > 0
    assert (small[1][visible] == 0).all()  # no green
    assert (small[0][visible] >= 254).all()


def test_reducing_is_antialiased() -> None:  # trap 1
    board = ((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8)
    small = picture.render(Image.fromarray(board), (1, 8, 8), "stretch")
    # without a wide filter a fine chequerboard turns black, white or coarse; with one it is even grey
    assert np.abs(small.astype(int) - 127.5).max() <= 8
    # golden values: the same ramp-and-dot picture reduced 32 -> 4
    golden = np.add.outer(np.arange(32) * 4, np.arange(32) * 3).astype(np.uint8)
    golden[5, 5] = 255
    small = picture.render(Image.fromarray(golden), (1, 4, 4), "stretch")[0]
    means = golden.reshape(4, 8, 4, 8).mean(axis=(1, 3))
    assert np.abs(small - means).max() < 4


@pytest.mark.parametrize(("height", "width"), [(20, 30), (30, 20), (24, 24), (7, 50)])
def test_fits_keep_what_they_promise(height: int, width: int) -> None:
    image = smooth(height, width)
    for size in ((8, 12), (16, 16), (40, 24)):
        for fit in ("crop", "pad", "stretch"):
            assert picture.render(image, (3, *size), fit).shape == (3, *size)


def test_crop_takes_the_centre_and_pad_keeps_everything() -> None:
    image = Image.new("RGB", (30, 10), (0, 0, 255))
    image.paste((255, 0, 0), (10, 0, 20, 10))  # red third in the middle
    cropped = picture.render(image, (3, 10, 10), "crop")
    assert (cropped[0] == 255).all()
    assert (cropped[2] == 0).all()
    padded = picture.render(image, (3, 30, 30), "pad")
    assert np.array_equal(padded[:, 10:20], pixels(image).transpose(2, 0, 1))
    assert np.array_equal(padded[:, 0], padded[:, 10])  # the edge's colours go on
    stretched = picture.render(image, (3, 10, 15), "stretch")
    assert (stretched[2, :, 0] > 250).all()
    assert (stretched[0, :, 7] > 250).all()


def test_no_change_of_size_changes_no_pixel() -> None:
    values = noise(11, 7, 3)
    for fit in ("crop", "pad", "stretch"):
        same = picture.render(Image.fromarray(values), (3, 11, 7), fit)
        assert np.array_equal(same, values.transpose(2, 0, 1))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_many_at_once_are_the_same_as_one_by_one(fit: Fit, channels: int) -> None:
    values = noise(7, channels, 12, 9)
    for target in (1, 3, 4):
        for size in ((12, 9), (9, 12), (24, 18), (5, 5), (12, 20), (33, 9)):
            shape = (target, *size)
            single = np.stack([picture.render(picture.from_pixels(one), shape, fit) for one in values])
            assert np.array_equal(picture.render_all(values, shape, fit), single), shape


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "not a readable image"),
        (encoded(smooth(40, 40))[:300], "."),
        (encoded(smooth(40, 40), "JPEG")[:200], "."),
    ],
)
def test_what_cannot_be_read_gives_a_plain_and_steady_reason(raw: bytes, reason: str) -> None:
    reasons = set()
    for _ in range(2):
        with pytest.raises(Broken, match=reason) as error:
            picture.read(raw)
        reasons.add(str(error.value))
    assert len(reasons) == 1
    assert "0x" not in reasons.pop()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encoded(Image.new("L", (40, 40)))
    for limit in (1599, 400):  # PIL warns above its limit and refuses above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(Broken, match=r"limit|bomb"):
            picture.read(raw)


def test_a_thing_on_nothing_has_no_dark_rim_however_it_is_shown() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    alpha = np.clip(24.5 - np.hypot(x, y), 0, 1) * 255
    disc = np.stack([np.full((64, 64), c) for c in (230, 205, 193)] + [alpha]).round().astype(np.uint8)
    disc[:3, disc[3] == 0] = 0  # as most programs write it
    for shape in ((4, 64, 64), (4, 16, 16), (4, 33, 21)):
        one = picture.render(picture.from_pixels(disc), shape, "stretch")
        many = picture.render_all(np.stack([disc, disc[:, ::-1]]), shape, "stretch")
        assert np.array_equal(one, many[0])
        off = np.abs(one[:3].astype(int) - np.array([230, 205, 193])[:, None, None])
        assert off.max() <= 255 / picture.FAINT, "where nothing is seen, too; weighted by alpha, 8 bits say no more"
        assert off.mean() < 6
        assert one[3].min() == 0
    nothing = np.zeros((2, 4, 5, 3), np.uint8)
    assert np.array_equal(picture.without_rims(nothing), nothing)
    full = np.random.default_rng(0).integers(picture.FAINT, 256, (2, 4, 5, 3), dtype=np.uint8)
    assert picture.without_rims(full) is full, "nothing to fill"


def test_sixteen_bits_are_filled_as_eight_are() -> None:
    values = noise(3, 4, 9, 7)
    values[:, 3, ::2] = np.arange(7) * 5  # from nothing to just seen
    filled, deep = picture.without_rims(values), picture.without_rims(values.astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    assert not np.array_equal(filled, values)
    assert np.abs(deep / 257 - filled).max() <= 0.51


def test_arrays_with_alpha_are_as_files_of_them() -> None:
    pixels = np.zeros((2, 4, 6, 6), np.uint8)
    pixels[:, :, 2:4, 2:4] = 200
    found = from_arrays(pixels)
    assert np.array_equal(found.values[0], picture.render(picture.from_pixels(pixels[0]), (4, 6, 6), "crop"))
    assert found.values[0, 0].min() == 200
