"""Regret: games whose gap is known, what a frozen opponent does, and that nothing else is touched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from zerosum import distributed
from zerosum.adam import FusedAdam
from zerosum.data.loader import Loader
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.engine import Engine
from zerosum.equilibrium.gap import Gain, Regret, regret
from zerosum.game import Adam, Algorithm, Batch, Players, Turn
from zerosum.losses import discriminator
from zerosum.metrics.intervals import Interval
from zerosum.networks import MLP
from zerosum.randomness import normal
from zerosum.run import Run
from zerosum.schedule import Constant
from zerosum.trainer import Training

CPU = torch.device("cpu")


class Number(nn.Module):
    """A player who is one number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x))


@dataclass(frozen=True, kw_only=True)
class Saddle(Algorithm):
    """f(x, y) = x y + x^2/2 - y^2/2: G chooses x and minimises f, D chooses y and maximises it."""

    networks: MLP = MLP(latent=1)
    x: float = 1.0
    y: float = 1.0

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": Number(self.x), "D": Number(self.y)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn("D") as minimise:
            x, y = p.G(batch.z), p.D(batch.z)
            minimise(-(x * y - y * y / 2))
        with turn("G") as minimise:
            x, y = p.G(batch.z2), p.D(batch.z2)
            minimise(x * y + x * x / 2)


