"""The command line: which command, its help, and how errors end.

No torch here: help and completion must be quick.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from inspect import cleandoc
from typing import Annotated, Any, Union

import tyro

from zerosum.commands.attack import Attack
from zerosum.commands.augment import Augment
from zerosum.commands.base import Command
from zerosum.commands.bench import Bench
from zerosum.commands.classify import Classify
from zerosum.commands.compare import Compare
from zerosum.commands.completion import Completion
from zerosum.commands.data import DataCommand
from zerosum.commands.design import Design
from zerosum.commands.doctor import Doctor
from zerosum.commands.equilibrium import EquilibriumCommand
from zerosum.commands.evaluate import Evaluate
from zerosum.commands.explore import Explore
from zerosum.commands.export import Export
from zerosum.commands.importing import Import
from zerosum.commands.invert import Invert
from zerosum.commands.listing import List
from zerosum.commands.recommend import Recommend
from zerosum.commands.report import Report
from zerosum.commands.sample import Sample
from zerosum.commands.train import Train
from zerosum.commands.translate import Translate
from zerosum.commands.verify import Verify
from zerosum.errors import UserError
from zerosum.parsing import colour_wanted, nearest, new_registry, options_of, parse, split_off

COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "sample": Sample,
    "invert": Invert,
    "explore": Explore,
    "translate": Translate,
    "classify": Classify,
    "augment": Augment,
    "recommend": Recommend,
    "design": Design,
    "attack": Attack,
    "import": Import,
    "export": Export,
    "list": List,
    "equilibrium": EquilibriumCommand,
    "report": Report,
    "evaluate": Evaluate,
    "compare": Compare,
    "data": DataCommand,
    "verify": Verify,
    "doctor": Doctor,
    "bench": Bench,
    "completion": Completion,
}
EXAMPLES = (
    "zerosum train digits",
    "zerosum train ./photos --minutes 30",
    "zerosum sample runs/digits-r3gan-001 -n 64 --out grid.png",
)
USER_ERROR, INTERRUPTED, BROKEN_PIPE, TERMINATED = 2, 130, 141, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM, where no session listens: it ends a command as Ctrl-C does, so that the command can say where it is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv`, if not given) and return its exit status.

    0 done; 1 a check that failed, or a defect; 2 the user's mistake, or the machine's; 130 and 143 stopped by a signal.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _listening():
            status = _dispatch(words)
        sys.stdout.flush()
        return status
    except UserError as error:
        return _fail(str(error))
    except SystemExit as end:  # help was asked for, or a value did not fit: said by now
        return end.code if isinstance(end.code, int) else USER_ERROR
    except KeyboardInterrupt as stop:
        for note in getattr(stop, "__notes__", ()):
            print(note, file=sys.stderr)
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _fail(f"{error.filename or 'the output'} could not be written: the disk is full; free some space")


@contextmanager
def _listening() -> Iterator[None]:
    """Within it SIGTERM raises `Terminated`.

    Not in the further processes of torchrun: they wait for the first where no handler runs, and must end at once.
    """
    if threading.current_thread() is not threading.main_thread() or os.environ.get("RANK", "0") != "0":
        yield
        return

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str) -> int:
    mark = "\x1b[31merror:\x1b[0m" if colour_wanted(sys.stderr) else "error:"
    rank = os.environ.get("RANK", "0")  # set by torchrun
    print(f"{'' if rank == '0' else f'[rank {rank}] '}{mark} {message}", file=sys.stderr)
    return USER_ERROR


def _dispatch(words: list[str]) -> int:
    if not words:
        print(overview(), file=sys.stderr)
        return USER_ERROR
    name, *rest = words
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        from zerosum import __version__

        print(f"zerosum {__version__}")
        return 0
    if name not in COMMANDS:
        hint = nearest(name, tuple(COMMANDS)) or "; zerosum --help lists them"
        raise UserError(f"{name}: there is no such command{hint}")
    kind = COMMANDS[name]
    passed_on: list[str] = []
    if kind is Bench and rest and not rest[0].startswith("-"):
        rest, passed_on = rest[:1], rest[1:]
    elif kind is Train:
        rest, passed_on = split_off(rest, options_of(Train))
    command = parse(kind, rest, prog=f"zerosum {name}", description=description(kind))
    if passed_on:
        command = dataclasses.replace(command, rest=tuple(passed_on))  # type: ignore[type-var]
    return command.run()


def overview() -> str:
    """The top-level help."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {cleandoc(kind.__doc__ or '').splitlines()[0]}" for name, kind in COMMANDS.items()]
    return "\n".join(
        [
            "usage: zerosum COMMAND ...",
            "",
            "Train, watch, measure and ship generative adversarial networks.",
            "",
            "commands:",
            *lines,
            "",
            "examples:",
            *(f"  {example}" for example in EXAMPLES),
            "",
            "zerosum COMMAND --help says more; zerosum --version gives the version.",
        ]
    )


def description(kind: type[Command]) -> str:
    """What a command's help says above its options."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in cleandoc(kind.__doc__ or "").split("\n\n")]
    return "\n\n".join([*paragraphs, "\n".join(["examples:", *(f"  {example}" for example in kind.examples)])])


def completion(shell: str) -> str:
    """A script that completes every command and option in bash, zsh or fish."""
    tree: Any = Union[  # noqa: UP007 - built from a table
        tuple(
            Annotated[kind, tyro.conf.subcommand(name, description=cleandoc(kind.__doc__ or "").splitlines()[0])]
            for name, kind in COMMANDS.items()
        )
    ]
    script = io.StringIO()
    try:
        with redirect_stdout(script):
            tyro.cli(
                tree, prog="zerosum", args=["--tyro-print-completion", shell], registry=new_registry(),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.SuppressFixed),
            )  # fmt: skip
    except SystemExit:
        pass  # tyro ends the process once it has printed
    # Where it knows nothing better, as for the data of `zerosum train`, the shell offers files.
    return (
        script.getvalue()
        .replace("complete -F ", "complete -o default -F ")
        .replace("_describe 'zerosum completions' completion_array", "_describe 'zerosum' completion_array || _files")
    )


if __name__ == "__main__":
    sys.exit(main())
