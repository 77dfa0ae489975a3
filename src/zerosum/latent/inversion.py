"""From an image to the latent whose image is nearest (Zhu et al. 2016, "Generative Visual Manipulation on the Natural
Image Manifold", arXiv:1609.03552, sec. 3.1, eq. 4): min over z of L(G(z), x), by gradient descent on z.

Symbols (paper -> here): G -> generator; x^R -> x; L -> the mean squared difference of pixels. The start is the best of
many drawn latents, as such a descent finds the nearest valley only, and several are followed. Latents stay as near the
origin as normal ones do: beyond, G was never trained (Lipton and Tripathi 2017, arXiv:1702.04782, clip them for that).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zerosum import randomness
from zerosum.errors import UserError
from zerosum.sample import CHUNK

if TYPE_CHECKING:
    from jaxtyping import Float, Int

RATE = 0.1  # of Adam, falling to nothing
BEYOND = 2.0  # that a latent may be longer than sqrt(d): the length of normal ones scatters by 0.7
MOMENTS = 60  # of a descent that are kept, at most

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Inverted:
    """What was found for n images: latents (n, latent), their images (n, C, H, W) in [-1, 1], root mean squared errors
    of pixels (n,) in units of [-1, 1], and those of every start that was followed (n, restarts).

    `ways` (n, moments, latent): how each was found, from the first guess of the start that came nearest, to `z` itself.
    They are the nearest so far at evenly spaced steps, 60 of them, or all if there are fewer.
    """

    z: Tensor
    images: Tensor
    errors: Tensor
    of_starts: Tensor
    ways: Tensor

    @property
    def greys(self) -> Tensor:
        """The errors in grey levels of 256, (n,)."""
        return 127.5 * self.errors

    def error_map(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
        """The root mean squared difference of each pixel over its channels, 0 .. 2."""
        return (self.images - x).square().mean(1, keepdim=True).sqrt()


def invert(
    generator: nn.Module,
    x: Float[Tensor, "n c h w"],
    latent: int,
    *,
    label: Int[Tensor, " n"] | None = None,
    restarts: int = 8,
    steps: int = 300,
    drawn: int = 2_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Inverted:
    """The latents (n, latent) whose images come nearest to x, in [-1, 1]; `generator` is frozen, in eval mode.

    Of `drawn` latents the `restarts` nearest are followed for `steps` steps each. UserError for counts below 1.
    """
    for name, count in (("restarts", restarts), ("steps", steps)):
        if count < 1:
            raise UserError(f"--{name} {count}: must be 1 or more")
    if restarts > drawn:
        raise UserError(f"--restarts {restarts}: {drawn:,} latents are drawn, and no more can be followed; give fewer")
    starts = _nearest(generator, x, latent, label, restarts, drawn, seed)
    found = []
    for i in range(len(x)):
        kind = None if label is None else label[i : i + 1].expand(restarts)
        told = None if progress is None else _part(progress, i, len(x), steps)
        found.append(_descended(generator, x[i], starts[i], kind, steps, told))
    z, images, errors, ways = (torch.stack(parts) for parts in zip(*found, strict=True))  # (n, restarts, ...)
    best = errors.argmin(1)
    every = torch.arange(len(x))
    return Inverted(z[every, best], images[every, best], errors[every, best], errors, ways[every, best])


def _part(progress: Progress, i: int, n: int, steps: int) -> Callable[[int], None]:
    return lambda done: progress(i * steps + done, n * steps)


@torch.no_grad()
def _nearest(
    generator: nn.Module, x: Tensor, latent: int, label: Tensor | None, restarts: int, drawn: int, seed: int
) -> Float[Tensor, "n r z"]:
    """Of latents 0 .. drawn - 1 of the seed those whose images are nearest to each of x. Labelled images each draw
    with their own label."""
    z = randomness.normal(seed, "invert", 0, drawn, latent).float()
    best = torch.full((len(x), restarts), math.inf)
    index = torch.zeros(len(x), restarts, dtype=torch.long)
    kinds = [None] if label is None else label.unique().tolist()
    for kind in kinds:
        rows = torch.arange(len(x)) if label is None else torch.nonzero(label == torch.tensor(kind))[:, 0]
        for start in range(0, drawn, CHUNK):
            piece = z[start : start + CHUNK]
            made = generator(piece, None if kind is None else torch.full((len(piece),), kind))
            apart = torch.cdist(x[rows].flatten(1), made.clamp(-1, 1).flatten(1))
            apart, at = torch.cat([best[rows], apart], 1).topk(restarts, 1, largest=False)
            known = torch.cat([index[rows], torch.arange(start, start + len(piece)).expand(len(rows), -1)], 1)
            best[rows], index[rows] = apart, known.gather(1, at)
    return z[index]


def _descended(
    generator: nn.Module, x: Tensor, start: Tensor, label: Tensor | None, steps: int, told: Callable[[int], None] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents (r, latent) from `start` on, their images and errors at the end, the best of each on the way; and the
    best so far at some moments, from the first step to the last (r, moments, latent)."""
    z = start.clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=RATE, betas=(0.9, 0.99))
    longest = math.sqrt(z.shape[1]) + BEYOND
    best = torch.full((len(z),), math.inf)
    kept, images = start.clone(), torch.zeros(len(z), *x.shape)
    moments, way = _moments(steps), []
    for step in range(steps + 1):
        for group in adam.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        made = generator(z, label)
        loss = (made - x).square().flatten(1).mean(1)
        with torch.no_grad():
            shown = made.clamp(-1, 1)
            error = (shown - x).square().flatten(1).mean(1).sqrt()
            better = error < best
            best = torch.where(better, error, best)
            kept = torch.where(better[:, None], z, kept)
            images = torch.where(better[:, None, None, None], shown, images)
            if step in moments:
                way.append(kept)  # never changed in place
        if step == steps:
            break
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
        with torch.no_grad():
            z.mul_((longest / z.norm(dim=1, keepdim=True)).clamp(max=1.0))
        if told:
            told(step + 1)
    return kept, images, best, torch.stack(way, 1)


def _moments(steps: int) -> list[int]:
    """Steps to remember, evenly spaced from 0 to `steps`, both among them."""
    spaces = min(MOMENTS - 1, steps)
    return [round(i * steps / spaces) for i in range(spaces + 1)]
