"""Talks to one Enterprise Manager: log-on, pages, whole answers; reads no body, knows no metric."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import logging
import os
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pandas as pd
import platformdirs
import pyarrow as pa
import pyarrow.compute as pc
import requests
import requests_cache
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.cookies import RequestsCookieJar
from requests.exceptions import ChunkedEncodingError
from requests_cache.backends.sqlite import SQLiteCache
from requests_cache.serializers import json_serializer
from urllib3 import Retry

from cdpanalytics import config, schema, wire
from cdpanalytics.errors import CertificateError, InputError, LogonError, ServerError, WireError
from cdpanalytics.filters import Expression, field

Patterns: TypeAlias = str | Sequence[str] | None

_TOKEN: Final = "X-RestSvcSessionId"  # noqa: S105 - the name of a header
_ACCEPT: Final = {"json": "application/json", "xml": "application/xml"}
_DAY: Final = pd.Timedelta(days=1)
_EPOCH: Final = pd.Timestamp("2000-01-01", tz="UTC")
_SETTLED: Final = pd.Timedelta(days=3)
_POLICY_SESSION: Final = pd.Timedelta(hours=26)
_SOON, _LATER = 5 * 60, 24 * 60 * 60
_ATTEMPTS: Final = 3
_LARGEST: Final = 256 * 2**20
"""Bytes of a body, unpacked, above which it is refused: a page of 1,000 sessions has 2 MB."""

_BACKOFF: Final = 0.5
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SORTED: Final = ("CdpReplicaTaskSession", "CdpReplicaSession")
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatedPage:
    """A page and the instant it speaks for: when the server answered, less the server's lag."""

    page: wire.Page
    as_of: pd.Timestamp

    def table(self) -> pa.Table:
        """Return the page's rows with a column `as_of`."""
        as_of = pa.repeat(pa.scalar(self.as_of, schema.INSTANT), self.page.table.num_rows)
        return self.page.table.append_column(pa.field("as_of", schema.INSTANT), as_of)


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
        ``https://host[:9398]``; see `config.base_url`.
    user, password : str, optional
        Argument, environment, keyring, prompt; see `config.credentials`.
    ca_bundle : str, optional
        PEM file that signed the server's certificate; see `config.ca_bundle`.
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
    ) -> None:
        if accept not in _ACCEPT:
            raise InputError(f"accept is 'json' or 'xml', not {accept!r}")
        if parallel < 1 or page_size < 1:
            raise InputError(f"parallel and page_size are at least 1, not {parallel}, {page_size}")
        self.url = config.base_url(url)
        known = config.credentials(self.url, user, password)
        self.user = known.user
        self.parallel, self.page_size, self.lag = parallel, page_size, pd.Timedelta(lag)
        way = {
            "timeout": timeout,
            "verify": (config.ca_bundle(ca_bundle) or True) if verify else False,
            "proxies": config.proxies(self.url),
        }
        self._sent_with: dict[str, Any] = {**way, "allow_redirects": False}
        self._gate = _Gate(self.url, known, _ACCEPT[accept], parallel, way)
        self._accept = _ACCEPT[accept]
        self._direct = _prepared(requests.Session(), self._gate, _ACCEPT[accept])
        self._cached = _cached_session(self.url, self.user, self._gate, _ACCEPT[accept], cache)
        self._closed = False
        if not verify and self.url.startswith("https:"):
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            _log.warning(
                "%s: its certificate is not verified; whoever stands between can read and change all",
                self.url,
            )

    def __repr__(self) -> str:
        return f"EnterpriseManager({self.url!r}, user={self.user!r})"

    def __enter__(self) -> EnterpriseManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out and let go of every connection; never raises, and may be called twice."""
        if self._closed:
            return
        self._closed = True
        with suppress(Exception):
            self._gate.log_out()
        for session in filter(None, (self._cached, self._direct)):
            with suppress(Exception):
                session.close()

    @property
    def verified(self) -> bool | str:
        """The file that the server's certificate is verified with; True: the system's; False: it is not."""
        how: bool | str = self._sent_with["verify"]
        return how

    def root(self) -> Root:
        """Ask for the one page that needs no log-on."""
        origin = f"{self.url} /api/"
        begun = time.monotonic()
        with _prepared(requests.Session(), HTTPAdapter(), self._accept) as stranger:
            answer = self._send(stranger, "GET", "/api/", origin)
        seconds = time.monotonic() - begun
        _accepted(answer, origin)
        versions, spelling = wire.read_root(answer.content, _kind_of(answer), origin=origin)
        return Root(versions, spelling, _dated(answer.headers), seconds)

    def now(self) -> pd.Timestamp:
        """Ask the server for its clock: UTC, whole seconds."""
        answer = self._send(self._direct, "GET", "/api/", "clock")
        return _dated(answer.headers)

    # ------------------------------------------------------------------- what analysts ask

    def sessions(
        self,
        since: config.Moment | None = None,
        until: config.Moment | None = None,
        *,
        policy: Patterns = None,
        vm: Patterns = None,
        server: Patterns = None,
    ) -> pd.DataFrame:
        """Return the task sessions created in [since, until), with their policy and its RPO.

        Parameters
        ----------
        since, until : str, date or Timestamp, optional
            As `config.instant` reads them; spans count back from the server's clock. The
            last seven days when left out.
        policy, vm, server : str or list of str, optional
            Glob patterns, any case; a row must match one of each that is given.

        Returns
        -------
        pandas.DataFrame
            In the shape of `schema.SESSIONS`, by `created`; empty if nothing matches.

        Raises
        ------
        InputError
            If `since` is not before `until`.
        ServerError, LogonError, WireError
            If the server cannot be reached, refuses, or is not understood.
        """
        now = self.now()
        start, stop = config.instant(since or "7D", now), config.instant(until or now, now)
        if not start < stop:
            raise InputError(f"since ({start}) is not before until ({stop})")
        tasks = _unique(self._by_days(self.task_sessions, start, stop))
        parents = _unique(self._by_days(self.policy_sessions, start - _POLICY_SESSION, stop))
        table = enrich(tasks, parents, self.policies())
        inside = pc.and_(
            pc.greater_equal(table["created"], pa.scalar(start, schema.INSTANT)),
            pc.less(table["created"], pa.scalar(stop, schema.INSTANT)),
        )
        frame = schema.to_frame(table.filter(inside).sort_by("created"))
        found = _matching(frame, policy=policy, vm=vm, backup_server=server)
        return schema.read_for(found, start, None if until is None else stop)

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
        tasks = _joined(pages, schema.TASK_SESSIONS)
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
        return _unique(_joined(pages, schema.TASK_SESSIONS))

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
        found = {uid for dated in pages for uid in dated.page.table["uid"].to_pylist()}
        return len(found.intersection(uids))

    def _first(
        self, by: str, filter: str | None, *, descending: bool = False
    ) -> pd.Timestamp | None:
        query = _Query("CdpReplicaTaskSession", filter, by, descending, False, 1)
        table = self._page(query, 1, self._direct, {}).page.table
        if not table.num_rows:
            return None
        column = "created" if by == "CreationTimeUTC" else "ended"
        return pd.Timestamp(table[column][0].as_py()).as_unit("us")

    def policy_sessions(
        self, start: pd.Timestamp, end: pd.Timestamp, *, fresh: bool = False
    ) -> pa.Table:
        """Return policy sessions created in [start, end): `schema.POLICY_SESSIONS`, `as_of`."""
        pages = self._window("CdpReplicaSession", start, end, None, fresh)
        return _unique(_joined(pages, schema.POLICY_SESSIONS))

    def policies(self, *, fresh: bool = False) -> pa.Table:
        """Return every policy's settings as they are now: `schema.POLICIES` and `as_of`."""
        return _joined(self.pages("CdpPolicy", fresh=fresh), schema.POLICIES)

    def replicas(self, *, fresh: bool = False) -> pa.Table:
        """Return every replica set: `schema.REPLICAS` and `as_of`."""
        return _joined(self.pages("CdpReplica", fresh=fresh), schema.REPLICAS)

    def replica_vms(self, replica_uid: str) -> pa.Table:
        """Return the VMs of one replica set: `schema.REPLICA_VMS`."""
        path = f"/api/cdpReplicas/{_guid(replica_uid)}/vms"
        origin = f"{self.url} {path}"
        answer = self._send(self._direct, "GET", path, origin, params={"format": "Entity"})
        _accepted(answer, origin)
        return wire.read_replica_vms(answer.content, _kind_of(answer), origin=origin)

    def intervals(
        self, replica_uid: str, vm_uid: str, start: pd.Timestamp, end: pd.Timestamp
    ) -> pa.Table:
        """Return when a VM can be restored to, as the server sees it now: `schema.INTERVALS`."""
        path = f"/api/cdpReplicas/{_guid(replica_uid)}/vms/{_guid(vm_uid)}"
        origin = f"{self.url} {path} intervals"
        answer = self._send(
            self._direct,
            "POST",
            path,
            origin,
            params={"action": "intervals"},
            data=wire.intervals_request(_aware(start), _aware(end)),
            headers={"Content-Type": "application/xml; charset=utf-8"},
        )
        _accepted(answer, origin)
        return wire.read_intervals(answer.content, _kind_of(answer), origin=origin)

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
            One of `wire.KINDS`.
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
        if kind not in wire.KINDS:
            raise InputError(f"{kind!r} cannot be read; one of {', '.join(wire.KINDS)}")
        by = sort or ("CreationTimeUTC" if kind in _SORTED else None)
        text = None if filter is None else str(filter)
        query = _Query(kind, text, by, descending, references, page_size or self.page_size)
        yield from self._whole(query, fresh)

    # --------------------------------------------------------------------- whole answers

    def _window(
        self,
        kind: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        filter: str | Expression | None,
        fresh: bool,
    ) -> list[DatedPage]:
        created = field("CreationTimeUTC")
        text = str((created >= _aware(start)) & (created < _aware(end)))
        if filter is not None and str(filter):
            text = f"{text};({filter})"
        query = _Query(kind, text, "CreationTimeUTC", False, False, self.page_size, _aware(end))
        return self._whole(replace(query, start=_aware(start)), fresh)

    def _by_days(
        self, ask: Callable[..., pa.Table], start: pd.Timestamp, stop: pd.Timestamp
    ) -> pa.Table:
        """Ask by whole UTC days, so that the same days are the same requests next time."""
        days = pd.date_range(start.floor("D"), stop, freq="D", inclusive="left")
        with _workers(self.parallel) as workers:
            return pa.concat_tables(workers.map(lambda day: ask(day, day + _DAY), days))

    def _whole(self, query: _Query, fresh: bool) -> list[DatedPage]:
        """Return all pages of one answer: all from the cache, or all from the server."""
        cached = None if fresh else self._cached
        if cached is not None:
            with suppress(_Torn, WireError, ServerError):
                return self._attempt(query, cached, {"only_if_cached": True})
        why = ""
        for again in range(_ATTEMPTS):
            try:
                options = {} if cached is None else self._storing(query)
                larger = replace(query, page_size=query.page_size * 2**again)
                return self._attempt(larger, cached or self._direct, options)
            except _Torn as torn:
                why = str(torn)
        raise ServerError(f"{self._origin(query)}: {why}", retryable=True)

    def _storing(self, query: _Query) -> dict[str, Any]:
        with self._reached():
            now = self._gate.clock()
        settled = query.end is not None and query.end < now - _SETTLED
        return {"force_refresh": True, "expire_after": _LATER if settled else _SOON}

    def _attempt(
        self, query: _Query, session: requests.Session, options: dict[str, Any]
    ) -> list[DatedPage]:
        first = self._page(query, 1, session, options)
        found = [first]
        with _workers(self.parallel) as workers:
            numbers = range(2, first.page.count + 1)
            for later in workers.map(lambda n: self._page(query, n, session, options), numbers):
                found.append(later)
                if (later.page.size, later.page.count) != (first.page.size, first.page.count):
                    raise _Torn
        if any(dated.page.table.num_rows != first.page.size for dated in found[:-1]):
            raise _Torn
        if len(found) > 1 and (_repeats(found) or not found[-1].page.table.num_rows):
            raise _Torn
        for dated in found if query.start is not None else ():
            edges = pc.min_max(dated.page.table["created"])
            for created in filter(None, (edges["min"].as_py(), edges["max"].as_py())):
                if not query.start <= created < query.end:
                    raise _Torn(
                        f"the server does not keep to the filter: a session of "
                        f"{created:%Y-%m-%d %H:%M:%S} came; is it Enterprise Manager?"
                    )
        return found

    def _page(
        self, query: _Query, number: int, session: requests.Session, options: dict[str, Any]
    ) -> DatedPage:
        """Ask for a page; one that cannot be read is asked for again, as proxies come and go."""
        for again in range(_ATTEMPTS - 1):
            try:
                return self._page_once(query, number, session, options)
            except WireError:
                if "only_if_cached" in options:
                    raise
                time.sleep(_BACKOFF * 2**again)
        return self._page_once(query, number, session, options)

    def _page_once(
        self, query: _Query, number: int, session: requests.Session, options: dict[str, Any]
    ) -> DatedPage:
        origin = self._origin(query, number)
        params = query.parameters(number)
        answer = self._send(session, "GET", "/api/query", origin, params=params, **options)
        _accepted(answer, origin)
        body, kind = answer.content, _kind_of(answer)
        if query.references:
            page = wire.read_references(body, kind, origin=origin)
        else:
            page = wire.read_page(body, kind, query.kind, origin=origin)
        if page.number != number or page.table.num_rows > page.size:
            seen = f"page {page.number} of {page.table.num_rows} rows, page size {page.size}"
            raise WireError(f"{origin}: the server answered another page, {seen}")
        return DatedPage(page, _dated(answer.headers) - self.lag)

    def _origin(self, query: _Query, number: int | None = None) -> str:
        told = " ".join((query.filter or "").split())
        page = "" if number is None else f" page {number}"
        return f"{self.url} {query.kind}{f' where {told}' if told else ''}{page}"

    # -------------------------------------------------------------------------- requests

    def _send(
        self, session: requests.Session, method: str, path: str, origin: str, **options: Any
    ) -> requests.Response:
        if self._closed:
            raise ServerError(f"{self.url}: this connection is closed; open another")
        try:
            with self._reached():
                address = f"{self.url}{path}"
                answer = session.request(method, address, **self._sent_with, **options)
                if answer.status_code == 500 and method == "GET":
                    answer = session.request(method, address, **self._sent_with, **options)
                return answer
        except sqlite3.Error as problem:
            _log.warning("page cache not used: %s", problem)
            kept = {k: v for k, v in options.items() if k not in _CACHE_OPTIONS}
            return self._send(self._direct, method, path, origin, **kept)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as problem:
            raise _unreached(self.url, problem) from None


