"""The whole of `zerosum equilibrium`: what it reads, that it changes nothing, and what it writes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
import zerosum
from zerosum import cli, randomness, session
from zerosum.data.source import open_source
from zerosum.data.spec import Data, Dataset
from zerosum.data.split import held_out_part, train_part
from zerosum.data.store import ArrayDataset
from zerosum.equilibrium import measure as measuring
from zerosum.equilibrium.measure import measure
from zerosum.equilibrium.picture import plot
from zerosum.errors import UserError
from zerosum.runlog import EVENTS

STEPS = 12


def trained(out: Path, dataset: Dataset, **changes: object) -> Path:
    run = tiny.run("gan", toy=not dataset.spec.is_image, images=8 * STEPS, checkpoint_every=32, **changes)
    return session.start(run, dataset, out)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("equilibrium") / "run", tiny.images(count=240))


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_measuring_changes_nothing(run: Path) -> None:
    files, generator, threads = digest(run), torch.get_rng_state(), torch.get_num_threads()
    told: list[tuple[str, int, int]] = []
    found = measure(run, tiny.images(count=240), quick=True, say=lambda *words: told.append(words))
    assert digest(run) == files
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads
    assert {what for what, _, _ in told} == {"judges", "extra turns"}
    for what in ("judges", "extra turns"):
        dones = [(done, total) for w, done, total in told if w == what]
        assert dones[-1][0] == dones[-1][1] == len(dones)
    torch.manual_seed(5)
    assert measure(run, tiny.images(count=240), quick=True) == found, "the same seed, the same answer"
    assert found.images_seen == 8 * STEPS
    assert found.unseen
    assert found.real == "24 held out of training"
    assert found.test.judged == 12
    assert len(found.regret) == 1


def test_every_kept_checkpoint_is_a_point_of_the_curve(run: Path) -> None:
    found = measure(run, tiny.images(count=240), samples=20)
    seen = [point.images_seen for point in found.regret]
    assert seen == sorted(seen)
    assert len(seen) >= 2
    assert seen[-1] == found.images_seen
    earlier = measure(run, tiny.images(count=240), samples=20, which=str(seen[0]))
    assert earlier.images_seen == seen[0]
    assert earlier.regret == found.regret[:1], "a point does not depend on the others"
    assert all(line.images_seen <= seen[0] for line in earlier.logged)


def test_what_is_written_is_json_and_says_everything(run: Path, tmp_path: Path) -> None:
    found = measure(run, tiny.images(count=240), quick=True)
    measuring.write(found, tmp_path / "found.json")
    record = json.loads((tmp_path / "found.json").read_text())
    assert record["zerosum"] == "equilibrium"
    assert record["verdict"]["sentence"] == found.verdict.sentence
    assert record["two_sample"]["fake"][0]["accuracy"]["low"] == found.test.fake[0].accuracy.low
    assert record["two_sample"]["found"] is found.test.found
    assert record["regret"][0]["gains"][0]["side"] == "D"
    assert record["logged"][0]["distance"] == found.logged[0].distance


def test_real_images_are_unseen_and_the_control_is_others(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    dataset = tiny.images(count=240)
    taken: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    judge = measuring.two_sample

    def spy(real: np.ndarray, fake: np.ndarray, control: np.ndarray, **options: object) -> object:
        taken.append((real, fake, control))
        return judge(real, fake, control, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "two_sample", spy)
    data = measuring.runs.from_json(measuring.sample.read_recipe(run)["run"]).data
    measure(run, dataset, quick=True)
    ((real, fake, control),) = taken
    held_out = held_out_part(dataset, data)
    assert held_out is not None

    def rows(values: np.ndarray) -> set[bytes]:
        return {row.tobytes() for row in values}

    assert rows(real) == rows(held_out.gather(np.arange(len(held_out)))[0]), "bit for bit, each once"
    training = train_part(dataset, data)
    assert rows(control) <= rows(training.gather(np.arange(len(training)))[0])
    assert real.dtype == fake.dtype == control.dtype == np.uint8
    assert len(real) == len(fake) == len(control) == 24


def test_without_held_out_images_it_says_so(tmp_path: Path) -> None:
    data = tiny.images(count=60)
    out = trained(tmp_path / "run", data)
    found = measure(out, data, quick=True)
    assert not found.unseen
    assert found.real == "30 that were trained on"
    assert any("no real images were held out" in note for note in found.notes)
    assert found.verdict.kind in ("not enough data", "test broken"), "nothing is claimed from 30 images"
    with pytest.raises(UserError, match="n=10: the two-sample test needs 20"):
        measure(out, data, samples=10)


def test_named_sets_add_their_test_split(tmp_path: Path) -> None:
    source = Data(source="digits")
    digits = open_source(source)
    out = trained(tmp_path / "run", digits, data=source)
    found = measure(out, digits, quick=True, samples=200)
    assert found.real == "143 held out of training and 57 of the test split"
    assert found.test.found, "it has hardly trained"


def test_classes_are_as_frequent_as_in_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # trap 24
    labels = np.array([0] * 270 + [1] * 30)
    data = ArrayDataset(tiny.images(count=300).values, labels, ("often", "rarely"))
    out = trained(tmp_path / "run", data, conditional=True)
    drawn: list[torch.Tensor] = []
    generate = measuring.sample.generate

    def spy(generator: torch.nn.Module, z: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        assert label is not None
        drawn.append(label)
        return generate(generator, z, label)

    monkeypatch.setattr(measuring.sample, "generate", spy)
    measure(out, data, quick=True)
    assert float((drawn[-1] == 0).double().mean()) > 0.7


def test_a_generator_equal_to_the_data_is_at_equilibrium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G gives fresh draws of what the data were drawn from: nothing is found, and the verdict says so."""
    values = randomness.normal(0, "tests/equilibrium", 0, 4_000, 2).float().numpy()
    data = ArrayDataset(values)
    out = trained(tmp_path / "run", data, data=Data(source="tiny", held_out=1_000))
    clean = measure(out, data, quick=True, samples=1_000)
    assert clean.test.found, "it has hardly trained"
    monkeypatch.setattr(measuring.sample, "generate", lambda generator, z, label: z[:, :2])
    found = measure(out, data, quick=True, samples=1_000)
    assert found.verdict.kind == "at equilibrium"
    assert found.test.broken is None


