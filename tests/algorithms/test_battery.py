"""The battery: what every algorithm must pass (design rule 12). A file in `algorithms/` is in it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import tiny
from tiny import ALGORITHMS, LABELLED, TRANSLATORS, VARIANTS
from zerosum import algorithms, checkpoint, losses, penalties
from zerosum.algorithms import cut
from zerosum.data.spec import Spec
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.exports import NEEDED, export
from zerosum.game import Algorithm, Batch, Minimise, Settings, Turns
from zerosum.metrics.probe import WORST
from zerosum.networks import coupled
from zerosum.trainer import Training

every = pytest.mark.parametrize("name", ALGORITHMS)


def ways(name: str) -> tuple[bool, ...]:
    """Without labels and with them, or always with them."""
    return (True,) if name in LABELLED else (False, True)


DATA = {
    "grey": tiny.images((1, 8, 8)),
    "wide colour": tiny.images((3, 8, 12)),
    "with alpha": tiny.images((4, 8, 8)),
    "points": tiny.points(),
}
SIDES = {
    "colour": tiny.sides(), "unlike": tiny.sides((1, 8, 8), (4, 8, 8)), "pairs": tiny.sides(paired=True),
    "unlike pairs": tiny.sides((1, 8, 8), (3, 8, 8), paired=True),
}  # fmt: skip
HERE = Path(__file__).parent
ROUNDING = (1e-12, 1e-8)  # in float64; instance norm over a few pixels and Adam's first steps magnify it in translators


def sides_of(name: str) -> list[str]:
    """Which of SIDES a translator is tried on."""
    return {"pix2pix": ["pairs", "unlike pairs"], "cut": ["colour"], "fastcut": ["colour"]}.get(
        name, ["colour", "unlike"]
    )


TRANSLATED = [(name, data) for name in (*TRANSLATORS, *VARIANTS) for data in sides_of(name)]
translated = pytest.mark.parametrize(("name", "data"), TRANSLATED)
# A case is (algorithm, data, conditional): classes are for what is made of noise.
PLAYED = [(n, d, c) for n in ALGORITHMS for d in ("grey", "points") for c in ways(n)]
PLAYED += [(n, d, False) for n, d in TRANSLATED]
played = pytest.mark.parametrize(("name", "data", "conditional"), PLAYED)


def training(name: str, data: str = "grey", **changes: object) -> Training:
    """A run of an algorithm on one of DATA or SIDES: with its image networks, or its toy networks for points."""
    return tiny.training(tiny.run(name, toy=data == "points", **changes), DATA[data] if data in DATA else SIDES[data])


def is_coupled(name: str, *, toy: bool) -> bool:
    data = DATA["points" if toy else "grey"]
    algorithm = tiny.small_algorithm(name, toy=toy)
    players = algorithm.players(Spec(data.spec.shape, 3 if name in LABELLED else 0))
    return algorithm.coupled or not tiny.uncoupled(players)


UNCOUPLED = [(n, d) for n in ALGORITHMS for d in ("grey", "points") if not is_coupled(n, toy=d == "points")]
UNCOUPLED += TRANSLATED
COUPLED = [n for n in ALGORITHMS if is_coupled(n, toy=False)]
uncoupled = pytest.mark.parametrize(("name", "data"), UNCOUPLED)


# ---- the list ------------------------------------------------------------------------------------------


def test_no_file_is_left_out() -> None:
    folder = Path(algorithms.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {*ALGORITHMS, *TRANSLATORS} == files
    assert algorithms.names() == tuple(sorted(files - {"_template"}))


@pytest.mark.parametrize("name", [*ALGORITHMS, *TRANSLATORS])
def test_the_file_declares_what_it_needs(name: str) -> None:
    module = importlib.import_module(f"zerosum.algorithms.{name}")
    assert "arXiv:" in (module.__doc__ or ""), "the paper"
    assert "Symbols (paper -> here)" in module.__doc__
    assert "Differs from the paper" in module.__doc__
    for settings in (module.SETTINGS, module.TOY):
        assert isinstance(settings, Settings)
        assert isinstance(settings.algorithm, Algorithm)
        assert type(settings.algorithm).__module__ == module.__name__
        assert dataclasses.is_dataclass(settings.algorithm)
        assert settings.algorithm.__dataclass_params__.frozen
        assert type(settings.algorithm).__doc__
        assert settings.images > settings.batch_size
    if name in TRANSLATORS:
        players = tiny.small_algorithm(name).players(SIDES[sides_of(name)[0]].spec)
        assert {player[0] for player in players} in ({"G", "D"}, {"G", "D", "F"})
        return
    assert module.TOY.algorithm.networks.latent == 2, "a toy's latents are drawn as points too"
    for spec in (Spec((1, 8, 8), 3), *([] if name in LABELLED else [Spec((1, 8, 8))])):
        players = tiny.small_algorithm(name).players(spec)
        assert {player[0] for player in players} == {"G", "D"}, "adam_g moves names with G, adam_d names with D"


@pytest.mark.parametrize("name", [*ALGORITHMS, *TRANSLATORS])
def test_names_of_algorithms(name: str) -> None:
    if name.startswith("_"):
        with pytest.raises(UserError, match="there is no such algorithm"):
            algorithms.settings(name)
        return
    assert algorithms.settings(name) == tiny.settings(name)
    assert algorithms.settings(name.replace("_", "-").upper(), toy=True) == tiny.settings(name, toy=True)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="--algorithm r3gam: there is no such algorithm; did you mean r3gan"):
        algorithms.settings("r3gam")
    with pytest.raises(UserError, match="give one of acgan, "):
        algorithms.settings("zzzzz")


# ---- only the mover moves ------------------------------------------------------------------------------


class Umpire:
    """Stands between an algorithm and the game, and looks at every player before, in and after each turn."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.movers: tuple[str, ...] = ()
        self.order: list[tuple[str, ...]] = []

    @contextmanager
    def __call__(self, *names: str, full_precision: bool = False) -> Iterator[Minimise]:
        networks = self.turns.players.networks
        before = {name: tiny.weights(network) for name, network in networks.items()}
        with self.turns(*names, full_precision=full_precision) as minimise:
            self.movers = names
            yield minimise
            for name, network in networks.items():
                has = [p.grad is not None for p in network.parameters()]
                assert any(has) if name in names else not any(has), f"gradients of {name}"  # trap 18
                assert all(p.requires_grad == (name in names) for p in network.parameters())
        for name, network in networks.items():
            assert all(p.grad is None for p in network.parameters())
            if name in names:
                assert any(not torch.equal(p, before[name][k]) for k, p in network.named_parameters())
            else:  # parameters and buffers: BatchNorm's statistics, spectral norm's vectors
                assert tiny.equal(tiny.weights(network), before[name]), f"{name} moved in the turn of {names}"
        self.movers = ()
        self.order.append(names)

    @contextmanager
    def ahead(self, *names: str) -> Iterator[None]:
        self.movers = names
        with self.turns.ahead(*names):
            yield
        self.movers = ()

    def split(self, batch: Batch) -> Iterator[Batch]:
        return self.turns.split(batch)

    def note(self, *, real: Tensor, fake: Tensor) -> None:
        self.turns.note(real=real, fake=fake)

    def log(self, **losses: Tensor) -> None:
        self.turns.log(**losses)


