"""Gradient penalties: analytic values, slow loops over samples, full precision where the game is mixed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.engine import Engine
from zerosum.game import Batch, Players, Turns, leaf
from zerosum.networks import DCGAN, MLP, R3, SNDCGAN, Networks
from zerosum.penalties import gradient_penalty, zero_centred

CPU = torch.device("cpu")
CRITICS: dict[str, tuple[Networks, tuple[int, ...]]] = {
    "mlp": (MLP(latent=4, width=8, depth=2), (3,)),
    "tanh": (MLP(latent=4, width=8, depth=2, critic_activation="tanh"), (3,)),
    "dcgan": (DCGAN(latent=4, width=4, norm_critic=False), (1, 8, 8)),
    "r3": (R3(latent=4, width=8, widest=16), (2, 8, 8)),
    "spectral": (SNDCGAN(latent=4, width=4), (1, 8, 8)),
}


def critic(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    networks, shape = CRITICS[name]
    d = networks.critic(Spec(shape)).double().eval()
    with torch.no_grad():
        for parameter in d.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # no layer at zero
    return d, shape


def jacobian(d: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """dD(x_i)/dx_j for all i and j, one output after the other: (N, N, ...). The slow reference."""
    rows = []
    for i in range(len(x)):
        y = x.detach().clone().requires_grad_()
        rows.append(torch.autograd.grad(d(y)[i], y)[0])
    return torch.stack(rows)


# ---- zero-centred (R1, R2) -----------------------------------------------------------------------------


def test_a_linear_critic() -> None:
    """D(x) = w.x + b: the penalty is |w|^2 for every sample."""
    w, x = torch.randn(12, dtype=torch.float64), leaf(torch.randn(5, 3, 2, 2, dtype=torch.float64))
    penalty = zero_centred(x, x.flatten(1) @ w + 3)
    torch.testing.assert_close(penalty, w.square().sum().expand(5))


def test_a_quadratic_critic() -> None:
    """D(x) = x.A x / 2 with A symmetric: the penalty is |A x|^2."""
    a = torch.randn(6, 6, dtype=torch.float64)
    a, x = a + a.T, leaf(torch.randn(7, 6, dtype=torch.float64))
    penalty = zero_centred(x, (x @ a * x).sum(1) / 2)
    torch.testing.assert_close(penalty, (x.detach() @ a).square().sum(1))


def test_its_own_gradient_on_a_quadratic_critic() -> None:
    """d/dA |A x|^2 = 2 A x x^T: what D's optimiser gets from R1."""
    a, x = torch.randn(4, 4, dtype=torch.float64), leaf(torch.randn(3, 4, dtype=torch.float64))
    a = (a + a.T).requires_grad_()
    (gradient,) = torch.autograd.grad(zero_centred(x, (x @ a * x).sum(1) / 2).sum(), a)
    y = x.detach()
    # D's own gradient is (A + A^T) x / 2, which is A x at a symmetric A: so its derivative is symmetrised.
    outer = sum(torch.outer(a.detach() @ v, v) for v in y)
    torch.testing.assert_close(gradient, outer + outer.T)


@pytest.mark.parametrize("name", CRITICS)
def test_against_a_jacobian_sample_by_sample(name: str) -> None:
    d, shape = critic(name)
    x = leaf(torch.randn(5, *shape, dtype=torch.float64))
    penalty = zero_centred(x, d(x))
    assert penalty.shape == (5,)
    full = jacobian(d, x)
    expected = torch.stack([full[i, i].square().sum() for i in range(5)])
    torch.testing.assert_close(penalty, expected, rtol=1e-10, atol=1e-12)
    for i in range(5):
        for j in range(5):
            assert i == j or not full[i, j].any(), "samples do not influence each other"


@pytest.mark.parametrize("name", ["tanh"])
def test_second_derivatives(name: str) -> None:
    d, shape = critic(name)
    x = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: zero_centred(y, d(y)), x)


def test_the_inputs_are_left_as_they_were() -> None:
    d, shape = critic("mlp")
    x = leaf(torch.randn(3, *shape, dtype=torch.float64))
    zero_centred(x, d(x)).sum()
    assert x.grad is None
    assert all(p.grad is None for p in d.parameters())


# ---- gradient penalty (WGAN-GP) ------------------------------------------------------------------------


@pytest.mark.parametrize("name", CRITICS)
def test_gradient_penalty_against_a_jacobian_loop(name: str) -> None:
    d, shape = critic(name)
    x, fake = torch.randn(5, *shape, dtype=torch.float64), torch.randn(5, *shape, dtype=torch.float64)
    epsilon = torch.rand(5, dtype=torch.float64)
    penalty = gradient_penalty(d, x, fake, epsilon)
    assert penalty.shape == (5,)
    for i in range(5):
        between = float(epsilon[i]) * x[i] + (1 - float(epsilon[i])) * fake[i]
        slope = jacobian(d, between[None])[0, 0]
        assert float(penalty[i].detach()) == pytest.approx((float(slope.norm()) - 1) ** 2, abs=1e-10)  # the guard


