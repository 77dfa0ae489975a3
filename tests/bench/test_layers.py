"""What layers cost: that what is taken out is out, and that what stays is the same function."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from zerosum.bench.layers import PARTS, SPEC, _without
from zerosum.networks import Progressive
from zerosum.networks.blocks import MinibatchStd

NETWORKS = Progressive(width=4, widest=8)


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return NETWORKS.generator(SPEC), NETWORKS.critic(SPEC)


def test_with_every_part_the_networks_are_what_they_were() -> None:
    z, x = torch.randn(4, NETWORKS.latent), torch.rand(4, *SPEC.shape)
    for network, given in zip(pair(), (z, x), strict=True):
        before = network(given)
        _without(network, frozenset(PARTS))
        assert torch.equal(network(given), before)


def test_an_equalised_weight_that_is_taken_out_is_used_as_it_was() -> None:
    z = torch.randn(4, NETWORKS.latent)
    g, _ = pair()
    before = g(z)
    _without(g, frozenset(PARTS) - {"equalised"})
    assert not any(parametrize.is_parametrized(module) for module in g.modules())
    torch.testing.assert_close(g(z), before)


def test_bare_networks_are_convolutions_alone() -> None:
    g, d = pair()
    z, x = torch.randn(4, NETWORKS.latent), torch.rand(4, *SPEC.shape)
    before = g(z), d(x)
    for network in (g, d):
        _without(network, frozenset())
        assert not any(isinstance(module, MinibatchStd) for module in network.modules())
        assert not any(getattr(module, "normed", False) for module in network.modules())
    assert not torch.allclose(g(z), before[0])
    torch.testing.assert_close(d(x[:1]), d(x)[:1])  # no sample looks at another
