"""WGAN-GP (Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028, algorithm 1).

Symbols (paper -> here): x -> b.image, x~ -> fake, epsilon -> b.epsilon, lambda -> penalty_weight,
n_critic -> critic_steps. The critic has no BatchNorm: the penalty is on each sample by itself (sec. 4).
Differs from the paper: sampling uses averaged weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn
from zerosum.losses import wasserstein_critic, wasserstein_generator
from zerosum.networks import DCGAN, MLP, Networks
from zerosum.penalties import gradient_penalty
from zerosum.schedule import Constant, Cosine, Linear, Schedule


@dataclass(frozen=True, kw_only=True)
class WGANGP(Algorithm):
    """A critic that estimates the Wasserstein distance, held 1-Lipschitz by a penalty on its gradient."""

    networks: Networks = DCGAN(norm_critic=False)
    critic_steps: int = 5
    """n_critic: turns of D for one of G."""
    penalty_weight: Schedule = Constant(10.0)
    """lambda: the weight of the gradient penalty."""

    @property
    def boundary(self) -> None:
        return None

    @property
    def rounds(self) -> int:
        return self.critic_steps

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        for round in batch.rounds(self.critic_steps):
            with turn("D") as minimise:
                for b in turn.split(round):
                    fake = p.G(b.z, b.label)
                    d_real, d_fake = p.D(b.image, b.label), p.D(fake, b.label)
                    penalty = gradient_penalty(partial(p.D, label=b.label), b.image, fake, b.epsilon)
                    minimise(wasserstein_critic(d_real, d_fake) + self.penalty_weight(seen) * penalty)
                    turn.note(real=d_real, fake=d_fake)
        with turn("G") as minimise:
            for b in turn.split(batch):
                minimise(wasserstein_generator(p.D(p.G(b.z2, b.label2), b.label2)))


SETTINGS = Settings(
    algorithm=WGANGP(networks=DCGAN(latent=128, width=64, norm_critic=False)),
    adam_g=Adam(lr=Constant(1e-4), beta1=0.0, beta2=0.9),
    adam_d=Adam(lr=Constant(1e-4), beta1=0.0, beta2=0.9),
    batch_size=64,
    images=1_000_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=WGANGP(networks=MLP(latent=2, width=64), critic_steps=2, penalty_weight=Constant(0.1)),
    adam_g=Adam(lr=Cosine(4e-3, 1e-4, 900_000), beta1=0.0, beta2=0.9),
    adam_d=Adam(lr=Cosine(4e-3, 1e-4, 900_000), beta1=0.0, beta2=0.9),
    batch_size=256,
    images=900_000,
    ema_half_life=Linear(0, 40_000, 400_000),
)
