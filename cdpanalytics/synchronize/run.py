"""Synchronize an archive with a server: fetch the days of the plan, merge, store."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from cdpanalytics import schema, settings
from cdpanalytics.archive import Archive
from cdpanalytics.archive.joins import enrich
from cdpanalytics.errors import CdpError, ServerError
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.synchronize.days import (
    DAY,
    Day,
    Retention,
    Stretch,
    check_since,
    first_default,
    plan,
)
from cdpanalytics.synchronize.journal import rows_by_day, sync_journal
from cdpanalytics.synchronize.reconciling import Recheck, days_to_recheck
from cdpanalytics.timeparse import Moment, instant

_AHEAD: Final = 2
"""Days fetched ahead of the one that is being stored: more would be memory."""

_POLICY_SESSION_DAYS: Final = 3
"""UTC days that a policy session of 24 hours and its task sessions' starts can touch."""

_NEWEST: Final = 5
"""Newest sessions held of which the server must still have most, or it has forgotten since."""

_CLOCK_WARNING: Final = pd.Timedelta("5min")
_CLOCK_LIMIT: Final = pd.Timedelta("1h")
"""Difference of the server's clock and this machine's that is told, and that stops a sync."""

_RAW: Final = [*schema.TASK_SESSIONS.names, "as_of"]
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class SyncResult:
    """What a sync did.

    Parameters
    ----------
    days : int
        Days fetched, in `seconds`.
    sessions, added, changed : int
        Sessions read from the server; those new to the archive; those that differ from what
        it held.
    as_of : pandas.Timestamp
        The instant up to which the archive now has data.
    intervals : int
        Intervals added to the journal.
    forgotten : tuple
        Stretches that the server no longer knew, and the archive never will.
    set_aside : tuple of str
        Files that were damaged.
    rechecked : int
        Settled days, older than a week, that were fetched again because the server has another
        number of sessions than at the last look.
    """

    days: int
    sessions: int
    added: int
    changed: int
    as_of: pd.Timestamp
    seconds: float = 0.0
    intervals: int = 0
    forgotten: tuple[Stretch, ...] = ()
    set_aside: tuple[str, ...] = ()
    rechecked: int = 0

    def __str__(self) -> str:
        rate = f" ({self.sessions / self.seconds:,.0f} a second)" if self.seconds > 0 else ""
        parts = [
            f"{self.sessions:,} sessions of {self.days:,} days read{rate}, {self.added:,} new, "
            f"{self.changed:,} changed"
        ]
        if self.rechecked:
            parts.append(
                f"{self.rechecked:,} settled days were fetched again, their number of sessions had changed"
            )
        if self.intervals:
            parts.append(f"{self.intervals:,} intervals")
        parts += [
            f"the server had forgotten {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
            for start, end in self.forgotten
        ]
        if self.set_aside:
            parts.append(f"damaged and set aside: {', '.join(self.set_aside)}")
        return "; ".join([*parts, f"as of {self.as_of:%Y-%m-%d %H:%M} UTC"])


def sync(
    em: EnterpriseManager,
    archive: Archive,
    since: Moment | None = None,
    *,
    full: bool = False,
    quick: bool = False,
    journal: bool = False,
    allow_clock_difference: bool | None = None,
    progress: bool = True,
) -> SyncResult:
    """Bring the archive up to what the server knows now.

    Days that are settled are not fetched again, unless the server's count of their sessions
    differs from that of the last look: sessions may reach its database days late. Each day is
    written as soon as it is complete, so a sync that was interrupted continues where it
    stopped. Rows that the server has forgotten are kept; what it forgot before it was asked
    is recorded as a hole. Damaged files are set aside and their days fetched again.

    Parameters
    ----------
    em : EnterpriseManager
    archive : Archive
        Made if it does not exist. One sync writes it at a time: another waits.
    since : timestamp-like or text like "90D", optional
        First day to have. Default: the archive's own first day, or 90 days back.
    full : bool
        Fetch every day again.
    quick : bool
        Do not compare settled days with the server: only what is new or not settled is fetched.
    journal : bool
        Also fetch the restorable intervals of each replica VM and vApp since the last visit.
    allow_clock_difference : bool, optional
        Go on although the server's clock and this machine's differ by more than an hour.
        Default: whether ``CDPANALYTICS_ALLOW_CLOCK_DIFFERENCE`` is 1.
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
        When the server does not answer, or not readably, or its clock differs by more than an
        hour. Days written before stay.
    ArchiveError
        When a file cannot be written, or another sync does not end.
    """
    now = em.now()
    _check_clock(em, allow_clock_difference)
    first = None if since is None else check_since(instant(since, now), now)
    with archive.writing():
        return _Sync.start(em, archive, now).run(first, full, quick, journal, progress)


