"""Keyed randomness: whoever draws, in any batch; the right distribution; never silently another stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zerosum import randomness
from zerosum.randomness import key, normal, order, permutation, torch_seed, uniform, words

DRAWS = {
    "words": lambda first, count, width: words(3, "z", first, count, width),
    "uniform": lambda first, count, width: uniform(3, "z", first, count, width).numpy(),
    "normal": lambda first, count, width: normal(3, "z", first, count, width).numpy(),
    "order": lambda first, count, width: order(3, "z", first, count, width),
}


@pytest.mark.parametrize("draw", DRAWS)
@given(
    first=st.integers(0, 2**40),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    width=st.integers(1, 23),
)
def test_values_do_not_depend_on_how_the_samples_are_split(
    draw: str, first: int, cuts: list[int], width: int
) -> None:  # trap 21
    whole = DRAWS[draw](first, sum(cuts), width)
    start, parts = first, []
    for cut in cuts:
        parts.append(DRAWS[draw](start, cut, width))
        start += cut
    assert np.array_equal(whole, np.concatenate(parts))


def test_samples_and_purposes_and_seeds_have_numbers_of_their_own() -> None:
    def flat(seed: int, purpose: str) -> Tensor:
        return normal(seed, purpose, 0, 20_000, 1)[:, 0].double()

    streams = [flat(0, "z"), flat(0, "z2"), flat(1, "z"), flat(0, "z/flip"), flat(10, "z")]
    correlation = torch.corrcoef(torch.stack(streams)) - torch.eye(len(streams), dtype=torch.float64)
    assert float(correlation.abs().max()) < 4 / math.sqrt(20_000)
    assert len({key(seed, purpose) for seed in range(50) for purpose in ("z", "z2", "real", "1/z", "")}) == 250
    lagged = torch.corrcoef(torch.stack((streams[0][1:], streams[0][:-1])))
    assert abs(float(lagged[0, 1])) < 4 / math.sqrt(20_000)


def test_a_sample_uses_no_number_of_the_next() -> None:
    raw = words(0, "z", 0, 1_000, 5)
    assert raw.shape == (1_000, 5)
    assert len(np.unique(raw)) == raw.size


def test_moments_of_the_normal() -> None:  # trap 24
    x = normal(7, "z", 0, 50_000, 5)
    assert x.dtype == torch.float32
    x = x.double()
    n = x.shape[0]
    assert float(x.mean(0).abs().max()) < 4 / math.sqrt(n)
    assert float((x.var(0) - 1).abs().max()) < 4 * math.sqrt(2 / n)
    assert float((x**3).mean(0).abs().max()) < 4 * math.sqrt(15 / n)
    assert float(((x**4).mean(0) - 3).abs().max()) < 4 * math.sqrt(96 / n)
    off = torch.corrcoef(x.T) - torch.eye(5, dtype=torch.float64)
    assert float(off.abs().max()) < 4 / math.sqrt(n), "the two halves of a Box-Muller pair are independent"
    inside = (x.abs() < 1.0).double().mean()
    assert float(inside) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.005)
    assert float(x.abs().max()) < math.sqrt(-2 * math.log(0.5 * 2**-32)), "the farthest that 32 bits reach"


def test_moments_of_the_uniform() -> None:
    u = uniform(7, "epsilon", 0, 50_000, 2)
    assert u.shape == (50_000, 2)
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    assert float((u.mean(0) - 0.5).abs().max()) < 4 / math.sqrt(12 * 50_000)
    assert float((u.var(0) - 1 / 12).abs().max()) < 0.002
    histogram = torch.histc(u[:, 0], 20, 0, 1)
    assert float((histogram - 2_500).abs().max()) < 5 * math.sqrt(2_500)


def test_extreme_words_give_finite_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest and the largest word: uniform stays inside (0, 1), the normal finite."""
    extremes = np.array([[0, 2**64 - 1]], dtype=np.uint64)
    monkeypatch.setattr(randomness, "words", lambda *args: extremes)
    u = uniform(0, "z", 0, 1, 2)
    assert u.tolist() == [[2.0**-53, 1 - 2.0**-53]]
    x = normal(0, "z", 0, 1, 4)
    assert bool(x.isfinite().all())


# ---- order ---------------------------------------------------------------------------------------------


@given(n=st.integers(1, 200), epoch=st.integers(0, 50))
def test_each_pass_visits_every_item_once(n: int, epoch: int) -> None:
    assert sorted(permutation(0, "real", epoch, n)) == list(range(n))
    assert sorted(order(0, "real", epoch * n, n, n)) == list(range(n))


def test_passes_differ_and_every_place_is_as_likely() -> None:
    n, passes = 6, 3_000
    orders = order(0, "real", 0, n * passes, n).reshape(passes, n)
    assert len({tuple(row) for row in orders[:20]}) > 10
    counts = np.stack([(orders == item).sum(0) for item in range(n)])  # item by place
    assert np.abs(counts - passes / n).max() < 5 * math.sqrt(passes / n)


def test_purposes_have_orders_of_their_own() -> None:
    a, b = permutation(0, "real", 0, 500), permutation(0, "real2", 0, 500)
    assert (a == b).mean() < 0.03
    assert (permutation(1, "real", 0, 500) == a).mean() < 0.03
    assert np.array_equal(permutation(0, "real", 0, 500), a)


@given(first=st.integers(0, 10_000), count=st.integers(1, 300), n=st.integers(1, 40))
def test_order_is_what_its_definition_says(first: int, count: int, n: int) -> None:
    expected = [permutation(2, "real", i // n, n)[i % n] for i in range(first, first + count)]
    assert order(2, "real", first, count, n).tolist() == expected


# ---- golden values: changing a stream changes every run that was ever made -----------------------------


def test_golden_values() -> None:
    assert key(0, "z") == 5351313284441546370829882516621224650
    assert words(0, "z", 0, 2, 5).tolist() == [
        [
            15775241058757406022,
            8621570859123565594,
            12223947014101303594,
            2700517643091328071,
            1630689693577426094,
        ],
        [
            1579593503245395771,
            8907383523451589707,
            9225839091469360824,
            11465614880366301934,
            15653616500795211698,
        ],
    ]
    assert uniform(1, "epsilon", 1_000, 2, 1)[:, 0].tolist() == [0.7929227531342732, 0.15518329380474893]
    # The logarithm and the cosine are the processor's: equal up to the last digits of single precision.
    assert normal(2, "z", 12_345, 2, 3).flatten().tolist() == pytest.approx(
        [
            *(0.45391298075329917, -0.3714983223433052, 1.2062829447345593),
            *(-2.248821690386744, -0.1492530299645513, -0.4296065153287079),
        ],
        abs=2e-6,
    )
    assert order(0, "real", 8, 8, 5).tolist() == [0, 3, 4, 1, 3, 0, 2, 3]
    assert torch_seed(0, "weights", 0) == 3595407239215314621
    assert torch_seed(0, "step/1", 640) == 1416963904938762272


def test_torchs_seed_is_one_that_torch_takes() -> None:
    seeds = [torch_seed(seed, "step/0", position) for seed in range(3) for position in range(0, 6_400, 64)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    torch.manual_seed(max(seeds))
