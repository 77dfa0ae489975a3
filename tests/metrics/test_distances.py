"""Distances against slow loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zerosum import randomness
from zerosum.errors import UserError
from zerosum.metrics import distances
from zerosum.metrics.distances import frechet, kernel_distance, kernel_estimate, spread
from zerosum.metrics.statistics import Statistics, statistics


def draw(n: int, d: int, seed: int = 0, mean: float = 0.0) -> Tensor:
    return mean + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_kernel_distance(x: Tensor, y: Tensor) -> float:
    """Binkowski et al. 2018, eq. 4, one pair after the other."""
    d = x.shape[1]

    def k(a: Tensor, b: Tensor) -> float:
        return float(sum(float(i) * float(j) for i, j in zip(a, b, strict=True)) / d + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(x[i], y[j]) for i in range(n) for j in range(m)) / (n * m)
    return xx + yy - 2 * xy


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (7, 5, 3), (9, 12, 20)])
def test_kernel_distance_against_a_loop(n: int, m: int, d: int) -> None:
    x, y = draw(n, d, 1), draw(m, d, 2, mean=0.5)
    assert kernel_distance(x, y) == pytest.approx(slow_kernel_distance(x, y), rel=1e-11)


@pytest.mark.parametrize("m", [0.0, 0.5, 1.0])
def test_kernel_distance_has_the_expectation_that_it_estimates(m: float) -> None:
    """For N(0, 1) and N(m, 1), from E[(x y + 1)^3] = E[x^3] E[y^3] + 3 E[x^2] E[y^2] + 3 E[x] E[y] + 1."""

    def expected(a: float, b: float) -> float:
        return (a**3 + 3 * a) * (b**3 + 3 * b) + 3 * (a * a + 1) * (b * b + 1) + 3 * a * b + 1

    truth = expected(0, 0) + expected(m, m) - 2 * expected(0, m)
    found = torch.tensor([kernel_distance(draw(100, 1, 2 * i), draw(80, 1, 2 * i + 1, mean=m)) for i in range(300)])
    error = float(found.std()) / 300**0.5
    assert float(found.mean()) == pytest.approx(truth, abs=4 * error)
    if m == 0:
        assert 0.2 < float((found < 0).double().mean()) < 0.8, "unbiased: below zero about as often as above"


def test_kernel_distance_grows_with_the_difference() -> None:
    x = draw(200, 8, 1)
    distances = [kernel_distance(x, draw(200, 8, 2, mean=m)) for m in (0.0, 0.3, 0.6, 1.2)]
    assert distances == sorted(distances)


@given(seed=st.integers(0, 1000))
def test_order_does_not_matter(seed: int) -> None:
    x, y = draw(9, 4, seed), draw(7, 4, seed + 5000, mean=1)
    shuffle = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    assert kernel_distance(x[shuffle], y) == pytest.approx(kernel_distance(x, y), rel=1e-10)
    assert kernel_distance(x, y) == pytest.approx(kernel_distance(y, x), rel=1e-10)
    assert spread(x[shuffle]) == pytest.approx(spread(x), rel=1e-12)


def test_float32_features_are_compared_in_float64() -> None:
    x, y = ((1_000 + draw(50, 3, i)).float() for i in (1, 2))
    assert kernel_distance(x, y) == kernel_distance(x.double(), y.double())
    assert spread(x) == spread(x.double())


@pytest.mark.parametrize(("n", "m"), [(1, 5), (5, 1), (0, 3)])
def test_too_few_samples(n: int, m: int) -> None:
    with pytest.raises(ValueError, match=f"needs 2 samples on each side, not {n} and {m}"):
        kernel_distance(draw(n, 2), draw(m, 2))


def test_kernel_distance_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(23, 5, 1), draw(17, 5, 2)
    whole = kernel_distance(x, y)
    for block in (1, 4, 16, 17):
        monkeypatch.setattr(distances, "BLOCK", block)
        assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-11)


# --- Frechet -------------------------------------------------------------------------------------------------------


def stats(mean: Tensor, covariance: Tensor, n: int = 10**6) -> Statistics:
    return Statistics(n, mean.double(), covariance.double())


def some_covariance(d: int, seed: int, decay: float = 3.0) -> Tensor:
    """Full rank, with eigenvalues over 10^decay."""
    q = torch.linalg.qr(draw(d, d, seed))[0]
    return (q * torch.logspace(0, -decay, d, dtype=torch.float64)) @ q.T


@pytest.mark.parametrize("decay", [1.0, 4.0, 8.0])
def test_frechet_against_the_closed_forms(decay: float) -> None:
    """Commuting covariances: |m_a - m_b|^2 + sum (sqrt a - sqrt b)^2. The same ones: the means' distance alone."""
    d = 40
    q = torch.linalg.qr(draw(d, d, 3))[0]
    a, b = torch.logspace(1, 1 - decay, d).double(), torch.logspace(-decay, 0, d).double()
    ma, mb = draw(d, 1, 4)[:, 0], draw(d, 1, 5)[:, 0]
    truth = float((ma - mb).square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    left, right = stats(ma, (q * a) @ q.T), stats(mb, (q * b) @ q.T)
    assert frechet(left, right) == pytest.approx(truth, rel=1e-9)
    assert frechet(left, stats(mb, left.covariance)) == pytest.approx(float((ma - mb).square().sum()), rel=1e-9)
    assert frechet(left, left) < 1e-6


def test_frechet_is_symmetric_and_scales_as_a_squared_distance() -> None:
    a, b = stats(draw(30, 1)[:, 0], some_covariance(30, 1)), stats(draw(30, 1, 1)[:, 0], some_covariance(30, 2))
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-12)
    big = [stats(3 * s.mean, 9 * s.covariance) for s in (a, b)]
    assert frechet(*big) == pytest.approx(9 * frechet(a, b), rel=1e-11)


