"""CUT and FastCUT (Park et al. 2020, "Contrastive Learning for Unpaired Image-to-Image Translation", arXiv:2007.15651).

Symbols (paper -> here): x of X -> b.a; y of Y -> b.b; G -> p.G; G_enc -> its features; H_l -> p.F; tau -> temperature;
lambda_X -> weight_nce; lambda_Y -> weight_identity. Eq. 1 with least squares, eq. 3 to 5. FastCUT (app. C.1) is
--algorithm.weight-nce 10 --algorithm.weight-identity 0.
Differs from the paper: FastCUT's flips are the data's (`--flip`), not of its features; sampling uses an average of the
weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.game import Adam, Algorithm, Batch, Players, Settings, Source, Turn
from zerosum.losses import least_squares, least_squares_generator, patch_nce
from zerosum.networks import Patch, ResBlocks
from zerosum.networks.init import radford_
from zerosum.schedule import Constant, Linear


@dataclass(frozen=True, kw_only=True)
class CUT(Algorithm):
    """Without pairs, one way: a patch of the output must know its own patch of the input among the others."""

    networks: ResBlocks = ResBlocks()
    weight_nce: float = 1.0
    """Weight of the contrastive loss between input and output (lambda_X)."""
    weight_identity: float = 1.0
    """Weight of the same for what is on the other side already (lambda_Y)."""
    layers: tuple[int, ...] = (0, 2, 3, 4, 8)
    """Of G's encoder, whose features are compared: the image, both halvings, the first and the fifth block."""
    patches: int = 256
    """Places of an image, drawn anew each time, that are compared."""
    temperature: float = 0.07
    """By which similarities are divided (tau)."""
    features: int = 256
    """Length of the vectors that are compared."""

    @property
    def boundary(self) -> float:
        return 0.5  # between its targets, 0 and 1

    def players(self, spec: Spec) -> dict[str, nn.Module]:
        a, b = spec.sides
        if a.shape[0] != b.shape[0]:
            raise UserError(
                f"--algorithm cut: one encoder looks at both sides, which have {a.shape[0]} and {b.shape[0]} channels; "
                "give both as many with --channels, or take cyclegan"
            )
        generator = self.networks.generator(a, b)
        with torch.no_grad():
            seen = self.encoded(generator, torch.zeros(1, *a.shape))
        return {"G": generator, "F": Heads([x.shape[1] for x in seen], self.features), "D": self.networks.critic(b)}

    def encoded(self, generator: Any, x: Tensor) -> list[Tensor]:
        """G_enc(x): features at `layers`; a generator of fewer blocks gives its last."""
        last = 3 + self.networks.blocks
        return generator.features(x, sorted({min(layer, last) for layer in self.layers}))

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        with turn.ahead("G", "F"):  # one batch of fakes serves both sides
            fakes = [p.G(b.a) for b in turn.split(batch)]
        with turn("D") as minimise:
            for b, fake in zip(turn.split(batch), fakes, strict=True):
                d_real, d_fake = p.D(b.b), p.D(fake.detach())
                minimise(least_squares(d_real, d_fake) / 2)
                turn.note(real=d_real, fake=d_fake)
        places = Places(batch.source, seen, self.patches)
        with turn("G", "F") as minimise:
            for b, fake in zip(turn.split(batch), fakes, strict=True):
                nce = self.contrast(p, b.a, fake, places)
                loss = least_squares_generator(p.D(fake)) + self.weight_nce * nce
                if self.weight_identity:
                    loss = loss + self.weight_identity * self.contrast(p, b.b, p.G(b.b), places)
                minimise(loss)
                turn.log(nce=nce)

    def contrast(self, p: Players, given: Tensor, made: Tensor, places: Places) -> Tensor:
        """PatchNCE between what G's encoder sees in input and output, (n,): eq. 4, mean over layers."""
        generator = p.networks["G"]
        with torch.no_grad():
            keys = self.encoded(generator, given)
        queries = self.encoded(generator, made)
        chosen = [places(layer, x) for layer, x in enumerate(keys)]
        losses = [
            patch_nce(q, k.detach(), self.temperature)
            for q, k in zip(p.F(queries, chosen), p.F(keys, chosen), strict=True)
        ]
        return torch.stack(losses).mean(0)


class Places:
    """Which places of each layer's features a step compares, keyed by the run's seed.

    One draw for a whole step: all processes and micro-batches compare the same places.
    """

    def __init__(self, source: Source, seen: int, count: int) -> None:
        self.source, self.seen, self.count = source, seen, count
        self.drawn: dict[tuple[int, int], Tensor] = {}

    def __call__(self, layer: int, x: Tensor) -> Tensor:
        """Up to `count` of the h w places of features (n, c, h, w), none twice, (s,) int64."""
        among = x.shape[2] * x.shape[3]
        if (layer, among) not in self.drawn:
            numbers = self.source.uniform(f"cut/{layer}/{among}", self.seen * among, among)
            self.drawn[layer, among] = numbers.topk(min(self.count, among)).indices
        return self.drawn[layer, among]


class Heads(nn.Module):
    """H_l: for each layer's features a small network (linear, ReLU, linear) to vectors of unit length (sec. 3.2)."""

    def __init__(self, widths: Sequence[int], features: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, features), nn.ReLU(), nn.Linear(features, features)) for width in widths
        )
        radford_(self)

    def forward(self, x: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Features (n, c, h, w) of each layer at its places (s,): (n, s, features)."""
        found = []
        for layer, values, place in zip(self.layers, x, places, strict=True):
            vectors = values.flatten(2)[:, :, place].transpose(1, 2)  # (n, s, c)
            found.append(F.normalize(layer(vectors), dim=2))
        return found


SETTINGS = Settings(
    algorithm=CUT(),
    adam_g=Adam(lr=Linear(2e-4, 0, 100_000, 100_000)),
    adam_d=Adam(lr=Linear(2e-4, 0, 100_000, 100_000)),
    batch_size=1,
    images=200_000,
    ema_half_life=Linear(0, 1_000, 10_000),
)

TOY = Settings(
    algorithm=CUT(networks=ResBlocks(width=8, blocks=2, patch=Patch(width=8)), patches=32, features=16),
    adam_g=Adam(lr=Constant(2e-3)),
    adam_d=Adam(lr=Constant(2e-3)),
    batch_size=8,
    images=8_000,
    ema_half_life=Linear(0, 200, 2_000),
)
