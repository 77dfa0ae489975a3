"""The referee: who moves, what is averaged, what a skipped turn leaves; games whose answer is known."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from zerosum import losses
from zerosum.data.spec import Data, Spec
from zerosum.engine import Engine, choose_device, settled_precision
from zerosum.errors import UserError
from zerosum.game import BOOKED, Adam, Batch, Players, Turns, leaf
from zerosum.networks import MLP, R3, SNDCGAN, stateful, track
from zerosum.networks.blocks import SpectralNorm, spectral
from zerosum.randomness import normal
from zerosum.schedule import Constant, Cosine
from zerosum.scores import JUDGED, Score

CPU = torch.device("cpu")


class Numbers:
    """A `game.Source` of normal numbers, keyed by their address; labels are the index modulo 3."""

    def __init__(self, size: int = 3, mean: float = 0.0) -> None:
        self.size, self.mean = size, mean

    def real(self, purpose: str, first: int, count: int) -> Tensor:
        return normal(0, purpose, first, count, self.size).double() + self.mean

    def label(self, purpose: str, first: int, count: int) -> Tensor | None:
        return torch.arange(first, first + count) % 3

    def latent(self, purpose: str, first: int, count: int) -> Tensor:
        return normal(0, purpose, first, count, self.size).double()

    def uniform(self, purpose: str, first: int, count: int) -> Tensor:
        return torch.full((count,), 0.25, dtype=torch.float64)


def batch(count: int = 8, first: int = 0) -> Batch:
    return Batch(Numbers(), first, count, count)


def linear(out: int = 1) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(3, out)]
    return nn.Sequential(*layers, nn.Flatten(0) if out == 1 else nn.Identity()).double()


def referee(precision: str = "fp64", lr: float = 0.1, micro_batches: int = 1, **networks: nn.Module) -> Turns:
    players = networks or {"G": linear(3), "D": linear()}
    optimisers = {name: torch.optim.Adam(net.parameters(), lr=lr) for name, net in players.items()}
    return Turns(Players(players), optimisers, Engine(CPU, precision), micro_batches=micro_batches)  # type: ignore[arg-type]


def everything(turns: Turns) -> dict[str, Tensor]:
    """Every parameter, buffer and number of Adam's state."""
    out: dict[str, Tensor] = {}
    for name, network in turns.players.networks.items():
        out |= {f"{name}/{k}": v for k, v in tiny.weights(network).items()}
        for index, moments in turns.optimisers[name].state_dict()["state"].items():
            out |= {f"{name}/adam/{index}/{k}": torch.as_tensor(v).clone() for k, v in moments.items()}
    return out


# ---- batches -------------------------------------------------------------------------------------------


def test_a_batch_draws_by_address_and_once() -> None:
    b = batch(4, first=12)
    assert b.image is b.image
    assert torch.equal(b.image, normal(0, "real", 12, 4, 3).double())
    assert torch.equal(b.z, normal(0, "z", 12, 4, 3).double())
    assert torch.equal(b.z2, normal(0, "z2", 12, 4, 3).double())
    assert torch.equal(b.image2, normal(0, "real2", 12, 4, 3).double())
    assert b.label is not None
    assert b.label.tolist() == [0, 1, 2, 0]
    assert torch.equal(b.label, b.label2)
    assert b.epsilon.shape == (4,)
    drawn = [b.image, b.image2, b.z, b.z2]
    assert not any(torch.equal(x, y) for i, x in enumerate(drawn) for y in drawn[:i]), "the twins are independent"


def test_parts_and_rounds_cover_without_overlap() -> None:
    b = Batch(Numbers(), 24, 8, 32)  # one of four processes
    assert torch.equal(torch.cat([p.image for p in b.parts(4)]), b.image)
    assert torch.equal(torch.cat([p.z2 for p in b.parts(2)]), b.z2)
    assert b.parts(1) == [b]
    assert [(r.first, r.count) for r in b.rounds(3)] == [(24, 8), (56, 8), (88, 8)]
    assert [(p.first, p.count) for r in b.rounds(2) for p in r.parts(2)] == [
        (24, 4),
        (28, 4),
        (56, 4),
        (60, 4),
    ]
    with pytest.raises(ValueError, match="8 samples do not split into 3 equal micro-batches"):
        b.parts(3)


def test_leaf_is_cut_off() -> None:
    made = 2 * torch.ones(3, requires_grad=True)
    x = leaf(made)
    assert x.is_leaf
    assert x.requires_grad
    assert torch.equal(x, made)
    assert not made.is_leaf


def test_players_by_name() -> None:
    g, d = linear(3), linear()
    players = Players({"G": g, "D": d})
    assert players.G is g
    assert list(players) == ["G", "D"]
    with pytest.raises(AttributeError, match="no player named E"):
        _ = players.E
    assert torch.equal(copy.deepcopy(players).D[0].weight, d[0].weight)


# ---- a turn --------------------------------------------------------------------------------------------


