"""ADA: what each transformation does, that it can be undone and differentiated, that p follows D, and does not leak."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from zerosum import checkpoint
from zerosum.algorithms.cut import CUT
from zerosum.algorithms.cyclegan import CycleGAN
from zerosum.data.adaptive import FAMILIES, MORE, MOST, Adaptive, Family, sampled, transformed
from zerosum.data.augment import POLICIES, Policy
from zerosum.data.spec import Spec
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.losses import least_squares
from zerosum.networks import Subpixel
from zerosum.sample import generate
from zerosum.seats import AUGMENT, carried_by

ALL: tuple[Family, ...] = (*FAMILIES, "filter", "noise", "cutout")


def images(channels: int = 3, n: int = 32, size: tuple[int, int] = (12, 8)) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(n, channels, *size, dtype=torch.float64) * 2 - 1


def matrix(*rows: list[float], n: int = 1) -> Tensor:
    return torch.tensor([[*rows, [0.0, 0.0, 1.0]]], dtype=torch.float64).expand(n, -1, -1)


# ---- transformations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ALL)
def test_at_none_it_is_the_identity(family: Family) -> None:
    x = images()
    y = transformed(x, 0.0, (family,))
    if family == "filter":  # through the Fourier transform and back
        torch.testing.assert_close(y, x)
    else:
        assert torch.equal(y, x)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("family", ALL)
def test_each_image_draws_for_itself_and_the_seed_decides(family: Family, channels: int) -> None:
    x = images(channels, 1).expand(64, -1, -1, -1)
    torch.manual_seed(1)
    first = transformed(x, 0.9, (family,))
    torch.manual_seed(1)
    assert torch.equal(transformed(x, 0.9, (family,)), first)
    assert first.shape == x.shape
    assert len({tuple(image.flatten().tolist()) for image in first}) > 10


@pytest.mark.parametrize("family", ALL)
def test_it_happens_with_probability_p(family: Family) -> None:
    x = images(3, 1, (8, 8)).expand(4000, -1, -1, -1)
    torch.manual_seed(2)
    changed = ((transformed(x, 0.1, (family,)) - x).abs().amax((1, 2, 3)) > 1e-9).double().mean()
    # Transformations of the family, of which some draw what changes nothing (half of flips, a quarter of turns).
    at_least, at_most = {"blit": (1, 3), "geometry": (3, 5), "colour": (4, 5), "filter": (3.5, 4)}.get(family, (1, 1))
    low, high = 1 - 0.9**at_least, 1 - 0.9**at_most
    assert low - 0.03 < float(changed) < high + 0.03


def test_whole_moves_are_exact() -> None:
    x = images(size=(8, 8))
    assert torch.equal(sampled(x, matrix([-1, 0, 0], [0, 1, 0], n=32)), x.flip(3))
    assert torch.equal(sampled(x, matrix([0, -1, 0], [1, 0, 0], n=32)), torch.rot90(x, 1, (2, 3)))
    moved = sampled(x, matrix([1, 0, -2], [0, 1, 0], n=32))
    assert torch.equal(moved[..., 2:], x[..., :-2])
    assert torch.equal(moved[..., :2], x[..., :2].flip(3)), "mirrored at the edge"


def test_pixels_of_blits_are_those_of_the_image() -> None:
    x = images(1, size=(8, 6))
    y = transformed(x, 1.0, ("blit",))
    for before, after in zip(x, y, strict=True):
        assert set(after.flatten().tolist()) <= set(before.flatten().tolist())


@pytest.mark.parametrize("angle", [0.1, 1.0, 2.5])
def test_turns_and_scales_can_be_undone(angle: float) -> None:
    """Up to what bilinear sampling blurs of a smooth image, away from the edges."""
    rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
    x = torch.sin(rows / 6 + 1).mul(torch.cos(columns / 7)).double()[None, None]
    cos, sin = math.cos(angle), math.sin(angle)
    there = matrix([1.2 * cos, -sin, 0.4], [sin, cos / 1.2, -0.7])
    back = sampled(sampled(x, there), torch.linalg.inv(there))
    torch.testing.assert_close(back[..., 10:23, 10:23], x[..., 10:23, 10:23], atol=0.02, rtol=0)
    assert float((sampled(x, there) - x).abs().max()) > 0.1


def test_moves_can_be_undone_whatever_is_drawn() -> None:
    """Of coordinates, which bilinear sampling changes exactly, what stays in sight comes back."""
    from zerosum.data import adaptive

    n, height, width = 300, 33, 41
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) - (height - 1) / 2,
        torch.arange(width, dtype=torch.float64) - (width - 1) / 2,
        indexing="ij",
    )
    x = torch.stack([columns, rows]).expand(n, -1, -1, -1)
    torch.manual_seed(0)
    there = adaptive._inverse(adaptive._Draw(x, 1.0), height, width, ("blit", "geometry"))
    back = torch.linalg.inv(there)
    y = sampled(x, there)
    returned = sampled(y, back)
    # What is beyond an edge is mirrored: to come back, a pixel must lie within y, and the four of y about it within x.
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)[:, None, None]
    came_from = torch.einsum("nij,njhw->nihw", back[:, :2, :2], x) + back[:, :2, 2, None, None]
    neighbours = there[:, :2, :2].abs().sum(2)[:, :, None, None]  # pixels of x between two of y, at most
    in_sight = ((came_from.abs() <= half) & (x.abs() + neighbours <= half)).all(1)  # (n, h, w)
    assert float(in_sight.double().mean()) > 0.2
    torch.testing.assert_close(returned.movedim(1, 3)[in_sight], x.movedim(1, 3)[in_sight])
    # Turns, flips and squeezing keep areas; what is left is the scale, squared, of 0.2 in log2.
    area = torch.linalg.det(there).abs().log2()
    assert float(area.std()) == pytest.approx(0.4, abs=0.08)
    assert float(area.abs().max()) < 2


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_can_be_undone_whatever_is_drawn(channels: int) -> None:
    """One affine map of colours an image: found from a black pixel and those of one colour, it is undone in all."""
    x = images(channels, 500, (4, 4))
    x[:, :, 0, 0] = 0.0
    x[:, :, 0, 1 : 1 + channels] = torch.eye(channels, dtype=torch.float64)
    y = transformed(x, 1.0, ("colour",))
    shift = y[:, :, 0, :1]  # (n, c, 1)
    linear = y[:, :, 0, 1 : 1 + channels] - shift  # (n, c, c)
    back = torch.linalg.solve(linear, y.flatten(2) - shift)
    torch.testing.assert_close(back, x.flatten(2))
    assert float((y - x).abs().amax((1, 2, 3)).min()) > 0, "each image was changed"


def test_hue_and_saturation_keep_the_grey_of_each_pixel() -> None:
    """Over many draws a pixel's grey is an affine function of what it was: nothing else of its colour gets into it."""
    x = images(3, 200)
    y = transformed(x, 1.0, ("colour",))
    grey, now = (t.mean(1).flatten(1) for t in (x, y))
    centred, moved = grey - grey.mean(1, keepdim=True), now - now.mean(1, keepdim=True)
    factor = (centred * moved).sum(1) / centred.square().sum(1)
    torch.testing.assert_close(moved, factor[:, None] * centred)
    assert float((factor < 0).double().mean()) == pytest.approx(0.5, abs=0.12), "luma flips"
    spread = float(factor.abs().log2().std())
    assert spread == pytest.approx(0.5, abs=0.1), "contrast"


