"""One of two processes of `test_battery.two_ranks`: plays every case given to it and writes what became.

Usage, with torchrun's environment variables set: ranks.py FOLDER '[[algorithm, data], ...]'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import safetensors.torch
import torch

import tiny
from zerosum import distributed
from zerosum.errors import UserError

torch.set_num_threads(1)

SETS = {
    "grey": tiny.images(), "points": tiny.points(), "colour": tiny.sides(), "unlike": tiny.sides((1, 8, 8), (4, 8, 8)),
    "pairs": tiny.sides(paired=True), "unlike pairs": tiny.sides((1, 8, 8), (3, 8, 8), paired=True),
}  # fmt: skip


def main(out: Path, cases: list[tuple[str, str]]) -> None:
    assert distributed.start(torch.device("cpu"))
    assert not distributed.start(torch.device("cpu")), "joined already"
    rank = distributed.rank()
    assert distributed.world() == 2
    assert distributed.is_writer() == (rank == 0)
    assert distributed.agree(rank == 1, torch.device("cpu")), "one is enough"
    assert not distributed.agree(False, torch.device("cpu"))
    for name, data in cases:
        run = tiny.run(name, toy=data == "points", precision="fp64", conditional=name in tiny.ALGORITHMS, seed=5)
        t = tiny.training(run, SETS[data])
        drawn: dict[str, list[int]] = {}
        real = t.loader.real

        def spy(purpose: str, first: int, count: int, real=real, drawn=drawn) -> torch.Tensor:  # type: ignore[no-untyped-def]
            drawn.setdefault(purpose, []).extend(range(first, first + count))
            return real(purpose, first, count)

        t.loader.real = spy  # type: ignore[method-assign]
        for _ in range(3):
            t.step()
        safetensors.torch.save_file(tiny.tensors(t), out / f"{name}-{data}-{rank}.safetensors")
        facts = {
            "seen": t.seen,
            "drawn": drawn,
            "drawn number": t.loader.uniform("epsilon", rank * t.local, 1).tolist(),
            "scores": t.turns.read_scores(),
        }
        (out / f"{name}-{data}-{rank}.json").write_text(json.dumps(facts))
    try:
        tiny.training(tiny.run("gan", batch_size=7), tiny.images())
    except UserError as error:
        (out / f"refused-{rank}.txt").write_text(str(error))
    distributed.barrier()
    distributed.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [(name, data) for name, data in json.loads(sys.argv[2])])
