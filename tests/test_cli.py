"""The command line: its tree, its help, its errors, and what each command leaves."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zerosum import api, atomic, checkpoint, cli, doctor, parsing, session, verify
from zerosum.commands.base import DataOptions, OneSidedOptions
from zerosum.data.spec import Data
from zerosum.errors import UserError
from zerosum.runlog import read_events, read_status

TREE = Path(__file__).with_name("command_tree.txt")
SMALL = ["--algorithm.networks.width", "8", "--algorithm.networks.latent", "4", "--threads", "1"]
SHORT = [
    "--batch-size",
    "32",
    "--images",
    "256",
    "--log-every",
    "64",
    "--grid-every",
    "128",
    "--checkpoint-every",
    "128",
]


class Result:
    """What a command line printed, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def zerosum(capfd: pytest.CaptureFixture[str], quick: None) -> Callable[..., Result]:
    """Runs a command line in this process."""

    def call(*words: Any) -> Result:
        capfd.readouterr()
        status = cli.main([str(word) for word in words])
        return Result(status, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Picking a recipe tries it out for two seconds; here it does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("zerosum.recipes.pick"), "estimate", lambda *_: 1000.0)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Path:
    """A little run on digits, finished. Tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "little"
    assert cli.main(["train", "digits", "--out", str(out), *SHORT, *SMALL]) == 0
    return out


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A copy of the little run, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "own"))


def python(code: str, *, patience: float = 60) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=patience, check=False, stdin=subprocess.DEVNULL
    )


# --- the tree ----------------------------------------------------------------------------------------------


def command_tree() -> str:
    """Every command with its words and options, one a line, as its help gives them."""
    lines = []
    for name, kind in cli.COMMANDS.items():
        text = io.StringIO()
        with redirect_stdout(text), pytest.raises(SystemExit):
            parsing.parse(kind, ["--help"], prog=name, description="")
        entries = [m[1] for m in re.finditer(r"^[│ ] (\S.*?)(?:  .*)?$", text.getvalue(), re.MULTILINE)]
        entries = [entry.removesuffix("│").strip() for entry in entries]
        words = [entry for entry in entries if re.fullmatch(r"[\[{]?[A-Za-z,|]+[\]}]?", entry)]
        options = [entry for entry in entries if re.match(r"--?[a-z]", entry) and "--help" not in entry]
        lines += [" ".join([name, *words]), *(f"  {option}" for option in options)]
    return "\n".join(lines) + "\n"


def test_the_command_tree_is_frozen() -> None:
    """A change of it is a change for users: ZEROSUM_WRITE_TREE=1 writes it anew, for the reviewer to see."""
    if os.environ.get("ZEROSUM_WRITE_TREE"):
        TREE.write_text(command_tree(), encoding="utf-8")
    assert command_tree() == TREE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["attack", "augment", "classify", "recommend"])
def test_those_that_know_one_side_have_no_options_for_two(name: str, zerosum: Callable[..., Result]) -> None:
    assert "--limit" in zerosum(name, "--help").out
    assert "--pairing" not in zerosum(name, "--help").out
    result = zerosum(name, "digits", "--jitter", "3")
    assert result.status == 2
    assert "--jitter" in result.err


def test_options_of_one_side_read_as_those_of_training_do() -> None:
    assert OneSidedOptions().plain() == Data(source="digits") == DataOptions().plain()


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_help_has_words_and_examples(name: str, zerosum: Callable[..., Result]) -> None:
    result = zerosum(name, "--help")
    assert result.status == 0
    assert not result.err
    assert f"usage: zerosum {name}" in result.out
    assert "examples:" in result.out
    assert "\x1b" not in result.out
    assert max(map(len, result.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "example"), [(name, example) for name, kind in cli.COMMANDS.items() for example in kind.examples]
)
def test_every_example_is_understood(name: str, example: str) -> None:
    words = shlex.split(example.replace("torchrun --nproc-per-node 2 -m ", "").split(">")[0])
    assert words[:2] == ["zerosum", name]
    kind = cli.COMMANDS[name]
    rest = words[2:]
    if name == "train":
        rest, _ = parsing.split_off(rest, parsing.options_of(kind))
    elif name == "bench":
        rest = rest[:1]
    if "--help" not in rest:
        assert isinstance(parsing.parse(kind, rest, prog=name, description=""), kind)


@pytest.mark.parametrize(
    "words",
    [("augment", "digits"), ("attack", "digits"), ("recommend", "digits", "--interactions", "x.csv")],
)
def test_a_file_where_a_folder_is_to_be_written(
    words: tuple[str, ...], zerosum: Callable[..., Result], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.write_text("")
    result = zerosum(*words, "--out", str(there))
    assert result.status == 2
    assert "is a file; give a folder" in result.err


def test_overview(zerosum: Callable[..., Result]) -> None:
    result = zerosum("--help")
    assert result.status == 0
    assert all(f"  {name} " in result.out for name in cli.COMMANDS)
    nothing = zerosum()
    assert (nothing.status, nothing.out) == (2, "")
    assert nothing.err == result.out
    assert re.fullmatch(r"zerosum \d+\.\d+\.\d+\n", zerosum("--version").out)


def test_help_and_completion_need_no_torch() -> None:
    code = f"""
