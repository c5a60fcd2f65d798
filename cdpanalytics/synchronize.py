"""The only place where client and archive meet: which days to fetch, and what is final."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.archive.archive import days
from cdpanalytics.archive.files import Interval
from cdpanalytics.archive.joins import enrich
from cdpanalytics.archive.journal import joined, visited
from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.timeparse import Moment, instant

_DAY = pd.Timedelta("1D")
_AHEAD = 2
_LASTS = 3
"""UTC days that a policy session of 24 hours and its task sessions' beginnings can touch."""

_RAW = [*schema.TASK_SESSIONS.names, "as_of"]

FIRST = "90D"
"""How far back the first sync of an archive reaches, unless told: the server's 13 weeks."""


LOOK_BACK = pd.Timedelta("7D")
"""How far back a VM is asked for intervals where its policy's retention is not known."""

ENOUGH = 5
"""Newest sessions held of which the server must still have most, or it has forgotten since."""


@dataclass(frozen=True)
class Memory:
    """How far back a server remembers.

    `begun`: its oldest session; before that there is nothing to ask for. `whole`: what
    began since then is all still there. `gapless`: it still has what the archive saw
    last, so that nothing between can have been forgotten.
    """

    begun: pd.Timestamp
    whole: pd.Timestamp
    gapless: bool = True


ENDLESS = Memory(pd.Timestamp(0, tz="UTC"), pd.Timestamp(0, tz="UTC"))
"""The memory of a server that forgets nothing."""


@dataclass(frozen=True)
class Day:
    """A day to fetch: sessions created in ``[start, end)``.

    `missing` are stretches of it that nobody can know any more.
    """

    start: pd.Timestamp
    end: pd.Timestamp
    missing: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class SyncResult:
    """What a sync did.

    `days` fetched in `seconds`, `sessions` read from the server, of which `added` are new
    to the archive and `changed` differ from what it held; `intervals` of the journal;
    `as_of`, the instant the archive now speaks for; `forgotten`, stretches that the
    server no longer knew and the archive never will; `set_aside`, files that were
    damaged.
    """

    days: int
    sessions: int
    added: int
    changed: int
    as_of: pd.Timestamp
    seconds: float = 0.0
    intervals: int = 0
    forgotten: tuple[Interval, ...] = ()
    set_aside: tuple[str, ...] = ()

    def __str__(self) -> str:
        rate = f" ({self.sessions / self.seconds:,.0f} a second)" if self.seconds > 0 else ""
        parts = [
            f"{self.sessions:,} sessions of {self.days:,} days read{rate}, {self.added:,} new, "
            f"{self.changed:,} changed"
        ]
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
    journal: bool = False,
    progress: bool = True,
) -> SyncResult:
    """Bring the archive up to what the server knows now.

    Days that can no longer change are not asked for again. Each day is written as
    soon as it is whole, so a sync that was broken off goes on where it stopped.
    Rows that the server has forgotten are kept; what it forgot before it was asked is
    recorded as a hole. Files that are damaged are set aside and their days fetched again.

    Parameters
    ----------
    em : EnterpriseManager
    archive : Archive
        Made if it is not there. One sync writes it at a time: another waits.
    since : timestamp-like or text like "90D", optional
        First day to have. Default: the archive's own first day, or 90 days back.
    full : bool
        Ask for every day again.
    journal : bool
        Also ask each replica VM and vApp for its restorable intervals since the last visit.
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
        When a file cannot be written, or another sync does not end.
    """
    now = em.now()
    first = None if since is None else _past(instant(since, now), now)
    with archive.writing():
        return _synced(em, archive, now, first, full, journal, progress)


