"""zerosum: train, watch, measure and ship generative adversarial networks.

    import zerosum

    model = zerosum.train("digits", images=200_000)     # what `zerosum train digits` does
    model.sample(64, seed=7)                            # shows itself as a grid in a notebook
    zerosum.load("runs/digits-r3gan-001")               # the same model, later

Everything below is imported when it is first used: `import zerosum` alone is quick and does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerosum.api import compare, equilibrium_of, evaluate, resume, train
    from zerosum.data import from_arrays, from_torch
    from zerosum.data.spec import Data, Dataset, Spec
    from zerosum.errors import UserError
    from zerosum.exports import export
    from zerosum.game import Adam, Algorithm, Batch, Players, Turn, leaf
    from zerosum.networks import Networks
    from zerosum.run import Run
    from zerosum.sample import Model, Samples, load
    from zerosum.schedule import Constant, Cosine, Linear, Schedule
    from zerosum.sweeps import Sweep, sweep
    from zerosum.view import SilentView, View

_HOMES = {
    "api": ("compare", "equilibrium_of", "evaluate", "resume", "train"),
    "data": ("from_arrays", "from_torch"),
    "data.spec": ("Data", "Dataset", "Spec"),
    "errors": ("UserError",),
    "exports": ("export",),
    "game": ("Adam", "Algorithm", "Batch", "Players", "Turn", "leaf"),
    "networks": ("Networks",),
    "run": ("Run",),
    "sample": ("Model", "Samples", "load"),
    "schedule": ("Constant", "Cosine", "Linear", "Schedule"),
    "sweeps": ("Sweep", "sweep"),
    "view": ("SilentView", "View"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Adam", "Algorithm", "Batch", "Constant", "Cosine", "Data", "Dataset", "Linear", "Model", "Networks",
    "Players", "Run", "Samples", "Schedule", "SilentView", "Spec", "Sweep", "Turn", "UserError", "View",
    "__version__", "compare", "equilibrium_of", "evaluate", "export", "from_arrays", "from_torch", "leaf", "load",
    "resume", "sweep", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zerosum")
    if name in _HOME:
        return getattr(importlib.import_module(f"zerosum.{_HOME[name]}"), name)
    try:
        return importlib.import_module(f"zerosum.{name}")  # zerosum.recipes, zerosum.algorithms
    except ModuleNotFoundError as error:
        if error.name == f"zerosum.{name}":
            raise AttributeError(f"module 'zerosum' has no attribute {name!r}") from None
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
