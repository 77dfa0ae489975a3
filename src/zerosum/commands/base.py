"""What a command is: a frozen dataclass whose fields are its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from zerosum.data.spec import Data, Direction, Made, Pairing
from zerosum.errors import UserError


class Command(ABC):
    """The docstring's first line is the command's line in the top-level help; fields have theirs below."""

    examples: ClassVar[tuple[str, ...]]
    """Command lines that work, for the end of the help."""

    passes_on: ClassVar[bool] = False
    """Whether options that are not its own go into `rest` instead of being an error."""

    @abstractmethod
    def run(self) -> int:
        """Do it; the exit status. Raises UserError."""


def refuse_file(out: Path | None) -> None:
    """UserError where a folder is to be written and a file is there."""
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")


def fresh_folder(out: Path | None, default: Path, name: str) -> Path:
    """Where to write: `out`, or `default` with a number behind it if need be: no `name` of another call is lost.

    UserError if `out` holds one, or is a file.
    """
    if out is not None:
        refuse_file(out)
        if (out / name).exists():
            raise UserError(f"--out {out}: holds {name} already; give another folder")
        return out
    numbers = (default.with_name(f"{default.name}-{number:03d}") for number in count(2))
    return next(folder for folder in chain([default], numbers) if not (folder / name).exists())


def refuse_form(data: Data, run: Path) -> None:
    """UserError for options that would do nothing: the classifier of a run is shown images as the run sees them."""
    for name in ("size", "channels", "longest"):
        if (value := getattr(data, name)) != getattr(Data, name):
            given = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise UserError(f"--{name} {given}: images are brought to the size and channels of {run}; leave it out")


@dataclass(frozen=True, kw_only=True)
class DataOptions(Data):
    """How the data are read."""

    # That line is for the help; so are the fields' own, which are those of `Data`.

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[DATA]")] = "digits"
    """A name (digits, mnist, fashion-mnist, cifar10, celeba, ring, grid, moons) or a path (folder, zip, IDX,
    npy, npz)."""

    def plain(self) -> Data:
        return Data(**{name: getattr(self, name) for name in Data.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class OneSidedOptions(DataOptions):
    """How the data are read."""

    # Without those that are for translation: the command has no use for a second side.

    target: tyro.conf.Suppress[str | None] = None
    pairing: tyro.conf.Suppress[Pairing | None] = None
    made: tyro.conf.Suppress[Made | None] = None
    direction: tyro.conf.Suppress[Direction] = "A2B"
    jitter: tyro.conf.Suppress[int] = 0
