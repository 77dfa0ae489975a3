"""The packed cache: built once, reused, rebuilt when damaged or stale, and safe from kills and company."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import folder_of, idx_files, noise, pngs

from zerosum.data import ArrayDataset, Data, files, pack
from zerosum.data import open as open_data
from zerosum.errors import UserError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    broken = {"b/zzz.png": b"broken"}
    return folder_of(tmp_path / "source", pngs(6, prefix="a/") | pngs(6, prefix="b/") | broken)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(source: Path, cache: Path, **settings: Any) -> ArrayDataset:
    return open_data(Data(source=str(source), cache=str(cache), memory_megabytes=0, **settings))


def everything(found: ArrayDataset) -> np.ndarray:
    return found.gather(np.arange(len(found)))[0]


def packs(cache: Path) -> list[str]:
    return sorted(p.name.split(".", 1)[1] for p in (cache / "packed").iterdir())


def decoding_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(files, "_blocks", never)


def test_a_pack_equals_the_set_in_memory(source: Path, cache: Path) -> None:
    packed, held = opened(source, cache), open_data(Data(source=str(source)))
    assert np.array_equal(everything(packed), everything(held))
    assert packed.labels is not None
    assert held.labels is not None
    assert packed.labels.tolist() == held.labels.tolist()
    assert (packed.class_names, packed.skipped, packed.notes) == (held.class_names, held.skipped, held.notes)
    assert packed.fingerprint == held.fingerprint
    assert packs(cache) == ["json", "labels.npy", "u8"]
    assert not packed.values.flags.writeable
    assert everything(packed).flags.writeable


def test_it_is_reused(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(source, cache)
    decoding_forbidden(monkeypatch)
    second = opened(source, cache)
    assert first.fingerprint == second.fingerprint
    assert second.skipped == first.skipped != ()
    # also by a run that has the memory: the bytes are the same
    assert open_data(Data(source=str(source), cache=str(cache))).fingerprint == first.fingerprint


def test_a_changed_source_or_setting_makes_another(source: Path, cache: Path) -> None:
    first = opened(source, cache)
    settings: list[dict[str, Any]] = [{"size": (4, 4)}, {"channels": 1}, {"limit": 5}, {"size": (4, 4), "fit": "pad"}]
    seen = {first.fingerprint, *(opened(source, cache, **one).fingerprint for one in settings)}
    assert len(seen) >= 4
    assert packs(cache).count("u8") == 5
    target = source / "a" / "001.png"
    target.write_bytes((source / "a" / "002.png").read_bytes())
    os.utime(target, ns=(1, 1))
    assert opened(source, cache).fingerprint not in seen
    (source / "b" / "005.png").rename(source / "a" / "005b.png")
    labels = opened(source, cache).labels
    assert labels is not None
    assert np.bincount(labels).tolist() == [7, 5]


# not a flipped pixel: to find it would take reading all of a file that is there to be read in part
@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        *itertools.product(("u8", "json", "labels.npy"), ("cut", "gone", "empty")),
        *itertools.product(("json", "labels.npy"), ("flipped",)),
    ],
)
def test_a_damaged_pack_is_built_again(source: Path, cache: Path, suffix: str, damage: str) -> None:
    first = opened(source, cache)
    fingerprint, whole = first.fingerprint, everything(first)
    del first
    path = next(p for p in (cache / "packed").iterdir() if p.name.endswith(suffix))
    raw = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(raw[:-3])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :])
    again = opened(source, cache)
    assert np.array_equal(everything(again), whole)
    assert again.fingerprint == fingerprint
    assert path.read_bytes() == raw


def test_a_flipped_pixel_is_found_where_all_of_it_is_read(source: Path, cache: Path) -> None:
    whole = everything(opened(source, cache))
    path = next(p for p in (cache / "packed").iterdir() if p.name.endswith("u8"))
    raw = path.read_bytes()
    path.write_bytes(raw[:7] + bytes([raw[7] ^ 1]) + raw[8:])
    assert np.array_equal(everything(open_data(Data(source=str(source), cache=str(cache)))), whole)


def test_labels_that_change_alone_make_another_pack(tmp_path: Path, cache: Path) -> None:
    folder_of(tmp_path / "set", pngs(3))
    table = tmp_path / "t.csv"
    for names in ("aba", "abb", "xyy"):
        table.write_text("file,label\n" + "".join(f"00{i}.png,{name}\n" for i, name in enumerate(names)))
        found = opened(tmp_path / "set", cache, labels=str(table))
        assert found.labels is not None
        assert [found.class_names[i] for i in found.labels] == list(names)
    path = idx_files(tmp_path, "train", noise(4, 6, 5), np.array([0, 1, 2, 3]), packed=True)
    for labels in ([0, 1, 2, 3], [3, 2, 1, 0]):
        idx_files(tmp_path, "train", noise(4, 6, 5), np.array(labels), packed=True)
        os.utime(path, (1, 1))
        assert opened(path, cache, size=(12, 10)).labels.tolist() == labels  # type: ignore[union-attr]


def test_a_header_that_lies_is_not_believed(source: Path, cache: Path) -> None:
    opened(source, cache)
    path = next((cache / "packed").glob("*.json"))
    header = json.loads(path.read_bytes())
    header["body"]["shape"][0] -= 1
    path.write_text(json.dumps(header))
    assert len(opened(source, cache)) == 12


def test_a_builder_killed_half_way_leaves_no_pack(source: Path, cache: Path) -> None:
    script = f"""
        import os, signal
        from zerosum.data import Data, files, open
        real = files._blocks
        def some(*rest):
            for n, block in enumerate(real(*rest)):
                if n == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield block
        files._blocks = some
        files.block_rows = lambda row_bytes: 4
        open(Data(source={str(source)!r}, cache={str(cache)!r}, memory_megabytes=0))
    """
    if sys.platform == "win32":
        pytest.skip("no SIGKILL there")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False)
    assert done.returncode < 0, done.stderr.decode()
    left = list((cache / "packed").iterdir())
    assert [p.name.startswith(".tmp-") for p in left] == [True]
    found = opened(source, cache)
    assert len(found) == 12
    assert left[0].exists()  # its builder may still be at work
    os.utime(left[0], (1, 1))
    opened(source, cache, limit=6)
    assert not left[0].exists()


def test_packs_that_nobody_uses_are_removed(source: Path, cache: Path) -> None:
    """Each use counts; the user's own files in that folder, and those of sets in memory, are left alone."""
    where = cache / "packed"
    assert pack.held(where) == (0, 0)
    for limit in (4, 6):
        opened(source, cache, limit=limit)
    files_of = {limit: [p for p in where.iterdir() if p.name.split(".")[0] == name] for limit, name in _names(cache)}
    assert [len(paths) for paths in files_of.values()] == [3, 3]
    assert pack.held(where) == (2, sum(p.stat().st_size for p in where.iterdir()))
    own = [where / "notes.json", where / ".tmp-thesis", where / f"{'0' * 32}.txt", where / "deep" / f"{'0' * 32}.u8"]
    (where / "deep").mkdir()
    for path in own:
        path.write_text("mine")
    orphan = where / f"{'0' * 32}.u8"  # its builder was killed before the header
    orphan.write_text("")
    old = time.time() - pack.UNUSED_SECONDS - 60
    for path in [p for p in where.rglob("*") if p.is_file()]:
        os.utime(path, (old, old))
    opened(source, cache, limit=6)  # found, and so used
    opened(source, cache, limit=8)  # built
    assert not any(path.exists() for path in [*files_of[4], orphan])
    assert all(path.exists() for path in [*files_of[6], *own])
    assert pack.held(where)[0] == 2


