"""Losses: the papers' formulas, their gradients, their ends, and shapes that cannot be mixed up."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from shapes import modules_with_shapes
from zerosum import losses

Loss = Callable[..., Tensor]

PAIRED: list[Loss] = [
    losses.discriminator,
    losses.wasserstein_critic,
    losses.hinge,
    losses.relativistic,
    losses.optimal_logits,
    losses.least_squares,
]
SINGLE: list[Loss] = [
    losses.non_saturating,
    losses.minimax,
    losses.wasserstein_generator,
    losses.least_squares_generator,
]
OF_IMAGES: list[Loss] = [losses.per_sample, losses.l1, losses.patch_nce]
OF_CLASSES: list[Loss] = [losses.cross_entropy, losses.feature_matching, losses.consistency]

# The papers' formulas as they are printed, for one pair of logits, by Python's own mathematics.
FORMULAS: dict[Loss, Callable[[float, float], float]] = {
    losses.discriminator: lambda r, f: -math.log(sigma(r)) - math.log(1 - sigma(f)),
    losses.wasserstein_critic: lambda r, f: f - r,
    losses.hinge: lambda r, f: max(0.0, 1 - r) + max(0.0, 1 + f),
    losses.relativistic: lambda r, f: math.log(1 + math.exp(-(r - f))),
    losses.non_saturating: lambda r, f: -math.log(sigma(f)),
    losses.minimax: lambda r, f: math.log(1 - sigma(f)),
    losses.wasserstein_generator: lambda r, f: -f,
    losses.least_squares: lambda r, f: (r - 1) ** 2 + f**2,
    losses.least_squares_generator: lambda r, f: (f - 1) ** 2,
}

logit = st.floats(-8, 8)


def sigma(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def arguments(loss: Loss, real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
    return (fake,) if loss in SINGLE else (real, fake)


def name(loss: Loss) -> str:
    return loss.__name__


@pytest.mark.parametrize("loss", FORMULAS, ids=name)
@given(real=st.lists(logit, min_size=3, max_size=3), fake=st.lists(logit, min_size=3, max_size=3))
def test_the_papers_formula(loss: Loss, real: list[float], fake: list[float]) -> None:
    d_real, d_fake = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    got = loss(*arguments(loss, d_real, d_fake))
    assert got.tolist() == pytest.approx([FORMULAS[loss](r, f) for r, f in zip(real, fake, strict=True)], abs=1e-12)


@pytest.mark.parametrize("loss", FORMULAS, ids=name)
def test_gradients(loss: Loss) -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64) + 0.05  # off the hinge's corners
    real, fake = x.clone().requires_grad_(), x.flip(0).clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, arguments(loss, real, fake))
    assert torch.autograd.gradgradcheck(loss, arguments(loss, real, fake))


def test_optimal_logits() -> None:
    """N(0, 1) and N(m, 1): log p_data - log p_g = m^2/2 - m x (Goodfellow et al. 2014, prop. 1)."""
    m, x = 1.5, torch.linspace(-3, 4, 50, dtype=torch.float64)

    def density(mean: float) -> Tensor:
        return torch.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi)

    best = losses.optimal_logits(density(0), density(m))
    torch.testing.assert_close(best, m * m / 2 - m * x)
    torch.testing.assert_close(torch.sigmoid(best), density(0) / (density(0) + density(m)))


def test_optimal_logits_are_where_ds_loss_is_least() -> None:
    p, q = (
        torch.tensor([0.1, 0.5, 0.7], dtype=torch.float64),
        torch.tensor([0.4, 0.5, 0.01], dtype=torch.float64),
    )
    best = losses.optimal_logits(p, q).requires_grad_()
    zero = torch.zeros_like(p)
    value = p * losses.discriminator(best, zero) + q * losses.discriminator(zero, best)
    (slope,) = torch.autograd.grad(value.sum(), best)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-15, rtol=0)


# ---- at the ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_non_saturating_does_not_saturate(dtype: torch.dtype) -> None:  # trap 33
    d_fake = torch.tensor([-30.0, -1e4], dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(losses.non_saturating(d_fake).sum(), d_fake)
    assert slope.tolist() == pytest.approx([-1.0, -1.0], abs=1e-12)


def test_minimax_saturates_as_the_paper_says() -> None:
    d_fake = torch.tensor([-30.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(losses.minimax(d_fake).sum(), d_fake)
    assert abs(float(slope)) < 1e-12


def test_both_forms_of_gs_loss_push_the_same_way() -> None:
    d_fake = torch.linspace(-5, 5, 11, requires_grad=True)
    slopes = [torch.autograd.grad(loss(d_fake).sum(), d_fake)[0] for loss in (losses.non_saturating, losses.minimax)]
    assert bool((slopes[0] < 0).all())
    assert bool((slopes[1] < 0).all())


@pytest.mark.parametrize("loss", FORMULAS, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_huge_logits_stay_finite(loss: Loss, dtype: torch.dtype) -> None:
    real = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    fake = torch.tensor([1e4, 1e4, -1e4, -1e4], dtype=dtype, requires_grad=True)
    value = loss(*arguments(loss, real, fake))
    assert value.dtype == torch.float32, "computed in full precision, whatever the logits come in"
    assert bool(value.isfinite().all())
    value.sum().backward()
    for x in arguments(loss, real, fake):
        assert x.grad is not None
        assert bool(x.grad.isfinite().all())
        squares = loss in (losses.least_squares, losses.least_squares_generator)
        assert float(x.grad.abs().max()) <= (2.1e4 if squares else 1)


@pytest.mark.parametrize("loss", FORMULAS, ids=name)
def test_bf16_logits_give_the_loss_of_their_values(loss: Loss) -> None:
    real, fake = torch.randn(20).bfloat16(), torch.randn(20).bfloat16()
    assert torch.equal(loss(*arguments(loss, real, fake)), loss(*arguments(loss, real.float(), fake.float())))


@pytest.mark.parametrize("loss", FORMULAS, ids=name)
def test_each_sample_by_itself(loss: Loss) -> None:
    real, fake = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    whole = loss(*arguments(loss, real, fake))
    assert whole.shape == (9,)
    for i in range(9):
        torch.testing.assert_close(loss(*arguments(loss, real[i : i + 1], fake[i : i + 1])), whole[i : i + 1])


def test_the_relativistic_loss_knows_differences_only() -> None:
    a, b = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    torch.testing.assert_close(losses.relativistic(a + 100, b + 100), losses.relativistic(a, b), rtol=1e-10, atol=0)
    torch.testing.assert_close(losses.relativistic(a, b) - losses.relativistic(b, a), b - a)


# ---- shapes --------------------------------------------------------------------------------------------


def test_shapes_are_checked_in_tests() -> None:
    checked = modules_with_shapes()
    assert "zerosum.losses" in checked
    assert "zerosum.penalties" in checked
    assert any(module.startswith("zerosum.networks.") for module in checked)


@pytest.mark.parametrize(
    "shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((4, 1), (4, 1)), ((4,), (5,)), ((4,), (1,)), ((), ())]
)
@pytest.mark.parametrize("loss", PAIRED, ids=name)
def test_unlike_shapes_are_refused(loss: Loss, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    real, fake = torch.rand(shapes[0]), torch.rand(shapes[1])
    with pytest.raises(TypeCheckError):  # by the annotations, in tests
        loss(real, fake)
    with pytest.raises(ValueError, match=r"logits must be \(N,\) or \(N, h, w\) and alike"):  # and by itself
        inspect.unwrap(loss)(real, fake)


@pytest.mark.parametrize("shape", [(), (4, 1), (4, 1, 3, 3)])
@pytest.mark.parametrize("loss", SINGLE, ids=name)
def test_a_column_of_logits_is_refused(loss: Loss, shape: tuple[int, ...]) -> None:
    with pytest.raises(TypeCheckError):
        loss(torch.rand(shape))
    with pytest.raises(ValueError, match=r"logits must be \(N,\) or \(N, h, w\), not"):
        inspect.unwrap(loss)(torch.rand(shape))


def test_every_loss_is_in_these_tests() -> None:
    public = {
        f for n, f in vars(losses).items() if inspect.isfunction(f) and f.__module__ == losses.__name__ and n[0] != "_"
    }
    assert public == {*PAIRED, *SINGLE, *OF_IMAGES, *OF_CLASSES}
    assert {*PAIRED, *SINGLE} - {losses.optimal_logits} == set(FORMULAS)


# ---- patches and images --------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", list(FORMULAS), ids=name)
def test_a_map_of_patches_counts_as_its_mean(loss: Loss) -> None:
    real, fake = torch.randn(4, 3, 5, dtype=torch.float64), torch.randn(4, 3, 5, dtype=torch.float64)
    whole = loss(*arguments(loss, real, fake))
    assert whole.shape == (4,)
    flat = loss(*arguments(loss, real.flatten(), fake.flatten())).view(4, 15).mean(1)
    torch.testing.assert_close(whole, flat)


def test_the_mean_difference_of_images() -> None:
    x, y = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    y[1, :, :2] = 0.5
    assert losses.l1(x, y).tolist() == [0.0, 0.25]
    assert losses.l1(x.bfloat16(), y.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match="cannot be compared"):
        losses.l1(x, y[:, :1])


def test_contrast_is_a_cross_entropy_among_the_patches_of_an_image() -> None:
    """Park et al. 2020, eq. 3, by torch's own cross entropy, image by image."""
    query, key = (torch.nn.functional.normalize(torch.randn(3, 7, 5, dtype=torch.float64), dim=2) for _ in range(2))
    got = losses.patch_nce(query, key, temperature=0.07)
    for i in range(3):
        logits = query[i] @ key[i].T / 0.07
        expected = torch.nn.functional.cross_entropy(logits, torch.arange(7))
        torch.testing.assert_close(got[i], expected)
    same = losses.patch_nce(torch.eye(5)[None], torch.eye(5)[None])
    assert float(same) < 1e-5, "each patch knows itself"


