"""Checkpoints: to the disk and back to the bit, seen through when damaged, kept as promised."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from zerosum import atomic, checkpoint
from zerosum.checkpoint import STATE, TENSORS, Damaged
from zerosum.errors import UserError
from zerosum.runlog import RunLog, grid_path, grids, read_events

TENSOR = {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}


def save(run: Path, images_seen: int, score: float | None = None, tensors: dict[str, torch.Tensor] = TENSOR) -> Path:
    return checkpoint.save(run, images_seen, tensors, {"score": score, "x": 0.1 + 0.2})


def test_round_trip(tmp_path: Path) -> None:
    """All dtypes, shapes and bits: NaN with its payload, minus zero, the smallest number."""
    strange = torch.tensor([float("nan"), -0.0, 5e-324, float("inf"), 0.1], dtype=torch.float64)
    odd = torch.tensor([0x7FC00001, 0x7F800001], dtype=torch.int32).view(torch.float32)
    tensors = {
        "f64": strange,
        "f32": odd,
        "bf16": torch.randn(5).bfloat16(),
        "i64": torch.tensor(2**62),
        "empty": torch.empty(0, 3),
        "transposed": torch.randn(3, 4).T,
        "slice": torch.randn(10)[2:7],
        "needs grad": torch.randn(2, requires_grad=True),
    }
    path = checkpoint.save(tmp_path, 1_200, tensors, {"a": [1, 0.1, None], "b": {"c": True}})
    assert path == tmp_path / "checkpoints" / "000000001200"
    saved = checkpoint.load(path)
    assert (saved.path, saved.images_seen) == (path, 1_200)
    assert saved.state == {"a": [1, 0.1, None], "b": {"c": True}}
    assert saved.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        found = saved.tensors[name]
        assert found.dtype == tensor.dtype
        assert found.shape == tensor.shape
        bits = [t.detach().contiguous().flatten().view(torch.uint8) for t in (found, tensor)]
        assert torch.equal(*bits), name
    assert set(saved.under("f")) == {"64", "32"}


def test_tied_weights(tmp_path: Path) -> None:
    """Tensors that share memory are saved each for itself."""
    w = torch.randn(4, 4)
    saved = checkpoint.load(checkpoint.save(tmp_path, 0, {"a": w, "b": w, "row": w[1]}, {}))
    assert torch.equal(saved.tensors["a"], w)
    assert torch.equal(saved.tensors["b"], w)
    assert torch.equal(saved.tensors["row"], w[1])


def is_whole(path: Path) -> bool:
    try:
        checkpoint.load(path)
    except Damaged:
        return False
    return True


def test_every_damage_is_seen(tmp_path: Path) -> None:
    """Any one bit of the tensors; of the state, any that changes what it says; truncation; loss."""
    path = save(tmp_path, 8)
    whole = {name: (path / name).read_bytes() for name in (TENSORS, STATE)}
    content = json.loads(whole[STATE])
    for name, data in whole.items():
        for position in range(0, len(data), 1 if name == STATE else 7):
            spoilt = bytearray(data)
            spoilt[position] ^= 1 << position % 8
            (path / name).write_bytes(spoilt)
            if is_whole(path):  # white space
                assert name == STATE
                assert json.loads(spoilt) == content
        for length in (0, 1, len(data) // 2, len(data) - 1):
            (path / name).write_bytes(data[:length])
            with pytest.raises(Damaged, match=name):
                checkpoint.load(path)
        (path / name).unlink()
        with pytest.raises(Damaged, match=f"{name} cannot be read"):
            checkpoint.load(path)
        (path / name).write_bytes(data)
    checkpoint.load(path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"seal"', "{}", '{"seal": 1}', "\udcff", "[" * 100_000])
def test_state_that_is_something_else(text: str, tmp_path: Path) -> None:
    path = save(tmp_path, 8)
    (path / STATE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Damaged):
        checkpoint.load(path)


def test_tensors_of_another_checkpoint(tmp_path: Path) -> None:
    """Whole files that do not belong together."""
    one, other = save(tmp_path, 8), save(tmp_path, 16, tensors={"w": torch.zeros(2, 3)})
    shutil.copy(other / TENSORS, one / TENSORS)
    with pytest.raises(Damaged, match="does not match its checksum"):
        checkpoint.load(one)


def test_format_of_a_later_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not damaged, and must not be passed over for an older one."""
    save(tmp_path, 8)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    save(tmp_path, 16)
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    with pytest.raises(UserError, match="checkpoint format 2 is not the format 1"):
        checkpoint.newest(tmp_path, print)


