"""The rate of a run and the time it has left, as a view is told."""

from __future__ import annotations

import pytest

from zerosum.progress import Progress
from zerosum.view.words import pace


def test_a_session_has_no_rate_before_its_first_step() -> None:
    for seen, seconds in ((0, 0.0), (600, 60.0)):  # new, and resumed
        progress = Progress(1_000, None, seen, seconds)
        first = progress.status(seen, seconds, 0)
        assert (first.images_per_second, first.seconds_left) == (None, None)
        assert pace(first) == f"{'1:00' if seen else '0:00'} gone"
        soon = progress.status(seen + 40, seconds + 2, 0)
        assert (soon.images_per_second, soon.seconds_left) == (20.0, pytest.approx((960 - seen) / 20))


def test_the_rate_is_that_of_the_last_row_of_the_log() -> None:
    progress = Progress(1_000, None, 0, 0.0)
    assert progress.row({}, 100, 1.0) == 100
    assert progress.row({"loss/D": 0.5}, 200, 5.0) == 25
    status = progress.status(240, 6.0, 0)
    assert (status.images_per_second, status.seconds_left) == (25, 760 / 25)
    assert status.losses == {"D": 0.5}


def test_a_run_by_the_clock_knows_what_is_left() -> None:
    assert Progress(None, 2.0, 0, 0.0).status(0, 0.0, 0).seconds_left == 120


def test_of_a_game_that_grows_yet_only_the_clock_knows_what_is_left() -> None:
    for minutes, left in ((None, None), (2.0, 110.0)):
        progress = Progress(1_000, minutes, 0, 0.0)
        assert progress.status(100, 10.0, 0, slowing=True).seconds_left == left
        assert progress.status(100, 10.0, 0).seconds_left == min(90.0, left or 90.0)
