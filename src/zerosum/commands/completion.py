"""`zerosum completion`: scripts that complete commands and options in a shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import tyro

from zerosum.commands.base import Command


@dataclass(frozen=True, kw_only=True)
class Completion(Command):
    """Print a completion script for your shell.

    It completes commands, options and their choices without starting Python's heavy parts.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum completion bash >> ~/.bash_completion",
        'zerosum completion zsh > "${fpath[1]}/_zerosum"',
        "zerosum completion fish > ~/.config/fish/completions/zerosum.fish",
    )

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """Which shell."""

    def run(self) -> int:
        from zerosum.cli import completion

        print(completion(self.shell))
        return 0
