"""Evaluations: stages, cache, floors, protocols, refusals, and the verdict on planted faults."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from zerosum import api, inference, runlog, sample, session
from zerosum.commands.evaluate import show
from zerosum.data.spec import Data
from zerosum.data.split import Part
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.metrics import evidence, faults
from zerosum.metrics.cache import Cache
from zerosum.metrics.evaluate import Settings, evaluate
from zerosum.metrics.evaluation import Evaluation
from zerosum.metrics.sources import Fakes, Reals, draw, of_data, of_dataset, of_run, reals
from zerosum.view import SilentView

QUICK = Settings(features="random", quick=True)


def blobs(count: int, seed: int = 0) -> np.ndarray:
    """Soft blobs anywhere on a faintly grainy ground: (count, 1, 12, 12) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :12] / 12
    at = random.uniform(0.2, 0.8, (2, count, 1, 1))
    size = random.uniform(0.003, 0.03, (count, 1, 1))
    image = 60 + 150 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / size) + random.normal(0, 3, (count, 12, 12))
    return np.clip(image, 0, 255).round().astype(np.uint8)[:, None]


@pytest.fixture(scope="module")
def real() -> Reals:
    data = ArrayDataset(blobs(1_300))
    return Reals(Part(data, np.arange(800), "train"), Part(data, np.arange(800, 1_300), "held out"), "blobs", False)


def of(values: np.ndarray, real: Reals) -> Fakes:
    return of_dataset(ArrayDataset(values), "fakes", real.train)


def found(real: Reals, values: np.ndarray, settings: Settings = QUICK, cache: Cache | None = None) -> Evaluation:
    return evaluate(real, of(values, real), settings, cache or Cache(None))


def test_files_that_cannot_be_read_are_counted_on_either_side(tmp_path: Path) -> None:
    for side, seed in (("real", 0), ("fake", 1)):
        (tmp_path / side).mkdir()
        for i, image in enumerate(blobs(320, seed)):
            Image.fromarray(image[0]).save(tmp_path / side / f"{i:03}.png")
        (tmp_path / side / "aa.png").write_bytes(b"no picture")
        (tmp_path / side / "zz.png").write_bytes(b"")
    against = reals(Data(source=str(tmp_path / "real"), held_out=0), api.open_data)
    fakes = of_data(Data(source=str(tmp_path / "fake")), api.open_data, against.train)
    notes = evaluate(against, fakes, QUICK, Cache(None)).notes
    for side in ("real", "fake"):
        assert any(f"{side}: 2 of the files could not be read and were left out, such as aa.png" in n for n in notes)


def test_new_real_images_are_at_the_floor_and_nothing_is_said(real: Reals) -> None:
    result = found(real, blobs(400, seed=1))
    assert [f.kind for f in result.verdict] == ["nothing found"]
    for key in ("kernel", "precision", "recall", "coverage", "detail"):
        m = result.measurements[key]
        assert m.floor is not None
        assert m.low is not None
        assert m.high is not None
        assert m.low <= m.floor.high
        assert m.floor.low <= m.high
        assert m.n_real == m.n_fake == 400  # trap 7
        assert m.protocol.seed == 0
        assert len(m.protocol.weights) == 64
    assert all(0 <= end <= 1 for key in ("precision", "recall", "coverage") for end in bounds(result, key))
    assert bounds(result, "density")[0] >= 0
    assert min(result.p_values["detail"], result.p_values["grain"]) > 1e-3


def bounds(result: Evaluation, key: str) -> list[float]:
    """The ends of a measurement's interval, and of its floor's."""
    m = result.measurements[key]
    assert m.floor is not None
    assert m.low is not None
    assert m.high is not None
    return [m.low, m.high, m.floor.low, m.floor.high]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda x, train: faults.blur(x), "blur"),
        (lambda x, train: faults.noise(x, 0), "noise"),
        (lambda x, train: faults.copies(x, train, 0), "copies"),
        (lambda x, train: x[np.argsort(x[:, 0, :6].mean((1, 2)))[:400]], "mode dropping"),
    ],
)
def test_planted_faults_are_named(real: Reals, fault: Callable[..., np.ndarray], kind: str) -> None:
    train = real.train.gather(np.arange(800))[0]
    count = 1_200 if kind == "mode dropping" else 400
    result = found(real, fault(blobs(count, seed=1), train))
    assert kind in [f.kind for f in result.verdict]