def test_frechet_with_dead_features() -> None:
    """Features that never vary are no reason to fail, nor to lose digits."""
    a, b = some_covariance(10, 1), some_covariance(10, 2)
    dead = [stats(torch.zeros(15), torch.block_diag(c, torch.zeros(5, 5))) for c in (a, b)]
    assert frechet(*dead) == pytest.approx(frechet(stats(torch.zeros(10), a), stats(torch.zeros(10), b)), rel=1e-9)
    assert frechet(dead[0], dead[0]) < 1e-9


def test_frechet_recovers_a_known_distance_and_its_bias_falls_with_n() -> None:  # trap 5
    d, truth = 8, 8 * 0.3**2 + 8 * (1.2 - 1.0) ** 2
    found, floor = {}, {}
    for n in (200, 800, 3_200):
        draws = [[draw(n, d, 4 * i + j + n) for j in range(4)] for i in range(40)]
        found[n] = np.array([frechet(statistics(x), statistics(1.2 * y + 0.3)) for x, y, _, _ in draws])
        floor[n] = np.mean([frechet(statistics(x), statistics(y)) for _, _, x, y in draws])
        error = found[n].std(ddof=1) / 40**0.5
        assert found[n].mean() - floor[n] == pytest.approx(truth, abs=4 * error), "bias is about that of the floor"
    assert found[3_200].mean() == pytest.approx(truth, rel=0.05)
    assert floor[200] > 3 * floor[800] > 9 * floor[3_200] > 0, "real against real falls about as 1 / n"


def test_two_halves_of_one_set_give_the_floor() -> None:  # trap 5
    """What a real-against-real number is: as far from 0 as two fresh samples of that size, no farther."""
    everything = draw(4_000, 10, 7)
    halves = frechet(*(statistics(everything[i::2]) for i in (0, 1)))
    fresh = [
        frechet(statistics(draw(2_000, 10, 2 * i + 100)), statistics(draw(2_000, 10, 2 * i + 101))) for i in range(30)
    ]
    assert min(fresh) * 0.8 < halves < max(fresh) * 1.2
    assert abs(kernel_distance(everything[::2], everything[1::2])) < 0.02


@pytest.mark.parametrize("n", [50, 100])
def test_frechet_with_too_few_samples_is_refused(n: int) -> None:  # trap 4
    few, many = statistics(draw(n, 100)), statistics(draw(300, 100, 1))
    for pair in ((few, many), (many, few)):
        with pytest.raises(UserError, match=f"more than 100 samples a side, not {n}: use the kernel distance"):
            frechet(*pair)
    value = frechet(few, many, shrinkage=0.1)
    assert np.isfinite(value)
    assert value > 0


def test_shrinkage_is_what_it_says() -> None:
    a, b = some_covariance(6, 1), some_covariance(6, 2)
    mean = torch.zeros(6)
    shrunk = [stats(mean, 0.8 * c + 0.2 * c.trace() / 6 * torch.eye(6).double()) for c in (a, b)]
    assert frechet(stats(mean, a), stats(mean, b), shrinkage=0.2) == pytest.approx(frechet(*shrunk), rel=1e-12)
    with pytest.raises(UserError, match=r"shrinkage 1\.5: must be"):
        frechet(*shrunk, shrinkage=1.5)
    with pytest.raises(ValueError, match="6 and 5 dimensions"):
        frechet(shrunk[0], stats(torch.zeros(5), torch.eye(5)))


def like_features(n: int, d: int, seed: int) -> Tensor:
    """Correlated, not negative and float32, as a network's last layer is."""
    mixing = draw(d, d, 99) * torch.logspace(0, -1, d).double() / d**0.5
    return (draw(n, d, seed) @ mixing.T + 0.1).relu().float()


