"""What a semi-supervised run says of images, and whether it knew them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tiny
from zerosum import cli


def test_it_is_said_which_images_the_run_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Image by image, in whatever folder they are; where its own data are gone, that it cannot be told."""
    old, new = tiny.photos(tmp_path / "old", 0), tiny.photos(tmp_path / "new", 1)
    copy = Path(shutil.copytree(old, tmp_path / "copy"))
    (copy / "a" / "0.png").unlink()
    (copy / "b" / "1.png").unlink()
    run, table = tmp_path / "run", tmp_path / "found.csv"
    words = "--algorithm ssgan --images 8 --batch-size 4 --threads 1 --held-out 0 --probe-every 0"
    assert cli.main(["train", str(old), *words.split(), "--out", str(run)]) == 0
    capsys.readouterr()

    def said(*words: str) -> str:
        assert cli.main(["classify", str(run), *words, "--out", str(table)]) == 0
        told = capsys.readouterr().err
        assert "right: " in told
        return told

    for words, known in (([str(old)], 24), ([str(old), "--limit", "12"], 12), ([str(copy)], 22)):
        assert f"; the run was trained on {known} of these images" in said(*words)
    told = said(str(new), "--fit", "stretch")
    assert "cannot be told: its data are read with --fit crop --bits 8" in told
    old.rename(tmp_path / "moved")
    assert "; the run was trained on 24 of these images" in said(str(tmp_path / "moved"))
    assert f"; whether the run was trained on these images cannot be told: its data, {old}, " in said(str(copy))
    tiny.photos(old, 0)
    (old / "a" / "0.png").unlink()
    assert f"its data, {old}, have changed since" in said(str(copy))
    assert "; the run was trained on these images, or on some of them" in said(str(old))
    tiny.photos(old, 0)
    assert "trained on" not in said(str(new))
    header, *lines = table.read_text().splitlines()
    assert header == "file,class,probability"
    assert len(lines) == 24
    assert {line.split(",")[1] for line in lines} <= {"a", "b"}


def test_of_images_of_some_classes_it_is_said_how_many_are_right_and_of_others_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, table = tmp_path / "run", tmp_path / "found.csv"
    words = "--algorithm ssgan --images 8 --batch-size 4 --threads 1 --held-out 0 --probe-every 0"
    assert cli.main(["train", str(tiny.photos(tmp_path / "all", 0, "abc")), *words.split(), "--out", str(run)]) == 0
    capsys.readouterr()
    some, other = tiny.photos(tmp_path / "some", 1, "bc"), tiny.photos(tmp_path / "other", 2, "bd")
    assert cli.main(["classify", str(run), str(some), "--out", str(table)]) == 0
    lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
    right = sum(Path(name).parent.name == kind for name, kind, _ in lines)
    said = capsys.readouterr().err
    assert f"right: {right / len(lines):.2%} (" in said
    assert "; of b, c alone" in said
    assert cli.main(["classify", str(run), str(other), "--out", str(table)]) == 0
    said = capsys.readouterr().err
    assert "how many are right is not known: d is none of the run's classes (a, b, c)" in said
    assert "right: " not in said


@pytest.mark.parametrize("option", ["--size 16 16", "--channels 1", "--longest 32"])
def test_images_are_read_as_the_run_sees_them(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["classify", "nowhere", "digits", *option.split()]) == 2
    wanted = f"{option}: images are brought to the size and channels of nowhere; leave it out"
    assert wanted in capsys.readouterr().err
