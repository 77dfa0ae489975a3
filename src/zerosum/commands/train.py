"""`zerosum train`: from a few words to a run."""

from __future__ import annotations

import dataclasses
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from zerosum.commands.base import Command, DataOptions
from zerosum.errors import UserError
from zerosum.parsing import options_of
from zerosum.runlog import REPORT, read_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerosum.recipes import Choice
    from zerosum.run import Run

WITH_RESUME = {"resume", "images", "minutes", "device"}
NAMED = {"weights_of": "from"}  # what Python does not let a field be called
STOPPED_BY = {"SIGINT": 130, "SIGTERM": 143}  # exit statuses, as shells give them


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a GAN on a named set, a folder or a file of images, or a translator between two sides.

    The data alone is enough: a recipe is picked from the images' size, channels and count, and what was
    picked is said. Every field of that recipe is an option too, such as --algorithm.gamma or --adam-g.lr:
    --recipe-help lists them with their values. Ctrl-C saves and stops; --resume goes on from there, bit for
    bit.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum train digits",
        "zerosum train ./photos --size 64 64 --minutes 30",
        "zerosum train fashion-mnist --algorithm r3gan --minutes 10 --out runs/clothes",
        "zerosum train digits --adam-g.lr cosine:3e-4:0:200000 --batch-size 32",
        "zerosum train ./facades --pairing joined --direction B2A --minutes 20",
        "zerosum train ./horses --target ./zebras --minutes 30",
        "zerosum train ./photos --made scribble",
        "zerosum train ./photos --recipe-help",
        "zerosum train --resume runs/clothes --minutes 20",
        "zerosum train ./paintings --from runs/photos-fastgan-001 --minutes 10",
        "torchrun --nproc-per-node 2 -m zerosum train digits",
    )
    passes_on: ClassVar[bool] = True

    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    algorithm: str | None = None
    """An algorithm's name, such as r3gan or dcgan; picked from the data if not given."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The run's folder; runs/DATA-ALGORITHM-NUMBER if not given."""
    images: int | None = None
    """Stop after this many real images (with --resume: the new total)."""
    minutes: float | None = None
    """Stop after this many minutes of training; with --images, whichever comes first."""
    seed: int | None = None
    """All randomness is keyed by it; 0 if not given."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    checkpoint_every: Annotated[int | None, tyro.conf.arg(metavar="IMAGES")] = None
    """Images between two checkpoints."""
    memory: Annotated[float | None, tyro.conf.arg(metavar="GB")] = None
    """Take no more memory than this; what is free if not given. Batches are split where that helps."""
    weights_of: Annotated[Path | None, tyro.conf.arg(name="from", metavar="RUN")] = None
    """Begin with the last weights of this run; algorithm, optimisers, size and channels are its own, if not given."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Go on with the run in this folder; --images or --minutes make it longer."""
    recipe_help: bool = False
    """List every field of the recipe that would be used, with its value, and stop."""
    rest: tyro.conf.Fixed[tuple[str, ...]] = ()

    def run(self) -> int:
        try:
            return self._run()
        except KeyboardInterrupt as stop:
            if _is_first() and not getattr(stop, "__notes__", ()):  # the session, once it has begun, knows more
                nothing = "began: nothing was written" if self.resume is None else "went on: nothing was changed"
                stop.add_note(f"stopped before training {nothing}")
            raise

    def _run(self) -> int:
        if self.resume is not None:
            return self._resume(self.resume)
        if self.recipe_help:
            from zerosum.commands import recipe

            print("reading the data and timing the recipe here", file=sys.stderr)
            recipe.show(self._choice(self._own).run, prog=f"zerosum train {self.data.source}")
            return 0
        return self._start()

    def _start(self) -> int:
        from zerosum import api, session
        from zerosum import run as runs
        from zerosum.commands import recipe

        def adjust(run: Run) -> Run:
            return recipe.apply(self._own(run), self.rest, tuple(options_of(Train)))

        def plan() -> api.Plan:
            if self.out is not None:
                session.check_place(self.out)  # before the time that reading and timing take
            print("reading the data and timing the recipe here", file=sys.stderr)
            choice = self._choice(adjust)
            runs.check(choice.run)
            for reason in choice.reasons:
                print(reason, file=sys.stderr)
            return api.Plan(choice.run, choice.dataset, self.out or api.reserve(choice.run), self.weights_of)

        return _status(api.play(plan, device=self.device))

    def _choice(self, adjust: Callable[[Run], Run]) -> Choice:
        """The recipe picked, with the words of this command in it."""
        from zerosum import api

        return api.pick(
            self.data.plain(),
            algorithm=self.algorithm,
            images=self.images,
            minutes=self.minutes,
            device=self.device,
            adjust=adjust,
            memory_limit=None if self.memory is None else int(self.memory * 1e9),
            out=self.out or Path(),
            weights_of=self.weights_of,
        )

    def _own(self, run: Run) -> Run:
        """The recipe with this command's own settings in it."""
        own: dict[str, Any] = {"seed": self.seed, "checkpoint_every": self.checkpoint_every}
        return replace(run, **{k: v for k, v in own.items() if v is not None})

    def _resume(self, path: Path) -> int:
        set_here = [
            "--" + NAMED.get(f.name, f.name.replace("_", "-"))
            for f in dataclasses.fields(self)
            if f.name not in {"data", "rest", *WITH_RESUME} and getattr(self, f.name) != f.default
        ]
        set_here += [
            "--" + f.name.replace("_", "-") if f.name != "source" else self.data.source
            for f in dataclasses.fields(self.data)
            if getattr(self.data, f.name) != f.default
        ]
        set_here += [word for word in self.rest if word.startswith("-")]
        if set_here:
            raise UserError(
                f"{set_here[0]}: a run goes on with the recipe that it began with; with --resume only "
                "--images, --minutes and --device can be given. Train anew to change the rest"
            )
        from zerosum import api, sample

        sample.read_recipe(path)
        before = read_status(path)
        if before["state"] == "finished" and self.images is None and self.minutes is None and _end_is_whole(path):
            seen = f"{before['images_seen']:,} images"
            print(f"{path} is finished, at {seen}; --images N or --minutes M make it longer", file=sys.stderr)
            if _is_first() and not (path / REPORT).is_file():  # killed in between
                from zerosum.commands.report import Report

                return Report(path=path).run()
            return 0
        return _status(api.play_on(path, images=self.images, minutes=self.minutes, device=self.device))


def _end_is_whole(run: Path) -> bool:
    """Whether the newest checkpoint of a run can be read; if not, going on from the one before restores it."""
    from zerosum import checkpoint

    try:
        checkpoint.load(checkpoint.path_of(run, checkpoint.numbers(run)[-1]))
    except (checkpoint.Damaged, IndexError):
        return False
    return True


def _is_first() -> bool:
    """Whether this is the process that speaks; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


def _status(out: Path) -> int:
    """0 for a run that is done, else what a shell gives a program that a signal ended. The writer knows."""
    if not _is_first():
        return 0
    status = read_status(out)
    if status["state"] == "finished":
        return 0
    return STOPPED_BY.get(status["text"].split()[-1], 130)
