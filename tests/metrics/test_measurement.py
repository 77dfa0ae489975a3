"""A number and its protocol: what is refused, what is said, and the way to JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from zerosum.errors import UserError
from zerosum.metrics.intervals import Interval
from zerosum.metrics.measurement import (
    Measurement,
    Protocol,
    comparable,
    differences,
    from_json,
    measured,
    to_json,
)

PROTOCOL = Protocol(
    metric="Frechet distance", extractor="classifier", weights="ab" * 32, preparation="as stored, [-1, 1]",
    real="digits, test", real_sha256="cd" * 32, n_real=500, n_fake=500, real_lossy=False, fake_lossy=False, seed=0,
    versions=(("zerosum", "0.1.0"), ("torch", "2.14.1")),
)  # fmt: skip
FLOOR = Interval(0.1, 0.05, 0.15, 0.95, "mean and t interval of 4 disjoint draws")


def measurement(**changes: Any) -> Measurement:
    """Its protocol may be changed, or itself."""
    protocol = {name: v for name, v in changes.items() if name in PROTOCOL.__dataclass_fields__}
    rest = {name: v for name, v in changes.items() if name not in protocol}
    found = measured(Interval(1.0, 0.9, 1.1, 0.95, "so"), FLOOR, "lower", replace(PROTOCOL, **protocol))
    return replace(found, **rest)


def test_json_gives_back_the_same() -> None:
    for one in (measurement(), measurement(low=None, high=None, level=None, how="too few images", floor=None)):
        text = json.dumps(to_json(one), allow_nan=False)
        assert from_json(json.loads(text)) == one


@pytest.mark.parametrize("broken", [{}, {"protocol": {}}, {"value": 1.0, "more": 2}])
def test_what_is_no_measurement_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no measurement of this version"):
        from_json(broken)
    with pytest.raises(UserError, match="no measurement of this version"):
        from_json({**to_json(measurement()), "unknown": 1})


OTHERS = {
    "metric": "precision", "settings": "k = 5", "extractor": "pixels", "weights": "ef" * 32, "preparation": "resized",
    "real": "digits, train", "real_sha256": "01" * 32, "n_real": 400, "n_fake": 400, "real_lossy": True,
    "fake_lossy": True, "real_flips": True, "fake_flips": True, "selection": "best of 3 seeds",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_unlike_protocols_are_not_compared_and_the_field_is_named(name: str) -> None:  # trap 2, trap 6, trap 31
    a, b = measurement(), measurement(**{name: OTHERS[name]})
    with pytest.raises(UserError) as refused:
        comparable(a, b)
    before, after = getattr(a.protocol, name), OTHERS[name]
    hashes = name in ("weights", "real_sha256")  # of a hash, the beginning will do
    told = f"{before[:12]}... and {after[:12]}..." if hashes else f"{before!r} and {after!r}"
    assert f"{name}: {told}" in str(refused.value)
    assert differences(a.protocol, b.protocol) == {name: (before, after)}


def test_every_field_that_decides_is_covered_and_all_that_differ_are_named() -> None:
    noted = {"seed", "versions"}
    assert set(OTHERS) == set(PROTOCOL.__dataclass_fields__) - noted - {"truncation"}
    with pytest.raises(UserError, match=r"n_fake: 500 and 400; .*measure both by one protocol") as refused:
        comparable(measurement(), measurement(**OTHERS))
    assert all(f"{name}: " in str(refused.value) for name in OTHERS)


def test_another_seed_or_version_may_be_compared() -> None:
    comparable(measurement(), measurement(seed=7, versions=(("torch", "3.0"),)))
    comparable(measurement(), measurement(value=2.0, low=1.5, high=2.5))


def test_truncated_samples_are_recorded_and_not_reported() -> None:  # trap 25
    truncated = replace(PROTOCOL, truncation=0.7)
    assert differences(PROTOCOL, truncated) == {"truncation": (None, 0.7)}
    with pytest.raises(UserError, match=r"truncation 0\.7: .*sample without truncation"):
        measurement(truncation=0.7)


def test_formats_flips_and_choice_are_said_where_the_sides_differ() -> None:  # trap 2, trap 6, trap 31
    assert PROTOCOL.remarks() == ()
    assert replace(PROTOCOL, real_lossy=True, fake_lossy=True, real_flips=True, fake_flips=True).remarks() == ()
    (mixed,) = replace(PROTOCOL, real_lossy=True).remarks()
    assert "real images come from a lossy format and the fakes do not" in mixed
    (flipped,) = replace(PROTOCOL, fake_flips=True).remarks()
    assert "fakes were taken mirrored as well and the real images were not" in flipped
    (chosen,) = replace(PROTOCOL, selection="best of 12 checkpoints").remarks()
    assert "best of 12 checkpoints" in chosen


def test_a_measurement_holds_together() -> None:
    assert (measurement().n_real, measurement(n_fake=400).n_fake) == (500, 400)
    with pytest.raises(ValueError, match="value is nan"):
        measurement(value=float("nan"))
    with pytest.raises(ValueError, match="both bounds"):
        measurement(low=None)
    with pytest.raises(ValueError, match="better is"):
        measurement(better="more")
    with pytest.raises(UserError, match="n_real 0"):
        replace(PROTOCOL, n_real=0)
