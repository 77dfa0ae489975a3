"""The split of a run's data: what is held out is measured with and never trained on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from zerosum import session
from zerosum.data.spec import Data, Dataset
from zerosum.data.split import Part, held_out_count, held_out_part, train_part
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.metrics import probe
from zerosum.sample import read_recipe

DATA = Data(source="tiny")


def numbered(count: int) -> ArrayDataset:
    """Images whose first four pixels are their number."""
    values = np.arange(count, dtype="<u4").view(np.uint8).reshape(count, 1, 2, 2)
    return ArrayDataset(values, np.arange(count) % 3, ("a", "b", "c"))


def numbers(part: Dataset) -> np.ndarray:
    values, labels = part.gather(np.arange(len(part)))
    found = np.ascontiguousarray(values).reshape(len(part), 4).view("<u4")[:, 0]
    assert labels is not None
    assert (labels == found % 3).all()
    return found


@pytest.mark.parametrize(
    ("count", "asked", "held"),
    [(199, None, 0), (200, None, 20), (1_438, None, 143), (70_000, None, 2_000), (50, 7, 7), (5_000, 0, 0), (9, 7, 7)],
)
def test_the_parts_are_the_whole_and_share_nothing(count: int, asked: int | None, held: int) -> None:  # trap 30
    data = replace(DATA, held_out=asked)
    whole = numbered(count)
    train, out = train_part(whole, data), held_out_part(whole, data)
    assert held_out_count(count, data) == held
    if held == 0:
        assert train is whole
        assert out is None
        return
    assert out is not None
    kept, away = numbers(train), numbers(out)
    assert len(away) == held
    assert sorted([*kept, *away]) == list(range(count))
    assert (np.diff(kept) > 0).all(), "in the order of the set: reads stay local"
    assert train.spec == out.spec == whole.spec
    assert train.class_names == whole.class_names
    assert len({train.fingerprint, out.fingerprint, whole.fingerprint}) == 3


def test_the_split_is_this_one_for_ever() -> None:
    """Golden: another would let runs train on what older runs were measured with."""
    out = held_out_part(numbered(200), DATA)
    assert out is not None
    assert numbers(out).tolist() == [
        3,
        12,
        19,
        20,
        31,
        54,
        61,
        65,
        69,
        86,
        89,
        92,
        107,
        108,
        143,
        145,
        154,
        163,
        167,
        187,
    ]


@pytest.mark.parametrize(("count", "asked"), [(9, 8), (2, 1), (9, 900)])
def test_something_is_left_to_train_on(count: int, asked: int) -> None:
    with pytest.raises(UserError, match=f"--held-out {asked}: there are {count} images"):
        train_part(numbered(count), replace(DATA, held_out=asked))


class Watched:
    """A set that keeps the numbers of all items that it gave."""

    def __init__(self, whole: ArrayDataset) -> None:
        self.whole, self.given = whole, set[int]()
        self.spec, self.class_names, self.fingerprint = whole.spec, whole.class_names, whole.fingerprint

    def __len__(self) -> int:
        return len(self.whole)

    def gather(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self.given |= set(index.tolist())
        return self.whole.gather(index)


def test_training_never_sees_what_is_held_out_and_the_probe_sees_nothing_else() -> None:  # trap 30
    data = Watched(tiny.images(count=60))
    run = tiny.run("r3gan", data=replace(DATA, held_out=12))
    held = held_out_part(data, run.data)
    assert isinstance(held, Part)
    training = tiny.training(run, data)
    for _ in range(16):
        training.step()
    away = set(held.index.tolist())
    assert data.given == set(range(60)) - away
    data.given.clear()
    assert training.probe.held_out is not None
    training.probe.held_out.real("probe/real", 0, probe.SAMPLES)
    assert data.given == away


def test_the_recipe_keeps_the_count_and_old_runs_hold_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "make_film", lambda out: None)
    run = tiny.run("gan", images=16, data=replace(DATA, held_out=None))
    session.start(run, tiny.images(count=230), tmp_path / "new")
    recipe = read_recipe(tmp_path / "new")
    assert recipe["run"]["data"]["held_out"] == 23
    assert recipe["data"]["count"] == 230
    path = tmp_path / "new" / "recipe.json"
    path.write_text(path.read_text().replace('"held_out": 23', '"flip": false'))
    assert read_recipe(tmp_path / "new")["run"]["data"]["held_out"] == 0


MILLION = """
import resource
import sys

import numpy as np

from zerosum import randomness
from zerosum.data import open as open_data
from zerosum.data.spec import Data
from zerosum.data.split import held_out_part, train_part

data = Data(source=sys.argv[1], memory_megabytes=0)
whole = open_data(data)
train, held = train_part(whole, data), held_out_part(whole, data)
for first in range(0, 4_096, 64):
    values, _ = train.gather(randomness.order(0, "real", first, 64, len(train)))
    assert values.shape == (64, 1, 28, 28)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
print(len(train), len(held), round(peak))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="counts memory with a module that Windows lacks")
def test_a_million_mapped_images_are_split_in_little_memory(tmp_path: Path) -> None:
    """An .npy file with holes for values: it takes no room on the disk, and is mapped as any other."""
    path = tmp_path / "million.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(1_000_000, 1, 28, 28)).flush()
    said = subprocess.run([sys.executable, "-c", MILLION, path], capture_output=True, text=True, check=True).stdout
    train, held, megabytes = map(int, said.split())
    assert (train, held) == (998_000, 2_000)
    assert megabytes < 2_000
