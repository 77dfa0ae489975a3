"""How fast a run goes and when it will end: what the view is told."""

from __future__ import annotations

from zerosum.view import Status


class Progress:
    """Keeps the newest row of the log and the rate between the last two."""

    def __init__(self, images: int | None, minutes: float | None, images_seen: int, seconds: float) -> None:
        self.images, self.minutes = images, minutes
        self._first = self._last = (images_seen, seconds)
        self._rate: float | None = None
        self._row: dict[str, float] = {}
        self._extra: dict[str, float] = {}

    def row(self, row: dict[str, float], images_seen: int, seconds: float) -> float:
        """Take in a row of the log; returns images a second since the one before."""
        self._row, self._rate = row, _rate(self._last, images_seen, seconds)
        self._last = (images_seen, seconds)
        return self._rate

    def probe(self, diversity: float) -> None:
        """Take in what the probe found."""
        self._extra = {"diversity": diversity}

    def status(self, images_seen: int, seconds: float, skipped: int, slowing: bool = False) -> Status:
        """What to show now; the rest of the run at the present rate, or until the minutes are over.

        Before the first step of a session, new or resumed, nothing is known of its rate; and while it is `slowing`,
        for its networks grow yet, nothing of the rate to come.
        """
        rate = self._rate or (_rate(self._first, images_seen, seconds) if images_seen > self._first[0] else None)
        left = [60 * self.minutes - seconds] if self.minutes is not None else []
        if self.images is not None and rate and not slowing:
            left.append((self.images - images_seen) / rate)
        losses = {k.removeprefix("loss/"): v for k, v in self._row.items() if k.startswith("loss/")}
        return Status(
            images_seen=images_seen, images_total=self.images, seconds=seconds, minutes_limit=self.minutes,
            images_per_second=rate, seconds_left=max(0.0, min(left)) if left else None,
            accuracy_real=self._row.get("accuracy/real"), accuracy_fake=self._row.get("accuracy/fake"),
            losses=losses, skipped=skipped, extra=self._extra,
        )  # fmt: skip


def _rate(since: tuple[int, float], images_seen: int, seconds: float) -> float:
    return (images_seen - since[0]) / max(seconds - since[1], 1e-9)
