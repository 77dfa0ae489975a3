"""Sets to translate between, each in three parts: to train on, to choose by, and to be scored on once.

Which image is in which part stands in `splits/`, written before anything was trained.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from zerosum import pictures
from zerosum.data.spec import Data
from zerosum.errors import UserError

SPLITS = Path(__file__).parent / "splits"
HELD = 16  # images a side that the running probe sees: the fewest it takes, for few images are what there is
FACADES = "CMP Facades (Tylecek and Sara 2013) in pix2pix's release: 256x256 photos beside their label maps"
CAT2DOG = "Cats and dogs, a subset of Asirra (Elson et al. 2007) in mixed sizes, mostly near 320x240"
EMOJI = "emoji-datasource-google and -twitter 16.0.0, 64x64 on white (Noto Emoji, Apache-2.0; Twemoji, CC BY 4.0)"


@dataclass(frozen=True)
class Scene:
    """What to train on, and what is held against it: "validation" for choices, "test" once. `minutes` of training."""

    title: str
    source: str
    minutes: float
    data: Data
    judged: Mapping[str, Data]
    rivals: tuple[Literal["paper", "cut"], ...] = ()
    """What is trained beside the default."""
    shown: bool = False
    """Whether its licence lets pictures of it go into the project."""


def facades(root: Path, work: Path) -> Scene:
    """Labels to photo, in pairs."""
    data = Data(
        source=str(_there(root, "facades", "train")), pairing="joined", split="all", direction="B2A", size=(128, 128),
        jitter=14, flip=True, held_out=HELD,
    )  # fmt: skip
    judged = _judged_facades(root, data)
    return Scene("Facades, labels to photo, 128x128", FACADES, 20, data, judged, rivals=("paper",))


def edges(root: Path, work: Path) -> Scene:
    """Drawing to photo, from photos of cats alone."""
    folder = _cat2dog(root, work)
    data = Data(
        source=str(folder / "trainA"), made="edges", split="all", size=(96, 128), jitter=12, flip=True, held_out=HELD
    )
    judged = {
        part: replace(data, source=str(folder / where / "A"), jitter=0, held_out=0)
        for part, where in (("validation", "validation"), ("test", "test"))
    }
    return Scene("Cats, edges to photo, 96x128", CAT2DOG, 20, data, judged)


def emoji(root: Path, work: Path) -> Scene:
    """Google's drawings and Twitter's, no drawing seen on both sides."""
    parts = _split("emoji")
    sides = {"a": _there(root, "emoji", "google", "64"), "b": _there(root, "emoji", "twitter", "64")}

    def fill(draft: Path) -> None:
        for side, source in sides.items():
            _copied(source, parts[f"train_{side}"], draft / "train" / side.upper())
            for part in ("validation", "test"):
                _copied(source, parts[part], draft / part / side.upper())

    folder = _made(work / "emoji", fill)
    data = Data(source=str(folder / "train"), pairing="unpaired", split="all", size=(64, 64), channels=3, held_out=HELD)
    judged = {
        part: replace(data, source=str(folder / part), pairing="folders", held_out=0) for part in ("validation", "test")
    }
    return Scene("Emoji, Google and Twitter, 64x64", EMOJI, 30, data, judged, rivals=("cut",), shown=True)


def unpaired_facades(root: Path, work: Path) -> Scene:
    """Photos of one half of the houses, label maps of the other."""
    source, parts = _there(root, "facades", "train"), _split("facades")

    def fill(draft: Path) -> None:
        for side, left in (("a", True), ("b", False)):
            target = draft / side.upper()
            target.mkdir()
            for name in parts[f"train_{side}"]:
                with Image.open(source / name) as joined:
                    half = joined.width // 2
                    box = (0, 0, half, joined.height) if left else (half, 0, 2 * half, joined.height)
                    pictures.save_png(joined.convert("RGB").crop(box), (target / name).with_suffix(".png"))

    folder = _made(work / "unpaired-facades", fill)
    data = Data(source=str(folder), pairing="unpaired", split="all", size=(64, 64), jitter=8, flip=True, held_out=HELD)
    judged = _judged_facades(root, data)
    return Scene("Facades, photos and labels, unpaired, 64x64", FACADES, 30, data, judged, rivals=("paper",))


def cat2dog(root: Path, work: Path) -> Scene:
    """Cats and dogs, where shapes differ and nothing is a counterpart."""
    folder = _cat2dog(root, work)
    data = Data(
        source=str(folder), pairing="unpaired", split="train", size=(64, 80), jitter=8, flip=True, held_out=HELD
    )
    judged = {
        part: replace(data, source=str(folder / part), split="all", jitter=0, held_out=0)
        for part in ("validation", "test")
    }
    return Scene("Cats and dogs, unpaired, 64x80", CAT2DOG, 30, data, judged)


SCENES: dict[str, Callable[[Path, Path], Scene]] = {
    "facades": facades, "edges": edges, "emoji": emoji, "unpaired-facades": unpaired_facades, "cat2dog": cat2dog,
}  # fmt: skip


# --- from the sets' files --------------------------------------------------------------------------------------------


def _split(name: str) -> dict[str, list[str]]:
    return json.loads((SPLITS / f"{name}.json").read_text(encoding="utf-8"))


def _there(root: Path, *parts: str) -> Path:
    path = root.joinpath(*parts)
    if not path.is_dir():
        raise UserError(f"--data {root}: has no folder {'/'.join(parts)}; benchmarks/README.md says what belongs there")
    return path


def _judged_facades(root: Path, data: Data) -> dict[str, Data]:
    """The release's own parts, in pairs whatever the training data are."""
    return {
        part: replace(data, source=str(_there(root, "facades", where)), pairing="joined", jitter=0, held_out=0)
        for part, where in (("validation", "val"), ("test", "test"))
    }


def _cat2dog(root: Path, work: Path) -> Path:
    parts = _split("cat2dog")

    def fill(draft: Path) -> None:
        for side in "AB":
            source, test = (_there(root, "cat2dog", f"{part}{side}") for part in ("train", "test"))
            kept = set(parts[f"validation_{side.lower()}"])
            rest = sorted(path.name for path in source.iterdir() if path.name not in kept)
            _copied(source, rest, draft / f"train{side}")
            _copied(source, sorted(kept), draft / "validation" / side)
            _copied(test, sorted(path.name for path in test.iterdir()), draft / "test" / side)

    return _made(work / "cat2dog", fill)


def _copied(source: Path, names: Sequence[str], target: Path) -> None:
    target.mkdir(parents=True)
    for name in names:
        shutil.copyfile(source / name, target / name)


def _made(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled if it is not there: whole or not at all."""
    if not folder.is_dir():
        draft = folder.with_name(f"{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        fill(draft)
        draft.rename(folder)
    return folder
