"""From measurements to sentences: what is wrong with generated images, in plain words, or that nothing was found.

Pure functions. A sentence is said only where a measurement leaves its floor (real against real, at the same n) beyond
both intervals, or where a test leaves chance less than RARE; and by more than a constant below. The constants were
chosen on digits and scored on Fashion-MNIST (`zerosum bench faults`, docs/evidence.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from zerosum.metrics.intervals import Interval
from zerosum.metrics.measurement import Measurement

Kind = Literal[
    "copies",
    "mode dropping",
    "class shares",
    "wrong classes",
    "blur",
    "noise",
    "differs",
    "nothing found",
    "cannot say",
]

RARE = 1e-3  # p-value below which chance is not believed; of classes, for all of them together
DROPPED = 0.5  # a class is dropped if its share is below so much of its share among the real images
FINE = 0.5  # log2 of the ratio of fine power: a loss of less than 30 % is not called blur
FLAT = 10  # log2: an image with less than a thousandth of the fine power is flat; the factor says no more
GRAINY = 0.3  # log2 of the ratio of grain: less than a quarter more is not called noise
TOLD_BY = ("frechet", "kernel", "precision", "recall", "coverage", "copies", "detail", "grain", "agreement")
SHORT = 0.1  # coverage, precision or recall below its floor by less is not spoken of


@dataclass(frozen=True)
class Share:
    """One class among the fakes and among the real images, as the classifier (or the labels) see both."""

    name: str
    real: Interval
    fake: Interval
    p_value: float
    """How often a class of equal shares is as rare among the fakes, by chance."""


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict, and what it is about."""

    kind: Kind
    text: str


def verdict(
    measurements: Mapping[str, Measurement],
    shares: Sequence[Share] = (),
    p_values: Mapping[str, float] | None = None,
    *,
    guessed: bool = True,
) -> tuple[Finding, ...]:
    """What the measurements say, most telling first, what they cannot say last; at least one finding.

    `measurements` by their keys in `metrics.evaluate`; `p_values` of "copies", "class balance", "detail" and "grain",
    where known; `guessed`: whether the classes are a classifier's guesses, which spoilt images mislead, and not labels
    of both sides.
    """
    p_values = p_values or {}
    fine = _fine(measurements, p_values)
    spoilt = {"blur": "blurred", "noise": "noisy"}[fine[0].kind] if fine else ""
    found = [
        *_copies(measurements.get("copies"), p_values.get("copies"), blurred=spoilt == "blurred"),
        *_classes(shares, p_values.get("class balance"), spoilt if guessed else ""),
        *_agreement(measurements.get("agreement"), spoilt),
        # As many of each class as were asked for say nothing of what is in them.
        *(() if shares and guessed else _coverage(measurements, spoilt)),
        *fine,
    ]
    found += _distance(measurements, named=bool(found))
    found.sort(key=lambda f: f.kind == "cannot say")
    if found:
        return tuple(found)
    if not shares and not any(_comparable(measurements.get(key)) for key in TOLD_BY):
        text = "Cannot say: no number has both an interval and a floor (real against real); take fewer images, or "
        return (Finding("cannot say", text + "give more real ones."),)
    return (Finding("nothing found", "Nothing found: by these measurements the images cannot be told from real ones."),)


def _copies(share: Measurement | None, p: float | None, *, blurred: bool) -> list[Finding]:
    if share is None or p is None or p >= RARE:
        return []
    if blurred:
        text = (
            f"{_percent(share.value)} of the images lie very near to training images; being blurred, they would anyhow"
        )
        return [Finding("cannot say", f"Copies cannot be judged: {text}.")]
    expected = share.floor.value if share.floor else 0.0
    return [
        Finding(
            "copies",
            f"Copies: {_percent(share.value)} of the images lie nearer to a training image than "
            f"{_percent(1 - expected)} of new real images do ({_percent(expected)} would be chance).",
        )
    ]


