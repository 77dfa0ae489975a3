"""The classifier two-sample test: silent on equals, loud on planted differences, and it catches broken set-ups."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from zerosum.data.source import open_source
from zerosum.data.spec import Data, Spec
from zerosum.equilibrium.two_sample import ALPHA, LEAST, TwoSample, detectable, judges, two_sample
from zerosum.errors import UserError
from zerosum.metrics.intervals import binomial


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All of them in a random order, with their labels."""
    found = open_source(Data(source="digits", split="all"))
    order = np.random.default_rng(0).permutation(len(found))
    assert found.labels is not None
    return found.values[order], found.labels[order]


def thirds() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, _ = digits()
    n = len(values) // 3
    return values[:n], values[n : 2 * n], values[2 * n : 3 * n]


def points(seed: int, n: int = 600, shift: float = 0.0) -> np.ndarray:
    offset = np.array([shift, 0.0])
    return (np.random.default_rng(seed).standard_normal((n, 2)) + offset).astype(np.float32)


def quick(real: np.ndarray, fake: np.ndarray, control: np.ndarray, seed: int = 0) -> TwoSample:
    return two_sample(real, fake, control, seed=seed, quick=True)


def test_real_against_real_cannot_be_told() -> None:
    """Both the pretended fakes and the control are real digits."""
    found = quick(*thirds())
    assert not found.found
    assert found.broken is None
    for j in (*found.fake, *found.control):
        assert j.guesses
        assert abs(j.accuracy.value - 0.5) < 0.08
        assert j.accuracy == binomial(j.right, j.n, 1 - ALPHA / 6), "corrected for six tests"
    assert (found.trained_on, found.judged, found.tests) == (299, 299, 6)
    assert found.detectable == detectable(598, ALPHA / 6)


@pytest.mark.parametrize("fault", ["noise", "blur", "brightness"])
def test_a_planted_difference_is_found(fault: str) -> None:
    real, other, control = thirds()
    x = other.astype(np.float64)
    if fault == "noise":
        x += np.random.default_rng(1).normal(0, 40, x.shape)
    elif fault == "blur":
        x = (2 * x + np.roll(x, 1, 3) + np.roll(x, -1, 3)) / 4
    else:
        x *= 0.8
    found = quick(real, np.clip(x.round(), 0, 255).astype(np.uint8), control)
    assert found.found
    assert found.best.tells
    assert found.broken is None, "the control is as it was"


def test_a_missing_class_is_found() -> None:
    """Of four classes one is gone: the best judge there is would be right in 5/8 of cases."""
    values, labels = digits()
    four = labels < 4
    x, y = values[four], labels[four]
    n = len(x) // 3
    fake = x[n : 2 * n][y[n : 2 * n] != 0]
    found = two_sample(x[:n], fake, x[2 * n :], quick=False)
    assert found.broken is None
    assert found.best.accuracy.value < 5 / 8 + 0.09
    assert found.best.accuracy.value > 0.5 + 0.03
    dropped = points(0, 1_200)
    halves = quick(points(1, 1_200), dropped[dropped[:, 0] > 0], points(2, 1_200))
    assert halves.found, "half of the plane is missing"


def test_the_control_catches_a_shift_in_one_half_of_the_reals() -> None:
    real, fake, control = thirds()
    found = quick(real, fake, np.roll(control, 1, axis=3))
    assert found.broken is not None
    assert found.broken.accuracy.low > 0.5
    assert not found.found, "what the fakes are is another question"


def test_the_control_catches_near_duplicates_in_both_halves() -> None:
    """What was learned as one side comes back as the other, so judges are wrong more often than a guess."""
    random = np.random.default_rng(0)
    real, fake = (random.integers(0, 256, (200, 1, 8, 8), dtype=np.uint8) for _ in range(2))
    found = quick(real, fake, real.copy())
    assert found.broken is not None
    assert found.broken.accuracy.high < 0.5


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Twelve clean tests: at 5 % for the six intervals of each, more than three alarms have a chance of 0.2 %."""
    alarms = 0
    for i in range(12):
        found = quick(points(3 * i, 60), points(3 * i + 1, 60), points(3 * i + 2, 60), seed=i)
        alarms += found.found or found.broken is not None
    assert alarms <= 3


def test_a_shift_of_known_size_is_told_as_often_as_theory_allows() -> None:
    """Between normals a distance m apart the best judge is right with probability Phi(m / 2)."""
    m = 1.0
    best = (1 + math.erf(m / 2 / math.sqrt(2))) / 2
    found = two_sample(points(0, 4_000), points(1, 4_000, shift=m), points(2, 4_000))
    for j in found.fake:
        assert j.accuracy.low < best + 0.01
        assert j.accuracy.value == pytest.approx(best, abs=0.03)


@pytest.mark.parametrize("n", [6, 40, 360, 2_000])
def test_what_is_detectable_is_detected(n: int) -> None:
    """At the detectable accuracy, exactly 80 % of all samples of guesses have an interval above one half."""
    alpha = 0.05 / 3
    p = detectable(n, alpha)
    found = [k for k in range(n + 1) if binomial(k, n, 1 - alpha).low > 0.5]
    if not found:
        assert p == 1.0
        return
    chance = sum(math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
                          + k * math.log(p) + (n - k) * math.log1p(-p)) for k in found)  # fmt: skip
    assert chance == pytest.approx(0.8, abs=1e-6)
    assert detectable(4 * n, alpha) < p


def test_the_same_seed_gives_the_same_answer_and_touches_nothing() -> None:
    before = torch.get_rng_state()
    real, fake, control = (points(i, 60) for i in range(3))
    copies = [x.copy() for x in (real, fake, control)]
    found = quick(real, fake, control)
    assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip((real, fake, control), copies, strict=True))
    torch.manual_seed(99)
    assert quick(real, fake, control) == found
    other = quick(real, fake, control, seed=1)
    assert [j.right for j in other.fake + other.control] != [j.right for j in found.fake + found.control]


def test_scoring_uses_only_what_was_not_learned() -> None:
    """Labels drawn by chance can be learned by heart; an accuracy near one half shows that none was scored again."""
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (80, 1, 8, 8), dtype=np.uint8) for _ in range(3)]
    assert all(0.3 < j.accuracy.value < 0.7 for j in two_sample(*noise).fake)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 17), (4, 4, 4), (3, 96, 64), (2,), (5,)])
def test_judges_for_any_data(shape: tuple[int, ...]) -> None:
    sizes = []
    for judge in judges(Spec(shape)):
        network = judge.build(shape)
        assert network(torch.zeros(3, *shape)).shape == (3,)
        assert not any(m.__class__.__name__.startswith("BatchNorm") for m in network.modules())  # trap 9
        sizes.append(sum(p.numel() for p in network.parameters()))
    assert len(set(sizes)) == 3, "of different capacity"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda x: x.astype(np.float32), "give all three as uint8"),
        (lambda x: x[:, :, :7], "of one shape"),
        (lambda x: x[: LEAST - 2], "n=18: the two-sample test needs 20 samples"),
    ],
)
def test_unlike_arrays_are_refused(changed: object, words: str) -> None:
    real, fake, control = thirds()
    with pytest.raises(UserError, match=words):
        quick(real, changed(fake), control)  # type: ignore[operator]
