"""The stop advisor against hindsight, over recorded runs; and what the probes cost.

The advisor is replayed on each recorded series as if the run were going on, with a checkpoint at every probe, as
`--until converged` keeps them. Hindsight has the truth about all moments, which the advisor never sees.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zerosum import recipes
from zerosum.bench import recording
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target
from zerosum.bench.training import settled, shortened
from zerosum.data.source import open_source
from zerosum.data.spec import Dataset
from zerosum.equilibrium.advisor import Advisor, Point
from zerosum.metrics.probe import Reading
from zerosum.recipes import probe_interval, quickest
from zerosum.recipes.base import with_cadence
from zerosum.run import Run
from zerosum.trainer import Training
from zerosum.view import SilentView

SEEDS = (0,)
WITHIN = 1.10  # times the best score reached by running on
SAVED = 0.25  # of the images, on average
ALWAYS_AT = 0.75  # of a run's length: the rule to beat
COST = 0.05  # of the training time
COST_MINUTES, COST_PROBES = 5.0, 6  # the length whose cadence is priced, and how many probes are timed
SHORT = 4_096  # images of a run with --quick
COLUMNS = (
    Column("stopped", "stopped at", ".0%"),
    Column("used", "used the moment at", ".0%"),
    Column("score", "its true score", ".4g"),
    Column("best", "best true score of all", ".4g"),
    Column("best_at", "which was at", ".0%"),
    Column("earliest", "first within 10 % of it at", ".0%"),
    Column("ratio", "ratio", ".3f"),
    Column("rule_ratio", "ratio, always at 75 %", ".3f"),
    Column("last_ratio", "ratio, last of 75 %", ".3f"),
)


def measure(bench: Bench) -> Report:
    groups = {"development": recording.development(), "frozen": recording.frozen()}
    if bench.quick:
        groups = {name: dict([next(iter(cases.items()))]) for name, cases in groups.items()}
    rows: dict[str, dict[str, list[Result]]] = {}
    for group, cases in groups.items():
        rows[group] = {}
        for name, case in cases.items():
            case = replace(case, run=recording.paced(shortened(case.run), SHORT)) if bench.quick else case
            rows[group][name] = [judged(recording.record(bench, name, case))]
    costs = {name: [bench.arm(f"cost-{name}", 0, {"run": recipe(run)}, partial(cost, bench, run))]
             for name, run in _priced(bench).items()}  # fmt: skip
    sources = dict.fromkeys(case.run.data for cases in groups.values() for case in cases.values())
    known = tuple(data_record(data, open_source(data), data.source) for data in sources)
    targets = [target for group, runs in rows.items() for target in targets_of(group, [r for (r,) in runs.values()])]
    worst = max(r["share"] for (r,) in costs.values())
    targets.append(Target("probes, share of the training time", f"at most {COST:.0%}", f"{worst:.1%}", worst <= COST))
    return Report(
        title="When to stop",
        about=(
            f"Recorded runs of every kind, {recording.PROBES} probes each. The advisor is replayed on each series, "
            "with a checkpoint at every probe. True scores are the probe's own distance from real images that neither "
            f"the training nor the probe knows, with {recording.TRUTH:,} samples (the standard error of each moment is "
            "in the files). The best true score is the lowest of all moments of the run to its end: with that many "
            "moments it is a little luckier than the truth, to the advisor's cost.",
            "Percentages are of the run's length. The rule to beat stops at 75 % and uses the moment that the probe "
            "scores best until then; 'last of 75 %' takes simply the last one.",
            "The constants were chosen on the development runs and frozen before the new ones were recorded.",
        ),
        data=known,
        tables=(
            Table("Development", COLUMNS, rows["development"]),
            Table("Frozen constants, new runs", COLUMNS, rows["frozen"]),
            Table(
                "What probes cost",
                (
                    Column("probe_ms", "a probe, ms", ".0f"),
                    Column("probe_every", "images between two", ",.0f"),
                    Column("probe_share", "of the training time", ".1%"),
                    Column("regret_ms", "a regret, ms", ".0f"),
                    Column("regret_every", "images between two", ",.0f"),
                    Column("regret_share", "of the training time", ".1%"),
                    Column("step_ms", "a step, ms", ".1f"),
                    Column("share", "both together", ".1%"),
                ),
                costs,
            ),
        ),
        targets=tuple(targets),
    )


# --- replay --------------------------------------------------------------------------------------------------------


def replay(rows: list[dict[str, Any]], images: int) -> tuple[int, int]:
    """(stopped at, used): images seen, of a run of this length whose probe said this."""
    advisor = Advisor(images)
    for row in rows:
        advisor.take(_point(row))
        if advisor.ends("converged"):
            break
    best = min(advisor.scores, key=lambda score: score.value)
    return advisor.points[-1].images_seen, best.images_seen


def judged(found: Result) -> Result:
    """A recorded run with what the advisor makes of it, beside hindsight."""
    # The end adds one more probe, and for it there is no checkpoint that is not the run's own last one.
    rows, images = [r for r in found["probes"] if r["images_seen"] < found["images"]], found["images"]
    truth = {r["images_seen"]: r["truth"] for r in rows if r["images_seen"] > 0 and r["truth"] is not None}
    best = min(truth, key=truth.__getitem__)
    stopped, used = replay(rows, images)
    early = [r for r in rows if r["images_seen"] <= ALWAYS_AT * images]
    _, at_75 = replay_all(early)
    return {
        "stopped": min(stopped / rows[-1]["images_seen"], 1.0), "used": used / images, "score": truth[used],
        "best": truth[best], "best_at": best / images,
        "earliest": min(seen for seen, score in truth.items() if score <= WITHIN * truth[best]) / images,
        "ratio": truth[used] / truth[best],
        "rule_ratio": truth[at_75] / truth[best], "last_ratio": truth[early[-1]["images_seen"]] / truth[best],
    }  # fmt: skip


def replay_all(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """As `replay`, for who never listens: the last moment, and the one that scores best."""
    advisor = Advisor()
    for row in rows:
        advisor.take(_point(row))
    return advisor.points[-1].images_seen, min(advisor.scores, key=lambda score: score.value).images_seen


def _point(row: dict[str, Any]) -> Point:
    told = row["images_seen"], row["distance"], row["distance_error"], True
    return Point(*told, row.get("floor"), row.get("growing", False))


def targets_of(group: str, runs: list[Result]) -> list[Target]:
    within = sum(r["ratio"] <= WITHIN for r in runs)
    rule = sum(r["rule_ratio"] <= WITHIN for r in runs)
    saved = statistics.fmean(1 - r["stopped"] for r in runs)
    loss, rule_loss = (statistics.fmean(r[key] for r in runs) for key in ("ratio", "rule_ratio"))
    return [
        Target(
            f"{group}: within 10 % of the best", f"all {len(runs)}", f"{within} of {len(runs)}", within == len(runs)
        ),
        Target(f"{group}: images saved on average", f"at least {SAVED:.0%}", f"{saved:.0%}", saved >= SAVED),
        Target(
            f"{group}: better than always stopping at 75 %",
            f"more than {rule} within 10 %, or as many and a lower mean ratio than {rule_loss:.3f}",
            f"{within} and {loss:.3f}",
            within > rule or (within == rule and loss < rule_loss),
        ),
    ]


# --- cost ----------------------------------------------------------------------------------------------------------


def cost(bench: Bench, run: Run) -> Result:
    """What probes and regrets cost in a run of COST_MINUTES: the time of one, beside the training between two.

    Steps and probes take turns, so that both meet the same machine. The cadence is the one that `zerosum train` sets.
    """
    dataset = open_source(run.data)
    rate, run = quickest(run, dataset, "cpu", 0.1 if bench.quick else 2.0)
    expected = int(rate * 60 * COST_MINUTES)
    run = with_cadence(run, expected, probe_interval(run, dataset, rate, "cpu"))
    return _timed(run, dataset, 2 if bench.quick else COST_PROBES)


def _timed(run: Run, dataset: Dataset, probes: int) -> Result:
    def spent(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        training = Training(run, dataset, torch.device("cpu"), Path(folder), SilentView())
        networks = training.averaged, training.players.networks

        def probe() -> Reading:
            return training.probe(*networks)

        def play(steps: int) -> None:
            for _ in range(steps):
                training.step()

        probe()
        training.regret()
        play(1)
        steps = max(1, min(50, run.probe_every // training.images_per_step))
        times = []
        for _ in range(probes):
            times.append((spent(partial(play, steps)) / steps, spent(probe), spent(training.regret)))
    step, one_probe, one_regret = (statistics.median(column) for column in zip(*times, strict=True))
    # All by the image, so that cadences that differ can be added.
    train = step / training.images_per_step
    probing, regretting = one_probe / run.probe_every, one_regret / run.regret_every
    whole = train + probing + regretting
    return {
        "step_ms": 1e3 * step, "probe_ms": 1e3 * one_probe, "probe_every": run.probe_every,
        "probe_share": probing / whole, "regret_ms": 1e3 * one_regret, "regret_every": run.regret_every,
        "regret_share": regretting / whole, "share": (probing + regretting) / whole,
    }  # fmt: skip


def _priced(bench: Bench) -> dict[str, Run]:
    """What `zerosum train` does by default for digits, for small images, and for points."""
    if bench.quick:
        return {"ring": settled(bench, shortened(recipes.ring()), 0)}
    runs = {"digits": recipes.digits(), "fashion-mnist": recipes.fashion_mnist(), "ring": recipes.ring()}
    return {name: settled(bench, run, 0) for name, run in runs.items()}
