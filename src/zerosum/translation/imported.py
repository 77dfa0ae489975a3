"""Imported translators in a folder: what builds the networks, their weights, where they come from. No pickles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from zerosum import atomic, snapshot
from zerosum import run as runs
from zerosum.data.spec import Direction
from zerosum.errors import UserError
from zerosum.inference import Precision
from zerosum.runlog import RECIPE
from zerosum.sample import record_of, spec_of
from zerosum.translation.model import Route, Translator
from zerosum.translation.published import Imported

FORMAT = 1
MODEL = "model.json"


@dataclass(frozen=True, eq=False)
class Part:
    """One direction: the file it was read from, and what was found in it."""

    file: Path
    found: Imported


def is_imported(path: Path) -> bool:
    return (path / MODEL).is_file()


def alike(some: Imported, other: Imported) -> bool:
    """Whether two are one and the same network, to the last weight."""
    mine, others = some.network.state_dict(), other.network.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in mine.items())


def check(out: Path) -> None:
    """UserError if anything is at `out` already: asked before the work, and again by `keep`."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; choose a new folder")
    if out.is_dir() and any(out.iterdir()):
        there = "an imported model" if is_imported(out) else "a run" if (out / RECIPE).is_file() else "other files"
        raise UserError(f"--out {out}: holds {there} already; choose a new folder")


def keep(parts: Mapping[Direction, Part], out: Path) -> None:
    """Write the networks into the folder `out`. UserError if anything is there already, or the disk refuses."""
    check(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for direction, part in parts.items():
            weights = {name: value.contiguous() for name, value in part.found.network.state_dict().items()}
            atomic.write_file(_weights(out, direction), safetensors.torch.save(weights))
        content = {"zerosum": "imported", "format": FORMAT, "ways": {d: _record(p) for d, p in parts.items()}}
        atomic.write_file(out / MODEL, (json.dumps(content, indent=1) + "\n").encode())  # last: now it is whole
    except OSError as error:
        raise atomic.explain(error, out) from error


def _weights(out: Path, direction: Direction) -> Path:
    return out / f"{direction}.safetensors"


def _record(part: Part) -> dict[str, Any]:
    found = part.found
    return {
        "networks": runs.to_json(found.description), "source": record_of(found.source),
        "target": record_of(found.target), "file": part.file.name,
        "sha256": hashlib.sha256(part.file.read_bytes()).hexdigest(), "notes": list(found.notes),
    }  # fmt: skip


def load(path: Path, precision: Precision = "auto") -> Translator:
    """The translator in a folder that `keep` wrote. UserError if it is damaged."""
    try:
        content = json.loads((path / MODEL).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserError(
                f"{path / MODEL}: format {content['format']} is not the {FORMAT} known here: import it anew"
            )
        routes = {direction: _route(path, direction, record) for direction, record in content["ways"].items()}
        files = ", ".join(record["file"] for record in content["ways"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: its model cannot be read ({error}); import it anew") from error
    origin = {"zerosum": "generated", "model": path.resolve().name, "imported_from": files}
    return Translator(routes, next(iter(routes)), origin, precision=precision)


def _route(path: Path, direction: Direction, record: Mapping[str, Any]) -> Route:
    networks = runs.translators_from_json(record["networks"])
    source, target = spec_of(record["source"]), spec_of(record["target"])
    generator = networks.generator(source, target)
    file = _weights(path, direction)
    snapshot.fit(generator, safetensors.torch.load_file(file), file)
    return Route(generator.eval().requires_grad_(False), source, target)
