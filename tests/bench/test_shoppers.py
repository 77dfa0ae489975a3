"""The simulated shoppers: what they are said to be, and that no model looks at them."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import zerosum
from zerosum.bench.shoppers import ATTRIBUTES, Shoppers, attributes

CLASSES = 4


def catalogue(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    images = np.zeros((n, 1, 28, 28), dtype=np.uint8)
    for image in images:
        top, left = random.integers(0, 12, 2)
        tall, wide = random.integers(4, 16, 2)
        image[0, top : top + tall, left : left + wide] = random.integers(60, 256)
    return images, random.integers(0, CLASSES, n)


@pytest.fixture(scope="module")
def shop() -> Shoppers:
    return Shoppers(*catalogue(), users=60, visits=12, seed=5)


def test_nothing_but_a_benchmark_imports_it() -> None:
    root = Path(zerosum.__file__).parent
    for path in root.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        if any(name.startswith("zerosum.bench.shoppers") for name in names):
            assert path.parent.name == "bench", path


def test_attributes_of_shapes_that_can_be_told_beforehand() -> None:
    plain = np.zeros((3, 1, 28, 28), dtype=np.uint8)
    plain[0, 0, 4:24, 10:18] = 200  # tall
    plain[1, 0, 10:18, 4:24] = 200  # wide
    plain[2, 0, 10:18:2, 4:24] = 200  # striped
    found = dict(zip(ATTRIBUTES, attributes(plain).T, strict=True))
    assert found["brightness"].tolist() == [200, 200, 200]
    assert found["tallness"][:2].tolist() == [2.5, 0.4]
    assert found["coverage"][:2] == pytest.approx(160 / 784)
    assert found["asymmetry"].tolist() == [0, 0, 0], "all lie in the middle"
    assert found["contrast"][:2].tolist() == [0, 0]
    assert found["stripes"][2] > found["stripes"][1] > found["stripes"][0]


def test_the_seed_decides_everything(shop: Shoppers) -> None:
    again = Shoppers(*catalogue(), users=60, visits=12, seed=5)
    other = Shoppers(*catalogue(), users=60, visits=12, seed=6)
    assert np.array_equal(shop.shop().item, again.shop().item)
    assert not np.array_equal(shop.shop().item, other.shop().item)


def test_cold_items_are_taken_on_the_last_visit_alone(shop: Shoppers) -> None:
    visits = shop.shop()
    last = visits.time == visits.time.max()
    assert shop.cold[visits.item[last]].all()
    assert not shop.cold[visits.item[~last]].any()
    assert last.sum() == shop.users
    pairs = set(zip(visits.user.tolist(), visits.item.tolist(), strict=True))
    assert len(pairs) == len(visits.user), "nobody takes an item twice"


def test_what_is_taken_is_liked_more_than_what_is_not(shop: Shoppers) -> None:
    visits = shop.shop()
    better = []
    for user in range(shop.users):
        mine = visits.item[(visits.user == user) & (visits.time < visits.time.max())]
        liking = shop.preference(user, shop.images, shop.labels)
        better.append(liking[mine].mean() - liking.mean())
    assert np.mean(np.array(better) > 0) > 0.95


def test_popularity_sells(shop: Shoppers) -> None:
    visits = shop.shop()
    counts = np.bincount(visits.item, minlength=len(shop.labels))[~shop.cold]
    assert np.corrcoef(counts, shop._popularity[~shop.cold])[0, 1] > 0.3
