"""The watch: names what is wrong with a game, in a plain sentence, once, when it begins."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

WINS = 0.97  # D right on both sides this often, for WINS_ROWS rows of the log, has nothing left to teach G
WINS_ROWS = 10
COLLAPSED = 0.35  # fakes this much less spread than real images, in cheap features
RECOVERED = 0.5
SKIPS_IN_A_ROW = 10  # turns of one player


@dataclass
class Watch:
    """Its state is plain numbers, saved with each checkpoint, so that a resumed run says the same things."""

    rows_won: int = 0
    won: bool = False
    collapsed: bool = False
    skipped: int = 0
    seen_diverse: bool = False

    def row(self, scores: dict[str, float], skipped: int) -> list[str]:
        """Look at one row of the log; return new warnings."""
        warnings = []
        real, fake = scores.get("accuracy/real"), scores.get("accuracy/fake")
        if real is not None and fake is not None:
            self.rows_won = self.rows_won + 1 if min(real, fake) > WINS else 0
            if self.rows_won >= WINS_ROWS and not self.won:
                self.won = True
                warnings.append(
                    f"D wins: it tells real from fake almost always ({real:.0%} and {fake:.0%} right), so G learns "
                    "little. Lower --adam-d.lr, raise the penalty, or give D more data"
                )
            elif self.rows_won == 0 and self.won:
                self.won = False
                warnings.append("D no longer wins almost always: the game goes on")
        if skipped > self.skipped:
            warnings.append(
                f"{skipped - self.skipped} update{'s' if skipped - self.skipped > 1 else ''} skipped for a gradient "
                f"that was not finite ({skipped} so far)"
            )
            self.skipped = skipped
        return warnings

    def probe(self, diversity: float) -> list[str]:
        """Look at the spread of the fakes relative to real images (1 is alike); return new warnings."""
        # A generator that has not begun to learn is not a collapsed one. Its first noise is no variety that it could
        # lose, and is not looked at here.
        self.seen_diverse = self.seen_diverse or diversity > RECOVERED
        if self.seen_diverse and diversity < COLLAPSED and not self.collapsed:
            self.collapsed = True
            return [
                f"G collapsed: its images differ only {diversity:.0%} as much as real ones do. An earlier checkpoint "
                "may be better (zerosum sample --checkpoint best); try a larger batch, a penalty, or --algorithm r3gan"
            ]
        if self.collapsed and diversity > RECOVERED:
            self.collapsed = False
            return ["G's images vary again"]
        return []

    def state(self) -> dict[str, Any]:
        return asdict(self)
