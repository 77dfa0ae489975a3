"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!", arXiv:2501.05441, eq. 2 to 4).

Symbols (paper -> here): f(t) = -log(1 + e^-t) -> -softplus(-t) in `losses.relativistic`; R1, R2 -> zero_centred on
real and on fake; gamma -> gamma. D sees a real and a fake as a pair; both penalties are on the same forward.
Differs from the paper: networks scaled to two processor cores unless asked otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn, leaf
from zerosum.losses import relativistic
from zerosum.networks import MLP, R3, Networks
from zerosum.penalties import zero_centred
from zerosum.schedule import Constant, Cosine, Linear, Schedule


@dataclass(frozen=True, kw_only=True)
class R3GAN(Algorithm):
    """Relativistic pairing loss with zero-centred penalties on real and on fake: a loss that converges locally."""

    networks: Networks = R3()
    gamma: Schedule = Constant(1.0)
    """The weight of R1 + R2 (halved): larger is steadier and slower; grows with resolution."""

    @property
    def boundary(self) -> None:
        return None

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn("D", full_precision=True) as minimise:
            for b in turn.split(batch):
                real, fake = leaf(b.image), leaf(p.G(b.z, b.label))
                d_real, d_fake = p.D(real, b.label), p.D(fake, b.label)
                penalty = zero_centred(real, d_real) + zero_centred(fake, d_fake)
                minimise(relativistic(d_real, d_fake) + self.gamma(seen) / 2 * penalty)
                turn.note(real=d_real, fake=d_fake)
        with turn("G") as minimise:
            for b in turn.split(batch):
                d_fake, d_real = p.D(p.G(b.z2, b.label2), b.label2), p.D(b.image2, b.label2)
                minimise(relativistic(d_fake, d_real))


SETTINGS = Settings(
    algorithm=R3GAN(),
    adam_g=Adam(lr=Constant(2e-4), beta1=0.0, beta2=0.99),
    adam_d=Adam(lr=Constant(2e-4), beta1=0.0, beta2=0.99),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=R3GAN(networks=MLP(latent=2, width=64), gamma=Constant(0.1)),
    adam_g=Adam(lr=Cosine(4e-3, 1e-4, 600_000), beta1=0.0, beta2=0.9),
    adam_d=Adam(lr=Cosine(4e-3, 1e-4, 600_000), beta1=0.0, beta2=0.9),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 40_000, 400_000),
)
