"""The watch and the referee: what goes wrong is skipped, counted, named, undone once, and then ended clearly."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import little_runs
import tiny
from little_runs import Count, DieAt, Processes, assert_equal_runs, events, recipe, train, train_with_hook
from zerosum import checkpoint, session
from zerosum.data.spec import Spec
from zerosum.equilibrium.watch import SKIPS_IN_A_ROW
from zerosum.errors import UserError
from zerosum.game import Algorithm, Batch, Players, Turn
from zerosum.losses import discriminator, non_saturating
from zerosum.networks import Networks
from zerosum.run import Run
from zerosum.runlog import read_status
from zerosum.schedule import Constant, Linear

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Simple(Networks):
    """G shows its latents as pixels, as strong as its one weight; D has one weight too, and judges brightness."""

    latent: int = 64

    def generator(self, spec: Spec) -> nn.Module:
        return _Generator()

    def critic(self, spec: Spec) -> nn.Module:
        return _Critic()


class _Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.tanh(z * self.gain).unflatten(1, (1, 8, 8))


class _Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x.flatten(1).mean(1) * 0 + self.bias


@dataclass(frozen=True, kw_only=True)
class Troubled(Algorithm):
    """A game with a fault of each kind. Steps are counted from 0."""

    networks: Networks = Simple()
    bad: tuple[int, ...] = ()
    """Steps at which the loss of `bad_player` is not a number."""
    bad_player: str = "D"
    limit: float = 1e9
    """D's one weight grows by its learning rate each step; beyond the limit its loss is not a number."""
    infinite: tuple[int, ...] = ()
    """Steps at which D's loss is infinite, though its gradient is not."""
    collapse: bool = False
    """G is paid for constant images."""

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        number = seen // batch.stride
        with turn("D") as minimise:
            real, fake = p.D(batch.image), p.D(p.G(batch.z))
            loss = discriminator(real, fake)
            if isinstance(self.networks, Simple):
                weight = torch.cat([w.flatten() for w in p.D.parameters()])
                loss = torch.nn.functional.softplus(-real)
                loss = loss * (math.nan if float(weight.detach().max()) > self.limit else 1.0)
            loss = loss + (math.inf if number in self.infinite else 0.0)
            minimise(self._spoilt(loss, "D", number))
            turn.note(real=real, fake=fake)
        with turn("G") as minimise:
            loss = non_saturating(p.D(p.G(batch.z2)))
            if self.collapse:
                loss = p.G(batch.z2).square().flatten(1).mean(1)
            minimise(self._spoilt(loss, "G", number))

    def _spoilt(self, loss: Tensor, player: str, number: int) -> Tensor:
        return loss * math.nan if player == self.bad_player and number in self.bad else loss


def troubled(steps: int, **changes: Any) -> Run:
    """A run of the game above: every step logged, a checkpoint every eighth, a grid every fifth."""
    fields = {name: changes.pop(name) for name in list(changes) if name in Troubled.__dataclass_fields__}
    usual = {"algorithm": Troubled(**fields), "images": steps * BATCH, "log_every": BATCH}
    usual |= {"checkpoint_every": 8 * BATCH, "grid_every": 5 * BATCH}
    return replace(recipe("gan"), **(usual | changes))


