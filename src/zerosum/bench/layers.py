"""What the layers of a Progressive GAN cost beside its bare convolutions: equalised, normalised, fading, augmented."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zerosum import sample, session
from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.bench import protocol
from zerosum.bench.protocol import Bench, Result
from zerosum.bench.report import Column, Report, Table, at_most
from zerosum.bench.timing import in_turns, times_quicker
from zerosum.data import sizes
from zerosum.data.adaptive import Adaptive
from zerosum.data.augment import POLICIES, augment
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.engine import GRAPHS, Engine
from zerosum.exports import export
from zerosum.game import LATE
from zerosum.networks import Progressive, progressive
from zerosum.networks.blocks import MinibatchStd
from zerosum.networks.growing import Growing
from zerosum.recipes import images as image_recipes
from zerosum.trainer import Training
from zerosum.view import SilentView

SEEDS = (0,)
SPEC, BATCH = Spec((3, 64, 64)), 16
SECONDS = 60.0  # of all arms together
SIZES, FEW = (64, 128, 256), 4  # and images to a batch
EAGER, COMPILED = 1.35, 1.15
P = 0.5  # how often adaptive augmentation changes an image in each of its ways
Part = Literal["equalised", "normalised", "spread", "fading"]
PARTS: dict[Part, str] = {
    "equalised": "equalised weights", "normalised": "pixelwise normalisation", "spread": "minibatch standard deviation",
    "fading": "a size fading in",
}  # fmt: skip
Shown = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What this benchmark can be told beside what every benchmark can."""

    compiled: bool = True
    """Also compiled, which takes some minutes before anything is measured."""


OPTIONS = Options
COLUMNS = (
    Column("ms", "ms a step", ".1f"), Column("times", "times the bare convolutions", ".3f"), Column("rounds", "rounds"),
)  # fmt: skip
SIZED = (
    Column("built", "to build, s", ".2f"), Column("step", "a step, s", ".2f"),
    Column("samples", "to load and draw 4, s", ".2f"), Column("export", "to export, s", ".1f"),
)  # fmt: skip


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    networks = Progressive(width=4, widest=8) if bench.quick else Progressive()
    tables, targets = [], []
    for compiled in (False, True) if options.compiled and not bench.quick else (False,):
        words = "compiled" if compiled else "eager"
        told = {"networks": protocol.named(networks), "shape": SPEC.shape, "batch": BATCH, "compiled": compiled, "p": P}
        work = partial(_times, networks, compiled, 0.0 if bench.quick else SECONDS)
        found = [bench.arm(words, seed, told, partial(work, seed)) for seed in bench.seeds]
        rows = {name: [one[name] for one in found] for name in found[0]}
        tables.append(Table(f"A turn of D and one of G, {words}", COLUMNS, rows))
        most = COMPILED if compiled else EAGER
        targets += [
            at_most(f"{words}: {name}, times the bare convolutions", [one["times"] for one in rows[name]], most, ".2f")
            for name in rows
            if name.startswith("all")
        ]
    sides = (16,) if bench.quick else SIZES
    rows = {
        f"{side}x{side}": [bench.arm(f"size-{side}", 0, {"size": side}, partial(_sized, bench, side))] for side in sides
    }
    tables.append(Table(f"Larger sizes, in the middle of the last fade, batches of {FEW}", SIZED, rows))
    return Report(
        title="What the layers of a Progressive GAN cost", about=ABOUT, data=(), tables=tuple(tables),
        targets=tuple(targets), arithmetic="fp32",
    )  # fmt: skip


ABOUT = (
    f"Forward and backward of D on {BATCH} real and {BATCH} generated images of 64x64 in colour, then of G through D, "
    "with the logistic loss and no penalty or optimiser. Bare are the same convolutions with the weights as they are "
    "used, LeakyReLU between them, and a feature of zeros where the minibatch's spread would be (z and the smallest "
    "size are normalised in all of them).",
    f"DiffAugment is colour, translation and cutout; adaptive augmentation has p = {P:g}. What D sees passes them, "
    "real and fake, in both turns. The arms take turns; ratios are medians over rounds.",
    "Compiled: both networks, as `--compile` has them; augmentation is not.",
    "Larger sizes: the game that `--algorithm progressive` has, in colour and fp32, on noise. A step has both turns "
    "and R1; export is to ONNX, held against torch.",
)


