"""The view for a pipe or a file: few lines, without control characters."""

from __future__ import annotations

from typing import TextIO

from PIL import Image

from zerosum.view import words
from zerosum.view.base import Level, Status
from zerosum.view.stream import Out

PLAIN_SECONDS, PLAIN_STEPS = 10.0, 20  # a line every ten seconds, or every twentieth of the way


class PlainView:
    """Lines for a pipe or a file, without control characters; the run survives its reader."""

    def __init__(self, stream: TextIO):
        self.out = Out(stream, stream.encoding)
        self.shown: Status | None = None

    def start(self, title: str, lines: list[str], images_total: int | None, minutes: float | None) -> None:
        self._write(title, *lines)

    def update(self, status: Status) -> None:
        if self.shown is not None:
            steps = int((status.fraction or 0) * PLAIN_STEPS) - int((self.shown.fraction or 0) * PLAIN_STEPS)
            if steps < 1 and abs(status.seconds - self.shown.seconds) < PLAIN_SECONDS:
                return
        self.shown = status
        parts = [words.seen(status), words.pace(status)]
        if accuracies := words.accuracies(status):
            parts.append("D right on " + ", ".join(f"{name} {words.percent(value)}" for name, value in accuracies))
        if status.numbers:
            parts.append(", ".join(f"{name} {words.number(value)}" for name, value in status.numbers.items()))
        self._write("; ".join(parts))

    def preview(self, image: Image.Image, images_seen: int) -> None:
        pass

    def message(self, text: str, level: Level = "info") -> None:
        self._write(words.said(text, level))

    def finish(self, lines: list[str]) -> None:
        self._write(*lines)

    def close(self) -> None:
        pass

    def _write(self, *lines: str) -> None:
        self.out.write("".join(f"{words.clean(line)}\n" for line in lines))
