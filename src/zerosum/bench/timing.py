"""Fair times: the arms take turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

LEAST = 5  # rounds, however long they take


def in_turns(arms: Mapping[str, Callable[[], object]], seconds: float, least: int = LEAST) -> dict[str, list[float]]:
    """Seconds of every arm, one after the other, as often as fits, after a first time that is not counted."""
    for work in arms.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in arms}
    least, end = least if seconds else 1, time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken[next(iter(arms))]) < least:
        for name, work in arms.items():
            began = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - began)
    return taken


def times_quicker(slow: Sequence[float], quick: Sequence[float]) -> float:
    """The median over rounds of how many times as long the one took."""
    return statistics.median(a / b for a, b in zip(slow, quick, strict=True))
