"""Sizes, running state, and class-conditional layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zerosum.errors import SizeError, UserError
from zerosum.networks import coupled, stateful, track
from zerosum.networks.blocks import BatchNorm, Projection, base_size, one_hot, stages_for
from zerosum.networks.init import leaky_gain, scaled_

# ---- sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "stages", "base"),
    [
        ((4, 4), 1, (2, 2)),
        ((8, 8), 1, (4, 4)),
        ((28, 28), 2, (7, 7)),
        ((32, 32), 3, (4, 4)),
        ((64, 48), 3, (8, 6)),
        ((24, 40), 2, (6, 10)),
        ((128, 128), 5, (4, 4)),
        ((8, 1000), 1, (4, 500)),
    ],
)
def test_stages_halve_the_shorter_side_down_to_four(size: tuple[int, int], stages: int, base: tuple[int, int]) -> None:
    assert stages_for((3, *size)) == stages
    assert base_size((3, *size), stages) == base


def test_stages_can_be_given() -> None:
    assert stages_for((1, 32, 32), 1) == 1
    assert stages_for((1, 28, 28), 2) == 2
    assert stages_for((1, 8, 8), 3) == 3


def test_the_error_names_the_nearest_sizes_and_both_remedies() -> None:
    with pytest.raises(UserError) as caught:
        stages_for((3, 92, 112))
    assert str(caught.value) == (
        "--size 92 112: the network halves the image 4 times, so height and width must be "
        "multiples of 16; the nearest are 96x112 and 80x112; give --size 96 112 or --algorithm.networks.stages 2"
    )


@pytest.mark.parametrize("stages", [None, 1, 2, 3])
def test_every_size_is_taken_or_its_advice_is_good(stages: int | None) -> None:
    for height in range(4, 80, 3):
        for width in range(4, 80, 5):
            try:
                k = stages_for((1, height, width), stages)
            except SizeError as error:
                words = str(error).split("give --", 1)[1].split("--")
                _, *given = words[0].split()[:3]
                stages_for((1, *map(int, given)), stages)  # must not raise
                if len(words) > 1:
                    stages_for((1, height, width), int(words[1].split()[1]))
                stages_for((1, *error.nearest), stages)
                near = str(error).split("the nearest ")[1].split(";")[0].split()
                if near[0] == "are":
                    down_height, down_width = map(int, near[3].split("x"))
                    assert down_height <= height
                    assert down_width <= width
                    stages_for((1, down_height, down_width), stages)
            else:
                assert height % 2**k == 0
                assert width % 2**k == 0


def test_growing_to_the_nearest_size_can_add_a_stage() -> None:
    """62x100 is halved 3 times, but 64x104, its next multiples of 8, would be halved 4 times."""
    with pytest.raises(UserError, match="the nearest are 64x112 and 56x96"):
        stages_for((1, 62, 100))


@pytest.mark.parametrize(
    ("shape", "stages", "words"),
    [
        ((2,), None, "has shape"),
        ((1, 3, 9), None, "--size 3 9: the smallest image is 4x4; give --size 4 10, or --algorithm gan"),
        ((1, 8, 8), 0, "--algorithm.networks.stages 0"),
        ((1, 5, 7), None, "halves the image once.*the nearest are 6x8 and 4x6; give --size 6 8$"),
        ((1, 81, 64), None, "the nearest are 96x64 and 80x64; give --size 80 64$"),
        ((1, 28, 28), 5, "the nearest is 32x32; give --size 32 32 or --algorithm.networks.stages 2"),
    ],
)
def test_impossible_shapes(shape: tuple[int, ...], stages: int | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        stages_for(shape, stages)


# ---- running state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(3, momentum=None),
        nn.BatchNorm2d(3, affine=False),
        nn.InstanceNorm2d(3, track_running_stats=True),
    ],
)
def test_a_still_norm_computes_the_same_and_moves_nothing(norm: nn.Module) -> None:
    x = 3 + torch.randn(8, 3, 4, 4)
    still, moving = [{k: v.clone() for k, v in norm.state_dict().items()} for _ in range(2)]

    def unchanged() -> bool:
        return all(torch.equal(v, still[k]) for k, v in norm.state_dict().items())

    modules = stateful(norm)
    assert modules == [norm]
    for _ in range(2):  # back and forth
        track(modules, False)
        assert modules == stateful(norm), "collecting anew while still changes nothing"
        quiet = norm(x)
        assert unchanged()
        track(modules, True)
        torch.testing.assert_close(norm(x), quiet)
        assert not torch.equal(norm.running_mean, moving["running_mean"])
        still = {k: v.clone() for k, v in norm.state_dict().items()}

    norm.eval()  # evaluation uses the running statistics, still or not
    used = norm(x)
    track(modules, False)
    if isinstance(norm, nn.BatchNorm2d):
        assert torch.equal(norm(x), used)
    assert unchanged()


def test_an_instance_norm_with_statistics_evaluates_the_same_when_still() -> None:
    norm = nn.InstanceNorm2d(3, track_running_stats=True)
    x = 3 + torch.randn(8, 3, 4, 4)
    norm(x)
    norm.eval()
    expected = norm(x)
    track(stateful(norm), False)
    assert torch.equal(norm(x), expected)


def test_norms_without_running_state_are_left_alone() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.InstanceNorm2d(3),
        nn.GroupNorm(1, 3),
        nn.LayerNorm(3),
    )
    assert stateful(network) == []
    assert coupled(network)
    assert not coupled(network[1:])


# ---- class-conditional layers ----------------------------------------------------------------------------


def test_batch_norm_has_a_scale_and_shift_per_class() -> None:
    torch.manual_seed(0)
    norm = BatchNorm(2, classes=3)
    x, label = torch.randn(6, 2, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = nn.BatchNorm2d(2, affine=False)(x)
    torch.testing.assert_close(norm(x, label), plain)
    nn.init.normal_(norm.scale.weight)
    nn.init.normal_(norm.shift.weight)
    for i, k in enumerate(label):
        expected = plain[i] * norm.scale.weight[k][:, None, None] + norm.shift.weight[k][:, None, None]
        torch.testing.assert_close(norm(x, label)[i], expected)


@pytest.mark.parametrize("normalise", [False, True])
def test_projection_is_linear_plus_inner_product(normalise: bool) -> None:
    head = Projection(5, classes=3, normalise=normalise).eval()
    h, label = torch.randn(4, 5), torch.tensor([2, 0, 1, 1])
    expected = h @ head.linear.weight[0] + head.linear.bias + (h * head.embedding.weight[label]).sum(1)
    torch.testing.assert_close(head(h, label), expected)


def test_one_hot_follows_dtype_and_refuses_unknown_classes() -> None:
    rows = one_hot(torch.tensor([2, 0]), 3, torch.zeros(1, dtype=torch.float64))
    assert rows.dtype == torch.float64
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(IndexError):
        one_hot(torch.tensor([3]), 3, rows)


# ---- initialisation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_leaky_gain_keeps_the_second_moment(slope: float) -> None:
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    y = nn.functional.leaky_relu(leaky_gain(slope) * x, slope)
    assert float(y.square().mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("layer", [nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3, groups=4), nn.Linear(500, 64)])
def test_scaled_weights_give_the_variance_they_promise(layer: nn.Conv2d | nn.Linear) -> None:
    torch.manual_seed(0)
    scaled_(layer, 2.0)
    assert not layer.bias.any()
    x = torch.randn(16, 64, 9, 9) if isinstance(layer, nn.Conv2d) else torch.randn(512, 500)
    assert float(layer(x).detach().var()) == pytest.approx(4, rel=0.15)
    assert not scaled_(layer, 0.0).weight.any()
