"""The running check: what it measures, and that it changes nothing that trains."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tiny
from zerosum.data.spec import Spec
from zerosum.metrics.features import weak
from zerosum.metrics.probe import SAMPLES


@pytest.mark.parametrize("name", ["dcgan", "sngan", "r3gan"])
def test_probing_changes_nothing_that_trains(name: str) -> None:
    run = tiny.run(name, conditional=True)
    alone, watched = (tiny.training(run, tiny.images()) for _ in range(2))
    watched.draw()
    for _ in range(3):
        alone.step()
        watched.step()
        watched.probe(watched.ema["G"].network)
        watched.draw()
    assert tiny.equal(tiny.tensors(alone), tiny.tensors(watched))
    assert all(m.training for m in watched.players.networks.values())


class Replay(nn.Module):
    """A generator that answers with fixed samples, one latent after the other."""

    def __init__(self, samples: torch.Tensor) -> None:
        super().__init__()
        self.samples, self.at = samples, 0

    def forward(self, z: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        out = self.samples[self.at : self.at + len(z)]
        self.at += len(z)
        return out


@pytest.mark.parametrize("data", [tiny.images((3, 8, 12), 2_000), tiny.points(2_000)], ids=["images", "points"])
def test_real_data_is_near_and_varied_and_one_image_is_neither(data: tiny.ArrayDataset) -> None:
    t = tiny.training(tiny.run("gan", toy=not data.spec.is_image), data)
    real = t.loader.real("other", 0, SAMPLES)
    near, varied = t.probe(Replay(real).eval())
    far, flat = t.probe(Replay(real[:1].expand(real.shape)).eval())
    assert abs(near) < far / 20
    assert varied == pytest.approx(1, abs=0.15)
    assert flat == 0


def test_what_is_not_finite_is_the_worst() -> None:
    t = tiny.training(tiny.run("gan"), tiny.images())
    distance, diversity = t.probe(Replay(torch.full((SAMPLES, 1, 8, 8), torch.nan)).eval())
    assert distance > 1e30
    assert diversity == 0


def test_features_depend_on_nothing_but_the_image() -> None:
    net = weak.RandomConvolutionNetwork(3)
    x = torch.rand(9, 3, 10, 14)
    whole = net(x)
    for i in range(9):
        torch.testing.assert_close(net(x[i : i + 1])[0], whole[i], rtol=1e-5, atol=1e-6)
    assert not any(m.training for m in net.modules())
    torch.manual_seed(99)
    assert tiny.equal(tiny.weights(net), tiny.weights(weak.RandomConvolutionNetwork(3))), "keyed weights"
    again = copy.deepcopy(net)
    assert torch.equal(again(x), whole)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((1, 8, 8), "RandomConvolutionNetwork"), ((4, 5, 7), "RandomConvolutionNetwork"), ((2,), "PointNetwork")],
)
def test_features_for_any_data(shape: tuple[int, ...], kind: str) -> None:
    net = weak.cheap(Spec(shape))
    assert type(net).__name__ == kind
    assert net(torch.rand(6, *shape)).shape[0] == 6
    assert net(torch.rand(6, *shape)).dim() == 2
