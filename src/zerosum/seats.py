"""The players as a run seats them: their forwards compiled if the engine says so, D behind the run's augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zerosum.data.augment import Policy, augment
from zerosum.engine import Engine
from zerosum.game import Players

if TYPE_CHECKING:
    from zerosum.run import Run


@dataclass(frozen=True)
class Seat:
    """A network, and what plays for it.

    A penalty differentiates by D's input, a leaf that requires grad, and then once more. No compiled graph has a second
    derivative, so the network itself plays then. It differentiates by the raw image, through the augmentation.
    """

    network: nn.Module
    quick: nn.Module
    policies: Sequence[Policy] = ()
    images: Sequence[int] = ()
    """Channels of each image, where the player is given several on each other."""

    def __call__(self, x: Any, *more: Any) -> Any:
        """`x`: a batch or, for a player of features, several; `more`: what else this player takes, such as labels."""
        penalised = isinstance(x, Tensor) and x.is_leaf and x.requires_grad
        player = self.network if penalised else self.quick
        return player(augment(x, self.policies, self.images) if self.policies else x, *more)


def seated(
    run: Run, networks: Mapping[str, nn.Module], engine: Engine, carried: Mapping[str, nn.Module] | None = None
) -> Players:
    """The networks ready to play this run, beside what the algorithm carries."""
    if not (engine.compile or run.augment):
        return Players(networks, carried=carried)
    seats = {}
    for name, network in networks.items():
        policies = run.augment if name.startswith("D") else ()
        seats[name] = Seat(network, engine.compiled(network), policies, getattr(network, "images", ()))
    return Players(networks, seats, carried)