def test_frechet_equals_torch_fidelity_and_torchmetrics() -> None:
    fidelity, torchmetrics = (
        pytest.importorskip("torch_fidelity.metric_fid"),
        pytest.importorskip("torchmetrics.image.fid"),
    )
    x, y = like_features(1_500, 128, 1), 1.1 * like_features(1_200, 128, 2)
    a, b = statistics(x), statistics(y)
    ours = frechet(a, b)
    theirs = fidelity.fid_statistics_to_metric(*(fidelity.fid_features_to_statistics(f) for f in (x, y)), False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    metrics = torchmetrics._compute_fid(a.mean, a.covariance, b.mean, b.covariance)
    assert ours == pytest.approx(float(metrics), rel=1e-6)


# --- kernel estimate -----------------------------------------------------------------------------------------------


def test_kernel_distance_equals_torch_fidelity_and_torchmetrics_on_the_same_subsets() -> None:
    fidelity, torchmetrics = (
        pytest.importorskip("torch_fidelity.metric_kid"),
        pytest.importorskip("torchmetrics.image.kid"),
    )
    x, y = like_features(400, 64, 1).double(), 1.1 * like_features(300, 64, 2).double()
    theirs = fidelity.kid_features_to_metric(x, y, kid_subsets=10, kid_subset_size=50, rng_seed=3, verbose=False)
    chosen = np.random.RandomState(3)
    pairs = [[torch.from_numpy(chosen.choice(n, 50, replace=False)) for n in (400, 300)] for _ in range(10)]
    ours = np.array([kernel_distance(x[i], y[j]) for i, j in pairs])
    assert ours.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    metrics = [float(torchmetrics.poly_mmd(x[i], y[j])) for i, j in pairs]
    assert ours == pytest.approx(np.array(metrics), rel=1e-6)


def test_the_estimate_is_the_mean_over_disjoint_subsets() -> None:
    x, y = draw(100, 4, 1), draw(80, 4, 2, mean=0.5)
    i, j = (randomness.permutation(5, f"kernel/{side}", 0, n) for side, n in (("x", 100), ("y", 80)))
    values = [kernel_distance(x[i[k : k + 20].copy()], y[j[k : k + 20].copy()]) for k in (0, 20, 40, 60)]
    value, error = kernel_estimate(x, y, subsets=4, size=20, seed=5)
    assert value == pytest.approx(np.mean(values), rel=1e-12)
    assert error == pytest.approx(np.std(values, ddof=1) / 2, rel=1e-12)


def test_more_subsets_than_samples_promise_no_more_precision() -> None:
    """400 subsets of 4 disjoint ones: the error stays that of four, not a tenth of it."""
    x, y = draw(200, 4, 1), draw(200, 4, 2, mean=0.5)
    steady, error = kernel_estimate(x, y, subsets=400, size=50, seed=0)
    once = [kernel_estimate(x, y, subsets=4, size=50, seed=s)[1] for s in range(50)]
    assert error == pytest.approx(np.mean(np.square(once)) ** 0.5, rel=0.25)
    assert steady == pytest.approx(kernel_distance(x, y), abs=error)


def test_the_standard_error_is_the_spread_of_repetitions() -> None:
    pairs = [kernel_estimate(draw(80, 3, 2 * s), draw(80, 3, 2 * s + 1, mean=0.5), 4, 20, 0) for s in range(300)]
    values, errors = np.array(pairs).T
    assert np.mean(errors**2) ** 0.5 == pytest.approx(values.std(ddof=1), rel=0.15)


@pytest.mark.parametrize(("subsets", "size"), [(1, 10), (5, 30), (5, 1), (5, 0)])
def test_an_estimate_needs_two_disjoint_subsets(subsets: int, size: int) -> None:
    with pytest.raises(UserError, match="2 disjoint subsets"):
        kernel_estimate(draw(50, 2), draw(60, 2), subsets, size, 0)


def test_spread_against_a_loop() -> None:
    x = draw(8, 3)
    pairs = [float((x[i] - x[j]).norm()) for i in range(8) for j in range(8) if i != j]
    assert spread(x) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)


def test_spread_within_classes_against_a_loop() -> None:
    x, label = torch.randn(12, 5), torch.arange(12) % 3
    pairs = [float((a - b).norm()) for i, a in enumerate(x) for j, b in enumerate(x) if i != j and (i - j) % 3 == 0]
    assert spread(x, label) == pytest.approx(sum(pairs) / len(pairs), rel=1e-6)
    assert spread(x, torch.zeros(12, dtype=torch.int64)) == pytest.approx(spread(x), rel=1e-12)
    assert math.isnan(spread(x, torch.arange(12)))


def test_spread_scales_ignores_where_and_is_zero_for_copies() -> None:
    x = draw(20, 3)
    assert spread(3 * x + 100) == pytest.approx(3 * spread(x), rel=1e-10)
    assert spread(x[:1].expand(20, 3)) == 0


def test_spread_of_one_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="the spread needs 2 samples, not 1"):
        spread(draw(1, 3))
