"""New items for a taste: latents whose images score high and stay real (Kang et al. 2017, arXiv:1711.02231, sec. 3.3).

Symbols (paper -> here): x_ui = theta_u . Phi(G(z, c)) -> score(G(z, c)); eta, the weight of D's verdict -> a bound
instead: a design is let through where D finds it no less real than AS_REAL of real items, and where it lies no farther
from the catalogue than AS_NEAR of them. Differs from the paper: any scorer; distinct results; a start; of all that was
found those are chosen whose score holds when they are moved by a pixel, for a search finds the scorer's own errors, too
(docs/log.md, 2026-12-02).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import randomness
from zerosum.data.loader import scale
from zerosum.errors import UserError
from zerosum.latent.inversion import BEYOND
from zerosum.metrics.neighbours import nearest_few
from zerosum.sample import CHUNK, Model, to_uint8

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from zerosum.metrics.features.base import Extractor

CPU = torch.device("cpu")
RATE = 0.05  # of Adam on latents, falling to nothing; the standard deviation of blind steps, too
NEIGHBOURS, COMPARED = 5, 2_000
ENOUGH = 100  # items of the classes asked for, for bounds of these alone
AS_REAL, AS_NEAR = 0.9, 0.75  # of real items: a design is no less real to D, and no farther from the catalogue
MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # pixels, down and to the right
APART = 0.5  # of the median distance between candidates: nearer ones count as one design
PULL = 10.0  # of the score's spread: what falling short of D's bound costs
FOLLOWED = 8  # starts for each design that is wanted
Told = Callable[[int, int], None]
Judge = Callable[[Tensor], Tensor]
"""A scorer whose answers were looked at: images (n, C, H, W) -> float32 (n,)."""


@runtime_checkable
class Scorer(Protocol):
    """Any judge of images: (n, C, H, W) in [-1, 1] -> (n,), the higher the better. Followed uphill where it can be.

    A tensor, or what torch.as_tensor makes one of: an array, a list of numbers. Only a tensor can be followed.
    """

    def __call__(self, images: Tensor, /) -> Tensor | np.ndarray | Sequence[float]: ...


@dataclass(frozen=True, eq=False)
class Designs:
    """Images uint8 (n, C, H, W) from the best on, their latents, classes, scores, and how real they are."""

    images: np.ndarray
    z: Tensor
    label: Tensor | None
    scores: Tensor
    """Means over MOVES."""
    realism: Tensor
    """D's logits."""
    distance: Tensor
    """To the NEIGHBOURS-th nearest item of the catalogue, in the extractor's features."""
    limit: tuple[float, float]
    """Bounds of the two: the least logit, the largest distance."""
    real: bool
    """False if too few were real enough, and the most liked of the others make up the number."""
    apart: int
    """How many of them, from the first on, are not like another; the rest make up the number."""


