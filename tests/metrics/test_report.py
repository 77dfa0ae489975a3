"""The report: everything on one page, nothing from outside, and something to read even of a wreck."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import report_files
from PIL import Image
from report_files import Page, make_run

from zerosum.metrics.report import content, curves, write_report

EVIL = "<script>alert('x')</script> \"&"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to copy and damage."""
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    run = Path(shutil.copytree(made, tmp_path_factory.mktemp("runs") / "digits-3"))
    html = write_report(run).read_text("utf-8")
    return run, html, Page(html)


@pytest.fixture(scope="module")
def proven(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    """A run that was evaluated and tested for equilibrium."""
    run = Path(shutil.copytree(made, tmp_path_factory.mktemp("proven") / "digits-3"))
    report_files.add(run)
    html = write_report(run).read_text("utf-8")
    return run, html, Page(html)


def test_the_page_says_what_a_person_asks(whole: tuple[Path, str, Page]) -> None:
    run, _, page = whole
    assert (run / "report.html").exists()
    for part in (
        "R3GAN on digits", "run digits-3", "state finished", "images seen 10,000", "training time 0:20",
        "images a second 500", "real images 1,797", "updates skipped 1", "after 10,000 images seen",
        "At 50 % D can only guess", "D wins: lower --adam-d.lr", "zerosum train digits --minutes 2",
        "run.algorithm.gamma 0.05", "run.minutes null", "data.shape [1, 8, 8]", "cores 2",
        "D's accuracy", "Losses", "Diversity", "Distance to real images", "Speed", "D's memory",
        "Go on; use --checkpoint 9800; another 9,800 images have a ",
    ):  # fmt: skip
        assert part in page.text, part
    assert "About this page" not in page.text  # nothing was missing


def test_files_that_were_left_out_are_named(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / "digits-3"))
    recipe = json.loads((run / "recipe.json").read_text())
    del recipe["data"]["left_out"]  # as of a run of before
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert "files left out" not in Page(write_report(run).read_text("utf-8")).text
    for files, said in (
        (
            [["a.png", "no picture"], ["b.png", "empty"]],
            "3 (a.png: no picture; b.png: empty; and 1 more)",
        ),
        ("damaged", "3 (and 3 more)"),
    ):
        recipe["data"]["left_out"] = {"count": 3, "files": files}
        (run / "recipe.json").write_text(json.dumps(recipe))
        assert f"files left out {said}" in Page(write_report(run).read_text("utf-8")).text


def test_what_was_not_measured_comes_with_the_command_that_would(whole: tuple[Path, str, Page]) -> None:
    run, _, page = whole
    assert f"How good the images are has not been measured. To find out: zerosum evaluate {run}" in page.text
    assert (
        f"Whether the game is at equilibrium has not been measured. To find out: zerosum equilibrium {run}" in page.text
    )


