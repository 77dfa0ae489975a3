"""Folders that benchmarks train on: parts of published sets, as split lists that were written beforehand have them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from zerosum import pictures
from zerosum.errors import UserError

SPLITS = Path(__file__).parent / "splits"


def split(name: str) -> dict[str, list[str]]:
    return json.loads((SPLITS / f"{name}.json").read_text(encoding="utf-8"))


def there(root: Path, *parts: str) -> Path:
    path = root.joinpath(*parts)
    if not path.is_dir():
        raise UserError(f"--data {root}: has no folder {'/'.join(parts)}; benchmarks/README.md says what belongs there")
    return path


def copied(source: Path, names: Sequence[str], target: Path) -> None:
    target.mkdir(parents=True)
    for name in names:
        shutil.copyfile(source / name, target / name)


def halves(source: Path, names: Sequence[str], target: Path, *, left: bool) -> None:
    """One image of each joined pair, as PNG."""
    target.mkdir(parents=True)
    for name in names:
        with Image.open(source / name) as joined:
            half = joined.width // 2
            box = (0, 0, half, joined.height) if left else (half, 0, 2 * half, joined.height)
            pictures.save_png(joined.convert("RGB").crop(box), (target / name).with_suffix(".png"))


def made(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled if it is not there: whole or not at all."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as place:
            draft = Path(place) / folder.name
            draft.mkdir()
            fill(draft)
            try:
                draft.rename(folder)
            except OSError:  # another process has just made it
                if not folder.is_dir():
                    raise
    return folder
