"""The benchmark of `augment`: measured again means measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zerosum.applications.synthetic import Copies
from zerosum.bench import medicine
from zerosum.bench.protocol import Bench
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset


class Kept:
    """A study that finds what an earlier one left in its folder, as the real one does."""

    measured = 0

    def __init__(self, whole: Any, names: Any, parts: Any, plan: Any, source: Any, folder: Path) -> None:
        self.parts, self.place = [SimpleNamespace(overlap=0.0)], folder / "scores"

    def run(self, say: Any) -> None:
        if not self.place.exists():
            Kept.measured += 1
            self.place.parent.mkdir(parents=True, exist_ok=True)
            self.place.touch()

    doubt = None

    def gate_of(self, part: Any) -> dict[str, Any]:
        return {"drawn": 4, "passed of each class": {"normal": {"passed": 1, "wanted": 2}}}


@pytest.mark.parametrize(("again", "times"), [(False, 1), (True, 2)])
def test_again_measures_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool, times: int) -> None:
    gain = SimpleNamespace(difference=0.0, low=-1.0, high=1.0)
    row = SimpleNamespace(arm="classical augmentation", means={medicine.PRIMARY: (0.5,)})
    monkeypatch.setattr(medicine, "Study", Kept)
    monkeypatch.setattr(medicine, "verdict", lambda *_: SimpleNamespace(gain=gain, answer="cannot be told"))
    monkeypatch.setattr(medicine, "rows", lambda *_: [row])
    monkeypatch.setattr(medicine._Stage, "parts", lambda self, labels, draws: [])
    monkeypatch.setattr(medicine, "expected", lambda *_: 60.0)
    monkeypatch.setattr(Kept, "measured", 0)
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    data = ArrayDataset(images, np.arange(40) % 2, ("normal", "pneumonia"))
    for _ in range(2):
        options = medicine.Options(out=tmp_path / "out", runs=tmp_path / "runs", quick=True, threads=1, again=again)
        bench = Bench("medicine", options, (0,))
        stage = medicine._Stage(bench, Data(source="x"), data, data, 0.1)
        found = stage.measured(50, "copies", Copies(), False)
        assert (found["answer"], found["passed"], found["had"]) == ("cannot be told", 0.25, 0.5)
    assert Kept.measured == times


def test_nothing_that_is_like_a_test_image_is_trained_on(tmp_path: Path) -> None:
    """Mirrored or brighter, in the draws or in the oracle's pool; and no draw has an image of that pool."""
    random = np.random.default_rng(0)
    train, test = (random.integers(0, 200, (count, 1, 28, 28), dtype=np.uint8) for count in (400, 40))
    train[:10] = test[:10, :, :, ::-1]
    train[10:20] = test[10:20] + 20
    train[300:310] = train[:10]  # once more
    names = ("normal", "pneumonia")
    sides = (ArrayDataset(x, np.arange(len(x)) % 2, names) for x in (train, test))
    bench = Bench("medicine", medicine.Options(out=tmp_path, runs=tmp_path, quick=True, threads=1), (0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(medicine, "ASIDE", 100)
        stage = medicine._Stage(bench, Data(source="x"), *sides, 0.1)
    leaked = {x.tobytes() for x in train[[*range(20), *range(300, 310)]]}
    aside = {x.tobytes() for x in stage.aside.images}
    assert len(aside) == 100
    assert not aside & leaked
    for part in stage.parts(50, 3):
        drawn = {x.tobytes() for x in stage.whole.images[part.train]}
        assert len(drawn) == 50
        assert not drawn & (leaked | aside)
        assert np.array_equal(part.test, stage.tested)
