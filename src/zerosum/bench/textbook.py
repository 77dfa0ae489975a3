"""The textbook DCGAN in a plain loop, as it stands in tutorials: what our default is measured against.

Radford et al. 2015 at 32 x 32 or 64 x 64: z of 100 numbers, width 64, BatchNorm in both networks, binary cross-entropy,
Adam at 2e-4 with beta1 0.5, batches of 64, fp32, eager. It shares no code with the package but the scaling of images.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from zerosum.data.loader import scale
from zerosum.sample import to_uint8

LATENT, WIDTH, BATCH = 100, 64, 64
CPU = torch.device("cpu")


class Textbook:
    """Images uint8 (N, C, H, W), padded with black to a square of a power of two; samples are cropped to H, W."""

    def __init__(self, images: np.ndarray, seed: int, lr: float = 2e-4, width: int = WIDTH) -> None:
        torch.manual_seed(seed)
        self.size = images.shape[2:]
        side = 1 << (max(self.size) - 1).bit_length()
        self.before = tuple((side - n) // 2 for n in self.size)
        margins = [(b, side - n - b) for b, n in zip(self.before, self.size, strict=True)]
        self.images = np.pad(images, ((0, 0), (0, 0), *margins))
        self.G, self.D = generator(images.shape[1], side, width), critic(images.shape[1], side, width)
        self.adam_g, self.adam_d = (torch.optim.Adam(net.parameters(), lr, (0.5, 0.999)) for net in (self.G, self.D))
        self.order, self.seen, self.batch = np.empty(0, np.int64), 0, min(BATCH, len(images))

    def step(self) -> int:
        """One step of D and one of G, on one batch of fakes; images seen."""
        if len(self.order) < self.batch:
            self.order = torch.randperm(len(self.images)).numpy()
        chosen, self.order = self.order[: self.batch], self.order[self.batch :]
        real = scale(self.images[chosen], torch.float32, CPU)
        fake = self.G(torch.randn(self.batch, LATENT, 1, 1))
        self.adam_d.zero_grad()
        of_real, of_fake = self.D(real).flatten(), self.D(fake.detach()).flatten()
        loss = F.binary_cross_entropy_with_logits(of_real, torch.ones(self.batch))
        loss = loss + F.binary_cross_entropy_with_logits(of_fake, torch.zeros(self.batch))
        loss.backward()
        self.adam_d.step()
        self.adam_g.zero_grad()
        F.binary_cross_entropy_with_logits(self.D(fake).flatten(), torch.ones(self.batch)).backward()
        self.adam_g.step()
        self.seen += self.batch
        return self.seen

    @torch.no_grad()
    def draw(self, count: int) -> np.ndarray:
        """Samples with the statistics of their batch of 500, as tutorials draw them: G stays in training mode."""
        kept = [b.clone() for b in self.G.buffers()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            parts = [self.G(torch.randn(min(500, count - i), LATENT, 1, 1)) for i in range(0, count, 500)]
        for buffer, before in zip(self.G.buffers(), kept, strict=True):
            buffer.copy_(before)
        (top, left), (height, width) = self.before, self.size
        return to_uint8(torch.cat(parts)[:, :, top : top + height, left : left + width])


def widths(side: int, width: int) -> list[int]:
    """Features at side / 2, side / 4, ... 4."""
    return [width << i for i in range((side // 4).bit_length() - 1)]


def generator(channels: int, side: int, width: int) -> nn.Sequential:
    """z (n, 100, 1, 1) -> images (n, C, side, side)."""
    features = widths(side, width)[::-1]
    layers: list[nn.Module] = [nn.ConvTranspose2d(LATENT, features[0], 4, 1, 0, bias=False)]
    for a, b in pairwise(features):
        layers += [nn.BatchNorm2d(a), nn.ReLU(True), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)]
    layers += [
        nn.BatchNorm2d(width),
        nn.ReLU(True),
        nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False),
        nn.Tanh(),
    ]
    return _radford(nn.Sequential(*layers))


def critic(channels: int, side: int, width: int) -> nn.Sequential:
    """Images (n, C, side, side) -> (n, 1, 1, 1) logits."""
    features = widths(side, width)
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for a, b in pairwise(features):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]
    return _radford(nn.Sequential(*layers, nn.Conv2d(features[-1], 1, 4, 1, 0, bias=False)))


def _radford(network: nn.Sequential) -> nn.Sequential:
    for module in network:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
    return network
