"""Every pair of networks: shapes, independence of samples, double backward, copies, scale at the start."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks import DCGAN, MLP, R3, SNDCGAN, FastGAN, Networks, ResNet, Subpixel, coupled, stateful, track
from zerosum.networks.mlp import FixedLength

NETS: dict[str, Networks] = {
    "mlp": MLP(latent=8, width=16, depth=2),
    "mlp-maxout": MLP(latent=8, width=16, depth=2, generator_activation="tanh", critic_activation="maxout"),
    "mlp-spectral": MLP(latent=8, width=16, depth=2, spectral=True),
    "dcgan": DCGAN(latent=8, width=8),
    "dcgan-free": DCGAN(latent=8, width=8, norm_critic=False),
    "sndcgan": SNDCGAN(latent=8, width=8),
    "sndcgan-free": SNDCGAN(latent=8, width=8, spectral=False),
    "resnet": ResNet(latent=8, width=8, generator_width=8),
    "resnet-layer": ResNet(latent=8, width=8, generator_width=8, spectral=False, norm_critic="layer"),
    "r3": R3(latent=8, width=8, widest=16),
    "subpixel": Subpixel(latent=8, width=8, hidden=12, critic_hidden=6),
    "fastgan-plain": FastGAN(latent=8, width=8, decoder=0),
    "subpixel-bare": Subpixel(latent=8, width=8, depth=0, hidden=0, critic_hidden=0),
}
SHAPES = [(1, 4, 4), (1, 8, 8), (1, 28, 28), (3, 32, 32), (4, 64, 48), (3, 24, 40)]
by_name = pytest.mark.parametrize("name", NETS)


def build(name: str, shape: tuple[int, ...], classes: int = 0) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(1)
    spec = Spec(shape, classes)
    return NETS[name].generator(spec), NETS[name].critic(spec)


def labels(n: int, classes: int) -> torch.Tensor | None:
    return torch.arange(n) % classes if classes else None


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@by_name
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("classes", [0, 5])
def test_shapes_and_gradients_of_every_parameter(name: str, shape: tuple[int, ...], classes: int) -> None:
    generator, critic = build(name, shape, classes)
    label = labels(3, classes)
    fake = generator(torch.randn(3, 8), label)
    assert fake.shape == (3, *shape)
    if not name.startswith("r3"):
        assert fake.abs().max() <= 1
    logit = critic(fake, label)
    assert logit.shape == (3,)
    assert torch.isfinite(logit).all()
    logit.square().sum().backward()
    assert all(p.grad is not None for net in (generator, critic) for p in net.parameters())


@pytest.mark.parametrize("classes", [0, 3])
def test_points(classes: int) -> None:
    generator, critic = build("mlp", (2,), classes)
    z = 100 * torch.randn(50, 8)
    points = generator(z, labels(50, classes))
    assert points.shape == (50, 2)
    assert points.abs().max() > 1, "points are not squeezed through tanh"
    assert critic(points, labels(50, classes)).shape == (50,)


@by_name
def test_the_class_counts_if_there_are_classes_and_is_ignored_if_not(name: str) -> None:
    x, z = torch.rand(4, 1, 8, 8), torch.randn(4, 8)
    one, two = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    for player, value in zip(build(name, (1, 8, 8), 3), (z, x), strict=True):
        for n, p in player.named_parameters():
            if n.endswith(("scale.weight", "shift.weight")):
                nn.init.normal_(p)  # they start equal for all classes
        player.eval()
        assert not torch.allclose(player(value, one), player(value, two))
        with pytest.raises(UserError, match="label"):
            player(value)
    for player, value in zip(build(name, (1, 8, 8)), (z, x), strict=True):
        player.eval()
        torch.testing.assert_close(player(value, one), player(value))


@by_name
def test_a_class_begins_as_every_other_and_as_without_classes(name: str) -> None:
    """Scales by class begin around 1: around 0 the class would be all of the image, and z next to nothing."""
    z = torch.randn(64, 8)
    with torch.no_grad():
        conditional = build(name, (1, 32, 32), 3)[0]
        found, plain = conditional(z, torch.zeros(64, dtype=torch.int64)), build(name, (1, 32, 32))[0](z)
    for n, p in conditional.named_parameters():
        if n.endswith("scale.weight"):
            assert abs(float(p.mean()) - 1) < 0.05, n
        elif n.endswith("shift.weight"):
            assert abs(float(p.mean())) < 0.05, n
    assert float(found.std(0).mean()) > 0.3 * float(plain.std(0).mean()), "what z does"


@by_name
@pytest.mark.parametrize("classes", [0, 3])
def test_in_evaluation_one_sample_alone_equals_the_same_in_a_batch(name: str, classes: int) -> None:
    generator, critic = build(name, (1, 12, 8), classes)
    z, label = torch.randn(64, 8), labels(64, classes)
    fake = generator(z, label)  # moves running statistics off their start
    critic(fake, label)
    generator.eval()
    critic.eval()
    one = label[5:6] if label is not None else None
    torch.testing.assert_close(generator(z[5:6], one)[0], generator(z, label)[5], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(critic(fake[5:6], one)[0], critic(fake, label)[5], rtol=1e-4, atol=1e-5)


COUPLED = {  # generator, critic
    "mlp": (False, False),
    "mlp-maxout": (False, False),
    "mlp-spectral": (False, False),
    "dcgan": (True, True),
    "dcgan-free": (True, False),
    "sndcgan": (True, False),
    "sndcgan-free": (True, False),
    "resnet": (True, False),
    "resnet-layer": (True, False),
    "r3": (False, False),
    "subpixel": (True, False),
    "fastgan-plain": (True, True),
    "subpixel-bare": (True, False),
}


@by_name
def test_coupled_is_what_training_shows(name: str) -> None:
    x, z = torch.rand(6, 1, 16, 16), torch.randn(6, 8)  # at 8x8, DCGAN's critic is its norm-free first layer
    for player, value, expected in zip(build(name, (1, 16, 16)), (z, x), COUPLED[name], strict=True):
        assert coupled(player) is expected
        track(stateful(player), False)
        together, apart = player(value), torch.cat([player(value[:3]), player(value[3:])])
        assert torch.allclose(together, apart, rtol=1e-4, atol=1e-5) is not expected


@by_name
@pytest.mark.parametrize("classes", [0, 2])
def test_a_penalty_on_the_input_gradient_reaches_the_critic(name: str, classes: int) -> None:
    _, critic = build(name, (1, 8, 8), classes)
    critic = critic.double()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(critic(x, labels(2, classes)).sum(), x, create_graph=True)
    slope.square().sum().backward()
    grads = [p.grad for p in critic.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(g).all() for g in grads)
    assert sum(float(g.abs().sum()) for g in grads) > 0


TINY = {
    "mlp": MLP(latent=2, width=4, depth=2, critic_activation="tanh"),
    "dcgan": DCGAN(latent=2, width=2),
    "sndcgan": SNDCGAN(latent=2, width=2),
    "resnet": ResNet(latent=2, width=2, spectral=True),
    "resnet-layer": ResNet(latent=2, width=2, spectral=False, norm_critic="layer"),
    "r3": R3(latent=2, width=4, widest=4, expansion=1, group_width=2),
    "subpixel": Subpixel(latent=2, width=2, critic_hidden=3),
}


@pytest.mark.parametrize("name", TINY)
def test_second_derivatives_are_right(name: str) -> None:
    torch.manual_seed(3)
    critic = TINY[name].critic(Spec((1, 4, 4))).double()
    for p in critic.parameters():
        p.data.add_(0.1 * torch.randn_like(p))  # no layer at zero, no activation on its kink
    track(stateful(critic), False)
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    # by the weights of one layer in the middle as well as by the input: what the gradient of a penalty needs
    names = [n for n, p in critic.named_parameters() if p.dim() > 1]
    middle = names[len(names) // 2]
    weight = critic.get_parameter(middle)

    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(critic, {middle: w}, (x,))

    assert torch.autograd.gradcheck(function, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, weight), fast_mode=True)


@by_name
def test_copies_and_saved_states_compute_the_same(name: str) -> None:
    for player, fresh, value in zip(
        build(name, (3, 8, 8), 3),
        others(name, (3, 8, 8), 3),
        (torch.randn(5, 8), torch.rand(5, 3, 8, 8)),
        strict=True,
    ):
        label = labels(5, 3)
        player(value, label)
        player.eval()
        fresh.eval()
        expected = player(value, label)
        assert not torch.equal(fresh(value, label), expected)
        fresh.load_state_dict(player.state_dict())
        assert torch.equal(fresh(value, label), expected)

        twin = copy.deepcopy(player)
        assert torch.equal(twin(value, label), expected)
        with torch.no_grad():
            for p in twin.parameters():
                p.add_(1)
        twin.train()(value, label)
        assert torch.equal(player(value, label), expected), "a copy shares nothing with its original"


def others(name: str, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(2)
    return NETS[name].generator(Spec(shape, classes)), NETS[name].critic(Spec(shape, classes))


@by_name
def test_the_same_seed_builds_the_same_networks(name: str) -> None:
    for one, two in zip(build(name, (1, 8, 8), 2), build(name, (1, 8, 8), 2), strict=True):
        a, b = one.state_dict(), two.state_dict()
        assert list(a) == list(b)
        assert all(torch.equal(a[k], b[k]) for k in a)


@by_name
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(name: str, dtype: torch.dtype) -> None:
    """float64 by conversion, bf16 under autocast: near float32."""
    for player, value in zip(build(name, (1, 8, 8)), (torch.randn(4, 8), torch.rand(4, 1, 8, 8)), strict=True):
        track(stateful(player), False)
        expected = player(value)
        if dtype == torch.float64:
            other = player.double()(value.double())
            assert other.dtype == dtype
            torch.testing.assert_close(other.float(), expected, rtol=1e-4, atol=1e-5)
        else:
            with torch.autocast("cpu", dtype):
                other = player(value)
            other.float().sum().backward()
            torch.testing.assert_close(other.float(), expected, rtol=0.1, atol=0.1 * float(expected.detach().std()))


@pytest.mark.parametrize("name", ["mlp", "dcgan", "sndcgan", "resnet", "r3"])
def test_nothing_in_python_depends_on_the_data(name: str) -> None:
    """One graph each, for torch.export (ONNX goes through it) and without breaks for torch.compile."""
    generator, critic = build(name, (1, 8, 8), 2)
    for player, value in ((generator, torch.randn(3, 8)), (critic, torch.rand(3, 1, 8, 8))):
        label = labels(3, 2)
        player.eval()
        program = torch.export.export(player, (value, label), strict=False)
        torch.testing.assert_close(program.module()(value, label), player(value, label))
    critic.train()
    track(stateful(critic), True)
    compiled = torch.compile(critic, backend="eager", fullgraph=True)
    track(stateful(critic), True)
    again = copy.deepcopy(critic)
    torch.testing.assert_close(compiled(value, label), again(value, label))
    torch.testing.assert_close(compiled(value, label), again(value, label))
    torch._dynamo.reset()


DEFAULTS: list[tuple[Networks, tuple[float, float]]] = [  # millions of parameters of G and D on 28x28
    (MLP(), (0.359, 0.333)),
    (DCGAN(), (0.760, 0.139)),
    (SNDCGAN(), (2.262, 0.710)),
    (ResNet(), (0.562, 0.263)),
    (R3(), (0.176, 0.168)),
]


@pytest.mark.parametrize(("net", "millions"), DEFAULTS, ids=lambda value: type(value).__name__)
def test_default_sizes_and_scales(net: Networks, millions: tuple[float, float]) -> None:
    torch.manual_seed(0)
    spec = Spec((1, 28, 28))
    generator, critic = net.generator(spec), net.critic(spec)
    assert (round(parameters(generator) / 1e6, 3), round(parameters(critic) / 1e6, 3)) == millions
    with torch.no_grad():
        fake = generator(torch.randn(8, net.latent))
        assert 0.05 < fake.std() < 1.5
        assert (fake.abs() > 0.99).float().mean() < 0.3, "hardly any pixel starts saturated"
        assert critic(fake).abs().max() < 5


@pytest.mark.parametrize("net", [SNDCGAN(width=4), ResNet(width=4), R3(width=8), DCGAN(width=4)])
def test_sizes_that_do_not_fit_are_refused_by_both_players(net: Networks) -> None:
    for build_player in (net.generator, net.critic):
        with pytest.raises(UserError, match=r"--size 92 112"):
            build_player(Spec((3, 92, 112)))
        with pytest.raises(UserError, match="MLP"):
            build_player(Spec((2,)))


def test_values_that_make_no_network_are_refused() -> None:
    with pytest.raises(UserError, match=r"--algorithm.networks.width 0"):
        MLP(width=0)
    with pytest.raises(UserError, match=r"--algorithm.networks.latent -1"):
        DCGAN(latent=-1)
    with pytest.raises(UserError, match=r"networks.group-width 16: must divide width x"):
        R3(width=12)
    with pytest.raises(UserError, match=r"networks.widest 16: must be at least --algorithm.networks.width 32"):
        R3(widest=16)


@by_name
def test_descriptions_are_frozen(name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NETS[name].latent = 3  # type: ignore[misc]


# ---- the papers' architectures ---------------------------------------------------------------------------


def features(player: nn.Module, value: torch.Tensor, kind: type[nn.Module]) -> list[tuple[int, ...]]:
    """Output shapes (without n) of the layers of one kind, in the order in which they run."""
    seen: list[tuple[int, ...]] = []
    hooks = [
        m.register_forward_hook(lambda _m, _x, y: seen.append(tuple(y.shape[1:])))
        for m in player.modules()
        if isinstance(m, kind)
    ]
    with torch.no_grad():
        player(value)
    for hook in hooks:
        hook.remove()
    return seen


def test_dcgan_has_the_papers_layers_at_64() -> None:
    """Radford et al. 2015, figure 1: 1024 features at 4x4, 512 at 8x8, 256 at 16x16, 128 at 32x32."""
    net, spec = DCGAN(width=128), Spec((3, 64, 64))
    ups = features(net.generator(spec), torch.randn(2, 100), nn.ConvTranspose2d)
    assert ups == [(512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]
    assert net.generator(spec).base == (1024, 4, 4)


def test_sndcgan_has_the_papers_layers_at_32() -> None:
    """Miyato et al. 2018, Table 3."""
    net, spec = SNDCGAN(), Spec((3, 32, 32))
    assert features(net.critic(spec), torch.rand(1, 3, 32, 32), nn.Conv2d) == [
        (64, 32, 32),
        (64, 16, 16),
        (128, 16, 16),
        (128, 8, 8),
        (256, 8, 8),
        (256, 4, 4),
        (512, 4, 4),
    ]
    ups = features(net.generator(spec), torch.randn(2, 128), nn.ConvTranspose2d)
    assert ups == [(256, 8, 8), (128, 16, 16), (64, 32, 32)]


@pytest.mark.parametrize(("shape", "last"), [((3, 32, 32), 8), ((1, 28, 28), 7), ((3, 64, 64), 8), ((1, 8, 8), 4)])
def test_resnet_critic_stops_at_eight_pixels(shape: tuple[int, int, int], last: int) -> None:
    """Miyato et al. 2018, Table 4: two halvings of 32x32, then two blocks at 8x8."""
    critic = ResNet(width=4).critic(Spec(shape))
    assert features(critic, torch.rand(1, *shape), nn.Conv2d)[-1] == (4, last, last)
    assert [block.halve for block in critic.blocks[-2:]] == [False, False]


def test_r3_grows_from_the_papers_settings() -> None:
    """Channel counts of the paper: 768 everywhere for CIFAR-10; 96 groups of 16 in an expansion by 2."""
    with torch.device("meta"):
        critic = R3(width=768, widest=768, blocks=2).critic(Spec((3, 32, 32)))
    grouped = [m for m in critic.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(grouped) == 8
    assert {(m.in_channels, m.groups) for m in grouped} == {(1536, 96)}


def test_r3_keeps_variance_through_depth() -> None:
    """Blocks start as the identity; with their last layer woken at the scale of the others, 40 of them still
    leave the signal's variance where it was, within a factor of e."""
    torch.manual_seed(0)
    spec = Spec((8, 8, 8))
    net = R3(width=32, blocks=20)
    trunk = net.critic(spec).layers[:20]
    x = torch.randn(16, 32, 8, 8)
    with torch.no_grad():
        assert torch.equal(trunk(x), x)
        for block in trunk:
            nn.init.normal_(block.narrow.weight, 0.0, block.narrow.in_channels**-0.5)
        assert 1 < trunk(x).var() < math.e
        block = trunk[0]
        gain = (20 * 2) ** -0.25
        inner = block.widen(x)  # the variance after a layer, and after the activation that its gain is made for
        torch.testing.assert_close(
            float(nn.functional.leaky_relu(inner, 0.2).square().mean()), gain**2, rtol=0.1, atol=0.0
        )


