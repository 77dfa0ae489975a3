"""The watch: each trouble is named once, in a sentence, and again only after it has passed."""

from __future__ import annotations

import json

import pytest

from zerosum.equilibrium.watch import COLLAPSED, RECOVERED, WINS, WINS_ROWS, Watch

WON = {"accuracy/real": 0.99, "accuracy/fake": 0.985}
EVEN = {"accuracy/real": 0.6, "accuracy/fake": 0.55}


def rows(watch: Watch, scores: dict[str, float], times: int, skipped: int = 0) -> list[str]:
    return [said for _ in range(times) for said in watch.row(scores, skipped)]


def test_d_wins_is_said_once_and_taken_back_once() -> None:
    watch = Watch()
    assert rows(watch, WON, WINS_ROWS - 1) == []
    (said,) = rows(watch, WON, 1)
    assert said.startswith("D wins: it tells real from fake almost always (99% and 98% right)")
    assert "--adam-d.lr" in said, "and says what to do"
    assert rows(watch, WON, 50) == []
    (said,) = rows(watch, EVEN, 1)
    assert said == "D no longer wins almost always: the game goes on"
    assert rows(watch, EVEN, 50) == []
    assert len(rows(watch, WON, 50)) == 1, "and said again when it happens again"


def test_a_short_lead_is_no_win() -> None:
    watch = Watch()
    for _ in range(20):
        assert rows(watch, WON, WINS_ROWS - 1) == []
        assert rows(watch, EVEN, 1) == []


@pytest.mark.parametrize(
    "scores", [{"accuracy/real": 1.0, "accuracy/fake": 0.5}, {"accuracy/real": WINS, "accuracy/fake": 1.0}]
)
def test_both_sides_must_be_won(scores: dict[str, float]) -> None:
    assert rows(Watch(), scores, 50) == []


def test_rows_without_accuracies_say_nothing() -> None:
    watch = Watch()
    rows(watch, WON, WINS_ROWS - 1)
    assert rows(watch, {"loss/D": 1.0}, 20) == []
    assert len(rows(watch, WON, 1)) == 1, "and do not interrupt"


def test_skipped_updates_are_counted() -> None:
    watch = Watch()
    assert rows(watch, EVEN, 3, skipped=0) == []
    assert rows(watch, EVEN, 1, skipped=1) == ["1 update skipped for a gradient that was not finite (1 so far)"]
    assert rows(watch, EVEN, 5, skipped=1) == []
    assert rows(watch, EVEN, 1, skipped=4) == ["3 updates skipped for a gradient that was not finite (4 so far)"]


def test_two_troubles_in_one_row() -> None:
    watch = Watch()
    rows(watch, WON, WINS_ROWS - 1)
    assert [said[:6] for said in watch.row(WON, 2)] == ["D wins", "2 upda"]


def test_a_collapse_is_said_once_and_taken_back_once() -> None:
    watch = Watch()
    assert watch.probe(0.9) == []
    (said,) = watch.probe(0.1)
    assert said.startswith("G collapsed: its images differ only 10% as much as real ones do")
    assert "zerosum sample --checkpoint best" in said
    assert watch.probe(0.05) == []
    assert watch.probe((COLLAPSED + RECOVERED) / 2) == [], "between the marks nothing changes"
    assert watch.probe(0.2) == []
    assert watch.probe(0.8) == ["G's images vary again"]
    assert watch.probe(0.8) == []
    assert len(watch.probe(0.0)) == 1


def test_a_generator_that_has_not_begun_is_not_collapsed() -> None:
    watch = Watch()
    assert [watch.probe(d) for d in (0.0, 0.1, 0.3, 0.4)] == [[]] * 4
    assert watch.probe(0.6) == []
    assert len(watch.probe(0.3)) == 1


def test_it_goes_on_where_it_was() -> None:
    """A resumed run says the same things: after any number of rows, a copy through JSON behaves alike."""
    script = [WON] * 12 + [EVEN] * 2 + [WON] * 12
    for cut in range(len(script)):
        watch = Watch()
        said = [watch.row(row, i // 5) + watch.probe(1 - i / 20) for i, row in enumerate(script[:cut])]
        copy = Watch(**json.loads(json.dumps(watch.state())))
        assert copy == watch
        for i, row in enumerate(script[cut:], cut):
            said.append(copy.row(row, i // 5) + copy.probe(1 - i / 20))
        whole = Watch()
        assert said == [whole.row(row, i // 5) + whole.probe(1 - i / 20) for i, row in enumerate(script)]