def test_the_verdict_comes_first(proven: tuple[Path, str, Page]) -> None:
    _, _, page = proven
    places = [
        page.text.index(words)
        for words in (
            "Mode dropping: hardly any images of 8.", "Converging: its distance still falls.", "state finished",
            "Generated, after 10,000 images seen", "The generated images that lie nearest", "D's memory",
            "How many of the images are of each class", "How often fresh discriminators", "Regret: what each player",
            "The grey band is where real images", "measured digits-3 at", "This command made the run",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert "has not been measured" not in page.text
    assert "About this page" not in page.text


def test_every_number_stands_with_interval_floor_and_n(proven: tuple[Path, str, Page]) -> None:
    _, _, page = proven
    for part in (
        "Frechet distance 0.842 0.791 to 0.894 0.210 (0.199 to 0.222) 700 lower",
        "precision k = 3 0.913 0.857 to 0.969 0.958 (0.910 to 1.006) 700 higher",
        "copies share nearer than held-out 0.0115 0.0098 to 0.0132 none 700 lower",
        "8 10.0 % 0.1 % 0.0 to 1.8 % 0.0200 (0.0178 to 0.0222) 0.00100 (0.00045 to 0.00155)",
        "logistic on pixels 55.2 % 49.7 to 60.5 % can only guess 600",
        "small CNN 67.8 % 62.6 to 72.8 % tells them apart 600",
        "small CNN 48.2 % 42.7 to 53.6 % can only guess 600",
        "D 0.025 0.005 to 0.045 still gains",
        "nothing better is at hand", "fine detail is in none: -1 to 1, no resize", "cd" * 32, "torch 2.14.1",
        "accuracies of 56.7 % and more",
    ):  # fmt: skip
        assert part in page.text, part


def test_an_evaluation_of_an_earlier_moment_says_so(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / "run"))
    (run / "evaluation.json").write_text(json.dumps(report_files.evaluation(images_seen=4000)))
    page = Page(write_report(run).read_text("utf-8"))
    assert f"Measured at 4,000 images seen, and the run went on. Again: zerosum evaluate {run}" in page.text


def praised(run: Path, **values: float) -> dict[str, Any]:
    """An evaluation that found nothing, with some measurements at other values and all others at their floors."""
    found = report_files.evaluation()
    found["verdict"] = [{"kind": "nothing found", "text": "Nothing found."}]
    for key, m in found["measurements"].items():
        floor = m["floor"] or {"value": m["value"]}
        m["value"] = values.get(key, floor["value"])
        m["low"], m["high"] = m["value"] - 0.01, m["value"] + 0.01
    (run / "evaluation.json").write_text(json.dumps(found))
    write_report(run)
    line: dict[str, Any] = json.loads((run / "report.json").read_text("utf-8"))["verdict"][0]
    return line


def test_praise_that_the_numbers_do_not_bear_out_is_qualified(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / "run"))
    clean = praised(run)
    assert (clean["standing"], clean["text"]) == ("good", "Nothing found.")
    worse = praised(run, precision=0.7, frechet=0.9, coverage=0.999)
    assert worse["standing"] == "open"
    assert worse["text"] == "Nothing found. But Frechet distance and precision are worse than between real images."
    (run / "equilibrium.json").write_text(json.dumps(report_files.equilibrium()))
    told = "a fresh discriminator tells them from real ones 67.8 % of the time."
    assert praised(run)["text"] == f"Nothing found. But {told}"
    assert praised(run, coverage=0.5)["text"] == (
        f"Nothing found. But coverage is worse than between real images, and {told}"
    )
    (run / "equilibrium.json").write_text(json.dumps(report_files.equilibrium(images_seen=5000)))
    assert praised(run)["text"] == "Nothing found."  # of another moment


def test_a_control_that_is_off_is_called_what_it_is(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / "run"))
    found = report_files.equilibrium()
    found["two_sample"]["control"][0]["accuracy"] |= {"value": 0.3, "low": 0.25, "high": 0.35}
    (run / "equilibrium.json").write_text(json.dumps(found))
    assert "30.0 % 25.0 to 35.0 % is below a guess" in Page(write_report(run).read_text("utf-8")).text


def test_tables_name_their_cells(proven: tuple[Path, str, Page]) -> None:
    """For those who listen to the page, and for narrow screens, where the heads are not seen."""
    _, _, page = proven
    assert all(th.get("scope") in ("col", "row", "rowgroup") for th in page.all("th"))
    assert all("data-label" in td for td in page.all("td") if td.get("class") == "number")
    targets = [a["href"] for a in page.all("a")]
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert len(targets) == 10
    assert all((target or "").removeprefix("#") in ids for target in targets)
    assert all(svg.get("aria-hidden") == "true" for svg in page.all("svg"))


def test_pictures_and_film_are_in_the_page(whole: tuple[Path, str, Page]) -> None:
    run, _, page = whole
    images = page.all("img")
    assert len(images) == 2 + content.STAGES
    for image in images:
        assert image["alt"]
        source = image["src"] or ""
        assert source.startswith("data:image/png;base64,")
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).load()
    newest = (images[0]["src"] or "").split(",")[1]
    assert base64.b64decode(newest) == (run / "samples" / "000000010000.png").read_bytes()
    (video,) = page.all("video")
    assert base64.b64decode((video["src"] or "").split(",")[1]) == (run / "film.mp4").read_bytes()
    assert "controls" in video


