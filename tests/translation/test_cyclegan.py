"""CycleGAN's noise on the way back: that it is there, that it is as strong as it says, and that D never sees it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from zerosum.algorithms.cyclegan import CycleGAN
from zerosum.data.sides import Sides
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError


def sides() -> Sides:
    random = np.random.default_rng(0)
    a, b = (ArrayDataset(random.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)) for _ in "AB")
    return Sides(a, b, paired=False)


def _keep(found: list[tuple[Tensor, Tensor]], module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
    found.append((given[0].detach(), out.detach()))


def shown(noise: float) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """What each network was given and gave in a step, in order."""
    run = tiny.run("cyclegan", batch_size=4, precision="fp32")
    game: Any = run.algorithm
    training = tiny.training(replace(run, algorithm=replace(game, noise=noise, pool=0)), sides())
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, network in training.players.networks.items():
        network.register_forward_hook(partial(_keep, found.setdefault(name, [])))
    training.step()
    return found


def test_noise_is_on_the_way_back_alone() -> None:
    found = shown(0.25)
    (_, fake_b), (_, fake_a) = found["G_AB"][0], found["G_BA"][0]
    for given, fake in ((found["G_BA"][1][0], fake_b), (found["G_AB"][1][0], fake_a)):
        assert float((given - fake).std()) == pytest.approx(0.25, rel=0.1)
    for name, fake in (("D_B", fake_b), ("D_A", fake_a)):
        assert torch.equal(found[name][0][0], fake), "the critic judges what was made"
        assert torch.equal(found[name][2][0], fake), "and in its own turn, too"


def test_without_noise_the_translation_itself_goes_back() -> None:
    found = shown(0.0)
    assert torch.equal(found["G_BA"][1][0], found["G_AB"][0][1])


def test_noise_below_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"--algorithm.noise -1: must be 0 or more and finite"):
        CycleGAN(noise=-1.0)
