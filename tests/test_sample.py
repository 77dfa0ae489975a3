"""From a run folder to images: the same bytes however they are asked, clear errors where there is none."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from zerosum import checkpoint, pictures
from zerosum.data.spec import Spec
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.sample import CHUNK, Model, Samples, chunks, generate, load, slerp
from zerosum.trainer import Training

CASES: dict[str, tuple[str, ArrayDataset, bool]] = {  # algorithm, data, conditional
    "batch norm, classes": ("dcgan", tiny.images((1, 8, 8)), True),
    "no norm, colour": ("r3gan", tiny.images((3, 8, 12)), False),
    "spectral, alpha": ("sngan", tiny.images((4, 8, 8)), False),
    "points, classes": ("gan", tiny.points(), True),
}


def trained(out: Path, case: str = "batch norm, classes", steps: int = 3, **changes: object) -> Training:
    """A run folder with a checkpoint after every step, as a session would leave it."""
    name, data, conditional = CASES[case]
    run = tiny.run(name, toy=not data.spec.is_image, conditional=conditional, **changes)
    t = tiny.training(run, data, out)
    tiny.write_recipe(t, out)
    for _ in range(steps):
        t.step()
        checkpoint.save(out, t.seen, *t.state())
    return t


@pytest.fixture(scope="module", params=itertools.product(CASES, ("fp32", "bf16")), ids=", ".join)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    case, precision = request.param
    out = tmp_path_factory.mktemp("run")
    trained(out, case)
    return load(out, precision=precision)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    trained(out)
    return out


# ---- the same bytes ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(model: Model) -> None:  # trap 11
    a, b, other = model.sample(70, seed=7), model.sample(70, seed=7), model.sample(70, seed=8)
    assert a.images.tobytes() == b.images.tobytes()
    assert a.images.tobytes() != other.images.tobytes()
    for truncation in (0.5, 2.0):
        assert model.sample(5, 7, truncation=truncation).images.tobytes() == (
            model.sample(5, 7, truncation=truncation).images.tobytes()
        )


@pytest.mark.parametrize("n", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_whatever_is_asked_for_beside_it(model: Model, n: int) -> None:  # trap 10
    whole, some = model.sample(2 * CHUNK + 3, seed=1), model.sample(n, seed=1)
    assert len(some) == n
    assert some.images.tobytes() == whole.images[:n].tobytes()


def test_an_image_alone_is_the_image_in_a_batch(model: Model) -> None:  # trap 10
    """The network itself, without the padding: no sample depends on another (BatchNorm in eval mode)."""
    z, label = model.latents(64, 3), model.labels(64, None)
    batch = model.generator(z, label)
    for i in (0, 1, 63):
        alone = model.generator(z[i : i + 1], None if label is None else label[i : i + 1])
        torch.testing.assert_close(alone[0], batch[i], rtol=1e-4, atol=1e-5)


def test_shapes_and_types(model: Model) -> None:
    samples = model.sample(5)
    assert samples.images.shape == (5, *model.spec.shape)
    assert samples.images.dtype == (np.uint8 if model.spec.is_image else np.float32)
    assert (samples.labels is None) == (model.spec.classes == 0)
    assert samples.picture().size[0] > 0
    assert samples._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_averaged_weights_are_sampled(tmp_path: Path) -> None:
    t = trained(tmp_path, precision="fp64")
    model = load(tmp_path)
    assert all(p.dtype == torch.float32 for p in model.generator.parameters())
    assert not model.generator.training
    averaged = {k: v.float() if v.is_floating_point() else v for k, v in tiny.weights(t.ema["G"].network).items()}
    live = {k: v.float() if v.is_floating_point() else v for k, v in tiny.weights(t.players.G).items()}
    assert tiny.equal(tiny.weights(model.generator), averaged)
    assert not tiny.equal(tiny.weights(model.generator), live)
    assert model.images_seen == t.seen
    assert model.sample(3).protocol["weights"] == "ema"


def test_what_was_done_is_recorded(model: Model) -> None:  # trap 25
    assert model.sample(2, seed=5).protocol == {
        "images_seen": model.images_seen, "chunk": CHUNK, "weights": "ema", "precision": model.precision, "seed": 5,
        "truncation": None, **({"classes": "all in turn"} if model.spec.classes else {}),
    }  # fmt: skip
    assert model.sample(2, truncation=0.7).protocol["truncation"] == 0.7


def test_generate_refuses_train_mode_and_works_in_whole_chunks() -> None:  # trap 10
    network = nn.Linear(3, 2)

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = network

        def forward(self, z: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
            assert len(z) == CHUNK, "always a whole chunk"
            assert label is None or len(label) == CHUNK
            return self.layer(z)

    g, z = Generator(), torch.randn(CHUNK + 5, 3)
    with pytest.raises(ValueError, match="eval mode"):
        generate(g, z, None)
    label = torch.zeros(CHUNK + 5, dtype=torch.int64)
    out = generate(g.eval(), z, label)
    assert [len(part) for part in chunks(g, z, label)] == [CHUNK, 5]
    torch.testing.assert_close(out, network(z).detach())
    assert not out.requires_grad


def test_sampling_tells_its_progress(model: Model) -> None:
    told: list[int] = []
    model.sample(CHUNK + 5, progress=told.append)
    assert told == [CHUNK, CHUNK + 5]


# ---- latents -------------------------------------------------------------------------------------------


def test_moments_of_the_latents(model: Model) -> None:  # trap 24
    z = model.latents(20_000, seed=3)
    assert z.shape == (20_000, model.latent)
    assert z.dtype == torch.float32
    bound = 5 / math.sqrt(20_000)
    assert float(z.mean(0).abs().max()) < bound
    assert float((z.std(0) - 1).abs().max()) < bound
    assert torch.equal(model.latents(7, seed=3), z[:7])


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0, 2.0])
def test_truncated_latents(model: Model, t: float) -> None:
    """Bounded by t, with the variance of a normal cut off at +-t: 1 - 2 t phi(t) / (2 Phi(t) - 1)."""
    z = model.latents(20_000, seed=3, truncation=t).double()
    assert float(z.abs().max()) <= t * (1 + 1e-6)
    assert float(z.abs().max()) > 0.99 * t
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * t * density / math.erf(t / math.sqrt(2))
    assert float(z.var()) == pytest.approx(variance, rel=0.03)
    assert abs(float(z.mean())) < 5 * math.sqrt(variance / z.numel())
    assert torch.equal(model.latents(7, seed=3, truncation=t), z[:7].float())


def test_truncation_far_out_is_none(model: Model) -> None:
    z = model.latents(10_000, truncation=50.0)
    assert bool(z.isfinite().all())
    assert float(z.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("t", [0.0, -1.0, math.nan])
def test_truncation_must_be_positive(model: Model, t: float) -> None:
    with pytest.raises(UserError, match=f"--truncation {t}: must be above 0"):
        model.sample(2, truncation=t)


def test_fewer_than_one_sample(model: Model) -> None:
    with pytest.raises(UserError, match="-n 0: ask for 1 sample or more"):
        model.sample(0)


# ---- labels --------------------------------------------------------------------------------------------


def test_labels_in_turn(folder: Path) -> None:  # trap 24
    model = load(folder)
    labels = model.sample(32).labels
    assert labels is not None
    assert np.bincount(labels).tolist() == [11, 11, 10]
    assert labels[:4].tolist() == [0, 1, 2, 0]
    chosen = model.sample(6, classes=["class 2", 0]).labels
    assert chosen is not None
    assert chosen.tolist() == [2, 0, 2, 0, 2, 0]


def test_a_text_is_a_name_and_a_number_a_place(folder: Path) -> None:
    """Or, of folders 10, 20 and 30, `--classes 1` would draw the second."""
    model = load(folder)
    model.class_names = ("10", "20", "30")
    assert model.sample(2, classes=["20", 2]).labels.tolist() == [1, 2]  # type: ignore[union-attr]
    for wrong in ("1", 20):
        with pytest.raises(UserError, match=f"--classes {wrong}: no such class; the classes are 10, 20, 30"):
            model.sample(2, classes=[wrong])
    model.class_names = ()
    assert model.sample(2, classes=["1", 0]).labels.tolist() == [1, 0]  # type: ignore[union-attr]


def test_the_record_names_the_classes_that_were_drawn(folder: Path) -> None:
    of_classes = load(folder)
    assert of_classes.sample(4).protocol["classes"] == "all in turn"
    assert of_classes.sample(4, classes=["class 2", 0]).protocol["classes"] == ["class 2", "class 0"]
    walk = of_classes.interpolate(5, classes=[1, 2], still=True).protocol
    assert [walk[name] for name in ("classes", "steps", "stops", "still")] == [["class 1", "class 2"], 5, 2, True]


def test_the_label_changes_the_image_and_nothing_else(folder: Path) -> None:
    model = load(folder)
    images = [model.sample(1, seed=2, classes=[k]).images for k in range(3)]
    assert not np.array_equal(images[0], images[1])
    assert np.array_equal(images[1], model.sample(4, seed=2, classes=[1]).images[:1])


def test_unknown_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    for wrong in ("dog", 3, "-1"):
        with pytest.raises(UserError, match=f"--classes {wrong}: no such class; the classes are class 0, class 1"):
            model.sample(2, classes=[wrong])
    trained(tmp_path, "no norm, colour", steps=1)
    with pytest.raises(UserError, match="--classes: this run was trained without labels"):
        load(tmp_path).sample(2, classes=["class 1"])


# ---- interpolation -------------------------------------------------------------------------------------


def test_slerp() -> None:
    torch.manual_seed(2)
    a, b = torch.randn(2, 50, dtype=torch.float64)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    path = slerp(a, b, t)
    torch.testing.assert_close(path[0], a)
    torch.testing.assert_close(path[-1], b)
    unit = slerp(a / a.norm(), b / b.norm(), t)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(11, dtype=torch.float64))
    steps = unit.diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, steps[:1].expand(10), msg="equal steps along the arc")
    assert float(path.norm(dim=1).min()) > 0.9 * min(float(a.norm()), float(b.norm()))
    torch.testing.assert_close(slerp(b, a, t), path.flip(0))


def test_slerp_of_parallel_latents_is_the_line() -> None:
    a = torch.randn(9, dtype=torch.float64)
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    torch.testing.assert_close(slerp(a, a, t), a.expand(3, 9))
    torch.testing.assert_close(slerp(a, 3 * a, t), torch.stack([a, 1.5 * a, 3 * a]))


def test_a_walk(model: Model) -> None:
    walk = model.interpolate(steps=5, seed=4, stops=3)
    assert walk.images.shape == (5 + 4, *model.spec.shape)
    assert walk.protocol["stops"] == 3
    assert walk.columns == 9
    assert np.array_equal(walk.images[:1], model.sample(1, seed=4, classes=None).images)
    assert np.array_equal(walk.images, model.interpolate(steps=5, seed=4, stops=3).images)
    for wrong in ({"steps": 1}, {"stops": 1}):
        with pytest.raises(UserError, match="both must be 2 or more"):
            model.interpolate(**wrong)


@pytest.mark.parametrize("case", ["batch norm, classes", "points, classes"])
def test_a_walk_from_class_to_class(tmp_path: Path, case: str) -> None:
    trained(tmp_path, case)
    conditional = load(tmp_path, precision="fp32")
    names = conditional.class_names[:2]
    walk = conditional.interpolate(steps=5, seed=4, classes=names, still=True)
    assert walk.labels is not None
    assert walk.labels.shape == (5, conditional.spec.classes)
    np.testing.assert_allclose(walk.labels.sum(1), 1)
    np.testing.assert_allclose(walk.labels[:, 1], [0, 0.25, 0.5, 0.75, 1])
    z = conditional.latents(1, 4).repeat(2, 1)
    ends = conditional.values(z, torch.tensor([0, 1]))
    close = 1 if conditional.spec.is_image else 1e-5
    assert np.abs(walk.images[[0, -1]].astype(float) - ends).max() <= close, "whole shares are the classes themselves"
    assert len(np.unique(walk.images.reshape(5, -1), axis=0)) == 5, "and between them it moves"
    moving = conditional.interpolate(steps=3, stops=3, seed=4, classes=names)
    assert moving.labels is not None
    np.testing.assert_allclose(moving.labels[:, 0], [1, 0.5, 0, 0.5, 1])
    one = conditional.interpolate(steps=3, seed=4, classes=names[1:])
    assert one.labels is not None
    assert one.labels.tolist() == [1, 1, 1]
    with pytest.raises(UserError, match="--still: nothing would change; give two or more --classes"):
        conditional.interpolate(classes=names[:1], still=True)
    every = conditional.interpolate(steps=3, stops=3, seed=4, still=True)
    assert every.labels is not None
    assert every.labels[[0, 2, 4]].argmax(1).tolist() == [0, 1, 2], "all in turn"


# ---- loading -------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"not a run folder \(it has no recipe.json\); zerosum list shows yours"):
            load(path)


@pytest.mark.parametrize("text", ["{", "", "[]", "{}", '{"run": {}}', "\x00"])
def test_a_damaged_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(UserError, match=r"recipe\.json"):
        load(tmp_path)


def test_a_run_without_checkpoints(tmp_path: Path) -> None:
    trained(tmp_path, steps=0)
    with pytest.raises(UserError, match="there is no checkpoint yet; train it first with zerosum train --resume"):
        load(tmp_path)
    with pytest.raises(UserError, match="--checkpoint best: give last, best or images seen, one of: none"):
        load(tmp_path, "best")


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path)
    numbers = checkpoint.numbers(tmp_path)
    file = checkpoint.path_of(tmp_path, numbers[-1]) / checkpoint.TENSORS
    file.write_bytes(file.read_bytes()[:-1])
    assert load(tmp_path).images_seen == numbers[-2]
    said = capsys.readouterr().err
    assert "does not match its checksum: it is truncated or altered; going back to the checkpoint before it" in said
    with pytest.raises(UserError, match=f"--checkpoint {numbers[-1]}: .*truncated or altered; use another checkpoint"):
        load(tmp_path, str(numbers[-1]))
    for number in numbers[:-1]:
        (checkpoint.path_of(tmp_path, number) / checkpoint.STATE).write_text("{}")
    with pytest.raises(UserError, match="every checkpoint is damaged, so there is nothing to load; train it anew"):
        load(tmp_path)


def test_a_recipe_that_was_changed_under_its_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    recipe["run"]["algorithm"]["networks"]["width"] += 1
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(UserError, match=r"holds weights of other networks than recipe.json describes: .*size mismatch"):
        load(tmp_path)
    del recipe["data"]["fingerprint"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(UserError, match="its data has no 'fingerprint'; put back the original"):
        load(tmp_path)


def test_which_checkpoint(folder: Path) -> None:
    numbers = checkpoint.numbers(folder)
    assert load(folder).images_seen == numbers[-1]
    assert load(folder, str(numbers[0])).images_seen == numbers[0]
    for wrong in ("7", "newest", "-8"):
        with pytest.raises(UserError, match=f"--checkpoint {wrong}: give last, best or images seen, one of: 8, 16, 24"):
            load(folder, wrong)


def test_the_best_checkpoint_is_that_of_the_lowest_score(tmp_path: Path) -> None:
    t = trained(tmp_path, steps=0)
    for score in (0.5, 0.1, 0.3, None):
        t.step()
        tensors, values = t.state()
        checkpoint.save(tmp_path, t.seen, tensors, {**values, "score": score})
    assert load(tmp_path, "best").images_seen == 2 * t.images_per_step


# ---- pictures ------------------------------------------------------------------------------------------


def test_a_grid_keeps_every_pixel() -> None:
    images = tiny.images((3, 8, 12), 6).values
    picture = np.asarray(pictures.grid(images, columns=3))
    columns = Samples(images, None, {}, columns=3).picture()
    assert np.array_equal(np.asarray(columns), picture)
    colours = {tuple(c) for c in picture.reshape(-1, picture.shape[-1])[:, :3].tolist()}
    assert {tuple(c) for c in images.transpose(0, 2, 3, 1).reshape(-1, 3).tolist()} <= colours


def test_the_columns_of_a_grid_are_classes(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    names = ("class 0", "class 1", "class 2")
    some = model.sample(12)
    assert (some.columns, some.names) == (3, names)
    plain = pictures.grid(some.seen, columns=3)
    picture = np.asarray(some.picture())
    assert np.array_equal(picture[-plain.height :, -plain.width :], np.asarray(plain)), "the names stand above it"
    assert picture.shape[0] > plain.height
    many = model.sample(64)
    assert (many.columns, many.names) == (9, 3 * names), "near a square"
    assert many.labels is not None
    assert (many.labels[:63].reshape(-1, 9) == many.labels[:9]).all()
    asked = model.sample(10, classes=["class 2", 0])
    assert (asked.columns, asked.names) == (4, ("class 2", "class 0", "class 2", "class 0"))
    few = model.sample(2)
    assert (few.columns, few.names) == (2, names[:2])
    for alone in (model.sample(9, classes=[1]), model.sample(40, classes=[0, 1, 2] * 6)):
        assert (alone.columns, alone.names) == (None, ()), "one class, or more than fit"
    trained(tmp_path, "no norm, colour", steps=1)
    assert load(tmp_path).sample(4).columns is None


def test_the_spec_comes_from_the_folder(model: Model) -> None:
    assert isinstance(model.spec, Spec)
    assert model.class_names == ("class 0", "class 1", "class 2")