def test_a_turn_is_one_step_on_the_mean_loss() -> None:
    turns = referee()
    twin = copy.deepcopy(turns.players.D)
    adam = torch.optim.Adam(twin.parameters(), lr=0.1)
    b = batch()
    for _ in range(3):
        with turns("D") as minimise:
            minimise(turns.players.D(b.image).square())
        adam.zero_grad()
        twin(b.image).square().mean().backward()
        adam.step()
    assert tiny.farthest(tiny.weights(turns.players.D), tiny.weights(twin)) < 1e-15


def test_losses_minimised_one_by_one_add_up() -> None:
    once, parts, shares = (referee(D=copy.deepcopy(d)) for d in [linear()] * 3)
    b = batch()
    with once("D") as minimise:
        minimise(once.players.D(b.image).square() + once.players.D(b.z).abs())
    with parts("D") as minimise:
        minimise(parts.players.D(b.image).square())
        minimise(parts.players.D(b.z).abs())
    with shares("D") as minimise:
        for p in b.parts(4):
            minimise(shares.players.D(p.image).square() + shares.players.D(p.z).abs(), share=0.25)
    for other in (parts, shares):
        assert tiny.farthest(tiny.weights(once.players.D), tiny.weights(other.players.D)) < 1e-14
        assert other.read_scores()["loss/D"] == pytest.approx(float(once.scores.sums["loss/D"].total), abs=1e-14)


def test_a_patch_map_is_averaged_whole() -> None:
    turns = referee()
    x = batch().image
    with turns("D") as minimise:
        minimise(turns.players.D(x).view(8, 1, 1).expand(8, 2, 3) ** 2)
    expected = referee(D=turns.players.D)
    assert turns.read_scores()["loss/D"] > 0
    assert expected.scores.sums == {}


def test_two_players_may_share_a_turn() -> None:
    turns = referee(G=linear(3), F=linear(3), D=linear())
    before = everything(turns)
    with turns("G", "F") as minimise:
        minimise(turns.players.D(turns.players.G(batch().z) + turns.players.F(batch().z2)))
    after = everything(turns)
    moved = {k[0] for k in before if not torch.equal(before[k], after[k])}
    assert moved == {"G", "F"}
    assert set(turns.read_scores()) == {"loss/G+F", "gradient/G+F"}


def test_a_turn_must_minimise_something() -> None:
    turns = referee()
    before = everything(turns)
    with (
        pytest.raises(RuntimeError, match=r"the turn of D minimised nothing: call minimise\(loss\) in it"),
        turns("D"),
    ):
        pass
    assert tiny.equal(everything(turns), before)


def test_a_mean_is_refused() -> None:
    turns = referee()
    with pytest.raises(ValueError, match=r"one loss a sample, shape \(N,\)"), turns("D") as minimise:
        minimise(turns.players.D(batch().image).mean())


def test_an_unknown_player_is_an_error_and_moves_nobody() -> None:
    turns = referee()
    before = everything(turns)
    with pytest.raises(KeyError), turns("E") as minimise:
        minimise(turns.players.D(batch().image))
    assert tiny.equal(everything(turns), before)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_an_error_inside_a_turn_leaves_no_trace(precision: str) -> None:
    turns = referee(precision, G=linear(3).float(), D=linear().float())
    before = everything(turns)
    x = batch().image.float()
    with pytest.raises(ZeroDivisionError), turns("D") as minimise:  # noqa: PT012
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
        minimise(turns.players.D(x))
        raise ZeroDivisionError
    assert not torch.is_autocast_enabled("cpu")
    assert all(p.grad is None for network in turns.players.networks.values() for p in network.parameters())
    assert tiny.equal(everything(turns), before)
    assert turns.skipped == 0
    with turns("D") as minimise:  # and the game goes on
        minimise(turns.players.D(x).square())
    assert "loss/D" in turns.scores.sums


def test_an_error_between_micro_batches_restores_the_share() -> None:
    turns = referee(micro_batches=2)
    with pytest.raises(ZeroDivisionError), turns("D") as minimise:  # noqa: PT012
        for b in turns.split(batch()):
            minimise(turns.players.D(b.image))
            raise ZeroDivisionError
    whole, split = referee(D=linear()), referee(micro_batches=2, D=linear())
    split.players.D.load_state_dict(whole.players.D.state_dict())
    turns.players.D.load_state_dict(whole.players.D.state_dict())
    turns.optimisers["D"].state.clear()
    for game in (whole, split, turns):
        with game("D") as minimise:
            for b in game.split(batch()):
                minimise(game.players.D(b.image).square())
    for game in (split, turns):
        assert tiny.farthest(tiny.weights(whole.players.D), tiny.weights(game.players.D)) < 1e-14


def test_turns_inside_the_engines_precision() -> None:
    turns = referee("bf16", D=linear().float())
    x = batch().image.float()
    for full, dtype in ((False, torch.bfloat16), (True, torch.float32)):
        with turns("D", full_precision=full) as minimise:
            logits = turns.players.D(x)
            minimise(logits.float())
        assert logits.dtype == dtype
    assert all(p.dtype == torch.float32 for p in turns.players.D.parameters())


