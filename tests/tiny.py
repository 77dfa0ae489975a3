"""Small data, small networks and short runs for the tests: a step takes milliseconds."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from zerosum import algorithms, checkpoint
from zerosum.data.sides import Sides
from zerosum.data.spec import Data, Dataset
from zerosum.data.store import ArrayDataset
from zerosum.game import Algorithm, Settings
from zerosum.networks import DCGAN, FastGAN, Networks, Translators, coupled
from zerosum.run import Run, to_json
from zerosum.schedule import Constant
from zerosum.session import data_record
from zerosum.trainer import Training
from zerosum.view import SilentView

TRANSLATORS = tuple(name for name in algorithms.names() if algorithms.translates(name))
"""The algorithms that make images of images, by the names of their files."""
ALGORITHMS = (*(name for name in algorithms.names() if name not in TRANSLATORS), "_template")
"""All others, which make them of noise; the template is one too."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"fastcut": ("cut", {"weight_nce": 10.0, "weight_identity": 0.0})}
"""What papers give a name of its own, by the file that it is in and the settings that make it: translators."""

LABELLED = tuple(name for name in algorithms.names() if algorithms.settings(name).algorithm.labels != "optional")
"""The algorithms that are always played with labels."""

RATE = Constant(5e-4)
SMALL = {"latent": 6, "width": 8, "widest": 16, "generator_width": 8, "depth": 2}
SMALL_TRANSLATORS = {"width": 4, "blocks": 2, "dropout": 0.0}  # dropout's numbers depend on how a batch is split


def images(shape: tuple[int, ...] = (1, 8, 8), count: int = 40, classes: int = 3) -> ArrayDataset:
    """Random images with random labels; labels are there even if a run does not use them."""
    random = np.random.default_rng([*shape, count])
    return ArrayDataset(
        random.integers(0, 256, (count, *shape), dtype=np.uint8),
        random.integers(0, classes, count) if classes else None,
        tuple(f"class {i}" for i in range(classes)),
    )


def sides(a: tuple[int, ...] = (3, 8, 12), b: tuple[int, ...] = (3, 8, 12), *, paired: bool = False) -> Sides:
    """Random images on two sides; unpaired ones differ in number."""
    random = np.random.default_rng([*a, *b])
    counts = (20, 20) if paired else (20, 17)
    both = (
        ArrayDataset(random.integers(0, 256, (count, *shape), dtype=np.uint8))
        for count, shape in zip(counts, (a, b), strict=True)
    )
    return Sides(*both, paired)


def points(count: int = 40, classes: int = 3) -> ArrayDataset:
    """Points on a circle, (count, 2) float32, labelled by where."""
    random = np.random.default_rng(count)
    label = random.integers(0, classes, count)
    angle = 2 * math.pi * label / classes
    values = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * random.standard_normal((count, 2))
    return ArrayDataset(values.astype(np.float32), label, tuple(f"class {i}" for i in range(classes)))


def photos(folder: Path, seed: int, classes: str = "ab") -> Path:
    """24 grey images of 16x16, as many of each class."""
    random = np.random.default_rng(seed)
    for number in range(24):
        path = folder / classes[number % len(classes)] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    return folder


def settings(name: str, *, toy: bool = False) -> Settings:
    """What an algorithm's file declares (the template's too, which `algorithms.settings` does not offer)."""
    file, changes = VARIANTS.get(name, (name, {}))
    module = importlib.import_module(f"zerosum.algorithms.{file}")
    found = module.TOY if toy else module.SETTINGS
    return replace(found, algorithm=replace(found.algorithm, **changes))


def small(networks: Networks | Translators) -> Networks | Translators:
    """The same kind of networks, a few units wide."""
    if isinstance(networks, Translators):
        fields = {f.name for f in dataclasses.fields(networks)}  # type: ignore[arg-type]
        changes = {name: value for name, value in SMALL_TRANSLATORS.items() if name in fields}
        return replace(networks, patch=replace(networks.patch, width=4), **changes)  # type: ignore
    fields = {f.name for f in dataclasses.fields(networks)}
    changes = {name: value for name, value in SMALL.items() if name in fields}
    if isinstance(networks, DCGAN | FastGAN):
        changes["stages"] = 2  # with one, on images of 8x8, its critic would have no BatchNorm
    return replace(networks, **changes)


def small_algorithm(name: str, *, toy: bool = False) -> Algorithm:
    """With small networks, and two critic turns to a step where the paper has more."""
    algorithm = settings(name, toy=toy).algorithm
    fewer: dict[str, Any] = {"critic_steps": 2} if algorithm.rounds > 2 else {}
    fewer |= {"pool": 6} if hasattr(algorithm, "pool") else {}
    fewer |= {"parts": 1} if hasattr(algorithm, "parts") else {}
    return replace(algorithm, networks=small(algorithm.networks), **fewer)


def run(name: str, *, toy: bool = False, **changes: Any) -> Run:
    """A short run of an algorithm with small networks and its own optimisers, at a rate that stays the same."""
    s = settings(name, toy=toy)
    usual: dict[str, Any] = {
        "data": Data(source="tiny"),
        "algorithm": small_algorithm(name, toy=toy),
        "adam_g": replace(s.adam_g, lr=RATE),
        "adam_d": replace(s.adam_d, lr=RATE),
        "batch_size": 8,
        "images": 1_000,
        "ema_half_life": s.ema_half_life,
        "precision": "fp32",
        "threads": 1,
    }
    return Run(**(usual | changes | ({"conditional": True} if name in LABELLED else {})))


def training(run: Run, dataset: Dataset | Sides, out: Path | str = "unused") -> Training:
    """A run ready to step, outside any session: nothing is written."""
    return Training(run, dataset, torch.device("cpu"), Path(out), SilentView())


def write_recipe(training: Training, out: Path) -> None:
    """Its run folder as a session begins it."""
    out.mkdir(parents=True, exist_ok=True)
    data = data_record(training.spec, training.dataset)
    (out / "recipe.json").write_text(json.dumps({"format": 1, "run": to_json(training.run), "data": data}))


def keep(training: Training, out: Path) -> Path:
    """Its run folder as a session would leave it now, with one checkpoint more."""
    write_recipe(training, out)
    checkpoint.save(out, training.seen, *training.state())
    return out


@torch.no_grad()
def lively(network: nn.Module) -> nn.Module:
    """With weights and statistics far from what they start as, so that an output depends on each of them."""
    for p in network.parameters():
        if p.dim() > 1:
            p.normal_(0, p[0].numel() ** -0.5)
        else:
            p.uniform_(0.5, 1.5)
    for name, value in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return network


def tensors(training: Training) -> dict[str, torch.Tensor]:
    """A copy of everything that a checkpoint of the run would hold."""
    return {name: value.detach().clone() for name, value in training.state()[0].items()}


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a network's parameters and buffers."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit, names and all."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def farthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest absolute difference between two sets of tensors."""
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a if a[k].numel())


def uncoupled(networks: dict[str, nn.Module]) -> bool:
    """Whether no network lets the samples of a batch influence each other."""
    return not any(coupled(network) for network in networks.values())


def replace_networks(name: str, networks: Networks) -> Algorithm:
    """An algorithm with these networks in place of its own."""
    return replace(settings(name).algorithm, networks=networks)  # type: ignore[type-var]
