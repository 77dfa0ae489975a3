"""`zerosum evaluate`: how good generated images are, with protocol, interval and floor."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from zerosum.commands.base import Command
from zerosum.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from zerosum.metrics.evaluation import Evaluation
    from zerosum.metrics.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Measure generated images against real ones.

    A run is measured by samples of its averaged generator, against its own training data if --against names no
    others. A translator is measured on images of its own sides that it was not trained on, 16 at least. Numbers have
    an interval and, where there is one, a floor: the same number for real images against other real ones. Everything
    stays on this machine.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum evaluate runs/digits-r3gan-001",
        "zerosum evaluate runs/clothes --against fashion-mnist --split test --json clothes.json",
        "zerosum evaluate runs/facades-pix2pix-001 --split test",
        "zerosum evaluate generated.zip --against ./photos --features imagenet",
        "zerosum evaluate fakes/ --against ./scans --features mine:embed -n 2000",
    )

    what: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|FOLDER|ZIP|ARRAY")]
    """A run's folder; or images: a folder, a zip, a .npy or .npz file."""
    against: str | None = None
    """The real images: a name (as in zerosum train) or a path. A run's own training data, if not given."""
    split: Literal["train", "test", "all"] = "train"
    """Of the real images, where they have a published split."""
    root: str | None = None
    """Of the real images: the folder of a named set's files."""
    features: str | None = None
    """What images are compared by: classifier, imagenet, inception, random, pixels, coordinates, an .onnx file, or
    module:function (which runs that code of yours). The best at hand, if not given."""
    number: Annotated[int | None, tyro.conf.arg(name="n", aliases=["-n"], metavar="INT")] = None
    """Images a side; 10,000, or half of the real images if there are fewer, if not given."""
    seed: int = 0
    """Latents and choices of images are drawn from it."""
    checkpoint: str = "last"
    """Of a run: last, best, or a number of images seen."""
    json: Path | None = None
    """Also write everything to this file."""
    quick: bool = False
    """Fewer images, no classes: a first look."""
    no_cache: bool = False
    """Keep nothing, and use nothing that was kept."""
    download: bool = False
    """Fetch weights that are not here (only --features inception and --lpips need it)."""
    lpips: bool = False
    """Of a translator of pairs: also LPIPS, a learned perceptual distance to the truth (the extra lpips)."""

    def run(self) -> int:
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: must be 0 or more")
        if not self.what.exists():
            raise UserError(f"{self.what}: there is no such file or folder; zerosum list shows your runs")
        from zerosum import api
        from zerosum.metrics import evidence, sources
        from zerosum.runlog import EVALUATION

        with progress() as say:
            found = api.evaluate(
                self.what, against=self.against, n=self.number, seed=self.seed, features=self.features,
                quick=self.quick, checkpoint=self.checkpoint, split=self.split, root=self.root,
                cache=not self.no_cache, download=self.download, lpips=self.lpips,
                progress=say,
            )  # fmt: skip
        show(found)
        if sources.is_run(self.what) and api.has_fuller(self.what, found):
            print(
                f"note         {self.what} keeps its full evaluation and not this quick look; --json FILE keeps it, too"
            )
        elif sources.is_run(self.what):
            report = api.keep(found, self.what)
            print(self.what / EVALUATION)
            print(report)
        if self.json is not None:
            evidence.write(found, self.json)
            print(self.json)
            if found.pairs is not None and not sources.is_run(self.what):
                path = self.json.with_name(f"{self.json.stem}-nearest.png")
                evidence.write_pairs(found.pairs, path)
                print(path)
        return 0


def progress() -> Any:
    """One bar for all stages: a context that gives what `evaluate` tells its progress to."""
    from contextlib import contextmanager

    from zerosum.view import progress_bar

    @contextmanager
    def opened() -> Any:
        with progress_bar("evaluating") as tick:
            yield lambda what, done, of: tick(done, of, what)

    return opened()


def show(found: Evaluation) -> None:
    """The verdict and the tables, on standard output."""
    from zerosum.metrics.measurement import SHOWN_OF_CLASS

    extractor = found.choice.extractor
    weak = " (weak)" if extractor.weak else ""
    print(f"{found.what}  against  {found.against}")
    print(f"features     {extractor.name}{weak}: {found.choice.reason}")
    table = _table(("measurement", "value", "95 % interval", "real against real", "n"))
    for key, m in found.measurements.items():
        told = weak if _in_features(key) and m.protocol.extractor == extractor.name else ""
        table.add_row(f"{m.protocol.metric}{told}", *cells(m), f"{m.n_fake:,}")
    write_table(table)
    if found.classes:
        print(f"classes from {found.classes_from}")
        known = {key: c.measurements[key].protocol.metric for c in found.classes for key in c.measurements}
        keys = [key for key in SHOWN_OF_CLASS if key in known]
        table = _table(("class", "share", "real", *(name for key in keys for name in (known[key], "real"))))
        for c in found.classes:
            row = [c.share.name, *(f"{100 * share.value:.1f} %" for share in (c.share.fake, c.share.real))]
            for one in map(c.measurements.get, keys):
                row += ("", "") if one is None else cells(one)[::2]
            table.add_row(*row)
        write_table(table)
    for note in found.notes:
        print(f"note         {note}")
    for finding in found.verdict:
        print(f"verdict      {finding.text}")


def _in_features(key: str) -> bool:
    return key not in ("detail", "grain", "copies", "class balance")


def cells(m: Measurement) -> tuple[str, str, str]:
    """Value, interval and floor of a measurement, as the tables show them."""
    interval = "none" if m.low is None or m.high is None else f"{number(m.low)} .. {number(m.high)}"
    return number(m.value), interval, "none" if m.floor is None else number(m.floor.value)


def number(x: float) -> str:
    """Four digits that matter; what is 0 within them is 0."""
    return "0" if abs(x) < 5e-7 else f"{x:.4g}"


def _table(columns: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    return table


def comparison(names: Mapping[str, Mapping[str, Measurement]], keys: tuple[str, ...]) -> Table:
    """Measurements below each other, a column for each run."""
    table = _table(("measurement", *names, "real against real"))
    for key in keys:
        of = [measurements[key] for measurements in names.values()]
        values = []
        for m in of:
            value, interval, floor = cells(m)
            values.append(value if interval == "none" else f"{value} ({interval})")
        table.add_row(of[0].protocol.metric, *values, floor)
    return table


def write_table(table: Table) -> None:
    """To standard output: as wide as the terminal, or as it needs in a pipe."""
    from rich.console import Console

    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
