"""The only place where client and archive meet: which days to fetch, and what is final."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from cdpanalytics import schema
from cdpanalytics.archive import Archive, days
from cdpanalytics.client import EnterpriseManager, enrich
from cdpanalytics.config import Moment, instant
from cdpanalytics.errors import InputError

_DAY = pd.Timedelta("1D")
_RAW = [*schema.TASK_SESSIONS.names, "as_of"]

FIRST = "90D"
"""How far back the first sync of an archive reaches, unless told: the server's 13 weeks."""


@dataclass(frozen=True)
class Day:
    """A day to fetch: sessions created in ``[start, end)``."""

    start: pd.Timestamp
    end: pd.Timestamp


@dataclass(frozen=True)
class SyncResult:
    """What a sync did.

    `days` fetched, `sessions` read from the server, of which `added` are new to the
    archive and `changed` differ from what it held; `as_of`, the instant the archive
    now speaks for.
    """

    days: int
    sessions: int
    added: int
    changed: int
    as_of: pd.Timestamp

    def __str__(self) -> str:
        return (
            f"{self.sessions:,} sessions of {self.days:,} days read, {self.added:,} new, "
            f"{self.changed:,} changed; as of {self.as_of:%Y-%m-%d %H:%M} UTC"
        )


def sync(
    em: EnterpriseManager,
    archive: Archive,
    since: Moment | None = None,
    *,
    full: bool = False,
    progress: bool = True,
) -> SyncResult:
    """Bring the archive up to what the server knows now.

    Days that can no longer change are not asked for again. Each day is written as
    soon as it is whole, so a sync that was broken off goes on where it stopped.
    Rows that the server has forgotten are kept.

    Parameters
    ----------
    em : EnterpriseManager
    archive : Archive
        Made if it is not there.
    since : timestamp-like or text like "90D", optional
        First day to have. Default: the archive's own first day, or 90 days back.
    full : bool
        Ask for every day again.
    progress : bool
        Show a bar on stderr, or in the notebook.

    Returns
    -------
    SyncResult

    Raises
    ------
    InputError
        When `since` lies in the server's future.
    ServerError, WireError
        When the server does not answer, or not readably. Days written before stay.
    ArchiveError
        When a file cannot be written.
    """
    now = em.now()
    as_of = now - em.lag
    ledger = archive.ledger() if archive.path.is_dir() else None
    mine = None if ledger is None else ledger[ledger["source"] == em.url]
    wanted = plan(mine, now, None if since is None else instant(since, now), full=full)
    policies = em.policies(fresh=True)
    archive.put_policies(em.url, policies, as_of)
    stale = _keep_policy_sessions(em, archive, wanted, as_of)
    counts = [0, 0, 0]
    with tqdm(total=len(wanted), desc="sync", unit="day", disable=not progress) as bar:
        for day, table in _fetched(em, wanted):
            counted = _keep_day(em, archive, day, table, as_of)
            counts = [sum(pair) for pair in zip(counts, counted, strict=True)]
            bar.set_postfix_str(f"{counts[0]:,} sessions", refresh=False)
            bar.update()
    for midnight in sorted(stale - {day.start for day in wanted}):
        _refresh_day(em, archive, midnight)
    return SyncResult(len(wanted), counts[0], counts[1], counts[2], as_of)


def plan(
    ledger: pd.DataFrame | None,
    now: pd.Timestamp,
    since: pd.Timestamp | None = None,
    *,
    full: bool = False,
) -> list[Day]:
    """Return the days to fetch, oldest first: those never fetched, and those not final.

    Parameters
    ----------
    ledger : pandas.DataFrame or None
        ``day`` and ``final`` of what the archive has of this source; None for nothing.
    now : pandas.Timestamp
        The server's clock; today's window ends there.
    since : pandas.Timestamp, optional
        First day to have.
    full : bool
        Final days too.

    Raises
    ------
    InputError
        When `since` is not before `now`.

    Examples
    --------
    >>> now = pd.Timestamp("2026-10-03 09:00", tz="UTC")
    >>> held = pd.DataFrame({"day": [now.normalize() - pd.Timedelta("1D")], "final": [True]})
    >>> [str(day.start.date()) for day in plan(held, now, now - pd.Timedelta("2D"))]
    ['2026-10-01', '2026-10-03']
    """
    held = pd.DataFrame({"day": [], "final": []}) if ledger is None else ledger
    first = now - pd.Timedelta(FIRST) if held.empty else held["day"].min()
    first = first if since is None else since
    if first >= now:
        raise InputError(
            f"since={first:%Y-%m-%d %H:%M} is not before the server's now, {now:%Y-%m-%d %H:%M}"
        )
    final = set() if full else set(held.loc[held["final"].astype(bool), "day"])
    return [
        Day(day, min(day + _DAY, now))
        for day in days(first.date(), now.date())
        if day not in final and day < now
    ]


