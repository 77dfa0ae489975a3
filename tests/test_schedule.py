"""Schedules: values in images seen, the text form, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerosum.schedule import Constant, Cosine, Linear, Schedule

numbers = st.floats(-1e6, 1e6)


def test_values() -> None:
    assert [Constant(3)(i) for i in (0, 7, 10**9)] == [3.0, 3.0, 3.0]
    assert [Linear(1, 3, 100)(i) for i in (0, 25, 50, 100, 101, 10**9)] == [1, 1.5, 2, 3, 3, 3]
    assert [Cosine(0, 1, 100)(i) for i in (0, 50, 100, 500)] == pytest.approx([0, 0.5, 1, 1])
    assert Cosine(0, 1, 90)(30) == pytest.approx((1 - math.cos(math.pi / 3)) / 2)
    assert Linear(2, 1, 10)(5) == 1.5


def test_a_constant_is_a_float_and_equal_schedules_are_equal() -> None:
    assert isinstance(Constant(1).start, float)
    assert Constant(1) == Constant(1.0)
    assert hash(Linear(0, 1, 5)) == hash(Linear(0, 1, 5))
    assert Linear(0, 1, 5) != Cosine(0, 1, 5)


@given(start=numbers, end=numbers, images=st.integers(1, 10**9), seen=st.integers(0, 2 * 10**9))
def test_a_schedule_stays_between_its_ends_and_ends_at_the_end(
    start: float, end: float, images: int, seen: int
) -> None:
    for schedule in (Linear(start, end, images), Cosine(start, end, images)):
        low, high = min(start, end), max(start, end)
        slack = 1e-9 * max(abs(start), abs(end), 1)
        assert low - slack <= schedule(seen) <= high + slack
        assert schedule(0) == start
        assert schedule(images) == pytest.approx(end, abs=slack)
        assert schedule(images) == schedule(images + seen)


@given(start=numbers, end=numbers, images=st.integers(1, 10**9))
def test_the_text_form_gives_it_back(start: float, end: float, images: int) -> None:
    for schedule in (Constant(start), Linear(start, end, images), Cosine(start, end, images)):
        assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0.05", Constant(0.05)),
        ("2e-4", Constant(2e-4)),
        ("0", Constant(0)),
        ("linear:0:1:1e5", Linear(0, 1, 100_000)),
        ("cosine:1e-3:0:50000", Cosine(1e-3, 0, 50_000)),
    ],
)
def test_text_forms(text: str, schedule: Schedule) -> None:
    assert Schedule.parse(text) == schedule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "linear",
        "linear:0:1",
        "linear:0:1:0",
        "linear:0:1:-5",
        "cosine:0:x:9",
        "step:0:1:9",
        "1:2:3:4:5",
    ],
)
def test_other_text_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="is not a schedule: give a number, linear:START:END:IMAGES or cosine:"):
        Schedule.parse(text)


@pytest.mark.parametrize("make", [Linear, Cosine])
@pytest.mark.parametrize("images", [0, -1])
def test_a_length_must_be_positive(make: type, images: int) -> None:
    with pytest.raises(ValueError, match=f"images={images}: a schedule's length in images must be above 0"):
        make(0, 1, images)


@pytest.mark.parametrize("text", ["nan", "inf", "linear:0:nan:5", "linear:0:inf:5", "linear:0:1:1e999"])
def test_a_value_must_be_finite(text: str) -> None:
    with pytest.raises(ValueError, match="is not a schedule"):
        Schedule.parse(text)