def test_copies_are_shown_beside_what_they_copy(real: Reals) -> None:
    train = real.train.gather(np.arange(800))[0]
    result = found(real, faults.copies(blobs(400, seed=1), train, 0))
    assert result.pairs is not None
    assert np.array_equal(result.pairs.fake, result.pairs.train)
    assert set(result.pairs.distance) == {0.0}
    assert evidence.nearest_pairs(result.pairs).width > 0


def test_a_set_against_itself_is_at_no_distance(real: Reals) -> None:
    values = real.train.gather(np.arange(800))[0]
    settings = replace(QUICK, n=800)
    result = found(real, values, settings)
    assert result.measurements["frechet"].value < 1e-6  # trap 1
    assert result.measurements["recall"].value == 1
    assert result.measurements["frechet"].floor is None
    assert "no floors" in " ".join(result.notes)


def test_the_floor_falls_with_n(real: Reals) -> None:
    floors = []
    for n in (50, 100, 400):
        result = evaluate(real, of(blobs(400, 1), real), replace(QUICK, features="pixels", n=n), Cache(None))
        floor = result.measurements["coverage"].floor
        assert floor is not None
        near = evaluate(Reals(ArrayDataset(_two(1_000)), None, "two", False), _points(n), Settings(n=n), Cache(None))
        frechet = near.measurements["frechet"].floor
        assert frechet is not None
        floors.append(frechet.value)
    assert floors[0] > floors[1] > floors[2]  # trap 5


def _two(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)


def _points(n: int) -> Fakes:
    return of_dataset(ArrayDataset(_two(n, 9)), "points", ArrayDataset(_two(10)))


def test_points_are_compared_by_their_coordinates() -> None:
    data = Reals(ArrayDataset(_two(1_000)), None, "two", False)
    shifted = of_dataset(ArrayDataset(_two(500, 1) + np.float32(1)), "shifted", data.train)
    result = evaluate(data, shifted, Settings(), Cache(None))
    assert result.choice.extractor.name == "coordinates"
    assert result.measurements["frechet"].value == pytest.approx(2, rel=0.2)
    assert [f.kind for f in result.verdict][-1] == "differs"
    assert "detail" not in result.measurements
    assert "copies" not in result.measurements


def test_the_cache_gives_the_same_numbers_and_damage_is_mended(real: Reals, tmp_path: Path) -> None:
    values = blobs(400, seed=1)
    first = found(real, values, cache=Cache(tmp_path)).to_json()["measurements"]
    assert {p.parent.name for p in tmp_path.rglob("*.safetensors")} == {"features", "statistics"}
    assert found(real, values, cache=Cache(tmp_path)).to_json()["measurements"] == first
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    mended = found(real, values, cache=Cache(tmp_path))
    assert mended.to_json()["measurements"] == first
    assert any("damaged" in note for note in mended.notes)
    assert found(real, values).to_json()["measurements"] == first


def test_images_of_a_lossy_format_on_one_side_are_stated(tmp_path: Path) -> None:
    for kind in ("png", "jpg"):
        (tmp_path / kind).mkdir()
        for i, image in enumerate(blobs(120)):
            Image.fromarray(image[0]).save(tmp_path / kind / f"{i:03d}.{kind}", quality=60)
    real = reals(Data(source=str(tmp_path / "png"), held_out=0), api.open_data)
    results = {}
    for kind in ("png", "jpg"):
        fakes = of_data(Data(source=str(tmp_path / kind)), api.open_data, real.train)
        results[kind] = evaluate(real, fakes, Settings(features="pixels", n=120), Cache(None))
    assert not any("lossy" in note for note in results["png"].notes)
    assert any("lossy" in note for note in results["jpg"].notes)  # trap 2
    near, far = (results[kind].measurements["kernel"].value for kind in ("png", "jpg"))
    assert far > near  # trap 2: the format alone raises the distance


@pytest.mark.parametrize(("n", "have"), [(10, 400), (801, 900)])
def test_too_few_or_too_many_images_are_refused(real: Reals, n: int, have: int) -> None:
    with pytest.raises(UserError, match="-n"):
        found(real, blobs(have, 1), replace(QUICK, n=n))


def test_features_that_do_not_vary_are_refused() -> None:
    grey = Reals(ArrayDataset(np.full((200, 1, 12, 12), 128, np.uint8)), None, "grey", False)
    with pytest.raises(UserError, match="all 100 real images have the same features, so nothing can be said"):
        evaluate(grey, of(blobs(100), grey), Settings(features="pixels", n=100), Cache(None))


