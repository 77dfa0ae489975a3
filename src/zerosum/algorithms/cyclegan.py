"""CycleGAN (Zhu et al. 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
arXiv:1703.10593, eq. 1 to 3, sec. 4 and 5.2).

Symbols (paper -> here): x of X -> b.a; y of Y -> b.b; G -> p.G_AB, F -> p.G_BA, D_Y -> p.D_B, D_X -> p.D_A;
lambda -> weight_cycle. The identity loss (sec. 5.2) weighs weight_identity times as much as the cycle.
With `noise`, what is translated back is not quite what was shown: what a generator hides there, it loses (Chu et al.
2017, arXiv:1712.02950; Bashkirova et al. 2019, arXiv:1908.01517, sec. 4.1).
Differs from the paper: sampling uses an average of the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Turn
from zerosum.losses import l1, least_squares, least_squares_generator
from zerosum.networks import Patch, ResBlocks, Translators
from zerosum.pool import Pool
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class CycleGAN(Algorithm):
    """Without pairs: two translators, each the other's way back, and a critic of each side."""

    networks: Translators = ResBlocks()
    weight_cycle: float = 10.0
    """Weight of the mean absolute difference after there and back again (lambda)."""
    weight_identity: float = 0.5
    """Weight, relative to the cycle's, of leaving alone what is of the other side; off where channels differ."""
    pool: int = 50
    """Fakes kept of each side (and size): D sees one of them in place of half of the new ones. 0 for none."""
    noise: float = 0.0
    """Standard deviation, of values from -1 to 1, of noise on a translation before it is translated back; 0: none."""

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise UserError(f"--algorithm.noise {self.noise:g}: must be 0 or more and finite")

    @property
    def boundary(self) -> float:
        return 0.5  # between its targets, 0 and 1

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        a, b = spec.sides
        return {
            "G_AB": self.networks.generator(a, b), "G_BA": self.networks.generator(b, a),
            "D_A": self.networks.critic(a), "D_B": self.networks.critic(b),
        }  # fmt: skip

    def carries(self, spec: Spec) -> dict[str, nn.Module]:
        return {
            _pool(name, *size): Pool(self.pool, (side.shape[0], *size))
            for name, side in zip("AB", spec.sides, strict=True)
            for size in side.sizes
        }

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        fakes_a, fakes_b = [], []
        with turn("G_AB", "G_BA") as minimise:
            for b in turn.split(batch):
                fake_b, fake_a = p.G_AB(b.a), p.G_BA(b.b)
                adversarial = least_squares_generator(p.D_B(fake_b)) + least_squares_generator(p.D_A(fake_a))
                cycle = l1(p.G_BA(self._noisy(fake_b)), b.a) + l1(p.G_AB(self._noisy(fake_a)), b.b)
                loss = adversarial + self.weight_cycle * cycle
                if self.weight_identity and b.a.shape[1] == b.b.shape[1]:
                    identity = l1(p.G_AB(b.b), b.b) + l1(p.G_BA(b.a), b.a)
                    loss = loss + self.weight_cycle * self.weight_identity * identity
                    turn.log(identity=identity)
                minimise(loss)
                turn.log(cycle=cycle)
                fakes_a.append(fake_a.detach())
                fakes_b.append(fake_b.detach())
        shown_a, shown_b = (
            p.carried[_pool(name, *fakes[0].shape[2:])](torch.cat(fakes), batch.uniform(f"pool/{name}")).split(
                len(fakes[0])
            )
            for name, fakes in (("A", fakes_a), ("B", fakes_b))
        )
        with turn("D_A", "D_B") as minimise:
            for b, fake_a, fake_b in zip(turn.split(batch), shown_a, shown_b, strict=True):
                a_real, a_fake, b_real, b_fake = p.D_A(b.a), p.D_A(fake_a), p.D_B(b.b), p.D_B(fake_b)
                # Halved, so that D learns more slowly than G (sec. 4, training details)
                minimise((least_squares(a_real, a_fake) + least_squares(b_real, b_fake)) / 2)
                turn.note(real=a_real, fake=a_fake)
                turn.note(real=b_real, fake=b_fake)

    def _noisy(self, x: Tensor) -> Tensor:
        return x + self.noise * torch.randn_like(x) if self.noise else x


def _pool(side: str, height: int, width: int) -> str:
    """The name of the pool of one side's fakes of one size: a batch is never of two."""
    return f"pool_{side}_{height}x{width}"


SETTINGS = Settings(
    algorithm=CycleGAN(),
    adam_g=Adam(lr=Linear(2e-4, 0, 100_000, 100_000)),
    adam_d=Adam(lr=Linear(2e-4, 0, 100_000, 100_000)),
    batch_size=1,
    images=200_000,
    ema_half_life=Linear(0, 1_000, 10_000),
)

TOY = Settings(
    algorithm=CycleGAN(networks=ResBlocks(width=8, blocks=2, patch=Patch(width=8)), pool=8),
    adam_g=Adam(lr=Constant(2e-3)),
    adam_d=Adam(lr=Constant(2e-3)),
    batch_size=8,
    images=8_000,
    ema_half_life=Linear(0, 200, 2_000),
)
