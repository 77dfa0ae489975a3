"""Conditional GAN (Mirza and Osindero 2014, "Conditional Generative Adversarial Nets", arXiv:1411.1784, eq. 2).

Symbols (paper -> here): x|y -> p.D(b.image, b.label); z|y -> p.G(b.z, b.label). The class is one more input of both
players, one-hot beside z and beside x (sec. 3.2), as planes where x is an image.
Differs from the paper: the non-saturating loss of G; Adam; networks that the recipe chooses, in place of maxout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Labels, Players, Settings, Turn
from zerosum.losses import discriminator, non_saturating
from zerosum.networks import DCGAN, MLP, Beside, Networks
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class CGAN(Algorithm):
    """The original game, of each class: both players see the label beside everything else."""

    networks: Networks = DCGAN()
    labels: ClassVar[Labels] = "both"

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        k, blind = spec.classes, replace(spec, classes=0)
        wider = replace(blind, shape=(spec.shape[0] + k, *spec.shape[1:]))
        longer = replace(self.networks, latent=self.networks.latent + k)  # type: ignore[type-var]
        return {"G": Beside(longer.generator(blind), k), "D": Beside(self.networks.critic(wider), k)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn("D") as minimise:
            for b in turn.split(batch):
                d_real, d_fake = p.D(b.image, b.label), p.D(p.G(b.z, b.label), b.label)
                minimise(discriminator(d_real, d_fake))
                turn.note(real=d_real, fake=d_fake)
        with turn("G") as minimise:
            for b in turn.split(batch):
                minimise(non_saturating(p.D(p.G(b.z2, b.label2), b.label2)))


SETTINGS = Settings(
    algorithm=CGAN(networks=DCGAN(width=32)),
    adam_g=Adam(lr=Constant(2e-4)),
    adam_d=Adam(lr=Constant(2e-4)),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=CGAN(networks=MLP(latent=2, width=64)),
    adam_g=Adam(lr=Constant(1e-3)),
    adam_d=Adam(lr=Constant(1e-3)),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)
