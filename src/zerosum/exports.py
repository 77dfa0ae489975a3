"""A trained generator as one ONNX file, for programs that have neither Python nor torch.

What is written computes in fp32, in evaluation mode, for a batch of any number and, of a translator, images of any size
that the network takes. The file says in its metadata what it is and how its numbers are scaled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from zerosum import atomic, sample
from zerosum import run as runs
from zerosum.data.spec import Direction, Spec
from zerosum.errors import UserError
from zerosum.networks import Translators
from zerosum.sample import Model
from zerosum.translation import imported
from zerosum.translation.load import load
from zerosum.translation.model import Translator

NEEDED = ("onnx", "onnxscript")  # by torch's exporter
INSTALL = "pip install 'zerosum[onnx]'"
OPSET = 18  # the oldest that torch's exporter writes without converting, for the sake of older readers
LARGEST_BYTES = 2_000_000_000  # of weights: a protobuf message ends at 2 GiB
TOLERANCE = 1e-3  # of outputs in [-1, 1]: an eighth of a grey level of 8 bits
SYNTHETIC = "images it makes are synthetic"
SCALING = (
    "x = 2 (v - low) / (high - low) - 1 for stored values v; "
    "v = low + (x + 1) / 2 (high - low), rounded to nearest where stored as whole numbers"
)


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    inputs: tuple[str, ...]
    output: str
    difference: float | None
    """The largest absolute difference between onnxruntime and torch that was seen; None without onnxruntime."""


def export(
    path: str | Path, out: str | Path, *, direction: Direction | None = None, checkpoint: str = "last"
) -> Exported:
    """Write the averaged generator of a run's folder, or an imported one, as the file `out`.

    Inputs are `z` (n, latent), from a normal distribution, and with classes `label` (n,) int64; or, of a translator,
    `image` (n, C, H, W) in [-1, 1]. The output is `image` (n, C, H, W) in [-1, 1], `points` (n, d), or `translation`
    (n, C', H, W) in [-1, 1]. `direction` is the way of a translator, that which it was trained for if not given;
    `checkpoint` is last, best, or images seen as text. If onnxruntime is here, it runs what is to be written, and
    nothing is written unless it agrees with torch within 1e-3. Raises UserError.
    """
    path, out = Path(path), Path(out)
    if out.suffix.lower() != ".onnx":
        raise UserError(f"{out}: give the name of a file that ends in .onnx")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{out}: {' and '.join(missing)}, which ONNX files are written with, is not here; {INSTALL}")
    if imported.is_imported(path):
        plan = _of_translator(load(path, checkpoint, "fp32"), direction)
        content = (path / imported.MODEL).read_bytes()
        made_by = {"algorithm": "imported", "recipe_sha256": hashlib.sha256(content).hexdigest()}
    else:
        recipe = sample.read_recipe(path)
        algorithm = runs.from_json(recipe["run"]).algorithm
        made_by = {"algorithm": type(algorithm).__name__, "recipe_sha256": sample.seal(recipe)}
        if isinstance(algorithm.networks, Translators):
            plan = _of_translator(load(path, checkpoint, "fp32"), direction)
        elif direction is None:
            plan = _of_noise(sample.load(path, checkpoint, "fp32"), path)
        else:
            raise UserError(f"--direction {direction}: {path} makes images of noise, which has no sides; leave it out")
    data = _onnx(plan, plan.facts | made_by | _everywhere(), path)
    difference = _difference(data, plan, out)
    atomic.write_file(out, data)
    return Exported(out, plan.inputs, plan.output, difference)


@dataclass(frozen=True, eq=False)
class _Plan:
    """A network, and what is to be said of it. The last of the trials is what the exporter traces."""

    network: nn.Module
    inputs: tuple[str, ...]
    output: str
    axes: tuple[dict[int, Any], ...]
    """Of every input, the axes that are not fixed."""
    trials: Sequence[tuple[Tensor, ...]]
    """Inputs to compare on: one sample, and several of another size."""
    facts: dict[str, str]


class _OfNoise(nn.Module):
    """The generator, kept within what its images can show."""

    def __init__(self, network: nn.Module, bounded: bool) -> None:
        super().__init__()
        self.network, self.bounded = network, bounded

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.network(z, label)
        return x.clamp(-1, 1) if self.bounded else x


def _of_noise(model: Model, path: Path) -> _Plan:
    trials: list[tuple[Tensor, ...]] = []
    for n in (1, 3):
        z, label = model.latents(n), model.labels(n, None)
        trials.append((z,) if label is None else (z, label))
    output = "image" if model.spec.is_image else "points"
    facts = {
        "name": path.resolve().name, "images_seen": str(model.images_seen),
        "z": f"{model.latent} numbers from the standard normal distribution", output: _described(model.spec),
    }  # fmt: skip
    if model.spec.classes:
        facts["label"] = json.dumps(model.class_names, ensure_ascii=False)
    inputs = ("z", "label")[: len(trials[0])]
    network = _OfNoise(model.generator, model.spec.is_image).eval()
    return _Plan(network, inputs, output, ({0: Dim("n")},) * len(inputs), trials, facts)


def _of_translator(translator: Translator, direction: Direction | None) -> _Plan:
    route, way = translator.route(direction), direction or translator.default
    k = route.multiple
    channels, height, width = route.source.shape
    random = torch.Generator().manual_seed(0)
    sizes = ((1, channels, height, width), (3, channels, height + k, width + 2 * k))
    trials = [(torch.rand(size, generator=random) * 2 - 1,) for size in sizes]
    origin = dict(translator.origin)
    facts = {
        "name": origin.pop("run", None) or origin.pop("model"), **origin, "direction": way,
        "multiple": str(k), "image": _described(route.source), "translation": _described(route.target),
    }  # fmt: skip
    axes = {0: Dim("n"), 2: k * Dim("h"), 3: k * Dim("w")}
    return _Plan(route.generator, ("image",), "translation", (axes,), trials, facts)


def _described(spec: Spec) -> str:
    """Shape of one sample, and how its values are stored elsewhere."""
    shape: dict[str, Any] = {"shape": spec.shape}
    return json.dumps(shape | dataclasses.asdict(spec.depth) if spec.is_image else shape)


def _everywhere() -> dict[str, str]:
    from zerosum import __version__

    return {"zerosum": __version__, "scaling": SCALING, "provenance": SYNTHETIC}


def _onnx(plan: _Plan, facts: Mapping[str, str], path: Path) -> bytes:
    """The file. UserError where the network is too large, or does what ONNX cannot express."""
    size = sum(t.numel() * t.element_size() for t in plan.network.state_dict().values())
    if size > LARGEST_BYTES:
        raise UserError(
            f"{path}: its generator has {size / 1e9:.1f} GB of weights, and an ONNX file holds "
            f"{LARGEST_BYTES / 1e9:.1f}; train a narrower one"
        )
    muted = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # the exporter speaks of its own workings; where it fails it prints whole graphs
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                plan.network, plan.trials[-1], input_names=plan.inputs, output_names=[plan.output],
                dynamic_shapes=plan.axes, opset_version=OPSET, dynamo=True, verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(
            f"{path}: its network does what ONNX cannot express ({reason}); write that part with torch's own layers"
        ) from error
    finally:
        logging.disable(muted)
    assert program is not None
    model = program.model
    for graph in (model.graph, *model.functions.values()):
        for node in graph:  # where in whose files each of them was written
            node.metadata_props.clear()
            node.doc_string = None
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props.update(facts)
    return program.model_proto.SerializeToString()


def _difference(data: bytes, plan: _Plan, out: Path) -> float | None:
    """The largest absolute difference between onnxruntime and torch; None without it. UserError if it is too large."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    differences = []
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for given in plan.trials:
            with torch.inference_mode():
                wanted = plan.network(*given).numpy()
            arrays = {name: x.numpy() for name, x in zip(plan.inputs, given, strict=True)}
            differences.append(np.abs(session.run([plan.output], arrays)[0] - wanted).max())
    except Exception as error:  # onnxruntime has a class for every failure, and no common one
        raise UserError(f"{out}: was not written: onnxruntime cannot run it ({error}); {INSTALL} --upgrade") from error
    worst = float(np.max(differences))
    if not worst <= TOLERANCE:  # nor if it is not a number
        raise UserError(
            f"{out}: was not written: onnxruntime and torch differ by {worst:.2g}, more than {TOLERANCE:g}; "
            f"{INSTALL} --upgrade"
        )
    return worst
