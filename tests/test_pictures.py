"""Pictures: exact pixels in grids, films that decode, GIFs that loop, drawings as wide as asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont, ImageSequence

from zerosum import film, pictures
from zerosum.errors import UserError
from zerosum.film import save_film
from zerosum.view import characters


def noise(n: int, c: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, c, h, w), dtype=np.uint8)


@given(
    st.integers(1, 11), st.sampled_from([1, 3, 4]), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3),
    st.integers(1, 4), st.one_of(st.none(), st.integers(1, 12)),
)  # fmt: skip
def test_a_grid_holds_every_pixel_of_every_image(
    n: int, c: int, h: int, w: int, padding: int, scale: int, columns: int | None
) -> None:
    images = noise(n, c, h, w)
    picture = pictures.grid(images, columns=columns, padding=padding, scale=scale)
    assert picture.mode == {1: "L", 3: "RGB", 4: "RGBA"}[c]
    canvas = np.asarray(picture).reshape(picture.height, picture.width, c)
    across = (picture.width - padding) // (w * scale + padding)
    down = (picture.height - padding) // (h * scale + padding)
    assert columns is None or across == columns
    assert (down - 1) * across < n <= down * across
    covered = np.zeros(canvas.shape[:2], bool)
    for i, image in enumerate(images):
        y, x = (
            (padding + (i // across) * (h * scale + padding)),
            (padding + (i % across) * (w * scale + padding)),
        )
        cell = canvas[y : y + h * scale, x : x + w * scale]
        for dy in range(scale):
            for dx in range(scale):
                assert np.array_equal(cell[dy::scale, dx::scale], image.transpose(1, 2, 0))
        covered[y : y + h * scale, x : x + w * scale] = True
    rest = canvas[~covered]
    assert (rest == (0 if c == 4 else pictures.GRID_GREY)).all()  # alpha: transparent


@pytest.mark.parametrize(("n", "h", "w"), [(64, 8, 8), (64, 28, 28), (16, 32, 32), (100, 16, 16), (9, 20, 31)])
def test_small_images_are_enlarged_until_people_can_see_them(n: int, h: int, w: int) -> None:
    picture = pictures.grid(noise(n, 1, h, w))
    assert 480 <= picture.width <= 900
    assert 0.5 < picture.width / picture.height < 2


def test_large_images_are_not_enlarged_and_a_tall_grid_stays_within_bounds() -> None:
    assert pictures.grid(noise(4, 3, 300, 300)).size == (606, 606)
    assert pictures.grid(noise(30, 1, 8, 8), columns=1).height <= 900


def test_a_strip_is_one_row() -> None:
    strip = pictures.strip(noise(7, 3, 8, 8), padding=1, scale=2)
    assert strip.size == (7 * 17 + 1, 18)


@pytest.mark.parametrize(
    ("images", "options", "names"),
    [
        (noise(0, 1, 8, 8), {}, "images"),
        (noise(2, 2, 8, 8), {}, "images"),
        (noise(2, 1, 8, 8).astype(np.float32), {}, "images"),
        (noise(2, 1, 8, 8), {"columns": 0}, "columns=0"),
        (noise(2, 1, 8, 8), {"scale": 0}, "scale=0"),
        (noise(2, 1, 8, 8), {"padding": -1}, "padding=-1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(images: np.ndarray, options: dict[str, int], names: str) -> None:
    with pytest.raises(UserError, match=names):
        pictures.grid(images, **options)


def test_scatter_puts_points_where_they_are() -> None:
    picture = pictures.scatter(
        np.array([[1.0, 1.0], [np.nan, 0], [9, 9]]), real=np.array([[-1.0, -1.0]]), lim=2.0, size=200
    )
    pixels = np.asarray(picture).astype(int)
    assert picture.size == (200, 200)
    assert pixels[50, 150, 0] > pixels[50, 150, 2] + 60  # reddish: one dot covers three fifths
    assert (pixels[150, 50] < 235).all()
    assert np.ptp(pixels[150, 50]) <= 2  # grey
    assert (pixels[100, 60] == 226).all()  # the axis


def test_a_scatter_of_real_points_calls_nothing_generated() -> None:
    real = np.random.default_rng(0).normal(size=(50, 2))
    colour = np.ptp(np.asarray(pictures.scatter(None, real)).astype(int), axis=2)
    assert colour.max() <= 2
    assert np.ptp(np.asarray(pictures.scatter(real[:0], real)).astype(int), axis=2).max() > 60  # the word


def test_scatter_keeps_its_limits_for_the_same_real_points() -> None:
    real = np.random.default_rng(0).normal(size=(50, 2))
    empty = np.asarray(pictures.scatter(np.zeros((0, 2)), real))
    spread = np.asarray(pictures.scatter(np.full((1, 2), 50.0), real))
    assert np.array_equal(empty, spread)
    with pytest.raises(UserError, match="real"):
        pictures.scatter(real, real=np.zeros((3, 3)))
    assert pictures.scatter(np.zeros((1, 2))).mode == "RGB"


def test_caption_adds_a_bar_and_leaves_the_picture() -> None:
    for mode in ("L", "RGB", "RGBA"):
        image = Image.new(mode, (480, 30), "black")
        out = pictures.caption(image, "12,800 images")
        assert out.mode == mode
        assert out.width == 480
        assert out.height > 30
        assert np.array_equal(np.asarray(out)[:30], np.asarray(image))
        assert np.asarray(out)[30:].min() < 128  # something is written
    narrow = pictures.caption(Image.new("L", (60, 10)), "a caption much too long for so narrow a picture")
    assert narrow.width == 60
    assert (np.asarray(narrow)[10:, -3:] == 255).all()


def test_names_stand_beside_a_grid_that_stays_as_it_is() -> None:
    for channels in (1, 3, 4):
        images = noise(6, channels, 20, 30)
        plain = pictures.grid(images, columns=3, scale=4)
        out = pictures.named(plain, ["first", "second"], ["a", "b", "a name much too long for its column"])
        left, top = out.width - plain.width, out.height - plain.height
        assert min(left, top) > 10
        assert np.array_equal(np.asarray(out)[top:, left:], np.asarray(plain))
        shade = np.asarray(out.convert("L"))
        assert (shade[: top + 2, :left] == 255).all()  # nothing in the corner
        for row in range(2):  # a name in the middle of each row
            y = top + 2 + row * 82
            assert shade[y + 30 : y + 52, :left].min() < 128
            assert (shade[y : y + 25, :left] == 255).all()
        for column in range(3):  # and above each column, no wider than it
            x = left + 2 + column * 122
            assert shade[:top, x : x + 120].min() < 128
            assert (shade[:top, x - 2 : x] == 255).all()
    assert pictures.named(plain) is plain
    few = pictures.fewer(out, 31, 20)  # a terminal draws the images, not the names
    assert np.array_equal(np.asarray(few), images[0].transpose(1, 2, 0))


def test_a_name_is_cut_to_its_column_and_may_have_lines() -> None:
    font = ImageFont.load_default(12)
    assert pictures._cut("short", font, 200) == "short"
    assert pictures._cut("two\nlines", font, 200) == "two lines"
    words = pictures._cut("a name that is too long", font, 60)
    assert words.endswith("...")
    assert font.getlength(words) <= 60
    assert pictures._cut("narrow", font, 15) in ("n", "na")
    assert pictures._cut("none", font, 1) == ""


def test_png_carries_text(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.png"
    pictures.save_png(pictures.grid(noise(2, 4, 5, 5)), path, {"zerosum": "generated", "run": "日本"})
    with Image.open(path) as image:
        image.load()
        assert image.text == {"zerosum": "generated", "run": "日本"}  # type: ignore[attr-defined]
        assert image.mode == "RGBA"
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]


def frames(n: int, size: tuple[int, int] = (33, 21)) -> Iterator[Image.Image]:
    for i in range(n):
        yield Image.new("RGB", size, (255 * i // max(1, n - 1), 40, 90))


def test_a_film_decodes_with_every_frame_at_an_even_size(tmp_path: Path) -> None:
    mp4, gif = tmp_path / "a" / "film.mp4", tmp_path / "film.gif"
    save_film(frames(10), mp4, gif, frames_per_second=10, hold_last_seconds=0.5)
    with av.open(str(mp4)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 10
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(shown) == 15
    assert shown[0].shape == (22, 34, 3)
    assert shown[0][5, 5] == pytest.approx((0, 40, 90), abs=12)
    assert shown[-1][5, 5] == pytest.approx((255, 40, 90), abs=12)
    assert (shown[0][-1] > 200).all()  # the added row is white
    with Image.open(gif) as animation:
        assert animation.info["loop"] == 0
        colours, times = [], []
        for frame in ImageSequence.Iterator(animation):
            times.append(frame.info["duration"])
            colours.append(frame.convert("RGB").getpixel((5, 5)))
        assert animation.size == (33, 21)
    assert len(colours) == 10
    assert times == [100] * 9 + [600]
    assert colours[0] == pytest.approx((0, 40, 90), abs=3)
    assert colours[-1] == pytest.approx((255, 40, 90), abs=3)
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["film.gif", "film.mp4"]


def test_films_are_the_same_again(tmp_path: Path) -> None:
    """The GIF in bytes; the MP4 in what it shows: its encoder promises no equal bytes; pixels strayed by 10."""
    shown = []
    for name in "ab":
        save_film(frames(6), tmp_path / f"{name}.mp4", tmp_path / f"{name}.gif")
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            shown.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    first, second = (film[:, :21, :33].astype(int) for film in shown)
    assert np.abs(first - second).mean(axis=(1, 2, 3)).max() <= 4
    assert np.abs(first[1:6] - first[:5]).mean(axis=(1, 2, 3)).min() > 8  # another frame would not pass for the same


def test_captions_are_black_on_white_whatever_the_colours_are() -> None:
    """A frame of so many colours that the quantiser spends all of its own on them."""
    pixels = np.random.default_rng(0).integers(90, 200, (200, 200, 3), dtype=np.uint8)
    pixels[0] = 255
    pixels[0, 7] = 0
    shown = np.asarray(film.paletted(Image.fromarray(pixels)).convert("RGB"))
    assert np.array_equal(shown[0], pixels[0])
    assert np.abs(shown[1:].astype(int) - pixels[1:]).mean() < 12


def test_alpha_lies_on_white_and_other_sizes_are_fitted(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    save_film([clear, Image.new("L", (10, 10), 0)], None, tmp_path / "x.gif", hold_last_seconds=0)
    with Image.open(tmp_path / "x.gif") as animation:
        assert animation.convert("RGB").getpixel((3, 3)) == (255, 255, 255)
        animation.seek(1)
        assert animation.size == (20, 20)
        assert animation.convert("RGB").getpixel((10, 10)) == (0, 0, 0)


def test_a_long_film_is_thinned_and_a_gif_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "GIF_BYTES", 60_000)
    monkeypatch.setattr(film, "GIF_FRAMES", 30)
    count = film.GIF_FRAMES * 2 + 7

    def many() -> Iterator[Image.Image]:
        for i in range(count):
            yield pictures.grid(noise(4, 3, 32, 32, seed=i % 5) // 2 + i // 2 % 100, scale=1)

    save_film(many(), None, tmp_path / "x.gif", frames_per_second=20, hold_last_seconds=1)
    assert (tmp_path / "x.gif").stat().st_size <= 60_000
    with Image.open(tmp_path / "x.gif") as animation:
        assert 7 < animation.n_frames <= film.GIF_FRAMES  # type: ignore[attr-defined]
        seconds = sum(f.info["duration"] for f in ImageSequence.Iterator(animation)) / 1000
    assert seconds == pytest.approx(count / 20 + 1, rel=0.15)  # thinned, not hurried


def test_thinning_never_loses_the_last_frame() -> None:
    for count in range(1, 12):
        gif = film._Gif(10, 0)
        for i in range(count):
            gif.add(Image.new("L", (4, 4), i))
        for _ in range(3):
            gif._thin()
            shown = [f.getpixel((0, 0)) for f in gif.frames + gif.newest]
            assert shown[0] == 0
            assert shown[-1] == count - 1
            assert shown == sorted(set(shown))


def test_a_film_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Image.Image]:
        yield from frames(2)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        save_film(broken(), tmp_path / "x.mp4", tmp_path / "x.gif")
    with pytest.raises(UserError, match="frames"):
        save_film([], tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("colour", ["truecolor", "256", "none"])
@pytest.mark.parametrize("size", [(100, 40), (40, 100), (8, 8), (1, 1), (3, 200), (79, 24)])
def test_terminal_drawing_fits(colour: characters.Colour, size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(1, 3, size[1], size[0])[0].transpose(1, 2, 0))
    lines = characters.draw(image, 79, 20, colour)
    assert 1 <= len(lines) <= 20
    widths = {line.cell_len for line in lines}
    assert len(widths) == 1
    assert max(widths) <= 79
    assert max(max(widths) / 79, len(lines) / 20) > 0.4  # and fills the room


def test_terminal_halves_carry_the_pixels() -> None:
    image = Image.fromarray(np.array([[[255, 0, 0]], [[0, 0, 255]], [[0, 255, 0]]], np.uint8))
    first, second = characters.draw(image, 1, 2, "truecolor")
    assert first.plain == second.plain == "▀"
    style = first.spans[0].style
    assert style.color.triplet == (255, 0, 0)  # type: ignore[union-attr]
    assert style.bgcolor.triplet == (0, 0, 255)  # type: ignore[union-attr]
    assert second.spans[0].style.bgcolor is None  # type: ignore[union-attr]
    cubed = characters.draw(image, 1, 2, "256")[0].spans[0].style
    assert (cubed.color.number, cubed.bgcolor.number) == (196, 21)  # type: ignore[union-attr]
    greys = characters.draw(Image.new("L", (2, 2), 128), 2, 1, "256")[0].spans[0].style
    assert greys.color.number == 244  # type: ignore[union-attr]


def test_terminal_ramp_goes_from_dark_to_light() -> None:
    ramp = np.repeat(np.linspace(0, 255, 10).astype(np.uint8)[None], 2, 0)
    assert [str(t) for t in characters.draw(Image.fromarray(ramp), 10, 1, "none")] == [characters.RAMP]


@given(st.integers(1, 70), st.integers(4, 30), st.integers(4, 30), st.integers(8, 120), st.integers(8, 120))
def test_fewer_images_fit_and_are_whole(n: int, h: int, w: int, width: int, height: int) -> None:
    small = pictures.fewer(pictures.grid(noise(n, 1, h, w), scale=2), width, height)
    assert small.width <= width
    assert small.height <= height or h > w * 3  # a single very tall image is cut by `terminal`, not here


def test_fewer_shows_small_images_pixel_by_pixel() -> None:
    images = noise(64, 1, 8, 8)
    small = np.asarray(pictures.fewer(pictures.grid(images), 79, 26))
    assert small.shape == (26, 71)
    assert np.array_equal(small[9:17, 9:17], images[9, 0])
    resized = pictures.grid(images).resize((100, 100))
    assert pictures.fewer(resized, 50, 20) is resized  # no longer the grid that it was


def test_no_torch_for_pictures() -> None:
    absent = "{'torch', 'av', 'IPython'}.isdisjoint(sys.modules)"
    code = f"import sys, zerosum.film, zerosum.view; sys.exit(not {absent})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
