"""Fetch the journal: what each replica VM could be restored to since it was last asked about."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.archive.journal import joined, visited
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.synchronize.days import days

_LOOK_BACK: Final = pd.Timedelta("7D")
"""How far back a VM is asked about where its policy's short-term retention is not known."""

Row = dict[str, Any]


def sync_journal(em: EnterpriseManager, archive: Archive, as_of: pd.Timestamp, show: bool) -> int:
    """Fetch the intervals of each replica VM and vApp since the last visit; return how many came.

    No query goes back further than the policy's short-term retention: the server keeps no
    more, and what it has deleted is not known.
    """
    fetched = list(_fetch(em, _questions(em, archive, as_of), as_of, show))
    table = pa.concat_tables([schema.JOURNAL.empty_table(), *fetched])
    for day, rows in rows_by_day(table, "start"):
        held = archive.day("intervals", em.url, day)
        archive.put_day("intervals", em.url, day, joined(held, rows), as_of)
    return int(pc.sum(pc.not_equal(table["kind"].cast(pa.string()), schema.ASKED)).as_py() or 0)


def rows_by_day(rows: pa.Table, column: str) -> Iterator[tuple[pd.Timestamp, pa.Table]]:
    """Yield each UTC day that an instant lies in, in order, with the rows of that day."""
    midnight = pc.floor_temporal(rows[column], unit="day")
    for value in sorted(pc.unique(midnight).to_pylist()):
        yield pd.Timestamp(value), rows.filter(pc.equal(midnight, pa.scalar(value, schema.INSTANT)))


def _questions(
    em: EnterpriseManager, archive: Archive, as_of: pd.Timestamp
) -> list[tuple[Row, pd.Timestamp]]:
    """Return each VM and vApp with the instant from which it is to be asked about."""
    sets = em.replicas(fresh=True)["uid"].to_pylist()
    vms = pa.concat_tables([*map(em.replica_vms, sets), em.vapps()]).to_pylist()
    last_visit, short_term = _last_visits(archive, em.url, as_of), _short_terms(archive, em.url)
    kept_since = (as_of - short_term.get(vm["policy_uid"], _LOOK_BACK) for vm in vms)
    questions = [
        (vm, max(last_visit.get(vm["uid"], kept), kept))
        for vm, kept in zip(vms, kept_since, strict=True)
    ]
    return [(vm, since) for vm, since in questions if since < as_of]


def _fetch(
    em: EnterpriseManager,
    questions: list[tuple[Row, pd.Timestamp]],
    as_of: pd.Timestamp,
    show: bool,
) -> Iterator[pa.Table]:
    """Ask about several VMs at a time; yield the journal's rows of each, in order."""
    with (
        ThreadPoolExecutor(em.parallel, thread_name_prefix="journal") as pool,
        tqdm(total=len(questions), desc="journal", unit="VM", disable=not show) as bar,
    ):
        futures = [
            pool.submit(em.intervals, vm["replica_uid"], vm["uid"], since, as_of)
            for vm, since in questions
        ]
        try:
            for (vm, since), future in zip(questions, futures, strict=True):
                yield visited(vm, since, as_of, future.result())
                bar.update()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _last_visits(archive: Archive, source: str, as_of: pd.Timestamp) -> dict[str, pd.Timestamp]:
    """Return until when each VM was asked about, of the last days that can matter.

    A visit that ends in the future was made while the server's clock was ahead: how far it
    really reached is not known, so that VM is asked again from the beginning of that day's visits.
    """
    recent = days((as_of - _LOOK_BACK).date(), as_of.date())
    table = pa.concat_tables([archive.day("intervals", source, day) for day in recent])
    visits = table.filter(pc.equal(table["kind"].cast(pa.string()), schema.ASKED))
    now = pa.scalar(as_of.to_pydatetime(), schema.INSTANT)
    visits = visits.filter(pc.less_equal(visits["start"], now))
    known = pc.if_else(pc.less_equal(visits["end"], now), visits["end"], visits["start"])
    newest = visits.append_column("known", known).group_by("vm_uid").aggregate([("known", "max")])
    return {row["vm_uid"]: pd.Timestamp(row["known_max"]) for row in newest.to_pylist()}


def _short_terms(archive: Archive, source: str) -> dict[str, pd.Timedelta]:
    settings = archive.known_policies(source).sort_by("seen_from").to_pylist()
    return {
        row["policy_uid"]: pd.Timedelta(row["short_term"])
        for row in settings
        if row["short_term"] is not None
    }
