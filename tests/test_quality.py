"""The engine's choices leave what is learned unharmed: scores over seeds, against a change that does harm."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from zerosum.algorithms.r1gan import R1GAN
from zerosum.data import open as open_data
from zerosum.data.spec import Data
from zerosum.game import Adam
from zerosum.networks import Subpixel
from zerosum.recipes.base import from_settings
from zerosum.schedule import Constant
from zerosum.trainer import Training
from zerosum.view import SilentView

SEEDS = range(6)
STEPS = 250
DIGITS = Data(source="digits")


@cache
def scores(steps: int = STEPS, **engine: Any) -> np.ndarray:
    """The logarithm of the probe's distance after so many steps on digits, for every seed."""
    adam = Adam(lr=Constant(2e-3), beta1=0.0, beta2=0.99)
    algorithm = R1GAN(networks=Subpixel(latent=16, width=16, hidden=32, critic_hidden=32))
    base = replace(
        from_settings("r1gan", DIGITS), algorithm=algorithm, adam_g=adam, adam_d=adam, batch_size=32, threads=1,
        ema_half_life=Constant(1_000), **{"precision": "fp32", **engine},
    )  # fmt: skip
    dataset, found = open_data(DIGITS), []
    for seed in SEEDS:
        training = Training(replace(base, seed=seed), dataset, torch.device("cpu"), Path("unused"), SilentView())
        for _ in range(steps):
            training.step()
        found.append(np.log(training.probe(training.averaged).distance))
    return np.array(found)


def test_the_comparison_sees_a_difference_that_matters() -> None:
    """Half the steps are worse beyond doubt: what the tests below do not see is smaller than that."""
    few, enough = scores(STEPS // 2), scores()
    assert few.mean() > enough.mean()
    assert stats.ttest_ind(few, enough, equal_var=False).pvalue < 0.01


def test_bf16_and_channels_last_leave_the_scores_where_they_were() -> None:
    plain = scores()
    for quick in (
        scores(memory_format="channels_last"),
        scores(precision="bf16", memory_format="channels_last"),
    ):
        found = stats.ttest_ind(quick, plain, equal_var=False)
        assert found.pvalue > 0.01
        # The worst that the interval leaves possible is less than what half the steps cost.
        assert found.confidence_interval(0.95).high < scores(STEPS // 2).mean() - plain.mean()
