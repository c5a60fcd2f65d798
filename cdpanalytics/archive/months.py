"""Of each settled month, in one file, the sessions that later windows may have as neighbours.

Which sessions before a window decide its edges is said by rules (`extremes`). The rows that
the rules choose of a month hold those that they choose of any longer history. So once no day
of a month can change, these rows are written, and a reader takes their file in place of the
month's days. It does so only where the days are still the very files that were summarized:
their names and versions are in it. The days alone have all that it has, so it can be deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import pandas as pd
import pyarrow as pa

from cdpanalytics import schema
from cdpanalytics.archive import names
from cdpanalytics.archive.extremes import Extreme, default_rules, reduced
from cdpanalytics.archive.files import FileMetadata, ParquetFiles
from cdpanalytics.archive.names import Name
from cdpanalytics.errors import ArchiveError, StoreError

_RULES = (*default_rules().extremes, Extreme("created", finished=True))
"""All rules that are used, each without the instant up to which it looks."""

_Month = tuple[pd.Timestamp, pd.Timestamp]


def shortened(
    files: ParquetFiles, days: Sequence[Name], rules: Sequence[Extreme], start: pd.Timestamp
) -> list[Name]:
    """Return the files to read in place of all days before a window's start, in the same order.

    Parameters
    ----------
    files : ParquetFiles
    days : sequence of Name
        By source and day.
    rules : sequence of Extreme
        What is looked for in them.
    start : pandas.Timestamp
        Where the window starts.
    """
    read: list[Name] = []
    for name, of_month in _by_month(days):
        month = _month(name)
        stands = month[1] <= start and _holds(rules, month) and _is_current(files, name, of_month)
        read += [name] if stands else of_month
    return read


def due(files: ParquetFiles) -> list[tuple[Name, list[Name]]]:
    """Return the settled months that have no current file, each with its days.

    A month is settled once each of its days held is final and a later one is held.
    """
    unfinished = set(map(names.month_file, files.last_days()))
    return [
        (name, of_month)
        for name, of_month in _by_month(files.days("sessions"))
        if name not in unfinished
        and not _is_current(files, name, of_month)
        and all(metadata.final for _, metadata, _ in files.metadata_of(of_month))
    ]


def summary(files: ParquetFiles, name: Name, days: Sequence[Name]) -> tuple[pa.Table, FileMetadata]:
    """Return the rows of a month's file, and what it says of itself."""
    tables = files.storage.map(lambda day: files.load(day, schema.SESSIONS), days)
    rows = reduced(tables, _RULES, _month(name)[1])
    source = files.metadata(days[0]).source
    versions = tuple(_versions(files, days))
    metadata = FileMetadata(names.MONTHS, source, name.stem, None, True, summarized=versions)
    return rows, metadata


def _by_month(days: Sequence[Name]) -> Iterator[tuple[Name, list[Name]]]:
    """Yield the file of each month, and its days."""
    for name, of_month in groupby(days, names.month_file):
        yield name, list(of_month)


def _month(name: Name) -> _Month:
    start = pd.Timestamp(name.stem, tz="UTC")
    return start, start + pd.offsets.MonthBegin()


def _holds(rules: Sequence[Extreme], month: _Month) -> bool:
    """Return whether the rows of `_RULES` hold what other rules choose of a month.

    A rule that looks at what began before an instant looks at the whole month or at nothing
    of it, unless the instant lies inside.
    """
    first, end = month
    return all(
        replace(rule, before=None) in _RULES
        and (rule.before is None or not first < rule.before < end)
        for rule in rules
    )


def _is_current(files: ParquetFiles, name: Name, days: Sequence[Name]) -> bool:
    """Return whether a month's file was made of these very days."""
    if name not in files.months() or not files.staged.isdisjoint(days):
        return False
    try:
        summarized = files.metadata(name).summarized
        return [tuple(each) for each in summarized] == _versions(files, days)
    except StoreError:
        raise
    except (ArchiveError, FileNotFoundError):
        return False


def _versions(files: ParquetFiles, days: Sequence[Name]) -> list[tuple[str, str]]:
    return [(day.stem, files.storage.version(day)) for day in days]
