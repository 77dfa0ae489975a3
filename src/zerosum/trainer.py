"""The loop: housekeeping first, then one step of the algorithm, until done. Mechanics only; the game is elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zerosum import checkpoint, distributed, pictures, randomness, snapshot
from zerosum.data.sides import Sides
from zerosum.data.spec import Dataset
from zerosum.data.split import held_out_part, train_part
from zerosum.ema import EMA
from zerosum.engine import Engine, settled_format
from zerosum.equilibrium.advisor import Advisor
from zerosum.equilibrium.gap import QUICK_BATCHES, QUICK_TURNS, Regret, regret
from zerosum.equilibrium.watch import SKIPS_IN_A_ROW, Watch
from zerosum.errors import UserError
from zerosum.feeds import loader_of, probe_of
from zerosum.game import Batch, Turns
from zerosum.metrics.probe import Reading
from zerosum.progress import Progress
from zerosum.run import Run
from zerosum.runlog import RunLog, grid_path, write_status
from zerosum.seats import carried_by, seated
from zerosum.view import View

VIEW_SECONDS = 0.25


class Training:
    """One run in one folder: everything that moves, built from the recipe and nothing else."""

    def __init__(self, run: Run, dataset: Dataset | Sides, device: torch.device, out: Path, view: View) -> None:
        self.run, self.dataset, self.device, self.out, self.view = run, dataset, device, out, view
        assert run.precision != "auto"
        assert run.threads is not None
        torch.set_num_threads(run.threads)
        self.engine = engine = Engine(device, run.precision, settled_format(run.memory_format), run.compile == "on")
        self.spec = run.sees(dataset.spec)
        torch.manual_seed(randomness.torch_seed(run.seed, "weights", 0))
        modules = {name: engine.place(module) for name, module in run.algorithm.players(self.spec).items()}
        carried = {name: engine.place(module) for name, module in carried_by(run, self.spec).items()}
        self.players = seated(run, modules, engine, carried)
        self.adam = {name: run.adam_of(name) for name in modules}
        self.optimisers = {name: self.adam[name].optimiser(module) for name, module in modules.items()}
        self.turns = Turns(
            self.players, self.optimisers, engine, micro_batches=run.micro_batches, boundary=run.algorithm.boundary,
            coupled_loss=run.algorithm.coupled,
        )  # fmt: skip
        drawn = {name: module for name, module in modules.items() if name.startswith(run.algorithm.averaged)}
        self.ema = {name: EMA(module, shared=not run.averages) for name, module in drawn.items()}
        held_out = held_out_part(dataset, run.data)
        self.loader = loader_of(run, train_part(dataset, run.data), engine)
        self.local = distributed.share(run.batch_size, run.micro_batches)
        self.images_per_step = run.batch_size * run.algorithm.rounds
        held = None if held_out is None else loader_of(run, held_out, engine, held_out=True)
        self.generators = [name for name in self.ema if name.startswith("G")]
        self.probe = probe_of(self.loader, held, run.made(self.spec), self.generators)
        self.watch = Watch()
        self.advisor = Advisor(run.images)
        self.progress = Progress(run.images, run.minutes, 0, 0.0)
        self.seen = 0
        self.lr_scale = 1.0
        self.rolled_back = False
        self.reading: Reading | None = None  # of the probe at this very moment
        self.seconds = 0.0
        self.restored_at: int | None = None
        self.finished = False
        self.stop_requested = False
        self.log: RunLog | None = None  # the writer's, opened by the session

    def train(self) -> str:
        """Play until done or asked to stop. Returns "finished" or "stopped". Raises UserError if it cannot go on."""
        run = self.run
        started, seconds_before, last_view = time.perf_counter(), self.seconds, 0.0
        self.progress = Progress(run.images, run.minutes, self.seen, self.seconds)
        while True:
            self.seconds = seconds_before + time.perf_counter() - started
            if new := self.seen != self.restored_at:  # what a checkpoint holds was logged before it was saved
                self._log()
            done, stop = self.done(), distributed.agree(self.stop_requested, self.device)
            if new:
                self._housekeeping(done, stop)
            now = time.perf_counter()
            if now - last_view >= VIEW_SECONDS or done or stop:
                slowing = self.players.young is not None
                self.view.update(self.progress.status(self.seen, self.seconds, self.turns.skipped, slowing))
                last_view = now
            if done or stop:
                self.finished = done
                return "finished" if done else "stopped"
            self.step()
            if max(self.turns.skips_in_a_row.values(), default=0) >= SKIPS_IN_A_ROW:
                self._roll_back()
                self.progress = Progress(run.images, run.minutes, self.seen, self.seconds)

    def step(self) -> None:
        """One iteration of the algorithm, at the position that `seen` says."""
        run = self.run
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.adam[name].lr(self.seen) * self.lr_scale
        # Dropout and the like draw from torch's own generator: address it too.
        self.engine.seed(randomness.torch_seed(run.seed, f"step/{distributed.rank()}", self.seen))
        first = self.seen + distributed.rank() * self.local
        batch = Batch(self.loader, first, self.local, run.batch_size)
        run.algorithm.step(self.turns, self.players, batch, self.seen)
        self.seen += self.images_per_step
        for ema in self.ema.values():
            ema.update(self.images_per_step, run.ema_half_life(self.seen))

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The averaged generators by name, in eval mode, as they are drawn from."""
        return {name: self.ema[name].settled(partial(self.loader.given, name, "ema")) for name in self.generators}

    def due(self, every: int, seen: int | None = None) -> bool:
        """Whether a multiple of `every` was passed by the step that ended at `seen` (now, if not given)."""
        seen = self.seen if seen is None else seen
        return seen == 0 or seen // every > (seen - self.images_per_step) // every

    def done(self) -> bool:
        enough = self.run.images is not None and self.seen >= self.run.images
        late = self.run.minutes is not None and self.seconds >= 60 * self.run.minutes
        return enough or distributed.agree(late or self.advisor.ends(self.run.until), self.device)

    def _housekeeping(self, done: bool, stop: bool) -> None:
        if distributed.is_writer():
            if self.due(self.run.grid_every) or done:
                self._grid()
            if done and self.run.probe_every and self.reading is None:
                self._probe(final=True)
        if self.due(self.run.checkpoint_every) or done or stop:
            self.save()

    def _log(self) -> None:
        """What is due of the log. Before it is asked whether the run is done: a probe may say so."""
        if self.due(self.run.log_every) and (scores := self.turns.read_scores()):
            self._log_row(scores)
        self.reading, every = None, self.run.probe_every
        if every and distributed.is_writer() and (self.due(every) or self.due(self.run.checkpoint_every)):
            self._probe(final=False)
        if self.log and self.seen and self.run.regret_every and self.due(self.run.regret_every):
            self.log.write("regret", self.seen, **self.regret().row())

    def regret(self) -> Regret:
        """What either player could still gain by a few turns more, on copies."""
        game = (self.run, self.players, self.optimisers, self.engine)
        return regret(*game, self.loader, self.probe.source, self.seen, turns=QUICK_TURNS, batches=QUICK_BATCHES)

    def _log_row(self, scores: dict[str, float]) -> None:
        row = scores | {"skipped": float(self.turns.skipped)}
        for warning in self.watch.row(row, self.turns.skipped):
            self._warn(warning)
        per_second = self.progress.row(row, self.seen, self.seconds)
        if self.log:
            row |= {"seconds": round(self.seconds, 3), "images_per_second": round(per_second, 1)}
            self.log.write("progress", self.seen, **row)

    def _grid(self) -> None:
        image = self.probe.draw(self.averaged)
        pictures.save_png(image, grid_path(self.out, self.seen), {"images_seen": str(self.seen)})
        self.view.preview(image, self.seen)

    def _probe(self, final: bool) -> None:
        self.reading = reading = self.probe(self.averaged, self.players.networks)
        self.progress.probe(reading.diversity)
        more = {"final": True} if final else self.advisor.add(self.seen, reading, self.due(self.run.checkpoint_every))
        if self.log:
            self.log.write("probe", self.seen, **reading.row(), features=self.probe.reference.name, **more)
        for warning in [] if final or not self.seen else self.watch.probe(reading.diversity):
            self._warn(warning)

    def _warn(self, text: str, **more: Any) -> None:
        if self.log:
            self.log.write("warning", self.seen, text=text, **more)
        self.view.message(text, "warning")

    # --- saving and going back ---------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """All that a checkpoint must hold: tensors by name, and plain values."""
        values = {
            "seconds": self.seconds, "turns": self.turns.state(), "watch": self.watch.state(),
            "lr_scale": self.lr_scale, "rolled_back": self.rolled_back, "probes": self.advisor.state(),
            **self.advisor.score_at(self.seen),
        }  # fmt: skip
        assert all(self.ema[name].network is network for name, network in self.averaged.items())  # settled
        return snapshot.take(self.players, self.ema, self.optimisers), values

    def save(self) -> None:
        """Write a checkpoint. All ranks must call it."""
        distributed.by_writer(partial(self._write, *self.state()))  # a full disk ends all of them

    def _write(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        if self.log:
            self.log.sync()
        checkpoint.save(self.out, self.seen, tensors, values)
        checkpoint.prune(self.out)
        write_status(self.out, "running", self.seen, self.seconds)

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Become what the checkpoint says, to the last bit."""
        snapshot.put(saved, self.players, self.ema, self.optimisers)
        values = saved.state
        self.seen = self.restored_at = saved.images_seen
        self.turns.load_state(values["turns"])
        self.watch = Watch(**values["watch"])
        self.advisor = Advisor(self.run.images, values.get("probes", []))
        self.seconds, self.lr_scale, self.rolled_back = values["seconds"], values["lr_scale"], values["rolled_back"]

    def go_back(self, accept: Callable[[dict[str, Any]], bool] = lambda state: True) -> bool:
        """Become the newest whole checkpoint whose state `accept` likes, and forget what came after it.

        False if there is none. All ranks must call it; the writer alone reads and writes.
        """
        warn = partial(self.view.message, level="warning")
        saved = distributed.by_writer(lambda: checkpoint.newest(self.out, warn, accept))
        if saved is None:
            return False
        self.restore(saved)
        ended = self.done()
        if distributed.is_writer():
            checkpoint.forget_after(self.out, self.seen, partial(self.due, self.run.grid_every), ended=ended)
        return True

    def _roll_back(self) -> None:
        """Updates fail in a row: return to the last good checkpoint with half the learning rate, once; then give up."""
        where = f"{self.seen:,} images: gradients of {SKIPS_IN_A_ROW} updates in a row were not finite"
        if self.rolled_back:
            raise UserError(
                f"stopped at {where}, again, after half the learning rate. Lower --adam-g.lr and --adam-d.lr further, "
                "or use --precision fp32; the checkpoints are intact"
            )
        seconds, skipped = self.seconds, self.turns.skipped
        if not self.go_back(lambda state: not any(state["turns"]["skips_in_a_row"].values())):
            raise UserError(
                f"stopped at {where}, and there is no checkpoint to go back to; lower --adam-g.lr and --adam-d.lr"
            )
        self.seconds, self.turns.skipped, self.watch.skipped = seconds, skipped, skipped
        self.rolled_back, self.lr_scale = True, self.lr_scale / 2
        # Nothing is saved here: a run killed before its next checkpoint plays this again, to the same end.
        self._warn(f"{where}; back to {self.seen:,} images with half the learning rate", rolled_back=True)
