"""Which failures of a request are tried again, how often and after which wait."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Any

from urllib3 import Retry
from urllib3.exceptions import InvalidHeader, MaxRetryError


@dataclass(frozen=True)
class RetryPolicy:
    """How often each failure is tried again. All counts are of tries, the first one included.

    Parameters
    ----------
    connect : int
        A connection that is refused or cannot be opened.
    read : int
        A connection that is reset, or silent for longer than the timeout, before the answer.
    busy : int
        HTTP 502, 503 and 504, and 429 with Retry-After.
    body : int
        A body that breaks off.
    page : int
        A page that cannot be read, such as a proxy's own page.
    answer : int
        Pages that do not fit together; each try asks for pages twice as large.
    server_error : int
        HTTP 500.
    session : int
        HTTP 401 or 403: a session that has ended. Each further try logs on first.
    backoff : float
        Seconds from which waits grow, each twice as long as the one before; see `table`.
    longest_wait : float
        Seconds that a server's Retry-After is followed at most.

    Examples
    --------
    >>> RetryPolicy(busy=2).busy
    2
    """

    connect: int = 4
    read: int = 3
    busy: int = 5
    body: int = 3
    page: int = 3
    answer: int = 3
    server_error: int = 2
    session: int = 2
    backoff: float = 0.5
    longest_wait: float = 120

    def __post_init__(self) -> None:
        """Refuse counts below 1 and negative waits."""
        counts = {n: v for n, v in vars(self).items() if n not in ("backoff", "longest_wait")}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} counts the first try and is at least 1, not {value}")
        if self.backoff < 0 or self.longest_wait < 0:
            raise ValueError("backoff and longest_wait are not negative")

    @classmethod
    def once(cls) -> RetryPolicy:
        """Return a policy that tries nothing again."""
        return cls(*[1] * 8)

    def wait(self, failures: int) -> None:
        """Wait after so many failures of one request."""
        time.sleep(self.backoff * 2 ** (failures - 1))

    def adapter_retry(self) -> Retry:
        """Return the repetitions that urllib3 makes by itself."""
        return _CappedRetry(
            total=max(self.connect, self.read, self.busy) - 1,
            connect=self.connect - 1,
            read=self.read - 1,
            status=self.busy - 1,
            status_forcelist=[502, 503, 504],
            # The POSTs, a log-on and a question about intervals, change nothing.
            allowed_methods={"GET", "POST"},
            backoff_factor=self.backoff,
            retry_after_max=int(self.longest_wait),
            raise_on_status=False,
        )

    def table(self) -> list[tuple[str, int, str]]:
        """Return one row per failure: what fails, tries in all, what is waited in between."""
        growing = f"{self.backoff:g} s, then twice as long each time"
        # urllib3 repeats at once the first time.
        later = f"none at first, then {2 * self.backoff:g} s, twice as long each time"
        asked = f"as Retry-After says, {self.longest_wait:g} s at most; else {later}"
        return [
            ("the connection is refused or cannot be opened", self.connect, later),
            ("the connection is reset, or silent beyond the timeout", self.read, later),
            ("502, 503, 504; 429 with Retry-After", self.busy, asked),
            ("the body breaks off", self.body, growing),
            ("a page cannot be read", self.page, growing),
            ("the pages do not fit together", self.answer, "none; pages twice as large"),
            ("500", self.server_error, "none"),
            ("401 or 403: the session has ended", self.session, "none; logs on first"),
        ]


class _CappedRetry(Retry):
    """Waits as long as the server says, up to a limit; an unreadable Retry-After is ignored."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> _CappedRetry:
        """Count a failure; what the server's TLS refused is not tried again."""
        cause = error.args[0] if error is not None and error.args else None
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            raise MaxRetryError(_pool, url, error)
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_retry_after(self, response: Any) -> float | None:
        try:
            return super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):
            return None
