"""One file a paper. A file placed in this folder is found by its name; nothing else needs to change."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import lru_cache

from zerosum.errors import UserError
from zerosum.game import Settings


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The algorithms' names: the files in this folder, without those that start with an underscore."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def translates(name: str) -> bool:
    """Whether an algorithm makes images of images: of two-sided data."""
    from zerosum.networks import Translators  # needs torch

    return isinstance(settings(name).algorithm.networks, Translators)


def settings(name: str, *, toy: bool = False) -> Settings:
    """The settings that an algorithm's file declares, for images or for toy mixtures."""
    wanted = name.replace("-", "_").lower()
    if wanted not in names():
        near = difflib.get_close_matches(wanted, names(), 1, 0.4)
        hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(names())}"
        raise UserError(f"--algorithm {name}: there is no such algorithm; {hint}")
    module = importlib.import_module(f"{__name__}.{wanted}")
    found = module.TOY if toy else module.SETTINGS
    if not isinstance(found, Settings):
        raise TypeError(f"{module.__name__}: SETTINGS and TOY must be game.Settings")
    return found
