"""The page cache: answers kept between runs in an SQLite file per server and user."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import platformdirs
import requests_cache
from requests_cache.backends.base import BaseCache
from requests_cache.backends.sqlite import SQLiteDict
from requests_cache.serializers import json_serializer

SOON, LATER = 5 * 60, 24 * 60 * 60
"""Seconds that the page cache keeps what can still change, and what cannot."""

_LOCK_TIMEOUT: Final = 2.0
"""Seconds to wait while another process holds the file's lock."""

_log: Final = logging.getLogger(__name__)

Caching: TypeAlias = Mapping[str, Any]
"""How the page cache takes part in a request; empty: not at all."""

CACHED: Final[Caching] = {"only_if_cached": True}
"""Ask the page cache alone."""


def stored(seconds: int) -> Caching:
    """Ask the server, and let the page cache keep the answer."""
    return {"force_refresh": True, "expire_after": seconds}


def open_session(url: str, user: str) -> requests_cache.CachedSession | None:
    """Return a session over this user's page cache; None, with a warning, where it cannot be used."""
    try:
        backend = _SQLiteCache(cache_file(url, user))
        backend.table.delete_expired()
    except (OSError, sqlite3.Error) as problem:
        warn_unused(problem)
        return None
    return requests_cache.CachedSession(
        backend=backend, expire_after=SOON, allowable_methods=("GET",), key_fn=_cache_key
    )


def warn_unused(problem: Exception) -> None:
    """Say that the page cache is not used, and why."""
    _log.warning("page cache not used: %s", problem)


class _Table(SQLiteDict):
    """A table that raises where requests-cache would ask for the write lock for ever.

    Its own loop repeats BEGIN IMMEDIATE whatever the error: another process's lock, a full disk, a
    file that cannot be opened. SQLite itself waits `timeout` seconds for a lock; that is enough.
    """

    @contextmanager
    def _acquire_sqlite_lock(self) -> Iterator[None]:
        with self._lock:
            connection = self._connection
            assert connection is not None  # noqa: S101 - opened by the caller
            connection.execute("BEGIN IMMEDIATE")
            self._active_transaction = True
            try:
                yield
                connection.commit()
            except BaseException:
                if connection.in_transaction:
                    connection.rollback()
                raise
            finally:
                self._active_transaction = False

    def init_db(self) -> None:
        """Create the table; a file that has it is not written to."""
        with self.connection(commit=True) as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.table_name} "
                "(key TEXT PRIMARY KEY, value BLOB, expires INTEGER)"
            )
            connection.execute(
                f"CREATE INDEX IF NOT EXISTS expires_idx ON {self.table_name}(expires)"
            )

    def delete_expired(self) -> None:
        """Delete what has expired."""
        with self.connection(commit=True) as connection:
            text = f"DELETE FROM {self.table_name} WHERE expires <= ?"  # noqa: S608
            connection.execute(text, (round(time.time()),))


class _SQLiteCache(BaseCache):
    """Responses in one file. Redirects are not followed, so none are kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(cache_name=str(path))
        self.table = _Table(
            path, table_name="responses", serializer=json_serializer, timeout=_LOCK_TIMEOUT
        )
        self.responses = self.table


def cache_file(url: str, user: str) -> Path:
    """Return the file of a server's and user's pages; it is made where it does not exist."""
    folder = Path(platformdirs.user_cache_dir("cdpanalytics"))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{hashlib.sha256(f'{url} {user}'.encode()).hexdigest()}.sqlite"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    return path


def _cache_key(request: Any, **_: Any) -> str:
    text = f"{request.method} {request.url} {request.headers.get('Accept')}"
    return hashlib.sha256(text.encode()).hexdigest()
