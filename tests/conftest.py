"""What every test shares: one thread, a cache of its own, checked shapes, and the data too big to commit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from shapes import check_shapes

check_shapes()  # before any test imports the package

# Tiny networks gain nothing from threads, and two that spin on a busy machine are a hundred times slower.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

hypothesis.settings.register_profile(
    "zerosum", deadline=None, derandomize=True, database=None, max_examples=60, print_blob=False
)
hypothesis.settings.load_profile("zerosum")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROSUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test alone, or in any order, sees the same numbers and the same machine; colour is as a test sets it."""
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Public data sets for tests that need real files: ZEROSUM_DATA, or ../shared/data; else it skips."""
    named = os.environ.get("ZEROSUM_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}: set ZEROSUM_DATA to the folder that has it")
    return folder