def test_colour_leaves_alpha_alone_and_each_image_of_a_pair_has_its_own() -> None:
    x = images(4)
    y = transformed(x, 1.0, ("colour",))
    assert torch.equal(y[:, 3], x[:, 3])
    pair = torch.cat([x[:, :3], x[:, :3]], 1)
    one, two = transformed(pair, 1.0, ("colour",), (3, 3)).split(3, 1)
    assert not torch.allclose(one, two)
    one, two = transformed(pair, 1.0, ("blit", "geometry"), (3, 3)).split(3, 1)
    assert torch.equal(one, two), "they move together"


def test_the_filter_changes_bands_by_factors() -> None:
    x = images(1, 64, (16, 16))
    y = transformed(x, 1.0, ("filter",))
    before, after = torch.fft.rfft2(x), torch.fft.rfft2(y)
    factor = after / before
    torch.testing.assert_close(factor.imag, torch.zeros_like(factor.imag), atol=1e-9, rtol=0)
    assert torch.allclose(factor.real[:, 0, 0, 5:], factor.real[:, 0, 0, 5:6]), "one band"
    assert float(factor.real.min()) > 0


def test_cutout_hides_a_quarter_at_most() -> None:
    x = images() + 5
    y = transformed(x, 1.0, ("cutout",))
    hidden = (y == 0).double().mean((1, 2, 3))
    assert float(hidden.max()) <= 0.26
    assert float(hidden.min()) > 0
    assert torch.equal(y[y != 0], x[y != 0])


