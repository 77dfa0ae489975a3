"""`zerosum data`: look at data before training on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import tyro

from zerosum.commands.base import Command, DataOptions


@dataclass(frozen=True, kw_only=True)
class DataCommand(Command):
    """Look at data before training on them.

    check: counts, sizes, channels, unreadable files, duplicates, classes, and the memory and time that a run takes here.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum data check ./photos",
        "zerosum data check digits --json",
        "zerosum data check photos.zip --size 64 64 --fit pad",
    )

    what: tyro.conf.Positional[Literal["check"]]
    """What to do."""
    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    json: bool = False
    """Print JSON instead of text."""

    def run(self) -> int:
        raise NotImplementedError