import sys
from zerosum import cli
cli.main(["--help"])
for name in {list(cli.COMMANDS)!r}:
    cli.main([name, "--help"])
for words in (["completion", "bash"], ["list"], ["nonsense"]):
    cli.main(words)
heavy = sorted(set(sys.modules) & {{"torch", "torchvision", "sklearn", "matplotlib", "av", "scipy"}})
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [["-m", "zerosum", "--help"], ["-m", "zerosum", "train", "--help"], ["-c", "import zerosum"]]
)
def test_help_and_import_are_quick(words: list[str]) -> None:
    """A second of processor time, what it takes on a machine that does nothing else; half more for slow machines."""
    resource = pytest.importorskip("resource")
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 1.5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, zerosum: Callable[..., Result]) -> None:
    result = zerosum("completion", shell)
    assert result.status == 0
    assert all(name in result.out for name in ("checkpoint-every", "truncation", "doctor"))
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=result.out, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
def test_completion_completes(zerosum: Callable[..., Result]) -> None:
    script = zerosum("completion", "bash").out
    for line, expected in (("zerosum trai", "train"), ("zerosum sample --trunc", "--truncation")):
        words = line.split()
        ask = f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _tyro_zerosum; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], text=True, capture_output=True, check=False)
        assert done.stdout.split() == [expected], done.stderr


