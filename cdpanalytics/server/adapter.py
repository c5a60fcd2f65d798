"""The HTTP adapter that logs on, carries the token, and reads each body to its end."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from datetime import datetime
from email.utils import parsedate_to_datetime
from threading import Event, Lock, Timer
from typing import Any, Final

import pandas as pd
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.cookies import RequestsCookieJar
from requests.exceptions import ChunkedEncodingError, ContentDecodingError

from cdpanalytics import settings
from cdpanalytics.errors import LogonError, ServerError
from cdpanalytics.server import responses
from cdpanalytics.server.failures import Redactor, content_type, server_message
from cdpanalytics.server.retry import RetryPolicy

_TOKEN: Final = "X-RestSvcSessionId"  # noqa: S105 - the name of a header
LARGEST_ANSWER: Final = 256 * 2**20
"""Bytes of a body, unpacked, above which it is refused: a page of 1,000 sessions has 2 MB."""


class _TooSlow(ServerError):
    """A body that is not complete in time."""


class _BoundedConnection:
    """A mixin of connections: the status line and headers come within a time, or it times out.

    The timeout of a socket begins anew with each byte, so it does not end headers that drip.
    """

    seconds: float

    def getresponse(self) -> Any:
        late = Event()

        def give_up() -> None:
            late.set()
            connected: socket.socket | None = getattr(self, "sock", None)
            if connected is not None:
                # Of the plain class: a TLS connection is not taken apart under its reader.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

        timer = Timer(self.seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            answer = super().getresponse()  # type: ignore[misc]
        except Exception:
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()
        if late.is_set():
            answer.close()
            raise TimeoutError
        return answer


class BoundedAdapter(HTTPAdapter):
    """Sends a request and reads the answer to its end, within a size and a time.

    Parameters
    ----------
    url : str
        The server, for errors.
    retry : RetryPolicy
    answer_timeout : float
        Seconds in which an answer's headers, and then its body, have to be there.
    parallel : int
        Connections at most.
    """

    def __init__(
        self, url: str, retry: RetryPolicy, answer_timeout: float, parallel: int = 1
    ) -> None:
        self._url, self._retry, self.answer_timeout = url, retry, answer_timeout
        super().__init__(pool_maxsize=parallel, pool_block=True, max_retries=retry.adapter_retry())

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return a pool of bounded connections, to the server or to a proxy."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        kind = pool.ConnectionCls
        if not issubclass(kind, _BoundedConnection):
            limit = {"seconds": self.answer_timeout}
            pool.ConnectionCls = type(kind.__name__, (_BoundedConnection, kind), limit)
        return pool

    def send(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        """Send, and read the body; one that breaks off is asked for again."""
        return self._send_whole(request, *args, **options)

    def _send_whole(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        last: Exception = ChunkedEncodingError()
        for failures in range(self._retry.body):
            if failures:
                self._retry.wait(failures)
            try:
                answer = super().send(request, *args, **options)
                self._read_body(answer)
                return answer
            except (ChunkedEncodingError, _TooSlow) as problem:
                last = problem
        raise last

    def _read_body(self, answer: requests.Response) -> None:
        """Read a body within a size and a time: a small one can unpack to any size, or drip."""
        length = answer.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > LARGEST_ANSWER:
            raise self._oversized(answer)
        body, end = bytearray(), time.monotonic() + self.answer_timeout
        while piece := _read_some(answer):
            body += piece
            if len(body) > LARGEST_ANSWER:
                raise self._oversized(answer)
            if time.monotonic() > end:
                answer.close()
                raise _TooSlow(
                    f"{self._url}: its answer was not complete after {self.answer_timeout:g} s "
                    f"({len(body):,} bytes); ask for smaller pages or raise answer_timeout",
                    retryable=True,
                )
        answer._content, answer._content_consumed = bytes(body), True  # type: ignore[attr-defined]
        answer.raw.release_conn()

    def _oversized(self, answer: requests.Response) -> ServerError:
        answer.close()
        return ServerError(f"{self._url}: its answer is larger than {LARGEST_ANSWER // 2**20} MiB; "
                           "ask for smaller pages or a narrower window")  # fmt: skip


class AuthAdapter(BoundedAdapter):
    """The only way to the server: the token is added below it and removed from what comes back.

    What is above (the page cache too) sees requests and answers without token or cookie.

    Parameters
    ----------
    url : str
    credentials : settings.Credentials
    accept : str
        The Accept header.
    options : dict
        Timeout, verification and proxies of the log-on and the log-off.
    parallel : int
        Connections at most.
    retry : RetryPolicy
    answer_timeout : float
        Seconds in which an answer's body has to be there.
    """

    def __init__(
        self,
        url: str,
        credentials: settings.Credentials,
        accept: str,
        options: dict[str, Any],
        *,
        parallel: int,
        retry: RetryPolicy,
        answer_timeout: float,
    ) -> None:
        super().__init__(url, retry, answer_timeout, parallel)
        self._credentials, self._accept, self._options = credentials, accept, options
        self._closed = False
        self.redactor = Redactor(credentials.user, credentials.password.reveal())
        self._lock = Lock()
        self._token: settings.Secret | None = None
        self._session_id: str | None = None
        self._refusal: str | None = None
        self._last_server_time: tuple[pd.Timestamp, float] | None = None
        self._difference: pd.Timedelta | None = None

    def send(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        """Send with the token; log on first, and again when the session has ended.

        A session that ended answers 401, or 403 on some releases. A user who lacks a right is
        answered 403 after the new log-on, too.
        """
        token = self._token or self._log_on(None, options)
        answer = self._send_with(token, request, *args, **options)
        for _ in range(self._retry.session - 1):
            if answer.status_code not in (401, 403):
                break
            token = self._log_on(token, options)
            answer = self._send_with(token, request, *args, **options)
        return answer

    def clock(self) -> pd.Timestamp:
        """Return the server's time, from its last answer and the time gone by since."""
        if self._last_server_time is None:
            self._log_on(None, self._options)
        assert self._last_server_time is not None  # noqa: S101 - a log-on sets it
        then, mark = self._last_server_time
        return then + pd.Timedelta(seconds=time.monotonic() - mark)

    def clock_difference(self) -> pd.Timedelta | None:
        """Return the server's clock less this machine's; None where its last answer had no Date."""
        if self._last_server_time is None:
            self._log_on(None, self._options)
        return self._difference

    def log_off(self) -> None:
        """Delete the session, if there is one whose identifier is known."""
        self._closed = True
        token, self._token = self._token, None
        if token is None or self._session_id is None:
            return
        url = f"{self._url}/api/logonSessions/{self._session_id}"
        headers = {"Accept": self._accept, _TOKEN: token.reveal()}
        request = requests.Request("DELETE", url, headers=headers).prepare()
        # A connection of its own: in a signal handler all of the pool's may be in use below us.
        with closing(BoundedAdapter(self._url, RetryPolicy.once(), 10)) as adapter:
            adapter.send(request, **{**self._options, "timeout": (5, 10)})

    def _send_with(
        self, token: settings.Secret, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        sent = request.copy()
        sent.headers[_TOKEN] = token.reveal()
        answer = self._send_whole(sent, *args, **options)
        answer.request = request
        answer.cookies = RequestsCookieJar()
        for name in ("Set-Cookie", _TOKEN):
            answer.headers.pop(name, None)
        self._note_date(answer)
        return answer

    def _note_date(self, answer: requests.Response) -> None:
        """Remember the server's clock as its newest answer tells it."""
        date = _date_header(answer.headers)
        now = _this_machines_time()
        self._difference = None if date is None else date - now
        self._last_server_time = (now if date is None else date, time.monotonic())

    def _log_on(self, refused: settings.Secret | None, options: dict[str, Any]) -> settings.Secret:
        """Return a token other than the refused one; several threads share one log-on."""
        with self._lock:
            if self._closed:
                raise ServerError(f"{self._url}: this connection is closed; open another")
            if self._token is not None and self._token is not refused:
                return self._token
            if self._refusal is not None:
                raise LogonError(self._refusal, status=401)
            self._token = None
            answer = self._send_whole(self._log_on_request(), **options)
            token = self._token_of(answer)
            self.redactor.add(token)
            self._token = settings.Secret(token)
            self._session_id = responses.read_logon(answer.content, content_type(answer))
            self._note_date(answer)
            return self._token

    def _log_on_request(self) -> requests.PreparedRequest:
        user, password = self._credentials.user, self._credentials.password.reveal()
        auth = HTTPBasicAuth(user.encode(), password.encode())
        url = f"{self._url}/api/sessionMngr/?v=latest"
        return requests.Request("POST", url, headers={"Accept": self._accept}, auth=auth).prepare()

    def _token_of(self, answer: requests.Response) -> str:
        status = answer.status_code
        if status in (401, 403):
            message = server_message(answer, self.redactor)
            self._refusal = f"{self._url} refused user {self._credentials.user!r}{message}"
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
            f"{self._url} could not log on (HTTP {status})" + server_message(answer, self.redactor),
            status=status,
            retryable=status >= 500,
        )


