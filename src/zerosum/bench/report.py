"""From measurements to a page: statistics over seeds, targets met or missed, and the tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

PLAIN_WIDTH = 160  # columns of a table that is not shown in a terminal


@dataclass(frozen=True)
class Summary:
    """Some numbers in five: `deviation` is the standard deviation with n - 1, None for fewer than two."""

    n: int
    mean: float
    deviation: float | None
    low: float
    high: float


def summary(values: Sequence[float]) -> Summary:
    """Of at least one number."""
    if not values:
        raise ValueError("no numbers to summarise")
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(len(values), statistics.fmean(values), deviation, min(values), max(values))


@dataclass(frozen=True)
class Column:
    """One number of every measurement: its key, what to call it, and Python's format for it."""

    key: str
    title: str
    form: str = ".3g"


@dataclass(frozen=True)
class Table:
    """Arms below each other; `rows` has the results of each arm, one a seed."""

    title: str
    columns: tuple[Column, ...]
    rows: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Target:
    """A number that was wanted, and what came of it."""

    what: str
    wanted: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Report:
    """What a benchmark hands back. `data`: see `protocol.data_record`. `pictures`: paths from the page's folder."""

    title: str
    about: tuple[str, ...]
    data: tuple[Mapping[str, Any], ...]
    tables: tuple[Table, ...]
    targets: tuple[Target, ...]
    pictures: tuple[tuple[str, str], ...] = ()  # path, caption
    arithmetic: str = "fp32"
    headline: Mapping[str, Any] = field(default_factory=dict)  # its few numbers, at the top of the JSON file


def at_least(what: str, values: Sequence[float | None], bound: float, form: str = ".3g") -> Target:
    """Met if every seed reaches the bound: the worst counts, not the mean."""
    met = bool(values) and all(v is not None and v >= bound for v in values)
    return Target(what, f"at least {text(bound, form)}", _cell(values, form), met)


def at_most(what: str, values: Sequence[float | None], bound: float, form: str = ".3g") -> Target:
    """Met if no seed goes beyond the bound."""
    met = bool(values) and all(v is not None and v <= bound for v in values)
    return Target(what, f"at most {text(bound, form)}", _cell(values, form), met)


def below(what: str, values: Sequence[float | None], bound: float, form: str = ".3g") -> Target:
    """Met if every seed stays under the bound."""
    met = bool(values) and all(v is not None and v < bound for v in values)
    return Target(what, f"below {text(bound, form)}", _cell(values, form), met)


def above(what: str, values: Sequence[float | None], bound: float, form: str = ".3g") -> Target:
    """Met if every seed is beyond the bound."""
    met = bool(values) and all(v is not None and v > bound for v in values)
    return Target(what, f"above {text(bound, form)}", _cell(values, form), met)


def text(value: float, form: str) -> str:
    return format(value, form).replace("%", " %")


def _cell(values: Sequence[Any], form: str) -> str:
    """Mean (lowest .. highest; standard deviation) of the seeds; words as they are."""
    if any(isinstance(v, str) for v in values):
        return ", ".join(dict.fromkeys(str(v) for v in values))
    known = [float(v) for v in values if v is not None]
    if not known:
        return "-"
    s = summary(known)
    absent = "" if len(known) == len(values) else f"; {len(values) - len(known)} without a number"
    if s.deviation is None or s.low == s.high:
        return text(s.mean, form) + absent
    spread = f"{text(s.low, form)} .. {text(s.high, form)}; sd {text(s.deviation, form)}"
    return f"{text(s.mean, form)} ({spread}{absent})"


def _cells(table: Table) -> list[list[str]]:
    rows = []
    for arm, results in table.rows.items():
        cells = [_cell([r.get(c.key) for r in results], c.form) for c in table.columns]
        rows.append([arm, str(len(results)), *cells])
    return rows


def _header(table: Table) -> list[str]:
    return ["arm", "runs", *(c.title for c in table.columns)]


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain values: every seed's result, and the statistics over seeds of every number."""
    tables = []
    for table in report.tables:
        arms = {arm: {"runs": list(results), "statistics": _statistics(results)} for arm, results in table.rows.items()}
        tables.append({"title": table.title, "columns": [asdict(c) for c in table.columns], "arms": arms})
    return {
        "title": report.title, **report.headline, "about": report.about, "data": report.data, "tables": tables,
        "targets": [asdict(t) for t in report.targets], "pictures": [path for path, _ in report.pictures],
    }  # fmt: skip


def tables_of(written: Mapping[str, Any]) -> list[Table]:
    """The tables of a report that `to_json` wrote; none if an older version wrote it."""
    return [
        Table(t["title"], tuple(Column(**c) for c in t["columns"]), {n: arm["runs"] for n, arm in t["arms"].items()})
        for t in written.get("tables", [])
        if "columns" in t
    ]


