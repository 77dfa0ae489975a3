"""Does it help: folds and draws, paired effects, the gate, and planted controls."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zerosum import cli
from zerosum.applications import augment
from zerosum.applications import parts as splitting
from zerosum.applications.augment import Options, opened
from zerosum.applications.classify import Scores, fit, moved, scores, terms
from zerosum.applications.effects import Variance, effect, holm, of_test_images
from zerosum.applications.parts import Part, draws, folds, groups_of, named_groups, refuse_overlap
from zerosum.applications.study import BESIDE, CLASSICAL, KEYS, REAL, Doubt, Plan, Study, rows, shortage, verdict
from zerosum.applications.synthetic import (
    Copies,
    Fresh,
    Labelled,
    Mislabelled,
    OfGAN,
    Source,
    by_class,
    gated,
    in_shares,
)
from zerosum.bench.training import shortened
from zerosum.data.labels import NoSplit
from zerosum.data.source import open_source
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.errors import SizeError, UserError

picking = importlib.import_module("zerosum.recipes.pick")
studying = importlib.import_module("zerosum.applications.study")


def bars(n: int, seed: int = 0) -> Labelled:
    """Noisy images of 12 x 12: class 0 has a bar that lies, class 1 one that stands."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = random.integers(0, 120, (n, 1, 12, 12), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        at = random.integers(1, 10)
        if label:
            image[0, :, at : at + 2] += 40
        else:
            image[0, at : at + 2] += 40
    return Labelled(images, labels)


# ---- splits --------------------------------------------------------------------------------------------


def test_folds_test_each_image_once_and_keep_groups_together() -> None:
    labels = np.arange(60) % 3
    groups = np.arange(60) // 6
    found = folds(labels, groups, 5, seed=1)
    assert sorted(np.concatenate([part.test for part in found]).tolist()) == list(range(60))
    for part in found:
        assert not set(groups[part.train]) & set(groups[part.test])
        assert not set(part.train) & set(part.test)
        assert part.overlap == len(part.test) / len(part.train)
    with pytest.raises(UserError, match="--folds 11: class number 0 has only 10 images"):
        folds(labels, groups, 11, seed=1)


def test_draws_have_each_class_in_its_share_and_none_of_the_test_groups() -> None:
    labels = np.repeat([0, 1], [150, 50])
    groups = np.arange(200)
    groups[0] = groups[199] = 500  # one patient on both sides
    test = np.arange(160, 200)
    found = draws(labels, groups, test, 40, 5, seed=2)
    assert len(found) == 5
    for part in found:
        assert len(part.train) == 40
        assert np.array_equal(part.test, test)
        assert 0 not in part.train
        assert not set(part.train) & set(test)
        assert np.bincount(labels[part.train]).tolist() == [37, 3]
        assert part.kept_out == 1
    assert len({tuple(part.train) for part in found}) == 5
    with pytest.raises(UserError, match="--labelled 3: must be between"):
        draws(labels, groups, test, 3, 1, seed=0)
    one = np.where(np.arange(200) >= 150, 999, groups)  # all of class 1 are one patient's
    with pytest.raises(UserError, match="the test images of class number 1 all belong together"):
        draws(labels, one, np.arange(140, 200), 40, 1, seed=0)


def test_a_class_of_images_alike_is_named_and_so_is_the_reason() -> None:
    labels, names = np.arange(8) % 2, ("lies", "stands")
    groups = np.array([0, 1, 0, 3, 0, 5, 0, 7])
    one = r"^--folds 3: class lies has only 1 image \(or patient\)"
    with pytest.raises(UserError, match=one + r", for images alike count as one \(1 of 4 images\); give it more, or"):
        folds(labels, groups, 3, 0, class_names=names)
    with pytest.raises(UserError, match=one + "; give it more"):
        folds(labels, groups, 3, 0, class_names=names, named=groups)  # the table alone says so
    patients = np.array([0, 1, 0, 3, 2, 5, 2, 7])
    with pytest.raises(UserError, match=r"images alike count as one \(1 of 2 groups\)"):
        folds(labels, groups, 3, 0, class_names=names, named=patients)
    with pytest.raises(UserError, match=r"images of class lies all belong .* alike count as one \(1 of 2 images\)"):
        draws(labels, groups, np.arange(4), 4, 1, 0, class_names=names)


def test_what_is_studied_is_said_by_class_and_group() -> None:
    sides = {"train": bars(40), "test": bars(10, seed=1)}
    sides["train"].images[:20:2] = sides["train"].images[0]  # half of class 0 are one picture

    def with_tests(data: Data) -> ArrayDataset:
        side = sides["test" if data.split == "test" else "train"]
        return ArrayDataset(side.images, side.labels, ("0", "1"))

    def without(data: Data) -> ArrayDataset:
        if data.split == "test":
            raise NoSplit("none")
        return with_tests(data)

    def unlike(data: Data) -> ArrayDataset:
        return replace(without(data), values=bars(40, seed=2).images)

    data, counts = Data(source="mnist"), "(0: 20 in 11 groups, 1: 20; images alike, or of one patient, are one group)"
    in_folds = Options(folds=3)
    found = opened(data, in_folds, without)
    assert found.counts == {"0": {"images": 20, "groups": 11}, "1": {"images": 20, "groups": 20}}
    wanted = f"40 images {counts}; 3 folds, each tested on by what the others trained"
    assert augment.described(found, in_folds) == wanted
    some = Options(labelled=12, draws=4)
    found = opened(data, some, with_tests)
    wanted = f"40 training images {counts}; 4 draws of 12 (0: 4, 1: 8), tested on the set's own 10 test images"
    assert augment.described(found, some) == wanted
    halves = augment.described(opened(data, some, unlike), some)
    assert halves.startswith("40 images (0: 20, 1: 20); 4 draws of 12 (")
    assert halves.endswith(" of the images, half of the set")
    kinds = splitting.counted(np.arange(5), np.arange(5), "abcde")
    assert splitting.in_words(kinds, 2) == "a: 1, b: 1, and 3 more classes"