def _read_some(answer: requests.Response) -> bytes:
    """Return what has arrived of a body, b"" at its end; waits for the first byte only."""
    try:
        return answer.raw.read1(2**16, decode_content=True) or b""
    except urllib3.exceptions.ProtocolError as problem:
        raise ChunkedEncodingError(problem) from problem
    except urllib3.exceptions.DecodeError as problem:
        raise ContentDecodingError(problem) from problem
    except urllib3.exceptions.ReadTimeoutError as problem:
        raise requests.exceptions.ConnectionError(problem) from problem
    except urllib3.exceptions.SSLError as problem:
        raise requests.exceptions.SSLError(problem) from problem


def server_time(answer: requests.Response) -> pd.Timestamp:
    """Return when an answer was made, by its own Date; by this machine's clock without one."""
    date = _date_header(answer.headers)
    return _this_machines_time() if date is None else date


def _this_machines_time() -> pd.Timestamp:
    return pd.Timestamp.now("UTC").floor("s").as_unit("us")


def _date_header(headers: Any) -> pd.Timestamp | None:
    """Return the Date of an answer; None where it is missing or unreadable."""
    try:
        moment: datetime = parsedate_to_datetime(headers["Date"])
        return pd.Timestamp(moment).tz_convert("UTC").as_unit("us")
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