def test_weak_features_are_called_weak_and_one_kind_only_is_called_fid(
    real: Reals, capsys: pytest.CaptureFixture[str]
) -> None:
    result = found(real, blobs(400, seed=1), Settings(features="pixels", n=400))
    assert any("weak" in note for note in result.notes)
    assert result.measurements["frechet"].protocol.metric == "Frechet distance"
    show(result)
    lines = capsys.readouterr().out.splitlines()
    weak = {
        name: any(name in x and "(weak)" in x for x in lines) for name in ("kernel distance", "grain", "fine detail")
    }
    assert weak == {"kernel distance": True, "grain": False, "fine detail": False}


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional run on digits that has hardly begun."""
    out = tmp_path_factory.mktemp("runs") / "one"
    run = tiny.run("dcgan", data=Data(source="digits"), images=16, conditional=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "make_film", lambda out: None)
        session.start(run, api.open_data(run.data), out, view=SilentView(), device="cpu")
    return out


def labelled(labels: np.ndarray, model: sample.Model) -> Reals:
    """Real images of which only the labels are of interest, by the names that the model has for them."""
    return Reals(ArrayDataset(np.zeros((len(labels), 1, 8, 8), np.uint8), labels, model.called), None, "these", False)


def test_a_run_is_sampled_as_zerosum_sample_does_it_and_with_the_datas_shares(run: Path) -> None:
    model = sample.load(run, precision="fp32")
    labels = np.array([1] * 30 + [2] * 10)
    values, kind = draw(model, 80, 4, labelled(labels, model))
    assert kind is not None
    assert np.bincount(kind)[[1, 2]].tolist() == [60, 20]  # trap 24
    direct = sample.generate(model.ready, model.latents(80, 4), torch.from_numpy(kind))  # trap 24
    assert np.array_equal(values, sample.to_uint8(direct))


def test_a_run_is_measured_in_fp32_wherever_it_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "has_fast_bf16", lambda: True)
    assert sample.load(run).precision == "bf16"
    fakes, _ = of_run(run)
    model = sample.load(run, precision="fp32")
    ten = labelled(np.arange(10), model)
    assert np.array_equal(fakes.take(20, 4, ten, None)[0], draw(model, 20, 4, ten)[0])


def test_runs_are_evaluated_kept_and_compared(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROSUM_CACHE", str(tmp_path))
    options = {"n": 120, "features": "random", "quick": True}
    result = api.evaluate(run, **options)
    assert result.to_json()["quick"]
    assert not api.has_fuller(run, result), "there is none yet"
    api.keep(replace(result, quick=False), run)
    assert api.has_fuller(run, result)
    assert not api.has_fuller(run, replace(result, images_seen=17)), "of other weights"
    assert not api.has_fuller(run, replace(result, quick=False))
    assert result.measurements["kernel"].protocol.truncation is None  # trap 25
    assert result.classes_from == "the labels of both sides"
    assert [c.share.name for c in result.classes] == [str(i) for i in range(10)]
    assert "differs" in [f.kind for f in result.verdict]
    assert result.verdict[0].text in html.unescape(api.keep(result, run).read_text("utf-8"))  # the report is made anew
    record = evidence.read(run / runlog.EVALUATION)
    assert record is not None
    assert dict(record.measurements) == dict(result.measurements)
    assert (run / runlog.NEAREST).is_file() == (result.pairs is not None)
    _, shared = api.compare(run, run)
    assert "kernel" in shared
    with pytest.raises(UserError, match="two or more"):
        api.compare(run)
    strangers = [tmp_path / "one", tmp_path / "two"]  # neither is evaluated yet
    for path, source in zip(strangers, ("digits", "elsewhere"), strict=True):
        recipe = sample.read_recipe(run)
        recipe["data"]["fingerprint"], recipe["run"]["data"]["source"] = source, source
        path.mkdir()
        (path / runlog.RECIPE).write_text(json.dumps(recipe))
    with pytest.raises(UserError, match=r"trained on different data \(digits and elsewhere\)"):
        api.compare(*strangers)
    content = json.loads((run / runlog.EVALUATION).read_text())
    content["measurements"]["kernel"]["protocol"]["n_fake"] = 7
    other = tmp_path / "other"
    other.mkdir()
    (other / runlog.EVALUATION).write_text(json.dumps(content))
    with pytest.raises(UserError, match="n_fake"):
        api.compare(run, other)


def test_a_run_needs_no_against_and_other_things_do(run: Path) -> None:
    with pytest.raises(UserError, match="--against"):
        api.evaluate(blobs(100))
    result = api.evaluate(
        np.asarray(api.open_data(Data(source="digits", split="test")).gather(np.arange(300))[0]),
        against="digits", n=150, features="pixels", cache=False, quick=True,
    )  # fmt: skip
    assert "copies" in result.measurements


def test_a_run_against_test_images_is_searched_for_copies_of_its_training_images(run: Path) -> None:
    result = api.evaluate(run, split="test", n=100, features="pixels", cache=False, quick=True)
    assert result.against == "digits, test split"
    assert result.measurements["kernel"].protocol.real == "digits, test split"
    for m in (m for key, m in result.measurements.items() if key == "copies"):
        assert m.protocol.real == "digits, training part"


def test_training_held_out_and_test_images_are_disjoint() -> None:
    split = reals(Data(source="digits"), api.open_data)
    assert split.held_out is not None
    test = api.open_data(Data(source="digits", split="test"))
    kinds = [
        {v.tobytes() for v in part.gather(np.arange(len(part)))[0]} for part in (split.train, split.held_out, test)
    ]
    assert not kinds[0] & kinds[1]  # trap 30
    assert not kinds[0] & kinds[2]  # trap 30
    assert not kinds[1] & kinds[2]  # trap 30


def sided(count: int, seed: int, labels: np.ndarray | None = None) -> ArrayDataset:
    """Blobs in the left half (class 0) or in the right one; `labels` in place of the true ones."""
    side = np.random.default_rng([1, seed]).integers(0, 2, count)
    values = np.full((count, 1, 12, 24), 60, np.uint8)
    for image, blob, right in zip(values, blobs(count, seed), side, strict=True):
        image[:, :, 12 * right : 12 * right + 12] = blob
    return ArrayDataset(values, side if labels is None else labels(side), ("left", "right"))  # type: ignore[operator]


def test_whether_images_show_the_class_asked_for_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    data = sided(1_300, 0)
    real = Reals(Part(data, np.arange(800), "train"), Part(data, np.arange(800, 1_300), "held out"), "blobs", False)
    settings = Settings(features="random")

    def measured(fakes: ArrayDataset) -> Evaluation:
        return evaluate(real, of_dataset(fakes, "fakes", real.train), settings, Cache(None))

    right = measured(sided(400, 1))
    assert right.classes_from == "the labels of both sides"
    assert right.measurements["agreement"].value > 0.98
    assert not [f for f in right.verdict if f.kind == "wrong classes"]
    for c in right.classes:
        assert {"kernel", "density", "coverage", "agreement"} <= set(c.measurements)
    swapped = measured(sided(400, 1, lambda side: np.where(np.arange(400) % 2, side, 1 - side)))
    assert swapped.measurements["agreement"].value == pytest.approx(0.5, abs=0.1)
    (said,) = (f for f in swapped.verdict if f.kind == "wrong classes")
    assert "Wrong classes: a classifier takes" in said.text
    collapsed = sided(400, 1)
    one = collapsed.values[collapsed.labels == 1][0]
    collapsed.values[collapsed.labels == 1] = one
    found = {c.share.name: c.measurements for c in measured(collapsed).classes}
    covered = {name: own["coverage"].value for name, own in found.items()}
    assert covered["right"] < 0.3 * covered["left"], "agreement that one image buys"
    agreed = found["right"]["agreement"]
    assert agreed.low is not None
    assert agreed.value == 1 > agreed.low > 0.9, "one in a hundred could be wrong, as far as this tells"
    few = measured(sided(90, 1, lambda side: np.where(np.arange(90) < 10, 1, 0)))
    assert [bool(c.measurements) for c in few.classes] == [True, False]
    assert any("no numbers of their own for right: it takes 40 images" in note for note in few.notes)
    show(right)
    told = " ".join(capsys.readouterr().out.split())
    assert "class share real kernel distance real coverage real label agreement real" in told


def test_mirrored_training_is_recorded(real: Reals) -> None:
    fakes = replace(of(blobs(400, seed=1), real), run=Path("run"))
    result = evaluate(replace(real, flips=True), fakes, QUICK, Cache(None))
    assert result.measurements["kernel"].protocol.fake_flips  # trap 31
    assert any("mirrored" in note for note in result.notes)  # trap 31


def test_two_seeds_agree_within_their_intervals_and_no_minimum_is_taken(real: Reals) -> None:
    values = [found(real, blobs(400, 1), replace(QUICK, seed=s)).measurements["recall"] for s in (0, 1)]
    assert values[0].value != values[1].value
    assert all(m.protocol.selection == "none" for m in values)  # trap 6
    assert all(m.low is not None and m.high is not None and m.low <= m.value <= m.high for m in values)  # trap 6
