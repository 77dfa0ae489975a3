"""The machine's side of a turn: device, precision, threads. An algorithm never sees any of it."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from zerosum.errors import UserError

Precision = Literal["auto", "fp32", "bf16", "fp64"]
DEVICES = ("auto", "cpu", "cuda", "mps")


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
    if platform.system() != "Linux":
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = file.read()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


@dataclass(frozen=True)
class Engine:
    """How forwards run. Weights are float32 (float64 for proofs); bf16 is autocast around them.

    Penalties ask for full precision: in bf16 a penalty is near but its gradient is 2 % off.
    """

    device: torch.device
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "fp64" else torch.float32

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


def resolve_precision(precision: Precision) -> Literal["fp32", "bf16", "fp64"]:
    """auto is fp32 until the gain of another is measured on the machine at hand."""
    return "fp32" if precision == "auto" else precision
