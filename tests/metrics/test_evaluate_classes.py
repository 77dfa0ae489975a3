"""Classes of a run and of the real images that it is measured against: matched by name, and who judges them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from zerosum.data.loader import scale
from zerosum.data.spec import Spec
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.metrics import evaluate as evaluating
from zerosum.metrics.cache import Cache
from zerosum.metrics.evaluate import Settings, evaluate
from zerosum.metrics.evaluation import Evaluation
from zerosum.metrics.features.classifier import Settings as Judge
from zerosum.metrics.features.classifier import classifier
from zerosum.metrics.measurement import comparable
from zerosum.metrics.sources import Fakes, Reals, draw, of_dataset
from zerosum.sample import Model

SHAPE = (1, 8, 12)
OWN = ("a", "b", "c")
"""The classes of the run: a is bright on the left, b in the middle, c on the right."""
BANK = 300  # images of each class that the painter has


def painted(places: np.ndarray, seed: int) -> np.ndarray:
    """Images uint8 (n, *SHAPE), bright in the left, middle or right third: places (n,) of 0, 1, 2."""
    random = np.random.default_rng(seed)
    values = random.normal(80, 15, (len(places), *SHAPE))
    for image, place in zip(values, places, strict=True):
        image[:, :, 4 * place : 4 * place + 4] += random.uniform(60, 120)
    return np.clip(values, 0, 255).round().astype(np.uint8)


def places_of(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 8, 3, 4).mean((1, 3)).argmax(1)


class Painter(nn.Module):
    """A generator that draws its classes as well as can be: latents (n, z) and numbers (n,) to images in [-1, 1]."""

    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        values = painted(np.repeat(np.arange(3), BANK), 7)
        self.register_buffer("bank", scale(values, torch.float32, torch.device("cpu")))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.bank[label * BANK + (z[:, 0].abs() * 1e4).long() % BANK]


def painter(names: Sequence[str] = OWN) -> Model:
    return Model(Painter(), tiny.run("dcgan", conditional=True), Spec(SHAPE, 3), names, 16, "fp32")


def reals(names: tuple[str, ...], count: int = 600, seed: int = 0) -> Reals:
    """As many real images of each of these classes, which look as the run's do."""
    labels = np.arange(count) % len(names)
    places = np.array([OWN.index(name) if name in OWN else 0 for name in names])
    return Reals(ArrayDataset(painted(places[labels], seed), labels, names), None, "seen", False)


def of_model(model: Model) -> Fakes:
    return Fakes("painter", None, False, SHAPE, partial(draw, model))


@pytest.mark.parametrize("names", [OWN, ("a", "c"), ("c", "a"), ("c", "b", "a")])
def test_what_is_drawn_is_the_class_of_that_name(names: tuple[str, ...]) -> None:
    values, labels = draw(painter(), 60, 1, reals(names))
    assert labels is not None
    assert set(labels.tolist()) == set(range(len(names)))
    assert [OWN[place] for place in places_of(values)] == [names[k] for k in labels]


def test_a_run_is_judged_by_the_classes_that_the_real_images_have() -> None:
    found = evaluate(reals(("a", "c")), of_model(painter()), Settings(features="random"), Cache(None))
    assert found.measurements["agreement"].value > 0.95
    assert found.measurements["class balance"].value < 0.05
    assert [c.share.name for c in found.classes] == ["a", "c"]
    for c in found.classes:
        assert c.share.fake.value == pytest.approx(0.5, abs=0.1)
        assert c.measurements["coverage"].value > 0.7, "b in place of c would cover nothing of it"
    assert not {"wrong classes", "mode dropping"} & {f.kind for f in found.verdict}


@pytest.mark.parametrize(
    ("names", "which"), [(("a", "x"), "x is"), (("a", "b", "c", "d"), "d is"), (("x", "a", "y"), "x, y are")]
)
def test_classes_that_the_run_does_not_have_are_refused(names: tuple[str, ...], which: str) -> None:
    with pytest.raises(UserError, match=rf"seen: {which} none of the run's classes \(a, b, c\); leave such images out"):
        evaluate(reals(names), of_model(painter()), Settings(features="pixels", quick=True), Cache(None))


def test_a_class_without_images_is_not_asked_for() -> None:
    real = reals(("a", "c"))
    assert isinstance(real.train, ArrayDataset)
    more = Reals(ArrayDataset(real.train.values, real.train.labels, ("a", "c", "x")), None, "seen", False)
    values, labels = draw(painter(), 40, 1, more)
    assert labels is not None
    assert np.array_equal(places_of(values), 2 * labels)


def test_a_run_without_names_goes_by_number() -> None:
    nameless = painter(())
    values, labels = draw(nameless, 40, 1, reals(("x", "y")))
    assert labels is not None
    assert np.array_equal(places_of(values), labels)
    with pytest.raises(UserError, match=r"seen: 3 is none of the run's classes \(0, 1, 2\)"):
        draw(nameless, 40, 1, reals(("x", "y", "z", "a")))


def test_two_classes_of_one_name_stay_two() -> None:
    """As ImageNet has two cranes."""
    assert painter(("crane", "b", "crane")).relabelled(np.array([2, 0]), ("crane", "b", "crane")).tolist() == [2, 0]


# --- who judges ------------------------------------------------------------------------------------------------------


def test_guesses_are_recorded_with_the_classifier_that_made_them(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, real = Cache(tmp_path_factory.mktemp("cache")), reals(("a", "c"))
    judge = classifier(real.train, cache)

    def measured(features: str) -> Evaluation:
        return evaluate(real, of_model(painter()), Settings(features=features), cache)

    weak = measured("random")
    agreements = [weak.measurements["agreement"], *(c.measurements["agreement"] for c in weak.classes)]
    assert len(agreements) == 3
    for m in agreements:
        said = m.protocol
        assert (said.extractor, said.weights, said.preparation) == (judge.name, judge.weights, judge.preparation)
        assert said.settings.endswith(f"judge {100 * judge.accuracy:.1f} % right on real images new to it")
    assert agreements[1].protocol.settings.startswith("class a, judge")
    for key in ("kernel", "class balance"):  # the shares are of labels, and no guess
        assert weak.measurements[key].protocol.weights == weak.choice.extractor.weights != judge.weights
        assert "judge" not in weak.measurements[key].protocol.settings
    comparable(weak.measurements["agreement"], measured("classifier").measurements["agreement"])
    monkeypatch.setattr(evaluating, "classifier", partial(classifier, settings=Judge(width=8)))
    other = measured("random")
    comparable(weak.measurements["kernel"], other.measurements["kernel"])
    with pytest.raises(UserError, match=r"cannot be compared: .*weights"):
        comparable(weak.measurements["agreement"], other.measurements["agreement"])


def test_class_shares_that_were_guessed_say_by_whom() -> None:
    real = reals(("a", "c"))
    unlabelled = of_dataset(ArrayDataset(painted(np.arange(200) % 2 * 2, 5)), "fakes", real.train)
    found = evaluate(real, unlabelled, Settings(features="random"), Cache(None))
    assert found.classes_from.startswith("a classifier's guesses")
    said = found.measurements["class balance"].protocol
    assert said.extractor == "classifier"
    assert said.settings.startswith("KL(fake || real), nats, judge ")
