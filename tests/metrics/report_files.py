"""What tests of the report need: run folders, evaluations and equilibrium records as the package makes them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from zerosum import api, pictures
from zerosum.data.spec import Spec
from zerosum.equilibrium.gap import Gain, Regret
from zerosum.equilibrium.measure import Equilibrium
from zerosum.equilibrium.two_sample import Judgement, TwoSample
from zerosum.equilibrium.verdict import Verdict
from zerosum.film import save_film
from zerosum.metrics import directions, measurement
from zerosum.metrics.directions import DirectionResult
from zerosum.metrics.evaluation import ClassResult, Evaluation, Pairs
from zerosum.metrics.features.choose import Choice
from zerosum.metrics.features.weak import Pixels
from zerosum.metrics.intervals import Interval, binomial
from zerosum.metrics.measurement import Measurement, Protocol
from zerosum.metrics.verdict import Finding, Share

VOID = {"meta", "img", "br", "hr", "link", "input"}
CLASSES = tuple("0123456789")
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 1, 8, 8), dtype=np.uint8)


class Page(HTMLParser):
    """Checks that tags close, and keeps what the tests ask for."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def grid(seed: int) -> Image.Image:
    return pictures.grid(np.random.default_rng(seed).integers(0, 256, (16, 1, 8, 8), dtype=np.uint8))


def make_run(run: Path, rows: int = 50, film: bool = True) -> Path:
    for i in range(1, 6):
        pictures.save_png(grid(i), run / "samples" / f"{i * 2000:012d}.png")
    pictures.save_png(grid(9), run / "real.png")
    if film:
        save_film((grid(i) for i in range(3)), run / "film.mp4", run / "film.gif")
    recipe = {
        "format": 1,
        "run": {
            "data": {"source": "digits"},
            "algorithm": {"kind": "R3GAN", "gamma": "0.05"},
            "minutes": None,
        },
        "data": {
            "shape": [1, 8, 8],
            "count": 1797,
            "class_names": [],
            "left_out": {"count": 1, "files": [["broken.png", "no picture"]]},
        },
    }
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "environment.json").write_text(json.dumps({"cores": 2, "command": "zerosum train digits --minutes 2"}))
    (run / "status.json").write_text(
        json.dumps({"state": "finished", "images_seen": 10_000, "seconds": 20.0, "text": ""})
    )
    events: list[dict[str, Any]] = []
    for i in range(1, rows + 1):
        seen = 10_000 * i // rows
        events.append(
            {"event": "progress", "images_seen": seen, "seconds": 20 * i / rows, "images_per_second": 500.0,
             "loss/D": 0.6, "loss/G": 0.9, "accuracy/real": 0.71, "accuracy/fake": 0.66, "skipped": 1}
        )  # fmt: skip
        if i % 3 == 1:
            events.append(
                {"event": "probe", "images_seen": seen, "kernel_distance": 1 / i, "diversity": 0.9,
                 "distance": 90 / i, "distance_error": 3 / i, "overfitting": 0.2, "overfitting_error": 0.05,
                 "best": seen, "chance_of_better": 0.31}
            )  # fmt: skip
    events.append({"event": "warning", "images_seen": 10_000, "text": "D wins: lower --adam-d.lr"})
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return run


def interval(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half, 0.95, "by the spread of 8 disjoint parts")


def measured(
    metric: str,
    value: float,
    floor: float | None,
    better: Literal["lower", "higher"] = "lower",
    settings: str = "",
    extractor: str = "pixels",
) -> Measurement:
    protocol = Protocol(
        metric=metric, settings=settings, extractor=extractor, weights="ab" * 32, preparation="-1 to 1, no resize",
        real="digits, training part", real_sha256="cd" * 32, n_real=700, n_fake=700, real_lossy=False, fake_lossy=False,
        seed=0, versions=(("torch", "2.14.1"), ("numpy", "2.3.0")),
    )  # fmt: skip
    known = None if floor is None else interval(floor, 0.05 * abs(floor) + 5e-4)
    return measurement.measured(interval(value, 0.06 * abs(value) + 1e-3), known, better, protocol)


def evaluation(images_seen: int = 10_000, text: str = "Mode dropping: hardly any images of 8.") -> dict[str, Any]:
    """As `zerosum evaluate` writes it."""
    found = Evaluation(
        what=f"digits-3 at {images_seen:,} images", against="digits, training part", images_seen=images_seen,
        choice=Choice(Pixels(Spec((1, 8, 8))), "nothing better is at hand"),
        measurements={
            "frechet": measured("Frechet distance", 0.8421, 0.2105),
            "kernel": measured("kernel distance", 0.01234, 0.0001, settings="cubic"),
            "precision": measured("precision", 0.913, 0.958, "higher", "k = 3"),
            "coverage": measured("coverage", 0.801, 0.962, "higher", "k = 5"),
            "detail": measured("fine detail", -0.12, 0.01, settings="log2 of the ratio to real", extractor="none"),
            "copies": measured("copies", 0.0115, None, settings="share nearer than held-out"),
        },
        classes=tuple(in_class(name) for name in CLASSES),
        classes_from="a classifier's guesses on both sides (97.1 % right on held-out real images)",
        p_values={"copies": 0.4}, verdict=(Finding("mode dropping", text),),
        notes=("no Frechet distance within classes: too few images",),
        pairs=Pairs(IMAGES[:3], IMAGES[3:6], (0.51, 0.62, 0.93)), samples=IMAGES, seconds=12.5,
    )  # fmt: skip
    return found.to_json()


