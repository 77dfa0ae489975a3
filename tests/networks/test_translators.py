"""Networks that make images of images: shapes, sizes, what reaches what, and the papers' numbers."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch
from torch import Tensor, nn

from zerosum.data import buckets
from zerosum.data.spec import Spec
from zerosum.errors import SizeError, UserError
from zerosum.networks import Patch, ResBlocks, Translators, UNet, coupled, stateful
from zerosum.networks.translators import InstanceNorm

SMALL = Patch(width=4)
NETS: dict[str, Translators] = {
    "unet": UNet(width=4, patch=Patch(width=4, norm="batch")),
    "unet-instance": UNet(width=4, norm="instance", dropout=0.0, bias=True, patch=SMALL),
    "unet-none": UNet(width=4, norm="none", dropout=0.0, patch=Patch(width=4, norm="none")),
    "resblocks": ResBlocks(width=4, blocks=2, patch=SMALL),
    "resblocks-batch": ResBlocks(width=4, blocks=2, norm="batch", patch=SMALL),
    "resblocks-scaled": ResBlocks(width=4, blocks=2, norm="scaled_instance", bias=True, patch=SMALL),
    "resblocks-attention": ResBlocks(width=4, blocks=2, attention=True, patch=SMALL),
    "resblocks-even": ResBlocks(width=4, blocks=2, even=True, patch=SMALL),
    "resblocks-none": ResBlocks(width=4, blocks=2, norm="none", patch=Patch(width=4, layers=0)),
}
by_name = pytest.mark.parametrize("name", NETS)


def pair(name: str, size: tuple[int, int] = (32, 32), channels: tuple[int, int] = (3, 3)) -> list[nn.Module]:
    torch.manual_seed(1)
    source, target = (Spec((c, *size)) for c in channels)
    return [NETS[name].generator(source, target), NETS[name].critic(target, source)]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@by_name
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (36, 20)])
@pytest.mark.parametrize("channels", [(3, 3), (1, 5)])
def test_shapes_and_gradients_of_every_parameter(name: str, size: tuple[int, int], channels: tuple[int, int]) -> None:
    generator, critic = pair(name, size, channels)
    x = torch.rand(2, channels[0], *size) * 2 - 1
    made = generator(x)
    assert made.shape == (2, channels[1], *size)
    assert made.abs().max() <= 1
    logits = critic(torch.cat([made, x], 1))
    assert logits.dim() == 3
    logits.square().sum().backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all() for net in (generator, critic) for p in net.parameters()
    )


@by_name
def test_a_generator_takes_every_multiple_of_its_multiple(name: str) -> None:
    generator, _ = pair(name)
    m = generator.multiple
    with torch.no_grad():
        assert generator(torch.rand(2, 3, 2 * m, 3 * m)).shape == (2, 3, 2 * m, 3 * m)


@pytest.mark.parametrize(
    ("size", "depth"),
    [((128, 128), 7), ((256, 256), 8), ((512, 512), 8), ((1024, 768), 8), ((96, 96), 5), ((64, 4), 2), ((100, 60), 2)],
)
def test_a_unet_halves_as_often_as_the_size_allows(size: tuple[int, int], depth: int) -> None:
    with torch.device("meta"):
        generator = UNet(width=1).generator(Spec((3, *size)), Spec((1, *size)))
    assert len(generator.encoder) == len(generator.decoder) == depth
    assert generator.multiple == 2**depth


def test_sizes_that_do_not_fit_are_refused_with_the_nearest() -> None:
    def refusal(net: Translators, *size: int) -> SizeError:
        with pytest.raises(SizeError, match=f"--size {size[0]} {size[1]}") as found:
            net.generator(Spec((3, *size)), Spec((3, *size)))
        return found.value

    assert refusal(UNet(), 90, 128).nearest == (88, 128)
    assert refusal(ResBlocks(), 30, 64).nearest == (28, 64)
    assert refusal(ResBlocks(), 4, 64).nearest == (8, 64)
    problem = refusal(UNet(depth=5), 48, 64)
    assert problem.nearest == (32, 64)
    assert "multiples of 32" in str(problem)
    assert "64x64 and 32x64" in str(problem)
    assert refusal(UNet(depth=5), 16, 64).nearest == (32, 64)
    with pytest.raises(UserError, match=r"32x32 and 32x16.*--size 32 32"):
        UNet().generator(Spec((3, 32, 32)), Spec((3, 32, 16)))
    with pytest.raises(UserError, match=r"shape \(2,\)"):
        ResBlocks().generator(Spec((2,)), Spec((2,)))


@by_name
@pytest.mark.parametrize("area", [16 * 16, 24 * 24, 64 * 64, 96 * 96])
def test_they_take_every_size_that_images_are_sorted_into(name: str, area: int) -> None:
    first, *others = buckets.candidates(area)
    spec = Spec((3, *first), more_sizes=tuple(others))
    net = NETS[name]
    generator, critic = net.generator(spec, spec), net.critic(spec, spec)
    with torch.no_grad():
        for size in spec.sizes:
            made = generator(torch.rand(2, 3, *size))
            assert made.shape == (2, 3, *size)
            assert critic(torch.cat([made, made], 1)).dim() == 3


def test_one_of_several_sizes_that_does_not_fit_is_refused() -> None:
    spec = Spec((3, 64, 64), more_sizes=((56, 72), (16, 256)))
    for net in (UNet(depth=4), ResBlocks()):
        narrow = dataclasses.replace(spec, more_sizes=(*spec.more_sizes, (4, 1024)))
        with pytest.raises(UserError, match=r"--fit bucket: some images come to (56x72|4x1024), .* multiples of") as no:
            net.generator(narrow, narrow)
        assert not isinstance(no.value, SizeError), "the commonest size is not what is wrong"
    with pytest.raises(UserError, match=r"--fit bucket: some images come to 16 pixels .*patch.layers 2"):
        Patch(layers=3).critic(spec)


def test_small_images_get_fewer_layers_of_the_critic_or_a_refusal() -> None:
    def strided(patch: Patch, *size: int) -> int:
        critic = patch.critic(Spec((1, *size)))
        assert critic(torch.rand(2, 1, *size)).shape[0] == 2
        return sum(layer.stride == (2, 2) for layer in critic.layers if isinstance(layer, nn.Conv2d))

    assert [strided(SMALL, side, 64) for side in (64, 24, 23, 12, 11, 6)] == [3, 3, 2, 2, 1, 1]
    assert strided(Patch(width=2, layers=5), 96, 130) == 5
    with pytest.raises(SizeError, match=r"--size 20 64: 3 strided.*24 pixels.*--size 24 64.*patch.layers 2") as found:
        Patch(layers=3).critic(Spec((1, 20, 64)))
    assert found.value.nearest == (24, 64)
    with pytest.raises(SizeError, match=r"--size 5 5.*--size 6 6.*patch.layers 0"):
        SMALL.critic(Spec((1, 5, 5)))
    with pytest.raises(UserError, match="judges images"):
        SMALL.critic(Spec((2,)))


@pytest.mark.parametrize(("layers", "pixels"), [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_how_many_pixels_a_logit_sees(layers: int, pixels: int) -> None:
    """Isola et al. 2017, sec. 4.4: patches of 1, 16, 70 and 286. A pixel that far from another is not reached."""
    critic = Patch(width=1, layers=layers, norm="none").critic(Spec((1, 352, 96)))
    with torch.no_grad():
        for p in critic.parameters():
            p.uniform_(0.5, 1.0)  # all positive: nothing cancels
    x = torch.ones(1, 1, 352, 96, requires_grad=True)
    logits = critic(x)
    logits[0, logits.shape[1] // 2, logits.shape[2] // 2].backward()
    assert x.grad is not None
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == pixels == len(rows)


def reach(generator: nn.Module, x: Tensor) -> int:
    """How many rows of the image one pixel of the output depends on."""
    x = x.clone().requires_grad_()
    generator(x)[0, 0, x.shape[2] // 2, x.shape[3] // 2].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    return int(rows.max() - rows.min()) + 1


def test_every_level_of_a_unet_is_skipped_to() -> None:
    """Without what comes from inside, an output pixel depends on what skips bring: farther, the deeper they are."""
    torch.manual_seed(0)
    x = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    net = UNet(width=2, norm="none", dropout=0.0).generator(Spec((1, 64, 64)), Spec((1, 64, 64))).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.rand_like(p) + 0.1)
        for conv in (part.conv for part in [*net.encoder, *net.decoder]):
            conv.weight.div_(conv.weight[0].numel())  # tanh stays off its ends
    seen = []
    for level in net.decoder[1:]:  # from the inside out; each has the skip's features first, then those from inside
        cut = copy.deepcopy(net)
        features = level.conv.in_channels // 2
        number = list(net.decoder).index(level)
        with torch.no_grad():
            cut.decoder[number].conv.weight[features:] = 0
        seen.append(reach(cut, x))
        with torch.no_grad():
            cut.decoder[number].conv.weight[:features] = 0
        for outer in cut.decoder[number + 1 :]:
            with torch.no_grad():
                outer.conv.weight[: outer.conv.in_channels // 2] = 0
        x_ = x.clone().requires_grad_()
        cut(x_).sum().backward()
        assert x_.grad is not None
        assert not x_.grad.any(), "cut off on both sides, nothing is left"
    assert seen[-1] == 6, "the outermost skip alone: two of its pixels, each of 4x4 of the image"
    assert seen == sorted(seen, reverse=True)
    assert reach(net, x) == 64


@pytest.mark.parametrize("net", [UNet(width=4), ResBlocks(width=4, blocks=2, dropout=0.5)])
def test_dropout_only_in_training(net: UNet | ResBlocks) -> None:
    x, spec = torch.rand(2, 3, 64, 64), Spec((3, 64, 64))
    generator = net.generator(spec, spec)
    assert not torch.equal(generator(x), generator(x))
    generator.eval()
    assert torch.equal(generator(x), generator(x))
    without = dataclasses.replace(net, dropout=0.0).generator(spec, spec)
    assert torch.equal(without(x), without(x))


def test_a_unet_drops_in_the_three_innermost_levels() -> None:
    spec = Spec((3, 64, 64))
    for net, shares in ((UNet(width=1), [0.5] * 3 + [0] * 2), (UNet(width=1, depth=3), [0.5] * 2)):
        generator = net.generator(spec, spec)
        assert [part.dropout.p for part in generator.decoder[:-1]] == shares


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_features_are_the_forwards_own(norm: str) -> None:
    generator = ResBlocks(width=4, blocks=6, norm=norm).generator(Spec((3, 32, 32)), Spec((3, 32, 32)))  # type: ignore[arg-type]
    seen: list[Tensor] = []
    for part in generator.encoder:
        part.register_forward_hook(lambda _m, _x, y: seen.append(y.detach().clone()))
    x = torch.rand(2, 3, 32, 32)
    generator(x)
    forward, seen[:] = [x, *seen], []
    for layers in ((0, 2, 3, 4, 8), (3, 1), (0,), (9,)):
        found = generator.features(x, layers)
        assert len(found) == len(layers)
        assert all(torch.equal(f, forward[layer]) for f, layer in zip(found, layers, strict=True))
        assert len(seen) == max(layers), "nothing behind the last is computed"
        seen.clear()
    assert [tuple(f.shape[1:]) for f in generator.features(x, range(10))] == [
        (3, 32, 32), (4, 32, 32), (8, 16, 16), (16, 8, 8), *[(16, 8, 8)] * 6,
    ]  # fmt: skip
    for wrong in ((10,), (-1, 2), ()):
        with pytest.raises(UserError, match="layers 0"):
            generator.features(x, wrong)


@pytest.mark.parametrize(("layer", "pixels"), [(1, 7), (2, 9), (3, 13), (4, 29), (8, 93)])
def test_how_far_features_see(layer: int, pixels: int) -> None:
    """Each block adds 2 x 2 pixels of a quarter of the size: 16."""
    generator = ResBlocks(width=1, blocks=5, norm="none").generator(Spec((1, 128, 16)), Spec((1, 128, 16)))
    with torch.no_grad():
        for p in generator.parameters():
            p.uniform_(0.5, 1.0)
    x = torch.ones(1, 1, 128, 16, requires_grad=True)
    (features,) = generator.features(x, [layer])
    features[0, 0, features.shape[2] // 2, features.shape[3] // 2].backward()
    assert x.grad is not None
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == pixels


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_torchs(scaled: bool, n: int, memory_format: torch.memory_format) -> None:
    ours, theirs = InstanceNorm(5, scaled=scaled).double(), nn.InstanceNorm2d(5, affine=scaled).double()
    if scaled:
        with torch.no_grad():
            for p in theirs.parameters():
                p.normal_()
    ours.load_state_dict(theirs.state_dict())
    x = (3 + 2 * torch.randn(n, 5, 4, 6, dtype=torch.float64)).to(memory_format=memory_format).requires_grad_()
    y, expected = ours(x), theirs(x)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=memory_format)
    g = torch.randn_like(y)
    # torch's gradient is wrong for one image if g has its channels last (seen in 2.14), so g has them first here
    by_torch = torch.autograd.grad(expected, x, g.contiguous())
    torch.testing.assert_close(torch.autograd.grad(y, x, g), by_torch)
    assert torch.autograd.gradgradcheck(ours, (x,), fast_mode=True)
    assert not coupled(ours)
    assert not stateful(ours)


@by_name
def test_coupled_is_what_training_shows(name: str) -> None:
    batch = name in ("unet", "resblocks-batch"), name == "unet"
    for player, channels, expected in zip(pair(name), (3, 6), batch, strict=True):
        assert coupled(player) is expected
        for module in player.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        x = torch.rand(4, channels, 32, 32)
        together, apart = player(x), torch.cat([player(x[:2]), player(x[2:])])
        assert torch.allclose(together, apart, rtol=1e-4, atol=1e-5) is not expected


@by_name
def test_one_image_and_every_precision_and_format(name: str) -> None:
    """Batch norm too trains on one image: the one pixel in a U-Net's middle is not normalised."""
    for player, channels in zip(pair(name), (3, 6), strict=True):
        x = torch.rand(1, channels, 32, 32)
        assert torch.isfinite(player(x)).all()
        player.eval()
        with torch.no_grad():
            expected = player(x)
            last = copy.deepcopy(player).to(memory_format=torch.channels_last)
            torch.testing.assert_close(last(x), expected, rtol=1e-4, atol=1e-5)
            with torch.autocast("cpu", torch.bfloat16):
                for net in (player, last):
                    torch.testing.assert_close(net(x).float(), expected, rtol=0.1, atol=0.1 * float(expected.std()))
            exact = copy.deepcopy(player).double()(x.double())
            assert exact.dtype == torch.float64
            torch.testing.assert_close(exact.float(), expected, rtol=1e-4, atol=1e-5)


