"""Games of labelled images: what their critics say, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import tiny
from zerosum import sample
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.game import Adam
from zerosum.losses import discriminator
from zerosum.networks import (
    DCGAN,
    MLP,
    R3,
    SNDCGAN,
    Auxiliary,
    Beside,
    ClassesOrFake,
    FastGAN,
    Networks,
    Progressive,
    ResNet,
    Subpixel,
)
from zerosum.networks.blocks import Projection, one_hot
from zerosum.schedule import Constant

NETS: dict[str, Networks] = {
    "mlp": MLP(latent=4, width=8), "dcgan": DCGAN(latent=4, width=4), "subpixel": Subpixel(latent=4, width=4),
    "sndcgan": SNDCGAN(latent=4, width=4), "resnet": ResNet(latent=4, width=4, generator_width=4),
    "r3": R3(latent=4, width=16, widest=16), "progressive": Progressive(latent=4, width=4, widest=8),
    "fastgan": FastGAN(latent=4, width=4),
}  # fmt: skip


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize("head", [Auxiliary, ClassesOrFake])
def test_every_critic_can_end_in_classes(net: Networks, head: type) -> None:
    critic = net.critic(Spec((1, 16, 16)), partial(head, classes=3))
    x = torch.randn(4, 1, 16, 16)
    assert critic(x).shape == critic(x, torch.zeros(4, dtype=torch.long)).shape == (4,)
    first, second = critic(x, None, True)
    if head is Auxiliary:
        assert first.shape == (4,)
        assert second.shape == (4, 3)
        assert torch.equal(first, critic(x))
    else:
        assert first.shape == (4, 3)
        assert second.dim() == 2
        torch.testing.assert_close(torch.logsumexp(first, 1), critic(x))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_the_implied_fake_class_does_not_overflow(size: float) -> None:  # trap 28
    head = ClassesOrFake(2, 3)
    with torch.no_grad():
        head.classes.weight.copy_(torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0]]))
        head.classes.bias.zero_()
    features = torch.tensor([[size, size / 2]], requires_grad=True)
    logit = head(features)
    loss = discriminator(logit, logit)
    assert bool(torch.isfinite(loss).all())
    loss.sum().backward()
    assert features.grad is not None
    assert bool(torch.isfinite(features.grad).all())


def test_the_logit_of_being_real_is_the_papers() -> None:
    """D(x) = Z / (Z + 1) with Z = sum exp l_k: as a softmax over the classes and a fake class of logit 0 has it."""
    head = ClassesOrFake(5, 3).double()
    features = torch.randn(7, 5, dtype=torch.float64)
    classes, _ = head(features, None, True)
    with_fake = torch.cat([classes, torch.zeros(7, 1, dtype=torch.float64)], 1).softmax(1)
    torch.testing.assert_close(torch.sigmoid(head(features).double()), 1 - with_fake[:, 3], rtol=0, atol=1e-6)


def test_the_class_stands_beside_what_comes_in() -> None:
    label = torch.tensor([2, 0])
    seen = Beside(torch.nn.Identity(), 3)
    x = torch.randn(2, 1, 4, 5)
    planes = seen(x, label)
    assert planes.shape == (2, 4, 4, 5)
    assert torch.equal(planes[:, :1], x)
    assert torch.equal(planes[:, 1:, 0, 0], one_hot(label, 3, x))
    assert torch.equal(planes[:, 1:].amax((2, 3)), planes[:, 1:].amin((2, 3)))
    with pytest.raises(UserError, match="class-conditional"):
        seen(x, None)


@pytest.mark.parametrize("name", tiny.LABELLED)
def test_labels_are_not_optional(name: str) -> None:
    run = tiny.run(name)
    with pytest.raises(UserError, match=f"--conditional False: {name} plays with the labels"):
        replace(run, conditional=False).sees(Spec((1, 8, 8), 3))
    with pytest.raises(UserError, match="this data has no labels"):
        run.sees(Spec((1, 8, 8)))


def test_few_labels_are_for_games_that_can_do_with_few() -> None:
    with pytest.raises(UserError, match=r"--labelled 9: gan needs every label; give --algorithm ssgan"):
        replace(tiny.run("gan"), labelled=9, conditional=True).sees(Spec((1, 8, 8), 3))
    training = tiny.training(tiny.run("ssgan", labelled=6), tiny.images())
    assert len(training.loader.known) == 6
    training.step()


def test_a_generator_without_classes_says_whose_labels_are(tmp_path: Path) -> None:
    training = tiny.training(tiny.run("ssgan", labelled=6), tiny.images())
    training.step()
    model = sample.load(tiny.keep(training, tmp_path / "run"))
    with pytest.raises(UserError, match="--classes: SSGAN draws no classes, its labels are for D alone"):
        model.sample(2, classes=["class 1"])


def test_looks_agree_only_where_they_are_asked_to() -> None:
    """Two looks differ by what augmentation moved; after a while of being asked to agree they differ by less."""
    game = tiny.small_algorithm("ssgan")
    disagreement = {}
    for weight in (1e-9, 30.0):
        algorithm = replace(game, weight_consistency=weight)
        run = tiny.run("ssgan", labelled=30, algorithm=algorithm, augment=("translation",), seed=2)
        training = tiny.training(run, tiny.images())
        for _ in range(60):
            training.step()
        disagreement[weight] = training.turns.read_scores()["loss/disagreement"]
    assert 0 < disagreement[30.0] < disagreement[1e-9] / 2
    plain = tiny.training(tiny.run("ssgan", labelled=30), tiny.images())
    plain.step()
    assert "loss/disagreement" not in plain.turns.read_scores()


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_a_semi_supervised_game_learns_two_classes_of_points(weight: float) -> None:
    """On two separate clouds with one label each the averaged critic names nearly all."""
    import numpy as np

    from zerosum.data.store import ArrayDataset

    random = np.random.default_rng(0)
    label = random.integers(0, 2, 400)
    points = random.standard_normal((400, 2)) * 0.2 + np.where(label[:, None] == 1, 1.5, -1.5)
    data = ArrayDataset(points.astype(np.float32), label, ("left", "right"))
    algorithm = replace(tiny.small_algorithm("ssgan", toy=True), weight_consistency=weight)
    run = tiny.run("ssgan", toy=True, algorithm=algorithm, labelled=2, batch_size=32, seed=1)
    training = tiny.training(run, data)
    for _ in range(400):
        training.step()
    critic = training.ema["D"].network
    with torch.no_grad():
        classes, _ = critic(torch.from_numpy(points.astype(np.float32)), None, True)
    assert float((classes.argmax(1).numpy() == label).mean()) > 0.95


@pytest.mark.parametrize("name", ["cgan", "acgan", "projection"])
def test_g_draws_the_class_that_is_asked_for(name: str) -> None:
    """Of three clouds, most points lie nearest to their own: by chance a third would."""
    adam = Adam(lr=Constant(1e-3))
    run = tiny.run(name, toy=True, batch_size=64, seed=1, images=100_000, adam_g=adam, adam_d=adam)
    training = tiny.training(run, tiny.points(400))
    for _ in range(600):
        training.step()
    label = torch.arange(3).repeat(100)
    angle = 2 * math.pi * torch.arange(3) / 3
    centres = torch.stack([angle.cos(), angle.sin()], 1)
    z = torch.randn(300, run.algorithm.networks.latent, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = training.players.networks["G"].eval()(z, label)
    assert float((torch.cdist(drawn, centres).argmin(1) == label).double().mean()) > 0.7


def test_the_toy_of_projection_shows_d_the_class_in_its_head_alone() -> None:
    spec = Spec((2,), 3)
    critics = {name: tiny.small_algorithm(name, toy=True).players(spec)["D"] for name in ("projection", "sngan")}
    assert isinstance(critics["projection"].head, Projection)
    assert critics["projection"].layers.hidden[0].weight.shape[1] == 2, "phi is of x alone"
    assert critics["sngan"].layers.hidden[0].weight.shape[1] == 2 + 3, "other games keep the class beside x"
    d, x = critics["projection"].eval(), torch.randn(4, 2)
    logits = torch.stack([d(x, torch.full((4,), k)) for k in range(3)])
    features = d.layers(x)
    expected = d.head.linear(features)[:, 0] + d.head.embedding.weight @ features.T
    torch.testing.assert_close(logits, expected)
    with pytest.raises(UserError, match="class-conditional"):
        d(x)


def test_softplus_of_logsumexp_by_hand() -> None:  # trap 28
    z = torch.tensor([1.0, 2.0])
    head = ClassesOrFake(2, 2)
    with torch.no_grad():
        head.classes.weight.copy_(torch.eye(2))
        head.classes.bias.zero_()
    got = torch.nn.functional.softplus(head(z[None]))
    assert got.item() == pytest.approx(math.log(1 + math.exp(1) + math.exp(2)), rel=1e-6)
