"""A lock on object storage that only one writer holds, made of numbered objects."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Protocol

from cdpanalytics.errors import StoreError

BEAT = 15.0
"""Seconds between two renewals of a lock by its holder."""

EXPIRY = 90.0
"""Seconds without a renewal after which another writer takes a lock over."""

POLL = 1.0
"""Seconds between two looks at a lock that another writer holds."""

_log = logging.getLogger(__name__)


class Sized(Protocol):
    """An object as a listing describes it; another version of it is not equal."""

    @property
    def size(self) -> int:
        """Bytes of the object."""


class LeaseStorage(Protocol):
    """What a lease needs of an object store."""

    @property
    def home(self) -> str:
        """The URL."""

    def location(self, name: PurePosixPath) -> str:
        """Return the URL of a name."""

    def listed(self, folder: PurePosixPath) -> Mapping[PurePosixPath, Sized]:
        """Return the objects below a folder as they are now."""

    def claim(self, name: PurePosixPath, body: bytes) -> bool:
        """Put an object that must not exist; return whether that succeeded."""

    def put(self, name: PurePosixPath, body: bytes) -> None:
        """Replace an object."""

    def read(self, name: PurePosixPath) -> bytes:
        """Return an object's bytes."""

    def remove(self, name: PurePosixPath) -> None:
        """Remove an object."""


class Lease:
    """A lock of numbered objects, of which the highest counts: held while it changes, free when empty.

    A writer takes it by creating the next number; a store with conditional puts
    (``If-None-Match: *``) lets only one writer succeed. A waiting writer uses its own clock
    alone: if the object has not changed for `EXPIRY` seconds, its holder is dead. A holder
    that finds a higher number than its own has lost the lock and writes no more.
    """

    def __init__(self, storage: LeaseStorage, folder: PurePosixPath) -> None:
        self._storage, self._folder = storage, folder
        self._number, self._beats, self._lost = 0, 0, False
        self._owner, self._renewed = uuid.uuid4().hex, 0.0
        self._ended, self._renewing = threading.Event(), threading.Lock()
        self._heart: threading.Thread | None = None

    def acquire(self, timeout: float) -> None:
        """Take the lock within some seconds, or raise TimeoutError."""
        deadline = time.monotonic() + timeout
        seen, since = self._newest(), time.monotonic()
        while True:
            held = seen[1] is not None and seen[1].size > 0
            free = not held or time.monotonic() - since >= EXPIRY
            if free and self._taken(seen[0] + 1):
                return
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self._storage.location(self._folder)} is held")
            time.sleep(min(POLL, EXPIRY / 4, max(0.0, deadline - time.monotonic())))
            newest = self._newest()
            if newest != seen:
                seen, since = newest, time.monotonic()

    def release(self) -> None:
        """Release it: the object stays, empty, so that its number is not used twice."""
        if self._heart is None:
            return
        self._ended.set()
        self._heart.join()
        self._heart = None
        if self._lost:
            return
        try:
            self._storage.put(self._named(self._number), b"")
        except StoreError as error:
            _log.warning("%s; the next sync waits %.0f seconds for this one", error, EXPIRY)

    def assure(self) -> None:
        """Raise StoreError unless the lock is still held; the store is asked only where it was not renewed lately."""
        if self._heart is None:
            return
        if time.time() - self._renewed > 2 * BEAT:
            self._renew()
        if self._lost:
            raise StoreError(
                f"{self._storage.home}: another sync has taken the archive over, because this one "
                "did not renew its lock in time; run it again"
            )

    def _taken(self, number: int) -> bool:
        if not self._storage.claim(self._named(number), self._sign()):
            return False
        for name in self._storage.listed(self._folder):
            if name < self._named(number):
                self._storage.remove(name)
        self._number, self._renewed = number, time.time()
        self._heart = threading.Thread(target=self._beating, name="lease", daemon=True)
        self._heart.start()
        return True

    def _beating(self) -> None:
        while not self._lost and not self._ended.wait(BEAT):
            try:
                self._renew()
            except StoreError as error:
                _log.warning("%s; the lock is not renewed", error)

    def _renew(self) -> None:
        """Renew the lock, unless another writer has taken it over."""
        with self._renewing:
            mine = self._named(self._number)
            if self._newest()[0] != self._number or self._storage.read(mine) != self._sign():
                self._lost = True
                return
            self._beats += 1
            self._storage.put(mine, self._sign())
            self._renewed = time.time()

    def _newest(self) -> tuple[int, Sized | None]:
        listed = self._storage.listed(self._folder)
        name = max(listed, default=None)
        return (0, None) if name is None else (int(name.name), listed[name])

    def _named(self, number: int) -> PurePosixPath:
        return self._folder / f"{number:08d}"

    def _sign(self) -> bytes:
        return json.dumps({"owner": self._owner, "beats": self._beats}).encode()