@dataclass(frozen=True, eq=False)
class Studio:
    """What designs are made with: a generator, its critic, and the catalogue that they are to be like."""

    model: Model
    critic: nn.Module
    extractor: Extractor
    items: np.ndarray
    """Images uint8 (n, C, H, W) of the catalogue."""
    labels: np.ndarray | None = None

    def bounds(self, classes: Int[Tensor, " c"] | None = None) -> tuple[float, float]:
        """The logit of D that AS_REAL of real items reach, and the distance to the catalogue that AS_NEAR keep to.

        Of items of these classes, if the catalogue has ENOUGH; else of all. UserError for a catalogue of a few items.
        """
        half = len(self.items) // 2
        if half <= NEIGHBOURS:
            raise UserError(f"the catalogue has {len(self.items)} items; {2 * NEIGHBOURS + 2} or more are needed")
        one, other = self._halves()
        if classes is not None and self.labels is not None:
            asked = one[np.isin(self.labels[one], classes.numpy())]
            one = asked if len(asked) >= ENOUGH else one
        some = self.items[one[:COMPARED]]
        near = nearest_few(self.extractor(some), self.extractor(self.items[other]), NEIGHBOURS)[0][:, -1]
        kind = None if self.labels is None else torch.from_numpy(self.labels[one[:COMPARED]])
        logits = self._logits(scale(some, torch.float32, CPU), kind)
        return float(logits.quantile(1 - AS_REAL)), float(near.quantile(AS_NEAR))

    def _halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The catalogue in two, shuffled: how near real items of the one are to the other is what designs keep to."""
        order = randomness.permutation(0, "design/halves", 0, len(self.items))
        half = len(order) // 2
        return order[:half], order[half : 2 * half]

    @torch.no_grad()
    def _logits(self, x: Tensor, label: Tensor | None) -> Tensor:
        parts = [
            self.critic(x[i : i + CHUNK], None if label is None else label[i : i + CHUNK]).float().flatten()
            for i in range(0, len(x), CHUNK)
        ]
        return torch.cat(parts)

    def design(
        self, score: Scorer, n: int = 12, *, near: Float[Tensor, " z"] | None = None, reach: float = 0.5,
        classes: Int[Tensor, " c"] | None = None, drawn: int = 4_000, steps: int = 60, seed: int = 0,
        told: Told | None = None,
    ) -> Designs:  # fmt: skip
        """n designs that `score` likes, each unlike the others.

        `near`: a latent to stay by, within `reach` of its length. `classes`: draw from these alone. Of `drawn` latents
        the best are followed for `steps` steps. UserError for counts below 1, a reach that is not above 0, up to 2, a
        start or classes that the generator does not know, and for a scorer that does not give a finite number for each
        image.
        """
        check_search(n, steps, seed, reach)
        self._check(near, classes)
        judge = _checked(score)
        logit, distance = self.bounds(classes)
        z, label = self._drawn(max(drawn, FOLLOWED * n), near, reach, classes, seed)
        values = torch.cat([judge(self._made(z[i : i + CHUNK], label, i)).detach() for i in range(0, len(z), CHUNK)])
        best = values.topk(min(FOLLOWED * n, len(values))).indices
        kind = None if label is None else label[best]
        z = self._followed(judge, z[best], kind, logit, near, reach, steps, float(values.std()), seed, told)
        images = torch.cat([self._made(z[i : i + CHUNK], kind, i) for i in range(0, len(z), CHUNK)])
        made = to_uint8(images)
        found = self.extractor(made)
        far = nearest_few(found, self.extractor(self.items[self._halves()[1]]), NEIGHBOURS)[0][:, -1]
        x = scale(made, torch.float32, CPU)
        worth = torch.cat([steady(judge, x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)])
        logits = self._logits(x, kind)
        fits = (logits >= logit) & (far <= distance)
        chosen, real, apart = _distinct(worth, fits, found, n)
        return Designs(
            made[chosen.numpy()], z[chosen], None if kind is None else kind[chosen], worth[chosen], logits[chosen],
            far[chosen], (logit, distance), real, apart,
        )  # fmt: skip

    def _check(self, near: Tensor | None, classes: Tensor | None) -> None:
        if near is not None and near.shape != (self.model.latent,):
            raise UserError(f"near: a latent of shape {tuple(near.shape)}; give one of ({self.model.latent},)")
        known = self.model.spec.classes
        if classes is not None and (not len(classes) or not bool(((classes >= 0) & (classes < known)).all())):
            of = f"0 to {known - 1}" if known else "none, for the run was trained without labels"
            raise UserError(f"classes {classes.tolist()}: the run's are {of}")

    def _drawn(
        self, count: int, near: Tensor | None, reach: float, classes: Tensor | None, seed: int
    ) -> tuple[Tensor, Tensor | None]:
        z = randomness.normal(seed, "design", 0, count, self.model.latent).float()
        if near is not None:
            far = randomness.uniform(seed, "design/far", 0, count).float()
            z = self._within(near + reach * near.norm() * far * z / z.norm(dim=1, keepdim=True), near, reach)
        if not self.model.spec.classes:
            return z, None
        among = torch.arange(self.model.spec.classes) if classes is None else classes
        return z, among[torch.arange(count) % len(among)]

    def _made(self, z: Tensor, label: Tensor | None, first: int) -> Tensor:
        with torch.no_grad():
            kind = None if label is None else label[first : first + len(z)]
            return self.model.generator(z, kind).clamp(-1, 1)

    def _followed(
        self, score: Judge, z: Tensor, label: Tensor | None, logit: float, near: Tensor | None, reach: float,
        steps: int, spread: float, seed: int, told: Told | None,
    ) -> Tensor:  # fmt: skip
        """Each latent towards higher scores while D's logit is no lower than the bound, the best of each on the way."""
        spread = max(spread, 1e-6)

        def part(at: Tensor, first: int) -> Tensor:
            kind = None if label is None else label[first : first + len(at)]
            images = self.model.generator(at, kind).clamp(-1, 1)
            short = torch.relu(logit - self.critic(images, kind).float().flatten())
            return score(images) / spread - PULL * short

        def worth(at: Tensor) -> Tensor:
            return torch.cat([part(at[i : i + CHUNK], i) for i in range(0, len(at), CHUNK)])

        with torch.no_grad():
            best, kept = worth(z), z.clone()
            images = self.model.generator(z[:1], None if label is None else label[:1]).clamp(-1, 1)
        move = _Uphill(part, z, steps) if _can_be_followed(score, images) else _Blind(seed)
        for step in range(steps):
            trial = self._within(move(kept), near, reach)
            move.take(trial)
            with torch.no_grad():
                value = worth(trial)
            better = value > best
            best = torch.where(better, value, best)
            kept = torch.where(better[:, None], trial, kept)
            if told:
                told(step + 1, steps)
        return kept

    def _within(self, z: Tensor, near: Tensor | None, reach: float) -> Tensor:
        """Brought back to where G was trained, and to within reach of the start."""
        if near is not None:
            apart = z - near
            z = near + apart * (reach * near.norm() / apart.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        longest = math.sqrt(z.shape[1]) + BEYOND
        return z * (longest / z.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)


def check_search(n: int, steps: int, seed: int, reach: float) -> None:
    """UserError for numbers that no search can be made with."""
    for name, count, least in (("-n", n, 1), ("--steps", steps, 1), ("--seed", seed, 0)):
        if count < least:
            raise UserError(f"{name} {count}: must be {least} or more")
    if not 0 < reach <= 2:
        raise UserError(f"--reach {reach:g}: must be above 0, up to 2")


@torch.no_grad()
def steady(score: Judge, x: Tensor) -> Tensor:
    """The score of images (n, C, H, W), a mean over MOVES: what a pixel's move takes away was not of the item."""
    height, width = x.shape[2:]
    wide = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return torch.stack([score(wide[:, :, 1 + b : 1 + b + height, 1 + a : 1 + a + width]) for b, a in MOVES]).mean(0)


def _checked(score: Scorer) -> Judge:
    """The scorer, whose answers are a finite number for each image. UserError for another answer."""

    def checked(images: Tensor) -> Tensor:
        n, given = len(images), score(images)
        try:
            found = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the scorer gave {type(given).__name__} for {n} images, which is no tensor ({error}); "
                f"return a tensor, an array or a list of {n} numbers"
            ) from error
        if found.numel() != n:
            raise UserError(f"the scorer gave {tuple(found.shape)} for {n} images; return ({n},)")
        if found.is_complex():
            raise UserError("the scorer gave complex numbers; return real ones")
        found = found.flatten().float()
        if not bool(found.isfinite().all()):
            raise UserError("the scorer gave a score that is no finite number; return finite numbers")
        return found

    return checked


