"""The average of the weights: a closed form, a half-life in images, and buffers that are copied."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import tiny
from zerosum import checkpoint, memory
from zerosum.ema import AT_ONCE, EMA, SETTLED
from zerosum.game import Adam
from zerosum.networks.blocks import SpectralNorm, spectral
from zerosum.randomness import normal
from zerosum.schedule import Constant, Linear


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), spectral(nn.Linear(4, 2))).double()


def move(net: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(by)


def mean(ema: EMA) -> list[Tensor]:
    return [p.detach().clone() for p in ema.network.parameters()]


def test_closed_form() -> None:  # trap 12
    """After k equal steps towards a fixed value w from w0: w - (w - w0) 2^(-k n / half-life)."""
    net = network()
    ema = EMA(net)
    start = [p.detach().clone() for p in net.parameters()]
    move(net, 1.0)
    for k in range(1, 8):
        ema.update(64, 500)
        left = 2 ** (-k * 64 / 500)
        for mine, theirs, was in zip(mean(ema), net.parameters(), start, strict=True):
            torch.testing.assert_close(mine, theirs - (theirs - was) * left, rtol=1e-12, atol=1e-14)


def test_weights_of_the_past_halve_every_half_life() -> None:
    """The average is the sum of all past weights, each with a weight that halves every half-life."""
    net = network()
    ema = EMA(net)
    decay = 2 ** (-10 / 100)
    history = [[p.detach().clone() for p in net.parameters()]]
    for i in range(30):
        move(net, math.sin(i))
        history.append([p.detach().clone() for p in net.parameters()])
        ema.update(10, 100)
    for j, mine in enumerate(mean(ema)):
        expected = decay**30 * history[0][j] + sum(
            (1 - decay) * decay ** (30 - k) * history[k][j] for k in range(1, 31)
        )
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-13)


@given(images=st.integers(1, 500), parts=st.integers(1, 8), half_life=st.floats(1, 1e6))
def test_two_small_batches_move_it_as_one_large(images: int, parts: int, half_life: float) -> None:  # trap 13
    one = EMA(nn.Linear(1, 1).double())
    many = EMA(nn.Linear(1, 1).double())
    many.network.load_state_dict(one.network.state_dict())
    for ema in (one, many):
        ema._live = [torch.full_like(p, 3.0) for p in ema.network.parameters()]
    one.update(images * parts, half_life)
    for _ in range(parts):
        many.update(images, half_life)
    for a, b in zip(mean(one), mean(many), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_batch_32_twice_is_batch_64_once_in_a_run() -> None:  # trap 13
    """With weights that stand still, a run's average moves by images, whatever the batch."""
    moved = []
    for batch_size, steps in ((32, 4), (64, 2)):
        still = Adam(lr=Constant(0))
        run = tiny.run(
            "gan", toy=True, precision="fp64", batch_size=batch_size, ema_half_life=Constant(100),
            adam_g=still, adam_d=still,
        )  # fmt: skip
        t = tiny.training(run, tiny.points())
        move(t.players.G, 1.0)
        for _ in range(steps):
            t.step()
        moved.append(mean(t.ema["G"]))
    for a, b in zip(*moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("half_life", [0, 0.0, -1])
def test_half_life_zero_copies(half_life: float) -> None:
    net = network()
    ema = EMA(net)
    move(net, 2.0)
    ema.update(1, half_life)
    assert all(torch.equal(a, b) for a, b in zip(mean(ema), net.parameters(), strict=True))


def test_a_run_without_averages_draws_from_the_live_weights_and_keeps_no_copy() -> None:
    """With BatchNorm, whose own statistics stay apart."""
    runs = [tiny.run("dcgan", ema_half_life=Constant(n)) for n in (0, 1e-9)]
    assert [run.averages for run in runs] == [False, True]
    shared, copied = (tiny.training(run, tiny.images()) for run in runs)
    for _ in range(3):
        shared.step()
        copied.step()
    live = list(shared.players.G.parameters())
    mine = list(shared.ema["G"].network.parameters())
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(live, mine, strict=True))
    assert not any(p.requires_grad for p in mine)
    assert all(p.requires_grad for p in live)
    assert shared.players.G.training
    assert tiny.equal(*(tiny.weights(t.averaged["G"]) for t in (shared, copied)))
    needs = [memory.predict(run, tiny.images().spec, torch.device("cpu")) for run in runs]
    assert needs[0].average == 0
    assert needs[0].networks == needs[1].networks
    assert needs[1].average == sum(b.numel() * b.element_size() for b in shared.averaged["G"].state_dict().values())
    assert needs[0].checkpoint == needs[1].checkpoint, "which has the average either way"