def test_newest_whole_one(tmp_path: Path) -> None:
    warned: list[str] = []
    assert checkpoint.newest(tmp_path, warned.append) is None
    for number in (0, 8, 16, 24):
        save(tmp_path, number, score=float(number))
    (checkpoint.path_of(tmp_path, 24) / TENSORS).write_bytes(b"")
    (checkpoint.path_of(tmp_path, 16) / STATE).unlink()
    found = checkpoint.newest(tmp_path, warned.append)
    assert found is not None
    assert found.images_seen == 8
    assert len(warned) == 2
    assert "000000000024" in warned[0]
    assert "000000000016" in warned[1]
    assert all(text.endswith("going back to the checkpoint before it") for text in warned)
    liked = checkpoint.newest(tmp_path, warned.append, lambda state: state["score"] < 8)
    assert liked is not None
    assert liked.images_seen == 0
    assert checkpoint.newest(tmp_path, warned.append, lambda state: False) is None


def test_kept_are_the_last_two_and_the_best(tmp_path: Path) -> None:
    kept = {}
    for number, score in ((0, 9.0), (8, 3.0), (16, 5.0), (24, None), (32, 4.0), (40, 3.0), (48, 2.0)):
        save(tmp_path, number, score)
        checkpoint.prune(tmp_path)
        kept[number] = checkpoint.numbers(tmp_path)
    assert kept == {
        0: [0],
        8: [0, 8],
        16: [8, 16],
        24: [8, 16, 24],
        32: [8, 24, 32],
        40: [8, 32, 40],  # of two that are equal, the earlier
        48: [40, 48],
    }
    assert checkpoint.best(tmp_path) == 48
    assert [p.name for p in checkpoint.folder(tmp_path).iterdir() if p.name.startswith(".")] == []


def test_best_is_none_without_scores_and_passes_over_damage(tmp_path: Path) -> None:
    assert checkpoint.best(tmp_path) is None
    save(tmp_path, 8)
    assert checkpoint.best(tmp_path) is None
    save(tmp_path, 16, 1.0)
    save(tmp_path, 24, 2.0)
    (checkpoint.path_of(tmp_path, 16) / STATE).write_text("{}")
    assert checkpoint.best(tmp_path) == 24


def test_numbers_are_of_checkpoints_only(tmp_path: Path) -> None:
    for number in (100, 8, 1_000_000_000_000):
        save(tmp_path, number)
    (checkpoint.folder(tmp_path) / ".tmp-000000000016-0123abcd").mkdir()
    (checkpoint.folder(tmp_path) / "12.txt").write_text("")
    (checkpoint.folder(tmp_path) / "000000000033").write_text("a file")
    assert checkpoint.numbers(tmp_path) == [8, 100, 1_000_000_000_000]


@pytest.mark.parametrize("ended", [False, True])
def test_forget_after(ended: bool, tmp_path: Path) -> None:
    """What lies beyond the point goes, and a grid there that is not due, unless the run has ended there."""
    log = RunLog(tmp_path)
    for number in (0, 8, 16, 24):
        save(tmp_path, number)
        log.write("progress", number)
        grid_path(tmp_path, number).parent.mkdir(exist_ok=True)
        grid_path(tmp_path, number).write_bytes(b"")
    checkpoint.forget_after(tmp_path, 16, lambda number: number == 8, ended=ended)
    assert checkpoint.numbers(tmp_path) == [0, 8, 16]
    assert [e["images_seen"] for e in read_events(tmp_path)] == [0, 8, 16]
    assert [int(p.stem) for p in grids(tmp_path)] == ([0, 8, 16] if ended else [8])


def test_killed_while_old_ones_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is half removed has no checkpoint's name any more: it is neither loaded nor called the best."""
    for number in (0, 8, 16):
        save(tmp_path, number, score=16.0 - number)
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda path, **options: (path / STATE).unlink())
    checkpoint.prune(tmp_path)
    assert checkpoint.numbers(tmp_path) == [8, 16]
    monkeypatch.undo()
    checkpoint.prune(tmp_path)
    assert sorted(p.name for p in checkpoint.folder(tmp_path).iterdir()) == ["000000000008", "000000000016"]
