"""FastGAN's own parts: gates from small to large, style mixing, and what D's decoders rebuild of what."""

from __future__ import annotations

import pytest
import torch

from zerosum.data.spec import Spec
from zerosum.networks import FastGAN
from zerosum.networks.fastgan import Generator, Rebuilt, _Gate, _quarter

NET = FastGAN(latent=6, width=4, decoder=4)
SHAPES = [(1, 8, 8), (3, 32, 32), (4, 64, 48)]


def generator(shape: tuple[int, ...] = (3, 32, 32)) -> Generator:
    torch.manual_seed(0)
    network = NET.generator(Spec(shape)).eval()
    assert isinstance(network, Generator)
    with torch.no_grad():
        for p in network.parameters():  # as small as they start, gates hardly differ
            p.mul_(10)
    return network


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("classes", [0, 3])
def test_it_rebuilds_what_it_saw(shape: tuple[int, ...], classes: int) -> None:
    critic = NET.critic(Spec(shape, classes))
    x = torch.rand(5, *shape) * 2 - 1
    label = torch.arange(5) % classes if classes else None
    torch.manual_seed(1)
    logit, r = critic(x, label, rebuild=True)
    assert isinstance(r, Rebuilt)
    torch.testing.assert_close(critic(x, label), logit)
    assert r.whole.shape == r.whole_seen.shape
    assert r.part.shape == r.part_seen.shape
    assert float(r.whole.abs().max()) <= 1
    pooled = torch.nn.functional.adaptive_avg_pool2d(x, r.whole.shape[2:])
    torch.testing.assert_close(r.whole_seen, pooled)
    (logit.sum() + r.whole.sum() + r.part.sum()).backward()
    assert all(p.grad is not None for p in critic.parameters())


def test_each_image_has_a_quarter_of_its_own() -> None:
    x = torch.arange(4 * 6 * 8.0).view(4, 1, 6, 8)
    parts = _quarter(x, torch.arange(4))
    assert torch.equal(parts[0, 0], x[0, 0, :3, :4])
    assert torch.equal(parts[1, 0], x[1, 0, :3, 4:])
    assert torch.equal(parts[2, 0], x[2, 0, 3:, :4])
    assert torch.equal(parts[3, 0], x[3, 0, 3:, 4:])
    assert _quarter(torch.zeros(1, 1, 3, 5), torch.tensor([3])).shape == (1, 1, 2, 3)


def test_a_gate_is_one_factor_a_channel_between_none_and_all() -> None:
    out = _Gate(4, 7, [4, 4])(torch.randn(3, 4, 9, 5))
    assert out.shape == (3, 7, 1, 1)
    assert 0 < float(out.min()) < float(out.max()) < 1


def test_mixed_with_oneself_is_oneself_and_with_another_is_neither() -> None:
    network = generator()
    z, style = torch.randn(2, 3, 6)
    with torch.no_grad():
        assert torch.equal(network.mixed(z, z), network(z))
        both = network.mixed(z, style)
        assert not torch.allclose(both, network(z), atol=1e-4)
        assert float((both - network(z)).abs().mean()) < float((both - network(style)).abs().mean())


def test_small_images_have_no_gates() -> None:
    network = generator((1, 8, 8))
    assert not len(network.gates)
    z, style = torch.randn(2, 3, 6)
    with torch.no_grad():
        assert torch.equal(network.mixed(z, style), network(z))
