"""The strided convolutions in their quick forms: the same sums as torch's, to the second derivative."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.networks import strided
from zerosum.networks.strided import Double, Halve

SHAPES = [(2, 64, 5, 4, 8), (2, 3, 6, 8, 4), (3, 70, 7, 2, 3), (2, 5, 6, 10, 10)]  # n, c, f, h, w: every branch


@pytest.mark.parametrize("shape", SHAPES)
def test_the_three_maps_are_torchs(shape: tuple[int, int, int, int, int]) -> None:
    n, c, f, h, w = shape
    torch.manual_seed(0)
    x, y = torch.randn(n, c, 2 * h, 2 * w).double(), torch.randn(n, f, h, w).double()
    k = torch.randn(f, c, 4, 4).double().requires_grad_()
    expected = F.conv2d(x, k, stride=2, padding=1)
    expected.backward(y)
    torch.testing.assert_close(strided.down(x, k.detach()), expected.detach())
    torch.testing.assert_close(strided.up(y, k.detach()), F.conv_transpose2d(y, k.detach(), stride=2, padding=1))
    torch.testing.assert_close(strided.kernel(x, y), k.grad)


@pytest.mark.parametrize("inputs", [16, 1024])  # matrix products, and torch's convolutions
@pytest.mark.parametrize("few", [0, 4])
def test_derivatives_of_derivatives(inputs: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strided, "INPUTS", inputs)
    monkeypatch.setattr(strided, "FEW", few)
    torch.manual_seed(0)
    x, k, y = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((1, 2, 4, 4), (2, 2, 4, 4), (1, 2, 2, 2))
    )
    for map, of in ((strided._Down, (x, k)), (strided._Up, (y, k)), (strided._Kernel, (x, y))):
        assert torch.autograd.gradcheck(map.apply, of)
        assert torch.autograd.gradgradcheck(map.apply, of)


def layers(kind: str, channels: int, features: int) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(1)
    if kind == "halve":
        ours, theirs = Halve(channels, features), nn.Conv2d(channels, features, 4, 2, 1)
        x = torch.randn(4, channels, 8, 8)
    else:
        ours, theirs = Double(features, channels), nn.ConvTranspose2d(features, channels, 4, 2, 1)
        x = torch.randn(4, features, 4, 4)
    theirs.load_state_dict(ours.state_dict())
    return ours.to(memory_format=torch.channels_last), theirs.to(memory_format=torch.channels_last), x


@pytest.mark.parametrize("kind", ["halve", "double"])
@pytest.mark.parametrize(("channels", "features"), [(3, 80), (80, 96)])
def test_layers_in_bf16_are_as_near_as_torchs(kind: str, channels: int, features: int) -> None:
    """Both round differently; neither may be farther from fp32 than a few units of bf16's last place."""
    ours, theirs, x = layers(kind, channels, features)
    exact = theirs(x)
    g = torch.randn_like(exact)

    def gradients(layer: nn.Module, bf16: bool) -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer(leaf)
        out.backward(g.to(out.dtype))
        assert leaf.grad is not None
        found = [out.detach().float(), leaf.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]
        layer.zero_grad()
        return found

    for mine, torchs, true in zip(
        gradients(ours, True), gradients(theirs, True), gradients(theirs, False), strict=True
    ):
        scale = float(true.abs().max())
        assert 0 < float((mine - true).abs().max()) < 0.01 * scale
        assert float((mine - true).norm()) < 1.5 * float((torchs - true).norm()) + 1e-3 * scale


@pytest.mark.parametrize("kind", ["halve", "double"])
def test_wide_layers_in_full_precision_are_torchs(kind: str) -> None:
    ours, theirs, x = layers(kind, 80, 96)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("kind", ["halve", "double"])
@pytest.mark.parametrize("grad", [True, False])
def test_thin_layers_in_full_precision_are_torchs_but_for_rounding(kind: str, grad: bool) -> None:
    ours, theirs, x = layers(kind, 3, 8)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(ours.double()(x.double()), theirs.double()(x.double()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [3, 80])
@pytest.mark.parametrize("bf16", [False, True])
def test_odd_sides_are_torchs(channels: int, bf16: bool) -> None:
    ours, theirs, _ = layers("halve", channels, 96)
    x = torch.randn(2, channels, 7, 5)
    found = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer(leaf)
        out.square().sum().backward()
        found.append((out, leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
