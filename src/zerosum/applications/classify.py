"""The classifier that is to be helped, classical augmentation, and how well it tells the classes apart.

Network and training are those of `metrics.features.classifier`. Nothing here is tuned to the data: its settings are
fixed beforehand, for a small labelled set leaves no images to tune them on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zerosum.data.store import check_images
from zerosum.metrics.features.base import CHUNK, Told, unit
from zerosum.metrics.features.classifier import BATCH, halvings_of, network, train

if TYPE_CHECKING:
    from jaxtyping import Float

WIDTH = 16
STEPS = 400  # of 64 images each, however few are trained on: every arm costs alike and sees as many images
TURN, SHIFT, ZOOM = math.radians(10), 0.1, 0.1  # at most: radians, shares of a side, of the size

Probabilities = Callable[[np.ndarray], np.ndarray]
"""From images uint8 (n, C, H, W) to probabilities float64 (n, K)."""


def fit(
    images: np.ndarray, labels: np.ndarray, classes: int, *, seed: int, classical: bool = False, flip: bool = False,
    steps: int = STEPS, told: Told | None = None,
) -> Probabilities:  # fmt: skip
    """A classifier trained on images uint8 (n, C, H, W) and labels int64 (n,) of `classes` classes.

    `classical`: each image of each batch is turned, moved and scaled a little anew; `flip`: half are mirrored, too.
    """
    check_images(images, labels)
    shape = images.shape[1:]
    net = train(
        partial(network, shape, classes, WIDTH, halvings=halvings_of(shape)), images, labels, steps, seed,
        partial(moved, flip=flip) if classical else None, told, BATCH,
    )  # fmt: skip

    @torch.no_grad()
    def probabilities(unseen: np.ndarray) -> np.ndarray:
        parts = [net(unit(unseen[i : i + CHUNK])).double().softmax(1) for i in range(0, len(unseen), CHUNK)]
        return torch.cat(parts).numpy()

    return probabilities


def moved(x: Float[Tensor, "n c h w"], flip: bool = False) -> Float[Tensor, "n c h w"]:
    """Each image turned by up to 10 degrees, moved by up to a tenth of a side and scaled by up to a tenth, at random.

    The classical augmentation of Frid-Adar et al. 2018 (arXiv:1803.01229, sec. 2.2), milder; what comes in at the
    border repeats it. Draws from torch's own generator.
    """
    n = len(x)
    angle, zoom = (2 * torch.rand(2, n) - 1) * torch.tensor([[TURN], [ZOOM]])
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    scale, aspect = 1 + zoom, x.shape[2] / x.shape[3]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cos * mirror, -sin * aspect], 1), torch.stack([sin * mirror / aspect, cos], 1)]
    shift = 2 * SHIFT * (2 * torch.rand(n, 2, 1) - 1)
    grid = F.affine_grid(torch.cat([torch.stack(rows, 1), shift], 2).to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Scores:
    """How well probabilities fit the truth. Of two classes the second is the positive one, or whichever was named."""

    balanced_accuracy: float
    """Mean over the classes of the share that is found."""
    auc: float
    """Area under the receiver's curve; of more than two classes the mean over each against the rest."""
    sensitivity: float
    """Share of the positives that is found; of more than two classes the mean over classes."""
    specificity: float
    """Share of the others that is left alone; of more than two classes the mean over classes."""


def terms(p: np.ndarray, labels: np.ndarray, positive: int | None = None) -> dict[str, np.ndarray]:
    """What each test image adds to each of `scores`, arrays (n,): their variances are those of the scores.

    Of shares of images found, whether it was, by how many there are: their sum is the score. Of the AUC, the share of
    images of the other side that it stands on the right side of (DeLong et al. 1988, the structural components).
    """
    classes, n = p.shape[1], np.bincount(labels, minlength=p.shape[1])
    right = p.argmax(1) == labels
    recall = right / n[labels] / classes
    looked_for = [(classes - 1 if positive is None else positive)] if classes == 2 else list(range(classes))
    spared, area = np.zeros(len(p)), np.zeros(len(p))
    for k in looked_for:
        of = labels == k
        spared += ~of * (p.argmax(1) != k) / (~of).sum() / len(looked_for)
        area += _placement(p[:, k], of) / len(looked_for)
    sensitivity = right * (labels == looked_for[0]) / n[looked_for[0]] if classes == 2 else recall
    return {"balanced_accuracy": recall, "auc": area, "sensitivity": sensitivity, "specificity": spared}


def _placement(p: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Of each image the share of the other side that it is on the right side of, ties a half, by its side's number."""
    found = np.empty(len(p))
    for mine in (of, ~of):
        others = np.sort(p[~mine])
        below = (np.searchsorted(others, p[mine], "left") + np.searchsorted(others, p[mine], "right")) / 2
        share = below / len(others)
        found[mine] = (share if mine is of else 1 - share) / mine.sum()
    return found


def scores(p: np.ndarray, labels: np.ndarray, positive: int | None = None) -> Scores:
    """Of probabilities (n, K) against labels (n,) in which every class is there.

    `positive`: the class that is looked for, of two; the last if not given.
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    classes = p.shape[1]
    found = p.argmax(1)
    recall = [float((found[labels == k] == k).mean()) for k in range(classes)]
    spared = [float((found[labels != k] != k).mean()) for k in range(classes)]
    if classes == 2:
        k = classes - 1 if positive is None else positive
        area = float(roc_auc_score(labels == k, p[:, k]))
        return Scores(sum(recall) / 2, area, recall[k], spared[k])
    area = float(np.mean([roc_auc_score(labels == k, p[:, k]) for k in range(classes)]))
    return Scores(float(np.mean(recall)), area, float(np.mean(recall)), float(np.mean(spared)))
