"""Other people's generators from the files that they publish: safely read, recognised, and made networks of ours.

The file is opened in a process of its own (`unpickle.py`), which hands back safetensors; this one unpickles nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import safetensors.torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.translation.published import Imported, NotAGenerator, Statistics, describe, generators, recognise

SECONDS = 120.0  # for reading a file: a generator takes two or three
CHILD = Path(__file__).with_name("unpickle.py")
PICKLE = b"\x80"  # how those of torch.save begin
AGAIN = "download or copy it again"
WANTED = "give a generator of pytorch-CycleGAN-and-pix2pix, such as latest_net_G.pth (docs/import.md)"


def read(path: Path, *, part: str | None = None, statistics: Statistics = "image", option: str = "--part") -> Imported:
    """The generator in a file of torch.save.

    `part` names one where the file holds several (G_AB, for instance), and `option` is what errors call it;
    `statistics`: see `published.recognise`.
    UserError names the file, what it holds and what to do.
    """
    groups, dtypes = _tensors(path)
    found = {
        ".".join(filter(None, (group, head))): tensors
        for group, members in groups.items()
        for head, tensors in generators(members).items()
    }
    if not found:
        what = describe(max(groups.values(), key=len)) if groups else "no tensors by name"
        raise UserError(f"{path}: holds {what}; {WANTED}")
    chosen = [name for name in found if part is None or name == part or name.endswith(f".{part}")]
    if len(chosen) != 1:
        names = ", ".join(name or "one without a name" for name in found)
        said = f"{option} {part}: {path} holds" if part is not None else f"{path}: holds several generators:"
        raise UserError(f"{said} {names}; name one of them with {option}")
    try:
        imported = recognise(found[chosen[0]], statistics)
    except NotAGenerator as reason:
        raise UserError(f"{path}: holds {reason}; {WANTED}") from reason
    if dtypes:
        notes = (*imported.notes, f"its {' and '.join(dtypes)} values are float32 from now on")
        return replace(imported, notes=notes)
    return imported


def _tensors(path: Path) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The tensors of every dictionary in the file, by its name, and which floats were not float32."""
    _sniff(path)
    with tempfile.TemporaryDirectory(prefix="zerosum-") as folder:
        out = Path(folder) / "tensors.safetensors"
        try:
            done = subprocess.run(  # -P: nothing beside the file or in the current folder is imported
                [sys.executable, "-P", str(CHILD), str(path.resolve()), str(out)],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise UserError(
                f"{path}: reading took more than {SECONDS:g} seconds and was stopped; a generator takes a few: {WANTED}"
            ) from late
        if done.returncode:
            raise UserError(f"{path}: {_explain(done, path)}")
        said = json.loads(done.stdout)
        groups: dict[str, dict[str, Tensor]] = {name: {} for name in said["groups"]}
        for key, tensor in safetensors.torch.load(out.read_bytes()).items():
            number, _, name = key.partition("/")
            groups[said["groups"][int(number)]][name] = tensor
        return groups, said["dtypes"]


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; give a file such as latest_net_G.pth") from error


def _sniff(path: Path) -> None:
    """Refuse at once what is no file of torch.save by its first bytes."""
    start = _start(path)
    if start.startswith((b"PK\x03\x04", PICKLE)):  # a zip, or a pickle as it was until PyTorch 1.6
        return
    if not start:
        raise UserError(f"{path}: is empty; {AGAIN}")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: is a Git LFS pointer, not the file itself; fetch that with git lfs pull")
    if start.lstrip().startswith(b"<"):
        raise UserError(f"{path}: is a web page, not the file that was to be downloaded; {AGAIN}")
    raise UserError(f"{path}: begins with {start[:12]!r}, which torch.save does not write; {WANTED}")


def _explain(done: subprocess.CompletedProcess[str], path: Path) -> str:
    """What the child met, and what to do."""
    try:
        said = json.loads(done.stdout)
        kind, message = str(said["kind"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        return f"reading it ended with status {done.returncode}, for want of memory perhaps; {AGAIN}, or {WANTED}"
    if "TorchScript" in message:
        return f"is a TorchScript program, not weights; {WANTED}"
    needed = re.search(r"GLOBAL ([\w.]*\w)", message)
    if kind == "UnpicklingError" and needed:
        return (
            f"needs code to be read ({needed[1]}), and only tensors are: such a file could do anything. Where it was "
            "made, save the weights alone: torch.save(network.state_dict(), 'latest_net_G.pth')"
        )
    if kind == "UnpicklingError" and _start(path).startswith(PICKLE):
        return f"is a pickle, but none that torch.save made whole, and nothing in it was run; {WANTED}"
    if kind == "MemoryError" or "allocate" in message:
        return f"asks for more memory than a file of its size may; {AGAIN}, or {WANTED}"
    if kind == "SafetensorError" or "No space left" in message:
        return f"what it holds could not be written to {tempfile.gettempdir()}: {message}; free some space there"
    lines = message.rpartition("WeightsUnpickler error:")[2].split("\n")  # before it stands what torch's users may do
    return f"is truncated or damaged ({lines[0].strip()[:200] or kind}); {AGAIN}"
