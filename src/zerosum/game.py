"""The game: players, batches and turns. An algorithm says whose turn it is and what that player minimises.

    with turn("D") as minimise:          # D moves: it alone is thawed, everyone else is frozen
        for b in turn.split(batch):      # the whole batch, or micro-batches where memory is short
            minimise(loss(p.D(b.image), p.D(p.G(b.z))))

On leaving the block the gradients are averaged over the processes, checked, and the player's optimiser steps. Nothing
else in the package knows how to do these things.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from zerosum import distributed
from zerosum.adam import FusedAdam
from zerosum.data.adaptive import Adaptive
from zerosum.data.augment import Policy
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks import Growing, Networks, Translators, coupled, stateful, track
from zerosum.schedule import Schedule
from zerosum.scores import Scoreboard

LATE = 1 << 40  # images seen: later than any run goes on
BOOKED = 64  # turns that wait to be booked together where the device would be waited for
Labels = Literal["optional", "both", "critic"]
Buffers = list[tuple[Tensor, Tensor]]  # each with what it was before the turn


def leaf(x: Tensor) -> Tensor:
    """x as a leaf that requires grad, cut from what made it: the point at which a penalty differentiates."""
    return x.detach().requires_grad_()


class Source(Protocol):
    """Where a batch's numbers come from, by the global index of its first sample (see `data.loader`)."""

    def real(self, purpose: str, first: int, count: int) -> Tensor: ...
    def label(self, purpose: str, first: int, count: int) -> Tensor | None: ...
    def latent(self, purpose: str, first: int, count: int) -> Tensor: ...
    def uniform(self, purpose: str, first: int, count: int) -> Tensor: ...


@dataclass(frozen=True)
class Batch:
    """The samples first .. first+count-1 of a run: real images, labels and latents, each drawn when first asked for.

    Shapes: image (N, C, H, W) or (N, d) in the run's precision, scaled to [-1, 1] if images; label (N,) int64 or
    None; z (N, latent). The twins `image2`, `label2`, `z2` are a second, independent draw, for G's turn.
    Where labels are known of some images alone, `labelled` are such images, and `known_label` (N,) what they are.
    Of a two-sided set: `a` (N, Ca, H, W) and `b` (N, Cb, H, W), which belong together if the set is paired.
    """

    source: Source
    first: int
    count: int
    stride: int  # samples from this batch to the next one of the same process: the total batch of all processes

    @cached_property
    def image(self) -> Tensor:
        return self.source.real("real", self.first, self.count)

    @cached_property
    def label(self) -> Tensor | None:
        return self.source.label("real", self.first, self.count)

    @cached_property
    def z(self) -> Tensor:
        return self.source.latent("z", self.first, self.count)

    @cached_property
    def image2(self) -> Tensor:
        return self.source.real("real2", self.first, self.count)

    @cached_property
    def label2(self) -> Tensor | None:
        return self.source.label("real2", self.first, self.count)

    @cached_property
    def z2(self) -> Tensor:
        return self.source.latent("z2", self.first, self.count)

    @cached_property
    def labelled(self) -> Tensor:
        return self.source.real("labelled", self.first, self.count)

    @cached_property
    def known_label(self) -> Tensor | None:
        return self.source.label("labelled", self.first, self.count)

    @cached_property
    def a(self) -> Tensor:
        return self.source.real("a", self.first, self.count)

    @cached_property
    def b(self) -> Tensor:
        return self.source.real("b", self.first, self.count)

    @cached_property
    def epsilon(self) -> Tensor:
        return self.uniform("epsilon")

    def uniform(self, purpose: str) -> Tensor:
        """Uniform numbers in (0, 1), one a sample, (N,)."""
        return self.source.uniform(purpose, self.first, self.count)

    def number(self, seen: int) -> int:
        """How many batches, over all processes, D's turns had drawn before `seen`: for what is due every so many."""
        return seen // self.stride

    def rounds(self, n: int) -> list[Batch]:
        """This batch and the n-1 that follow: one for each D turn of a step with several."""
        return [Batch(self.source, self.first + i * self.stride, self.count, self.stride) for i in range(n)]

    def parts(self, n: int) -> list[Batch]:
        """n equal micro-batches; a count that n does not divide is an error."""
        if n == 1:
            return [self]
        size, rest = divmod(self.count, n)
        if rest:
            raise ValueError(f"{self.count} samples do not split into {n} equal micro-batches")
        return [Batch(self.source, self.first + i * size, size, self.stride) for i in range(n)]


