"""The machine's side of a turn: device, precision, memory format, compiling. An algorithm never sees any of it."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from zerosum.errors import UserError

Precision = Literal["auto", "fp32", "bf16", "fp64"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]
Compile = Literal["auto", "on", "off"]
DEVICES = ("auto", "cpu", "cuda", "mps")
CPUINFO = Path("/proc/cpuinfo")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt, malloc.h
GRAPHS = 64  # of one network, at most: three for each of 15 sizes and fades up to 512 pixels, and to spare
KEEPING: list[bool] = []  # whether freed memory is kept now: a setting of the whole process


def choose_device(name: str) -> torch.device:
    """The device by name; auto takes a GPU if there is one. Under torchrun each process takes its own GPU."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "cpu"
    kind = name.split(":")[0]
    if kind not in DEVICES:
        raise UserError(f"--device {name}: unknown device; give one of {', '.join(DEVICES)}")
    if (kind == "cuda" and not cuda) or (kind == "mps" and not mps):
        raise UserError(f"--device {name}: this machine has no such device; give --device cpu")
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return torch.device(name)


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 BF16 or AMX; elsewhere it is emulated and slow)."""
    flags = _cpuinfo().get("flags", "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def processor() -> str:
    """What computes here, in a few words: the model, the vectors that torch uses, and whether it multiplies bf16."""
    known = _cpuinfo()
    model = known.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in known:  # a virtual machine may keep back the rest of the name
        model += f" (family {known['cpu family']}, model {known.get('model', '?')})"
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}{', bf16' if has_fast_bf16() else ''}"


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    if platform.system() != "Linux":
        return {}
    try:
        first = CPUINFO.read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let the C library keep blocks that are freed, for a step makes and frees the same ones as the step before.

    By default each block of 32 MB or more (the weights of a large network in bf16, their gradients) goes back to the
    system and comes again as pages of zeros. For glibc; without effect elsewhere, and inside another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.system() == "Linux" else None
    if mallopt is None or KEEPING or not mallopt(MMAP_THRESHOLD, 2**30):  # an older glibc refuses more than 32 MB
        yield
        return
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    KEEPING.append(True)
    try:
        yield
    finally:
        KEEPING.clear()
        mallopt(MMAP_THRESHOLD, 2**25)  # as high as glibc raises it by itself
        mallopt(TRIM_THRESHOLD, 2**26)
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Engine:
    """How forwards run. Weights are float32 (float64 for proofs); bf16 is autocast around them.

    Penalties ask for full precision: in bf16 a penalty is near but its gradient is 2 % off.
    """

    device: torch.device
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    compile: bool = False

    @property
    def waits(self) -> bool:
        """Whether the processor, to read one number back, waits until the device has done all that it was given."""
        return self.device.type != "cpu"

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "fp64" else torch.float32

    def place(self, module: nn.Module) -> nn.Module:
        """The network where it will play. Convolutions whose weights have their channels last pass that on."""
        module = module.to(self.device, self.dtype)
        return module.to(memory_format=torch.channels_last) if self.memory_format == "channels_last" else module

    def compiled(self, network: nn.Module) -> nn.Module:
        """What plays for the network: itself, or its forward and the backward that belongs to it as compiled graphs.

        torch makes one for each kind of call: frozen or not, with gradients or without, and of a network that grows
        for each size and fade. Beyond its own limit of 8 it would quietly not compile any more.
        """
        if not self.compile:
            return network
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
        return cast("nn.Module", torch.compile(network, dynamic=False))

    def seed(self, number: int) -> None:
        """Set the generators that dropout and the like draw from.

        Not by `torch.manual_seed`: it visits every kind of device there is, and that takes up to a millisecond.
        """
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)
        elif self.device.type == "mps":
            torch.mps.manual_seed(number)

    def forward(self, full_precision: bool = False) -> AbstractContextManager[Any]:
        if self.precision == "bf16" and not full_precision:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def backward(self) -> AbstractContextManager[Any]:
        """Without autocast, which would run the second derivatives of a penalty in bf16."""
        return torch.autocast(self.device.type, enabled=False) if self.precision == "bf16" else nullcontext()


def can_compile() -> bool:
    """Whether torch finds what it compiles with: on the processor a C++ compiler."""
    return torch.cuda.is_available() or any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))


def settled_precision(precision: Precision) -> Literal["fp32", "bf16", "fp64"]:
    """What auto means where nothing was measured: fp32. `recipes.quickest` measures."""
    return "fp32" if precision == "auto" else precision


def settled_format(memory_format: MemoryFormat) -> Literal["contiguous", "channels_last"]:
    """What auto means where nothing was measured: contiguous."""
    return "contiguous" if memory_format == "auto" else memory_format


def rivals(device: torch.device, networks: Iterable[nn.Module]) -> list[tuple[Precision, MemoryFormat]]:
    """The precisions and memory formats that may be quickest for these networks on this machine, the plain one first.

    Few, since each is tried: channels last is for convolutions, bf16 for processors (and GPUs) that multiply it.
    """
    convolves = any(isinstance(m, nn.modules.conv._ConvNd) for network in networks for m in network.modules())
    formats: list[MemoryFormat] = ["contiguous", *(["channels_last"] if convolves else [])]  # type: ignore[list-item]
    bf16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and has_fast_bf16()
    return [("fp32", f) for f in formats] + ([("bf16", formats[-1])] if bf16 else [])
