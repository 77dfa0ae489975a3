"""The running check: what it measures, and that it changes nothing that trains."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import little_runs
import tiny
from zerosum import checkpoint
from zerosum.data.sides import Sides
from zerosum.data.spec import Data, Spec
from zerosum.metrics.features import weak
from zerosum.metrics.probe import REAL, SAMPLES
from zerosum.runlog import read_events

HELD = Data(source="tiny", held_out=12)


@pytest.mark.parametrize("name", ["dcgan", "sngan", "r3gan"])
def test_probing_changes_nothing_that_trains(name: str) -> None:
    run = tiny.run(name, conditional=True, data=HELD)
    alone, watched = (tiny.training(run, tiny.images()) for _ in range(2))
    watched.probe.draw({"G": watched.ema["G"].network})
    for _ in range(3):
        alone.step()
        watched.step()
        watched.probe({"G": watched.ema["G"].network}, watched.players.networks)
        watched.probe.draw({"G": watched.ema["G"].network})
    assert tiny.equal(tiny.tensors(alone), tiny.tensors(watched))
    assert all(m.training for m in watched.players.networks.values())


@pytest.mark.parametrize("name", ["dcgan", "r3gan", "wgan_gp"])
def test_a_run_is_the_same_with_probes_and_without(name: str, tmp_path: Path) -> None:
    """Weights, moments, averages and every logged number of the training: bit for bit."""
    often, never = (
        little_runs.recipe(name, data=HELD, probe_every=every, regret_every=every, checkpoint_every=10**6)
        for every in (8, 0)
    )
    for out, run in (("often", often), ("never", never)):
        little_runs.train(run, tmp_path / out)
    one, other = (checkpoint.numbers(tmp_path / out)[-1] for out in ("often", "never"))
    a, b = (checkpoint.load(checkpoint.path_of(tmp_path / out, one)) for out in ("often", "never"))
    assert one == other
    assert tiny.equal(a.tensors, b.tensors)
    kinds = [[e["event"] for e in read_events(tmp_path / out)].count("probe") for out in ("often", "never")]
    rehearsals = [[e["event"] for e in read_events(tmp_path / out)].count("regret") for out in ("often", "never")]
    assert rehearsals[0] >= 24
    assert rehearsals[1] == 0
    assert kinds[0] >= 24
    assert kinds[1] == 0
    logs = [[e for e in little_runs.events(tmp_path / out) if e["event"] == "progress"] for out in ("often", "never")]
    assert logs[0] == logs[1]
    assert len(logs[0]) >= 12


class Threshold(nn.Module):
    """A critic that knows some images by heart: 1 for those, 0 for others."""

    def __init__(self, known: torch.Tensor) -> None:
        super().__init__()
        self.known = known.flatten(1)

    def forward(self, x: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        return (
            torch.cdist(x.flatten(1), self.known, compute_mode="donot_use_mm_for_euclid_dist").min(1).values < 1e-4
        ).float()


def test_a_critic_that_knows_its_images_by_heart_is_seen() -> None:
    t = tiny.training(tiny.run("r3gan", data=HELD), tiny.images())
    by_heart = Threshold(t.loader.real("all", 0, 40))
    found = t.probe({"G": t.ema["G"].network}, {"D": by_heart})
    assert found.overfitting == 1.0
    assert t.probe({"G": t.ema["G"].network}).overfitting is None
    fair = t.probe({"G": t.ema["G"].network}, t.players.networks)
    assert fair.overfitting is not None
    assert fair.overfitting_error is not None
    assert abs(fair.overfitting) < 4 * fair.overfitting_error


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
    real = t.loader.real("other", 0, t.probe.samples)
    near, far = t.probe({"G": Replay(real).eval()}), t.probe({"G": Replay(real[:1].expand(real.shape)).eval()})
    assert abs(near.kernel_distance) < far.kernel_distance / 20
    assert near.distance < far.distance / 5
    assert near.distance_error < near.distance / 3
    assert near.diversity == pytest.approx(1, abs=0.15)
    assert far.diversity == 0


class OneOfEach(nn.Module):
    """A generator that has one image for each class."""

    def __init__(self, kept: dict[int, torch.Tensor]) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.kept[int(k)] for k in label])


def test_a_collapse_within_classes_is_seen() -> None:
    """All samples differ as the classes do, and those of a class not at all."""
    t = tiny.training(tiny.run("dcgan", conditional=True), tiny.images((1, 8, 8), 600))
    real, label = t.loader.real("other", 0, 600), t.loader.label("other", 0, 600)
    assert label is not None
    one = {int(k): real[label == k][0] for k in label.unique()}
    assert t.probe({"G": OneOfEach(one).eval()}).diversity == 0
    asked = t.loader.label("probe/real", 0, t.probe.samples)
    assert asked is not None
    same = torch.stack([real[label == k][i % int((label == k).sum())] for i, k in enumerate(asked)])
    assert t.probe({"G": Replay(same).eval()}).diversity == pytest.approx(1, abs=0.15)


def test_real_images_in_place_of_the_fakes_are_the_floor() -> None:
    """The same for all readings and whoever asks; and no reading changes what trains."""
    data, run = tiny.images((1, 8, 8), 1_800), tiny.run("r3gan", data=Data(source="tiny", held_out=100))
    alone, watched = (tiny.training(run, data) for _ in range(2))
    floors = []
    for _ in range(3):
        alone.step()
        watched.step()
        floors.append(watched.probe({"G": watched.ema["G"].network}, watched.players.networks).row()["floor"])
    assert tiny.equal(tiny.tensors(alone), tiny.tensors(watched))
    assert floors == [alone.probe.floor] * 3
    assert watched.probe({"G": Replay(torch.full((SAMPLES, 1, 8, 8), torch.nan)).eval()}).floor == floors[0]
    filled = watched.probe._filled  # the real side holds these itself
    real = watched.probe({"G": Replay(watched.loader.real("probe/statistics", filled, SAMPLES)).eval()})
    assert real.floor == pytest.approx(real.distance, abs=5 * real.distance_error)


def test_there_is_no_floor_of_training_images_against_themselves_or_of_repeated_ones() -> None:
    for held_out, count in ((0, REAL + SAMPLES - 1), (100, REAL + SAMPLES - 1), (REAL, REAL + SAMPLES - 1)):
        t = tiny.training(tiny.run("gan", data=Data(source="tiny", held_out=held_out)), tiny.images((1, 8, 8), count))
        assert t.probe.floor is None
        assert "floor" not in t.probe({"G": t.ema["G"].network}).row()


def test_the_real_side_is_held_out_images_and_training_images_where_those_are_few() -> None:
    sizes = []
    for held_out, count in ((0, 300), (40, 340), (1_200, 1_500)):
        t = tiny.training(tiny.run("gan", data=Data(source="tiny", held_out=held_out)), tiny.images((1, 8, 8), count))
        sizes.append((t.probe._held, t.probe._filled, t.probe.reference._real.n))
    assert sizes == [(0, 300, 300), (40, 300, 340), (REAL, 0, REAL)]


def test_readings_share_their_latents() -> None:
    """Two readings of one generator agree to the last bit, whatever was trained between them."""
    t = tiny.training(tiny.run("r3gan"), tiny.images())
    before = t.probe({"G": t.ema["G"].network})
    kept = copy.deepcopy(t.ema["G"].network)
    t.step()
    assert t.probe({"G": kept}) == before


def test_what_is_not_finite_is_the_worst() -> None:
    t = tiny.training(tiny.run("gan"), tiny.images())
    found = t.probe({"G": Replay(torch.full((SAMPLES, 1, 8, 8), torch.nan)).eval()})
    assert found.distance > 1e30
    assert found.kernel_distance > 1e30
    assert found.diversity == 0


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


def test_sides_of_unlike_number_are_drawn_in_the_rows_that_both_have() -> None:
    def height(others: int) -> int:
        sides = Sides(*(tiny.images((3, 8, 12), count, 0) for count in (20, others)), paired=False)
        t = tiny.training(tiny.run("cyclegan", data=Data(source="tiny", held_out=0)), sides)
        return t.probe.draw(t.averaged).height

    assert 0 < height(3) < height(20)


@pytest.mark.parametrize(
    ("classes", "shape", "columns"), [(2, (1, 8, 8), 8), (3, (1, 8, 8), 9), (10, (1, 8, 8), 10), (2, (1, 8, 128), 2)]
)
def test_a_grid_of_few_classes_is_nearly_square(classes: int, shape: tuple[int, ...], columns: int) -> None:
    """Two classes in two columns would be a ribbon of 32 rows."""
    t = tiny.training(
        tiny.run("cgan", algorithm=tiny.small_algorithm("cgan", toy=True)), tiny.images(shape, 40, classes)
    )
    z, label, found = t.probe.fixed
    assert found == columns
    assert label is not None
    assert len(z) == len(label) == columns * (64 // columns)
    rows = label.reshape(-1, columns)
    assert (rows == rows[0]).all(), "each column is of one class"
    assert sorted(set(rows[0].tolist())) == list(range(classes))
