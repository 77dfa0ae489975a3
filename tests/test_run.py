"""A run as JSON and back, for every algorithm and recipe; and the values that cannot be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

import tiny
from zerosum import recipes
from zerosum.data.spec import Data, Spec
from zerosum.errors import UserError
from zerosum.game import Adam, Algorithm, Batch, Players, Turn
from zerosum.networks import DCGAN, MLP, R3, SNDCGAN, Networks, ResNet
from zerosum.run import Run, check, dumps, from_json, to_json
from zerosum.schedule import Constant, Cosine, Linear


def round_trip(run: Run) -> Run:
    return from_json(json.loads(dumps(run)))


# ---- there and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", [False, True], ids=["settings", "toy"])
@pytest.mark.parametrize("name", tiny.ALGORITHMS)
def test_every_algorithm_comes_back(name: str, toy: bool) -> None:
    s = tiny.settings(name, toy=toy)
    run = Run(
        data=Data(source="x", size=(8, 12), channels=3, flip=True), algorithm=s.algorithm, adam_g=s.adam_g,
        adam_d=s.adam_d, batch_size=s.batch_size, images=s.images, ema_half_life=s.ema_half_life,
    )  # fmt: skip
    back = round_trip(run)
    assert back == run
    assert type(back.algorithm) is type(run.algorithm)
    assert type(back.algorithm.networks) is type(run.algorithm.networks)
    assert dumps(back) == dumps(run)
    check(run)


@pytest.mark.parametrize("name", recipes.ALL)
def test_every_recipe_comes_back(name: str) -> None:
    run = recipes.ALL[name]()
    assert round_trip(run) == run
    check(run)


@pytest.mark.parametrize("networks", [DCGAN(), MLP(critic_activation="maxout"), R3(stages=2), SNDCGAN(), ResNet()])
def test_all_networks_come_back(networks: Networks) -> None:
    run = tiny.run("gan")
    run = replace(run, algorithm=replace(run.algorithm, networks=networks))
    assert round_trip(run) == run


def test_every_field_comes_back() -> None:
    run = tiny.run(
        "r3gan", minutes=0.1, images=None, seed=2**40, conditional=True, precision="bf16", micro_batches=2,
        ema_half_life=Linear(0, 1e4, 50), adam_g=Adam(lr=Cosine(1e-3, 1e-5, 10**6), beta1=0.1, eps=1e-7),
        log_every=3, grid_every=5, checkpoint_every=7, threads=None,
    )  # fmt: skip
    content = json.loads(dumps(run))
    assert {f.name for f in dataclasses.fields(Run)} == set(content)
    assert content["algorithm"]["kind"] == "R3GAN"
    assert content["algorithm"]["networks"]["kind"] == "R3"
    assert content["adam_g"]["lr"] == "cosine:0.001:1e-05:1000000"
    assert round_trip(run) == run


def test_floats_come_back_to_the_last_bit() -> None:
    run = tiny.run("gan", adam_g=Adam(lr=Constant(0.1 + 0.2), beta1=1 / 3), minutes=2 / 3)
    assert round_trip(run) == run


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="a recipe cannot hold"):
        to_json(tiny.run("gan", seed=1j))


def test_fields_left_out_take_their_defaults() -> None:
    content = json.loads(dumps(tiny.run("gan")))
    del content["precision"], content["data"]["fit"], content["algorithm"]["critic_steps"]
    run = from_json(content)
    assert (run.precision, run.data.fit, run.algorithm.rounds) == ("auto", "crop", 1)


# ---- a user's own --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OwnNetworks(Networks):
    latent: int = 3
    steps: tuple[float, ...] = (0.5, 1.5)
    pair: tuple[int, str] = (1, "one")

    def generator(self, spec: Spec) -> Any:
        raise NotImplementedError

    critic = generator


@dataclass(frozen=True, kw_only=True)
class OwnAlgorithm(Algorithm):
    networks: Networks = OwnNetworks()
    name: str | None = None

    def players(self, spec: Spec) -> Any:
        raise NotImplementedError

    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        raise NotImplementedError


def test_a_users_own_classes_come_back() -> None:
    run = tiny.run("gan", algorithm=OwnAlgorithm(networks=OwnNetworks(steps=(1.0, 2.0, 3.0)), name="mine"))
    assert round_trip(run) == run


# ---- damaged or foreign --------------------------------------------------------------------------------


def edit(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = json.loads(dumps(tiny.run("r3gan")))
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(colour="red"), "recipe: field 'colour' is not known to this version"),
        (lambda c: c["adam_g"].update(beta3=1), "recipe.adam_g: field 'beta3' is not known"),
        (
            lambda c: c["algorithm"]["networks"].update(deep=1),
            "recipe.algorithm.networks: field 'deep' is not known",
        ),
        (
            lambda c: c["algorithm"].update(kind="MyGAN"),
            "recipe.algorithm: 'MyGAN' is not known here.*zerosum.resume",
        ),
        (lambda c: c["algorithm"].pop("kind"), "recipe.algorithm: None is not known here.*Known: .*R3GAN"),
        (
            lambda c: c["algorithm"]["networks"].update(kind="Net"),
            "recipe.algorithm.networks: 'Net' is not known",
        ),
        (lambda c: c.update(algorithm="r3gan"), 'recipe.algorithm: "r3gan" is not what belongs there'),
        (lambda c: c.pop("algorithm"), "recipe: field 'algorithm' is missing"),
        (lambda c: c["data"].pop("source"), "recipe.data: field 'source' is missing"),
        (lambda c: c["adam_d"].update(lr="quick"), "recipe.adam_d.lr: 'quick' is not a schedule"),
        (lambda c: c["adam_d"].update(lr=None), "recipe.adam_d.lr: 'None' is not a schedule"),
        (lambda c: c.update(precision="fp8"), "recipe.precision: 'fp8' is not one of auto, fp32, bf16, fp64"),
        (lambda c: c.update(batch_size="64"), 'recipe.batch_size: "64" is not what belongs there'),
        (lambda c: c.update(batch_size=64.5), "recipe.batch_size: 64.5 is not what belongs there"),
        (lambda c: c.update(seed=True), "recipe.seed: true is not what belongs there"),
        (lambda c: c.update(conditional=1), "recipe.conditional: 1 is not what belongs there"),
        (lambda c: c.update(minutes="2"), 'recipe.minutes: "2" is not what belongs there'),
        (lambda c: c["data"].update(size=[8]), "recipe.data.size: .8. must hold 2 values"),
        (lambda c: c["data"].update(size=8), "recipe.data.size: 8 is not what belongs there"),
        (lambda c: c["data"].update(channels=2), "recipe.data.channels: 2 is not one of 1, 3, 4"),
        (lambda c: c.update(data=[]), "recipe.data: .. is not what belongs there"),
    ],
)
def test_a_recipe_edited_by_hand_is_refused_by_name(change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_json(edit(change))


def test_numbers_are_good_schedules_and_ints_good_floats() -> None:
    run = from_json(edit(lambda c: (c["adam_d"].update(lr=0.01, beta1=0), c.update(minutes=2))))
    assert run.adam_d.lr == Constant(0.01)
    assert isinstance(run.adam_d.beta1, float)
    assert run.minutes == 2.0


# ---- values that cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": None}, "--images and --minutes are both missing: give one"),
        ({"images": 0}, "--images 0: must be 1 or more"),
        ({"images": -5}, "--images -5: must be 1 or more"),
        ({"minutes": 0.0}, r"--minutes 0.0: must be above 0"),
        ({"minutes": float("nan")}, "--minutes nan: must be above 0"),
        ({"batch_size": 0}, "--batch-size 0: must be 1 or more"),
        ({"log_every": 0}, "--log-every 0: must be 1 or more"),
        ({"grid_every": 0}, "--grid-every 0: must be 1 or more"),
        ({"checkpoint_every": -1}, "--checkpoint-every -1: must be 1 or more"),
        ({"micro_batches": 0}, "--micro-batches 0: must be 1 or more"),
        ({"micro_batches": 3}, "--micro-batches 3: must divide --batch-size 8"),
        ({"threads": 0}, "--threads 0: must be 1 or more"),
        ({"adam_g": Adam(lr=Constant(-1e-3))}, r"--adam-g.lr -0.001: must be 0 or more"),
        ({"adam_d": Adam(lr=Linear(1e-3, -1e-3, 9))}, "--adam-d.lr linear:0.001:-0.001:9: must be 0 or more"),
        ({"adam_d": Adam(lr=Constant(0), beta1=1.0)}, "--adam-d.beta1 1.0: must be at least 0 and below 1"),
        ({"adam_g": Adam(lr=Constant(0), beta2=-0.1)}, "--adam-g.beta2 -0.1: must be at least 0 and below 1"),
        ({"adam_g": Adam(lr=Constant(0), eps=0.0)}, "--adam-g.eps 0.0: must be above 0"),
    ],
)
def test_impossible_values(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(replace(tiny.run("gan"), **changes))


def test_a_step_without_critic_turns_would_never_end() -> None:
    run = tiny.run("wgan_gp")
    with pytest.raises(UserError, match=r"--algorithm\.critic-steps 0: must be 1 or more"):
        check(replace(run, algorithm=replace(run.algorithm, critic_steps=0)))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "changes", [{"minutes": 1.0}, {"images": None, "minutes": 0.5}, {"images": 1}, {"threads": None}]
)
def test_possible_values(changes: dict[str, Any]) -> None:
    check(replace(tiny.run("gan"), **changes))


def test_the_generator_of_a_semi_supervised_game_knows_no_classes() -> None:
    data = tiny.images()
    assert tiny.run("ssgan").made(data.spec).classes == 0
    assert tiny.run("acgan").made(data.spec) == data.spec
    named, plain = (tiny.training(tiny.run(name), data).probe for name in ("acgan", "ssgan"))
    assert (named.fixed[1] is None, plain.fixed[1] is None) == (False, True)  # type: ignore[union-attr]
