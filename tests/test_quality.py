"""The engine's choices leave what is learned unharmed: scores over seeds, against a change that does harm."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from zerosum.algorithms.r1gan import R1GAN
from zerosum.data import open as open_data
from zerosum.data.spec import Data
from zerosum.engine import can_compile, has_fast_bf16
from zerosum.game import Adam
from zerosum.networks import DCGAN, Networks, Subpixel
from zerosum.recipes.base import from_settings
from zerosum.schedule import Constant
from zerosum.trainer import Training
from zerosum.view import SilentView

SEEDS = range(6)
STEPS = 200
DIGITS = Data(source="digits")
SUBPIXEL = Subpixel(latent=16, width=16, hidden=32, critic_hidden=32)
QUICK = pytest.mark.skipif(not has_fast_bf16(), reason="bf16 is emulated here: no run takes it")
STRIDED = DCGAN(latent=16, width=32, norm_critic=False)  # whose layers are our own in bf16, and there alone


@cache
def scores(steps: int = STEPS, networks: Networks = SUBPIXEL, **engine: Any) -> np.ndarray:
    """The logarithm of the probe's distance after so many steps on digits, for every seed."""
    adam = Adam(lr=Constant(2e-3), beta1=0.0, beta2=0.99)
    base = replace(
        from_settings("r1gan", DIGITS), algorithm=R1GAN(networks=networks), adam_g=adam, adam_d=adam, batch_size=32,
        threads=1, ema_half_life=Constant(1_000), **{"precision": "fp32", **engine},
    )  # fmt: skip
    dataset, found = open_data(DIGITS), []
    for seed in SEEDS:
        training = Training(replace(base, seed=seed), dataset, torch.device("cpu"), Path("unused"), SilentView())
        for _ in range(steps):
            training.step()
        found.append(np.log(training.probe(training.averaged).distance))
    return np.array(found)


def leaves_the_scores(networks: Networks, **engine: Any) -> None:
    plain, quick = scores(networks=networks), scores(networks=networks, **engine)
    found = stats.ttest_ind(quick, plain, equal_var=False)
    assert found.pvalue > 0.01
    # The worst that the interval leaves possible is less than what half the steps cost.
    assert found.confidence_interval(0.95).high < scores(STEPS // 2, networks).mean() - plain.mean()


@pytest.mark.parametrize("networks", [SUBPIXEL, pytest.param(STRIDED, marks=QUICK)], ids=["subpixel", "strided"])
def test_the_comparison_sees_a_difference_that_matters(networks: Networks) -> None:
    """Half the steps are worse beyond doubt: what the tests below do not see is smaller than that."""
    few, enough = scores(STEPS // 2, networks), scores(networks=networks)
    assert few.mean() > enough.mean()
    assert stats.ttest_ind(few, enough, equal_var=False).pvalue < 0.01


@pytest.mark.parametrize("networks", [SUBPIXEL, pytest.param(STRIDED, marks=QUICK)], ids=["subpixel", "strided"])
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=QUICK)])
def test_bf16_and_channels_last_leave_the_scores_where_they_were(precision: str, networks: Networks) -> None:
    leaves_the_scores(networks, precision=precision, memory_format="channels_last")


@pytest.mark.skipif(not can_compile(), reason="no C++ compiler here")
def test_compiled_networks_leave_the_scores_where_they_were() -> None:
    leaves_the_scores(SUBPIXEL, memory_format="channels_last", compile="on")
