"""What people do in a latent space, on a loaded model: photos inverted, directions walked, mixtures, neighbours."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zerosum.data import plates
from zerosum.data.depth import depth_of
from zerosum.data.loader import scale
from zerosum.data.picture import Broken
from zerosum.data.spec import Dataset
from zerosum.data.store import check_images
from zerosum.errors import UserError
from zerosum.latent import directions, inversion
from zerosum.latent.directions import Direction
from zerosum.latent.inversion import Inverted
from zerosum.metrics.features.base import Extractor, hash_of
from zerosum.metrics.features.classifier import Classifier
from zerosum.metrics.neighbours import nearest_few
from zerosum.networks.fastgan import Generator as Mixing
from zerosum.sample import CHUNK, Model, generate, slerp, to_uint8

CPU = torch.device("cpu")
AT_ONCE = 2_000  # images of a set
REACH = 3.0  # standard deviations of a normal latent, to either side
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Walks:
    """Images along directions: uint8 (directions, steps, C, H, W)."""

    directions: tuple[Direction, ...]
    images: np.ndarray


@dataclass(frozen=True)
class Truncated:
    """The same samples, more and more truncated: uint8 (steps, n, C, H, W); by how much, from inf (not at all) down."""

    truncations: tuple[float, ...]
    images: np.ndarray


def photos(model: Model, paths: Sequence[Path]) -> np.ndarray:
    """Image files as the model's data are: uint8 (n, C, H, W), cropped to its shape. UserError names a broken one."""
    if not model.spec.is_image:
        raise UserError("this run makes points, not images: there is no photo to find the latent of")
    channels, height, width = model.spec.shape
    found = []
    for path in paths:
        try:
            plate = plates.read(path.read_bytes(), path.name, "own" if model.spec.depth.wide else "8")
            values = plate.render((channels, height, width), plate.dtype, "crop")
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        except Broken as broken:
            raise UserError(f"{path}: cannot be used: {broken}; give another image, or save it anew") from broken
        depth = model.spec.depth
        try:
            found.append(depth_of(plate.dtype, (depth.low, depth.high)).eight_bits(values))
        except UserError as error:
            raise UserError(
                f"{path}: holds {plate.dtype} values, and the run's images {depth.stored} ones from {depth.low:g} to "
                f"{depth.high:g}; save it as such"
            ) from error
    return np.stack(found)


def invert(
    model: Model,
    images: np.ndarray,
    *,
    classes: Sequence[str | int] | None = None,
    restarts: int = 8,
    steps: int = 300,
    seed: int = 0,
    progress: Progress | None = None,
) -> Inverted:
    """The latents whose images come nearest to these, uint8 (n, C, H, W) as the model's data are.

    `classes`: of a class-conditional model, one for each image, or one for all.
    """
    check_images(images)
    if model.spec.shape != images.shape[1:]:
        raise UserError(f"images of {images.shape[1:]}: this model makes {model.spec.shape}")
    label = None
    if classes and not model.spec.classes:
        raise UserError(f"--classes {' '.join(map(str, classes))}: this run was trained without labels; leave it out")
    if model.spec.classes:
        if not classes or len(classes) not in (1, len(images)):
            raise UserError(
                f"--classes: this run was trained with labels; give one class, or one for each of {len(images)}"
            )
        label = model.labels(len(images), classes)
    x = scale(images, torch.float32, CPU)
    return inversion.invert(
        model.generator, x, model.latent, label=label, restarts=restarts, steps=steps, seed=seed, progress=progress
    )


def factorised(model: Model, count: int) -> list[Direction]:
    """Directions that change what the generator's first layers give most."""
    return directions.factorised(model.generator, model.latent, count, model.labels(1, None))


def by_class(
    model: Model, judge: Classifier, *, n: int = 2_000, seed: int = 0, progress: Callable[[int], None] | None = None
) -> list[Direction]:
    """A direction for each class that the judge finds among n samples often enough. UserError if it finds none."""
    label = model.labels(n, None)
    z = model.latents(n, seed)
    seen = judge.probabilities(judge(model.values(z, label, progress))).argmax(1).numpy()
    found, why = [], ""
    for number, name in enumerate(judge.class_names):
        try:
            found.append(directions.labelled(z, seen == number, name))
        except UserError as error:
            why = str(error)
    if not found:
        raise UserError(why)
    return sorted(found, key=lambda direction: -direction.strength)