@played
def test_only_the_mover_moves(name: str, data: str, conditional: bool) -> None:
    t = training(name, data, conditional=conditional)
    umpire = Umpire(t.turns)
    generated: list[tuple[bool, bool]] = []  # whether it was a G's turn, and whether the fakes carried a graph

    def look(module: nn.Module, args: object, output: Tensor) -> None:
        generated.append((any(m.startswith("G") for m in umpire.movers), output.requires_grad))

    for player, network in t.players.networks.items():
        if player.startswith("G"):
            network.register_forward_hook(look)
    for _ in range(2):
        t.run.algorithm.step(umpire, t.players, Batch(t.loader, t.seen, 8, 8), t.seen)
        t.seen += t.images_per_step
    assert {name for names in umpire.order for name in names} == set(t.players), "everyone had a turn"
    assert generated
    assert all(moves == graph for moves, graph in generated)  # trap 19
    assert t.turns.skipped == 0


@pytest.mark.parametrize(("name", "data"), [*((n, "grey") for n in ALGORITHMS), *TRANSLATED])
def test_seen_counts_the_real_images_of_ds_turns(name: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    t = training(name, data)
    drawn: list[int] = []
    real = t.loader.real

    def spy(purpose: str, first: int, count: int) -> Tensor:
        if purpose in ("real", "b"):
            drawn.extend(range(first, first + count))
        return real(purpose, first, count)

    monkeypatch.setattr(t.loader, "real", spy)
    for _ in range(3):
        t.step()
    assert sorted(drawn) == list(range(t.seen))


# ---- two steps on everything ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "conditional"),
    [*((n, d, c) for n in ALGORITHMS for d in DATA for c in ways(n)), *((n, d, False) for n, d in TRANSLATED)],
)
def test_two_steps(name: str, data: str, conditional: bool) -> None:
    t = training(name, data, conditional=conditional)
    start = tiny.tensors(t)
    for _ in range(2):
        t.step()
    scores = t.turns.read_scores()
    assert {"accuracy/real", "accuracy/fake"} <= scores.keys(), "the step notes D's accuracy"
    assert any(k.startswith("loss/") for k in scores)
    assert all(math.isfinite(v) for v in scores.values()), scores
    assert all(0 <= scores[k] <= 1 for k in ("accuracy/real", "accuracy/fake"))
    assert t.turns.skipped == 0
    assert t.seen == 2 * t.images_per_step == 2 * 8 * t.run.algorithm.rounds
    after = tiny.tensors(t)
    assert all(bool(v.isfinite().all()) for v in after.values())
    moved = {k.split("/")[1] for k, v in start.items() if k.startswith("players/") and not torch.equal(v, after[k])}
    assert moved == set(t.players)
    if name not in ALGORITHMS:
        for player, ema in t.ema.items():
            source, target = t.spec.sides[::-1] if player.endswith("BA") else t.spec.sides
            assert ema.network(torch.randn(3, *source.shape)).shape == (3, *target.shape)
        assert t.probe(t.averaged).distance < WORST
        t.probe.draw(t.averaged)
        return
    label = torch.tensor([0, 1, 2]) if conditional else None
    x = t.ema["G"].network(torch.randn(3, t.run.algorithm.networks.latent), label)
    assert x.shape == (3, *DATA[data].spec.shape)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in LABELLED])
