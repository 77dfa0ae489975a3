"""Curves and strips of the report: numbers in the right places, bands, floors, nothing undone."""

from __future__ import annotations

import re

import pytest

from zerosum.equilibrium.advisor import Score
from zerosum.metrics.intervals import Interval
from zerosum.metrics.report import curves, strips
from zerosum.metrics.report.curves import Point
from zerosum.metrics.report.records import Advice, Regret

ADVICE = Advice(
    stop=False, text="Go on.", best=Score(2, 3.0, 2.9, 3.1), chance=0.2, forecast=Score(6, 2.5, 2.0, 3.0), images_seen=3
)


def row(seen: float, **values: float) -> dict[str, object]:
    return {"event": "probe", "images_seen": seen, **values}


def test_what_was_undone_is_not_drawn() -> None:
    events = [row(x, loss=y) for x, y in ((1, 1.0), (2, 9.0), (3, 9.0), (2, 2.0))]
    assert curves.series(events) == {"loss": [Point(1.0, 1.0), Point(2.0, 2.0)]}


def test_standard_errors_and_interval_ends_become_bands() -> None:
    found = curves.series([row(1, distance=5.0, distance_error=0.5, gap=2.0, gap_low=1.0, gap_high=4.0, x_error=3.0)])
    assert found["distance"] == [Point(1.0, 5.0, 5.0 - 1.96 * 0.5, 5.0 + 1.96 * 0.5)]
    assert found["gap"] == [Point(1.0, 2.0, 1.0, 4.0)]
    assert set(found) == {"distance", "gap", "x_error"}  # an error of nothing is a number like others


def test_long_curves_are_thinned_and_smoothed_without_a_shift() -> None:
    points = [Point(float(i), 2.0 * i, 2.0 * i - 1, 2.0 * i + 1) for i in range(10_001)]
    thin = curves._thinned(points)
    assert len(thin) <= curves.POINTS
    for p in thin:
        assert (p.value, p.low, p.high) == pytest.approx((2 * p.images_seen, p.value - 1, p.value + 1))
    (chart,) = curves.curves([row(i, diversity=0.5) for i in range(10_001)])
    assert 300 < len(chart.to_json()["lines"][0]["points"]) <= curves.POINTS
    smooth = curves._smooth([p.value for p in thin])
    middle = len(thin) // 2
    assert smooth[middle] == pytest.approx(thin[middle].value)
    assert curves._smooth([1.0, 5.0]) == [1.0, 5.0]


def regret(seen: int, gain: float) -> Regret:
    found = Interval(gain, gain - 0.1, gain + 0.1, 0.95, "")
    return Regret(images_seen=seen, turns=20, gains={"D": found}, gap=found)


def test_the_regret_of_checkpoints_is_a_curve() -> None:
    (chart,) = curves.curves([], [regret(200, 0.2), regret(100, 0.5)])
    assert [line.key for line in chart.lines] == ["regret/D", "regret/gap"]
    assert chart.lines[0].points == (Point(100, 0.5, 0.4, 0.6), Point(200, 0.2, 0.1, pytest.approx(0.3)))
    assert chart.banded
    assert chart.chart.level == (0.0, "none")


def test_of_two_curves_of_one_thing_the_fuller_is_drawn() -> None:
    events = [row(x, **{"regret/gap": 1.0}) for x in (1, 2, 3)]
    (chart,) = curves.curves(events, [regret(200, 0.2)])
    assert {line.key: len(line.points) for line in chart.lines} == {"regret/D": 1, "regret/gap": 3}


def test_bands_levels_and_the_best_moment_are_drawn() -> None:
    plain = [row(x, distance=3.0) for x in (1, 2, 3)]
    banded = [row(x, distance=3.0, distance_error=0.2) for x in (1, 2, 3)]
    (without,), (with_band,), (marked,) = (
        curves.curves(events, advice=given) for events, given in ((plain, None), (banded, None), (plain, ADVICE))
    )
    assert "fill: var(--c0); fill-opacity: 0.2" in with_band.svg
    assert "fill-opacity: 0.2" not in without.svg
    assert ">best</text>" in marked.svg
    assert ">best</text>" not in without.svg
    assert ">forecast</text>" in marked.svg
    assert marked.to_json()["forecast"] == [6.0, 2.5, 2.0, 3.0]
    (accuracy,) = curves.curves([row(x, **{"accuracy/real": 0.7}) for x in (1, 2)], advice=ADVICE)
    assert ">50 %</text>" in accuracy.svg
    assert ">best</text>" not in accuracy.svg


def test_a_curve_that_falls_by_a_large_factor_is_drawn_on_a_logarithmic_scale() -> None:
    assert curves._spreads((curves.Line("x", "x", (Point(1, 60.0), Point(2, 6.0))),))
    assert not curves._spreads((curves.Line("x", "x", (Point(1, 6.0), Point(2, 5.0))),))
    assert not curves._spreads((curves.Line("x", "x", (Point(1, 6.0), Point(2, -0.1))),))
    assert curves._spreads((curves.Line("x", "x", (Point(1, 6.0), Point(2, 5.0))),), (1.0, "real"))
    assert not curves._spreads((curves.Line("x", "x", (Point(1, 60.0), Point(2, 6.0))),), (0.0, "real"))


def test_the_floor_of_the_distance_is_a_line_where_the_log_has_it() -> None:
    old, new = ([row(x, distance=3.0, **more) for x in (1, 2, 3)] for more in ({}, {"floor": 1.5}))
    (without,), (with_floor,) = curves.curves(old), curves.curves(new)
    assert without.chart.level is None
    assert ">real</text>" not in without.svg
    assert ">real</text>" in with_floor.svg
    assert with_floor.to_json()["level"] == {"value": 1.5, "name": "real"}
    assert [line.key for line in with_floor.lines] == ["distance"]
    assert curves.AT_FLOOR in with_floor.chart.reading
    assert curves.AT_FLOOR not in without.chart.reading


# --- strips ------------------------------------------------------------------------------------------------------


def test_a_scale_holds_what_it_is_made_for() -> None:
    scale = strips.around((3.0, None, -1.0))
    assert strips.EDGE < scale(-1.0) < scale(1.0) < scale(3.0) < strips.WIDTH - strips.EDGE
    assert scale(1.0) == pytest.approx(strips.WIDTH / 2)
    assert scale(99.0) == strips.WIDTH - strips.EDGE  # what is outside is at the edge
    one = strips.around((2.0,))
    assert one(2.0) == pytest.approx(strips.WIDTH / 2)


def test_a_strip_puts_value_interval_band_and_line_where_they_are() -> None:
    scale = strips.Scale(0.0, 1.0)
    found = strips.strip(scale, 0.5, (0.25, 0.75), band=(0.0, 0.1), line=1.0)
    dot = re.search(r'<circle cx="([\d.]+)"', found)
    bar = re.search(r'<line x1="([\d.]+)" y1="11" x2="([\d.]+)"', found)
    band = re.search(r'<rect x="([\d.]+)" y="2" width="([\d.]+)"', found)
    across = re.search(r'<line x1="([\d.]+)" y1="0"', found)
    assert dot and bar and band and across  # noqa: PT018
    assert float(dot[1]) == 90.0
    assert (float(bar[1]), float(bar[2])) == (48.0, 132.0)
    assert (float(band[1]), float(band[2])) == (6.0, 16.8)
    assert float(across[1]) == 174.0


def test_a_strip_without_an_interval_is_a_dot() -> None:
    assert strips.strip(strips.Scale(0, 1), 0.5, (None, None)).count("<line") == 0
