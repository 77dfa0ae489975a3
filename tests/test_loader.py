"""The way from a data set to the game: order, scaling, flips, labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from zerosum.data.depth import EIGHT_BITS, Depth
from zerosum.data.loader import Loader, scale
from zerosum.data.spec import Dataset
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError
from zerosum.randomness import normal, order, uniform
from zerosum.sample import to_stored, to_uint8

CPU = torch.device("cpu")


def numbered(count: int = 20) -> ArrayDataset:
    """Item i is an image whose left column is 10 i and whose right column is 10 i + 1; its label is i."""
    values = np.zeros((count, 1, 2, 2), dtype=np.uint8)
    values[..., 0] = 10 * np.arange(count)[:, None, None]
    values[..., 1] = 10 * np.arange(count)[:, None, None] + 1
    return ArrayDataset(values, np.arange(count), tuple(str(i) for i in range(count)))


def loader(dataset: Dataset | None = None, **options: object) -> Loader:
    chosen = {"seed": 4, "latent": 5, "conditional": True} | options
    return Loader(dataset or numbered(), **chosen)  # type: ignore[arg-type]


def items(x: torch.Tensor) -> list[int]:
    """Which items of `numbered` these are, flipped or not."""
    return [int(v) // 10 for v in to_uint8(x)[:, 0, 0, 0]]


# ---- scaling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_256_values_come_back(dtype: torch.dtype) -> None:  # trap 8
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    x = scale(values, dtype, CPU)
    assert x.dtype == dtype
    assert float(x.min()) == -1
    assert float(x.max()) == 1
    assert np.array_equal(to_uint8(x), values)
    steps = x.flatten().diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 2 / 255), rtol=0, atol=2e-7)
    assert np.array_equal(values.ravel(), np.arange(256)), "the source is as it was"


DEEP = {
    "uint16": Depth("uint16", 0, 65535),
    "uint16, a part": Depth("uint16", 100, 50_000.5),
    "int16": Depth("int16", -32768, 32767),
    "ct": Depth("int16", -1024, 3071),
    "uint8, for television": Depth("uint8", 16, 235),
}


@pytest.mark.parametrize("depth", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_value_of_every_depth_comes_back(depth: Depth, dtype: torch.dtype) -> None:  # trap 8
    first, last = math.ceil(depth.low), math.floor(depth.high)
    values = np.arange(first, last + 1).astype(depth.dtype)
    x = scale(values, dtype, CPU, depth)
    assert x.dtype == dtype
    assert np.array_equal(to_stored(x, depth), values)
    assert to_stored(x, depth).dtype == depth.dtype
    if depth.low == first:
        assert float(x[0]) == -1
    if depth.high == last:
        assert float(x[-1]) == 1
    expected = 2 * (values.astype(np.float64) - depth.low) / (depth.high - depth.low) - 1
    torch.testing.assert_close(
        x, torch.from_numpy(expected).to(dtype), rtol=0, atol=0 if dtype == torch.float32 else 1e-15
    )


@given(
    st.lists(st.floats(-1000, 3000, width=32), min_size=1, max_size=30),
    st.floats(-900, 0),
    st.floats(1, 3000),
)
def test_real_values_come_back_within_a_part_of_their_range(found: list[float], low: float, width: float) -> None:
    depth = Depth("float32", low, low + width)
    values = np.array(found, np.float32)
    inside = np.clip(values.astype(np.float64), low, low + width)
    back = to_stored(scale(values, torch.float32, CPU, depth), depth)
    assert back.dtype == np.float32
    error = np.abs(back.astype(np.float64) - inside)
    assert (error <= width * 2.0**-26 + np.spacing(np.abs(inside).astype(np.float32))).all()


def test_what_lies_outside_the_range_is_clamped() -> None:
    depth = Depth("int16", -1024, 3071)
    x = scale(np.array([-32768, -1025, 3072, 32767], np.int16), torch.float32, CPU, depth)
    assert x.tolist() == [-1, -1, 1, 1]
    assert to_stored(torch.tensor([-9.0, -1.0, 1.0, 9.0]), depth).tolist() == [-1024, -1024, 3071, 3071]


def test_eight_bits_are_as_they_always_were() -> None:
    x = torch.randn(4000) * 0.7
    assert np.array_equal(to_stored(x, EIGHT_BITS), to_uint8(x))
    values = np.arange(256, dtype=np.uint8)
    assert torch.equal(scale(values, torch.float32, CPU, EIGHT_BITS), scale(values, torch.float32, CPU))
    assert torch.equal(scale(values, torch.float32, CPU), torch.from_numpy(values).mul(2 / 255).sub(1))
    assert [Depth("uint8").wide, DEEP["ct"].wide, Depth("float32", 0, 1).wide] == [False, True, True]


def test_a_depth_that_the_values_do_not_have_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="uint8"):
        scale(np.zeros(3, np.uint8), torch.float32, CPU, DEEP["uint16"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_is_torchs_to_the_last_bit(dtype: torch.dtype) -> None:
    """In NumPy on the processor, in torch elsewhere; and always into memory that is aligned alike."""
    values = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    by_torch = torch.from_numpy(values).to(dtype).mul_(2 / 255).sub_(1)
    for kept in [scale(values[i:], dtype, CPU) for i in range(4)]:
        assert torch.equal(kept, by_torch[-len(kept) :])
        assert kept.data_ptr() % 64 == 0


def test_values_between_round_to_the_nearest_and_clamp() -> None:
    x = torch.tensor([-7.0, -1.001, -1 + 0.9 / 255, -1 + 1.1 / 255, 1.0, 5.0])
    assert to_uint8(x).tolist() == [0, 0, 0, 1, 255, 255]


def test_points_pass_unchanged() -> None:
    values = np.array([[300.0, -0.1]], dtype=np.float32)
    assert scale(values, torch.float32, CPU).tolist() == values.tolist()
    assert scale(values, torch.float64, CPU).dtype == torch.float64


# ---- order ---------------------------------------------------------------------------------------------


@given(first=st.integers(0, 500), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_batches_do_not_matter(first: int, cuts: list[int]) -> None:  # trap 21
    one = loader(flip=True)
    whole, label = one.real("real", first, sum(cuts)), one.label("real", first, sum(cuts))
    parts, labels, start = [], [], first
    for cut in cuts:
        parts.append(one.real("real", start, cut))
        labels.append(one.label("real", start, cut))
        start += cut
    assert torch.equal(whole, torch.cat(parts))
    assert label is not None
    assert torch.equal(label, torch.cat(labels))  # type: ignore[arg-type]


def test_a_pass_has_every_item_once_and_the_next_another_order() -> None:
    one = loader()
    passes = [items(torch.cat([one.real("real", 20 * epoch + i, 5) for i in range(0, 20, 5)])) for epoch in range(3)]
    assert all(sorted(p) == list(range(20)) for p in passes)
    assert passes[0] != passes[1] != passes[2]
    assert sorted(items(one.real("real", 7, 20))) != list(range(20)), "a batch across two passes may repeat"
    assert passes[0] == order(4, "real", 0, 20, 20).tolist()


def test_both_draws_of_a_step_are_orders_of_their_own() -> None:
    one = loader()
    assert items(one.real("real", 0, 20)) != items(one.real("real2", 0, 20))


@pytest.mark.parametrize("count", [1, 3])
def test_small_sets_go_round(count: int) -> None:  # trap 26
    x = loader(numbered(count)).real("real", 0, 8)
    assert x.shape == (8, 1, 2, 2)
    assert set(items(x)) == set(range(count))


# ---- labels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("images_first", [False, True])
def test_labels_belong_to_their_images(flip: bool, images_first: bool) -> None:
    one = loader(flip=flip)
    for first in (0, 13, 100):
        for purpose in ("real", "real2"):
            if images_first:
                x, label = one.real(purpose, first, 11), one.label(purpose, first, 11)
            else:
                label, x = one.label(purpose, first, 11), one.real(purpose, first, 11)
            assert label is not None
            assert label.dtype == torch.int64
            assert label.tolist() == items(x)


def test_labels_of_another_draw_are_not_mixed_in() -> None:
    one = loader()
    x = one.real("real", 0, 6)
    one.real("real2", 0, 6)
    one.real("real", 6, 6)
    label = one.label("real", 0, 6)
    assert label is not None
    assert label.tolist() == items(x)


def test_no_labels_unless_asked_for_or_where_there_are_none() -> None:
    assert loader(conditional=False).label("real", 0, 4) is None
    assert loader(tiny.images(classes=0)).label("real", 0, 4) is None


# ---- flips ---------------------------------------------------------------------------------------------


def test_flips_are_keyed_by_the_sample() -> None:
    one = loader(flip=True)
    x = to_uint8(one.real("real", 0, 2_000))
    mirrored = x[:, 0, 0, 0] % 10 == 1
    assert np.array_equal(mirrored, uniform(4, "real/flip", 0, 2_000).numpy()[:, 0] < 0.5)
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(2_000)
    assert np.array_equal(x[..., 0] + x[..., 1], 20 * (x[..., 0] // 10) + 1), "columns change places"
    other = to_uint8(one.real("real2", 0, 2_000))[:, 0, 0, 0] % 10 == 1
    assert 0.4 < (other == mirrored).mean() < 0.6


def test_an_item_is_flipped_in_one_pass_and_not_in_another() -> None:
    x = to_uint8(loader(flip=True).real("real", 0, 20 * 40))
    by_item = {i: {int(v) % 10 for v in x[:, 0, 0, 0] if v // 10 == i} for i in range(20)}
    assert all(kinds == {0, 1} for kinds in by_item.values())


def test_flips_leave_points_and_the_set_alone() -> None:
    data = numbered()
    before = data.values.copy()
    loader(data, flip=True).real("real", 0, 50)
    assert np.array_equal(data.values, before)
    points = tiny.points()
    plain, flipped = loader(points), loader(points, flip=True)
    assert torch.equal(plain.real("real", 0, 30), flipped.real("real", 0, 30))


# ---- numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latents_and_uniform_numbers(dtype: torch.dtype) -> None:
    one = loader(dtype=dtype)
    z = one.latent("z", 3, 4)
    assert z.shape == (4, 5)
    assert z.dtype == dtype
    assert torch.equal(z, normal(4, "z", 3, 4, 5).to(dtype))
    u = one.uniform("epsilon", 3, 4)
    assert u.shape == (4,)
    assert u.dtype == dtype
    assert torch.equal(u, uniform(4, "epsilon", 3, 4)[:, 0].to(dtype))
    assert not torch.equal(z, loader(dtype=dtype, seed=5).latent("z", 3, 4))


@given(steps=st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 9)), min_size=1, max_size=30))
def test_numbers_drawn_ahead_are_those_drawn_when_asked_for(steps: list[tuple[int, int]]) -> None:
    """Mostly in sequence, at times a jump: the reader of a run that was resumed, probed or split over processes."""
    one, first = loader(), 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zerosum.data.loader.AHEAD", 40)  # eight samples of five numbers
        for jump, count in steps:
            first = max(0, first + (jump if abs(jump) == 3 else 0))
            assert torch.equal(one.latent("z", first, count), normal(4, "z", first, count, 5))
            assert torch.equal(one.uniform("epsilon", first, count), uniform(4, "epsilon", first, count)[:, 0].float())
            first += count


def test_what_is_read_in_sequence_is_drawn_ahead_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def spy(seed: int, purpose: str, first: int, count: int, size: int) -> torch.Tensor:
        drawn.append(count)
        return normal(seed, purpose, first, count, size)

    monkeypatch.setattr("zerosum.randomness.normal", spy)
    alone, one_of_two = loader(), loader()
    for i in range(100):
        alone.latent("z", 8 * i, 8)
        one_of_two.latent("z2", 16 * i, 8)
    assert sum(count > 8 for count in drawn) == 1
    assert len(drawn) == 2 + 100


def test_precision_changes_the_type_and_not_the_draw() -> None:
    assert torch.equal(loader().latent("z", 0, 9), loader(dtype=torch.float64).latent("z", 0, 9).float())
    assert items(loader().real("real", 0, 9)) == items(loader(dtype=torch.float64).real("real", 0, 9))


# ---- labels that are known of some, classes that are drawn evenly ---------------------------------------


def uneven(counts: tuple[int, ...] = (50, 10, 4)) -> ArrayDataset:
    labels = np.repeat(np.arange(len(counts)), counts)
    values = np.zeros((len(labels), 1, 2, 2), dtype=np.uint8)
    values[:] = np.arange(len(labels))[:, None, None, None]
    return ArrayDataset(values, labels, tuple(str(k) for k in range(len(counts))))


def numbers_of(x: torch.Tensor) -> np.ndarray:
    return to_uint8(x)[:, 0, 0, 0].astype(int)


def test_labels_are_known_of_as_many_as_were_asked_for() -> None:
    data = uneven()
    found = loader(data, labelled=9)
    assert found.known is not None
    assert len(set(found.known.tolist())) == 9
    assert np.bincount(data.labels[found.known]).tolist() == [3, 3, 3]
    assert set(numbers_of(found.real("labelled", 0, 200)).tolist()) == set(found.known.tolist())
    assert set(numbers_of(found.real("gap/labelled", 0, 200)).tolist()) == set(found.known.tolist())
    assert len(set(numbers_of(found.real("real", 0, 64)).tolist())) == 64, "all others are seen, too"
    label = found.label("labelled", 0, 50)
    assert np.array_equal(label, data.labels[numbers_of(found.real("labelled", 0, 50))])


def test_who_is_labelled_is_the_seeds_choice() -> None:
    known = [loader(uneven(), labelled=9, seed=seed).known for seed in (1, 1, 2)]
    assert np.array_equal(known[0], known[1])
    assert not np.array_equal(known[0], known[2])


def test_a_class_with_too_few_gives_all_it_has() -> None:
    data = uneven()
    found = loader(data, labelled=30)
    assert np.bincount(data.labels[found.known]).tolist() == [16, 10, 4]
    assert len(loader(data, labelled=64).known) == 64


@pytest.mark.parametrize("count", [2, 65])
def test_labels_that_there_are_not_are_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"--labelled {count}: there are 64 images of 3 classes"):
        loader(uneven(), labelled=count)
    with pytest.raises(UserError, match="--labelled: these data have no labels"):
        loader(tiny.images(classes=0), labelled=3)


def test_classes_can_be_drawn_evenly() -> None:
    data = uneven()
    found = loader(data, even=True)
    for first, count in ((0, 64), (7, 30), (1_000_001, 33)):
        x, label = numbers_of(found.real("real", first, count)), found.label("real", first, count)
        assert label is not None
        counts = np.bincount(label.numpy(), minlength=3)
        assert counts.max() - counts.min() <= 1
        assert np.array_equal(data.labels[x], label.numpy())
    assert set(numbers_of(found.real("real", 0, 150)).tolist()) == set(range(64)), "each class in passes"
    whole = numbers_of(found.real("real", 0, 90))
    parts = np.concatenate([numbers_of(found.real("real", k, 30)) for k in (0, 30, 60)])
    assert np.array_equal(whole, parts), "the number decides the sample, not the batch"
