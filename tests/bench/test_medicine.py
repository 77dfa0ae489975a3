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

    def gate_of(self, part: Any) -> dict[str, int]:
        return {"passed": 1, "drawn": 1}


@pytest.mark.parametrize(("again", "times"), [(False, 1), (True, 2)])
def test_again_measures_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool, times: int) -> None:
    gain = SimpleNamespace(difference=0.0, low=-1.0, high=1.0)
    row = SimpleNamespace(arm="classical augmentation", means={medicine.PRIMARY: (0.5,)})
    monkeypatch.setattr(medicine, "Study", Kept)
    monkeypatch.setattr(medicine, "verdict", lambda *_: SimpleNamespace(gain=gain, answer="cannot be told"))
    monkeypatch.setattr(medicine, "rows", lambda *_: [row])
    monkeypatch.setattr(medicine._Stage, "parts", lambda self, labels: [])
    monkeypatch.setattr(Kept, "measured", 0)
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    data = ArrayDataset(images, np.arange(40) % 2, ("normal", "pneumonia"))
    for _ in range(2):
        options = medicine.Options(out=tmp_path / "out", runs=tmp_path / "runs", quick=True, threads=1, again=again)
        bench = Bench("medicine", options, (0,))
        stage = medicine._Stage(bench, Data(source="x"), data, data, 0.1)
        assert stage.measured(50, "copies", Copies(), False)["answer"] == "cannot be told"
    assert Kept.measured == times
