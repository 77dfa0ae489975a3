"""A generator made ready: the same function as the one that was trained, in either precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from zerosum import inference
from zerosum.data.spec import Spec
from zerosum.inference import Ready, resolve
from zerosum.networks import DCGAN, MLP, R3, SNDCGAN, Networks, ResNet, Subpixel

NETWORKS: dict[str, tuple[Networks, Spec]] = {
    "dcgan": (DCGAN(latent=6, width=4), Spec((1, 16, 12))),
    "dcgan, classes": (DCGAN(latent=6, width=4), Spec((3, 8, 8), 3)),
    "r3": (R3(latent=6, width=8, widest=16), Spec((3, 8, 8))),
    "resnet, classes": (ResNet(latent=6, width=4, generator_width=8), Spec((4, 8, 8), 3)),
    "sndcgan": (SNDCGAN(latent=6, width=4), Spec((3, 8, 8))),
    "subpixel": (Subpixel(latent=6, width=4, hidden=8), Spec((1, 8, 12))),
    "mlp": (MLP(latent=6, width=8), Spec((1, 8, 8))),
}


@pytest.fixture(params=NETWORKS)
def generator(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor, torch.Tensor | None]:
    """A generator in eval mode whose BatchNorm has seen something, latents and labels."""
    networks, spec = NETWORKS[request.param]
    torch.manual_seed(3)
    network = networks.generator(spec)
    z, label = torch.randn(9, 6), torch.arange(9) % 3 if spec.classes else None
    with torch.no_grad():
        network.train()(z, label)
    return network.eval(), z, label


@torch.no_grad()
def test_fp32_is_the_same_function(generator: tuple[nn.Module, torch.Tensor, torch.Tensor | None]) -> None:
    network, z, label = generator
    before = tiny.weights(network)
    x = Ready(network, "fp32")(z, label)
    torch.testing.assert_close(x, network(z, label), rtol=1e-4, atol=2e-6)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert tiny.equal(tiny.weights(network), before)


@torch.no_grad()
def test_bf16_is_near(generator: tuple[nn.Module, torch.Tensor, torch.Tensor | None]) -> None:
    network, z, label = generator
    x, y = Ready(network, "bf16")(z, label), network(z, label)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert 0 < float((x - y).abs().max()) < 0.03 * max(float(y.abs().max()), 1.0)


def test_auto_is_bf16_for_images_where_it_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    images, points = Spec((1, 8, 8)), Spec((2,))
    for quick, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(inference, "has_fast_bf16", lambda quick=quick: quick)
        assert resolve("auto", images) == expected
        assert resolve("auto", points) == "fp32"
        assert resolve("bf16", points) == "bf16"
        assert resolve("fp32", images) == "fp32"
