"""A classifier of the real images as the judge of generated ones, and the nearest real image of each.

The judge is chosen among candidates by cross-validation on the real training images, by log loss: it rewards
probabilities that mean what they say. It never sees a generated image before it judges one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum.bench.protocol import Result
from zerosum.bench.report import Column
from zerosum.metrics.features.base import unit
from zerosum.metrics.features.classifier import BATCH, network, train

Judge = Callable[[np.ndarray], np.ndarray]
"""From images uint8 (N, C, H, W) to probabilities float64 (N, K)."""
Fit = Callable[[np.ndarray, np.ndarray], Judge]
"""From images and labels int64 (N,), each of 0 .. K-1 present, to a judge."""

CHUNK = 500

VERDICT = (
    Column("classes_found", "classes found", ".0f"),
    Column("rarest_share", "rarest class", ".1%"),
    Column("relative_confidence", "confidence relative to real", ".1%"),
)


def verdict(judge: Judge, images: np.ndarray, real_confidence: float) -> Result:
    """What the judge says of images: the classes found, the share of each, the mean of the largest probability."""
    p = judge(images)
    counts = np.bincount(p.argmax(1), minlength=p.shape[1])
    confidence = float(p.max(1).mean())
    return {
        "judged": len(images),
        "classes_found": int((counts > 0).sum()),
        "rarest_share": float(counts.min() / len(images)),
        "shares": [round(float(c / len(images)), 4) for c in counts],
        "confidence": confidence,
        "relative_confidence": confidence / real_confidence,
    }


def accuracy(judge: Judge, images: np.ndarray, labels: np.ndarray) -> float:
    return float((judge(images).argmax(1) == labels).mean())


def cross_validation(candidates: Mapping[str, Fit], images: np.ndarray, labels: np.ndarray, folds: int = 5) -> Result:
    """Log loss (natural logarithm) and accuracy of every candidate, each image judged by one that never saw it."""
    from sklearn.model_selection import StratifiedKFold  # slow to import

    found: dict[str, Any] = {}
    parts = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(images, labels))
    for name, fit in candidates.items():
        p = np.empty((len(images), int(labels.max()) + 1))
        for rest, left_out in parts:
            p[left_out] = fit(images[rest], labels[rest])(images[left_out])
        of_truth = p[np.arange(len(labels)), labels]
        found[name] = {
            "log_loss": float(-np.log(np.maximum(of_truth, 1e-12)).mean()),
            "accuracy": float((p.argmax(1) == labels).mean()),
        }
    return {"candidates": found, "chosen": min(found, key=lambda name: found[name]["log_loss"])}


# --- candidates ----------------------------------------------------------------------------------------------------


def logistic(images: np.ndarray, labels: np.ndarray) -> Judge:
    """Logistic regression on the pixels."""
    from sklearn.linear_model import LogisticRegression

    return _of_pixels(LogisticRegression(max_iter=1000).fit(_flat(images), labels))


def support_vectors(images: np.ndarray, labels: np.ndarray) -> Judge:
    """Support vectors with a Gaussian kernel, C = 10; probabilities by Platt's method."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    return _of_pixels(CalibratedClassifierCV(SVC(C=10.0), cv=5, ensemble=False).fit(_flat(images), labels))


def _of_pixels(model: Any) -> Judge:
    return lambda images: model.predict_proba(_flat(images)).astype(np.float64)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255


@dataclass(frozen=True)
class Convolutional:
    """The network of `metrics.features.classifier`. `shift`: jitter by one pixel."""

    epochs: int = 15
    width: int = 32
    shift: bool = False
    seed: int = 0

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> Judge:
        def build() -> nn.Sequential:
            return network(images.shape[1:], int(labels.max()) + 1, self.width)

        steps = self.epochs * (len(images) // min(BATCH, len(images)))
        net = train(build, images, labels, steps, self.seed, _shifted if self.shift else None)
        return lambda images: _probabilities(net, images)


def _shifted(x: Tensor) -> Tensor:
    """Each image moved by -1, 0 or 1 pixels along both axes; what comes in is black."""
    n, _, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1), value=-1.0)
    y, across = (
        torch.randint(3, (n, 1, 1)) + torch.arange(height)[:, None],
        torch.randint(3, (n, 1, 1)) + torch.arange(width),
    )
    return padded[torch.arange(n)[:, None, None], :, y, across].permute(0, 3, 1, 2)


@torch.no_grad()
def _probabilities(net: nn.Module, images: np.ndarray) -> np.ndarray:
    parts = [np.array(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return torch.cat([net(unit(part)).double().softmax(1) for part in parts]).numpy()


# --- neighbours ----------------------------------------------------------------------------------------------------


def nearest(images: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each image uint8 (N, C, H, W) its nearest in `among`: distance (N,) and index (N,).

    The distance is Euclidean over all pixels, black 0 and white 1.
    """
    b = among.reshape(len(among), -1).astype(np.float64)
    distances, indices = [], []
    for start in range(0, len(images), CHUNK):
        a = images[start : start + CHUNK].reshape(-1, b.shape[1]).astype(np.float64)
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T  # whole numbers: exact in float64
        indices.append(squared.argmin(1))
        distances.append(np.sqrt(squared.min(1)) / 255)
    return np.concatenate(distances), np.concatenate(indices)


def shuffled(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """The pixels of each image in another order: the same greys, no digit. A control."""
    flat = images.reshape(len(images), -1)
    return np.random.default_rng(seed).permuted(flat, axis=1).reshape(images.shape)


def mean_image(images: np.ndarray, count: int) -> np.ndarray:
    """`count` copies of the mean image: a control."""
    mean = images.mean(0).round().astype(np.uint8)
    return np.repeat(mean[None], count, axis=0)
