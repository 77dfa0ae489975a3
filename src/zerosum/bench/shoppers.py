"""Simulated shoppers with hidden tastes: what a recommender is to find out, and no model may look at.

No interactions come with public images of clothes that may be used here, so this stands in for them. It was written and
committed before any model that is tried on it; no module outside `bench` imports it (a test holds that), and its
numbers were not changed to suit one.

An item has eight visual attributes, measured on its pixels and standardised over the catalogue (`attributes`), and a
class. A shopper has a taste t over the attributes (three of them matter, drawn from N(0, 1)), an affinity to each class
(Dirichlet, a few classes each), and shops `visits` times. On a visit the shopper is shown `shown` items, drawn by
popularity (log-normal, hidden too, so that what is shown often is bought often), and takes the one of highest
utility + noise, where

    utility(item) = TASTE t.a(item) / |t| + CLASS log affinity(class of item) + POPULARITY log popularity(item)

and the noise is Gumbel's with scale `noise` (so that choices are a softmax of the utility). `preference` is the utility
without popularity: what a shopper would say of an item that nobody has seen yet. Of the items a share is cold: shown on
the last visit alone, and then nothing else is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerosum import randomness

ATTRIBUTES = (
    "brightness", "coverage", "tallness", "texture", "height of the middle", "asymmetry", "contrast", "stripes",
)  # fmt: skip
LIT = 24  # of 255: darker pixels are ground
TASTE, CLASS, POPULARITY = 2.0, 0.7, 0.5  # weights of the parts of utility
MATTER = 3  # attributes that matter to a shopper
FEW_CLASSES = 0.3  # of Dirichlet: the smaller, the fewer classes a shopper likes


def attributes(images: np.ndarray) -> np.ndarray:
    """What is seen of an item: float64 (n, 8), in the order of ATTRIBUTES, from grey images uint8 (n, 1, H, W)."""
    x = images[:, 0].astype(np.float64)
    height, width = x.shape[1:]
    lit = x > LIT
    area = np.maximum(lit.sum((1, 2)), 1)
    mean = (x * lit).sum((1, 2)) / area
    rows, columns = lit.any(2).sum(1), lit.any(1).sum(1)
    down = np.abs(np.diff(x, axis=1)).sum((1, 2)) / area
    across = np.abs(np.diff(x, axis=2)).sum((1, 2)) / area
    middle = (lit * np.arange(height)[None, :, None]).sum((1, 2)) / area
    spread = np.sqrt(((x - mean[:, None, None]) ** 2 * lit).sum((1, 2)) / area)
    return np.stack([
        mean, area / (height * width), rows / np.maximum(columns, 1), down + across, height - middle,
        np.abs(x - x[:, :, ::-1]).mean((1, 2)), spread, down - across,
    ], 1)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Visits:
    """Who took what, in order of time: users, items and times int64 (n,)."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray


class Shoppers:
    """A catalogue of grey images uint8 (n, 1, H, W) of classes int64 (n,), and those who shop there."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, *, users: int = 2_000, visits: int = 30, shown: int = 40,
        noise: float = 0.5, cold_share: float = 0.1, seed: int = 0,
    ) -> None:  # fmt: skip
        self.images, self.labels, self.users, self.seed = images, labels, users, seed
        self.visits, self.shown, self.noise = visits, shown, noise
        random = self._random("world")
        self._seen = attributes(images)
        self._centre, self._scale = self._seen.mean(0), self._seen.std(0) + 1e-9
        taste = random.standard_normal((users, len(ATTRIBUTES)))
        matters = np.argsort(random.random(taste.shape), 1) < MATTER
        self._taste = taste * matters / np.linalg.norm(taste * matters, axis=1, keepdims=True)
        classes = int(labels.max()) + 1
        self._affinity = np.log(random.dirichlet(np.full(classes, FEW_CLASSES), users) + 1e-3)
        self._popularity = random.standard_normal(len(labels))
        self.cold = random.random(len(labels)) < cold_share
        """Which items nobody is shown before the last visit, bool (n,)."""

    def _random(self, purpose: str) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=randomness.key(self.seed, f"shoppers/{purpose}")))

    def preference(self, user: int, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """What a shopper truly thinks of any images uint8 (n, 1, H, W) of these classes, float64 (n,)."""
        return self._liking(user, attributes(images), labels)

    def _liking(self, user: int, seen: np.ndarray, labels: np.ndarray) -> np.ndarray:
        taste = (seen - self._centre) / self._scale @ self._taste[user]
        return TASTE * taste + CLASS * self._affinity[user][labels]

    def utilities(self, users: np.ndarray, *, popularity: bool) -> np.ndarray:
        """Of the whole catalogue to these users, float64 (n, items): what a recommender would have to know."""
        known = POPULARITY * self._popularity if popularity else 0.0
        return np.stack([self._liking(user, self._seen, self.labels) + known for user in users.tolist()])

    def shop(self) -> Visits:
        """All visits of everyone. The last visit of each is among cold items alone."""
        random = self._random("visits")
        warm, cold = np.flatnonzero(~self.cold), np.flatnonzero(self.cold)
        weight = np.exp(self._popularity[warm])
        edges = np.cumsum(weight / weight.sum())
        users, items, times = [], [], []
        for user in range(self.users):
            utility = self.utilities(np.array([user]), popularity=True)[0]
            taken: set[int] = set()
            for time in range(self.visits):
                last = time == self.visits - 1
                drawn = np.searchsorted(edges, random.random(self.shown)).clip(max=len(warm) - 1)
                offered = cold[random.integers(0, len(cold), self.shown)] if last else warm[drawn]
                offered = np.array([i for i in np.unique(offered) if i not in taken])
                if len(offered) == 0:
                    continue
                chosen = int(offered[np.argmax(utility[offered] + self.noise * random.gumbel(size=len(offered)))])
                taken.add(chosen)
                users.append(user)
                items.append(chosen)
                times.append(time)
        return Visits(np.array(users), np.array(items), np.array(times))
