"""Processes for the tests of this folder, which stop and kill them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from little_runs import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()
