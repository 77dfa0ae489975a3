"""Designs: liked, real, distinct, near a start; by scorers that can be followed and by any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from zerosum import sample
from zerosum.applications import design as designing
from zerosum.applications import kept
from zerosum.applications import studio as studio_of
from zerosum.applications.design import Scorer, Studio, _distinct, steady
from zerosum.applications.recommend import DVBPR, Settings
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.metrics.features.weak import RandomConvolutions
from zerosum.networks import Progressive
from zerosum.networks.blocks import decoupled
from zerosum.sample import CHUNK


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    out = tmp_path_factory.mktemp("run")
    data = tiny.images(count=120)
    training = tiny.training(tiny.run("r1gan", conditional=True), data)
    for _ in range(3):
        training.step()
    model = sample.load(tiny.keep(training, out), "last", "fp32")
    tiny.lively(model.generator)
    critic = training.players.networks["D"].eval().requires_grad_(False)
    return Studio(model, critic, RandomConvolutions(model.spec), data.values, data.labels)


def bright(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


def test_designs_score_higher_than_what_was_drawn(studio: Studio) -> None:
    found = studio.design(bright, 4, drawn=200, steps=20, seed=1)
    z = studio.model.latents(200, 7)
    usual = bright(studio.model.generator(z, torch.arange(200) % 3).clamp(-1, 1))
    assert found.images.shape == (4, 1, 8, 8)
    assert float(found.scores.min()) > float(usual.median())
    apart = found.scores - (torch.from_numpy(found.images).float().mean((1, 2, 3)) / 127.5 - 1)
    assert float(apart.abs().max()) < 0.1, "means over moves by a pixel, which change brightness a little"
    assert float(found.z.norm(dim=1).max()) <= studio.model.latent**0.5 + 2.01


def test_for_a_scorer_that_cannot_be_followed_steps_at_random_go_some_of_the_way(studio: Studio) -> None:
    z, label = studio.model.latents(16, 2), torch.zeros(16, dtype=torch.int64)

    def stern(images: Tensor) -> Tensor:
        return torch.from_numpy(images.detach().numpy().mean((1, 2, 3)))

    def gain(score: Callable[[Tensor], Tensor]) -> float:
        go = partial(studio._followed, logit=-100.0, near=None, reach=0.5, steps=30, spread=1.0, seed=0, told=None)
        before, after = (studio.model.generator(at, label).clamp(-1, 1) for at in (z, go(score, z=z, label=label)))
        return float((bright(after) - bright(before)).mean())

    followed = gain(bright)
    assert followed > 0
    assert gain(stern) > followed / 10


@pytest.mark.parametrize("reach", [0.2, 1.5])
def test_designs_stay_near_the_item_they_start_from(studio: Studio, reach: float) -> None:
    near = studio.model.latents(1, 3)[0]
    found = studio.design(bright, 3, near=near, reach=reach, drawn=60, steps=15)
    assert float((found.z - near).norm(dim=1).max()) <= reach * float(near.norm()) * 1.001
    assert float(found.z.norm(dim=1).max()) <= studio.model.latent**0.5 + 2.01, "where the generator was trained"


class ByCorner(nn.Module):
    """A critic that looks at one pixel, in which images of an untrained generator differ."""

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        return x[:, 0, 0, 0]


def corner(images: np.ndarray) -> Tensor:
    """Features (n, 1)."""
    return torch.from_numpy(images[:, 0, 0, :1].astype(np.float32))


def judged_by_a_corner(studio: Studio, levels: np.ndarray, labels: np.ndarray | None = None) -> Studio:
    """Of a catalogue of even images of these grey levels (n,)."""
    items = np.broadcast_to(levels.astype(np.uint8)[:, None, None, None], (len(levels), 1, 8, 8))
    return replace(studio, critic=ByCorner(), extractor=corner, items=np.array(items), labels=labels)


def test_bounds_are_of_nine_in_ten_and_three_in_four_real_items(studio: Studio) -> None:
    levels = np.linspace(0, 1, 240) ** 2 * 255  # dense where they are dark
    some = judged_by_a_corner(studio, levels)
    logit, distance = some.bounds()
    one, other = (corner(some.items[half])[:, 0] for half in some._halves())
    assert float((one / 127.5 - 1 >= logit).float().mean()) == pytest.approx(0.9, abs=0.02)
    fifth = (one[:, None] - other).abs().sort(dim=1).values[:, 4]
    assert 0.74 <= float((fifth <= distance).float().mean()) <= 0.8


class Even(nn.Module):
    """A generator whose images are one grey level, which the first number of the latent says."""

    def forward(self, z: Tensor, label: Tensor | None) -> Tensor:
        return z[:, :1, None, None].tanh().expand(-1, 1, 8, 8)


def test_designs_keep_to_both_bounds_where_they_can(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = SimpleNamespace(generator=Even(), latent=2, spec=Spec((1, 8, 8)))
    within = replace(judged_by_a_corner(studio, np.linspace(60, 190, 60)), model=plain)
    monkeypatch.setattr(Studio, "_followed", lambda self, judge, z, *more: z)  # so that some are within
    for score in (bright, lambda x: -bright(x)):  # out of the catalogue at either end
        found = within.design(score, 1, drawn=8)
        drawn = within._made(within._drawn(8, None, 0.5, None, 0)[0], None, 0)
        assert float(found.scores.max()) < float(score(drawn).max()) - 0.1
        assert found.real
        assert float(found.realism.min()) >= found.limit[0]
        assert float(found.distance.max()) <= found.limit[1]
    for levels in (np.linspace(250, 255, 60), np.linspace(0, 5, 60)):  # all are too dark for D; too far from all
        assert not replace(judged_by_a_corner(studio, levels), model=plain).design(bright, 1, drawn=16).real


def test_a_catalogue_in_order_is_judged_by_all_of_it(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = np.r_[np.linspace(200, 255, 150), np.linspace(0, 55, 150)]
    some = judged_by_a_corner(studio, levels, np.repeat([0, 1], 150))
    whole = some.bounds()[0]
    monkeypatch.setattr(designing, "COMPARED", 60)
    assert whole < -0.5
    assert some.bounds()[0] == pytest.approx(whole, abs=0.1)
    monkeypatch.setattr(designing, "ENOUGH", 40)
    assert some.bounds(torch.tensor([0]))[0] > 0.5, "of the class that is designed"
    monkeypatch.setattr(designing, "ENOUGH", 1_000)
    assert some.bounds(torch.tensor([0]))[0] < -0.5


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"reach": -1.0}, "--reach -1: must be above 0"),
        ({"steps": 0}, "--steps 0"),
        ({"seed": -1}, "--seed -1"),
        ({"near": torch.zeros(3)}, r"near: a latent of shape \(3,\); give one of"),
        ({"classes": torch.tensor([99])}, r"classes \[99\]: the run's are 0 to 2"),
        ({"classes": torch.tensor([], dtype=torch.int64)}, r"classes \[\]"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(studio: Studio, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        studio.design(bright, 2, drawn=64, **asked)


def test_a_scorer_of_one_s_own_is_left_as_it_was(studio: Studio) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    studio.design(lambda x: net(x)[:, 0], 2, drawn=64, steps=3)
    assert all(p.grad is None for p in net.parameters())


def test_a_scorer_that_leaves_its_images_behind_is_not_followed() -> None:
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), torch.zeros(1, 1, 8, 8)
    assert designing._can_be_followed(lambda x: net(x)[:, 0], images)
    assert not designing._can_be_followed(lambda x: net(x.detach())[:, 0], images)
    assert not designing._can_be_followed(lambda x: torch.from_numpy(x.numpy()), images)


def test_only_the_classes_asked_for_are_designed(studio: Studio) -> None:
    found = studio.design(bright, 3, classes=torch.tensor([2]), drawn=60, steps=2)
    assert found.label is not None
    assert found.label.tolist() == [2, 2, 2]


def test_the_seed_decides(studio: Studio) -> None:
    a, b, c = (studio.design(bright, 2, drawn=60, steps=3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(a.images, b.images)
    assert not np.array_equal(a.images, c.images)


def test_those_that_are_real_come_first_and_none_is_there_twice() -> None:
    worth = torch.tensor([5.0, 4.0, 4.5, 1.0, 0.5])
    fits = torch.tensor([False, True, True, True, True])
    features = torch.tensor([[0.0], [10.0], [10.001], [20.0], [30.0]])
    chosen, real, apart = _distinct(worth, fits, features, 3)
    assert chosen.tolist() == [2, 3, 4], "1 is near 2, and 0 is not real"
    assert real
    assert apart == 3
    chosen, real, apart = _distinct(worth, fits, features, 4)
    assert chosen.tolist() == [2, 3, 4, 0]
    assert not real
    assert apart == 4
    chosen, _, apart = _distinct(worth, fits, features, 5)
    assert chosen.tolist() == [2, 3, 4, 0, 1]
    assert apart == 4, "1 makes up the number"


def test_where_all_are_the_same_there_are_fewer_and_they_are_not_called_unreal() -> None:
    chosen, real, apart = _distinct(torch.ones(4), torch.ones(4, dtype=torch.bool), torch.zeros(4, 2), 3)
    assert (chosen.tolist(), real, apart) == ([0], True, 1)


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (lambda images: -images.mean(), r"gave \(\) for 64 images; return \(64,\)"),
        (lambda images: images.mean((2, 3)).repeat(1, 3), r"gave \(64, 3\) for 64 images"),
        (lambda images: bright(images) * torch.nan, "no finite number"),
        (lambda images: np.full(64, np.nan), "no finite number"),
        (lambda images: bright(images) * 1j, "complex numbers"),
        (lambda images: np.zeros(3), r"gave \(3,\) for 64 images; return \(64,\)"),
        (lambda images: [0.5] * 5, r"gave \(5,\) for 64 images"),
        (lambda images: [None] * 64, "gave list for 64 images.*; return a tensor, an array or a list of 64 numbers"),
        (lambda images: None, "gave NoneType for 64 images"),
    ],
)
def test_a_scorer_has_to_give_a_number_for_each_image(studio: Studio, score: Scorer, why: str) -> None:
    with pytest.raises(UserError, match=why):
        studio.design(score, 2, drawn=64)


@pytest.mark.parametrize("score", [lambda x: bright(x).squeeze(), lambda x: x.mean((1, 2, 3), keepdim=True)])
def test_a_number_for_each_image_is_one_in_whatever_shape(studio: Studio, score: Scorer) -> None:
    found = studio.design(score, 2, drawn=64, steps=2)
    assert torch.equal(found.scores, studio.design(bright, 2, drawn=64, steps=2).scores)


@pytest.mark.parametrize("kind", [np.asarray, Tensor.tolist])
def test_a_scorer_may_give_an_array_or_a_list(studio: Studio, kind: Callable[[Tensor], Any]) -> None:
    def leaving(images: Tensor) -> Any:
        return kind(bright(images.detach()))

    def staying(images: Tensor) -> Tensor:
        return bright(images.detach())

    found = studio.design(leaving, 2, drawn=64, steps=2)
    assert torch.equal(found.scores, studio.design(staying, 2, drawn=64, steps=2).scores)


def test_more_candidates_than_go_at_once_are_followed_each_for_itself(studio: Studio) -> None:
    z = studio.model.latents(CHUNK + 6, 2)
    label = torch.zeros(len(z), dtype=torch.int64)
    go = partial(studio._followed, bright, logit=-5.0, near=None, reach=0.5, steps=4, spread=0.1, seed=0, told=None)
    whole = go(z=z, label=label)
    torch.testing.assert_close(whole[CHUNK:], go(z=z[CHUNK:], label=label[CHUNK:]), rtol=1e-3, atol=1e-3)
    assert float((whole - z).norm(dim=1).min()) > 0


def test_a_critic_that_looks_at_batches_judges_each_image_for_itself() -> None:
    torch.manual_seed(0)
    critic = Progressive(latent=6, width=4, widest=8).critic(tiny.images((1, 16, 16), classes=0).spec).eval()
    x = torch.randn(24, 1, 16, 16)
    settled = decoupled(critic, x[:8], None)
    torch.testing.assert_close(settled(x[:8]), critic(x[:8]))
    torch.testing.assert_close(settled(x)[20:], settled(x[20:]))
    assert not torch.allclose(critic(x)[20:], critic(x[20:]))
    plain = tiny.training(tiny.run("r1gan"), tiny.images()).players.networks["D"]
    assert decoupled(plain, torch.randn(4, 1, 8, 8), None) is plain


def test_the_catalogue_is_drawn_from_all_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = tiny.images(count=120)
    training = tiny.training(tiny.run("r1gan", conditional=True), items)
    training.step()
    monkeypatch.setattr(studio_of, "MOST", 30)
    settled: list[set[int]] = []

    def decoupling(critic: nn.Module, _: Tensor, label: Tensor) -> nn.Module:
        settled.append(set(label.tolist()))
        return critic

    monkeypatch.setattr(studio_of, "decoupled", decoupling)
    ordered = replace(items, labels=np.repeat(np.arange(3), 40))
    found = studio_of.of_run(tiny.keep(training, tmp_path), items=ordered)
    assert found.labels is not None
    assert set(found.labels.tolist()) == {0, 1, 2}
    assert settled == [{0, 1, 2}], "what the critic takes for usual is drawn from all, too"


def test_the_catalogue_is_to_be_what_the_run_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    items = tiny.images(count=60)
    training = tiny.training(tiny.run("r1gan", conditional=True), items)
    training.step()
    run = tiny.keep(training, tmp_path)
    there = [items]
    monkeypatch.setattr(studio_of.sources, "read", lambda _: there[-1])
    studio_of.of_run(run)
    assert not capsys.readouterr().err
    there.append(tiny.images(count=50))
    studio_of.of_run(run)
    assert f"tiny: is not what {run} was trained on" in capsys.readouterr().err
    there.append(tiny.images((1, 16, 8), count=60))
    with pytest.raises(UserError, match=r"tiny: images of \(1, 16, 8\).*trained on \(1, 8, 8\)"):
        studio_of.of_run(run)
    there.append(tiny.images(count=60, classes=2))
    with pytest.raises(UserError, match=r"tiny: 2 classes, and .* was trained on 3"):
        studio_of.of_run(run)
    with pytest.raises(UserError, match="items: images of"):
        studio_of.of_run(run, items=tiny.images((1, 8, 16), count=60))


def test_a_catalogue_of_a_few_items_is_refused(studio: Studio) -> None:
    few = Studio(studio.model, studio.critic, studio.extractor, studio.items[:8], None)
    with pytest.raises(UserError, match="the catalogue has 8 items; 12 or more are needed"):
        few.design(bright, 2)
    with pytest.raises(UserError, match="-n 0"):
        studio.design(bright, 0)


# ---- a taste on the disk -------------------------------------------------------------------------------


def test_a_taste_comes_back_as_it_was(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
    model = DVBPR(3, images, Settings(factors=4))
    for _ in range(5):  # so that what is kept is a mean, and beta is not 0
        model.step(torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5]), torch.tensor([6, 7, 8]))
    kept.save(model, ("ann", "bob", "eve"), tmp_path)
    taste = kept.load(tmp_path)
    x = torch.from_numpy(images).float() / 127.5 - 1
    got = taste.of("bob")(x)
    np.testing.assert_allclose(got.numpy(), model.scores(np.array([1]), images)[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(got.numpy(), model.scores(np.array([1]))[0], atol=1e-3), "beta is no part of a taste"
    with pytest.raises(UserError, match="--for zoe: there is no such user among 3"):
        taste.of("zoe")


def test_a_taste_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no taste"):
        kept.load(tmp_path)
    (tmp_path / "taste.json").write_text("{}")
    (tmp_path / "taste.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is damaged"):
        kept.load(tmp_path)


def test_a_score_that_a_move_takes_away_is_not_the_item_s() -> None:
    """Of two images alike but for a pattern of single pixels, the scorer that loves the pattern is not believed."""
    pattern = torch.ones(1, 1, 8, 8)
    pattern[..., ::2, ::2] = pattern[..., 1::2, 1::2] = -1

    def fond(images: torch.Tensor) -> torch.Tensor:
        return (images * pattern).mean((1, 2, 3)) + 0.1 * images.mean((1, 2, 3))

    plain = torch.full((1, 1, 8, 8), 0.5)
    raw, held = fond(torch.cat([pattern, plain])), steady(fond, torch.cat([pattern, plain]))
    assert raw[0] > 0.9 > raw[1]
    assert held[0] < held[1]
    torch.testing.assert_close(held[1], raw[1], rtol=1e-5, atol=1e-6)
