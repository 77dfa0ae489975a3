"""The original GAN (Goodfellow et al. 2014, "Generative Adversarial Nets", arXiv:1406.2661, algorithm 1).

Symbols (paper -> here): x -> b.image, z -> b.z, D(x) -> sigmoid of the logits p.D(x), k -> critic_steps.
Differs from the paper: Adam in place of momentum, LeakyReLU in place of maxout, z is normal rather than uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn
from zerosum.losses import discriminator, minimax, non_saturating
from zerosum.networks import MLP, Networks
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class GAN(Algorithm):
    """The game itself: D tells real from fake, G makes D err. Conditional as in the paper's section 6."""

    networks: Networks = MLP()
    critic_steps: int = 1
    """k: turns of D for one of G."""
    generator_loss: Literal["non-saturating", "minimax"] = "non-saturating"
    """G minimises -log D(G(z)), as the paper trained, or log(1 - D(G(z))), the value function itself."""

    @property
    def rounds(self) -> int:
        return self.critic_steps

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        for round in batch.rounds(self.critic_steps):
            with turn("D") as minimise:
                for b in turn.split(round):
                    d_real, d_fake = p.D(b.image, b.label), p.D(p.G(b.z, b.label), b.label)
                    minimise(discriminator(d_real, d_fake))
                    turn.note(real=d_real, fake=d_fake)
        deceive = non_saturating if self.generator_loss == "non-saturating" else minimax
        with turn("G") as minimise:
            for b in turn.split(batch):
                minimise(deceive(p.D(p.G(b.z2, b.label2), b.label2)))


SETTINGS = Settings(
    algorithm=GAN(networks=MLP(latent=64, width=256)),
    adam_g=Adam(lr=Constant(2e-4)),
    adam_d=Adam(lr=Constant(2e-4)),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=GAN(networks=MLP(latent=2, width=64)),
    adam_g=Adam(lr=Constant(1e-3)),
    adam_d=Adam(lr=Constant(1e-3)),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)
