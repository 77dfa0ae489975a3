"""From a trained run to images: the only way back to stored values.

Work is done in chunks of a fixed size, the last one padded, so that sample number i of a seed has the same bytes
whatever is asked for beside it (the same machine and thread count taken for granted).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import checkpoint, inference, pictures, randomness, snapshot
from zerosum import run as runs
from zerosum.data.depth import EIGHT_BITS, Depth
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks import Translators
from zerosum.runlog import RECIPE

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 64
MOST_COLUMNS = 16  # classes that a grid can name above its columns


def to_uint8(x: Tensor) -> np.ndarray:
    """[-1, 1] to 0 .. 255, clamped and rounded to nearest: the inverse of `data.loader.scale`."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def to_stored(x: Tensor, depth: Depth) -> np.ndarray:
    """[-1, 1] to the values that `depth` stores, clamped, whole numbers rounded to nearest: inverse of `loader.scale`.

    `x` (any shape) must be float32 or float64 where `depth.wide`: bf16 has no more than 8 bits to give.
    """
    if depth == EIGHT_BITS:
        return to_uint8(x)
    values = x.detach().cpu().double().numpy()
    values = np.clip((values + 1) / 2 * (depth.high - depth.low) + depth.low, depth.low, depth.high)
    return (values if depth.stored == "float32" else values.round()).astype(depth.dtype)


@torch.no_grad()
def chunks(generator: nn.Module, z: Tensor, label: Tensor | None) -> Iterator[Tensor]:
    """G(z) for any number of latents (N, latent), in eval mode: padded chunks of CHUNK, each (n, ...), on the CPU."""
    if generator.training:
        raise ValueError("sample from a generator in eval mode: BatchNorm would mix the samples")
    for start in range(0, len(z), CHUNK):
        piece = z[start : start + CHUNK]
        kind = None if label is None else label[start : start + CHUNK]
        missing = CHUNK - len(piece)
        if missing:
            piece = torch.cat((piece, piece.new_zeros(missing, piece.shape[1])))
            kind = None if kind is None else torch.cat((kind, kind.new_zeros(missing, *kind.shape[1:])))
        yield generator(piece, kind)[: CHUNK - missing].cpu()


def generate(generator: nn.Module, z: Tensor, label: Tensor | None) -> Tensor:
    """All of `chunks` in one tensor (N, ...), as the generator made them."""
    return torch.cat(list(chunks(generator, z, label)))