def _check_clock(em: EnterpriseManager, allowed: bool | None) -> None:
    """Warn where the clocks differ by minutes, refuse where they differ by more than an hour.

    The server's clock decides which days are over. One that is two days ahead would settle
    days whose sessions have not been collected yet.
    """
    difference = em.clock_difference()
    if difference is None or abs(difference) <= _CLOCK_WARNING:
        return
    machine = pd.Timestamp.now("UTC")
    clocks = (
        f"{em.url}: its clock says {machine + difference:%Y-%m-%d %H:%M:%S} UTC, this machine's "
        f"{machine:%Y-%m-%d %H:%M:%S} UTC"
    )
    goes_on = settings.allow_clock_difference() if allowed is None else allowed
    if abs(difference) > _CLOCK_LIMIT and not goes_on:
        raise ServerError(
            f"{clocks}; correct one of them, or go on with --allow-clock-difference "
            "(allow_clock_difference=True)"
        )
    _log.warning("%s", clocks)


@dataclass
class _Sync:
    """One run: what is synchronized, as of when, and what was held before."""

    em: EnterpriseManager
    archive: Archive
    now: pd.Timestamp
    as_of: pd.Timestamp
    over: pd.Timestamp
    """Days that end by then are over, by the server's clock and by this machine's."""
    ledger: pd.DataFrame = field(default_factory=pd.DataFrame)
    policies: pa.Table = field(default_factory=schema.POLICIES.empty_table)
    parents: dict[pd.Timestamp, pa.Table] = field(default_factory=dict)
    """Policy sessions by day, read once or as they were stored."""

    @classmethod
    def start(cls, em: EnterpriseManager, archive: Archive, now: pd.Timestamp) -> _Sync:
        as_of = now - em.lag
        return cls(em, archive, now, as_of, min(as_of, pd.Timestamp.now("UTC")))

    def run(
        self, first: pd.Timestamp | None, full: bool, quick: bool, journal: bool, show: bool
    ) -> SyncResult:
        begun = time.monotonic()
        set_aside = self.archive.set_aside(thorough=full)
        ledger = self.archive.ledger()
        self.ledger = ledger[ledger["source"] == self.em.url]
        first = self._first_day(first)
        self.archive.note_since(self.em.url, first)
        wanted, rechecked = self._wanted(first, full, quick)
        self._retract_days_ahead()
        seen = self.em.policies(fresh=True)
        self.policies = self.archive.put_policies(self.em.url, seen, self.as_of)
        self._store_policy_sessions(wanted)
        counts = self._store_days(wanted, begun, show)
        seconds = time.monotonic() - begun
        with _add_progress_to_error(lambda: "the sessions are stored, the journal is not"):
            intervals = sync_journal(self.em, self.archive, self.as_of, show) if journal else 0
        return SyncResult(
            len(wanted), *counts, self.as_of, seconds, intervals, self._new_holes(), tuple(set_aside),
            rechecked,
        )  # fmt: skip

    def _first_day(self, since: pd.Timestamp | None) -> pd.Timestamp:
        """Return the first day to have: as asked for now, else as in any sync before.

        Not only the first day held: the server may have days before it that it had not
        collected, or not shown to this account, when it was first asked.
        """
        if since is not None:
            return since
        before = (self.archive.first_day(self.em.url), self.archive.since(self.em.url))
        # A day in the future comes from a clock that was ahead.
        known = [day for day in before if day is not None and day < self.now]
        return min(known, default=first_default(self.now))

    def _wanted(self, first: pd.Timestamp, full: bool, quick: bool) -> tuple[list[Day], int]:
        """Return the days to fetch, and how many of them were settled and have changed."""
        retention = self._retention()
        recheck = Recheck()
        if not (quick or full or self.ledger.empty):
            recheck = days_to_recheck(
                self.ledger, self.now, retention, self.em.count_task_sessions, self.em.parallel
            )
        settled = set(self.ledger.loc[self.ledger["final"], "day"])
        again = recheck.close | recheck.changed
        wanted = plan(self.ledger, self.now, retention, first, full=full, again=again)
        return wanted, len(recheck.changed & settled)

    def _retract_days_ahead(self) -> None:
        """Let days that lie in the future describe no time: they were fetched by a clock ahead.

        Otherwise the archive's as_of would be theirs.
        """
        ahead = self.ledger[(self.ledger["day"] > self.now) & (self.ledger["as_of"] > self.as_of)]
        for row in ahead.to_dict("records"):
            rows = self.archive.day("sessions", self.em.url, row["day"])
            self.archive.put_day("sessions", self.em.url, row["day"], rows, self.as_of)

    def _retention(self) -> Retention:
        """Ask the server how far back it remembers, and whether past what the archive saw last."""
        oldest, complete = (self.now if edge is None else edge for edge in self.em.oldest())
        newest: list[str] = []
        recent = self.ledger.sort_values("day", ascending=False).query("rows > 0")["day"]
        for day in recent.head(2):
            rows = self.archive.day("sessions", self.em.url, day).sort_by(
                [("created", "descending")]
            )
            newest += rows["uid"].slice(0, _NEWEST - len(newest)).to_pylist()
        overlaps = not newest or 2 * self.em.remembers(newest) > len(newest)
        return Retention(oldest, complete, overlaps)

    def _new_holes(self) -> tuple[Stretch, ...]:
        """Return the holes between what was known before the sync and what is now."""
        if self.ledger.empty:
            return ()
        holes = self.archive.holes()
        new = holes[(holes["source"] == self.em.url) & (holes["end"] > self.ledger["as_of"].max())]
        pairs = new[["start", "end"]].drop_duplicates().itertuples(index=False, name=None)
        return tuple(sorted(pairs))

    # -- task sessions -----------------------------------------------------------------

    def _store_days(self, wanted: list[Day], begun: float, show: bool) -> tuple[int, int, int]:
        """Fetch and store each day; return sessions read, new and changed."""
        counts, stored = [0, 0, 0], 0
        with (
            tqdm(total=len(wanted), desc="sync", unit="day", disable=not show) as bar,
            _add_progress_to_error(
                lambda: f"{stored} of {len(wanted)} days are stored, the next sync continues"
            ),
        ):
            for day, table in self._fetched(wanted):
                counts = [
                    sum(pair) for pair in zip(counts, self._store_day(day, table), strict=True)
                ]
                stored += 1
                rate = counts[0] / (time.monotonic() - begun)
                bar.set_postfix_str(f"{counts[0]:,} sessions, {rate:,.0f}/s", refresh=False)
                bar.update()
        return counts[0], counts[1], counts[2]

    def _fetched(self, wanted: list[Day]) -> Iterator[tuple[Day, pa.Table]]:
        """Fetch days in order, a few ahead of the one that is being stored."""
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="sync") as pool:
            ahead: deque[tuple[Day, Future[pa.Table]]] = deque()
            try:
                for day in wanted:
                    future = pool.submit(self.em.task_sessions, day.start, day.end, fresh=True)
                    ahead.append((day, future))
                    if len(ahead) > _AHEAD:
                        ready, future = ahead.popleft()
                        yield ready, future.result()
                while ahead:
                    ready, future = ahead.popleft()
                    yield ready, future.result()
            finally:
                for _, future in ahead:
                    future.cancel()

    def _store_day(self, day: Day, fetched: pa.Table) -> tuple[int, int, int]:
        """Replace a day by what was fetched and what only the archive still knows.

        A day is final once it is over and each of its sessions is; an empty one never is, for
        its sessions may be late.
        """
        held = self.archive.day("sessions", self.em.url, day.start)
        merged = merge(held.select(_RAW), _cap_as_of(fetched, self.as_of).select(_RAW))
        rows = self._enriched(day.start, merged)
        final = len(merged) > 0 and self.over >= day.start + DAY and all_completed(merged)
        counted = len(fetched) if day.end == day.start + DAY else None
        if not (final and self._is_held(day, held, rows, counted)):
            self.archive.put_day(
                "sessions", self.em.url, day.start, rows, self.as_of, final, day.missing, counted
            )
        again = fetched.filter(pc.is_in(fetched["uid"], held["uid"].combine_chunks()))
        changed = _count_changed(held.select(_RAW), again.select(_RAW))
        return len(fetched), len(fetched) - len(again), changed

    def _is_held(self, day: Day, held: pa.Table, rows: pa.Table, counted: int | None) -> bool:
        """Return whether the archive has a final day already as it would be written.

        Its file then stays as it is, and so does the checksum of a report that was made of it.
        """
        before = self.ledger[self.ledger["day"] == day.start].to_dict("records")
        same = [row["final"] and row["missing"] == day.missing and row["counted"] == counted
                for row in before]  # fmt: skip
        return same == [True] and len(held) == len(rows) and not _count_changed(held, rows)

    # -- policy sessions ---------------------------------------------------------------

    def _store_policy_sessions(self, wanted: list[Day]) -> None:
        """Fetch the policy sessions that the days need; give new verdicts to days not fetched.

        Those days are written before the policy sessions: after a crash in between the next
        sync has the same work to do.
        """
        if not wanted:
            return
        settled = self.ledger[~self.ledger["day"].isin([day.start for day in wanted])]
        start, stop = wanted[0].start - 2 * DAY, wanted[-1].end
        fetched = self.em.policy_sessions(start, stop, fresh=True)
        for day, rows in rows_by_day(fetched.select(schema.POLICY_SESSIONS.names), "created"):
            held = self._parents(day)
            if not _count_changed(held, rows) and len(held) >= len(rows):
                continue
            self.parents[day] = merge(held, rows)
            near = settled["day"].between(day, day + (_POLICY_SESSION_DAYS - 1) * DAY)
            for row in settled[near].to_dict("records"):
                self._refresh_day(row)
            self.archive.put_day("policy_sessions", self.em.url, day, self.parents[day], self.as_of)

    def _refresh_day(self, row: dict[Hashable, Any]) -> None:
        """Give a day that is not fetched the verdicts that its policy sessions have now."""
        day = row["day"]
        held = self.archive.day("sessions", self.em.url, day)
        rows = self._enriched(day, held.select(_RAW))
        counted = None if pd.isna(row["counted"]) else int(row["counted"])
        self.archive.put_day(
            "sessions", self.em.url, day, rows, row["as_of"], row["final"], row["missing"], counted
        )

    def _enriched(self, day: pd.Timestamp, rows: pa.Table) -> pa.Table:
        near = [self._parents(day - number * DAY) for number in range(_POLICY_SESSION_DAYS)]
        return enrich(rows, pa.concat_tables(near), self.policies)

    def _parents(self, day: pd.Timestamp) -> pa.Table:
        """Return the policy sessions of a day, read from the archive at most once."""
        if day not in self.parents:
            self.parents[day] = self.archive.day("policy_sessions", self.em.url, day)
        return self.parents[day]