@by_name
def test_as_wide_as_published_they_train_in_bf16_with_channels_last(name: str) -> None:
    """Only wide layers take the quick forms of `strided.py`."""
    patch = dataclasses.replace(NETS[name].patch, width=64)  # type: ignore[attr-defined]
    net, spec = dataclasses.replace(NETS[name], width=64, patch=patch), Spec((3, 32, 32))  # type: ignore[type-var]
    for player, channels in ((net.generator(spec, spec), 3), (net.critic(spec, spec), 6)):
        player.to(memory_format=torch.channels_last)
        x = torch.rand(2, channels, 32, 32).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            y = player(x)
        y.float().square().sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in player.parameters())


@pytest.mark.parametrize("name", ["unet", "resblocks"])
def test_nothing_in_python_depends_on_the_data(name: str) -> None:
    """One graph each, for torch.export: ONNX goes through it."""
    for player, channels in zip(pair(name), (3, 6), strict=True):
        x = torch.rand(2, channels, 32, 32)
        player.eval()
        program = torch.export.export(player, (x,), strict=False)
        torch.testing.assert_close(program.module()(x), player(x))


@pytest.mark.parametrize(
    ("net", "side", "millions"),
    [
        (UNet(), 256, (54.41, 2.77)),
        (UNet(), 128, (41.83, 2.77)),
        (ResBlocks(bias=True), 256, (11.38, 2.77)),
        (ResBlocks(bias=True, blocks=6), 128, (7.84, 2.77)),
    ],
)
def test_default_sizes_are_the_papers(net: Translators, side: int, millions: tuple[float, float]) -> None:
    """Millions of parameters, as the published program prints them."""
    spec = Spec((3, side, side))
    with torch.device("meta"):
        generator, critic = net.generator(spec, spec), net.critic(spec, spec)
    assert (round(parameters(generator) / 1e6, 2), round(parameters(critic) / 1e6, 2)) == millions
    with torch.device("meta"):
        assert critic(torch.empty(1, 6, 256, 256)).shape == (1, 30, 30)


