"""Adversarial examples: within epsilon, worse than noise, and as bad as can be where that is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tiny
from zerosum import cli, data
from zerosum.applications import attack as attacking
from zerosum.applications import parts
from zerosum.applications.attack import RANGE, Attacked, fgsm, pgd, robust_accuracy
from zerosum.applications.pictures import attack_sheet
from zerosum.applications.trained import same_source
from zerosum.data.spec import Data
from zerosum.data.split import held_out_part
from zerosum.errors import UserError
from zerosum.metrics.features import classifier as classifiers

Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Linear(nn.Module):
    """Two classes by the sign of w.x: the worst change within epsilon is known, -epsilon sign(w)."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        margin = (x * self.w).sum((1, 2, 3))
        return torch.stack([-margin, margin], 1)


def train(folder: Path, run: Path, held: int) -> None:
    words = f"--algorithm ssgan --images 8 --batch-size 4 --threads 1 --held-out {held} --probe-every 0"
    assert cli.main(["train", str(folder), *words.split(), "--out", str(run)]) == 0


@pytest.fixture
def model() -> Linear:
    torch.manual_seed(0)
    return Linear(torch.randn(1, 4, 4))


def images(n: int = 60) -> tuple[np.ndarray, Tensor]:
    random = np.random.default_rng(1)
    found = random.integers(60, 196, (n, 1, 4, 4), dtype=np.uint8)
    return found, torch.from_numpy(found).float() / 127.5 - 1


def test_fgsm_is_the_worst_for_a_linear_model(model: Linear) -> None:
    _, x = images()
    label = model(x).argmax(1)
    found = fgsm(model, x, label, 0.05)
    sign = torch.where(label == 1, -1.0, 1.0)[:, None, None, None] * model.w.detach().sign()
    torch.testing.assert_close(found, x + RANGE * 0.05 * sign)


def test_pgd_ends_where_the_worst_is(model: Linear) -> None:
    _, x = images()
    label = model(x).argmax(1)
    start = torch.rand(x.shape) * 2 - 1
    found = pgd(model, x, label, 0.05, steps=20, start=start)
    torch.testing.assert_close(found, fgsm(model, x, label, 0.05), rtol=0, atol=1e-5)


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
def test_no_pixel_changes_by_more_than_epsilon(model: Linear, epsilon: float) -> None:
    _, x = images()
    label = model(x).argmax(1)
    for found in (fgsm(model, x, label, epsilon), pgd(model, x, label, epsilon, steps=5)):
        assert float((found - x).abs().max()) <= RANGE * epsilon + 1e-6
        assert float(found.abs().max()) <= 1


def test_more_steps_are_never_less_of_an_attack() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 3))
    _, x = images()
    label = net(x).argmax(1)
    losses = [
        float(nn.functional.cross_entropy(net(pgd(net, x, label, 0.1, steps=n)), label)) for n in (1, 2, 4, 8, 16)
    ]
    assert losses == sorted(losses)
    assert all(p.grad is None for p in net.parameters()), "the model is left as it was"


def test_accuracy_falls_with_epsilon_and_attacks_beat_noise(model: Linear) -> None:
    found, x = images(200)
    label = model(x).argmax(1).numpy()
    done: list[tuple[int, int]] = []
    got = robust_accuracy(model, found, label, (0.01, 0.05, 0.5), steps=5, told=lambda a, b: done.append((a, b)))
    assert got.clean.value == 1
    accuracy = [row.pgd.value for row in got.rows]
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[-1] == 0, "no linear model stands half of the range"
    assert all(row.pgd.value <= row.fgsm.value <= row.noise.value for row in got.rows)
    assert done[-1] == (600, 600)
    assert got.changed.shape == got.originals.shape == (12, 1, 4, 4)
    assert attack_sheet(got, ("no", "yes")).width > 12 * 96