def test_images_that_are_the_same_but_of_different_classes_or_patients_are_warned_of(tmp_path: Path) -> None:
    data = ArrayDataset(bars(6).images, np.arange(6) % 2, ("lies", "stands"))
    same = [(0, 1), (0, 2), (1, 5), (3, 4)]
    patients = np.array(["p", "p", "q", "r", "r", "p"])
    first = "warning: 2 pairs of images are the same, or nearly, but of different classes, such as "
    classes, of_patients = splitting.at_odds(same, data, patients, 4, lambda: [f"{i}.png" for i in range(6)])
    assert classes == first + "0.png (lies) and 1.png (stands); see which is right"
    assert of_patients.startswith("warning: 1 pair of images is the same, or nearly, but of different groups, such as ")
    assert "0.png (p) and 2.png (q)" in of_patients
    assert splitting.at_odds([(3, 4)], data, None, 4, lambda: None) == [
        "warning: 1 pair of images is the same, or nearly, but of different classes, such as training image 3 (stands) "
        "and test image 0 (lies); see which is right"
    ]
    assert splitting.at_odds(same[2:3], data, patients, 4, lambda: None) == []
    folder(tmp_path, "", 8)
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "1.png")
    found = opened(Data(source=str(tmp_path)), Options(folds=2), open_source)
    assert "such as a/0.png (a) and b/1.png (b)" in found.notes[-1]


def folder(path: Path, side: str, count: int, seed: int = 0) -> None:
    """Images of noise, of classes a and b in turn."""
    random = np.random.default_rng(seed)
    for number in range(count):
        file = path / side / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 12), dtype=np.uint8)).save(file)


def test_equal_and_nearly_equal_images_belong_together() -> None:
    random = np.random.default_rng(0)
    images = np.repeat(np.repeat(random.integers(0, 256, (6, 1, 6, 6), dtype=np.uint8), 6, 2), 6, 3)
    images[3] = images[0]
    images[4] = np.clip(images[1].astype(int) + random.integers(-2, 3, images[1].shape), 0, 255)
    found = groups_of(ArrayDataset(images))
    assert found[3] == found[0]
    assert found[4] == found[1]
    assert len(set(found.tolist())) == 4
    patients = groups_of(ArrayDataset(images), np.array(["a", "b", "c", "c", "d", "e"]))
    assert patients[2] == patients[0], "by way of what equals it"


@pytest.mark.parametrize(
    "change",
    [lambda x: x[..., ::-1], lambda x: x * 1.1 + 8, lambda x: x * 0.7, lambda x: (x * 0.8)[..., ::-1]],
)
def test_an_altered_image_belongs_to_what_it_was(change: Callable[[np.ndarray], np.ndarray]) -> None:
    random = np.random.default_rng(3)
    images = np.repeat(np.repeat(random.integers(0, 200, (8, 1, 9, 9)), 4, 2), 4, 3).astype(np.uint8)
    images[5] = change(images[2].astype(float)).round()
    found = groups_of(ArrayDataset(images))
    assert found[5] == found[2]
    assert len(set(found.tolist())) == 7
    plain = np.full((3, 1, 36, 36), 10, np.uint8) * np.arange(1, 4, dtype=np.uint8)[:, None, None, None]
    assert len(set(groups_of(ArrayDataset(plain)).tolist())) == 3, "one grey is not another made brighter"


def test_no_draw_takes_what_an_altered_test_image_was(tmp_path: Path) -> None:
    sides = {"train": bars(30), "test": bars(10, seed=1)}
    sides["test"].images[4] = sides["train"].images[6][..., ::-1]  # class 0

    def opened_side(data: Data) -> ArrayDataset:
        side = sides["test" if data.split == "test" else "train"]
        return ArrayDataset(side.images, side.labels, ("a", "b"))

    _, parts, *_ = opened(Data(source="mnist"), Options(labelled=10, draws=40), opened_side)
    drawn = {int(i) for part in parts for i in part.train}
    assert 6 not in drawn
    assert len(drawn) == 29
    assert parts[0].kept_out == 1


def test_a_test_image_among_the_training_images_is_refused() -> None:  # trap 30
    train, test = bars(20), bars(20, seed=1)
    refuse_overlap(splitting.alike(train.joined(test).images).same, 20)
    test.images[3] = train.images[7]
    with pytest.raises(UserError, match=r"1 test images are in the training .*test image 3 and training image 7"):
        refuse_overlap(splitting.alike(train.joined(test).images).same, 20)


def test_a_test_image_among_the_training_images_is_refused_by_name(tmp_path: Path) -> None:
    folder(tmp_path, "train", 8)
    folder(tmp_path, "test", 8, seed=1)
    shutil.copy(tmp_path / "train" / "a" / "2.png", tmp_path / "test" / "a" / "4.png")
    with pytest.raises(UserError, match=r"nearly \(test/a/4\.png and train/a/2\.png\)"):
        opened(Data(source=str(tmp_path)), Options(labelled=4), open_source)


def test_an_image_is_found_with_all_that_it_is_like() -> None:
    """The last is like the two before it, which are not like each other."""
    middle = np.random.default_rng(0).integers(10, 246, (1, 1, 8, 9))
    low, high = ((middle + step).astype(np.uint8) for step in (-2, 2))
    last = middle.astype(np.uint8)
    assert splitting.alike(np.concatenate([high, low, last])).same == [(0, 2), (1, 2)]
    for first, other in ((low, high), (high, low)):
        same = splitting.alike(np.concatenate([first, other, last])).same
        with pytest.raises(UserError, match=r"^1 test images are in .*\(test image 1 and training image 0\)"):
            refuse_overlap(same, 1)


def test_groups_come_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("file,group\nb.png,2\na.png,1\n")
    assert named_groups(table, ["a.png", "b.png"], 2).tolist() == ["1", "2"]
    with pytest.raises(UserError, match=r"has no line for c.png \(1 such files\)"):
        named_groups(table, ["a.png", "c.png"], 2)
    table.write_text("file,group\nb.png,2\na.png,1\nb.png,3\n")
    with pytest.raises(UserError, match=r"b.png is of group 2 and of 3; give it one"):
        named_groups(table, ["a.png", "b.png"], 2)
    table.write_text("group,file\n2,b.png\n1\n")
    with pytest.raises(UserError, match="has a line without a file"):
        named_groups(table, ["a.png", "b.png"], 2)
    table.write_text("view,Group,file\nfront,2,b.png\nside,1,a.png\n")
    assert named_groups(table, ["a.png", "b.png"], 2).tolist() == ["1", "2"], "columns go by their names"
    for wrong in ("a.png,1\nb.png,2\n", "file,patient\na.png,1\nb.png,2\n"):
        table.write_text(wrong)
        with pytest.raises(UserError, match="its first line must be file,group"):
            named_groups(table, ["a.png", "b.png"], 2)
    table.write_text("group,name\n1,a.png\n2,b.png\n")
    with pytest.raises(UserError, match="has no column file"):
        named_groups(table, ["a.png", "b.png"], 2)
    table.write_text("3,x\n4,y\n")
    with pytest.raises(UserError, match="must be group, or be one value"):
        named_groups(table, None, 2)
    table.write_text("group\nx\ny\n")
    assert named_groups(table, None, 2).tolist() == ["x", "y"]
    with pytest.raises(UserError, match="has 2 lines for 5 images"):
        named_groups(table, None, 5)
    with pytest.raises(UserError, match="cannot be read"):
        named_groups(tmp_path / "none.csv", None, 5)