def test_classes_change_what_is_played(name: str) -> None:
    plain, classes = training(name), training(name, conditional=True)
    assert plain.spec.classes == 0
    assert classes.spec.classes == 3
    sizes = [
        {n: sum(p.numel() for p in m.parameters()) for n, m in t.players.networks.items()} for t in (plain, classes)
    ]
    assert all(sizes[0][player] < sizes[1][player] for player in sizes[0])


def test_one_encoder_wants_sides_of_as_many_channels() -> None:
    with pytest.raises(UserError, match=r"--algorithm cut: one encoder looks at both sides, .* 1 and 4 channels"):
        training("cut", "unlike")


def test_the_places_that_are_compared_are_keyed_by_the_runs_seed() -> None:
    features = torch.empty(2, 3, 5, 7)
    drawn = []
    for seed, seen in ((1, 0), (1, 0), (1, 8), (2, 0)):
        places = cut.Places(training("cut", "colour", seed=seed).loader, seen, 20)
        drawn.append(places(0, features).tolist())
        assert drawn[-1] == places(0, features).tolist() != places(1, features).tolist()
        assert len(set(drawn[-1])) == 20
        assert set(drawn[-1]) < set(range(35))
    assert drawn[0] == drawn[1]
    assert len({tuple(one) for one in drawn}) == 3


def test_classes_without_labels_are_refused() -> None:
    with pytest.raises(UserError, match="--conditional True: this data has no labels"):
        tiny.training(tiny.run("gan", conditional=True), tiny.images(classes=0))


