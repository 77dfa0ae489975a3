"""The latent space: what is inverted is found again, directions do what they say, neighbours are those of the data."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tiny
from zerosum import cli, randomness, sample
from zerosum.data.depth import Depth
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.latent import directions, inversion, tools
from zerosum.metrics.features.weak import Pixels
from zerosum.metrics.neighbours import nearest_few
from zerosum.networks import DCGAN, MLP, R3, SNDCGAN, FastGAN, Networks, Progressive, ResNet, Subpixel
from zerosum.sample import Model


class Smooth(nn.Module):
    """Images that bend gently with z: tanh of a linear map."""

    def __init__(self, latent: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.map = nn.Linear(latent, 3 * 8 * 8, bias=False)
        with torch.no_grad():
            self.map.weight.copy_(torch.randn(3 * 8 * 8, latent, generator=generator) / 2)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        shift = 0.0 if label is None else label.to(z.dtype)[:, None] / 4
        return torch.tanh(self.map(z) + shift).unflatten(1, (3, 8, 8))


def smooth() -> nn.Module:
    return Smooth().eval().requires_grad_(False)


def model(name: str = "r1gan", networks: Networks | None = None, shape: tuple[int, ...] = (3, 16, 16)) -> Model:
    run = tiny.run(name)
    networks = networks or Subpixel(latent=6, width=8, hidden=8)
    torch.manual_seed(0)
    generator = tiny.lively(networks.generator(Spec(shape)))
    run = replace(run, algorithm=tiny.replace_networks(name, networks))
    return Model(generator.eval().requires_grad_(False), run, Spec(shape), (), 1_000, "fp32")


def replace_spec(made: Model, spec: Spec) -> Model:
    return Model(made.generator, made.run, spec, (), 1_000, "fp32")


# ---- inversion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [None, torch.tensor([0, 1, 1])])
def test_what_the_model_made_is_found_again(label: Tensor | None) -> None:
    generator = smooth()
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    found = inversion.invert(generator, generator(z, label), 4, label=label, restarts=3, steps=200, drawn=200)
    torch.testing.assert_close(found.z, z, atol=0.02, rtol=0)
    assert float(found.errors.max()) < 0.01
    torch.testing.assert_close(found.images, generator(found.z, label))
    assert found.of_starts.shape == (3, 3)
    assert torch.equal(found.errors, found.of_starts.min(1).values)


def test_what_no_latent_makes_is_approached_from_many_starts() -> None:
    generator, x = smooth(), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    found = inversion.invert(generator, x, 4, restarts=4, steps=100, drawn=500)
    drawn = generator(torch.randn(500, 4, generator=torch.Generator().manual_seed(3)))
    nearest = (drawn[None] - x[:, None]).square().flatten(2).mean(2).sqrt().min(1).values
    assert bool((found.errors <= nearest).all())
    told = found.error_map(x)
    assert told.shape == (2, 1, 8, 8)
    torch.testing.assert_close(told.square().flatten(1).mean(1).sqrt(), found.errors)


def test_latents_stay_where_the_model_was_trained() -> None:
    class Far(nn.Module):
        def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
            return (z / 100)[:, :1, None, None].expand(-1, 1, 4, 4)

    found = inversion.invert(Far(), torch.ones(1, 1, 4, 4), 4, restarts=2, steps=300, drawn=10)
    assert float(found.z.norm()) <= 2 + inversion.BEYOND + 1e-4


def test_the_same_seed_finds_the_same_and_progress_goes_to_the_end() -> None:
    generator, x = smooth(), torch.zeros(2, 3, 8, 8)
    told: list[tuple[int, int]] = []
    options = {"restarts": 2, "steps": 5, "drawn": 20}
    one = inversion.invert(generator, x, 4, **options, progress=lambda *t: told.append(t))  # type: ignore[arg-type]
    two = inversion.invert(generator, x, 4, **options)  # type: ignore[arg-type]
    assert torch.equal(one.z, two.z)
    assert told == [(i, 10) for i in range(1, 11)]


@pytest.mark.parametrize(("steps", "moments"), [(3, 4), (59, 60), (60, 60), (150, 60)])
def test_the_way_goes_from_a_drawn_latent_to_the_one_that_is_found(steps: int, moments: int) -> None:
    generator, x = smooth(), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    found = inversion.invert(generator, x, 4, restarts=3, steps=steps, drawn=50)
    assert found.ways.shape == (2, moments, 4)
    assert torch.equal(found.ways[:, -1], found.z)
    drawn = randomness.normal(0, "invert", 0, 50, 4)
    for way, image, error in zip(found.ways, x, found.errors, strict=True):
        assert bool((way[0] == drawn).all(1).any())
        errors = (generator(way) - image).square().flatten(1).mean(1).sqrt()
        assert bool((errors.diff() <= 1e-6).all()), "it only comes nearer"
        torch.testing.assert_close(errors[-1], error)
        assert steps < 59 or float(errors[0]) > float(error)


@pytest.mark.parametrize("name", ["restarts", "steps"])
def test_counts_below_one(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name} 0: must be 1 or more"):
        inversion.invert(smooth(), torch.zeros(1, 3, 8, 8), 4, **{name: 0})  # type: ignore[arg-type]


# ---- directions ----------------------------------------------------------------------------------------------------

NETS: list[Networks] = [
    DCGAN(latent=6, width=4), MLP(latent=6, width=8), R3(latent=6, width=8, widest=8, group_width=8),
    SNDCGAN(latent=6, width=4), FastGAN(latent=6, width=4), Progressive(latent=6, width=4, widest=8),
    ResNet(latent=6, width=4, generator_width=4), Subpixel(latent=6, width=4),
]  # fmt: skip


@pytest.mark.parametrize("networks", NETS, ids=lambda net: type(net).__name__)
@pytest.mark.parametrize("classes", [0, 3])
def test_directions_of_every_kind_of_generator(networks: Networks, classes: int) -> None:
    generator = networks.generator(Spec((1, 16, 16), classes)).eval()
    label = torch.zeros(1, dtype=torch.long) if classes else None
    found = directions.factorised(generator, 6, 3, label)
    vectors = torch.stack([d.vector for d in found])
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(3), atol=1e-5, rtol=0)
    assert found[0].strength == 1 >= found[1].strength >= found[2].strength > 0


def test_the_first_direction_changes_the_first_layer_most() -> None:
    generator = smooth()
    weight = generator.map.weight
    best, *others = directions.factorised(generator, 4, 4)
    gain = float((weight @ best.vector).norm())
    assert all(float((weight @ d.vector).norm()) < gain for d in others)
    random = torch.nn.functional.normalize(torch.randn(100, 4), dim=1)
    assert float((weight @ random.T).norm(dim=0).max()) <= gain + 1e-5


class Normed(nn.Module):
    """Four features of 2x2 pixels, each along an axis of its own, as large as `scales`; their BatchNorm leaves `gains`.
    `beside`: they are used without it, too."""

    def __init__(self, scales: Tensor, gains: Tensor, beside: bool = False) -> None:
        super().__init__()
        self.axes = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
        self.map = nn.Linear(4, 16)
        self.norm = nn.BatchNorm2d(4)
        self.beside = beside
        with torch.no_grad():
            self.map.weight.copy_((scales[:, None] * self.axes).repeat_interleave(4, 0))
            self.norm.running_var.copy_(scales.square() / 4)  # type: ignore[union-attr]
            self.norm.weight.copy_(gains / 2)
        self.eval()

    def normed(self, z: Tensor) -> Tensor:
        return self.norm(self.map(z).unflatten(1, (4, 2, 2)))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.map(z).unflatten(1, (4, 2, 2))
        y = torch.relu(self.norm(x))
        return x + y if self.beside else y


def test_what_the_norm_divides_out_does_not_rank_directions() -> None:
    network = Normed(torch.tensor([8.0, 4.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def change(vectors: Tensor) -> Tensor:
        return (network.normed(vectors) - network.normed(torch.zeros(1, 4))).flatten(1).norm(dim=1)

    found = directions.factorised(network, 4, 4)
    assert found[0].note == ""
    vectors = torch.stack([d.vector for d in found])
    torch.testing.assert_close((vectors @ network.axes.T).abs(), torch.eye(4).flip(0), atol=1e-4, rtol=0)
    strengths = torch.tensor([d.strength for d in found])
    torch.testing.assert_close(strengths, torch.tensor([1.0, 0.75, 0.5, 0.25]), rtol=0, atol=1e-3)
    everywhere = torch.nn.functional.normalize(torch.randn(500, 4), dim=1)
    with torch.no_grad():
        assert float(change(everywhere).max()) <= float(change(vectors)[0]) * (1 + 1e-4)
    of_the_layer_alone = torch.linalg.svd(network.map.weight.detach())[2][:1]
    assert float(change(of_the_layer_alone)) < 0.3 * float(change(vectors)[0])


def test_a_norm_that_is_passed_by_is_left_out_and_said() -> None:
    given = torch.tensor([8.0, 4.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    network = Normed(*given, beside=True)
    found = directions.factorised(network, 4, 1)[0]
    assert float((network.axes[0] @ found.vector).abs()) > 0.999
    assert found.note == directions.BESIDE
    resnet = ResNet(latent=6, width=4, generator_width=4).generator(Spec((1, 16, 16))).eval()
    assert directions.factorised(resnet, 6, 1)[0].note == directions.BESIDE
    still = Normed(*given)
    still.norm = nn.BatchNorm2d(4, track_running_stats=False).eval()
    assert directions.factorised(still, 4, 1)[0].note == directions.STILL
    rectified = Normed(*given)
    rectified.norm = nn.Sequential(nn.ReLU(inplace=True), rectified.norm)  # type: ignore[assignment]
    found = directions.factorised(rectified, 4, 1)[0]
    assert float((network.axes[0] @ found.vector).abs()) > 0.999, "what is normalised is no longer what the layer gave"
    assert found.note == ""


FOLLOWED: dict[str, tuple[Networks, str]] = {  # and which of its parts is the norm that follows the first layer
    "dcgan": (DCGAN(latent=6, width=4), "layers.0"),
    "sndcgan": (SNDCGAN(latent=6, width=4), "norms.0"),
    "fastgan": (FastGAN(latent=6, width=4), "norm"),
    "hidden": (Subpixel(latent=6, width=4, hidden=8), "hidden.1"),
    "channels last": (Subpixel(latent=6, width=4, hidden=0), "norm"),
    "mlp": (MLP(latent=6, width=8, batch_norm=True), "layers.norms.0"),
}


@pytest.mark.parametrize("case", FOLLOWED)
@pytest.mark.parametrize("classes", [0, 3])
def test_the_first_direction_changes_what_the_norm_gives_most(case: str, classes: int) -> None:
    networks, name = FOLLOWED[case]
    generator = tiny.lively(networks.generator(Spec((1, 16, 16), classes))).eval()
    given: list[Tensor] = []
    norm = generator.get_submodule(name)
    norm.register_forward_hook(lambda _, __, x: given.append(x.detach().flatten(1).clone()))

    def made(z: Tensor, label: int) -> Tensor:
        generator(z, torch.full((len(z),), label) if classes else None)
        return given[-1]

    def change(vectors: Tensor) -> Tensor:
        """Of a step along each vector: the root mean square over the classes."""
        apart = [made(vectors, k) - made(torch.zeros(1, 6), k) for k in range(classes or 1)]
        return torch.stack(apart).square().sum(2).mean(0).sqrt()

    found = directions.factorised(generator, 6, 6, torch.zeros(1, dtype=torch.long) if classes else None)
    assert found[0].note == ""
    changes = change(torch.stack([d.vector for d in found]))
    torch.testing.assert_close(changes / changes[0], torch.tensor([d.strength for d in found]), rtol=1e-3, atol=1e-3)
    everywhere = torch.nn.functional.normalize(torch.randn(300, 6), dim=1)
    assert float(change(everywhere).max()) <= float(changes[0]) * (1 + 1e-3)


def test_directions_that_cannot_be() -> None:
    with pytest.raises(UserError, match="--count 5: from 1 to 4"):
        directions.factorised(smooth(), 4, 5)

    class Convolves(nn.Module):
        def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
            return z[:, :, None, None]

    with pytest.raises(UserError, match="no linear layer of this generator meets the latent"):
        directions.factorised(Convolves(), 4, 1)


def test_a_labelled_direction_is_the_normal_of_what_parts_the_classes() -> None:
    z = torch.randn(600, 5, generator=torch.Generator().manual_seed(0))
    normal = torch.tensor([3.0, 0, 0, -4, 0]) / 5
    found = directions.labelled(z, (z @ normal > 0.5).numpy(), "smiles")
    assert float(found.vector @ normal) > 0.98
    assert found.strength > 0.9
    noise = directions.labelled(z, np.random.default_rng(0).random(600) < 0.5, "nothing")
    assert noise.strength < 0.6, "judged on others than it was fitted to"
    with pytest.raises(UserError, match="smiles: 3 samples"):
        directions.labelled(z, np.arange(600) < 3, "smiles")


def test_along_is_symmetric_about_where_it_begins() -> None:
    z = torch.randn(4)
    direction = directions.factorised(smooth(), 4, 1)[0]
    far = directions.along(z, direction, (-2.0, 0.0, 2.0))
    assert torch.equal(far[1], z)
    torch.testing.assert_close(far.mean(0), z)
    torch.testing.assert_close((far[2] - z).norm(), torch.tensor(2.0))


# ---- tools ---------------------------------------------------------------------------------------------------------


def test_neighbours_are_the_nearest_in_order() -> None:
    points, among = torch.randn(7, 3), torch.randn(1_500, 3)
    distance, index = nearest_few(points, among, 4)
    apart = torch.cdist(points.double(), among.double())
    expected, at = apart.topk(4, 1, largest=False)
    torch.testing.assert_close(distance, expected)
    assert torch.equal(index, at)
    data = tiny.images((3, 8, 8))
    values, _ = data.gather(np.array([5, 2]))
    found, far = tools.neighbours(values, data, Pixels(data.spec), 3)
    assert found[:, 0].tolist() == [5, 2]
    assert far[:, 0].max() < 1e-3 < far[:, 1].min()
    with pytest.raises(UserError, match="--count 41: from 1 to 40"):
        tools.neighbours(values, data, Pixels(data.spec), 41)


def test_mixtures_of_shape_and_style() -> None:
    made = model("fastgan", FastGAN(latent=6, width=4), (3, 32, 32))
    z = made.latents(5)
    out = tools.mixed(made, z[:2], z[2:])
    assert out.shape == (2, 3, 3, 32, 32)
    assert len({image.tobytes() for image in out.reshape(6, -1)}) == 6
    same = tools.mixed(made, z[:1], z[:1])[0]
    assert np.array_equal(same, tools.image_of(made, z[:1], None))
    with pytest.raises(UserError, match="mix: this generator has no layers"):
        tools.mixed(model(), z[:1], z[1:])


def test_a_mixture_is_of_the_classes_of_its_shape_and_style() -> None:
    spec = Spec((3, 32, 32), classes=2)
    made = model("fastgan", FastGAN(latent=6, width=4), spec.shape)
    torch.manual_seed(0)
    generator = tiny.lively(FastGAN(latent=6, width=4).generator(spec)).eval().requires_grad_(False)
    made = Model(generator, made.run, spec, (), 1_000, "fp32")
    z, kinds = made.latents(4), torch.tensor([0, 1])
    out = tools.mixed(made, z[:2], z[2:], (kinds, kinds))
    for row in range(2):
        assert np.array_equal(out[row], tools.mixed(made, z[row : row + 1], z[2:], (kinds[row : row + 1], kinds))[0])
    firsts = torch.tensor([0, 0])
    assert not np.array_equal(out[1], tools.mixed(made, z[:2], z[2:], (firsts, kinds))[1])
    assert not np.array_equal(out[:, 1], tools.mixed(made, z[:2], z[2:], (kinds, firsts))[:, 1])


def test_latents_are_kept_and_read(tmp_path: Path) -> None:
    made = model()
    images = made.values(made.latents(2), None)
    found = tools.invert(made, images, restarts=1, steps=2)
    path = tmp_path / "latents.npz"
    path.write_bytes(tools.keep(found, ["a", "b"], made))
    z, label = tools.kept(path, made)
    assert torch.equal(z, found.z)
    assert label is None
    with pytest.raises(UserError, match=r"holds \(2, 6\), and this run has latents of 4"):
        tools.kept(path, model(networks=Subpixel(latent=4, width=4)))
    other = model()
    tiny.lively(other.generator)
    with pytest.raises(UserError, match="are another generator's"):
        tools.kept(path, other)
    for content, told in (
        ({"z": np.zeros((0, 6))}, "and this run has latents of 6"),
        ({"z": np.zeros((1, 6)), "labels": np.zeros(1, np.int64)}, "classes that are not this run's"),
    ):
        with path.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=told):
            tools.kept(path, made)
    with path.open("wb") as file:
        np.save(file, np.zeros((1, 6)))
    with pytest.raises(UserError, match="one array alone"):
        tools.kept(path, made)
    with pytest.raises(UserError, match="--classes 3: this run was trained without labels"):
        tools.invert(made, images, classes=["3"])
    path.write_text("no arrays")
    with pytest.raises(UserError, match="cannot be read"):
        tools.kept(path, made)


def test_the_descent_goes_beside_its_photo_to_what_was_found() -> None:
    made = model()
    images = made.values(made.latents(2, seed=5), None)
    found = tools.invert(made, images, restarts=2, steps=20)
    frames = tools.descent(made, images[1], found.ways[1])
    assert frames.shape == (21, 2, 3, 16, 16)
    assert frames.dtype == np.uint8
    assert (frames[:, 0] == images[1]).all()
    assert np.abs(frames[-1, 1].astype(int) - sample.to_uint8(found.images)[1]).max() <= 1
    errors = np.sqrt(np.square(frames[:, 0].astype(float) - frames[:, 1]).mean((1, 2, 3)))
    assert errors[-1] < errors[0]
    assert errors[-1] == pytest.approx(127.5 * float(found.errors[1]), abs=1)
    with pytest.raises(UserError, match=r"photo of \(3, 8, 8\): this model makes \(3, 16, 16\); give one that"):
        tools.descent(made, images[1, :, :8, :8], found.ways[1])
    with pytest.raises(UserError, match=r"visited of \(2, 21, 6\): this model has latents of 6 numbers; give one of"):
        tools.descent(made, images[1], found.ways)


def test_a_descent_keeps_the_class_it_was_found_for() -> None:
    spec = Spec((3, 16, 16), classes=2)
    networks = Subpixel(latent=6, width=8, hidden=8)
    generator = tiny.lively(networks.generator(spec)).eval().requires_grad_(False)
    made = Model(generator, model().run, spec, ("a", "b"), 1_000, "fp32")
    label = torch.tensor([1])
    images = made.values(made.latents(1), label)
    found = tools.invert(made, images, classes=["b"], restarts=1, steps=3)
    frames = tools.descent(made, images[0], found.ways[0], label)
    assert np.abs(frames[-1, 1].astype(int) - sample.to_uint8(found.images)[0]).max() <= 1


def test_truncation_falls_evenly_from_none() -> None:
    made = model()
    told: list[int] = []
    found = tools.truncated(made, 3, 0.5, seed=4, steps=5, progress=told.append)
    assert found.images.shape == (5, 3, 3, 16, 16)
    assert found.images.dtype == np.uint8
    assert told == [15]
    assert found.truncations[0] == math.inf
    assert found.truncations[-1] == 0.5
    within = [math.erf(t / math.sqrt(2)) for t in found.truncations]
    np.testing.assert_allclose(np.diff(within), (within[-1] - 1) / 4)
    for step, t in ((0, 50.0), (2, found.truncations[2]), (4, 0.5)):
        alone = made.sample(3, 4, truncation=t).images
        assert np.abs(found.images[step].astype(int) - alone).max() <= 1
    assert not np.array_equal(found.images[0], found.images[-1])
    for words, told_of in (
        ({"n": 0}, "-n 0: must be 1 or more"),
        ({"steps": 1}, "--steps 1: must be 2 or more"),
        ({"truncation": 0.0}, "--truncation 0.0: must be above 0"),
        ({"truncation": math.nan}, "--truncation nan: must be above 0"),
        ({"classes": ["3"]}, "--classes: this run was trained without labels"),
    ):
        with pytest.raises(UserError, match=told_of):
            tools.truncated(made, **({"n": 2, "truncation": 1.0, "steps": 3} | words))  # type: ignore[arg-type]
    points = replace_spec(made, Spec((2,)))
    with pytest.raises(UserError, match="this run makes points, not images: there is no film of them"):
        tools.truncated(points, 2, 1.0)


def test_the_sheet_shows_where_they_differ() -> None:
    made = model(shape=(4, 16, 16))
    images = made.values(made.latents(2), None)
    found = tools.invert(made, images, restarts=1, steps=1, seed=5)
    rows = tools.sheet(images, found)
    assert rows.shape == (6, 4, 16, 16)
    assert np.array_equal(rows[0], images[0])
    assert (rows[2][3] == 255).all()
    off = np.abs(rows[0].astype(float) - rows[1]).max(0)
    assert rows[2][0][off < 0.5].max(initial=0) <= 2
    assert rows[2][0][off > 40].min(initial=255) > 5


# ---- commands ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    run = tiny.run("r1gan", algorithm=tiny.replace_networks("r1gan", Subpixel(latent=6, width=8)))
    t = tiny.training(run, tiny.images((3, 16, 16)))
    for _ in range(2):
        t.step()
    return tiny.keep(t, tmp_path_factory.mktemp("run") / "run")


def run_cli(*words: object) -> int:
    return cli.main([str(word) for word in words])


def photo(path: Path, seed: int = 0) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return path


def test_invert_and_explore_by_the_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = photo(tmp_path / "a.png"), photo(tmp_path / "b.png", 1)
    out, film = tmp_path / "out", tmp_path / "walk.gif"
    assert run_cli("invert", folder, a, b, "--out", out, "--film", film, "--steps", 3, "--restarts", 1) == 0
    told = capsys.readouterr()
    assert told.out.split("\n")[:-1] == [str(out / "inverted.png"), str(out / "latents.npz"), str(film)]
    assert f"{a}  " in told.err, "photos of two folders may have one name"
    assert "of 256 grey levels off" in told.err
    with Image.open(film) as opened:
        assert opened.n_frames > 40
    sheet = tmp_path / "directions.png"
    words = ("explore", folder, "directions", "--count", 2, "--latents", out / "latents.npz", "--out", sheet)
    assert run_cli(*words) == 0
    with Image.open(sheet) as opened:
        assert opened.text["what"] == "directions"  # type: ignore[attr-defined]
    assert "direction 1: 100% of the strongest" in capsys.readouterr().err


def test_the_film_of_one_photo_is_how_it_was_found(folder: Path, tmp_path: Path) -> None:
    film = tmp_path / "found.gif"
    words = ("invert", folder, photo(tmp_path / "a.png"), "--steps", 20, "--restarts", 2, "--out", tmp_path / "out")
    assert run_cli(*words, "--film", film) == 0
    with Image.open(film) as opened:
        assert 2 < opened.n_frames <= 21, "frames alike are one"
        bar = round(1.7 * max(11, min(18, opened.width // 30)))
        assert opened.width / (opened.height - bar) == pytest.approx(2, rel=0.05), "the photo, and what is found"


def test_films_of_a_truncation_that_falls(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid, film, other = tmp_path / "grid.png", tmp_path / "fall.gif", tmp_path / "fall.mp4"
    words = ("sample", folder, "-n", 4, "--truncation", 0.5, "--steps", 12)
    assert run_cli(*words, "--out", grid, "--film", film) == 0
    assert capsys.readouterr().out.split() == [str(grid), str(film)]
    with Image.open(film) as opened:
        assert opened.n_frames == 12, "each has a caption of its own"
    assert run_cli(*words, "--out", other) == 0
    assert capsys.readouterr().out.split() == [str(other)]
    assert other.stat().st_size > 0


def test_a_way_begins_and_ends_at_the_latents_and_keeps_its_class() -> None:
    z = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    on, kinds = tools.way(z, torch.tensor([2, 0, 1]), 4)
    assert on.shape == (8, 5)
    torch.testing.assert_close(on[[0, 3, 4, 7]], z[[0, 1, 1, 2]])
    assert kinds is not None
    assert kinds.tolist() == [2] * 4 + [0] * 4
    assert tools.way(z, None, 4)[1] is None


def test_large_sets_and_many_styles_are_taken_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data, made = tiny.images((3, 32, 32), 40), model("fastgan", FastGAN(latent=6, width=4), (3, 32, 32))
    z, pixels = made.latents(9), Pixels(data.spec)
    near, mixed = tools.neighbours(data.values[:4], data, pixels, 5), tools.mixed(made, z[:2], z[2:])
    monkeypatch.setattr(tools, "AT_ONCE", 7)
    monkeypatch.setattr(tools, "CHUNK", 3)
    for a, b in zip(near, tools.neighbours(data.values[:4], data, pixels, 5), strict=True):
        assert np.array_equal(a, b)
    parts = tools.mixed(made, z[:2], z[2:])
    assert np.abs(parts.astype(int) - mixed).max() <= 1


def test_a_photo_of_another_depth_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)).save(path)
    spec = Spec((1, 16, 16), 0, Depth("int16", -1_024, 3_071))
    made = replace_spec(model(shape=(1, 16, 16)), spec)
    with pytest.raises(UserError, match=r"scan.png: holds uint16 values, and the run's images int16 ones"):
        tools.photos(made, [path])


def test_films_of_mixing_and_of_neighbours(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(12):
        photo(tmp_path / "photos" / f"{number}.png", number)
    run = tmp_path / "run"
    words = ("train", tmp_path / "photos", "--size", 32, 32, "--algorithm", "fastgan", "--images", 4, "--batch-size", 2)
    assert run_cli(*words, "--algorithm.networks.width", 4, "--out", run, "--threads", 1) == 0
    for what, more, wide, high, captioned in (
        ("mix", ("-n", 3, "--count", 2), 3, 2, False),
        ("neighbours", ("-n", 2, "--count", 4, "--features", "pixels"), 5, 1, True),
    ):
        film = tmp_path / f"{what}.gif"
        assert run_cli("explore", run, what, *more, "--film", film) == 0
        with Image.open(film) as opened:
            assert opened.n_frames > 10, "frames alike are one"
            bar = round(1.7 * max(11, min(18, opened.width // 30))) if captioned else 0
            assert opened.width / (opened.height - bar) == pytest.approx(wide / high, rel=0.05)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("explore", "RUN", "mix", "--count", 1, "--film", "mix.gif"), "goes from style to style"),
        (("explore", "RUN", "neighbours", "-n", 1, "--film", "near.gif"), "goes from sample to sample"),
        (("explore", "RUN", "directions", "--by", "nowhere"), "--by nowhere: there is no such file or folder"),
        (("invert", "RUN", "RUN"), "is a folder; name image files in it"),
        (("invert", "RUN", "PHOTO", "--restarts", 3_000), "2,000 latents are drawn, and no more can be followed"),
        (("invert", "RUN", "missing.png"), "missing.png: there is no such image file"),
        (("invert", "RUN", "PHOTO", "--film", "walk.avi"), "--film walk.avi: give a name that ends in .mp4 or .gif"),
        (("sample", "RUN", "--film", "fall.gif"), "--film fall.gif: films are of walks, or of a truncation that falls"),
        (("sample", "RUN", "--out", "fall.gif"), "--out fall.gif: films are of walks, or of a truncation that falls"),
        (("sample", "RUN", "--film", "fall.avi", "--truncation", 1), "--film fall.avi: give a name that ends in .mp4"),
        (("sample", "RUN", "--steps", 9, "--truncation", 1), "--steps 9: goes with --interpolate, or with a film"),
        (("sample", "RUN", "--out", "fall.gif", "--truncation", 1, "--steps", 1), "--steps 1: must be 2 or more"),
        (("sample", "RUN", "--out", "fall.gif", "--truncation", 0), "--truncation 0.0: must be above 0"),
        (("sample", "RUN", "--out", "fall.gif", "--truncation", 1, "-n", 0), "-n 0: must be 1 or more"),
        (("sample", "RUN", "--interpolate", "--truncation", 1), "--truncation 1.0: does not go with --interpolate"),
        (("invert", "RUN", "PHOTO", "--steps", 0), "--steps 0: must be 1 or more"),
        (("explore", "RUN", "directions", "--count", 7), "--count 7: from 1 to 6"),
        (("explore", "RUN", "mix"), "mix: this generator has no layers"),
        (("explore", "RUN", "mix", "--reach", 2), "--reach 2.0: is of directions"),
        (("explore", "RUN", "directions", "--steps", 1), "--steps 1: must be 2 or more"),
        (("explore", "RUN", "directions", "--reach", 0), "--reach 0: must be above 0"),
        (("explore", "RUN", "directions", "--features", "pixels"), "--features pixels: is of neighbours"),
        (("explore", "RUN", "directions", "--out", "sheet.jpg"), "sheet.jpg: a sheet is a .png"),
        (("explore", "RUN", "directions", "--latents", "PHOTO"), "--latents "),
    ],
)
def test_what_cannot_be_is_one_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], told: str
) -> None:
    named = {"RUN": folder, "PHOTO": photo(tmp_path / "a.png")}
    assert run_cli(*(named.get(str(word), word) for word in words)) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_a_loaded_model_inverts_its_own_samples_best(folder: Path) -> None:
    made = sample.load(folder, precision="fp32")
    own = made.values(made.latents(1, seed=9), None)
    strange = np.random.default_rng(0).integers(0, 256, own.shape, dtype=np.uint8)
    errors = [float(tools.invert(made, images, restarts=2, steps=100).errors) for images in (own, strange)]
    assert errors[0] < 0.3 * errors[1]