def warnings(out: Path) -> list[tuple[int, str]]:
    """Step and text of every warning in the log."""
    return [(e["images_seen"] // BATCH, e["text"]) for e in events(out) if e["event"] == "warning"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "make_film", lambda out: None)
    monkeypatch.setattr(session, "write_report", lambda out: out / "report.html")
    monkeypatch.setattr(little_runs.probe, "SAMPLES", 16)
    monkeypatch.setattr(little_runs.pictures, "GRID_WIDTH", (1, 1))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


# ---- one update ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("player", ["D", "G"])
@pytest.mark.parametrize("kind", ["gan", "dcgan", "sngan"])
def test_skipped_update_leaves_no_trace(kind: str, player: str) -> None:
    """Weights, moments and running statistics of the player stay; the other one moves; the count goes up by one."""
    algorithm = Troubled(networks=tiny.small_algorithm(kind).networks, bad=(2,), bad_player=player)
    training = tiny.training(replace(recipe(kind), algorithm=algorithm), tiny.images())
    other = "G" if player == "D" else "D"
    for number in range(4):
        before = tiny.tensors(training)
        training.step()
        after = tiny.tensors(training)
        moved = {n: not torch.equal(after[n], before[n]) for n in after if n in before}
        bad = number == 2
        mine = {m for n, m in moved.items() if n.startswith((f"players/{player}/", f"adam/{player}/"))}
        assert mine == {False} if bad else True in mine
        assert any(m for n, m in moved.items() if n.startswith(f"players/{other}/"))
        assert all(bool(torch.isfinite(t).all()) for t in after.values() if t.is_floating_point())
        assert training.turns.skipped == (1 if number >= 2 else 0)
        assert training.turns.skips_in_a_row == {player: int(bad), other: 0}
    assert all(p.grad is None for m in training.players.networks.values() for p in m.parameters())


def test_skipped_updates_are_counted_and_named(tmp_path: Path) -> None:
    out = session.start(troubled(12, bad=(3, 6, 7)), tiny.images(), tmp_path / "run")
    rows = {e["images_seen"] // BATCH: e["skipped"] for e in events(out) if e["event"] == "progress"}
    assert [rows[n] for n in (3, 4, 6, 7, 8, 12)] == [0, 1, 1, 2, 3, 3]
    said = [(n, text) for n, text in warnings(out) if "skipped" in text]
    assert [n for n, _ in said] == [4, 7, 8]
    assert said[-1][1] == "1 update skipped for a gradient that was not finite (3 so far)"
    assert read_status(out)["state"] == "finished"


def test_infinite_loss_with_a_finite_gradient(tmp_path: Path) -> None:
    """It is no reason to skip, nor to fail when it is logged or saved before it is logged."""
    out = session.start(troubled(12, infinite=(3, 9), log_every=2 * BATCH), tiny.images(), tmp_path / "run")
    for line in (out / "events.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    losses = [e["loss/D"] for e in events(out) if e["event"] == "progress"]
    assert len(losses) == 6
    assert losses[1] > 1e30 > losses[0]
    assert read_status(out)["state"] == "finished"


# ---- many updates -------------------------------------------------------------------------------------------------


def test_back_once_with_half_the_learning_rate(tmp_path: Path) -> None:
    """What diverges at the full rate is undone, and gets through at half of it. The log reads as one story."""
    run = slower_helps()
    out = session.start(run, tiny.images(), tmp_path / "run")
    saved = checkpoint.newest(out, print)
    assert saved is not None
    assert saved.images_seen == run.images
    assert (saved.state["lr_scale"], saved.state["rolled_back"]) == (0.5, True)
    back = [text for _, text in warnings(out) if "half the learning rate" in text]
    assert len(back) == 1
    assert f"gradients of {SKIPS_IN_A_ROW} updates in a row were not finite; back to 64 images" in back[0]
    steps = [e["images_seen"] for e in events(out) if e["event"] == "progress"]
    assert steps == sorted(set(steps)) == list(range(BATCH, run.images + 1, BATCH))
    assert events(out)[-1]["images_seen"] == run.images
    skipped = [e["skipped"] for e in events(out) if e["event"] == "progress"]
    assert skipped == [0] * 8 + [SKIPS_IN_A_ROW] * (len(skipped) - 8), "what was undone is still counted"
    assert not any("updates skipped" in text for _, text in warnings(out)), "the one sentence says it"
    assert 0 < float(saved.tensors["players/D/bias"]) < run.algorithm.limit
    assert read_status(out)["state"] == "finished"


def slower_helps() -> Run:
    """D's weight is 6.0e-3 at step 8; at the full rate 7.07e-3 at step 11, at half of it 6.75e-3 in the end."""
    d = replace(recipe("gan").adam_d, lr=Linear(1e-3, 0.0, 14 * BATCH), beta1=0.0, beta2=0.9)
    return troubled(24, limit=7e-3, adam_d=d)


def test_stopped_when_half_the_rate_does_not_help(tmp_path: Path) -> None:
    run = troubled(60, bad=tuple(range(12, 60)))
    with pytest.raises(UserError, match=r"stopped at 176 images.*again, after half the learning rate") as error:
        session.start(run, tiny.images(), tmp_path / "run")
    out = tmp_path / "run"
    status = read_status(out)
    assert (status["state"], status["text"]) == ("failed", str(error.value))
    assert "checkpoints are intact" in status["text"]
    for number in checkpoint.numbers(out):
        checkpoint.load(checkpoint.path_of(out, number))
    assert [text for _, text in warnings(out) if "half the" in text] == [
        "176 images: gradients of 10 updates in a row were not finite; back to 64 images with half the learning rate"
    ]
    with pytest.raises(UserError, match="stopped at"):  # the same again: nothing has changed
        session.resume(out, tiny.images())


def test_goes_back_to_a_checkpoint_from_before_the_trouble(tmp_path: Path) -> None:
    """One saved in the middle of ten failing updates holds sound weights, but the fault may be ahead of it."""
    out = tmp_path / "run"
    with pytest.raises(UserError, match="again"):
        session.start(troubled(60, bad=tuple(range(14, 60))), tiny.images(), out)
    assert any("back to 64 images" in text for _, text in warnings(out)), "that at 128 was saved while it failed"


@pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
@pytest.mark.parametrize("case", ["gets through", "fails again"])
def test_killed_around_a_roll_back(case: str, tmp_path: Path, processes: Processes) -> None:
    """A kill before, in and after it: the same end, the same log."""
    run = slower_helps() if case == "gets through" else troubled(40, bad=tuple(range(8, 40)))
    whole = tmp_path / "whole"
    code, text = processes.run(train_with_hook, run, whole, Count(tmp_path / "operations"))
    assert code == (0 if case == "gets through" else 2), text
    operations = [json.loads(line) for line in (tmp_path / "operations").read_text().splitlines()]
    back = max(n for n, (kind, name) in enumerate(operations) if name.startswith(".tmp-events.jsonl"))
    for n in (*range(back - 4, back + 6, 2), back + 20, len(operations) - 9):
        out = tmp_path / f"{n}"
        assert processes.run(train_with_hook, run, out, DieAt(n))[0] == -signal.SIGKILL
        assert processes.run(train, run, out)[0] == code
        assert_equal_runs(whole, out)
        assert read_status(out)["text"] == read_status(whole)["text"]
        shutil.rmtree(out)


# ---- the watch ----------------------------------------------------------------------------------------------------


def test_collapse_is_named(tmp_path: Path) -> None:
    """G begins with varied images and is paid for constant ones; what it shows goes grey, and the watch says so."""
    g = replace(recipe("gan").adam_g, lr=Constant(0.1))
    run = troubled(20, collapse=True, adam_g=g, ema_half_life=Constant(0.0))
    out = session.start(run, tiny.images(), tmp_path / "run")
    said = [text for _, text in warnings(out) if "collapsed" in text]
    assert len(said) == 1
    assert said[0].startswith("G collapsed: its images differ only ")
    varied = [e["diversity"] for e in events(out) if e["event"] == "probe"]
    assert varied[0] > 0.5 > 0.35 > varied[-1]


def test_noise_before_training_is_no_variety_to_lose() -> None:
    t = tiny.training(replace(troubled(4), ema_half_life=Constant(0.0)), tiny.images())
    t._probe(final=False)
    assert t.reading is not None
    assert t.reading.diversity > 0.5
    assert not t.watch.seen_diverse
    t.step()
    t._probe(final=False)
    assert t.watch.seen_diverse == (t.reading.diversity > 0.5)


def test_winning_critic_is_named(tmp_path: Path) -> None:
    """G never learns; D learns to tell its images apart, and the watch says so, once."""
    run = recipe("gan", 60, log_every=BATCH)
    g, d = replace(run.adam_g, lr=Constant(0.0)), replace(run.adam_d, lr=Constant(1e-2))
    out = session.start(replace(run, adam_g=g, adam_d=d), tiny.images(), tmp_path / "run")
    said = [text for _, text in warnings(out) if text.startswith("D wins")]
    assert len(said) == 1
    assert "so G learns little" in said[0]