def test_engines() -> None:
    assert Engine(CPU, "fp64").dtype == torch.float64
    assert Engine(CPU, "bf16").dtype == Engine(CPU).dtype == torch.float32
    assert settled_precision("auto") == "fp32"
    assert settled_precision("bf16") == "bf16"
    assert choose_device("cpu") == CPU
    with pytest.raises(UserError, match="--device tpu: unknown device; give one of auto, cpu, cuda, mps"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda: this machine has no such device; give --device cpu"):
            choose_device("cuda")


# ---- the guard -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_turn_that_is_not_finite_is_skipped_whole(bad: float) -> None:
    torch.manual_seed(1)
    d = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), spectral(nn.Linear(5, 1)), nn.Flatten(0)).double()
    turns = referee(G=linear(3), D=d)
    b = batch()
    with turns("D") as minimise:  # so that Adam has a state to lose
        minimise(turns.players.D(b.image).square())
    before = everything(turns)
    for turn in range(1, 4):
        with turns("D") as minimise:
            minimise(turns.players.D(b.image + turn).square())
            minimise(turns.players.D(b.image * bad).square())
        assert tiny.equal(everything(turns), before)
        assert turns.skipped == turn
        assert turns.skips_in_a_row == {"D": turn}
        assert all(p.grad is None for p in d.parameters())
    with turns("G") as minimise:  # one player's trouble is not the other's
        minimise(turns.players.G(b.z).square())
    assert turns.skips_in_a_row == {"D": 3, "G": 0}
    with turns("D") as minimise:
        minimise(turns.players.D(b.image).square())
    assert turns.skips_in_a_row == {"D": 0, "G": 0}
    assert turns.skipped == 3
    assert not tiny.equal(everything(turns), before)
    scores = turns.read_scores()
    assert all(math.isfinite(v) for v in scores.values()), "what was skipped is not in the means"


def test_all_movers_of_a_turn_skip_together() -> None:
    turns = referee(G=linear(3), F=linear(3))
    before = everything(turns)
    with turns("G", "F") as minimise:
        minimise(turns.players.G(batch().z).square())
        minimise(turns.players.F(batch().z * math.nan).square())
    assert tiny.equal(everything(turns), before)
    assert turns.skips_in_a_row == {"G+F": 1}


def test_an_absent_gradient_stays_absent() -> None:
    """What a turn does not use keeps its value and has no Adam state: zeros would move it by momentum."""
    turns = referee(D=linear())
    with turns("D", full_precision=True) as minimise:
        x = leaf(batch().image)
        (slope,) = torch.autograd.grad(turns.players.D(x).sum(), x, create_graph=True)
        minimise(slope.square().sum(1))
    bias = turns.players.D[0].bias
    assert bias not in turns.optimisers["D"].state
    assert turns.players.D[0].weight in turns.optimisers["D"].state


# ---- idle players --------------------------------------------------------------------------------------


def test_idle_statistics_stay_still_and_moving_ones_move() -> None:
    g = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double()
    d = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0)).double()
    turns = referee(G=g, D=d)
    b = batch()
    for mover, idle in (("D", "G"), ("G", "D")):
        before = everything(turns)
        with turns(mover) as minimise:
            minimise(losses.non_saturating(turns.players.D(turns.players.G(b.z))))
        after = everything(turns)
        assert not torch.equal(before[f"{mover}/1.running_mean"], after[f"{mover}/1.running_mean"])
        assert all(torch.equal(before[k], after[k]) for k in before if k.startswith(idle))


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_spectral_norm_iterates_once_a_turn_of_d(micro_batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    d = nn.Sequential(spectral(nn.Linear(3, 4)), nn.Tanh(), spectral(nn.Linear(4, 1)), nn.Flatten(0)).double()
    turns = referee(G=linear(3), D=d, micro_batches=micro_batches)
    norms = {id(m): 0 for m in d.modules() if isinstance(m, SpectralNorm)}
    iterate = SpectralNorm._iterate

    def count(self: SpectralNorm, matrix: Tensor) -> None:
        norms[id(self)] += 1
        iterate(self, matrix)

    monkeypatch.setattr(SpectralNorm, "_iterate", count)
    for turn in range(1, 4):
        for mover in ("D", "G"):
            with turns(mover) as minimise:
                for b in turns.split(batch()):
                    real, fake = turns.players.D(b.image), turns.players.D(turns.players.G(b.z))
                    minimise(losses.hinge(real, fake))
            assert set(norms.values()) == {turn}, f"after {mover}'s turn"


def test_coupled_networks_refuse_micro_batches() -> None:  # trap 17
    d = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0)).double()
    with pytest.raises(UserError, match="micro_batches=2: the samples of a batch influence each other in D"):
        referee(D=d, micro_batches=2)
    referee(D=d)


# ---- the score -----------------------------------------------------------------------------------------