def test_other_data_are_noted(run: Path) -> None:
    found = measure(run, tiny.images(count=241), quick=True)
    assert any("not what the run was trained on" in note for note in found.notes)


def test_copies_come_from_an_evaluation_of_the_same_checkpoint(tmp_path: Path) -> None:
    data = tiny.images(count=240)
    out = trained(tmp_path / "run", data)
    record = {"images_seen": 8 * STEPS, "verdict": [{"kind": "copies", "text": "Copies: 5 % of the images."}]}
    for content, expected in (
        (json.dumps(record), "5 % of the images."),
        (json.dumps(record | {"images_seen": 8}), ""),
        (json.dumps(record | {"verdict": []}), ""),
        ("damaged {", ""),
        ("[]", ""),
    ):
        (out / "evaluation.json").write_text(content)
        assert measuring._copies(out, 8 * STEPS) == expected


def test_the_log_is_read_as_it_ended(tmp_path: Path) -> None:
    lines = [
        {"event": "probe", "images_seen": 0, "distance": 3.0, "diversity": 0.5},
        {"event": "probe", "images_seen": 10, "distance": 2.0},
        {"event": "probe", "images_seen": 20, "distance": 9.0},
        {"event": "probe", "images_seen": 10, "distance": 2.5},
        {"event": "regret", "images_seen": 10, "regret/gap": 0.25},
        {"event": "progress", "images_seen": 12, "loss/D": 1.0},
        {"event": "probe", "images_seen": 30, "distance": 1.0},
    ]
    (tmp_path / EVENTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = measuring._logged(tmp_path, 20)
    assert [(x.images_seen, x.gap, x.distance, x.diversity) for x in found] == [
        (0, None, 3.0, 0.5),
        (10, 0.25, 2.5, None),
    ]


# ---- the command -----------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = trained(tmp_path / "run", open_source(Data(source="digits")), data=Data(source="digits"))
    assert cli.main(["equilibrium", str(out), "--quick", "-n", "100", "--json", str(tmp_path / "a.json")]) == 0
    shown = capsys.readouterr().out
    assert "real images: 100 held out of training" in shown
    assert "small CNN" in shown
    assert "what each player still gains in 5 extra turns" in shown
    record = json.loads((out / "equilibrium.json").read_text())
    assert record["verdict"]["sentence"] in shown
    assert json.loads((tmp_path / "a.json").read_text()) == record
    assert "How often fresh discriminators" in (out / "report.html").read_text("utf-8"), "the report is made anew"
    with Image.open(out / "equilibrium.png") as picture:
        assert min(picture.size) > 300
    found = zerosum.equilibrium_of(out, n=100, quick=True)
    assert json.loads(json.dumps(found.to_json())) == record
    left, right = plot(found).axes
    for (low, high), values in (
        (left.get_xlim(), [j.accuracy.value for j in found.test.fake + found.test.control]),
        (right.get_xlim(), [found.images_seen]),
        (right.get_ylim(), [end for g in found.regret[0].gains for end in (g.gain.low, g.gain.high)]),
    ):
        assert low < min(values)
        assert max(values) < high, "everything is in view"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nowhere"], "nowhere: not a run folder"),
        (["nowhere", "--seed", "-1"], "--seed -1: must be 0 or more"),
        (["nowhere", "-n", "0"], "-n 0: must be 1 or more"),
    ],
)
def test_mistakes_are_named(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["equilibrium", *words]) == 2
    assert error in capsys.readouterr().err


def test_data_from_python_are_asked_for(tmp_path: Path) -> None:
    data = tiny.images(count=240)
    out = trained(tmp_path / "run", data, data=Data(source="(from Python)"))
    with pytest.raises(UserError, match="its data were handed over in Python; measure it there with"):
        zerosum.equilibrium_of(out)
    assert zerosum.equilibrium_of(out, data=data, quick=True).unseen


def test_an_unknown_checkpoint_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match="--checkpoint 7: give last, best or images seen"):
        measure(run, tiny.images(count=240), which="7")