# ---- classes -------------------------------------------------------------------------------------------


def test_the_cross_entropy_of_classes() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    got = losses.cross_entropy(logits, torch.tensor([1, 0]))
    assert got.tolist() == pytest.approx([math.log(2), math.log(4 / 3)])
    assert losses.cross_entropy(logits.bfloat16(), torch.tensor([1, 0])).dtype == torch.float32
    for wrong in (None, torch.tensor([1]), torch.tensor([[1], [0]])):
        with pytest.raises(ValueError, match=r"class logits \(N, K\) and labels \(N,\) are needed"):
            inspect.unwrap(losses.cross_entropy)(logits, wrong)


def test_looks_that_give_the_same_classes_agree() -> None:
    one, other = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]), torch.tensor([[5.0, 5.0], [0.0, math.log(3)]])
    assert losses.consistency(one, other).tolist() == pytest.approx([0, 0.5])  # (3/4 - 1/4)^2, twice
    assert losses.consistency(one.bfloat16(), other.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"logits must be \(N, K\) and alike"):
        inspect.unwrap(losses.consistency)(one, other[:1])


def test_features_are_matched_in_their_means() -> None:
    real = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    assert losses.feature_matching(real, real.flip(0)).tolist() == [0, 0]
    assert losses.feature_matching(real, real + torch.tensor([2.0, 0.0])).tolist() == [2, 2], "4 / 2, for each"
    with pytest.raises(ValueError, match="features must be"):
        inspect.unwrap(losses.feature_matching)(real, real[:1])
