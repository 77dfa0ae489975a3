"""The report: everything on one page, nothing from outside, and something to read even of a wreck."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zerosum import pictures
from zerosum.film import save_film
from zerosum.metrics import curves, report
from zerosum.metrics.report import write_report

VOID = {"meta", "img", "br", "hr", "link", "input"}
EVIL = "<script>alert('x')</script> \"&"


class Page(HTMLParser):
    """Checks that tags close, and keeps what the tests ask for."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def grid(seed: int) -> Image.Image:
    return pictures.grid(np.random.default_rng(seed).integers(0, 256, (16, 1, 8, 8), dtype=np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to copy and damage."""
    return make_run(tmp_path_factory.mktemp("made") / "run")


def make_run(run: Path, rows: int = 50, film: bool = True) -> Path:
    for i in range(1, 6):
        pictures.save_png(grid(i), run / "samples" / f"{i * 2000:012d}.png")
    pictures.save_png(grid(9), run / "real.png")
    if film:
        save_film((grid(i) for i in range(3)), run / "film.mp4", run / "film.gif")
    recipe = {
        "format": 1,
        "run": {
            "data": {"source": "digits"},
            "algorithm": {"kind": "R3GAN", "gamma": "0.05"},
            "minutes": None,
        },
        "data": {"shape": [1, 8, 8], "count": 1797, "class_names": []},
    }
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "environment.json").write_text(json.dumps({"cores": 2, "command": "zerosum train digits --minutes 2"}))
    (run / "status.json").write_text(
        json.dumps({"state": "finished", "images_seen": 10_000, "seconds": 20.0, "text": ""})
    )
    events: list[dict[str, Any]] = []
    for i in range(1, rows + 1):
        seen = 10_000 * i // rows
        events.append(
            {"event": "progress", "images_seen": seen, "seconds": 20 * i / rows, "images_per_second": 500.0,
             "loss/D": 0.6, "loss/G": 0.9, "accuracy/real": 0.71, "accuracy/fake": 0.66, "skipped": 1}
        )  # fmt: skip
        if i % 10 == 0:
            events.append({"event": "probe", "images_seen": seen, "kernel_distance": 1 / i, "diversity": 0.9})
    events.append({"event": "warning", "images_seen": 10_000, "text": "D wins: lower --adam-d.lr"})
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return run


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    run = Path(shutil.copytree(made, tmp_path_factory.mktemp("runs") / "digits-3"))
    html = write_report(run).read_text("utf-8")
    return run, html, Page(html)


def test_the_page_says_what_a_person_asks(whole: tuple[Path, str, Page]) -> None:
    run, _, page = whole
    assert (run / "report.html").exists()
    for part in (
        "R3GAN on digits", "run digits-3", "state finished", "images seen 10,000", "training time 0:20",
        "images a second 500", "training images 1,797", "updates skipped 1", "after 10,000 images seen",
        "At 50 % D can only guess", "D wins: lower --adam-d.lr", "zerosum train digits --minutes 2",
        "run.algorithm.gamma 0.05", "run.minutes null", "data.shape [1, 8, 8]", "cores 2",
        "D's accuracy", "Losses", "Diversity", "Distance to the real data", "Speed",
    ):  # fmt: skip
        assert part in page.text, part
    assert "About this page" not in page.text  # nothing was missing


def test_pictures_and_film_are_in_the_page(whole: tuple[Path, str, Page]) -> None:
    run, _, page = whole
    images = page.all("img")
    assert len(images) == 2 + report.STAGES
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


def test_nothing_comes_from_outside(whole: tuple[Path, str, Page]) -> None:
    _, html, page = whole
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
    assert html.count("<svg viewBox=") == 5
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
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


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
    monkeypatch.setattr(report, "EMBED_FILM_BYTES", (run / "film.mp4").stat().st_size - 1)
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


def test_what_was_undone_is_not_drawn() -> None:
    events = [{"event": "progress", "images_seen": x, "loss/D": y} for x, y in ((1, 1.0), (2, 9.0), (3, 9.0), (2, 2.0))]
    assert curves._series(events) == {"loss/D": [(1.0, 1.0), (2.0, 2.0)]}


def test_long_curves_are_thinned_and_smoothed_without_a_shift() -> None:
    points = [(float(i), 2.0 * i) for i in range(10_001)]
    thin = curves._thinned(points)
    assert len(thin) <= curves.POINTS
    assert all(y == pytest.approx(2 * x) for x, y in thin)
    smooth = curves._smooth(tuple(y for _, y in thin))
    middle = len(thin) // 2
    assert smooth[middle] == pytest.approx(thin[middle][1])
    assert curves._smooth((1.0, 5.0)) == [1.0, 5.0]


def test_a_resumed_runs_command_is_not_offered_as_the_one_that_repeats_it() -> None:
    assert report._command({"command": "zerosum train --resume runs/x"}) == ""
    assert report._command({"command": "zerosum train digits"}) == "zerosum train digits"
    assert report._command({}) == ""
