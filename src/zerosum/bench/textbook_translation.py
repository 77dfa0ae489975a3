"""pix2pix and CycleGAN as their papers have them, in plain loops: what our engine is measured against.

Isola et al. 2017 (arXiv:1611.07004, app. 6.1) and Zhu et al. 2017 (arXiv:1703.10593, app. 7.2): fp32, eager, torch's
own norms and Adam at 2e-4 with beta1 0.5, critics that are frozen in the generators' turn. They share no code with the
package but the scaling of images. Biases before a normalisation, which undoes them, are left out here as in ours; the
weights lie in the order of ours, so that they can be copied.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import chain, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data.loader import scale

LR, BETAS = 2e-4, (0.5, 0.999)
POOL = 50
CPU = torch.device("cpu")
Norm = Callable[[int], nn.Module]


class Pix2Pix:
    """From pairs of uint8 images a and b (N, 3, S, S), item i of one with item i of the other."""

    def __init__(
        self, a: np.ndarray, b: np.ndarray, batch: int, seed: int, width: int = 64, dropout: float = 0.5
    ) -> None:
        torch.manual_seed(seed)
        self.a, self.b, self.batch = a, b, batch
        depth = a.shape[-1].bit_length() - 1
        self.G = unet(a.shape[1], b.shape[1], depth, width, dropout)
        self.D = critic(a.shape[1] + b.shape[1], width, nn.BatchNorm2d)
        self.adam_g, self.adam_d = _adam(self.G), _adam(self.D)

    def step(self) -> dict[str, float]:
        """One step on images drawn at random."""
        chosen = torch.randint(len(self.a), (self.batch,)).numpy()
        return self.play(*(scale(side[chosen], torch.float32, CPU) for side in (self.a, self.b)))

    def play(self, a: Tensor, b: Tensor) -> dict[str, float]:
        """D, then G, on one batch of fakes; the losses."""
        fake = self.G(a)
        self.D.requires_grad_(True)
        self.adam_d.zero_grad()
        of_fake, of_real = self.D(torch.cat([a, fake.detach()], 1)), self.D(torch.cat([a, b], 1))
        loss_d = 0.5 * (_cross_entropy(of_real, 1) + _cross_entropy(of_fake, 0))
        loss_d.backward()
        self.adam_d.step()
        self.D.requires_grad_(False)
        self.adam_g.zero_grad()
        loss_g = _cross_entropy(self.D(torch.cat([a, fake], 1)), 1) + 100 * F.l1_loss(fake, b)
        loss_g.backward()
        self.adam_g.step()
        return {"D": loss_d.item(), "G": loss_g.item()}


class CycleGAN:
    """From uint8 images a (N, 3, S, S) and b (M, 3, S, S) that are no pairs."""

    def __init__(
        self, a: np.ndarray, b: np.ndarray, batch: int, seed: int, width: int = 64, blocks: int = 6, pool: int = POOL
    ) -> None:
        torch.manual_seed(seed)
        self.a, self.b, self.batch = a, b, batch
        self.G_AB, self.G_BA = (resnet(a.shape[1], b.shape[1], blocks, width) for _ in range(2))
        self.D_A, self.D_B = (critic(side.shape[1], width, nn.InstanceNorm2d) for side in (a, b))
        self.adam_g, self.adam_d = _adam(self.G_AB, self.G_BA), _adam(self.D_A, self.D_B)
        self.pool_a, self.pool_b = Pool(pool, seed), Pool(pool, seed + 1)

    def step(self) -> dict[str, float]:
        """One step on images drawn at random."""
        sides = []
        for side in (self.a, self.b):
            chosen = torch.randint(len(side), (self.batch,)).numpy()
            sides.append(scale(side[chosen], torch.float32, CPU))
        return self.play(*sides)

    def play(self, a: Tensor, b: Tensor) -> dict[str, float]:
        """Both generators together, then each critic; the losses."""
        fake_b, fake_a = self.G_AB(a), self.G_BA(b)
        again_a, again_b = self.G_BA(fake_b), self.G_AB(fake_a)
        for network in (self.D_A, self.D_B):
            network.requires_grad_(False)
        self.adam_g.zero_grad()
        identity = F.l1_loss(self.G_AB(b), b) + F.l1_loss(self.G_BA(a), a)
        adversarial = _squares(self.D_B(fake_b), 1) + _squares(self.D_A(fake_a), 1)
        cycle = F.l1_loss(again_a, a) + F.l1_loss(again_b, b)
        loss_g = adversarial + 10 * cycle + 5 * identity
        loss_g.backward()
        self.adam_g.step()
        for network in (self.D_A, self.D_B):
            network.requires_grad_(True)
        self.adam_d.zero_grad()
        loss_a = self._judge(self.D_A, a, self.pool_a(fake_a.detach()))
        loss_b = self._judge(self.D_B, b, self.pool_b(fake_b.detach()))
        self.adam_d.step()
        return {"G": loss_g.item(), "D": loss_a + loss_b}

    def _judge(self, D: nn.Module, real: Tensor, fake: Tensor) -> float:
        loss = 0.5 * (_squares(D(real), 1) + _squares(D(fake), 0))
        loss.backward()
        return loss.item()


class Pool:
    """Fakes of earlier steps: of the new ones every second is swapped for one of them (Zhu et al. 2017, sec. 4)."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.images, self.random = size, list[Tensor](), random.Random(seed)

    def __call__(self, fakes: Tensor) -> Tensor:
        shown = []
        for fake in fakes:
            if len(self.images) < self.size:
                self.images.append(fake)
            elif self.size and self.random.random() < 0.5:
                place = self.random.randrange(self.size)
                fake, self.images[place] = self.images[place], fake
            shown.append(fake)
        return torch.stack(shown)