def picture(x: Tensor, spec: Spec, real: np.ndarray | None = None, columns: int | None = None) -> Image.Image:
    """Samples as one picture: a grid of images, or a scatter of points (over the real ones, if given)."""
    if spec.is_image:
        return pictures.grid(to_uint8(x), columns=columns)
    return pictures.scatter(x.float().numpy(), real=real)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation between latents a and b, (d,) each, at the fractions t (n,): (n, d) (Shoemake 1985).

    Keeps the length that a normal latent has; a straight line would pass through shorter ones that G never saw.
    """
    cosine = (a @ b / (a.norm() * b.norm())).clamp(-1, 1)
    angle = torch.acos(cosine)
    t = t.to(a.dtype)[:, None]
    if float(angle.sin()) < 1e-6:  # parallel: the straight line is the arc
        return (1 - t) * a + t * b
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


@dataclass(frozen=True)
class Samples:
    """Images made by a model: `images` (N, C, H, W) in `depth` (or float32 points (N, d)). Shows itself as a grid."""

    images: np.ndarray
    labels: np.ndarray | None
    protocol: dict[str, Any]
    columns: int | None = None
    depth: Depth = EIGHT_BITS
    names: tuple[str, ...] = ()
    """Of the columns, if each is of one class."""

    @property
    def seen(self) -> np.ndarray:
        """The images in 8 bits, to look at."""
        return self.depth.eight_bits(self.images) if self.images.ndim == 4 else self.images

    def picture(self) -> Image.Image:
        if self.images.ndim == 4:
            return pictures.named(pictures.grid(self.seen, columns=self.columns), columns=self.names)
        return pictures.scatter(self.images)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        import io

        buffer = io.BytesIO()
        self.picture().save(buffer, "PNG")
        return buffer.getvalue()

    def __len__(self) -> int:
        return len(self.images)


class Model:
    """A trained generator with its averaged weights, loaded from a run folder by `load`.

    `generator` is the network as it was trained; samples are drawn by `ready`, its copy in `precision`.
    """

    def __init__(
        self,
        generator: nn.Module,
        run: runs.Run,
        spec: Spec,
        class_names: Sequence[str],
        images_seen: int,
        precision: inference.Precision = "auto",
    ) -> None:
        self.generator = generator.eval()
        self.run = run
        self.spec = spec
        self.class_names = tuple(class_names)
        self.images_seen = images_seen
        self.precision = inference.resolve(precision, spec)

    @cached_property
    def ready(self) -> inference.Ready:
        return inference.Ready(self.generator, self.precision)

    @property
    def latent(self) -> int:
        return self.run.algorithm.networks.latent

    def latents(self, n: int, seed: int = 0, truncation: float | None = None) -> Tensor:
        """Latents (n, latent) by number: the same for a seed, however many are asked for.

        `truncation` t > 0 draws each coordinate from a normal cut off at +-t (Brock et al. 2019, sec. 3.1): fewer
        surprises, less variety.
        """
        if truncation is None:
            return randomness.normal(seed, "sample", 0, n, self.latent).float()
        if not truncation > 0:
            raise UserError(f"--truncation {truncation}: must be above 0 (2 is mild, 0.5 strong)")
        # Redrawing what falls outside is the same as this inverse of the distribution function, which uses one
        # number a coordinate and so keeps samples addressable.
        edge = math.erf(truncation / math.sqrt(2))
        u = randomness.uniform(seed, "sample/truncated", 0, n, self.latent)
        return (math.sqrt(2) * torch.erfinv((2 * u - 1) * edge)).float()

    def labels(self, n: int, classes: Sequence[str | int] | None) -> Tensor | None:
        """Labels (n,) in turn from the given classes (all, if None); None for an unconditional model.

        A text is the name of a class, a number its place among them.
        """
        if not self.spec.classes:
            if classes and self.run.conditional:
                name = type(self.run.algorithm).__name__
                raise UserError(f"--classes: {name} draws no classes, its labels are for D alone; leave it out")
            if classes:
                raise UserError("--classes: this run was trained without labels; train with --conditional True")
            return None
        wanted = range(self.spec.classes) if not classes else [self._class(c) for c in classes]
        return torch.tensor([wanted[i % len(wanted)] for i in range(n)], dtype=torch.int64)

    def _class(self, name: str | int) -> int:
        if isinstance(name, str) and name in self.called:
            return self.called.index(name)
        if not isinstance(name, str) and 0 <= name < self.spec.classes:
            return int(name)
        raise UserError(f"--classes {name}: no such class; the classes are {', '.join(self.called)}")

    @property
    def called(self) -> tuple[str, ...]:
        """What the classes are called: by number, if there are no names."""
        return self.class_names if self._named else tuple(map(str, range(self.spec.classes)))

    @property
    def _named(self) -> bool:
        return len(self.class_names) == self.spec.classes

    def relabelled(self, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Labels (n,) that number the classes `names`, as the model numbers these: int64 (n,).

        By name; a model whose classes have no names takes the numbers as they are. UserError names the classes of
        `labels` that it does not have.
        """
        if tuple(names) == self.called:  # two of them may bear one name
            return labels.astype(np.int64)
        used, place = np.unique(labels, return_inverse=True)
        return numbers_of([names[k] if self._named else str(k) for k in used.tolist()], self.called)[place]

    def _drawn(self, label: Tensor | None, classes: Sequence[str | int] | None) -> dict[str, Any]:
        """For the record: the classes that were drawn, in turn."""
        if label is None:
            return {}
        return {"classes": [self.called[k] for k in label[: len(classes)].tolist()] if classes else "all in turn"}

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        *,
        classes: Sequence[str | int] | None = None,
        truncation: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Samples:
        """n images from latents numbered 0 .. n-1 of `seed`. The same seed gives the same bytes."""
        if n < 1:
            raise UserError(f"-n {n}: ask for 1 sample or more")
        label = self.labels(n, classes)
        record = {"seed": seed, "truncation": truncation, **self._drawn(label, classes)}
        samples = self._samples(self.latents(n, seed, truncation), label, record, progress=progress)
        if label is None or not self.spec.is_image:
            return samples
        columns = self._columns(n, len(classes) if classes else self.spec.classes)
        if columns is None:
            return samples
        names = tuple(self.called[k] for k in label[:columns].tolist())
        return dataclasses.replace(samples, columns=columns, names=names)

    def _columns(self, n: int, turn: int) -> int | None:
        """How many columns a grid of n images has, whose classes come `turn` in turn, so that each is of one class.

        None where there is one class, or more than fit.
        """
        return min(n, columns_in_turn(n, turn, self.spec)) if 1 < turn <= MOST_COLUMNS else None

    def interpolate(
        self,
        steps: int = 8,
        seed: int = 0,
        *,
        stops: int = 2,
        classes: Sequence[str | int] | None = None,
        still: bool = False,
    ) -> Samples:
        """A walk from latent 0 of a seed through `stops` - 1 others, `steps` images between two, on the sphere.

        Of a class-conditional model each stop is of one of `classes` in turn (the first of all, if None), with shares
        of both on the way; labels are then (n, all classes). `still`: latent 0 at every stop, for classes alone (all of
        them in turn, if None).
        """
        if steps < 2 or stops < 2:
            raise UserError(f"--steps {steps}, --stops {stops}: both must be 2 or more")
        if still and classes is None:
            classes = range(self.spec.classes)
        if still and len(set(classes or ())) < 2:
            raise UserError("--still: nothing would change; give two or more --classes of a class-conditional run")
        ends = self.latents(stops, seed)
        t = torch.linspace(0, 1, steps)
        z = torch.cat([slerp(a, b, t[(i > 0) :]) for i, (a, b) in enumerate(pairwise(ends))])
        if still:
            z = ends[:1].repeat(len(z), 1)
        wanted = (classes or [0]) if self.spec.classes else classes
        label = self.labels(stops, wanted)
        record = {"seed": seed, "stops": stops, "steps": steps, "still": still, **self._drawn(label, wanted)}
        if label is not None and len(set(label.tolist())) == 1:
            label = label[:1].expand(len(z)).contiguous()
        elif label is not None:
            shares = torch.eye(self.spec.classes)[label]
            between = [torch.lerp(a, b, t[(i > 0) :, None]) for i, (a, b) in enumerate(pairwise(shares))]
            label = torch.cat(between)
        return self._samples(z, label, record, columns=len(z))

    def values(self, z: Tensor, label: Tensor | None, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """G(z) for latents (N, latent) as data: uint8 (N, C, H, W), or points float32 (N, d)."""
        return self._made(z, label, EIGHT_BITS, progress)

    def _made(
        self, z: Tensor, label: Tensor | None, depth: Depth, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """G(z) as `depth` stores it."""
        parts: list[np.ndarray] = []
        for x in chunks(self.ready, z, label):  # a chunk at a time: as bytes they take a quarter of the memory
            parts.append(to_stored(x, depth) if self.spec.is_image else x.float().numpy())
            if progress:
                progress(min(len(parts) * CHUNK, len(z)))
        return np.concatenate(parts)

    def _samples(
        self,
        z: Tensor,
        label: Tensor | None,
        extra: dict[str, Any],
        columns: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Samples:
        images = self._made(z, label, self.spec.depth, progress)
        depth = {"depth": dataclasses.asdict(self.spec.depth)} if self.spec.wide else {}
        protocol = {
            **depth,
            "images_seen": self.images_seen, "chunk": CHUNK, "weights": "ema", "precision": self.precision, **extra,
        }  # fmt: skip
        return Samples(images, None if label is None else label.numpy(), protocol, columns, self.spec.depth)


def numbers_of(names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """The number of each of these classes, int64 (k,), in a run whose classes are `known`.

    UserError names those that it does not have.
    """
    if others := [name for name in names if name not in known]:
        are = "is" if len(others) == 1 else "are"
        raise UserError(f"{', '.join(others)} {are} none of the run's classes ({', '.join(known)})")
    return np.array([known.index(name) for name in names], dtype=np.int64)


def load(path: str | Path, which: str = "last", precision: inference.Precision = "auto") -> Model:
    """Load the averaged generator of a run folder: its last checkpoint, its best, or one by images seen.

    `precision` is that of its samples, fp32 or bf16; auto is bf16 for images where the processor is made for it.
    """
    recipe, run, saved = stored(Path(path), which)
    if isinstance(run.algorithm.networks, Translators):
        raise UserError(f"{path}: translates images; give it some with zerosum translate {path} INPUT OUTPUT")
    spec = spec_of(recipe["data"])
    generator, names = averaged(run.algorithm.players(spec)["G"], saved, "G"), recipe["data"]["class_names"]
    made = run.made(spec)
    return Model(generator, run, made, names if made == spec else [], saved.images_seen, precision)


def averaged(generator: nn.Module, saved: checkpoint.Checkpoint, name: str) -> nn.Module:
    """The generator with the averaged weights of the player `name`, ready to draw with: fp32, eval mode, frozen."""
    weights = saved.under(f"ema/{name}/")
    generator.to(next(t.dtype for t in weights.values() if t.is_floating_point()))
    snapshot.fit(generator, weights, saved.path)
    return generator.float().eval().requires_grad_(False)


def columns_in_turn(n: int, turn: int, spec: Spec) -> int:
    """As many times the turn as makes a grid of n images nearly square."""
    height, width = spec.shape[1:]
    return turn * max(1, min(round(math.sqrt(n * height / width) / turn), n // turn))


def stored(path: Path, which: str) -> tuple[dict[str, Any], runs.Run, checkpoint.Checkpoint]:
    """Recipe and checkpoint of a run folder: last, best, or by images seen. UserError if there is no such thing."""
    recipe = read_recipe(path)
    run = runs.from_json(recipe["run"])
    if which == "last":
        saved = checkpoint.newest(path, lambda text: print(f"warning: {text}", file=sys.stderr))
    else:
        number = checkpoint.best(path) if which == "best" else int(which) if which.isdigit() else None
        if number is None or number not in checkpoint.numbers(path):
            have = ", ".join(str(n) for n in checkpoint.numbers(path)) or "none"
            raise UserError(f"--checkpoint {which}: give last, best or images seen, one of: {have}")
        try:
            saved = checkpoint.load(checkpoint.path_of(path, number))
        except checkpoint.Damaged as damage:
            raise UserError(f"--checkpoint {which}: {damage}; use another checkpoint") from damage
    if saved is None and checkpoint.numbers(path):
        raise UserError(f"{path}: every checkpoint is damaged, so there is nothing to load; train it anew")
    if saved is None:
        raise UserError(f"{path}: there is no checkpoint yet; train it first with zerosum train --resume {path}")
    return recipe, run, saved


def record_of(spec: Spec) -> dict[str, Any]:
    """What networks see of the data, for `recipe.json`."""
    record: dict[str, Any] = {"shape": list(spec.shape), "classes": spec.classes}
    if spec.depth != EIGHT_BITS:
        record["depth"] = dataclasses.asdict(spec.depth)
    if spec.target is not None:
        record |= {"target": record_of(spec.target), "paired": spec.paired}
    if spec.more_sizes:
        record["more_sizes"] = [list(size) for size in spec.more_sizes]
    return record


def spec_of(record: Mapping[str, Any]) -> Spec:
    """The inverse of `record_of`."""
    target = record.get("target")
    return Spec(
        tuple(record["shape"]), record["classes"], Depth(**record["depth"]) if "depth" in record else EIGHT_BITS,
        None if target is None else spec_of(target), record.get("paired", False),
        tuple((height, width) for height, width in record.get("more_sizes", ())),
    )  # fmt: skip


def seal(recipe: dict[str, Any]) -> str:
    """SHA-256 of what `recipe.json` says of run and data: a run that goes on must be the one that began."""
    said = {name: recipe[name] for name in ("run", "data")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_recipe(path: Path) -> dict[str, Any]:
    """`recipe.json` of a run folder. UserError if there is none."""
    try:
        content = json.loads((path / RECIPE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not a run folder (it has no {RECIPE}); zerosum list shows yours") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path / RECIPE} cannot be read: {error}") from error
    if not isinstance(content, dict) or not {"run", "data"} <= content.keys():
        raise UserError(f"{path / RECIPE} is not a recipe of zerosum: it has no run or no data in it")
    missing = {"shape", "classes", "class_names", "count", "fingerprint"} - set(content["data"] or ())
    if missing:
        raise UserError(f"{path / RECIPE} was changed: its data has no {sorted(missing)[0]!r}; put back the original")
    source = content["run"].get("data") if isinstance(content["run"], dict) else None
    if isinstance(source, dict):
        source.setdefault("held_out", 0)  # a run from before there was such a thing trained on everything
    return content