def _synced(
    em: EnterpriseManager,
    archive: Archive,
    now: pd.Timestamp,
    first: pd.Timestamp | None,
    full: bool,
    journal: bool,
    progress: bool,
) -> SyncResult:
    begun, as_of = time.monotonic(), now - em.lag
    set_aside = archive.set_aside(thorough=full)
    ledger = archive.ledger()
    ledger = ledger[ledger["source"] == em.url]
    if first is None and not ledger.empty:
        first = min([ledger["day"].min(), *archive.damaged_days(em.url)])
    wanted = plan(ledger, now, _memory(em, archive, ledger, now), first, full=full)
    archive.put_policies(em.url, em.policies(fresh=True), as_of)
    _keep_policy_sessions(em, archive, wanted, as_of, ledger)
    counts, kept = [0, 0, 0], list[Day]()
    with (
        tqdm(total=len(wanted), desc="sync", unit="day", disable=not progress) as bar,
        _telling(lambda: f"{len(kept)} of {len(wanted)} days are kept, the next sync goes on"),
    ):
        for day, table in _fetched(em, wanted):
            counted = _keep_day(em, archive, day, table, as_of)
            counts = [sum(pair) for pair in zip(counts, counted, strict=True)]
            kept.append(day)
            rate = counts[0] / (time.monotonic() - begun)
            bar.set_postfix_str(f"{counts[0]:,} sessions, {rate:,.0f}/s", refresh=False)
            bar.update()
    took = time.monotonic() - begun
    with _telling(lambda: "the sessions are kept, the journal is not"):
        intervals = keep_journal(em, archive, as_of, progress) if journal else 0
    return SyncResult(
        len(wanted), counts[0], counts[1], counts[2], as_of, took, intervals,
        _lost(archive, em.url, ledger),
        tuple(set_aside),
    )  # fmt: skip


def plan(
    ledger: pd.DataFrame | None,
    now: pd.Timestamp,
    memory: Memory = ENDLESS,
    since: pd.Timestamp | None = None,
    *,
    full: bool = False,
) -> list[Day]:
    """Return the days to fetch, oldest first: those never fetched, and those not final.

    Days that end before the server's oldest session are left alone: it has nothing to
    say of them. Today is always asked for.

    Parameters
    ----------
    ledger : pandas.DataFrame or None
        ``day``, ``final``, ``as_of`` and ``missing`` of what the archive has of this
        source; None for nothing.
    now : pandas.Timestamp
        The server's clock; today's window ends there.
    memory : Memory
        How far back the server remembers. Default: everything.
    since : pandas.Timestamp, optional
        First day to have; days held that are not final are asked for however old.
    full : bool
        Final days too.

    Returns
    -------
    list of Day
        Each with the stretches of it that nobody can know any more: those that were
        missing before, and what lies between the end of what was known and the
        instant since which the server's memory is whole.

    Raises
    ------
    InputError
        When `since` is not before `now`.

    Examples
    --------
    >>> now = pd.Timestamp("2026-10-03 09:00", tz="UTC")
    >>> held = pd.DataFrame({"day": [now.normalize() - pd.Timedelta("1D")], "final": [True]})
    >>> [str(day.start.date()) for day in plan(held, now, since=now - pd.Timedelta("2D"))]
    ['2026-10-01', '2026-10-03']
    """
    held = pd.DataFrame({"day": [], "final": []}) if ledger is None else ledger
    first = now - pd.Timedelta(FIRST) if held.empty else held["day"].min()
    first = _past(first if since is None else since, now)
    newest = now if held.empty else held["day"].max()
    known = {row["day"]: row for row in held.to_dict("records")}
    today = now.normalize()
    wanted = []
    open_days = known.keys() - set(held.loc[held["final"].astype(bool), "day"])
    for day in sorted({*days(first.date(), now.date()), *open_days}):
        row = known.get(day)
        final = row is not None and bool(row["final"]) and not full
        silent = day + _DAY <= memory.begun and day != today
        if day < now and not final and not silent:
            follows = memory.gapless and (row is not None or day > newest)
            wanted.append(Day(day, min(day + _DAY, now), _missing(day, row, memory, follows)))
    return wanted


def _missing(
    day: pd.Timestamp, row: dict[Hashable, Any] | None, memory: Memory, follows: bool
) -> tuple[Interval, ...]:
    lost = [] if row is None else list(row.get("missing", ()))
    reached = day if row is None else min(row.get("as_of", day + _DAY), day + _DAY)
    again = min(memory.whole, day + _DAY)
    if reached < again and not follows:
        lost.append((reached, again))
    return tuple(lost)


def _past(since: pd.Timestamp, now: pd.Timestamp) -> pd.Timestamp:
    if since >= now:
        raise InputError(
            f"since={since:%Y-%m-%d %H:%M} is not before the server's now, {now:%Y-%m-%d %H:%M}"
        )
    return since


