"""How a run seats its players: compiled where nothing is differentiated twice, D behind its augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from zerosum import seats
from zerosum.algorithms.gan import GAN
from zerosum.algorithms.pix2pix import Pix2Pix
from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.algorithms.r1gan import R1GAN
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.engine import Engine
from zerosum.errors import UserError
from zerosum.game import leaf
from zerosum.networks import MLP, Patch, Progressive, Subpixel, UNet
from zerosum.penalties import zero_centred
from zerosum.recipes.base import from_settings
from zerosum.run import Run
from zerosum.trainer import Training
from zerosum.view import SilentView

CPU = torch.device("cpu")


class Halves(nn.Module):
    """(n, 1, h, w) -> (n,): half the squares of all pixels."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x.square().flatten(1).sum(1) / 2


def run(**changes: Any) -> Run:
    base = from_settings("r1gan", Data(source="noise"))
    algorithm = R1GAN(networks=Subpixel(latent=4, width=4, depth=0), every=2)
    return replace(base, algorithm=algorithm, batch_size=8, images=64, precision="fp32", threads=1, **changes)


def noise() -> ArrayDataset:
    return ArrayDataset(np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8), dtype=np.uint8))


def training(run: Run, folder: Path, dataset: ArrayDataset | None = None) -> Training:
    return Training(run, dataset or noise(), CPU, folder, SilentView())


# ---- augmentation --------------------------------------------------------------------------------------


def test_a_penalty_is_on_the_raw_image(monkeypatch: pytest.MonkeyPatch) -> None:  # trap 15
    """Through x -> 3x, the slope of half the squares is 9x where it would be 3x at the augmented image."""
    monkeypatch.setattr(seats, "augment", lambda x, policies, images: 3 * x if policies else x)
    players = seats.seated(run(augment=("cutout",)), {"G": Halves(), "D": Halves()}, Engine(CPU))
    real = leaf(torch.randn(5, 1, 2, 2).double())
    penalty = zero_centred(real, players.D(real))
    torch.testing.assert_close(penalty, 81 * real.detach().square().flatten(1).sum(1))


def test_d_alone_sees_it_in_both_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []

    def watch(x: Tensor, policies: tuple[str, ...], images: tuple[int, ...]) -> Tensor:
        if policies:
            seen.append((x.requires_grad, x.is_leaf))
        return x

    monkeypatch.setattr(seats, "augment", watch)
    training(run(augment=("colour",)), tmp_path).step()
    # D's turn: real, fake; the penalty: real as a leaf; G's turn: a fake that carries gradients.
    assert seen == [(False, True), (False, True), (True, True), (True, False)]


def test_a_critic_of_pairs_says_what_it_is_given() -> None:
    grey, colour = Spec((1, 16, 16)), Spec((3, 16, 16))
    net = UNet(width=4, patch=Patch(width=4))
    game = replace(run(augment=("colour",)), algorithm=Pix2Pix(networks=net))
    seat = seats.seated(game, {"D": net.critic(colour, given=grey)}, Engine(CPU)).D
    assert isinstance(seat, seats.Seat)
    assert seat.shown is not None
    pair = torch.rand(2, 4, 16, 16).expand(2, 4, 16, 16)
    shown = seat.shown(pair)
    # Each image has a brightness of its own: the grey one is not moved as the colours are.
    assert not torch.allclose((shown - pair)[:, :1].mean((2, 3)), (shown - pair)[:, 1:].mean((1, 2, 3))[:, None])
    assert seat(pair).shape[0] == 2


def test_what_is_learned_differs_and_the_weights_names_do_not(tmp_path: Path) -> None:
    plain, augmented = (training(run(augment=a), tmp_path) for a in ((), ("colour", "translation", "cutout")))
    assert plain.state()[0].keys() == augmented.state()[0].keys()
    for game in (plain, augmented):
        for _ in range(3):
            game.step()
    assert not tiny.equal(tiny.weights(plain.players.networks["D"]), tiny.weights(augmented.players.networks["D"]))


def test_points_are_not_augmented(tmp_path: Path) -> None:
    points = ArrayDataset(np.zeros((64, 2), np.float32))
    game = replace(run(augment=("cutout",)), algorithm=GAN(networks=MLP(latent=2, width=4)))
    with pytest.raises(UserError, match="--augment cutout: is for images"):
        training(game, tmp_path, points)


# ---- compiling -----------------------------------------------------------------------------------------


class Counter:
    """A backend of torch.compile that runs the graphs as they are and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, module: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.graphs += 1
        return module.forward


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """The engine compiles with it."""
    found, compile = Counter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: compile(network, dynamic=dynamic, backend=found))
    torch._dynamo.reset()
    return found


def test_one_graph_for_each_player_frozen_or_not_and_no_more_later(tmp_path: Path, counter: Counter) -> None:
    game = training(run(compile="on"), tmp_path)
    for _ in range(2):
        game.step()
    graphs = counter.graphs
    assert 4 <= graphs <= 5, "G moving and still, D moving (also without a gradient to its input) and still"
    for _ in range(6):
        game.step()
    assert counter.graphs == graphs


def test_a_game_that_grows_is_compiled_at_every_size(tmp_path: Path, counter: Counter) -> None:
    """Past torch's own limit of graphs it would play on eager, and nobody would know."""
    networks = Progressive(latent=6, width=4, widest=8)
    played = tiny.run(
        "progressive", algorithm=ProgressiveGAN(networks=networks, loss="logistic", growth=(4, 20, 36), parts=1),
        compile="on",
    )  # fmt: skip
    game = Training(played, tiny.images((1, 32, 32)), CPU, tmp_path, SilentView())
    before = []
    for _ in range(8):  # 4x4, then a fade and a whole size by turns
        graphs = counter.graphs
        game.step()
        before.append(counter.graphs > graphs)
    assert before == [True] * 7 + [False]


def test_compiled_and_eager_play_the_same_game(tmp_path: Path, counter: Counter) -> None:
    games = [training(run(compile=c), tmp_path) for c in ("on", "off")]
    for game in games:
        for _ in range(4):
            game.step()
    assert counter.graphs > 0
    for name in "GD":
        first, second = (game.players.networks[name].state_dict() for game in games)
        for key, value in first.items():
            torch.testing.assert_close(value, second[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", tiny.TRANSLATORS)
def test_translators_are_seated_too(name: str, tmp_path: Path, counter: Counter) -> None:
    """Compiled and behind an augmentation, which is D's alone: they take other things than latents and labels."""
    sides = tiny.sides(paired=name == "pix2pix")
    played = tiny.run(name, compile="on", augment=("translation",))
    game = Training(played, sides, CPU, tmp_path, SilentView())
    game.step()
    assert counter.graphs > 0
    quick = Training(replace(played, compile="off", augment=()), sides, CPU, tmp_path, SilentView())
    compiled = Training(replace(played, augment=()), sides, CPU, tmp_path, SilentView())
    for one in (quick, compiled):
        one.step()
    for network, values in quick.players.networks.items():
        for key, value in values.state_dict().items():
            other = compiled.players.networks[network].state_dict()[key]
            torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-5)


def test_where_a_penalty_differentiates_the_network_itself_plays(counter: Counter) -> None:
    network = Subpixel(latent=4, width=4).critic(noise().spec)
    players = seats.seated(run(), {"D": network}, Engine(CPU, compile=True))
    real = leaf(torch.randn(5, 1, 8, 8))
    zero_centred(real, players.D(real)).sum().backward()
    assert counter.graphs == 0
    players.D(real.detach())
    assert counter.graphs == 1
