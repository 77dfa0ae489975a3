"""What a run will take, told before it begins: memory at its peak, and room on the disk.

The heaviest moments are played at the full batch on fake tensors (torch's own: shape and type, no values), so nothing
is computed and nothing allocated, and every tensor that would live is counted, gradients of gradients too: for a step,
to the byte what the same count over real tensors gives. What it cannot see is what the system keeps of freed memory.
For the processor that is in a few constants below, measured (`zerosum bench memory`, docs/memory.md); for a GPU nothing
but tensors is counted, and no GPU was there to measure it on.
"""

from __future__ import annotations

import os
import shutil
import weakref
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zerosum.data.sides import SIDES
from zerosum.data.spec import Spec
from zerosum.ema import can_share
from zerosum.engine import Engine, settled_precision
from zerosum.errors import UserError
from zerosum.film import GIF_BYTES, GIF_FRAMES, GIF_WIDTH
from zerosum.game import Batch, Minimise, Turns
from zerosum.metrics import features
from zerosum.metrics.probe import GRID, REAL, SAMPLES
from zerosum.metrics.translation import AT_ONCE
from zerosum.metrics.translation import SAMPLES as TRANSLATED
from zerosum.networks import coupled
from zerosum.run import Run
from zerosum.sample import CHUNK
from zerosum.seats import carried_by, seated

MB, GB = 10**6, 10**9
# Of the processor, with glibc: blocks come from a heap with holes in it, and what is freed there stays with the process
# (blocks of 32 MB and more only while a run trains, `engine.kept_memory`; the numbers are from before). So the peak is
# higher than what lives at the heaviest moment, and later moments lie on top of the rest.
HOLES, STAYS = 1.3, 0.9
LATER = 65 * MB  # code and scratch memory that the first step and the first probe bring in
FINISH = 70 * MB  # what film and report bring in at the end
WRITTEN = 3  # times its size that a checkpoint takes as it is written: the bytes of each tensor, of all, and a copy
CHECKPOINTS = 3  # on the disk: the newest two, and the best or the one being written


@dataclass(frozen=True)
class Need:
    """Bytes of one process, by what they are for. `turn` .. `end` come one after the other; the heaviest counts."""

    process: int
    """What is there before: interpreter, torch, the data that are held in memory. 0 on a GPU."""
    networks: int
    """Weights and buffers of all players."""
    average: int
    """The averaged generators, where they are not the live ones."""
    saved_average: int
    """The same in a checkpoint, which always has them."""
    moments: int
    """Adam's."""
    turn: int
    """The heaviest moment of a step: activations, gradients, gradients of gradients."""
    regret: int
    """The same of a rehearsal, with the copies of players and moments that it plays on; 0 if there is none."""
    probe: int
    """Samples, real images and features of a probe, or of a sample grid."""
    end: int
    """Film and report."""
    on_gpu: bool = False

    @property
    def checkpoint(self) -> int:
        """Its size."""
        return self.networks + self.saved_average + self.moments

    @property
    def peak(self) -> int:
        heaviest = max(self.turn, self.regret, self.probe)
        kept = self.networks + self.average + self.moments  # from step to step
        if self.on_gpu:  # checkpoints and films are made elsewhere
            return kept + heaviest
        later = max(WRITTEN * self.checkpoint, self.end)
        return self.process + LATER + kept + int(max(HOLES * heaviest, STAYS * heaviest + later))


