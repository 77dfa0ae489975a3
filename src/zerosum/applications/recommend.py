"""Recommenders from implicit feedback, by Bayesian personalised ranking (Rendle et al. 2009, arXiv:1205.2618).

Each learns x_uij = x_ui - x_uj > 0 for items i that user u has taken and j that u has not, by ascending
ln sigma(x_uij) - lambda |parameters|^2 (eq. 4) on triplets drawn at random; they differ in what x_ui is:

    popularity  how often i was taken
    BPR         beta_i + gamma_u . gamma_i (Rendle et al. 2009, sec. 4.3.1)
    VBPR        BPR + theta_u . E f_i + beta' . f_i, f_i given features (He and McAuley 2016, arXiv:1510.01784, eq. 4)
    DVBPR       beta_i + theta_u . Phi(image_i), Phi a trained network (Kang et al. 2017, arXiv:1711.02231, eq. 3)

BPR's and VBPR's biases do not decay; VBPR's E decays once a batch; their steps are Adagrad's, row by row where a
parameter has a row for each user or item: rare ones move as far. DVBPR differs from its paper: see there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum import randomness
from zerosum.applications.taste import Interactions, Ranking, Scores, Split, joined, ranking, untaken
from zerosum.ema import EMA
from zerosum.engine import kept_memory
from zerosum.errors import UserError
from zerosum.metrics.features.base import unit
from zerosum.schedule import Linear

TINY = 1e-8
BATCH = 8_192  # triplets, of what has no network
IMAGES, OTHERS, MOST = 256, 16, 4_096  # of what has one: see Triplets.among
WEIGHT_DECAY, BIAS_RATE = 2.0, 10.0  # of DVBPR: of all of Phi, as in AdamW; of beta's steps, over the others'
HALF_LIFE = Linear(0, 90_000, 600_000)  # of its mean, in images
PATIENCE = 3  # looks at the validation items without a gain, after which training ends


class Triplets:
    """User, item that was taken, item that was not: endless, by seed. What users took is looked up in a sorted list.

    Items that nobody took are in no triplet: they may be new, and would be learned as what everyone dislikes.
    """

    def __init__(self, known: Interactions, seed: int) -> None:
        self.known, self.items = known, len(known.items)
        self.random = np.random.Generator(np.random.Philox(key=randomness.key(seed, "triplets")))
        self._taken = np.unique(known.user * self.items + known.item)
        self._others = np.unique(known.item)
        room = np.bincount(self._taken // self.items, minlength=len(known.users)) < len(self._others)
        self._rows = np.flatnonzero(room[known.user])  # of users who left something
        self._by_item = self._rows[np.argsort(known.item[self._rows], kind="stable")]
        self._first = np.searchsorted(known.item[self._by_item], np.arange(self.items + 1))
        self._waiting = self._others[:0]
        if not len(self._rows):
            raise UserError(
                "--interactions: every user took every item that anyone took; there is no taste to learn: "
                "two users or more are needed who took different items"
            )

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """(u, i, j), each int64 (count,). j is any item that others took and u did not."""
        chosen = self._rows[self.random.integers(0, len(self._rows), count)]
        user, item = self.known.user[chosen], self.known.item[chosen]
        other = self._others[self.random.integers(0, len(self._others), count)]
        wrong = np.arange(count)
        while len(wrong := wrong[self._took(user[wrong], other[wrong])]):
            other[wrong] = self._others[self.random.integers(0, len(self._others), len(wrong))]
        return torch.from_numpy(user), torch.from_numpy(item), torch.from_numpy(other)

    def among(self, images: int = IMAGES, others: int = OTHERS, most: int = MOST) -> tuple[Tensor, Tensor, Tensor]:
        """The same of `images` items alone: those who took one (up to `most` such pairs), each beside up to `others`.

        An image is what costs: it is looked at once for all triplets that it is in. Every item comes as often as any.
        Others that the user took, too, are left out, not drawn again.
        """
        user = item = other = np.arange(0)
        while not len(user):
            if len(self._waiting) < min(images, len(self._others)):
                self._waiting = self.random.permutation(self._others)
            here, self._waiting = self._waiting[:images], self._waiting[images:]
            rows = np.concatenate([self._by_item[self._first[item] : self._first[item + 1]] for item in here])
            if len(rows) > most:
                rows = rows[self.random.choice(len(rows), most, replace=False)]
            user, item = (part[rows].repeat(others) for part in (self.known.user, self.known.item))
            other = here[self.random.integers(0, len(here), len(user))]
            left = ~self._took(user, other)
            user, item, other = user[left], item[left], other[left]
        return torch.from_numpy(user), torch.from_numpy(item), torch.from_numpy(other)

    def _took(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        key = user * self.items + item
        return self._taken[np.searchsorted(self._taken, key).clip(max=len(self._taken) - 1)] == key


class Rows:
    """A parameter with a row for each user or item, and how far each row has come (Adagrad, by row)."""

    def __init__(self, count: int, size: int, spread: float, generator: torch.Generator) -> None:
        self.value = spread * torch.randn(count, size, generator=generator)
        self.sum = torch.zeros(count)

    def of(self, index: Tensor) -> Tensor:
        """Rows `index` (n,), (n, size). Five times as quick as indexing."""
        return self.value.index_select(0, index)

    def ascend(self, index: Tensor, gradient: Tensor, rate: float) -> None:
        """Rows `index` (n,) by `gradient` (n, size); a row that is there twice moves by both."""
        self.sum.index_add_(0, index, gradient.square().mean(1))
        step = gradient * (rate / (self.sum.index_select(0, index) + TINY).sqrt())[:, None]
        self.value.index_add_(0, index, step)


class Dense:
    """A parameter that every triplet moves (Adagrad)."""

    def __init__(self, *shape: int, spread: float, generator: torch.Generator) -> None:
        self.value = spread * torch.randn(*shape, generator=generator)
        self.sum = torch.zeros(*shape)

    def ascend(self, gradient: Tensor, rate: float) -> None:
        self.sum.addcmul_(gradient, gradient)
        self.value.addcdiv_(gradient, self.sum.sqrt() + TINY, value=rate)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all of them, but that DVBPR's steps are Adam's at a rate of its own."""

    factors: int = 64
    rate: float = 0.1
    decay: float = 1e-3
    """lambda: how strongly factors are drawn to 0."""
    seed: int = 0


