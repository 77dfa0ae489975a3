"""The benchmarks' code, not their numbers: statistics, files, the bare loop's fairness, and one quick pass of most."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from zerosum import bench as benchmarks
from zerosum.bench import (
    arms,
    bare,
    fashion,
    field,
    folders,
    judge,
    loop,
    medicine,
    metrics,
    optimal_discriminator,
    protocol,
    recording,
    report,
    semi_supervised,
    speedrun,
    speedrun_page,
    startup,
    stopping,
    tastes,
    verdicts,
)
from zerosum.bench.field import Field
from zerosum.bench.protocol import Bench, Options, git_commit, plain, recipe
from zerosum.bench.textbook import Textbook
from zerosum.data.spec import Data
from zerosum.equilibrium import two_sample
from zerosum.errors import UserError
from zerosum.losses import optimal_logits
from zerosum.networks import MLP
from zerosum.run import check
from zerosum.schedule import Constant

picking = importlib.import_module("zerosum.recipes.pick")


def quick(name: str, out: Path, *more: str) -> dict[str, Any]:
    """A benchmark's quick pass, and what it wrote."""
    assert benchmarks.main([name, "--quick", "--threads", "1", "--out", str(out), *more]) == 0
    page = (out / f"{name}.md").read_text()
    assert "these numbers mean nothing" in page
    assert "nan" not in page.lower().replace("finance", "")
    written = json.loads((out / f"{name}.json").read_text())
    for target in written["targets"]:
        assert f"| {target['what']} |" in page
    return written


def a_bench(out: Path, **options: Any) -> Bench:
    return Bench("trial", Options(out=out, quick=True, threads=1, **options), (0, 1, 2))


# --- statistics ----------------------------------------------------------------------------------------------------


def test_a_summary_is_mean_deviation_and_range() -> None:
    assert report.summary([1, 2, 3, 6]) == report.Summary(4, 3.0, pytest.approx(np.std([1, 2, 3, 6], ddof=1)), 1, 6)
    assert report.summary([5.0]).deviation is None
    with pytest.raises(ValueError):
        report.summary([])


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (report.at_least("x", [0.9, 0.95], 0.9), True),
        (report.at_least("x", [0.89, 0.99], 0.9), False),  # the worst counts, not the mean
        (report.at_least("x", [0.95, None], 0.9), False),
        (report.at_least("x", [], 0.9), False),
        (report.at_most("x", [1.05], 1.05), True),
        (report.at_most("x", [1.0, 1.06], 1.05), False),
        (report.below("x", [89.9], 90), True),
        (report.below("x", [90.0], 90), False),
    ],
)
def test_a_target_is_met_by_every_run_or_not_at_all(target: report.Target, met: bool) -> None:
    assert target.met is met


def test_a_report_says_what_was_wanted_and_what_came() -> None:
    rows = {"ours": [{"share": 0.5, "how": "a|b"}, {"share": 0.7, "how": "a|b"}], "real": [{"share": None}]}
    found = report.Report(
        title="Trial",
        about=("What this is.",),
        data=({"source": "noise", "split": "train", "count": 1234, "sha256": "abc"},),
        tables=(report.Table("T", (report.Column("share", "share", ".0%"), report.Column("how", "how")), rows),),
        targets=(report.at_least("share", [0.5, 0.7], 0.6, ".0%"),),
        pictures=(("trial/a.png", "A picture."),),
    )
    page = report.markdown(found, "trial", [], quick=False)
    assert "| ours | 2 | 60 % (50 % .. 70 %; sd 14 %) | a\\|b |" in page
    assert "| real | 1 | - | - |" in page
    assert "| share | at least 60 % | 60 % (50 % .. 70 %; sd 14 %) | **miss** |" in page
    assert "noise; train: 1,234, sha256 `abc`" in page
    assert "mean nothing" not in page
    (table,) = report.to_json(found)["tables"]
    assert table["arms"]["ours"]["statistics"]["share"]["mean"] == pytest.approx(0.6)
    assert table["arms"]["real"]["statistics"] == {}
    written = json.loads(json.dumps(report.to_json(found)))
    (again,) = report.tables_of(written)
    assert report._cells(again) == report._cells(found.tables[0])
    del written["tables"][0]["columns"]  # as older versions wrote it
    assert report.tables_of(written) == []


def test_what_the_project_measured_stands_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(share: float) -> report.Report:
        table = report.Table("Shares", (report.Column("share", "share", ".0%"),), {"ours": [{"share": share}]})
        return report.Report(title="Trial", about=(), data=(), tables=(table,), targets=())

    assert protocol.published("no such benchmark") is None
    project = a_bench(tmp_path / "project")
    project.publish(found(0.25))
    written = json.loads((tmp_path / "project" / "trial.json").read_text())
    monkeypatch.setattr(protocol, "published", {"trial": written}.get)
    capsys.readouterr()
    a_bench(tmp_path / "here").publish(found(0.75))
    shown = " ".join(capsys.readouterr().out.split())  # a narrow table breaks its title
    assert shown.index("75 %") < shown.index("as the project measured it") < shown.index("25 %")


