"""What a person sees while a run goes on: in a terminal, in a pipe, in a notebook, or nothing.

A view is told; it never asks. Numbers come ready-made in a `Status`; a view's own clock only decides how
often it draws. What views write goes to standard error: standard output belongs to data.
"""

from __future__ import annotations

import base64
import io
import itertools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import IO, Any, Literal, Protocol, TextIO

from PIL import Image
from rich.color import ColorSystem
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from zerosum import pictures

Level = Literal["info", "warning", "error"]

REDRAW_SECONDS = 0.25
SHARE = 0.01  # of one core: a view that takes longer to draw draws less often
PLAIN_SECONDS, PLAIN_STEPS = 10.0, 20  # a line every ten seconds, or every twentieth of the way
NOTEBOOK_SECONDS = 1.0
WIDE, STATS_WIDTH = 112, 64  # columns: from here on samples stand beside the numbers, which keep this width
HISTORY = 64  # points of the small curves
GUESSING = "50 %: D can only guess"


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands. Rates and times are the trainer's."""

    images_seen: int
    images_total: int | None = None  # None: time alone ends the run
    seconds: float
    minutes_limit: float | None = None
    images_per_second: float = 0.0
    seconds_left: float | None = None  # None: not known yet
    accuracy_real: float | None = None  # share of real images that D calls real, 0 to 1; None: not measured
    accuracy_fake: float | None = None  # share of generated images that D calls generated
    losses: Mapping[str, float] = field(default_factory=dict)
    skipped: int = 0  # updates left out because a gradient was not finite
    extra: Mapping[str, float] = field(default_factory=dict)

    @property
    def fraction(self) -> float | None:
        """How far the run is, 0 to 1, by images or by time, whichever ends it first; None: no end."""
        ways = []
        if self.images_total:
            ways.append(self.images_seen / self.images_total)
        if self.minutes_limit:
            ways.append(self.seconds / (60 * self.minutes_limit))
        return min(1.0, max(ways)) if ways else None

    @property
    def numbers(self) -> dict[str, float]:
        """Losses, then extras, then the skipped updates if there were any, by the name to show."""
        skipped = {"skipped": float(self.skipped)} if self.skipped else {}
        return {**{f"loss {name}": value for name, value in self.losses.items()}, **self.extra, **skipped}


class View(Protocol):
    """Someone who may be watching. Calls come from the training thread."""

    def start(
        self, title: str, lines: list[str], images_total: int | None, minutes: float | None
    ) -> None: ...
    def update(self, status: Status) -> None: ...
    def preview(self, image: Image.Image, images_seen: int) -> None: ...
    def message(self, text: str, level: Level = "info") -> None: ...
    def finish(self, lines: list[str]) -> None: ...
    def close(self) -> None:
        """Give the screen back. May be called at any time, any number of times, and never raises."""


def clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03 or 2 d 3 h."""
    whole = int(max(0.0, seconds))
    if whole >= 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _seen(status: Status) -> str:
    total = f" of {status.images_total:,}" if status.images_total else ""
    percent = "" if status.fraction is None else f" ({_percent(int(status.fraction * 100) / 100)})"
    return f"{status.images_seen:,}{total} images{percent}"


def _pace(status: Status) -> str:
    rate = status.images_per_second
    limit = f" of {clock(60 * status.minutes_limit)}" if status.minutes_limit else ""
    parts = [f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"]
    parts.append(f"{clock(status.seconds)}{limit} gone")
    if status.seconds_left is not None:
        parts.append(f"{clock(status.seconds_left)} left")
    return ", ".join(parts)


def _accuracies(status: Status) -> list[tuple[str, float]]:
    both = (("real", status.accuracy_real), ("fake", status.accuracy_fake))
    return [(name, value) for name, value in both if value is not None]


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _said(text: str, level: Level) -> str:
    return text if level == "info" else f"{level}: {text}"


def _clean(text: str) -> str:
    """Without control characters: the name of a folder must not be able to command a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


class _Out:
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


class SilentView:
    """Shows nothing: for tests, for all ranks but the first, and for those who ask for quiet."""

    def start(self, title: str, lines: list[str], images_total: int | None, minutes: float | None) -> None:
        pass

    def update(self, status: Status) -> None:
        pass

    def preview(self, image: Image.Image, images_seen: int) -> None:
        pass

    def message(self, text: str, level: Level = "info") -> None:
        pass

    def finish(self, lines: list[str]) -> None:
        pass

    def close(self) -> None:
        pass


