"""Nearest-neighbour measures against straightforward loops over all pairs, and planted copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zerosum.errors import UserError
from zerosum.metrics import neighbours
from zerosum.metrics.neighbours import (
    Copying,
    authenticity,
    density_coverage,
    nearest,
    precision_recall,
    ranks,
)


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(n: int, d: int, seed: int = 0, below: int = 3) -> Tensor:
    """Points of a small grid: many duplicates, and ties at every distance."""
    return torch.randint(below, (n, d), generator=torch.Generator().manual_seed(seed)).double()


def distances(a: Tensor, b: Tensor) -> np.ndarray:
    return ((a[:, None] - b) ** 2).sum(2).numpy()


def slow_radii(x: Tensor, k: int) -> np.ndarray:
    return np.array([sorted(np.delete(row, i))[k - 1] for i, row in enumerate(distances(x, x))])


def slow_precision_recall(real: Tensor, fake: Tensor, k: int) -> tuple[float, float]:
    apart, reals, fakes = distances(real, fake), slow_radii(real, k), slow_radii(fake, k)
    precise = [any(apart[i, j] <= reals[i] for i in range(len(real))) for j in range(len(fake))]
    recalled = [any(apart[i, j] <= fakes[j] for j in range(len(fake))) for i in range(len(real))]
    return float(np.mean(precise)), float(np.mean(recalled))


def slow_density_coverage(real: Tensor, fake: Tensor, k: int) -> tuple[float, float]:
    inside = distances(real, fake) < slow_radii(real, k)[:, None]
    return float(inside.sum() / (k * len(fake))), float(inside.any(1).mean())


@given(seed=st.integers(0, 10**6), n=st.integers(4, 25), m=st.integers(4, 25), k=st.integers(1, 3), grid=st.booleans())
def test_against_loops_over_all_pairs(seed: int, n: int, m: int, k: int, grid: bool) -> None:
    make = integers if grid else draw
    real, fake = make(n, 3, seed), make(m, 3, seed + 1)
    assert precision_recall(real, fake, k) == slow_precision_recall(real, fake, k)
    assert density_coverage(real, fake, k) == pytest.approx(slow_density_coverage(real, fake, k), rel=1e-14)


@pytest.mark.parametrize("block", [1, 3, 7, 40])
def test_tiles_do_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (draw, integers):
        real, fake = make(40, 4, 1), make(31, 4, 2)
        whole = [f(real, fake) for f in (precision_recall, density_coverage, authenticity)]
        apart, _ = nearest(fake, real)
        with monkeypatch.context() as m:
            m.setattr(neighbours, "BLOCK", block)
            assert [f(real, fake) for f in (precision_recall, density_coverage, authenticity)] == whole
            assert torch.equal(nearest(fake, real)[0], apart)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_ties_are_ties_wherever_the_features_lie(offset: float) -> None:
    """Closed balls for precision and recall, open ones for density and coverage, also with rounding in the way."""
    real, fake = (0.1 * integers(60, 5, s) + offset for s in (1, 2))
    exact = integers(60, 5, 1), integers(60, 5, 2)
    assert precision_recall(real, fake) == precision_recall(*exact) == slow_precision_recall(*exact, 3)
    assert density_coverage(real, fake) == density_coverage(*exact)
    assert density_coverage(*exact) == pytest.approx(slow_density_coverage(*exact, 5), rel=1e-14)


def test_edges_and_copies_as_the_papers_have_them() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    edge = torch.tensor([[-1.0], [-1.0]])  # as far from 0 as 0's nearest other, 1
    assert precision_recall(real, edge, 1)[0] == 1
    assert density_coverage(real, edge, 1) == (0.0, 0.0)
    copies = torch.zeros(6, 2)
    assert precision_recall(copies, copies) == (1.0, 1.0), "radius 0: equal is inside"
    assert density_coverage(copies, copies) == (0.0, 0.0), "radius 0: an open ball is empty"


def test_copies_of_the_real_set_are_perfect() -> None:
    real = draw(200, 16)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert density_coverage(real, real)[1] == 1.0


def test_dropped_modes_and_bad_samples_move_the_one_that_should_see_them() -> None:
    centres = 20.0 * torch.arange(4)[:, None]
    real = draw(400, 2) + centres.repeat(100, 1)
    good = draw(400, 2, 1) + centres.repeat(100, 1)
    dropped = draw(400, 2, 2) + centres[:3].repeat(134, 1)[:400]
    strayed = torch.cat((good[:300], draw(100, 2, 3) + 500 + 50 * torch.arange(100)[:, None]))
    (p, r), (d, c) = precision_recall(real, good), density_coverage(real, good)
    assert p > 0.95
    assert r > 0.95
    assert d == pytest.approx(1, abs=0.1)
    assert c > 0.9
    assert precision_recall(real, dropped)[1] == pytest.approx(0.75, abs=0.03)
    assert density_coverage(real, dropped)[1] == pytest.approx(0.75, abs=0.04)
    assert precision_recall(real, dropped)[0] > 0.95
    assert precision_recall(real, strayed)[0] == pytest.approx(0.75, abs=0.03)
    assert density_coverage(real, strayed)[0] == pytest.approx(0.75, abs=0.1)


def test_coverage_of_fresh_samples_is_what_the_paper_derives() -> None:
    """Naeem et al. 2020, lemma 2, for n = m: 1 - (n - 1)...(n - k) / ((2 n - 1)...(2 n - k))."""
    n, k = 300, 5
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    found = [density_coverage(draw(n, 3, 2 * s), draw(n, 3, 2 * s + 1), k) for s in range(40)]
    coverage = [c for _, c in found]
    assert np.mean(coverage) == pytest.approx(expected, abs=4 * np.std(coverage) / 40**0.5)
    assert np.mean([d for d, _ in found]) == pytest.approx(1, abs=0.02)


def test_precision_equals_torch_fidelity() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    real, fake = draw(300, 32, 1), 1.05 * draw(250, 32, 2)
    theirs = fidelity.prc_features_to_metric(
        fake, real, prc_neighborhood=3, prc_batch_size=10_000, save_cpu_ram=False, verbose=False
    )
    # Their shares are means in float32.
    assert precision_recall(real, fake) == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-6)


def test_nearest_against_a_loop_and_a_copy_is_at_distance_0() -> None:
    among = (draw(50, 6, 1) + 1_000).float()
    x = torch.cat((among[7:9], (draw(20, 6, 2) + 1_000).float()))
    apart = distances(x.double(), among.double())
    distance, index = nearest(x, among)
    assert index.tolist() == apart.argmin(1).tolist()
    assert distance.numpy() == pytest.approx(np.sqrt(apart.min(1)), rel=1e-12)
    assert distance[:2].tolist() == [0, 0]


# --- copies --------------------------------------------------------------------------------------------------------


def slow_authenticity(train: Tensor, fake: Tensor) -> float:
    own = slow_radii(train, 1)
    apart = distances(fake, train)
    return float(np.mean([row.min() > own[row.argmin()] for row in apart]))


@given(seed=st.integers(0, 10**6))
def test_authenticity_against_a_loop(seed: int) -> None:
    train, fake = draw(20, 3, seed), draw(15, 3, seed + 1)
    assert authenticity(train, fake) == slow_authenticity(train, fake)


def test_authenticity_of_copies_is_0_and_of_new_samples_about_a_half() -> None:
    train = draw(500, 8)
    assert authenticity(train, train[:100]) == 0
    assert authenticity(train, train[:100] + 1e-9) == 0
    assert authenticity(train.repeat(2, 1), train[:100]) == 0, "also of images that the training set has twice"
    assert authenticity(train, draw(500, 8, 1)) == pytest.approx(0.5, abs=0.1)
    assert authenticity(train, draw(50, 8, 1) + 100) == 1


def copying(train: Tensor, held_out: Tensor, fake: Tensor, *settings: float, **named: int) -> Copying:
    """By plain nearest neighbours."""
    return neighbours.copying(*nearest(fake, train), nearest(held_out, train)[0], *settings, **named)


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor, Tensor]:
    """(train, held out, fresh): one distribution."""
    return draw(2_000, 16, 1), draw(1_000, 16, 2), draw(1_000, 16, 3)


def test_five_in_a_hundred_planted_copies_are_seen_and_named(images: tuple[Tensor, Tensor, Tensor]) -> None:
    train, held, fresh = images
    planted = fresh.clone()
    planted[::20] = train[:50] + 0.01 * draw(50, 16, 4)
    found = copying(train, held, planted, pairs=50)
    assert found.p_value < 1e-6
    assert found.share.low > 0.03 > found.expected
    assert sorted(found.fake.tolist()) == list(range(0, 1_000, 20))
    assert found.train.tolist() == [i // 20 for i in found.fake]
    assert (np.diff(found.distance) >= 0).all()


def test_no_copies_no_alarm(images: tuple[Tensor, Tensor, Tensor]) -> None:
    train, held, fresh = images
    found = copying(train, held, fresh)
    assert found.p_value > 0.01
    assert abs(found.z) < 3
    assert found.expected == pytest.approx(10 / 1_001)


def test_the_null_distribution_is_exact() -> None:
    """Fresh samples: a p-value below 5 % comes about in at most 5 % of repetitions, and z is standard normal."""
    found = [copying(draw(60, 3, 3 * s), draw(99, 3, 3 * s + 1), draw(80, 3, 3 * s + 2), 0.05) for s in range(300)]
    p, z = np.array([c.p_value for c in found]), np.array([c.z for c in found])
    for level in (0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * (level / 300) ** 0.5
        assert (p <= level).mean() >= level / 4
    assert np.mean([c.share.value for c in found]) == pytest.approx(0.05, abs=0.006)
    assert z.mean() == pytest.approx(0, abs=0.3)
    assert z.std() == pytest.approx(1, abs=0.2)


def test_fakes_that_are_all_too_near_give_a_low_z(images: tuple[Tensor, Tensor, Tensor]) -> None:
    train, held, _ = images
    near, far = train[:500] + 0.3 * draw(500, 16, 5), 2 * draw(500, 16, 6)
    assert copying(train, held, near).z < -10
    assert copying(train, held, far).z > 10


def test_float32_features_are_compared_in_float64() -> None:  # trap 4
    real, fake = ((100 + 0.01 * draw(200, 8, s)).float() for s in (1, 2))
    assert precision_recall(real, fake) == precision_recall(real.double(), fake.double())
    assert precision_recall(real, fake) == slow_precision_recall(real.double(), fake.double(), 3)


def test_bad_input_is_refused() -> None:
    x = draw(5, 2)
    with pytest.raises(UserError, match="real: 6 samples or more are needed, not 5"):
        density_coverage(x, x)
    with pytest.raises(UserError, match="fake: 4 samples or more are needed, not 3"):
        precision_recall(x, x[:3])
    with pytest.raises(UserError, match="k 0"):
        precision_recall(x, x, 0)
    with pytest.raises(UserError, match="among: 1 samples or more"):
        nearest(x, x[:0])
    with pytest.raises(UserError, match=r"quantile 1\.0"):
        copying(x, x, x, 1.0)
    with pytest.raises(UserError, match="train: features that are not finite"):
        authenticity(x / 0, x)
    with pytest.raises(ValueError, match=r"fake: features \(n, 2\)"):
        precision_recall(x, draw(5, 3))


# --- ranks ---------------------------------------------------------------------------------------------------------


def test_ranks_by_hand_and_by_brute_force() -> None:
    answers = torch.arange(5.0)[:, None]
    assert ranks(answers, answers).tolist() == [1, 1, 1, 1, 1]
    assert ranks(answers.flip(0), answers).tolist() == [5, 4, 1, 4, 5]
    made, answers = torch.randn(300, 6), torch.randn(300, 6)
    squares = torch.cdist(made.double(), answers.double())
    wanted = (squares < squares.diagonal()[:, None]).sum(1) + 1
    assert torch.equal(ranks(made, answers), wanted.double())


def test_one_answer_for_all_ranks_by_chance() -> None:
    answers = torch.ones(9, 3)
    assert ranks(torch.randn(9, 3), answers).tolist() == [5.0] * 9
    with pytest.raises(ValueError, match="do not go together"):
        ranks(torch.randn(9, 3), torch.randn(8, 3))
