"""Where a run's images come from and what watches it: of one-sided data, or of two sides to translate between."""

from __future__ import annotations

from collections.abc import Iterable

from zerosum.data.loader import Loader
from zerosum.data.sides import Sides
from zerosum.data.sides_loader import SidesLoader
from zerosum.data.spec import Dataset, Spec
from zerosum.engine import Engine
from zerosum.metrics.probe import Probe
from zerosum.metrics.translation import TranslationProbe
from zerosum.run import Run


def loader_of(run: Run, dataset: Dataset | Sides, engine: Engine, *, held_out: bool = False) -> Loader | SidesLoader:
    """The source of a run's batches. What is held out is drawn as it is found, with every label."""
    if isinstance(dataset, Sides):
        return SidesLoader(
            dataset, seed=run.seed, batch=run.batch_size, flip=run.data.flip, dtype=engine.dtype, device=engine.device
        )
    return Loader(
        dataset, seed=run.seed, latent=run.algorithm.networks.latent, conditional=run.conditional,
        labelled=None if held_out else run.labelled, even=not held_out and run.class_balance == "even",
        flip=run.data.flip, dtype=engine.dtype, device=engine.device,
    )  # fmt: skip


def probe_of(
    loader: Loader | SidesLoader, held_out: Loader | SidesLoader | None, spec: Spec, generators: Iterable[str]
) -> Probe | TranslationProbe:
    """The running check of these generators."""
    if isinstance(loader, SidesLoader):
        assert held_out is None or isinstance(held_out, SidesLoader)
        return TranslationProbe(loader, held_out, generators)
    assert held_out is None or isinstance(held_out, Loader)
    return Probe(loader, held_out, spec)