def predict(run: Run, spec: Spec, device: torch.device) -> Need:
    """What each process of the run takes, on data of this shape.

    `run` is as it will be trained; if the clock ends it, with the images that it will come to.
    The data are what the process holds of them by now. Pages of a mapped file count as free: the system takes them
    back. Raises what the algorithm raises if its step looks at values, which fake tensors do not have.
    """
    spec = run.sees(spec)
    # On whatever device: the tensors are as large there. (Fake ones of a GPU cannot go backward without a GPU.)
    engine = Engine(torch.device("cpu"), settled_precision(run.precision))
    count = run.batch_size // int(os.environ.get("WORLD_SIZE", "1"))
    if run.micro_batches > 2:  # the second is as heavy as any after it
        count, run = count // run.micro_batches * 2, replace(run, micro_batches=2)
    with torch.random.fork_rng(devices=[]):  # every new layer draws from torch's own generator
        judge = features.cheap(spec)  # whose weights come from keys, so they are no fakes
    with _fakes():
        run.adam_g.optimiser(nn.Linear(1, 1))  # the first one loads half of torch's compiler: part of the process
        with _default(engine.dtype):  # a fake network cannot be converted
            networks = run.algorithm.players(spec)
            carried = carried_by(run, spec)
        turns = Turns(seated(run, networks, engine, carried), {}, engine, micro_batches=run.micro_batches)

        def heaviest(sides: Collection[str]) -> int:
            blank = Blank(spec, run.algorithm.networks.latent, engine)
            batch = Batch(blank, 0, count, count)
            seen = run.algorithm.heaviest_at
            return _peak(lambda: run.algorithm.step(Standstill(turns, sides), turns.players, batch, seen))

        sides = {name[0] for name in networks} & {"G", "D"}
        step = heaviest(sides)
        alone = max(heaviest({side}) for side in sorted(sides)) if run.regret_every else 0
        probe = _probe(run, spec, networks, judge, engine)
    sizes = {name: _bytes([*net.parameters(), *net.buffers()]) for name, net in networks.items()}
    averaged = [name for name in networks if name.startswith(run.algorithm.averaged)]
    copied = [name for name in averaged if run.averages or not can_share(networks[name])]
    moments = 2 * sum(_bytes(net.parameters()) for net in networks.values())
    on_gpu = device.type == "cuda"
    return Need(
        process=0 if on_gpu else psutil.Process().memory_info().rss,
        networks=sum(sizes.values()) + sum(_bytes(kept.buffers()) for kept in carried.values()),
        average=sum(sizes[name] for name in copied),
        saved_average=sum(sizes[name] for name in averaged),
        moments=moments,
        turn=step,
        regret=alone + sum(sizes.values()) + moments if run.regret_every else 0,
        probe=probe,
        end=FINISH + min(GIF_FRAMES, _frames(run)) * GIF_WIDTH**2,
        on_gpu=on_gpu,
    )


def _probe(run: Run, spec: Spec, networks: dict[str, nn.Module], judge: nn.Module, engine: Engine) -> int:
    """The heaviest moment of a probe (`metrics.probe`), which works on samples of a fixed number."""
    source = Blank(spec, run.algorithm.networks.latent, engine)

    def image(count: int) -> int:
        return _bytes([source.real("", 0, count)])

    @torch.no_grad()
    def play(network: nn.Module, *inputs: Tensor | None) -> int:
        return _peak(lambda: network(*inputs))

    if spec.target is not None:
        ways = [("b" if name.endswith("BA") else "a", net) for name, net in networks.items() if name[0] == "G"]
        made = max(play(net, source.real(side, 0, AT_ONCE)) for side, net in ways)
        images = 2 * TRANSLATED + REAL  # inputs and outputs of a way, and the real side
        return made + images * max(_bytes([source.real(side, 0, 1)]) for side in SIDES) * len(ways)
    critic = networks.get("D")
    parts = [play(networks["G"], source.latent("", 0, CHUNK), source.label("", 0, CHUNK)) + image(SAMPLES)]
    if run.probe_every and critic is not None:
        copy = _bytes([*critic.parameters(), *critic.buffers()])
        parts.append(copy + play(critic, source.real("", 0, SAMPLES), source.label("", 0, SAMPLES)))
    if run.probe_every and spec.is_image:
        parts.append(2 * image(REAL) + play(judge, source.real("", 0, 256).float()))
    return max(parts) + 2 * image(SAMPLES)