@every
@pytest.mark.parametrize("count", [1, 7, 9])
def test_any_size_of_set_trains(name: str, count: int) -> None:  # trap 26
    t = tiny.training(tiny.run(name), tiny.images((1, 8, 8), count))
    for _ in range(2):
        t.step()
    assert t.turns.skipped == 0
    assert all(bool(v.isfinite().all()) for v in tiny.tensors(t).values())


# ---- the same again ------------------------------------------------------------------------------------

again = pytest.mark.parametrize(("name", "data"), [*((n, "grey") for n in ALGORITHMS), *TRANSLATED])


@again
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_seed_decides_every_bit(name: str, data: str, precision: str) -> None:
    classes = name in ALGORITHMS
    runs = [training(name, data, seed=seed, precision=precision, conditional=classes) for seed in (1, 1, 2)]
    for t in runs:
        torch.randn(int(t.run.seed))  # what others draw from torch's generator makes no difference
        for _ in range(2):
            t.step()
    first, again, other = (tiny.tensors(t) for t in runs)
    assert tiny.equal(first, again)
    assert not tiny.equal(first, other)


@again
@pytest.mark.parametrize(("precision", "memory_format"), [("fp32", "contiguous"), ("bf16", "channels_last")])
def test_a_restored_run_goes_on_bit_for_bit(
    name: str, data: str, precision: str, memory_format: str, tmp_path: Path
) -> None:  # trap 22, trap 23
    machine = {"precision": precision, "memory_format": memory_format}
    run = tiny.run(name, **machine, conditional=name in ALGORITHMS, seed=3)
    dataset = DATA[data] if data in DATA else SIDES[data]
    whole = tiny.training(run, dataset, tmp_path)
    for step in range(4):
        if step == 2:
            saved = checkpoint.save(tmp_path, whole.seen, *whole.state())
        whole.step()
    resumed = tiny.training(run, dataset, tmp_path)
    resumed.step()  # even from a state that is not fresh
    resumed.restore(checkpoint.load(saved))
    for _ in range(2):
        resumed.step()
    assert tiny.equal(tiny.tensors(whole), tiny.tensors(resumed))
    assert json.dumps(whole.state()[1]) == json.dumps(resumed.state()[1])
    assert whole.turns.read_scores() == resumed.turns.read_scores()


# ---- micro-batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data", "conditional"), [case for case in PLAYED if case[:2] in UNCOUPLED])
def test_micro_batches_change_nothing(name: str, data: str, conditional: bool) -> None:  # trap 17
    whole, split = (training(name, data, precision="fp64", conditional=conditional, micro_batches=n) for n in (1, 4))
    for _ in range(2):
        whole.step()
        split.step()
    assert tiny.farthest(tiny.tensors(whole), tiny.tensors(split)) < ROUNDING[name not in ALGORITHMS]
    a, b = whole.turns.read_scores(), split.turns.read_scores()
    losses = [k for k in a if k.startswith(("loss/", "gradient/"))]
    assert losses
    assert [a[k] for k in losses] == pytest.approx([b[k] for k in losses], abs=ROUNDING[name not in ALGORITHMS])


def test_every_algorithm_can_split_on_some_data() -> None:
    whole = {name for name in ALGORITHMS if tiny.small_algorithm(name).coupled}
    assert {name for name, _ in UNCOUPLED} == {*ALGORITHMS, *TRANSLATORS, *VARIANTS} - whole
    assert COUPLED, "the refusal below is tried"


@pytest.mark.parametrize("name", COUPLED)
def test_coupled_samples_refuse_to_be_split(name: str) -> None:  # trap 17
    with pytest.raises(UserError, match=r"micro_batches=4: (the samples of a batch influence|a loss of this game)"):
        training(name, micro_batches=4)


def test_a_batch_that_does_not_split_is_refused() -> None:
    with pytest.raises(UserError, match="--batch-size 8: must be a multiple of processes x micro-batches = 1 x 3"):
        training("gan", micro_batches=3)


