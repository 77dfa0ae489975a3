"""The projection critic (Miyato and Koyama 2018, "cGANs with Projection Discriminator", arXiv:1802.05637, eq. 3).

SNGAN's game, whose turns are in `sngan`; what is the paper's own is in the networks: G's BatchNorm has a scale and a
shift for each class (sec. 4), and D's logit is y^T V phi(x) + psi(phi(x)).
Symbols (paper -> here): phi -> D's blocks, psi -> its last linear layer, V -> its embedding
(`networks.blocks.Projection`).
Differs from the paper: sampling uses averaged weights; narrower networks, for a small machine. `MLP`, for points,
projects in D, too; its G has the class beside z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from zerosum.algorithms.sngan import Hinged
from zerosum.data.spec import Spec
from zerosum.game import Adam, Labels, Settings
from zerosum.networks import MLP, Networks, ResNet, blocks
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class Projection(Hinged):
    """SNGAN of labelled images: D sees how well the features fit the class that is claimed."""

    networks: Networks = ResNet()
    critic_steps: int = 5
    """n_dis: turns of D for one of G."""
    labels: ClassVar[Labels] = "both"

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        net = self.networks
        # Of itself MLP joins the class to x, as Mirza and Osindero do; with a head, the class goes to that alone. Every
        # other critic of classes projects.
        if isinstance(net, MLP):
            critic = net.critic(spec, partial(blocks.Projection, classes=spec.classes, normalise=net.spectral))
        else:
            critic = net.critic(spec)
        return {"G": net.generator(spec), "D": critic}


SETTINGS = Settings(
    algorithm=Projection(),
    adam_g=Adam(lr=Constant(2e-4), beta1=0.0, beta2=0.9),
    adam_d=Adam(lr=Constant(2e-4), beta1=0.0, beta2=0.9),
    batch_size=64,
    images=3_000_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=Projection(networks=MLP(latent=2, width=64, spectral=True), critic_steps=1),
    adam_g=Adam(lr=Constant(1e-3)),
    adam_d=Adam(lr=Constant(1e-3)),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)
