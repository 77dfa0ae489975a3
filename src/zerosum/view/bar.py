"""A progress bar for long work that is not training."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from zerosum.view import words
from zerosum.view.plain import PLAIN_SECONDS, PlainView
from zerosum.view.stream import is_terminal


class Tick(Protocol):
    """How far a piece of work is; total and what it is about now may be left out."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None: ...


@contextmanager
def progress_bar(what: str, stream: TextIO | None = None) -> Iterator[Tick]:
    """For long work that is not training (packing, downloading, sampling): a bar with the time left.

    In a pipe, a plain line every ten seconds, so that short work says nothing.
    """
    stream = sys.stderr if stream is None else stream
    if not is_terminal(stream):
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
        left = f", {words.clock((total - done) / rate)} left" if total and rate > 0 else ""
        view.message(f"{what or name}: {done:,}{f' of {total:,}' if total else ''}{left}")

    return tick
