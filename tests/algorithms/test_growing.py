"""Progressive GAN: when it grows, how a batch is shared out, and going on exactly in the middle of a fade."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from zerosum import checkpoint, pictures, session
from zerosum.algorithms.progressive import SETTINGS, ProgressiveGAN
from zerosum.errors import UserError
from zerosum.game import LATE
from zerosum.metrics import probe
from zerosum.networks import Growing, Progressive
from zerosum.recipes import growing
from zerosum.runlog import grids
from zerosum.schedule import Constant
from zerosum.trainer import Training
from zerosum.view import SilentView

NET = Progressive(latent=6, width=4, widest=8)
DATA = tiny.images((1, 16, 24))


def training(**changes: object) -> Training:
    algorithm = ProgressiveGAN(networks=NET, growth=(16, 48), parts=2, **changes)  # type: ignore[arg-type]
    return tiny.training(tiny.run("progressive", algorithm=algorithm), DATA)


def critic(t: Training) -> Growing:
    found = t.players.networks["D"]
    assert isinstance(found, Growing)
    return found


# ---- growth --------------------------------------------------------------------------------------------------------


def test_each_doubling_fades_over_half_of_the_way_to_the_next() -> None:
    grown = replace(SETTINGS.algorithm, growth=(100, 300, 700)).grown  # type: ignore[type-var]
    at = {0: 0, 99: 0, 100: 0, 150: 0.5, 200: 1, 299: 1, 350: 1.25, 400: 1.5, 500: 2, 699: 2, 800: 2.5, 900: 3, LATE: 3}
    assert {seen: grown(seen, 3) for seen in at} == at


def test_by_default_sizes_last_equally_long_and_the_first_half_of_that() -> None:
    grown = ProgressiveGAN(networks=NET, size_images=800).grown
    at = {399: 0, 400: 0, 600: 0.5, 800: 1, 1199: 1, 1400: 1.5, 1600: 2, 10_000: 2}
    assert {seen: grown(seen, 2) for seen in at} == at


def test_zeros_are_whole_from_the_start() -> None:
    assert ProgressiveGAN(growth=(0, 0)).grown(0, 2) == 2


def test_what_cannot_be_grown_is_refused() -> None:
    with pytest.raises(UserError, match=r"--algorithm\.growth 5 3: give images seen in rising order"):
        ProgressiveGAN(growth=(5, 3))
    with pytest.raises(UserError, match=r"--algorithm\.growth 5: names 1 doublings, and the networks have 2"):
        ProgressiveGAN(growth=(5,)).grown(0, 2)
    with pytest.raises(UserError, match=r"--algorithm\.parts 3: must be 1, 2, 4, 8"):
        ProgressiveGAN(parts=3)
    with pytest.raises(UserError, match=r"--algorithm\.size-images 0: must be 1 or more"):
        ProgressiveGAN(size_images=0)


@pytest.mark.parametrize(
    ("parts", "sizes"), [(4, {0.0: 1, 1.0: 2, 1.5: 4, 2.0: 4}), (1, {0.0: 1, 2.0: 1}), (16, {2.0: 4})]
)
def test_the_larger_the_images_the_more_turns(parts: int, sizes: dict[float, int]) -> None:
    algorithm = ProgressiveGAN(networks=NET, parts=parts)
    network = NET.critic(DATA.spec)
    assert isinstance(network, Growing)
    for grown, turns in sizes.items():
        network.grow(grown)
        assert algorithm._turns(network, 8) == turns  # 8 images: never fewer than two a turn
    assert algorithm._turns(None, 8) == min(parts, 4)
    assert algorithm._turns(None, 1) == 1


# ---- playing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["wasserstein", "logistic"])
def test_it_grows_as_it_plays(loss: str) -> None:
    t = training(loss=loss)
    sizes = []
    for _ in range(11):
        t.step()
        sizes.append(critic(t).size)
    assert sizes == [0, 0, 0, 0.5, 1, 1, 1, 1.5, 2, 2, 2]
    average = t.averaged["G"]
    assert isinstance(average, Growing)
    assert average.size == 2
    for network in t.players.networks.values():
        assert all(torch.isfinite(p).all() for p in network.parameters())


def test_a_newborn_begins_without_moments() -> None:
    t = training()
    for _ in range(3):
        t.step()
    known = t.optimisers["D"].state
    newborn = critic(t).blocks[0].parameters()
    assert all(p not in known for p in newborn)
    t.step()
    assert all(int(known[p]["step"]) == 1 for p in critic(t).newest())


@pytest.mark.parametrize("loss", ["wasserstein", "logistic"])
def test_going_on_in_the_middle_of_a_fade_is_exact(loss: str, tmp_path: Path) -> None:
    """All that a checkpoint holds: both networks, the average, Adam's moments, the scores of the game."""
    t = training(loss=loss)
    for _ in range(4):
        t.step()
    assert critic(t).fading
    tiny.keep(t, tmp_path)
    other = training(loss=loss)
    saved = checkpoint.newest(tmp_path, print)
    assert saved is not None
    other.restore(saved)
    assert critic(other).size == 0.5
    assert torch.equal(other.averaged["G"](torch.ones(2, 6)), t.averaged["G"](torch.ones(2, 6)))
    for _ in range(8):  # beyond the next doubling
        t.step()
        other.step()
    assert critic(other).size == 2
    assert tiny.equal(tiny.tensors(t), tiny.tensors(other))
    assert json.dumps(t.state()[1]) == json.dumps(other.state()[1])
    assert t.turns.read_scores() == other.turns.read_scores()