def _fetched(em: EnterpriseManager, wanted: list[Day]) -> Iterator[tuple[Day, pa.Table]]:
    """Fetch days in order, a few ahead of the one that is being written."""
    with ThreadPoolExecutor(em.parallel, thread_name_prefix="sync") as pool:
        ahead: deque[tuple[Day, Future[pa.Table]]] = deque()
        waiting = iter(wanted)
        try:
            for day in waiting:
                ahead.append((day, pool.submit(em.task_sessions, day.start, day.end, fresh=True)))
                if len(ahead) > em.parallel:
                    ready, future = ahead.popleft()
                    yield ready, future.result()
            while ahead:
                ready, future = ahead.popleft()
                yield ready, future.result()
        finally:
            for _, future in ahead:
                future.cancel()


def _keep_day(
    em: EnterpriseManager, archive: Archive, day: Day, fetched: pa.Table, as_of: pd.Timestamp
) -> tuple[int, int, int]:
    """Replace a day by what was fetched and what only the archive still knows."""
    held = archive.day("sessions", em.url, day.start)
    merged = merge(held.select(_RAW), fetched.select(_RAW))
    rows = _enriched(archive, em.url, day.start, merged)
    final = as_of >= day.start + _DAY and _all_over(merged)
    archive.put_day("sessions", em.url, day.start, rows, as_of, final)
    known = pc.is_in(fetched["uid"], held["uid"].combine_chunks())
    again = fetched.filter(known)
    return (
        len(fetched),
        len(fetched) - len(again),
        _differing(held.select(_RAW), again.select(_RAW)),
    )


def _refresh_day(em: EnterpriseManager, archive: Archive, day: pd.Timestamp) -> None:
    """Give a day that was not fetched the verdicts its policy sessions have come to since."""
    ledger = archive.ledger()
    stamp = ledger[(ledger["source"] == em.url) & (ledger["day"] == day)]
    if stamp.empty:
        return
    held = archive.day("sessions", em.url, day)
    rows = _enriched(archive, em.url, day, held.select(_RAW))
    archive.put_day(
        "sessions", em.url, day, rows, stamp["as_of"].iloc[0], bool(stamp["final"].iloc[0])
    )


def _keep_policy_sessions(
    em: EnterpriseManager, archive: Archive, wanted: list[Day], as_of: pd.Timestamp
) -> set[pd.Timestamp]:
    """Fetch the policy sessions that the days need; return the days whose verdicts changed."""
    start, stop = wanted[0].start - 2 * _DAY, wanted[-1].end
    fetched = em.policy_sessions(start, stop, fresh=True).select(schema.POLICY_SESSIONS.names)
    midnight = pc.floor_temporal(fetched["created"], unit="day")
    stale: set[pd.Timestamp] = set()
    for value in pc.unique(midnight):
        day = pd.Timestamp(value.as_py())
        new = fetched.filter(pc.equal(midnight, value))
        held = archive.day("policy_sessions", em.url, day)
        if _differing(held, new) or len(held) < len(new):
            archive.put_day("policy_sessions", em.url, day, merge(held, new), as_of)
            stale |= {day, day + _DAY}
    return stale


def _enriched(archive: Archive, source: str, day: pd.Timestamp, rows: pa.Table) -> pa.Table:
    near = [archive.day("policy_sessions", source, day - back * _DAY) for back in (2, 1, 0)]
    return enrich(rows, pa.concat_tables(near), archive.known_policies(source))


def merge(held: pa.Table, fetched: pa.Table) -> pa.Table:
    """Return the fetched rows and those held rows whose uid was not fetched."""
    only_held = held.filter(pc.invert(pc.is_in(held["uid"], fetched["uid"].combine_chunks())))
    return pa.concat_tables([fetched.cast(held.schema), only_held])


def _all_over(rows: pa.Table) -> bool:
    """Whether every session is Completed with an end, so that none can change any more."""
    over = pc.and_(
        pc.equal(rows["state"].cast(pa.string()), "Completed"), pc.is_valid(rows["ended"])
    )
    return bool(pc.all(pc.fill_null(over, False), min_count=0).as_py())


def _differing(held: pa.Table, fetched: pa.Table) -> int:
    """Count the uids in both whose rows differ in more than as_of."""
    columns = [name for name in held.column_names if name != "as_of"]
    before = {row["uid"]: row for row in held.select(columns).to_pylist()}
    rows = fetched.select(columns).to_pylist()
    return sum(row["uid"] in before and before[row["uid"]] != row for row in rows)