def disk(run: Run, spec: Spec, need: Need) -> int:
    """Bytes that the run's folder will hold. If the best checkpoint is an old one, there are four for an instant."""
    frames = _frames(run)
    # As it was over a few runs: noise fills a grid's file, and what is learned leaves it emptier.
    grid = 8_000 + int(0.7 * GRID * torch.Size(spec.shape).numel()) if spec.is_image else 30_000
    gif, film = min(GIF_BYTES, 90_000 * frames), 100_000 + 20_000 * frames
    report = (film + 4 * grid) * 4 // 3 + 250_000  # which holds them as text
    log = 250 * _times(run, run.log_every) + 400 * _times(run, run.probe_every) + 500 * _times(run, run.regret_every)
    written = 1 + _times(run, run.checkpoint_every)
    kept = min(CHECKPOINTS, written) * need.checkpoint
    if written <= CHECKPOINTS:  # the first, from before the first step, is among them: it has no moments
        kept -= need.moments
    return kept + (frames + 1) * grid + gif + film + report + log


def _frames(run: Run) -> int:
    return _times(run, run.grid_every) + 1


def _times(run: Run, every: int) -> int:
    """How often a run does what it does every so many images."""
    step = run.batch_size * run.algorithm.rounds
    return (run.images or 0) // max(every, step) if every else 0


# --- does it fit? --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A run that fits into the memory there is, what it needs there, and why it was changed, if it was."""

    run: Run
    need: Need
    room: int
    """Bytes that can be had."""
    reasons: list[str]


