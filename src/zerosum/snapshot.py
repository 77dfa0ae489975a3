"""All tensors of a game, by name: what a checkpoint holds and puts back, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zerosum.checkpoint import Checkpoint
from zerosum.ema import EMA
from zerosum.errors import UserError
from zerosum.game import Players


def take(
    players: Players, ema: Mapping[str, EMA], optimisers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """players/NAME/..., carried/NAME/..., ema/NAME/..., adam/NAME/INDEX/MOMENT: nothing is copied."""
    tensors: dict[str, Tensor] = {}
    for kind, modules in (("players", players.networks), ("carried", players.carried)):
        for name, module in modules.items():
            tensors |= {f"{kind}/{name}/{k}": v for k, v in module.state_dict().items()}
    for name, average in ema.items():
        tensors |= {f"ema/{name}/{k}": v for k, v in average.network.state_dict().items()}
    for name, optimiser in optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"adam/{name}/{index}/{k}": v for k, v in moments.items()}
    return tensors


def fit(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a network. UserError if they are another network's: `path` says where they come from."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # torch lists every name and size that does not fit
        raise UserError(
            f"{path} holds weights of other networks than recipe.json describes: if that was changed, put back the "
            f"original ({str(error).splitlines()[-1].strip()})"
        ) from error


def put(
    saved: Checkpoint,
    players: Players,
    ema: Mapping[str, EMA],
    optimisers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """The inverse of `take`, into players and optimisers built from the same recipe."""
    for kind, modules in (("players", players.networks), ("carried", players.carried)):
        for name, module in modules.items():
            fit(module, saved.under(f"{kind}/{name}/"), saved.path)
    for name, average in ema.items():
        fit(average.network, saved.under(f"ema/{name}/"), saved.path)
    for name, optimiser in optimisers.items():
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in saved.under(f"adam/{name}/").items():
            index, moment = key.split("/")
            moments.setdefault(int(index), {})[moment] = _laid(value, parameters[int(index)])
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


def _laid(moment: Tensor, parameter: Tensor) -> Tensor:
    """In memory as its parameter is: a checkpoint holds rows, and torch's fused Adam goes through both as they lie."""
    return torch.empty_like(parameter).copy_(moment) if moment.shape == parameter.shape else moment