def _names(cache: Path) -> list[tuple[int, str]]:
    """The number of images and the name of each pack."""
    headers = [(path.stem, json.loads(path.read_bytes())["body"]) for path in (cache / "packed").glob("*.json")]
    return sorted((body["shape"][0], name) for name, body in headers)


def test_builders_at_the_same_time_do_no_harm(source: Path, cache: Path) -> None:
    found: list[ArrayDataset] = []
    threads = [threading.Thread(target=lambda: found.append(opened(source, cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.fingerprint for one in found}) == 1
    assert len(found) == 4
    assert packs(cache) == ["json", "labels.npy", "u8"]


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"full.*--cache"):
        opened(source, cache)
    monkeypatch.undo()

    def fails(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(UserError, match="full"):
        opened(source, cache)
    assert list((cache / "packed").iterdir()) == []
    monkeypatch.undo()
    assert len(opened(source, cache)) == 12


def test_a_cache_that_cannot_be_written_names_itself(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"packed cache.*--cache"):
        opened(source, tmp_path / "file")


def test_too_few_images_leave_no_pack(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError, match="at least 2"):
        opened(folder_of(tmp_path / "few", pngs(1) | {"x.png": b"x"}), cache)
    assert list((cache / "packed").iterdir()) == []


def test_the_order_does_not_depend_on_threads(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "a" / "002.png").write_bytes(b"broken too")
    found = set()
    for threads, rows, together in ((1, 1, 1), (4, 3, 2), (2, 512, 4), (16, 512, 16)):
        monkeypatch.setattr(files, "THREADS", threads)
        monkeypatch.setattr(files, "TOGETHER", together)
        monkeypatch.setattr(files, "block_rows", lambda _, rows=rows: rows)
        shutil.rmtree(cache, ignore_errors=True)
        packed, held = opened(source, cache), open_data(Data(source=str(source), cache=str(cache / "none")))
        found |= {(one.fingerprint, one.skipped, one.notes) for one in (packed, held)}
    ((_, skipped, _),) = found
    assert [name for name, _ in skipped] == ["a/002.png", "b/zzz.png"]


def test_what_was_slow_to_read_is_kept_though_it_fits(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(source=str(source), cache=str(cache))
    quick = open_data(data)
    assert not cache.exists()
    monkeypatch.setattr(pack, "KEPT_SECONDS", 0.0)
    slow = open_data(data)
    decoding_forbidden(monkeypatch)
    again = open_data(data)
    for found in (slow, again):
        assert found.fingerprint == quick.fingerprint
        assert (found.skipped, found.notes) == (quick.skipped, quick.notes)
        assert found.skipped != ()
        assert found.values.flags.writeable, "in memory"
    assert not opened(source, cache).values.flags.writeable, "mapped, where it does not fit"


def test_a_cache_that_cannot_be_written_stops_no_set_that_fits(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "KEPT_SECONDS", 0.0)
    cache.write_bytes(b"a file where a folder should be")
    assert len(open_data(Data(source=str(source), cache=str(cache)))) == 12


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from zerosum.data.cache import cache_folder

    monkeypatch.setenv("ZEROSUM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert cache_folder("/other") == Path("/other")
    monkeypatch.delenv("ZEROSUM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for platform, expected in (
        ("linux", tmp_path / "xdg" / "zerosum"),
        ("darwin", tmp_path / "home" / "Library" / "Caches" / "zerosum"),
        ("win32", tmp_path / "local" / "zerosum"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_folder() == expected
    assert pack.folder(Data(source="x", cache=str(tmp_path))) == tmp_path / "packed"