def test_completion_falls_back_to_files(zerosum: Callable[..., Result]) -> None:
    assert "complete -o default -F _tyro_zerosum" in zerosum("completion", "bash").out
    assert "|| _files" in zerosum("completion", "zsh").out


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("trian digits", "did you mean train"),
        ("train /nonexistent/photos", "/nonexistent/photos"),
        ("train digits --minutes banana", "'banana'"),
        ("train digits --images -5", "--images -5: must be 1 or more"),
        ("train digits --minutes 0", "--minutes 0.0: must be above 0"),
        ("train digits --seed x", "--seed"),
        ("train digits --size 8", "--size"),
        ("train digits --fit squash", "squash"),
        ("train digits --device abacus", "--device abacus"),
        ("train digits --algorithm dcgn", "did you mean dcgan"),
        ("train digits --adam-g.rl 1", "did you mean --adam-g.lr"),
        ("train digits --width 8", "did you mean --algorithm.networks.width"),
        ("train digits --devise cpu", "did you mean --device"),
        ("train digits --data.size 8 8", "did you mean --size"),
        ("train digits --algorithm.gamma cosine:1", "cosine:START:END:IMAGES"),
        ("train digits --batch-size many", "many"),
        ("train digits --batch-size 0", "--batch-size 0"),
        ("train digits more", "more"),
        ("train --adam-g.lr 1e-4 digits", "digits"),
        ("train -- digits", "--"),
        ("train --resume /nonexistent", "not a run folder"),
        ("sample /nonexistent", "not a run folder"),
        ("sample RUN -n 0", "-n 0"),
        ("sample RUN -n x", "'x'"),
        ("sample RUN --seed -1", "--seed -1"),
        ("sample RUN --classes 3", "--classes"),
        ("sample RUN --checkpoint 5", "--checkpoint 5"),
        ("sample RUN --truncation 0", "--truncation 0.0"),
        ("sample RUN --out grid.jpg", "grid.jpg"),
        ("sample RUN --out walk.mp4", "--interpolate"),
        ("sample RUN --steps 9", "--interpolate"),
        ("sample RUN --interpolate --steps 1", "--steps 1"),
        ("sample RUN --interpolate --truncation 1", "--truncation"),
        ("sample RUN --interpolate -n 3", "-n 3: a walk has --steps"),
        ("sample RUN --interpolate --film walk.avi", "walk.avi"),
        ("sample RUN --out .", "holds other files"),
        ("sample RUN --out FILE/grid.png", "FILE/grid.png"),
        ("sample RUN --otu grid.png", "--out"),
        ("list /nonexistent", "/nonexistent"),
        ("report /nonexistent", "not a run folder"),
        ("data", "check"),
        ("data check /nonexistent", "/nonexistent"),
        ("verify resume /nonexistent", "not a run folder"),
        ("verify resume RUN --images 5", "--images 5"),
        ("completion tcsh", "tcsh"),
    ],
)
def test_mistakes_are_named_and_end_with_2(
    line: str,
    says: str,
    run: Path,
    zerosum: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a file")
    if os.name == "posix" and "FILE" in line:
        line, says = line.replace("FILE", "a.txt"), says.replace("FILE", "a.txt")
    result = zerosum(*(str(run) if word == "RUN" else word for word in line.split()))
    assert result.status == 2
    assert says in " ".join(result.err.replace("│", " ").split())
    assert result.out == ""
    assert sorted(p.name for p in tmp_path.rglob("*") if p.name != "runs") == ["a.txt"], "it left something"


@pytest.mark.skipif(sys.platform != "linux", reason="where a machine surely has no GPU is known here only")
def test_a_device_that_is_not_there(zerosum: Callable[..., Result]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    result = zerosum("train", "digits", "--device", "cuda")
    assert result.status == 2
    assert "--device cpu" in result.err


def test_out_must_be_free_and_writable(own: Path, tmp_path: Path, zerosum: Callable[..., Result]) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in own.rglob("*") if p.name != "lock")
    taken = zerosum("train", "digits", "--out", own, *SHORT, *SMALL)
    assert taken.status == 2
    assert "--resume" in taken.err
    assert sorted((p, p.stat().st_mtime_ns) for p in own.rglob("*") if p.name != "lock") == before
    (tmp_path / "file").write_text("")
    below = zerosum("train", "digits", "--out", tmp_path / "file" / "run", *SHORT, *SMALL)
    assert below.status == 2
    assert "no folder that can be written to" in below.err


def test_full_disk(run: Path, tmp_path: Path, zerosum: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(operation: str, path: Path) -> None:
        if operation == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "hook", full)
    for words in (
        ["sample", run, "--out", tmp_path / "a.png"],
        ["train", "digits", "--out", tmp_path / "r", *SHORT, *SMALL],
    ):
        result = zerosum(*words)
        assert result.status == 2
        assert "the disk is full" in result.err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_standard_output(run: Path) -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "zerosum", "list", str(run.parent)]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes break in another way there")
