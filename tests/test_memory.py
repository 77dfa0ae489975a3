"""What a run takes: counted without values as with them, split or refused where there is too little, and no growth."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

import tiny
from shapes import package_folder
from zerosum import memory, recipes
from zerosum.data.spec import Data, Spec
from zerosum.errors import UserError
from zerosum.game import Batch, Turns
from zerosum.networks import MLP
from zerosum.run import Run

CPU = torch.device("cpu")
MB = memory.MB


def wide(**changes: object) -> Run:
    """Uncoupled networks for images of 8x8, so wide that activations of a large batch are what counts."""
    run = tiny.run("r3gan", **{"batch_size": 4096, **changes})
    return replace(run, algorithm=replace(run.algorithm, networks=MLP(latent=8, width=512, depth=3)))  # type: ignore[call-arg]


SPEC = Spec((1, 8, 8))


# --- the count -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny.ALGORITHMS)
def test_fake_tensors_take_what_real_ones_take(name: str) -> None:
    """The same step counted over real tensors, of networks that train."""
    run = tiny.run(name, batch_size=16)
    training = tiny.training(run, tiny.images())
    sides = {player[0] for player in training.players}
    spec = replace(SPEC, classes=3 if name in tiny.LABELLED else 0)
    source = memory.Blank(spec, run.algorithm.networks.latent, training.engine)

    def real(sides: set[str]) -> int:
        turns, seen = Turns(training.players, {}, training.engine), run.algorithm.heaviest_at
        batch = Batch(source, 0, 16, 16)
        return memory._peak(lambda: run.algorithm.step(memory.Standstill(turns, sides), training.players, batch, seen))

    need = memory.predict(run, spec, CPU)
    assert need.turn == real(sides)
    assert need.regret == 0
    regret = memory.predict(replace(run, regret_every=1), spec, CPU).regret
    alone = max(real({side}) for side in sides)
    # Where nothing has a gradient, real operations may keep a little more (R1GAN: 3 %).
    assert regret - need.networks - need.moments == pytest.approx(alone, rel=0.03)


def test_a_checkpoint_is_as_large_as_was_said(tmp_path: Path) -> None:
    training = tiny.training(wide(batch_size=8), tiny.images(), tmp_path)
    training.step()
    training.save()
    written = sum(path.stat().st_size for path in (tmp_path / "checkpoints").rglob("*") if path.is_file())
    assert memory.predict(training.run, SPEC, CPU).checkpoint == pytest.approx(written, rel=0.01)


def test_activations_grow_with_the_batch_and_shrink_with_micro_batches() -> None:
    small, large = (memory.predict(wide(batch_size=n), SPEC, CPU) for n in (1024, 4096))
    assert large.networks == small.networks
    assert large.turn > 2.5 * small.turn
    parts = memory.predict(wide(micro_batches=4), SPEC, CPU)
    assert small.turn <= parts.turn < 0.5 * large.turn
    double = memory.predict(wide(precision="fp64"), SPEC, CPU)
    assert double.turn == pytest.approx(2 * large.turn, rel=0.01)
    assert double.checkpoint == 2 * large.checkpoint


def test_half_precision_and_classes_are_counted() -> None:
    full, half = (memory.predict(tiny.run("dcgan", batch_size=512, precision=p), SPEC, CPU) for p in ("fp32", "bf16"))
    assert half.turn < 0.8 * full.turn
    labelled = memory.predict(tiny.run("dcgan", conditional=True), Spec((1, 8, 8), 3), CPU)
    assert labelled.networks > memory.predict(tiny.run("dcgan"), Spec((1, 8, 8), 3), CPU).networks


def test_points_and_a_gpu_that_is_not_here() -> None:
    run = tiny.run("gan", toy=True)
    assert memory.predict(run, Spec((2,)), CPU).turn > 0
    there = memory.predict(run, Spec((2,)), torch.device("cuda"))
    assert there.process == 0
    assert there.peak == there.checkpoint + max(there.turn, there.probe)


def test_counting_leaves_nothing_behind() -> None:
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    memory.predict(wide(precision="fp64"), SPEC, CPU)
    assert torch.get_default_dtype() is dtype
    assert torch.equal(torch.get_rng_state(), state)
    assert type(torch.ones(1)) is torch.Tensor


# --- does it fit? --------------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_split() -> None:
    run = wide()
    whole = memory.predict(run, SPEC, CPU)
    assert memory.fit(run, SPEC, CPU, whole.peak + 100 * MB).run == run
    limit = whole.peak - int(0.4 * memory.HOLES * whole.turn)
    found = memory.fit(run, SPEC, CPU, limit)
    assert found.run == replace(run, micro_batches=found.run.micro_batches)
    assert found.run.micro_batches > 1
    assert found.need.peak <= limit
    assert f"{found.run.micro_batches} micro-batches" in found.reasons[0]


def test_what_cannot_be_split_is_refused_with_both_figures_and_a_batch_that_would_fit() -> None:
    coupled = tiny.run("dcgan", batch_size=8192)
    need = memory.predict(coupled, SPEC, CPU)
    with pytest.raises(UserError, match=r"--batch-size 8192: .* GB of memory, and .* GB can be had; --batch-size \d+"):
        memory.fit(coupled, SPEC, CPU, need.peak - int(0.5 * memory.HOLES * need.turn))
    with pytest.raises(UserError, match="--batch-size 2048 would fit"):
        memory.fit(wide(), SPEC, CPU, memory.predict(wide(batch_size=2048), SPEC, CPU).peak + 30 * MB, may_split=False)


def test_too_large_networks_and_too_small_a_machine_are_told_apart() -> None:
    huge = replace(wide(), algorithm=replace(wide().algorithm, networks=MLP(latent=8, width=100_000)))  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"smaller --algorithm.networks.width \(now 100000\), or end other programs"):
        memory.fit(huge, SPEC, CPU)
    with pytest.raises(UserError, match=r"the smallest run takes about .* raise --memory"):
        memory.fit(wide(), SPEC, CPU, 100 * MB)
    with pytest.raises(UserError, match="--memory -3: must be more than 0 GB"):
        memory.fit(wide(), SPEC, CPU, int(-3e9))


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    assert memory._container(tmp_path) == []
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._container(tmp_path) == [700]


def test_a_full_disk_is_an_error_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = memory.fit(wide(), SPEC, CPU)
    assert " of disk (" in memory.sentence(fit, wide(), SPEC, tmp_path / "not" / "there")
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 5 * MB}))
    with pytest.raises(UserError, match=r"--out .*: the run would take about \d+ MB of disk, and 5 MB are free"):
        memory.sentence(fit, wide(), SPEC, tmp_path)


def test_the_pick_says_both_figures_and_keeps_the_user_s_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    picking = importlib.import_module("zerosum.recipes.pick")
    monkeypatch.setattr(picking, "estimate", lambda *_: 1000.0)
    monkeypatch.setattr(picking, "pauses", lambda *_: (1e-3, 0.0))
    data = {"data": Data(source="tiny"), "dataset": tiny.images(), "algorithm": "r3gan", "images": 64, "device": "cpu"}

    def pick(limit: int | None, **changes: int) -> recipes.Choice:
        return recipes.pick(**data, adjust=lambda run: replace(run, **changes), memory_limit=limit)  # type: ignore[arg-type]

    free = pick(None, batch_size=2048)
    assert "of memory (" in free.reasons[-1]
    assert free.run.micro_batches == 1
    need = memory.predict(replace(free.run), SPEC, CPU)
    tight = need.peak - int(0.4 * memory.HOLES * need.turn)
    split = pick(tight, batch_size=2048)
    assert split.run.micro_batches > 1
    assert any("micro-batches, which change no loss" in reason for reason in split.reasons)
    with pytest.raises(UserError, match="--batch-size"):
        pick(tight, batch_size=2048, micro_batches=1)


# --- no growth -----------------------------------------------------------------------------------------------------

GROWTH = 3 * MB  # between two thousand steps and ten, at most: less than 400 bytes a step


def grown(steps: tuple[int, int], leak: int) -> int:
    """Bytes that the resident set of a process of its own grows by between two numbers of steps of a tiny game."""
    places = os.pathsep.join([str(package_folder().parent), str(Path(__file__).parent)])
    words = [sys.executable, __file__, *map(str, steps), str(leak)]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": places})
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def test_memory_does_not_grow_over_ten_thousand_steps() -> None:
    assert grown((2_000, 10_000), leak=0) < GROWTH


def test_a_leak_is_caught() -> None:
    """8 kB a step in a tenth of the steps, as much in all as 0.8 kB a step above: that test can fail."""
    assert grown((200, 1_000), leak=8_192) > GROWTH


def _own() -> int:
    """Bytes of this process alone: pages of files and libraries come and go as the system likes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # Linux alone tells them apart
        return int(psutil.Process().memory_info().rss)
    kilobytes = {
        name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines if line.endswith(" kB"))
    }
    return 1024 * (kilobytes["RssAnon"] + kilobytes["VmSwap"])