def merge(held: pa.Table, fetched: pa.Table) -> pa.Table:
    """Return the fetched rows and those held rows whose uid was not fetched."""
    only_held = held.filter(pc.invert(pc.is_in(held["uid"], fetched["uid"].combine_chunks())))
    return pa.concat_tables([fetched.cast(held.schema), only_held])


def _count_changed(held: pa.Table, fetched: pa.Table) -> int:
    """Count the uids in both whose rows differ in more than as_of."""
    at = pc.index_in(fetched["uid"].combine_chunks(), value_set=held["uid"].combine_chunks())
    now, before = fetched.filter(pc.is_valid(at)), held.take(at.drop_null())
    changed = pa.repeat(pa.scalar(False), len(now))
    for name in held.column_names:
        if name != "as_of":
            left, right = (_plain(table[name]) for table in (now, before))
            one_missing = pc.not_equal(pc.is_valid(left), pc.is_valid(right))
            different = pc.fill_null(pc.not_equal(left, right), False)
            changed = pc.or_(changed, pc.or_(one_missing, different))
    return int(pc.sum(changed).as_py() or 0)


@contextmanager
def _add_progress_to_error(progress: Callable[[], str]) -> Iterator[None]:
    """Let an error say how far the sync came."""
    try:
        yield
    except CdpError as error:
        error.progress = progress()
        raise


def _cap_as_of(rows: pa.Table, most: pd.Timestamp) -> pa.Table:
    """Let no row have a later as_of than the sync: its last window ends there."""
    latest = pa.scalar(most.to_pydatetime(), schema.INSTANT)
    capped = pc.if_else(pc.less(rows["as_of"], latest), rows["as_of"], latest)
    return rows.set_column(rows.column_names.index("as_of"), "as_of", capped)


def all_completed(rows: pa.Table) -> bool:
    """Return whether every session is Completed with an end, so that none can change any more."""
    completed = pc.and_(
        pc.equal(rows["state"].cast(pa.string()), "Completed"), pc.is_valid(rows["ended"])
    )
    return bool(pc.all(pc.fill_null(completed, False), min_count=0).as_py())


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
