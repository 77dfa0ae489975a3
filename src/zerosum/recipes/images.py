"""Recipes for small images, sized for two processor cores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from zerosum.algorithms.cyclegan import CycleGAN
from zerosum.algorithms.pix2pix import Pix2Pix
from zerosum.algorithms.progressive import ProgressiveGAN
from zerosum.algorithms.r1gan import R1GAN
from zerosum.algorithms.r3gan import R3GAN
from zerosum.algorithms.ssgan import SSGAN
from zerosum.data.augment import POLICIES, Policy
from zerosum.data.loader import scale
from zerosum.data.sides import SIDES, Sides
from zerosum.data.spec import Data, Spec
from zerosum.game import Adam, Algorithm
from zerosum.metrics.features import cheap
from zerosum.networks import DCGAN, MLP, Patch, Progressive, ResBlocks, Subpixel
from zerosum.recipes.base import from_settings, with_cadence
from zerosum.run import Run
from zerosum.schedule import Constant, Cosine, Linear

FEW = 2_000  # images: below, D can learn them by heart
LOW = 32  # pixels of the shorter side: of few images `quick` was chosen at 28, `few` at 64
MOVED: tuple[Policy, ...] = ("translation",)
ALIKE, COMPARED = 0.3, 256  # emoji of two makers 0.05, cats and dogs 0.02, facades and their labels 1.3; images a side


def digits() -> Run:
    """scikit-learn's 8x8 handwritten digits, unconditional: 41 s on one AMD EPYC core (`zerosum bench digits`).

    Over 3 seeds: all ten classes, the rarest 8.4 %; a judge's confidence 94.0 % of that on held-out real digits.
    """
    adam = Adam(lr=Constant(5e-4), beta1=0.0, beta2=0.99)
    run = Run(
        data=Data(source="digits"),
        algorithm=R3GAN(networks=MLP(latent=32, width=256, depth=3), gamma=Constant(1.0)),
        adam_g=adam,
        adam_d=adam,
        batch_size=64,
        images=180_000,
        ema_half_life=Linear(0, 10_000, 100_000),
    )
    return with_cadence(run, 180_000)


def quick(data: Data) -> Run:
    """Any small images in minutes: the original game with a lazy R1, sub-pixel networks (`zerosum bench speedrun`)."""
    run = replace(
        from_settings("r1gan", data), batch_size=64, images=None, minutes=10.0,
        ema_half_life=Linear(0, 50_000, 250_000),
    )  # fmt: skip
    return cooled(run, 600_000)


def few(data: Data) -> Run:
    """Few images of some more pixels: the game of `quick` on Progressive GAN's networks, whole from the start.

    100 faces at 80x64, 15 minutes of one core of Zen 5 (`zerosum bench faces`, 2 seeds): kernel distance 0.086 and
    0.076; images not moved 0.143 and 0.153, `quick` behind all augmentation 0.70 and 0.85. Of Zen 4, in half as many
    images: 0.176 and 0.138, not moved 0.169 and 0.202. How it was found is in docs/log.md (2026-12-01).
    """
    run = growing(data)
    game = R1GAN(networks=Progressive(width=24, widest=96, folds=1))
    return replace(run, algorithm=game, batch_size=8, minutes=10.0, augment=MOVED)


def against_learning_by_heart(run: Run, policies: tuple[Policy, ...] = POLICIES) -> tuple[Policy, ...]:
    """What D is to see images through where there are few of them: `policies`, or moved alone.

    Behind all three, networks with the spread over the minibatch draw a handful of faces (docs/log.md, 2026-12-01).
    """
    return MOVED if isinstance(run.algorithm.networks, Progressive) else policies


def bare(data: Data, spec: Spec, count: int) -> tuple[Run, str]:
    """What `count` images without a counterpart are trained with where no algorithm is named, and why."""
    game = "the original game with a lazy R1 penalty on"
    best = "the best found for some minutes of a small machine; --algorithm chooses another"
    if count < FEW and min(spec.shape[1:]) > LOW:
        return few(data), f"{game} Progressive GAN's networks, whole from the start, images moved about: {best}"
    return quick(data), f"{game} small convolutional networks: {best}"


def named(algorithm: str, data: Data) -> tuple[Run, str]:
    """An algorithm that was asked for, for images without a counterpart, and why it is as it is."""
    algorithm = algorithm.replace("-", "_").lower()  # as `algorithms.settings` takes it
    if algorithm == "ssgan":
        run = semi_supervised(data)
        why = "a classifier from few labels that says the same of an image that moved; --labelled N uses N labels"
    elif algorithm == "progressive":
        run = growing(data)
        why = (
            "Progressive GAN with thinner networks, smaller batches and another loss than its paper; of few faces "
            "--algorithm.growth 0, whole from the start, learned more in as long: docs/algorithms"
        )
    else:
        run = from_settings(algorithm, data)
        why = f"{type(run.algorithm).__name__} with its own settings (docs/algorithms): you asked for it"
    return run, why


def translation(algorithm: str, data: Data) -> Run:
    """A translator as its paper has it, for so long as the user says."""
    return replace(from_settings(algorithm, data), images=None, minutes=20.0)


def alike(sides: Sides) -> bool:
    """Whether the sides look alike: horses and zebras do, photos and label maps do not.

    In the running probe's features, of some images of each (of the commonest size): the squared distance of the means
    against the variance.
    """
    seen = []
    with torch.no_grad():
        for side, spec in zip(SIDES, sides.spec.sides, strict=True):
            count = len(sides.buckets[0][SIDES.index(side)])
            index = np.linspace(0, count - 1, min(count, COMPARED)).round().astype(np.int64)
            values = scale(sides.gather(side, index), torch.float32, torch.device("cpu"), spec.depth)
            seen.append(torch.cat([cheap(spec)(part) for part in values.split(16)]).double())
    a, b = seen
    if a.shape[1] != b.shape[1] or sides.spec.sides[0].shape[0] != sides.spec.sides[1].shape[0]:
        return False
    between = (a.mean(0) - b.mean(0)).square().sum()
    return bool(between < ALIKE * (a.var(0).sum() + b.var(0).sum()) / 2)


def quick_translation(data: Data, sides: Sides) -> Run:
    """A translator for some minutes of a small machine: the papers' games, thinner residual networks, bolder steps.

    Without pairs, where the sides look alike, the generators say what to change and where, and begin as nearly the
    identity: no loss need teach them to leave alone what is right. Where they do not, noise on the way back keeps
    them from hiding there what they would lose (docs/log.md, 2026-11-30). `zerosum bench image-to-image` has it beside
    the papers' own settings at equal time.
    """
    paired = sides.spec.paired
    run = translation("pix2pix" if paired else "cyclegan", data)
    adam = Adam(lr=Linear(1e-3, 0, 1, 1), beta1=0.5)
    thin, like = Patch(width=32, norm="scaled_instance"), not paired and alike(sides)
    game: Algorithm = (
        Pix2Pix(networks=ResBlocks(width=16, blocks=6, even=True, patch=thin))
        if paired
        else CycleGAN(
            networks=ResBlocks(width=16, blocks=4, attention=like, even=True, patch=Patch(width=16)),
            weight_cycle=7.0 if like else 10.0,
            weight_identity=0.0,
            noise=0.0 if like else 0.1,
        )
    )
    if len(sides) < FEW:  # D knows them by heart after a dozen passes
        run = replace(run, augment=("adaptive",), augment_images=20_000)
    return replace(run, algorithm=game, adam_g=adam, adam_d=adam, batch_size=4, ema_half_life=Linear(0, 2_000, 20_000))


def semi_supervised(data: Data) -> Run:
    """A classifier from few labels (`zerosum bench semi-supervised`): the game behind small shifts that have to agree.

    On one core of an AMD EPYC (Zen 4, bf16), MNIST, 100 labels, validation images: 97.7 % right after 8 minutes (five
    seeds, 97.2 to 98.3), 97.2 and 97.5 % after 2.5; with three times the weight of agreeing 94.5 and 97.2 %. Of
    twice the width, at other rates and without agreeing, 91.0 % after 8.
    """
    run = from_settings("ssgan", data)
    game = SSGAN(networks=Subpixel(width=16), weight_consistency=10.0)
    adam = Adam(lr=Constant(2e-3), beta1=0.5)
    return replace(
        run, algorithm=game, adam_g=adam, adam_d=adam, images=None, minutes=8.0, augment=MOVED,
        ema_half_life=Linear(0, 5_000, 50_000),
    )  # fmt: skip


def growing(data: Data) -> Run:
    """A game that grows, for minutes of a small machine: the logistic loss, thin networks, small batches at every size.

    Weights that are scaled as they are used learn a tenth as fast as others at the same rate: hence 1e-2. 300 faces at
    40x32, five minutes of one AVX2 core, one seed: 32,000 images, kernel distance 1.18 at 1.6e-2, 1.21 at 8e-3 and 2.03
    at 2e-3; with its paper's rate and batches 1.86 (docs/log.md, 2026-12-01). Over how many images its rates fall
    is for `cooled` to say, which `pick` does.
    """
    run = from_settings("progressive", data)
    game = ProgressiveGAN(networks=Progressive(width=12, widest=96), loss="logistic", parts=1)
    adam = replace(run.adam_g, lr=Linear(1e-2, 1e-3, 1, 1))
    return replace(run, algorithm=game, adam_g=adam, adam_d=adam, batch_size=16, images=None, minutes=25.0)


def cooled(run: Run, images: int) -> Run:
    """Both learning rates fall to a tenth over so many images: at its full rate the game comes apart in the end.

    Where the paper has them stay for half of the run first, they do, and fall to its end. `pick` says how many images:
    a recipe whose length is a clock's cannot know.
    """
    half = max(images // 2, 1)

    def lowered(adam: Adam) -> Adam:
        lr = adam.lr
        falling = replace(lr, images=half, after=half) if lr.after else Cosine(lr.start, lr.start / 10, images)
        return replace(adam, lr=falling)

    return replace(run, adam_g=lowered(run.adam_g), adam_d=lowered(run.adam_d))


def fashion_mnist_dcgan() -> Run:
    """Fashion-MNIST at 28x28 with the DCGAN, a quarter of the paper's width, 5 minutes.

    On two AMD EPYC cores (`zerosum bench fashion`, 1 seed): 393,000 images, recognisable and varied clothes, a judge's
    confidence 82 % of that on real ones.
    """
    return replace(from_settings("dcgan", Data(source="fashion-mnist")), images=None, minutes=5.0)


def fashion_mnist() -> Run:
    """Fashion-MNIST at 28x28, 5 minutes: what is picked for small images (`zerosum bench speedrun`)."""
    return replace(quick(Data(source="fashion-mnist")), minutes=5.0)


def fashion_mnist_r3gan() -> Run:
    """Fashion-MNIST at 28x28 with R3GAN's loss and penalties on plain convolutional networks, 5 minutes.

    On two AMD EPYC cores (`zerosum bench fashion`, 1 seed): 233,000 images, recognisable and varied clothes, a judge's
    confidence 82 % of that on real ones. R3GAN's own residual networks (`--algorithm r3gan`) are several times slower.
    """
    adam = Adam(lr=Constant(1e-3), beta1=0.0, beta2=0.99)
    return Run(
        data=Data(source="fashion-mnist"),
        algorithm=R3GAN(networks=DCGAN(latent=64, width=32, norm_critic=False), gamma=Constant(5.0)),
        adam_g=adam,
        adam_d=adam,
        batch_size=64,
        minutes=5.0,
        ema_half_life=Linear(0, 10_000, 100_000),
    )
