"""Two-sided batches: order, crops and flips by address, the same for both images of a pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zerosum.data.depth import Depth
from zerosum.data.loader import Loader
from zerosum.data.sides import Sides
from zerosum.data.sides_loader import SidesLoader
from zerosum.data.store import ArrayDataset
from zerosum.sample import to_uint8

JITTER = 5


def mapped(count: int, size: tuple[int, int] = (8, 12), first: int = 0) -> ArrayDataset:
    """Images that carry coordinates: every pixel says in which row, column and image it is."""
    y, x = np.mgrid[: size[0] + JITTER, : size[1] + JITTER].astype(np.uint8)
    images = [np.stack([y, x, np.full_like(y, first + i)]) for i in range(count)]
    return ArrayDataset(np.stack(images))


def pairs(count: int = 20) -> Sides:
    return Sides(mapped(count), mapped(count), paired=True, jitter=JITTER)


def loader(sides: Sides, **options: object) -> SidesLoader:
    return SidesLoader(sides, **({"seed": 3, "batch": 4, "flip": True} | options))  # type: ignore[arg-type]


def drawn(source: SidesLoader, purpose: str, first: int, count: int) -> np.ndarray:
    return to_uint8(source.real(purpose, first, count))


def items(images: np.ndarray) -> list[int]:
    return images[:, 2, 0, 0].tolist()


def test_a_pair_is_cut_and_mirrored_alike() -> None:
    source = loader(pairs())
    a, b = drawn(source, "a", 0, 400), drawn(source, "b", 0, 400)
    assert a.shape == (400, 3, 8, 12)
    assert np.array_equal(a, b)
    top, left = a[:, 0, 0, 0], a[:, 1].min(axis=(1, 2))
    for offsets in (top, left):
        counts = np.bincount(offsets, minlength=JITTER + 1)
        assert len(counts) == JITTER + 1, "every place of the cut, and none beyond"
        assert counts.min() > 400 / (JITTER + 1) / 2
    assert np.array_equal(a[:, 0, -1, 0] - top, np.full(400, 7)), "no row is left out"
    mirrored = a[:, 1, 0, 0] > a[:, 1, 0, -1]
    assert 0.4 < mirrored.mean() < 0.6
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.15
    assert not np.array_equal(drawn(loader(pairs(), seed=4), "a", 0, 400), a)
    again = drawn(loader(pairs(), flip=False), "a", 0, 400)
    assert (again[:, 1, 0, 0] < again[:, 1, 0, -1]).all()


def test_without_jitter_or_flips_images_are_as_they_are() -> None:
    data = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    source = loader(Sides(ArrayDataset(data), ArrayDataset(255 - data), paired=True), flip=False)
    a, b = drawn(source, "a", 0, 4), drawn(source, "b", 0, 4)
    assert np.array_equal(np.sort(a, axis=0), data)
    assert np.array_equal(a, 255 - b)


def test_samples_do_not_depend_on_batch_or_rank() -> None:
    for sides in (pairs(), Sides(mapped(20), mapped(13), paired=False, jitter=JITTER)):
        whole = drawn(loader(sides), "b", 0, 24)
        for size in (1, 3, 8):
            parts = [drawn(loader(sides, batch=size), "b", first, size) for first in range(0, 24, size)]
            assert np.array_equal(np.concatenate(parts), whole)
        ranks = [[drawn(loader(sides), "b", 4 * k + 2 * rank, 2) for k in range(6)] for rank in range(2)]
        together = np.concatenate([part for parts in zip(*ranks, strict=True) for part in parts])
        assert np.array_equal(together, whole)


def test_a_pass_is_the_set_whoever_draws_it() -> None:
    source = loader(pairs(20))
    orders = [items(drawn(source, "a", 20 * epoch, 20)) for epoch in range(3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    shards = [items(drawn(source, "a", 4 * k + 2 * rank, 2)) for rank in range(2) for k in range(5)]
    assert sorted(np.concatenate(shards).tolist()) == list(range(20))


def test_unpaired_sides_go_their_own_ways() -> None:
    source = loader(Sides(mapped(20), mapped(7), paired=False, jitter=JITTER))
    a, b = drawn(source, "a", 0, 70), drawn(source, "b", 0, 70)
    assert sorted(items(a[:20])) == list(range(20))
    assert all(sorted(items(b[7 * k : 7 * k + 7])) == list(range(7)) for k in range(10))
    assert items(b[:7]) != items(b[7:14])
    offsets = [one[:, 0, 0, 0].tolist() for one in (a, b)]
    assert offsets[0] != offsets[1]
    same = loader(Sides(mapped(20), mapped(20), paired=False, jitter=JITTER))
    assert items(drawn(same, "a", 0, 20)) != items(drawn(same, "b", 0, 20)), "as many are no pairs"


def test_further_purposes_are_further_draws() -> None:
    source = loader(pairs())
    assert np.array_equal(drawn(source, "a/2", 0, 20), drawn(source, "b/2", 0, 20))
    assert items(drawn(source, "a/2", 0, 20)) != items(drawn(source, "a", 0, 20))
    for purpose in ("real", "", "c/2"):
        with pytest.raises(ValueError, match="purposes"):
            source.real(purpose, 0, 4)


def test_there_are_no_labels_and_no_latents_but_the_same_uniform_numbers() -> None:
    source = loader(pairs(), dtype=torch.float64)
    assert source.label("a", 0, 4) is None
    with pytest.raises(ValueError, match="no latents"):
        source.latent("z", 0, 4)
    plain = Loader(mapped(20), seed=3, latent=1, dtype=torch.float64)
    assert torch.equal(source.uniform("epsilon", 7, 5), plain.uniform("epsilon", 7, 5))


def bucketed(paired: bool = True) -> Sides:
    """21, 9 and 2 images in three sizes; unpaired, side B has fewer of the first and more of the last."""
    shapes = [((8, 12), 21, 21 if paired else 10), ((12, 8), 9, 9), ((10, 10), 2, 2 if paired else 5)]
    every = [(mapped(n, size, 50 * k), mapped(m, size, 50 * k)) for k, (size, n, m) in enumerate(shapes)]
    return Sides(*every[0], paired=paired, jitter=JITTER, others=tuple(every[1:]))


def test_a_batch_is_of_one_size_the_same_on_both_sides() -> None:
    source = loader(bucketed())
    sizes = []
    for first in range(0, 4 * 20, 4):
        a, b = drawn(source, "a", first, 4), drawn(source, "b", first, 4)
        assert np.array_equal(a, b)
        sizes.append(a.shape[2:])
        halves = [drawn(source, "a", first + start, 2) for start in (0, 2)]  # micro-batches, or two processes
        assert np.array_equal(np.concatenate(halves), a)
    assert len(set(sizes[:10])) == 3, "6 + 3 + 1 batches are a pass"
    assert [sizes[:10].count(size) for size in ((8, 12), (12, 8), (10, 10))] == [6, 3, 1]
    assert sizes[:10] != sizes[10:]
    with pytest.raises(ValueError, match="two batches"):
        source.real("a", 2, 4)


@pytest.mark.parametrize("paired", [True, False])
def test_every_image_of_every_size_is_drawn_as_often_as_its_neighbours(paired: bool) -> None:
    source, a_pass = loader(bucketed(paired)), 10 if paired else 11
    for side in "ab":
        batches = [items(drawn(source, side, first, 4)) for first in range(0, 4 * 21 * a_pass, 4)]
        counts = np.bincount(np.concatenate(batches))
        for k, bucket in enumerate(source.sides.buckets):
            of_size = counts[50 * k : 50 * k + 50]
            of_size = of_size[of_size > 0]
            assert len(of_size) == len(bucket["ab".index(side)])
            assert of_size.max() - of_size.min() <= 1, "endless passes without repeats"
    for first in range(0, 40, 4):
        assert source.real("a", first, 4).shape == source.real("b", first, 4).shape


def test_deep_sides_are_scaled_by_their_range() -> None:
    scans = np.array([-1024, 3071, 1023], np.int16).reshape(3, 1, 1, 1).repeat(2, axis=2).repeat(2, axis=3)
    deep = ArrayDataset(scans, depth=Depth("int16", -1024, 3071))
    shallow = ArrayDataset(np.array([0, 255, 128], np.uint8).reshape(3, 1, 1, 1).repeat(2, axis=2).repeat(2, axis=3))
    source = loader(Sides(deep, shallow, paired=True), flip=False)
    a, b = (source.real(side, 0, 3)[:, 0, 0, 0] for side in "ab")
    order = a.argsort()
    torch.testing.assert_close(a[order], torch.tensor([-1.0, -0.000244200, 1.0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(b[order], torch.tensor([-1.0, 1 / 255, 1.0]), rtol=0, atol=1e-6)
