"""Run as a process of its own: a file that torch.save wrote becomes safetensors and nothing else.

    python -P unpickle.py FILE OUT.safetensors

Such a file is a pickle, a program. `weights_only` lets it build tensors and plain containers alone; what it could do
besides, to use memory without end, hits the limit of this process. OUT gets the tensors as `NUMBER/NAME`, floats as
float32; a line of JSON on standard output names the dictionaries that they were in, by number, and the floats that were
not float32. On an error the line says what was raised, and the status is 1. This file imports nothing of the package,
so that it can run alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

SPARE = 1 << 30  # bytes that may be used on top of what torch holds once it is imported, and of the file
COPIES = 4  # of the file's bytes: as read, as tensors, as float32 (twice as much, if it was half), as written


def limit_memory(path: str) -> None:
    """On Linux, where the kernel holds to it; elsewhere the time limit of the parent is all there is."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + SPARE + COPIES * os.path.getsize(path)
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *known]), hard))


def groups(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary that holds tensors by name, with the names that lead to it; each once, though it hold itself."""
    if not isinstance(value, Mapping) or id(value) in seen:
        return
    seen.add(id(value))
    tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor) and _is_plain(v)}
    if tensors:
        yield name, tensors
    for key, inner in value.items():
        yield from groups(inner, f"{name}.{key}" if name else str(key), seen)


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_meta or tensor.is_complex())


def _own(tensor: Tensor) -> Tensor:
    """In memory of its own: safetensors refuses what shares memory."""
    tensor = tensor.detach()
    return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()


def main(path: str, out: str) -> dict[str, list[str]]:
    torch.set_num_threads(1)  # each would reserve memory of its own
    limit_memory(path)
    found = list(groups(torch.load(path, map_location="cpu", weights_only=True, mmap=False), "", set()))
    kinds = {value.dtype for _, group in found for value in group.values() if value.is_floating_point()}
    tensors = {f"{n}/{name}": _own(value) for n, (_, group) in enumerate(found) for name, value in group.items()}
    safetensors.torch.save_file(tensors, out)
    return {
        "groups": [name for name, _ in found],
        "dtypes": sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32}),
    }


if __name__ == "__main__":
    try:
        print(json.dumps(main(*sys.argv[1:])))
    except Exception as error:
        print(json.dumps({"kind": type(error).__name__, "message": str(error)}))
        sys.exit(1)
