"""The command that asks the question of a report again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cdpanalytics.timeparse import length_text

if TYPE_CHECKING:
    from cdpanalytics.patterns import Patterns
    from cdpanalytics.selection import Selection


def command(selection: Selection) -> str | None:
    """Return the command line that gives the figures of a Selection; None of a frame, which has no files.

    Relative periods are written as the days or instants they meant. The archive's directory
    is left to the reader, and files of tags and exclusions are named without theirs.
    """
    if not selection.provenance()["files"]:
        return None
    words = ["cdpanalytics", "report", "--archive", "DIR", "--output", "again.html"]
    return shlex.join([*words, *(word for option in _options(selection) for word in option)])


def _options(selection: Selection) -> Iterator[tuple[str, ...]]:
    dated = selection.dated_period()
    if dated is not None and dated.calendar:
        yield "--period", dated.explicit
    else:
        for option, edge in zip(("--since", "--until"), selection.window, strict=True):
            if edge is not None:
                yield option, edge.tz_convert("UTC").isoformat().replace("+00:00", "Z")
    names = selection.names
    for option, patterns in (("policy", names.policy), ("vm", names.vm), ("server", names.server)):
        yield from ((f"--{option}", pattern) for pattern in _listed(patterns))
    for tag, patterns in names.tags:
        yield from (("--tag", f"{tag}={pattern}") for pattern in _listed(patterns))
    yield "--tz", selection.tz
    lengths = (
        ("rpo", selection.target),
        ("grace", selection.grace),
        ("retire-after", selection.retire_after),
    )
    for option, length in lengths:
        if length is not None:
            text = length_text(length) if isinstance(length, pd.Timedelta) else str(length)
            yield f"--{option}", text
    if selection.objective is not None:
        yield "--objective", f"{100 * selection.objective:.10g}%"
    yield from _files(selection)


def _files(selection: Selection) -> Iterator[tuple[str, ...]]:
    """Yield the options of tags and exclusions that the estate file does not name."""
    given, read = selection.context.arguments, selection.context.files
    if given.get("tags") in read:
        yield "--tags", Path(given["tags"]).name
    exclude = given.get("exclude")
    if exclude is False:
        yield ("--no-exclude",)
    for name in exclude or ():
        yield "--exclude", Path(name).name


def _listed(patterns: Patterns) -> Sequence[str]:
    if patterns is None:
        return ()
    return (patterns,) if isinstance(patterns, str) else patterns
