"""How good a GAN is after a few minutes on this machine: our default beside the textbook, SNGAN and R3GAN.

Every run trains on the same images from nothing and is stopped by the clock, which counts everything but the scoring:
the trial of the machine, building, training. Choices (our default's, every opponent's learning rate) are made on
validation images, 10,000 training images that nobody trains on. The samples of every mark are kept in the folder of
runs, so that they can be scored on the test images once, when all choices are made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerosum import atomic, pictures, sample
from zerosum import data as sources
from zerosum.algorithms.r3gan import R3GAN
from zerosum.algorithms.sngan import SNGAN
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target
from zerosum.bench.textbook import Textbook
from zerosum.data.loader import scale
from zerosum.data.spec import Data, Dataset
from zerosum.data.split import Part
from zerosum.game import Adam
from zerosum.metrics.distances import frechet
from zerosum.metrics.neighbours import precision_recall
from zerosum.metrics.statistics import statistics
from zerosum.networks import R3, SNDCGAN
from zerosum.randomness import permutation
from zerosum.recipes import pick
from zerosum.recipes.base import from_settings
from zerosum.recipes.images import quick
from zerosum.run import Run
from zerosum.schedule import Schedule
from zerosum.trainer import Training
from zerosum.view import SilentView

SEEDS = (0, 1, 2)
HELD = 10_000  # images, for choosing
SAMPLES = 10_000
MARKS = (1.0, 2.0, 5.0)  # minutes
RATES = (0.5, 1.0, 2.0)  # times the published learning rate
NEIGHBOURS = 5_000  # images on each side for precision and recall
SHOWN, COLUMNS = 100, 10
ACCURACY = 0.93
THIRD = 1 / 3
CPU = torch.device("cpu")
SOURCE = "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747), as its authors publish it (IDX files)"


@dataclass(frozen=True)
class Judge:
    """A classifier's penultimate layer as features; trained on the images that the GANs train on, with a fixed seed."""

    width: int = 32
    hidden: int = 128
    passes: int = 12
    batch: int = 128
    rate: float = 4e-3
    version: int = 1

    def network(self, channels: int, classes: int) -> nn.Sequential:
        def block(into: int, out: int) -> list[nn.Module]:
            return [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

        w = self.width
        return nn.Sequential(
            *block(channels, w), *block(w, w), nn.MaxPool2d(2), *block(w, 2 * w), *block(2 * w, 2 * w), nn.MaxPool2d(2),
            *block(2 * w, 4 * w), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.3),
            nn.Linear(4 * w * 9, self.hidden), nn.ReLU(), nn.Dropout(0.3), nn.Linear(self.hidden, classes),
        )  # fmt: skip

    def trained(self, images: np.ndarray, labels: np.ndarray, classes: int) -> nn.Sequential:
        """AdamW, one cycle of the rate, mirrored and shifted by up to 2 pixels; in eval mode."""
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            net = self.network(images.shape[1], classes).to(memory_format=torch.channels_last)
            steps = self.passes * (len(images) // self.batch)
            adam = torch.optim.AdamW(net.parameters(), self.rate, weight_decay=1e-2, fused=True)
            cycle = torch.optim.lr_scheduler.OneCycleLR(adam, self.rate, total_steps=max(steps, 2))
            for step in range(steps):
                first = step * self.batch
                chosen = permutation(0, "speedrun/judge", first // len(images), len(images))
                chosen = np.take(chosen, range(first, first + self.batch), mode="wrap")
                x = scale(images[chosen], torch.float32, CPU)
                x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
                across, down = torch.randint(0, 5, (2,)).tolist()
                x = F.pad(x, (2, 2, 2, 2), value=-1)[
                    :, :, down : down + images.shape[2], across : across + images.shape[3]
                ]
                loss = F.cross_entropy(net(x), torch.from_numpy(labels[chosen]))
                adam.zero_grad()
                loss.backward()
                adam.step()
                cycle.step()
        return net.eval().requires_grad_(False)


class Field:
    """What all runs of one set share: its images in three parts, the judge, and the real side's statistics."""

    def __init__(self, bench: Bench, name: str, marks: tuple[float, ...]) -> None:
        self.bench, self.name, self.marks = bench, name, marks
        root = None if bench.options.data is None else str(bench.options.data)
        self.data = Data(source=name, root=root)
        self.whole, self.test = (sources.open(replace(self.data, split=s)) for s in ("train", "test"))
        count, held = len(self.whole), 200 if bench.quick else HELD
        order = permutation(0, "speedrun/parts", 0, count)
        self.train = Part(self.whole, np.sort(order[: 500 if bench.quick else count - held]), "speedrun train")
        self.validation = Part(self.whole, np.sort(order[count - held :]), "speedrun validation")
        self.samples = 200 if bench.quick else SAMPLES
        self.settings = Judge(width=4, hidden=16, passes=1) if bench.quick else Judge()

    @property
    def known(self) -> tuple[Result, Result]:
        test = replace(self.data, split="test")
        return data_record(self.data, self.whole, SOURCE), data_record(test, self.test, SOURCE)

    @cached_property
    def judge(self) -> nn.Sequential:
        """From the folder of runs if it was trained before."""
        images, labels = everything(self.train)
        told = (dataclasses.asdict(self.settings), self.train.fingerprint)
        path = (
            self.bench.runs
            / self.bench.name
            / f"judge-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.safetensors"
        )
        if path.is_file():
            net = self.settings.network(images.shape[1], len(self.whole.class_names))
            net.load_state_dict(safetensors.torch.load_file(path))
            return net.eval().requires_grad_(False)
        self.bench.say("training the judge")
        net = self.settings.trained(images, labels, len(self.whole.class_names))
        weights = {name: value.contiguous() for name, value in net.state_dict().items()}
        atomic.write_file(path, safetensors.torch.save(weights))
        return net

    def features(self, images: np.ndarray) -> Tensor:
        """(n, d) float64 of uint8 images; in fp32, so that they do not depend on the processor."""
        with torch.no_grad():
            parts = (scale(images[i : i + 500], torch.float32, CPU) for i in range(0, len(images), 500))
            return torch.cat([self.judge[:-1](x).double() for x in parts])

    @cached_property
    def real(self) -> Tensor:
        return self.features(everything(self.validation)[0])

    def score(self, images: np.ndarray, real: Tensor) -> Result:
        fake = self.features(images)
        few = min(NEIGHBOURS, len(fake), len(real))
        precision, recall = precision_recall(real[:few], fake[:few])
        return {"frechet": frechet(statistics(fake), statistics(real)), "precision": precision, "recall": recall}

    def controls(self) -> Result:
        """Training images in place of samples: the floor. And how good the judge is."""
        images, _ = everything(self.train)
        test, labels = everything(self.test)
        with torch.no_grad():
            right = self.judge[-1](self.features(test).float()).argmax(1).numpy() == labels
        return {"accuracy": float(right.mean()), **self.score(images[: self.samples], self.real)}


def everything(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    values, labels = dataset.gather(np.arange(len(dataset)))
    assert labels is not None
    return values, labels


# --- arms ----------------------------------------------------------------------------------------------------------


Draw = Callable[[int], np.ndarray]
"""From a count to so many samples, uint8 (n, C, H, W), of the model as it is."""
Player = Iterator[tuple[int, Draw]]
"""Trains while it is asked for more: images seen, and how to draw."""


@dataclass(frozen=True)
class Arm:
    """`protocol` decides the run; `play(field, seed)` plays it."""

    protocol: Result
    play: Callable[[Field, int], Player]


def ours(run: Run | None, minutes: float) -> Arm:
    """A run as `zerosum train --minutes` makes it, or what that picks: the trial of the machine is on the clock."""

    def play(field: Field, seed: int) -> Player:
        def adjust(found: Run) -> Run:
            # What the trial of the machine has settled in `found` stays.
            chosen = found if run is None else replace(
                run, data=found.data, precision=found.precision, memory_format=found.memory_format,
                threads=found.threads,
            )  # fmt: skip
            return replace(chosen, seed=seed, minutes=minutes, images=None)

        choice = pick(field.data, minutes=minutes, device="cpu", dataset=field.train, adjust=adjust)
        training = Training(choice.run, field.train, CPU, Path("unused"), SilentView())

        def draw(count: int) -> np.ndarray:
            z = training.loader.latent("speedrun", 0, count)
            return sample.to_uint8(sample.generate(training.averaged, z, None))

        while True:
            training.step()
            yield training.seen, draw

    decides = {"picked": recipe(quick(Data(source="")))} if run is None else {"run": recipe(run)}
    return Arm({**decides, "engine": "ours", "minutes": minutes}, play)


def textbook(times: float) -> Arm:
    """Radford's networks in a plain loop, fp32, eager, at 32 x 32."""

    def play(field: Field, seed: int) -> Player:
        torch.set_num_threads(field.bench.options.threads)
        game = Textbook(everything(field.train)[0], seed, 2e-4 * times)
        while True:
            yield game.step(), game.draw

    return Arm({"textbook": 1, "lr": 2e-4 * times}, play)


def opponents(minutes: float) -> dict[str, dict[float, Arm]]:
    """By name, and by how many times the published learning rate."""

    def published(run: Run, times: float) -> Arm:
        def at(adam: Adam) -> Adam:
            return replace(adam, lr=Schedule(adam.lr.start * times, adam.lr.end * times, adam.lr.images, adam.lr.shape))

        return ours(replace(run, adam_g=at(run.adam_g), adam_d=at(run.adam_d), minutes=minutes, images=None), minutes)

    sngan = replace(from_settings("sngan", Data(source="")), algorithm=SNGAN(networks=SNDCGAN(latent=128, width=16)))
    r3gan = from_settings("r3gan", Data(source=""))
    game: Any = r3gan.algorithm
    r3gan = replace(r3gan, algorithm=R3GAN(networks=R3(width=32, widest=128), gamma=game.gamma))
    return {
        "textbook DCGAN": {times: textbook(times) for times in RATES},
        "SNGAN": {times: published(sngan, times) for times in RATES},
        "R3GAN": {times: published(r3gan, times) for times in RATES},
    }


def measured(field: Field, name: str, arm: Arm, seed: int) -> Result:
    """One run, from the files if it was played before."""
    bench = field.bench
    folder = bench.runs / bench.name / f"{field.name}-{name}-seed{seed}"
    picture = bench.folder / f"{field.name}-{name}-seed{seed}.png"
    protocol = {
        **arm.protocol, "data": [dict(field.known[0])], "marks": list(field.marks), "samples": field.samples,
        "judge": dataclasses.asdict(field.settings),
    }  # fmt: skip

    def work() -> Result:
        real, rows = field.real, list[Result]()  # the judge is trained before the clock runs
        began, paused = time.perf_counter(), 0.0
        for seen, draw in arm.play(field, seed):
            minutes = (time.perf_counter() - began - paused) / 60
            if minutes < field.marks[len(rows)]:
                continue
            stopped = time.perf_counter()
            images = draw(field.samples)
            rows.append({"minutes": minutes, "images_seen": seen, **field.score(images, real)})
            bench.say(f"{name}, seed {seed}, {minutes:.1f} min: {rows[-1]['frechet']:.2f}")
            np.save(_made(folder) / f"{field.marks[len(rows) - 1]:g}.npy", images)
            paused += time.perf_counter() - stopped
            if len(rows) == len(field.marks):
                break
        pictures.save_png(
            pictures.grid(images[:SHOWN], columns=COLUMNS), picture, {"zerosum": "generated", "arm": name}
        )
        return {
            "marks": rows,
            "images_per_second": rows[-1]["images_seen"] / rows[-1]["minutes"] / 60,
            **flat(rows, field),
        }

    return bench.arm(f"{field.name}-{name}", seed, protocol, work, (picture,))


def flat(rows: list[Result], field: Field) -> Result:
    """The numbers of each mark under keys of their own, for the table."""
    return {
        f"{key}_{mark:g}": row[key]
        for mark, row in zip(field.marks, rows, strict=True)
        for key in ("frechet", "precision", "recall", "images_seen")
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- the table -----------------------------------------------------------------------------------------------------


def measure(bench: Bench) -> Report:
    marks = (0.005, 0.01) if bench.quick else MARKS
    field = Field(bench, "fashion-mnist", marks)
    floor = bench.arm("controls", 0, {"judge": dataclasses.asdict(field.settings)}, field.controls)
    last = marks[-1]
    rows = {"default": [measured(field, "default", ours(None, last), seed) for seed in bench.seeds]}
    for name, arms in opponents(last).items():
        label = name.replace(" ", "-").lower()
        first = {t: measured(field, f"{label}-lr{t:g}", arm, bench.seeds[0]) for t, arm in arms.items()}
        best = min(first, key=lambda t: first[t][f"frechet_{last:g}"])
        for t in dict.fromkeys((1.0, best)):
            title = (
                f"{name}, published rate" if t == 1.0 else f"{name}, {t:g} times the rate (the best of {len(RATES)})"
            )
            rows[title] = [measured(field, f"{label}-lr{t:g}", arms[t], seed) for seed in bench.seeds]
    seed = bench.seeds[0]
    columns = [
        Column(f"{key}_{mark:g}", f"{what} at {mark:g} min", form)
        for key, what, form in (("frechet", "Frechet distance", ".2f"), ("recall", "recall", ".3f"))
        for mark in marks
    ]
    columns += [
        Column(f"precision_{last:g}", f"precision at {last:g} min", ".3f"),
        Column("images_per_second", "images/s", ",.0f"),
    ]
    return Report(
        title="Speedrun: Fashion-MNIST on two cores",
        about=(
            "Every run begins from nothing and is stopped by the clock: trial of the machine, building and training "
            f"count, scoring does not. {field.samples:,} samples against {len(field.validation):,} validation images, "
            "which nobody trained on and all choices are made on, in the features of a classifier trained for this "
            f"(test accuracy {floor['accuracy']:.1%}). Training images in place of samples: Frechet distance "
            f"{floor['frechet']:.2f}, precision {floor['precision']:.3f}, recall {floor['recall']:.3f}.",
            "The default is what `zerosum train fashion-mnist --minutes 5` picks. The textbook DCGAN is a plain loop "
            "of its own: Radford's networks at width 64 and 32 x 32 pixels, BatchNorm in both, Adam at 2e-4 and beta1 "
            "0.5, batch 64, fp32. SNGAN and R3GAN have their published losses and settings, widths of 16 and 32 and "
            "our engine.",
        ),
        data=field.known,
        tables=(Table("Validation images", tuple(columns), rows),),
        targets=tuple(_targets(rows, marks, floor)),
        pictures=tuple((f"{bench.name}/{p.name}", p.stem) for p in sorted(bench.folder.glob(f"*-seed{seed}.png"))),
    )


def _targets(rows: dict[str, list[Result]], marks: tuple[float, ...], floor: Result) -> Iterator[Target]:
    def worst(arm: str, key: str) -> float:
        return max(r[key] for r in rows[arm])

    def mean(arm: str, key: str) -> float:
        return float(np.mean([r[key] for r in rows[arm]]))

    first, last = f"frechet_{marks[0]:g}", f"frechet_{marks[-1]:g}"
    rivals = [arm for arm in rows if arm != "default"]
    best = min(rivals, key=lambda arm: mean(arm, last))
    yield Target("the judge's accuracy on test images", f"at least {ACCURACY:.0%}", f"{floor['accuracy']:.1%}",
                 floor["accuracy"] >= ACCURACY)  # fmt: skip
    at = mean(best, last)
    yield Target(f"default at {marks[0]:g} min against {best} at {marks[-1]:g}", f"at most {at:.2f}",
                 f"{worst('default', first):.2f} (worst seed)", worst("default", first) <= at)  # fmt: skip
    yield Target(f"default at {marks[-1]:g} min against {best}", f"at most a third: {at * THIRD:.2f}",
                 f"{worst('default', last):.2f} (worst seed)", worst("default", last) <= at * THIRD)  # fmt: skip
    recall = f"recall_{marks[-1]:g}"
    wanted, found = mean(best, recall), min(r[recall] for r in rows["default"])
    yield Target("its recall", f"at least {wanted:.3f}", f"{found:.3f} (worst seed)", found >= wanted)
