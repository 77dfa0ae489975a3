"""What this machine can do, what is missing, and what to type to get it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import psutil

from zerosum.calibrate import calibrate
from zerosum.errors import UserError

State = Literal["good", "note", "bad"]
LOW_MEMORY, LOW_DISK = 2.0, 2.0  # gigabytes that a run of small images should find free


@dataclass(frozen=True)
class Finding:
    """One line of the examination. "bad": nothing will run; "note": something is slower or missing."""

    name: str
    value: str
    state: State = "good"
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything; nothing is changed, nothing is downloaded. Takes some seconds."""
    return list(_findings())


def _findings() -> Iterator[Finding]:
    yield Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    python = sys.version_info
    old = python < (3, 11)
    yield Finding(
        "python",
        platform.python_version(),
        "bad" if old else "good",
        "install Python 3.11 or newer" if old else "",
    )
    yield from _packages()
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    low = free < LOW_MEMORY
    remedy = "close other programs, or train with a smaller --batch-size" if low else ""
    yield Finding("memory", f"{free:.1f} GB free of {total:.1f}", "note" if low else "good", remedy)
    yield _disk("disk for runs", Path("runs"))
    from zerosum.data.cache import cache_folder

    yield _disk("disk for packed data", cache_folder())
    yield _packs()
    try:
        import torch
    except Exception as error:  # a broken installation fails in many ways
        yield Finding("torch", f"cannot be imported: {error}", "bad", "pip install --force-reinstall torch torchvision")
        return
    yield from _processor(torch.get_num_threads())
    yield from _accelerators()
    yield _video()
    yield _fashion_mnist()


def _packages() -> Iterator[Finding]:
    """The packages that zerosum asks for, as its own metadata names them."""
    found, missing = [], []
    for requirement in ["zerosum", *(requires("zerosum") or ())]:
        if ";" in requirement:  # an extra
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding("packages", ", ".join(found))
    for name in missing:
        yield Finding(name, "not installed", "bad", f"pip install {name}")


def _disk(name: str, folder: Path) -> Finding:
    here = folder.resolve()
    while not here.exists():
        here = here.parent
    free = shutil.disk_usage(here).free / 2**30
    text = f"{free:.1f} GB free at {here}"
    if not os.access(here, os.W_OK):
        return Finding(name, f"{here} cannot be written", "note", "choose another place: --out DIR, ZEROSUM_CACHE=DIR")
    low = free < LOW_DISK
    return Finding(name, text, "note" if low else "good", "free some space, or choose another disk" if low else "")


def _packs() -> Finding:
    from zerosum.data import pack
    from zerosum.data.spec import Data

    folder = pack.folder(Data(source=""))
    count, size = pack.held(folder)
    days = pack.UNUSED_SECONDS // 86_400
    return Finding(
        "packed data",
        f"{count} sets, {size / 2**30:.1f} GB in {folder}; those not used for {days} days are removed when another is "
        "packed, and the folder may be deleted at any time",
    )


def _processor(threads: int) -> Iterator[Finding]:
    from zerosum.engine import has_fast_bf16, processor

    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    cores = psutil.cpu_count(logical=False) or usable
    yield Finding("processor", processor())
    yield Finding("cores", f"{cores}, {usable} usable by this process, {threads} threads by default")
    fast = has_fast_bf16()
    yield Finding(
        "bf16",
        "in hardware" if fast else "emulated: slower than fp32, which is used",
        "good" if fast else "note",
    )
    speed = calibrate()
    rates = (speed["matrix_gflops"], speed["convolution_gflops"])
    yield Finding("speed", "matrix {:.0f} GFLOP/s, convolution {:.0f} GFLOP/s (fp32)".format(*rates))


def _accelerators() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(i)
            yield Finding(f"gpu {i}", f"{gpu.name}, {gpu.total_memory / 2**30:.1f} GB; used by default")
    elif torch.backends.mps.is_available():
        yield Finding("gpu", "Apple's (mps)", "note", "use it with --device mps")
    else:
        yield Finding("gpu", "none that torch can use: everything runs on the processor", "note")


def _video() -> Finding:
    try:
        import av

        from zerosum.film import ENCODERS

        found = next((name for name in ENCODERS if name in av.codecs_available), None)
    except ImportError as error:
        return Finding("film encoder", f"cannot be imported: {error}", "bad", "pip install --force-reinstall av")
    if found is None:
        return Finding("film encoder", "none", "bad", "pip install --force-reinstall av")
    return Finding("film encoder", found)


def _fashion_mnist() -> Finding:
    from zerosum import data
    from zerosum.data.spec import Data

    try:
        data.open(Data(source="fashion-mnist", limit=2))
    except UserError:
        return Finding(
            "fashion-mnist", "not here (digits needs no files)", "note",
            "zerosum train fashion-mnist --download, or on Debian: apt install dataset-fashion-mnist",
        )  # fmt: skip
    return Finding("fashion-mnist", "found")