class Ear(SilentView):
    """Keeps what is said at the end."""

    def finish(self, lines: list[str]) -> None:
        self.lines = lines


@pytest.mark.parametrize(("images", "said"), [(64, ["grown      1.50 of 2 doublings"]), (88, [])])
def test_a_run_that_ends_before_it_is_whole_says_so(tmp_path: Path, images: int, said: list[str]) -> None:
    algorithm = ProgressiveGAN(networks=NET, growth=(16, 48), parts=2)
    ear = Ear()
    session.start(tiny.run("progressive", algorithm=algorithm, images=images), DATA, tmp_path / "a", view=ear)
    assert [line.partition(":")[0] for line in ear.lines if line.startswith("grown")] == said


def test_large_images_build_and_step() -> None:
    algorithm = ProgressiveGAN(networks=Progressive(latent=8, width=2, widest=4), growth=(0,) * 6)
    t = tiny.training(tiny.run("progressive", algorithm=algorithm, batch_size=4), tiny.images((3, 256, 256), 8))
    t.step()
    assert critic(t).born == 6
    assert t.averaged["G"](torch.randn(1, 8)).shape == (1, 3, 256, 256)


# ---- its pace ------------------------------------------------------------------------------------------------------


def test_shares_of_the_time() -> None:
    assert growing.shares(3) == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_doublings_come_where_each_size_has_had_its_share_of_the_time() -> None:
    run = tiny.run("progressive", algorithm=ProgressiveGAN(networks=NET))
    assert growing.doublings(run, DATA.spec) == 2
    rates = [700.0, 350.0, 175.0]  # 100 images a second each, all in all
    assert growing.average(rates) == pytest.approx(300)
    paced = growing.paced(run, rates, 3_000)  # ten seconds
    assert isinstance(paced.algorithm, ProgressiveGAN)
    assert paced.algorithm.growth == (1_000, 2_000)
    assert paced.algorithm.fades == (500, 500), "each half of its own time, the last one, too"
    assert paced.algorithm.grown(2_250, 2) == 1.5
    assert paced.algorithm.grown(2_500, 2) == 2
    assert paced.ema_half_life(10**6) == 1_000 / growing.AVERAGED, "of the last size, not of all before"
    assert growing.doublings(paced, DATA.spec) == 0, "settled"
    assert growing.doublings(tiny.run("r3gan"), DATA.spec) == 0


def test_a_single_zero_has_the_networks_whole() -> None:
    game = ProgressiveGAN(networks=NET, growth=(0,))
    assert [game.grown(seen, 3) for seen in (0, 7, 10**9)] == [3, 3, 3]


def test_sizes_that_were_asked_for_are_not_paced() -> None:
    run = tiny.run("progressive", algorithm=ProgressiveGAN(networks=NET, size_images=500))
    assert growing.doublings(run, DATA.spec) == 0