class Line(nn.Module):
    """x (n, 1) -> a x + b, which for a shift m of one normal against another is the best D: a = -m, b = m^2/2."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.a * x.squeeze(1) + self.b


class Shift(nn.Module):
    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return z + self.offset


@dataclass(frozen=True, kw_only=True)
class TwoNormals(Algorithm):
    """Goodfellow's D between N(0, 1) and N(m, 1); G never moves."""

    networks: MLP = MLP(latent=1)
    offset: float = 1.0
    best: bool = True

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        m = self.offset
        return {"G": Shift(m), "D": Line(-m, m * m / 2) if self.best else Line(0.0, 0.0)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn("D") as minimise:
            minimise(discriminator(p.D(batch.image), p.D(p.G(batch.z))))


def standard_normal(count: int = 20_000) -> ArrayDataset:
    return ArrayDataset(normal(0, "tests/gap", 0, count, 1).float().numpy())


def game(algorithm: Algorithm, lr: float, batch_size: int, dataset: ArrayDataset, precision: str = "fp32") -> Training:
    adam = Adam(lr=Constant(lr), beta1=0.5, beta2=0.9)
    run = Run(
        data=Data(source="tiny"), algorithm=algorithm, adam_g=adam, adam_d=adam, batch_size=batch_size, images=1_000,
        precision=precision, threads=1,  # type: ignore[arg-type]
    )  # fmt: skip
    return tiny.training(run, dataset)


def measure(t: Training, **options: int) -> Regret:
    return regret(t.run, t.players, t.optimisers, t.engine, t.loader, t.loader, t.seen, **options)


def gain_of(found: Regret, side: str) -> Interval:
    gain = found.of(side)
    assert gain is not None
    return gain


@pytest.mark.parametrize(("x", "y"), [(1.0, 1.0), (-0.5, 2.0), (0.0, 0.0)])
def test_a_saddle_whose_gap_is_known(x: float, y: float) -> None:
    """The best answer of G to y is -y, and of D to x is x: the gains are (x + y)^2 / 2 and (x - y)^2 / 2."""
    found = measure(game(Saddle(x=x, y=y), 0.2, 4, standard_normal(64), "fp64"), turns=200, batches=4)
    expected = {"G": (x + y) ** 2 / 2, "D": (x - y) ** 2 / 2}
    for side, gain in expected.items():
        assert gain_of(found, side).value == pytest.approx(gain, abs=2e-3)
    assert found.gap.value == pytest.approx(x * x + y * y, abs=4e-3)


def best_loss(m: float) -> float:
    """E_p[softplus(-D)] + E_q[softplus(D)] for the best D, by the trapezoid rule."""
    x = np.linspace(-10, m + 10, 40_001)
    p, q = (np.exp(-((x - c) ** 2) / 2) / math.sqrt(2 * math.pi) for c in (0.0, m))
    logit = m * m / 2 - m * x
    return float(np.trapezoid(p * np.logaddexp(0, -logit) + q * np.logaddexp(0, logit), x))


@pytest.mark.parametrize("offset", [1.0, 2.0])
def test_the_best_discriminator_gains_nothing(offset: float) -> None:
    """Goodfellow et al. 2014, proposition 1. In expectation it can only lose; so: not above zero."""
    found = measure(game(TwoNormals(offset=offset), 0.01, 500, standard_normal()), turns=60, batches=32)
    gain = gain_of(found, "D")
    assert gain.low <= 0 <= gain.high or gain.high < 0
    assert abs(gain.value) < 2e-3
    assert found.of("G") is None, "who has no turn has no gain"
    assert found.gap == gain


@pytest.mark.parametrize("offset", [1.0, 2.0])
def test_a_blind_discriminator_gains_what_theory_says(offset: float) -> None:
    """From D = 1/2, whose loss is 2 log 2, to the best D: twice the Jensen-Shannon divergence (theorem 1)."""
    t = game(TwoNormals(offset=offset, best=False), 0.05, 500, standard_normal())
    found = measure(t, turns=300, batches=32)
    assert found.gains[0].before == pytest.approx(2 * math.log(2), abs=1e-6)
    expected = 2 * math.log(2) - best_loss(offset)
    gain = gain_of(found, "D")
    assert gain.value == pytest.approx(expected, abs=0.03)
    assert gain.low > 0


def test_against_a_generator_equal_to_the_data_nobody_gains() -> None:
    found = measure(game(TwoNormals(offset=0.0, best=False), 0.01, 500, standard_normal()), turns=60, batches=32)
    gain = gain_of(found, "D")
    assert gain.low < 0
    assert abs(gain.value) < 2e-3, "D is at its best already, one half everywhere"


def test_more_turns_gain_more() -> None:
    t = game(TwoNormals(best=False), 0.01, 200, standard_normal())
    gains = [gain_of(measure(t, turns=k, batches=8), "D").value for k in (5, 20, 80)]
    assert gains == sorted(gains)
    assert gains[0] > 0


# ---- nothing else is touched -----------------------------------------------------------------------------


def state(t: Training) -> dict[str, Tensor]:
    return tiny.tensors(t) | {"generator": torch.get_rng_state()}


def modes(networks: Mapping[str, nn.Module]) -> list[tuple[bool, ...]]:
    found = []
    for network in networks.values():
        for module in network.modules():
            more = (getattr(module, "track_running_stats", True), getattr(module, "due", True))
            found.append((module.training, *more, *(p.requires_grad for p in module.parameters(recurse=False))))
            assert all(p.grad is None for p in module.parameters())
    return found


@pytest.mark.parametrize("name", tiny.ALGORITHMS)
@pytest.mark.parametrize("conditional", [False, True])
def test_measuring_touches_nothing(name: str, conditional: bool) -> None:
    t = tiny.training(tiny.run(name, conditional=conditional), tiny.images())
    t.step()
    before, how, rates = state(t), modes(t.players.networks), [o.param_groups[0]["lr"] for o in t.optimisers.values()]
    found = measure(t, turns=3, batches=3)
    assert tiny.equal(before, state(t))
    assert modes(t.players.networks) == how
    assert rates == [o.param_groups[0]["lr"] for o in t.optimisers.values()]
    assert {g.side for g in found.gains} == {"D", "G"}
    assert all(math.isfinite(v) for v in found.row().values())
    assert measure(t, turns=3, batches=3) == found, "the same again"


@pytest.mark.parametrize("name", ["dcgan", "sngan", "wgan_gp"])
def test_a_run_that_is_measured_goes_on_bit_for_bit(name: str) -> None:
    alone, watched = (tiny.training(tiny.run(name), tiny.images()) for _ in range(2))
    for _ in range(3):
        alone.step()
        watched.step()
        measure(watched, turns=2, batches=2)
    assert tiny.equal(tiny.tensors(alone), tiny.tensors(watched))
    assert alone.turns.read_scores() == watched.turns.read_scores()


def test_micro_batches_give_the_same() -> None:
    found = []
    for parts in (1, 4):
        run = replace(tiny.run("r3gan", toy=True, precision="fp64"), micro_batches=parts)
        t = tiny.training(run, tiny.points())
        found.append(measure(t, turns=3, batches=3))
    for a, b in zip(found[0].gains, found[1].gains, strict=True):
        assert a.gain.value == pytest.approx(b.gain.value, abs=1e-12)
        assert a.before == pytest.approx(b.before, abs=1e-12)


@pytest.mark.parametrize(("turns", "moved"), [(1, 1), (2, 2), (3, 3), (5, 5)])
def test_exactly_so_many_turns_are_played(turns: int, moved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a step has several: WGAN-GP's critic moves twice a step here."""
    t = tiny.training(tiny.run("wgan_gp"), tiny.images())
    assert t.run.algorithm.rounds == 2
    steps: list[int] = []
    step = FusedAdam.step

    def count(self: FusedAdam, *args: object) -> object:
        steps.append(sum(p.numel() for group in self.param_groups for p in group["params"]))
        return step(self)

    monkeypatch.setattr(FusedAdam, "step", count)
    measure(t, turns=turns, batches=2)
    sizes = [sum(p.numel() for p in t.players.networks[name].parameters()) for name in ("D", "G")]
    assert sizes[0] != sizes[1]
    assert steps == [sizes[0]] * moved + [sizes[1]] * moved


def test_a_small_set_widens_the_interval() -> None:
    t = tiny.training(tiny.run("gan"), tiny.images(count=16))
    found = measure(t, turns=2, batches=8)
    assert (found.judged, found.distinct) == (64, 16)
    large = tiny.training(tiny.run("gan"), tiny.images(count=64))
    assert measure(large, turns=2, batches=8).distinct == 64


def test_the_writer_may_measure_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many processes only one probes: nothing in it may wait for the others."""
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    run = tiny.run("gan")
    networks = run.algorithm.players(Spec((1, 8, 8)))
    optimisers = {name: run.adam_g.optimiser(network) for name, network in networks.items()}
    loader = Loader(tiny.images(), seed=0, latent=run.algorithm.networks.latent)
    assert distributed.world() == 2
    found = regret(run, Players(networks), optimisers, Engine(CPU), loader, loader, 0, turns=2, batches=2)
    assert found.judged == 2 * run.batch_size // 2, "its own share of each batch"
    assert distributed.world() == 2


def test_a_row_for_the_log() -> None:
    known = Interval(0.25, 0.125, 0.5, 0.95, "")
    found = Regret(10, 2, 8, 8, (Gain("D", 1.0, 0.75, known),), known)
    assert found.row() == {
        "regret/D": 0.25, "regret/D_low": 0.125, "regret/D_high": 0.5,
        "regret/gap": 0.25, "regret/gap_low": 0.125, "regret/gap_high": 0.5,
    }  # fmt: skip


def test_nonsense_is_refused() -> None:
    t = tiny.training(tiny.run("gan"), tiny.images())
    with pytest.raises(ValueError, match="turns=0, batches=4"):
        measure(t, turns=0, batches=4)
