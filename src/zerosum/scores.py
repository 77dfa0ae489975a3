"""The score of the game, for the log: means of losses and gradients, and how often D is right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zerosum import distributed

CPU = torch.device("cpu")
JUDGED = 64  # pairs of logits that wait to be judged together: one by one they would cost a tenth of a small turn
HUGE = 3e38  # what an infinite loss counts as: JSON has no infinity


class Score:
    """A running sum in double precision. Values wait where they are made; they are read when the sum is."""

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self._total = total
        self._waiting: list[Tensor] = []
        self.count = count

    @property
    def total(self) -> float:
        if not self.count:
            raise RuntimeError("an empty score has no total")
        for value in self._waiting:  # one by one: the same sum whenever it is read
            number = float(value)
            # A loss may overflow in a sound update, and JSON has no infinity.
            self._total += 0.0 if math.isnan(number) else min(max(number, -HUGE), HUGE)
        self._waiting = []
        return self._total

    def add(self, value: Tensor) -> None:
        self._waiting.append(value.detach())
        self.count += 1


class Scoreboard:
    """Scores by name. `boundary`: as the algorithm's; `device`: the game's."""

    def __init__(self, boundary: float | None = 0.0, device: torch.device = CPU) -> None:
        self.boundary = boundary
        # NCCL sums only what is on its GPUs; alone, and with gloo, the processor's memory will do.
        self.device = device if device.type == "cuda" else CPU
        self.sums: dict[str, Score] = {}
        self._noted: list[tuple[Tensor, Tensor]] = []

    def add(self, name: str, value: Tensor) -> None:
        self.sums.setdefault(name, Score()).add(value)

    def note(self, real: Tensor, fake: Tensor) -> None:
        """Keep D's accuracy on real and on fake, from its logits (N,).

        Without a boundary they are judged at their midpoint: of this process and micro-batch, near enough for a log.
        """
        if self._noted and self._noted[0][0].shape != real.shape:
            self._judge()
        self._noted.append((real.detach(), fake.detach()))
        if len(self._noted) == JUDGED:
            self._judge()

    def _judge(self) -> None:
        """Turn the logits noted since the last time into accuracies."""
        if not self._noted:
            return
        # In float64 a mean of logits is the same in whatever company it is taken.
        real, fake = (torch.stack(side).double().flatten(1) for side in zip(*self._noted, strict=True))
        self._noted = []
        fixed = self.boundary
        middle = (real.mean(1) + fake.mean(1)) / 2
        threshold = (middle if fixed is None else torch.full_like(middle, fixed))[:, None]
        for name, right in (("accuracy/real", real > threshold), ("accuracy/fake", fake < threshold)):
            score = self.sums.setdefault(name, Score())
            for value in right.double().mean(1).cpu():
                score.add(value)

    def read(self) -> dict[str, float]:
        """Means since the last reading, over all processes; then starts anew."""
        self._judge()
        if not self.sums:
            return {}
        names, table = sorted(self.sums), distributed.sum_over_ranks(self._table())
        self.sums = {}
        return {name: float(total / count) for name, (total, count) in zip(names, table.tolist(), strict=True)}

    def _table(self) -> Tensor:
        """By name: (names, 2) of total and count."""
        rows = [(self.sums[name].total, float(self.sums[name].count)) for name in sorted(self.sums)]
        return torch.tensor(rows, dtype=torch.float64, device=self.device)

    def state(self) -> dict[str, Any]:
        """Exact in JSON: by name, [total, count] for each rank. All ranks must call it."""
        self._judge()
        tables = [table.tolist() for table in distributed.gather(self._table())] if self.sums else []
        return {name: [table[i] for table in tables] for i, name in enumerate(sorted(self.sums))}

    def load_state(self, state: Mapping[str, Sequence[Sequence[float]]]) -> None:
        self.sums, self._noted = {}, []
        for name, ranks in state.items():
            if len(ranks) == distributed.world():
                total, count = ranks[distributed.rank()]
            else:  # another number of processes than before: to each the mean of theirs
                total, count = sum(t for t, _ in ranks) / len(ranks), ranks[0][1]
            self.sums[name] = Score(total, int(count))
