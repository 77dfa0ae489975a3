"""NAME (Authors YEAR, "Title", arXiv:NUMBER, algorithm or equations).

Copy this file to `algorithms/mygan.py`, rename the class, and write `players` and `step` from your paper. That is all:
the command, the recipes and the parametrised tests find the file by themselves. Then write `docs/algorithms/mygan.md`.

Symbols (paper -> here): x -> b.image, z -> b.z, c -> b.label; twins for G's turn: b.image2, b.z2, b.label2.
Differs from the paper: say what does.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn
from zerosum.losses import discriminator, non_saturating
from zerosum.networks import MLP, Networks
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class Template(Algorithm):
    """One sentence: the paper's idea. Fields are its hyperparameters, each with a docstring that becomes its help."""

    networks: Networks = MLP()

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        # Names that start with G are moved by `adam_g`, with D by `adam_d`.
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        # In D's turn everyone else is frozen, so G's fakes carry no graph. Ask for full_precision=True when a
        # penalty differentiates the turn's own forward. Losses are per sample; the turn averages and steps.
        with turn("D") as minimise:
            for b in turn.split(batch):
                d_real, d_fake = p.D(b.image, b.label), p.D(p.G(b.z, b.label), b.label)
                minimise(discriminator(d_real, d_fake))
                turn.note(real=d_real, fake=d_fake)
        with turn("G") as minimise:
            for b in turn.split(batch):
                minimise(non_saturating(p.D(p.G(b.z2, b.label2), b.label2)))


# What the paper trains images with, and what makes the algorithm find eight Gaussians in seconds (for the tests).
SETTINGS = Settings(
    algorithm=Template(),
    adam_g=Adam(lr=Constant(2e-4)),
    adam_d=Adam(lr=Constant(2e-4)),
    batch_size=64,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=Template(networks=MLP(latent=2, width=64)),
    adam_g=Adam(lr=Constant(1e-3)),
    adam_d=Adam(lr=Constant(1e-3)),
    batch_size=256,
    images=600_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)
