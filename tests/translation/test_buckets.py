"""`--fit bucket`: images of two sizes train every translator, step by step and by the commands, and resume exactly."""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from zerosum import checkpoint, cli, sample
from zerosum.data.sides import Sides
from zerosum.data.spec import Data
from zerosum.data.split import held_out_part, train_part
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.networks import UNet
from zerosum.runlog import write_status
from zerosum.translation.evaluate import Trial, evaluate

picking = importlib.import_module("zerosum.recipes.pick")
SIZES = ((24, 16), (16, 24))


@pytest.fixture(scope="module", autouse=True)
def _untimed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picking, "estimate", lambda *_: 100.0)
        yield


def images(count: int, size: tuple[int, int], seed: int) -> ArrayDataset:
    random = np.random.default_rng([seed, *size])
    return ArrayDataset(random.integers(0, 256, (count, 3, *size), dtype=np.uint8))


def two_sizes(sizes: tuple[tuple[int, int], ...] = SIZES, *, paired: bool) -> Sides:
    """20 and 12 images a side, in two sizes."""
    first, second = ((images(n, size, 0), images(n, size, 1)) for n, size in zip((20, 12), sizes, strict=True))
    return Sides(*first, paired, others=(second,))


def photos(folder: Path, count: int = 24, lying: int = 8) -> Path:
    """Pictures that lie and, the rest, upright, of the same names on both sides."""
    random = np.random.default_rng(0)
    for side in "AB":
        (folder / side).mkdir(parents=True)
        for i in range(count):
            values = random.integers(0, 256, (*((16, 24) if i < lying else (24, 16)), 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / side / f"{i:02}.png")
    return folder


WORDS = (
    "--fit", "bucket", "--images", "16", "--batch-size", "2", "--memory-format", "contiguous", "--precision", "fp32",
    "--threads", "1", "--seed", "1", "--algorithm.networks.width", "4", "--algorithm.networks.patch.width", "4",
    "--held-out", "8",
)  # fmt: skip


def train(*words: object) -> int:
    return cli.main(["train", *map(str, words)])


@pytest.mark.parametrize("name", tiny.TRANSLATORS)
def test_every_translator_trains_on_them(name: str) -> None:
    sides = two_sizes(paired=name == "pix2pix")
    training = tiny.training(tiny.run(name, batch_size=2), sides)
    assert training.spec.sizes == SIZES
    seen = set()
    for _ in range(20):
        seen.add(tuple(training.loader.real("a", training.seen, 2).shape[2:]))
        training.step()
    assert seen == set(SIZES)
    assert training.turns.state()["skipped"] == 0


@pytest.mark.parametrize("name", ["pix2pix", "cut"])  # CycleGAN below
def test_the_command_trains_on_them(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairing = ("--pairing", "folders" if name == "pix2pix" else "unpaired")
    more = ("--algorithm.networks.blocks", "1") if name != "pix2pix" else ()
    folder = photos(tmp_path / "data")
    assert train(folder, "--algorithm", name, "--out", tmp_path / "run", *pairing, *WORDS, *more) == 0
    assert "sizes (H x W): 28 x 20 (" in capsys.readouterr().err
    given = tmp_path / "data" / "A" / "00.png"
    assert cli.main(["translate", str(tmp_path / "run"), str(given), str(tmp_path / "out.png")]) == 0


@pytest.mark.parametrize("pairing", ["folders", "unpaired"])
def test_what_is_picked_for_them_takes_every_size(
    pairing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "pauses", lambda *_: (1e-3, 0.0))
    data = Data(source=str(photos(tmp_path / "data")), pairing=pairing, fit="bucket")  # type: ignore[arg-type]
    choice = picking.pick(data, images=8, device="cpu")
    assert len(choice.dataset.spec.sizes) == 2
    networks = choice.run.algorithm.players(choice.dataset.spec)
    for name, size in itertools.product((name for name in networks if name[0] == "G"), choice.dataset.spec.sizes):
        assert networks[name](torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_a_depth_that_one_size_does_not_take_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--pairing", "folders", *WORDS, "--algorithm.networks.depth", "3", "--size", "32", "32")
    assert train(photos(tmp_path / "data"), "--algorithm", "pix2pix", "--out", tmp_path / "run", *words) == 2
    assert "--fit bucket: some images come to" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_cycle_has_a_pool_for_each_size_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    sides, run = two_sizes(paired=False), tiny.run("cyclegan", batch_size=2, seed=3)
    whole = tiny.training(run, sides)
    for _ in range(30):
        whole.step()
    pools = {name: pool for name, pool in whole.players.carried.items() if name.startswith("pool_A")}
    assert {name: tuple(pool.images.shape) for name, pool in pools.items()} == {
        f"pool_A_{h}x{w}": (6, 3, h, w) for h, w in SIZES
    }
    assert all(int(pool.filled) == 6 for pool in pools.values())
    for cut in (3, 23):  # while they fill, and when they are full
        parted = tiny.training(run, sides)
        for _ in range(cut):
            parted.step()
        tiny.keep(parted, tmp_path / str(cut))
        later = tiny.training(run, sides)
        saved = checkpoint.newest(tmp_path / str(cut), lambda _: None)
        assert saved is not None
        later.restore(saved)
        for _ in range(30 - cut):
            later.step()
        assert tiny.equal(tiny.tensors(whole), tiny.tensors(later))


def test_the_command_resumes_a_cycle_bit_for_bit(tmp_path: Path) -> None:
    """From its last checkpoint but one, as if it had been killed there."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = ("--algorithm", "cyclegan", "--pairing", "unpaired", "--algorithm.networks.blocks", "1", *WORDS)
    assert train(photos(tmp_path / "data"), "--out", whole, *words, "--checkpoint-every", "4") == 0
    shutil.copytree(whole, killed)
    *_, before, last = checkpoint.numbers(whole)
    assert (before, last) == (12, 16)
    shutil.rmtree(checkpoint.path_of(killed, last))
    write_status(killed, "running", before, 0.0)
    assert train("--resume", killed) == 0
    ends = [checkpoint.load(checkpoint.path_of(out, last)) for out in (whole, killed)]
    for kind in ("players/", "carried/", "ema/", "adam/"):
        assert tiny.equal(*(saved.under(kind) for saved in ends)), kind
    for side in "AB":
        filled = [int(ends[0].under(f"carried/pool_{side}_{size}/")["filled"]) for size in ("28x20", "20x24")]
        assert sum(filled) == 16
        assert all(filled)


def test_what_networks_were_built_for_is_in_the_record() -> None:
    spec = two_sizes(((64, 64), (56, 72)), paired=True).spec
    assert spec.sizes == ((64, 64), (56, 72))
    read = sample.spec_of(json.loads(json.dumps(sample.record_of(spec))))
    assert read == spec
    assert UNet(width=1).generator(*read.sides).multiple == 8, "as deep as both sizes allow"


def test_it_is_measured_at_the_commonest_size_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The images of the test split are mostly of the other."""
    photos(tmp_path / "data" / "train", 40, 10)
    photos(tmp_path / "data" / "test", 60, 40)
    words = ("--algorithm", "pix2pix", "--pairing", "folders", *WORDS)
    assert train(tmp_path / "data", "--out", tmp_path / "run", *words) == 0
    test = ("--split", "test", "--features", "random", "-n", "16", "--no-cache")
    assert cli.main(["evaluate", str(tmp_path / "run"), *test]) == 0
    said = capsys.readouterr()
    assert "the commonest size: 80 unseen images of other sizes are left out" in said.out + said.err


def test_images_without_the_commonest_size_are_refused() -> None:
    train = two_sizes(paired=True)
    nothing = Trial(None, train, train.at(SIZES[1]), "run", "faces, test split")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"faces, test split: .* commonest size, 24x16, and these images come to 16x24"):
        evaluate(nothing, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("held", [1, 30])
def test_the_commonest_size_is_in_either_part(held: int) -> None:
    sides, data = two_sizes(paired=True), Data(source="x", held_out=held)
    with pytest.raises(UserError, match=rf"--held-out {held}: of the commonest size, 24x16, [01] images of a side"):
        (held_out_part if held == 1 else train_part)(sides, data)