def _memory(
    em: EnterpriseManager, archive: Archive, ledger: pd.DataFrame, now: pd.Timestamp
) -> Memory:
    """Ask the server how far back it remembers, and whether past what the archive saw last."""
    begun, whole = (now if found is None else found for found in em.oldest())
    newest: list[str] = []
    for day in ledger.sort_values("day", ascending=False).query("rows > 0")["day"].head(2):
        rows = archive.day("sessions", em.url, day).sort_by([("created", "descending")])
        newest += rows["uid"].slice(0, ENOUGH - len(newest)).to_pylist()
    gapless = not newest or 2 * em.remembers(newest) > len(newest)
    return Memory(begun, whole, gapless)


def _lost(archive: Archive, source: str, before: pd.DataFrame) -> tuple[Interval, ...]:
    """Return the holes between what was known before a sync and what is now."""
    if before.empty:
        return ()
    holes = archive.holes()
    new = holes[(holes["source"] == source) & (holes["end"] > before["as_of"].max())]
    pairs = new[["start", "end"]].drop_duplicates().itertuples(index=False, name=None)
    return tuple(sorted(pairs))


@contextmanager
def _telling(reached: Callable[[], str]) -> Iterator[None]:
    """Let an error say how far the sync came."""
    try:
        yield
    except CdpError as error:
        error.args = (f"{error}; {reached()}",)
        raise


def _fetched(em: EnterpriseManager, wanted: list[Day]) -> Iterator[tuple[Day, pa.Table]]:
    """Fetch days in order, one or two ahead of the one that is being written: more is memory."""
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="sync") as pool:
        ahead: deque[tuple[Day, Future[pa.Table]]] = deque()
        waiting = iter(wanted)
        try:
            for day in waiting:
                ahead.append((day, pool.submit(em.task_sessions, day.start, day.end, fresh=True)))
                if len(ahead) > _AHEAD:
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
    merged = merge(held.select(_RAW), _as_of(fetched, as_of).select(_RAW))
    rows = _enriched(archive, em.url, day.start, merged)
    final = as_of >= day.start + _DAY and _all_over(merged)
    archive.put_day("sessions", em.url, day.start, rows, as_of, final, day.missing)
    known = pc.is_in(fetched["uid"], held["uid"].combine_chunks())
    again = fetched.filter(known)
    return (
        len(fetched),
        len(fetched) - len(again),
        _differing(held.select(_RAW), again.select(_RAW)),
    )


def _as_of(rows: pa.Table, most: pd.Timestamp) -> pa.Table:
    """Let rows speak for no later instant than the sync does: its last window ends there."""
    latest = pa.scalar(most.to_pydatetime(), schema.INSTANT)
    capped = pc.if_else(pc.less(rows["as_of"], latest), rows["as_of"], latest)
    return rows.set_column(rows.column_names.index("as_of"), "as_of", capped)


def _keep_policy_sessions(
    em: EnterpriseManager,
    archive: Archive,
    wanted: list[Day],
    as_of: pd.Timestamp,
    ledger: pd.DataFrame,
) -> None:
    """Fetch the policy sessions that the days need; give verdicts that are new to days not fetched.

    Those days are written before the policy sessions: whoever dies between finds the same
    work to do again.
    """
    settled = ledger[~ledger["day"].isin([day.start for day in wanted])]
    start, stop = wanted[0].start - 2 * _DAY, wanted[-1].end
    fetched = em.policy_sessions(start, stop, fresh=True).select(schema.POLICY_SESSIONS.names)
    for day, new in _by_day(fetched, "created"):
        held = archive.day("policy_sessions", em.url, day)
        if _differing(held, new) or len(held) < len(new):
            merged = merge(held, new)
            near = settled["day"].between(day, day + (_LASTS - 1) * _DAY)
            for row in settled[near].to_dict("records"):
                _refresh_day(archive, row, merged)
            archive.put_day("policy_sessions", em.url, day, merged, as_of)


def _by_day(rows: pa.Table, column: str) -> Iterator[tuple[pd.Timestamp, pa.Table]]:
    """Yield each UTC day that an instant lies in, in order, with the rows of that day."""
    midnight = pc.floor_temporal(rows[column], unit="day")
    for value in sorted(pc.unique(midnight).to_pylist()):
        yield pd.Timestamp(value), rows.filter(pc.equal(midnight, pa.scalar(value, schema.INSTANT)))


