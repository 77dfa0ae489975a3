"""Spectral normalisation (Miyato et al. 2018, Algorithm 1), and that it iterates once a turn at most."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from zerosum.data.spec import Spec
from zerosum.networks import SNDCGAN, stateful, track
from zerosum.networks.blocks import SpectralNorm, spectral


def layers() -> list[nn.Linear | nn.Conv2d | nn.Embedding]:
    torch.manual_seed(0)
    return [nn.Linear(7, 5), nn.Linear(6, 1), nn.Conv2d(3, 8, 3), nn.Embedding(4, 9)]


def norm_of(layer: nn.Module) -> SpectralNorm:
    (norm,) = stateful(layer)
    assert isinstance(norm, SpectralNorm)
    return norm


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_sigma_becomes_the_largest_singular_value(layer: nn.Linear | nn.Conv2d | nn.Embedding) -> None:
    layer = layer.double()
    largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
    original = layer.weight.detach().clone()
    spectral(layer)
    norm = norm_of(layer)
    for _ in range(300):
        norm.due = True
        weight = layer.weight
    torch.testing.assert_close(weight, original / largest, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.linalg.svdvals(weight.flatten(1))[0], torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_it_starts_close(layer: nn.Linear | nn.Conv2d | nn.Embedding) -> None:
    spectral(layer)
    assert float(torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]) == pytest.approx(1, abs=0.1)


def test_values_and_gradients_equal_torchs_own() -> None:
    """For the same u and v; torch iterates in another order (u first), and on every forward."""
    torch.manual_seed(0)
    ours, theirs = nn.Conv2d(3, 8, 3).double(), nn.Conv2d(3, 8, 3).double()
    theirs.load_state_dict(ours.state_dict())
    spectral(ours)
    nn.utils.parametrizations.spectral_norm(theirs)
    theirs.eval()
    norm, other = norm_of(ours), theirs.parametrizations.weight[0]
    x = torch.rand(4, 3, 6, 6, dtype=torch.float64)
    a, b = ours.parametrizations.weight.original, theirs.parametrizations.weight.original
    for _ in range(5):
        norm.due = True
        y = ours(x)
        other._u, other._v = norm.u.clone(), norm.v.clone()
        torch.testing.assert_close(y, theirs(x))
        for layer, out in ((ours, y), (theirs, theirs(x))):
            layer.zero_grad()
            out.square().sum().backward()
        torch.testing.assert_close(a.grad, b.grad)
        with torch.no_grad():
            for p in (a, b):
                p -= 0.01 * a.grad


def test_one_iteration_a_turn_and_none_in_evaluation() -> None:
    torch.manual_seed(0)
    layer = spectral(nn.Linear(30, 20))
    norm = norm_of(layer)
    x = torch.randn(4, 30)

    def moved() -> bool:
        before = norm.u.clone()
        layer(x)
        return not torch.equal(norm.u, before)

    assert norm.due
    with torch.no_grad():
        layer.parametrizations.weight.original.add_(torch.randn(20, 30))  # as an optimiser's step would
    assert moved()
    assert not norm.due
    assert not moved(), "once only"
    track(stateful(layer), True)
    layer.eval()
    assert not moved(), "never in evaluation"
    assert norm.due, "and the iteration stays due"
    layer.train()
    track(stateful(layer), False)
    assert not moved(), "not for an idle player"
    track(stateful(layer), True)
    assert moved()


def test_forwards_of_one_turn_agree_and_survive_the_next_turns_iteration() -> None:
    """The graph of a forward stays valid when u and v move on before its backward."""
    torch.manual_seed(0)
    layer = spectral(nn.Linear(30, 20))
    x = torch.randn(4, 30)
    first = layer(x)
    assert torch.equal(first, layer(x))
    track(stateful(layer), True)
    layer(x)
    first.sum().backward()


def test_double_backward_of_the_normalised_weight() -> None:
    torch.manual_seed(0)
    norm = SpectralNorm(torch.randn(3, 4, dtype=torch.float64))
    norm.due = False
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, weight)
    assert torch.autograd.gradgradcheck(norm, weight)


def test_it_is_exact_under_autocast() -> None:
    torch.manual_seed(0)
    layer = spectral(nn.Linear(64, 64))
    norm_of(layer).due = False
    expected = layer.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight, expected)


def test_state_seed_and_copy() -> None:
    def build(seed: int) -> nn.Linear:
        torch.manual_seed(seed)
        return spectral(nn.Linear(5, 4))

    one, same, other = build(1), build(1), build(2)
    assert torch.equal(norm_of(one).u, norm_of(same).u)
    other.load_state_dict(one.state_dict())
    assert torch.equal(norm_of(one).u, norm_of(other).u)
    assert torch.equal(norm_of(one).v, norm_of(other).v)
    twin = copy.deepcopy(one)
    norm_of(one).u.zero_()
    assert norm_of(twin).u.any()


def test_every_layer_of_a_spectral_critic_has_it() -> None:
    critic = SNDCGAN(width=4).critic(Spec((1, 8, 8), 3))
    weights = [m for m in critic.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.Embedding))]
    assert len(stateful(critic)) == len(weights) == 5
    for m in weights:
        assert float(torch.linalg.svdvals(m.weight.detach().flatten(1))[0]) == pytest.approx(1, abs=0.05)