class Players:
    """The networks in the game, by the names that the paper gives them: `p.G`, `p.D`.

    `played`: what a call runs where that is not the network itself, but it compiled or behind an augmentation.
    `carried`: what the algorithm keeps beside them from step to step, found by name like them.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        played: Mapping[str, Callable[..., Any]] | None = None,
        carried: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.networks = dict(networks)
        self.carried = dict(carried or {})
        self.played: dict[str, Callable[..., Any]] = {**self.networks, **self.carried, **(played or {})}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        try:
            return self.__dict__["played"][name]
        except KeyError:
            raise AttributeError(f"no player named {name}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.networks)

    @property
    def young(self) -> Growing | None:
        """One that has doublings yet to come."""
        return next((n for n in self.networks.values() if isinstance(n, Growing) and not n.complete), None)


class Minimise(Protocol):
    """What a turn hands out: the player's loss, one number a sample (or a patch map), is averaged and minimised."""

    def __call__(self, loss: Tensor, share: float | None = None) -> None: ...


class Turn(Protocol):
    """What an algorithm's step receives as `turn`."""

    def __call__(self, *names: str, full_precision: bool = False) -> AbstractContextManager[Minimise]: ...
    def ahead(self, *names: str) -> AbstractContextManager[None]: ...
    def split(self, batch: Batch) -> Iterator[Batch]: ...
    def note(self, *, real: Tensor, fake: Tensor) -> None: ...
    def log(self, **losses: Tensor) -> None: ...


class Algorithm(ABC):
    """One paper: its networks and its step. Each is a frozen dataclass in a file of its own in `algorithms/`."""

    networks: Networks | Translators
    heaviest_at: ClassVar[int] = 0
    """Images seen at which a step takes most time and memory: LATE of a game that grows."""
    labels: ClassVar[Labels] = "optional"
    """Whether the game needs labels: as the run says, always and of both players, or always and of D alone."""
    averaged: ClassVar[tuple[str, ...]] = ("G",)
    """What the names of players start with whose weights are averaged."""
    coupled: ClassVar[bool] = False
    """True if a loss is of the batch as a whole, which therefore is not split."""

    @property
    def boundary(self) -> float | None:
        """The logit by which D says half and half; None if its logits mean something only against each other."""
        return 0.0

    @property
    def rounds(self) -> int:
        """How many batches of real images the D turns of one step draw."""
        return 1

    @property
    def more_d_turns(self) -> float:
        """Turns of D that a step has beyond one a round, on average: those of lazy penalties."""
        return 0.0

    @abstractmethod
    def players(self, spec: Spec) -> dict[str, nn.Module]:
        """The networks by the paper's names, built for the data. Names with D use `adam_d`, others `adam_g`."""

    def carries(self, spec: Spec) -> dict[str, nn.Module]:
        """What it keeps beside the players from step to step, by name: modules of buffers alone, for checkpoints."""
        return {}

    @abstractmethod
    def step(self, turn: Turn, p: Players, batch: Batch, seen: int) -> None:
        """One iteration of the paper's algorithm. `seen`: real images that D's turns have drawn before it."""


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma and Ba 2015). The betas are floats: torch refuses a pair of ints."""

    lr: Schedule
    beta1: float = 0.5
    beta2: float = 0.999
    eps: float = 1e-8

    def slowed(self, c: float) -> Adam:
        """What makes as much way in 1/c steps as this does in one: c lr, beta^c.

        For a player with lazy penalties: c = k / (k + 1) for one every k turns (Karras et al. 2020, app. B).
        """
        lr = replace(self.lr, start=self.lr.start * c, end=self.lr.end * c)
        return replace(self, lr=lr, beta1=float(self.beta1) ** c, beta2=float(self.beta2) ** c)

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """For all parameters of a player. The learning rate of each step is set by the trainer."""
        betas = (float(self.beta1), float(self.beta2))
        return FusedAdam(network.parameters(), self.lr(0), betas, self.eps)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """An algorithm with everything that its paper settles beside it; a recipe adds the data and the length."""

    algorithm: Algorithm
    adam_g: Adam
    adam_d: Adam
    batch_size: int
    images: int
    ema_half_life: Schedule
    augment: tuple[Policy, ...] = ()


class Engine(Protocol):
    """The machine's side of a turn (see `zerosum.engine`)."""

    @property
    def waits(self) -> bool: ...
    def forward(self, full_precision: bool = False) -> AbstractContextManager[Any]: ...
    def backward(self) -> AbstractContextManager[Any]: ...


