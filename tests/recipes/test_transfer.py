"""`--from`: whose game, rates and average a run has that begins with the weights of another."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

import tiny
import zerosum
from zerosum import recipes
from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.algorithms.r3gan import R3GAN
from zerosum.checkpoint import Checkpoint
from zerosum.data.depth import Depth
from zerosum.data.spec import Data
from zerosum.errors import UserError
from zerosum.game import Adam
from zerosum.networks import Progressive
from zerosum.recipes.transfer import Origin
from zerosum.run import Run
from zerosum.schedule import Constant, Cosine, Linear
from zerosum.view import SilentView

NET = Progressive(latent=6, width=4, widest=8)
DATA = tiny.images((1, 16, 24))


def origin(seen: int = 500, **changes: object) -> Origin:
    adam = Adam(lr=Cosine(3e-3, 3e-4, 700))
    game = ProgressiveGAN(networks=NET, growth=(100, 300), fades=(50, 50))
    usual: dict[str, object] = {"algorithm": game, "adam_g": adam, "adam_d": adam, "ema_half_life": Linear(0, 40, 400)}
    return Origin(
        Path("other"),
        tiny.run("progressive", **{**usual, **changes}),
        DATA.spec,
        Checkpoint(Path("other"), seen, {}, {}),
    )


def mine() -> Run:
    return tiny.run("progressive", adam_g=Adam(lr=Constant(1e-3)), adam_d=Adam(lr=Linear(1e-3, 0, 9)), batch_size=64)


def test_its_game_is_whole_and_falls_over_the_new_length() -> None:
    run = origin().lend(mine())
    assert isinstance(run.algorithm, ProgressiveGAN)
    assert run.algorithm.grown(0, 2) == 2
    assert run.adam_g.lr == Constant(3e-3)
    assert run.adam_d.lr == Linear(3e-3, 0, 9)
    assert run.batch_size == 8, "the rates are of its batches"
    assert origin().lend(run) == run


def test_rates_that_began_at_nothing_do_not_stay_there() -> None:
    warm = Adam(lr=Linear(0, 2e-3, 100))
    assert origin(adam_g=warm).lend(mine()).adam_g.lr == Constant(2e-3)


def test_the_average_goes_on_from_where_it_was() -> None:
    longest = origin(seen=500).lend(mine()).ema_half_life
    assert longest == Constant(40), "or what was taken over would be gone after a step"
    game = tiny.small_algorithm("r3gan")
    short = replace(origin(seen=100), run=replace(origin().run, algorithm=game)).lend(mine()).ema_half_life
    assert [short(n) for n in (0, 150, 300)] == [10, 25, 40], "or the average of a short run would never be left"


@pytest.mark.parametrize(("seen", "grown"), [(0, "0"), (125, "0.5"), (300, "1"), (349, "1.98")])
def test_what_never_learned_is_not_taken_over(seen: int, grown: str) -> None:
    with pytest.raises(UserError, match=rf"--from other: its networks have doubled {grown} times of 2.*--resume other"):
        origin(seen).lend(mine())
    assert origin(350).lend(mine())


def test_growth_that_names_no_images_is_looked_at_too() -> None:
    with pytest.raises(UserError, match="doubled 0 times of 2"):
        origin(16, algorithm=ProgressiveGAN(networks=NET)).lend(mine())


def kept(out: Path, run: Run) -> Path:
    t = tiny.training(run, DATA)
    t.step()
    return tiny.keep(t, out)


@pytest.mark.parametrize("conditional", [True, False])
def test_from_python_as_from_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conditional: bool) -> None:
    """The game, its size and classes are those of the other run, and the weights go in."""
    monkeypatch.setattr(importlib.import_module("zerosum.recipes.pick"), "estimate", lambda *_: 1000.0)
    other = kept(tmp_path / "other", replace(tiny.run("r1gan"), conditional=conditional))
    choice = recipes.pick(Data(source="photos"), images=16, device="cpu", dataset=DATA, weights_of=other)
    assert choice.run.algorithm == tiny.small_algorithm("r1gan")
    assert choice.run.conditional == conditional
    (said,) = (reason for reason in choice.reasons if "weights" in reason)
    assert str(other) in said
    assert "after 8 images" in said
    assert not [reason for reason in choice.reasons if "best found" in reason], "of networks that are not used"
    zerosum.train(
        "photos", data=DATA, images=16, device="cpu", out=tmp_path / "mine", weights_of=other, view=SilentView()
    )
    begun = json.loads((tmp_path / "mine" / "recipe.json").read_text())
    assert begun["from"] == {"run": "other", "images_seen": 8}


def test_a_game_that_was_named_is_as_long_as_what_is_picked_for_the_new_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not 600,000 images at a rate that stays: its settings are of another beginning."""
    monkeypatch.setattr(importlib.import_module("zerosum.recipes.pick"), "estimate", lambda *_: 1000.0)
    other = kept(tmp_path / "other", tiny.run("sngan"))
    run = recipes.pick(Data(source="photos"), device="cpu", dataset=DATA, weights_of=other).run
    assert type(run.algorithm).__name__ == "SNGAN"
    assert (run.images, run.minutes) == (None, 10.0)
    assert run.adam_g.lr(0) == pytest.approx(10 * run.adam_g.lr(600_000))
    named = recipes.pick(
        Data(source="photos"), images=16, device="cpu", dataset=DATA, weights_of=other, algorithm="sngan",
        adjust=lambda run: replace(run, algorithm=tiny.small_algorithm("sngan")),
    )  # fmt: skip
    assert type(named.run.algorithm).__name__ == "SNGAN"
    assert [r for r in named.reasons if "weights" in r] == [f"begins with the weights of {other}, after 8 images"]


