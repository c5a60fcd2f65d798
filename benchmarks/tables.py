"""Figures as Markdown: what each benchmark prints, and what stands in docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    """A row a parser: time, sessions a second, and how many times as long as the one by hand."""
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
    """A row a start, beside pandas and pyarrow alone."""
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
    """A row a way: time, sessions a second, and how many times as long as downloading alone."""
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


def reading(rows: list[Row]) -> str:
    """A row a choice and size: milliseconds of each way, and the megabytes it asked for."""
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
    """A row a question and size: milliseconds and peak memory of each engine, ours to the fastest other."""
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
