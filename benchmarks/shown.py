"""Figures as Markdown: what each benchmark prints, and the tables of docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

Row = dict[str, Any]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table; all but the first columns are numbers."""
    rules = ["---"] * words + ["--:"] * (len(head) - words)
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rules)}|", *lines[1:]]) + "\n"


def of(rows: list[Row], what: str) -> list[Row]:
    """The rows of one kind."""
    return [row for row in rows if row["what"] == what]


def parsing(rows: list[Row]) -> str:
    """One row per parser: time, sessions a second, and how many times as long as the one by hand."""
    shown = []
    for row in of(rows, "parsing"):
        ours = next(r for r in of(rows, "parsing") if r["format"] == row["format"])
        shown.append([
            row["format"].upper(), row["way"], f"{1e3 * row['seconds']:.2f}",
            f"{row['rows'] / row['seconds']:,.0f}", f"{ours['seconds'] / row['seconds']:.2f}",
            f"{row['peak_mb']:,.0f}", {True: "yes", False: "NO", None: ""}[row["agrees"]],
        ])  # fmt: skip
    head = ["page", "read by", "ms", "sessions a second", "ours / this", "peak MB", "same table"]
    return markdown(head, shown, words=2)


def imports(rows: list[Row]) -> str:
    """One row per start, beside pandas and pyarrow alone."""
    starts = {row["start"]: row for row in of(rows, "start")}
    base = starts["import pandas, pyarrow"]["seconds"]
    shown = [
        [name, f"{1e3 * row['seconds']:.0f}", f"{1e3 * row['cpu']:.0f}",
         f"{row['seconds'] / base:.2f}", f"{row['peak_mb']:.0f}"]
        for name, row in starts.items()
    ]  # fmt: skip
    head = ["a Python process that does", "ms", "CPU ms", "beside pandas, pyarrow", "peak MB"]
    return markdown(head, shown)


def sync(rows: list[Row]) -> str:
    """One row per way: time, sessions a second, and how many times as long as downloading alone."""
    ways = {row["way"]: row for row in of(rows, "sync")}
    limit = ways.get("downloaded and thrown away")
    shown = [
        [way, f"{row['sessions']:,}", f"{row['seconds']:.1f}", f"{row['cpu']:.1f}",
         f"{row['sessions'] / row['seconds']:,.0f}",
         f"{row['seconds'] / limit['seconds']:.2f}" if limit else "", f"{row['peak_mb']:,.0f}"]
        for way, row in ways.items()
    ]  # fmt: skip
    head = ["", "sessions", "s", "CPU s", "sessions a second", "beside the download", "peak MB"]
    return markdown(head, shown)


def reconciling(rows: list[Row]) -> str:
    """One row per sync: requests, sessions, time, and its share of the first sync."""
    syncs = of(rows, "reconciling")
    table = [
        [row["way"], f"{row['days']:,}", f"{row['requests']:,}", f"{row['sessions']:,}",
         f"{row['seconds']:.1f}", f"{row['cpu']:.1f}", f"{row['seconds'] / syncs[0]['seconds']:.3f}",
         f"{row['peak_mb']:,.0f}"]
        for row in syncs
    ]  # fmt: skip
    head = [
        "",
        "days fetched",
        "requests",
        "sessions",
        "s",
        "CPU s",
        "beside the first sync",
        "peak MB",
    ]
    return markdown(head, table)


def reading(rows: list[Row]) -> str:
    """One row per choice and size: milliseconds of each way, and the megabytes it asked for."""
    found: dict[tuple[int, str], dict[str, Row]] = {}
    for row in of(rows, "reading"):
        found.setdefault((row["sessions"], row["chosen"]), {})[row["way"]] = row
    ways = list(next(iter(found.values())))
    shown = [
        [
            f"{sessions:,}",
            chosen,
            f"{ways_of[ways[0]]['rows']:,}",
            *(
                f"{1e3 * ways_of[way]['seconds']:,.0f} ({ways_of[way]['mb_read']:,.0f})"
                for way in ways
            ),
            *(f"{ways_of[ways[0]]['seconds'] / ways_of[way]['seconds']:.2f}" for way in ways[-2:]),
        ]
        for (sessions, chosen), ways_of in found.items()
    ]
    head = [
        "sessions",
        "read",
        "rows",
        *(f"{way}, ms (MB read)" for way in ways),
        *(f"ours / {way}" for way in ways[-2:]),
    ]
    return markdown(head, shown)


