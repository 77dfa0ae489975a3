"""DCGAN (Radford et al. 2015, "Unsupervised Representation Learning with DCGANs", arXiv:1511.06434, sec. 3 and 4).

Symbols (paper -> here): x -> b.image, z -> b.z. The game is Goodfellow's; the contribution is the networks.
Differs from the paper: z is normal rather than uniform; sampling uses an average of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn
from zerosum.losses import discriminator, non_saturating
from zerosum.networks import DCGAN as Convolutional
from zerosum.networks import MLP, Networks
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class DCGAN(Algorithm):
    """Strided convolutions, BatchNorm in both players, Adam at 2e-4 with beta1 0.5."""

    networks: Networks = Convolutional()

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn.ahead("G"):  # one batch of fakes serves both players
            fakes = [p.G(b.z, b.label) for b in turn.split(batch)]
        with turn("D") as minimise:
            for b, fake in zip(turn.split(batch), fakes, strict=True):
                # Real and fake pass apart: one BatchNorm over both would tell D which batch it is in.
                d_real, d_fake = p.D(b.image, b.label), p.D(fake.detach(), b.label)
                minimise(discriminator(d_real, d_fake))
                turn.note(real=d_real, fake=d_fake)
        with turn("G") as minimise:
            for b, fake in zip(turn.split(batch), fakes, strict=True):
                minimise(non_saturating(p.D(fake, b.label)))


SETTINGS = Settings(
    algorithm=DCGAN(networks=Convolutional(latent=100, width=32)),
    adam_g=Adam(lr=Constant(2e-4)),
    adam_d=Adam(lr=Constant(2e-4)),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=DCGAN(networks=MLP(latent=2, width=64)),
    adam_g=Adam(lr=Constant(1e-3)),
    adam_d=Adam(lr=Constant(1e-3)),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)
