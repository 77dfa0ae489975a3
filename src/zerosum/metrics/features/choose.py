"""Which features to compare by: what the user names, or the best of what is at hand; and why."""

from __future__ import annotations

from dataclasses import dataclass

from zerosum.data.spec import Dataset
from zerosum.errors import UserError
from zerosum.metrics.cache import Cache
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


def choose(data: Dataset, cache: Cache, wanted: str | None = None, told: Told | None = None) -> Choice:
    """The extractor for these data: `wanted` by name, or the default. UserError if it cannot be had.

    The default: coordinates for points; a classifier if there are labels that can be learned; else an ImageNet network
    if one is installed; else random convolutions, which are weak. `data` are the real data, training part.
    """
    if wanted is not None:
        return Choice(named(wanted, data, cache, told), "named with --features")
    if not data.spec.is_image:
        return Choice(Coordinates(data.spec), "points are compared by their coordinates")
    why_not = unfit(data)
    if why_not is None:
        found = classifier(data, cache, told=told)
        accuracy = f"{found.accuracy:.1%} right on held-out images".replace("%", " %")
        if guesses_well(found, data):
            return Choice(found, f"the data have labels: a classifier was trained on them ({accuracy})")
        why_not = f"a classifier did not learn the labels ({accuracy})"
    return Choice(RandomConvolutions(data.spec), f"{why_not}; random convolutions need nothing, but are weak")


def named(name: str, data: Dataset, cache: Cache, told: Told | None = None) -> Extractor:
    """The extractor of that name. UserError names the nearest right one, and how to get it."""
    points = not data.spec.is_image
    if points != (name == "coordinates") and name in NAMES:
        right = "coordinates" if points else "one of the others"
        raise UserError(f"--features {name}: the data are {'points' if points else 'images'}; use {right}")
    match name:
        case "classifier":
            return classifier(data, cache, told=told)
        case "random":
            return RandomConvolutions(data.spec)
        case "pixels":
            return Pixels(data.spec)
        case "coordinates":
            return Coordinates(data.spec)
    hint = nearest(name, NAMES)
    raise UserError(f"--features {name}: there are no features of that name{hint}; they are {', '.join(NAMES)}")
