"""One sentence about a game: where it stands, from what was measured. Pure functions; thresholds are named below."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from zerosum.equilibrium.gap import Regret
from zerosum.equilibrium.two_sample import TwoSample
from zerosum.equilibrium.watch import COLLAPSED

Kind = Literal[
    "at equilibrium", "converging", "moving away", "cycling", "settled short", "D wins", "G collapsed", "memorising",
    "test broken", "not enough data",
]  # fmt: skip
Trend = Literal["falling", "rising", "swinging", "flat", "unknown"]

ENOUGH = 0.6
"""Where accuracies up to this could go unseen, silence means nothing: a judge who is right 3 times in 5 sees a fifth
of one distribution that the other does not have (total variation 0.2)."""
LEAST_POINTS = 12
"""Of half a curve: with fewer, the normal approximations of the tests below are not good."""
SURE = 2.58
"""Standard deviations: 1 % false alarms, both sides, for neighbouring points are not quite independent."""
SWING = 0.25
"""A curve swings if the middle half of its values spans more than this share of their median: less is not worth a
word, however regular."""
PASSES = 3
"""From its highest quarter to its lowest, or back: so often, at least, does a curve that swings pass in its last half.
One that falls and flattens leaves an arc about its line, which passes twice."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the verdict is drawn from. Everything but the test may be missing."""

    test: TwoSample
    regret: tuple[Regret, ...] = ()
    """At the kept checkpoints, oldest first; the last is the one that was tested."""
    gaps: tuple[float, ...] = ()
    """The gap as logged by probes in training, in order, up to the tested point."""
    distances: tuple[float, ...] = ()
    """The logged distance between generated and real, in order, up to the tested point."""
    diversity: float | None = None
    """The spread of generated relative to real, as last logged."""
    d_wins: bool = False
    """Whether the watch found at the checkpoint that D is right almost always, on both sides."""
    copies: str = ""
    """What `evaluation.json` of the same checkpoint says about copied training images; empty if nothing."""


@dataclass(frozen=True)
class Verdict:
    """`sentence` for everybody, `because` for who wants to know why, `kind` for programs."""

    kind: Kind
    sentence: str
    because: tuple[str, ...]


def verdict(e: Evidence) -> Verdict:
    """The first that is true of: test broken, memorising, at equilibrium or too little data, G collapsed, D wins,
    and, from the curves, cycling, converging, moving away, settled short."""
    t = e.test
    seen = 2 * t.judged
    because = (*_tests(t), *_gains(e.regret))

    def says(kind: Kind, sentence: str) -> Verdict:
        return Verdict(kind, sentence, because)

    if t.broken is not None:
        j = t.broken
        side = "more" if j.accuracy.value > 0.5 else "less"
        right = _percent(j.accuracy.value)
        return says(
            "test broken",
            f"The test is broken: {j.judge} is right {right} of the time on real images against other real images, "
            f"{side} than chance allows, so nothing can be said. Look for an unlike order, source or format of "
            "the held-out images, or for near-duplicates (zerosum data check)",
        )
    if e.copies:
        return says("memorising", f"Memorising: {e.copies.strip().rstrip('.')}")
    if not t.found:
        unseen = f"an accuracy below {_percent(t.detectable)} could go unseen"
        if t.detectable > ENOUGH:
            return says(
                "not enough data",
                f"Not enough data to say: no judge tells generated from real, but with {seen:,} images {unseen}",
            )
        return says(
            "at equilibrium",
            f"At equilibrium within measurement error: of {len(t.fake)} fresh judges none tells generated from real "
            f"(at best {_percent(t.best.accuracy.value)} right on {seen:,} images, where a guess is 50 %; {unseen})",
        )
    told = f"{t.best.judge} tells generated from real {_percent(t.best.accuracy.value)} of the time"
    if e.diversity is not None and e.diversity < COLLAPSED:
        return says(
            "G collapsed", f"G collapsed: its samples differ only {e.diversity:.0%} as much as real ones do, and {told}"
        )
    if e.d_wins:
        return says("D wins", f"D wins: in the game it is right almost always, so G learns little; {told}")
    name, way = _way(e)
    match way:
        case "falling":
            return says("converging", f"Converging: {name} still falls, and {told}: more training may help")
        case "rising":
            return says("moving away", f"Moving away: {name} rises, and {told}: an earlier checkpoint may be better")
        case "swinging":
            return says("cycling", f"Cycling: {name} swings up and down without getting lower, and {told}")
        case "flat":
            return says("settled short", f"Settled short of equilibrium: {name} no longer falls, yet {told}")
    return says(
        "not enough data",
        f"Not at equilibrium: {told}; the run's curves are too short to say whether it converges",
    )


def trend(values: Sequence[float]) -> Trend:
    """Where the last half of a curve goes.

    First whether it swings: the values of a swing hang together, and the other test would take a part of one for a
    trend. Else falling or rising, by the test of Mann (1945) and Kendall.
    """
    x = [float(v) for v in values[len(values) // 2 :]]
    n = len(x)
    if n < LEAST_POINTS:
        return "unknown"
    if _swings(x):
        return "swinging"
    score = sum((b > a) - (b < a) for i, a in enumerate(x) for b in x[i + 1 :])
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    if abs(score) > SURE * deviation:
        return "falling" if score < 0 else "rising"
    return "flat"


def _swings(x: Sequence[float]) -> bool:
    """Whether a curve goes up and down, about the straight line of its median slope (Theil 1950, Sen 1968).

    What is left without the line stays on one side of its median longer than chance (the runs test of Wald and
    Wolfowitz 1940), passes from high to low and back, and moves by more than SWING, and by more than the line does.
    """
    slope = statistics.median((b - a) / (j - i) for i, a in enumerate(x) for j, b in enumerate(x) if j > i)
    rest = [value - slope * i for i, value in enumerate(x)]
    low, middle, high = statistics.quantiles(rest, n=4)
    width = high - low
    if width <= max(SWING * abs(statistics.median(x)), abs(slope) * (len(x) - 1)):
        return False
    sides = [v > middle for v in rest if v != middle]
    a, b = sum(sides), len(sides) - sum(sides)
    expected = 2 * a * b / (a + b) + 1
    spread = math.sqrt((expected - 1) * (expected - 2) / (a + b - 1))
    return (
        _changes(sides) + 1 < expected - SURE * spread
        and _changes([v >= high for v in rest if not low < v < high]) >= PASSES
    )


def _changes(sides: Sequence[bool]) -> int:
    return sum(p != q for p, q in pairwise(sides))


def _way(e: Evidence) -> tuple[str, Trend]:
    """The distance to the data decides: it is what a user wants lower. The logged gap, if there is no such curve."""
    curves = (("its distance to the real data", e.distances), ("the duality gap", e.gaps))
    found = [(name, trend(values)) for name, values in curves]
    return next(((name, way) for name, way in found if way != "unknown"), found[0])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _tests(t: TwoSample) -> list[str]:
    return [
        f"{name}: {j.judge} {_percent(j.accuracy.value)} right ({_percent(j.accuracy.low)} to "
        f"{_percent(j.accuracy.high)}) of {j.n:,}"
        for name, judgements in (("generated against real", t.fake), ("real against real", t.control))
        for j in judgements
    ]


def _gains(points: Sequence[Regret]) -> list[str]:
    if not points:
        return []
    last = points[-1]
    return [
        f"{g.side} gains {g.gain.value:.3g} ({g.gain.low:.3g} to {g.gain.high:.3g}) in {last.turns} extra turns, "
        f"from a loss of {g.before:.3g}"
        for g in last.gains
    ]