def metrics(rows: list[Row], source: str | None = None) -> str:
    """One row per question and size: milliseconds and peak memory of each engine, ours to the fastest other."""
    kept = [row for row in of(rows, "metric") if source in (None, row["source"])]
    engines = list(dict.fromkeys(row["engine"] for row in kept))
    found: dict[tuple[str, int, str], dict[str, Row]] = {}
    for row in kept:
        key = (row["source"], row["sessions"], row["metric"])
        found.setdefault(key, {})[row["engine"]] = row
    shown = []
    for (from_, sessions, question), told in found.items():
        ours = min(row["seconds"] for name, row in told.items() if name.startswith("cdp"))
        others = [row["seconds"] for name, row in told.items() if not name.startswith("cdp")]
        cells = [
            f"{_ms(told[e])} ({told[e]['peak_mb']:,.0f})" if e in told else "" for e in engines
        ]
        odd = [e for e in engines if e in told and not told[e]["agrees"]]
        ratio = f"{ours / min(others):.2f}" if others else ""
        agrees = f"NO: {', '.join(odd)}" if odd else "yes"
        place = [] if source else [from_]
        shown.append([*place, f"{sessions:,}", question, *cells, ratio, agrees])
    place = [] if source else ["from"]
    head = [*place, "sessions", "question", *(f"{e}, ms (peak MB)" for e in engines),
            "ours / fastest other", "agree"]  # fmt: skip
    return markdown(head, shown, words=len(place) + 2)


def _ms(row: Row) -> str:
    ms = 1e3 * row["seconds"]
    return f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}"


def explorer(rows: list[Row]) -> str:
    """One row per change of a control: until its tiles changed in the page, until all is drawn; seen before."""
    shown = [
        [
            row["change"],
            f"{row['tiles_ms']:.0f}",
            f"{row['drawn_ms']:.0f}",
            f"{row['again_ms']:.0f}",
        ]
        for row in of(rows, "explorer")
    ]
    return markdown(["change", "tiles, ms", "drawn, ms", "seen before, ms"], shown)


def scale(rows: list[Row]) -> str:
    """One row per archive: what a metric by ranges of VMs takes of it."""
    shown = [
        [f"{row['sessions']:,}", f"{row['archive_mb']:,.0f}", f"{row['seconds']:,.1f}",
         f"{row['us_a_session']:.2f}", f"{row['peak_mb']:,.0f}"]
        for row in rows if row.get("what", "scale") == "scale"
    ]  # fmt: skip
    head = ["sessions", "archive MB", "seconds", "µs a session", "peak MB"]
    return markdown(head, shown, words=0)


def waiting(rows: list[Row]) -> str:
    """One row per command, beside the Polars script, and where the time of a report goes."""
    waited = of(rows, "waiting")
    base = waited[0]["seconds"]
    table = [
        [row["command"], f"{row['seconds']:.2f}", f"{row['cpu']:.2f}", f"{row['peak_mb']:,.0f}",
         f"{row['seconds'] / base:.2f}", f"{row['cpu'] / waited[0]['cpu']:.2f}",
         f"{row['goal']:.1f}" if row["goal"] else ""]
        for row in waited[:-1]
    ]  # fmt: skip
    head = ["a process that does", "s", "CPU s", "peak MB", "beside the script", "CPU beside it",
            "goal"]  # fmt: skip
    return markdown(head, table) + "\n" + _of_sections(rows)


def _of_sections(rows: list[Row]) -> str:
    waited = {row["command"]: row for row in of(rows, "waiting")}
    report, least = waited["report, 30 days"]["seconds"], of(rows, "waiting")[-1]["seconds"]
    shares = [[row["section"], f"{row['share']:.0%}"] for row in of(rows, "section")]
    return (
        f"A report of 30 days takes {report:.2f} s; its imports and the columns of its window read once "
        f"take {least:.2f} s, so that the ratio is {report / least:.2f} "
        f"(goal: 1.5). {_of_opening(rows)}Where the time of a report goes, without imports:\n\n"
        + markdown(["part of a report", "share"], shares)
    )


def _of_opening(rows: list[Row]) -> str:
    return "".join(
        f"`explore` of {row['sessions']:,} sessions of {row['vms']:,} VMs opens on the last 30 days in "
        f"{row['seconds']:.1f} s, the start of Python and all imports included, with "
        f"{row['peak_mb']:,.0f} MB (goal: 3 s). "
        for row in of(rows, "opening")
    )