def walks(
    model: Model, z: Tensor, label: Tensor | None, along: Sequence[Direction], *, steps: int = 7, reach: float = REACH
) -> Walks:
    """Images from -reach to +reach along each direction through the latent z (latent,)."""
    if steps < 2 or not 0 < reach < math.inf:
        raise UserError(f"--steps {steps}, --reach {reach:g}: give 2 steps or more, and a reach above 0")
    distances = np.linspace(-reach, reach, steps).tolist()
    rows = [
        model.values(directions.along(z, d, distances), None if label is None else label.expand(steps)) for d in along
    ]
    return Walks(tuple(along), np.stack(rows))


def way(z: Tensor, label: Tensor | None, steps: int) -> tuple[Tensor, Tensor | None]:
    """Latents from each of z (n, latent) to the next on the sphere, ((n - 1) steps, latent), and their labels.

    Each way keeps the class it began with.
    """
    t = torch.linspace(0, 1, steps)
    on = torch.cat([slerp(a, b, t) for a, b in pairwise(z)])
    return on, None if label is None else label[:-1].repeat_interleave(steps)


def descent(model: Model, photo: np.ndarray, visited: Tensor, label: Tensor | None = None) -> np.ndarray:
    """How a latent of the photo, uint8 (C, H, W), was found: uint8 (moments, 2, C, H, W), the photo beside each image.

    `visited`: one of the `ways` of `Inverted` (moments, latent); `label` (1,): the class that it was found for.
    UserError for a photo or latents that are not of this model.
    """
    check_images(photo[None])
    if model.spec.shape != photo.shape:
        raise UserError(f"photo of {photo.shape}: this model makes {model.spec.shape}; give one that tools.photos read")
    if visited.ndim != 2 or visited.shape[1] != model.latent:
        raise UserError(
            f"visited of {tuple(visited.shape)}: this model has latents of {model.latent} numbers; give one of the "
            "ways that tools.invert found"
        )
    made = image_of(model, visited, None if label is None else label.expand(len(visited)))
    return np.stack([np.broadcast_to(photo, made.shape), made], 1)


def truncated(
    model: Model,
    n: int,
    truncation: float,
    *,
    seed: int = 0,
    classes: Sequence[str | int] | None = None,
    steps: int = 48,
    progress: Callable[[int], None] | None = None,
) -> Truncated:
    """n samples of a seed while truncation falls from none to `truncation`: those of `Model.sample` in the end.

    Each step leaves out as much of the normal as every other: the share within t standard deviations, erf(t / sqrt 2),
    falls evenly. UserError for counts that are too small, or a model of points.
    """
    if not model.spec.is_image:
        raise UserError("this run makes points, not images: there is no film of them; zerosum sample draws them")
    for name, count, least in (("-n", n, 1), ("--steps", steps, 2)):
        if count < least:
            raise UserError(f"{name} {count}: must be {least} or more")
    last = model.latents(n, seed, truncation)  # refuses what cannot be a truncation
    shares = torch.linspace(1, math.erf(truncation / math.sqrt(2)), steps, dtype=torch.float64)[:-1]
    before = (math.sqrt(2) * torch.erfinv(shares)).tolist()
    z = torch.cat([*(model.latents(n, seed, t) for t in before), last])
    label = model.labels(n, classes)
    images = model.values(z, None if label is None else label.repeat(steps), progress)
    return Truncated((*before, truncation), images.reshape(steps, n, *images.shape[1:]))


