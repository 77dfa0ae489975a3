"""A lazy penalty: as heavy over k steps as one at every step, and an optimiser that makes as much way (trap 16)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from zerosum.algorithms.r1gan import R1GAN
from zerosum.errors import UserError
from zerosum.game import Adam, Batch, Minimise, Players, leaf
from zerosum.losses import discriminator
from zerosum.networks import MLP
from zerosum.penalties import zero_centred
from zerosum.schedule import Constant


class Still:
    """A turn in which nobody moves: it adds up D's gradients."""

    def __init__(self, p: Players) -> None:
        self.p, self.turns = p, 0

    @contextmanager
    def __call__(self, *names: str, full_precision: bool = False) -> Iterator[Minimise]:
        self.turns += names == ("D",)
        for name in self.p:
            self.p.networks[name].requires_grad_(name in names)

        def minimise(loss: Tensor, share: float | None = None) -> None:
            if names == ("D",):
                loss.mean().backward()

        yield minimise

    def ahead(self, *names: str) -> AbstractContextManager[None]:
        return nullcontext()

    def split(self, batch: Batch) -> Iterator[Batch]:
        yield batch

    def note(self, *, real: Tensor, fake: Tensor) -> None:
        pass


@pytest.mark.parametrize("every", [1, 4, 16])
def test_over_k_steps_it_weighs_as_much_as_at_every_step(every: int) -> None:  # trap 16
    algorithm: Any = R1GAN(networks=MLP(latent=2, width=8), every=every, gamma=Constant(0.7))
    t = tiny.training(tiny.run("r1gan", toy=True, precision="fp64", algorithm=algorithm), tiny.points())
    turn, p = Still(t.players), t.players
    batches = [Batch(t.loader, 8 * i, 8, 8) for i in range(16)]
    for i in range(16):
        # The same real samples at every step, so that the penalty is one number.
        batch = batches[i]
        batch.__dict__["image"] = batches[0].image
        algorithm.step(turn, p, batch, 8 * i)
    assert turn.turns == 16 + 16 // every
    found = [q.grad / 16 for q in p.D.parameters() if q.grad is not None]
    p.D.zero_grad()
    p.D.requires_grad_(True)
    for b in batches:
        real = leaf(batches[0].image)
        d_real = p.D(real, None)
        loss = discriminator(d_real, p.D(p.G(b.z, None).detach(), None)) + 0.7 / 2 * zero_centred(real, d_real)
        loss.mean().backward()
    wanted = [q.grad / 16 for q in p.D.parameters() if q.grad is not None]
    assert len(found) == len(wanted)
    for a, b_ in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b_, rtol=1e-10, atol=1e-12)


def test_the_optimiser_of_d_makes_as_much_way_in_k_plus_1_steps_as_in_k() -> None:
    t = tiny.training(tiny.run("r1gan", toy=True), tiny.points())
    adam, c = t.run.adam_d, t.run.algorithm.every / (t.run.algorithm.every + 1)  # type: ignore[attr-defined]
    for name, share in (("D", c), ("G", 1.0)):
        (group,) = t.optimisers[name].param_groups
        assert group["lr"] == pytest.approx(adam.lr(0) * share)
        assert group["betas"] == pytest.approx((adam.beta1**share, adam.beta2**share))
    t.step()
    assert t.optimisers["D"].param_groups[0]["lr"] == pytest.approx(adam.lr(0) * c)
    assert t.optimisers["G"].param_groups[0]["lr"] == pytest.approx(adam.lr(0))


def test_an_optimiser_without_lazy_turns_is_as_it_says() -> None:
    adam = Adam(lr=Constant(1e-3), beta1=0.5, beta2=0.9)
    (group,) = adam.optimiser(torch.nn.Linear(1, 1)).param_groups
    assert (group["lr"], group["betas"]) == (1e-3, (0.5, 0.9))


def test_it_cannot_come_less_than_never() -> None:
    with pytest.raises(UserError, match=r"--algorithm\.every 0: must be 1 or more"):
        R1GAN(every=0)