# ---- numbers -------------------------------------------------------------------------------------------


def test_scores_of_probabilities_that_are_known() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    labels = np.array([0, 0, 1, 1])
    found = scores(p, labels)
    assert found == Scores(balanced_accuracy=0.5, auc=0.5, sensitivity=0.5, specificity=0.5)
    first = scores(p, np.array([0, 1, 0, 0]), positive=0)
    assert first.sensitivity == pytest.approx(2 / 3)
    assert first.specificity == 1
    three = scores(np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 2]))
    assert three.balanced_accuracy == pytest.approx(2.5 / 3)


def test_effects_are_those_of_a_paired_t_test() -> None:
    from scipy import stats

    differences = [0.02, 0.05, -0.01, 0.04, 0.03]
    found = effect(differences)
    reference = stats.ttest_1samp(differences, 0)
    low, high = reference.confidence_interval(0.95)
    assert (found.difference, found.low, found.high, found.p) == pytest.approx((0.026, low, high, reference.pvalue))
    wider = effect(differences, overlap=0.25)
    assert wider.high - wider.difference == pytest.approx((found.high - found.difference) * math.sqrt(1 + 5 * 0.25))
    assert effect([0.1]).answer == "cannot be told"
    assert effect([0.1, 0.1, 0.1]).answer == "helps"
    tied = effect([1 / 30] * 3, 0.5, worth=1 / 60)
    assert tied.p > 0, "three folds that differ by the same image are no certainty"
    assert tied.low < 0
    assert tied.answer == "cannot be told"
    wild = effect([0.9, -0.8])
    assert (wild.low, wild.high) == (-1, 1), "no share differs by more"
    assert effect([-0.1, -0.11, -0.1]).answer == "hurts"


def answers(
    shared: bool, patients: bool = False, draws: int = 5, studies: int = 300, counts: tuple[int, int] | None = None
) -> float:
    """The share of studies of two arms alike that tell them apart all the same.

    To each of 60 test images (of 20 patients, or of one each), or of so many of two classes, one way of training is
    kinder than the other, by chance; draws of training images vary, too.
    """
    random = np.random.default_rng(5)
    labels = np.arange(60) % 2 if counts is None else np.repeat([0, 1], counts)
    n, share = len(labels), 1 / np.bincount(labels)[labels] / 2
    groups = np.arange(n) // 6 * 2 + labels if patients else np.arange(n)
    wrong = 0
    for _ in range(studies):
        kinder = random.normal(0, 0.3, n)[groups]
        right = kinder + random.normal(0, 0.02, (draws, 1)) + random.normal(0, 0.1, (draws, n))
        each = [float(np.mean([d[labels == k].mean() for k in (0, 1)])) for d in right]
        tested = of_test_images(right.mean(0) * share, labels, groups)
        wrong += effect(each, *((0.0, 0.0, tested) if shared else ())).answer != "cannot be told"
    return wrong / studies


def test_two_arms_alike_are_seldom_told_apart_on_a_shared_test_set() -> None:
    assert answers(shared=False) > 0.2, "what the bounds of draws alone say"
    assert answers(shared=True) < 0.08
    assert answers(shared=True, patients=True) < 0.08
    assert answers(shared=True, draws=3) < 0.08
    assert answers(shared=True, counts=(3, 300)) < 0.1, "three of a rare class tell little, whatever the others"