def lacking(written: Mapping[str, Any] | None, report: Report) -> list[str]:
    """What `to_json` wrote before that this report has not: tables, rows, or more runs of a row."""
    tables = {table.title: table.rows for table in report.tables}
    lost = list[str]()
    for table in [] if written is None else tables_of(written):
        rows = tables.get(table.title)
        if rows is None:
            lost.append(f"the table '{table.title}'")
            continue
        lost += [
            f"{len(runs)} of '{arm}' in '{table.title}'"
            for arm, runs in table.rows.items()
            if len(rows.get(arm, ())) < len(runs)
        ]
    return lost


def _statistics(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {}
    for key in dict.fromkeys(key for result in results for key in result):
        values = [r[key] for r in results if type(r.get(key)) in (int, float)]
        if values:
            found[key] = asdict(summary(values))
    return found


def together(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The circumstances of all measurements: what they share once, what differs as a list."""
    places = [record["environment"] for record in records]
    shared: dict[str, Any] = {}
    for key in dict.fromkeys(key for place in places for key in place):
        values = [place.get(key) for place in places]
        shared[key] = values[0] if all(v == values[0] for v in values) else values
    return shared


def markdown(report: Report, name: str, records: Sequence[Mapping[str, Any]], *, quick: bool) -> str:
    """The page `<name>.md`."""
    lines = [f"# {report.title}", ""]
    if quick:
        lines += ["**A quick trial of the code: these numbers mean nothing.**", ""]
    for paragraph in report.about:
        lines += [paragraph, ""]
    lines += [f"Run it again: `zerosum bench {name}` (`benchmarks/README.md`).", ""]
    if report.targets:
        lines += ["## Targets", ""]
        rows = [[t.what, t.wanted, t.measured, "pass" if t.met else "**miss**"] for t in report.targets]
        lines += [*_markdown_table(["target", "wanted, of every run", "measured", ""], rows), ""]
    for table in report.tables:
        lines += [f"## {table.title}", "", *_markdown_table(_header(table), _cells(table)), ""]
    lines += ["Numbers are mean (lowest .. highest; standard deviation) over the runs.", ""]
    for path, words in report.pictures:
        lines += [f"![{words}]({path})", "", words, ""]
    lines += ["## Circumstances", "", *_circumstances(report, records)]
    return "\n".join(lines) + "\n"


def _circumstances(report: Report, records: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"- data: {d['source']}; {d['split']}: {d['count']:,}, sha256 `{d['sha256']}`" for d in report.data]
    places = [record["environment"] for record in records]
    commits = sorted(
        {f"{p['commit'] or 'unknown'}{' with changes' if p['changed_since_commit'] else ''}" for p in places}
    )
    processors = sorted({p.get("processor", "not recorded") for p in places})
    machines = sorted(
        {f"{p['system']}, {p['cores']} cores, {p['memory_gigabytes']} GB, Python {p['python']}" for p in places}
    )
    versions = sorted({", ".join(f"{k} {v}" for k, v in p["versions"].items()) for p in places})
    lines += [
        f"- commit: {'; '.join(commits)}",
        f"- machine: {'; '.join(machines)}",
        f"- processor: {'; '.join(processors)}",
        f"- versions: {'; '.join(versions)}",
    ]
    lines += [
        f"- threads: {', '.join(sorted({str(p['threads']) for p in places}))}; {report.arithmetic} on the processor"
    ]
    if places:
        speeds = [_cell([p["calibration"][k] for p in places], ".0f") for k in ("matrix_gflops", "convolution_gflops")]
        lines += [f"- calibration before each run: matrix {speeds[0]}, convolution {speeds[1]} GFLOP/s (fp32)"]
        lines += [f"- load average before each run: {_cell([p['load_average'] for p in places], '.1f')}"]
    return lines


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in [header, *rows]]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def show_tables(tables: Sequence[Table], whose: str = "") -> None:
    """In the terminal; `whose` stands after each title."""
    for table in tables:
        title = f"{table.title}{whose}"
        _console().print(_rich(title, _header(table), [[Text(c) for c in row] for row in _cells(table)]))


def show(report: Report) -> None:
    """The tables and the targets, in the terminal."""
    console = _console()
    show_tables(report.tables)
    if report.targets:
        verdicts = [Text("pass", "green") if t.met else Text("MISS", "bold red") for t in report.targets]
        rows = [
            [Text(t.what), Text(t.wanted), Text(t.measured), v] for t, v in zip(report.targets, verdicts, strict=True)
        ]
        console.print(_rich("Targets", ["target", "wanted, of every run", "measured", ""], rows))


def _rich(title: str, header: Sequence[str], rows: Sequence[Sequence[Text]]) -> RichTable:
    table = RichTable(title=title, title_justify="left")
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    return table