class BPR:
    """Factors of users and items: x_ui = beta_i + gamma_u . gamma_i."""

    name = "BPR"

    def __init__(self, users: int, items: int, settings: Settings = Settings()) -> None:
        self.settings = settings
        generator = torch.Generator().manual_seed(randomness.torch_seed(settings.seed, "recommend", 0))
        spread = 1 / math.sqrt(settings.factors)
        self.user = Rows(users, settings.factors, spread, generator)
        self.item = Rows(items, settings.factors, spread, generator)
        self.bias = Rows(items, 1, 0.0, generator)

    @torch.no_grad()
    def step(self, u: Tensor, i: Tensor, j: Tensor) -> float:
        """One ascent on triplets (n,); the mean of -ln sigma(x_uij)."""
        s = self.settings
        mine, taken, left = self.user.of(u), self.item.of(i), self.item.of(j)
        apart = taken - left
        x = (mine * apart).sum(1) + (self.bias.of(i) - self.bias.of(j))[:, 0]
        pull = torch.sigmoid(-x)[:, None]
        self.user.ascend(u, pull * apart - s.decay * mine, s.rate)
        self.item.ascend(i, pull * mine - s.decay * taken, s.rate)
        self.item.ascend(j, -pull * mine - s.decay * left, s.rate)
        self.bias.ascend(i, pull, s.rate)
        self.bias.ascend(j, -pull, s.rate)
        return float(F.softplus(-x).mean())

    def state(self) -> list[Tensor]:
        """What it has learned."""
        return [self.user.value, self.item.value, self.bias.value, self.item.sum]

    def load_state(self, state: list[Tensor]) -> None:
        self.user.value, self.item.value, self.bias.value, self.item.sum = state

    def scores(self, users: np.ndarray) -> np.ndarray:
        met = self.item.sum > 0  # of an item that is in no triplet nothing is known: its factors are what they began as
        item = self.item.value * met[:, None]
        return (self.user.value[torch.from_numpy(users)] @ item.T + self.bias.value[:, 0]).numpy()


