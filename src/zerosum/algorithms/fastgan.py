"""FastGAN (Liu et al. 2021, "Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis",
arXiv:2101.04775, sec. 3.2 and 3.3, eq. 2 to 4), for some tens to a few thousand images.

Symbols (paper -> here): x -> b.image; z -> b.z; D(x) -> d_real; G(f), T(x) -> `Rebuilt`, what D's decoders made and
what it saw of it; L_recons -> `losses.l1` of both, weighted by rebuild.
Differs from the paper: what is rebuilt is compared pixel by pixel, for the perceptual network is a download;
augmentation is the run's own (`augment`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn
from zerosum.losses import hinge, l1, wasserstein_generator
from zerosum.networks import MLP, FastGAN, Networks
from zerosum.schedule import Constant, Cosine, Linear, Schedule


@dataclass(frozen=True, kw_only=True)
class FastGame(Algorithm):
    """Hinge losses and a critic that must be able to rebuild the real images from what it makes of them."""

    networks: Networks = FastGAN()
    rebuild: Schedule = Constant(1.0)
    """The weight of what D's decoders get wrong."""

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        return {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        rebuilds = isinstance(self.networks, FastGAN) and self.networks.decoder > 0
        with turn("D") as minimise:
            for b in turn.split(batch):
                d_fake = p.D(p.G(b.z, b.label), b.label)
                d_real, missed = self._seen(p, b, rebuilds)
                loss = hinge(d_real, d_fake)
                minimise(loss if missed is None else loss + self.rebuild(seen) * missed)
                turn.note(real=d_real, fake=d_fake)
        with turn("G") as minimise:
            for b in turn.split(batch):
                minimise(wasserstein_generator(p.D(p.G(b.z2, b.label2), b.label2)))

    def _seen(self, p: Players, b: Batch, rebuilds: bool) -> tuple[Tensor, Tensor | None]:
        """D's logits of the real images, and how far off what it rebuilds of them is (eq. 2)."""
        if not rebuilds:
            return p.D(b.image, b.label), None
        d_real, r = cast("tuple[Tensor, Any]", p.D(b.image, b.label, rebuild=True))
        return d_real, l1(r.whole, r.whole_seen) + l1(r.part, r.part_seen)


SETTINGS = Settings(
    algorithm=FastGame(),
    adam_g=Adam(lr=Constant(2e-4), beta1=0.5),
    adam_d=Adam(lr=Constant(2e-4), beta1=0.5),
    batch_size=16,
    images=800_000,
    ema_half_life=Linear(0, 10_000, 100_000),
    augment=("colour", "translation"),  # sec. 4: all of its models are trained so
)

TOY = Settings(
    algorithm=FastGame(networks=MLP(latent=2, width=64, spectral=True)),
    adam_g=Adam(lr=Cosine(2e-3, 1e-4, 900_000), beta1=0.0, beta2=0.9),
    adam_d=Adam(lr=Cosine(2e-3, 1e-4, 900_000), beta1=0.0, beta2=0.9),
    batch_size=256,
    images=900_000,
    ema_half_life=Linear(0, 40_000, 400_000),
)