def test_a_page_is_not_replaced_by_a_part_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def found(**tables: list[float]) -> report.Report:
        columns = (report.Column("share", "share", ".0%"),)
        made = [report.Table(name, columns, {"ours": [{"share": v} for v in of]}) for name, of in tables.items()]
        return report.Report(title="Trial", about=(), data=(), tables=tuple(made), targets=())

    def page(name: str) -> str:
        return (tmp_path / f"{name}.md").read_text()

    a_bench(tmp_path).publish(found(a=[0.1, 0.2], b=[0.3]))
    a_bench(tmp_path).publish(found(b=[0.4]))
    assert "## a" in page("trial")
    assert "## a" not in page("trial-part")
    assert "trial.json stays: it has the table 'a'" in capsys.readouterr().err
    a_bench(tmp_path).publish(found(a=[0.5], b=[0.4]))
    assert "stays: it has 2 of 'ours' in 'a'" in capsys.readouterr().err
    assert "50 %" in page("trial-part")
    a_bench(tmp_path).publish(found(a=[0.5, 0.7], b=[0.4], c=[0.6]))
    assert "## c" in page("trial")
    assert "stays" not in capsys.readouterr().err


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_finished_arm_is_not_measured_again(tmp_path: Path) -> None:
    done: list[int] = []

    def work() -> dict[str, float]:
        done.append(1)
        return {"value": float(len(done)), "lost": float("nan")}

    assert a_bench(tmp_path).arm("a", 0, {"n": (1, 2)}, work) == {"value": 1.0, "lost": None}
    assert a_bench(tmp_path).arm("a", 0, {"n": (1, 2)}, work)["value"] == 1.0
    assert a_bench(tmp_path).arm("a", 1, {"n": (1, 2)}, work)["value"] == 2.0  # another seed
    with pytest.raises(UserError, match=r"other settings \(n\)"):
        a_bench(tmp_path).arm("a", 0, {"n": (1, 3)}, work)
    assert a_bench(tmp_path, again=True).arm("a", 0, {"n": (1, 3)}, work)["value"] == 3.0
    assert a_bench(tmp_path).arm("a", 0, {"n": (1, 3)}, work, (tmp_path / "gone.png",))["value"] == 4.0
    anew = a_bench(tmp_path, again=True)
    assert anew.arm("a", 0, {"n": (1, 3)}, work)["value"] == 5.0
    assert anew.arm("a", 0, {"n": (1, 3)}, work)["value"] == 5.0, "once, though two scores are of it"
    path = tmp_path / "trial" / "a-seed0.json"
    assert json.loads(path.read_text())["environment"]["calibration"]["matrix_gflops"] > 0
    path.write_text(path.read_text()[:40])  # cut off
    assert a_bench(tmp_path).arm("a", 0, {"n": (1, 3)}, work)["value"] == 6.0


def test_an_arm_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def work() -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        a_bench(tmp_path).arm("a", 0, {}, work)
    assert not (tmp_path / "trial" / "a-seed0.json").exists()


def test_a_protocol_holds_the_recipe_but_not_this_machine() -> None:
    data = Data(source="fashion-mnist", root="/somewhere/on/this/machine", cache="/tmp/cache")
    protocol = recipe(tiny.run("r3gan", data=data, log_every=7))
    assert "somewhere" not in json.dumps(protocol)
    assert "cache" not in json.dumps(protocol).replace('"cache": null', "")
    assert protocol["algorithm"]["kind"] == "R3GAN"
    assert "log_every" not in protocol
    assert json.loads(json.dumps(protocol)) == plain(protocol)


def test_what_was_measured_before_there_were_labels_stays_known() -> None:
    run = tiny.run("r3gan")
    assert not {"labelled", "class_balance", "augment_images"} & set(recipe(run))
    assert recipe(replace(run, class_balance="even"))["class_balance"] == "even"
    assert recipe(tiny.run("ssgan", labelled=6))["labelled"] == 6
    assert "noise" not in recipe(tiny.run("cyclegan"))["algorithm"]
    quiet = replace(run, algorithm=tiny.replace_networks("r3gan", MLP()))
    assert "noise_input" not in recipe(quiet)["algorithm"]["networks"]
    noisy = replace(run, algorithm=tiny.replace_networks("r3gan", MLP(noise_input=0.3)))
    assert recipe(noisy)["algorithm"]["networks"]["noise_input"] == 0.3
    for name in ("fixed_lengths", "batch_norm"):
        assert name not in recipe(quiet)["algorithm"]["networks"]
        changed = replace(run, algorithm=tiny.replace_networks("r3gan", MLP(**{name: True})))  # type: ignore[arg-type]
        assert recipe(changed)["algorithm"]["networks"][name] is True


def test_seeds_are_the_benchmarks_own_unless_given(tmp_path: Path) -> None:
    assert Bench("trial", Options(out=tmp_path, threads=1), (0, 1, 2)).seeds == (0, 1, 2)
    assert a_bench(tmp_path).seeds == (0,)
    assert a_bench(tmp_path, seeds=(4, 4, 2)).seeds == (4, 2)
    with pytest.raises(UserError, match="--seeds -1"):
        a_bench(tmp_path, seeds=(-1,))
    with pytest.raises(UserError, match="--threads 0"):
        Bench("trial", Options(out=tmp_path, threads=0), (0,))


def test_the_commit_is_known_in_a_checkout() -> None:
    commit, changed = git_commit()
    assert commit is None or (len(commit) == 40 and isinstance(changed, bool))


def test_an_unknown_benchmark_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"fashon.*did you mean fashion\?"):
        benchmarks.main(["fashon"])
    assert benchmarks.main(["loop", "--help"]) == 0


