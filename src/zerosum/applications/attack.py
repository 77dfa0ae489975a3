"""Small changes to an image that make a classifier err, and how accurate it stays under them.

Generators and attacks are two sides of the same game: one player changes pixels, the other one judges them. Meant for
classifiers of one's own: the attacker here knows every weight. Surviving these attacks proves nothing against others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum import randomness
from zerosum.data.store import check_images
from zerosum.errors import UserError
from zerosum.metrics.features.base import unit
from zerosum.metrics.intervals import Interval, binomial
from zerosum.sample import to_uint8

if TYPE_CHECKING:
    from jaxtyping import Float, Int

RANGE = 2.0  # of pixels from black to white, which networks see as -1 .. 1: epsilons are shares of it
STEPS, STRIDE = 20, 2.5  # of PGD; each step is so many times epsilon / steps long, so that it can turn back
AT_ONCE = 250
Told = Callable[[int, int], None]


def fgsm(
    model: nn.Module, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"], epsilon: float
) -> Float[Tensor, "n c h w"]:
    """x + epsilon sign(grad_x L): the fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572, sec. 4).

    `model`: images in [-1, 1] -> logits (n, K), in eval mode. `epsilon`: the most that a pixel changes, as a share of
    the way from black to white.
    """
    return (x + RANGE * epsilon * _gradient(model, x, label).sign()).clamp(-1, 1)


def pgd(
    model: nn.Module, x: Float[Tensor, "n c h w"], label: Int[Tensor, " n"], epsilon: float, *, steps: int = STEPS,
    start: Float[Tensor, "n c h w"] | None = None,
) -> Float[Tensor, "n c h w"]:  # fmt: skip
    """Projected gradient descent (Madry et al. 2018, arXiv:1706.06083, eq. in sec. 2.1): `steps` of FGSM, each brought
    back to within `epsilon` of x, from `start` (of -1 .. 1, a share of epsilon) away.

    Of all steps the worst for the model is kept, one that it gets wrong before any other: more of them are never less
    of an attack.
    """
    reach = RANGE * epsilon
    found = x if start is None else (x + reach * start).clamp(-1, 1)
    best, worst, fooled = found, torch.full((len(x),), -torch.inf), torch.zeros(len(x), dtype=torch.bool)
    for step in range(steps + 1):
        with torch.no_grad():
            logits = model(found).float()
            loss, wrong = F.cross_entropy(logits, label, reduction="none"), logits.argmax(1) != label
        worse = (wrong & ~fooled) | ((wrong == fooled) & (loss > worst))
        worst, fooled = torch.where(worse, loss, worst), fooled | wrong
        best = torch.where(worse[:, None, None, None], found, best)
        if step < steps:
            moved = found + STRIDE * reach / steps * _gradient(model, found, label).sign()
            found = torch.minimum(torch.maximum(moved, x - reach), x + reach).clamp(-1, 1)
    return best


def _gradient(model: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(model(x).float(), label, reduction="sum")
        return torch.autograd.grad(loss, x)[0]


@dataclass(frozen=True)
class Robustness:
    """Accuracy on images that were changed by at most `epsilon`, in three ways."""

    epsilon: float
    noise: Interval
    """By signs drawn at random: what a change of this size does that knows nothing."""
    fgsm: Interval
    pgd: Interval


@dataclass(frozen=True, eq=False)
class Attacked:
    """What was found, and examples: images uint8 (n, C, H, W) as they were and as PGD made them at some epsilon.

    Examples are of what the model had right before, so that all it gets wrong is the attack's; of others only where it
    had none right.
    """

    rows: list[Robustness]
    clean: Interval
    originals: np.ndarray
    changed: np.ndarray
    epsilon: float
    before: np.ndarray
    """What the model takes the originals for: their classes, but where it had none right."""
    named: np.ndarray
    """What it takes the changed ones for."""


def check_epsilons(epsilons: Sequence[float]) -> None:
    """UserError unless there are some, each above 0 and up to 1."""
    if not epsilons or not all(0 < e <= 1 for e in epsilons):
        raise UserError(f"--epsilons {' '.join(map(str, epsilons))}: give numbers above 0, up to 1")


def robust_accuracy(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, epsilons: Sequence[float], *, steps: int = STEPS,
    seed: int = 0, shown: int = 12, told: Told | None = None,
) -> Attacked:  # fmt: skip
    """Accuracy of `model` on images uint8 (n, C, H, W) with labels int64 (n,), against each epsilon.

    UserError for epsilons outside 0 .. 1, and for other images or labels.
    """
    check_images(images, labels)
    check_epsilons(epsilons)
    if steps < 1:
        raise UserError(f"--steps {steps}: must be 1 or more")
    with _evaluating(model):
        return _attacked(model, images, labels, epsilons, steps, seed, shown, told)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In eval mode, and then each layer in the mode that it was found in."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def _attacked(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, epsilons: Sequence[float], steps: int, seed: int,
    shown: int, told: Told | None,
) -> Attacked:  # fmt: skip
    x, label = unit(images), torch.from_numpy(labels)
    total, done = len(epsilons) * len(x), 0
    right = {name: np.zeros(len(epsilons), dtype=int) for name in ("noise", "fgsm", "pgd")}
    before = torch.empty_like(label)
    middle = len(epsilons) // 2
    examples: dict[bool, list[tuple[int, Tensor]]] = {True: [], False: []}  # by whether the model had them right before
    for first in range(0, len(x), AT_ONCE):
        part, of = x[first : first + AT_ONCE], label[first : first + AT_ONCE]
        before[first : first + len(part)] = _named(model, part)
        start = randomness.uniform(seed, "attack", first, len(part), part[0].numel()).float().view(part.shape) * 2 - 1
        for number, epsilon in enumerate(epsilons):
            changed = {
                "noise": (part + RANGE * epsilon * start.sign()).clamp(-1, 1),
                "fgsm": fgsm(model, part, of, epsilon),
                "pgd": pgd(model, part, of, epsilon, steps=steps, start=start),
            }
            for name, images_changed in changed.items():
                right[name][number] += int((_named(model, images_changed) == of).sum())
            if number == middle:
                for i, image in enumerate(changed["pgd"], first):
                    some = examples[bool(before[i] == label[i])]
                    if len(some) < shown:
                        some.append((i, image.clone()))  # a view would keep all the others, too
            done += len(part)
            if told:
                told(done, total)
    rows = [
        Robustness(epsilon, *(binomial(int(right[name][number]), len(x)) for name in ("noise", "fgsm", "pgd")))
        for number, epsilon in enumerate(epsilons)
    ]
    chosen = examples[True] or examples[False]
    index, made = [i for i, _ in chosen], torch.stack([image for _, image in chosen])
    clean = binomial(int((before == label).sum()), len(x))
    named = _named(model, made).numpy()
    return Attacked(rows, clean, images[index], to_uint8(made), epsilons[middle], before[index].numpy(), named)


@torch.no_grad()
def _named(model: nn.Module, x: Tensor) -> Tensor:
    """The classes that the model takes images for, int64 (n,)."""
    return model(x).argmax(1)
