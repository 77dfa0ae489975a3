"""The view for a notebook: one output cell, changed in place. IPython is imported only when it is shown."""

from __future__ import annotations

import base64
import io
import sys
import time
from collections import deque
from html import escape
from typing import Any

from PIL import Image

from zerosum.view import words
from zerosum.view.base import Level, Status

NOTEBOOK_SECONDS = 1.0


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
        self.messages.append(escape(words.said(text, level)))
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
            lines.append(f"{words.seen(self.status)}, {words.pace(self.status)}")
            for name, value in words.accuracies(self.status):
                colour = {"real": "#0f9aa8", "fake": "#b4529e"}[name]
                lines.append(_meter(f"D on {name}", value, colour, mark=True))
            if words.accuracies(self.status):
                lines.append(f"<small>{words.GUESSING}</small>")
            lines.append(", ".join(f"{escape(k)} {words.number(v)}" for k, v in self.status.numbers.items()))
        lines += self.messages
        return "".join(f"<div>{line}</div>" for line in lines if line)


def _meter(name: str, value: float, colour: str, mark: bool) -> str:
    box, shown = "position:absolute;top:0;bottom:0", f"{name} {words.percent(value)}"
    middle = f'<span style="{box};left:50%;border-left:2px solid"></span>' if mark else ""
    share = f"{min(1.0, max(0.0, value)):.1%}"
    bar = f'<span style="{box};left:0;width:{share};background:{colour}"></span>{middle}'
    frame = "position:relative;display:inline-block;width:20em;height:.7em;background:#8884"
    return (
        f'<span style="display:inline-block;width:6em">{name}</span>'
        f'<span role="img" aria-label="{shown}" style="{frame}">{bar}</span> {words.percent(value)}'
    )


def _figure(image: Image.Image, label: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure style="margin:.5em 0"><img alt="{label}" src="data:image/png;base64,{data}" '
        f'style="max-width:100%;image-rendering:pixelated"><figcaption>{label}</figcaption></figure>'
    )


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return shell is not None and "IPKernelApp" in shell.config
