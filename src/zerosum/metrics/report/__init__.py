"""The report: one page about a run that stands alone, and the same as data, from the files of its folder and no others.

`read`, with `fields`, is the only place that parses: it makes `records`, and notes of what is missing or damaged.
`content` decides what is said; `page`, `curves` and `strips` show it.
"""

from __future__ import annotations

import json
from pathlib import Path

from zerosum import atomic
from zerosum.metrics.report.content import gather
from zerosum.metrics.report.page import render
from zerosum.metrics.report.read import Folder
from zerosum.runlog import REPORT, REPORT_DATA


def write_report(run_dir: Path) -> Path:
    """Write `report.html` and `report.json` into a run folder; returns the page's path. Reads only that folder.

    Raises UserError if the disk is full. What is missing or damaged in the folder is said on the page.
    """
    content = gather(Folder(run_dir))
    html = render(content)
    data = json.dumps(content.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    atomic.write_file(run_dir / REPORT_DATA, (data + "\n").encode("utf-8", "replace"))
    path = run_dir / REPORT
    atomic.write_file(path, html.encode("utf-8", "replace"))  # a folder's name need not be valid Unicode
    return path