def _refresh_day(archive: Archive, row: dict[Hashable, Any], newer: pa.Table) -> None:
    """Give a day of the ledger that is not fetched the verdicts its policy sessions have come to."""
    source, day = row["source"], row["day"]
    held = archive.day("sessions", source, day)
    rows = _enriched(archive, source, day, held.select(_RAW), newer)
    archive.put_day("sessions", source, day, rows, row["as_of"], row["final"], row["missing"])


def _enriched(
    archive: Archive,
    source: str,
    day: pd.Timestamp,
    rows: pa.Table,
    newer: pa.Table | None = None,
) -> pa.Table:
    near = [archive.day("policy_sessions", source, day - number * _DAY) for number in range(_LASTS)]
    held = pa.concat_tables(near)
    parents = held if newer is None else merge(held, newer)
    return enrich(rows, parents, archive.known_policies(source))


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
    at = pc.index_in(fetched["uid"].combine_chunks(), value_set=held["uid"].combine_chunks())
    now, before = fetched.filter(pc.is_valid(at)), held.take(at.drop_null())
    changed = pa.repeat(pa.scalar(False), len(now))
    for name in held.column_names:
        if name != "as_of":
            left, right = (_plain(table[name]) for table in (now, before))
            apart = pc.not_equal(pc.is_valid(left), pc.is_valid(right))
            changed = pc.or_(changed, pc.or_(apart, pc.fill_null(pc.not_equal(left, right), False)))
    return int(pc.sum(changed).as_py() or 0)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


# -- the journal: what each VM can be restored to -------------------------------------


def keep_journal(em: EnterpriseManager, archive: Archive, as_of: pd.Timestamp, show: bool) -> int:
    """Ask each replica VM and vApp for its intervals since the last visit; return how many came.

    One never asked before is asked as far back as its policy's short-term retention
    reaches (`LOOK_BACK` where that is not known): the server knows no more.
    """
    sets = em.replicas(fresh=True)["uid"].to_pylist()
    machines = pa.concat_tables([*map(em.replica_vms, sets), em.vapps()]).to_pylist()
    last, reach = _last_visits(archive, em.url, as_of), _short_terms(archive, em.url)
    asked = []
    for vm in machines:
        since = last.get(vm["uid"], as_of - reach.get(vm["policy_uid"], LOOK_BACK))
        if since < as_of:
            asked.append((vm, since))
    fetched: list[pa.Table] = []
    with (
        ThreadPoolExecutor(em.parallel, thread_name_prefix="journal") as pool,
        tqdm(total=len(asked), desc="journal", unit="VM", disable=not show) as bar,
    ):

        def ask(vm: dict[str, Any], since: pd.Timestamp) -> pa.Table:
            return em.intervals(vm["replica_uid"], vm["uid"], since, as_of)

        futures = [pool.submit(ask, vm, since) for vm, since in asked]
        try:
            for (vm, since), future in zip(asked, futures, strict=True):
                fetched.append(visited(vm, since, as_of, future.result()))
                bar.update()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    table = pa.concat_tables([schema.JOURNAL.empty_table(), *fetched])
    for day, new in _by_day(table, "start"):
        held = archive.day("intervals", em.url, day)
        archive.put_day("intervals", em.url, day, joined(held, new), as_of)
    return int(pc.sum(pc.not_equal(table["kind"].cast(pa.string()), schema.ASKED)).as_py() or 0)


def _last_visits(archive: Archive, source: str, as_of: pd.Timestamp) -> dict[str, pd.Timestamp]:
    """Return until when each VM was asked about, of the last days that can matter."""
    near = [archive.day("intervals", source, day)
            for day in days((as_of - LOOK_BACK).date(), as_of.date())]  # fmt: skip
    table = pa.concat_tables(near).select(["vm_uid", "kind", "end"])
    asked = table.filter(pc.equal(table["kind"].cast(pa.string()), schema.ASKED))
    newest = asked.group_by("vm_uid").aggregate([("end", "max")]).to_pylist()
    return {row["vm_uid"]: pd.Timestamp(row["end_max"]) for row in newest}


def _short_terms(archive: Archive, source: str) -> dict[str, pd.Timedelta]:
    known = archive.known_policies(source).sort_by("seen_from").to_pylist()
    return {row["policy_uid"]: pd.Timedelta(row["short_term"]) for row in known
            if row["short_term"] is not None}  # fmt: skip
