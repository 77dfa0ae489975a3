"""The players as a run seats them: their forwards compiled if the engine says so, D behind the run's augmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zerosum.data.adaptive import FAMILIES, MORE, Adaptive
from zerosum.data.augment import POLICIES, augment
from zerosum.data.spec import Spec
from zerosum.engine import Engine
from zerosum.game import Players

if TYPE_CHECKING:
    from zerosum.run import Run

AUGMENT = "augment"  # the name among what is carried


@dataclass(frozen=True)
class Seat:
    """A network, and what plays for it.

    A penalty differentiates by D's input, a leaf that requires grad, and then once more. No compiled graph has a second
    derivative, so the network itself plays then. It differentiates by the raw image, through the augmentation.
    """

    network: nn.Module
    quick: nn.Module
    shown: Callable[[Tensor], Tensor] | None = None
    """What images pass first."""

    def __call__(self, x: Any, *more: Any, **named: Any) -> Any:
        """`x`: a batch or, for a player of features, several; `more`: what else this player takes, such as labels."""
        penalised = isinstance(x, Tensor) and x.is_leaf and x.requires_grad
        player = self.network if penalised else self.quick
        return player(x if self.shown is None else self.shown(x), *more, **named)


def carried_by(run: Run, spec: Spec) -> dict[str, nn.Module]:
    """What is kept from step to step beside the players: by the algorithm, and how strong augmentation is."""
    carried = run.algorithm.carries(spec)
    if "adaptive" not in run.augment:
        return carried
    more = [family for policy, family in MORE.items() if policy in run.augment]
    return carried | {AUGMENT: Adaptive(run.augment_images, (*FAMILIES, *more))}


def _augmentation(
    run: Run, images: Sequence[int], carried: Mapping[str, nn.Module]
) -> Callable[[Tensor], Tensor] | None:
    """The run's. `images`: channels of each image, where D is given several on each other."""
    policies = tuple(policy for policy in run.augment if policy in POLICIES)
    adaptive = carried.get(AUGMENT)

    def shown(x: Tensor) -> Tensor:
        x = augment(x, policies, images) if policies else x
        return x if adaptive is None else adaptive(x, images)

    return shown if run.augment else None


def seated(
    run: Run, networks: Mapping[str, nn.Module], engine: Engine, carried: Mapping[str, nn.Module] | None = None
) -> Players:
    """The networks ready to play this run, beside what the algorithm carries."""
    if not (engine.compile or run.augment):
        return Players(networks, carried=carried)
    seats = {}
    for name, network in networks.items():
        shown = _augmentation(run, getattr(network, "images", ()), carried or {}) if name[0] == "D" else None
        seats[name] = Seat(network, engine.compiled(network), shown)
    return Players(networks, seats, carried)
