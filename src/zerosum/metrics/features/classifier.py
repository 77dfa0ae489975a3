"""A classifier trained on the user's own labels: its penultimate layer as features, its probabilities for balance.

It is trained on a third of the images. The others are for measuring: what a network has learned by heart, it sees
otherwise than new images, be they real or generated. It is small, so that it is ready in about a minute on one core.
The network and its training are shared with the judges of the benchmarks (`bench.judge`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum import randomness
from zerosum.data.classes import labels_of
from zerosum.data.picture import render_all
from zerosum.data.spec import Dataset
from zerosum.errors import UserError
from zerosum.metrics.cache import Cache, address
from zerosum.metrics.features.base import CHUNK, Extractor, Told, hash_of, unit

RATE, DECAY = 4e-3, 1e-2  # of AdamW: the rate's peak, and the decay of the weights
BATCH = 64
TRAINED_ON = 3  # one image in so many: it knows those too well, so that they are not measured with
MOST_TESTED = 2_000  # other images, for its accuracy
LEAST_PER_CLASS = 10  # images of the rarest class: fewer teach nothing and test nothing
BETTER_THAN_GUESSING = 2.0  # the errors of always naming the commonest class, over the classifier's own, at least
SIDE = 64  # pixels: larger images are brought down to it
PROPER = 8  # pixels a side, up to twice as many, that the convolutions proper work on


@dataclass(frozen=True)
class Settings:
    """What decides a classifier besides its data: part of the address under which it is kept."""

    width: int = 16
    hidden: int = 64
    """Units of the penultimate layer: the features."""
    pixels: int = 100_000_000
    """Seen in training, the same image again and again counted anew: about a minute on one core."""
    most_passes: int = 30
    """Over the images, where they are few."""
    seed: int = 0
    version: int = 2
    """Of the way it is built and trained."""


def network(
    shape: tuple[int, ...], classes: int, width: int, *, halvings: int = 0, hidden: int | None = None
) -> nn.Sequential:
    """Three 3x3 convolutions with BatchNorm, from (N, *shape) in -1 .. 1 to logits (N, classes).

    `halvings`: convolutions with pooling that come first, for larger images. `hidden`: units of a layer before the
    last one, if there is to be one.
    """

    def block(into: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    w, (channels, height, across) = width, shape
    stem: list[nn.Module] = []
    for _ in range(halvings):
        stem += [*block(channels, w), nn.MaxPool2d(2, ceil_mode=True)]
        channels, height, across = w, -(-height // 2), -(-across // 2)
    flat = 2 * w * (height // 4) * (across // 4)
    before: list[nn.Module] = [nn.Linear(flat, hidden), nn.ReLU()] if hidden else []
    return nn.Sequential(
        *stem, *block(channels, w), *block(w, 2 * w), nn.MaxPool2d(2), *block(2 * w, 2 * w), nn.MaxPool2d(2),
        nn.Flatten(), *before, nn.Dropout(0.5), nn.Linear(hidden or flat, classes),
    )  # fmt: skip


def halvings_of(shape: tuple[int, ...]) -> int:
    """The `halvings` of `network` that bring images (C, H, W) to what the convolutions proper work on."""
    return max(0, (min(shape[1:]) // PROPER).bit_length() - 1)


def train(
    build: Callable[[], nn.Sequential],
    images: np.ndarray,
    labels: np.ndarray,
    steps: int,
    seed: int,
    change: Callable[[Tensor], Tensor] | None = None,
    told: Told | None = None,
    batch: int | None = None,
) -> nn.Sequential:
    """A network of `build` trained on images uint8 (N, C, H, W) and labels int64 (N,); comes back in eval mode.

    AdamW with one cycle of the learning rate, cross-entropy, batches of 64 in keyed order, or all images where there
    are fewer, or `batch`. `change` alters each batch. The generator of torch is left as it was: a training that goes on
    meanwhile draws the same numbers.
    """
    batch = batch or min(BATCH, len(images))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        net = build().train()
        adam = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
        cycle = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=steps)
        for step in range(steps):
            chosen = randomness.order(seed, "classifier", step * batch, batch, len(images))
            x = unit(images[chosen])
            loss = F.cross_entropy(net(x if change is None else change(x)), torch.from_numpy(labels[chosen]))
            adam.zero_grad()
            loss.backward()
            adam.step()
            cycle.step()
            if told:
                told(step + 1, steps)
    return net.eval().requires_grad_(False)


class Classifier(Extractor):
    """Features that know the user's classes, and `probabilities`.

    Features are divided by `scale`, their root mean square over images it was not trained on: else distances would
    have any size.
    """

    def __init__(
        self, net: nn.Sequential, class_names: tuple[str, ...], shape: tuple[int, ...], accuracy: float, scale: float
    ) -> None:
        self.network = net
        self.scale = scale
        self.class_names = class_names
        self.shape = shape
        self.accuracy = accuracy
        """On labelled images that it was not trained on, 0 .. 1."""
        last = net[-1]
        assert isinstance(last, nn.Linear)
        size = " x ".join(map(str, shape))
        weights = hash_of({**net.state_dict(), "scale": torch.tensor(scale)})
        super().__init__(
            "classifier", weights, weak=False, dimensions=last.in_features,
            preparation=f"bicubic with antialiasing to {size} (C x H x W) in 8 bits if not so found, scaled to [-1, 1]",
        )  # fmt: skip

    def extract(self, values: np.ndarray) -> Tensor:
        return self.network[:-1](unit(_prepared(values, self.shape))) / self.scale

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """Of each class, float64 (n, classes), from features of this extractor (n, dimensions)."""
        return self.network[-1](features * self.scale).double().softmax(1)


def classifier(data: Dataset, cache: Cache, settings: Settings = Settings(), told: Told | None = None) -> Classifier:
    """The classifier of a labelled set of images, from the cache or trained now. UserError if the labels do not do."""
    reason = unfit(data)
    if reason is not None:
        raise UserError(f"--features classifier: {reason}; choose another with --features")
    shape = _shape(data.spec.shape)
    classes = len(data.class_names)

    def build() -> nn.Sequential:
        return network(shape, classes, settings.width, halvings=halvings_of(shape), hidden=settings.hidden)

    def make() -> tuple[dict[str, Tensor], dict[str, float]]:
        used = trained_on(len(data), settings)
        count = min(settings.pixels // (shape[1] * shape[2]), settings.most_passes * len(used))
        images, labels = _gather(data, used[:count], shape)
        net = train(build, images, labels, max(count // BATCH, 1), settings.seed, told=told)
        images, labels = _gather(data, not_trained_on(len(data), settings)[:MOST_TESTED], shape)
        seen = torch.cat([net[:-1](unit(images[i : i + CHUNK])) for i in range(0, len(images), CHUNK)])
        right = net[-1](seen).argmax(1).numpy() == labels
        return net.state_dict(), {"accuracy": float(right.mean()), "scale": float(seen.square().mean().sqrt())}

    key = address("classifier", data.fingerprint, asdict(settings), shape)
    weights, about = cache.made("classifiers", key, make)
    with torch.random.fork_rng(devices=[]):
        net = build()
    net.load_state_dict(weights)
    net.eval().requires_grad_(False)
    return Classifier(net, data.class_names, shape, about["accuracy"], about["scale"])


def trained_on(count: int, settings: Settings = Settings()) -> np.ndarray:
    """Which of `count` images a classifier is trained on, in a keyed order."""
    return randomness.permutation(settings.seed, "classifier/parts", 0, count)[: count // TRAINED_ON]


def not_trained_on(count: int, settings: Settings = Settings()) -> np.ndarray:
    """Which it has never seen, in a keyed order: those to measure with."""
    return randomness.permutation(settings.seed, "classifier/parts", 0, count)[count // TRAINED_ON :]


def unfit(data: Dataset) -> str | None:
    """Why no classifier can be trained on these data; None if one can."""
    if not data.spec.is_image:
        return "the data are points"
    if len(data.class_names) < 2 or (labels := labels_of(data)) is None:
        return "the data have no labels of two or more classes"
    counts = np.bincount(labels, minlength=len(data.class_names))
    present = counts[counts > 0]
    if len(present) < 2:
        return "all images bear one label"
    if present.min() < LEAST_PER_CLASS:
        return f"a class has only {present.min()} images, and {LEAST_PER_CLASS} are needed"
    if min(data.spec.shape[1:]) < 4:
        return f"images of {data.spec.shape[1]} x {data.spec.shape[2]} pixels are too small"
    return None


def guesses_well(found: Classifier, data: Dataset) -> bool:
    """Whether the classifier has learned its labels: at most half the errors of always naming the commonest class."""
    labels = labels_of(data)
    assert labels is not None
    commonest = np.bincount(labels).max() / len(labels)
    return (1 - found.accuracy) * BETTER_THAN_GUESSING <= 1 - commonest


def _shape(found: tuple[int, ...]) -> tuple[int, ...]:
    """What the network takes: images as found, or stretched to SIDE x SIDE where a side is longer."""
    return found if max(found[1:]) <= SIDE else (found[0], SIDE, SIDE)


def _prepared(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return values if values.shape[1:] == shape else render_all(values, (shape[0], shape[1], shape[2]), "stretch")


def _gather(data: Dataset, index: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images, brought to `shape` piece by piece, and labels."""
    parts = [data.gather(piece) for piece in np.array_split(index, max(len(index) // 1024, 1))]
    labels = np.concatenate([label for _, label in parts if label is not None])
    return np.concatenate([_prepared(values, shape) for values, _ in parts]), labels
