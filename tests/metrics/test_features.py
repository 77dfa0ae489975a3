"""Feature extractors: the same numbers whatever stands beside an image, all images counted, sizes brought alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from zerosum.data.spec import Dataset, Spec
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.metrics.cache import Cache
from zerosum.metrics.features import classifier as classifiers
from zerosum.metrics.features import imagenet
from zerosum.metrics.features.base import CHUNK, Extractor, resized, unit
from zerosum.metrics.features.choose import choose
from zerosum.metrics.features.classifier import Settings, classifier
from zerosum.metrics.features.weak import Coordinates, Pixels, RandomConvolutionNetwork, RandomConvolutions

SMALL = Settings(width=4, hidden=8, pixels=64 * 64 * 20)


def shapes(count: int = 200, side: int = 8, seed: int = 0) -> ArrayDataset:
    """Bright upper halves, bright lower halves, both with noise: two classes that can be told apart."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = random.integers(0, 120, (count, 1, side, side), dtype=np.uint8)
    images[labels == 0, :, : side // 2] += 100
    images[labels == 1, :, side // 2 :] += 100
    return ArrayDataset(images, labels, ("up", "down"))


def trained(data: Dataset) -> Extractor:
    return classifier(data, Cache(None), SMALL)


MAKERS: dict[str, Callable[[], tuple[Extractor, np.ndarray]]] = {
    "random": lambda: (RandomConvolutions(Spec((3, 10, 14))), tiny.images((3, 10, 14), 2 * CHUNK + 1).values),
    "pixels": lambda: (Pixels(Spec((1, 8, 8))), tiny.images((1, 8, 8), 2 * CHUNK + 1).values),
    "shrunken pixels": lambda: (Pixels(Spec((4, 40, 8))), tiny.images((4, 40, 8), 2 * CHUNK + 1).values),
    "coordinates": lambda: (Coordinates(Spec((2,))), tiny.points(2 * CHUNK + 1).values),
    "classifier": lambda: (trained(shapes()), shapes(2 * CHUNK + 1, seed=1).values),
}


@pytest.mark.parametrize("name", MAKERS)
def test_features_are_counted_and_independent_of_what_stands_beside(name: str) -> None:
    extractor, values = MAKERS[name]()
    whole = extractor(values)
    assert whole.dtype == torch.float32
    for n in (1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1):  # trap 7
        part = extractor(values[:n])
        assert part.shape == (n, extractor.dimensions)
        assert torch.equal(part, whole[:n])  # trap 3: a network in train mode would mix its batch
    torch.testing.assert_close(extractor(values[::-1]).flip(0), whole, rtol=1e-4, atol=1e-5)
    assert len(extractor.key) == len(extractor.weights) == 64
    assert extractor.key == MAKERS[name]()[0].key
    networks = [v for v in vars(extractor).values() if isinstance(v, nn.Module)]
    assert not any(m.training for net in networks for m in net.modules())  # trap 3


def test_features_of_random_convolutions_are_those_of_the_running_check() -> None:
    values = tiny.images((3, 10, 14), 70).values
    found = RandomConvolutions(Spec((3, 10, 14)))(values)
    torch.testing.assert_close(found, RandomConvolutionNetwork(3)(unit(values)))


def test_an_extractor_leaves_modes_and_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(shapes())
    assert torch.equal(torch.rand(3), expected)
    assert torch.is_grad_enabled()


# --- resizing: trap 1 ------------------------------------------------------------------------------------------------


def test_shrinking_is_antialiased() -> None:
    """A pattern finer than the target must become grey; without antialiasing it becomes stripes."""
    stripes = np.zeros((1, 1, 64, 64), np.uint8)
    stripes[..., ::2] = 255
    small = resized(stripes, 1, 16)  # trap 1
    assert small[..., 2:-2].max() - small[..., 2:-2].min() <= 1
    assert abs(int(small[0, 0, 8, 8]) - 128) <= 1


def cubic(t: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2 (1981)."""
    t = np.abs(t)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def test_resizing_is_the_cubic_filter_widened_by_the_reduction() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    small = resized(ramp, 3, 4)  # trap 1
    assert small.shape == (1, 3, 4, 4)
    assert (small[:, 0] == small[:, 2]).all()
    centre, source = (np.arange(4) + 0.5) * 4, np.arange(16) + 0.5
    weights = cubic((source - centre[:, None]) / 4)
    weights /= weights.sum(1, keepdims=True)
    slow = weights @ ramp[0, 0].astype(float) @ weights.T
    assert np.abs(small[0, 0] - slow).max() <= 1
    golden = [[27, 30, 35, 38], [89, 92, 97, 100], [155, 158, 163, 166], [217, 220, 225, 228]]
    assert small[0, 0].tolist() == golden


def test_resizing_to_the_same_size_changes_nothing() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert np.array_equal(resized(values, 1, 16), values)  # trap 8
    assert np.array_equal(((unit(values) + 1) * 127.5).round().numpy(), values)


# --- the classifier ---------------------------------------------------------------------------------------------------


def test_a_classifier_learns_and_says_how_well() -> None:
    data, others = shapes(), shapes(100, seed=1)
    found = classifier(data, Cache(None), SMALL)
    assert found.accuracy == 1.0
    p = found.probabilities(found(others.values))
    assert others.labels is not None
    assert np.array_equal(p.argmax(1).numpy(), others.labels)
    torch.testing.assert_close(p.sum(1), torch.ones(100, dtype=torch.float64))
    assert classifiers.guesses_well(found, data)


def test_a_classifier_is_kept_and_made_again_if_its_data_change(tmp_path: Path) -> None:
    told: list[int] = []

    def train(data: Dataset) -> Extractor:
        told.clear()
        return classifier(data, Cache(tmp_path), SMALL, told=lambda done, of: told.append(done))

    first = train(shapes())
    assert told
    again = train(shapes())
    assert not told
    assert again.key == first.key
    values = shapes(9, seed=3).values
    assert torch.equal(first(values), again(values))
    assert train(shapes(seed=7)).key != first.key
    assert told


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tiny.points(), "points"),
        (tiny.images(classes=0), "no labels"),
        (ArrayDataset(np.zeros((40, 1, 8, 8), np.uint8), np.zeros(40, np.int64), ("a", "b")), "one label"),
        (tiny.images(count=20), "only"),
        (tiny.images((1, 3, 9), 200), "too small"),
    ],
)
def test_data_without_usable_labels_are_refused(data: ArrayDataset, why: str) -> None:
    with pytest.raises(UserError, match=why):
        classifier(data, Cache(None), SMALL)


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_the_default_is_what_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "PACKAGES", ("no_such_package",))
    found = choose(shapes(), Cache(None))
    assert found.extractor.name == "classifier"
    assert "100.0 % right" in found.reason
    chance = choose(tiny.images(count=300), Cache(None))
    assert chance.extractor.weak
    assert "did not learn" in chance.reason
    plain = choose(tiny.images(classes=0), Cache(None))
    assert plain.extractor.weak
    assert "weak" in plain.reason
    points = choose(tiny.points(), Cache(None))
    assert not points.extractor.weak


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("clasifier", tiny.images(), "did you mean classifier"),
        ("coordinates", tiny.images(), "images"),
        ("pixels", tiny.points(), "points"),
        ("classifier", tiny.images(classes=0), "no labels"),
    ],
)
def test_features_that_cannot_be_had_are_refused(name: str, data: ArrayDataset, words: str) -> None:
    with pytest.raises(UserError, match=words):
        choose(data, Cache(None), name)
