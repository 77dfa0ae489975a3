"""All tensors of a game, by name: what a checkpoint holds and puts back, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zerosum.checkpoint import Checkpoint
from zerosum.ema import EMA


def take(
    networks: Mapping[str, nn.Module], ema: Mapping[str, EMA], optimisers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """players/NAME/..., ema/NAME/..., adam/NAME/INDEX/MOMENT: parameters, buffers and moments, not copied."""
    tensors: dict[str, Tensor] = {}
    for name, network in networks.items():
        tensors |= {f"players/{name}/{k}": v for k, v in network.state_dict().items()}
    for name, average in ema.items():
        tensors |= {f"ema/{name}/{k}": v for k, v in average.network.state_dict().items()}
    for name, optimiser in optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"adam/{name}/{index}/{k}": v for k, v in moments.items()}
    return tensors


def put(
    saved: Checkpoint,
    networks: Mapping[str, nn.Module],
    ema: Mapping[str, EMA],
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """The inverse of `take`, into networks and optimisers built from the same recipe."""
    for name, network in networks.items():
        network.load_state_dict(saved.under(f"players/{name}/"))
    for name, average in ema.items():
        average.network.load_state_dict(saved.under(f"ema/{name}/"))
    for name, optimiser in optimisers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in saved.under(f"adam/{name}/").items():
            index, moment = key.split("/")
            moments.setdefault(int(index), {})[moment] = value
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
