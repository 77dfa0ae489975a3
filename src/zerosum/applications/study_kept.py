"""What a study keeps in a part's folder: the scores of its classifiers, and what each says of each test image."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from zerosum import atomic
from zerosum.applications.classify import Scores
from zerosum.errors import UserError

SCORES, PROBABILITIES = "scores.json", "probabilities"
SECONDS = "seconds"  # in the file of scores, beside them
ROW = {*(f.name for f in fields(Scores)), SECONDS}


class Kept:
    """Scores by arm and seed, in a file that is written anew with each: what was measured is not measured again.

    Beside it what each classifier says of each test image, probabilities (n, K).
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / SCORES
        try:
            written = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            written = None
        entries = written.items() if isinstance(written, dict) else ()
        self.found: dict[str, dict[str, float]] = {  # what is damaged is measured again
            name: row for name, row in entries if isinstance(row, dict) and set(row) == ROW
        }

    def has(self, arm: str, seed: int) -> bool:
        return f"{arm}/{seed}" in self.found and self._array(arm, seed).is_file()

    def of(self, arm: str, seed: int) -> Scores:
        return Scores(**{key: value for key, value in self.found[f"{arm}/{seed}"].items() if key != SECONDS})

    def seconds(self, arm: str, seed: int) -> float:
        """What its training took."""
        return self.found[f"{arm}/{seed}"][SECONDS]

    def probabilities(self, arm: str, seed: int, shape: tuple[int, int]) -> np.ndarray:
        path = self._array(arm, seed)
        try:
            found = np.load(path, allow_pickle=False)
            if found.shape != shape:
                raise ValueError(f"{found.shape} in place of {shape}")
            return found
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it and repeat the command") from error

    def _array(self, arm: str, seed: int) -> Path:
        return self.folder / PROBABILITIES / f"{atomic.safe_name(arm)}-{seed}.npy"

    def add(self, arm: str, seed: int, found: Scores, p: np.ndarray, seconds: float) -> None:
        held = io.BytesIO()
        np.save(held, p)
        atomic.write_file(self._array(arm, seed), held.getvalue())
        self.found[f"{arm}/{seed}"] = {**asdict(found), SECONDS: round(seconds, 3)}
        atomic.write_file(self.path, (json.dumps(self.found, indent=1) + "\n").encode())


def written(path: Path) -> dict[str, Any]:
    """What an earlier session wrote. UserError if it is not there or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove {path.parent} and repeat the command") from error
