"""The real side of the running check: it sees what plain weak features hide, and serves small sets too."""

from __future__ import annotations

import pytest
import torch

from zerosum.data import toy
from zerosum.data.spec import Spec
from zerosum.metrics.reference import COMPONENTS, Reference


def points(name: str, split: str, count: int) -> torch.Tensor:
    return torch.from_numpy(toy.draw(name, split, count))


def test_half_of_the_modes_of_a_ring_are_missed() -> None:
    """Every other mode is gone: mean and covariance stay, so coordinates would see nothing."""
    reference = Reference(Spec((2,)), points("ring", "train", 1_000), points("ring", "test", 1_000), 256)
    fresh = points("ring", "other", 2_000)
    octant = (torch.atan2(fresh[:, 1], fresh[:, 0]) / (torch.pi / 4)).round() % 2 == 0
    whole, halved = reference(fresh[:256]), reference(fresh[octant][:256])
    assert whole is not None
    assert halved is not None
    assert halved[0] - whole[0] > 10 * (whole[1] ** 2 + halved[1] ** 2) ** 0.5


def test_images_of_one_half_are_far_and_blur_is_seen() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(1_200, 1, 8, 8, generator=random) * 2 - 1
    reference = Reference(Spec((1, 8, 8)), images[:500], images[500:900], 256)
    near, blurred = reference(images[900:]), reference(0.9 * images[900:])
    assert near is not None
    assert blurred is not None
    assert blurred[0] > near[0] + 5 * near[1]


@pytest.mark.parametrize(("real", "components"), [(1_000, COMPONENTS), (40, 10), (12, 3), (3, 1)])
def test_few_real_images_carry_few_components(real: int, components: int) -> None:
    images = torch.rand(1_100, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    reference = Reference(Spec((3, 8, 8)), images, images[:real], 256)
    assert reference.components == components
    assert f"{components} whitened components" in reference.name
    assert reference(images[:256]) is not None


def test_what_is_not_finite_has_no_distance_and_one_image_over_and_over_has_one() -> None:
    images = torch.rand(100, 1, 8, 8) * 2 - 1
    reference = Reference(Spec((1, 8, 8)), images, images, 64)
    assert reference(torch.full((64, 1, 8, 8), torch.nan)) is None
    collapsed, fresh = reference(images[:1].expand(64, 1, 8, 8)), reference(images[:64])
    assert collapsed is not None
    assert fresh is not None
    assert collapsed[0] > 2 * fresh[0]


def test_real_images_that_are_all_the_same_are_no_trouble() -> None:
    same = torch.zeros(30, 1, 8, 8)
    found = Reference(Spec((1, 8, 8)), same, same, 16)(same[:16])
    assert found is not None
    assert found[0] == pytest.approx(0, abs=1e-6)
