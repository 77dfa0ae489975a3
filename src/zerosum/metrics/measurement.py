"""A number with its protocol: what was measured of what, how, how surely, and what real against real would give.

Two measurements may be compared only if their protocols are alike; `comparable` says which field is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from zerosum.errors import UserError
from zerosum.metrics.intervals import Interval

Better = Literal["lower", "higher"]
SHOWN_OF_CLASS = ("kernel", "coverage", "agreement")  # of all that is measured of single classes, by their keys
NOTED = {"noted": True}  # recorded, and allowed to differ between measurements that are compared


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a number came about. All that decides what it means must agree before two numbers may be compared.

    `seed` and `versions` are recorded for repeating a measurement and may differ.
    """

    metric: str
    """Such as "Frechet distance". "FID" is the Frechet distance in Inception-2015 features, and no other."""
    settings: str = ""
    """The metric's own numbers, such as "k = 3"; empty if it has none."""
    extractor: str
    """Name of the feature extractor."""
    weights: str
    """SHA-256 of its weights, hex."""
    preparation: str
    """Resize, range and rounding before it, in words."""
    real: str
    """The real images: source and split, in words."""
    real_sha256: str
    """SHA-256 of their content, hex."""
    n_real: int
    n_fake: int
    real_lossy: bool
    """The real images come from a lossy format (JPEG)."""
    fake_lossy: bool
    """The fakes were written to a lossy format before they were measured."""
    real_flips: bool = False
    """Every real image was also taken mirrored."""
    fake_flips: bool = False
    truncation: float | None = None
    """The truncation of the latents that the fakes were drawn with; None for none."""
    selection: str = "none"
    """What the measured one was chosen from by this very number, such as "best of 12 checkpoints"."""
    seed: int = field(metadata=NOTED)
    versions: tuple[tuple[str, str], ...] = field(default=(), metadata=NOTED)
    """Names and versions of the software, such as (("zerosum", "0.1.0"), ("torch", "2.14.1"))."""

    def __post_init__(self) -> None:
        for name in ("n_real", "n_fake"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: a measurement needs samples on each side")

    def remarks(self) -> tuple[str, ...]:
        """What a reader must know beside the number: in what the two sides were treated differently."""
        found = []
        if self.real_lossy != self.fake_lossy:
            lossy, other = ("real images", "fakes") if self.real_lossy else ("fakes", "real images")
            found.append(f"The {lossy} come from a lossy format and the {other} do not: part of the distance is that.")
        if self.real_flips != self.fake_flips:
            flipped, other = ("real images", "fakes") if self.real_flips else ("fakes", "real images")
            found.append(f"The {flipped} were taken mirrored as well and the {other} were not.")
        if self.selection != "none":
            found.append(f"Chosen by this number ({self.selection}), so it flatters: measure again with fresh fakes.")
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A value of a metric with everything that it means nothing without."""

    value: float
    low: float | None
    """Lower bound of the interval; None if no interval could be made, and then `how` says why."""
    high: float | None
    level: float | None
    """The share of repetitions in which such an interval holds what it is for, such as 0.95."""
    how: str
    """How the interval was made; see `zerosum.metrics.intervals.over_parts` for what it is an interval of."""
    floor: Interval | None
    """The same metric, real against real, at the same numbers of samples; None if there are too few real images."""
    better: Better
    protocol: Protocol

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.protocol.metric}: {name} is {number}")
        if (self.low is None) != (self.high is None) or (self.low is None) != (self.level is None):
            raise ValueError("an interval has both bounds and a level, or nothing of them")
        if self.better not in ("lower", "higher"):
            raise ValueError(f"better is 'lower' or 'higher', not {self.better!r}")
        if self.protocol.truncation is not None:
            raise UserError(
                f"truncation {self.protocol.truncation}: truncated samples show less variety than the generator has, "
                "so no number is reported for them; sample without truncation"
            )

    @property
    def n_real(self) -> int:
        return self.protocol.n_real

    @property
    def n_fake(self) -> int:
        return self.protocol.n_fake


def measured(found: Interval, floor: Interval | None, better: Better, protocol: Protocol) -> Measurement:
    """The measurement whose value and interval are these; bounds that are no numbers are none."""
    bounds = None if math.isnan(found.low) else (found.low, found.high, found.level)
    low, high, level = bounds or (None, None, None)
    return Measurement(
        value=found.value, low=low, high=high, level=level, how=found.how, floor=floor, better=better,
        protocol=protocol,
    )  # fmt: skip


def differences(a: Protocol, b: Protocol) -> dict[str, tuple[Any, Any]]:
    """The fields in which two protocols differ that must not, with both values."""
    pairs = {f.name: (getattr(a, f.name), getattr(b, f.name)) for f in fields(Protocol) if not f.metadata.get("noted")}
    return {name: (x, y) for name, (x, y) in pairs.items() if x != y}


def _brief(value: Any) -> str:
    """The value for a sentence: of a hash, the first 12 digits say enough."""
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else repr(value)


def comparable(a: Measurement, b: Measurement) -> None:
    """UserError that names every field of the protocols that differs, unless the two may be compared."""
    unlike = differences(a.protocol, b.protocol)
    if unlike:
        told = "; ".join(f"{name}: {_brief(x)} and {_brief(y)}" for name, (x, y) in unlike.items())
        raise UserError(f"these measurements cannot be compared: {told}; measure both by one protocol")


def to_json(measurement: Measurement) -> dict[str, Any]:
    """Plain values, for `json.dumps`; `from_json` takes them back."""
    out = asdict(measurement)
    out["protocol"]["versions"] = dict(measurement.protocol.versions)
    return out


def from_json(value: Mapping[str, Any]) -> Measurement:
    """The measurement that `to_json` gave. UserError if a field is missing or unknown."""
    try:
        protocol = dict(value["protocol"])
        protocol["versions"] = tuple(protocol["versions"].items())
        floor = None if value["floor"] is None else Interval(**value["floor"])
        rest = {name: v for name, v in value.items() if name not in ("protocol", "floor")}
        return Measurement(protocol=Protocol(**protocol), floor=floor, **rest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"this is no measurement of this version of zerosum ({error}); measure again") from error
