"""Adam as a processor takes it quickest."""

from __future__ import annotations

from typing import Any

import torch


class FusedAdam(torch.optim.Adam):
    """torch's fused Adam, but for weights whose channels come last: on a processor it sees them as rows of memory.

    torch copies the gradient of every such weight first (2.14), which takes longer than the step itself. It also goes
    through weights, gradients and moments as each of them lies: rows of unlike ones are refused (RuntimeError).
    """

    def __init__(self, parameters: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, fused=True)

    def _init_group(self, group: Any, params: Any, grads: Any, *moments: Any) -> Any:
        found = super()._init_group(group, params, grads, *moments)
        for i, p in enumerate(params):
            if p.device.type == "cpu" and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last):
                for tensors in (params, grads, *moments[:2]):
                    tensors[i] = tensors[i].detach().permute(0, 2, 3, 1).view(-1)
        return found