def fit(run: Run, spec: Spec, device: torch.device, limit: int | None = None, *, may_split: bool = True) -> Fit:
    """The run, in micro-batches if it would not fit into the memory otherwise, or UserError before anything begins.

    `limit`: bytes that it may take; what is free if not given. `may_split` is False if the user chose micro-batches.
    """
    if limit is not None and limit <= 0:
        raise UserError(f"--memory {limit / 1e9:g}: must be more than 0 GB")
    room = free(device) if limit is None else limit
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if device.type == "cpu" else 1
    world = int(os.environ.get("WORLD_SIZE", "1"))

    def first(options: list[Run]) -> Run | None:
        """The first that fits: of a list in which what comes after one that fits does too."""
        at = bisect_left(options, True, key=lambda run: processes * predict(run, spec, device).peak <= room)
        return options[at] if at < len(options) else None

    need = predict(run, spec, device)
    wanted = processes * need.peak
    if wanted <= room:
        return Fit(run, need, room, [])
    local = run.batch_size // world
    divisors = [n for n in range(2, local // 2 + 1) if local % n == 0]  # BatchNorm needs two, and one is slow
    if may_split and not _is_coupled(run, spec) and (split := first([replace(run, micro_batches=n) for n in divisors])):
        said = (
            f"{split.micro_batches} micro-batches, which change no loss: whole batches of {run.batch_size} would take "
            f"about {size(wanted)} of memory, and {size(room)} can be had"
        )
        return Fit(split, predict(split, spec, device), room, [said])
    more = "end other programs" if limit is None else "raise --memory"
    if processes * (least := need.process + LATER + need.end) > room:
        raise UserError(f"the smallest run takes about {size(least)} of memory, and {size(room)} can be had; {more}")
    sizes = [n for n in (run.batch_size // n for n in divisors) if n % (world * run.micro_batches) == 0]
    smaller = first([replace(run, batch_size=n) for n in sizes])
    remedy = f"--batch-size {smaller.batch_size} would fit" if smaller else _narrower(run)
    raise UserError(
        f"--batch-size {run.batch_size}: the run would take about {size(wanted)} of memory, and {size(room)} can be "
        f"had; {remedy}, or {more}"
    )


def _is_coupled(run: Run, spec: Spec) -> bool:
    with _fakes():
        return run.algorithm.coupled or any(coupled(network) for network in run.algorithm.players(spec).values())


def _narrower(run: Run) -> str:
    width = vars(run.algorithm.networks).get("width")
    narrower = "" if width is None else f" and a smaller --algorithm.networks.width (now {width})"
    return f"give a smaller --batch-size{narrower}"


def free(device: torch.device) -> int:
    """Bytes of memory that this process can have, with what it has: less than is free where a container has less."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)
    mine = psutil.Process().memory_info().rss
    return min([psutil.virtual_memory().available, *_container()]) + mine


def _container(folder: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What Linux leaves to the container that we are in, if we are in one with a limit."""
    try:
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such thing here, or "max"
        return []
    return [max(limit - used, 0)]


def sentence(fit: Fit, run: Run, spec: Spec, out: Path) -> str:
    """Both figures of the run that will be, beside what there is. UserError if its folder `out` has too little room."""
    needed = disk(run, spec, fit.need)
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    left = shutil.disk_usage(there).free
    if needed + fit.need.checkpoint > left:
        raise UserError(
            f"--out {out}: the run would take about {size(needed + fit.need.checkpoint)} of disk, and {size(left)} are "
            "free there; free some, choose another place, or give a smaller --algorithm.networks.width"
        )
    memory = f"{size(fit.need.peak)} of memory{' of the GPU (not measured)' if fit.need.on_gpu else ''}"
    return f"about {memory} ({size(fit.room)} can be had) and {size(needed)} of disk ({size(left)} free)"


def size(count: float) -> str:
    """Bytes in words, as disks and memory are sold."""
    if count < 0.5 * GB:
        return f"{max(count / MB, 1):.0f} MB"
    return f"{count / GB:.{2 if count < 10 * GB else 0}f} GB"


# --- playing without values ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blank:
    """A `game.Source` of the right shapes."""

    spec: Spec
    size: int
    engine: Engine

    def real(self, purpose: str, first: int, count: int) -> Tensor:
        side = self.spec.target if self.spec.target is not None and purpose == "b" else self.spec
        return torch.empty(count, *side.shape, dtype=self.engine.dtype)

    def label(self, purpose: str, first: int, count: int) -> Tensor | None:
        return torch.zeros(count, dtype=torch.long) if self.spec.classes else None

    def latent(self, purpose: str, first: int, count: int) -> Tensor:
        return torch.empty(count, self.size, dtype=self.engine.dtype)

    def uniform(self, purpose: str, first: int, count: int) -> Tensor:
        return torch.empty(count, dtype=self.engine.dtype)


@dataclass(frozen=True)
class Standstill:
    """A `game.Turn` in which some sides (G, D) take gradients and nobody moves: with both a step, with one a regret.

    A watched side keeps what its loss hangs on until the step ends, as in `equilibrium.gap`.
    """

    turns: Turns
    sides: Collection[str]

    @contextmanager
    def __call__(self, *names: str, full_precision: bool = False) -> Iterator[Minimise]:
        moves = names[0][0] in self.sides
        self.turns.thaw(*names if moves else ())

        def minimise(loss: Tensor, share: float | None = None) -> None:
            if moves:
                with self.turns.engine.backward():
                    loss.mean().backward()

        with self.turns.engine.forward(full_precision):
            yield minimise
        for name in names:
            self.turns.players.networks[name].zero_grad()

    @contextmanager
    def ahead(self, *names: str) -> Iterator[None]:
        self.turns.thaw(*names if names[0][0] in self.sides else ())
        with self.turns.engine.forward():
            yield

    def split(self, batch: Batch) -> Iterator[Batch]:
        return self.turns.split(batch)

    def note(self, *, real: Tensor, fake: Tensor) -> None:
        """Nobody keeps the score."""

    def log(self, **losses: Tensor) -> None:
        """Nor its parts."""


class Count(TorchDispatchMode):
    """Counts the bytes of all tensors made within it that still live, and the most that ever did."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        self.peak = max(self.peak, self.live)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, count = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.live += count

        def gone() -> None:
            self.known.discard(key)
            self.live -= count

        weakref.finalize(storage, gone)


@contextmanager
def _fakes() -> Iterator[None]:
    """Every tensor made in here has no values; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]), FakeTensorMode(allow_non_fake_inputs=True):
        yield


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _peak(work: Callable[[], object]) -> int:
    with Count() as count:
        work()
    return count.peak


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
