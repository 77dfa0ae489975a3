"""What a critic of labelled images may end in, beside one logit: the classes, too.

Called as any critic each gives (n,) logits; called with `whole`, all that it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from zerosum.networks.init import scaled_

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Auxiliary(nn.Module):
    """A logit of being real and, beside it, one a class (Odena et al. 2017, arXiv:1610.09585, sec. 4)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.source = scaled_(nn.Linear(features, 1))
        self.classes = scaled_(nn.Linear(features, classes))

    def forward(
        self, features: Float[Tensor, "n c"], label: Int[Tensor, " n"] | None = None, whole: bool = False
    ) -> Float[Tensor, " n"] | tuple[Float[Tensor, " n"], Float[Tensor, "n k"]]:
        """Logits of being real; `whole`: and of the classes. The label is not looked at."""
        real = self.source(features).squeeze(1)
        return (real, self.classes(features)) if whole else real


class ClassesOrFake(nn.Module):
    """One logit a class; that of being fake is 0 (Salimans et al. 2016, arXiv:1606.03498, sec. 5).

    K + 1 logits are one too many: a softmax does not change when all of them move alike. So l_(K+1) = 0, and with
    Z = sum_k exp l_k(x) D(x) = Z / (Z + 1): the logit of being real is log Z.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classes = scaled_(nn.Linear(features, classes))

    def forward(
        self, features: Float[Tensor, "n c"], label: Int[Tensor, " n"] | None = None, whole: bool = False
    ) -> Float[Tensor, " n"] | tuple[Float[Tensor, "n k"], Float[Tensor, "n c"]]:
        """Logits of being real; `whole`: those of the classes and the features they are made of."""
        logits = self.classes(features)
        return (logits, features) if whole else log_z(logits)


def log_z(logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The logit of being real that classes with these logits have together."""
    return torch.logsumexp(logits.float(), 1).to(logits.dtype)