def test_accuracy_is_about_zero_or_about_the_midpoint() -> None:
    real, fake = torch.tensor([3.0, 1.0, -1.0, 0.0]), torch.tensor([-3.0, -1.0, 1.0, 0.0])
    turns = referee()
    turns.note(real=real, fake=fake)
    assert turns.read_scores() == {"accuracy/real": 0.5, "accuracy/fake": 0.5}, "0 is on neither side"
    turns.scores.boundary = None
    turns.note(real=real + 100, fake=fake + 100)
    assert turns.read_scores() == {"accuracy/real": 0.5, "accuracy/fake": 0.5}
    turns.note(real=torch.tensor([10.0, 11.0]), fake=torch.tensor([9.0, 8.0]))
    assert turns.read_scores() == {"accuracy/real": 1.0, "accuracy/fake": 1.0}
    turns.scores.boundary = 0.0
    turns.note(real=torch.tensor([10.0, 11.0]), fake=torch.tensor([9.0, 8.0]))
    assert turns.read_scores() == {"accuracy/real": 1.0, "accuracy/fake": 0.0}
    turns.scores.boundary = 0.5
    turns.note(real=torch.tensor([0.6, 0.4]), fake=torch.tensor([0.4, 0.3]))
    assert turns.read_scores() == {"accuracy/real": 0.5, "accuracy/fake": 1.0}


def test_noting_keeps_no_graph() -> None:
    turns = referee()
    logits = turns.players.D(batch().image)
    assert logits.requires_grad
    turns.note(real=logits, fake=logits)
    assert not any(side.requires_grad for pair in turns.scores._noted for side in pair)


@pytest.mark.parametrize("boundary", [0.0, 0.5, None])
def test_logits_judged_together_score_as_each_alone(boundary: float | None) -> None:
    together, alone = referee(), referee()
    together.scores.boundary = alone.scores.boundary = boundary
    sizes = [5] * (JUDGED + 3) + [4, 5]  # one full load, a part of one, and a change of shape
    for i, size in enumerate(sizes):
        real, fake = normal(i, "real", 0, size, 1)[:, 0], normal(i, "fake", 0, size, 1)[:, 0]
        together.note(real=real, fake=fake)
        alone.note(real=real, fake=fake)
        alone.state()
    assert together.state() == alone.state()
    assert together.scores.sums["accuracy/real"].count == len(sizes)
    assert together.read_scores() == alone.read_scores()


def test_scores_are_means_and_reading_starts_anew() -> None:
    turns = referee()
    assert turns.read_scores() == {}
    for value in (1.0, 2.0, 6.0):
        turns.scores.add("loss/D", torch.tensor(value))
    turns.scores.add("loss/G", torch.tensor(5.0, dtype=torch.bfloat16))
    assert turns.read_scores() == {"loss/D": 3.0, "loss/G": 5.0}
    assert turns.read_scores() == {}
    with pytest.raises(RuntimeError, match="an empty score"):
        _ = Score().total


def test_the_gradient_norm_is_that_of_all_movers() -> None:
    turns = referee(lr=0.0)
    x = batch().image
    with turns("D") as minimise:
        minimise(turns.players.D(x))
    expected = torch.cat((x.mean(0), torch.ones(1, dtype=torch.float64))).norm()
    assert turns.read_scores()["gradient/D"] == pytest.approx(float(expected), abs=1e-15)


def test_state_survives_json_to_the_last_bit() -> None:
    turns = referee()
    for i in range(3):
        with turns("D") as minimise:
            minimise(turns.players.D(batch(first=8 * i).image * (math.nan if i == 2 else 1)).square())
        turns.note(real=torch.rand(7), fake=torch.rand(7))
    state = json.loads(json.dumps(turns.state(), allow_nan=False))
    other = referee()
    other.load_state(state)
    assert other.state() == turns.state()
    assert (other.skipped, other.skips_in_a_row) == (1, {"D": 1})
    for game in (turns, other):
        game.scores.add("loss/D", torch.tensor(0.1))
    assert other.read_scores() == turns.read_scores()


# ---- Adam ----------------------------------------------------------------------------------------------


def test_betas_are_floats() -> None:  # trap 34
    """torch refuses, or worse, miscounts with, betas of ints: a recipe may say 0."""
    adam = Adam(lr=Constant(1e-3), beta1=0, beta2=0)
    (group,) = adam.optimiser(linear()).param_groups
    assert [type(b) for b in group["betas"]] == [float, float]
    run = replace(tiny.run("r3gan"), adam_d=replace(tiny.run("r3gan").adam_d, beta1=0))
    t = tiny.training(run, tiny.images())
    t.step()
    assert t.turns.skipped == 0


def test_each_player_has_its_own_optimiser_and_rate() -> None:
    run = replace(
        tiny.run("gan"),
        adam_g=Adam(lr=Cosine(1e-2, 0, 80), beta1=0.1),
        adam_d=Adam(lr=Constant(3e-4), beta2=0.8),
    )
    t = tiny.training(run, tiny.images())
    g, d = t.optimisers["G"].param_groups[0], t.optimisers["D"].param_groups[0]
    assert g["betas"] == (0.1, 0.999)
    assert d["betas"] == (0.5, 0.8)
    for _ in range(3):
        seen = t.seen
        t.step()
        assert g["lr"] == run.adam_g.lr(seen), "the schedule's value at the images seen before the step"
        assert d["lr"] == 3e-4
    t.lr_scale = 0.5
    t.step()
    assert d["lr"] == 1.5e-4


