"""Progressive GAN (Karras et al. 2017, "Progressive Growing of GANs for Improved Quality, Stability, and Variation",
arXiv:1710.10196, sec. 2 and app. A), on WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028).

Symbols (paper -> here): x -> b.image at the present size, faded (`Growing.faded`); z -> b.z; alpha -> the fraction of
`grown`; lambda -> penalty_weight; epsilon_drift -> drift; epsilon of the penalty -> b.epsilon; minibatch size by
resolution -> parts.
Differs from the paper: a step draws as many images at every size, and plays them in the more turns the larger they are;
`logistic` plays the original game with R1 (Mescheder et al. 2018, arXiv:1801.04406, eq. 9) instead; latents are normal,
and their length is taken out of them by G.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import tyro
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.game import LATE, Adam, Algorithm, Batch, Players, Settings, Turn, leaf
from zerosum.losses import discriminator, non_saturating, wasserstein_critic, wasserstein_generator
from zerosum.networks import MLP, Growing, Networks, Progressive
from zerosum.penalties import gradient_penalty, zero_centred
from zerosum.schedule import Constant, Cosine, Linear, Schedule


@dataclass(frozen=True, kw_only=True)
class ProgressiveGAN(Algorithm):
    """A game that begins at a few pixels and doubles: what is large is learned first, and quickly."""

    heaviest_at: ClassVar[int] = LATE
    networks: Networks = Progressive()
    loss: Literal["wasserstein", "logistic"] = "wasserstein"
    """WGAN-GP with drift, as in the paper, or the non-saturating game with R1."""
    growth: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[IMAGES ...]")] = ()
    """Images seen when each doubling begins to fade in. By `size_images`, if not given; 0 alone has the networks whole
    from the start."""
    size_images: Annotated[int, tyro.conf.arg(metavar="IMAGES")] = 1_600_000
    """How long each size lasts, the first but half of it, where `growth` does not say."""
    fades: Annotated[tuple[int, ...], tyro.conf.arg(metavar="[IMAGES ...]")] = ()
    """How long each doubling fades in; half of the time to the next one, if not given."""
    parts: Annotated[int, tyro.conf.arg(metavar="TURNS")] = 4
    """Turns of either player in a step at the final size; half as many with twice the images at each smaller one."""
    penalty_weight: Schedule = Constant(10.0)
    """lambda: the weight of WGAN-GP's gradient penalty."""
    drift: float = 1e-3
    """epsilon_drift: the weight of D(x)^2, which keeps WGAN-GP's critic near zero."""
    gamma: Schedule = Constant(1.0)
    """The weight of R1 (halved), of the logistic loss."""

    def __post_init__(self) -> None:
        if any(b < a for a, b in pairwise((0, *self.growth))):
            raise UserError(f"--algorithm.growth {' '.join(map(str, self.growth))}: give images seen in rising order")
        if self.growth == (0,) and self.fades:
            raise UserError("--algorithm.fades: nothing fades where --algorithm.growth is 0; leave it out")
        if self.fades and (len(self.fades) != len(self.growth) or min(self.fades) < 0):
            raise UserError(
                f"--algorithm.fades {' '.join(map(str, self.fades))}: give a number of images, 0 or more, for each of "
                f"the {len(self.growth)} doublings of --algorithm.growth"
            )
        between = zip(self.fades, pairwise(self.growth), strict=False)
        if any(lasts > after - begin for lasts, (begin, after) in between):
            raise UserError(
                f"--algorithm.fades {' '.join(map(str, self.fades))}: a doubling has to be whole before the next "
                f"begins (--algorithm.growth {' '.join(map(str, self.growth))})"
            )
        if self.drift < 0:
            raise UserError(f"--algorithm.drift {self.drift:g}: must be 0 or more")
        if self.size_images < 1:
            raise UserError(f"--algorithm.size-images {self.size_images}: must be 1 or more")
        if self.parts < 1 or self.parts & (self.parts - 1):
            raise UserError(f"--algorithm.parts {self.parts}: must be 1, 2, 4, 8 ...")

    @property
    def boundary(self) -> float | None:
        return 0.0 if self.loss == "logistic" else None

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        players = {"G": self.networks.generator(spec), "D": self.networks.critic(spec)}
        self._grow(players, 0)
        return players

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        grown = self._grow(p.networks, seen)
        for piece in batch.parts(self._turns(grown, batch.count)):
            with turn("D", full_precision=True) as minimise:
                for b in turn.split(piece):
                    fake = _shown(p.G(b.z, b.label), grown)
                    minimise(self._critic_loss(turn, p, _faded(b.image, grown), fake, b, seen))
            with turn("G") as minimise:
                for b in turn.split(piece):
                    d_fake = p.D(_shown(p.G(b.z2, b.label2), grown), b.label2)
                    minimise(non_saturating(d_fake) if self.loss == "logistic" else wasserstein_generator(d_fake))

    def _critic_loss(self, turn: Turn, p: Players, real: Tensor, fake: Tensor, b: Batch, seen: int) -> Tensor:
        real = leaf(real) if self.loss == "logistic" else real
        d_real, d_fake = p.D(real, b.label), p.D(fake, b.label)
        turn.note(real=d_real, fake=d_fake)
        if self.loss == "logistic":
            return discriminator(d_real, d_fake) + self.gamma(seen) / 2 * zero_centred(real, d_real)
        penalty = gradient_penalty(partial(p.D, label=b.label), real, fake, b.epsilon)
        kept_near = self.drift * d_real.square()
        return wasserstein_critic(d_real, d_fake) + self.penalty_weight(seen) * penalty + kept_near

    # --- how far it has grown --------------------------------------------------------------------------------------

    def grown(self, seen: int, stages: int) -> float:
        """Doublings at `seen` images, of `stages`: 2.25 is two, and a third faded in by a quarter.

        UserError if `growth` says another number of them.
        """
        begins = self.growth or tuple(self.size_images // 2 + i * self.size_images for i in range(stages))
        if self.growth == (0,):
            begins = (0,) * stages
        if len(begins) != stages:
            raise UserError(
                f"--algorithm.growth {' '.join(map(str, begins))}: names {len(begins)} doublings, and the networks "
                f"have {stages}"
            )
        around = zip((0, *begins), begins, (*begins[1:], None), strict=False)
        grown = 0.0
        for number, (before, begin, after) in enumerate(around):
            if seen < begin:
                break
            lasts = (begin - before if after is None else after - begin) / 2 if not self.fades else self.fades[number]
            grown = number + (min((seen - begin) / lasts, 1.0) if lasts else 1.0)
        return grown

    def _grow(self, players: dict[str, nn.Module], seen: int) -> Growing | None:
        """Let the players be as large as they are at `seen` images; the critic, or None if they do not grow."""
        growing = [network for network in players.values() if isinstance(network, Growing)]
        for network in growing:
            network.grow(self.grown(seen, network.stages))
        return growing[-1] if growing else None

    def _turns(self, grown: Growing | None, count: int) -> int:
        """Into how many parts a batch of `count` is played at this size: no fewer than 2 samples each."""
        turns = self.parts if grown is None else max(self.parts >> (grown.stages - grown.born), 1)
        while turns > 1 and (count % turns or count < 2 * turns):
            turns //= 2
        return turns


def _shown(x: Tensor, grown: Growing | None) -> Tensor:
    return x if grown is None else grown.shrunk(x)


def _faded(x: Tensor, grown: Growing | None) -> Tensor:
    return x if grown is None else grown.faded(x)


SETTINGS = Settings(
    algorithm=ProgressiveGAN(),
    adam_g=Adam(lr=Constant(1e-3), beta1=0.0, beta2=0.99),
    adam_d=Adam(lr=Constant(1e-3), beta1=0.0, beta2=0.99),
    batch_size=64,
    images=12_000_000,
    ema_half_life=Linear(0, 10_000, 100_000),
)

TOY = Settings(
    algorithm=ProgressiveGAN(networks=MLP(latent=2, width=64), parts=1, penalty_weight=Constant(0.1)),
    adam_g=Adam(lr=Cosine(4e-3, 1e-4, 900_000), beta1=0.0, beta2=0.9),
    adam_d=Adam(lr=Cosine(4e-3, 1e-4, 900_000), beta1=0.0, beta2=0.9),
    batch_size=256,
    images=900_000,
    ema_half_life=Linear(0, 40_000, 400_000),
)
