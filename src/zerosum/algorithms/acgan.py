"""ACGAN (Odena, Olah and Shlens 2017, "Conditional Image Synthesis with Auxiliary Classifier GANs", arXiv:1610.09585,
eq. 2 and 3).

Symbols (paper -> here): X_fake = G(c, z) -> p.G(b.z, b.label); P(S | X) -> sigmoid of D's logit, P(C | X) -> softmax of
its class logits; L_S -> losses.discriminator; L_C -> losses.cross_entropy; D maximises L_S + L_C, G L_C - L_S.
Differs from the paper: the non-saturating loss of G; the class enters G as its networks do it elsewhere; no noise nor
dropout in D; a weight for L_C.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Labels, Players, Settings, Turn
from zerosum.losses import cross_entropy, discriminator, non_saturating
from zerosum.networks import MLP, Auxiliary, Networks, Subpixel
from zerosum.schedule import Constant, Cosine, Linear


@dataclass(frozen=True, kw_only=True)
class ACGAN(Algorithm):
    """D names the class as well; both players want it named right, so G makes what is easily named."""

    networks: Networks = Subpixel()
    weight_class: float = 1.0
    """Weight of the class beside real or fake (1 in the paper)."""
    labels: ClassVar[Labels] = "both"

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        head = partial(Auxiliary, classes=spec.classes)
        return {"G": self.networks.generator(spec), "D": self.networks.critic(replace(spec, classes=0), head)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn("D") as minimise:
            for b in turn.split(batch):
                d_real, c_real = p.D(b.image, b.label, True)
                d_fake, c_fake = p.D(p.G(b.z, b.label), b.label, True)
                named = cross_entropy(c_real, b.label) + cross_entropy(c_fake, b.label)
                minimise(discriminator(d_real, d_fake) + self.weight_class * named)
                turn.note(real=d_real, fake=d_fake)
                turn.log(real_class=cross_entropy(c_real, b.label))
        with turn("G") as minimise:
            for b in turn.split(batch):
                d_fake, c_fake = p.D(p.G(b.z2, b.label2), b.label2, True)
                named = cross_entropy(c_fake, b.label2)
                minimise(non_saturating(d_fake) + self.weight_class * named)
                turn.log(fake_class=named)


SETTINGS = Settings(
    algorithm=ACGAN(),
    adam_g=Adam(lr=Constant(2e-4)),
    adam_d=Adam(lr=Constant(2e-4)),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=ACGAN(networks=MLP(latent=2, width=64)),
    adam_g=Adam(lr=Cosine(1e-3, 1e-4, 600_000)),
    adam_d=Adam(lr=Cosine(1e-3, 1e-4, 600_000)),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)
