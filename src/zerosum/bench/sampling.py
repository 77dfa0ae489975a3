"""How quick sampling is beside the same generator run plainly, what one image takes, and what bf16 does to pixels."""

from __future__ import annotations

import copy
import statistics
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import recipes, sample
from zerosum.bench.fashion import FLOORS, SOURCE
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target, at_least, at_most, below
from zerosum.bench.timing import in_turns, times_quicker
from zerosum.bench.training import settled, shortened, train
from zerosum.data.loader import scale
from zerosum.data.source import open_source
from zerosum.data.spec import Data, Spec
from zerosum.inference import Precision
from zerosum.metrics import features
from zerosum.metrics.distances import kernel_distance
from zerosum.networks import DCGAN
from zerosum.networks.strided import Double
from zerosum.recipes.base import from_settings, with_cadence
from zerosum.sample import CHUNK, Model

SEEDS = (0,)
CASES = {
    "28x28": (DCGAN(latent=100, width=32), Spec((1, 28, 28))),
    "64x64": (DCGAN(latent=100, width=64), Spec((3, 64, 64))),
}
CHUNKS, SECONDS, LEAST = 4, 15.0, 9  # of a comparison: chunks a time, how long, rounds at least
RATIO = 2.0
TRAINED = 50_000  # images that the generator whose pixels are compared was trained on
SAMPLES = 2_000
GREY_LEVELS = 0.5  # the mean difference that is small: less than rounding to whole levels can do


def measure(bench: Bench) -> Report:
    seconds, chunks = (0.0, 1) if bench.quick else (SECONDS, CHUNKS)
    rows: dict[str, list[Result]] = {}
    for name, (networks, spec) in CASES.items():
        networks = replace(networks, width=4) if bench.quick else networks
        for threads in sorted({1, bench.options.threads}):
            arm = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
            told = {"networks": str(networks), "spec": str(spec), "seconds": seconds, "chunks": chunks, "used": threads}
            work = partial(_speed, networks, spec, threads, seconds, chunks)
            rows[arm] = [bench.arm(arm.replace(", ", "-").replace(" ", "-"), 0, told, work)]
    root = None if bench.options.data is None else str(bench.options.data)
    train_data, test_data = (Data(source="fashion-mnist", root=root, split=s) for s in ("train", "test"))
    known = (
        data_record(train_data, open_source(train_data), SOURCE),
        data_record(test_data, open_source(test_data), SOURCE),
    )
    changed = [_change(bench, train_data, test_data, known, seed) for seed in bench.seeds]
    return Report(
        title="Sampling",
        about=(
            f"Plain is the generator on torch's own layers, in fp32, contiguous, in batches of {CHUNK}; ours is what "
            f"`zerosum sample` does, in padded chunks of {CHUNK}. Both end in uint8. {chunks * CHUNK} images of a "
            "DCGAN (width 32 at 28x28, 64 at 64x64 in colour), the arms in turns, medians of as many rounds as "
            f"{seconds:.0f} s hold, ratios round by round.",
            "One image: `Model.sample(1)`, which draws a whole padded chunk so that its bytes do not depend on how "
            "many are asked for; and the network alone on one latent, ours and plain.",
            f"What bf16 changes: a DCGAN of {_trained(bench):,} images of Fashion-MNIST, {_samples(bench):,} samples "
            "from the same latents, plain fp32 against bf16, in grey levels of 256; and the kernel distance of both "
            "from as many test images in weak features, beside the spread of that distance over draws of real "
            "training images.",
        ),
        data=known,
        tables=(
            Table(
                "Speed",
                (
                    Column("precision", "precision"),
                    Column("rounds", "rounds", ".0f"),
                    Column("plain_ms", "plain, ms a chunk", ".2f"),
                    Column("ours_ms", "ours, ms a chunk", ".2f"),
                    Column("rate", "ours, images/s", ",.0f"),
                    Column("ratio", "plain / ours", ".2f"),
                    Column("fp32_ratio", "plain / ours in fp32", ".2f"),
                ),
                rows,
            ),
            Table(
                "One image, ms",
                (
                    Column("single_ms", "Model.sample(1)", ".2f"),
                    Column("alone_ms", "network alone, ours", ".2f"),
                    Column("plain_alone_ms", "network alone, plain", ".2f"),
                ),
                rows,
            ),
            Table(
                "What bf16 changes",
                (
                    Column("mean", "mean difference", ".3f"),
                    Column("largest", "largest", ".0f"),
                    Column("beyond_one", "pixels off by more than 1", ".2%"),
                    Column("fp32_largest", "largest in fp32", ".0f"),
                    Column("kernel_plain", "kernel distance, plain", ".6f"),
                    Column("kernel_bf16", "bf16", ".6f"),
                    Column("floor_spread", "spread of the floor", ".6f"),
                ),
                {"dcgan": changed},
            ),
        ),
        targets=(
            *(at_least(f"{arm}: plain / ours", [r["ratio"] for r in results], RATIO) for arm, results in rows.items()),
            at_most("bf16: mean difference, grey levels", [r["mean"] for r in changed], GREY_LEVELS),
            _stays(changed),
        ),
        arithmetic="fp32, and bf16 where a table says so,",
    )  # fmt: skip