def test_the_variance_of_test_images_is_that_of_a_mean() -> None:
    hits = np.array([1, 0, 1, 1, 0, 1, 0, 0.0])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    found = of_test_images(hits / np.array([5, 3])[labels] / 2, labels, np.arange(8))
    each = np.array([np.var(hits[:5], ddof=1) / 5, np.var(hits[5:], ddof=1) / 3]) / 4
    assert found == pytest.approx((each.sum(), each.sum() ** 2 / (each[0] ** 2 / 4 + each[1] ** 2 / 2)))
    twice = of_test_images(np.tile(hits / 16, 2), np.zeros(16), np.tile(np.arange(8), 2))
    alone = of_test_images(hits / 8, np.zeros(8), np.arange(8))
    assert twice == pytest.approx(alone), "an image twice is one image"
    assert math.isinf(of_test_images(hits, np.arange(8) // 7, np.arange(8)).value), "of one image nothing is known"
    assert math.isinf(of_test_images(hits, labels, labels).value), "nor of one patient"
    assert effect([0.1, 0.1, 0.1], tested=Variance(math.inf, 1)).answer == "cannot be told"


def test_terms_add_up_to_the_scores() -> None:
    random = np.random.default_rng(1)
    for classes, positive in ((2, None), (2, 0), (3, None)):
        p = random.dirichlet(np.ones(classes), 90).round(1)
        labels = np.concatenate([np.arange(classes), random.integers(0, classes, 90 - classes)])
        known, each = scores(p, labels, positive), terms(p, labels, positive)
        assert set(each) == set(KEYS)
        for key in KEYS:
            total = float(each[key].sum()) / (2 if key == "auc" else 1)  # each pair stands in two images
            assert total == pytest.approx(getattr(known, key)), key


def test_the_variance_of_an_area_is_that_of_its_pairs() -> None:
    """Of many test sets drawn anew."""
    random = np.random.default_rng(2)
    labels = np.repeat([0, 1], [40, 20])
    areas, told = [], []
    for _ in range(1_000):
        p = 1 / (1 + np.exp(-random.normal(labels, 1.0)))
        both = np.stack([1 - p, p], 1)
        areas.append(scores(both, labels).auc)
        told.append(of_test_images(terms(both, labels)["auc"], labels, np.arange(60)).value)
    assert np.mean(told) == pytest.approx(np.var(areas), rel=0.12)


def test_chances_are_adjusted_as_holm_has_it() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_classical_augmentation_moves_a_little_and_no_more() -> None:
    torch.manual_seed(0)
    x = torch.zeros(200, 1, 40, 20)
    x[:, :, 18:22, 9:11] = 1.0
    y = moved(x)
    assert y.shape == x.shape
    assert not torch.equal(y, x)
    mass = y.sum((1, 2, 3))
    centre = (y.sum((1, 3)) * torch.arange(40)).sum(1) / mass
    assert float((centre - 19.5).abs().max()) < 0.1 * 40 + 1.5
    assert float(mass.mean()) == pytest.approx(8, rel=0.1)
    mirrored = moved(torch.linspace(-1, 1, 20).expand(200, 1, 40, 20), flip=True)
    falling = (mirrored[:, 0, 20, -5] < mirrored[:, 0, 20, 5]).float().mean()
    assert 0.35 < float(falling) < 0.65


# ---- the gate ------------------------------------------------------------------------------------------


def test_what_the_gate_left_too_little_of_is_said() -> None:
    full = {"passed of each class": {"a": {"passed": 4, "wanted": 4}}}
    short = {"passed of each class": {"a": {"passed": 4, "wanted": 4}, "b": {"passed": 0, "wanted": 44}}}
    assert shortage({"draw 1": full}, 1.0) == ""
    assert "than 2 to 1 asks for (draw 2: 0 of 44 of b)" in shortage({"draw 1": full, "draw 2": short}, 2.0)
    assert shortage({f"draw {i}": short for i in range(5)}, 2.0).endswith("draw 2: 0 of 44 of b; and 2 more).")


def rarest_and_others(labels: np.ndarray) -> tuple[int, int]:
    """How many there are of the rarest class, and how many that are not of the commonest."""
    counts = np.bincount(labels)
    return int(counts.min()), int(len(labels) - counts.max())


def test_a_test_patient_is_worth_his_share_of_each_score(tmp_path: Path) -> None:
    data = bars(40)
    few = np.flatnonzero(data.labels == 1)[:4]
    part = Part("fold 1", np.arange(20, 40), np.concatenate([np.flatnonzero(data.labels == 0)[:10], few]))
    made = Study(data, ("a", "b"), [part], Plan(), Copies(), tmp_path)
    assert made.worth == {"balanced_accuracy": 1 / (2 * 4), "sensitivity": 1 / 4, "specificity": 1 / 10}
    pairs = replace(part, groups=np.arange(14) // 2)  # each patient has two of the images
    of_patients = Study(data, ("a", "b"), [pairs], Plan(positive=0), Copies(), tmp_path)
    assert of_patients.worth == {"balanced_accuracy": 1 / (2 * 2), "sensitivity": 1 / 5, "specificity": 1 / 2}
    three = Study(Labelled(data.images, np.arange(40) % 3), ("a", "b", "c"), [part], Plan(), Copies(), tmp_path)
    of, others = rarest_and_others(three.data.labels[part.test])
    assert three.worth == {
        "balanced_accuracy": 1 / (3 * of), "sensitivity": 1 / (3 * of), "specificity": 1 / (3 * others),
    }  # fmt: skip
    (tmp_path / "fold-1").mkdir()
    (tmp_path / "fold-1" / "gate.json").write_text("{")
    with pytest.raises(UserError, match=r"gate\.json: cannot be read .*repeat the command"):
        made.gate_of(part)


def test_folds_of_unlike_sizes_are_doubted_by_their_mean(tmp_path: Path) -> None:
    """One patient has half of the images: whichever fold comes first, the bounds are the same."""
    data = bars(60)
    found = folds(data.labels, np.where(np.arange(60) < 30, 0, np.arange(60)), 3, seed=0)
    shares = [part.overlap for part in found]
    assert max(shares) > 2 * min(shares)
    for parts in (found, found[::-1]):
        made = Study(data, ("lies", "stands"), parts, Plan(), Copies(), tmp_path)
        assert made.doubt.overlap == pytest.approx(sum(shares) / 3)


def test_the_groups_of_test_images_are_read_in_their_order(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    sides = {"train": bars(30), "test": bars(10, seed=1)}
    names = [*(f"p{i}" for i in range(30)), *(f"q{i}" for i in range(9)), "p0"]  # the last of the test set is p0's
    table.write_text("group\n" + "\n".join(names) + "\n")

    def opened_side(data: Data) -> ArrayDataset:
        side = sides["test" if data.split == "test" else "train"]
        return ArrayDataset(side.images, side.labels, ("a", "b"))

    options = Options(labelled=10, draws=30, groups=table)
    _, parts, *_ = opened(Data(source="mnist"), options, opened_side)
    drawn = {int(i) for part in parts for i in part.train}
    assert 0 not in drawn, "its patient is tested on"
    assert [part.kept_out for part in parts] == [1] * 30
    assert drawn <= set(range(1, 30))
    assert len(drawn) > 20, "all others are drawn now and then"
    table.write_text("group\n" + "\n".join(names[:30]) + "\n")
    with pytest.raises(UserError, match="has 30 lines for 40 images"):
        opened(Data(source="mnist"), options, opened_side)


@pytest.mark.parametrize("labelled", [None, 10])
def test_a_table_of_groups_is_read_before_the_search_for_images_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: int | None
) -> None:
    sides = {"train": bars(30), "test": bars(10, seed=1)}
    searched: list[int] = []
    search = splitting.alike

    def counted(images: np.ndarray) -> splitting.Alike:
        searched.append(len(images))
        return search(images)

    def opened_side(data: Data) -> ArrayDataset:
        side = sides["test" if data.split == "test" else "train"]
        return ArrayDataset(side.images, side.labels, ("a", "b"))

    monkeypatch.setattr(splitting, "alike", counted)
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        opened(Data(source="mnist"), Options(labelled=labelled, groups=tmp_path / "none.csv"), opened_side)
    assert searched == []
    opened(Data(source="mnist"), Options(labelled=labelled), opened_side)
    assert searched == [30 if labelled is None else 40], "once"


def test_draws_of_a_set_without_test_images_are_tested_on_half_of_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / ("train" if number < 16 else "val") / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 12), dtype=np.uint8)).save(path)
    whole, parts, *_, notes = opened(Data(source=str(tmp_path)), Options(labelled=4, draws=2), open_source)
    assert len(whole) == 16, "without val"
    assert "read train of the folders train, val (--split train)" in notes
    for part in parts:
        assert len(part.train) == 4
        assert 4 < len(part.test) < 12
        assert not set(part.train) & set(part.test)


