"""Rows of the journal: restorable intervals, cut at UTC midnights, and visits merged into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa

from cdpanalytics import schema

Row = dict[str, Any]


def visited(vm: Row, since: pd.Timestamp, until: pd.Timestamp, found: pa.Table) -> pa.Table:
    """Return the rows of one visit to a VM, as the archive keeps them.

    Parameters
    ----------
    vm : dict
        A row of `schema.REPLICA_VMS`.
    since, until : pandas.Timestamp
        What was asked for.
    found : pyarrow.Table
        `schema.INTERVALS`, as the server answered; what lies outside is cut off.

    Returns
    -------
    pyarrow.Table
        `schema.JOURNAL`: a row of kind `schema.ASKED` a day, and the intervals, cut at
        UTC midnights.
    """
    whose = {
        "vm": vm["vm"], "vm_uid": vm["uid"], "policy": vm["policy"],
        "policy_uid": vm["policy_uid"], "backup_server": vm["backup_server"], "as_of": until,
    }  # fmt: skip
    first, last = since.to_pydatetime(), until.to_pydatetime()
    asked: Row = {"start": first, "end": last, "rpo": None, "kind": schema.ASKED}
    rows = [
        {**whose, **row, "start": start, "end": end}
        for row in (asked, *found.to_pylist())
        for start, end in _by_days(max(row["start"], first), min(row["end"], last))
    ]
    return pa.Table.from_pylist(rows, schema=schema.JOURNAL)


def joined(held: pa.Table, new: pa.Table) -> pa.Table:
    """Return one day's rows of two visits as one: newer ones hold where they overlap.

    Stretches of one VM that touch, with the same kind and RPO, become one; nothing is
    counted twice, whatever was fetched twice.

    Parameters
    ----------
    held, new : pyarrow.Table
        `schema.JOURNAL`, of one day.

    Examples
    --------
    >>> hour = pd.date_range("2026-10-01", periods=4, freq="h", tz="UTC")
    >>> vm = {"vm": "a", "uid": "u", "policy": "p", "policy_uid": "q", "backup_server": "b"}
    >>> nothing = schema.INTERVALS.empty_table()
    >>> both = joined(visited(vm, hour[0], hour[2], nothing), visited(vm, hour[1], hour[3], nothing))
    >>> both.select(["start", "end"]).to_pandas()["end"].dt.hour.tolist()
    [3]
    """
    rows: dict[tuple[Any, bool], list[Row]] = {}
    for row in (*held.to_pylist(), *new.to_pylist()):
        mine = rows.setdefault((row["vm_uid"], row["kind"] == schema.ASKED), [])
        mine[:] = [*_outside(mine, row["start"], row["end"]), row]
    listed = [row for mine in rows.values() for row in _touching(mine)]
    return pa.Table.from_pylist(listed, schema=schema.JOURNAL)


def _by_days(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        yield start, min(end, midnight)
        start = midnight


def _outside(rows: Iterable[Row], start: datetime, end: datetime) -> Iterator[Row]:
    """Yield what of rows lies before `start` or after `end`."""
    for row in rows:
        if row["start"] < start:
            yield {**row, "end": min(row["end"], start)}
        if row["end"] > end:
            yield {**row, "start": max(row["start"], end)}


def _touching(rows: Iterable[Row]) -> list[Row]:
    joined: list[Row] = []
    for row in sorted(rows, key=lambda row: row["start"]):
        last = joined[-1] if joined else None
        same = ("rpo", "kind", "policy_uid")
        if last and last["end"] == row["start"] and all(last[n] == row[n] for n in same):
            joined[-1] = {**row, "start": last["start"]}
        else:
            joined.append(row)
    return joined