# ---- two processes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ranks.py` wrote: two gloo processes, started as by torchrun, that played every uncoupled case."""
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(HERE / "ranks.py"), str(out), json.dumps(UNCOUPLED)]
    processes = [
        subprocess.Popen(
            command,
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return out


def play(name: str, data: str, precision: str = "fp64") -> Training:
    """The game that `ranks.py` plays too: penalties, schedules, classes and a last bias included."""
    t = training(name, data, precision=precision, conditional=name in ALGORITHMS, seed=5)
    for _ in range(3):
        t.step()
    return t


@uncoupled
def test_two_ranks_equal_one(name: str, data: str, two_ranks: Path) -> None:  # trap 20
    alone = play(name, data)
    one = tiny.tensors(alone)
    ranks = [safetensors.torch.load_file(two_ranks / f"{name}-{data}-{rank}.safetensors") for rank in range(2)]
    assert tiny.equal(*ranks), "the ranks stay together to the last bit"
    assert tiny.farthest(one, ranks[0]) < ROUNDING[name not in ALGORITHMS]
    if data == "points":
        last = ("head.linear.bias", "head.linear.parametrizations.weight.original", "head.source.bias")
        assert any(key.startswith("players/D/") and key.endswith(last) for key in one)
    scores = alone.turns.read_scores()
    facts = json.loads((two_ranks / f"{name}-{data}-0.json").read_text())
    kept = [k for k in scores if not k.startswith("accuracy/") or alone.run.algorithm.boundary is not None]
    expected = pytest.approx([scores[k] for k in kept], abs=ROUNDING[name not in ALGORITHMS])
    assert [facts["scores"][k] for k in kept] == expected


@uncoupled
def test_ranks_share_out_data_and_latents(name: str, data: str, two_ranks: Path) -> None:  # trap 21
    facts = [json.loads((two_ranks / f"{name}-{data}-{rank}.json").read_text()) for rank in range(2)]
    seen = facts[0]["seen"]
    for purpose in {key for rank in facts for key in rank["drawn"]}:
        drawn = [rank["drawn"][purpose] for rank in facts]
        assert not set(drawn[0]) & set(drawn[1]), f"{purpose}: no sample twice"
        if purpose in ("real", "a"):
            assert sorted(drawn[0] + drawn[1]) == list(range(seen)), "the shards' union is what one process draws"
    assert facts[0]["drawn number"] != facts[1]["drawn number"]


def test_both_ranks_refuse_what_they_cannot_share(two_ranks: Path) -> None:
    for rank in range(2):
        assert (
            "--batch-size 7: must be a multiple of processes x micro-batches = 2 x 1"
            in (two_ranks / f"refused-{rank}.txt").read_text()
        )


# ---- export ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"), [(n, sides_of(n)[0] if n in TRANSLATORS else "grey") for n in algorithms.names()]
)
def test_what_it_trained_exports(name: str, data: str, tmp_path: Path) -> None:
    """The export itself compares with torch, on two batches (and sizes); here it is seen that it did."""
    for module in (*NEEDED, "onnxruntime"):
        pytest.importorskip(module)
    t = training(name, data, conditional=name in ALGORITHMS)
    for average in t.ema.values():
        tiny.lively(average.network)
    made = export(tiny.keep(t, tmp_path), tmp_path / "it.onnx")
    assert made.path.stat().st_size > 1000
    of_noise = ("z",) if t.run.algorithm.labels == "critic" else ("z", "label")
    assert made.inputs == (("image",) if name in TRANSLATORS else of_noise)
    assert made.difference is not None
    assert made.difference < 1e-4


# ---- mixed precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data"), [*((n, d) for n in ALGORITHMS for d in ("grey", "points")), *TRANSLATED])
def test_bf16_stays_finite_with_penalties_in_full(
    name: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # trap 14
    t = training(name, data, precision="bf16")
    kinds: set[torch.dtype] = set()
    differentiated: list[torch.dtype] = []
    gradient = torch.autograd.grad

    def spy(outputs: Tensor, inputs: Tensor, **options: object) -> tuple[Tensor, ...]:
        assert not torch.is_autocast_enabled("cpu")
        differentiated.extend((outputs.dtype, inputs.dtype))
        return gradient(outputs, inputs, **options)

    monkeypatch.setattr(penalties.torch.autograd, "grad", spy)
    for player, network in t.players.networks.items():
        for layer in network.modules() if player.startswith("D") else ():
            if isinstance(layer, nn.Linear | nn.Conv2d):  # logits of classes are made of a table in full
                layer.register_forward_hook(lambda module, args, output: kinds.add(output.dtype))
    for _ in range(3):
        t.step()
    assert torch.bfloat16 in kinds, "some of the game is played in bf16"
    assert set(differentiated) <= {torch.float32}
    assert all(bool(v.isfinite().all()) for v in tiny.tensors(t).values())
    assert all(v.dtype == torch.float32 for v in tiny.tensors(t).values() if v.is_floating_point())
    assert t.turns.skipped == 0
    uses = "penalties" in Path(sys.modules[type(t.run.algorithm).__module__].__file__ or "").read_text()
    assert bool(differentiated) == uses


# ---- BatchNorm -----------------------------------------------------------------------------------------


@every
def test_real_and_fake_pass_d_apart(name: str) -> None:  # trap 9
    """With BatchNorm in D, one pass over both would tell D which batch it is in; without, it is all one."""
    t = training(name, precision="fp64")
    real, label = t.loader.real("real", 0, 8), t.loader.label("real", 0, 8)
    fake = t.players.G(t.loader.latent("z", 0, 8), label).detach()
    d, twice = t.players.D, None if label is None else torch.cat((label, label))
    apart, together = torch.cat((d(real, label), d(fake, label))), d(torch.cat((real, fake)), twice)
    if coupled(d):
        assert not torch.allclose(apart, together, rtol=1e-3)
        calls: list[int] = []
        d.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
        t.step()
        assert set(calls) == {8}, "never both at once"
    else:
        torch.testing.assert_close(apart, together, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "conditional"), [(n, c) for n in ALGORITHMS for c in ways(n)])
@pytest.mark.parametrize("policy", ["colour", "adaptive"])
def test_every_algorithm_plays_behind_an_augmentation(name: str, policy: str, conditional: bool) -> None:
    if policy == "adaptive" and tiny.run(name).algorithm.boundary is None:
        with pytest.raises(UserError, match="--augment adaptive"):
            training(name, augment=(policy,), conditional=conditional)
        return
    t = training(name, augment=(policy,), conditional=conditional)
    for _ in range(2):
        t.step()
    assert t.turns.skipped == 0
    assert all(bool(v.isfinite().all()) for v in tiny.tensors(t).values())


def test_some_critic_has_batch_norm() -> None:  # trap 9
    assert coupled(training("dcgan").players.D)
    assert not coupled(training("wgan_gp").players.D)


def test_noise_inside_a_network_is_addressed_too() -> None:  # trap 11
    """Dropout and the like draw from torch's own generator: new at every step, the same in every run."""
    drawn: list[list[float]] = []
    for disturbance in range(2):
        t = training("gan")
        noise: list[float] = []
        t.players.D.register_forward_hook(lambda module, args, output, n=noise: n.append(float(torch.rand(1))))
        for _ in range(3):
            torch.rand(disturbance)
            t.step()
        drawn.append(noise)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == len(drawn[0])


def test_what_is_measured_is_what_is_minimised() -> None:
    """The logged loss of a turn is the mean of the loss that the paper's equation gives."""
    t = training("gan", precision="fp64")
    b = Batch(t.loader, 0, 8, 8)
    with torch.no_grad():
        expected = losses.discriminator(t.players.D(b.image, None), t.players.D(t.players.G(b.z, None), None)).mean()
    t.step()
    assert t.turns.read_scores()["loss/D"] == pytest.approx(float(expected), abs=1e-14)


def test_the_data_set_is_not_touched() -> None:
    data = tiny.images()
    before = data.values.copy()
    t = tiny.training(tiny.run("dcgan", data=dataclasses.replace(tiny.run("dcgan").data, flip=True)), data)
    t.step()
    assert np.array_equal(data.values, before)
    assert isinstance(data, ArrayDataset)
