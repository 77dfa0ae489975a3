"""What an evaluation comes to: measurements, classes, suspicious pairs, a verdict; and the JSON that is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zerosum.metrics import measurement
from zerosum.metrics.directions import DirectionResult
from zerosum.metrics.features.choose import Choice
from zerosum.metrics.measurement import Measurement
from zerosum.metrics.verdict import Finding, Share

FORMAT = 1


@dataclass(frozen=True)
class ClassResult:
    """One class: its share on both sides, and how near its images are to the real ones of that class."""

    share: Share
    measurements: Mapping[str, Measurement]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Fakes that lie suspiciously near to training images, nearest first, and those images; uint8 (k, C, H, W)."""

    fake: np.ndarray
    train: np.ndarray
    distance: tuple[float, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """What came of it. `to_json` gives all but the pictures."""

    what: str
    against: str
    images_seen: int | None
    choice: Choice
    measurements: Mapping[str, Measurement]
    classes: tuple[ClassResult, ...]
    classes_from: str
    """Where class numbers come from, in words; empty without classes."""
    p_values: Mapping[str, float]
    verdict: tuple[Finding, ...]
    notes: tuple[str, ...]
    pairs: Pairs | None = None
    directions: tuple[DirectionResult, ...] = ()
    """Of a translator."""
    samples: np.ndarray = field(repr=False)
    """The first fakes, for a picture."""
    seconds: float
    quick: bool = False
    """A quick look: fewer images, and without what takes long."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; the schema is in docs/evidence.md."""
        extractor = self.choice.extractor
        return {
            "zerosum": "evaluation",
            "format": FORMAT,
            "what": self.what,
            "against": self.against,
            "images_seen": self.images_seen,
            "quick": self.quick,
            "features": {
                "name": extractor.name,
                "weights": extractor.weights,
                "preparation": extractor.preparation,
                "dimensions": extractor.dimensions,
                "weak": extractor.weak,
                "reason": self.choice.reason,
            },
            "measurements": {key: measurement.to_json(m) for key, m in self.measurements.items()},
            "classes_from": self.classes_from,
            "classes": [
                {
                    "name": c.share.name,
                    "real_share": c.share.real.value,
                    "fake_share": c.share.fake.value,
                    "fake_share_low": c.share.fake.low,
                    "fake_share_high": c.share.fake.high,
                    "measurements": {key: measurement.to_json(m) for key, m in c.measurements.items()},
                }
                for c in self.classes
            ],
            "p_values": dict(self.p_values),
            "nearest_distances": list(self.pairs.distance) if self.pairs else [],
            "directions": [one.to_json() for one in self.directions],
            "verdict": [{"kind": f.kind, "text": f.text} for f in self.verdict],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 1),
        }