@pytest.mark.parametrize("count", [0, 3, 200])
def test_examples_are_of_what_was_right_before(model: Linear, count: int) -> None:
    """Where it had few right few are shown, and where it had none what was said before and after."""
    found, x = images(300)
    said = model(x).argmax(1).numpy()
    right = np.arange(300) >= 300 - count  # the last ones, in part behind the first that are attacked at once
    got = robust_accuracy(model, found, np.where(right, said, 1 - said), (0.5,), steps=2)
    index = (np.flatnonzero(right) if count else np.arange(300))[:12]
    assert got.clean.value == count / 300
    np.testing.assert_array_equal(got.originals, found[index])
    np.testing.assert_array_equal(got.before, said[index])
    assert len(got.changed) == len(got.named) == len(index)
    if count:
        assert (got.named != got.before).all(), "no linear model stands half of the range"


@pytest.mark.parametrize("epsilons", [(), (0.0,), (-0.1,), (1.5,)])
def test_epsilons_that_are_none_are_refused(model: Linear, epsilons: tuple[float, ...]) -> None:
    found, x = images(4)
    with pytest.raises(UserError, match="--epsilons"):
        robust_accuracy(model, found, model(x).argmax(1).numpy(), epsilons)


def test_a_model_is_left_in_the_mode_it_was_in() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3)).train()
    net[1].eval()
    before = net[1].running_mean.clone()
    robust_accuracy(net, images(20)[0], np.zeros(20, dtype=np.int64), (0.1,), steps=2)
    assert net.training
    assert not net[1].training
    assert torch.equal(net[1].running_mean, before)