def test_a_broken_file_of_any_name_is_no_image_of_the_set(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a.png", "c.png"):
        Image.fromarray(random.integers(0, 256, (12, 12), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "b\u200b.png").write_bytes(b"x")  # a space that is not seen
    data = Data(source=str(tmp_path))
    found = open_source(data)
    assert len(found.skipped) == 1
    assert splitting.file_names(data, found) == ["a.png", "c.png"]


def test_the_gate_refuses_copies_and_other_classes() -> None:
    train, fresh = bars(60), bars(200, seed=9)
    judge = fit(train.images, train.labels, 2, seed=0, steps=150)
    passed = gated(Fresh(fresh)(train, ("0", "1"), 0, Path()), train.labels, train, judge)
    assert len(passed.found) > 50
    assert passed.copies <= 2
    copies = gated(Copies()(train, ("0", "1"), 0, Path()), train.labels, train, judge)
    assert len(copies.found) == 0
    assert copies.copies > 50
    shuffled = gated(Mislabelled(fresh)(train, ("0", "1"), 0, Path()), train.labels, train, judge)
    assert shuffled.other_class > 0.3 * shuffled.drawn


def test_pictures_that_are_there_twice_do_not_let_copies_pass() -> None:
    train = bars(60)
    twice = Labelled(np.concatenate([train.images, train.images]), np.concatenate([train.labels, train.labels]))
    judge = fit(train.images, train.labels, 2, seed=0, steps=150)
    near = train.images.astype(int)
    near[:, :, 0, 0] = 255 - near[:, :, 0, 0]  # one pixel apart
    passed = gated(lambda labels, _: near[: len(labels)].astype(np.uint8), train.labels, twice, judge)
    assert passed.copies > 50


@pytest.mark.parametrize("count", [1, 7, 30, 60, 90, 150])
def test_any_number_of_synthetic_images_has_each_class_in_its_share(count: int) -> None:
    labels = np.repeat([0, 1, 2], [30, 20, 10])  # as a folder a class is read
    found = in_shares(labels, 150)[:count]
    assert len(found) == count
    assert np.abs(np.bincount(found, minlength=3) - count * np.array([3, 2, 1]) / 6).max() <= 1


def test_rare_classes_take_turns() -> None:
    labels = np.repeat(np.arange(21), [980, *[1] * 20])
    for count in (50, 490, 700):
        rare = (in_shares(labels, count) > 0).sum()
        assert rare == pytest.approx(count * 20 / 1_000, abs=1.5)


def test_one_picture_many_times_is_no_copy_but_of_itself() -> None:
    one = bars(1).images
    many = Labelled(np.repeat(one, 8, 0), np.repeat([0, 1], 4))
    passed = gated(lambda labels, _: np.repeat(one, len(labels), 0), many.labels, many, lambda x: np.ones((len(x), 2)))
    assert (len(passed.found), passed.copies > 0) == (0, True)


def test_what_passes_stands_in_the_order_that_was_asked_for() -> None:
    """However often a class is refused at first, any part of what passed has each class in its share."""
    train = bars(20)
    wanted = np.arange(40) % 2
    tries: list[int] = []

    def draw(labels: np.ndarray, first: int) -> np.ndarray:
        tries.append(len(labels))
        random = np.random.default_rng(first)
        return random.integers(0, 256, (len(labels), 1, 12, 12), dtype=np.uint8)

    def judge(images: np.ndarray) -> np.ndarray:
        p = np.zeros((len(images), 2))
        p[:, 0] = 1.0
        p[:, 1] = images[:, 0, 0, 0] % 3 == 0  # every third image is taken for the second class, too
        return p

    passed = gated(draw, wanted, train, judge)
    assert len(tries) > 1
    assert np.bincount(passed.found.labels[:10], minlength=2).tolist() == [5, 5]


def test_a_class_that_seldom_passes_is_said_to_be_rarer() -> None:
    train, wanted = bars(20), np.arange(40) % 2

    def draw(labels: np.ndarray, first: int) -> np.ndarray:
        return np.random.default_rng(first).integers(0, 256, (len(labels), 1, 12, 12), dtype=np.uint8)

    def only_the_first(images: np.ndarray) -> np.ndarray:
        return np.tile([1.0, 0.0], (len(images), 1))

    passed = gated(draw, wanted, train, only_the_first)
    assert by_class(passed, ("bar", "cross")) == {
        "bar": {"passed": 20, "wanted": 20}, "cross": {"passed": 0, "wanted": 20},
    }  # fmt: skip


def test_a_smaller_ratio_has_as_many_of_each_class_whatever_others_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No image of a class that passes easily stands in for one of a class that does not."""
    given: list[np.ndarray] = []

    def first_class(images: np.ndarray, labels: np.ndarray, classes: int, **more: object) -> Callable[..., np.ndarray]:
        given.append(np.bincount(labels, minlength=classes))
        return lambda unseen: np.tile([1.0, 0.0], (len(unseen), 1))

    monkeypatch.setattr(studying, "fit", first_class)
    for ratios in ((1.0,), (1.0, 2.0)):
        given.clear()
        found = study(tmp_path / str(len(ratios)), Counting(), ratios=ratios, gate=True, seeds=1).run()
        judge, *arms = given[: len(found) + 1]  # of the first fold
        counts = dict(zip(found, arms, strict=True))
        assert np.array_equal(judge, counts[REAL])
        more = counts["synthetic, 1 to 1"] - counts[REAL]
        assert more.tolist() == [counts[REAL][0], 0]


# ---- planted controls ----------------------------------------------------------------------------------


def planted(tmp_path: Path, source: object) -> str:
    """What is said of synthetic images without classical augmentation, which takes most of the time."""
    whole = bars(320)
    plan = Plan(ratios=(6.0,), seeds=1, steps=40, gate=False)
    some = draws(whole.labels, np.arange(320), np.arange(160, 320), 16, 5, seed=0)
    made = Study(whole, ("lies", "stands"), some, plan, source, tmp_path)  # type: ignore[arg-type]
    row = next(row for row in rows(made.run(), plan, made.doubt) if row.arm == "synthetic, 6 to 1")
    assert row.gain is not None
    return row.gain.answer


def test_fresh_real_images_help(tmp_path: Path) -> None:
    assert planted(tmp_path, Fresh(bars(600, seed=4))) == "helps"


def test_wrong_labels_hurt(tmp_path: Path) -> None:
    """All of them wrong; of labels drawn at random half are right, so they do no good at most."""
    fresh = bars(600, seed=4)
    assert planted(tmp_path / "swapped", Fresh(Labelled(fresh.images, 1 - fresh.labels))) == "hurts"
    assert planted(tmp_path / "random", Mislabelled(fresh)) != "helps"


def test_copies_do_not_help(tmp_path: Path) -> None:
    assert planted(tmp_path, Copies()) != "helps"


# ---- the study -----------------------------------------------------------------------------------------


class Counting:
    """A source that counts how often it is asked, and keeps what it was given."""

    name = "counting"
    about = "as ever"

    def __init__(self) -> None:
        self.given: list[Labelled] = []

    def __call__(self, train: Labelled, class_names: tuple[str, ...], seed: int, folder: Path):  # type: ignore[no-untyped-def]
        self.given.append(train)
        return Fresh(bars(100, seed=8))(train, class_names, seed, folder)


def study(tmp_path: Path, source: Source, **changes: object) -> Study:
    whole = bars(60)
    plan = Plan(**({"ratios": (1.0,), "seeds": 2, "steps": 5, "gate": False} | changes))  # type: ignore[arg-type]
    return Study(whole, ("lies", "stands"), folds(whole.labels, np.arange(60), 3, seed=0), plan, source, tmp_path)


def test_a_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = Counting()
    first = study(tmp_path, source).run()
    assert list(first) == [REAL, CLASSICAL, "synthetic, 1 to 1", "classical and synthetic, 1 to 1"]
    assert len(source.given) == 3
    assert study(tmp_path, source).run() == first
    assert len(source.given) == 3, "nothing was left to do"
    made = study(tmp_path, source)
    assert made.minutes(REAL) > 0
    images = sum(made.synthetic_minutes(part) for part in made.parts)
    alone = sum(made.minutes(arm) for arm in first) - 2 * images / 3  # two of the arms have synthetic images
    assert made.all_minutes == pytest.approx(6 * alone + images), "3 folds, 2 classifiers"
    kept = json.loads((tmp_path / "fold-2" / "scores.json").read_text())
    del kept[f"{REAL}/1"]
    (tmp_path / "fold-2" / "scores.json").write_text(json.dumps(kept))
    assert study(tmp_path, source).run() == first
    assert len(source.given) == 4


def test_only_training_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OfGAN, "__call__", lambda self, *given: Fresh(bars(100, seed=8))(*given))
    made = study(tmp_path, OfGAN(1.0, Data(source="bars")))
    for state, begins in (("stopped", ["fold 1: training its gan"]), ("finished", [])):
        monkeypatch.setattr(studying, "read_status", lambda folder, state=state: {"state": state})
        said: list[str] = []
        made.synthetic(made.parts[0], said.append)
        assert said == [*begins, "fold 1: images of its gan"]


def test_a_synthetic_set_is_there_where_its_card_is(tmp_path: Path) -> None:
    made = study(tmp_path, Counting(), seeds=1)
    assert not made.done
    made.run()
    assert made.done
    card = tmp_path / "card.json"
    assert not augment.is_card(card, made)
    images = made.gate_of(made.parts[0])["passed of each class"]
    for text, there in (("x", False), ("[]", False), ("{}", False), ('{"images": {}}', False), (None, True)):
        card.write_text(json.dumps({"images": images}) if text is None else text)
        assert augment.is_card(card, made) is there


def test_draws_that_share_a_test_set_doubt_it(tmp_path: Path) -> None:
    whole = bars(60)
    some = draws(whole.labels, np.arange(60), np.arange(40, 60), 16, 3, seed=0)
    plan = Plan(ratios=(1.0,), seeds=2, steps=5, gate=False)
    made = Study(whole, ("lies", "stands"), some, plan, Counting(), tmp_path)
    found = made.run()
    shared = made.doubt.shared
    assert shared is not None
    for arm, of in found.items():
        for key in ("balanced_accuracy", "sensitivity", "specificity"):
            mean = np.mean([getattr(one, key) for each in of.values() for one in each])
            assert float(shared.terms[arm][key].sum()) == pytest.approx(float(mean), abs=1e-6)
    assert made.doubt.of("balanced_accuracy", CLASSICAL, REAL)[2].value > 0
    gain = rows(found, plan, made.doubt)[2].gain
    assert gain is not None
    wanted = effect([0.0] * 3, *made.doubt.of("balanced_accuracy", "synthetic, 1 to 1", REAL))
    assert gain.high - gain.difference >= wanted.high, "no narrower than the test images alone make it"
    lost = next(iter((tmp_path / "draw-2" / "probabilities").iterdir()))
    for damage in (lambda: lost.write_bytes(b"x"), lambda: np.save(lost, np.zeros((3, 2), np.float32))):
        damage()
        with pytest.raises(UserError, match=r"cannot be read .*remove it and repeat the command"):
            _ = made.doubt
    assert study(tmp_path / "folds", Counting()).doubt.shared is None, "each fold has its own test images"


@pytest.mark.parametrize(
    "damage", ["null", "[]", "x", '{"real images alone/0": 3}', '{"real images alone/0": {"auc": 1}}']
)
def test_damaged_scores_are_measured_again(tmp_path: Path, damage: str) -> None:
    source = Counting()
    first = study(tmp_path, source).run()
    scores_file = tmp_path / "fold-2" / "scores.json"
    whole = set(json.loads(scores_file.read_text()))
    scores_file.write_text(damage)
    made = study(tmp_path, source)
    assert made.left(0.0, 1.0) == 8, "all of a fold: four arms, two classifiers, no gate"
    assert made.run() == first
    assert set(json.loads(scores_file.read_text())) == whole
    assert made.left(0.0, 1.0) == 0
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(UserError, match="is damaged"):
        study(tmp_path, source).run()


def test_another_plan_is_refused(tmp_path: Path) -> None:
    study(tmp_path, Counting()).run()
    with pytest.raises(UserError, match=r"holds a study with other settings \(steps\)"):
        study(tmp_path, Counting(), steps=6).run()


def test_another_source_or_other_labels_are_another_study(tmp_path: Path) -> None:
    study(tmp_path, Counting()).run()
    longer = Counting()
    longer.about = "for longer"
    with pytest.raises(UserError, match=r"other settings \(--minutes, or the recipes of another zerosum\)"):
        study(tmp_path, longer).run()
    corrected = study(tmp_path, Counting())
    corrected.data.labels[0] = 1 - corrected.data.labels[0]
    with pytest.raises(UserError, match=r"other settings \(--labelled, --draws, --folds, --seed, --groups, or"):
        corrected.run()


def test_a_study_of_one_ratio_goes_on_with_what_was_kept_before_ratios_were_apart(tmp_path: Path) -> None:
    study(tmp_path / "one", Counting()).settle()
    settings = json.loads((tmp_path / "one" / "plan.json").read_text())
    assert settings["synthetic images"] == 4
    assert {*settings} == {
        "ratios", "seeds", "steps", "positive", "flip", "gate", "source", "of the source", "classes", "parts",
        "synthetic images",
    }  # fmt: skip
    several = study(tmp_path / "several", Counting(), ratios=(1.0, 2.0))
    several.settle()
    path = tmp_path / "several" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"synthetic images": 4}))
    with pytest.raises(UserError, match=r"other settings \(another zerosum\)"):
        several.run()


class Enough(Exception):
    """All that a test wants to see has happened."""


def begun(tmp_path: Path, options: Options, labels: np.ndarray, class_names: tuple[str, ...], said: list[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 1, 48, 48), dtype=np.uint8)

    def opened_folder(data: Data) -> ArrayDataset:
        return ArrayDataset(images, labels, class_names)

    data = Data(source="photos")
    augment.study(data, options, Plan(), tmp_path, open_data=opened_folder, say=said.append, device="cpu")


def test_another_study_is_refused_before_anything_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(made: Study, minutes: float) -> float:
        raise Enough

    monkeypatch.setattr(augment, "expected", timed)

    def begin(options: Options) -> None:
        begun(tmp_path, options, np.arange(40) % 2, ("a", "b"), [])

    with pytest.raises(Enough):
        begin(Options())
    with pytest.raises(UserError, match=r"other settings \(--minutes, or .*\); give another folder"):
        begin(Options(minutes=6.0))
    for options in (Options(seed=1), Options(folds=4)):
        with pytest.raises(UserError, match=r"other settings \(--labelled, --draws, --folds, --seed, --groups, or "):
            begin(options)
    with pytest.raises(UserError, match=r"other settings \(--positive\)"):
        begin(Options(positive="a"))
    with pytest.raises(Enough):
        begin(Options())


def test_a_study_says_what_it_is_of_and_that_two_folds_give_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(made: Study, minutes: float) -> float:
        raise Enough

    monkeypatch.setattr(augment, "expected", timed)
    for count in (2, 3):
        said: list[str] = []
        with pytest.raises(Enough):
            begun(tmp_path / str(count), Options(folds=count), np.arange(40) % 2, ("a", "b"), said)
        line = f"photos: 40 images (a: 20, b: 20); {count} folds, each tested on by what the others trained"
        doubt = "--folds 2: no verdict will be given, for 3 are the least to tell by; all else is measured"
        assert said == ([line, doubt] if count == 2 else [line])


def test_classes_without_any_image_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that count from 1 are read with a class 0."""
    found: list[Study] = []

    def timed(made: Study, minutes: float) -> float:
        found.append(made)
        raise Enough

    monkeypatch.setattr(augment, "expected", timed)
    said: list[str] = []
    labels = np.arange(40) % 2 + 1
    with pytest.raises(Enough):
        begun(tmp_path, Options(positive="1"), labels, ("0", "1", "2"), said)
    assert found[0].class_names == ("1", "2")
    assert np.array_equal(found[0].data.labels, labels - 1)
    assert found[0].plan.positive == 0, "by its name"
    assert "classes without any image are left out: 0" in said
    with pytest.raises(UserError, match="no labels of two or more classes"):
        begun(tmp_path / "one", Options(), np.ones(40, np.int64), ("0", "1"), said)
    whole = ArrayDataset(bars(4).images, np.arange(4) % 2, ("a", "b"))
    assert splitting.without_empty(whole) == (whole, ())
    gaps = replace(whole, labels=np.array([3, 9, 9, 3]), class_names=tuple("0123456789"))
    kept, names = splitting.without_empty(gaps)
    assert kept.class_names == ("3", "9")
    assert np.array_equal(kept.labels, [0, 1, 1, 0])  # type: ignore[arg-type]
    assert names == tuple("01245678")


def test_the_time_that_is_said_has_all_in_it_that_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(*_: object, **more: object) -> Callable[..., np.ndarray]:
        return lambda unseen: np.tile([0.5, 0.5], (len(unseen), 1))

    monkeypatch.setattr(studying, "fit", quick)
    monkeypatch.setattr(augment, "fit", quick)
    made = study(tmp_path / "gate", Counting(), seeds=1, gate=True)
    assert made.left(0.0, 1.0) == 3 * 5, "folds of four arms and the gate's classifier"
    assert made.left(1.0, 1.0) == 3 * (60 + BESIDE + 5), "with trials and searches for copies"
    made.run()
    assert made.left(1.0, 1.0) == 0
    assert augment.expected(made, 1.0) >= BESIDE, "the synthetic set is drawn once more"
    without = study(tmp_path / "none", Counting(), seeds=1)
    without.run()
    assert augment.expected(without, 0.0) == 0


def test_a_gan_that_was_stopped_stops_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends its run in good order; nothing may be drawn from what is half trained."""
    from zerosum.applications import synthetic
    from zerosum.data.spec import Data

    monkeypatch.setattr(synthetic.session, "start", lambda *args, **options: None)
    monkeypatch.setattr(synthetic.OfGAN, "_run", lambda self, dataset, seed: None)
    monkeypatch.setattr(synthetic, "read_status", lambda folder: {"state": "stopped"})
    source = synthetic.OfGAN(1.0, Data(source="bars"))
    with pytest.raises(KeyboardInterrupt):
        source(bars(10), ("0", "1"), 0, tmp_path / "gan")


def test_what_decides_the_images_of_a_gan_is_in_its_settings() -> None:
    source = OfGAN(1.0, Data(source="a"))
    assert source.about.startswith("1 minutes, recipes ")
    assert source.about == replace(source, data=Data(source="b")).about, "images are known by their hashes"
    others = (
        replace(source, minutes=2.0),
        replace(source, data=Data(source="a", flip=True)),
        replace(source, shorten=lambda run: replace(run, batch_size=8)),
    )
    assert len({one.about for one in (source, *others)}) == 4


def test_images_are_read_at_a_size_that_the_networks_take(tmp_path: Path) -> None:
    """As `zerosum train` has it: up to 64 pixels on a processor, and the nearest size where none was asked for."""
    source = OfGAN(1.0, Data(source="photos"))
    source.check_size(Spec((1, 28, 28), 2), 100)
    with pytest.raises(SizeError, match="--size 50 50"):
        source.check_size(Spec((1, 50, 50), 2), 100)
    read = list[Data]()

    def opened_folder(data: Data) -> ArrayDataset:
        read.append(data)
        if len(read) == 2:
            raise UserError("enough")
        images = np.random.default_rng(0).integers(0, 256, (40, 1, 50, 50), dtype=np.uint8)
        return ArrayDataset(images, np.arange(40) % 2, ("a", "b"))

    def study_of(data: Data) -> None:
        augment.study(data, Options(), Plan(), tmp_path, open_data=opened_folder, say=lambda text: None, device="cpu")

    with pytest.raises(UserError, match="enough"):
        study_of(Data(source="photos"))
    assert [(data.longest, data.size) for data in read] == [(64, None), (64, (48, 48))]
    read.clear()
    with pytest.raises(SizeError, match="--size 50 50"):
        study_of(Data(source="photos", size=(50, 50)))
    assert len(read) == 1


def test_a_part_without_a_class_is_refused() -> None:
    whole = bars(20)
    data = ArrayDataset(whole.images, whole.labels, ("lies", "stands"))
    splitting.refuse_missing(data, [Part("fold 1", np.arange(10), np.arange(10, 20))])
    with pytest.raises(UserError, match="fold 1 is tested on no image of stands"):
        splitting.refuse_missing(data, [Part("fold 1", np.arange(10), np.arange(10, 20, 2))])


def test_no_test_image_reaches_the_source(tmp_path: Path) -> None:  # trap 30
    source = Counting()
    made = study(tmp_path, source)
    made.run()
    for part, train in zip(made.parts, source.given, strict=True):
        shown = {hashlib.sha256(image.tobytes()).digest() for image in train.images}
        tested = {hashlib.sha256(image.tobytes()).digest() for image in made.data.images[part.test]}
        assert not shown & tested


def test_an_image_on_both_sides_is_refused(tmp_path: Path) -> None:  # trap 30
    whole = bars(20)
    part = Part("fold 1", np.arange(12), np.arange(11, 20))
    made = Study(whole, ("lies", "stands"), [part], Plan(steps=1), Counting(), tmp_path)
    with pytest.raises(UserError, match="fold 1: 1 test images are among the training images"):
        made.run()


def test_rows_hold_each_arm_against_the_one_it_builds_on() -> None:
    plan = Plan(ratios=(1.0, 2.0))

    def of(value: float) -> dict[str, list[Scores]]:
        return {f"fold {k}": [Scores(value + k / 100, 0.9, 0.8, 0.7)] for k in range(4)}

    found = {arm: of(0.7 + 0.1 * classical + 0.05 * ratio) for arm, (classical, ratio) in plan.arms.items()}
    by_arm = {row.arm: row for row in rows(found, plan, Doubt())}
    assert by_arm[REAL].gain is None
    assert by_arm["synthetic, 2 to 1"].against == REAL
    assert by_arm["classical and synthetic, 2 to 1"].against == CLASSICAL
    gain = by_arm["classical and synthetic, 2 to 1"].gain
    assert gain is not None
    assert gain.difference == pytest.approx(0.1)
    said = verdict(found, plan, Doubt())
    assert said.answer == "helps"
    assert "balanced accuracy 0.815 becomes 0.865 (+0.050" in said.sentence
    worse = {arm: of(0.7 + 0.1 * classical - 0.05 * ratio) for arm, (classical, ratio) in plan.arms.items()}
    said = verdict(worse, plan, Doubt())
    assert said.answer == "hurts"
    assert said.sentence.startswith("Synthetic images hurt")


def test_two_draws_are_too_few_to_tell_by() -> None:
    plan = Plan(ratios=(1.0,))
    found = {
        arm: {f"draw {k}": [Scores(0.5 + 0.4 * bool(ratio) + 0.001 * k, 0.9, 0.8, 0.7)] for k in range(2)}
        for arm, (_, ratio) in plan.arms.items()
    }
    said = verdict(found, plan, Doubt())
    assert said.answer == "cannot be told"
    assert "the least to tell by" in said.sentence


def test_plans_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="--ratios 0"):
        Plan(ratios=(0.0,))
    with pytest.raises(UserError, match="--seeds 0"):
        Plan(seeds=0)


def test_pairs_are_named_once() -> None:
    images = np.stack([bars(2).images[0]] * 3)
    assert {(0, 1), (0, 2)} <= set(splitting.alike(images).same)
    assert len(set(groups_of(ArrayDataset(images)).tolist())) == 1


# ---- the command ---------------------------------------------------------------------------------------


def test_a_small_study_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it on noise: the numbers, the page, and the card of the images that were measured."""
    whole = augment.study

    def brief(data: Data, options: Options, plan: Plan, out: Path, **more: Any) -> augment.Found:
        return whole(data, options, replace(plan, steps=5), out, **more, shorten=shortened)

    monkeypatch.setattr(augment, "study", brief)
    monkeypatch.setattr(picking, "estimate", lambda *_: 1_000.0)  # no trial of the machine
    random = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / ("lies", "stands")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    out = tmp_path / "out"
    words = "--folds 2 --ratios 1 --seeds 1 --minutes 0.1 --device cpu"
    assert cli.main(["augment", str(tmp_path / "photos"), *words.split(), "--out", str(out)]) == 0
    said = capsys.readouterr()
    record = json.loads((out / "study.json").read_text())
    assert record["verdict"]["answer"] == "cannot be told", "of two folds"
    assert record["verdict"]["sentence"] in said.out
    assert set(record["parts"]) == {"fold 1", "fold 2"}
    assert all(sum(part["train of each class"].values()) == part["train"] for part in record["parts"].values())
    assert record["images of each class"]["lies"] == {"images": 20, "groups": 20}
    assert record["kept out"] == 0
    assert all(gate["seconds"] > 0 for gate in record["gate"].values())
    minutes = {row["arm"]: row["minutes"] for row in record["rows"]}
    assert len(minutes) == 4
    assert minutes["synthetic, 1 to 1"] > minutes[REAL]
    page = (out / "report.html").read_text()
    assert record["verdict"]["sentence"] in page
    assert "up to 8 real training images of each class" in page
    assert "40 (lies: 20, stands: 20) labelled images" in page
    passed = record["gate"]["fold 1"]["passed of each class"]["lies"]
    assert f"lies: {passed['passed']} of {passed['wanted']}" in page
    assert "shows real training images" in said.err
    assert "fold 1: training its gan" in said.err
    assert " to go; " in said.err
    card = json.loads((out / "synthetic" / "card.json").read_text())
    gate = record["gate"]["fold 1"]
    assert card["images"] == gate["passed of each class"], "what was measured"
    assert [card[key] for key in ("drawn", "copies of training images")] == [
        gate[key] for key in ("drawn", "copies of training images")
    ]
    assert len(list((out / "synthetic").glob("*/*.png"))) == gate["passed"]
    assert {p.parent.name for p in (out / "synthetic").glob("*/*.png")} <= {"lies", "stands"}, "as the classes are"
    assert card["data"]["sha256"] == record["data"]["sha256"]
    assert card["recipe"] == "R1GAN with Subpixel"
    assert (card["seed"], card["seed of the recipe"]) == (0, 0)
    assert card["verdict"] == record["verdict"]["sentence"]
    assert "never for testing" in card["limits of use"]
    written = (out / "synthetic" / "card.json").stat().st_mtime_ns
    assert cli.main(["augment", str(tmp_path / "photos"), *words.split(), "--out", str(out)]) == 0
    again = capsys.readouterr()
    assert record["verdict"]["sentence"] in again.out
    assert not [text for text in (" to go; ", "its gan", "the synthetic set\n") if text in again.err]
    assert (out / "synthetic" / "card.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--labelled 20 --folds 3", "--folds 3: is for studies of all labels, and --labelled 20 makes draws"),
        ("--draws 3", "--draws 3: is for draws of --labelled images; give that, or --folds"),
    ],
)
def test_folds_and_draws_are_not_mixed(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["augment", "digits", *words.split()]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