@pytest.mark.parametrize("family", [f for f in ALL if f != "noise"])
def test_it_can_be_differentiated_twice(family: Family) -> None:
    """So that a penalty on the raw image goes through it."""
    x = images(3, 2, (4, 4)).requires_grad_()

    def played(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return transformed(x, 0.9, (family,)).square()

    assert torch.autograd.gradcheck(played, x)
    assert torch.autograd.gradgradcheck(played, x)


# ---- how strong ----------------------------------------------------------------------------------------------------


def test_p_rises_while_d_knows_the_real_ones_and_falls_when_it_does_not() -> None:
    adaptive = Adaptive(images=1_000)
    sure, unsure = torch.full((256,), 3.0), torch.tensor([3.0, -3.0]).repeat(128)
    for _ in range(2):
        adaptive.observe(sure, -sure, boundary=0.0)
    assert float(adaptive.p) == pytest.approx(0.512)
    assert float(adaptive.overfit) == 1
    adaptive.observe(unsure, -sure, boundary=0.0)
    assert float(adaptive.p) == pytest.approx(0.256)
    for _ in range(9):
        adaptive.observe(unsure, -sure, boundary=0.0)
    assert float(adaptive.p) == 0
    for _ in range(9):
        adaptive.observe(sure, -sure, boundary=0.0)
    assert float(adaptive.p) == pytest.approx(MOST)


@pytest.mark.parametrize("name", ["r3gan", "wgan_gp", "progressive"])
def test_a_game_whose_logits_are_relative_is_refused(name: str) -> None:
    """Its D tells real from fake by a difference, which grows whether it overfits or not."""
    run = tiny.run(name, augment=("adaptive",))
    spec = Spec((1, 8, 8))
    with pytest.raises(UserError, match=r"--augment adaptive: .* take colour translation cutout"):
        run.sees(spec)
    assert replace(run, augment=POLICIES).sees(spec) == spec


def test_a_games_own_boundary_says_what_is_sure() -> None:
    """By least squares 0.5 is undecided: above 0 is nothing yet."""
    for game in (CycleGAN(), CUT()):
        adaptive = Adaptive(images=1_000)
        adaptive.observe(torch.full((256,), 0.4), torch.full((256,), 0.4), boundary=game.boundary)
        assert float(adaptive.overfit) == -1
        adaptive.observe(torch.full((256,), 0.6), torch.full((256,), 0.4), boundary=game.boundary)
        assert float(adaptive.overfit) == 1
        undecided = torch.tensor(game.boundary).requires_grad_()
        least_squares(undecided[None], undecided[None]).sum().backward()
        assert undecided.grad == 0, "a D that cannot tell them apart says this"


def test_a_turn_that_is_not_finite_leaves_no_trace() -> None:
    adaptive = Adaptive(images=1_000)
    adaptive.observe(torch.ones(128), -torch.ones(128), boundary=0.0)
    before = float(adaptive.p), float(adaptive.overfit)
    broken = torch.ones(128)
    broken[5] = torch.nan
    adaptive.observe(broken, -broken, boundary=0.0)
    assert (float(adaptive.p), float(adaptive.overfit)) == before


def test_overfitting_is_remembered_over_256_images() -> None:
    adaptive = Adaptive(images=1_000)
    adaptive.observe(torch.ones(64), -torch.ones(64), boundary=0.0)
    assert float(adaptive.overfit) == pytest.approx(0.25)


def test_d_alone_sees_it_and_its_strength_is_in_the_checkpoint(tmp_path: Path) -> None:  # trap 23
    """After a resume every tensor of the game is what it would have been."""
    run = tiny.run("r1gan", augment=("adaptive",), augment_images=40)
    t = tiny.training(run, tiny.images((1, 8, 8)))
    adaptive = t.players.carried["augment"]
    assert isinstance(adaptive, Adaptive)
    seen: list[float] = []
    for _ in range(12):
        t.step()
        seen.append(float(adaptive.overfit))
    assert len(set(seen)) > 6
    adaptive.p.fill_(0.5)
    x = torch.rand(8, 1, 8, 8)
    assert not torch.equal(t.players.D(x), t.players.networks["D"](x)), "D sees others"
    tiny.keep(t, tmp_path)
    other = tiny.training(run, tiny.images((1, 8, 8)))
    saved = checkpoint.newest(tmp_path, print)
    assert saved is not None
    other.restore(saved)
    assert float(other.players.carried["augment"].p) == 0.5  # type: ignore[arg-type]
    for _ in range(3):
        t.step()
        other.step()
    mine, theirs = ({**x.players.networks, **x.players.carried} for x in (t, other))
    for name, module in mine.items():
        assert tiny.equal(tiny.weights(module), tiny.weights(theirs[name])), name


def test_it_does_not_leak() -> None:  # trap 27
    """Images with their light above, shown in any turn to D with p = 0.8, are drawn with their light above."""
    random = np.random.default_rng(0)
    values = random.integers(0, 60, (400, 1, 8, 8))
    values[:, :, :4] += 180
    run = tiny.run(
        "r1gan", augment=("adaptive",), batch_size=32, seed=1,
        algorithm=replace(tiny.settings("r1gan").algorithm, networks=Subpixel(latent=8, width=16, hidden=32)),
    )  # fmt: skip
    adam = replace(run.adam_g, lr=tiny.Constant(2e-3))
    t = tiny.training(replace(run, adam_g=adam, adam_d=adam), ArrayDataset(values.astype(np.uint8)))
    adaptive = t.players.carried["augment"]
    assert isinstance(adaptive, Adaptive)
    adaptive.families = ("blit",)
    for _ in range(600):
        adaptive.p.fill_(MOST)
        t.step()
    x = generate(t.averaged["G"], torch.randn(200, 8), None)
    above = x[:, :, :4].mean((1, 2, 3)) - x[:, :, 4:].mean((1, 2, 3))
    assert float((above > 0.5).double().mean()) > 0.95


def test_noise_and_cutout_leave_alpha_alone() -> None:
    torch.manual_seed(0)
    x = torch.rand(50, 4, 16, 16) * 2 - 1
    for family in ("noise", "cutout"):
        y = transformed(x, 1.0, (family,))
        assert torch.equal(y[:, 3], x[:, 3]), family
        assert not torch.equal(y[:, :3], x[:, :3])
    both = torch.cat([x, x[:, :1]], 1)  # an image with alpha and a grey one
    y = transformed(both, 1.0, ("cutout",), (4, 1))
    assert torch.equal(y[:, 3], x[:, 3])
    assert not torch.equal(y[:, 4], x[:, 0])


def test_a_move_is_one_transformation() -> None:
    """Both ways move, or neither: at probability p a share 1 - p lies where it was, not (1 - p) squared."""
    torch.manual_seed(0)
    x = torch.zeros(4_000, 1, 9, 9)
    x[:, :, 4, 4] = 1.0
    from zerosum.data import adaptive

    draw = adaptive._Draw(x, 0.5)
    across, down = draw.normal_pair(1.0)
    assert torch.equal(across == 0, down == 0)
    assert 0.45 < float((across == 0).float().mean()) < 0.55
    right, low = draw.pair(-1.0, 1.0)
    assert torch.equal(right == 0, low == 0)
    assert float(right.abs().max()) <= 1


@pytest.mark.parametrize(("policy", "family"), list(MORE.items()))
def test_what_is_asked_for_beside_it_is_as_strong_and_not_there_without_it(policy: Policy, family: Family) -> None:
    spec = Spec((1, 16, 16))
    run = tiny.run("r1gan", augment=("adaptive", policy))
    assert run.sees(spec) == spec
    kept = carried_by(run, spec)[AUGMENT]
    assert isinstance(kept, Adaptive)
    assert kept.families == (*FAMILIES, family)
    x = torch.rand(4, 1, 16, 16) * 2 - 1
    torch.testing.assert_close(kept(x), x, atol=1e-5, rtol=0)  # p is 0
    kept.families = (family,)
    kept.p.fill_(1.0)
    assert not torch.allclose(kept(x), x)
    told = rf"--augment {policy}: {policy} is as strong as D overfits; give adaptive with it"
    with pytest.raises(UserError, match=told):
        replace(run, augment=(policy,)).sees(spec)


def test_cutout_by_its_own_name_is_that_of_diffaugment() -> None:
    """ADA's usual families, with the cutout that does not ask for p beside them."""
    run = tiny.run("r1gan", augment=("adaptive", "cutout"))
    kept = carried_by(run, Spec((1, 16, 16)))[AUGMENT]
    assert isinstance(kept, Adaptive)
    assert kept.families == FAMILIES
