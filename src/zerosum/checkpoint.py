"""Checkpoints: safetensors for the tensors, JSON for the rest, with checksums, written whole or not at all.

A folder `checkpoints/000012800/` holds `tensors.safetensors` and `state.json`; the number is real images seen.
Nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from zerosum import atomic
from zerosum.errors import UserError
from zerosum.runlog import grids, rewind_events

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"


class Damaged(Exception):
    """A checkpoint that is truncated, altered or unreadable; the message says which and how."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: `tensors` by name, `state` as plain JSON values."""

    path: Path
    images_seen: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with the prefix, by the rest of their names."""
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}


def folder(run: Path) -> Path:
    return run / "checkpoints"


def numbers(run: Path) -> list[int]:
    """Images seen of every checkpoint in a run folder, ascending."""
    return sorted(int(p.name) for p in folder(run).glob("[0-9]*") if p.name.isdigit() and p.is_dir())


def path_of(run: Path, images_seen: int) -> Path:
    return folder(run) / f"{images_seen:012d}"


def _seal(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True, allow_nan=False).encode()).hexdigest()


def save(run: Path, images_seen: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint atomically and return its folder. Raises UserError if the disk refuses."""
    data = safetensors.torch.save(_apart(tensors))
    content: dict[str, Any] = {
        "format": FORMAT,
        "images_seen": images_seen,
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
        "state": dict(state),
    }
    content["seal"] = _seal(content)
    path = path_of(run, images_seen)
    atomic.write_folder(path, {TENSORS: data, STATE: json.dumps(content, indent=1, allow_nan=False).encode()})
    return path


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each with memory of its own: safetensors refuses what shares memory (tied weights)."""
    out: dict[str, Tensor] = {}
    known: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        out[name] = tensor.clone() if place in known else tensor
        known.add(place)
    return out


def load(path: Path) -> Checkpoint:
    """Read and verify one checkpoint. Raises Damaged."""
    content = read_state(path)
    try:
        data = (path / TENSORS).read_bytes()
    except OSError as error:
        raise Damaged(f"{path / TENSORS} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != content["tensors_sha256"]:
        raise Damaged(f"{path / TENSORS} does not match its checksum: it is truncated or altered")
    return Checkpoint(path, content["images_seen"], safetensors.torch.load(data), content["state"])


def read_state(path: Path) -> dict[str, Any]:
    """The JSON side of a checkpoint, verified. Raises Damaged."""
    try:
        content = json.loads((path / STATE).read_text(encoding="utf-8"))
        seal = content.pop("seal")
        whole = seal == _seal(content)
        known = content["format"] == FORMAT
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise Damaged(f"{path / STATE} cannot be read: {error}") from error
    if not whole:
        raise Damaged(f"{path / STATE} does not match its checksum: it is truncated or altered")
    if not known:
        raise UserError(f"{path}: checkpoint format {content['format']} is not the format {FORMAT} of this version")
    return content


def newest(
    run: Path, warn: Callable[[str], None], accept: Callable[[dict[str, Any]], bool] = lambda state: True
) -> Checkpoint | None:
    """The newest whole checkpoint whose state `accept` likes; damaged ones are named by `warn` and passed over."""
    for images_seen in reversed(numbers(run)):
        try:
            found = load(path_of(run, images_seen))
        except Damaged as damage:
            warn(f"{damage}; going back to the checkpoint before it")
            continue
        if accept(found.state):
            return found
    return None


def best(run: Path) -> int | None:
    """Images seen of the checkpoint with the lowest score, None if none has one."""
    scored: list[tuple[float, int]] = []
    for images_seen in numbers(run):
        try:
            score = read_state(path_of(run, images_seen))["state"].get("score")
        except Damaged:
            continue  # named when somebody loads it; it cannot be the best
        if score is not None:
            scored.append((score, images_seen))
    return min(scored)[1] if scored else None


def prune(run: Path, keep: int = 2) -> None:
    """Keep the newest `keep` and the best; remove the others and what a killed writer left."""
    atomic.sweep(folder(run))
    kept = set(numbers(run)[-keep:]) | {best(run)}
    for images_seen in numbers(run):
        if images_seen not in kept:
            atomic.remove_folder(path_of(run, images_seen))


def forget_after(run: Path, images_seen: int, is_due: Callable[[int], bool], *, ended: bool = False) -> None:
    """Remove what was made after a point that the run goes back to: checkpoints, events and grids.

    Unless the run has `ended` there, also the grid that only its end made, where none `is_due`.
    """
    for number in numbers(run):
        if number > images_seen:
            atomic.remove_folder(path_of(run, number))
    rewind_events(run, images_seen, ended=ended)
    for path in grids(run):
        number = int(path.stem)
        if number > images_seen or not (ended or is_due(number)):
            path.unlink()