def test_a_checkpoint_goes_back_into_live_weights_that_the_average_shares(tmp_path: Path) -> None:
    run = tiny.run("gan", ema_half_life=Constant(0))
    first, other = (tiny.training(run, tiny.images(), tmp_path / name) for name in ("first", "other"))
    for _ in range(3):
        first.step()
    first.save()
    saved = checkpoint.load(checkpoint.path_of(tmp_path / "first", first.seen))
    other.restore(saved)
    for t in (first, other):
        t.step()
    weights = [tiny.weights(net) for t in (first, other) for net in (t.players.G, t.averaged["G"])]
    assert all(tiny.equal(weights[0], w) for w in weights[1:])


def test_networks_that_grow_keep_a_copy_for_their_average() -> None:
    run = tiny.run("progressive", ema_half_life=Constant(0))
    t = tiny.training(run, tiny.images())
    pairs = zip(t.players.G.parameters(), t.ema["G"].network.parameters(), strict=True)
    assert not any(a.data_ptr() == b.data_ptr() for a, b in pairs)
    need = memory.predict(run, tiny.images().spec, torch.device("cpu"))
    assert need.average == need.saved_average > 0


def test_buffers_are_copied() -> None:  # trap 12
    net = network()
    ema = EMA(net)
    for _ in range(3):
        net(torch.randn(8, 3, dtype=torch.float64))
    for norm in (m for m in net.modules() if isinstance(m, SpectralNorm)):
        norm.u.neg_()
    ema.update(8, 1e9)
    theirs, mine = dict(net.named_buffers()), dict(ema.network.named_buffers())
    assert any(name.endswith("running_var") for name in mine)
    assert any(name.endswith("num_batches_tracked") for name in mine)
    assert any(name.endswith(".u") for name in mine)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert all(mine[name].data_ptr() != theirs[name].data_ptr() for name in mine)


def test_it_is_a_frozen_copy_in_eval_mode() -> None:
    net = network()
    ema = EMA(net)
    assert net.training
    assert not any(m.training for m in ema.network.modules())
    assert not any(p.requires_grad for p in ema.network.parameters())
    before = tiny.weights(ema.network)
    move(net, 1.0)
    assert tiny.equal(tiny.weights(ema.network), before), "it moves when it is told to"
    ema.update(10, 100)
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", tiny.ALGORITHMS)
def test_a_run_moves_it_once_a_step_after_g(name: str) -> None:
    run = tiny.run(name, precision="fp64", ema_half_life=Linear(0, 400, 800))
    t = tiny.training(run, tiny.images())
    previous = mean(t.ema["G"])
    for _ in range(3):
        t.step()
        half_life = run.ema_half_life(t.seen)
        share = 1 - 0.5 ** (t.images_per_step / half_life)
        now = mean(t.ema["G"])
        for a, b, live in zip(previous, now, t.players.G.parameters(), strict=True):
            torch.testing.assert_close(b, a + share * (live.detach() - a), rtol=1e-10, atol=1e-13)
        previous = now
        for a, b in zip(t.ema["G"].network.buffers(), t.players.G.buffers(), strict=True):
            assert torch.equal(a, b)


def latents(first: int, count: int) -> tuple[Tensor, None]:
    """What a generator of points is given: latents by address, and no label."""
    return normal(0, "ema", first, count, 3).double(), None


class Drawn(nn.Module):
    """A generator of points: z (n, 3) and no label."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, z: Tensor, label: Tensor | None) -> Tensor:
        return self.layers(z)


def test_settled_batchnorm_has_the_statistics_of_the_averaged_network() -> None:
    torch.manual_seed(0)
    live = Drawn().double()
    ema = EMA(live)
    move(live, 0.3)
    ema.update(64, 100)
    network = ema.settled(latents)
    assert network is ema.network
    assert not any(m.training for m in network.modules())
    z, _ = latents(0, SETTLED)
    first, norm = network.get_submodule("layers.0"), network.get_submodule("layers.1")
    x = first(z)
    torch.testing.assert_close(norm.running_mean, x.mean(0), rtol=1e-10, atol=1e-12)
    in_batches = x.unflatten(0, (-1, AT_ONCE)).var(1).mean(0)
    torch.testing.assert_close(norm.running_var, in_batches, rtol=1e-10, atol=1e-12)
    assert norm.momentum == 0.1
    kept = norm.running_mean
    assert kept is not None
    kept.add_(1.0)
    ema.settled(latents)  # nothing moved: nothing is done
    torch.testing.assert_close(kept, x.mean(0) + 1.0, rtol=1e-10, atol=1e-12)
    ema.update(64, 100)
    ema.settled(latents)
    assert float((kept - x.mean(0)).abs().max()) < 0.9


def test_settling_leaves_other_networks_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.InstanceNorm1d(4), spectral(nn.Linear(4, 2))).double()
    ema = EMA(net)
    before = tiny.weights(ema.network)
    ema.settled(latents)
    assert tiny.equal(tiny.weights(ema.network), before)
