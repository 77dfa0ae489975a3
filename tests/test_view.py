"""Views: what stands on the screen afterwards, what goes into a pipe, and what it costs."""

from __future__ import annotations

import io
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from zerosum import pictures
from zerosum.view import (
    NotebookView,
    PlainView,
    SilentView,
    Status,
    TerminalView,
    View,
    bar,
    choose_view,
    clock,
    progress_bar,
    terminal,
)


def status(seen: int = 640, **changes: Any) -> Status:
    values: dict[str, Any] = {
        "images_seen": seen, "images_total": 1000, "seconds": seen / 100, "images_per_second": 100.0,
        "seconds_left": (1000 - seen) / 100, "accuracy_real": 0.71, "accuracy_fake": 0.46,
        "losses": {"D": 0.612, "G": 0.934}, "extra": {"diversity": 0.93},
    }  # fmt: skip
    return Status(**{**values, **changes})


def digits(n: int = 16) -> pictures.Image.Image:
    return pictures.grid(np.random.default_rng(0).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8))


class Screen:
    """As much of a terminal as the view needs: enough to tell what a person would see."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.lines: list[list[str]] = [[]]
        self.row = self.column = self.top = 0
        self.cursor = True

    def feed(self, text: str) -> None:
        for code, char in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([^\x1b])", text):
            if code:
                self.control(code)
            elif char == "\n":
                self.row, self.column = self.row + 1, 0
                while len(self.lines) <= self.row:
                    self.lines.append([])
                self.top = max(self.top, self.row - self.height + 1)
            elif char == "\r":
                self.column = 0
            else:
                assert self.column < self.width, "a line was folded"
                line = self.lines[self.row]
                line.extend(" " * (self.column + 1 - len(line)))
                line[self.column] = char
                self.column += 1

    def control(self, code: str) -> None:
        if code[-1] == "A":
            self.row -= int(code[:-1])
            assert self.row >= self.top, "the cursor cannot go above the screen"
        elif code == "K":
            del self.lines[self.row][self.column :]
        elif code == "J":
            del self.lines[self.row][self.column :]
            del self.lines[self.row + 1 :]
        elif code == "2J":
            self.lines, self.row, self.top = [[]], 0, 0
        elif code in ("?25l", "?25h"):
            self.cursor = code == "?25h"
        else:
            assert code == "H" or code.endswith("m"), f"unknown control {code}"

    @property
    def text(self) -> str:
        return "\n".join("".join(line).rstrip() for line in self.lines)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Watched:
    """A TerminalView, and the screen that it draws on."""

    def __init__(self, width: int = 80, height: int = 24, **console: Any):
        self.file = Terminal()
        options: dict[str, Any] = {"color_system": "truecolor", "force_terminal": True, **console}
        self.console = Console(file=self.file, width=width, height=height, **options)
        self.view = TerminalView(self.console)
        self.screen = Screen(width, height)

    def see(self) -> str:
        self.screen.feed(self.file.getvalue())
        self.file.seek(0)
        self.file.truncate()
        return self.screen.text

    def update(self, *args: Any, **kwargs: Any) -> str:
        self.view.next_draw = 0.0
        self.view.update(status(*args, **kwargs))
        return self.see()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (120, 12), (44, 9), (20, 5), (60, 100)])
def test_the_terminal_view_stays_in_place_and_fits(width: int, height: int) -> None:
    watched = Watched(width, height)
    watched.view.start("R3GAN on digits", ["1,797 images", "Ctrl-C saves"], 1000, None)
    watched.see()
    for seen in (10, 640, 650):
        watched.update(seen)
        watched.view.preview(digits(), seen)
        watched.see()
    text = watched.see()
    assert text.count("650 of") <= 1  # in place, not again and again
    assert len(watched.view.drawn) <= height - 1
    assert not watched.screen.cursor
    watched.view.finish(["finished", "report: x"])
    watched.view.close()
    text = watched.see()
    assert text.endswith("finished\nreport: x\n")
    assert watched.screen.cursor
    if (width, height) == (80, 24):
        parts = "R3GAN on digits|650 of 1,000 images (65 %)|100 images/s|0:06 gone|0:03 left|D on real|71 %"
        parts += "|D on fake|46 %|50 %: D can only guess|loss D 0.612|diversity 0.93|samples at 650 images|▀▀▀▀"
        for part in parts.split("|"):
            assert part in text, part


def test_a_screen_too_small_for_samples_shows_the_numbers_only() -> None:
    watched = Watched(80, 9)
    watched.view.start("t", [], 1000, None)
    watched.update()
    watched.view.preview(digits(), 640)
    assert "D on real" in watched.see()
    assert "▀" not in watched.see()


def test_samples_stand_beside_the_numbers_where_there_is_room() -> None:
    watched = Watched(150, 30)
    watched.view.start("t", [], 1000, None)
    watched.update()
    watched.view.preview(digits(), 640)
    assert any("D on real" in line and "▀" in line for line in watched.see().splitlines())


def test_the_fifty_percent_mark_is_in_the_middle_of_the_bar() -> None:
    watched = Watched()
    watched.view.start("t", [], 1000, None)
    lines = {real: watched.update(accuracy_real=real).splitlines() for real in (0.1, 0.9)}
    for real, mark in ((0.1, "┼"), (0.9, "┿")):
        bar = next(re.search(r"D on real ([━─┿┼]+)", line) for line in lines[real] if "D on real" in line)
        assert bar is not None
        assert bar[1].index(mark) == len(bar[1]) // 2
        assert abs(bar[1].count("━") / len(bar[1]) - real) < 0.06


def test_messages_scroll_by_above() -> None:
    watched = Watched()
    watched.view.start("title", [], 1000, None)
    watched.update()
    watched.view.preview(digits(), 640)
    watched.view.message("D wins " * 20, "warning")
    watched.view.message("plain")
    lines = watched.see().splitlines()
    assert lines[0] == "title"
    assert lines[1].startswith("warning: D wins")
    assert next(i for i, line in enumerate(lines) if "plain" in line) < next(
        i for i, line in enumerate(lines) if "D on real" in line
    )
    assert sum("D on real" in line for line in lines) == 1


def test_only_changed_lines_are_sent_again() -> None:
    watched = Watched()
    watched.view.start("t", [], 1000, None)
    watched.update()
    watched.view.preview(digits(64), 640)
    before = len(watched.file.getvalue())
    watched.view.next_draw = 0.0
    watched.view.update(status(641))
    assert before > 10_000
    assert len(watched.file.getvalue()) - before < 1_500


def test_a_new_size_is_drawn_afresh() -> None:
    watched = Watched(120, 40)
    watched.view.start("title", ["line"], 1000, None)
    watched.update()
    watched.view.preview(digits(64), 640)
    watched.view.message("careful", "warning")
    watched.see()
    watched.console.size = (50, 20)  # type: ignore[assignment]
    watched.screen.width, watched.screen.height = 50, 20
    text = watched.update(700)
    assert text.startswith("title\nline\nwarning: careful\n")
    assert all(len(line) < 50 for line in text.splitlines())
    assert text.count("D on real") == 1


def test_drawing_is_rare_and_cheap() -> None:
    watched = Watched()
    watched.view.start("t", [], 10**6, None)
    watched.view.update(status(1))
    watched.view.preview(digits(64), 1)
    began, cpu, updates = time.perf_counter(), time.thread_time(), 0
    while time.perf_counter() - began < 1.2:
        watched.view.update(status(updates))
        updates += 1
        time.sleep(0.002)
    empty = time.thread_time()
    for _ in range(updates):
        status(updates)
    mine = (empty - cpu) - (time.thread_time() - empty)
    draws = watched.file.getvalue().count("\x1b[?25l") + len(re.findall(r"\x1b\[\d+A", watched.file.getvalue()))
    assert draws <= 8  # four a second
    assert mine < 0.1 * 1.2  # a tenth of a core with Python's sleep and all; some 0.7 % in a real run


def test_the_small_curve_covers_the_whole_run_evenly() -> None:
    watched = Watched()
    for i in range(1, 1001):
        watched.view._remember(status(accuracy_real=i / 1000, accuracy_fake=None))
    past = watched.view.history["real"]
    assert 16 <= len(past) <= terminal.HISTORY
    assert np.allclose(np.diff(past), past[0])
    assert past[-1] > 0.95
    assert watched.view._spark(past, 8) == "▁▂▃▄▅▆▇█"


def test_no_color_and_poor_encodings() -> None:
    watched = Watched(no_color=True)
    watched.view.start("t", [], 1000, None)
    watched.update()
    watched.view.preview(digits(), 640)
    raw = watched.file.getvalue()
    assert "38;" not in raw
    assert not re.search(r"\x1b\[(3|4|9)\d", raw)
    assert "━" in watched.see()

    class Poor(Terminal):
        encoding = "ascii"

    file = Poor()
    poor = TerminalView(Console(file=file, width=80, height=24, force_terminal=True, color_system="truecolor"))
    poor.start("größe", [], 1000, None)
    poor.update(status())
    poor.preview(digits(), 640)
    poor.message("done – ✓")
    poor.close()
    assert file.getvalue().isascii()
    screen = Screen(80, 24)
    screen.feed(file.getvalue())
    assert re.search(r"D on real =+\|=+-+  71 %", screen.text)
    assert "gr??e" in screen.text


def test_a_run_without_end_or_accuracy() -> None:
    watched = Watched()
    watched.view.start("t", [], None, None)
    bare = {"images_total": None, "seconds_left": None, "accuracy_real": None, "accuracy_fake": None}
    text = watched.update(640, **bare, losses={"D": float("nan")}, skipped=3)
    assert "640 images, 100 images/s" in text
    assert "D on" not in text
    assert "loss D nan" in text
    assert "skipped 3" in text


def test_progress_is_by_time_where_time_is_the_limit() -> None:
    assert status(images_total=None, minutes_limit=0.2).fraction == pytest.approx(6.4 / 12)
    assert status(900, minutes_limit=10.0).fraction == pytest.approx(0.9)
    assert status(2000).fraction == 1.0
    assert status(images_total=None).fraction is None


def test_names_cannot_command_the_terminal() -> None:
    for make in (lambda f: PlainView(f), lambda f: TerminalView(Console(file=f, force_terminal=True))):
        file = Terminal()
        shown: View = make(file)
        shown.start("a\x1b[2Jb", ["c\x1b]0;x\x07"], 10, None)
        shown.message("d\x1b[H", "error")
        shown.finish(["e\x9b"])
        shown.close()
        assert not re.search(r"\x1b\[2J|\x1b\]|\x1b\[H|\x07|\x9b", file.getvalue())
        assert "a?[2Jb" in file.getvalue()


def test_stray_prints_are_lifted_above_and_streams_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(sys, "stderr", watched.file)
    watched.view.start("t", [], 1000, None)
    watched.update()
    print("Warning: something old", file=sys.stderr)
    text = watched.see()
    assert text.index("something old") < text.index("D on real")
    watched.view.close()
    watched.view.close()
    assert sys.stderr is watched.file


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def isatty(self) -> bool:
        return True


def test_a_reader_that_goes_away_does_not_end_the_run() -> None:
    for shown in (
        PlainView(Gone()),
        TerminalView(Console(file=Gone(), force_terminal=True, width=80, height=24)),
    ):
        shown.start("t", [], 10, None)
        shown.update(status())
        shown.preview(digits(), 1)
        shown.message("m")
        shown.finish(["x"])
        shown.close()


def test_a_message_from_a_signal_handler_amid_a_write_waits_its_turn() -> None:
    class Interrupted(io.StringIO):
        inside = False

        def write(self, text: str) -> int:
            if self.inside:
                raise RuntimeError("reentrant call")  # what Python's buffered streams do
            self.inside = True
            if text.startswith("one"):
                shown.message("stopping")
            self.inside = False
            return super().write(text)

    file = Interrupted()
    shown = PlainView(file)
    shown.message("one")
    shown.message("two")
    assert file.getvalue() == "one\nstopping\ntwo\n"


def test_plain_lines_are_few_and_plain() -> None:
    file = io.StringIO()
    plain = PlainView(file)
    plain.start("R3GAN on digits", ["1,797 images"], 100_000, None)
    for seen in range(0, 100_001, 100):
        plain.update(status(seen, images_total=100_000, seconds=seen / 10_000))
    plain.preview(digits(), 100_000)
    plain.message("careful", "warning")
    plain.finish(["finished"])
    plain.close()
    lines = file.getvalue().splitlines()
    assert lines[:2] == ["R3GAN on digits", "1,797 images"]
    assert lines[-2:] == ["warning: careful", "finished"]
    assert 20 <= len(lines[2:-2]) <= 22  # each twentieth
    assert "\x1b" not in file.getvalue()
    assert "\r" not in file.getvalue()
    assert lines[12].startswith("50,000 of 100,000 images (50 %); 100 images/s, 0:05 gone")


def test_plain_lines_of_a_long_run_come_every_ten_seconds_and_a_resumed_one_goes_on() -> None:
    file = io.StringIO()
    plain = PlainView(file)
    for tenth in range(900_0, 960_0):  # from 900 s on: a resumed run
        plain.update(status(50, images_total=10**9, seconds=tenth / 10))
    assert len(file.getvalue().splitlines()) == 6


def test_the_view_is_chosen_for_where_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert isinstance(choose_view(io.StringIO()), PlainView)
    assert isinstance(choose_view(Terminal()), TerminalView)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose_view(Terminal()), PlainView)
    notebook = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(config={"IPKernelApp": {}}))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    assert isinstance(choose_view(io.StringIO()), NotebookView)
    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(config={}))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert isinstance(choose_view(io.StringIO()), PlainView)


def test_every_view_takes_every_call() -> None:
    views: list[View] = [SilentView(), PlainView(io.StringIO()), Watched().view, NotebookView()]
    for shown in views:
        shown.close()  # before it began
    shown = SilentView()
    shown.start("t", [], None, 1.0)
    shown.update(status())
    shown.preview(digits(), 1)
    shown.message("m", "error")
    shown.finish(["x"])


def test_the_notebook_view_changes_one_output(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: list[str] = []

    class Handle:
        def __init__(self, place: int):
            self.place = place

        def update(self, html: str) -> None:
            outputs[self.place] = html

    def display(html: str, display_id: bool) -> Handle:
        assert display_id
        outputs.append(html)
        return Handle(len(outputs) - 1)

    ipython, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    module.HTML, module.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    shown = NotebookView()
    shown.start("<script>alert(1)</script>", ["a & b"], 1000, None)
    shown.update(status())
    shown.preview(digits(), 640)
    shown.message("D wins", "warning")
    shown.finish(["finished"])
    shown.close()
    assert len(outputs) == 2
    text, picture = outputs
    for part in (
        "&lt;script&gt;",
        "a &amp; b",
        "640 of 1,000",
        "71 %",
        "46 %",
        "left:50%",
        "warning: D wins",
        "finished",
    ):
        assert part in text
    assert "<script>" not in text
    assert 'src="data:image/png;base64,' in picture
    assert "samples at 640 images" in picture


def test_progress_bar_in_a_terminal_and_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    with progress_bar("packing", terminal) as tick:
        for done in range(101):
            tick(done, 100, "packing [digits]" if done == 100 else None)
    assert "packing [digits]" in terminal.getvalue()
    assert "100 of 100" in terminal.getvalue()
    now = 0.0
    monkeypatch.setattr(bar, "time", types.SimpleNamespace(monotonic=lambda: now))
    pipe = io.StringIO()
    with progress_bar("packing", pipe) as tick:
        for done in range(36):
            now = float(done)
            tick(done * 10, 360)
    assert pipe.getvalue().splitlines() == [
        "packing: 100 of 360, 0:26 left", "packing: 200 of 360, 0:16 left", "packing: 300 of 360, 0:06 left",
    ]  # fmt: skip


def test_short_work_says_nothing_in_a_pipe() -> None:
    pipe = io.StringIO()
    with progress_bar("packing", pipe) as tick:
        tick(1)
        tick(2, 2)
    assert pipe.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.9, "0:07"), (754, "12:34"), (3723, "1:02:03"), (183_600, "2 d 3 h"), (-1, "0:00")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_view_writes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watched = Watched()
    watched.view.start("t", [], 1000, None)
    watched.update()
    watched.view.close()
    assert list(tmp_path.iterdir()) == []
