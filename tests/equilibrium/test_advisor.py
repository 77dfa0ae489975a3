"""The stop advisor on made-up runs whose right answer is known, and its sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from zerosum.equilibrium import advisor as module
from zerosum.equilibrium.advisor import LEAST, Advice, Advisor, Point, forecast, sentence

STEP = 1_000
Curve = Callable[[float], float]
NOISE = 0.04


def run(curve: Curve, *, seed: int, readings: int = 100, noise: float = NOISE, most: int | None = None) -> Advisor:
    """Readings of a curve of images seen, with multiplicative noise of known size, until it says stop."""
    random = np.random.default_rng(seed)
    advisor = Advisor(most)
    for i in range(1, readings + 1):
        value = curve(i * STEP)
        advisor.take(Point(i * STEP, value * math.exp(noise * random.standard_normal()), value * noise, i % 2 == 0))
        if advisor.ends("converged"):
            break
    return advisor


def stops(curve: Curve, **more: float) -> list[int]:
    """Where it stops, for ten draws of the noise; 10^9 if it does not."""
    found = [run(curve, seed=seed, **more) for seed in range(10)]  # type: ignore[arg-type]
    return [a.points[-1].images_seen if a.ends("converged") else 10**9 for a in found]


def falling(seen: float) -> float:
    return 50 * (seen / STEP) ** -0.5


def settling(seen: float) -> float:
    """At its level, to 5 %, from 20 readings on."""
    return 4 + 40 * math.exp(-seen / STEP / 4)


def collapsing(seen: float) -> float:
    return falling(seen) if seen < 30 * STEP else 3 * falling(30 * STEP)


def wearing_out(seen: float) -> float:
    """Best at 40 readings, then slowly worse: D knows its data by heart."""
    return falling(min(seen, 40 * STEP)) * max(1.0, seen / STEP / 40) ** 0.7


def test_a_run_that_improves_goes_on() -> None:
    assert min(stops(falling)) == 10**9


def test_a_game_that_grows_is_not_ended_by_what_a_small_size_has_come_to() -> None:
    """Settled at a small size; then whole, and settled anew."""
    random = np.random.default_rng(0)
    advisor = Advisor()
    for i in range(1, 601):
        seen, growing = i * STEP, i <= 100
        value = settling(seen) if growing else settling((seen - 100 * STEP) / 2) / 3  # whole, it takes twice as long
        advisor.take(
            Point(seen, value * math.exp(NOISE * random.standard_normal()), value * NOISE, True, None, growing)
        )
        if i < 100 + LEAST:
            assert not advisor.ends("converged")
            assert advisor.advice is None or advisor.advice.reason == (module.GROWING if growing else module.GROWN)
        elif i < 125:  # it falls yet
            assert not advisor.ends("converged")
        elif advisor.ends("converged"):
            break
    assert advisor.ends("converged")
    assert not Advisor(None, advisor.state()[:100]).ends("converged")
    events = [
        {"event": "probe", "images_seen": p[0], "distance": p[1], "distance_error": p[2], "growing": p[5]}
        for p in advisor.state()
    ]
    said = sentence(events[:100], set(), 60.0)
    assert said is not None
    assert said.startswith(f"go on: {module.GROWING}; best so far is --checkpoint ")
    assert str(sentence(events[:105], set(), 60.0)).startswith(f"go on: {module.GROWN}; best")
    assert "doublings" not in str(sentence(events, set(), 60.0))


def test_a_run_that_has_settled_ends() -> None:
    found = stops(settling)
    assert min(found) > 20 * STEP
    assert sorted(found)[8] <= 80 * STEP


@pytest.mark.parametrize("curve", [collapsing, wearing_out])
def test_a_run_past_its_best_ends_and_the_best_is_named(curve: Curve) -> None:
    best = min(curve(i * STEP) for i in range(1, 101))
    for seed in range(10):
        found = run(curve, seed=seed)
        assert found.ends("converged")
        assert found.points[-1].images_seen <= 90 * STEP
        assert found.advice is not None
        assert curve(found.advice.best.images_seen) <= 1.1 * best
        assert found.advice.best.low / 1.1 < best < found.advice.best.high
        assert not found.ends("length")


def test_no_advice_from_few_readings() -> None:
    early = run(lambda seen: 1.0, seed=0, readings=LEAST - 1)
    assert early.advice is None
    assert run(lambda seen: 1.0, seed=0, readings=LEAST).advice is not None


def test_the_forecast_is_as_sure_as_it_says() -> None:
    """Of 300 runs with a power law and known noise: the interval of 95 % and the score at twice the images."""
    held = 0
    random = np.random.default_rng(7)
    for _ in range(300):
        y = [falling(i * STEP) * math.exp(NOISE * random.standard_normal()) for i in range(1, 61)]
        points = [Point(i * STEP, v, v * NOISE, False) for i, v in enumerate(y, 1)]
        _, _, middle, spread = forecast(points, 60 * STEP)
        truth = math.log(falling(120 * STEP)) + NOISE * random.standard_normal()
        held += abs(truth - middle) < 1.96 * spread
    assert 0.9 <= held / 300 <= 0.995


def test_no_score_is_foretold_that_is_nearer_than_real_images_are() -> None:
    unbounded = run(falling, seed=0, noise=0.001)
    floor = falling(100 * STEP) * 0.99
    bounded = Advisor()
    for point in unbounded.points:
        bounded.take(replace(point, floor=floor))
    assert unbounded.advice is not None
    assert bounded.advice is not None
    assert unbounded.advice.forecast.value < floor <= bounded.advice.forecast.value * 1.0001
    assert unbounded.advice.chance > 0.9
    assert bounded.advice.chance < 0.5
    assert Advisor(state=bounded.state()).advice == bounded.advice


def test_scaling_distance_or_images_changes_no_advice() -> None:
    def advice(distance: float, images: int) -> list[Advice | None]:
        found = Advisor(200 * STEP * images)
        out = []
        for i in range(1, 61):
            found.take(Point(i * STEP * images, settling(i * STEP) * distance, 0.04 * distance, i % 2 == 0))
            out.append(found.advice)
        return out

    for one, other in zip(advice(1, 1), advice(1e-6, 7), strict=True):
        if one is None or other is None:
            assert one is other
            continue
        assert one.stop == other.stop
        assert one.chance == pytest.approx(other.chance, abs=1e-9)
        assert one.best.images_seen * 7 == other.best.images_seen


def test_a_run_that_never_learned_is_not_ended() -> None:
    for start, ended in ((100.0, True), (5.0, False)):
        found = Advisor()
        found.take(Point(0, start, 0.1, True))
        for i in range(1, 101):
            found.take(Point(i * STEP, 4.0 if i < 20 else 6.0 + i % 2, 0.1, i % 2 == 0))
        assert found.ends("converged") == ended
        assert found.advice is not None
        assert ("has not learned" in found.advice.reason) != ended


def test_its_state_is_all_there_is() -> None:
    whole = run(collapsing, seed=1)
    for cut in (3, 20, len(whole.points)):
        copy = Advisor(state=whole.state()[:cut])
        for point in whole.points[cut:]:
            copy.take(point)
        assert (copy.advice, copy.scores, copy.state()) == (whole.advice, whole.scores, whole.state())


def test_the_best_is_a_moment_that_was_saved_and_its_score_is_in_the_checkpoint() -> None:
    found = run(wearing_out, seed=2)
    assert found.advice is not None
    assert found.advice.best.images_seen % (2 * STEP) == 0
    last = found.points[-1].images_seen
    assert found.score_at(last)["score"] == found.scores[-1].value
    assert found.score_at(last + 1) == {"score": None}


def test_the_end_of_the_run_is_as_far_as_it_looks() -> None:
    found = run(falling, seed=1, readings=50, most=60 * STEP)
    assert found.advice is not None
    assert found.advice.ahead == 10 * STEP
    assert found.advice.forecast.images_seen == 60 * STEP
    assert found.advice.forecast.low < falling(60 * STEP) < found.advice.forecast.high


def events(advisor: Advisor) -> list[dict[str, object]]:
    rows = [
        {"event": "probe", "images_seen": p.images_seen, "distance": p.distance, "distance_error": p.error}
        for p in advisor.points
    ]
    first = {"event": "probe", "images_seen": 0, "distance": 99.0, "distance_error": 0.1}
    last = {"event": "probe", "images_seen": 10**9, "distance": 1e-9, "distance_error": 0.1, "final": True}
    return [first, {"event": "progress", "images_seen": 5}, *rows, last]


def test_the_sentence() -> None:
    ended = run(collapsing, seed=3)
    text = sentence(events(ended), range(0, 100 * STEP, 2 * STEP), 3_600)
    assert text is not None
    assert text.startswith(f"stop; use --checkpoint {ended.advice.best.images_seen}; another ")  # type: ignore[union-attr]
    assert "(60 min) have about a 10 % chance of a score better by more than 5 %: the score is " in text
    text = sentence(events(run(falling, seed=0)), (), 30)
    assert text is not None
    assert text.startswith("go on; use --checkpoint 1")
    assert "100,000 images have a 99 % chance" in text
    assert sentence([], (), 0.0) is None


@pytest.mark.parametrize(
    ("probes", "says"), [(0, "it has no probes after the start"), (1, "it has 1 probe after"), (14, "it has 14 probes")]
)
def test_a_run_too_short_for_advice_is_told_so(probes: int, says: str) -> None:
    text = sentence(events(run(falling, seed=0, readings=probes)), (), 30)
    assert text is not None
    assert text.startswith("the run is too short to say whether to go on: ")
    assert says in text
    assert text.endswith(f", and {LEAST} are needed")


@pytest.mark.parametrize("value", [0.0, -1.0, 3.4e38])
def test_strange_readings_break_nothing(value: float) -> None:
    found = Advisor()
    for i in range(1, 40):
        found.take(Point(i, max(value if i % 7 == 0 else 5.0, module.TINY), 0.1, False))
    assert found.advice is not None
    assert 0 <= found.advice.chance <= 1
