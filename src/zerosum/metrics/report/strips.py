"""Strips: a value and its interval as a dot on a bar, over the band where real data would put it. Inline SVG.

They show nothing that does not stand beside them as a number, so they are hidden from those who listen to a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT, EDGE = 180.0, 22.0, 6.0
LEAST_BAR = 1.5  # units of width: a narrower interval is drawn so wide


@dataclass(frozen=True)
class Scale:
    """Maps numbers from `low` to `high` onto a strip."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return EDGE + (WIDTH - 2 * EDGE) * min(max(share, 0.0), 1.0)


def around(values: Iterable[float | None]) -> Scale:
    """The scale that holds all of them, with some room."""
    known = [v for v in values if v is not None]
    low, high = min(known), max(known)
    room = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room)


def strip(
    scale: Scale,
    value: float,
    interval: Sequence[float | None] = (),
    *,
    band: Sequence[float] = (),
    line: float | None = None,
    colour: str = "c0",
) -> Markup:
    """`interval`: the ends of the bar; `band`: those of the grey band behind; `line`: a dashed line, full height."""
    parts = []
    if band:
        left, right = (scale(end) for end in band)
        width = max(right - left, LEAST_BAR)
        parts.append(
            f'<rect x="{(left + right - width) / 2:.1f}" y="2" width="{width:.1f}" height="{HEIGHT - 4:g}" '
            'rx="1.5" fill="var(--band)"/>'
        )
    if line is not None:
        parts.append(
            f'<line x1="{scale(line):.1f}" y1="0" x2="{scale(line):.1f}" y2="{HEIGHT:g}" stroke="currentColor" '
            'stroke-dasharray="3 2"/>'
        )
    middle = HEIGHT / 2
    low, high = interval or (None, None)
    if low is not None and high is not None:
        parts.append(
            f'<line x1="{scale(low):.1f}" y1="{middle:g}" x2="{scale(high):.1f}" y2="{middle:g}" '
            f'stroke="var(--{colour})" stroke-width="3" stroke-linecap="round"/>'
        )
    parts.append(f'<circle cx="{scale(value):.1f}" cy="{middle:g}" r="4" fill="var(--{colour})"/>')
    return _svg("strip", parts)


def axis(scale: Scale, ticks: Mapping[float, str]) -> Markup:
    """The numbers above a column of strips that share a scale."""
    return _svg(
        "strip axis",
        [
            f'<text x="{scale(at):.1f}" y="{HEIGHT - 6:g}" text-anchor="middle">{name}</text>'
            for at, name in ticks.items()
        ],
    )


def _svg(kind: str, parts: Sequence[str]) -> Markup:
    box = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}"'
    return Markup(f'<svg class="{kind}" {box} aria-hidden="true">{"".join(parts)}</svg>')
