"""What may be given to a translator by mistake or malice: one clear error, and what was done before it is kept."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from films import make, pictures, seen
from PIL import Image
from published_networks import resnet, trained

from zerosum import cli
from zerosum.data import Data, check_sides, open_sides
from zerosum.translation.decode import frames

SIDE = 20_000  # pixels, of the bomb


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translator that needed no training."""
    folder = tmp_path_factory.mktemp("model")
    torch.save(trained(resnet(3, 3, 2, 1, "instance", False)).state_dict(), folder / "latest_net_G.pth")
    assert run("import", folder / "latest_net_G.pth", "--out", folder / "model") == 0
    return folder / "model"


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def only_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The error that was said: it alone, in one line."""
    told = capsys.readouterr()
    assert told.out == ""
    lines = [line for line in told.err.split("\n") if "error:" in line]
    assert len(lines) == 1, told.err
    assert "Traceback" not in told.err
    return lines[0]


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def bomb(path: Path) -> Path:
    """A whole PNG of SIDE x SIDE black pixels, some 50 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(1), bytes(1 + SIDE // 8)
    pixels = b"".join([*(packer.compress(row) for _ in range(SIDE)), packer.flush()])
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def test_a_bomb_is_refused_by_what_it_claims(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = bomb(tmp_path / "bomb.png")
    assert run("translate", model, source, tmp_path / "out.png") == 2
    said = only_error(capsys)
    assert f"{source}: " in said
    assert "bomb" in said or "more than the limit" in said
    assert not (tmp_path / "out.png").exists()


def test_among_others_it_is_left_out_and_the_others_are_done(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    photo(source / "a.png", 1)
    bomb(source / "b.png")
    (source / "c.png").write_text("no picture")
    photo(source / "d.png", 2)
    assert run("translate", model, source, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert said.count("left out ") == 2
    assert "left out b.png: " in said
    assert "left out c.png: not a readable image" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "d.png"]


def test_a_folder_of_nothing_else_is_one_error(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bomb(tmp_path / "in/b.png")
    (tmp_path / "in/c.png").write_text("no picture")
    assert run("translate", model, tmp_path / "in", tmp_path / "out") == 2
    assert "none of 2 images could be used, such as b.png: " in only_error(capsys)
    assert not (tmp_path / "out").exists()


def test_a_pair_with_a_bomb_is_left_out_of_training(tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / f"data/A/{i}.png", i)
        photo(tmp_path / f"data/B/{i}.png", 10 + i)
    photo(tmp_path / "data/A/4.png")
    bomb(tmp_path / "data/B/4.png")
    data = Data(source=str(tmp_path / "data"), pairing="folders", size=(16, 16))
    found, report = open_sides(data), check_sides(data)
    assert len(found) == report.count == 3
    for (name, reason), *others in (found.skipped, report.unreadable):
        assert (name, others) == ("A/4.png", [])
        assert reason.startswith("its partner B/4.png cannot be used: ")


def test_a_film_cut_short_is_one_error_and_what_is_done_plays(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make(tmp_path / "whole.mp4", pictures(60), options={"g": "5"}, movflags="faststart")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    target = tmp_path / "out.mp4"
    assert run("translate", model, cut, target, "--precision", "fp32") == 2
    said = only_error(capsys)
    done = seen(tmp_path / "out.part.mp4")
    assert 5 <= len(done) < 60
    for part in (str(cut), "cut short", f"{len(done)} frames", "out.part.mp4"):
        assert part in said, part
    assert not target.exists()
    assert sum(1 for _ in frames(tmp_path / "out.part.mp4")) == len(done)


def test_a_film_that_is_text_is_one_error(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.mp4").write_text("this is no film\n" * 100)
    assert run("translate", model, tmp_path / "in.mp4", tmp_path / "out.mp4") == 2
    assert "in.mp4" in only_error(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--tile", 0), "--tile 0"),
        (("--tile", 64, "--overlap", 64), "--overlap 64"),
        (("--overlap", -1), "--overlap -1"),
    ],
)
def test_tiles_that_cannot_be(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], told: str
) -> None:
    """Whether or not the image is large enough to need them."""
    assert run("translate", model, photo(tmp_path / "in.png"), tmp_path / "out.png", *words) == 2
    assert f"{told}: must be" in only_error(capsys)


def test_a_folder_is_not_translated_into_one_image(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "in" / "a.png")
    assert run("translate", model, tmp_path / "in", tmp_path / "out.png") == 2
    assert "out.png: names one image; give a folder" in only_error(capsys)
    assert not (tmp_path / "out.png").exists()


def test_lost_transparency_is_said(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("LA", (16, 16), (90, 128)).save(tmp_path / "in.png")
    assert run("translate", model, tmp_path / "in.png", tmp_path / "out.png") == 0
    assert "note: what is transparent is laid on white" in capsys.readouterr().err
    photo(tmp_path / "in.png")
    assert run("translate", model, tmp_path / "in.png", tmp_path / "out.png") == 0
    assert "transparent" not in capsys.readouterr().err


def test_a_model_is_not_imported_over_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the checkpoint is read: there is none."""
    (tmp_path / "out").write_text("mine")
    assert run("import", tmp_path / "missing.pth", "--out", tmp_path / "out") == 2
    said = only_error(capsys)
    assert "--out " in said
    assert "is a file" in said
    assert (tmp_path / "out").read_text() == "mine"
