"""The stop advisor: from what the probe has said so far, whether training on is worth it. Pure arithmetic.

It works on the logarithm of the distance, over the logarithm of images seen: there a power law, the usual way in which
a GAN improves, is a straight line. All readings of a run share their latents, so what blurs the difference between two
of them is how they scatter about that line: its patience is in units of that noise.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from zerosum.metrics.probe import Reading

# Chosen on 25 recorded runs and then left alone (docs/stopping.md, `zerosum bench stopping`).
LEAST = 15  # readings before it says anything
RECENT = 0.5  # of the images seen: the readings that the forecast is made from
MARGIN = 0.05  # a score that is lower by less is not better: nobody would see it
CHANCE = 0.05  # of a better score, below which training on is not worth it
SMALL = "about a 10 % chance"  # what a chance below that came to over the recorded runs (docs/stopping.md)
PATIENCE = 0.1  # of the images seen: so long must the chance have stayed below that, and the best have stayed the best
EARLIEST = 0.3  # of the length that the run was given: many fall a second time, and nothing foretells it
FEWEST = 3  # readings, at least, for the same
AHEAD = 1.0  # times the images seen: how far the forecast looks, if the run does not end before
LEARNED = 0.5  # times the untrained generator's distance: a run whose best is above has not learned yet
TOGETHER = 0.9  # the largest correlation of neighbouring readings that is believed
WIDE = 1.96  # standard errors to either side: 95 %
TINY, LARGEST = 1e-12, 88.0  # of a distance, and of a logarithm: what is not finite counts as that
NORMAL = NormalDist()
GROWING = "its networks do not have all their doublings yet"
GROWN = "its networks have not had all their doublings for long enough to tell"
NEVER = "it has not learned yet: its best is hardly nearer than the untrained generator"


@dataclass(frozen=True)
class Point:
    """What the probe said at one moment."""

    images_seen: int
    distance: float
    error: float
    """The standard error of the distance itself."""
    saved: bool
    """Whether there is a checkpoint of that moment."""
    floor: float | None = None
    """The distance of real images in place of the samples, where it is known."""
    growing: bool = False
    """Whether the networks had doublings yet to come."""

    @property
    def log(self) -> float:
        return math.log(self.distance)


@dataclass(frozen=True)
class Score:
    """The distance at a moment, or what it will be; interval of 95 %."""

    images_seen: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Advice:
    """What the advisor thinks after one reading."""

    stop: bool
    best: Score
    """The lowest score of a moment with a checkpoint (of any moment, while there is none)."""
    chance: float
    """Of a score that is lower than the best by more than MARGIN, `ahead` images from now."""
    ahead: int
    forecast: Score
    """What the score will be then."""
    reason: str
    """Why, in half a sentence."""


class Advisor:
    """Takes in one reading after the other. Its state is the readings: plain numbers, saved with each checkpoint.

    `most`: images at which the run ends anyhow; None if it does not say. `state`: what another one has seen, which is
    looked at anew with this `most`: so an extended run gets the same advice as a longer one.
    """

    def __init__(self, most: int | None = None, state: Iterable[Sequence[Any]] = ()) -> None:
        self.most = most
        self.start: Point | None = None  # the untrained generator
        self.points: list[Point] = []
        self.scores: list[Score] = []
        self.advice: Advice | None = None
        self._best: Score | None = None
        self._best_is_saved = False
        self._small: list[int] = []  # images seen at the readings since when the chance has been small
        for point in state:
            self.take(Point(*point))

    def state(self) -> list[tuple[int, float, float, bool, float | None, bool]]:
        points = self.points if self.start is None else [self.start, *self.points]
        return [(p.images_seen, p.distance, p.error, p.saved, p.floor, p.growing) for p in points]

    def ends(self, until: Literal["length", "converged"]) -> bool:
        """Whether a run that goes on `until` then is over now."""
        return until == "converged" and self.advice is not None and self.advice.stop

    def add(self, images_seen: int, reading: Reading, saved: bool) -> dict[str, Any]:
        """Take in a reading; what is to be logged of the advice, if there is one yet."""
        distance, error = max(reading.distance, TINY), max(reading.distance_error, 0.0)
        self.take(Point(images_seen, distance, error, saved, reading.floor, bool(reading.growing)))
        if self.advice is None:
            return {}
        return {"best": self.advice.best.images_seen, "chance_of_better": self.advice.chance}

    def score_at(self, images_seen: int) -> dict[str, float | None]:
        """For a checkpoint of this moment: its score, and the interval, by which the best one is chosen."""
        if not self.scores or self.scores[-1].images_seen != images_seen:
            return {"score": None}
        score = self.scores[-1]
        return {"score": score.value, "score_low": score.low, "score_high": score.high}

    def take(self, point: Point) -> None:
        """As `add`, of a point whose distance is above 0."""
        if point.images_seen <= 0:
            self.start = point
            return
        self.points.append(point)
        # More than its own size says no more than "no idea".
        score = _score(point.images_seen, point.log, min(point.error / point.distance, 1.0))
        self.scores.append(score)
        lower = self._best is None or score.value < self._best.value
        if (point.saved and not self._best_is_saved) or (lower and point.saved == self._best_is_saved):
            self._best, self._best_is_saved = score, point.saved
        if len(self.points) >= LEAST:
            assert self._best is not None
            self.advice = self._advice(point.images_seen, self._best)

    def _advice(self, images_seen: int, best: Score) -> Advice:
        left = images_seen if self.most is None else max(self.most - images_seen, 0)
        ahead = min(int(AHEAD * images_seen), left)
        # What a game that grows has come to at a small size says nothing of the next one.
        grew = next((i for i in range(len(self.points), 0, -1) if self.points[i - 1].growing), 0)
        young = 0 < grew > len(self.points) - LEAST
        level, slope, middle, spread = forecast(self.points if young else self.points[grew:], ahead)
        floor = self.points[-1].floor
        if floor is not None:  # a line goes on for ever; a generator comes no nearer than real images are
            middle = max(middle, math.log(min(floor, best.value)))
        chance = NORMAL.cdf((math.log(best.value * (1 - MARGIN)) - middle) / spread)
        self._small = [*self._small, images_seen] if chance < CHANCE and not young else []
        # A run that never learned has nothing to keep, and nothing to go by: it may begin at any time.
        learned = self.start is None or best.value < LEARNED * self.start.distance
        since = max(self._small[0], best.images_seen) if self._small else images_seen
        late = images_seen >= max(since + PATIENCE * images_seen, EARLIEST * (self.most or 0))
        enough = learned and late and len(self._small) >= FEWEST
        reason = NEVER
        if learned:
            reason = _reason(level - math.log(best.value), slope, best.images_seen, lost=chance < CHANCE)
        if young:
            reason = GROWING if grew == len(self.points) else GROWN
        return Advice(enough, best, chance, ahead, _score(images_seen + ahead, middle, spread), reason)


def forecast(points: list[Point], ahead: int) -> tuple[float, float, float, float]:
    """(level now, slope, score `ahead` images from now, its standard deviation), all in logarithms.

    The line of least squares through the recent readings. Its uncertainty is widened for readings that err together
    (a first-order autoregression), and the scatter of a single reading about the line is added.
    """
    now = points[-1].images_seen
    recent = [r for r in points if r.images_seen > (1 - RECENT) * now]
    recent = recent if len(recent) > LEAST // 2 else points[-LEAST // 2 :]
    x, y = [math.log(r.images_seen / now) for r in recent], [r.log for r in recent]
    n = len(x)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    over = sum((a - mean_x) ** 2 for a in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / over
    rest = [b - mean_y - slope * (a - mean_x) for a, b in zip(x, y, strict=True)]
    squares = max(sum(r * r for r in rest), TINY)
    variance = squares / (n - 2)
    together = min(max(sum(a * b for a, b in pairwise(rest)) / squares, 0.0), TOGETHER)
    widened = (1 + together) / (1 - together)
    reach = math.log1p(ahead / now)
    line = variance * widened * (1 / n + (reach - mean_x) ** 2 / over)
    return mean_y - slope * mean_x, slope, mean_y + slope * (reach - mean_x), math.sqrt(line + variance)


def replayed(events: list[dict[str, Any]], saved: Collection[int]) -> Advisor:
    """An advisor that has seen these events of a run, whose checkpoints are `saved`.

    It looks as far ahead as the run has come, whatever length it was given: the next question is whether to extend it.
    """
    advisor = Advisor()
    for e in events:
        if e.get("event") == "probe" and "distance_error" in e and not e.get("final"):
            advisor.take(
                Point(
                    e["images_seen"],
                    max(e["distance"], TINY),
                    e["distance_error"],
                    e["images_seen"] in saved,
                    e.get("floor"),
                    e.get("growing", False),
                )
            )
    return advisor


def sentence(events: list[dict[str, Any]], saved: Collection[int], seconds: float) -> str | None:
    """What to do with a run that has these events, checkpoints and training time, or that it is too short to say.

    None for a run that was never probed.
    """
    advisor = replayed(events, saved)
    advice = advisor.advice
    if advice is None:
        probes = len(advisor.points)
        if not probes and advisor.start is None:
            return None
        many = f"{probes or 'no'} probe{'s' * (probes != 1)}"
        return f"the run is too short to say whether to go on: it has {many} after the start, and {LEAST} are needed"
    last = advisor.points[-1].images_seen
    minutes = advice.ahead / last * seconds / 60
    more = f"{advice.ahead:,} images ({minutes:,.0f} min)" if minutes >= 1 else f"{advice.ahead:,} images"
    chance = SMALL if advice.chance < CHANCE else f"a {100 * min(advice.chance, 0.99):.0f} % chance"
    # Patience is for a run that is under way; one that has ended is not begun again for so small a chance.
    do = "stop" if advice.stop or (advice.chance < CHANCE and advice.reason != NEVER) else "go on"
    if advice.reason in (GROWING, GROWN):
        return f"go on: {advice.reason}; best so far is --checkpoint {advice.best.images_seen}"
    return (
        f"{do}; use --checkpoint {advice.best.images_seen}; another {more} have {chance} of a score better by more "
        f"than {100 * MARGIN:.0f} %: {advice.reason}"
    )


def _score(images_seen: int, log: float, error: float) -> Score:
    return Score(images_seen, *(math.exp(min(log + k * WIDE * error, LARGEST)) for k in (0, -1, 1)))


def _reason(above: float, slope: float, best: int, *, lost: bool) -> str:
    if above > math.log1p(MARGIN):
        percent = 100 * math.expm1(above)
        after = "does not come back" if lost else "may come back"
        return f"the score is {percent:.0f} % above its best, which was at {best:,} images, and {after}"
    gain = -math.expm1(slope * math.log(2))
    return f"the score gains {100 * max(gain, 0.0):.1f} % when the images seen double, at this rate"