def _classes(shares: Sequence[Share], p: float | None, spoilt: str) -> list[Finding]:
    missing = [s for s in shares if s.fake.value < DROPPED * s.real.value and s.p_value * len(shares) < RARE]
    uneven = p is not None and p < RARE and len(shares) > 0
    if spoilt and (missing or uneven):
        text = f"they seem to differ from the real ones, but the images are {spoilt}, which a classifier may misread"
        return [Finding("cannot say", f"Class shares cannot be judged: {text}.")]
    if missing:
        told = ", ".join(f"{s.name} ({_percent(s.fake.value)}, real {_percent(s.real.value)})" for s in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        return [Finding("mode dropping", f"Mode dropping: too few images of {told}{more}.")]
    if uneven:
        farthest = max(shares, key=lambda s: abs(s.fake.value - s.real.value))
        return [
            Finding(
                "class shares",
                f"Class shares differ from the real ones, most for {farthest.name} "
                f"({_percent(farthest.fake.value)}, real {_percent(farthest.real.value)}).",
            )
        ]
    return []


def _agreement(agreement: Measurement | None, spoilt: str) -> list[Finding]:
    if agreement is None or agreement.floor is None or not _short(agreement):
        return []
    text = (
        f"a classifier takes {_percent(agreement.value)} of the images for what was asked for, and "
        f"{_percent(agreement.floor.value)} of real ones for what they are"
    )
    if spoilt:
        return [Finding("cannot say", f"Classes cannot be judged: {text}, but the images are {spoilt}.")]
    return [Finding("wrong classes", f"Wrong classes: {text}.")]


def _coverage(measurements: Mapping[str, Measurement], spoilt: str) -> list[Finding]:
    coverage, precision, recall = (measurements.get(key) for key in ("coverage", "precision", "recall"))
    # Samples that lie off the data cover little of it too: no variety is missing while recall is what it should be.
    if not _short(coverage) or (_short(precision) and not _short(recall)):
        return []
    assert coverage is not None
    assert coverage.floor is not None
    near = (
        f"{_percent(coverage.value)} of the real images have a generated one near them, and "
        f"{_percent(coverage.floor.value)} have another real one"
    )
    if spoilt:
        text = f"Missing variety cannot be judged: {near}; the images being {spoilt}, few would anyhow."
        return [Finding("cannot say", text)]
    return [Finding("mode dropping", f"Mode dropping: {near}.")]


def _fine(measurements: Mapping[str, Measurement], p_values: Mapping[str, float]) -> list[Finding]:
    detail, grain = measurements.get("detail"), measurements.get("grain")
    if detail is not None and p_values.get("detail", 1.0) < RARE and detail.value < -FINE:
        less = f"{2**-detail.value:.1f} times less" if detail.value > -FLAT else f"over {2**FLAT:,} times less"
        return [Finding("blur", f"Blur: fine detail has {less} power than in real images.")]
    if grain is not None and p_values.get("grain", 1.0) < RARE and grain.value > GRAINY:
        return [Finding("noise", f"Noise: {2**grain.value:.1f} times the grain of real images.")]
    return []


def _distance(measurements: Mapping[str, Measurement], *, named: bool) -> list[Finding]:
    for key in ("frechet", "kernel"):
        m = measurements.get(key)
        if m is not None and m.floor is not None and _apart(m):
            also = "" if named else ", in a way that no single measurement names"
            return [
                Finding(
                    "differs",
                    f"The images can be told from real ones{also}: {m.protocol.metric} {m.value:.4g}, real against "
                    f"real {m.floor.value:.4g}.",
                )
            ]
    for key in () if named else ("precision", "recall", "coverage"):
        m = measurements.get(key)
        if m is not None and m.floor is not None and _short(m):
            text = f"{key} {_percent(m.value)}, real against real {_percent(m.floor.value)}"
            return [Finding("differs", f"The images can be told from real ones: {text}.")]
    return []


def _short(m: Measurement | None) -> bool:
    """Whether a share has left its floor downwards, and by enough to speak of."""
    return m is not None and m.floor is not None and _apart(m) and m.floor.value - m.value >= SHORT


def _comparable(m: Measurement | None) -> bool:
    return m is not None and m.floor is not None and m.low is not None


def _apart(m: Measurement) -> bool:
    """Whether the value has left its floor on the bad side, the two intervals not touching."""
    if m.floor is None or m.low is None or m.high is None:
        return False
    return m.low > m.floor.high if m.better == "lower" else m.high < m.floor.low


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"
