"""A run that ends by itself: where its probes say so, the same after every interruption, and not for ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import little_runs
import tiny
from zerosum import checkpoint, run, session
from zerosum.equilibrium import advisor
from zerosum.errors import UserError
from zerosum.metrics import probe, report
from zerosum.metrics.probe import Reading
from zerosum.run import Run
from zerosum.runlog import read_events, read_status
from zerosum.sample import read_recipe
from zerosum.trainer import Training
from zerosum.view import SilentView


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short sessions; and a probe that answers with a run whose best is at half of its length."""
    monkeypatch.setattr(session, "make_film", lambda out: None)
    monkeypatch.setattr(session, "write_report", lambda out: out / "report.html")
    monkeypatch.setattr(probe, "SAMPLES", 16)

    ask, seen = Training._probe, 0

    def asked(self: Training, final: bool) -> None:
        nonlocal seen
        seen = self.seen
        ask(self, final)

    def told(self: probe.Probe, generator: object, critic: object = None) -> Reading:
        return Reading(100.0 if seen == 0 else 10.0 + abs(seen - 240) / 8, 0.05, 0.0, 1.0)

    monkeypatch.setattr(Training, "_probe", asked)
    monkeypatch.setattr(probe.Probe, "__call__", told)


def endless(**changes: object) -> Run:
    """Probes and checkpoints at every second step, of 8 images, for 120 steps at most."""
    usual = {"until": "converged", "probe_every": 16, "checkpoint_every": 16, "grid_every": 80}
    return little_runs.recipe("gan", 120, **(usual | changes))


def test_it_ends_by_itself_and_keeps_its_best(tmp_path: Path) -> None:
    session.start(endless(), tiny.images(), tmp_path / "a")
    status = read_status(tmp_path / "a")
    assert (status["state"], status["text"]) == ("finished", "converged")
    assert 240 < status["images_seen"] < 960
    assert status["images_seen"] % 16 == 0, "at the probe that said so"
    assert checkpoint.best(tmp_path / "a") == 240
    assert checkpoint.numbers(tmp_path / "a")[-1] == status["images_seen"]
    saved = checkpoint.read_state(checkpoint.path_of(tmp_path / "a", 240))["state"]
    assert saved["score_low"] < saved["score"] < saved["score_high"]
    text = advisor.sentence(read_events(tmp_path / "a"), checkpoint.numbers(tmp_path / "a"), 60.0)
    assert text is not None
    assert text.startswith("stop; use --checkpoint 240; another ")


class Ear(SilentView):
    """Keeps what is said at the end."""

    def finish(self, lines: list[str]) -> None:
        self.lines = lines


def test_a_short_run_says_that_it_could_not_judge(tmp_path: Path) -> None:
    view = Ear()
    session.start(endless(images=100), tiny.images(), tmp_path / "a", view=view)
    text = "the run is too short to say whether to go on: it has 6 probes after the start, and 15 are needed"
    assert f"advice     {text}" in view.lines
    (line,) = [line for line in report.gather(report.Folder(tmp_path / "a")).verdict if line.about == "stopping"]
    assert (line.kind, line.text) == ("not measured", f"T{text[1:]}.")


def test_without_being_asked_it_goes_on_and_says_the_same(tmp_path: Path) -> None:
    session.start(endless(until="length"), tiny.images(), tmp_path / "a")
    assert read_status(tmp_path / "a")["images_seen"] == 960
    assert "chance_of_better" in [e for e in read_events(tmp_path / "a") if e["event"] == "probe"][-2]


@pytest.mark.parametrize("cut", [7, 15, 30])
def test_interrupted_it_ends_at_the_same_place(tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    session.start(endless(), tiny.images(), tmp_path / "whole")
    step, count = Training.step, 0

    def stopping(self: Training) -> None:
        nonlocal count
        count += 1
        self.stop_requested = count == cut
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", stopping)
        session.start(endless(), tiny.images(), tmp_path / "cut")
    assert read_status(tmp_path / "cut")["images_seen"] == 8 * cut
    session.resume(tmp_path / "cut", tiny.images())
    little_runs.assert_equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert read_status(tmp_path / "cut")["text"] == "converged"


def test_made_longer_it_goes_on_to_that_length(tmp_path: Path) -> None:
    session.start(endless(), tiny.images(), tmp_path / "a")
    ended = read_status(tmp_path / "a")["images_seen"]
    session.resume(tmp_path / "a", tiny.images(), images=ended + 160)
    assert read_status(tmp_path / "a")["images_seen"] == ended + 160
    assert read_status(tmp_path / "a")["text"] == ""
    assert read_recipe(tmp_path / "a")["run"]["until"] == "length"


def test_it_needs_probes() -> None:
    with pytest.raises(UserError, match="--until converged: needs probes"):
        run.check(replace(endless(), probe_every=0))
    with pytest.raises(UserError, match="--probe-every -1"):
        run.check(replace(endless(), until="length", probe_every=-1))
