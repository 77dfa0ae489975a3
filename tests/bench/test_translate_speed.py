"""The benchmark of image to image: the textbook plays our game, and one quick pass."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from zerosum import bench as benchmarks
from zerosum.bench import textbook_translation as textbook
from zerosum.bench import translate

WIDTH, SIZE = 4, 32
LR = replace(tiny.RATE, start=textbook.LR, end=textbook.LR)


def game(name: str, batch: int) -> tuple[Any, Any]:
    """Our training and the textbook's loop, both in float64, from the same weights."""
    algorithm: Any = tiny.settings(name).algorithm
    networks = replace(algorithm.networks, width=WIDTH, patch=replace(algorithm.networks.patch, width=WIDTH))
    networks = replace(networks, dropout=0.0) if name == "pix2pix" else replace(networks, blocks=2)
    algorithm = replace(algorithm, networks=networks)
    settings = tiny.settings(name)
    adam = {"adam_g": replace(settings.adam_g, lr=LR), "adam_d": replace(settings.adam_d, lr=LR)}
    sides = tiny.sides((3, SIZE, SIZE), (3, SIZE, SIZE), paired=name == "pix2pix")
    ours = tiny.training(tiny.run(name, algorithm=algorithm, batch_size=batch, precision="fp64", **adam), sides)
    values = [side.gather(torch.arange(len(side)).numpy())[0] for side in (sides.a, sides.b)]
    theirs: Any
    if name == "pix2pix":
        theirs = textbook.Pix2Pix(*values, batch, seed=0, width=WIDTH, dropout=0.0)
    else:
        theirs = textbook.CycleGAN(*values, batch, seed=0, width=WIDTH, blocks=2)
    for player, network in ours.players.networks.items():
        for a, b in zip(network.parameters(), getattr(theirs, player).double().parameters(), strict=True):
            b.data.copy_(a.detach())
    return ours, theirs


@pytest.mark.parametrize(("name", "batch"), [("pix2pix", 1), ("cyclegan", 1), ("cyclegan", 2)])
def test_the_textbook_plays_the_same_game(name: str, batch: int) -> None:
    """The same losses and, after three steps, the same weights; pix2pix's batch norm is our norm for one image."""
    ours, theirs = game(name, batch)
    losses: list[dict[str, float]] = []
    for first in range(0, 3 * batch, batch):
        losses.append(theirs.play(*(ours.loader.real(side, first, batch) for side in "ab")))
        ours.step()
    scores = ours.turns.read_scores()
    for turn in ("loss/D", "loss/G") if name == "pix2pix" else ("loss/D_A+D_B", "loss/G_AB+G_BA"):
        assert scores[turn] == pytest.approx(sum(loss[turn[5]] for loss in losses) / 3, rel=1e-9)
    for player, network in ours.players.networks.items():
        for a, b in zip(network.parameters(), getattr(theirs, player).parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_full_pool_swaps_half_of_the_new_fakes_for_old_ones() -> None:
    pool = textbook.Pool(50, seed=0)
    first = torch.arange(50.0)[:, None]
    assert torch.equal(pool(first), first)
    shown = pool(torch.arange(50.0, 450.0)[:, None])[:, 0]
    new = shown == torch.arange(50.0, 450.0)
    assert 160 < int(new.sum()) < 240
    assert len({float(x) for x in shown}) == len(shown), "one that was shown has left the pool"
    assert len(pool.images) == 50
    assert torch.equal(textbook.Pool(0, seed=0)(first), first)


def test_the_courses_are_the_papers_networks() -> None:
    """As the published programs have them, in both: millions of parameters."""
    for name, batch, players in (("pix2pix", 1, {"G": 41.8, "D": 2.8}), ("cyclegan", 4, {"G_AB": 7.8, "D_B": 2.8})):
        course = translate.Course(name, 128, batch, 64)
        run, spec = course.run(), course.data().spec
        with torch.device("meta"):
            ours, theirs = run.algorithm.players(spec), course.textbook(course.data(), 0)
        for player, millions in players.items():
            counts = {sum(p.numel() for p in net.parameters()) for net in (ours[player], getattr(theirs, player))}
            assert [round(count / 1e6, 1) for count in counts] == [millions]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All in this process: starting others takes longer than the work."""

    def work(order: dict[str, Any]) -> float:
        capsys.readouterr()
        translate.work(json.dumps(order))
        return float(capsys.readouterr().out)

    monkeypatch.setattr(translate, "_apart", work)
    monkeypatch.setattr(translate, "asked", translate._stepping)


@pytest.mark.usefixtures("here")
def test_translate_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["translate", "--quick", "--threads", "1", "--out", str(tmp_path)]
    assert benchmarks.main(words) == 0
    written = json.loads((tmp_path / "translate.json").read_text())
    titles = [f"{name}, 64x64, batch 1" for name in ("pix2pix", "cyclegan")]
    assert [*written["times the textbook, memory kept"]] == titles
    *rates, peaks, resnet, unet = (table["arms"] for table in written["tables"])
    for title, arms in zip(titles, rates, strict=True):
        assert next(iter(arms)) == "textbook"
        assert all(arm["runs"][0]["rate"] > 0 for arm in arms.values())
        assert next(iter(arms.values()))["runs"][0]["ratio"] == 1
        quickest, averaged = list(arms)[-2:]
        assert averaged == f"{quickest}, averaged"
        kept, ours = (arms[name]["runs"][0]["rate"] for name in (translate.KEPT, quickest))
        assert written["times the textbook, memory kept"][title] == ours / kept
    assert [*peaks] == titles
    assert all(row["runs"][0]["textbook"] > 50 for row in peaks.values())
    for arms in (resnet, unet):
        assert [*arms] == ["textbook", "ours, fp32", "ours"]
        assert all(arm["runs"][0]["peak_mb"] > 50 for arm in arms.values())
    before = (tmp_path / "translate.md").read_bytes()
    monkeypatch.undo()
    assert benchmarks.main(words) == 0  # nothing is measured again
    assert (tmp_path / "translate.md").read_bytes() == before


@pytest.mark.usefixtures("here")
def test_a_part_of_the_table(tmp_path: Path) -> None:
    words = ["--algorithms", "cyclegan", "--sizes", "32", "--batches", "2", "--parts", "memory"]
    assert benchmarks.main(["translate", "--quick", "--threads", "1", "--out", str(tmp_path), *words]) == 0
    written = json.loads((tmp_path / "translate.json").read_text())
    (table,) = written["tables"]
    (row,) = table["arms"]["cyclegan, 32x32, batch 2"]["runs"]
    assert row["ratio"] == pytest.approx(list(row.values())[-2] / row["textbook"])
    assert [t["what"] for t in written["targets"]] == ["cyclegan, 32x32, batch 2: ours / textbook, peak memory"]


def test_an_arm_takes_a_step_whenever_it_is_asked() -> None:
    course = asdict(translate.Course("pix2pix", 32, 1, 4))
    order = {"course": course, "arm": translate.TEXTBOOK, "threads": 1, "seed": 0}
    with translate.asked(order) as step:
        step()
        step()
    with pytest.raises(RuntimeError, match="ended with status 1"), translate.asked({**order, "arm": "none"}) as step:
        step()


def test_a_peak_is_that_of_a_process_of_its_own() -> None:
    course = asdict(translate.Course("pix2pix", 32, 1, 4))
    assert 50 < translate._apart({"course": course, "arm": translate.TEXTBOOK, "threads": 1, "seed": 0}) < 1000
    with pytest.raises(RuntimeError, match="no such arm"):
        translate._apart({"course": course, "arm": "no such arm", "threads": 1, "seed": 0})
