"""Class shares against the textbook's formulas, and a dropped class."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.metrics.balance import class_balance


def draw(n: int, classes: int, seed: int) -> Tensor:
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


def test_against_the_formula() -> None:
    real, fake = torch.tensor([0] * 6 + [1] * 3 + [2]), torch.tensor([0] * 2 + [2] * 4)
    p, q = np.array([6.5, 3.5, 1.5]) / 11.5, np.array([2.5, 0.5, 4.5]) / 7.5
    found = class_balance(real, fake, 3)
    assert found.divergence == pytest.approx(sum(b * log(b / a) for a, b in zip(p, q, strict=True)), rel=1e-12)
    assert found.floor == pytest.approx(1 / 10 + 1 / 6, rel=1e-12)
    assert found.real == pytest.approx((0.6, 0.3, 0.1))
    assert found.fake == pytest.approx((1 / 3, 0, 2 / 3))
    assert class_balance(real, real, 3).divergence == 0
    assert class_balance(real, real, 3).p_value == 1


def test_samples_of_one_distribution_give_the_floor_and_a_uniform_p_value() -> None:
    found = [class_balance(draw(900, 10, 2 * s), draw(600, 10, 2 * s + 1), 10) for s in range(400)]
    floor = found[0].floor
    assert np.mean([f.divergence for f in found]) == pytest.approx(floor, rel=0.1)
    p = np.array([f.p_value for f in found])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert p.mean() == pytest.approx(0.5, abs=0.06)


def test_a_dropped_class_is_seen_and_a_class_that_nobody_has_is_no_fault() -> None:
    real, fake = draw(1_000, 10, 1), draw(1_000, 9, 2)
    found = class_balance(real, fake, 10)
    assert found.divergence > 5 * found.floor
    assert found.p_value < 1e-6
    assert found.fake[9] == 0
    wider = class_balance(draw(1_000, 3, 1), draw(1_000, 3, 2), 5)
    assert wider.floor == pytest.approx(2 / 1_000)
    assert wider.p_value > 0.001


def test_bad_input_is_refused() -> None:
    good = torch.tensor([0, 1])
    with pytest.raises(UserError, match=r"fake: class numbers 0 \.\. 1"):
        class_balance(good, torch.tensor([2]), 2)
    with pytest.raises(UserError, match="real: class numbers"):
        class_balance(torch.tensor([-1]), good, 2)
    with pytest.raises(UserError, match="real: class numbers"):
        class_balance(good[:0], good, 2)
    with pytest.raises(UserError, match="classes 1"):
        class_balance(good, good, 1)
