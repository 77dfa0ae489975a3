"""Networks that grow: each size as if it were alone, fades that begin and end exactly, what their layers compute."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.ema import EMA
from zerosum.errors import UserError
from zerosum.networks import Growing, Progressive, coupled
from zerosum.networks.blocks import MinibatchStd
from zerosum.networks.equalised import equalised
from zerosum.networks.growing import doubled
from zerosum.networks.progressive import pixel_norm

NET = Progressive(latent=6, width=4, widest=8)
SHAPES = [(1, 16, 24), (3, 32, 32), (4, 24, 16)]  # the first from 4x6, the last from 6x4
STAGES = {(1, 16, 24): 2, (3, 32, 32): 3, (4, 24, 16): 2}


def build(shape: tuple[int, ...] = (3, 32, 32), classes: int = 0, folds: int = 0) -> tuple[Growing, Growing]:
    torch.manual_seed(0)
    spec, net = Spec(shape, classes), replace(NET, folds=folds)
    generator, critic = net.generator(spec), net.critic(spec)
    assert isinstance(generator, Growing)
    assert isinstance(critic, Growing)
    return generator, critic


def forced(network: Growing, born: int, alpha: float) -> Growing:
    """In the middle of a fade, at an alpha that `grow` would call its beginning or its end."""
    network.grow(born - 0.5)
    network.alpha.fill_(alpha)
    return network


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("classes", "folds"), [(0, 0), (3, 0), (0, 1)])
def test_every_size_plays(shape: tuple[int, ...], classes: int, folds: int) -> None:
    generator, critic = build(shape, classes, folds)
    label = torch.arange(4) % classes if classes else None
    assert generator.stages == critic.stages == STAGES[shape] - folds
    for grown in [0.0, *(k + part for k in range(generator.stages) for part in (0.25, 1.0))]:
        for network in (generator, critic):
            network.grow(grown)
            network.zero_grad()
        fake = generator(torch.randn(4, 6), label)
        assert fake.shape == (4, *shape)
        small = critic.shrunk(fake)
        assert small.shape[2:] == tuple(side >> (generator.stages - generator.born) for side in shape[1:])
        torch.testing.assert_close(doubled(small, generator.stages - generator.born), fake)
        logit = critic(fake, label)
        assert logit.shape == (4,)
        torch.testing.assert_close(critic(small, label), logit)
        logit.square().sum().backward()
        for network in (generator, critic):
            moved = {id(p) for p in network.parameters() if p.grad is not None}
            assert all(id(p) in moved for p in network.newest()), "the newborn learns"
            assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert not list(generator.newest())


def test_those_not_yet_born_are_left_out() -> None:
    generator, critic = build()
    for network in (generator, critic):
        network.grow(1.0)
    critic(generator(torch.randn(3, 6))).sum().backward()
    for network in (generator, critic):
        with_gradients = {name for name, p in network.named_parameters() if p.grad is not None}
        assert not [name for name in with_gradients if name.startswith(("blocks.1", "blocks.2"))]
        assert [name for name in with_gradients if name.startswith("blocks.0")]


@pytest.mark.parametrize(("born", "folds"), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)])
def test_a_fade_begins_as_the_smaller_network_and_ends_as_the_larger(born: int, folds: int) -> None:
    """Exactly: not one bit of difference."""
    generator, critic = build(folds=folds)
    z = torch.randn(5, 6)
    with torch.no_grad():
        for alpha, size in ((0.0, born - 1), (1.0, born)):
            fading = forced(generator, born, alpha)(z)
            generator.grow(float(size))
            assert torch.equal(generator(z), fading)
            x = torch.randn(5, 3, 4 << born + folds, 4 << born + folds)
            fading = forced(critic, born, alpha)(x)
            critic.grow(float(size))
            assert torch.equal(critic(torch.nn.functional.avg_pool2d(x, 2) if alpha == 0 else x), fading)


def test_in_between_it_is_between() -> None:
    generator, _ = build()
    z = torch.randn(5, 6)
    with torch.no_grad():
        old, new = forced(generator, 2, 0.0)(z), forced(generator, 2, 1.0)(z)
        torch.testing.assert_close(forced(generator, 2, 0.25)(z), 0.75 * old + 0.25 * new)


def test_real_images_fade_with_it() -> None:
    _, critic = build()
    x = torch.randn(2, 3, 32, 32)
    critic.grow(2.25)
    now = torch.nn.functional.avg_pool2d(x, 1)
    assert critic.shrunk(x).shape == (2, 3, 32, 32)
    before = doubled(torch.nn.functional.avg_pool2d(now, 2))
    torch.testing.assert_close(critic.faded(x), 0.75 * before + 0.25 * now)
    critic.grow(1.0)
    torch.testing.assert_close(critic.faded(x), torch.nn.functional.avg_pool2d(x, 4))


def test_how_far_it_has_grown_is_saved_and_copied() -> None:
    generator, _ = build()
    generator.grow(1 + 1 / 3)  # no float32 number
    z = torch.randn(3, 6)
    other = NET.generator(Spec((3, 32, 32)))
    other.load_state_dict(generator.state_dict())
    assert isinstance(other, Growing)
    assert (other.born, other.fading, other.size) == (2, True, generator.size)
    assert torch.equal(other(z), generator(z))
    assert torch.equal(copy.deepcopy(generator)(z), generator(z))


def test_nobody_grows_beyond_the_end() -> None:
    with pytest.raises(ValueError, match=r"grown=3\.5: from 0 to 3"):
        build()[0].grow(3.5)


@pytest.mark.parametrize(
    ("was", "now", "copied"),
    [
        (1.0, 1.5, {2}),
        (1.0, 2.0, {2}),
        (0.0, 2.5, {1, 2, 3}),
        (0.0, 3.0, {1, 2, 3}),
        (1.5, 2.0, set()),
        (2.0, 2.0, set()),
    ],
)
def test_the_average_grows_with_it_and_copies_the_newborn(was: float, now: float, copied: set[int]) -> None:
    """Those that fade in, and those that have come since, be it whole; not those that were there, faded in or not."""
    generator, _ = build()
    generator.grow(was)
    ema = EMA(generator)
    generator.grow(now)
    with torch.no_grad():
        for p in generator.parameters():
            p.add_(1.0)
    ema.update(10, 1e9)
    average = ema.network
    assert isinstance(average, Growing)
    assert (average.size, average.born, average.fading) == (now, generator.born, generator.fading)
    assert float(average.grown) == now
    newborn = tuple(f"{part}.{number}." for n in copied for part, number in (("blocks", n - 1), ("to_image", n)))
    for (name, p), mean in zip(generator.named_parameters(), average.parameters(), strict=True):
        apart = float((p - mean).detach().abs().max())
        assert apart == 0 if name.startswith(newborn) else apart > 0.99, name


def test_samples_are_coupled_in_d_alone() -> None:
    generator, critic = build()
    assert coupled(critic)
    assert not coupled(generator)


def test_width_must_not_exceed_the_widest() -> None:
    with pytest.raises(UserError, match=r"widest 4: must be at least --algorithm\.networks\.width 8"):
        Progressive(width=8, widest=4)


def test_folded_pixels_are_all_there_and_each_has_a_place() -> None:
    """What D sees of an image, and what G makes of its last features."""
    generator, critic = build((1, 32, 48), folds=2)
    assert generator.stages == critic.stages == 1
    z, x = torch.randn(2, 6), torch.randn(2, 1, 32, 48, requires_grad=True)
    image = generator(z)
    assert image.shape == (2, 1, 32, 48)
    assert len(image.detach().unique()) == image.numel(), "no pixel is a copy of another"
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    assert bool((gradient != 0).all()), "D sees them all"


def test_something_has_to_be_left_to_learn() -> None:
    with pytest.raises(UserError, match=r"folds 3: images of 16x24 are halved 2 times; give at most 1"):
        Progressive(folds=3).generator(Spec((1, 16, 24)))


# ---- layers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.Linear(64, 300), nn.Conv2d(16, 300, 3)], ids=["linear", "convolution"])
def test_equalised_weights_are_stored_with_variance_one_and_used_by_he(layer: nn.Linear | nn.Conv2d) -> None:
    torch.manual_seed(0)
    fan_in = layer.weight[0].numel()
    layer = equalised(layer, math.sqrt(2))
    (stored, *_) = layer.parametrizations.weight.parameters()
    assert float(stored.std()) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(layer.weight, stored * math.sqrt(2 / fan_in))


def test_classes_are_equalised_too() -> None:
    """What D projects on its features is as large as they make it, and stored with variance 1 as all else is."""
    _, critic = build(classes=3)
    stored = {name: p for name, p in critic.named_parameters() if "embedding" in name}
    (weight,) = stored.values()
    assert weight.shape == (3, 8)
    used = critic.get_submodule("head").get_submodule("embedding")
    assert isinstance(used, nn.Embedding)
    torch.testing.assert_close(used.weight, weight / math.sqrt(8))


def test_equalised_layers_learn_equally_quickly() -> None:
    """One step of Adam turns the weights of a wide layer and of a narrow one by the same part (sec. 4.1)."""
    moved = []
    for fan_in in (8, 512):
        torch.manual_seed(0)
        layer = equalised(nn.Linear(fan_in, 64))
        before = layer.weight.detach().clone()
        optimiser = torch.optim.Adam(layer.parameters(), lr=1e-2)
        layer(torch.randn(32, fan_in)).square().mean().backward()
        optimiser.step()
        moved.append(float((layer.weight - before).norm() / before.norm()))
    assert moved[0] == pytest.approx(moved[1], rel=0.15)


def test_pixel_norm_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])[..., None, None].expand(-1, -1, 2, 2)
    y = pixel_norm(x)
    torch.testing.assert_close(y[0, :, 0, 0], torch.tensor([3.0, 4.0]) / math.sqrt(12.5))
    assert torch.equal(y[1], torch.zeros(2, 2, 2))
    torch.testing.assert_close(pixel_norm(torch.randn(7, 64)).square().mean(1), torch.ones(7))


def test_the_spread_over_the_minibatch() -> None:  # trap 29
    """None of equals, and known of what is known; one number, beside the features as they were."""
    x = torch.randn(1, 3, 4, 5).expand(6, -1, -1, -1)
    assert float(MinibatchStd()(x)[:, 3].abs().max()) <= 1.01e-4
    y = torch.cat([x[:3] - 0.5, x[3:] + 0.5])
    out = MinibatchStd()(y)
    assert out.shape == (6, 4, 4, 5)
    assert torch.equal(out[:, :3], y)
    torch.testing.assert_close(out[:, 3], torch.full((6, 4, 5), 0.5))


def test_the_spread_is_that_of_numpy() -> None:
    x: Tensor = torch.randn(9, 2, 3, 3, dtype=torch.float64)
    expected = x.numpy().std(axis=0).mean()
    assert float(MinibatchStd()(x)[0, 2, 0, 0]) == pytest.approx(expected, rel=1e-6)
