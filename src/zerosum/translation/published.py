"""The generators of pytorch-CycleGAN-and-pix2pix, known by the names of their tensors, as networks of ours.

Their networks are nested nn.Sequential, so a name is made of places in it, and layers without weights leave gaps.

ResNet generator, B blocks, names `model.PLACE.`:

    place   1   2     4   5     7   8     10 .. 9+B   10+B   11+B   13+B    14+B   17+B
    is      c7  norm  d   norm  d   norm  blocks      u      norm   u       norm   c7

    in a block, `conv_block.PLACE.`: 1 convolution, 2 norm, 5 convolution, 6 norm; with dropout, which takes place 4,
    the second pair is at 6 and 7

U-Net, nested from the outside in; `model.model.` holds 0 convolution, 1 what lies inside, 3 transposed convolution.
What lies inside, under `....model.`:

    in between    1 convolution, 2 norm, 3 what lies inside, 5 transposed convolution, 6 norm (7: dropout, no tensors)
    innermost     1 convolution, 3 transposed convolution, 4 norm

Norm: batch norm has weight, bias, running_mean, running_var and, since PyTorch 0.4.1, num_batches_tracked. Instance
norm has nothing; what PyTorch up to 0.4 saved of it are running statistics, which the published code drops on loading.
Convolutions before a norm have biases with instance norm, and with batch norm until summer 2017.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from zerosum.data.spec import Spec
from zerosum.networks import ResBlocks, UNet
from zerosum.networks.translators import Norm

Tensors = Mapping[str, Tensor]
Table = dict[str, str]  # our module to theirs
Statistics = Literal["stored", "image"]

FIRST_BLOCK = 10
SIDE = 256  # pixels that a ResNet generator is described for; it takes any multiple of 4
SHALLOWEST = 3  # halvings of a U-Net, from which on its normalisation shows; the published have 5 and more
BATCH_NORM: dict[Statistics, str] = {
    "image": "batch norm by each image's own statistics, as the published test script has it; --statistics stored "
    "takes those of training, as it does with --eval",
    "stored": "batch norm by the stored statistics, as the published test script has it with --eval; --statistics "
    "image takes each image's own, as it does without",
}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
BEFORE_BLOCKS = {
    "encoder.0.conv": 1, "encoder.1.norm": 2, "encoder.1.conv": 4, "encoder.2.norm": 5, "encoder.2.conv": 7,
    "encoder.3.norm": 8,
}  # fmt: skip
BEHIND_BLOCKS = {
    "decoder.0.conv": 0, "decoder.1.norm": 1, "decoder.1.conv": 3, "decoder.2.norm": 4, "decoder.2.conv": 7,
}  # fmt: skip
WRAPPED = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod)\.")  # by DataParallel, by torch.compile
ANCHOR = re.compile(r"((?:.*\.)?)model\.(?:\d+\.conv_block\.|model\.0\.weight$)")  # what only such generators have


class NotAGenerator(Exception):
    """The tensors are of something else; the message says of what, as far as it shows."""


@dataclass(frozen=True)
class Imported:
    """Somebody else's generator as a network of ours."""

    network: nn.Module
    """In evaluation mode and float32: (n, *source.shape) -> (n, *target.shape)."""
    description: ResBlocks | UNet
    """What builds the same network again: `description.generator(source, target)`."""
    source: Spec
    """Channels and a size that it takes; it takes every multiple of `network.multiple`."""
    target: Spec
    notes: tuple[str, ...]
    """What a user should know of the reading."""