class PlainView:
    """Lines for a pipe or a file, without control characters; the run survives its reader."""

    def __init__(self, stream: TextIO):
        self.out = _Out(stream, stream.encoding)
        self.shown: Status | None = None

    def start(self, title: str, lines: list[str], images_total: int | None, minutes: float | None) -> None:
        self._write(title, *lines)

    def update(self, status: Status) -> None:
        if self.shown is not None:
            steps = int((status.fraction or 0) * PLAIN_STEPS) - int((self.shown.fraction or 0) * PLAIN_STEPS)
            if steps < 1 and abs(status.seconds - self.shown.seconds) < PLAIN_SECONDS:
                return
        self.shown = status
        parts = [_seen(status), _pace(status)]
        if accuracies := _accuracies(status):
            parts.append("D right on " + ", ".join(f"{name} {_percent(value)}" for name, value in accuracies))
        if status.numbers:
            parts.append(", ".join(f"{name} {_number(value)}" for name, value in status.numbers.items()))
        self._write("; ".join(parts))

    def preview(self, image: Image.Image, images_seen: int) -> None:
        pass

    def message(self, text: str, level: Level = "info") -> None:
        self._write(_said(text, level))

    def finish(self, lines: list[str]) -> None:
        self._write(*lines)

    def close(self) -> None:
        pass

    def _write(self, *lines: str) -> None:
        self.out.write("".join(f"{_clean(line)}\n" for line in lines))


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
        self.out = _Out(console.file, console.encoding)  # fixed now: later sys.stderr leads here
        unicode = (console.encoding or "").lower().startswith("utf")
        self.glyphs = _UNICODE if unicode else _ASCII
        self.colour: pictures.Colour = "none"
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
                    setattr(sys, name, _Lifted(stream, lambda line: self._say(Text.from_ansi(line))))
            self._say(Text(_clean(title), "bold"), *(Text(_clean(line)) for line in lines))

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
        for name, value in _accuracies(status):
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
        self._say(Text(_clean(_said(text, level)), style))

    def finish(self, lines: list[str]) -> None:
        if self.open:
            self._draw()
        self.close()
        self._say(*(Text(_clean(line)) for line in lines))

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
            self.art = [
                self._ansi(line, room[0]) for line in pictures.terminal(image, room[0], room[1], self.colour)
            ]
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
            wide = max(10, width - 13 - len(_seen(status)))
            lines.append(
                Text.assemble(
                    (" images    ", "bold"), *self._bar(status.fraction, wide, "blue"), "  ", _seen(status)
                )
            )
            lines.append(Text(" " * 11 + _pace(status)))
        else:
            lines.append(Text.assemble((" images    ", "bold"), f"{_seen(status)}, {_pace(status)}"))
        for name, value in _accuracies(status):
            colour = {"real": "cyan", "fake": "magenta"}[name]
            lines.append(
                Text.assemble(
                    (f" D on {name} ", "bold"),
                    *self._bar(value, bar, colour, bar // 2),
                    f" {_percent(value):>5}  ",
                    (self._spark(self.history.get(name, []), spark), colour),
                )
            )
        if _accuracies(status):
            lines.append(Text(" " * 11 + GUESSING.center(bar // 2 * 2 + 1), "dim"))
        row = ""
        for number in (f"   {name} {_number(value)}" for name, value in status.numbers.items()):
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
        values = (
            values
            if len(values) <= width
            else [values[(i + 1) * len(values) // width - 1] for i in range(width)]
        )
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
        return "".join(
            s.style.render(s.text, color_system=self.system) if s.style else s.text for s in segments
        )


class _Lifted(io.TextIOBase):
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


class NotebookView:
    """One output cell, changed in place: progress and D's accuracies above, samples below."""

    def __init__(self) -> None:
        self.head: list[str] = []
        self.messages: deque[str] = deque(maxlen=8)
        self.status: Status | None = None
        self.text: Any = None  # IPython's handle to what is displayed
        self.picture: Any = None
        self.next_draw = 0.0

    def start(self, title: str, lines: list[str], images_total: int | None, minutes: float | None) -> None:
        from IPython.display import HTML, display

        self.head = [f"<b>{escape(title)}</b>", *map(escape, lines)]
        self.text = display(HTML(self._html()), display_id=True)
        self.picture = display(HTML(""), display_id=True)

    def update(self, status: Status) -> None:
        self.status = status
        if time.monotonic() >= self.next_draw:
            self._draw()

    def preview(self, image: Image.Image, images_seen: int) -> None:
        from IPython.display import HTML

        if self.picture is not None:
            self.picture.update(HTML(_figure(image, f"samples at {images_seen:,} images")))

    def message(self, text: str, level: Level = "info") -> None:
        self.messages.append(escape(_said(text, level)))
        self._draw()

    def finish(self, lines: list[str]) -> None:
        self.messages.extend(map(escape, lines))
        self._draw()

    def close(self) -> None:
        pass

    def _draw(self) -> None:
        from IPython.display import HTML

        self.next_draw = time.monotonic() + NOTEBOOK_SECONDS
        if self.text is not None:
            self.text.update(HTML(self._html()))

    def _html(self) -> str:
        lines = list(self.head)
        if self.status is not None:
            if self.status.fraction is not None:
                lines.append(_meter("images", self.status.fraction, "#3b82c4", mark=False))
            lines.append(f"{_seen(self.status)}, {_pace(self.status)}")
            for name, value in _accuracies(self.status):
                colour = {"real": "#0f9aa8", "fake": "#b4529e"}[name]
                lines.append(_meter(f"D on {name}", value, colour, mark=True))
            if _accuracies(self.status):
                lines.append(f"<small>{GUESSING}</small>")
            lines.append(", ".join(f"{escape(k)} {_number(v)}" for k, v in self.status.numbers.items()))
        lines += self.messages
        return "".join(f"<div>{line}</div>" for line in lines if line)


def _meter(name: str, value: float, colour: str, mark: bool) -> str:
    box, shown = "position:absolute;top:0;bottom:0", f"{name} {_percent(value)}"
    middle = f'<span style="{box};left:50%;border-left:2px solid"></span>' if mark else ""
    share = f"{min(1.0, max(0.0, value)):.1%}"
    bar = f'<span style="{box};left:0;width:{share};background:{colour}"></span>{middle}'
    frame = "position:relative;display:inline-block;width:20em;height:.7em;background:#8884"
    return (
        f'<span style="display:inline-block;width:6em">{name}</span>'
        f'<span role="img" aria-label="{shown}" style="{frame}">{bar}</span> {_percent(value)}'
    )


def _figure(image: Image.Image, label: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure style="margin:.5em 0"><img alt="{label}" src="data:image/png;base64,{data}" '
        f'style="max-width:100%;image-rendering:pixelated"><figcaption>{label}</figcaption></figure>'
    )


def _in_notebook() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return shell is not None and "IPKernelApp" in shell.config


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not Console(file=stream).legacy_windows


def choose_view(stream: TextIO | None = None) -> View:
    """The view that suits a notebook, a terminal or anything else. stream: standard error if not given."""
    stream = sys.stderr if stream is None else stream
    if _in_notebook():
        return NotebookView()
    return TerminalView(Console(file=stream)) if _is_terminal(stream) else PlainView(stream)


class Tick(Protocol):
    """How far a piece of work is; total and what it is about now may be left out."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None: ...


@contextmanager
def progress_bar(what: str, stream: TextIO | None = None) -> Iterator[Tick]:
    """For long work that is not training (packing, downloading, sampling): a bar with the time left.

    In a pipe, a plain line every ten seconds, so that short work says nothing.
    """
    stream = sys.stderr if stream is None else stream
    if not _is_terminal(stream):
        yield _plain_tick(what, stream)
        return
    count = TextColumn("{task.fields[count]}", markup=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        count,
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(file=stream), refresh_per_second=4) as bar:
        task = bar.add_task(what, total=None, count="")
        last = 0.0

        def tick(done: int, total: int | None = None, what: str | None = None) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last < 0.1 and done != total:  # work may tick far more often than anyone can see
                return
            last = now
            text = f"{done:,}" if total is None else f"{done:,} of {total:,}"
            bar.update(task, completed=done, total=total, description=what, count=text)

        yield tick


def _plain_tick(name: str, stream: TextIO) -> Tick:
    view = PlainView(stream)
    first: tuple[int, float] | None = None
    last = time.monotonic()

    def tick(done: int, total: int | None = None, what: str | None = None) -> None:
        nonlocal first, last
        now = time.monotonic()
        first = first or (done, now)
        if now - last < PLAIN_SECONDS:
            return
        last = now
        rate = (done - first[0]) / (now - first[1]) if now > first[1] else 0.0
        left = f", {clock((total - done) / rate)} left" if total and rate > 0 else ""
        view.message(f"{what or name}: {done:,}{f' of {total:,}' if total else ''}{left}")

    return tick
