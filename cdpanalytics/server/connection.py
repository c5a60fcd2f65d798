"""The one way to an Enterprise Manager: log-on, token, page cache, refusals; it reads no answer."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, TypeAlias

import pandas as pd
import platformdirs
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

from cdpanalytics import settings
from cdpanalytics.errors import CertificateError, InputError, LogonError, ServerError
from cdpanalytics.server import responses

ATTEMPTS: Final = 3
"""How often what went wrong on the way is asked for."""

SOON, LATER = 5 * 60, 24 * 60 * 60
"""Seconds that the page cache keeps what can still change, and what can not."""

_TOKEN: Final = "X-RestSvcSessionId"  # noqa: S105 - the name of a header
_ACCEPT: Final = {"json": "application/json", "xml": "application/xml"}
_LARGEST: Final = 256 * 2**20
"""Bytes of a body, unpacked, above which it is refused: a page of 1,000 sessions has 2 MB."""

_BACKOFF: Final = 0.5
_log: Final = logging.getLogger(__name__)

Caching: TypeAlias = Mapping[str, Any]
"""How the page cache takes part in a question; empty: not at all."""

CACHED: Final[Caching] = {"only_if_cached": True}
"""Ask the page cache alone."""


def stored(seconds: int) -> Caching:
    """Ask the server, and let the page cache keep the answer."""
    return {"force_refresh": True, "expire_after": seconds}


@dataclass(frozen=True)
class Answer:
    """A body, what it says it is, and when the server made it (UTC, by its own clock)."""

    body: bytes
    kind: str
    made: pd.Timestamp


class Connection:
    """A way to one server; logs on at the first question that needs it.

    Parameters
    ----------
    url, user, password, ca_bundle, verify, cache, parallel, timeout, accept
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
    ) -> None:
        if accept not in _ACCEPT:
            raise InputError(f"accept is 'json' or 'xml', not {accept!r}")
        self.url = settings.base_url(url)
        known = settings.credentials(self.url, user, password)
        self.user = known.user
        self._way: dict[str, Any] = {
            "timeout": timeout,
            "verify": (settings.ca_bundle(ca_bundle) or True) if verify else False,
            "proxies": settings.proxies(self.url),
        }
        self._accept = _ACCEPT[accept]
        self._gate = _Gate(self.url, known, self._accept, parallel, self._way)
        self._direct = _prepared(requests.Session(), self._gate, self._accept)
        self._cached = _cached_session(self.url, self.user, self._gate, self._accept, cache)
        self._closed = False
        if not verify and self.url.startswith("https:"):
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            _log.warning(
                "%s: its certificate is not verified; whoever stands between can read and change all",
                self.url,
            )

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
        how: bool | str = self._way["verify"]
        return how

    @property
    def caches(self) -> bool:
        """Whether pages are kept between runs."""
        return self._cached is not None

    def clock(self) -> pd.Timestamp:
        """Return the server's time, from its last answer and the time gone by since."""
        with self._reached():
            return self._gate.clock()

    def clock_difference(self) -> pd.Timedelta | None:
        """Return the server's clock less this machine's, by the last answer; None without its Date."""
        with self._reached():
            return self._gate.clock_difference()

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
        """Ask without logging on."""
        stranger = _prepared(requests.Session(), HTTPAdapter(), self._accept)
        with stranger:
            return self._ask(stranger, "GET", path, origin)

    def post(self, path: str, origin: str, params: Mapping[str, str], body: bytes) -> Answer:
        """Ask a question that has an XML body, and changes nothing."""
        headers = {"Content-Type": "application/xml; charset=utf-8"}
        return self._ask(
            self._direct, "POST", path, origin, params=params, data=body, headers=headers
        )

    def _ask(
        self, session: requests.Session, method: str, path: str, origin: str, **options: Any
    ) -> Answer:
        if self._closed:
            raise ServerError(f"{self.url}: this connection is closed; open another")
        try:
            with self._reached():
                answer = self._sent(session, method, path, options)
        except sqlite3.Error as problem:
            _log.warning("page cache not used: %s", problem)
            plain = {k: v for k, v in options.items() if k not in (*CACHED, *stored(0))}
            return self._ask(self._direct, method, path, origin, **plain)
        _accepted(answer, origin)
        return Answer(answer.content, _kind_of(answer), _dated(answer.headers))

    def _sent(
        self, session: requests.Session, method: str, path: str, options: dict[str, Any]
    ) -> requests.Response:
        asked = {**self._way, "allow_redirects": False, **options}
        answer = session.request(method, f"{self.url}{path}", **asked)
        if answer.status_code == 500 and method == "GET":
            answer = session.request(method, f"{self.url}{path}", **asked)
        return answer

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as problem:
            raise _unreached(self.url, problem) from None


