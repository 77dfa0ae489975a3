"""The report's reading: typed records from whole files, and notes from damaged ones; report.json is as documented."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_files
from hypothesis import given, settings
from hypothesis import strategies as st

from zerosum.equilibrium import advisor
from zerosum.metrics import measurement
from zerosum.metrics.report import write_report
from zerosum.metrics.report.content import gather
from zerosum.metrics.report.fields import finite
from zerosum.metrics.report.read import Folder
from zerosum.metrics.report.records import Advice

DOCS = Path(__file__).resolve().parents[2] / "docs" / "report.md"
KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (type(None),),
    "score": (dict,), "object": (dict,), "map": (dict,), "interval": (dict,), "measurement": (dict,), "list": (list,),
}  # fmt: skip
SCORE = {"images_seen", "value", "low", "high"}
INTERVAL = {"value", "low", "high", "level", "how"}
MEASUREMENT = {*INTERVAL, "floor", "better", "protocol"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = report_files.make_run(tmp_path_factory.mktemp("read") / "digits-3")
    report_files.add(run)
    write_report(run)
    return run


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_files.make_translation(tmp_path_factory.mktemp("read") / "horses-cyclegan-1")


def damaged(tmp_path: Path, name: str, found: Any) -> Folder:
    (tmp_path / name).write_text(found if isinstance(found, str) else json.dumps(found))
    return Folder(tmp_path)


# --- records -----------------------------------------------------------------------------------------------------


def test_an_evaluation_is_read_as_it_was_written(run: Path) -> None:
    folder = Folder(run)
    found, written = folder.evaluation(), report_files.evaluation()
    assert found is not None
    assert {k: measurement.to_json(m) for k, m in found.measurements.items()} == written["measurements"]
    assert [(c.name, c.real_share, c.fake_share, c.fake_low, c.fake_high) for c in found.classes] == [
        tuple(c[k] for k in ("name", "real_share", "fake_share", "fake_share_low", "fake_share_high"))
        for c in written["classes"]
    ]
    assert found.images_seen == 10_000
    assert found.nearest_distances == (0.51, 0.62, 0.93)
    assert folder.notes == []


def test_the_directions_of_a_translator_are_read_as_they_were_written(translator: Path) -> None:
    folder = Folder(translator)
    found = folder.evaluation()
    assert found is not None
    for read, written in zip(found.directions, report_files.translated().directions, strict=True):
        assert (read.direction, read.arms, read.metrics) == (written.direction, written.arms, written.metrics)
        assert read.columns == written.columns
        assert read.picture is not None
        assert read.picture.data == (translator / f"evaluation-{read.direction}.png").read_bytes()
    assert folder.notes == []


def test_a_damaged_direction_is_left_out_alone(translator: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(translator, tmp_path / "run"))
    written = json.loads((run / "evaluation.json").read_text())
    written["directions"][0]["direction"] = "../../elsewhere"
    (run / "evaluation.json").write_text(json.dumps(written))
    (run / "evaluation-B2A.png").write_bytes(b"no picture")
    folder = Folder(run)
    found = folder.evaluation()
    assert found is not None
    assert [(one.direction, one.picture) for one in found.directions] == [("B2A", None)]
    assert len(folder.notes) == 2
    assert "direction 1 cannot be read: directions[0].direction is '../../elsewhere'" in folder.notes[0]
    assert folder.notes[1].startswith("evaluation-B2A.png cannot be read")


def test_an_equilibrium_is_read_as_it_was_written(run: Path) -> None:
    folder = Folder(run)
    found, written = folder.equilibrium(), report_files.equilibrium()
    assert found is not None
    assert found.two_sample is not None
    test = written["two_sample"]
    assert [(j.judge, j.n, vars(j.accuracy)) for j in found.two_sample.fake] == [
        (j["judge"], j["n"], j["accuracy"]) for j in test["fake"]
    ]
    assert found.two_sample.detectable == test["detectable"]
    assert [(r.images_seen, r.gains["G"].value, r.gap and r.gap.value) for r in found.regrets] == [
        (r["images_seen"], r["gains"][1]["gain"]["value"], r["gap"]["value"]) for r in written["regret"]
    ]
    assert found.verdict[0].kind == "converging"
    assert folder.notes == []


def test_what_was_never_made_is_no_fault(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.evaluation() is None
    assert folder.equilibrium() is None
    assert str(folder.advice([], 0.0)).startswith("The log has no readings")
    assert folder.notes == []


@pytest.mark.parametrize("name", ["evaluation.json", "equilibrium.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"verdict": 7}', "\x00", "[" * 10_000, '{"a": NaN}'])
def test_a_damaged_record_is_named_and_left_out(tmp_path: Path, name: str, content: str) -> None:
    folder = damaged(tmp_path, name, content)
    assert (folder.evaluation(), folder.equilibrium()) == (None, None)
    assert len(folder.notes) == 1
    assert folder.notes[0].startswith(f"{name} cannot be read: ")


def test_a_damaged_measurement_is_left_out_alone(tmp_path: Path) -> None:
    written = report_files.evaluation()
    written["measurements"]["kernel"]["value"] = "high"
    written["measurements"]["precision"]["floor"]["low"] = None
    del written["measurements"]["coverage"]["protocol"]["weights"]
    written["classes"][3]["fake_share"] = None
    folder = damaged(tmp_path, "evaluation.json", written)
    found = folder.evaluation()
    assert found is not None
    assert set(found.measurements) == {"frechet", "detail", "copies"}
    assert [c.name for c in found.classes] == list("012456789")
    told = " ".join(folder.notes)
    for part in ("kernel cannot be read", "precision cannot be read: floor.low is null, not a number", "coverage",
                 "class 4 cannot be read: classes[3].fake_share is null, not a number"):  # fmt: skip
        assert part in told


def test_a_damaged_point_of_the_regret_is_left_out_alone(tmp_path: Path) -> None:
    written = report_files.equilibrium()
    written["regret"][1]["gains"][0]["gain"]["high"] = "much"
    folder = damaged(tmp_path, "equilibrium.json", written)
    found = folder.equilibrium()
    assert found is not None
    assert [r.images_seen for r in found.regrets] == [2500, 7500, 10_000]
    assert folder.notes == [
        'equilibrium.json, regret: point 2 cannot be read: regret[1].gains[0].gain.high is "much", not a number'
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where everything inside is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


STRANGE = st.sampled_from([None, True, -1, 1e400, "x", [], {}, [1], {"a": 1}, 10**400])


@settings(max_examples=25)
@given(data=st.data())
def test_no_change_to_a_record_breaks_the_report(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = tmp_path_factory.mktemp("strange")
    for name, make in (("evaluation.json", report_files.evaluation), ("equilibrium.json", report_files.equilibrium)):
        written = copy.deepcopy(make())
        for place in data.draw(st.lists(st.sampled_from(list(places(written))), max_size=2, unique=True)):
            inner = written
            try:
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = data.draw(STRANGE)
            except (KeyError, IndexError, TypeError):
                continue  # the first change took it away
        (run / name).write_text(json.dumps(written))
    write_report(run)
    json.loads((run / "report.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("value", [None, True, "1", float("nan"), float("inf"), 10**400, [1]])
def test_what_is_no_number_is_none(value: Any) -> None:
    assert finite(value) is None


def readings(n: int = 20, **changed: Any) -> list[dict[str, Any]]:
    rows = [{"event": "probe", "images_seen": 100 * i, "distance": 50 / i, "distance_error": 0.1} for i in range(n)[1:]]
    return [row | changed for row in rows]


def test_advice_is_the_advisors(tmp_path: Path) -> None:
    for i in (5, 12):
        (tmp_path / "checkpoints" / f"{100 * i:012d}").mkdir(parents=True)
    found = Folder(tmp_path).advice(readings(), 60.0)
    expected = advisor.replayed(readings(), [500, 1200]).advice
    assert found is not None
    assert expected is not None
    assert (found.stop, found.best, found.chance, found.forecast) == (
        expected.stop, expected.best, expected.chance, expected.forecast,
    )  # fmt: skip
    assert found.best.images_seen == 1200  # of those with a checkpoint
    assert found.images_seen == 1900
    assert found.text.startswith("Go on; use --checkpoint 1200; another 1,900 images (1 min) have ")
    assert found.text.endswith(".")


def test_the_advice_knows_that_the_networks_grow_yet(tmp_path: Path) -> None:
    log = readings(40, distance=5.0, growing=True)  # as settled as can be
    found = Folder(tmp_path).advice(log, 60.0)
    assert isinstance(found, Advice)
    assert not found.stop
    assert found.text.startswith(f"Go on: {advisor.GROWING}; best so far is --checkpoint ")
    plain = Folder(tmp_path).advice(readings(40, distance=5.0), 60.0)
    assert isinstance(plain, Advice)
    assert plain.stop


def test_readings_that_were_undone_or_are_damaged_do_not_count(tmp_path: Path) -> None:
    folder, clean = Folder(tmp_path), readings()
    undone = [*clean[:10], *(row | {"distance": 1e-3} for row in clean[5:10]), *clean[5:]]
    strange: list[dict[str, Any]] = [
        {"event": "probe", "images_seen": "many", "distance": 1.0, "distance_error": 0.1},
        {"event": "probe", "images_seen": 10**400, "distance": 1.0, "distance_error": 0.1},
        {"event": "probe", "images_seen": 150, "distance": None, "distance_error": 0.1},
        {"event": "probe", "images_seen": 150, "distance": -1.0, "distance_error": 0.1},
        {"event": "probe", "images_seen": 150, "distance": 1.0, "distance_error": 0.1, "final": True},
        {"event": "progress", "images_seen": 150, "distance": 1.0, "distance_error": 0.1},
    ]
    expected = folder.advice(clean, 0.0)
    assert expected is not None
    assert folder.advice(undone, 0.0) == expected
    assert folder.advice([*clean[:3], *strange, *clean[3:]], 0.0) == expected
    assert "it has 9 probes after the start" in str(folder.advice(readings(10), 0.0))
    assert folder.notes == []


# --- report.json -------------------------------------------------------------------------------------------------


def documented() -> dict[str, str]:
    rows = re.findall(r"^\| `([^`]+)` \| ([a-z ]+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 60
    return dict(rows)


def check(value: Any, path: str, known: dict[str, str], met: set[str]) -> None:
    """Walk through the document: every field must be documented, and be of one of the kinds that are."""
    if path in known:
        met.add(path)
        words = known[path].split(" or ")
        assert type(value) in [kind for word in words for kind in KINDS[word]], f"{path}: {value!r}, not {known[path]}"
        if value is None or "map" in words:
            return
        if "measurement" in words:
            assert set(value) == MEASUREMENT
            return
        if "interval" in words:
            assert set(value) == INTERVAL
            return
        if "score" in words:
            assert set(value) == SCORE
            return
    elif path in ("pictures.real", "pictures.nearest", "pictures.stages[]") or not isinstance(value, dict | list):
        raise AssertionError(f"{path} is not documented")
    if isinstance(value, dict):
        for key, inner in value.items():
            below = f"{path}.{key}" if path else key
            starred = f"{path}.*"
            pictures = r"^(pictures\.(real|nearest|stages\[\])|evaluation\.directions\[\]\.picture)\."
            below = re.sub(pictures, "pictures.samples.", below)
            check(inner, starred if starred in known else below, known, met)
    elif isinstance(value, list) and "list" not in known.get(path, ""):
        for inner in value:
            check(inner, f"{path}[]", known, met)


def test_report_json_is_as_documented(run: Path, translator: Path) -> None:
    known, met = documented(), set[str]()
    for folder in (run, translator):
        check(json.loads((folder / "report.json").read_text("utf-8")), "", known, met)
    missing = set(known) - met
    assert missing == {"notes[]", "equilibrium.notes[]"}  # nothing was missing, and nothing had to be said


def test_report_json_of_an_empty_folder_is_as_documented(tmp_path: Path) -> None:
    write_report(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    check(found, "", documented(), set())
    assert (found["evaluation"], found["equilibrium"], found["advice"], found["curves"]) == (None, None, None, [])
    assert len(found["notes"]) == 5


def test_report_json_has_the_numbers_of_the_page(run: Path) -> None:
    found = json.loads((run / "report.json").read_text("utf-8"))
    assert found["verdict"][0] == {
        "about": "images", "standing": "bad", "kind": "mode dropping", "text": "Mode dropping: hardly any images of 8.",
        "images_seen": 10_000, "command": "",
    }  # fmt: skip
    assert [line["about"] for line in found["verdict"]] == ["images", "game", "health", "stopping"]
    assert found["evaluation"]["measurements"] == report_files.evaluation()["measurements"]
    (distance,) = (c for c in found["curves"] if c["title"] == "Distance to real images")
    assert distance["best"] == 9800
    assert distance["lines"][0]["points"][-1] == pytest.approx(
        [9800, 90 / 49, (90 - 1.96 * 3) / 49, (90 + 1.96 * 3) / 49]
    )


def test_gathering_writes_nothing(run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    gather(Folder(run))
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before