@pytest.mark.parametrize("fades", [(1,), (1, 2, 3), (1, -1)])
def test_fades_that_do_not_fit_are_refused(fades: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"--algorithm\.fades 1.*for each of the 2 doublings"):
        ProgressiveGAN(growth=(1, 2), fades=fades)


def test_rates_are_taken_at_each_size() -> None:
    run = tiny.run("progressive", algorithm=ProgressiveGAN(networks=NET))
    sizes = []

    def size_of(run: object) -> float:
        sizes.append(run.algorithm.grown(LATE // 2, 2))  # type: ignore[attr-defined]
        return 1.0

    growing.rates(run, 2, size_of)
    assert sizes == [0, 1, 2]


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match=r"--algorithm\.fades: nothing fades"):
        ProgressiveGAN(growth=(0,), fades=(0,))
    with pytest.raises(UserError, match=r"--algorithm\.fades 100 5 5: a doubling has to be whole before the next"):
        ProgressiveGAN(growth=(10, 20, 30), fades=(100, 5, 5))
    with pytest.raises(UserError, match=r"--algorithm\.drift -1: must be 0 or more"):
        ProgressiveGAN(drift=-1)


def test_a_reading_says_that_the_generator_grows_yet() -> None:
    t = training()
    t.step()
    assert t.probe(t.averaged).row()["growing"] is True  # type: ignore[arg-type,call-arg]
    for _ in range(10):
        t.step()
    assert "growing" not in t.probe(t.averaged).row()  # type: ignore[arg-type,call-arg]


# ---- what is drawn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("growth", "fades"), [((16, 48), (0, 0)), ((16, 48), (1, 1)), ((16, 16), ())])
def test_the_average_is_given_what_is_born_whole(growth: tuple[int, ...], fades: tuple[int, ...]) -> None:
    """A fade shorter than a step is over when the average moves: it must not keep what the newborn began as."""
    algorithm = ProgressiveGAN(networks=NET, growth=growth, fades=fades, parts=2)
    t = tiny.training(tiny.run("progressive", algorithm=algorithm, ema_half_life=Constant(1e9)), DATA)
    live, average = t.players.networks["G"], t.ema["G"].network
    assert isinstance(live, Growing)
    born = 0
    for _ in range(8):
        t.step()
        assert not live.fading
        newborn = tuple(name for n in range(born, live.born) for name in (f"blocks.{n}.", f"to_image.{n + 1}."))
        pairs = zip(live.named_parameters(), average.parameters(), strict=True)
        same = {name: torch.equal(mine, mean) for (name, mine), mean in pairs}
        assert all(same[name] for name in same if name.startswith(newborn))
        assert not any(same[name] for name in same if name.startswith("project.")), "which was there: averaged"
        born = live.born
    assert born == 2


def in_squares(samples: np.ndarray, side: int) -> np.ndarray:
    """Which of the samples (n, H, W) have one value in each square of `side` pixels a side: (n,) bool."""
    n, height, width = samples.shape
    squares = samples.reshape(n, height // side, side, width // side, side)
    return (squares.max((2, 4)) == squares.min((2, 4))).all((1, 2))


def test_the_film_shows_it_grow(tmp_path: Path) -> None:
    """Its first frame has the smallest size, 4x6 pixels doubled twice, and its last one the whole."""
    algorithm = ProgressiveGAN(networks=NET, growth=(16, 48), parts=2)
    session.start(tiny.run("progressive", algorithm=algorithm, images=88), DATA, tmp_path / "a")
    cells = pictures.grid(np.zeros((probe.GRID, 1, 16, 24), np.uint8), columns=8).info[pictures.CELLS]
    frames = []
    for path in grids(tmp_path / "a"):
        with Image.open(path) as image:
            assert image.size == cells.size
            samples = [np.asarray(image.crop(cells.box(i))) for i in range(cells.count)]
        frames.append(np.stack(samples)[:, :: cells.scale, :: cells.scale])
    assert len(np.unique(frames[0])) > 8
    assert in_squares(frames[0], 4).all()
    assert not in_squares(frames[-1], 2).any()
    assert (tmp_path / "a" / "film.mp4").is_file()
