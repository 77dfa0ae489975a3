"""The original game with R1 (Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?",
arXiv:1801.04406, eq. 9), the penalty lazy (Karras et al. 2020, "StyleGAN2", arXiv:1912.04958, sec. 3.1, app. B).

Symbols (paper -> here): x ~ p_D -> b.image, z -> b.z; f(t) = -log(1 + e^-t) -> `losses.discriminator`,
`losses.non_saturating`; R1 -> `penalties.zero_centred` on real; gamma -> gamma; k -> every.
Differs from the paper: the penalty is a turn of its own, every k steps and k times as heavy, so that the other turns
run in the machine's quickest precision; networks sized for two processor cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from torch import nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn, leaf
from zerosum.losses import discriminator, non_saturating
from zerosum.networks import MLP, Networks, Subpixel
from zerosum.penalties import zero_centred
from zerosum.schedule import Constant, Cosine, Linear, Schedule


@dataclass(frozen=True, kw_only=True)
class R1GAN(Algorithm):
    """The non-saturating game with a zero-centred penalty on real samples: locally convergent, and cheap."""

    networks: Networks = Subpixel()
    gamma: Schedule = Constant(1.0)
    """The weight of R1 (halved): larger is steadier and slower; grows with resolution."""
    every: Annotated[int, tyro.conf.arg(metavar="STEPS")] = 8
    """Steps between two penalty turns; each is so many times as heavy."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"--algorithm.every {self.every}: must be 1 or more")

    @property
    def more_d_turns(self) -> float:
        return 1 / self.every

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn("D") as minimise:
            for b in turn.split(batch):
                d_real, d_fake = p.D(b.image, b.label), p.D(p.G(b.z, b.label), b.label)
                minimise(discriminator(d_real, d_fake))
                turn.note(real=d_real, fake=d_fake)
        if batch.number(seen) % self.every == 0:
            with turn("D", full_precision=True) as minimise:
                for b in turn.split(batch):
                    real = leaf(b.image)
                    minimise(self.every * self.gamma(seen) / 2 * zero_centred(real, p.D(real, b.label)))
        with turn("G") as minimise:
            for b in turn.split(batch):
                minimise(non_saturating(p.D(p.G(b.z2, b.label2), b.label2)))


SETTINGS = Settings(
    algorithm=R1GAN(),
    adam_g=Adam(lr=Constant(2e-3), beta1=0.0, beta2=0.99),
    adam_d=Adam(lr=Constant(2e-3), beta1=0.0, beta2=0.99),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 50_000),
)

TOY = Settings(
    algorithm=R1GAN(networks=MLP(latent=2, width=64), gamma=Constant(0.1), every=4),
    adam_g=Adam(lr=Cosine(4e-3, 1e-4, 600_000), beta1=0.0, beta2=0.9),
    adam_d=Adam(lr=Cosine(4e-3, 1e-4, 600_000), beta1=0.0, beta2=0.9),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 40_000, 400_000),
)