class PlainAdam:
    """Kingma and Ba 2015, algorithm 1, as it is printed."""

    def __init__(self, lr: float, beta1: float, beta2: float, eps: float) -> None:
        self.lr, self.beta1, self.beta2, self.eps, self.t = lr, beta1, beta2, eps, 0
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self, parameters: list[Tensor], gradients: tuple[Tensor, ...]) -> None:
        self.t += 1
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            m, v = self.moments.get(i, (torch.zeros_like(p), torch.zeros_like(p)))
            m, v = self.beta1 * m + (1 - self.beta1) * g, self.beta2 * v + (1 - self.beta2) * g * g
            self.moments[i] = (m, v)
            corrected = m / (1 - self.beta1**self.t), v / (1 - self.beta2**self.t)
            p -= self.lr * corrected[0] / (corrected[1].sqrt() + self.eps)


# ---- parity: the papers' loops, written straight down --------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "conditional"),
    [(MLP(latent=4, width=16, depth=2), False), (R3(latent=4, width=8, widest=16), True)],
    ids=["mlp", "r3 with classes"],
)
def test_r3gan_against_a_straight_loop(networks: MLP | R3, conditional: bool) -> None:
    """Huang et al. 2024, eq. 2 to 4, over 20 steps in float64, with an Adam of its own."""
    base = tiny.run("r3gan")
    run = replace(
        base, algorithm=replace(base.algorithm, networks=networks, gamma=Cosine(0.5, 0.1, 100)),  # type: ignore[call-arg]
        precision="fp64", conditional=conditional,
    )  # fmt: skip
    t = tiny.training(run, tiny.images())
    g, d = copy.deepcopy(t.players.G), copy.deepcopy(t.players.D)
    adam_g, adam_d = (PlainAdam(a.lr(0), a.beta1, a.beta2, a.eps) for a in (run.adam_g, run.adam_d))

    def logits(x: Tensor, c: Tensor | None) -> Tensor:
        return d(x, c)

    for step in range(20):
        t.step()
        first = 8 * step
        x, c = t.loader.real("real", first, 8).requires_grad_(), t.loader.label("real", first, 8)
        fake = g(t.loader.latent("z", first, 8), c).detach().requires_grad_()
        gamma = run.algorithm.gamma(first)  # type: ignore[attr-defined]
        r1 = torch.autograd.grad(logits(x, c).sum(), x, create_graph=True)[0].square().sum() / 8
        r2 = torch.autograd.grad(logits(fake, c).sum(), fake, create_graph=True)[0].square().sum() / 8
        loss = torch.log(1 + torch.exp(-(logits(x, c) - logits(fake, c)))).sum() / 8 + gamma / 2 * (r1 + r2)
        adam_d.step(list(d.parameters()), torch.autograd.grad(loss, list(d.parameters()), materialize_grads=True))

        x, c = t.loader.real("real2", first, 8), t.loader.label("real2", first, 8)
        fake = g(t.loader.latent("z2", first, 8), c)
        loss = torch.log(1 + torch.exp(-(logits(fake, c) - logits(x, c)))).sum() / 8
        adam_g.step(list(g.parameters()), torch.autograd.grad(loss, list(g.parameters())))
    assert tiny.farthest(tiny.weights(g), tiny.weights(t.players.G)) < 1e-11
    assert tiny.farthest(tiny.weights(d), tiny.weights(t.players.D)) < 1e-11