# -- what the page says of a table: its figures in a sentence -------------------------------


def _of_metrics(rows: list[Row], source: str) -> str:
    kept = [row for row in of(rows, "metric") if row["source"] == source]
    told = []
    for sessions in dict.fromkeys(row["sessions"] for row in kept):
        ratios, ahead = [], 0
        for metric in dict.fromkeys(row["metric"] for row in kept if row["sessions"] == sessions):
            asked = [r for r in kept if (r["sessions"], r["metric"]) == (sessions, metric)]
            ours = min(r["seconds"] for r in asked if r["engine"].startswith("cdp"))
            ratios.append(
                ours / min(r["seconds"] for r in asked if not r["engine"].startswith("cdp"))
            )
            ahead += ratios[-1] <= 1
        told.append(f"at {sessions:,} sessions {geometric_mean(ratios):.2f} times as long as the fastest other, "
                    f"ahead in {ahead} of {len(ratios)}")  # fmt: skip
    return f"Over all questions, geometric mean: {'; '.join(told)}."


def _of_parsing(rows: list[Row]) -> str:
    found = {(row["format"], row["way"]): row for row in of(rows, "parsing")}
    ours, xml = found["json", "cdpanalytics"], found["xml", "cdpanalytics"]
    hand, bare = found["json", "msgspec"], found["json", "msgspec, objects only"]
    return (
        f"A page of {ours['rows']:,} sessions takes {ours['seconds'] / hand['seconds']:.2f} times as long as "
        f"msgspec by hand, which checks nothing, and {ours['seconds'] / bare['seconds']:.1f} times as long as "
        f"msgspec takes to make objects of it; XML takes {xml['seconds'] / ours['seconds']:.1f} times as long as JSON."
    )


def _of_sync(rows: list[Row]) -> str:
    ways = {row["way"]: row for row in of(rows, "sync")}
    limit, ours = ways["downloaded and thrown away"], ways["cdpanalytics sync"]
    hand = ways["by hand: requests, json, pandas"]
    return (
        f"{ours['sessions']:,} sessions of {ours['vms']:,} VMs: a sync takes "
        f"{ours['seconds'] / limit['seconds']:.2f} times as long as downloading their pages, parsing and archive "
        f"included; by hand it is {hand['seconds'] / ours['seconds']:.1f} times as long as the sync, in "
        f"{hand['peak_mb'] / ours['peak_mb']:.1f} times the memory."
    )


def _of_reconciling(rows: list[Row]) -> str:
    first, again, quick = of(rows, "reconciling")
    return (
        f"{first['days']:,} days of {first['vms']:,} VMs, {first['sessions']:,} sessions: a sync that compares all "
        f"of them with the server and finds no change takes {again['requests']:,} requests and "
        f"{again['seconds']:.1f} s, {again['seconds'] / first['seconds']:.1%} of the first sync; with `--quick` "
        f"{quick['requests']:,} requests and {quick['seconds']:.1f} s."
    )


def _of_reading(rows: list[Row]) -> str:
    found = {(r["sessions"], r["chosen"], r["way"]): r for r in of(rows, "reading")}
    largest = max(sessions for sessions, *_ in found)
    ours = {chosen: row for (sessions, chosen, way), row in found.items()
            if sessions == largest and way == "cdpanalytics"}  # fmt: skip
    whole = found[largest, "month, 2 VMs", "pyarrow.dataset"]
    two = ours["month, 2 VMs"]
    return (
        f"Two VMs of a month, in an archive of {largest:,} sessions, {two['files']:,} files, "
        f"{two['row_groups']:,} row groups and {two['archive_mb']:,.0f} MB, ask for {two['mb_read']:.1f} MB: "
        f"{two['seconds'] / whole['seconds']:.2f} of the time of pyarrow's own filter on the same directory, "
        f"which asks for {whole['mb_read']:.1f} MB."
    )


def _of_imports(rows: list[Row]) -> str:
    starts = {row["start"]: row for row in of(rows, "start")}
    base = starts["import pandas, pyarrow"]["seconds"]
    ready = starts["import cdpanalytics, and a frame's first metric"]["seconds"]
    return (
        f"`--help` takes {starts['cdpanalytics --help']['seconds']:.2f} s where pandas and pyarrow take "
        f"{base:.2f} s; a process that is ready for its first metric takes {ready / base:.2f} times as long as they do."
    )


