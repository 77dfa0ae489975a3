"""Images a second of the 64x64 DCGAN: the textbook's loop, our engine switch by switch, and what the machine can do."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from zerosum import calibrate
from zerosum.algorithms.dcgan import DCGAN
from zerosum.bench import textbook
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target, at_least
from zerosum.bench.textbook import Textbook
from zerosum.bench.timing import in_turns, times_quicker
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.ema import EMA
from zerosum.engine import can_compile, has_fast_bf16
from zerosum.networks import DCGAN as Convolutional
from zerosum.recipes import quickest
from zerosum.recipes.base import from_settings
from zerosum.run import Run
from zerosum.trainer import Training
from zerosum.view import SilentView

SEEDS = (0, 1, 2)
SIDE, CHANNELS, WIDTH = 64, 3, 64
NOISE = Data(source="noise")
SECONDS = 60.0  # of all arms together, a seed
RATIO, SHARE = 2.3, 0.75  # wanted, where the processor multiplies bf16
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Step:
    """One way to train: `play` takes a step on `batch` images."""

    play: Callable[[], object]
    batch: int


def measure(bench: Bench) -> Report:
    dataset, run = _noise(bench.quick), _run(bench.quick)
    protocol = {"run": recipe(run), "data": dataset.fingerprint, "seconds": SECONDS, "bf16": has_fast_bf16()}
    results = [
        bench.arm("dcgan64", seed, protocol, partial(_compare, bench, dataset, replace(run, seed=seed)))
        for seed in bench.seeds
    ]
    parts = [bench.arm("switches", s, protocol, partial(_switches, bench, dataset, run)) for s in bench.seeds[:1]]
    ladder = {name: [r["arms"][name] for r in results] for name in results[0]["arms"]}
    median = {key: statistics.median(r[key] for r in results) for key in ("ours", "textbook", "bound")}
    fast = has_fast_bf16()
    return Report(
        title="Throughput of the 64x64 DCGAN",
        about=(
            f"Radford's networks at {SIDE}x{SIDE} pixels and width {WIDTH}, batches of 64, BatchNorm in both, Adam. "
            "The textbook is a plain loop as tutorials have it: fp32, eager, G's fakes serve both players, D collects "
            "gradients of its weights in G's turn too. Ours is `zerosum train --algorithm dcgan`, with averaged "
            "weights and the log. The arms take turns step by step; medians.",
            "The bound is what a step would make if all its arithmetic ran as quickly as the networks' inner "
            "convolutions do here in bf16, channels last, forward and both backwards, each alone: no norms, no "
            "activations, no optimiser, no first and last layer. It counts only the arithmetic that a step needs.",
            "The table of switches takes one thing at a time from the quickest arm: milliseconds of a step.",
        ),
        data=(data_record(NOISE, dataset, "uniform noise as uint8 images, from a fixed key: speed asks for no more"),),
        tables=(
            Table("Images a second", (
                Column("rate", "images/s", ",.1f"),
                Column("ratio", "times the textbook", ".2f"),
                Column("share", "of the bound", ".1%"),
            ), ladder),
            Table("The bound", (
                Column("bf16_gflops", "inner convolutions, bf16 GFLOP/s", ",.0f"),
                Column("gflop", "a step needs, GFLOP an image", ".2f"),
                Column("bound", "bound, images/s", ",.0f"),
            ), {"this machine": results}),
            Table("Switches, ms a step", tuple(Column(k, k, ".2f") for k in parts[0]), {"this machine": parts}),
        ),
        targets=(
            at_least("ours / textbook", [r["ratio"] for r in results], RATIO, ".2f"),
            at_least("share of the bf16 convolution bound", [r["share"] for r in results], SHARE, ".1%"),
        ) if fast else (Target("a processor that multiplies bf16", "yes", "no", False),),
        headline={
            **median, "ratio": statistics.median(r["ratio"] for r in results),
            "bound_share": statistics.median(r["share"] for r in results),
        },
        arithmetic="as each arm says",
    )  # fmt: skip


def _run(quick: bool) -> Run:
    run = from_settings("dcgan", NOISE)
    width = 8 if quick else WIDTH
    return replace(run, algorithm=DCGAN(networks=Convolutional(latent=textbook.LATENT, width=width)), images=10**9)


def _noise(quick: bool) -> ArrayDataset:
    random = np.random.default_rng(0)
    return ArrayDataset(random.integers(0, 256, (100 if quick else 5_000, CHANNELS, SIDE, SIDE), dtype=np.uint8))


def _compare(bench: Bench, dataset: ArrayDataset, run: Run) -> Result:
    threads = bench.options.threads
    width = 8 if bench.quick else WIDTH
    loop = Textbook(dataset.values, run.seed, width=width)
    with tempfile.TemporaryDirectory() as folder:
        arms = {"textbook": Step(loop.step, textbook.BATCH)}
        for name, changed in _ladder(run, threads).items():
            training = Training(changed, dataset, CPU, Path(folder), SilentView())
            arms[name] = Step(training.step, run.batch_size)
        torch.set_num_threads(threads)
        taken = in_turns({name: arm.play for name, arm in arms.items()}, 0 if bench.quick else SECONDS)
        _, chosen = quickest(replace(run, threads=threads), dataset, "cpu", 0.1 if bench.quick else 2.0)
    torch.set_num_threads(threads)
    bf16_gflops = _inner_convolutions(64 if not bench.quick else 2, width, 0.02 if bench.quick else 1.0)
    gflop = _needed(width)
    bound = bf16_gflops / gflop
    rows = {
        name: {
            "rate": arm.batch / statistics.median(taken[name]),
            "ratio": times_quicker(taken["textbook"], taken[name]),
            "share": arm.batch / statistics.median(taken[name]) / bound,
        }
        for name, arm in arms.items()
    }
    ours = next(name for name, r in _ladder(run, threads).items() if _same(r, chosen))
    return {
        "arms": rows, "rounds": len(taken["textbook"]), "chosen": ours,
        "ours": rows[ours]["rate"], "textbook": rows["textbook"]["rate"], "ratio": rows[ours]["ratio"],
        "bf16_gflops": bf16_gflops, "gflop": gflop, "bound": bound, "share": rows[ours]["share"],
    }  # fmt: skip


def _ladder(run: Run, threads: int) -> dict[str, Run]:
    """Our engine, a switch more in every arm."""

    def at(precision: Any, memory_format: Any, compile: Any = "off") -> Run:
        return replace(run, precision=precision, memory_format=memory_format, compile=compile, threads=threads)

    arms = {"ours, fp32": at("fp32", "contiguous"), "ours, fp32, channels last": at("fp32", "channels_last")}
    if has_fast_bf16():
        arms["ours, bf16, channels last"] = at("bf16", "channels_last")
    best = list(arms.values())[-1]
    if can_compile():
        arms[f"ours, {best.precision}, channels last, compiled"] = replace(best, compile="on")
    return arms


def _same(a: Run, b: Run) -> bool:
    return (a.precision, a.memory_format, a.compile) == (b.precision, b.memory_format, b.compile)


# --- what the machine can do -----------------------------------------------------------------------------------------


def _inner_convolutions(batch: int, width: int, seconds: float) -> float:
    """10^9 operations a second in bf16, channels last: forward and both backwards of the inner 4x4 convolutions."""
    operations = spent = 0.0
    for i, (a, b) in enumerate(pairwise(textbook.widths(SIDE, width))):
        side = SIDE >> (i + 1)
        x = _laid(torch.randn(batch, a, side, side))
        w = _laid(torch.randn(b, a, 4, 4))
        y = F.conv2d(x, w, stride=2, padding=1)
        ops = 2 * y.numel() * a * 16
        back = partial(torch.ops.aten.convolution_backward, y, x, w, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1)
        for work in (
            partial(F.conv2d, x, w, stride=2, padding=1),
            partial(back, [True, False, False]),
            partial(back, [False, True, False]),
        ):
            with torch.no_grad():
                spent += ops / calibrate.rate(work, ops, seconds / 9) / 1e9
            operations += ops
    return operations / spent / 1e9


def _laid(x: Tensor) -> Tensor:
    return x.bfloat16().contiguous(memory_format=torch.channels_last)


def _needed(width: int) -> float:
    """10^9 operations an image of one step on shared fakes: G forward and back; D on real and fake, and once more for
    G, without the gradients of its weights; nobody's gradient by a first layer's input that nothing needs."""
    G, D = textbook.generator(CHANNELS, SIDE, width), textbook.critic(CHANNELS, SIDE, width)
    with torch.no_grad():
        g = _operations(lambda: G(torch.randn(1, textbook.LATENT, 1, 1)))
        d = _operations(lambda: D(torch.randn(1, CHANNELS, SIDE, SIDE)))
        first = _operations(lambda: D[0](torch.randn(1, CHANNELS, SIDE, SIDE)))
    return (3 * g + 6 * d - 2 * first + 2 * d) / 1e9


def _operations(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


# --- one thing at a time ---------------------------------------------------------------------------------------------


def _switches(bench: Bench, dataset: ArrayDataset, run: Run) -> Result:
    """What each of the engine's other choices takes, and what it replaces would take, in milliseconds a step."""
    threads = bench.options.threads
    run = list(_ladder(run, threads).values())[-1 - can_compile()]
    with tempfile.TemporaryDirectory() as folder:
        training, other = (Training(run, dataset, CPU, Path(folder), SilentView()) for _ in range(2))
        torch.set_num_threads(threads)
        G, D = (training.players.networks[name] for name in "GD")
        for network in (G, D):
            for p in network.parameters():
                p.grad = torch.randn_like(p)
        both = [*G.parameters(), *D.parameters()]
        gradients = [p.grad for p in both if p.grad is not None]
        adams = {
            f"Adam, {how}": torch.optim.Adam(both, 0.0, fused=how == "fused", foreach=how == "foreach").step
            for how in ("fused", "foreach", "one by one")
        }
        average = EMA(G)
        pairs = list(zip(average.network.parameters(), G.parameters(), strict=True))
        copied = list(zip(average.network.buffers(), G.buffers(), strict=True))

        @torch.no_grad()
        def one_by_one() -> None:
            for mine, live in pairs:
                mine.lerp_(live, 1e-3)
            for kept, buffer in copied:
                kept.copy_(buffer)

        works: dict[str, Callable[[], object]] = {
            **adams,
            "average, one pass": lambda: average.update(64, 10_000.0),
            "average, one by one": one_by_one,
            "the guard": lambda: torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))),
        }
        z = torch.randn(run.batch_size, textbook.LATENT)
        for name, thawed in (("G's turn, D idle", False), ("G's turn, D with gradients", True)):
            works[name] = partial(_g_turn, other, z, thawed)
        taken = in_turns(works, 0 if bench.quick else SECONDS)
    return {name: 1e3 * statistics.median(times) for name, times in taken.items()}


def _g_turn(training: Training, z: Tensor, thawed: bool) -> None:
    networks = training.players.networks
    training.turns.thaw("G", *("D" * thawed))
    with training.engine.forward():
        logits = networks["D"](networks["G"](z))
    F.softplus(-logits).mean().backward()
    for network in networks.values():
        network.zero_grad()
