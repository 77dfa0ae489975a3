"""Many processes play as one: started by torchrun, gloo on CPUs, NCCL on GPUs. Gradients are averaged by hand.

DistributedDataParallel is not used: a turn that has only a penalty, or two forwards with BatchNorm, gives it wrong
gradients or an error (see docs/architecture.md).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zerosum.errors import UserError

T = TypeVar("T")


@contextmanager
def _everyone() -> Iterator[None]:
    """Around what all processes do at once: it fails where one of them is gone, and the others cannot go on."""
    try:
        yield
    except RuntimeError as error:
        said = re.sub(r"^\[\S*\] ", "", str(error).partition("\n")[0])  # without the place in the library's source
        raise UserError(
            f"another process of this run has ended or does not answer ({said}); start all of them again with --resume "
            "to go on from the newest checkpoint"
        ) from error


def rank() -> int:
    return dist.get_rank() if _joined() else 0


def world() -> int:
    return dist.get_world_size() if _joined() else 1


_apart = False


def _joined() -> bool:
    return dist.is_initialized() and not _apart


@contextmanager
def apart() -> Iterator[None]:
    """Within it this process is one of one, whoever else trains: for probes, which the writer plays by itself."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def share(batch_size: int, micro_batches: int) -> int:
    """How many images of a batch are this process's. UserError if processes and micro-batches do not divide it."""
    if batch_size % (world() * micro_batches):
        raise UserError(
            f"--batch-size {batch_size}: must be a multiple of processes x micro-batches = {world()} x {micro_batches}"
        )
    return batch_size // world()


def is_writer() -> bool:
    """Rank 0 alone writes files and talks."""
    return rank() == 0


def start(device: torch.device) -> bool:
    """Join the group if torchrun started this process (it sets WORLD_SIZE). True if this call joined it."""
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":  # where objects that NCCL carries are put
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    return True


def stop() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


@torch.no_grad()
def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Average the gradients over all ranks, in place, in one message. An absent gradient (None) stays None."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    with _everyone():
        dist.all_reduce(flat)
    flat /= world()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a small tensor over all ranks (a new tensor; itself when alone)."""
    if world() == 1:
        return value
    total = value.clone()
    with _everyone():
        dist.all_reduce(total)
    return total


def agree(flag: bool, device: torch.device) -> bool:
    """True on every rank if it is true on any: so that all stop at the same step."""
    if world() == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)) > 0)


def gather(value: Tensor) -> list[Tensor]:
    """A small tensor of every rank, in the order of ranks; of one shape on all."""
    if world() == 1:
        return [value]
    everyone = [torch.empty_like(value) for _ in range(world())]
    with _everyone():
        dist.all_gather(everyone, value)
    return everyone


def broadcast(values: Sequence[Tensor]) -> None:
    """Give every rank the writer's tensors, in place."""
    if world() > 1:
        with _everyone():
            for value in values:
                dist.broadcast(value, src=0)


def by_writer(work: Callable[[], T]) -> T:
    """Let the writer do it and give its result to every rank; its UserError is raised on all of them."""
    if world() == 1:
        return work()
    box: list[Any] = [None, None]
    if is_writer():
        try:
            box[0] = work()
        except UserError as error:
            box[1] = str(error)
    with _everyone():
        dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise UserError(box[1])
    return box[0]


def barrier() -> None:
    if world() > 1:
        with _everyone():
            dist.barrier()
