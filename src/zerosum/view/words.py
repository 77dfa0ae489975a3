"""Numbers as people read them: the same words in every view."""

from __future__ import annotations

import math

from zerosum.view.base import Level, Status

GUESSING = "50 %: D can only guess"


def clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03 or 2 d 3 h."""
    whole = int(max(0.0, seconds))
    if whole >= 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def seen(status: Status) -> str:
    """How far the run is: 640 of 1,000 images (64 %)."""
    total = f" of {status.images_total:,}" if status.images_total else ""
    share = "" if status.fraction is None else f" ({percent(int(status.fraction * 100) / 100)})"
    return f"{status.images_seen:,}{total} images{share}"


def pace(status: Status) -> str:
    """How fast it goes: 100 images/s, 0:06 gone, 0:03 left."""
    rate = status.images_per_second
    limit = f" of {clock(60 * status.minutes_limit)}" if status.minutes_limit else ""
    parts = [] if rate is None else [f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"]
    parts.append(f"{clock(status.seconds)}{limit} gone")
    if status.seconds_left is not None:
        parts.append(f"{clock(status.seconds_left)} left")
    return ", ".join(parts)


def accuracies(status: Status) -> list[tuple[str, float]]:
    """Those of D's accuracies that were measured: what on, and the share that D got right, 0 to 1."""
    both = (("real", status.accuracy_real), ("fake", status.accuracy_fake))
    return [(name, value) for name, value in both if value is not None]


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def measured(value: float, low: float | None = None, high: float | None = None) -> tuple[str, str]:
    """A measured number and its interval, 0.0123 and 0.0101 to 0.0145: with two digits of half the interval's width.

    Without an interval, the number with four digits that matter, and nothing.
    """
    if low is None or high is None:
        return f"{value:,.4g}", ""
    places = 1 - math.floor(math.log10((high - low) / 2)) if high > low else 4
    if places > 7:
        return f"{value:.3g}", f"{low:.3g} to {high:.3g}"
    shown = [f"{x:,.{max(0, places)}f}" for x in (value, low, high)]
    value_, low_, high_ = ("0" if not x.strip("-0.") else x for x in shown)
    return value_, f"{low_} to {high_}"


def share(value: float, low: float | None = None, high: float | None = None) -> tuple[str, str]:
    """A share and its interval as percentages: 52.1 % and 49.0 to 55.2 %."""
    return f"{100 * value:.1f} %", "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"


def said(text: str, level: Level) -> str:
    """A message with its level in front, unless it is plain information."""
    return text if level == "info" else f"{level}: {text}"


def clean(text: str) -> str:
    """Without control characters: the name of a folder must not be able to command a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
