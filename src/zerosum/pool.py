"""The image pool: fakes of earlier steps that D is shown again, so that it does not forget them.

Shrivastava et al. 2017 (arXiv:1612.07828, sec. 2.3), as Zhu et al. 2017 (arXiv:1703.10593, sec. 4) use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zerosum import distributed
from zerosum.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float


class Pool(nn.Module):
    """Up to `size` images of `shape` (C, H, W), the same on every rank: what a checkpoint holds of one is all there is.

    `filled` counts the places that are taken, (): real images that were seen are no measure of it, where images of
    several sizes have a pool each.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        if size < 0:
            raise UserError(f"--algorithm.pool {size}: must be 0 or more")
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, fakes: Float[Tensor, "n c h w"], u: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """The fakes, or for each with probability 1/2 an older one whose place it takes; copies, never the pool's own.

        `u` uniform in (0, 1), one a fake. Until the pool is full, every fake is kept and shown.
        """
        size, own = len(self.images), len(fakes)
        if not size:
            return fakes
        everyone, u = (torch.cat(distributed.gather(x.contiguous())) for x in (fakes, u))
        shown = []
        for fake, chance in zip(everyone, u, strict=True):
            filling = self.filled < size  # on the device, which is not waited for
            exchange = filling | (chance < 0.5)
            # Below a half, twice the number is uniform again; above, the place is not used.
            place = torch.where(filling, self.filled, (2 * chance * size).clamp(max=size - 1).long())[None]
            older = self.images.index_select(0, place)[0]
            shown.append(torch.where(exchange & ~filling, older.to(fake.dtype), fake))
            # A fake that is not finite, of a turn that is skipped, must not stay behind
            stays = exchange & fake.isfinite().all()
            self.images.index_copy_(0, place, torch.where(stays, fake.to(older.dtype), older)[None])
            self.filled += filling & stays
        first = distributed.rank() * own
        return torch.stack(shown[first : first + own])