_CACHE_OPTIONS: Final = ("only_if_cached", "force_refresh", "expire_after")


@dataclass(frozen=True)
class _Query:
    kind: str
    filter: str | None
    sort: str | None
    descending: bool
    references: bool
    page_size: int
    end: pd.Timestamp | None = None
    start: pd.Timestamp | None = None

    def parameters(self, number: int) -> dict[str, str]:
        made = {"type": self.kind}
        if not self.references:
            made["format"] = "Entities"
        if self.filter:
            made["filter"] = self.filter
        if self.sort:
            made["sortDesc" if self.descending else "sortAsc"] = self.sort
        return {**made, "pageSize": str(self.page_size), "page": str(number)}


class _Torn(Exception):
    """The pages of an answer do not belong together, or not to the question; the text says why."""

    def __init__(
        self,
        why: str = "the answer kept changing while paging; "
        "ask for a narrower window or larger pages",
    ) -> None:
        super().__init__(why)


# ------------------------------------------------------------------------------ the way out


class _Patience(Retry):
    """Retries that wait as long as the server says, but never more than two minutes."""

    def get_retry_after(self, response: Any) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, 120)


class _Gate(HTTPAdapter):
    """The only way out to the server: it alone knows the token, on the way in and out.

    What is above (the page cache too) sees requests and answers without token or cookie.
    """

    def __init__(
        self,
        url: str,
        known: config.Credentials,
        accept: str,
        parallel: int,
        way: dict[str, Any],
    ) -> None:
        retry = _Patience(
            total=4,
            connect=3,
            read=2,
            status=4,
            status_forcelist=[502, 503, 504],
            # Our POSTs, a log-on and a question about intervals, change nothing.
            allowed_methods={"GET", "POST"},
            backoff_factor=_BACKOFF,
            raise_on_status=False,
        )
        super().__init__(pool_maxsize=parallel, pool_block=True, max_retries=retry)
        self._url, self._known, self._accept, self._way = url, known, accept, way
        self._lock = Lock()
        self._token: config.Secret | None = None
        self._session_id: str | None = None
        self._refusal: str | None = None
        self._heard: tuple[pd.Timestamp, float] | None = None

    def send(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        """Send with the token; log on first, and once more when the token is refused."""
        token = self._token or self._log_on(None, options)
        answer = self._pass(request, token, *args, **options)
        if answer.status_code == 401:
            answer.content  # noqa: B018 - gives the connection back
            token = self._log_on(token, options)
            answer = self._pass(request, token, *args, **options)
        return answer

    def clock(self) -> pd.Timestamp:
        """Return the server's time, from its last answer and the time gone by since."""
        if self._heard is None:
            self._log_on(None, self._way)
        assert self._heard is not None  # noqa: S101 - a log-on sets it
        then, mark = self._heard
        return then + pd.Timedelta(seconds=time.monotonic() - mark)

    def log_out(self) -> None:
        """Delete the session, if there is one whose identifier is known."""
        token, self._token = self._token, None
        if token is not None and self._session_id is not None:
            url = f"{self._url}/api/logonSessions/{self._session_id}"
            request = requests.Request("DELETE", url, headers={"Accept": self._accept}).prepare()
            answer = self._pass(request, token, **{**self._way, "timeout": (5, 10)})
            answer.content  # noqa: B018 - gives the connection back

    def _pass(
        self, request: requests.PreparedRequest, token: config.Secret, *args: Any, **options: Any
    ) -> requests.Response:
        sent = request.copy()
        sent.headers[_TOKEN] = token.reveal()
        answer = self._whole(sent, *args, **options)
        answer.request = request
        answer.cookies = RequestsCookieJar()
        for name in ("Set-Cookie", _TOKEN):
            answer.headers.pop(name, None)
        self._heard = (_dated(answer.headers), time.monotonic())
        return answer

    def _whole(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        """Send, and read the body to its end; one that breaks off is asked for again."""
        for again in range(_ATTEMPTS):
            time.sleep(again * _BACKOFF)
            with suppress(ChunkedEncodingError):
                answer = super().send(request, *args, **options)
                _take(answer, self._url)
                return answer
        raise ChunkedEncodingError

    def _log_on(self, refused: config.Secret | None, options: dict[str, Any]) -> config.Secret:
        """Return a token other than the refused one; several threads share one log-on."""
        with self._lock:
            if self._token is not None and self._token is not refused:
                return self._token
            if self._refusal is not None:
                raise LogonError(self._refusal, status=401)
            self._token = None
            answer = self._whole(self._log_on_request(), **options)
            self._token = config.Secret(self._checked(answer))
            self._session_id = wire.read_logon(answer.content, _kind_of(answer))
            self._heard = (_dated(answer.headers), time.monotonic())
            return self._token

    def _log_on_request(self) -> requests.PreparedRequest:
        auth = HTTPBasicAuth(self._known.user.encode(), self._known.password.reveal().encode())
        url = f"{self._url}/api/sessionMngr/?v=latest"
        return requests.Request("POST", url, headers={"Accept": self._accept}, auth=auth).prepare()

    def _checked(self, answer: requests.Response) -> str:
        status = answer.status_code
        said = wire.read_error(answer.content, _kind_of(answer))
        if status in (401, 403):
            self._refusal = f"{self._url} refused user {self._known.user!r}" + _saying(said)
            raise LogonError(self._refusal, status=status)
        if status in (200, 201) and answer.headers.get(_TOKEN):
            return str(answer.headers[_TOKEN])
        if status in (200, 201) or status in range(300, 400) or status == 404:
            raise LogonError(
                f"{self._url} does not look like Enterprise Manager's REST API (HTTP {status}, "
                "no session); wrong port? It is 9398 unless changed",
                status=status,
            )
        raise LogonError(
            f"{self._url} could not log on (HTTP {status})" + _saying(said),
            status=status,
            retryable=status >= 500,
        )


def _take(answer: requests.Response, url: str) -> None:
    """Read a body, but no more of it than can be meant: a small one can unpack to any size."""
    body = bytearray()
    said = answer.headers.get("Content-Length", "")
    if not (said.isdecimal() and int(said) > _LARGEST):
        for piece in answer.iter_content(2**16):
            body += piece
            if len(body) > _LARGEST:
                break
        else:
            answer._content = bytes(body)
            return
    answer.close()
    raise ServerError(f"{url}: its answer is larger than {_LARGEST // 2**20} MiB; "
                      "ask for smaller pages or a narrower window")  # fmt: skip


def _prepared(session: requests.Session, gate: HTTPAdapter, accept: str) -> requests.Session:
    """Give a session its one way out: no cookies, no .netrc, nothing else of the environment."""
    session.mount("https://", gate)
    session.mount("http://", gate)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.trust_env = False
    session.headers["Accept"] = accept
    return session


def _cached_session(
    url: str, user: str, gate: _Gate, accept: str, wanted: bool
) -> requests.Session | None:
    """Return a session over this user's page cache; None when there is to be or can be none."""
    if not wanted:
        return None
    try:
        backend = SQLiteCache(_cache_file(url, user), serializer=json_serializer)
        backend.delete(expired=True, vacuum=False)
    except (OSError, sqlite3.Error) as problem:
        _log.warning("page cache not used: %s", problem)
        return None
    session = requests_cache.CachedSession(
        backend=backend, expire_after=_SOON, allowable_methods=("GET",), key_fn=_cache_key
    )
    return _prepared(session, gate, accept)


def _cache_file(url: str, user: str) -> Path:
    folder = Path(platformdirs.user_cache_dir("cdpanalytics"))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{hashlib.sha256(f'{url} {user}'.encode()).hexdigest()}.sqlite"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    return path


def _cache_key(request: Any, **_: Any) -> str:
    asked = f"{request.method} {request.url} {request.headers.get('Accept')}"
    return hashlib.sha256(asked.encode()).hexdigest()


# ------------------------------------------------------------------------------- refusals


def _accepted(answer: requests.Response, origin: str) -> None:
    status = answer.status_code
    if status == 200:
        return
    if 300 <= status < 400:
        raise ServerError(
            f"{origin}: redirected, which is not followed; check the URL", status=status
        )
    said = _saying(wire.read_error(answer.content, _kind_of(answer)))
    if status == 401:
        raise LogonError(f"{origin}: the session was refused twice{said}", status=status)
    advice = _ADVICE.get(status, "")
    retryable = status in (429, 502, 503, 504)
    raise ServerError(f"{origin}: HTTP {status}{said}{advice}", status=status, retryable=retryable)


_ADVICE: Final = {
    400: "; check the filter's fields and values",
    403: "; the user needs the Portal Administrator role to see every policy",
    503: "; the server is busy, try again later",
}


def _saying(said: str | None) -> str:
    return f": {said}" if said else ""


def _unreached(url: str, problem: requests.RequestException) -> ServerError:
    if isinstance(problem, requests.exceptions.SSLError):
        return CertificateError(
            f"{url}: its certificate was not accepted ({_reason(problem)}); give the file that "
            "signed it with --ca-bundle (ca_bundle=, CDPANALYTICS_CA_BUNDLE)"
        )
    silent = (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError)
    if any(isinstance(cause, silent) for cause in _causes(problem)):
        what = "did not answer in time; ask for a narrower window or smaller pages"
    elif isinstance(problem, requests.exceptions.ConnectTimeout):
        what = "cannot be reached: no answer in time; check host, port and firewall"
    elif isinstance(problem, ChunkedEncodingError):
        what = "broke off its answer; try again"
    elif isinstance(problem, requests.exceptions.ConnectionError):
        what = f"cannot be reached: {_reason(problem)}; check host and port"
    else:
        what = f"could not be asked ({type(problem).__name__})"
    return ServerError(f"{url} {what}", retryable=True)


def _reason(problem: BaseException) -> str:
    """Return the cause at the bottom, in words that hold nothing of the request."""
    for cause in _causes(problem):
        if isinstance(cause, socket.gaierror):
            return "its name is not known"
        if getattr(cause, "verify_message", None):
            return str(cause.verify_message)  # type: ignore[attr-defined]
        number = getattr(cause, "errno", None)
        if isinstance(number, int) and number in errno.errorcode and not hasattr(cause, "reason"):
            return os.strerror(number).lower()
    return "the connection failed"


def _causes(problem: BaseException) -> Iterator[BaseException]:
    waiting, seen = [problem], set()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        near = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [one for one in near if isinstance(one, BaseException)]


# ------------------------------------------------------------------------ tables and frames


def enrich(tasks: pa.Table, policy_sessions: pa.Table, policies: pa.Table) -> pa.Table:
    """Join task sessions with their policy: its name, verdict and RPO at the time.

    Parameters
    ----------
    tasks : pyarrow.Table
        `schema.TASK_SESSIONS` and `as_of` (null when there is none).
    policy_sessions : pyarrow.Table
        `schema.POLICY_SESSIONS`, each uid once; more columns are ignored.
    policies : pyarrow.Table
        `schema.POLICIES`; with a column `seen_from`, several rows a policy.

    Returns
    -------
    pyarrow.Table
        `schema.SESSIONS`, in the order of `tasks`. `policy`, `policy_uid`: of the policy
        session; without one, the text before the last ``@`` of its name, and null.
        `policy_result`: null until the policy session has ended. `rpo`: of the policy's
        newest row with ``seen_from <= created``, else of its oldest.
    """
    parent = _row_of(tasks["policy_session_uid"], policy_sessions["uid"])
    name = _before_at(tasks["policy_session"])
    ended = pc.is_valid(policy_sessions["ended"])
    verdict = pc.if_else(ended, policy_sessions["result"], pa.scalar(None, pa.string()))
    policy_uid = _flat(policy_sessions["policy_uid"]).take(parent)
    made = {
        "policy": pc.coalesce(_flat(policy_sessions["policy"]).take(parent), name),
        "policy_uid": policy_uid,
        "policy_result": _flat(verdict).take(parent),
        "rpo": _rpo(policy_uid, tasks["created"], policies),
    }
    if "as_of" not in tasks.column_names:
        made["as_of"] = pa.nulls(tasks.num_rows, schema.INSTANT)
    columns = [_cast(made.get(f.name), tasks, f) for f in schema.SESSIONS]
    return pa.table(columns, schema=schema.SESSIONS)


def _cast(made: pa.Array | None, tasks: pa.Table, wanted: pa.Field) -> pa.Array | pa.ChunkedArray:
    if made is None:
        return tasks[wanted.name]
    return made.dictionary_encode() if wanted.type == schema.LABEL else made.cast(wanted.type)


def _row_of(labels: pa.ChunkedArray, keys: pa.ChunkedArray) -> pa.Array:
    """Return for each label the row of its key, or null; looked up once a distinct label."""
    codes = _flat(labels)
    rows = pc.index_in(codes.dictionary, value_set=_flat(keys))
    return rows.take(codes.indices)


def _before_at(labels: pa.ChunkedArray) -> pa.Array:
    codes = _flat(labels)
    return pc.replace_substring_regex(codes.dictionary, r"@[^@]*$", "").take(codes.indices)


def _rpo(policy_uid: pa.Array, created: pa.ChunkedArray, policies: pa.Table) -> pa.Array:
    """Look up the settings in force: both sides become one number, policy then time."""
    known = _flat(policies["policy_uid"])
    unique = pc.unique(known)
    of_policy = pc.index_in(known, value_set=unique).to_numpy(zero_copy_only=False)
    of_row = pc.fill_null(pc.index_in(policy_uid, value_set=unique), -1).to_numpy()
    since = _microseconds(policies["seen_from"]) if "seen_from" in policies.column_names else None
    since = np.zeros(len(known), np.int64) if since is None else since
    ladder = np.unique(since)
    step = len(ladder) + 1
    keys = of_policy * step + np.searchsorted(ladder, since, "right")
    order = np.argsort(keys, kind="stable")
    wanted = of_row * step + np.searchsorted(ladder, _microseconds(created), "right")
    found = np.searchsorted(keys[order], wanted, "right") - 1
    found = np.maximum(found, np.searchsorted(of_policy[order], of_row, "left"))
    nowhere = of_row < 0
    rows = pa.array(np.where(nowhere, 0, found), pa.int64(), mask=nowhere)
    return _flat(policies["rpo"]).take(pa.array(order)).take(rows)


def _microseconds(times: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers = pc.fill_null(_flat(times).cast(schema.INSTANT).cast(pa.int64()), np.iinfo("i8").min)
    return np.asarray(numbers.to_numpy(zero_copy_only=False))


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    if column.type == schema.LABEL:
        column = column.unify_dictionaries()
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _joined(pages: Iterator[DatedPage] | list[DatedPage], shape: pa.Schema) -> pa.Table:
    dated = shape.append(pa.field("as_of", schema.INSTANT))
    tables = [page.table() for page in pages]
    return pa.concat_tables([dated.empty_table(), *tables]).unify_dictionaries()


def _unique(table: pa.Table) -> pa.Table:
    again = pd.Series(_flat(table["uid"]).to_pandas()).duplicated(keep="last").to_numpy()
    return table.filter(pa.array(~again)) if again.any() else table.combine_chunks()


def _repeats(pages: list[DatedPage]) -> bool:
    tables = [dated.page.table for dated in pages]
    key = "uid" if "uid" in tables[0].column_names else "policy_uid"
    uids = pa.chunked_array([chunk for table in tables for chunk in table[key].chunks])
    return bool(pc.count_distinct(uids).as_py() < len(uids))


def _matching(frame: pd.DataFrame, **patterns: Patterns) -> pd.DataFrame:
    """Keep the rows whose labels match; a pattern is tried once a label, not once a row."""
    for column, given in patterns.items():
        if given is not None:
            globs = [given] if isinstance(given, str) else list(given)
            match = re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)", re.IGNORECASE)
            labels = [label for label in frame[column].cat.categories if match.match(label)]
            frame = frame[frame[column].isin(labels)]
    frame = frame.reset_index(drop=True)
    for column in patterns:
        frame[column] = frame[column].cat.remove_unused_categories()
    return frame


# ------------------------------------------------------------------------------ small things


@contextmanager
def _workers(parallel: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads that drop what is waiting when the first one fails."""
    workers = ThreadPoolExecutor(parallel, thread_name_prefix="cdpanalytics")
    try:
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)


def _dated(headers: Any) -> pd.Timestamp:
    """Return when an answer was made, by its own Date; by this machine's clock without one."""
    try:
        moment: datetime = parsedate_to_datetime(headers["Date"])
        return pd.Timestamp(moment).tz_convert("UTC").as_unit("us")
    except (KeyError, TypeError, ValueError):
        return pd.Timestamp.now("UTC").floor("s").as_unit("us")


def _kind_of(answer: requests.Response) -> str:
    return str(answer.headers.get("Content-Type", ""))


def _aware(moment: pd.Timestamp) -> pd.Timestamp:
    if moment.tzinfo is None:
        raise InputError(f"{moment} has no time zone; write Timestamp(..., tz='UTC')")
    return moment


def _guid(uid: str) -> str:
    if not _GUID.fullmatch(uid):
        raise InputError(f"{uid!r} is not an identifier (a bare GUID)")
    return uid.lower()
