"""pix2pix (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks", arXiv:1611.07004).

Symbols (paper -> here): x, the input -> b.a; y, the target -> b.b; G(x, z) -> p.G(b.a), its noise being dropout;
D(x, y) -> p.D of the pair, joined by channels; lambda -> weight_l1. Eq. 1 with the non-saturating loss, eq. 3, eq. 4.
Differs from the paper: instance norm in place of batch norm, which is the same for the paper's batches of one image
and does not couple the samples of larger ones; sampling uses an average of the weights, without dropout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn
from zerosum.losses import discriminator, l1, non_saturating
from zerosum.networks import Patch, Translators, UNet
from zerosum.schedule import Constant, Linear

PAPER = UNet(norm="scaled_instance", patch=Patch(norm="scaled_instance"))


@dataclass(frozen=True, kw_only=True)
class Pix2Pix(Algorithm):
    """From pairs: a U-Net that a patch critic of pairs and the target itself both correct."""

    networks: Translators = PAPER
    weight_l1: float = 100.0
    """Weight of the mean absolute difference from the target (lambda)."""

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        source, target = spec.sides
        return {"G": self.networks.generator(source, target), "D": self.networks.critic(target, given=source)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn.ahead("G"):  # one batch of fakes serves both players
            fakes = [p.G(b.a) for b in turn.split(batch)]
        with turn("D") as minimise:
            for b, fake in zip(turn.split(batch), fakes, strict=True):
                d_real, d_fake = p.D(pair(b.a, b.b)), p.D(pair(b.a, fake.detach()))
                minimise(discriminator(d_real, d_fake) / 2)  # sec. 3.3: slows D down relative to G
                turn.note(real=d_real, fake=d_fake)
        with turn("G") as minimise:
            for b, fake in zip(turn.split(batch), fakes, strict=True):
                difference = l1(fake, b.b)
                minimise(non_saturating(p.D(pair(b.a, fake))) + self.weight_l1 * difference)
                turn.log(l1=difference)


def pair(x: Tensor, y: Tensor) -> Tensor:
    """Input and output as one image: (n, Ca + Cb, H, W), in the type of the input."""
    return torch.cat([x, y.to(x.dtype)], 1)


SETTINGS = Settings(
    algorithm=Pix2Pix(),
    adam_g=Adam(lr=Linear(2e-4, 0, 40_000, 40_000)),
    adam_d=Adam(lr=Linear(2e-4, 0, 40_000, 40_000)),
    batch_size=1,
    images=80_000,
    ema_half_life=Linear(0, 1_000, 10_000),
)

TOY = Settings(
    algorithm=Pix2Pix(networks=UNet(width=8, norm="scaled_instance", patch=Patch(width=8, norm="scaled_instance"))),
    adam_g=Adam(lr=Constant(2e-3)),
    adam_d=Adam(lr=Constant(2e-3)),
    batch_size=8,
    images=8_000,
    ema_half_life=Linear(0, 200, 2_000),
)
