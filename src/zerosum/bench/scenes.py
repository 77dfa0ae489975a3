"""Sets to translate between, each in three parts: to train on, to choose by, and to be scored on once.

Which image is in which part stands in `splits/`, written before anything was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zerosum.bench.folders import copied, halves, made, split, there
from zerosum.data.spec import Data

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
        source=str(there(root, "facades", "train")), pairing="joined", split="all", direction="B2A", size=(128, 128),
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
    parts = split("emoji")
    sides = {"a": there(root, "emoji", "google", "64"), "b": there(root, "emoji", "twitter", "64")}

    def fill(draft: Path) -> None:
        for side, source in sides.items():
            copied(source, parts[f"train_{side}"], draft / "train" / side.upper())
            for part in ("validation", "test"):
                copied(source, parts[part], draft / part / side.upper())

    folder = made(work / "emoji", fill)
    data = Data(source=str(folder / "train"), pairing="unpaired", split="all", size=(64, 64), channels=3, held_out=HELD)
    judged = {
        part: replace(data, source=str(folder / part), pairing="folders", held_out=0) for part in ("validation", "test")
    }
    return Scene("Emoji, Google and Twitter, 64x64", EMOJI, 30, data, judged, rivals=("cut",), shown=True)


def unpaired_facades(root: Path, work: Path) -> Scene:
    """Photos of one half of the houses, label maps of the other."""
    source, parts = there(root, "facades", "train"), split("facades")

    def fill(draft: Path) -> None:
        for side, left in (("a", True), ("b", False)):
            halves(source, parts[f"train_{side}"], draft / side.upper(), left=left)

    folder = made(work / "unpaired-facades", fill)
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


def _judged_facades(root: Path, data: Data) -> dict[str, Data]:
    """The release's own parts, in pairs whatever the training data are."""
    return {
        part: replace(data, source=str(there(root, "facades", where)), pairing="joined", jitter=0, held_out=0)
        for part, where in (("validation", "val"), ("test", "test"))
    }


def _cat2dog(root: Path, work: Path) -> Path:
    parts = split("cat2dog")

    def fill(draft: Path) -> None:
        for side in "AB":
            source, test = (there(root, "cat2dog", f"{part}{side}") for part in ("train", "test"))
            kept = set(parts[f"validation_{side.lower()}"])
            rest = sorted(path.name for path in source.iterdir() if path.name not in kept)
            copied(source, rest, draft / f"train{side}")
            copied(source, sorted(kept), draft / "validation" / side)
            copied(test, sorted(path.name for path in test.iterdir()), draft / "test" / side)

    return made(work / "cat2dog", fill)
