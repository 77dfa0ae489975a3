"""`pick`: a bare folder of images, whatever their size, gets a run that works."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from zerosum import algorithms, recipes
from zerosum.algorithms.cyclegan import CycleGAN
from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.algorithms.r1gan import R1GAN
from zerosum.data import Data
from zerosum.data.augment import POLICIES
from zerosum.data.depth import EIGHT_BITS, Depth
from zerosum.data.sides import Sides
from zerosum.data.spec import Spec
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.networks import DCGAN, Progressive, Subpixel
from zerosum.recipes import images as image_recipes
from zerosum.recipes.base import from_settings
from zerosum.run import Run

picking = importlib.import_module("zerosum.recipes.pick")
ESTIMATE = picking.estimate


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "estimate", lambda *_: 1000.0)


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Data]:
    def make(height: int, width: int, **settings: object) -> Data:
        folder = tmp_path / f"{height}x{width}"
        folder.mkdir(exist_ok=True)
        random = np.random.default_rng(0)
        for i in range(4):
            pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png", compress_level=0)
        return Data(source=str(folder), **settings)  # type: ignore[arg-type]

    return make


def built(choice: recipes.Choice) -> tuple[int, ...]:
    """The data's height and width, if the run's networks take them."""
    assert set(choice.run.algorithm.players(choice.dataset.spec)) == {"G", "D"}
    return choice.dataset.spec.shape[1:]


SHAPES = {
    (400, 600): (48, 64), (200, 200): (64, 64), (150, 150): (64, 64), (100, 100): (64, 64), (240, 160): (64, 48),
    (270, 480): (32, 64), (17, 23): (16, 20), (3, 3): (4, 4), (64, 48): (64, 48), (5, 61): (4, 60),
}  # fmt: skip


@pytest.mark.parametrize("size", SHAPES)
def test_a_folder_of_any_size_fits(size: tuple[int, int], photos: Callable[..., Data]) -> None:
    choice = recipes.pick(photos(*size), images=64, device="cpu")
    assert built(choice) == SHAPES[size]
    said = " ".join(choice.reasons)
    if size != SHAPES[size]:
        assert "--size H W" in said
        assert "x".join(map(str, SHAPES[size])) in said
    else:
        assert "--size" not in said


@pytest.mark.parametrize("size", [(400, 600), (200, 200), (150, 150), (100, 100), (240, 160), (270, 480)])
def test_larger_images_fit_too(
    size: tuple[int, int], photos: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there is a GPU: nothing brings them to 64 pixels."""
    monkeypatch.setattr(picking, "LONGEST_ON_CPU", 256)
    monkeypatch.setattr(picking, "estimate", lambda *_: 100.0)
    monkeypatch.setattr(picking, "pauses", lambda *_: (1e-3, 0.0))
    height, width = built(recipes.pick(photos(*size), images=64, device="cpu"))
    assert max(height, width) <= 256
    assert 0.8 < width / height / (size[1] / size[0]) < 1.25


OF_NOISE = [name for name in algorithms.names() if not algorithms.translates(name)]
LABELLED = [name for name in OF_NOISE if algorithms.settings(name).algorithm.labels != "optional"]


@pytest.mark.parametrize("name", LABELLED)
def test_games_of_labels_say_what_they_lack(name: str, photos: Callable[..., Data]) -> None:
    with pytest.raises(UserError, match="this data has no labels"):
        recipes.pick(photos(16, 16), algorithm=name, images=64, device="cpu")


@pytest.mark.parametrize("name", [name for name in OF_NOISE if name not in LABELLED])
def test_the_networks_say_what_they_take(name: str, photos: Callable[..., Data]) -> None:
    """The original GAN's take anything, so nothing is changed for it."""
    expected = (17, 23) if name == "gan" else (16, 20)
    choice = recipes.pick(photos(17, 23), algorithm=name, images=64, device="cpu")
    assert built(choice) == expected
    assert choice.run.data.size == (None if name == "gan" else expected)


@pytest.mark.parametrize("name", [None, "pix2pix", "cyclegan"])
def test_photos_become_pairs(name: str | None, photos: Callable[..., Data]) -> None:
    """Side A is made of them; sizes that the networks do not take go to the nearest."""
    choice = recipes.pick(photos(18, 26, made="grey", channels=3), algorithm=name, images=64, device="cpu")
    spec = choice.dataset.spec
    assert spec.target is not None
    assert type(choice.run.algorithm).__name__.lower() == (name or "pix2pix")
    assert spec.shape == (1, *spec.target.shape[1:])
    assert choice.run.algorithm.players(spec)