@by_name
def test_weights_start_at_two_hundredths(name: str) -> None:
    spec = Spec((3, 64, 64))
    net = dataclasses.replace(NETS[name], width=32)  # type: ignore[type-var]
    for layer in net.generator(spec, spec).modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 10_000:
            assert 0.019 < layer.weight.std() < 0.021
            assert layer.bias is None or not layer.bias.any()


def test_values_that_make_no_network_are_refused() -> None:
    for make, message in (
        (lambda: UNet(width=0), r"networks.width 0"),
        (lambda: UNet(depth=1), r"networks.depth 1: must be at least 2"),
        (lambda: UNet(dropout=1.0), r"networks.dropout 1: must be"),
        (lambda: ResBlocks(blocks=0), r"networks.blocks 0"),
        (lambda: ResBlocks(dropout=-0.5), r"networks.dropout -0.5"),
        (lambda: Patch(width=0), r"networks.patch.width 0"),
        (lambda: Patch(layers=-1), r"networks.patch.layers -1"),
    ):
        with pytest.raises(UserError, match=message):
            make()
    for net in itertools.chain(NETS.values(), [SMALL]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            net.width = 3  # type: ignore[union-attr,misc]


# ---- attention -----------------------------------------------------------------------------------------


def test_with_attention_an_untrained_generator_is_nearly_the_identity() -> None:
    generator, plain = pair("resblocks-attention")[0], pair("resblocks")[0]
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert 0 < float((generator(x) - x).abs().max()) < 0.4
        assert float((plain(x) - x).abs().max()) > 0.5


def test_attention_is_all_or_nothing_of_the_change() -> None:
    generator, _ = pair("resblocks-attention")
    last = generator.decoder[-1].conv
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        last.bias[-1] = 200.0
        change = torch.tanh(generator.decoder(generator.encoder(x))[:, :3])
        torch.testing.assert_close(generator(x), change, rtol=0, atol=1e-6)
        last.bias[-1] = -200.0
        torch.testing.assert_close(generator(x), x, rtol=0, atol=0)


def test_attention_is_off_where_the_channels_differ() -> None:
    generator, _ = pair("resblocks-attention", channels=(1, 3))
    assert generator.decoder[-1].conv.out_channels == 3
