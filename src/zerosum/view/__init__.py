"""What a person sees while a run goes on: in a terminal, in a pipe, in a notebook, or nothing.

A view is told; it never asks. Numbers come ready-made in a `Status`; a view's own clock only decides how
often it draws. What views write goes to standard error: standard output belongs to data.
"""

from zerosum.view.bar import Tick, progress_bar
from zerosum.view.base import Level, SilentView, Status, View
from zerosum.view.choose import choose_view
from zerosum.view.notebook import NotebookView
from zerosum.view.plain import PlainView
from zerosum.view.terminal import TerminalView
from zerosum.view.words import clock

__all__ = [
    "Level",
    "NotebookView",
    "PlainView",
    "SilentView",
    "Status",
    "TerminalView",
    "Tick",
    "View",
    "choose_view",
    "clock",
    "progress_bar",
]