def _stays(changed: list[Result]) -> Target:
    moved = [abs(r["kernel_bf16"] - r["kernel_plain"]) / r["floor_spread"] for r in changed]
    return below("bf16: kernel distance moves, in spreads of the floor", moved, 1.0)


def _trained(bench: Bench) -> int:
    return 128 if bench.quick else TRAINED


def _samples(bench: Bench) -> int:
    return 20 if bench.quick else SAMPLES


def _model(networks: DCGAN, spec: Spec, precision: Precision) -> Model:
    """An untrained generator, whose speed is that of a trained one."""
    run = from_settings("dcgan", Data(source="noise"))
    algorithm: Any = run.algorithm
    run = replace(run, algorithm=replace(algorithm, networks=networks))
    torch.manual_seed(0)
    return Model(networks.generator(spec).requires_grad_(False), run, spec, (), 0, precision)


def _plain(generator: nn.Module) -> nn.Module:
    """The same function on torch's own layers."""
    plain = copy.deepcopy(generator)
    for parent in list(plain.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Double):
                own = nn.ConvTranspose2d(layer.in_channels, layer.out_channels, 4, 2, 1, bias=layer.bias is not None)
                own.load_state_dict(layer.state_dict())
                setattr(parent, name, own)
    return plain.eval().requires_grad_(False)


@torch.no_grad()
def _speed(networks: DCGAN, spec: Spec, threads: int, seconds: float, chunks: int) -> Result:
    torch.set_num_threads(threads)
    ours, fp32 = _model(networks, spec, "auto"), _model(networks, spec, "fp32")
    z, plain = ours.latents(chunks * CHUNK), _plain(ours.generator)
    many = in_turns(
        {
            "plain": lambda: np.concatenate([sample.to_uint8(plain(part)) for part in z.split(CHUNK)]),
            "ours": lambda: ours.values(z, None),
            "fp32": lambda: fp32.values(z, None),
        },
        seconds,
        LEAST,
    )
    one = z[:1]
    single = in_turns(
        {
            "single": lambda: ours.sample(1),
            "alone": lambda: sample.to_uint8(ours.ready(one, None)),
            "plain_alone": lambda: sample.to_uint8(plain(one)),
        },
        seconds / 3,
        LEAST,
    )
    return {
        "precision": ours.precision,
        "rounds": len(many["plain"]),
        "plain_ms": 1e3 * statistics.median(many["plain"]) / chunks,
        "ours_ms": 1e3 * statistics.median(many["ours"]) / chunks,
        "rate": len(z) / statistics.median(many["ours"]),
        "ratio": times_quicker(many["plain"], many["ours"]),
        "fp32_ratio": times_quicker(many["plain"], many["fp32"]),
        **{f"{name}_ms": 1e3 * statistics.median(times) for name, times in single.items()},
    }


def _change(bench: Bench, train_data: Data, test_data: Data, known: tuple[Any, ...], seed: int) -> Result:
    images, samples = _trained(bench), _samples(bench)
    run = replace(recipes.fashion_mnist_dcgan(), data=train_data)
    run = shortened(run) if bench.quick else with_cadence(replace(run, images=images, minutes=None), images)
    run = settled(bench, run, seed)

    def work() -> Result:
        train_set, test_set = open_source(train_data), open_source(test_data)
        model, _ = train(bench, "dcgan", run, train_set)
        plain, bf16, fp32 = (
            sample.to_uint8(sample.generate(model.generator, model.latents(samples, seed), None)),
            *(_as(model, precision).sample(samples, seed).images for precision in ("bf16", "fp32")),
        )
        difference = np.abs(plain.astype(int) - bf16)
        weak = features.cheap(train_set.spec)

        @torch.no_grad()
        def see(values: np.ndarray) -> Tensor:
            x = scale(np.array(values), torch.float32, torch.device("cpu"))
            return torch.cat([weak(part) for part in x.split(500)])

        random = np.random.default_rng(seed)
        real = see(test_set.values[random.permutation(len(test_set))[:samples]])
        floors = [
            kernel_distance(see(train_set.values[random.choice(len(train_set), samples, replace=False)]), real)
            for _ in range(FLOORS)
        ]
        return {
            "mean": float(difference.mean()),
            "largest": int(difference.max()),
            "beyond_one": float((difference > 1).mean()),
            "fp32_largest": int(np.abs(plain.astype(int) - fp32).max()),
            "kernel_plain": kernel_distance(see(plain), real),
            "kernel_bf16": kernel_distance(see(bf16), real),
            "floor_spread": max(floors) - min(floors),
        }

    return bench.arm("bf16", seed, {"run": recipe(run), "data": list(known), "samples": samples}, work)


def _as(model: Model, precision: Precision) -> Model:
    return Model(model.generator, model.run, model.spec, model.class_names, model.images_seen, precision)
