"""The convolution that reflects the border in its quick forms: torch's own numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.networks.reflecting import Reflecting

FORMATS = [torch.contiguous_format, torch.channels_last]


def pair(channels: int, features: int, side: int, memory_format: torch.memory_format) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    ours = Reflecting(channels, features, side)
    theirs = nn.Conv2d(channels, features, side, padding=side // 2, padding_mode="reflect")
    theirs.load_state_dict(ours.state_dict())
    return ours.to(memory_format=memory_format), theirs.to(memory_format=memory_format)


def values(layer: nn.Module, x: Tensor, bf16: bool = False) -> list[Tensor]:
    """What it makes of x, and the gradients of x, weights and biases."""
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = layer(leaf)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [leaf, *layer.parameters()])]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("features", "side"), [(6, 3), (3, 7), (1, 3), (4, 5)])
@pytest.mark.parametrize("size", [(8, 12), (7, 12), (8, 9)])
def test_it_is_torchs_convolution(
    features: int, side: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    ours, theirs = pair(5, features, side, memory_format)
    x = torch.randn(2, 5, *size, dtype=torch.float64).to(memory_format=memory_format)
    for mine, torchs in zip(values(ours.double(), x), values(theirs.double(), x), strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("features", [8, 3])
def test_in_bf16_it_is_as_near_as_torchs(features: int, memory_format: torch.memory_format) -> None:
    ours, theirs = pair(8, features, 3, memory_format)
    x = torch.randn(2, 8, 6, 6).to(memory_format=memory_format)
    for mine, torchs, exact in zip(values(ours, x, True), values(theirs, x, True), values(theirs, x), strict=True):
        assert float((mine - exact).norm()) < 1.5 * float((torchs - exact).norm()) + 1e-3 * float(exact.norm())


def test_nothing_is_reflected_in_fp32_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch does; to cast and to reflect commute, so the numbers are the same."""
    ours, theirs = pair(8, 8, 3, torch.channels_last)
    x, seen, pad = torch.randn(2, 8, 6, 6), [], F.pad

    def padded(x: Tensor, *more: Any, **options: Any) -> Tensor:
        y = pad(x, *more, **options)
        seen.append(y.dtype)
        return y

    monkeypatch.setattr(F, "pad", padded)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), theirs(x))
    assert seen == [torch.bfloat16, torch.float32]


def test_an_exported_graph_has_torchs_operators_alone() -> None:
    ours, _ = pair(8, 3, 7, torch.contiguous_format)
    program = torch.export.export(ours.eval(), (torch.randn(1, 8, 12, 12),), strict=False)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("pixel_shuffle" in name for name in names)