# --- the judge -----------------------------------------------------------------------------------------------------


def blocks(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images 8x8 of three classes: which third is bright."""
    random = np.random.default_rng(0)
    images = random.integers(0, 60, (n, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(n) % 3
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label : 2 * label + 2] += 150
    return images, labels


def test_the_judge_is_the_candidate_with_the_lowest_log_loss() -> None:
    images, labels = blocks(60)

    def guesses(images: np.ndarray, labels: np.ndarray) -> judge.Judge:
        return lambda images: np.full((len(images), 3), 1 / 3)

    candidates = {"guesses": guesses, "net": judge.Convolutional(epochs=15, width=4)}
    found = judge.cross_validation(candidates, images, labels, folds=2)
    assert found["chosen"] == "net"
    assert found["candidates"]["guesses"]["log_loss"] == pytest.approx(np.log(3))
    assert found["candidates"]["net"]["accuracy"] > 0.8
    for fit in (judge.logistic, judge.support_vectors):
        assert judge.accuracy(fit(images, labels), images, labels) == 1.0


def test_a_verdict_counts_classes_and_confidence() -> None:
    p = np.array([[0.8, 0.2, 0], [0.6, 0.4, 0], [0, 1, 0], [1, 0, 0]])
    found = judge.verdict(lambda images: p, np.zeros((4, 1, 8, 8), np.uint8), 0.85)
    assert (found["classes_found"], found["rarest_share"], found["shares"]) == (2, 0.0, [0.75, 0.25, 0.0])
    assert found["confidence"] == pytest.approx(0.85)
    assert found["relative_confidence"] == pytest.approx(1.0)


def test_the_nearest_image_is_found_and_its_distance_exact() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    others = np.random.default_rng(1).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
    distance, index = judge.nearest(others, images)
    slow = np.sqrt(((others[:, None].astype(float) - images[None]) ** 2).sum((2, 3, 4))) / 255
    assert np.array_equal(index, slow.argmin(1))
    np.testing.assert_allclose(distance, slow.min(1), rtol=1e-12)
    assert judge.nearest(images[3:4], images)[0] == 0  # a copy is at no distance


def test_the_controls_keep_what_they_should() -> None:
    images, _ = blocks(6)
    assert np.array_equal(np.sort(judge.shuffled(images).reshape(6, -1)), np.sort(images.reshape(6, -1)))
    assert not np.array_equal(judge.shuffled(images), images)
    assert judge.mean_image(images, 4).shape == (4, 1, 8, 8)


# --- the loop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "step"), [("dcgan", bare.dcgan), ("r3gan", bare.r3gan(1.0))])
def test_the_bare_loop_plays_the_same_game(name: str, step: bare.Step) -> None:
    """From the same weights and the same numbers, two steps by hand reach the weights that ours reach."""
    run = tiny.run(name, precision="fp64", ema_half_life=Constant(100))
    training = tiny.training(run, tiny.images())
    n, loader = run.batch_size, training.loader
    reals = ("real",) if name == "dcgan" else ("real", "real2")
    real = iter([loader.real(purpose, first, n) for first in (0, n) for purpose in reals])
    latents = ("z",) if name == "dcgan" else ("z", "z2")
    latent = iter([loader.latent(purpose, first, n) for first in (0, n) for purpose in latents])
    numbers = bare.Draws(lambda: next(real), lambda: next(latent))
    by_hand = bare.Bare(training.players.networks, run.adam_g, run.adam_d, numbers, decay=0.5 ** (n / 100))
    for _ in range(2):
        training.step()
        step(by_hand)
    assert not list(real)
    assert not list(latent)
    for player, network in {"G": by_hand.G, "D": by_hand.D}.items():
        for ours, theirs in zip(training.players.networks[player].parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(training.ema["G"].network.parameters(), by_hand.ema.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_short_steps_are_held_to_a_cost_and_long_ones_to_a_ratio() -> None:
    long = loop._target("x", [{"bare_ms": 25.0, "ratio": 1.04, "overhead_ms": 0.5}])
    short = loop._target("x", [{"bare_ms": 5.0, "ratio": 1.06, "overhead_ms": 0.15}])
    assert long.met
    assert "ours / bare" in long.what
    assert short.met
    assert "more a turn" in short.what


def test_loop_quick(tmp_path: Path) -> None:
    written = quick("loop", tmp_path)
    steps, parts = written["tables"]
    assert set(steps["arms"]) == {"dcgan", "r3gan", "dcgan-tiny", "r3gan-tiny", "control"}
    row = parts["arms"]["r3gan"]["runs"][0]
    assert row["together"] == pytest.approx(sum(v for k, v in row.items() if k != "together"))


# --- the others ----------------------------------------------------------------------------------------------------


def test_digits_quick(tmp_path: Path) -> None:
    written = quick("digits", tmp_path)
    arms = written["tables"][0]["arms"]
    ceiling, floor = arms["held-out digits"]["runs"][0], arms["shuffled pixels"]["runs"][0]
    assert ceiling["relative_confidence"] == 1.0
    assert ceiling["accuracy"] > 0.95
    assert floor["relative_confidence"] < 0.8
    assert floor["neighbour_mean"] > 2 * ceiling["neighbour_mean"]
    assert {"train", "test"} == {d["split"] for d in written["data"]}
    for path in written["pictures"]:
        assert (tmp_path / path).is_file()
    before = (tmp_path / "digits.md").read_bytes()
    quick("digits", tmp_path)  # nothing is trained again
    assert (tmp_path / "digits.md").read_bytes() == before


def test_optimal_discriminator_quick(tmp_path: Path) -> None:
    written = quick("optimal-discriminator", tmp_path)
    row = written["tables"][0]["arms"]["m = 1"]["runs"][0]
    assert row["best_loss"] < row["loss"] < 2 * np.log(2) + 0.05


def test_the_optimum_of_two_normals_is_a_straight_line() -> None:
    x = torch.linspace(-2, 3, 11, dtype=torch.float64)
    normal = optimal_discriminator._normal
    torch.testing.assert_close(optimal_logits(normal(x, 0.0), normal(x, 1.0)), 0.5 - x)


def test_startup_tells_whether_torch_was_loaded() -> None:
    assert not startup._run("pass")[1]
    assert startup._run("import sys; sys.modules['torch'] = sys")[1]
    with pytest.raises(RuntimeError, match="status 1"):
        startup._run("raise SystemExit(1)")


def test_metrics_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_module", lambda name: None)  # neither of the others is installed
    written = quick("metrics", tmp_path)
    seconds, streamed = written["tables"]
    assert all(set(arm["statistics"]) == {"ours"} for arm in seconds["arms"].values())
    (stream,) = streamed["arms"].values()
    assert stream["runs"][0]["megabytes"] < 200
    assert [t["what"] for t in written["targets"]][-1] == "precision and recall, s"
    assert sum("is not installed, so its arms are left out" in line for line in written["about"]) == 2


def test_a_contest_takes_turns_and_compares() -> None:
    turns: list[str] = []

    def arm(name: str, value: float) -> float:
        turns.append(name)
        return value

    found = metrics._contest({"ours": lambda: arm("a", 1.0), "theirs": lambda: arm("b", 2.0)}, rounds=2)
    assert turns == ["a", "b", "a", "b"]
    assert found["ratio theirs"] == found["ours"] / found["theirs"]
    assert found["difference theirs"] == 0.5
    assert found["ours"] == min(found["rounds"]["ours"])


def test_memory_quick(tmp_path: Path) -> None:
    written = quick("memory", tmp_path)
    known, new, parts = written["tables"]
    assert set(parts["arms"]) == {*known["arms"], *new["arms"]} == {"digits", "wgan-gp-32x32"}
    for table in (known, new):
        for arm in table["arms"].values():
            (row,) = arm["runs"]
            assert abs(row["memory_off"]) < 0.2  # the process itself is most of it, however small the networks
            assert row["predicted_disk_mb"] > row["disk_mb"] / 2
            assert row["parts"]["process"] > row["parts"]["turn"]


def noise_as_fashion(folder: Path, train: int = 60, test: int = 40) -> None:
    random = np.random.default_rng(0)
    for side, count in (("train", train), ("t10k", test)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{side}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        (folder / f"{side}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())


def test_fashion_quick_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One arm, on noise in Fashion-MNIST's files: the real set need not be here."""
    arms = fashion._arms
    monkeypatch.setattr(fashion, "_arms", lambda bench: {"r3gan": arms(bench)["r3gan"]})
    noise_as_fashion(tmp_path)
    written = quick("fashion", tmp_path / "out", "--data", str(tmp_path))
    assert set(written["tables"][0]["arms"]) == {"r3gan", "test images", "shuffled pixels", "the mean image"}
    assert str(tmp_path) not in (tmp_path / "out" / "fashion.json").read_text()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial of the machine, and judges that learn little."""
    monkeypatch.setattr(picking, "estimate", lambda *_: 1_000.0)
    monkeypatch.setattr(picking, "probe_interval", lambda *_: 1_000)
    monkeypatch.setattr(two_sample, "LEAST_STEPS", 5)
    monkeypatch.setattr(two_sample, "STEPS", 5)


@pytest.mark.usefixtures("hasty")
def test_conditional_quick_on_a_folder(tmp_path: Path) -> None:
    noise_as_fashion(tmp_path, 400, 200)
    out, words = tmp_path / "out", ("--data", str(tmp_path), "--sets", "fashion-mnist", "--final")
    written = quick("conditional", out, *words)
    overall, by_class, final, _ = written["tables"]
    assert set(overall["arms"]) == set(final["arms"]) == {"default", "real images"}
    assert len(by_class["arms"]) == 10
    (row,), (real,) = overall["arms"]["default"]["runs"], overall["arms"]["real images"]["runs"]
    assert row["agreement"] == pytest.approx(np.average([c["agreement"] for c in row["classes"]]), abs=0.1)
    assert row["classes"][3]["share"] == row["classes"][3]["coverage"] / real["classes"][3]["coverage"]
    assert {t["measured"] for t in written["targets"]}
    with Image.open(out / "conditional" / "fashion-mnist-default-seed0.png") as sheet:
        assert sheet.width > 20 * 2 * 28
        assert sheet.height > 10 * 2 * 28
    assert not [p for p in (out / "conditional").glob("*.json") if str(tmp_path) in p.read_text()]


@pytest.mark.usefixtures("hasty")
def test_tastes_quick_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All recommenders and the designs, on noise; and nothing is trained again to score the designs anew."""
    noise_as_fashion(tmp_path, 1_000, 40)
    out, words = tmp_path / "out", ("--data", str(tmp_path), "--seeds", "0")
    written = quick("tastes", out, *words)
    speed, ranked, gained, designs, told = written["tables"]
    assert set(speed["arms"]) == {"BPR", "VBPR"}
    assert {"random", "popularity", "BPR", "VBPR", "DVBPR"} < set(ranked["arms"])
    auc = {name: runs["runs"][0]["warm_auc"] for name, runs in ranked["arms"].items()}
    (more,) = gained["arms"]["BPR over popularity"]["runs"]
    assert more["gain"] == pytest.approx(auc["BPR"] - auc["popularity"], abs=2e-4)
    assert more["low"] < more["gain"] < more["high"]
    (found,) = designs["arms"]["designs"]["runs"]
    assert found["low"] <= found["better"] <= found["high"]
    assert all(0 <= found[name] <= 1 for name in ("asked", "shown", "far", "outside", "copies", "judge"))
    assert found["outside"] <= found["far"]
    assert found["gain"] == pytest.approx(found["truth"] - found["liked"], abs=1e-6)
    (known,) = told["arms"]["designs"]["runs"]
    assert 0 <= known["known_best"] <= known["known_better"] <= 1
    (out / "tastes" / "designs-seed0.json").unlink()
    monkeypatch.setattr(tastes, "train", None)
    monkeypatch.setattr(tastes, "played", None)
    (again,) = quick("tastes", out, *words)["tables"][3]["arms"]["designs"]["runs"]
    assert again == found


@pytest.mark.usefixtures("hasty")
def test_medicine_quick_on_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medicine, "ASIDE", 100)
    random, sides = np.random.default_rng(0), {}
    for side, count in (("train", 300), ("val", 20), ("test", 60)):
        sides[f"{side}_images"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        sides[f"{side}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    np.savez(tmp_path / "xrays.npz", **sides)
    written = quick("medicine", tmp_path / "out", "--data", str(tmp_path / "xrays.npz"), "--labels", "20")
    controls, real = written["tables"]
    assert set(controls["arms"]) == {"copies of training images", "wrong labels", "fresh real images"}
    assert all(arm["runs"][0]["had"] == 1 for arm in controls["arms"].values()), "controls pass no gate"
    (found,) = real["arms"]["20 labels"]["runs"]
    assert 0 <= found["passed"] <= 1
    assert found["low"] <= found["gain"] <= found["high"]


@pytest.mark.usefixtures("hasty")
def test_speedrun_quick_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default and the textbook, on noise in Fashion-MNIST's files."""
    monkeypatch.setattr(speedrun, "opponents", lambda minutes: {"textbook DCGAN": arms.textbook})
    monkeypatch.setattr(speedrun, "bracketed", lambda distance, first: {1.0: distance(1.0)})
    noise_as_fashion(tmp_path)
    words = ("--data", str(tmp_path), "--courses", "fashion-mnist", "few")
    written = quick("speedrun", tmp_path / "out", *words)
    table, few = written["tables"]
    played = {"default", "textbook DCGAN, published rate"}
    assert set(table["arms"]) == {*played, "real images"}
    assert set(few["arms"]) == {*played, "default, not augmented", "real images"}
    for name in played:
        arm = table["arms"][name]
        first, last = (arm["runs"][0]["marks"][i] for i in (0, -1))
        assert 0 < first["images_seen"] <= last["images_seen"]
        assert first["frechet"] > 0
    samples = tmp_path / "out" / "runs" / "speedrun" / "fashion-mnist-default-seed0" / "0.01.npy"
    assert np.load(samples).shape[1:] == (1, 28, 28)
    assert str(tmp_path) not in (tmp_path / "out" / "speedrun.json").read_text()


@pytest.mark.usefixtures("hasty")
def test_semi_supervised_quick_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The game, its labels alone, and agreement without a game; a score that was of another run is not taken for it."""
    monkeypatch.setattr(semi_supervised, "HELD", 100)
    noise_as_fashion(tmp_path, 400, 40)
    words = ("--data", str(tmp_path), "--labels", "100", "20", "--seeds", "0", "--final")
    written = quick("semi-supervised", tmp_path / "out", *words)
    games = {"100 labels, semi-supervised", "20 labels, semi-supervised"}
    alone = {"100 labels alone", "20 labels alone", "100 labels, agreement without a game"}
    validation, final = (table["arms"] for table in written["tables"])
    assert set(validation) == set(final) == games | alone
    assert all(0 <= arm["runs"][0]["accuracy"] <= 1 for arm in (*validation.values(), *final.values()))
    assert {validation[name]["runs"][0]["images"] for name in games | alone} == {100}
    assert {final[name]["runs"][0]["images"] for name in games | alone} == {40}
    seen = validation["100 labels, semi-supervised"]["runs"][0]["images_seen"]
    assert validation["100 labels, agreement without a game"]["runs"][0]["images_seen"] == seen
    (tmp_path / "out" / "semi-supervised" / "ssgan-100-seed0.json").unlink()
    with pytest.raises(UserError, match=r"ssgan-100-validation-seed0.json: was measured with other settings \(times\)"):
        quick("semi-supervised", tmp_path / "out", *words)


@pytest.mark.usefixtures("hasty")
def test_a_paced_run_stops_at_the_images_of_its_other_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate played later, without the clock, sees what the first saw by the clock."""
    rates = [1.0]
    monkeypatch.setattr(speedrun, "opponents", lambda minutes: {"textbook DCGAN": arms.textbook})
    monkeypatch.setattr(speedrun, "bracketed", lambda distance, first: {t: distance(t) for t in rates})
    noise_as_fashion(tmp_path)
    words = ("--data", str(tmp_path), "--courses", "fashion-mnist")
    quick("speedrun", tmp_path / "out", *words)
    rates.append(2.0)
    written = quick("speedrun", tmp_path / "out", *words, "--paced", "1", "--seeds", "0")
    (clocked,), (paced,) = (
        written["tables"][0]["arms"][f"textbook DCGAN, {rate}"]["runs"]
        for rate in ("published rate", "2 times the rate")
    )
    assert "paced" not in clocked
    assert clocked["images_per_second"] > 0
    assert [m["images_seen"] for m in paced["marks"]] == [m["images_seen"] for m in clocked["marks"]] == paced["paced"]
    assert paced["images_per_second"] is None
    assert sum("without a clock" in text for text in written["about"]) == 1

    for file in (tmp_path / "out" / "speedrun").glob("*textbook*.json"):
        file.unlink()
    with pytest.raises(UserError, match="no run of textbook DCGAN by the clock"):
        quick("speedrun", tmp_path / "out", *words, "--paced", "1")


class Quarters:
    """In place of EfficientNet-Lite0, which needs more images than dimensions: the mean of each quarter."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def extract(self, values: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(values).float(), 2).flatten(1)


@pytest.mark.usefixtures("hasty")
def test_the_test_images_are_for_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rates: the better one on validation images, and it alone, is scored on the test images, at its last mark."""
    monkeypatch.setattr(speedrun, "opponents", lambda minutes: {"textbook DCGAN": arms.textbook})
    monkeypatch.setattr(speedrun, "bracketed", lambda distance, first: {t: distance(t) for t in (1.0, 4.0)})
    monkeypatch.setattr(speedrun, "CLOSE", 1.0)
    monkeypatch.setattr(field, "ImageNet", Quarters)
    noise_as_fashion(tmp_path)
    written = quick("speedrun", tmp_path / "out", "--data", str(tmp_path), "--courses", "fashion-mnist", "--final")
    validated, final = (table["arms"] for table in written["tables"])
    names = [name for name in validated if name.startswith("textbook")]
    best = min(names, key=lambda name: validated[name]["runs"][0]["frechet_0.01"])
    assert len(names) == 2
    assert set(final) == {"default", best}
    assert {"frechet_0.005", "imagenet_0.01"} <= set(final["default"]["runs"][0])
    assert "frechet_0.005" not in final[best]["runs"][0]
    assert sum("EfficientNet-Lite0" in target["what"] for target in written["targets"]) == 2


@pytest.mark.parametrize(
    ("best", "first", "tried"),
    [
        (2.0, (1.0, 2.0, 4.0), {1.0, 2.0, 4.0}),
        (4.0, (1.0, 2.0, 4.0), {1.0, 2.0, 4.0, 8.0}),
        (16.0, (1.0, 2.0, 4.0), {1.0, 2.0, 4.0, 8.0, 16.0, 32.0}),
        (1.0, (2.0, 4.0), {0.5, 1.0, 2.0, 4.0}),
        (100.0, (2.0, 4.0), {2.0, 4.0, 8.0, 16.0, 32.0}),  # the search ends
    ],
)
def test_an_opponents_best_rate_has_a_worse_one_on_either_side(
    best: float, first: tuple[float, ...], tried: set[float]
) -> None:
    found = arms.bracketed(lambda times: abs(math.log2(times / best)), first)
    assert set(found) == tried
    if best in found:
        assert min(found) < best < max(found)
        assert len(found) >= 3


def test_the_rate_is_searched_on_every_course_and_a_far_opponent_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an opponent is best differs from course to course; a far one is searched again only where it is near."""
    ran: list[tuple[str, str, int]] = []
    best_at = {"first": 4.0, "second": 1.0, "third": 8.0}

    def run(field: SimpleNamespace, entry: speedrun.Entry, seed: int) -> dict[str, float]:
        ran.append((field.name, entry.title, seed))
        times = float(entry.file.rpartition("lr")[2])
        far = 10.0 if entry.title.startswith("far") and field.name != "third" else 1.0
        return {"frechet_5": far * (1 + abs(math.log2(times / best_at[field.name])))}

    monkeypatch.setattr(speedrun, "_run", run)
    makers = {"near": arms.textbook, "far": arms.textbook}
    known: dict[str, speedrun.Best] = {}
    rows = {}
    for name in best_at:
        course = SimpleNamespace(name=name, marks=(1.0, 5.0), course=SimpleNamespace(seeds=(0, 1)))
        rows[name] = list(speedrun._searched(cast(Field, course), makers, known))
    chosen = {name: {e.title: e.seeds for e in entries if e.chosen} for name, entries in rows.items()}
    assert chosen["first"] == {"near, 4 times the rate": (0, 1), "far, 4 times the rate": (0,)}
    assert chosen["second"] == {"near, published rate": (0, 1), "far, 4 times the rate": (0,)}
    assert [e.title for e in rows["second"] if e.title.startswith("far")] == ["far, 4 times the rate"]
    assert ("second", "near, 0.5 times the rate", 0) in ran
    assert chosen["third"] == {"near, 8 times the rate": (0, 1), "far, 8 times the rate": (0, 1)}
    assert ("third", "far, 16 times the rate", 0) in ran


def test_a_machine_is_named_once_however_many_runs_it_made() -> None:
    place = {"system": ["Linux 1", "Linux 2", *["Linux 1"] * 60], "cores": 2}
    assert protocol._machine({"environment": place}) == "Linux 1, Linux 2, 2 cores"
    assert protocol._machine({}) == "unknown machine, ? cores"


def test_curves_are_drawn_though_an_opponent_came_apart() -> None:
    def runs(*ends: float | None) -> list[dict[str, float | None]]:
        return [{"frechet_1": 90.0, "frechet_5": end} for end in ends]

    rows = {"default": runs(5.0, 6.0), "SNGAN, 2 times the rate": runs(None), "SNGAN, published rate": runs(40.0)}
    course = cast(Field, SimpleNamespace(marks=(1.0, 5.0)))
    for floor in (0.2, 4.0):  # far below, and in sight
        with Image.open(io.BytesIO(speedrun_page.curves(course, rows, floor))) as image:
            assert image.size[0] > 600


def test_the_textbook_sees_every_image_once_a_pass_and_draws_the_same_again() -> None:
    images = np.random.default_rng(0).integers(0, 256, (128, 1, 28, 28), dtype=np.uint8)
    game = Textbook(images, seed=0, lr=2e-4, width=4)
    assert [game.step(), game.step()] == [64, 128]
    drawn = game.draw(10)
    assert drawn.shape == (10, 1, 28, 28)
    assert (game.draw(10) == drawn).all()
    game.step()
    assert (game.draw(10) != drawn).any()


def test_input_quick(tmp_path: Path) -> None:
    written = quick("input", tmp_path)
    loader, folder = written["tables"]
    assert all(arm["runs"][0]["loader"] > arm["runs"][0]["training"] > 0 for arm in loader["arms"].values())
    assert set(folder["arms"]) == {"1 thread", "2 threads", "found in the cache"}
    assert [t["measured"] for t in written["targets"] if "whoever" in t["what"]] == ["same bytes"]


def test_sampling_quick(tmp_path: Path) -> None:
    noise_as_fashion(tmp_path)
    written = quick("sampling", tmp_path / "out", "--data", str(tmp_path))
    speed, _, changed = written["tables"]
    assert set(speed["arms"]) == {"28x28, 1 thread", "64x64, 1 thread"}
    row = changed["arms"]["dcgan"]["runs"][0]
    assert 0 <= row["mean"] <= row["largest"] <= 5
    assert row["fp32_largest"] <= 1
    assert str(tmp_path) not in (tmp_path / "out" / "sampling.json").read_text()


def test_a_quick_bench_without_a_place_takes_a_temporary_one() -> None:
    found = Bench("trial", replace(Options(quick=True, threads=1)), (0,))
    assert found.out.is_dir()
    found.out.rmdir()


# --- verdicts ------------------------------------------------------------------------------------------------------


def test_a_mean_changes_sides_when_it_is_well_beyond() -> None:
    assert verdicts.changes([0.5, 0.1, -0.1, 0.4, -0.5, 0.0, -0.3, 1.0]) == 2
    assert verdicts.changes([0.1, -0.1, 0.2]) == 0


def test_verdicts_quick(tmp_path: Path) -> None:
    written = quick("verdicts", tmp_path)
    (table,) = written["tables"]
    assert set(table["arms"]) == set(verdicts.cases()) == {t["what"].split(": ")[1] for t in written["targets"]}
    for arm in table["arms"].values():
        assert arm["runs"][0]["verdict"]
        assert len(arm["runs"][0]["distances"]) == 8
    for case in verdicts.cases().values():
        check(case.run)


# --- stopping ------------------------------------------------------------------------------------------------------


def _recorded(truth: list[float], noise: float = 0.02) -> dict[str, Any]:
    random = np.random.default_rng(0)
    rows = [
        {"images_seen": i * 100, "distance": t * float(np.exp(noise * random.standard_normal())), "truth": t,
         "distance_error": t * noise}
        for i, t in enumerate(truth)
    ]  # fmt: skip
    return {"probes": rows, "images": 100 * len(truth)}


def test_the_advisor_is_judged_by_the_truth() -> None:
    improving = stopping.judged(_recorded([100.0, *(50 * i**-0.5 for i in range(1, 60))]))
    assert improving["stopped"] == 1.0
    assert improving["ratio"] < 1.03
    assert 1.1 < improving["rule_ratio"] == pytest.approx((59 / 45) ** 0.5, abs=0.03)
    collapsing = stopping.judged(_recorded([100.0, *(50 / i if i < 25 else 10.0 for i in range(1, 60))]))
    assert collapsing["stopped"] < 0.8
    assert collapsing["best_at"] == pytest.approx(0.4)
    assert collapsing["ratio"] < 1.1
    assert collapsing["last_ratio"] == pytest.approx(10 / (50 / 24))


def test_stopping_targets_are_missed_by_one_run_that_is_missed() -> None:
    good = {"ratio": 1.05, "rule_ratio": 1.2, "stopped": 0.5}
    bad = {"ratio": 1.11, "rule_ratio": 1.0, "stopped": 1.0}
    assert [t.met for t in stopping.targets_of("x", [good, good])] == [True, True, True]
    assert [t.met for t in stopping.targets_of("x", [good, bad])] == [False, True, True]
    assert [t.met for t in stopping.targets_of("x", [bad])] == [False, False, False]


def test_the_cases_are_runs_that_can_be_played() -> None:
    cases = recording.development() | recording.frozen()
    assert len(recording.frozen()) == 4
    assert len(cases) >= 12
    for case in cases.values():
        check(case.run)
        assert case.run.probe_every == (case.run.images or 0) // recording.PROBES
    assert len({json.dumps(protocol.recipe(case.run)) for case in cases.values()}) == len(cases)


def test_stopping_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"ring-r3gan": recording.development()["ring-r3gan"]}
    monkeypatch.setattr(recording, "development", lambda: points)
    monkeypatch.setattr(recording, "frozen", lambda: points)
    written = quick("stopping", tmp_path)
    assert [table["title"] for table in written["tables"]][:2] == ["Development", "Frozen constants, new runs"]
    assert len(written["targets"]) == 7
    (saved,) = (tmp_path / "stopping").glob("ring-r3gan-seed0.json")
    assert len(json.loads(saved.read_text())["result"]["probes"]) >= 15


def test_controls_are_drawn_from_all_classes(tmp_path: Path) -> None:
    """Folders come class by class, so the first images would be of some classes alone."""
    noise_as_fashion(tmp_path)
    options = speedrun.Options(out=tmp_path / "out", quick=True, threads=1, data=tmp_path)
    field = Field(Bench("speedrun", options, (0,)), speedrun.COURSES["fashion-mnist"])
    seen: list[np.ndarray] = []
    field.__dict__["samples"] = 20
    field.score = lambda images, real: seen.append(images) or {}  # type: ignore[method-assign, func-returns-value]
    field.controls()
    first, _ = field.all_train.gather(np.arange(20))
    assert seen[0].shape == first.shape
    assert not np.array_equal(seen[0], first)


def test_a_damaged_judge_is_trained_again(tmp_path: Path) -> None:
    noise_as_fashion(tmp_path)
    options = speedrun.Options(out=tmp_path / "out", quick=True, threads=1, data=tmp_path)

    def trained() -> torch.Tensor:
        field = Field(Bench("speedrun", options, (0,)), speedrun.COURSES["fashion-mnist"])
        return next(field.judge.parameters())

    first = trained()
    (path,) = (tmp_path / "out" / "runs" / "speedrun").glob("judge-*.safetensors")
    path.write_bytes(b"\xff" * 40)
    assert torch.equal(trained(), first)


@pytest.mark.parametrize("name", ["conditional", "faces", "medicine", "semi-supervised", "speedrun", "tastes"])
def test_minutes_are_more_than_none(name: str, tmp_path: Path) -> None:
    for minutes in ("-1", "0"):
        with pytest.raises(UserError, match=f"--minutes {minutes}: must be more than 0"):
            benchmarks.main([name, "--quick", "--out", str(tmp_path), "--minutes", minutes])


def test_faces_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "estimate", lambda *_: 100.0)
    rng = np.random.default_rng(0)
    lists = folders.split("faces")
    assert not set(lists["train"]) & {*lists["validation"], *lists["test"]}
    assert not set(lists["few_train"]) & {*lists["few_validation"], *lists["few_test"]}
    people = [{name.split("/")[0] for name in lists[part]} for part in ("train", "validation", "test")]
    assert sum(map(len, people)) == len(set.union(*people)) == 40
    for photo in {name for part, names in lists.items() if part != "how" for name in names}:
        path = tmp_path / "att_faces" / photo
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (112, 92), dtype=np.uint8)).save(path)
    words = ["--data", str(tmp_path), "--courses", "growth", "few", "best", "--final"]
    written = quick("faces", tmp_path / "out", *words)
    assert len(written["tables"]) == 8
    by_title = {table["title"]: table["arms"] for table in written["tables"]}
    few = by_title["100 faces: validation photos"]
    assert set(few) == {"default", "default, not augmented", "textbook DCGAN", "real photos"}
    planted = by_title["300 faces, longer: validation photos: planted copies"]
    p = {name: arm["runs"][0]["copies_p"] for name, arm in planted.items()}
    # Not how large the p of none is: what a second's training on noise draws is grey, and some photos are nearer to it.
    assert max(p["as they are"], p["mirrored"]) < min(
        1e-3, p["none planted"]
    )  # what is moved of noise is other noise: see test_registered
    quick("faces", tmp_path / "out", *words)  # nothing is trained again
    for path in [*tmp_path.rglob("few-plain-seed0.npy"), *tmp_path.rglob("few-plain-test-seed0.json")]:
        path.unlink()
    (tmp_path / "out" / "faces.json").unlink()  # it would stay, for it has that row
    tables = {table["title"]: table["arms"] for table in quick("faces", tmp_path / "out", *words)["tables"]}
    lost = set(tables["100 faces: validation photos"]) - set(tables["100 faces: test photos, once"])
    assert lost == {"default, not augmented"}, "of samples that are no more"


def test_layers_quick(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    *_, sizes = quick("layers", tmp_path / "out")["tables"]
    assert set(sizes["arms"]) == {"16x16"}
    assert all(seconds > 0 for seconds in sizes["arms"]["16x16"]["runs"][0].values())