def test_r3_normalises_nowhere_and_projects_the_class() -> None:
    spec = Spec((1, 8, 8), 3)
    generator, critic = R3().generator(spec), R3().critic(spec)
    for player in (generator, critic):
        assert not stateful(player)
        assert not any("Norm" in type(m).__name__ for m in player.modules())
    x = torch.rand(2, 1, 8, 8)
    by_class = torch.stack([critic(x, torch.full((2,), k)) for k in range(3)])
    features = critic.head.linear((critic.layers(critic.from_image(x)) * critic.basis).sum((2, 3)))
    torch.testing.assert_close(by_class, critic.head.embedding.weight @ features.T)


def test_maxout_is_the_largest_of_its_pieces() -> None:
    """Goodfellow et al. 2013: max over k of W_k x + b_k."""
    critic = MLP(width=3, depth=1, critic_activation="maxout").critic(Spec((2,)))
    x = torch.randn(7, 2)
    pieces = critic.layers.hidden[0](x).reshape(7, 3, 5)
    expected = critic.head.linear(pieces.max(2).values)[:, 0]
    torch.testing.assert_close(critic(x), expected)


def test_noise_of_a_critic_is_there_while_it_trains_and_only_then() -> None:
    """Of a critic of all ones it shows as it is: on the input 0.3, and as much again from what the hidden layer has."""
    spec = Spec((1, 8, 8))
    networks = MLP(width=1, depth=1, critic_activation="relu", noise_input=0.3, noise_hidden=2.4)
    critic = networks.critic(spec)
    with torch.no_grad():
        for weight in critic.parameters():
            weight.fill_(1.0 if weight.dim() > 1 else 0.0)
    x = torch.ones(20_000, 1, 8, 8)  # the sum of 64 pixels, each with noise of 0.3; then 2.4 on that sum
    torch.manual_seed(0)
    drawn = critic.train()(x).detach()
    assert float(drawn.mean()) == pytest.approx(64, abs=0.1)
    assert float(drawn.std()) == pytest.approx((64 * 0.3**2 + 2.4**2) ** 0.5, rel=0.02)
    assert critic.eval()(x).unique().tolist() == [64.0]


