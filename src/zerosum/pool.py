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

    No count is kept: of the fakes that went by, as many as real images were seen, the first `size` filled it.
    """

    images: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        if size < 0:
            raise UserError(f"--algorithm.pool {size}: must be 0 or more")
        self.register_buffer("images", torch.zeros(size, *shape))

    @torch.no_grad()
    def forward(self, fakes: Float[Tensor, "n c h w"], u: Float[Tensor, " n"], seen: int) -> Float[Tensor, "n c h w"]:
        """The fakes, or for each with probability 1/2 an older one whose place it takes; copies, never the pool's own.

        `u` uniform in (0, 1), one a fake; `seen`: fakes that all ranks' calls had been given before. Until the pool is
        full, every fake is kept and shown.
        """
        size, own = len(self.images), len(fakes)
        if not size:
            return fakes
        everyone, u = (torch.cat(distributed.gather(x.contiguous())) for x in (fakes, u))
        shown = []
        for i, fake in enumerate(everyone):
            filling = seen + i < size
            exchange = torch.full_like(u[i], filling) > 0.5 if filling else u[i] < 0.5
            # Below a half, twice the number is uniform again; above, the place is not used.
            place = torch.full_like(u[i], seen + i) if filling else (2 * u[i] * size).clamp(max=size - 1)
            place = place.long()[None]
            older = self.images.index_select(0, place)[0]
            shown.append(fake.clone() if filling else torch.where(exchange, older.to(fake.dtype), fake))
            # A fake that is not finite, of a turn that is skipped, must not stay behind
            stays = torch.where(exchange & fake.isfinite().all(), fake.to(older.dtype), older)
            self.images.index_copy_(0, place, stays[None])
        first = distributed.rank() * own
        return torch.stack(shown[first : first + own])