def test_nothing_comes_from_outside(proven: tuple[Path, str, Page]) -> None:
    _, html, page = proven
    assert "http:" not in html
    assert "https:" not in html
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "poster", "srcset", "data", "action"):
                assert value
                assert value.startswith(("data:", "#")), (tag, name, value[:60])
            assert not name.startswith("on")
    assert not re.search(r"@import|url\((?!#)", html)
    policy = next(m["content"] or "" for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_curves_are_drawn_in_the_colours_of_the_page(whole: tuple[Path, str, Page]) -> None:
    _, html, page = whole
    assert html.count("<svg viewBox=") == 8
    assert "currentColor" in html
    assert "stroke: var(--c0)" in html
    assert curves.INK not in html
    assert curves.RULE not in html
    assert "<metadata" not in html
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    labels = [s["aria-label"] or "" for s in page.all("section")]
    assert any("on real images 71 %, on generated images 66 %" in label for label in labels)


def test_the_same_run_gives_the_same_page(whole: tuple[Path, str, Page]) -> None:
    run, html, _ = whole
    assert write_report(run).read_text("utf-8") == html


def test_names_and_messages_cannot_become_markup(tmp_path: Path) -> None:
    run = tmp_path / "<script>alert(1)"
    make_run(run, rows=3, film=False)
    recipe = {"run": {"algorithm": {"kind": EVIL}, "data": {"source": EVIL}, EVIL: EVIL}}
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "environment.json").write_text(json.dumps({"command": EVIL, EVIL: [EVIL]}))
    (run / "status.json").write_text(json.dumps({"state": "failed", "text": EVIL}))
    with open(run / "events.jsonl", "a", encoding="utf-8") as file:
        for event in (
            {"event": "error", "images_seen": 5, "text": EVIL},
            {"event": "note", "images_seen": EVIL, "text": {"a": EVIL}},
            {"event": "progress", "images_seen": 20_000, f"loss/$\\frac{EVIL}": 0.5, "loss/</svg><b>": 1},
        ):
            file.write(json.dumps(event) + "\n")
    report_files.add(run, EVIL)
    html = write_report(run).read_text("utf-8")
    page = Page(html)
    assert not page.all("script")
    assert not page.all("b")
    assert "<script" not in html.lower()
    assert page.text.count("alert('x')") >= 8
    assert "run <script>alert(1)" in page.text


@pytest.mark.parametrize("name", [None, "recipe.json", "environment.json", "events.jsonl", "real.png", "film.mp4"])
def test_a_half_written_file_is_named_and_the_rest_is_shown(made: Path, tmp_path: Path, name: str | None) -> None:
    run = Path(shutil.copytree(made, tmp_path / "run"))
    if name:
        data = (run / name).read_bytes()
        (run / name).write_bytes(data[: len(data) // 2] if name != "film.mp4" else b"")
    else:
        newest = run / "samples" / "000000010000.png"
        newest.write_bytes(newest.read_bytes()[:100])
    page = Page(write_report(run).read_text("utf-8"))
    assert "About this page" in page.text
    if name is None:
        assert "000000010000.png cannot be read" in page.text
        assert "Generated, after 8,000 images seen" in page.text  # the grid before it
    elif name == "events.jsonl":
        assert "1 line cut off or damaged" in page.text
        assert "images seen 5,000" in page.text
        assert "Losses" in page.text
    else:
        assert name in page.text
    if name == "film.mp4":
        assert any((i["src"] or "").startswith("data:image/gif") for i in page.all("img"))


def test_an_empty_folder_has_a_page_too(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path).read_text("utf-8"))
    for name in ("recipe.json", "environment.json", "events.jsonl", "real.png"):
        assert f"{name} is not there" in page.text
    assert "state not finished" in page.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("content", ["[]", "3", '{"state": 7}', "{", "null"])
def test_strange_json_is_survived(tmp_path: Path, content: str) -> None:
    for name in ("recipe.json", "environment.json", "status.json"):
        (tmp_path / name).write_text(content)
    lines = [
        '{"event": "progress"}',
        "[1]",
        '{"event": "progress", "images_seen": 5, "loss/D": "high"}',
        "\x00",
    ]
    lines += ['{"event": "progress", "images_seen": NaN, "loss/D": 1}', '{"event": "warning"}']
    lines += ['{"event": "progress", "images_seen": 7, "loss/D": 1.5, "seconds": true}']
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    page = Page(write_report(tmp_path).read_text("utf-8"))
    assert "2 lines cut off or damaged" in page.text
    assert "D last 1.5" in page.text  # one point is a curve too


def test_a_film_too_large_gives_way_to_the_gif(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(shutil.copytree(made, tmp_path / "run"))
    monkeypatch.setattr(content, "EMBED_FILM_BYTES", (run / "film.mp4").stat().st_size - 1)
    (run / "film.gif").write_bytes(b"GIF89a")
    page = Page(write_report(run).read_text("utf-8"))
    assert "film.mp4 (" in page.text
    assert not page.all("video")
    assert any((i["src"] or "").startswith("data:image/gif") for i in page.all("img"))


def test_large_grids_are_made_smaller(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    Image.new("RGB", (3000, 1500)).save(tmp_path / "samples" / "000000000001.png")
    page = Page(write_report(tmp_path).read_text("utf-8"))
    assert (page.all("img")[0]["width"], page.all("img")[0]["height"]) == ("1200", "600")


def test_a_resumed_runs_command_is_not_offered_as_the_one_that_repeats_it() -> None:
    assert content._command({"command": "zerosum train --resume runs/x"}) == ""
    assert content._command({"command": "zerosum train digits"}) == "zerosum train digits"
    assert content._command({}) == ""
