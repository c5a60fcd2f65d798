"""Log-on sessions, and the refusal of a request."""

import base64
import binascii
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

Clock = Callable[[], datetime]


class Refusal(Exception):
    """An error that the server answers with a status and an Error body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class LogonSessions:
    """The sessions of one account; a session ends when it is idle for too long.

    Parameters
    ----------
    username, password : str
    clock : callable
        Returns the present.
    """

    def __init__(self, username: str, password: str, clock: Clock) -> None:
        self._credentials = f"{username}:{password}".encode()
        self._clock = clock
        self._lock = threading.Lock()
        self._by_token: dict[str, tuple[str, datetime]] = {}

    def log_on(self, authorization: str) -> tuple[str, str]:
        """Return a token and the identifier of a new session, or refuse."""
        scheme, _, encoded = authorization.partition(" ")
        try:
            matches = (
                scheme.casefold() == "basic" and base64.b64decode(encoded) == self._credentials
            )
        except binascii.Error:
            matches = False
        if not matches:
            raise Refusal(401, "The user name or password is incorrect")
        identifier = str(uuid.uuid4())
        token = base64.b64encode(identifier.encode()).decode()
        with self._lock:
            self._by_token[token] = (identifier, self._clock())
        return token, identifier

    def admit(self, token: str | None, idle: timedelta) -> None:
        """Refuse a token that is unknown or has been idle too long."""
        now = self._clock()
        with self._lock:
            identifier, last_request = self._by_token.get(token or "", ("", now))
            if not identifier or now - last_request > idle:
                self._by_token.pop(token or "", None)
                raise Refusal(401, "The session has expired or was not found")
            self._by_token[token or ""] = (identifier, now)

    def log_out(self, identifier: str) -> None:
        """End a session; an unknown one is an internal error, as on the real server."""
        with self._lock:
            token = next(
                (key for key, (session, _) in self._by_token.items() if session == identifier), None
            )
            if token is None:
                raise Refusal(500, f"There is no logon session with id [{identifier}]")
            del self._by_token[token]

    def expire(self) -> None:
        """End every session, as a restart of the service does."""
        with self._lock:
            self._by_token.clear()

    def logged_on(self) -> list[str]:
        """Return the identifiers of all sessions."""
        with self._lock:
            return [identifier for identifier, _ in self._by_token.values()]
