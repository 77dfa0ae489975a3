"""Which features to compare by: what the user names, or the best of what is at hand; and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zerosum.data.spec import Dataset
from zerosum.errors import UserError
from zerosum.metrics.cache import Cache
from zerosum.metrics.features import custom, imagenet, inception
from zerosum.metrics.features.base import Extractor, Told
from zerosum.metrics.features.classifier import classifier, guesses_well, unfit
from zerosum.metrics.features.weak import Coordinates, Pixels, RandomConvolutions
from zerosum.parsing import nearest

NAMES = ("classifier", "imagenet", "inception", "random", "pixels", "coordinates")


@dataclass(frozen=True)
class Choice:
    """An extractor, and one sentence that says why it was taken."""

    extractor: Extractor
    reason: str


def choose(
    data: Dataset, cache: Cache, wanted: str | None = None, told: Told | None = None, *, download: bool = False
) -> Choice:
    """The extractor for these data: `wanted` by name, or the default. UserError if it cannot be had.

    The default: coordinates for points; a classifier if there are labels that can be learned; else an ImageNet network
    if one is installed; else random convolutions, which are weak. `data` are the real data, training part.
    `download` allows fetching weights that are not here.
    """
    if wanted is not None:
        return Choice(named(wanted, data, cache, told, download=download), "named with --features")
    if not data.spec.is_image:
        return Choice(Coordinates(data.spec), "points are compared by their coordinates")
    why_not = unfit(data)
    if why_not is None:
        found = classifier(data, cache, told=told)
        accuracy = f"{found.accuracy:.1%} right on images that it was not trained on".replace("%", " %")
        if guesses_well(found, data):
            return Choice(found, f"the data have labels: a classifier was trained on them ({accuracy})")
        why_not = f"a classifier did not learn the labels ({accuracy})"
    if imagenet.installed():
        return Choice(imagenet.ImageNet(data.spec.shape), f"{why_not}; an ImageNet network is installed")
    return Choice(
        RandomConvolutions(data.spec),
        f"{why_not}; random convolutions need nothing, but are weak: better ones come with {imagenet.INSTALL}",
    )


def named(name: str, data: Dataset, cache: Cache, told: Told | None = None, *, download: bool = False) -> Extractor:
    """The extractor of that name: one of NAMES, a .onnx file, Inception's .pth file, or module:function of the user's.

    UserError names the nearest right one, and how to get it.
    """
    shape = data.spec.shape
    points = not data.spec.is_image
    if points != (name == "coordinates"):
        right = "coordinates" if points else "one of the others"
        raise UserError(f"--features {name}: the data are {'points' if points else 'images'}; use {right}")
    match name:
        case "classifier":
            return classifier(data, cache, told=told)
        case "imagenet":
            return imagenet.ImageNet(shape)
        case "inception":
            if download:
                inception.WEIGHTS.download(told)
            return inception.Inception()
        case "random":
            return RandomConvolutions(data.spec)
        case "pixels":
            return Pixels(data.spec)
        case "coordinates":
            return Coordinates(data.spec)
    if name.endswith(".onnx"):
        return custom.Onnx(Path(name), shape)
    if name.endswith(".pth"):
        return inception.Inception(Path(name))
    if ":" in name:
        return custom.Function(name, shape)
    hint = nearest(name, NAMES) or "."
    raise UserError(
        f"--features {name}: there are no features of that name{hint} They are {', '.join(NAMES)} "
        f"(imagenet: {imagenet.INSTALL}; inception: {inception.INSTALL}), Inception's weights as a .pth file, a .onnx "
        "file, or module:function of yours"
    )
