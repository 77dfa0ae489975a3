"""What the engine knows of the machine."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import pytest
import torch

from zerosum import engine

BLOCK = 2**23  # floats: 32 MB, from which on glibc hands blocks back to the system
START = "processor\t: 0\nmodel name\t: A quick one\ncpu family\t: 25\n"
NEW = f"{START}model\t\t: 17\nflags\t\t: fpu avx512f avx512_bf16\n\n"
OLD = f"{START}model\t\t: 1\nflags\t\t: fpu avx2\n\n"


@pytest.mark.parametrize(
    ("text", "quick", "words"),
    [
        (NEW + NEW, True, "A quick one (family 25, model 17), "),
        (OLD + NEW, False, "A quick one (family 25, model 1), "),  # of two unlike ones the first counts
        ("processor\t: 0\nFeatures\t: asimd\n\n", False, ""),
        ("", False, ""),
        (None, False, ""),  # no such file
    ],
)
def test_the_processor_in_words(
    text: str | None, quick: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(engine, "CPUINFO", path)
    monkeypatch.setattr(engine.platform, "system", lambda: "Linux")
    assert engine.has_fast_bf16() is quick
    found = engine.processor()
    assert found.startswith(words)
    assert torch.backends.cpu.get_cpu_capability() in found
    assert found.endswith(", bf16") is quick


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such switch")
def test_blocks_that_are_freed_are_kept_while_a_run_trains_and_go_back_after_it() -> None:
    """A page that comes anew from the system is a fault."""
    resource = pytest.importorskip("resource")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.ones(4 * BLOCK)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    usual = faults()
    with engine.kept_memory():
        with engine.kept_memory():  # a trial of the machine, say, which ends before what it is in
            torch.ones(BLOCK)
        for _ in range(4):
            faults()
        kept = faults()
        held = psutil.Process().memory_info().rss
    assert kept < usual / 4
    assert psutil.Process().memory_info().rss < held - 12 * BLOCK  # 3 of its 4 bytes
