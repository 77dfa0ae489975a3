"""SNGAN with hinge loss (Miyato et al. 2018, "Spectral Normalization for GANs", arXiv:1802.05957).

Symbols (paper -> here): W_SN = W / sigma(W) -> `networks.SpectralNorm`, one power iteration a turn of D (algorithm 1);
V_D, V_G (eq. 16, 17) -> hinge, wasserstein_generator; n_dis -> critic_steps.
Differs from the paper: sampling uses averaged weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn
from zerosum.losses import hinge, wasserstein_generator
from zerosum.networks import MLP, SNDCGAN, Networks
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class Hinged(Algorithm):
    """The turns of SNGAN's game, on whatever networks: `projection` plays them, too."""

    critic_steps: int = 1
    """n_dis: turns of D for one of G (the paper's table 1 has 1 and 5)."""

    @property
    def rounds(self) -> int:
        return self.critic_steps

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        for round in batch.rounds(self.critic_steps):
            with turn("D") as minimise:
                for b in turn.split(round):
                    d_real, d_fake = p.D(b.image, b.label), p.D(p.G(b.z, b.label), b.label)
                    minimise(hinge(d_real, d_fake))
                    turn.note(real=d_real, fake=d_fake)
        with turn("G") as minimise:
            for b in turn.split(batch):
                minimise(wasserstein_generator(p.D(p.G(b.z2, b.label2), b.label2)))


@dataclass(frozen=True, kw_only=True)
class SNGAN(Hinged):
    """Every layer of D divided by its largest singular value, so that D is 1-Lipschitz without a penalty."""

    networks: Networks = SNDCGAN()

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}


SETTINGS = Settings(
    algorithm=SNGAN(networks=SNDCGAN(latent=128)),
    adam_g=Adam(lr=Constant(2e-4)),
    adam_d=Adam(lr=Constant(2e-4)),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=SNGAN(networks=MLP(latent=2, width=64, spectral=True)),
    adam_g=Adam(lr=Constant(1e-3)),
    adam_d=Adam(lr=Constant(1e-3)),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)