def test_data_of_another_kind_are_refused_before_anything_is_timed(tmp_path: Path) -> None:
    other = kept(tmp_path / "other", replace(tiny.run("r1gan"), conditional=True))
    wrong = {
        "images of 8x8 in 1 channel, 3 classes": tiny.images(),
        "images of 16x24 in 3 channels, 3 classes": tiny.images((3, 16, 24)),
        "images of 16x24 in 1 channel, 0 classes": tiny.images((1, 16, 24), classes=0),
        "points in 2-D, 3 classes": tiny.points(),
        "two sides of 3 and 3 channels, 0 classes": tiny.sides(),
    }
    for words, data in wrong.items():
        with pytest.raises(UserError, match=f"--from {other}: its networks are for .*, and these data are {words};"):
            recipes.pick(Data(source="photos"), device="cpu", dataset=data, weights_of=other)
    with pytest.raises(UserError, match=r"--from .*nothing: not a run folder"):
        Origin.of(tmp_path / "nothing")


def untimed(*_: object) -> float:
    raise AssertionError("nothing is to be timed")


def test_other_networks_are_refused_before_anything_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("zerosum.recipes.pick"), "estimate", untimed)
    other = kept(tmp_path / "other", tiny.run("sngan"))
    with pytest.raises(UserError, match=f"--from {other}: its networks are not those of this run"):
        recipes.pick(Data(source="photos"), device="cpu", dataset=DATA, weights_of=other, algorithm="gan")
    for images, minutes, told in ((0, None, "--images 0"), (None, -1.0, "--minutes -1.0")):
        with pytest.raises(UserError, match=told):
            recipes.pick(Data(source="no/such/folder"), images=images, minutes=minutes)


def test_a_run_that_has_not_begun_lends_nothing(tmp_path: Path) -> None:
    other = tiny.keep(tiny.training(tiny.run("sngan"), DATA), tmp_path / "other")
    with pytest.raises(UserError, match=f"it has not seen an image yet.*zerosum train --resume {other}"):
        Origin.of(other)


def test_bits_that_would_be_lost_are_said() -> None:
    deep = replace(DATA.spec, depth=Depth("uint16", 0, 65535))
    other = replace(origin(), spec=deep)
    assert other.warnings(DATA.spec) == [
        "the images of other have more than 8 bits, these are read in 8: --bits own keeps them"
    ]
    assert other.warnings(deep) == origin().warnings(DATA.spec) == []


def test_a_model_is_no_folder() -> None:
    with pytest.raises(UserError, match="weights_of: object is no folder; give the path of the run"):
        zerosum.train("digits", weights_of=object())  # type: ignore[arg-type]


def test_translators_are_of_any_size_and_keep_their_sides_channels(tmp_path: Path) -> None:
    t = tiny.training(tiny.run("cyclegan"), tiny.sides((1, 8, 8), (3, 8, 8)))
    t.step()
    found = Origin.of(tiny.keep(t, tmp_path / "other"))
    assert found.algorithm == "cyclegan"
    assert found.sized(Data(source="photos")) == Data(source="photos", size=(8, 8)), "one number would be of both sides"
    found.check(tiny.sides((1, 16, 16), (3, 16, 16)).spec)
    with pytest.raises(UserError, match="two sides of 1 and 3 channels, and these data are two sides of 3 and 3"):
        found.check(tiny.sides().spec)


def test_a_game_of_the_user_s_own_has_no_name_to_be_looked_up() -> None:
    class Mine(R3GAN):
        """Declared in this file."""

    game = Mine(networks=tiny.small_algorithm("r3gan").networks)  # type: ignore[arg-type]
    own = replace(origin(), run=replace(origin().run, algorithm=game))
    assert own.algorithm is None
    assert own.lend(mine()).algorithm == game


def test_size_and_channels_are_those_of_the_other_run(tmp_path: Path) -> None:
    found = Origin.of(kept(tmp_path / "other", tiny.run("r3gan")))
    assert found.algorithm == "r3gan"
    sized = found.sized(Data(source="photos"))
    assert (sized.size, sized.channels) == ((16, 24), 1)
    assert found.sized(Data(source="photos", size=(32, 32), channels=3)) == Data(
        source="photos", size=(32, 32), channels=3
    )