class Turns:
    """The referee. Freezes and thaws, clears, averages, guards, steps; keeps the score for the log."""

    def __init__(
        self,
        players: Players,
        optimisers: Mapping[str, torch.optim.Optimizer],
        engine: Engine,
        *,
        micro_batches: int = 1,
        boundary: float | None = 0.0,
        coupled_loss: bool = False,
    ) -> None:
        self.players = players
        self.optimisers = optimisers
        self.engine = engine
        self.micro_batches = micro_batches
        self.skipped = 0  # turns skipped for a non-finite gradient, in the whole run
        self.skips_in_a_row: dict[str, int] = {}  # by player
        self.share = 1.0  # of the batch that the micro-batch at hand is
        self._ended: list[tuple[str, Tensor, Tensor]] = []  # turns still to be booked: player, loss, gradient's norm
        self._before: dict[str, Buffers] = {}  # of players that are ahead of their turn
        self._parameters = {name: list(network.parameters()) for name, network in players.networks.items()}
        self.scores = Scoreboard(boundary, next(p.device for ps in self._parameters.values() for p in ps))
        self._stateful = {name: stateful(network) for name, network in players.networks.items()}
        self._adaptive = [module for module in players.carried.values() if isinstance(module, Adaptive)]
        if micro_batches > 1 and coupled_loss:
            raise UserError(
                f"micro_batches={micro_batches}: a loss of this game is of the batch as a whole, so it cannot be "
                "split; set micro_batches to 1"
            )
        if micro_batches > 1:
            for name, network in players.networks.items():
                if coupled(network):
                    raise UserError(
                        f"micro_batches={micro_batches}: the samples of a batch influence each other in {name} "
                        "(BatchNorm or minibatch statistics), so it cannot be split; set micro_batches to 1"
                    )

    @contextmanager
    def __call__(self, *names: str, full_precision: bool = False) -> Iterator[Minimise]:
        self.thaw(*names)
        movers = [parameter for name in names for parameter in self._parameters[name]]
        buffers = [pair for name in names for pair in self._before.pop(name, None) or self._kept(name)]
        losses: list[Tensor] = []

        def minimise(loss: Tensor, share: float | None = None) -> None:
            if loss.dim() == 0:
                raise ValueError("minimise takes one loss a sample, shape (N,): the turn does the averaging")
            mean, weight = loss.mean(), self.share if share is None else share
            if weight != 1.0:
                mean = mean * weight
            with self.engine.backward():
                mean.backward()
            losses.append(mean.detach())

        try:
            with self.engine.forward(full_precision):
                yield minimise
            if not losses:
                raise RuntimeError(f"the turn of {', '.join(names)} minimised nothing: call minimise(loss) in it")
            distributed.average_gradients(movers)
            gradients = [p.grad for p in movers if p.grad is not None]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            if self.engine.waits:
                self._step_unseen(names, norm, buffers)
            else:
                self._step(names, norm, buffers)
            self._ended.append(("+".join(names), losses[0] if len(losses) == 1 else torch.stack(losses).sum(), norm))
            if not self.engine.waits or len(self._ended) == BOOKED:
                self.settle()
        finally:
            for parameter in movers:
                parameter.grad = None

    @contextmanager
    def ahead(self, *names: str) -> Iterator[None]:
        """Let these players record their graph before their own turn, in which it is used.

        So that one batch of fakes serves both sides, as in most loops: G makes it ahead, D's turn sees it detached, and
        G's turn shows it to the D that has moved.
        """
        self.thaw(*names)
        self._before |= {name: self._kept(name) for name in names}
        with self.engine.forward():
            yield

    def _kept(self, name: str) -> Buffers:
        """A skipped turn must leave no trace: BatchNorm statistics of a non-finite forward would."""
        return [(b, b.clone()) for m in self._stateful[name] for b in m.buffers()]

    def _step(self, names: Sequence[str], norm: Tensor, buffers: Buffers) -> None:
        """All movers step, or none if the gradient is not finite. It is looked at here and now, which costs nothing."""
        if math.isfinite(norm):
            for name in names:
                self.optimisers[name].step()
        else:
            for buffer, before in buffers:
                buffer.copy_(before)

    def _step_unseen(self, names: Sequence[str], norm: Tensor, buffers: Buffers) -> None:
        """The same where reading the flag would make the processor wait for the device: it stays there.

        torch's fused Adam takes it as `found_inf`, as its gradient scaler hands it over.
        """
        bad = ~norm.isfinite()
        for name in names:
            optimiser: Any = self.optimisers[name]
            optimiser.found_inf, optimiser.grad_scale = bad.float(), None
            optimiser.step()
        for buffer, before in buffers:
            buffer.copy_(torch.where(bad, before, buffer))

    def settle(self) -> None:
        """Book the turns that ended since the last time: their scores, or that they were skipped."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        norms = torch.stack([norm for _, _, norm in ended]).tolist() if len(ended) > 1 else [float(ended[0][2])]
        for (player, loss, norm), number in zip(ended, norms, strict=True):
            if math.isfinite(number):
                self.skips_in_a_row[player] = 0
                self.scores.add(f"loss/{player}", loss)
                self.scores.add(f"gradient/{player}", norm)
            else:
                self.skipped += 1
                self.skips_in_a_row[player] = self.skips_in_a_row.get(player, 0) + 1

    def thaw(self, *names: str) -> None:
        """Let these players move, their parameters and their running statistics, and freeze everyone else."""
        for name in self.players:
            moves = name in names
            for parameter in self._parameters[name]:
                parameter.requires_grad = moves
            track(self._stateful[name], moves)

    def split(self, batch: Batch) -> Iterator[Batch]:
        """The batch in the run's micro-batches; `minimise` weighs each by its share while the loop is at it."""
        parts = batch.parts(self.micro_batches)
        self.share = 1.0 / len(parts)
        try:
            yield from parts
        finally:
            self.share = 1.0

    def note(self, *, real: Tensor, fake: Tensor) -> None:
        """Keep D's accuracy on real and on fake for the log, from its logits (N,); what adapts to it does."""
        self.scores.note(real, fake)
        for adaptive in self._adaptive:
            assert self.scores.boundary is not None, "`Run.sees` refuses a game without one"
            adaptive.observe(real, fake, boundary=self.scores.boundary)

    def log(self, **losses: Tensor) -> None:
        """Keep the parts of a loss, (N,) each, for the log: what the sum hides."""
        for name, loss in losses.items():
            self.scores.add(f"loss/{name}", loss.detach().mean())

    def read_scores(self) -> dict[str, float]:
        """Means since the last reading, over all processes; then starts anew."""
        self.settle()
        return self.scores.read()

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of the score, exact in JSON. All ranks must call it."""
        self.settle()
        return {
            "skipped": self.skipped,
            "skips_in_a_row": dict(self.skips_in_a_row),
            "scores": self.scores.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._ended = []
        self.skipped = state["skipped"]
        self.skips_in_a_row = dict(state["skips_in_a_row"])
        self.scores.load_state(state["scores"])
