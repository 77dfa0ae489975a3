"""The benchmarks: what the project claims, measured again by one command (`benchmarks/README.md` says how).

A benchmark is a module with `SEEDS`, the seeds it repeats with, and `measure(bench)`, which returns a `Report`; options
of its own, a subclass of `protocol.Options`, are its `OPTIONS`. What it measures goes through `bench.arm`, so that an
interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import difflib
import importlib

from zerosum.errors import UserError

BENCHMARKS = {
    "digits": "the default recipe: classes, likeness, no copies, under 90 s",
    "ring": "eight Gaussians: who covers them all, and who collapses",
    "optimal-discriminator": "D against Goodfellow's closed form",
    "speedrun": "the default beside the textbook DCGAN, SNGAN and R3GAN at 1, 2 and 5 minutes",
    "throughput": "images a second of the 64x64 DCGAN beside the textbook's loop and the machine's bf16 bound",
    "image-to-image": "translators trained for minutes beside what needs no training",
    "translate": "pix2pix and CycleGAN beside the textbook's loops: rates, memory, an image of 1,024x768",
    "faces": "faces from few photos: growing, augmentation, copies, inversion",
    "layers": "what equalised, normalised, fading and augmented layers cost beside bare convolutions",
    "films": "real films through a trained translator: do they play, how much do they flicker",
    "fashion": "Fashion-MNIST in 5 and 10 minutes",
    "tastes": "recommenders and designs on simulated shoppers of Fashion-MNIST",
    "medicine": "whether a GAN helps a classifier of chest X-rays, and planted controls",
    "conditional": "classes on demand: are they drawn as asked, and all of them",
    "semi-supervised": "MNIST from few labels against the same network with those alone",
    "faults": "planted faults, and whether the verdict names them",
    "stopping": "the stop advisor against hindsight, and what probes cost",
    "verdicts": "what is said of games that circle, converge, collapse or settle",
    "metrics": "distances between features: seconds, memory, parity",
    "memory": "memory and disk, predicted before a run and measured",
    "input": "the loader against the training rate, and a folder of JPEGs decoded",
    "sampling": "batched sampling against plain eager fp32, one image's latency, and what bf16 changes",
    "loop": "our loop against a bare PyTorch loop",
    "startup": "import and --help",
}


def main(arguments: list[str]) -> int:
    """`zerosum bench NAME [options]`. 0 if every target was met (or with --quick), 1 if one was missed."""
    name, *words = arguments
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, 1, 0.4)
        hint = f"did you mean {near[0]}? They are" if near else "they are"
        raise UserError(f"{name}: there is no such benchmark; {hint} {', '.join(BENCHMARKS)}")
    from zerosum.bench.protocol import Bench, Options
    from zerosum.parsing import parse

    module = importlib.import_module(f"zerosum.bench.{name.replace('-', '_')}")
    kind = getattr(module, "OPTIONS", Options)
    try:
        options = parse(kind, words, prog=f"zerosum bench {name}", description=f"Measure {BENCHMARKS[name]}.")
    except SystemExit as end:  # help was asked for, or a value did not fit: said by now
        return end.code if isinstance(end.code, int) else 2
    bench = Bench(name, options, module.SEEDS)
    met = bench.publish(module.measure(bench))
    return 0 if met or options.quick else 1
