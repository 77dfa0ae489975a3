"""Values with their errors: parity with slow formulas, and errors that are as large as the scatter they promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zerosum.metrics.distances import frechet
from zerosum.metrics.noise import dominance, frechet_reading
from zerosum.metrics.statistics import statistics


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_the_value_is_the_frechet_distance() -> None:
    x, real = normal(80, 7, 1), statistics(normal(60, 7, 2, 0.3))
    assert frechet_reading(x, real)[0] == frechet(statistics(x), real)


@pytest.mark.parametrize(("shift", "lowest", "highest"), [(0.0, 0.8, 1.2), (0.5, 0.9, 1.6)])
def test_the_error_is_the_scatter_over_fresh_samples(shift: float, lowest: float, highest: float) -> None:
    """Of 200 draws of x: about right where x and the real side differ, a little too wide where they are alike."""
    real = statistics(normal(200, 6, 0, 0.5))
    readings = torch.tensor([frechet_reading(normal(100, 6, 1 + seed, shift), real) for seed in range(200)])
    assert lowest < float(readings[:, 1].mean() / readings[:, 0].std()) < highest


@given(st.lists(st.integers(0, 5), min_size=2, max_size=9), st.lists(st.integers(0, 5), min_size=2, max_size=9))
def test_dominance_counts_pairs(a: list[int], b: list[int]) -> None:
    value, error = dominance(torch.tensor(a), torch.tensor(b))
    slow = sum((x > y) - (x < y) for x in a for y in b) / (len(a) * len(b))
    assert value == pytest.approx(slow, abs=1e-12)
    back = dominance(torch.tensor(b), torch.tensor(a))
    assert back[0] == pytest.approx(-value, abs=1e-12)
    assert back[1] == pytest.approx(error, abs=1e-12)


def test_dominance_asks_for_no_scale() -> None:
    x, y = normal(50, 1, 3, 0.5)[:, 0], normal(40, 1, 4)[:, 0]
    assert dominance(x, y) == dominance(1e3 * x.exp(), 1e3 * y.exp())
    assert dominance(x + 100, y) == (1.0, 0.0)


def test_the_error_of_dominance_is_its_scatter() -> None:
    found = torch.tensor(
        [dominance(normal(80, 1, seed, 0.5)[:, 0], normal(50, 1, 900 + seed)[:, 0]) for seed in range(400)]
    )
    assert float(found[:, 0].mean()) == pytest.approx(0.2763, abs=0.02)  # 2 Phi(0.5 / sqrt 2) - 1
    assert float(found[:, 1].mean() / found[:, 0].std()) == pytest.approx(1, abs=0.12)


def test_too_few_samples_have_no_error() -> None:
    with pytest.raises(ValueError, match="not 1 and 5"):
        dominance(torch.ones(1), torch.ones(5))
