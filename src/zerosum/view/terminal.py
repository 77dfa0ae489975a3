"""The view for a terminal: a few lines that stay in place, and samples drawn in characters."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from PIL import Image
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from zerosum import pictures
from zerosum.view import characters, words
from zerosum.view.base import Level, Status
from zerosum.view.stream import Lifted, Out

REDRAW_SECONDS = 0.25
SHARE = 0.01  # of one core: a view that takes longer to draw draws less often
WIDE, STATS_WIDTH = 112, 64  # columns: from here on samples stand beside the numbers, which keep this width
HISTORY = 64  # points of the small curves


@dataclass(frozen=True)
class _Glyphs:
    full: str
    rest: str
    full_mark: str  # where 50 % is
    rest_mark: str
    spark: str
    art: bool  # half-blocks may be used


_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}
_UNICODE = _Glyphs("━", "─", "┿", "┼", "▁▂▃▄▅▆▇█", True)
_ASCII = _Glyphs("=", "-", "|", "|", "_.-=^", False)


class TerminalView:
    """A few lines that stay in place and change, with samples below or beside them; messages scroll by above.

    Draws by rewriting only the lines that changed: a picture of samples is some 35 kB of colour codes, and
    sending it four times a second for nothing is what makes such views costly, above all over a network.
    """

    def __init__(self, console: Console):
        self.console = console
        self.out = Out(console.file, console.encoding)  # fixed now: later sys.stderr leads here
        unicode = (console.encoding or "").lower().startswith("utf")
        self.glyphs = _UNICODE if unicode else _ASCII
        self.colour: characters.Colour = "none"
        if unicode and not console.no_color and console.color_system in ("truecolor", "256"):
            self.colour = "truecolor" if console.color_system == "truecolor" else "256"
        self.system = _SYSTEMS.get(console.color_system or "")
        self.status: Status | None = None
        self.sample: tuple[Image.Image, int] | None = None
        self.art: list[str] = []
        self.art_room = (0, 0)
        self.above: deque[Text] = deque(maxlen=8)
        self.history: dict[str, list[float]] = {}
        self.draws, self.every = 0, 1  # how often the history is added to
        self.drawn: list[str] = []
        self.size = console.size
        self.next_draw = 0.0
        self.open = False
        self.lock = threading.RLock()
        self.streams: list[tuple[str, Any]] = []

    def start(self, title: str, lines: list[str], images_total: int | None, minutes: float | None) -> None:
        with self.lock:
            self.open = True
            self.out.write("\x1b[?25l")  # hide the cursor
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if stream.isatty():  # other people's warnings would tear the picture: lift them above it
                    self.streams.append((name, stream))
                    setattr(sys, name, Lifted(stream, lambda line: self._say(Text.from_ansi(line))))
            self._say(Text(words.clean(title), "bold"), *(Text(words.clean(line)) for line in lines))

    def update(self, status: Status) -> None:
        self.status = status
        if self.open and time.monotonic() >= self.next_draw:
            self._remember(status)
            self._draw()

    def _remember(self, status: Status) -> None:
        """D's accuracies over the whole run, evenly spaced, ever more coarsely."""
        self.draws += 1
        if self.draws % self.every:
            return
        for name, value in words.accuracies(status):
            self.history.setdefault(name, []).append(value)
        if max(map(len, self.history.values()), default=0) > HISTORY:
            self.history = {name: past[1::2] for name, past in self.history.items()}
            self.every *= 2

    def preview(self, image: Image.Image, images_seen: int) -> None:
        self.sample, self.art_room = (image, images_seen), (0, 0)
        if self.open:
            self._draw()
            self.next_draw = time.monotonic() + REDRAW_SECONDS  # a new picture is dear, and rare

    def message(self, text: str, level: Level = "info") -> None:
        style = {"info": "", "warning": "yellow", "error": "bold red"}[level]
        self._say(Text(words.clean(words.said(text, level)), style))

    def finish(self, lines: list[str]) -> None:
        if self.open:
            self._draw()
        self.close()
        self._say(*(Text(words.clean(line)) for line in lines))

    def close(self) -> None:
        with self.lock:
            if not self.open:
                return
            self.open = False
            for name, stream in self.streams:
                setattr(sys, name, stream)
            self.streams = []
            self.drawn = []  # what stands stays
            self.out.write("\x1b[0m\x1b[?25h")

    def _say(self, *lines: Text) -> None:
        """Print lines above the part that stays in place."""
        with self.lock:
            self.above.extend(lines)
            back = f"\x1b[{len(self.drawn)}A\r\x1b[J" if self.drawn else ""
            self.drawn = []
            self.out.write(back + self._wrapped(*lines))
            if self.open:
                self._draw()

    def _draw(self) -> None:
        with self.lock:
            began = time.thread_time()
            out = []
            if self.console.size != self.size:  # the terminal may have folded lines anyhow: begin afresh
                self.size, self.drawn = self.console.size, []
                out = ["\x1b[2J\x1b[H", self._wrapped(*self.above)]
            lines = self._lines()[: self.size.height - 1]
            if self.drawn:
                out.append(f"\x1b[{len(self.drawn)}A\r")
            for i, line in enumerate(lines):
                same = i < len(self.drawn) and self.drawn[i] == line
                out.append("\n" if same else f"{line}\x1b[K\n")
            if len(lines) < len(self.drawn):
                out.append("\x1b[J")
            self.drawn = lines
            self.out.write("".join(out))
            cost = time.thread_time() - began
            self.next_draw = time.monotonic() + max(REDRAW_SECONDS, cost / SHARE)

    def _lines(self) -> list[str]:
        """The lines in place: each fits the width, all fit the height."""
        columns, rows = self.size.width - 1, self.size.height - 1
        beside = columns >= WIDE
        width = STATS_WIDTH if beside else columns
        texts = [] if self.status is None else self._stats(self.status, width)
        if self.sample is None:
            return [self._ansi(text, width) for text in texts]
        room = (columns - width - 3, rows - 1) if beside else (columns, rows - len(texts) - 2)
        if room[1] < 4 or room[0] < 16:
            return [self._ansi(text, width) for text in texts]
        if room != self.art_room:
            per_row = 1 if self.colour == "none" else 2  # plain characters: drawn twice as large, to be read
            image = pictures.fewer(self.sample[0], room[0] * per_row // 2, room[1] * per_row)
            self.art = [self._ansi(line, room[0]) for line in characters.draw(image, room[0], room[1], self.colour)]
            self.art_room = room
        label = Text(f" samples at {self.sample[1]:,} images", "dim")
        if not beside:
            return [self._ansi(text, width) for text in [*texts, Text(), label]] + self.art
        for text in texts:
            text.truncate(width, pad=True)
        left = [self._ansi(text, width) for text in texts]
        right = [self._ansi(label, room[0]), *self.art]
        return [f"{a}   {b}" for a, b in itertools.zip_longest(left, right, fillvalue="") if a] + [
            " " * (width + 3) + b for b in right[len(left) :]
        ]

    def _stats(self, status: Status, width: int) -> list[Text]:
        bar, spark = max(10, width - 40), 16
        lines = []
        if status.fraction is not None:
            wide = max(10, width - 13 - len(words.seen(status)))
            lines.append(
                Text.assemble(
                    (" images    ", "bold"),
                    *self._bar(status.fraction, wide, "blue"),
                    "  ",
                    words.seen(status),
                )
            )
            lines.append(Text(" " * 11 + words.pace(status)))
        else:
            lines.append(Text.assemble((" images    ", "bold"), f"{words.seen(status)}, {words.pace(status)}"))
        for name, value in words.accuracies(status):
            colour = {"real": "cyan", "fake": "magenta"}[name]
            lines.append(
                Text.assemble(
                    (f" D on {name} ", "bold"),
                    *self._bar(value, bar, colour, bar // 2),
                    f" {words.percent(value):>5}  ",
                    (self._spark(self.history.get(name, []), spark), colour),
                )
            )
        if words.accuracies(status):
            lines.append(Text(" " * 11 + words.GUESSING.center(bar // 2 * 2 + 1), "dim"))
        row = ""
        for number in (f"   {name} {words.number(value)}" for name, value in status.numbers.items()):
            if row and 8 + len(row + number) > width:
                lines.append(Text(" " * 8 + row))
                row = ""
            row += number
        return [*lines, Text(" " * 8 + row)] if row else lines

    def _bar(self, value: float, width: int, colour: str, mark: int = -1) -> list[tuple[str, str]]:
        g, filled = self.glyphs, round(min(1.0, max(0.0, value)) * width)
        cells = [(g.full_mark if i == mark else g.full) for i in range(filled)]
        rest = [(g.rest_mark if i == mark else g.rest) for i in range(filled, width)]
        return [("".join(cells), colour), ("".join(rest), "bright_black")]

    def _spark(self, values: list[float], width: int) -> str:
        steps = self.glyphs.spark
        values = values if len(values) <= width else [values[(i + 1) * len(values) // width - 1] for i in range(width)]
        return "".join(steps[min(len(steps) - 1, int(v * len(steps)))] for v in values)

    def _wrapped(self, *texts: Text) -> str:
        """Lines that go by above: wrapped to the terminal's width, each with its end."""
        lines = [line for text in texts for line in text.wrap(self.console, self.console.width)]
        return "".join(f"{self._ansi(line)}\n" for line in lines)

    def _ansi(self, text: Text, width: int | None = None) -> str:
        """One line with its colours as control codes, cut to `width`. (console.print takes twice as long.)"""
        if width is not None:
            text.truncate(width, overflow="ellipsis" if self.glyphs.art else "crop")
        segments = text.render(self.console)
        if self.console.no_color:
            segments = Segment.remove_color(segments)
        return "".join(s.style.render(s.text, color_system=self.system) if s.style else s.text for s in segments)