def test_a_reader_who_has_had_enough(run: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "zerosum", "list", str(run.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, "")
    process.stderr.close()


def test_a_defect_keeps_its_traceback(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("zerosum.sample.load", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["sample", str(run)])


def test_colour_only_where_people_look(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def __init__(self, terminal: bool) -> None:
            self.terminal = terminal

        def isatty(self) -> bool:
            return self.terminal

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert parsing.colour_wanted(Stream(True))
    assert not parsing.colour_wanted(Stream(True), Stream(False))
    assert not parsing.colour_wanted(None)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not parsing.colour_wanted(Stream(True))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not parsing.colour_wanted(Stream(True))


# --- train -------------------------------------------------------------------------------------------------


def test_train_takes_fields_of_the_recipe(run: Path) -> None:
    recipe = json.loads((run / "recipe.json").read_text())["run"]
    assert recipe["algorithm"]["networks"]["width"] == 8
    assert (recipe["batch_size"], recipe["images"], recipe["checkpoint_every"], recipe["threads"]) == (
        32,
        256,
        128,
        1,
    )
    assert read_status(run)["state"] == "finished"
    for name in ("report.html", "film.mp4", "film.gif", "real.png"):
        assert (run / name).stat().st_size > 0


def test_train_says_what_it_picked_and_numbers_its_folders(
    zerosum: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = zerosum("train", "--images", "32", "--batch_size=32", "--precision", "fp32", *SMALL, "--seed", "3")
    assert (first.status, first.out) == (0, "")
    assert "digits recipe" in first.err
    assert "images a second" in first.err
    (tmp_path / "runs" / "digits-r3gan-007").mkdir()
    assert zerosum("train", "digits", "--batch-size", "32", *SMALL, "--images", "32").status == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [f"digits-r3gan-00{i}" for i in (1, 7, 8)]
    recipe = json.loads((tmp_path / "runs/digits-r3gan-001/recipe.json").read_text())["run"]
    assert (recipe["seed"], recipe["precision"], recipe["data"]["source"]) == (3, "fp32", "digits")


def test_recipe_help_lists_the_picked_recipe(
    zerosum: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = zerosum("train", "digits", "--algorithm", "wgan-gp", "--recipe-help")
    assert result.status == 0
    assert "--adam-d.lr SCHEDULE" in result.out
    assert "--algorithm.networks.latent INT" in result.out
    assert "--data." not in result.out
    assert list(tmp_path.iterdir()) == []


def test_reserve_gives_everybody_another_folder(run: Path, tmp_path: Path) -> None:
    from zerosum.sample import load

    recipe = load(run).run
    got: list[Path] = []
    threads = [Thread(target=lambda: got.append(api.reserve(recipe, tmp_path / "runs"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in got) == [f"digits-r3gan-{i:03d}" for i in range(1, 9)]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        api.reserve(recipe, tmp_path / "file")


def test_resume_goes_on_and_refuses_another_recipe(own: Path, zerosum: Callable[..., Result]) -> None:
    again = zerosum("train", "--resume", own)
    assert again.status == 0
    assert "finished" in again.err
    for words in (["--seed", "1"], ["--adam-g.lr", "1"], ["--fit", "pad"], ["--out", "x"], ["ring"]):
        result = zerosum("train", *words, "--resume", own)
        assert result.status == 2
        assert result.err.startswith(f"error: {words[0]}: ")
    longer = zerosum("train", "--resume", own, "--images", "320")
    assert longer.status == 0
    assert read_status(own)["images_seen"] == 320
    assert checkpoint.numbers(own)[-1] == 320


def test_resume_writes_the_report_that_a_kill_left_out(own: Path, zerosum: Callable[..., Result]) -> None:
    before = json.loads((own / "report.json").read_text())
    for name in ("report.html", "report.json"):
        (own / name).unlink()
    result = zerosum("train", "--resume", own)
    assert result.status == 0
    assert "report.html" in result.out
    after = json.loads((own / "report.json").read_text())
    assert after.keys() == before.keys()
    assert zerosum("train", "--resume", own).out == "", "it is there now"


def test_resume_restores_the_end_of_a_finished_run(own: Path, zerosum: Callable[..., Result]) -> None:
    last = checkpoint.path_of(own, checkpoint.numbers(own)[-1]) / checkpoint.TENSORS
    whole = last.read_bytes()
    last.write_bytes(whole[:-1])
    result = zerosum("train", "--resume", own)
    assert result.status == 0
    assert "truncated or altered; going back to the checkpoint before it" in result.out + result.err
    assert last.read_bytes() == whole


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_saves_and_says_how_to_go_on(
    number: signal.Signals,
    status: int,
    tmp_path: Path,
    zerosum: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Path] = []

    def once(operation: str, path: Path) -> None:
        if path.name == "000000000128" and not sent:
            sent.append(path)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(atomic, "hook", once)
    out = tmp_path / "run"
    stopped = zerosum("train", "digits", "--out", out, *SHORT, *SMALL)
    assert stopped.status == status
    assert f"zerosum train --resume {out}" in stopped.err
    assert read_status(out)["state"] == "stopped"
    assert 128 <= read_status(out)["images_seen"] < 256
    assert zerosum("train", "--resume", out).status == 0
    assert read_status(out)["images_seen"] == 256


READING = """
import signal, sys, time
from zerosum import api, cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits none

def read(*args, **named):
    print("reading", flush=True)
    time.sleep(60)

api.pick = api.open_data = read
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_before_training_it_says_so(
    number: signal.Signals, status: int, resumed: bool, own: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    words = ["--resume", str(own), "--images", "640"] if resumed else ["digits"]
    process = subprocess.Popen(
        [sys.executable, "-c", READING, "train", *words],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    ends = "went on: nothing was changed" if resumed else "began: nothing was written"
    *before_it, last = said.splitlines()
    assert last == f"stopped before training {ends}"
    assert len(before_it) == (not resumed), "what takes its time before anything is written"
    assert not (tmp_path / "runs").exists()
    assert before == {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}


def test_errors_of_other_processes_say_whose_they_are(
    zerosum: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert zerosum("nonsense").err.startswith("[rank 1] error: nonsense")


@pytest.mark.slow
def test_two_processes_agree_on_the_folder(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "zerosum"]
    words = ["train", "digits", "--images", "64", "--batch-size", "32", *SMALL]
    done = subprocess.run([*torchrun, *words], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["digits-r3gan-001"]
    assert json.loads((tmp_path / "runs/digits-r3gan-001/environment.json").read_text())["processes"] == 2


# --- sample ------------------------------------------------------------------------------------------------


def test_sample_gives_the_same_bytes(run: Path, tmp_path: Path, zerosum: Callable[..., Result]) -> None:
    for name in ("a", "b"):
        for end in (".png", ".npz"):
            assert zerosum("sample", run, "-n", 10, "--seed", 7, "--out", tmp_path / f"{name}{end}").status == 0
    for end in (".png", ".npz"):
        assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()
    zerosum("sample", run, "-n", 10, "--seed", 8, "--out", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() != (tmp_path / "a.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["zerosum"] == "generated"
        assert (image.info["seed"], image.info["run"], image.info["images_seen"]) == ("7", "little", "256")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["images"].shape == (10, 1, 8, 8)
        assert json.loads(str(arrays["protocol"]))["seed"] == 7


def test_sample_says_in_which_precision(run: Path, tmp_path: Path, zerosum: Callable[..., Result]) -> None:
    for precision in ("fp32", "bf16"):
        out = tmp_path / f"{precision}.png"
        assert zerosum("sample", run, "-n", 4, "--precision", precision, "--out", out).status == 0
        with Image.open(out) as image:
            assert image.info["precision"] == precision
    assert "invalid choice" in zerosum("sample", run, "--precision", "fp64").err


def test_sample_number_i_does_not_depend_on_how_many(run: Path, tmp_path: Path, zerosum: Callable[..., Result]) -> None:
    many = zerosum("sample", run, "-n", 100, "--seed", 7, "--out", tmp_path / "many")
    assert many.out == f"{tmp_path / 'many'}\n"
    zerosum("sample", run, "-n", 10, "--seed", 7, "--out", tmp_path / "few")
    few = sorted(p.name for p in (tmp_path / "few").iterdir())
    assert few == [*(f"{i:06d}.png" for i in range(10)), "samples.json"]
    for name in few[:-1]:
        assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    record = json.loads((tmp_path / "few/samples.json").read_text())
    assert (record["seed"], record["count"], record["images_seen"], record["chunk"]) == (7, 10, 256, 64)
    # again into the folder of more: what is not asked for any more goes
    zerosum("sample", run, "-n", 10, "--seed", 7, "--out", tmp_path / "many")
    for path in (tmp_path / "few").iterdir():
        assert path.read_bytes() == (tmp_path / "many" / path.name).read_bytes()
    assert len(list((tmp_path / "many").iterdir())) == 11


def test_sample_without_out_goes_into_the_run(own: Path, zerosum: Callable[..., Result]) -> None:
    assert zerosum("sample", own, "--checkpoint", "best", "--truncation", "1").status == 0
    assert (own / "generated-seed0.png").exists()


def test_sample_walks(run: Path, tmp_path: Path, zerosum: Callable[..., Result]) -> None:
    strip, film = tmp_path / "strip.png", tmp_path / "new" / "walk.mp4"
    done = zerosum("sample", run, "--interpolate", "--stops", 3, "--steps", 5, "--out", strip, "--film", film)
    assert (done.status, done.out.split()) == (0, [str(strip), str(film)])
    assert film.stat().st_size > 0
    assert zerosum("sample", run, "--interpolate", "--steps", 4, "--out", tmp_path / "walk.gif").status == 0
    with Image.open(tmp_path / "walk.gif") as gif:
        assert getattr(gif, "n_frames", 1) > 1
    zerosum("sample", run, "--interpolate", "--stops", 3, "--steps", 5, "--out", tmp_path / "walk.npz")
    with np.load(tmp_path / "walk.npz", allow_pickle=False) as arrays:
        walk = arrays["images"]
    zerosum("sample", run, "-n", 3, "--out", tmp_path / "stops.npz")
    with np.load(tmp_path / "stops.npz", allow_pickle=False) as arrays:
        assert np.array_equal(walk[[0, 4, 8]], arrays["images"])


def test_sample_classes_and_points(tmp_path: Path, zerosum: Callable[..., Result]) -> None:
    digits, ring = tmp_path / "digits", tmp_path / "ring"
    short = ["--images", "32", "--batch-size", "32", *SMALL]
    assert zerosum("train", "digits", "--out", digits, "--conditional", "True", *short).status == 0
    assert zerosum("sample", digits, "-n", 5, "--classes", "3", "7", "--out", tmp_path / "d").status == 0
    assert json.loads((tmp_path / "d/samples.json").read_text())["labels"] == [3, 7, 3, 7, 3]
    assert "no such class" in zerosum("sample", digits, "--classes", "cat").err
    assert zerosum("train", "ring", "--out", ring, "--limit", "500", *short).status == 0
    assert zerosum("sample", ring, "--out", tmp_path / "ring.png").status == 0
    refused = zerosum("sample", ring, "--out", tmp_path / "folder")
    assert refused.status == 2
    assert "points" in refused.err


# --- the other commands ------------------------------------------------------------------------------------


def test_list(own: Path, zerosum: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own.parent
    (folder / "broken").mkdir()
    (folder / "broken" / "recipe.json").write_text("{")
    (folder / "half").mkdir()
    shutil.copy(own / "recipe.json", folder / "half")  # killed before its first status
    (folder / "photos").mkdir()
    (folder / "notes.txt").write_text("")
    rows = {Path(row["run"]).name: row for row in json.loads(zerosum("list", folder, "--json").out)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "broken": "unreadable",
        "half": "stopped",
        "own": "finished",
    }
    assert (rows["own"]["data"], rows["own"]["algorithm"], rows["own"]["images_seen"]) == (
        "digits",
        "R3GAN",
        256,
    )
    assert rows["own"]["score"] == min(e["distance"] for e in read_events(own) if e["event"] == "probe")
    table = zerosum("list", folder)
    assert table.status == 0
    assert all(name in table.out for name in rows)
    assert "\x1b" not in table.out
    assert table.out.startswith("run ")
    assert [row["run"] for row in json.loads(zerosum("list", own, "--json").out)] == [str(own)]
    monkeypatch.chdir(folder / "photos")
    nothing = zerosum("list")
    assert (nothing.status, nothing.out) == (0, "")
    assert json.loads(zerosum("list", "--json").out) == []


def test_report_is_made_again(own: Path, zerosum: Callable[..., Result]) -> None:
    for name in ("report.html", "film.mp4", "film.gif"):
        (own / name).unlink()
    result = zerosum("report", own)
    assert result.out.split() == [str(own / "report.html"), str(own / "film.mp4")]
    assert all((own / name).exists() for name in ("report.html", "film.mp4", "film.gif"))


def test_doctor(zerosum: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROSUM_CACHE", str(tmp_path))
    assert zerosum("data", "check", "digits", "--size", "9", "9", "--memory-megabytes", "0").status == 1
    checked = zerosum("data", "check", "digits", "--size", "8", "12", "--memory-megabytes", "0")
    assert f"the packed cache in {tmp_path / 'packed'}" in checked.out
    monkeypatch.setattr(doctor, "calibrate", lambda: {"matrix_gflops": 50.0, "convolution_gflops": 40.0})
    result = zerosum("doctor", "--json")
    assert result.status == 0
    content = json.loads(result.out)
    assert content["usable"] is True
    findings = {finding["name"]: finding for finding in content["findings"]}
    for name in (
        "python",
        "packages",
        "memory",
        "processor",
        "cores",
        "bf16",
        "speed",
        "film encoder",
        "fashion-mnist",
        "packed data",
    ):
        assert findings[name]["value"]
    assert findings["packed data"]["value"].startswith(f"2 sets, 0.0 GB in {tmp_path / 'packed'}; ")
    assert all(f["remedy"] for f in content["findings"] if f["state"] == "bad")
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["torch>=2", "a-package-that-nobody-has>=1", 'pytest; extra == "dev"']
    )
    lines = zerosum("doctor")
    assert lines.status == 1
    assert "-> pip install a-package-that-nobody-has" in lines.out


def test_bench_is_handed_its_words(zerosum: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    asked: list[list[str]] = []
    module = types.ModuleType("zerosum.bench")
    module.main = lambda words: asked.append(words)  # type: ignore[attr-defined]
    module.BENCHMARKS = {"digits": "the default recipe"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zerosum.bench", module)
    monkeypatch.setattr("zerosum.bench", module, raising=False)
    assert zerosum("bench", "digits", "--data", "x", "--help").status == 0
    assert asked == [["digits", "--data", "x", "--help"]]
    assert zerosum("bench").out == "digits  the default recipe\n"


def test_data_check(zerosum: Callable[..., Result], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (30, 3, 9, 12), dtype=np.uint8)
    for i, image in enumerate(values):
        folder = tmp_path / "photos" / ("cat" if i % 3 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:02d}.png")
    (tmp_path / "photos" / "cat" / "broken.png").write_bytes(b"no picture")
    result = zerosum("data", "check", tmp_path / "photos")
    assert result.status == 0
    for says in ("30 images", "9 x 12", "cat (20), dog (10)", "broken.png", "images a second here"):
        assert says in result.out
    content = json.loads(zerosum("data", "check", tmp_path / "photos", "--json", "--size", "8", "8").out)
    assert (content["count"], content["shape"], content["run"]["shape"]) == (30, [3, 8, 8], [3, 8, 8])
    assert json.loads(zerosum("data", "check", "ring", "--limit", "100", "--json").out)["kind"] == "points"


def test_data_check_reports_on_data_that_no_run_takes(zerosum: Callable[..., Result], tmp_path: Path) -> None:
    """The report comes first; what does not fit is a line of it, and the status."""
    values = np.random.default_rng(0).integers(0, 256, (40, 17, 23), dtype=np.uint8)
    values[10:] = values[10]
    np.save(tmp_path / "odd.npy", values)
    result = zerosum("data", "check", tmp_path / "odd.npy", "--size", "17", "23")
    assert result.status == 1
    for says in ("40 images", "17 x 23", "29 exact", "image 17 and 22 more\n", "cannot be: --size 17 23: the network"):
        assert says in result.out
    assert max(map(len, result.out.splitlines()[:-1])) < 120
    result = zerosum("data", "check", tmp_path / "odd.npy", "--size", "17", "23", "--json")
    assert "20x24 and 16x20" in json.loads(result.out)["run"]["misfit"]
    assert zerosum("data", "check", tmp_path / "none.npy").status == 2


# --- verify ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="exact resume is proven where processes can be killed outright")
def test_verify_resume(run: Path, zerosum: Callable[..., Result]) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    result = zerosum("verify", "resume", run)
    assert result.status == 0, result.err
    assert "resumed exactly" in result.out
    assert "384 images, killed at 384" not in result.out
    assert re.search(r"768 images, killed at 384, resumed from 256", result.out)
    assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before, "it changed the run"


def test_verify_sees_what_differs(
    run: Path, own: Path, zerosum: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(row.count and not row.different for row in verify.compare(run, own))
    saved = checkpoint.load(checkpoint.path_of(own, 256))
    name = sorted(saved.tensors)[3]
    changed = dict(saved.tensors)
    changed[name] = changed[name].clone()
    changed[name].view(-1)[0] += 1e-6
    shutil.rmtree(saved.path)
    checkpoint.save(own, 256, changed, saved.state | {"lr_scale": 0.5})
    events = (own / "events.jsonl").read_text().splitlines()
    (own / "events.jsonl").write_text("\n".join(events[:-1]) + "\n")
    next((own / "samples").glob("*128.png")).unlink()
    rows = {row.what: row for row in verify.compare(run, own)}
    assert rows["tensors (sha256)"].different == (name,)
    assert rows["state"].different == ("lr_scale",)
    assert rows["logged values"].different
    assert rows["sample grids"].different == ("000000000128.png",)
    assert not rows["images seen"].different

    verdict = verify.Verdict(256, 128, 64, tuple(rows.values()))
    monkeypatch.setattr(verify, "resume", lambda *_: verdict)
    result = zerosum("verify", "resume", run)
    assert result.status == 1
    assert "NOT resumed exactly" in result.out
    assert name in result.out


def test_status_is_said_by_the_session(run: Path) -> None:
    """The exit status of a stopped run rests on this word."""
    assert session._asked([signal.SIGTERM]).endswith("SIGTERM")
    assert session._asked([]) == "asked to stop"


def test_from_takes_the_game_and_the_size_of_the_other_run(
    run: Path, tmp_path: Path, zerosum: Callable[..., Result]
) -> None:
    done = zerosum("train", "digits", "--from", run, "--out", tmp_path / "again", "--images", 64, "--batch-size", 32)
    assert done.status == 0, done.err
    mine, others = (json.loads((folder / "recipe.json").read_text()) for folder in (tmp_path / "again", run))
    assert mine["run"]["algorithm"] == others["run"]["algorithm"]
    assert mine["from"]["run"] == run.name
    refused = zerosum("train", "digits", "--from", run, "--resume", run)
    assert refused.status == 2
    assert "--from: a run goes on with the recipe that it began with" in refused.err
    missing = zerosum("train", "digits", "--from", tmp_path / "nothing")
    assert missing.status == 2
    assert "not a run folder" in missing.err