class UNet(nn.Module):
    """Encoder, decoder and skips; neither the first nor the innermost layer of the encoder is normalised."""

    def __init__(self, inputs: int, outputs: int, depth: int, width: int, dropout: float) -> None:
        super().__init__()
        features = [inputs, *(width * min(2**i, 8) for i in range(depth))]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level, (a, b) in enumerate(pairwise(features)):
            bare = level in (0, depth - 1)
            layers: list[nn.Module] = [nn.Conv2d(a, b, 4, 2, 1, bias=bare)]
            if level:
                layers.insert(0, nn.LeakyReLU(0.2, True))
            self.encoder.append(nn.Sequential(*layers, *([] if bare else [nn.BatchNorm2d(b)])))
        for level in reversed(range(depth)):
            a, b = features[level + 1] * (1 if level == depth - 1 else 2), features[level]
            if not level:
                self.decoder.append(nn.Sequential(nn.ReLU(True), nn.ConvTranspose2d(a, outputs, 4, 2, 1)))
                break
            layers = [nn.ReLU(True), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b)]
            dropped = [nn.Dropout(dropout)] if level >= depth - 3 else []
            self.decoder.append(nn.Sequential(*layers, *dropped))

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level in self.encoder:
            x = level(x)
            kept.append(x)
        x = kept.pop()
        for level in self.decoder:
            x = level(x)
            if kept:
                x = torch.cat([kept.pop(), x], 1)
        return torch.tanh(x)


def unet(inputs: int, outputs: int, depth: int, width: int = 64, dropout: float = 0.5) -> nn.Module:
    """Images (n, inputs, H, W) -> (n, outputs, H, W), H and W multiples of 2^depth."""
    return _normal(UNet(inputs, outputs, depth, width, dropout))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=False), nn.InstanceNorm2d(width)]
        other = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=False), nn.InstanceNorm2d(width)]
        self.layers = nn.Sequential(*half, nn.ReLU(True), *other)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def resnet(inputs: int, outputs: int, blocks: int, width: int = 64) -> nn.Module:
    """Images (n, inputs, H, W) -> (n, outputs, H, W), H and W multiples of 4: c7s1-64, d128, d256, R256, u128, u64."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7, bias=False)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU(True)]
    for w in (width, 2 * width):
        layers += [nn.Conv2d(w, 2 * w, 3, 2, 1, bias=False), nn.InstanceNorm2d(2 * w), nn.ReLU(True)]
    layers += [Block(4 * width) for _ in range(blocks)]
    for w in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(w, w // 2, 3, 2, 1, output_padding=1, bias=False)]
        layers += [nn.InstanceNorm2d(w // 2), nn.ReLU(True)]
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh()]
    return _normal(nn.Sequential(*layers))


def critic(channels: int, width: int, norm: Norm) -> nn.Module:
    """Images (n, channels, H, W) -> (n, 1, h, w) logits, each of a patch of 70x70 pixels."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for a, b, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
        layers += [nn.Conv2d(a * width, b * width, 4, stride, 1, bias=False), norm(b * width), nn.LeakyReLU(0.2, True)]
    return _normal(nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1)))


def _normal(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return network


def _adam(*networks: nn.Module) -> torch.optim.Adam:
    parameters: Iterable[nn.Parameter] = chain.from_iterable(network.parameters() for network in networks)
    return torch.optim.Adam(parameters, LR, BETAS)


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _squares(logits: Tensor, label: float) -> Tensor:
    return F.mse_loss(logits, torch.full_like(logits, label))
