"""Whether the fakes have the classes in the shares that the data has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zerosum.errors import UserError


@dataclass(frozen=True)
class ClassBalance:
    """Class shares of fakes beside those of real images, as one classifier sees both."""

    divergence: float
    """KL(fake || real) in nats: 0 for equal shares."""
    floor: float
    """Its mean for two samples of one distribution of these sizes: (K - 1) / 2 (1 / n_real + 1 / n_fake)."""
    p_value: float
    """How often two samples of one distribution differ more than these, by the likelihood ratio."""
    real: tuple[float, ...]
    """Share of every class among the real images."""
    fake: tuple[float, ...]
    """Share of every class among the fakes."""


def class_balance(real: Tensor, fake: Tensor, classes: int) -> ClassBalance:
    """Compares class numbers real (n,) and fake (m,), integers in 0 .. classes - 1: a classifier's predictions.

    Half a sample is added to every class of both sides (Krichevsky and Trofimov 1981), so that a class which the real
    images do not show costs much and not infinitely much. The floor is the first-order mean of the divergence, the
    p-value that of G = 2 sum O ln(O / E) by its chi-squared limit, both over the classes K that either side has.
    """
    if classes < 2:
        raise UserError(f"classes {classes}: a balance of classes needs 2 or more")
    counts = []
    for name, predicted in (("real", real), ("fake", fake)):
        if len(predicted) == 0 or int(predicted.min()) < 0 or int(predicted.max()) >= classes:
            raise UserError(f"{name}: class numbers 0 .. {classes - 1} of at least one image are wanted")
        counts.append(torch.bincount(predicted.long(), minlength=classes).double())
    n, m = (float(c.sum()) for c in counts)
    p, q = (((c + 0.5) / (c.sum() + classes / 2)) for c in counts)
    seen = int((counts[0] + counts[1] > 0).sum())
    expected = [(counts[0] + counts[1]) * (c.sum() / (n + m)) for c in counts]
    ratio = 2 * sum(float(torch.xlogy(o, o / e.clamp(min=1e-300)).sum()) for o, e in zip(counts, expected, strict=True))
    tail = torch.special.gammaincc(
        torch.tensor(max(seen - 1, 1) / 2, dtype=torch.float64), torch.tensor(max(ratio, 0.0) / 2, dtype=torch.float64)
    )
    return ClassBalance(
        divergence=float((q * (q / p).log()).sum()),
        floor=(seen - 1) / 2 * (1 / n + 1 / m),
        p_value=float(tail),
        real=tuple((counts[0] / n).tolist()),
        fake=tuple((counts[1] / m).tolist()),
    )