def test_lengths_that_are_fixed_stay_whatever_training_does() -> None:
    """Noisy, even inputs give what varies by about 1, and still do when all weights are ten times as large."""
    networks = MLP(width=64, depth=2, critic_activation="relu", noise_input=0.6, noise_hidden=0.5, fixed_lengths=True)
    critic = networks.critic(Spec((1, 16, 16))).train()
    first, second = critic.layers.hidden  # type: ignore[union-attr]
    for layer, noise in ((first, 0.6), (second, 0.5)):
        lengths = layer.weight.norm(dim=1)
        assert torch.allclose(lengths, torch.full_like(lengths, (1 / 3 + noise**2) ** -0.5))
    x = torch.rand(4000, 256) * 2 - 1
    assert float(first(x + 0.6 * torch.randn_like(x)).var(0).mean()) == pytest.approx(1, rel=0.05)
    before = critic.eval()(x)
    with torch.no_grad():
        for layer in (first, second):
            layer.parametrizations.weight.original.mul_(10)
    torch.testing.assert_close(critic(x), before)
    assert sum(isinstance(m, FixedLength) for m in networks.generator(Spec((1, 16, 16))).modules()) == 0


def test_batch_norm_is_in_the_generator_alone() -> None:
    networks = MLP(width=8, depth=2, batch_norm=True)
    spec = Spec((1, 4, 4))
    kinds = [[type(m).__name__ for m in net.modules()].count("BatchNorm1d") for net in
             (networks.generator(spec), networks.critic(spec))]  # fmt: skip
    assert kinds == [2, 0]
    layers = networks.generator(spec).train().layers
    seen: list[Tensor] = []
    layers.norms[1].register_forward_hook(lambda module, given, out: seen.append(out))  # type: ignore[union-attr, index]
    layers(torch.randn(256, 100) * 3 + 5)  # type: ignore[operator]
    assert float(seen[0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen[0].std()) == pytest.approx(1, rel=0.02)


def test_two_bounds_on_the_same_weights_are_refused() -> None:
    with pytest.raises(UserError, match=r"--algorithm.networks.fixed-lengths True: spectral"):
        MLP(spectral=True, fixed_lengths=True)


def test_noise_below_nothing_is_refused() -> None:
    for noise in (-0.5, math.inf, math.nan):
        with pytest.raises(
            UserError, match=rf"--algorithm.networks.noise-hidden {noise}: must be 0 or more and finite"
        ):
            MLP(noise_hidden=noise)


def test_noise_of_the_input_leaves_the_class_alone() -> None:
    critic = MLP(width=1, depth=1, critic_activation="relu", noise_input=0.3).critic(Spec((2,), classes=2)).train()
    seen: list[Tensor] = []
    critic.layers.register_forward_hook(lambda module, given, out: seen.append(given[0]))  # type: ignore[union-attr]
    critic(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
    assert (seen[0][:, :2] != 0).all()
    assert torch.equal(seen[0][:, 2:], torch.eye(2)[[0, 1, 0, 1]])
