"""The fused Adam on weights whose channels come last: torch's plain one, and no copies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zerosum.adam import FusedAdam

LAST, FIRST = torch.channels_last, torch.contiguous_format
SHAPES = [(8, 6, 4, 4), (1, 8, 3, 3), (8, 1, 3, 3), (4, 6, 1, 1), (5,)]


def stepped(optimiser: type[torch.optim.Optimizer], memory_format: torch.memory_format) -> list[torch.Tensor]:
    torch.manual_seed(0)
    layers = nn.ParameterList([torch.randn(shape) for shape in SHAPES])
    values = [[torch.randn(shape) for shape in SHAPES] for _ in range(3)]
    layers.to(memory_format=memory_format)
    adam = optimiser(layers.parameters(), 1e-2, (0.5, 0.999), 1e-8)  # type: ignore[call-arg]
    for gradients in values:
        for p, g in zip(layers, gradients, strict=True):
            p.grad = torch.empty_like(p).copy_(g)
        adam.step()
    moments = [adam.state[p][key] for p in layers for key in ("exp_avg", "exp_avg_sq")]
    assert [m.shape for m in moments[::2]] == [p.shape for p in layers], "as checkpoints have them"
    assert [m.stride() for m in moments[::2]] == [p.stride() for p in layers]
    return [t.detach().contiguous() for t in (*layers, *moments)]


def test_it_is_adam_wherever_the_channels_are() -> None:
    plain = stepped(torch.optim.Adam, FIRST)
    for memory_format in (FIRST, LAST):
        for ours, theirs in zip(stepped(FusedAdam, memory_format), plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_no_gradient_is_copied() -> None:
    p = torch.randn(8, 6, 4, 4).to(memory_format=LAST).requires_grad_()
    p.grad = torch.randn_like(p)
    adam = FusedAdam([p], 1e-2, (0.5, 0.999), 1e-8)
    adam.step()
    with torch.autograd.profiler.profile() as profile:
        adam.step()
    assert "aten::clone" not in {event.name for event in profile.function_events or []}


def test_a_gradient_that_lies_otherwise_is_refused() -> None:
    p = torch.randn(8, 6, 4, 4).to(memory_format=LAST).requires_grad_()
    p.grad = torch.randn(8, 6, 4, 4)
    before = p.detach().clone()
    with pytest.raises(RuntimeError, match="view"):
        FusedAdam([p], 1e-2, (0.5, 0.999), 1e-8).step()
    assert torch.equal(p, before)
