"""Implicit feedback: who took what and when; what of it is learned from, and what is held out to measure with."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zerosum.errors import UserError

LEAST = 4  # interactions of a user: one to learn from, one to choose by, two to measure with
COLUMNS = {
    "user": ("user", "user_id", "userid", "customer"),
    "item": ("item", "item_id", "itemid", "product", "file", "image"),
    "time": ("time", "timestamp", "date", "order"),
}  # fmt: skip
TOP = 10  # of NDCG

Scores = Callable[[np.ndarray], np.ndarray]
"""Users int64 (u,) -> float (u, items): the higher, the likelier to be taken."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """Users, items and times int64 or float64 (n,), by number; `users` and `items` name them."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    users: tuple[str, ...]
    items: tuple[str, ...]
    unknown: Mapping[str, int] = field(default_factory=dict)
    """Lines that were left out, by their item."""

    def __len__(self) -> int:
        return len(self.user)

    def of(self, index: np.ndarray) -> Interactions:
        return Interactions(self.user[index], self.item[index], self.time[index], self.users, self.items)


def read(table: Path, items: Sequence[str], skip_unknown: bool = False) -> Interactions:
    """Interactions from a CSV with the columns user, item and time; items are named as their images are.

    `skip_unknown` leaves out lines of items that there is no image of. UserError for lines that do not fit, naming the
    first.
    """
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--interactions {table}: cannot be read as CSV ({error})") from error
    if not rows:
        raise UserError(f"--interactions {table}: is empty; it needs a line 'user,item,time' and a line for each")
    names = {name.strip().lower(): name for name in rows[0] if name}
    found = {key: next((names[n] for n in known if n in names), None) for key, known in COLUMNS.items()}
    if missing := [key for key, name in found.items() if name is None]:
        there = ", ".join(filter(None, rows[0]))
        raise UserError(
            f"--interactions {table}: has no column {missing[0]}; it has {there}; call its columns user, item and time"
        )
    number = _numbers(items)
    for line, row in enumerate(rows, 2):
        if None in row or any(not (row[str(name)] or "").strip() for name in found.values()):
            raise UserError(f"--interactions {table}, line {line}: does not have a user, an item and a time")
    user, item, time, unknown = list[str](), list[int](), list[float](), Counter[str]()
    for line, row in enumerate(rows, 2):
        name = row[str(found["item"])].strip().replace("\\", "/")
        if name not in number:
            if skip_unknown:
                unknown[name] += 1
                continue
            raise UserError(
                f"--interactions {table}, line {line}: there is no image {name!r}; add it, or leave out such lines "
                "with --skip-unknown"
            )
        try:
            time.append(float(row[str(found["time"])]))
        except ValueError:
            time.append(math.nan)
        if not math.isfinite(time[-1]):
            raise UserError(
                f"--interactions {table}, line {line}: time {row[str(found['time'])]!r} is no number; give seconds, "
                "days, or a count that rises"
            )
        user.append(row[str(found["user"])].strip())
        item.append(number[name])
    if not user:
        raise UserError(
            f"--interactions {table}: there is an image of none of its items; name them as the images are named"
        )
    users, numbers = np.unique(user, return_inverse=True)
    return Interactions(numbers, np.array(item), np.array(time), tuple(users.tolist()), tuple(items), unknown)


def _numbers(items: Sequence[str]) -> Mapping[str, int]:
    """Every name that means one item: its path, and its last part without suffix where that is unique."""
    found: dict[str, int] = {name: i for i, name in enumerate(items)}
    short: dict[str, list[int]] = {}
    for i, name in enumerate(items):
        for end in {Path(name).name, Path(name).stem}:
            short.setdefault(end, []).append(i)
    return {**{end: at[0] for end, at in short.items() if len(at) == 1}, **found}


@dataclass(frozen=True, eq=False)
class Split:
    """Each user's last two interactions to measure with, the one before to choose by, the rest to learn from."""

    train: Interactions
    validation: Interactions
    test: Interactions
    cold: np.ndarray
    """Items that nothing is learned of, bool (items,)."""


