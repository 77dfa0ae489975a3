"""The semi-supervised GAN (Salimans et al. 2016, "Improved Techniques for Training GANs", arXiv:1606.03498, sec. 3.1
and 5).

D is a classifier of K classes that also says "fake": with its K logits l_k(x), and 0 for being fake, D(x) = Z / (Z + 1)
for Z(x) = sum_k exp l_k(x), so that its logit is log Z -> `networks.heads.ClassesOrFake`.
Symbols (paper -> here): L_supervised -> losses.cross_entropy on images whose labels are known; L_unsupervised ->
losses.discriminator on log Z; f(x), an intermediate layer of D -> its last features; G minimises
|| E f(x) - E f(G(z)) ||^2, feature matching (sec. 3.1).
Differs from the paper: D's weights are averaged, and that average classifies; networks are convolutional, without
weight normalisation and noise (`MLP` can have them: noise_input, noise_hidden, fixed_lengths, batch_norm); what is
unsupervised counts half, as in the authors' code; the mean square of the difference, not its sum. And not the paper's:
weight_consistency, with which two looks at an unlabelled image, each augmented in its own way, have to agree on its
class -> losses.consistency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.game import Adam, Algorithm, Batch, Labels, Players, Settings, Turn
from zerosum.losses import consistency, cross_entropy, discriminator, feature_matching
from zerosum.networks import MLP, ClassesOrFake, Networks, Subpixel
from zerosum.networks.heads import log_z
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class SSGAN(Algorithm):
    """A classifier that learns from few labels and many images: what G makes shows it what is no image of any class."""

    networks: Networks = Subpixel()
    weight_supervised: float = 1.0
    """Weight of the labelled images beside the unlabelled ones."""
    weight_consistency: float = 0.0
    """Weight of two looks at an unlabelled image agreeing on its class; 0 as in the paper. Where nothing augments (and
    no noise is in D) both see the same, and it is nothing."""
    labels: ClassVar[Labels] = "critic"
    averaged: ClassVar[tuple[str, ...]] = ("G", "D")
    coupled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("weight_supervised", "weight_consistency"):
            if not 0 <= getattr(self, name) < math.inf:
                flag = name.replace("_", "-")
                raise UserError(f"--algorithm.{flag} {getattr(self, name):g}: must be 0 or more and finite")

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        blind, head = replace(spec, classes=0), partial(ClassesOrFake, classes=spec.classes)
        critic = self.networks.critic(blind, head)
        if any(isinstance(layer, _BatchNorm) for layer in critic.modules()):
            # Its statistics would be of labelled, real and generated images, each after the other.
            name = type(self.networks).__name__
            raise UserError(
                f"SSGAN(networks={name}(...)): its critic has BatchNorm, and the classifier that it is to be would not "
                "know whose statistics to use; take networks without it"
            )
        return {"G": self.networks.generator(blind), "D": critic}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn("D") as minimise:
            for b in turn.split(batch):
                classes, _ = p.D(b.labelled, None, True)
                supervised = cross_entropy(classes, b.known_label)
                looks = [p.D(b.image, None, True)[0] for _ in range(2 if self.weight_consistency else 1)]
                d_real, d_fake = log_z(looks[0]), p.D(p.G(b.z))
                loss = self.weight_supervised * supervised + discriminator(d_real, d_fake) / 2
                if self.weight_consistency:
                    disagreement = consistency(*looks)
                    loss = loss + self.weight_consistency * disagreement
                    turn.log(disagreement=disagreement)
                minimise(loss)
                turn.note(real=d_real, fake=d_fake)
                turn.log(supervised=supervised)
        with turn("G") as minimise:
            for b in turn.split(batch):
                _, real = p.D(b.image2, None, True)
                _, fake = p.D(p.G(b.z2), None, True)
                minimise(feature_matching(real.detach(), fake))


SETTINGS = Settings(
    algorithm=SSGAN(),
    adam_g=Adam(lr=Constant(1e-3)),
    adam_d=Adam(lr=Constant(1e-3)),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=SSGAN(networks=MLP(latent=2, width=64)),
    adam_g=Adam(lr=Constant(1e-3)),
    adam_d=Adam(lr=Constant(1e-3)),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)
