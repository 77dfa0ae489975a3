"""Which view suits where one is."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console

from zerosum.view.base import View
from zerosum.view.notebook import NotebookView, in_notebook
from zerosum.view.plain import PlainView
from zerosum.view.stream import is_terminal
from zerosum.view.terminal import TerminalView


def choose_view(stream: TextIO | None = None) -> View:
    """The view that suits a notebook, a terminal or anything else. stream: standard error if not given."""
    stream = sys.stderr if stream is None else stream
    if in_notebook():
        return NotebookView()
    return TerminalView(Console(file=stream)) if is_terminal(stream) else PlainView(stream)
