"""Large images through a network in overlapping tiles, so that memory does not grow with the image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zerosum.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Axis:
    """How one side of an image is cut: tiles of `tile` pixels that begin at `starts`, multiples of `multiple`.

    Only the last tile may reach past the image, by less than `multiple`; what is there is mirrored from inside.
    """

    length: int
    tile: int
    starts: tuple[int, ...]

    def pixels(self, start: int) -> Tensor:
        """Which pixels (tile,) int64 of the image a tile sees. Mirrored without repeating the edge, again and again
        where the image is smaller than what is added."""
        period = max(2 * (self.length - 1), 1)
        i = torch.arange(start, start + self.tile) % period
        return torch.minimum(i, period - i) if self.length > 1 else torch.zeros_like(i)

    def weights(self) -> list[Tensor]:
        """Of every tile, float32 (tile,): where tiles overlap they rise and fall as sin^2, and sum to one."""
        ends = [start + self.tile for start in self.starts]
        weights = []
        for k, start in enumerate(self.starts):
            at = torch.arange(start, start + self.tile, dtype=torch.float64) + 0.5
            w = torch.ones_like(at)
            if k > 0:
                w *= _rise((at - start) / (ends[k - 1] - start))
            if k + 1 < len(self.starts):
                w *= _rise((ends[k] - at) / (ends[k] - self.starts[k + 1]))
            weights.append(w)
        total = torch.zeros(ends[-1], dtype=torch.float64)
        for start, end, w in zip(self.starts, ends, weights, strict=True):
            total[start:end] += w
        return [(w / total[a:b]).float() for a, b, w in zip(self.starts, ends, weights, strict=True)]


def _rise(t: Tensor) -> Tensor:
    """From 0 at 0 to 1 at 1 and beyond, without a corner."""
    return torch.sin(t.clamp(0, 1) * (math.pi / 2)) ** 2


def cut(length: int, tile: int, overlap: int, multiple: int) -> Axis:
    """A side of `length` pixels in tiles of at most `tile` pixels that share at least `overlap` with the next.

    One tile if it fits. Tiles are as long as a multiple of `multiple`, and begin at one.
    """
    tile = tile // multiple * multiple
    if length <= tile:
        return Axis(length, math.ceil(length / multiple) * multiple, (0,))
    step = (tile - overlap) // multiple * multiple
    last = math.ceil((length - tile) / multiple) * multiple  # the first start from which a tile reaches the end
    return Axis(length, tile, (*range(0, last, step), last))


def tiled(
    network: Callable[[Tensor], Tensor],
    x: Float[Tensor, "Ca H W"],
    *,
    tile: int = 512,
    overlap: int,
    multiple: int,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "Cb H W"]:
    """`network` ((1, Ca, h, w) -> (1, Cb, h, w), h and w multiples of `multiple`) on an image of any size.

    An image that fits into one tile is translated whole. Of a larger one a tile is translated at a time; memory is that
    of one tile, beyond the image and its translation. Tiles begin at multiples of `multiple`, so that strided
    layers fall on the same pixels in each.

    `overlap` (pixels that neighbours share, at least): half the receptive field or more. Then a translator whose output
    depends on its receptive field alone gives, outside the shared strips, what it would give for the whole image. What
    looks at all of the tile (instance norm, attention) is another function in each tile: the wider the strip, the less
    can be seen of it; tiles as large as memory allows help more. The strip across a shared edge is a mixture that goes
    from one tile to the next without a corner.

    `progress(done, total)` is told after every tile. Raises UserError where tiles of this size cannot be.
    """
    if multiple < 1 or overlap < 0:
        raise UserError(f"multiple={multiple}, overlap={overlap}: give 1 and 0 or more")
    if 0 in x.shape:
        raise UserError(f"x: an image of shape {tuple(x.shape)} has no pixels")
    fits = max(x.shape[1:]) <= tile // multiple * multiple
    if not fits and (tile - overlap) // multiple < 1:
        least = multiple * (1 + math.ceil(overlap / multiple))
        raise UserError(
            f"tile={tile}: a tile is a multiple of {multiple} pixels and must exceed the overlap of {overlap}: "
            f"give {least} or more"
        )
    rows, columns = cut(x.shape[1], tile, overlap, multiple), cut(x.shape[2], tile, overlap, multiple)
    places = list(itertools.product(*(list(zip(a.starts, a.weights(), strict=True)) for a in (rows, columns))))
    out: Tensor | None = None
    with torch.no_grad():
        for done, ((top, down), (left, across)) in enumerate(places, 1):
            results = network(x[None, :, rows.pixels(top)][..., columns.pixels(left)])
            if results.ndim != 4 or results.shape[2:] != (rows.tile, columns.tile):
                raise UserError(
                    f"network: tiles of {rows.tile} x {columns.tile} pixels gave {tuple(results.shape)}: "
                    "only networks that keep the size can be tiled"
                )
            if out is None:
                out = results.new_zeros(results.shape[1], *x.shape[1:])
            part = out[:, top : top + rows.tile, left : left + columns.tile]
            weight = (down[:, None] * across).to(results)
            part += (results[0] * weight)[:, : part.shape[1], : part.shape[2]]
            if progress:
                progress(done, len(places))
    assert out is not None
    return out
