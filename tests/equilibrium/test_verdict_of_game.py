"""The verdict: a table of what was measured and the sentence that follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zerosum.equilibrium.gap import Gain, Regret
from zerosum.equilibrium.two_sample import ALPHA, Judgement, TwoSample, detectable
from zerosum.equilibrium.verdict import LEAST_POINTS, Evidence, trend, verdict
from zerosum.metrics.intervals import Interval, binomial

N = 1_000


def judgement(judge: str, accuracy: float, n: int = N) -> Judgement:
    right = round(accuracy * n)
    return Judgement(judge, right, n, binomial(right, n, 1 - ALPHA / 4))


def jury(best: float = 0.8, control: float = 0.5, n: int = N) -> TwoSample:
    fake = (judgement("logistic", 0.5, n), judgement("small CNN", best, n))
    controls = (judgement("logistic", control, n), judgement("small CNN", 0.5, n))
    return TwoSample(fake, controls, n // 2, n // 2, detectable(n, ALPHA / 4), ALPHA, 0)


def curve(kind: str, n: int = 60) -> tuple[float, ...]:
    noise = np.random.default_rng(0).standard_normal(n)
    x = np.arange(n)
    return tuple(
        {
            "falling": 1 - 0.01 * x + 0.01 * noise,
            "rising": 1 + 0.01 * x + 0.01 * noise,
            "flat": 1 + 0.05 * noise,
            "swinging": 1 + np.sin(x / 2.5) + 0.05 * noise,
            "ripple": 1 + 0.05 * np.sin(x / 2.5),
            "still": np.ones(n),
        }[kind].tolist()
    )


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ({"test": jury(best=0.51)}, "at equilibrium", "of 2 fresh judges none tells generated from real"),
        ({"test": jury(best=0.51, n=60)}, "not enough data", "with 60 images an accuracy below"),
        ({"test": jury(control=0.6)}, "test broken", "logistic is right 60.0 % of the time on real images against"),
        ({"test": jury(control=0.4)}, "test broken", "less than chance allows"),
        ({"test": jury(control=0.6), "copies": "5 % are copies."}, "test broken", "so nothing can be said"),
        ({"copies": "5 % of the images are copies."}, "memorising", "Memorising: 5 % of the images are copies"),
        ({"test": jury(best=0.5), "copies": "5 % are copies."}, "memorising", "5 % are copies"),
        ({"diversity": 0.17}, "G collapsed", "differ only 17% as much as real ones do"),
        ({"diversity": 0.17, "d_wins": True}, "G collapsed", "small CNN tells generated from real 80.0 % of the time"),
        ({"diversity": 0.17, "test": jury(best=0.5)}, "at equilibrium", "At equilibrium"),
        ({"d_wins": True, "diversity": 0.9}, "D wins", "right almost always"),
        ({"d_wins": True, "test": jury(best=0.5)}, "at equilibrium", "50.0 % right"),
        ({"distances": curve("falling")}, "converging", "its distance to the real data still falls"),
        ({"distances": curve("rising")}, "moving away", "an earlier checkpoint may be better"),
        ({"distances": curve("swinging")}, "cycling", "swings up and down without getting lower"),
        ({"distances": curve("flat")}, "settled short", "no longer falls, yet small CNN"),
        ({"distances": curve("flat")[:10]}, "not enough data", "too short to say whether it converges"),
        ({"gaps": curve("falling")}, "converging", "the duality gap still falls"),
        ({"gaps": curve("falling"), "distances": curve("flat")}, "settled short", "distance"),
        ({"gaps": curve("swinging"), "distances": curve("flat")[:10]}, "cycling", "the duality gap swings"),
        ({}, "not enough data", "Not at equilibrium"),
    ],
)
def test_every_case(given: dict[str, Any], kind: str, says: str) -> None:
    found = verdict(Evidence(**({"test": jury()} | given)))
    assert found.kind == kind
    assert says in found.sentence
    assert not found.sentence.endswith("."), "who prints it ends it"


def test_it_gives_its_reasons() -> None:
    known = Interval(0.25, 0.125, 0.5, 0.95, "")
    point = Regret(100, 20, 64, 64, (Gain("D", 1.0, 0.75, known),), known)
    because = verdict(Evidence(test=jury(), regret=(point,))).because
    assert len(because) == 5
    assert because[1].startswith("generated against real: small CNN 80.0 % right (")
    assert because[4] == "D gains 0.25 (0.125 to 0.5) in 20 extra turns, from a loss of 1"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("falling", "falling"), ("rising", "rising"), ("flat", "flat"), ("swinging", "swinging"), ("ripple", "flat"),
     ("still", "flat")],
)  # fmt: skip
def test_trends(kind: str, expected: str) -> None:
    values = curve(kind)
    assert trend(values) == expected
    assert trend([v * 1e-6 for v in values]) == expected, "whatever the unit"
    assert trend(values[: 2 * LEAST_POINTS - 2]) == "unknown"


@pytest.mark.parametrize("phase", range(8))
def test_a_part_of_a_swing_is_no_trend(phase: int) -> None:
    """Two periods or more in the last half, wherever it ends; the amplitude is that of games that circle."""
    noise = np.random.default_rng(phase).standard_normal(100)
    for period in (10, 20, 25):
        x = np.exp(0.4 * np.sin(2 * np.pi * (np.arange(100) / period + phase / 8)) + 0.1 * noise)
        assert trend(x.tolist()) == "swinging", period


@pytest.mark.parametrize("noise", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_noisy_fall_is_no_swing(noise: float, power: float) -> None:
    random = np.random.default_rng(2)
    x = np.linspace(0.1, 2, 100) ** -power
    said = [trend((x * np.exp(noise * random.standard_normal(100))).tolist()) for _ in range(50)]
    assert said.count("swinging") <= 2


def test_only_the_last_half_counts() -> None:
    assert trend([*curve("falling", 30), *curve("flat", 30)]) == "flat"
    assert trend([*curve("rising", 30), *curve("falling", 30)]) == "falling"


def test_noise_has_no_trend() -> None:
    """Of 200 curves of mere noise, few are called anything: 1 % a side for each of the two tests."""
    random = np.random.default_rng(1)
    called = sum(trend(list(1 + random.standard_normal(60))) != "flat" for _ in range(200))
    assert called <= 10


def test_a_curve_with_worst_values_is_no_error() -> None:
    assert trend([3e38] * 40) == "flat"
    assert trend([*([1.0] * 20), *([3e38] * 20)]) == "flat"


def test_a_single_sided_win_of_a_judge_is_found() -> None:
    t = jury(best=0.5)
    t = replace(t, fake=(judgement("logistic", 0.7), judgement("small CNN", 0.5)))
    assert verdict(Evidence(test=t)).kind == "not enough data"
    assert "logistic tells generated from real 70.0 %" in verdict(Evidence(test=t)).sentence
