"""What the engine knows of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zerosum import engine

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