class VBPR:
    """Factors, and factors of what an item looks like: + theta_u . E f_i + beta' . f_i."""

    name = "VBPR"

    def __init__(self, users: int, features: np.ndarray, settings: Settings = Settings()) -> None:
        """`features` float (items, d), such as an ImageNet network's; standardised here."""
        self.settings = settings
        found = torch.from_numpy(np.asarray(features, dtype=np.float32))
        found = (found - found.mean(0)) / (found.std(0) + 1e-6)
        self.features = found / math.sqrt(found.shape[1])
        self.plain = BPR(users, len(features), settings)
        generator = torch.Generator().manual_seed(randomness.torch_seed(settings.seed, "recommend", 1))
        k, d = settings.factors, found.shape[1]
        self.taste = Rows(users, k, 1 / math.sqrt(k), generator)
        self.embed = Dense(d, k, spread=1.0, generator=generator)
        self.bias = Dense(d, spread=0.0, generator=generator)

    @torch.no_grad()
    def step(self, u: Tensor, i: Tensor, j: Tensor) -> float:
        s, plain = self.settings, self.plain
        mine, taken, left = plain.user.of(u), plain.item.of(i), plain.item.of(j)
        apart, taste = taken - left, self.taste.of(u)
        seen = self.features.index_select(0, i).sub_(self.features.index_select(0, j))
        shown = seen @ self.embed.value
        x = (mine * apart).sum(1) + (taste * shown).sum(1) + seen @ self.bias.value
        x += (plain.bias.of(i) - plain.bias.of(j))[:, 0]
        pull = torch.sigmoid(-x)[:, None]
        plain.user.ascend(u, pull * apart - s.decay * mine, s.rate)
        plain.item.ascend(i, pull * mine - s.decay * taken, s.rate)
        plain.item.ascend(j, -pull * mine - s.decay * left, s.rate)
        plain.bias.ascend(i, pull, s.rate)
        plain.bias.ascend(j, -pull, s.rate)
        self.taste.ascend(u, pull * shown - s.decay * taste, s.rate)
        n = len(u)
        self.embed.ascend(seen.T @ (pull * taste) / n - s.decay * self.embed.value / n, s.rate)
        self.bias.ascend(seen.T @ pull[:, 0] / n, s.rate)
        return float(F.softplus(-x).mean())

    def state(self) -> list[Tensor]:
        return [*self.plain.state(), self.taste.value, self.embed.value, self.bias.value]

    def load_state(self, state: list[Tensor]) -> None:
        self.plain.load_state(state[:4])
        self.taste.value, self.embed.value, self.bias.value = state[4:]

    def scores(self, users: np.ndarray) -> np.ndarray:
        u = torch.from_numpy(users)
        visual = self.taste.value[u] @ (self.features @ self.embed.value).T + self.features @ self.bias.value
        return self.plain.scores(users) + visual.numpy()


class ImageNetwork(nn.Module):
    """Phi: images (n, C, H, W) in [-1, 1] -> what a taste is held against, (n, factors).

    Four strided convolutions and a linear layer; the paper's CNN-F is of 224 x 224 pixels.
    """

    def __init__(self, channels: int, height: int, width: int, factors: int, base: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for features in (base, 2 * base, 4 * base, 4 * base):
            if min(height, width) <= 2:
                break
            layers += [nn.Conv2d(inputs, features, 3, 2, 1), nn.ReLU()]
            inputs, height, width = features, -(-height // 2), -(-width // 2)
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(inputs * height * width, factors)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x).flatten(1))