def _of_explorer(rows: list[Row]) -> str:
    opening, *drawn = of(rows, "explorer")
    slow = max(drawn, key=lambda row: row["drawn_ms"])
    return (
        f"{slow['sessions']:,} sessions of {slow['vms']:,} VMs in JupyterLab, in the browser: the first "
        f"picture is there {opening['drawn_ms'] / 1000:.1f} s after the cell is run; the slowest change, "
        f"{slow['change']}, is drawn after {slow['drawn_ms']:.0f} ms; what was seen before is back after at most "
        f"{max(row['again_ms'] for row in drawn):.0f} ms."
    )


def _of_waiting(rows: list[Row]) -> str:
    waited = {row["command"]: row for row in of(rows, "waiting")}
    base = of(rows, "waiting")[0]
    ratio = {name: row["seconds"] / base["seconds"] for name, row in waited.items()}
    return (
        f"Beside a Polars script that reads a year of {base['sessions']:,} sessions and prints one metric "
        f"({base['seconds']:.2f} s), `metrics rpo` of the year takes {ratio['metrics rpo, year']:.2f} times as "
        f"long, a report of 30 days {ratio['report, 30 days']:.1f} times."
    )


def _of_scale(rows: list[Row]) -> str:
    sizes = [row for row in rows if row.get("what", "scale") == "scale"]
    small, large = sizes[min(1, len(sizes) - 1)], sizes[-1]
    return (
        f"From {small['sessions']:,} to {large['sessions']:,} sessions a session takes "
        f"{small['us_a_session']:.2f} to {large['us_a_session']:.2f} µs, in at most "
        f"{max(row['peak_mb'] for row in sizes):,.0f} MB."
    )


_Told = Callable[[list[Row]], str]
PARTS: dict[str, tuple[str, _Told, _Told]] = {
    "metrics_of_frames": (
        "metrics",
        lambda r: metrics(r, "frame"),
        lambda r: _of_metrics(r, "frame"),
    ),
    "metrics_of_archives": (
        "metrics",
        lambda r: metrics(r, "archive"),
        lambda r: _of_metrics(r, "archive"),
    ),
    "metrics_of_unique_frames": (
        "metrics",
        lambda r: metrics(r, "frame without uids"),
        lambda r: _of_metrics(r, "frame without uids"),
    ),
    "waiting": ("waiting", waiting, _of_waiting),
    "parsing": ("parsing", parsing, _of_parsing),
    "syncing": ("sync", sync, _of_sync),
    "reconciling": ("reconciling", reconciling, _of_reconciling),
    "reading": ("reading", reading, _of_reading),
    "starting": ("imports", imports, _of_imports),
    "redrawing": ("explorer", explorer, _of_explorer),
    "scaling": ("scale", scale, _of_scale),
}
"""Of each part of the page the file of figures, its table, its sentence."""


def part(name: str, folder: Path) -> str:
    """A part of docs/performance.md, of the figures that are there."""
    file, table, sentence = PARTS[name]
    path = folder / f"{file}.json"
    if not path.exists():
        return "Not measured here yet.\n"
    rows = json.loads(path.read_text())
    picture = folder / f"{file}.svg"
    shown = f"![{sentence(rows)}]({folder.name}/{picture.name})\n\n" if picture.exists() else ""
    return f"{shown}{sentence(rows)}\n\n{table(rows)}\n{_machine(rows)}\n"


def _machine(rows: list[Row]) -> str:
    """What the figures are of, in a line."""
    found = next((row for row in rows if row.get("what") == "machine"), None)
    if found is None:
        return ""
    place = [f"{found['cores']} cores"]
    if "processor" in found:
        place = [found["processor"], *place, f"{found['memory_gb']} GB", found["system"]]
    fixed = ("what", "processor", "cores", "memory_gb", "system", "load")
    versions = [f"{name} {value}" for name, value in found.items() if name not in fixed]
    return f"*{', '.join([*place, *versions])}.{_busy(found)}*"


def _busy(machine: Row) -> str:
    """What to think of times that were taken while other programs used the processor."""
    load, cores = machine.get("load", 0), machine["cores"]
    if load <= 2 * cores:
        return ""
    return (
        f" Other programs kept it busy (load {load:.0f} on {cores} cores): the times are longer than "
        "on a quiet machine, their ratios are of one run."
    )
