"""What a run's folder holds, as typed records: what `read` makes of its files, and `content` says something about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zerosum.equilibrium.advisor import Score
from zerosum.metrics.intervals import Interval
from zerosum.metrics.measurement import Measurement


@dataclass(frozen=True)
class Sentence:
    """One finding of a verdict: what it is about, and the words."""

    kind: str
    text: str


@dataclass(frozen=True)
class Picture:
    """A PNG of the folder, small enough for a page."""

    name: str
    """Its path within the folder."""
    images_seen: int | None
    width: int
    height: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class ClassRow:
    """One class: its share among real and generated images, and what was measured within it."""

    name: str
    real_share: float
    fake_share: float
    fake_low: float
    fake_high: float
    measurements: Mapping[str, Measurement]


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One direction of a translator: what its numbers stand beside, and examples of it."""

    direction: str
    """A2B or B2A."""
    arms: tuple[str, ...]
    """The run, then the baselines."""
    metrics: tuple[str, ...]
    """What each arm was measured by: with `directions.key`, the keys of measurements."""
    columns: tuple[str, ...]
    """Of the picture, whose rows are an example each."""
    picture: Picture | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`evaluation.json`, as `zerosum evaluate RUN` wrote it."""

    what: str
    against: str
    images_seen: int | None
    features: Mapping[str, Any]
    measurements: Mapping[str, Measurement]
    classes_from: str
    classes: tuple[ClassRow, ...]
    directions: tuple[Direction, ...]
    """Of a translator."""
    nearest_distances: tuple[float, ...]
    verdict: tuple[Sentence, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """How often one fresh discriminator was right on samples that it had not seen."""

    judge: str
    n: int
    accuracy: Interval


@dataclass(frozen=True, kw_only=True)
class TwoSample:
    """The classifier two-sample test: real against generated, and real against other real images as control."""

    fake: tuple[Judgement, ...]
    control: tuple[Judgement, ...]
    trained_on: int | None
    judged: int | None
    detectable: float | None
    alpha: float | None


@dataclass(frozen=True, kw_only=True)
class Regret:
    """What each side could still gain by extra turns, at one point of the run."""

    images_seen: int
    turns: int | None
    gains: Mapping[str, Interval]
    gap: Interval | None


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """`equilibrium.json`, as `zerosum equilibrium RUN` wrote it."""

    images_seen: int | None
    real: str
    """Which real images the discriminators saw, in words."""
    verdict: tuple[Sentence, ...]
    notes: tuple[str, ...]
    two_sample: TwoSample | None
    regrets: tuple[Regret, ...]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What the stop advisor says of the log as it is."""

    stop: bool
    text: str
    best: Score
    """The best moment so far."""
    chance: float
    """Of a better score, if it trains on as long again."""
    forecast: Score
    """What the score will be then."""
    images_seen: int
    """The last reading."""


@dataclass(frozen=True)
class Film:
    """The film of the sample grids."""

    name: str
    kind: str
    """Its media type."""
    data: bytes = field(repr=False)