ARMS = ("the run", "identity", "colour transfer")
COLUMNS = {"A2B": ("Input", "Output", "Back again", "Target"), "B2A": ("Input", "Output", "Back again")}


def translated(images_seen: int = 10_000) -> Evaluation:
    """An evaluation of a translator both ways; of the way back the truth is not known."""
    measurements: dict[str, Measurement] = {}
    for i, way in enumerate(COLUMNS):
        numbers: list[tuple[str, str, float | None, Literal["lower", "higher"]]] = [
            ("kernel", "kernel distance", 0.01, "lower"), ("domain", "taken for the other side", None, "higher"),
        ]  # fmt: skip
        for key, name, floor, better in [("l1", "L1 (range 1)", None, "lower"), *numbers] if i == 0 else numbers:
            for k, arm in enumerate(ARMS, 1):
                found = measured(directions.named(way, arm, name), 0.1 * k, floor, better)
                measurements[directions.key(way, arm, key)] = found
        there = measured(directions.named(way, directions.CYCLE, "L1 (range 1)"), 0.0321, None)
        measurements[directions.key(way, directions.CYCLE, "l1")] = there
    ways = []
    for i, (way, columns) in enumerate(COLUMNS.items()):
        rows = np.random.default_rng(i).integers(0, 256, (5, len(columns), 3, 16, 24), dtype=np.uint8)
        metrics = ("l1", "kernel", "domain") if i == 0 else ("kernel", "domain")
        ways.append(DirectionResult(direction=way, arms=ARMS, metrics=metrics, columns=columns, rows=rows))
    return Evaluation(
        what=f"horses at {images_seen:,} images", against="horses, held out of training", images_seen=images_seen,
        choice=Choice(Pixels(Spec((3, 16, 24))), "nothing better is at hand"), measurements=measurements, classes=(),
        classes_from="", p_values={}, notes=(), directions=tuple(ways), samples=IMAGES, seconds=3.0,
        verdict=(
            Finding("nothing found", "A2B: surely nearer to the truth."), Finding("cannot say", "B2A: nearer."),
        ),
    )  # fmt: skip


def make_translation(run: Path) -> Path:
    """The folder of a run of CycleGAN on pairs, evaluated."""
    make_run(run)
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"] |= {"target": {"shape": [3, 16, 24], "classes": 0}, "paired": True}
    (run / "recipe.json").write_text(json.dumps(recipe))
    with open(run / "events.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "probe", "images_seen": 10_000, "l1": 0.21, "cycle": 0.04}) + "\n")
    api.keep(translated(), run)
    return run


def in_class(name: str) -> ClassResult:
    fakes = binomial(1 if name == "8" else 77, 700, 1 - 1e-4)
    share = Share(name, binomial(70, 700), fakes, 0.5)
    return ClassResult(share, {"kernel": measured("kernel distance", 0.02, 0.001, settings=f"cubic, class {name}")})


def judgement(judge: str, right: int, n: int = 600) -> Judgement:
    return Judgement(judge, right, n, binomial(right, n, 1 - 0.05 / 6))


def equilibrium(images_seen: int = 10_000, sentence: str = "Converging: its distance still falls") -> dict[str, Any]:
    """As `zerosum equilibrium` writes it."""
    names = ("logistic on pixels", "small MLP", "small CNN")
    test = TwoSample(
        fake=tuple(judgement(name, right) for name, right in zip(names, (331, 362, 407), strict=True)),
        control=tuple(judgement(name, right) for name, right in zip(names, (296, 307, 289), strict=True)),
        trained_on=300, judged=300, detectable=0.567, alpha=0.05, seed=0,
    )  # fmt: skip
    points = []
    for i in (1, 2, 3, 4):
        d, g = interval(0.1 / i, 0.02), interval(0.3 / i, 0.03)
        gains = (Gain("D", 0.6, 0.6 - d.value, d), Gain("G", 0.9, 0.9 - g.value, g))
        points.append(Regret(images_seen * i // 4, 20, 1024, 300, gains, interval(0.4 / i, 0.04)))
    found = Equilibrium(
        run="digits-3", images_seen=images_seen, real="300 held out of training", unseen=True, test=test,
        regret=tuple(points), logged=(), verdict=Verdict("converging", sentence, ("because",)), notes=(),
    )  # fmt: skip
    return found.to_json()


def add(run: Path, said: str = "") -> None:
    """Leave both, and the picture of the nearest training images, in a run's folder; `said` stands for every text."""
    for name, found in (("evaluation.json", evaluation()), ("equilibrium.json", equilibrium())):
        (run / name).write_text(json.dumps(_with(found, said) if said else found))
    pictures.save_png(pictures.grid(IMAGES, columns=8), run / "evaluation-nearest.png")


def _with(value: Any, said: str) -> Any:
    """The same with other words."""
    if isinstance(value, dict):
        return {k: v if k == "better" else _with(v, said) for k, v in value.items()}
    if isinstance(value, list):
        return [_with(v, said) for v in value]
    return said if isinstance(value, str) else value