def _play(first: int, last: int, leak: int) -> None:
    """Train in a folder, with probes, log, grids and checkpoints; print by how much it grew from `first` to `last`."""
    import tempfile

    from zerosum.runlog import RunLog

    kept: list[torch.Tensor] = []
    with tempfile.TemporaryDirectory() as folder:
        n = 4  # what comes for the first time takes something: all of it comes twice before `first`
        run = tiny.run(
            "gan", toy=True, batch_size=n, images=n * last, log_every=10 * n, probe_every=last * n // 20,
            regret_every=last * n // 10, grid_every=last * n // 10, checkpoint_every=last * n // 10,
        )  # fmt: skip
        training = tiny.training(run, tiny.points(), folder)
        training.log = RunLog(Path(folder))
        step, sizes = training.step, {}

        def watched() -> None:
            step()
            if leak:
                kept.append(torch.ones(leak // 4))
            if training.seen in (n * first, n * last):
                gc.collect()
                if sys.platform == "linux":  # what was freed at the heap's top goes back, at one moment as at the other
                    ctypes.CDLL(None).malloc_trim(0)
                sizes[training.seen] = _own()

        training.step = watched  # type: ignore[method-assign]
        training.train()
    print(sizes[n * last] - sizes[n * first])


if __name__ == "__main__":
    _play(*map(int, sys.argv[1:]))