def test_gradient_penalty_gives_its_gradient_to_d() -> None:
    """For D(x) = w.x: d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|."""
    w = torch.randn(6, dtype=torch.float64, requires_grad=True)
    x, fake = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    penalty = gradient_penalty(lambda y: y @ w, x, fake, torch.rand(4, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(penalty.mean(), w)
    norm = w.detach().norm()
    torch.testing.assert_close(gradient, 2 * (norm - 1) * w.detach() / norm, rtol=1e-9, atol=1e-10)


def test_the_ends_of_epsilon() -> None:
    seen: list[Tensor] = []

    def d(y: Tensor) -> Tensor:
        seen.append(y.detach())
        return y.sum(1)

    x, fake = torch.randn(2, 3), torch.randn(2, 3)
    gradient_penalty(d, x, fake, torch.tensor([1.0, 0.0]))
    assert torch.equal(seen[0][0], x[0]), "epsilon 1 is the real sample"
    assert torch.equal(seen[0][1], fake[1])


def test_no_gradient_flows_to_g_through_it() -> None:
    x = torch.randn(3, 4)
    fake = torch.randn(3, 4, requires_grad=True)
    w = torch.randn(4, requires_grad=True)
    gradient_penalty(lambda y: y @ w, x, fake, torch.rand(3)).sum().backward()
    assert fake.grad is None
    assert w.grad is not None


def test_a_dead_critic_has_a_finite_gradient() -> None:
    w = torch.zeros(4, requires_grad=True)
    penalty = gradient_penalty(lambda y: y @ w, torch.randn(3, 4), torch.randn(3, 4), torch.rand(3))
    penalty.mean().backward()
    torch.testing.assert_close(penalty.detach(), torch.ones(3), rtol=0, atol=1e-5)
    assert w.grad is not None
    assert bool(w.grad.isfinite().all())


# ---- mixed precision -----------------------------------------------------------------------------------


def bf16_turns(d: nn.Module) -> Turns:
    return Turns(Players({"D": d}), {"D": torch.optim.SGD(d.parameters(), lr=0.0)}, Engine(CPU, "bf16"))


def test_r1_of_a_linear_critic_is_exact_in_a_bf16_run() -> None:  # trap 14
    d = nn.Sequential(nn.Linear(16, 1), nn.Flatten(0))
    x = leaf(torch.randn(5, 16))
    with bf16_turns(d)("D", full_precision=True) as minimise:
        logits = d(x)
        penalty = zero_centred(x, logits)
        minimise(penalty)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(penalty.detach(), d[0].weight.detach().square().sum().expand(5))


@pytest.mark.parametrize("name", ["mlp", "dcgan", "r3", "spectral"])
@pytest.mark.parametrize("kind", ["zero_centred", "gradient_penalty"])
def test_penalties_and_their_gradients_are_those_of_full_precision(name: str, kind: str) -> None:  # trap 14
    """Equal, not just within 1 %: the forward, the first and the second derivatives all run in float32."""
    d, shape = critic(name)
    d = d.float()
    x, fake, epsilon = torch.randn(8, *shape), torch.randn(8, *shape), torch.rand(8)

    def play(turns: Turns) -> tuple[Tensor, list[Tensor]]:
        gradients: list[Tensor] = []
        full = kind == "zero_centred"
        with turns("D", full_precision=full) as minimise:
            if full:
                y = leaf(x)
                penalty = zero_centred(y, d(y))
            else:
                penalty = gradient_penalty(d, x, fake, epsilon)
            minimise(penalty)
            gradients = [p.grad.clone() for p in d.parameters() if p.grad is not None]
        return penalty.detach(), gradients

    mixed = play(bf16_turns(d))
    full = play(Turns(Players({"D": d}), {"D": torch.optim.SGD(d.parameters(), lr=0.0)}, Engine(CPU, "fp32")))
    torch.testing.assert_close(mixed[0], full[0], rtol=1e-6, atol=0)
    assert mixed[1]
    for a, b in zip(mixed[1], full[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 * float(b.abs().max()) + 1e-12)


def test_what_bf16_would_do_to_a_penalty() -> None:
    """Why a turn has `full_precision`: without it, the penalty is off by some tenths of a percent or more."""
    d, shape = critic("dcgan")
    d = d.float()
    x = leaf(torch.randn(8, *shape))
    with torch.autocast("cpu", torch.bfloat16):
        rough = zero_centred(x, d(x)).detach()
    exact = zero_centred(x, d(x)).detach()
    assert float(((rough - exact) / exact).abs().max()) > 1e-3


def test_the_class_is_the_real_samples() -> None:
    """In a conditional WGAN-GP a real and its fake have one label, so the sample between them has it."""
    from tiny import images, run, training

    t = training(run("wgan_gp", conditional=True), images())
    b = Batch(t.loader, 0, 8, 8)
    assert torch.equal(b.label, t.loader.label("real", 0, 8))
