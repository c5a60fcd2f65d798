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