def mixed(
    model: Model, shapes: Tensor, styles: Tensor, labels: tuple[Tensor | None, Tensor | None] = (None, None)
) -> np.ndarray:
    """Each of `shapes` (n, latent) in the style of each of `styles` (m, latent): uint8 (n, m, C, H, W).

    `labels`: the classes (n,) of the shapes and (m,) of the styles.
    UserError if the generator has no layers for it.
    """
    network = model.generator
    if not isinstance(network, Mixing) or not len(network.gates):
        raise UserError(
            "mix: this generator has no layers that take shape and style apart; one trained with --algorithm fastgan "
            "on images of 32 pixels or more has"
        )
    of_shapes, of_styles = labels

    def row(number: int) -> Iterator[np.ndarray]:
        for style in torch.arange(len(styles)).split(CHUNK):
            z = shapes[number].expand(len(style), -1)
            kind = None if of_shapes is None else of_shapes[number].expand(len(style))
            yield to_uint8(network.mixed(z, styles[style], kind, None if of_styles is None else of_styles[style]))

    with torch.no_grad():
        return np.stack([np.concatenate(list(row(number))) for number in range(len(shapes))])


def neighbours(images: np.ndarray, data: Dataset, extractor: Extractor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` images of `data` nearest to each of `images` in these features: their indices, their distances
    (n, count), nearest first."""
    if not 1 <= count <= len(data):
        raise UserError(f"--count {count}: from 1 to {len(data)}, the images there are")
    blocks = np.array_split(np.arange(len(data)), -(-len(data) // AT_ONCE))
    among = torch.cat([extractor(data.gather(block)[0]) for block in blocks])  # all images at once may be too many
    distance, index = nearest_few(extractor(images), among, count)
    return index.numpy(), distance.numpy()


# --- files -----------------------------------------------------------------------------------------------------------


def keep(found: Inverted, names: Sequence[str], model: Model, labels: Tensor | None = None) -> bytes:
    """What was found as the bytes of an .npz file that `kept` reads: latents, errors, names, and of which weights."""
    file = io.BytesIO()
    of = hash_of(model.generator.state_dict())
    arrays = {"z": found.z.numpy(), "errors": found.errors.numpy(), "names": np.array(names), "of": np.array(of)}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type,unused-ignore]
    return file.getvalue()


def kept(path: Path, model: Model) -> tuple[Tensor, Tensor | None]:
    """Latents (n, latent), and labels if there are, that `keep` wrote. UserError if this model cannot take them."""
    try:
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("one array alone")
        with arrays:
            z = torch.from_numpy(np.asarray(arrays["z"], np.float32))
            labels = torch.from_numpy(np.asarray(arrays["labels"])) if "labels" in arrays else None
            of = str(arrays["of"]) if "of" in arrays else None
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"--latents {path}: cannot be read ({error}); give latents.npz of zerosum invert") from error
    if z.ndim != 2 or not len(z) or z.shape[1] != model.latent or not bool(torch.isfinite(z).all()):
        raise UserError(f"--latents {path}: holds {tuple(z.shape)}, and this run has latents of {model.latent} numbers")
    if of is not None and of != hash_of(model.generator.state_dict()):
        raise UserError(f"--latents {path}: are another generator's, or another checkpoint's; invert the photos anew")
    classes = model.spec.classes
    if labels is not None and (labels.dtype != torch.int64 or labels.shape != z.shape[:1] or not classes):
        raise UserError(f"--latents {path}: has classes that are not this run's; give latents that it was inverted to")
    if labels is not None and not bool(((labels >= 0) & (labels < classes)).all()):
        raise UserError(f"--latents {path}: has classes beyond the {classes} of this run")
    return z, labels


def sheet(images: np.ndarray, found: Inverted) -> np.ndarray:
    """Rows of photo, what was found, and where they differ (white: by half of the range or more), (3 n, C, H, W)."""
    x = scale(images, torch.float32, CPU)
    apart = (found.error_map(x) * 2 - 1).clamp(-1, 1).expand(-1, images.shape[1], -1, -1).clone()
    if images.shape[1] == 4:
        apart[:, 3] = 1
    rows = np.stack([images, to_uint8(found.images), to_uint8(apart)], 1)
    return rows.reshape(-1, *images.shape[1:])


def image_of(model: Model, z: Tensor, label: Tensor | None) -> np.ndarray:
    """G(z) in fp32, as it was inverted: uint8 (n, C, H, W)."""
    return to_uint8(generate(model.generator, z, label))
