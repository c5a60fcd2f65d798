"""A connection to an Enterprise Manager: requests and their answers, with or without the page cache."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, Literal, TypeVar

import pandas as pd
import requests
import urllib3
from requests.adapters import HTTPAdapter

from cdpanalytics import settings
from cdpanalytics.errors import InputError, ServerError, WireError
from cdpanalytics.server import page_cache
from cdpanalytics.server.adapter import AuthAdapter, BoundedAdapter, server_time
from cdpanalytics.server.failures import content_type, refuse, unreachable
from cdpanalytics.server.page_cache import CACHED, Caching, stored
from cdpanalytics.server.retry import RetryPolicy

_ACCEPT: Final = {"json": "application/json", "xml": "application/xml"}
_SMALL_PAGE: Final = 30
"""Seconds of silence after which the small page that needs no log-on is given up."""

_log: Final = logging.getLogger(__name__)
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Answer:
    """A body, its content type, and when the server made it (UTC, by its own clock)."""

    body: bytes
    kind: str
    server_time: pd.Timestamp


class Connection:
    """A way to one server; logs on at the first question that needs it.

    Parameters
    ----------
    url, user, password, ca_bundle, verify, cache, parallel, timeout, accept, retry, answer_timeout
        As in `client.EnterpriseManager`.
    """

    def __init__(
        self,
        url: str | None,
        user: str | None,
        password: str | None,
        *,
        ca_bundle: str | None,
        verify: bool,
        cache: bool,
        parallel: int,
        timeout: tuple[float, float],
        accept: Literal["json", "xml"],
        retry: RetryPolicy,
        answer_timeout: float,
    ) -> None:
        if accept not in _ACCEPT:
            raise InputError(f"accept is 'json' or 'xml', not {accept!r}")
        self.url = settings.base_url(url)
        credentials = settings.credentials(self.url, user, password)
        self.user, self.retry = credentials.user, retry
        self._options: dict[str, Any] = {
            "timeout": timeout,
            "verify": (settings.ca_bundle(ca_bundle) or True) if verify else False,
            "proxies": settings.proxies(self.url),
        }
        self._accept = _ACCEPT[accept]
        self._adapter = AuthAdapter(
            self.url, credentials, self._accept, self._options,
            parallel=parallel, retry=retry, answer_timeout=answer_timeout,
        )  # fmt: skip
        self._direct = _prepared(requests.Session(), self._adapter, self._accept)
        cached = page_cache.open_session(self.url, self.user) if cache else None
        self._cached = cached and _prepared(cached, self._adapter, self._accept)
        self._closed = False
        if not verify and self.url.startswith("https:"):
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            _log.warning(
                "%s: certificate verification is disabled; "
                "traffic can be read or modified by a third party",
                self.url,
            )

    def close(self) -> None:
        """Log off and close every connection.

        Never raises, may be called twice and from a signal handler, and waits 15 seconds at most.
        """
        if self._closed:
            return
        self._closed = True
        with suppress(Exception):
            self._adapter.log_off()
        for session in filter(None, (self._cached, self._direct)):
            with suppress(Exception):
                session.close()

    @property
    def verified(self) -> bool | str:
        """The file that the server's certificate is verified with; True: the system's; False: it is not."""
        how: bool | str = self._options["verify"]
        return how

    @property
    def caches(self) -> bool:
        """Whether pages are kept between runs."""
        return self._cached is not None

    def clock(self) -> pd.Timestamp:
        """Return the server's time, from its last answer and the time gone by since."""
        with self._reached():
            return self._adapter.clock()

    def clock_difference(self) -> pd.Timedelta | None:
        """Return the server's clock less this machine's, by the last answer; None without its Date."""
        with self._reached():
            return self._adapter.clock_difference()

    def get(
        self,
        path: str,
        origin: str,
        params: Mapping[str, str] | None = None,
        caching: Caching | None = None,
    ) -> Answer:
        """Ask for what is at a path.

        Parameters
        ----------
        path : str
            With its leading slash.
        origin : str
            What is asked of whom, for the error.
        params : mapping, optional
        caching : mapping, optional
            `CACHED` or `stored`; without it, or without a page cache, the server is asked.

        Raises
        ------
        ServerError, LogonError, CertificateError
            If it cannot be reached, or refuses.
        """
        session = self._cached if caching and self._cached is not None else self._direct
        options = {} if session is self._direct else dict(caching or {})
        return self._ask(session, "GET", path, origin, params=params, **options)

    def get_unknown(self, path: str, origin: str) -> Answer:
        """Ask for a small page without logging on; a server that stays silent is asked once only."""
        adapter = BoundedAdapter(
            self.url, replace(self.retry, read=1), self._adapter.answer_timeout
        )
        connect, read = self._options["timeout"]
        timeout = (connect, min(read, _SMALL_PAGE))
        with _prepared(requests.Session(), adapter, self._accept) as session:
            return self._ask(session, "GET", path, origin, timeout=timeout)

    def post(self, path: str, origin: str, params: Mapping[str, str], body: bytes) -> Answer:
        """Ask a question that has an XML body, and changes nothing."""
        headers = {"Content-Type": "application/xml; charset=utf-8"}
        return self._ask(
            self._direct, "POST", path, origin, params=params, data=body, headers=headers
        )

    def read(self, reader: Callable[..., _Read], answer: Answer, *args: Any, origin: str) -> _Read:
        """Return what a reader of `responses` makes of an answer; its errors repeat no secret."""
        with suppress(WireError):
            return reader(answer.body, answer.kind, *args, origin=origin)
        # Read again for the error alone: out of a body without what was sent in secret.
        reader(self._adapter.redactor.clean(answer.body), answer.kind, *args, origin=origin)
        raise WireError(f"{origin}: the answer cannot be read")

    def _ask(
        self, session: requests.Session, method: str, path: str, origin: str, **options: Any
    ) -> Answer:
        if self._closed:
            raise ServerError(f"{self.url}: this connection is closed; open another")
        try:
            with self._reached():
                answer = self._send(session, method, path, options)
        except sqlite3.Error as problem:
            if self._cached is not None:
                self._cached = None
                page_cache.warn_unused(problem)
            plain = {k: v for k, v in options.items() if k not in (*CACHED, *stored(0))}
            return self._ask(self._direct, method, path, origin, **plain)
        refuse(answer, origin, self._adapter.redactor)
        return Answer(answer.content, content_type(answer), server_time(answer))

    def _send(
        self, session: requests.Session, method: str, path: str, options: dict[str, Any]
    ) -> requests.Response:
        merged = {**self._options, "allow_redirects": False, **options}
        answer = session.request(method, f"{self.url}{path}", **merged)
        for _ in range(self.retry.server_error - 1):
            if answer.status_code != 500 or method != "GET":
                break
            answer = session.request(method, f"{self.url}{path}", **merged)
        return answer

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as problem:
            raise unreachable(self.url, problem) from None


def _prepared(session: requests.Session, adapter: HTTPAdapter, accept: str) -> requests.Session:
    """Give a session its adapter: no cookies, no .netrc, nothing else of the environment."""
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.trust_env = False
    session.headers["Accept"] = accept
    return session
