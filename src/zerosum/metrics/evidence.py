"""Evaluations in and out of files, and beside each other: for `zerosum evaluate`, `zerosum compare` and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zerosum import atomic, pictures
from zerosum.errors import UserError
from zerosum.metrics.directions import DirectionResult
from zerosum.metrics.evaluation import FORMAT, Evaluation, Pairs
from zerosum.metrics.measurement import Measurement, comparable, from_json

ROW_PIXELS = 160  # of a side: smaller images are enlarged by whole numbers until they are about so large


@dataclass(frozen=True)
class Record:
    """An evaluation as it was kept: `content` is its JSON, `measurements` those in it."""

    content: Mapping[str, Any]
    measurements: Mapping[str, Measurement]


def write(evaluation: Evaluation, path: Path) -> None:
    """Keep an evaluation as JSON."""
    text = json.dumps(evaluation.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
    atomic.write_file(path, (text + "\n").encode())


def write_pairs(pairs: Pairs, path: Path) -> None:
    """Suspicious fakes above their nearest training images, nearest first, as a PNG."""
    pictures.save_png(nearest_pairs(pairs), path, {"zerosum": "generated images above their nearest training images"})


def nearest_pairs(pairs: Pairs) -> Image.Image:
    """Rows of eight fakes, each row above that of their nearest training images."""
    rows = []
    for start in range(0, len(pairs.fake), 8):
        rows += [pairs.fake[start : start + 8], pairs.train[start : start + 8]]
    return pictures.grid(np.concatenate(rows), columns=min(8, len(pairs.fake)))


def write_rows(found: DirectionResult, what: str, path: Path) -> None:
    """Examples of one direction, a row each, as a PNG; `what` was measured."""
    rows, columns, _, height, width = found.rows.shape
    scale = max(1, round(ROW_PIXELS / max(height, width)))
    picture = pictures.grid(found.rows.reshape(rows * columns, *found.rows.shape[2:]), columns=columns, scale=scale)
    about = {"zerosum": "generated", "what": what, "direction": found.direction, "columns": ", ".join(found.columns)}
    pictures.save_png(picture, path, about)


def read(path: Path) -> Record | None:
    """The evaluation in a file, None if there is none. UserError if it is damaged or of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(f"{path}: format {content['format']} is not the format {FORMAT} of this version")
        return Record(content, {key: from_json(m) for key, m in content["measurements"].items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and evaluate again") from error


def alike(records: Mapping[str, Record]) -> tuple[str, ...]:
    """The measurements that all records have. UserError that names the field, if two were not measured alike."""
    names = list(records)
    first = records[names[0]]
    shared = tuple(key for key in first.measurements if all(key in r.measurements for r in records.values()))
    if not shared:
        raise UserError(f"{', '.join(names)}: no measurement is known of all of them; evaluate them alike")
    for name in names[1:]:
        for key in shared:
            try:
                comparable(first.measurements[key], records[name].measurements[key])
            except UserError as error:
                raise UserError(f"{names[0]} and {name}, {key}: {error}") from error
    return shared


def side_by_side(samples: Sequence[np.ndarray]) -> Image.Image:
    """A row for each run: as many images (n, C, H, W), of the same latents where the runs have them in common."""
    shapes = {s.shape[1:] for s in samples}
    if len(shapes) > 1:
        raise UserError(f"images of shapes {sorted(shapes)} cannot stand in one picture; compare runs of one size")
    n = min(len(s) for s in samples)
    return pictures.grid(np.concatenate([s[:n] for s in samples]), columns=n)