def test_what_fools_the_model_is_kept_though_a_later_step_costs_it_more() -> None:
    """With three classes a wrong answer may have a smaller loss than a right one that is hardly so."""

    class Ridge(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            at = x.flatten(1)[:, 0]
            near = (at < 0.15).float()  # class 1 wins there, by a little; beyond, class 0 is right, with a larger loss
            rest = torch.full_like(at, -9.0)
            early = torch.stack([0 * at, 0.1 + 0 * at, rest], 1)
            late = torch.stack([0.0 * at, -0.05 + 0 * at, 0.0 * at - 0.01], 1) + 0 * at[:, None]
            return near[:, None] * early + (1 - near[:, None]) * late + at[:, None] * torch.tensor([-1e-4, 0.0, 0.0])

    x, label = torch.full((1, 1, 1, 1), 0.1), torch.zeros(1, dtype=torch.int64)
    net = Ridge()
    found = pgd(net, x, label, 0.2, steps=5)
    assert int(net(found).argmax(1)) == 1
    losses = nn.functional.cross_entropy(net(torch.full((2, 1, 1, 1), 0.4)), torch.zeros(2, dtype=torch.int64))
    assert float(losses) > float(nn.functional.cross_entropy(net(found), label)), "the later one cost it more"


def test_images_without_labels_are_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        Image.fromarray(np.full((9, 12), 60 * number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    assert cli.main(["attack", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "the data have no labels of two or more classes, and the classifier to attack is trained on them" in said
    assert "applications.attack.robust_accuracy" in said
    assert "--run" not in said
    assert "--features" not in said


def test_the_classifier_that_is_trained_has_not_seen_what_is_attacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what one call wrote, the next leaves."""
    random = np.random.default_rng(0)
    for number in range(60):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 100, (16, 16), dtype=np.uint8) + np.uint8(150 * (number % 2))
        Image.fromarray(pixels).save(path)  # no two of them alike
    seen: dict[str, np.ndarray] = {}
    train = classifiers.train

    def training(build: Callable[[], nn.Sequential], images: np.ndarray, *more: Any, **named: Any) -> nn.Sequential:
        seen["trained on"] = images
        return train(build, images, *more, **named)

    def attack(model: nn.Module, images: np.ndarray, *more: Any, **named: Any) -> Attacked:
        seen["attacked"] = images
        return robust_accuracy(model, images, *more, **named)

    monkeypatch.setattr(classifiers, "train", training)
    monkeypatch.setattr(attacking, "robust_accuracy", attack)
    monkeypatch.chdir(tmp_path)
    words = ["attack", "photos", "--epsilons", "0.02", "0.5", "--steps", "2"]
    assert cli.main(words) == 0
    trained_on, attacked = ({image.tobytes() for image in seen[part]} for part in ("trained on", "attacked"))
    assert (len(trained_on), len(attacked)) == (20, 40)
    assert not trained_on & attacked
    first = Path("attack/attack.json").read_bytes()
    record = json.loads(first)
    assert record["classifier"].startswith("trained on a third of photos, accuracy ")
    fingerprint = data.open(Data(source="photos")).fingerprint
    assert record["data"] == {"source": "photos", "split": "train", "fingerprint": fingerprint}
    assert (record["images"], [row["epsilon"] for row in record["rows"]]) == (40, [0.02, 0.5])

    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(Path("attack-002/attack.png"))
    assert Path("attack/attack.json").read_bytes() == first
    assert cli.main([*words, "--out", "attack"]) == 2
    assert "--out attack: holds attack.json already; give another folder" in capsys.readouterr().err


def test_a_run_is_attacked_on_images_that_it_was_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.photos(tmp_path / "photos", 0)
    loose = tmp_path / "loose"
    loose.mkdir()
    for number in range(3):
        Image.fromarray(np.full((16, 16), 60 * number, dtype=np.uint8)).save(loose / f"{number}.png")
    for held, attacked in ((6, 6), (0, None)):
        run, out = tmp_path / f"run{held}", tmp_path / f"out{held}"
        train(tmp_path / "photos", run, held)
        status = cli.main(["attack", str(tmp_path / "photos"), "--run", str(run), "--steps", "1", "--out", str(out)])
        if attacked is None:
            assert status == 2
            assert "was trained on these images; give others" in capsys.readouterr().err
            assert cli.main(["attack", str(tmp_path / "photos"), "--limit", "12", "--run", str(run)]) == 2
            assert "was trained on these images; give others" in capsys.readouterr().err
        else:
            assert status == 0
            assert "naming the commonest class: 83.3%; the classifier cannot be told from" in capsys.readouterr().out
            record = json.loads((out / "attack.json").read_text())
            assert (record["images"], record["left out"]) == (attacked, 18)
            assert record["classifier"].endswith("images that it was not trained on")
            known = json.loads((run / "recipe.json").read_text())["data"]["fingerprint"]
            assert record["data"]["fingerprint"] == known, "that of all the data"
            assert cli.main(["attack", str(loose), "--run", str(run)]) == 2
            assert "loose: has no labels; sort the images into a folder a class" in capsys.readouterr().err


def test_of_a_copy_of_its_data_a_run_is_attacked_on_what_it_was_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the copy lacks or has more; where the run's own data are gone, it cannot be told."""
    own = Data(source=str(tiny.photos(tmp_path / "photos", 0)), held_out=6)
    whole = data.open(own)
    held, names = held_out_part(whole, own), parts.file_names(own, whole)
    assert held is not None
    assert names is not None
    unseen = {names[i] for i in held.index}
    trained_on = [name for name in names if name not in unseen]
    run, copy, out = tmp_path / "run", tmp_path / "copy", tmp_path / "out"
    train(tmp_path / "photos", run, 6)
    shutil.copytree(tmp_path / "photos", copy)
    for name in trained_on[:2]:
        (copy / name).unlink()

    def attack(to: str) -> tuple[dict[str, Any], str]:
        capsys.readouterr()
        words = ["attack", str(copy), "--run", str(run), "--epsilons", "0.02", "--steps", "1", "--out", str(out / to)]
        assert cli.main(words) == 0
        return json.loads((out / to / "attack.json").read_text()), capsys.readouterr().err

    record, said = attack("copy")
    assert (record["images"], record["left out"]) == (6, 16)
    assert record["classifier"].endswith("images that it was not trained on")
    assert f"16 of 22 images are left out: {run} was trained on them" in said

    (tmp_path / "photos").rename(tmp_path / "moved")
    record, said = attack("moved")
    assert (record["images"], record["left out"]) == (22, None)
    assert f"warning: on which of these images {run} was trained cannot be told: its data, " in said
    assert "cannot be read any more" in said
    (tmp_path / "moved").rename(tmp_path / "photos")
    assert cli.main(["attack", str(tmp_path / "photos"), "--fit", "pad", "--limit", "20", "--run", str(run)]) == 2
    assert "cannot be told: its data are read with --fit crop --bits 8; give others" in capsys.readouterr().err

    for number, name in enumerate(sorted(unseen)):
        (copy / name).unlink()
        if number >= 4:
            assert cli.main(["attack", str(copy), "--run", str(run)]) == 2
            but = ", all but 1" if number == 4 else ""
            assert f"{run} was trained on these images{but}; give others" in capsys.readouterr().err


def test_images_of_some_of_a_runs_classes_are_attacked_and_others_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out, seen = tmp_path / "run", tmp_path / "out", []
    train(tiny.photos(tmp_path / "all", 0, "abc"), run, 0)

    def attack(model: nn.Module, images: np.ndarray, labels: np.ndarray, *more: Any, **named: Any) -> Attacked:
        seen.append(labels)
        wrong = (model(torch.from_numpy(images).float() / 127.5 - 1).argmax(1).numpy() + 1) % 3
        return robust_accuracy(model, images, wrong, *more, **named)

    monkeypatch.setattr(attacking, "robust_accuracy", attack)
    some, other = tiny.photos(tmp_path / "some", 1, "bc"), tiny.photos(tmp_path / "other", 2, "bde")
    words = ["--run", str(run), "--epsilons", "0.02", "--steps", "1", "--out", str(out)]
    capsys.readouterr()
    assert cli.main(["attack", str(some), *words]) == 0
    said = capsys.readouterr()
    assert "accuracy on 24 images of b, c alone as they are: 0.0%" in said.out
    assert "none was right before, so attack.png shows what was said before and after" in said.err
    assert json.loads((out / "attack.json").read_text())["classes"] == ["b", "c"]
    assert np.bincount(seen[0]).tolist() == [0, 12, 12], "the run's numbers of these classes"
    assert cli.main(["attack", str(other), "--run", str(run)]) == 2
    assert "other: d, e are none of the run's classes (a, b, c); leave such images out" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--size 16 16", "--channels 1", "--longest 32"])
def test_a_run_is_shown_images_as_it_sees_them(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["attack", "digits", "--run", "nowhere", *option.split()]) == 2
    wanted = f"{option}: images are brought to the size and channels of nowhere; leave it out"
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda found, labels: (found.astype(np.float32) / 255, labels),
            r"images: float32 \(60, 1, 4, 4\); give uint8",
        ),
        (lambda found, labels: (found[:0], labels[:0]), r"images: uint8 \(0, 1, 4, 4\)"),
        (lambda found, labels: (found, labels[:, None]), r"labels: int64 \(60, 1\); give int64 \(60,\)"),
        (lambda found, labels: (found, labels.astype(np.int32)), "labels: int32"),
        (lambda found, labels: (found[:30], labels), r"labels: int64 \(60,\); give int64 \(30,\)"),
    ],
)
def test_other_arrays_are_refused(model: Linear, change: Change, why: str) -> None:
    with pytest.raises(UserError, match=why):
        robust_accuracy(model, *change(images()[0], np.zeros(60, dtype=np.int64)), (0.1,))


def test_parts_of_one_source_overlap_unless_one_is_for_training_and_one_for_tests() -> None:
    for a, b, same in (("train", "test", False), ("train", "all", True), ("all", "test", True)):
        one, other = Data(source="digits", split=a), Data(source="digits", split=b)  # type: ignore[arg-type]
        assert same_source(one, other) == same
    assert not same_source(Data(source="digits"), Data(source="mnist"))
