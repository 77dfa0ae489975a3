"""The streams that views write to, and those of other people that they stand in for."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import IO, TextIO

from rich.console import Console


class Out:
    """A stream whose loss does not end a run, and that may be written to from a signal handler.

    A handler can run in the middle of a write, where Python's streams refuse another: it waits its turn here.
    """

    def __init__(self, stream: IO[str], encoding: str | None):
        self.stream: IO[str] | None = stream
        self.encoding = encoding or "utf-8"
        self.waiting: list[str] = []
        self.busy = False

    def write(self, text: str) -> None:
        """Write and flush what the stream's encoding can say of the text."""
        self.waiting.append(text.encode(self.encoding, "replace").decode(self.encoding))
        if self.busy:
            return
        self.busy = True
        try:
            while self.waiting and self.stream:
                self.stream.write(self.waiting.pop(0))
                self.stream.flush()
        except (OSError, ValueError):  # closed pipe, lost terminal, full disk under a log; closed file
            self.stream = None
        finally:
            self.busy = False
            if self.stream is None:
                self.waiting.clear()


class Lifted(io.TextIOBase):
    """Stands in for a terminal stream and passes whole lines on."""

    def __init__(self, stream: TextIO, say: Callable[[str], None]):
        self.stream, self.say, self.rest = stream, say, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.say(line.rsplit("\r", 1)[-1])
        return len(text)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding


def is_terminal(stream: TextIO) -> bool:
    """Whether lines can be changed in place there."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not Console(file=stream).legacy_windows
