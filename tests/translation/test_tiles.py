"""Tiles: equal to the whole image where that can be, and no seam to be seen where it cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.errors import UserError
from zerosum.translation.tiles import cut, tiled


def whole_numbers(*shape: int) -> Tensor:
    """Sums of products of these are exact, whatever their order."""
    return torch.randint(-8, 9, shape).float()


def convolutions(stride: int = 1) -> Callable[[Tensor], Tensor]:
    """3 -> 2 channels, receptive field 9 at stride 1; strided and back, it is equivariant to shifts by its stride."""
    first, second = whole_numbers(4, 3, 5, 5), whole_numbers(2, 4, 5, 5)

    def network(x: Tensor) -> Tensor:
        y = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), first, stride=stride).relu()
        return F.conv2d(F.interpolate(y, scale_factor=float(stride)), second, padding=2)

    return network


def seen(axis_length: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """How many tiles see each pixel of a side."""
    axis = cut(axis_length, tile, overlap, multiple)
    return [sum(start <= i < start + axis.tile for start in axis.starts) for i in range(axis_length)]


@pytest.mark.parametrize(("stride", "multiple"), [(1, 1), (2, 2), (4, 4), (4, 8)])
@pytest.mark.parametrize("size", [(100, 70), (64, 131), (65, 33)])
def test_tiles_equal_the_whole_away_from_their_borders(size: tuple[int, int], stride: int, multiple: int) -> None:
    network, x = convolutions(stride), whole_numbers(3, *size)
    right, below = -size[1] % multiple, -size[0] % multiple
    padded = F.pad(x[None], (0, right, 0, below), mode="reflect")
    whole = network(padded)[0, :, : size[0], : size[1]]
    out = tiled(network, x, tile=40, overlap=16, multiple=multiple)
    assert out.shape == (2, *size)
    rows, columns = (torch.tensor(seen(n, 40, 16, multiple)) == 1 for n in size)
    alone = rows[:, None] & columns
    assert 0.1 < alone.float().mean() < 0.9
    assert torch.equal(out[:, alone], whole[:, alone])
    torch.testing.assert_close(out.mean(), whole.mean(), rtol=0.05, atol=1.0)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (40, 40), (39, 5)])
def test_what_fits_into_a_tile_is_translated_whole(size: tuple[int, int]) -> None:
    calls: list[tuple[int, ...]] = []

    def network(x: Tensor) -> Tensor:
        calls.append(tuple(x.shape))
        return x[:, :1] * 2

    x = whole_numbers(3, *size)
    out = tiled(network, x, tile=40, overlap=8, multiple=8)
    assert torch.equal(out, x[:1] * 2)
    assert calls == [(1, 3, -(-size[0] // 8) * 8, -(-size[1] // 8) * 8)]


def test_padding_mirrors_as_often_as_needed() -> None:
    x = whole_numbers(1, 3, 2)
    caught: list[Tensor] = []
    tiled(lambda t: caught.append(t) or t, x, tile=8, overlap=0, multiple=8)  # type: ignore[func-returns-value]
    rows, columns = [0, 1, 2, 1, 0, 1, 2, 1], [0, 1, 0, 1, 0, 1, 0, 1]
    assert torch.equal(caught[0][0], x[:, rows][:, :, columns])


@pytest.mark.parametrize("length", [41, 64, 100, 257])
@pytest.mark.parametrize(("tile", "overlap", "multiple"), [(40, 16, 1), (40, 0, 8), (40, 31, 8), (33, 7, 4)])
def test_weights_sum_to_one_and_every_pixel_is_covered(length: int, tile: int, overlap: int, multiple: int) -> None:
    axis = cut(length, tile, overlap, multiple)
    total = torch.zeros(axis.starts[-1] + axis.tile)
    for start, weight in zip(axis.starts, axis.weights(), strict=True):
        assert start % multiple == 0
        assert (weight > 0).all()
        total[start : start + axis.tile] += weight
    torch.testing.assert_close(total, torch.ones_like(total))
    assert length <= len(total) < length + multiple
    shared = [a + axis.tile - b for a, b in zip(axis.starts, axis.starts[1:], strict=False)]
    assert min(shared) >= overlap


def instance_normalised() -> nn.Module:
    """What a translator with instance norm does to seams at its worst: untrained, and its statistics are the tile's."""
    layers: list[nn.Module] = []
    for channels in (3, 16, 16):
        layers += [nn.Conv2d(channels, 16, 5, padding=2, padding_mode="reflect"), nn.InstanceNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 3, 5, padding=2, padding_mode="reflect"), nn.Tanh())


def seam(out: Tensor, lines: list[int], width: int) -> float:
    """The largest step between two columns of (C, H, W) within `width` of the lines, over the largest elsewhere.

    A step is a mean with sign, over rows and channels: texture cancels out, an edge from top to bottom does not.
    """
    steps = out.diff(dim=2).mean((0, 1)).abs()
    near = torch.zeros_like(steps, dtype=torch.bool)
    for line in lines:
        near[max(line - width, 0) : line + width] = True
    return (steps[near].max() / steps[~near].max()).item()


def test_no_seam_is_seen_with_instance_norm() -> None:
    """The image grows brighter from left to right, so every tile has statistics of its own."""
    torch.manual_seed(3)
    network = instance_normalised()
    texture = F.interpolate(torch.rand(1, 3, 96, 160), (192, 320), mode="bilinear")[0]
    x = 0.6 * texture - 1 + torch.linspace(0, 1.2, 320)
    lines = list(cut(320, 96, 0, 4).starts[1:])
    hard = seam(tiled(network, x, tile=96, overlap=0, multiple=4), lines, 2)
    strips = [start + 16 for start in cut(320, 96, 32, 4).starts[1:]]
    soft = seam(tiled(network, x, tile=96, overlap=32, multiple=4), strips, 16)
    assert hard > 2
    assert soft < 1.1


def test_memory_is_that_of_a_tile() -> None:
    largest = 0

    def network(x: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, x.numel())
        return x

    told: list[tuple[int, int]] = []
    x = whole_numbers(1, 50, 1000)
    out = tiled(network, x, tile=32, overlap=8, multiple=8, progress=lambda *t: told.append(t))
    assert largest == 32 * 32
    torch.testing.assert_close(out, x)
    assert told[-1][0] == told[-1][1] == len(cut(50, 32, 8, 8).starts) * len(cut(1000, 32, 8, 8).starts)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"tile": 32, "overlap": 32, "multiple": 8}, "give 40 or more"),
        ({"tile": 4, "overlap": 0, "multiple": 8}, "give 8 or more"),
        ({"overlap": -1, "multiple": 8}, "overlap=-1"),
        ({"overlap": 0, "multiple": 0}, "multiple=0"),
    ],
)
def test_impossible_tiles_are_refused(asked: dict[str, int], named: str) -> None:
    with pytest.raises(UserError, match=named):
        tiled(lambda t: t, whole_numbers(1, 100, 100), **asked)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="keep the size"):
        tiled(lambda t: t[..., ::2], whole_numbers(1, 10, 10), overlap=0, multiple=1)
    with pytest.raises(UserError, match="no pixels"):
        tiled(lambda t: t, torch.zeros(1, 0, 10), overlap=0, multiple=1)