def test_wgan_gp_against_a_straight_loop() -> None:
    """Gulrajani et al. 2017, algorithm 1: five critic turns to one of G, in float64, sample by sample."""
    base = tiny.run("wgan_gp", toy=True, precision="fp64")
    run = replace(base, algorithm=replace(base.algorithm, critic_steps=5))  # type: ignore[call-arg]
    t = tiny.training(run, tiny.points())
    g, d = copy.deepcopy(t.players.G), copy.deepcopy(t.players.D)
    adam_g, adam_d = (PlainAdam(a.lr(0), a.beta1, a.beta2, a.eps) for a in (run.adam_g, run.adam_d))
    weight = run.algorithm.penalty_weight(0)  # type: ignore[attr-defined]
    for step in range(6):
        t.step()
        for critic_step in range(5):
            first = 40 * step + 8 * critic_step
            x, z = t.loader.real("real", first, 8), t.loader.latent("z", first, 8)
            epsilon = t.loader.uniform("epsilon", first, 8)
            loss = torch.zeros((), dtype=torch.float64)
            for i in range(8):
                fake = g(z[i : i + 1]).detach()
                between = (epsilon[i] * x[i : i + 1] + (1 - epsilon[i]) * fake).requires_grad_()
                (slope,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
                penalty = ((slope.square().sum() + 1e-12).sqrt() - 1) ** 2
                loss = loss + (d(fake) - d(x[i : i + 1])).squeeze() + weight * penalty
            adam_d.step(
                list(d.parameters()),
                torch.autograd.grad(loss / 8, list(d.parameters()), materialize_grads=True),
            )
        loss = -d(g(t.loader.latent("z2", 40 * step, 8))).mean()
        adam_g.step(list(g.parameters()), torch.autograd.grad(loss, list(g.parameters())))
    assert tiny.farthest(tiny.weights(g), tiny.weights(t.players.G)) < 1e-11
    assert tiny.farthest(tiny.weights(d), tiny.weights(t.players.D)) < 1e-11


def test_dcgan_against_a_straight_loop() -> None:
    """The loop of the tutorials, with torch's own cross entropy; BatchNorm in both players."""
    run = tiny.run("dcgan", precision="fp64", adam_g=Adam(lr=Constant(5e-4)), adam_d=Adam(lr=Constant(5e-4)))
    t = tiny.training(run, tiny.images())
    g, d = copy.deepcopy(t.players.networks["G"]), copy.deepcopy(t.players.networks["D"])
    adams = [torch.optim.Adam(n.parameters(), lr=5e-4, betas=(0.5, 0.999)) for n in (g, d)]
    one, zero = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    entropy = F.binary_cross_entropy_with_logits
    for step in range(10):
        t.step()
        x, fake = t.loader.real("real", 8 * step, 8), g(t.loader.latent("z", 8 * step, 8))
        d.zero_grad()
        (entropy(d(x), one) + entropy(d(fake.detach()), zero)).backward()
        adams[1].step()
        g.zero_grad()
        entropy(d(fake), one).backward()
        adams[0].step()
    for straight, ours in ((g, t.players.networks["G"]), (d, t.players.networks["D"])):
        for a, b in zip(straight.parameters(), ours.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)
    for a, b in zip(g.buffers(), t.players.networks["G"].buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def minus_log(probability: Tensor) -> Tensor:
    return -probability.log().mean()


def test_cgan_against_a_straight_loop() -> None:
    """Mirza and Osindero 2014, eq. 2, in float64: the one-hot class joined by hand to z and to x."""
    run = tiny.run("cgan", toy=True, precision="fp64")
    t = tiny.training(run, tiny.points())
    g, d = copy.deepcopy(t.players.G), copy.deepcopy(t.players.D)
    adam_g, adam_d = (PlainAdam(a.lr(0), a.beta1, a.beta2, a.eps) for a in (run.adam_g, run.adam_d))

    def beside(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return network.network(torch.cat([x, F.one_hot(y, 3).double()], 1))

    for step in range(10):
        t.step()
        x, y = t.loader.real("real", 8 * step, 8), t.loader.label("real", 8 * step, 8)
        fake = beside(g, t.loader.latent("z", 8 * step, 8), y).detach()
        loss = minus_log(torch.sigmoid(beside(d, x, y))) + minus_log(1 - torch.sigmoid(beside(d, fake, y)))
        adam_d.step(list(d.parameters()), torch.autograd.grad(loss, list(d.parameters())))

        y = t.loader.label("real2", 8 * step, 8)
        fake = beside(g, t.loader.latent("z2", 8 * step, 8), y)
        loss = minus_log(torch.sigmoid(beside(d, fake, y)))
        adam_g.step(list(g.parameters()), torch.autograd.grad(loss, list(g.parameters())))
    assert tiny.farthest(tiny.weights(g), tiny.weights(t.players.G)) < 1e-11
    assert tiny.farthest(tiny.weights(d), tiny.weights(t.players.D)) < 1e-11


def test_acgan_against_a_straight_loop() -> None:
    """Odena et al. 2017, eq. 2 and 3, in float64: D maximises L_S + L_C, G maximises L_C - L_S."""
    base = tiny.run("acgan", toy=True, precision="fp64")
    run = replace(base, algorithm=replace(base.algorithm, weight_class=0.7))  # type: ignore[call-arg]
    t = tiny.training(run, tiny.points())
    g, d = copy.deepcopy(t.players.G), copy.deepcopy(t.players.D)
    adam_g, adam_d = (PlainAdam(a.lr(0), a.beta1, a.beta2, a.eps) for a in (run.adam_g, run.adam_d))

    def probabilities(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """P(S = real | x) and P(C = y | x)."""
        source, classes = d(x, y, True)
        return torch.sigmoid(source), classes.softmax(1)[torch.arange(8), y]

    for step in range(10):
        t.step()
        x, y = t.loader.real("real", 8 * step, 8), t.loader.label("real", 8 * step, 8)
        fake = g(t.loader.latent("z", 8 * step, 8), y).detach()
        (s_real, c_real), (s_fake, c_fake) = probabilities(x, y), probabilities(fake, y)
        loss = minus_log(s_real) + minus_log(1 - s_fake) + 0.7 * (minus_log(c_real) + minus_log(c_fake))
        adam_d.step(list(d.parameters()), torch.autograd.grad(loss, list(d.parameters())))

        y = t.loader.label("real2", 8 * step, 8)
        s_fake, c_fake = probabilities(g(t.loader.latent("z2", 8 * step, 8), y), y)
        loss = minus_log(s_fake) + 0.7 * minus_log(c_fake)
        adam_g.step(list(g.parameters()), torch.autograd.grad(loss, list(g.parameters())))
    assert tiny.farthest(tiny.weights(g), tiny.weights(t.players.G)) < 1e-11
    assert tiny.farthest(tiny.weights(d), tiny.weights(t.players.D)) < 1e-11


def test_projection_against_a_straight_loop() -> None:
    """Miyato and Koyama 2018, eq. 3, in SNGAN's hinge game (its eq. 16, 17) in float64: two D turns to one of G."""
    base = tiny.run("projection", toy=True, precision="fp64")
    run = replace(base, algorithm=replace(base.algorithm, critic_steps=2))  # type: ignore[call-arg]
    t = tiny.training(run, tiny.points())
    g, d = copy.deepcopy(t.players.G), copy.deepcopy(t.players.D)
    adam_g, adam_d = (PlainAdam(a.lr(0), a.beta1, a.beta2, a.eps) for a in (run.adam_g, run.adam_d))

    def logits(x: Tensor, y: Tensor) -> Tensor:
        """y^T V phi(x) + psi(phi(x)): the features are of x alone."""
        features = d.layers(x)
        return (F.one_hot(y, 3).double() @ d.head.embedding.weight * features).sum(1) + d.head.linear(features)[:, 0]

    for step in range(10):
        t.step()
        for first in (16 * step, 16 * step + 8):
            track(stateful(d), True)  # one power iteration of each layer, then the same u and v for all of the step
            x, y = t.loader.real("real", first, 8), t.loader.label("real", first, 8)
            fake = g(t.loader.latent("z", first, 8), y).detach()
            loss = (1 - logits(x, y)).clamp(min=0).mean() + (1 + logits(fake, y)).clamp(min=0).mean()
            adam_d.step(list(d.parameters()), torch.autograd.grad(loss, list(d.parameters())))

        y = t.loader.label("real2", 16 * step, 8)
        loss = -logits(g(t.loader.latent("z2", 16 * step, 8), y), y).mean()
        adam_g.step(list(g.parameters()), torch.autograd.grad(loss, list(g.parameters())))
    assert tiny.farthest(tiny.weights(g), tiny.weights(t.players.G)) < 1e-11
    assert tiny.farthest(tiny.weights(d), tiny.weights(t.players.D)) < 1e-11


def test_ssgan_against_a_straight_loop() -> None:
    """Salimans et al. 2016, sec. 5 (D, with D(x) = Z / (Z + 1)) and 3.1 (G), in float64.

    log Z is computed in float32 in every precision (`networks.heads`), hence the wider bound.
    """
    base = tiny.run("ssgan", toy=True, precision="fp64", labelled=6)
    run = replace(base, algorithm=replace(base.algorithm, weight_supervised=0.7))  # type: ignore[call-arg]
    t = tiny.training(run, tiny.points())
    g, d = copy.deepcopy(t.players.G), copy.deepcopy(t.players.D)
    adam_g, adam_d = (PlainAdam(a.lr(0), a.beta1, a.beta2, a.eps) for a in (run.adam_g, run.adam_d))
    for step in range(10):
        t.step()
        known, y = t.loader.real("labelled", 8 * step, 8), t.loader.label("labelled", 8 * step, 8)
        x, fake = t.loader.real("real", 8 * step, 8), g(t.loader.latent("z", 8 * step, 8)).detach()
        supervised = minus_log(d(known, None, True)[0].softmax(1)[torch.arange(8), y])
        z_real, z_fake = (d(images, None, True)[0].exp().sum(1) for images in (x, fake))
        unsupervised = minus_log(z_real / (z_real + 1)) + minus_log(1 / (z_fake + 1))
        loss = 0.7 * supervised + unsupervised / 2
        adam_d.step(list(d.parameters()), torch.autograd.grad(loss, list(d.parameters())))

        _, real = d(t.loader.real("real2", 8 * step, 8), None, True)
        _, made = d(g(t.loader.latent("z2", 8 * step, 8)), None, True)
        loss = (real.mean(0) - made.mean(0)).square().mean()
        adam_g.step(list(g.parameters()), torch.autograd.grad(loss, list(g.parameters())))
    assert tiny.farthest(tiny.weights(g), tiny.weights(t.players.G)) < 1e-6
    assert tiny.farthest(tiny.weights(d), tiny.weights(t.players.D)) < 1e-6


def test_minimax_and_more_critic_steps_are_played() -> None:
    base = tiny.run("gan", toy=True, precision="fp64")
    runs = [replace(base, algorithm=replace(base.algorithm, **changes)) for changes in (
        {}, {"generator_loss": "minimax"}, {"critic_steps": 3},
    )]  # fmt: skip
    games = [tiny.training(run, tiny.points()) for run in runs]
    for t in games:
        t.step()
    assert tiny.equal(tiny.weights(games[0].players.D), tiny.weights(games[1].players.D))
    assert not tiny.equal(tiny.weights(games[0].players.G), tiny.weights(games[1].players.G))
    assert [t.seen for t in games] == [8, 8, 24]
    assert games[2].turns.scores.sums["loss/D"].count == 3


def test_sngan_keeps_d_one_lipschitz_while_it_learns() -> None:
    run = tiny.run("sngan", toy=True, precision="fp64", adam_d=Adam(lr=Constant(1e-2)))
    t = tiny.training(run, tiny.points())
    for _ in range(60):
        t.step()
    sigmas = [
        float(torch.linalg.svdvals(m.weight.detach().flatten(1))[0])
        for m in t.players.D.modules()
        if isinstance(m, nn.Linear)
    ]
    assert max(sigmas) < 1.1, "one power iteration a turn follows the weights"
    x, y = torch.randn(2, 200, 2, dtype=torch.float64)
    slopes = (t.players.D(x) - t.players.D(y)).abs() / (x - y).norm(dim=1)
    assert float(slopes.max()) < 1.3


# ---- a game whose answer is known ----------------------------------------------------------------------


class Quantiles(Numbers):
    """The N quantiles of a normal in every batch of N, so that a batch mean is nearly the expectation."""

    def real(self, purpose: str, first: int, count: int) -> Tensor:
        return torch.special.ndtri((torch.arange(count, dtype=torch.float64)[:, None] + 0.5) / count)

    def latent(self, purpose: str, first: int, count: int) -> Tensor:
        return self.real(purpose, first, count) + self.mean


def test_d_finds_its_optimum_between_two_gaussians() -> None:
    """Goodfellow et al. 2014, prop. 1: between N(0, 1) and N(m, 1) the best logits are m^2/2 - m x."""
    m, steps, count = 1.5, 400, 256
    d = MLP(latent=1, width=16, depth=2).critic(Spec((1,))).double()
    turns, source, rate = referee(D=d), Quantiles(mean=m), Cosine(1e-2, 0, steps * count)
    for step in range(steps):
        b = Batch(source, step * count, count, count)
        turns.optimisers["D"].param_groups[0]["lr"] = rate(step * count)
        with turns("D") as minimise:
            minimise(losses.discriminator(d(b.image), d(b.z)))
    x = torch.linspace(-1, m + 1, 61, dtype=torch.float64)[:, None]
    with torch.no_grad():
        found = d(x)
    torch.testing.assert_close(found, m * m / 2 - m * x[:, 0], rtol=0, atol=0.1)


def test_spec_and_data_are_what_the_networks_are_built_for() -> None:
    t = tiny.training(tiny.run("sngan", data=Data(source="tiny", flip=True)), tiny.images((3, 8, 12)))
    assert t.spec == Spec((3, 8, 12), 0)
    assert t.loader.flip
    assert isinstance(t.run.algorithm.networks, SNDCGAN)
    assert np.isfinite(t.loader.real("real", 0, 4).numpy()).all()


# ---- the guard where looking would make the processor wait ---------------------------------------------


@dataclass(frozen=True)
class Far(Engine):
    """The processor, treated as a device that one waits for."""

    @property
    def waits(self) -> bool:
        return True


def far(turns: Turns) -> Turns:
    turns.engine = Far(CPU, "fp64")
    turns.optimisers = {
        name: torch.optim.Adam(net.parameters(), lr=0.1, fused=True) for name, net in turns.players.networks.items()
    }
    return turns


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_guard_unseen_does_what_the_guard_seen_does(bad: float) -> None:
    def play(turns: Turns) -> Turns:
        b = batch()
        for factor in (1.0, bad, 2.0, bad, bad, 0.5):
            with turns("D") as minimise:
                minimise((turns.players.D(b.image * factor) - 1).square())
        return turns

    def game() -> Turns:
        torch.manual_seed(1)
        d = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1), nn.Flatten(0)).double()
        return far(referee(G=linear(3), D=d))

    unseen, seen = play(game()), game()
    seen.engine = Engine(CPU, "fp64")
    play(seen)
    assert unseen.skipped == 0, "nothing is read while the game goes on"
    assert unseen.state() == seen.state()
    assert unseen.skipped == 3
    assert unseen.read_scores() == seen.read_scores()
    assert tiny.equal(everything(unseen), everything(seen))


def test_turns_unseen_are_booked_when_there_are_enough() -> None:
    turns = far(referee())
    for i in range(BOOKED):
        with turns("D") as minimise:
            minimise(turns.players.D(batch().image) * (math.nan if i % 2 else 1.0))
        assert turns.skipped == (BOOKED // 2 if i == BOOKED - 1 else 0)


# ---- ahead of one's turn -------------------------------------------------------------------------------


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double()


def test_what_is_made_ahead_is_used_in_the_turn() -> None:
    torch.manual_seed(0)
    turns = referee(G=normed(), D=linear())
    g, d = (copy.deepcopy(turns.players.networks[name]) for name in "GD")
    b = batch()
    with turns.ahead("G"):
        fake = turns.players.G(b.z)
    with turns("D") as minimise:
        minimise(turns.players.D(fake.detach()))
    with turns("G") as minimise:
        minimise(turns.players.D(fake))
    adams = [torch.optim.Adam(net.parameters(), lr=0.1) for net in (d, g)]
    fake = g(b.z)
    for adam, loss in zip(adams, (lambda: d(fake.detach()), lambda: d(fake)), strict=True):
        adam.zero_grad()
        loss().mean().backward()
        adam.step()
    for mine, theirs in ((turns.players.networks["G"], g), (turns.players.networks["D"], d)):
        assert tiny.equal(tiny.weights(mine), tiny.weights(theirs))


def test_a_skipped_turn_takes_back_what_was_done_ahead_of_it() -> None:
    turns = referee(G=normed(), D=linear())
    before = everything(turns)
    with turns.ahead("G"):
        fake = turns.players.G(batch().z)
    assert not tiny.equal(everything(turns), before), "G's statistics move as it is played"
    with turns("G") as minimise:
        minimise(turns.players.D(fake * math.nan))
    assert turns.skipped == 1
    assert tiny.equal(everything(turns), before)