def _can_be_followed(score: Judge, images: Tensor) -> bool:
    """Whether the scorer has a gradient by its images."""
    try:
        with torch.enable_grad():
            at = images.detach().requires_grad_()
            value = score(at)
            # Not by the scorer's own parameters, which its images may have left behind.
            return value.requires_grad and torch.autograd.grad(value.sum(), at, allow_unused=True)[0] is not None
    except RuntimeError:  # it leaves torch on its way, which an image that asks for a gradient forbids
        return False


class _Uphill:
    """Adam on latents, from where they were left."""

    def __init__(self, worth: Callable[[Tensor, int], Tensor], z: Tensor, steps: int) -> None:
        self.worth, self.z, self.steps, self.done = worth, z.clone().requires_grad_(), steps, 0
        self.adam = torch.optim.Adam([self.z], RATE)

    def __call__(self, kept: Tensor) -> Tensor:
        for group in self.adam.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * self.done / self.steps)) / 2
        self.done += 1
        with torch.enable_grad():
            # By the latents alone: a scorer's own parameters are not to collect anything.
            parts = [
                torch.autograd.grad(-self.worth(at := self.z[i : i + CHUNK], i).sum(), at)[0]
                for i in range(0, len(self.z), CHUNK)
            ]
        self.z.grad = torch.cat(parts)
        self.adam.step()
        return self.z.detach().clone()

    @torch.no_grad()
    def take(self, z: Tensor) -> None:
        """Go on from here."""
        self.z.copy_(z)


class _Blind:
    """A step at random from the best so far: for scorers that cannot be followed."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(randomness.torch_seed(seed, "design/steps", 0))

    def __call__(self, kept: Tensor) -> Tensor:
        return kept + RATE * torch.randn(kept.shape, generator=self.random)

    def take(self, z: Tensor) -> None:
        """It always goes on from the best."""


def _distinct(worth: Tensor, fits: Tensor, features: Tensor, n: int) -> tuple[Tensor, bool, int]:
    """n numbers, none near another of them, from the best on: those that fit, then others. Whether all of them fit.

    Where too few are distinct, fitting or not, their like come after them: the third is how many are distinct. None is
    there twice, so that there may be fewer than n.
    """
    apart = torch.cdist(features.double(), features.double())
    least = APART * float(apart[apart > 0].median()) if bool((apart > 0).any()) else 0.0
    order = sorted(range(len(worth)), key=lambda i: (not bool(fits[i]), -float(worth[i])))
    chosen: list[int] = []
    distinct: list[int] = []
    for bound in (least, 0.0):
        for i in order:
            if len(chosen) < n and i not in chosen and all(float(apart[i, j]) > bound for j in chosen):
                chosen.append(i)
        distinct.append(len(chosen))
    index = torch.tensor(chosen[:n])
    return index, bool(fits[index].all()), distinct[0]