def wait(again: int) -> None:
    """Wait before what went wrong `again` times is asked for once more."""
    time.sleep(_BACKOFF * 2**again)


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
        known: settings.Credentials,
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
        self._token: settings.Secret | None = None
        self._session_id: str | None = None
        self._refusal: str | None = None
        self._heard: tuple[pd.Timestamp, float] | None = None
        self._difference: pd.Timedelta | None = None

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

    def clock_difference(self) -> pd.Timedelta | None:
        """Return the server's clock less this machine's; None where its last answer had no Date."""
        if self._heard is None:
            self._log_on(None, self._way)
        return self._difference

    def log_out(self) -> None:
        """Delete the session, if there is one whose identifier is known."""
        token, self._token = self._token, None
        if token is not None and self._session_id is not None:
            url = f"{self._url}/api/logonSessions/{self._session_id}"
            request = requests.Request("DELETE", url, headers={"Accept": self._accept}).prepare()
            answer = self._pass(request, token, **{**self._way, "timeout": (5, 10)})
            answer.content  # noqa: B018 - gives the connection back

    def _pass(
        self, request: requests.PreparedRequest, token: settings.Secret, *args: Any, **options: Any
    ) -> requests.Response:
        sent = request.copy()
        sent.headers[_TOKEN] = token.reveal()
        answer = self._whole(sent, *args, **options)
        answer.request = request
        answer.cookies = RequestsCookieJar()
        for name in ("Set-Cookie", _TOKEN):
            answer.headers.pop(name, None)
        self._note_date(answer)
        return answer

    def _note_date(self, answer: requests.Response) -> None:
        """Remember the server's clock as its newest answer tells it."""
        date = _date_header(answer.headers)
        now = pd.Timestamp.now("UTC").floor("s").as_unit("us")
        self._difference = None if date is None else date - now
        self._heard = (now if date is None else date, time.monotonic())

    def _whole(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        """Send, and read the body to its end; one that breaks off is asked for again."""
        for again in range(ATTEMPTS):
            time.sleep(again * _BACKOFF)
            with suppress(ChunkedEncodingError):
                answer = super().send(request, *args, **options)
                _take(answer, self._url)
                return answer
        raise ChunkedEncodingError

    def _log_on(self, refused: settings.Secret | None, options: dict[str, Any]) -> settings.Secret:
        """Return a token other than the refused one; several threads share one log-on."""
        with self._lock:
            if self._token is not None and self._token is not refused:
                return self._token
            if self._refusal is not None:
                raise LogonError(self._refusal, status=401)
            self._token = None
            answer = self._whole(self._log_on_request(), **options)
            self._token = settings.Secret(self._checked(answer))
            self._session_id = responses.read_logon(answer.content, _kind_of(answer))
            self._note_date(answer)
            return self._token

    def _log_on_request(self) -> requests.PreparedRequest:
        auth = HTTPBasicAuth(self._known.user.encode(), self._known.password.reveal().encode())
        url = f"{self._url}/api/sessionMngr/?v=latest"
        return requests.Request("POST", url, headers={"Accept": self._accept}, auth=auth).prepare()

    def _checked(self, answer: requests.Response) -> str:
        status = answer.status_code
        said = responses.read_error(answer.content, _kind_of(answer))
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
        backend=backend, expire_after=SOON, allowable_methods=("GET",), key_fn=_cache_key
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
    said = _saying(responses.read_error(answer.content, _kind_of(answer)))
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


def _dated(headers: Any) -> pd.Timestamp:
    """Return when an answer was made, by its own Date; by this machine's clock without one."""
    date = _date_header(headers)
    return pd.Timestamp.now("UTC").floor("s").as_unit("us") if date is None else date


def _date_header(headers: Any) -> pd.Timestamp | None:
    """Return the Date of an answer; None where it is missing or unreadable."""
    try:
        moment: datetime = parsedate_to_datetime(headers["Date"])
        return pd.Timestamp(moment).tz_convert("UTC").as_unit("us")
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _kind_of(answer: requests.Response) -> str:
    return str(answer.headers.get("Content-Type", ""))