def test_the_callers_own_networks_are_asked(photos: Callable[..., Data]) -> None:
    def shallow(run: Run) -> Run:
        return replace(run, algorithm=replace(run.algorithm, networks=DCGAN(latent=4, width=4, stages=1)))

    assert built(recipes.pick(photos(18, 26), images=64, device="cpu", adjust=shallow)) == (18, 26)


def test_the_run_is_complete_without_being_picked_again(photos: Callable[..., Data]) -> None:
    from zerosum import data

    choice = recipes.pick(photos(17, 23), images=64, device="cpu")
    assert data.open(choice.run.data).fingerprint == choice.dataset.fingerprint  # type: ignore[attr-defined]


def test_a_size_that_was_asked_for_is_not_changed(photos: Callable[..., Data], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--size 17 23: .* nearest are 20x24 and 16x20; give --size 20 24"):
        recipes.pick(photos(40, 40, size=(17, 23)), images=64, device="cpu")


def test_images_that_come_again_and_again_are_augmented(photos: Callable[..., Data]) -> None:
    few = photos(16, 16)  # four images, and 1,000 a second: a minute shows each 15,000 times
    choice = recipes.pick(few, minutes=1.0, device="cpu")
    assert choice.run.augment == POLICIES
    assert "15,000 times" in " ".join(choice.reasons)
    seldom = recipes.pick(few, images=4 * picking.BY_HEART - 1, device="cpu")
    assert seldom.run.augment == ()
    own = recipes.pick(few, minutes=1.0, device="cpu", adjust=lambda run: replace(run, augment=("cutout",)))
    assert own.run.augment == ("cutout",), "the caller's own word is the last"
    off = recipes.pick(few, minutes=1.0, device="cpu", adjust=lambda run: replace(run, augment=()))
    assert off.run.augment == ()
    assert "augmented" not in " ".join(off.reasons)
    assert recipes.pick(few, algorithm="dcgan", images=10**6, device="cpu").run.augment == (), "as its paper has it"


def test_threads_that_were_asked_for_are_what_is_said(photos: Callable[..., Data]) -> None:
    choice = recipes.pick(photos(16, 16), images=64, device="cpu", adjust=lambda run: replace(run, threads=3))
    assert choice.run.threads == 3
    assert any("3 threads: as you asked" in reason for reason in choice.reasons)


# ---- the machine's side --------------------------------------------------------------------------------

Rates = dict[tuple[str, str, int, str], float]


def tried(monkeypatch: pytest.MonkeyPatch, rates: Rates, seconds: float = 0.0) -> list[tuple[str, str, int, str]]:
    """Let the trial find these rates (0 is an error of the compiler); what it tried, in order."""
    found, clock = [], iter(float(i) for i in range(1000))

    def estimate(run: Run, *_: object) -> float:
        assert run.threads is not None
        key = (run.precision, run.memory_format, run.threads, "on" if run.compile == "on" else "off")
        found.append(key)
        if not rates[key]:
            raise RuntimeError("no such compiler")
        return rates[key]

    monkeypatch.setattr(picking, "estimate", estimate)
    monkeypatch.setattr(picking, "can_compile", lambda: True)
    monkeypatch.setattr(picking, "rivals", lambda *_: PLAIN_TO_QUICK)
    monkeypatch.setattr(picking.time, "perf_counter", lambda: seconds * next(clock))
    return found


PLAIN_TO_QUICK = [("fp32", "contiguous"), ("fp32", "channels_last"), ("bf16", "channels_last")]
RATES: Rates = {
    ("fp32", "contiguous", 1, "off"): 100.0, ("fp32", "channels_last", 1, "off"): 104.0,
    ("bf16", "channels_last", 1, "off"): 150.0, ("bf16", "channels_last", 2, "off"): 200.0,
    ("bf16", "channels_last", 2, "on"): 240.0,
}  # fmt: skip


def settings(run: Run) -> tuple[str, str, int | None, str]:
    return run.precision, run.memory_format, run.threads, run.compile


@pytest.mark.parametrize(
    ("folders", "sides"),
    [
        (("trainA", "trainB", "testA", "testB"), True),
        (("A", "B"), False),
        (("trainA",), False),
        (("cats", "dogs"), False),
    ],
)
def test_folders_whose_names_mean_nothing_else_are_sides(folders: tuple[str, ...], sides: bool, tmp_path: Path) -> None:
    """A and B alone may be classes."""
    random = np.random.default_rng(0)
    for folder in folders:
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{folder}{i}.png")
    data = Data(source=str(tmp_path / "data"))
    choice = recipes.pick(data, images=64, device="cpu")
    assert isinstance(choice.run.algorithm, CycleGAN) == sides
    if sides:
        assert any("side A is trainA" in reason for reason in choice.reasons)
        asked = recipes.pick(data, algorithm="dcgan", images=64, device="cpu")
        assert asked.dataset.spec.target is None, "who names a game of noise is given it"


@pytest.fixture
def game(photos: Callable[..., Data]) -> tuple[Run, object]:
    data = photos(16, 16)
    choice = recipes.pick(data)
    return replace(
        choice.run, precision="auto", memory_format="auto", compile="auto", threads=2, images=None, minutes=5.0
    ), choice.dataset


def test_the_quickest_of_what_is_tried_is_taken(game: tuple[Run, object], monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, RATES)
    rate, run = recipes.quickest(*game)  # type: ignore[arg-type]
    assert (rate, settings(run)) == (200.0, ("bf16", "channels_last", 2, "off"))
    assert [key[:2] for key in found[:6]] == 2 * PLAIN_TO_QUICK, "in turn"
    assert [key[2] for key in found] == [1] * 6 + [2], "one thread first; five minutes do not pay for compiling"


def test_a_moment_in_which_the_machine_did_something_else_decides_nothing(
    game: tuple[Run, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried(monkeypatch, RATES)
    quiet, turns = picking.estimate, itertools.count()
    monkeypatch.setattr(picking, "estimate", lambda *of: quiet(*of) / (4 if next(turns) in (1, 2, 3) else 1))
    assert settings(recipes.quickest(*game)[1]) == ("bf16", "channels_last", 2, "off")  # type: ignore[arg-type]


def test_what_is_hardly_quicker_than_the_plain_choice_is_left(
    game: tuple[Run, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {("bf16", "channels_last", 1, "off"): 104.9, ("fp32", "contiguous", 2, "off"): 90.0}
    tried(monkeypatch, RATES | slow)
    assert settings(recipes.quickest(*game)[1]) == ("fp32", "contiguous", 1, "off")  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [0, 1])
def test_images_of_more_than_8_bits_are_kept_out_of_bf16(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever side they are on: bf16 does not hold their values. Who asks for it gets it."""
    stored = [np.uint8, np.uint8]
    stored[side] = np.uint16
    depths = [EIGHT_BITS if kind is np.uint8 else Depth("uint16", 0, 65535) for kind in stored]
    a, b = (
        ArrayDataset(np.zeros((8, 1, 16, 16), kind), depth=depth) for kind, depth in zip(stored, depths, strict=True)
    )
    run = replace(
        image_recipes.translation("pix2pix", Data(source="")), precision="auto", memory_format="auto", threads=1
    )
    found = tried(monkeypatch, RATES)
    assert recipes.quickest(run, Sides(a, b, paired=True))[1].precision == "fp32"
    assert not [key for key in found if key[0] == "bf16"]
    asked = replace(run, precision="bf16")
    assert recipes.quickest(asked, Sides(a, b, paired=True))[1].precision == "bf16"


def test_what_is_given_is_not_tried(game: tuple[Run, object], monkeypatch: pytest.MonkeyPatch) -> None:
    run, dataset = game
    given = replace(run, precision="fp32", memory_format="channels_last", threads=1, compile="on")
    found = tried(monkeypatch, {("fp32", "channels_last", 1, "on"): 10.0})
    assert settings(recipes.quickest(given, dataset)[1]) == ("fp32", "channels_last", 1, "on")  # type: ignore[arg-type]
    assert len(found) == 1


def test_a_given_memory_format_leaves_the_precision_open(
    game: tuple[Run, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset = game
    found = tried(monkeypatch, RATES | {("bf16", "contiguous", 1, "off"): 130.0, ("bf16", "contiguous", 2, "off"): 140})
    chosen = recipes.quickest(replace(run, memory_format="contiguous"), dataset)[1]  # type: ignore[arg-type]
    assert settings(chosen) == ("bf16", "contiguous", 2, "off")
    assert len(found) == 5


@pytest.mark.parametrize(
    ("length", "compiled", "seconds", "expected"),
    [
        ({"minutes": 29.0}, 240.0, 30.0, "off"),  # not tried
        ({"minutes": 60.0}, 240.0, 30.0, "on"),
        ({"minutes": None, "images": 60 * 60 * 200}, 240.0, 30.0, "on"),
        ({"minutes": 60.0, "images": 1000}, 240.0, 30.0, "off"),  # over in seconds
        ({"minutes": 60.0}, 240.0, 900.0, "off"),  # a quarter of an hour to compile
        ({"minutes": 60.0}, 209.0, 30.0, "off"),  # hardly quicker
        ({"minutes": 60.0}, 0.0, 30.0, "off"),  # a compiler that fails
    ],
)
def test_compiled_where_the_run_is_long_enough(
    game: tuple[Run, object],
    monkeypatch: pytest.MonkeyPatch,
    length: dict[str, float | None],
    compiled: float,
    seconds: float,
    expected: str,
) -> None:
    run, dataset = game
    tried(monkeypatch, RATES | {("bf16", "channels_last", 2, "on"): compiled}, seconds)
    rate, found = recipes.quickest(replace(run, **length), dataset)  # type: ignore[arg-type]
    assert found.compile == expected
    assert rate == (compiled if expected == "on" else 200.0)


@pytest.mark.parametrize(
    ("name", "takes", "steps"), [("gan", 1.0, 3), ("r1gan", 1.0, 8), ("r1gan", 0.1, 32), ("r1gan", 3.0, 4)]
)
def test_a_trial_has_whole_rounds_of_lazy_penalties(
    game: tuple[Run, object], monkeypatch: pytest.MonkeyPatch, name: str, takes: float, steps: int
) -> None:
    """Of R1 every 8 steps: one more or less in a dozen steps made the rate another; unless rounds are too long."""
    now, done = [0.0], [0]

    class Trial:
        seen = 0

        def step(self) -> None:
            done[0] += 1
            self.seen += 1
            now[0] += takes

    monkeypatch.setattr(picking, "_trial", lambda *_: nullcontext(Trial()))
    monkeypatch.setattr(picking.time, "perf_counter", lambda: now[0])
    run = replace(game[0], algorithm=tiny.settings(name).algorithm)
    assert ESTIMATE(run, game[1], "cpu", 3.0) == pytest.approx(1 / takes)  # type: ignore[arg-type]
    assert done[0] == 1 + steps


def test_the_time_of_a_run_has_what_stands_between_its_steps(
    photos: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 images at 1,000 a second, 60 grids of half a second and probes: not ten seconds."""
    monkeypatch.setattr(picking, "pauses", lambda *_: (0.3, 0.5))

    def said(**length: float) -> str:
        (found,) = (r for r in recipes.pick(photos(16, 16), device="cpu", **length).reasons if "a second here" in r)  # type: ignore[arg-type]
        return found.rpartition(" in ")[2]

    assert said(images=10_000) == f"{10 + 30 + 0.3:.0f} s", "and a probe, at 3 % of the time"
    assert said(images=64) == f"{0.064 + 2 * 0.5:.0f} s", "one step has two grids"
    assert said(minutes=0.5) == "30 s", "by the clock it is the clock's"


def test_adaptive_augmentation_may_reach_its_strength_within_the_run(photos: Callable[..., Data]) -> None:
    """The paper's 500,000 images are a fiftieth of its runs, and more than all of a run of minutes."""

    def images(**given: int) -> int:
        def adjust(run: Run) -> Run:
            return replace(run, augment=("adaptive",), **given)  # type: ignore[arg-type]

        return recipes.pick(photos(16, 16), minutes=1.0, device="cpu", adjust=adjust).run.augment_images

    assert images() == 60_000 // picking.TO_ALL
    assert images(augment_images=77) == 77


def test_the_batch_that_is_warned_of_is_that_of_the_user(photos: Callable[..., Data]) -> None:
    def warned(batch_size: int) -> bool:
        choice = recipes.pick(
            photos(16, 16), images=16, device="cpu", adjust=lambda run: replace(run, batch_size=batch_size)
        )
        return any("shows some images twice" in reason for reason in choice.reasons)

    assert warned(8)
    assert not warned(4), "there are four"


def test_what_grows_is_not_compiled(game: tuple[Run, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size and fade would have to be; what is whole from the start is compiled as any other."""
    run, dataset = game
    run = replace(run, minutes=60.0, algorithm=ProgressiveGAN())
    tried(monkeypatch, RATES | {("bf16", "channels_last", 2, "on"): 240.0}, 30.0)
    assert recipes.quickest(run, dataset)[1].compile == "off"  # type: ignore[arg-type]
    whole = replace(run, algorithm=ProgressiveGAN(growth=(0,)))
    assert recipes.quickest(whole, dataset)[1].compile == "on"  # type: ignore[arg-type]


def test_a_caller_who_sets_the_clock_does_not_change_the_recipe(
    photos: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `zerosum train --algorithm dcgan --minutes 1` plays it, so does who sets the same by hand."""
    asked = recipes.pick(photos(16, 16), algorithm="dcgan", minutes=1.0, device="cpu").run
    by_hand = recipes.pick(
        photos(16, 16), algorithm="dcgan", minutes=1.0, device="cpu",
        adjust=lambda run: replace(run, minutes=1.0, images=None),
    ).run  # fmt: skip
    assert replace(by_hand, probe_every=asked.probe_every) == asked, "but for what a probe costs, which is timed"
    assert asked.adam_g.lr.shape == "constant"


def test_how_long_a_run_will_be_is_tried_for_longer_where_the_clock_ends_it(
    photos: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def estimate(run: Run, dataset: object, device: str = "auto", seconds: float = picking.ESTIMATE_SECONDS) -> float:
        tried.append(seconds)
        return 1_000.0

    monkeypatch.setattr(picking, "estimate", estimate)
    for minutes, seconds in ((0.1, picking.ESTIMATE_SECONDS), (5, 6.0), (60, picking.MOST_SECONDS)):
        recipes.pick(photos(16, 16), minutes=minutes, device="cpu")
        assert tried[-1] == pytest.approx(seconds)
    recipes.pick(photos(16, 16), images=64, device="cpu")
    assert tried[-1] <= picking.ESTIMATE_SECONDS


@pytest.mark.parametrize(
    ("count", "shape", "few"), [(100, (1, 80, 64), True), (100, (1, 32, 64), False), (2_000, (3, 64, 64), False)]
)
def test_few_images_have_networks_of_their_own(count: int, shape: tuple[int, ...], few: bool) -> None:
    """In small batches and moved about; and where their own rule is not met, what is picked for any small images."""
    run, why = image_recipes.bare(Data(source="photos"), Spec(shape), count)
    assert isinstance(run.algorithm, R1GAN)
    assert isinstance(run.algorithm.networks, Progressive if few else Subpixel)
    assert run.augment == (("translation",) if few else ())
    assert run.batch_size == (8 if few else 64)
    assert ("moved" in why) == few
    assert set(run.algorithm.players(Spec(shape))) == {"G", "D"}


def test_a_bare_folder_of_few_larger_images_is_told_so(photos: Callable[..., Data]) -> None:
    choice = recipes.pick(photos(48, 40), minutes=1.0, device="cpu")
    assert choice.run.algorithm == image_recipes.few(choice.run.data).algorithm
    assert choice.run.augment == ("translation",), "which images that come again and again have already"
    lr = choice.run.adam_g.lr
    assert lr(choice.run.grid_every) == lr.start, "rates stay for half of the run"


def test_a_game_that_grows_is_picked_for_small_machines() -> None:
    run, why = image_recipes.named("progressive", Data(source="digits"))
    assert isinstance(run.algorithm, ProgressiveGAN)
    assert run.algorithm.loss == "logistic"
    assert run.images is None, "by the clock, or a bare train would go on for days"
    assert "thinner networks" in why
    assert image_recipes.named("Progressive", Data(source="digits"))[0] == run, "as it is spelt everywhere"
    fallen = image_recipes.cooled(run, 1_000).adam_g.lr
    assert fallen(500) == pytest.approx(run.adam_g.lr.start), "it stays while sizes are born"
    assert fallen(1_000) == pytest.approx(run.adam_g.lr.start / 10)


def test_what_has_no_recipe_has_its_own_settings() -> None:
    data = Data(source="digits")
    assert image_recipes.named("r3gan", data)[0] == from_settings("r3gan", data)