class _Weights(nn.Module):
    """Phi, theta and beta."""

    def __init__(self, users: int, items: int, shape: tuple[int, ...], factors: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.network = ImageNetwork(channels, height, width, factors)
        self.taste = nn.Embedding(users, factors)
        self.bias = nn.Parameter(torch.zeros(items))


class DVBPR:
    """What an item looks like: x_ui = theta_u . Phi(image_i), of new items, too; and beta_i of those that were taken.

    Differs from the paper: beta_i takes up what has nothing to do with a user's taste, such as how often an item was
    offered, which Phi would learn by heart; Phi's weights decay as in AdamW; what is used is a mean over the last
    steps (Polyak and Juditsky 1992). Tastes, Phi's outputs and beta decay by the settings' lambda.
    """

    name = "DVBPR"

    def __init__(self, users: int, images: np.ndarray, settings: Settings = Settings(), rate: float = 1e-3) -> None:
        """`images` uint8 (items, C, H, W)."""
        self.settings, self.images, self.seen = settings, images, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.torch_seed(settings.seed, "recommend", 2))
            self._live = _Weights(users, len(images), images.shape[1:], settings.factors)
        nn.init.normal_(
            self._live.taste.weight, 0.0, 1 / math.sqrt(settings.factors),
            generator=torch.Generator().manual_seed(randomness.torch_seed(settings.seed, "recommend", 3)),
        )  # fmt: skip
        self._ema = EMA(self._live)
        mean = self._ema.network
        assert isinstance(mean, _Weights)
        self.mean, self.network, self.taste = mean, mean.network, mean.taste
        groups: list[dict[str, Any]] = [
            {"params": self._live.network.parameters(), "weight_decay": WEIGHT_DECAY},
            {"params": self._live.taste.parameters()},
            {"params": [self._live.bias], "lr": BIAS_RATE * rate},
        ]
        self.adam = torch.optim.AdamW(groups, rate, weight_decay=0.0, fused=True)

    def step(self, u: Tensor, i: Tensor, j: Tensor) -> float:
        """One of Adam's on triplets (n,) among a few items: it holds a number for each user and item in them."""
        live, n = self._live, len(u)
        who, user = torch.unique(u, return_inverse=True)
        seen, item = torch.unique(torch.cat([i, j]), return_inverse=True)
        phi, taste, beta = live.network(unit(self.images[seen.numpy()])), live.taste(who), live.bias[seen]
        worth = (taste @ phi.T + beta).flatten()  # x_ui of everyone and everything that is in a triplet
        row = user * len(seen)
        loss = F.softplus(worth.index_select(0, row + item[n:]) - worth.index_select(0, row + item[:n])).mean()
        lengths = taste.square().sum(1).mean() + phi.square().sum(1).mean() + beta.square().mean()
        self.adam.zero_grad()
        (loss + self.settings.decay * lengths).backward()
        self.adam.step()
        self.seen += len(seen)
        self._ema.update(len(seen), HALF_LIFE(self.seen))
        return float(loss.detach())

    def state(self) -> list[Tensor]:
        return [p.detach() for p in self.mean.parameters()]

    @torch.no_grad()
    def load_state(self, state: list[Tensor]) -> None:
        """To be used as it was; Adam's own memory and the weights that it moves stay as they are."""
        for mine, was in zip(self.mean.parameters(), state, strict=True):
            mine.copy_(was)

    @torch.no_grad()
    def embedded(self, images: np.ndarray, at_once: int = 1_000) -> Tensor:
        """Phi of images uint8 (n, C, H, W)."""
        return torch.cat([self.network(unit(images[k : k + at_once])) for k in range(0, len(images), at_once)])

    @torch.no_grad()
    def scores(self, users: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
        """Of its own items, or of other `images` uint8 (items, C, H, W), by their looks alone."""
        shown = self.embedded(self.images if images is None else images)
        liked = self.taste.weight[torch.from_numpy(users)] @ shown.T
        return (liked + self.mean.bias if images is None else liked).numpy()


Model = BPR | VBPR | DVBPR


def popularity(known: Interactions) -> Scores:
    """Every user is offered what is taken most."""
    counts = np.bincount(known.item, minlength=len(known.items)).astype(np.float64)
    return lambda users: np.tile(counts, (len(users), 1))


@dataclass(frozen=True)
class Look:
    """How far training was, and how well the items to choose by stood."""

    steps: int
    triplets: int
    loss: float
    validation: Ranking


def train(
    model: Model, split: Split, *, steps: int | None = None, triplets: int | None = None, looks: int = 10,
    seed: int = 0, told: Callable[[int, int], None] | None = None,
) -> list[Look]:  # fmt: skip
    """Up to `steps`, or to `triplets`; fewer if the items to choose by stand no better for PATIENCE looks.

    It is left as it was at its best. Without items to choose by, all of them.
    """
    drawn = Triplets(split.train, seed)
    found: list[Look] = []
    best, kept, since = -math.inf, None, 0
    count, taken, seen = steps if triplets is None else triplets, 0, 0
    assert count, "steps or triplets"
    for target in _marks(count, looks):
        losses = []
        with kept_memory():
            while (done := taken if triplets is None else seen) < target:
                some = drawn.among() if isinstance(model, DVBPR) else drawn.draw(BATCH)
                losses.append(model.step(*some))
                taken, seen = taken + 1, seen + len(some[0])
                if told:
                    told(min(done + 1, count), count)
        stands = ranking(model.scores, split.validation, split.train, ~split.cold)
        found.append(Look(taken, seen, float(np.mean(losses)) if losses else math.nan, stands))
        if not stands.count:
            continue
        if stands.auc > best:
            best, kept, since = stands.auc, copy.deepcopy(model.state()), 0
        else:
            since += 1
        if since >= PATIENCE:
            break
    if kept is not None:
        model.load_state(kept)
    return found


def at_best(found: list[Look]) -> Look:
    """Where the items to choose by stood best, as which `train` leaves the model; the last look, if there were none."""
    return max(found, key=lambda look: look.validation.auc) if found[-1].validation.count else found[-1]


def train_on_all(
    model: Model, split: Split, *, steps: int, seed: int = 0, told: Callable[[int, int], None] | None = None
) -> None:
    """All of `steps`, of everything that users took, also what was held out: to be used, not to be measured."""
    known = joined(split.train, split.validation, split.test)
    nothing = known.of(np.arange(0))
    train(model, Split(known, nothing, nothing, untaken(known)), steps=steps, looks=1, seed=seed, told=told)


def _marks(count: int, looks: int) -> Iterator[int]:
    looks = min(looks, count)  # each after a step at least: what has not learned is not to be found best
    for look in range(1, looks + 1):
        yield count * look // looks