def generators(tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """What may be generators among tensors, by the name that stands before theirs ("" if none does)."""
    tensors = {WRAPPED.sub("", name): value for name, value in tensors.items()}
    heads = {match[1] for match in map(ANCHOR.match, tensors) if match}
    found = {}
    for head in sorted(heads):
        others = tuple(other for other in heads if len(other) > len(head))
        names = [name for name in tensors if name.startswith(head) and not name.startswith(others)]
        found[head.rstrip(".")] = {name.removeprefix(head): tensors[name] for name in names}
    return found


def recognise(tensors: Tensors, statistics: Statistics = "image") -> Imported:
    """The network that tensors of these names and shapes make. Raises NotAGenerator.

    `statistics` is for batch norm: "image" normalises by each image's own mean and variance, as the published test
    script does (one image at a time in training mode) unless it is told --eval; "stored" by what training has
    gathered, as it does then.
    """
    form = _form(tensors)
    description, notes = form.description, _notes(form, tensors, statistics)
    if description.norm == "batch" and statistics == "image":
        description = replace(description, norm="scaled_instance")
    source, target = (Spec((channels, form.side, form.side)) for channels in (form.inputs, form.outputs))
    with torch.device("meta"):  # shapes without values: the file's tensors become the weights themselves
        network = description.generator(source, target)
    network.load_state_dict(_renamed(network.state_dict(), tensors, form.table), assign=True)
    return Imported(network.eval(), description, source, target, notes)


def describe(tensors: Tensors) -> str:
    """What tensors that are no generator of this kind may be of."""
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    if any(name.endswith(".filt") for name in shapes):
        return "a generator of CUT's code with antialiasing; of those only what was made with --no_antialias is read"
    if any(name.endswith("conv_block.0.weight") for name in shapes):
        return "a generator with zeros around the image (before summer 2017), where later ones reflect it"
    if shapes.get("model.0.weight", ())[2:] == (4, 4) or "net.0.weight" in shapes:
        return "a critic (net_D), not a generator; give the net_G that was saved beside it"
    if "features.0.weight" in shapes:
        return "a classifier such as VGG, not a generator"
    return f"{len(shapes)} tensors of something else, such as {', '.join([*shapes][:3])}"


@dataclass(frozen=True)
class _Form:
    description: ResBlocks | UNet
    inputs: int
    outputs: int
    side: int
    table: Table


def _form(tensors: Tensors) -> _Form:
    places = {int(m[1]) for m in (re.match(r"model\.(\d+)\.conv_block\.", name) for name in tensors) if m}
    if places:
        return _resblocks(tensors, places)
    if "model.model.0.weight" in tensors:
        return _unet(tensors)
    raise NotAGenerator(describe(tensors))


def _resblocks(tensors: Tensors, places: set[int]) -> _Form:
    behind = FIRST_BLOCK + len(places)
    if places != set(range(FIRST_BLOCK, behind)):
        raise NotAGenerator(
            f"a generator with residual blocks at {min(places)} to {max(places)}, where the published ones begin at "
            f"{FIRST_BLOCK}: {describe(tensors)}"
        )
    table = {ours: f"model.{place}" for ours, place in BEFORE_BLOCKS.items()}
    table |= {ours: f"model.{behind + place}" for ours, place in BEHIND_BLOCKS.items()}
    dropout = f"model.{FIRST_BLOCK}.conv_block.5.weight" not in tensors
    for number in range(len(places)):
        block, theirs = f"encoder.{3 + number}.block", f"model.{FIRST_BLOCK + number}.conv_block"
        for ours, place in {"conv1": 1, "norm1": 2, "conv2": 5 + dropout, "norm2": 6 + dropout}.items():
            table[f"{block}.{ours}"] = f"{theirs}.{place}"
    norm, bias = _norm(tensors, table["encoder.0.conv"], table["encoder.1.norm"])
    width, inputs = _shape(tensors, table["encoder.0.conv"])
    outputs, _ = _shape(tensors, table["decoder.2.conv"])
    description = ResBlocks(width=width, blocks=len(places), norm=norm, dropout=0.5 if dropout else 0.0, bias=bias)
    return _Form(description, inputs, outputs, SIDE, table)


def _unet(tensors: Tensors) -> _Form:
    inside = ["model.model.1.model"]
    while f"{inside[-1]}.3.model.1.weight" in tensors:
        inside.append(f"{inside[-1]}.3.model")
    depth = len(inside) + 1
    if depth < SHALLOWEST:
        raise NotAGenerator(f"a U-Net that halves the image {depth} times only; the published do so 5 times and more")
    table = {"encoder.0.conv": "model.model.0", f"decoder.{depth - 1}.conv": "model.model.3"}
    for level, theirs in enumerate(inside, 1):
        innermost = level == depth - 1
        up = f"decoder.{depth - 1 - level}"
        table |= {f"encoder.{level}.conv": f"{theirs}.1", f"{up}.conv": f"{theirs}.{3 if innermost else 5}"}
        table[f"{up}.norm"] = f"{theirs}.{4 if innermost else 6}"
        if not innermost:
            table[f"encoder.{level}.norm"] = f"{theirs}.2"
    norm, bias = _norm(tensors, table["encoder.1.conv"], table["encoder.1.norm"])
    width, inputs = _shape(tensors, table["encoder.0.conv"])
    _, outputs = _shape(tensors, table[f"decoder.{depth - 1}.conv"])
    return _Form(UNet(width=width, depth=depth, norm=norm, bias=bias), inputs, outputs, 2**depth, table)


def _norm(tensors: Tensors, conv: str, norm: str) -> tuple[Norm, bool]:
    """The normalisation of a layer, and whether the convolution before it has biases."""
    biased = f"{conv}.bias" in tensors
    if f"{norm}.weight" in tensors:
        return "batch" if f"{norm}.running_mean" in tensors else "scaled_instance", biased
    return ("instance", True) if biased else ("none", False)


def _shape(tensors: Tensors, conv: str) -> tuple[int, int]:
    """The first two sizes of a convolution's weights."""
    weight = tensors.get(f"{conv}.weight")
    if weight is None or weight.dim() != 4 or not weight.numel():
        raise NotAGenerator(f"almost a published generator, but {conv}.weight is not that of a convolution")
    return weight.shape[0], weight.shape[1]


def _renamed(wanted: Tensors, tensors: Tensors, table: Table) -> dict[str, Tensor]:
    """Every tensor of the network by our names, from theirs. Raises NotAGenerator unless both sides come out even."""
    state, used = {}, set[str]()
    for name, like in wanted.items():
        module, _, leaf = name.rpartition(".")
        theirs = f"{table[module]}.{leaf}"
        value = tensors.get(theirs)
        if value is None and ((leaf == "bias" and "conv" in module) or leaf == "num_batches_tracked"):
            value = torch.zeros(like.shape, dtype=like.dtype)  # what its absence means
        if value is None or value.shape != like.shape:
            found = "is missing" if value is None else f"is {tuple(value.shape)}, not {tuple(like.shape)}"
            raise NotAGenerator(f"almost a published generator, but {theirs} {found}")
        if not torch.isfinite(value).all():
            raise NotAGenerator(f"a generator whose {theirs} holds values that are not finite: its training had failed")
        state[name] = value.to(like.dtype)
        used.add(theirs)
    norms = {f"{theirs}.{leaf}" for ours, theirs in table.items() if ".norm" in ours for leaf in STATISTICS}
    strange = [name for name in tensors if name not in used and name not in norms]
    if strange:
        raise NotAGenerator(f"almost a published generator, but {strange[0]} has no place in one")
    return state


def _notes(form: _Form, tensors: Tensors, statistics: Statistics) -> tuple[str, ...]:
    notes = []
    if form.description.norm == "instance" and any(name.rpartition(".")[2] in STATISTICS for name in tensors):
        notes.append("running statistics of its instance norm are left out, as the published code does")
    if form.description.norm == "batch":
        notes.append(BATCH_NORM[statistics])
    if isinstance(form.description, UNet):
        notes.append("whether a U-Net was trained with dropout does not show: 0.5 is assumed, in training alone")
    return tuple(notes)
