"""The catalogue of a studio: its classes are the run's, by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from zerosum.applications.studio import of_run
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

ITEMS = tiny.images(count=60)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A conditional run on ITEMS, one step old."""
    training = tiny.training(tiny.run("r1gan", conditional=True), ITEMS)
    training.step()
    return tiny.keep(training, tmp_path / "run")


def renamed(*names: str) -> ArrayDataset:
    return replace(ITEMS, class_names=names)


def test_a_catalogue_of_other_classes_is_refused(run: Path) -> None:
    with pytest.raises(
        UserError, match=r"items: sock is none of the run's classes \(class 0, class 1, class 2\); give"
    ):
        of_run(run, items=renamed("class 0", "sock", "class 2"))


def test_classes_that_are_numbered_otherwise_are_the_same_by_name(run: Path) -> None:
    assert ITEMS.labels is not None
    turned = replace(ITEMS, labels=2 - ITEMS.labels, class_names=ITEMS.class_names[::-1])
    one, other = (of_run(run, items=items).labels for items in (ITEMS, turned))
    assert one is not None
    assert other is not None
    assert np.array_equal(one, other)


def test_a_run_without_names_goes_by_number(run: Path) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["class_names"] = []
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert of_run(run, items=renamed("x", "y", "z")).labels is not None