def _sized(bench: Bench, side: int) -> Result:
    """Seconds that a game of images of this size takes for each thing that is done with it."""
    torch.set_num_threads(bench.options.threads)
    dataset = ArrayDataset(np.random.default_rng(side).integers(0, 256, (2 * FEW, 3, side, side), dtype=np.uint8))
    base = image_recipes.growing(Data(source="noise"))
    assert isinstance(base.algorithm, ProgressiveGAN)
    stages = sizes.halvings(side, side)
    # All sizes at once but the last, which takes for ever: alpha is between 0 and 1, and every layer there.
    game = replace(base.algorithm, growth=(0,) * stages, fades=(0,) * (stages - 1) + (LATE,))
    run = replace(
        base, algorithm=game, batch_size=FEW, images=2 * FEW, minutes=None, precision="fp32", compile="off",
        memory_format="contiguous", threads=bench.options.threads,
    )  # fmt: skip
    folder = bench.runs / bench.name / f"size-{side}"
    if folder.exists():
        shutil.rmtree(folder)
    seconds = dict[str, float]()
    began = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal began
        seconds[what] = time.perf_counter() - began
        began = time.perf_counter()

    training = Training(run, dataset, torch.device("cpu"), folder, SilentView())
    lap("built")
    training.step()
    began = time.perf_counter()  # the first one also allocates
    training.step()
    lap("step")
    session.start(run, dataset, folder, device="cpu")
    began = time.perf_counter()
    model = sample.load(folder, precision="fp32")
    model.sample(FEW)
    lap("samples")
    export(folder, folder / "generator.onnx")
    lap("export")
    return dict(seconds)


def _times(networks: Progressive, compiled: bool, seconds: float, seed: int) -> Result:
    # As many graphs as there are arms and kinds of calls; one too many must not quietly be eager.
    with torch._dynamo.config.patch(recompile_limit=GRAPHS, fail_on_recompile_limit_hit=True):
        return _taken(partial(_step, networks, compiled, seed), compiled, seconds)


def _taken(ready: Callable[..., Callable[[], None]], compiled: bool, seconds: float) -> Result:
    everything = frozenset(PARTS)
    arms = {"bare convolutions": ready(frozenset())}
    if not compiled:  # each costs a minute of compiling
        arms |= {name: ready(frozenset({part})) for part, name in PARTS.items()}
        arms["DiffAugment"] = ready(frozenset(), _diffaugment)
        arms["adaptive augmentation"] = ready(frozenset(), _adaptive())
    arms["all of these layers"] = ready(everything)
    arms["all, with DiffAugment"] = ready(everything, _diffaugment)
    arms["all, with adaptive augmentation"] = ready(everything, _adaptive())
    taken = in_turns(arms, seconds)
    bare = taken["bare convolutions"]
    return {
        name: {"ms": 1e3 * statistics.median(times), "times": times_quicker(times, bare), "rounds": len(times)}
        for name, times in taken.items()
    }


def _step(
    networks: Progressive, compiled: bool, seed: int, parts: frozenset[Part], shown: Shown | None = None
) -> Callable[[], None]:
    """A turn of each player, with these parts of the networks and the others taken out."""
    torch.manual_seed(seed)
    engine = Engine(torch.device("cpu"), compile=compiled)
    g, d = networks.generator(SPEC), networks.critic(SPEC)
    for network in (g, d):
        assert isinstance(network, Growing)
        network.grow(network.stages - (0.5 if "fading" in parts else 0.0))
        _without(network, parts)
    quick_g, quick_d = engine.compiled(g), engine.compiled(d)
    z, x = torch.randn(BATCH, networks.latent), torch.rand(BATCH, *SPEC.shape) * 2 - 1

    def says(images: Tensor) -> Tensor:
        return quick_d(images if shown is None else shown(images))

    def step() -> None:
        with torch.no_grad():
            fake = quick_g(z)
        d.requires_grad_(True)
        assert isinstance(d, Growing)
        (F.softplus(-says(d.faded(x))) + F.softplus(says(fake))).mean().backward()
        d.requires_grad_(False)
        F.softplus(-says(quick_g(z))).mean().backward()
        for network in (g, d):
            network.zero_grad()

    return step


def _without(network: nn.Module, parts: frozenset[Part]) -> None:
    """Take out what is not in `parts`."""
    for module in list(network.modules()):
        if "equalised" not in parts and parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        if "normalised" not in parts and isinstance(module, progressive.Conv):
            module.normed = False
        for name, child in list(module.named_children()):
            if "spread" not in parts and isinstance(child, MinibatchStd):
                setattr(module, name, _Zeros())


class _Zeros(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(len(x), 1, *x.shape[2:])], 1)


def _diffaugment(x: Tensor) -> Tensor:
    return augment(x, POLICIES)


def _adaptive() -> Adaptive:
    adaptive = Adaptive(1)
    adaptive.p.fill_(P)
    return adaptive
