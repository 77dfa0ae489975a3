"""A benchmark's folders of images: whole or not at all, whoever else makes them meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerosum.bench.folders import made


def test_two_that_make_one_folder_both_find_it_whole(tmp_path: Path) -> None:
    def fill(draft: Path) -> None:
        if not (tmp_path / "set").exists():
            assert made(tmp_path / "set", lambda other: other.joinpath("other").touch()) == tmp_path / "set"
        draft.joinpath("mine").touch()

    assert made(tmp_path / "set", fill) == tmp_path / "set"
    assert [p.name for p in tmp_path.iterdir()] == ["set"], "no draft is left"
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["other"], "the first to end"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fill(draft: Path) -> None:
        draft.joinpath("half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "inner" / "set", fill)
    assert list((tmp_path / "inner").iterdir()) == []
