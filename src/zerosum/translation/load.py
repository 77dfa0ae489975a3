"""A translator by the folder that holds it: a run's, or an imported one."""

from __future__ import annotations

from pathlib import Path

from zerosum.errors import UserError
from zerosum.inference import Precision
from zerosum.translation import imported, model
from zerosum.translation.model import Translator


def load(path: Path, which: str = "last", precision: Precision = "auto") -> Translator:
    """From a run's folder (`which` checkpoint: last, best or images seen) or an imported model's. UserError."""
    if not imported.is_imported(path):
        return model.of_run(path, which, precision)
    if which != "last":
        raise UserError(f"--checkpoint {which}: {path} is an imported model and has but one; leave it out")
    return imported.load(path, precision)
