"""What is kept: whole, or as good as absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from zerosum import atomic
from zerosum.metrics.cache import Cache, Kept, address, hash_of_values, open_cache

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2])}


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get("features", "x") is None
    cache.put("features", "x", TENSORS, {"n": 2, "name": "é"})
    tensors, about = cache.get("features", "x") or ({}, {})
    assert about == {"n": 2, "name": "é"}
    assert all(torch.equal(tensors[k], TENSORS[k]) for k in TENSORS)
    assert cache.size() > 0
    assert not cache.notes


@pytest.mark.parametrize("where", [0, 9, -1, -20])
def test_a_damaged_entry_is_made_again_and_named(tmp_path: Path, where: int) -> None:
    cache = Cache(tmp_path)
    cache.put("features", "x", TENSORS)
    (path,) = tmp_path.rglob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    assert cache.made("features", "x", lambda: (TENSORS, {}))[0].keys() == TENSORS.keys()
    assert "damaged" in cache.notes[0]
    assert path.name in cache.notes[0]
    assert Cache(tmp_path).get("features", "x") is not None


def test_an_entry_cut_short_is_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("features", "x", TENSORS)
    (path,) = tmp_path.rglob("*.safetensors")
    whole = path.read_bytes()
    for length in (0, 5, 50, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cache.get("features", "x") is None


def test_work_is_done_once(tmp_path: Path) -> None:
    made = []

    def make() -> Kept:
        made.append(1)
        return TENSORS, {}

    for _ in range(3):
        Cache(tmp_path).made("features", "x", make)
    assert len(made) == 1
    for _ in range(3):
        Cache(None).made("features", "x", make)
    assert len(made) == 4


def test_a_full_disk_costs_only_the_keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(operation: str, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "hook", full)
    cache = Cache(tmp_path)
    assert cache.made("features", "x", lambda: (TENSORS, {}))[0] is TENSORS
    assert "not kept" in cache.notes[0]


def test_the_place_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSUM_CACHE", str(tmp_path))
    assert open_cache().folder == tmp_path / "evidence"
    assert open_cache(keep=False).folder is None


def test_addresses_depend_on_every_part() -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
    hashes = {hash_of_values(v) for v in (values, values[::-1], values.reshape(2, 1, 4, 3), values.astype(np.float32))}
    assert len(hashes) == 4
    assert hash_of_values(values) == hash_of_values(values.copy())
    assert len({address("a", 1), address("a", 2), address("b", 1), address("a", "1")}) == 4
