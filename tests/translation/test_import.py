"""From a published checkpoint to a translated picture, by the commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_networks import resnet, trained, unet
from torch import nn

from zerosum import cli

WIDTH = 4
BUILT: dict[str, tuple[Callable[..., nn.Module], int, str, tuple[int, int]]] = {
    "cyclegan": (resnet, 6, "instance", (40, 56)),
    "pix2pix": (unet, 6, "batch", (64, 128)),
}


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture
def photo(tmp_path: Path) -> Callable[[int, int], tuple[Path, torch.Tensor]]:
    """Writes a smooth picture; gives its path and what a network is given of it."""

    def written(height: int, width: int) -> tuple[Path, torch.Tensor]:
        noise = np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        image.save(tmp_path / "photo.png")
        return tmp_path / "photo.png", torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1

    return written


def saved(network: nn.Module, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def expected(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    """What a network makes of an image, to the nearest of 256 levels, (H, W, C)."""
    with torch.no_grad():
        return ((network(x)[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()


def alike(found: Path, wanted: np.ndarray) -> bool:
    """Whether a picture is what was wanted: at most one level off, and that where a value lies between two."""
    off = np.abs(np.asarray(Image.open(found)).astype(np.float64) - wanted)
    return off.max() <= 1 and (off > 0).mean() < 0.02


@pytest.mark.parametrize("kind", BUILT)
def test_the_picture_is_that_of_the_published_test_script(
    kind: str, photo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In training mode, one image at a time; there is no dropout in these."""
    build, size, norm, shape = BUILT[kind]
    theirs = trained(build(3, 3, WIDTH, size, norm, False))
    source, x = photo(*shape)
    file = saved(theirs, tmp_path / "latest_net_G.pth")
    assert run("import", file, "--out", tmp_path / "model") == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(tmp_path / "model")
    assert f"A2B: {'ResBlocks' if kind == 'cyclegan' else 'UNet'}, 3 to 3 channels, " in told.err
    assert ("each image's own statistics" in told.err) is (norm == "batch")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["A2B.safetensors", "model.json"]
    words = ("translate", tmp_path / "model", source)
    assert run(*words, tmp_path / "out.png", "--precision", "fp32") == 0
    assert alike(tmp_path / "out.png", expected(theirs.train(), x))
    with Image.open(tmp_path / "out.png") as image:
        assert image.text == {  # type: ignore[attr-defined]
            "zerosum": "generated", "model": "model", "imported_from": "latest_net_G.pth"
        }  # fmt: skip


def test_the_stored_statistics_are_one_option_away(photo: Any, tmp_path: Path) -> None:
    theirs = trained(unet(3, 3, WIDTH, 6, "batch", True))
    source, x = photo(64, 64)
    file = saved(theirs, tmp_path / "latest_net_G.pth")
    assert run("import", file, "--statistics", "stored", "--out", tmp_path / "stored") == 0
    assert run("translate", tmp_path / "stored", source, tmp_path / "out.png", "--precision", "fp32") == 0
    assert alike(tmp_path / "out.png", expected(theirs.eval(), x))
    assert run("import", file, "--out", tmp_path / "image") == 0
    assert run("translate", tmp_path / "image", source, tmp_path / "other.png", "--precision", "fp32") == 0
    assert not alike(tmp_path / "other.png", expected(theirs.eval(), x))


def test_both_ways(photo: Any, tmp_path: Path) -> None:
    there, back = trained(resnet(3, 3, 2, 1, "instance", False)), trained(resnet(3, 3, 3, 1, "instance", False))
    files = (saved(there, tmp_path / "latest_net_G_A.pth"), saved(back, tmp_path / "latest_net_G_B.pth"))
    source, x = photo(16, 20)
    assert run("import", files[0], "--back", files[1], "--out", tmp_path / "model") == 0
    for way, network in (("A2B", there), ("B2A", back)):
        out = tmp_path / f"{way}.png"
        assert run("translate", tmp_path / "model", source, out, "--direction", way, "--precision", "fp32") == 0
        assert alike(out, expected(network, x))


class Evil:
    """Makes a folder, if it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_hostile_file_is_one_error_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker, file = tmp_path / "ran", tmp_path / "latest_net_G.pth"
    torch.save({**trained(resnet(3, 3, 2, 1, "instance", False)).state_dict(), "evil": Evil(marker)}, file)
    assert run("import", file, "--out", tmp_path / "model") == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.strip().splitlines()
    assert f"{file}: needs code to be read" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest_net_G.pth"]


def test_a_way_back_that_cannot_be_read_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(trained(resnet(3, 3, 2, 1, "instance", False)), tmp_path / "latest_net_G_A.pth")
    (tmp_path / "latest_net_G_B.pth").write_text("<html>404</html>")
    assert run("import", file, "--back", tmp_path / "latest_net_G_B.pth", "--out", tmp_path / "model") == 2
    assert "latest_net_G_B.pth: is a web page" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_both_ways_from_one_file(photo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = trained(resnet(3, 3, 2, 1, "instance", False)), trained(resnet(3, 3, 3, 1, "instance", False))
    both, copy = tmp_path / "both.pth", tmp_path / "copy.pth"
    torch.save({"G_AB": there.state_dict(), "G_BA": back.state_dict()}, both)
    copy.write_bytes(both.read_bytes())
    words = ("import", both, "--out", tmp_path / "model", "--part", "G_AB")
    for more, said in (
        (("--back", both), "name one of them with --back-part"),
        (("--back", both, "--back-part", "G_AB"), "holds the weights of the way there once more"),
        (("--back", copy), "holds the weights of the way there once more"),
        (("--back-part", "G_BA"), "give that with --back"),
    ):
        assert run(*words, *more) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "model").exists()
    assert run(*words, "--back", both, "--back-part", "G_BA") == 0
    source, x = photo(16, 20)
    for way, network in (("A2B", there), ("B2A", back)):
        out = tmp_path / f"{way}.png"
        assert run("translate", tmp_path / "model", source, out, "--direction", way, "--precision", "fp32") == 0
        assert alike(out, expected(network, x))


@pytest.mark.parametrize(
    ("name", "what"), [("recipe.json", "a run"), ("model.json", "an imported model"), ("notes.txt", "other files")]
)
def test_a_folder_that_holds_anything_is_left_as_it_is(
    name: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(trained(resnet(3, 3, 2, 1, "instance", False)), tmp_path / "latest_net_G.pth")
    out = tmp_path / "taken"
    out.mkdir()
    (out / name).write_text("{}")
    assert run("import", file, "--out", out) == 2
    assert f"--out {out}: holds {what} already; choose a new folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [name]


@pytest.mark.parametrize("damaged", ["cut short", "of something else"])
def test_a_damaged_model_is_one_error(
    damaged: str, photo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(trained(resnet(3, 3, 2, 1, "instance", False)), tmp_path / "latest_net_G.pth")
    assert run("import", file, "--out", tmp_path / "model") == 0
    weights = tmp_path / "model/A2B.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] if damaged == "cut short" else b"this is text" * 9)
    capsys.readouterr()
    assert run("translate", tmp_path / "model", photo(16, 20)[0], tmp_path / "out.png") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "its model cannot be read (" in line
    assert line.endswith("import it anew")


def test_an_imported_model_is_not_evaluated_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    for more in ((), ("--against", tmp_path), ("--lpips",)):
        assert run("evaluate", model, *more) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"{model}: an imported model has no data of its own" in line
        assert "then evaluate that folder --against images of the other side" in line
