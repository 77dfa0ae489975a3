"""The classifier two-sample test: can a fresh discriminator tell generated from real (Lopez-Paz and Oquab 2017)?

"Revisiting Classifier Two-Sample Tests", arXiv:1610.06545, sec. 3: train a classifier on half of both samples and count
how often it is right on the other half. If the two come from one distribution it can only guess, and the number of
right answers is binomial(n, 1/2). An accuracy surely above one half is proof that they differ; one half is not proof
that they are equal, only that these judges, with so many samples, saw no difference: so what they could have seen is
said too. Where the best possible judge is right with probability a, the total variation distance is 2a - 1.

Several judges of different capacity look, because a large one may fail where samples are few and a small one where the
difference is fine. The control puts real against other real samples through the very same test: it must come out at
one half, or something is wrong with the samples (another order, another source, near-duplicates in both parts).

Symbols (paper -> here): S_P, S_Q -> real, fake; f(z) > 1/2 -> a logit above 0; n_te -> n; t-hat -> accuracy.
Differs from the paper: several judges and a control, so intervals are exact (Clopper and Pearson) and corrected for
their number (Bonferroni), in place of one test with a normal approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special
from torch import Tensor, nn

from zerosum import randomness
from zerosum.data.loader import scale
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.metrics.intervals import Interval, binomial

if TYPE_CHECKING:
    from jaxtyping import Float

ALPHA = 0.05
"""The chance of any false alarm, in all the tests together."""
POWER = 0.8
"""How surely a difference must be found to be called detectable: the usual 80 % (Cohen 1988)."""
LEAST = 20  # samples on each side: with 10 to be judged, no accuracy below 95 % is detectable
BATCH = 64  # half real, half fake
STEPS, QUICK_STEPS, LEAST_STEPS = 400, 150, 100
PASSES = 60  # over a small set at most so often: beyond, a judge only learns it by heart
COARSE = 32  # pixels: the side that large images are brought to for the judges without convolutions
CELLS = 4  # the layout that the convolutional judge still sees at its end
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Judge:
    """A kind of fresh discriminator: `build(shape)` gives the network, (n, *shape) -> (n,) logits, above 0 is real."""

    name: str
    build: Callable[[tuple[int, ...]], nn.Module]
    lr: float
    decay: float


class Coarse(nn.Module):
    """Large images averaged down to at most COARSE pixels a side, then flat; points as they are."""

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
        if x.dim() == 4:
            x = F.adaptive_avg_pool2d(x, (min(x.shape[2], COARSE), min(x.shape[3], COARSE)))
        return x.flatten(1)


def _inputs(shape: tuple[int, ...]) -> int:
    return math.prod((shape[0], *(min(side, COARSE) for side in shape[1:])))


def _linear(shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(Coarse(), nn.Linear(_inputs(shape), 1), nn.Flatten(0))


def _layers(width: int, depth: int) -> Callable[[tuple[int, ...]], nn.Module]:
    def build(shape: tuple[int, ...]) -> nn.Module:
        sizes = [_inputs(shape), *[width] * depth]
        hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
        return nn.Sequential(Coarse(), *hidden, nn.Linear(width, 1), nn.Flatten(0))

    return build


def _convolutions(shape: tuple[int, ...]) -> nn.Module:
    """3x3 convolutions, halving down to about 4x4; the first keeps the size of small images, to see single pixels."""
    halvings = max(1, min(shape[1], shape[2]).bit_length() - 3)
    widths = [shape[0], *(min(16 * 2**i, 64) for i in range(halvings + 1))]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        stride = 1 if i == 0 and max(shape[1:]) <= COARSE else 2
        layers += [nn.Conv2d(a, b, 3, stride=stride, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(CELLS), nn.Flatten(1), nn.Linear(widths[-1] * CELLS**2, 1), nn.Flatten(0)
    )


def judges(spec: Spec) -> tuple[Judge, ...]:
    """Three judges of rising capacity, for images or for points."""
    if spec.is_image:
        return (
            Judge("logistic on pixels", _linear, 3e-3, 1e-2),
            Judge("small MLP", _layers(64, 1), 1e-3, 1e-2),
            Judge("small CNN", _convolutions, 1e-3, 1e-2),
        )
    return (
        Judge("logistic", _linear, 1e-2, 0.0),
        Judge("small MLP", _layers(32, 1), 1e-2, 1e-4),
        Judge("larger MLP", _layers(128, 2), 3e-3, 1e-4),
    )


@dataclass(frozen=True)
class Judgement:
    """How often one judge was right on samples that it had not seen."""

    judge: str
    right: int
    n: int
    """Samples judged, both kinds together."""
    accuracy: Interval
    """right / n, with the interval that is corrected for the number of tests."""

    @property
    def tells(self) -> bool:
        """Whether it is surely better than a guess."""
        return self.accuracy.low > 0.5

    @property
    def guesses(self) -> bool:
        """Whether it may be a mere guess: one half is in the interval."""
        return self.accuracy.low <= 0.5 <= self.accuracy.high


@dataclass(frozen=True)
class TwoSample:
    """What all judges found, of real against fake and, as control, of real against other real samples."""

    fake: tuple[Judgement, ...]
    control: tuple[Judgement, ...]
    trained_on: int
    """Samples of each kind that the judges learned from."""
    judged: int
    """Samples of each kind that they were scored on."""
    detectable: float
    """The accuracy that this many samples show to be above one half in 80 % of cases: a smaller one may go unseen."""
    alpha: float
    """The chance of any false alarm in all the tests together."""
    seed: int

    @property
    def tests(self) -> int:
        return len(self.fake) + len(self.control)

    @property
    def broken(self) -> Judgement | None:
        """The control judgement that is farthest from one half among those that leave it out; None if all is well."""
        off = [j for j in self.control if not j.guesses]
        return max(off, key=lambda j: abs(j.accuracy.value - 0.5)) if off else None

    @property
    def best(self) -> Judgement:
        """The judge that told real from fake most often."""
        return max(self.fake, key=lambda j: j.accuracy.value)

    @property
    def found(self) -> bool:
        """Whether real and fake surely differ."""
        return any(j.tells for j in self.fake)


def two_sample(
    real: np.ndarray,
    fake: np.ndarray,
    control: np.ndarray,
    *,
    seed: int = 0,
    alpha: float = ALPHA,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TwoSample:
    """Let fresh judges try to tell `fake` from `real`, and, as control, `control` from `real`.

    All three uint8 (n, C, H, W) images or float32 (n, d) points, of one shape and type: a judge would see at once
    that one side had other rounding, compression or scaling, so give all of them the same. `real` and `control` are
    different real samples, none of which the generator was trained on if there are enough of those. As many of each
    are used as the smallest has, in an order keyed by `seed`; the same seed gives the same answer. Torch's own
    generator is left as it was. UserError if the arrays are unlike or too small.
    """
    n = _check(real, fake, control) // 2
    spec = Spec(real.shape[1:])
    jury = judges(spec)
    tests = 2 * len(jury)
    steps = max(LEAST_STEPS, min(QUICK_STEPS if quick else STEPS, PASSES * n * 2 // BATCH))

    def halves(values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        chosen = randomness.order(seed, f"two-sample/{name}", 0, 2 * n, len(values))
        return values[chosen[:n]], values[chosen[n:]]

    sides = {"real": halves(real, "real"), "fake": halves(fake, "fake"), "control": halves(control, "control")}
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, tests * steps)

    def judged(against: str) -> tuple[Judgement, ...]:
        (real_seen, real_new), (other_seen, other_new) = sides["real"], sides[against]
        out = []
        for judge in jury:
            key = f"two-sample/{against}/{judge.name}"
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(randomness.torch_seed(seed, key, 0))
                network = judge.build(spec.shape)
            look = _train(network, judge, real_seen, other_seen, seed, key, steps, tick)
            right = int((look(real_new) > 0).sum()) + int((look(other_new) <= 0).sum())
            out.append(Judgement(judge.name, right, 2 * n, binomial(right, 2 * n, 1 - alpha / tests)))
        return tuple(out)

    return TwoSample(judged("fake"), judged("control"), n, n, detectable(2 * n, alpha / tests), alpha, seed)


def learned(first: np.ndarray, second: np.ndarray, *, seed: int = 0) -> Callable[[np.ndarray], Tensor]:
    """The convolutional judge, trained to tell `first` (logits above 0) from `second`: uint8 (n, C, H, W) each.

    Returns what it says of other values, (n,) logits. Torch's own generator is left as it was.
    """
    spec = Spec(first.shape[1:])
    judge = judges(spec)[-1]
    key = "two-sample/learned"
    steps = max(LEAST_STEPS, min(STEPS, PASSES * (len(first) + len(second)) // BATCH))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(randomness.torch_seed(seed, key, 0))
        network = judge.build(spec.shape)
    return _train(network, judge, first, second, seed, key, steps, lambda: None)


def detectable(n: int, alpha: float, power: float = POWER) -> float:
    """The smallest accuracy that n guesses show to be above one half in a share `power` of cases; 1 if none is.

    Shown means that the lower end of the exact interval at level 1 - alpha is above one half.
    """
    right = np.arange(n + 1)
    enough = right[special.bdtrc(right - 1, n, 0.5) <= alpha / 2]  # P(X >= right) of mere guesses
    if not len(enough):
        return 1.0
    k = int(enough[0])
    return float(special.betaincinv(k, n - k + 1, power))  # the p at which P(X >= k) is `power`


def _check(real: np.ndarray, fake: np.ndarray, control: np.ndarray) -> int:
    """How many of each side can be used: an even number."""
    kinds = {(values.dtype.str, values.shape[1:]) for values in (real, fake, control)}
    if len(kinds) > 1 or real.dtype not in (np.uint8, np.float32) or real.ndim not in (2, 4):
        shown = ", ".join(
            f"{name} {values.dtype} {values.shape}"
            for name, values in (("real", real), ("fake", fake), ("control", control))
        )
        raise UserError(f"{shown}: give all three as uint8 (n, C, H, W) or as float32 (n, d), of one shape")
    n = min(len(real), len(fake), len(control)) // 2 * 2
    if n < LEAST:
        raise UserError(f"n={n}: the two-sample test needs {LEAST} samples of each kind to mean anything; give more")
    return n


def _train(
    network: nn.Module,
    judge: Judge,
    real: np.ndarray,
    other: np.ndarray,
    seed: int,
    key: str,
    steps: int,
    tick: Callable[[], None],
) -> Callable[[np.ndarray], Tensor]:
    """Train a judge by logistic regression on balanced batches; returns what it says of other values, (n,) logits."""
    x_real, x_other = (scale(values, torch.float32, CPU) for values in (real, other))
    both = torch.cat((x_real, x_other))
    over = (0,) if both.dim() == 2 else (0, 2, 3)  # points: each coordinate by itself; images: each channel
    mean, deviation = both.mean(over, keepdim=True), both.std(over, keepdim=True).clamp_min(1e-6)
    x_real, x_other = (x_real - mean) / deviation, (x_other - mean) / deviation
    optimiser = torch.optim.AdamW(network.parameters(), lr=judge.lr, weight_decay=judge.decay)
    half = BATCH // 2
    with torch.enable_grad():
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = judge.lr * (1 - step / steps)
            a, b = (
                x[torch.from_numpy(randomness.order(seed, f"{key}/{name}", step * half, half, len(x)))]
                for x, name in ((x_real, "real"), (x_other, "other"))
            )
            logits = network(torch.cat((a, b)))
            loss = F.softplus(torch.cat((-logits[:half], logits[half:]))).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            tick()
    network.eval()

    @torch.no_grad()
    def look(values: np.ndarray) -> Tensor:
        pieces = np.array_split(values, -(-len(values) // 256))
        return torch.cat([network((scale(piece, torch.float32, CPU) - mean) / deviation) for piece in pieces])

    return look