def split(found: Interactions) -> Split:
    """By time; what a user takes again counts the first time alone. UserError if no user has enough."""
    order = np.lexsort((found.time, found.user))
    _, first = np.unique(found.user[order] * len(found.items) + found.item[order], return_index=True)
    found = found.of(order[np.sort(first)])
    order = np.arange(len(found))
    user = found.user[order]
    ends = np.searchsorted(user, np.arange(len(found.users)), side="right")
    starts = np.searchsorted(user, np.arange(len(found.users)))
    enough = ends - starts >= LEAST
    if not enough.any():
        raise UserError(
            f"--interactions: no user has {LEAST} interactions or more: nothing can be learned and measured"
        )
    role = np.zeros(len(found), dtype=np.int64)  # of each in order: 0 learned from, 1 chosen by, 2 measured with
    role[ends[enough] - 1] = role[ends[enough] - 2] = 2
    role[ends[enough] - 3] = 1
    train, validation, test = (found.of(order[role == part]) for part in range(3))
    return Split(train, validation, test, untaken(train))


def untaken(found: Interactions) -> np.ndarray:
    """Which items nobody took, bool (items,)."""
    return np.bincount(found.item, minlength=len(found.items)) == 0


def joined(*some: Interactions) -> Interactions:
    """All of them, of the same users and items."""
    user, item, time = (np.concatenate([getattr(one, name) for one in some]) for name in ("user", "item", "time"))
    return Interactions(user, item, time, some[0].users, some[0].items)


@dataclass(frozen=True)
class Ranking:
    """How well held-out items stand among those that a user has not taken: means over interactions."""

    auc: float
    """Share of the others that stand below."""
    ndcg: float
    """1 / log2(1 + rank) within the first TOP, else 0."""
    count: int
    auc_within: float = math.nan
    """Half of the 95 % interval, users drawn anew: what one user takes is no two observations. NaN of one user."""
    ndcg_within: float = math.nan


@dataclass(frozen=True, eq=False)
class Places:
    """Where held-out interactions stand, one by one, (count,): whose each is, its AUC and its NDCG."""

    user: np.ndarray
    auc: np.ndarray
    ndcg: np.ndarray

    @property
    def ranking(self) -> Ranking:
        if not len(self.user):
            return Ranking(math.nan, math.nan, 0)
        within = (half_interval(each, self.user) for each in (self.auc, self.ndcg))
        return Ranking(float(self.auc.mean()), float(self.ndcg.mean()), len(self.user), *within)


def ranking(scores: Scores, held: Interactions, known: Interactions, among: np.ndarray) -> Ranking:
    """The means of `places`."""
    return places(scores, held, known, among).ranking


def places(scores: Scores, held: Interactions, known: Interactions, among: np.ndarray, at_once: int = 256) -> Places:
    """Of the held-out interactions whose item is in `among`, bool (items,), against the others in it.

    What a user has taken, in `known` or in `held`, is no other. An interaction without any other is left out: it would
    stand first whatever its score.
    """
    held = held.of(np.flatnonzero(among[held.item]))
    taken: dict[int, list[int]] = {}
    for some in (known, held):
        for u, i in zip(some.user.tolist(), some.item.tolist(), strict=True):
            taken.setdefault(u, []).append(i)
    ranked, areas, gains = list[int](), list[float](), list[float]()
    for first in range(0, len(held), at_once):
        users, items = held.user[first : first + at_once], held.item[first : first + at_once]
        found = scores(users)
        for row, u, i in zip(found, users.tolist(), items.tolist(), strict=True):
            other = among.copy()
            other[taken[u]] = False
            values = row[other]
            if not len(values):
                continue
            above, equal = int((values > row[i]).sum()), int((values == row[i]).sum())
            ranked.append(u)
            areas.append(1 - (above + equal / 2) / len(values))
            rank = 1 + above + equal / 2
            gains.append(1 / np.log2(1 + rank) if rank <= TOP else 0.0)
    return Places(np.array(ranked, np.int64), np.array(areas, float), np.array(gains, float))


def half_interval(values: np.ndarray, user: np.ndarray) -> float:
    """Half of the 95 % interval of a mean of values (n,) that go together by user (n,): by the sums of each user's."""
    from scipy import stats  # slow to import

    _, of = np.unique(user, return_inverse=True)
    apart = np.bincount(of, values - values.mean())
    users = len(apart)
    if users < 2:
        return math.nan
    error = math.sqrt(users / (users - 1) * np.square(apart).sum()) / len(values)
    return float(stats.t.ppf(0.975, users - 1)) * error
