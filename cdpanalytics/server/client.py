"""Query one Enterprise Manager: sessions, policies, replicas, restorable intervals."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema, timeparse
from cdpanalytics.archive.joins import enrich
from cdpanalytics.errors import InputError, ServerError
from cdpanalytics.frames import mark
from cdpanalytics.patterns import Patterns
from cdpanalytics.server import responses
from cdpanalytics.server.connection import Connection
from cdpanalytics.server.filters import Expression, field
from cdpanalytics.server.paging import DatedPage, Pager, Query, workers
from cdpanalytics.server.retry import RetryPolicy
from cdpanalytics.server.tables import joined, matching_rows, unique

Made = TypeVar("Made")

_DAY: Final = pd.Timedelta(days=1)
_EPOCH: Final = pd.Timestamp("2000-01-01", tz="UTC")
_POLICY_SESSION: Final = pd.Timedelta(hours=26)
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SORTED: Final = ("CdpReplicaTaskSession", "CdpReplicaSession")


@dataclass(frozen=True)
class Root:
    """What a server tells without a log-on: REST versions, spelling of its keys, its clock."""

    versions: list[str]
    spelling: str
    clock: pd.Timestamp
    seconds: float
    """How long the answer took."""


class EnterpriseManager:
    """A connection to one Enterprise Manager; logs on at the first request that needs it.

    Parameters
    ----------
    url : str, optional
        ``https://host[:9398]``; see `settings.base_url`.
    user, password : str, optional
        Argument, environment, keyring, prompt; see `settings.credentials`.
    ca_bundle : str, optional
        PEM file that signed the server's certificate; see `settings.ca_bundle`.
    verify : bool
        False trusts any certificate: for a look, not for work.
    cache : bool
        Keep pages between runs, in the user's cache directory: a day for windows that ended
        three days ago, five minutes for others. No token, cookie or password is kept.
    parallel : int
        Requests in flight at most.
    page_size : int
        Rows a page; the server may use fewer.
    timeout : tuple of float
        Seconds to connect and to wait for data.
    lag : pandas.Timedelta
        How old the server's own data can be (it collects every 15 minutes).
    accept : {"json", "xml"}
        What to ask the server for.

    Raises
    ------
    ConfigError
        If a setting is missing or unsafe.

    Examples
    --------
    >>> with EnterpriseManager("https://em.tech.local:9398") as em:  # doctest: +SKIP
    ...     frame = em.sessions(since="7D", policy="Gold*")
    """

    def __init__(
        self,
        url: str | None = None,
        user: str | None = None,
        password: str | None = None,
        *,
        ca_bundle: str | None = None,
        verify: bool = True,
        cache: bool = True,
        parallel: int = 4,
        page_size: int = 1000,
        timeout: tuple[float, float] = (10, 120),
        lag: pd.Timedelta = pd.Timedelta("15min"),  # noqa: B008 - immutable
        accept: Literal["json", "xml"] = "json",
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - immutable
        answer_timeout: float = 600,
    ) -> None:
        if parallel < 1 or page_size < 1:
            raise InputError(f"parallel and page_size are at least 1, not {parallel}, {page_size}")
        self._connection = Connection(
            url, user, password, ca_bundle=ca_bundle, verify=verify, cache=cache,
            parallel=parallel, timeout=timeout, accept=accept,
            retry=retry, answer_timeout=answer_timeout,
        )  # fmt: skip
        self.url, self.user = self._connection.url, self._connection.user
        self.parallel, self.page_size, self.lag = parallel, page_size, pd.Timedelta(lag)
        self._pager = Pager(self._connection, parallel, self.lag)

    def __repr__(self) -> str:
        return f"EnterpriseManager({self.url!r}, user={self.user!r})"

    def __enter__(self) -> EnterpriseManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out and close every connection; never raises, and may be called twice."""
        self._connection.close()

    @property
    def verified(self) -> bool | str:
        """The file that the server's certificate is verified with; True: the system's; False: it is not."""
        return self._connection.verified

    def root(self) -> Root:
        """Ask for the one page that needs no log-on."""
        origin = f"{self.url} /api/"
        begun = time.monotonic()
        answer = self._connection.get_unknown("/api/", origin)
        seconds = time.monotonic() - begun
        versions, spelling = self._connection.read(responses.read_root, answer, origin=origin)
        return Root(versions, spelling, answer.server_time, seconds)

    def now(self) -> pd.Timestamp:
        """Ask the server for its clock: UTC, whole seconds."""
        return self._connection.get("/api/", f"{self.url} clock").server_time

    def clock_difference(self) -> pd.Timedelta | None:
        """Return the server's clock less this machine's, by the last answer's Date.

        Positive where the server is ahead; whole seconds, so a difference of one second says
        nothing. None where the last answer had no Date that can be read: `now` is then this
        machine's clock.
        """
        return self._connection.clock_difference()

    # ------------------------------------------------------------------- what analysts ask

    def sessions(
        self,
        since: timeparse.Moment | None = None,
        until: timeparse.Moment | None = None,
        *,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
    ) -> pd.DataFrame:
        """Return the task sessions created in [since, until), with their policy and its RPO.

        Parameters
        ----------
        since, until : str, date or Timestamp, optional
            As `timeparse.instant` reads them; spans count back from the server's clock. The
            last seven days when left out.
        policy, vm, server : str or list of str, optional
            Glob patterns, any case; a row must match one of each that is given.

        Returns
        -------
        pandas.DataFrame
            In the shape of `schema.SESSIONS`, by `created`; empty where no session has such a
            policy, VM and server at once.

        Raises
        ------
        InputError
            If `since` is not before `until`, or a pattern matches no name of the window.
        ServerError, LogonError, WireError
            If the server cannot be reached, refuses, or is not understood.
        """
        now = self.now()
        start, stop = timeparse.instant(since or "7D", now), timeparse.instant(until or now, now)
        if not start < stop:
            raise InputError(f"since ({start}) is not before until ({stop})")
        tasks = unique(self._by_days(self.task_sessions, start, stop))
        parents = unique(self._by_days(self.policy_sessions, start - _POLICY_SESSION, stop))
        table = enrich(tasks, parents, self.policies())
        inside = pc.and_(
            pc.greater_equal(table["created"], pa.scalar(start, schema.INSTANT)),
            pc.less(table["created"], pa.scalar(stop, schema.INSTANT)),
        )
        frame = schema.to_frame(table.filter(inside).sort_by("created"))
        matching = matching_rows(frame, policy=policy, vm=vm, backup_server=server)
        return mark(matching, start, None if until is None else stop)

    def query(
        self,
        filter: str | Expression | None = None,
        *,
        sort: str | None = "CreationTimeUTC",
        descending: bool = False,
        references: bool = False,
    ) -> pd.DataFrame:
        """Return every task session that a filter of the server's own selects, all pages.

        Parameters
        ----------
        filter : str or Expression, optional
            The manual's filter text, or conditions made with `field`. All when None.
        sort : str, optional
            The parameter to sort by; ``CreationTimeUTC`` when None, for pages of the
            server's own order (by identifier) shift while it writes.
        descending : bool
            Largest first.
        references : bool
            Names and identifiers only.

        Returns
        -------
        pandas.DataFrame
            `schema.SESSIONS`, with `policy` from the policy session's name and
            `policy_uid`, `policy_result`, `rpo` missing; or `schema.REFERENCES`.
        """
        pages = self.pages(
            "CdpReplicaTaskSession",
            filter=filter,
            sort=sort,
            descending=descending,
            references=references,
        )
        if references:
            tables = [dated.page.table for dated in pages]
            return schema.to_frame(pa.concat_tables([schema.REFERENCES.empty_table(), *tables]))
        tasks = joined(pages, schema.TASK_SESSIONS)
        return schema.to_frame(
            enrich(tasks, schema.POLICY_SESSIONS.empty_table(), schema.POLICIES.empty_table())
        )

    # ------------------------------------------------------------------- what `sync` asks

    def task_sessions(
        self,
        start: pd.Timestamp,
        end: pd.Timestamp,
        *,
        filter: str | Expression | None = None,
        fresh: bool = False,
    ) -> pa.Table:
        """Return task sessions created in [start, end): `schema.TASK_SESSIONS` and `as_of`.

        Each uid once, by `created`. With `fresh` the page cache is neither read nor written.
        """
        pages = self._window("CdpReplicaTaskSession", start, end, filter, fresh)
        return unique(joined(pages, schema.TASK_SESSIONS))

    def count_task_sessions(self, since: pd.Timestamp, until: pd.Timestamp) -> int:
        """Count the task sessions created in [since, until) that the server remembers.

        One request of one row: with ``pageSize=1`` there are as many pages as rows. The page count
        of no rows is 1 on some servers, so 0 and 1 are distinguished by the list. A server that
        ignores the page size is asked for its last page, too. The page cache is not used.

        Parameters
        ----------
        since, until : pandas.Timestamp
            With a time zone.
        """
        query = replace(self._window_query("CdpReplicaTaskSession", since, until), page_size=1)
        page = self._pager.fetch_one(query).page
        if page.count > 1 and page.size > 1:
            last = self._pager.fetch_one(query, page.count).page
            return (page.count - 1) * page.size + last.table.num_rows
        return page.count if page.count > 1 else page.table.num_rows

    def oldest(self) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """Return how far back the server remembers: its oldest beginning, and its oldest end.

        Before the first there is nothing to ask for. What began since the second is all
        still there, whether the server forgets sessions by beginning or by end. None
        where it has no session, or none that is over.
        """
        ended = field("EndTimeUTC") >= _EPOCH
        begun = self._first("CreationTimeUTC", None)
        return begun, self._first("EndTimeUTC", str(ended))

    def newest(self) -> pd.Timestamp | None:
        """Return when the newest task session began; None where there is none."""
        return self._first("CreationTimeUTC", None, descending=True)

    def remembers(self, uids: Sequence[str]) -> int:
        """Count those of a few task sessions, named by uid, that the server still has."""
        if not uids:
            return 0
        text = ",".join(str(field("Id") == _guid(uid)) for uid in uids)
        pages = self.pages("CdpReplicaTaskSession", filter=text, fresh=True)
        present = {uid for dated in pages for uid in dated.page.table["uid"].to_pylist()}
        return len(present.intersection(uids))

    def _first(
        self, by: str, filter: str | None, *, descending: bool = False
    ) -> pd.Timestamp | None:
        """Return the first value of a time in the server's order, checked to be the first."""
        first = self._extreme(by, filter, descending)
        if first is None:
            return None
        beyond = field(by) > first if descending else field(by) < first
        text = f"{filter};({beyond})" if filter else str(beyond)
        other = self._extreme(by, text, descending)
        if other is None or (other <= first if descending else other >= first):
            return first
        raise ServerError(
            f"{self.url} CdpReplicaTaskSession: the server does not sort by {by} as asked: "
            f"{first:%Y-%m-%d %H:%M:%S} came before {other:%Y-%m-%d %H:%M:%S}"
        )

    def _extreme(self, by: str, filter: str | None, descending: bool) -> pd.Timestamp | None:
        query = Query("CdpReplicaTaskSession", filter, by, descending, page_size=1)
        table = self._pager.fetch_one(query).page.table
        if not table.num_rows:
            return None
        column = "created" if by == "CreationTimeUTC" else "ended"
        value = table[column][0].as_py()
        return None if value is None else pd.Timestamp(value).as_unit("us")

    def policy_sessions(
        self, start: pd.Timestamp, end: pd.Timestamp, *, fresh: bool = False
    ) -> pa.Table:
        """Return policy sessions created in [start, end): `schema.POLICY_SESSIONS`, `as_of`."""
        pages = self._window("CdpReplicaSession", start, end, None, fresh)
        return unique(joined(pages, schema.POLICY_SESSIONS))

    def policies(self, *, fresh: bool = False) -> pa.Table:
        """Return every policy's settings as they are now: `schema.POLICIES` and `as_of`."""
        return joined(self.pages("CdpPolicy", fresh=fresh), schema.POLICIES)

    def replicas(self, *, fresh: bool = False) -> pa.Table:
        """Return every replica set: `schema.REPLICAS` and `as_of`."""
        return joined(self.pages("CdpReplica", fresh=fresh), schema.REPLICAS)

    def replica_vms(self, replica_uid: str) -> pa.Table:
        """Return the VMs of one replica set: `schema.REPLICA_VMS`."""
        path = f"/api/cdpReplicas/{_guid(replica_uid)}/vms"
        return self._read(responses.read_replica_vms, path, {"format": "Entity"})

    def vapps(self) -> pa.Table:
        """Return every vApp that is replicated: `schema.REPLICA_VMS`; none of a server before them."""
        try:
            listed = self._read(responses.read_listed, "/api/cdpReplica/vApps")
        except ServerError as problem:
            if problem.status == 404:
                return schema.REPLICA_VMS.empty_table()
            raise
        with workers(self.parallel) as pool:
            return pa.concat_tables(
                [schema.REPLICA_VMS.empty_table(), *pool.map(self._vapp, listed)]
            )

    def _vapp(self, uid: str) -> pa.Table:
        return self._read(responses.read_vapp, f"/api/cdpReplica/vApps/{uid}", {"format": "Entity"})

    def intervals(
        self, replica_uid: str, uid: str, start: pd.Timestamp, end: pd.Timestamp
    ) -> pa.Table:
        """Return when a VM or vApp can be restored to, as the server sees it now: `schema.INTERVALS`.

        Parameters
        ----------
        replica_uid, uid : str
            Of a row of `replica_vms` or `vapps`. A vApp is its own replica: both are the same.
        start, end : pandas.Timestamp
            With a time zone.
        """
        vapp = replica_uid == uid
        path = (
            f"/api/cdpReplica/vApps/{_guid(uid)}"
            if vapp
            else f"/api/cdpReplicas/{_guid(replica_uid)}/vms/{_guid(uid)}"
        )
        origin = f"{self.url} {path} intervals"
        spec = responses.intervals_request(_aware(start), _aware(end))
        answer = self._connection.post(path, origin, {"action": "intervals"}, spec)
        return self._connection.read(responses.read_intervals, answer, origin=origin)

    def pages(
        self,
        kind: str,
        *,
        filter: str | Expression | None = None,
        sort: str | None = None,
        descending: bool = False,
        references: bool = False,
        page_size: int | None = None,
        fresh: bool = False,
    ) -> Iterator[DatedPage]:
        """Yield the pages of a query, a whole and consistent answer or none.

        Parameters
        ----------
        kind : str
            One of `server.responses.KINDS`.
        filter, sort, descending, references
            See `query`; sessions are sorted by ``CreationTimeUTC`` when `sort` is None.
        page_size : int, optional
            In place of the connection's.
        fresh : bool
            Go to the server, past the page cache.

        Raises
        ------
        ServerError
            If the answer changed while it was paged, three times over.
        """
        if kind not in responses.KINDS:
            raise InputError(f"{kind!r} cannot be read; one of {', '.join(responses.KINDS)}")
        by = sort or ("CreationTimeUTC" if kind in _SORTED else None)
        text = None if filter is None else str(filter)
        size = page_size or self.page_size
        query = Query(kind, text, by, descending, references, size)
        yield from self._pager.fetch_all(query, fresh=fresh)

    # ---------------------------------------------------------------------------- below

    def _read(
        self, read: Callable[..., Made], path: str, params: dict[str, str] | None = None
    ) -> Made:
        """Return what a reader of `server.responses` makes of the resource at a path."""
        origin = f"{self.url} {path}"
        answer = self._connection.get(path, origin, params)
        return self._connection.read(read, answer, origin=origin)

    def _window(
        self,
        kind: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        filter: str | Expression | None,
        fresh: bool,
    ) -> list[DatedPage]:
        return self._pager.fetch_all(self._window_query(kind, start, end, filter), fresh=fresh)

    def _window_query(
        self,
        kind: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        filter: str | Expression | None = None,
    ) -> Query:
        created = field("CreationTimeUTC")
        text = str((created >= _aware(start)) & (created < _aware(end)))
        if filter is not None and str(filter):
            text = f"{text};({filter})"
        return Query(
            kind, text, "CreationTimeUTC", page_size=self.page_size,
            start=_aware(start), end=_aware(end),
        )  # fmt: skip

    def _by_days(
        self, ask: Callable[..., pa.Table], start: pd.Timestamp, stop: pd.Timestamp
    ) -> pa.Table:
        """Ask by whole UTC days, so that the same days are the same requests next time."""
        days = pd.date_range(start.floor("D"), stop, freq="D", inclusive="left")
        with workers(self.parallel) as pool:
            return pa.concat_tables(pool.map(lambda day: ask(day, day + _DAY), days))


def _aware(moment: pd.Timestamp) -> pd.Timestamp:
    if moment.tzinfo is None:
        raise InputError(f"{moment} has no time zone; write Timestamp(..., tz='UTC')")
    return moment


def _guid(uid: str) -> str:
    if not _GUID.fullmatch(uid):
        raise InputError(f"{uid!r} is not an identifier (a bare GUID)")
    return uid.lower()
