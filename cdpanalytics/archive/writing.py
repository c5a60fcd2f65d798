"""Writing an archive: the lock, one commit per sync, and files set aside.

A sync stages what it writes under hidden names (`names.staged`). When it ends it names
these files in ``archive.json``, which is the commit: from then on readers take the staged
version. Then each is renamed to its own name, over the one it supersedes. So a reader sees
the state before the sync or after it, and at rest each file has its own name. A sync that
is killed leaves staged files that are whole; the next sync makes them current before it
does anything else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pyarrow as pa

from cdpanalytics.archive import names
from cdpanalytics.archive.files import (
    FileMetadata,
    ParquetFiles,
    parquet_bytes,
    translate_write_errors,
)
from cdpanalytics.archive.marker import LOCK, MARKER, Marker, read_marker, write_marker
from cdpanalytics.archive.names import Name
from cdpanalytics.archive.storage import base
from cdpanalytics.errors import ArchiveError, StoreError

PATIENCE = 600.0
"""Seconds that a sync waits for another one on the same archive."""

_log = logging.getLogger(__name__)


class Writer:
    """Writes the files of an archive."""

    def __init__(self, storage: base.Storage) -> None:
        self._storage = storage
        self._marker = Marker()
        self._staged: set[Name] = set()
        self._thread: int | None = None

    def files(self) -> ParquetFiles | None:
        """Return the files with all that this thread has staged; None where it does not write."""
        if self._thread != threading.get_ident():
            return None
        return ParquetFiles(self._storage, self._marker, self._staged)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock, finish what a killed sync left, and commit at the end.

        Raises
        ------
        ArchiveError
            When another process holds the lock for ten minutes, or the archive cannot be written.
        """
        lock = self._acquire()
        try:
            with translate_write_errors(self._storage, Name()):
                self._storage.remove_partial_files()
                self._recover()
            self._thread = threading.get_ident()
            try:
                yield
            except BaseException:
                # What is staged is whole and kept; if not now, the next sync makes it current.
                with suppress(ArchiveError):
                    self._commit()
                raise
            self._commit()
        finally:
            self._thread = None
            lock.release()

    def put(self, name: Name, rows: pa.Table, metadata: FileMetadata) -> None:
        """Replace a file atomically: at the end of `writing`, or at once outside of it."""
        body = parquet_bytes(rows, metadata)
        day = metadata.day if metadata.table == "sessions" else None
        if self._thread == threading.get_ident():
            with translate_write_errors(self._storage, name):
                self._storage.check_replaceable(name)
                self._storage.write(names.staged(name), body)
            self._staged.add(name)
            self._marker = self._marker.with_day(metadata.source, day)
            return
        with translate_write_errors(self._storage, name):
            marker = read_marker(self._storage)
            if marker.with_day(metadata.source, day) is not marker:
                write_marker(self._storage, marker.with_day(metadata.source, day))
            self._storage.write(name, body)

    def note_since(self, source: str, day: str) -> None:
        """Record the first day that a sync is to have, before it writes any: it may be killed."""
        with translate_write_errors(self._storage, Name(MARKER)):
            marker = self._marker_now()
            if marker.with_since(source, day) is not marker:
                self._write_marker(marker.with_since(source, day))

    def set_aside(self, paths: list[Name]) -> None:
        """Move files to ``damaged/``, each under a name of its own; readers then start again."""
        if not paths:
            return
        with translate_write_errors(self._storage, Name(MARKER)):
            self._write_marker(self._marker_now().committed(self._marker_now().pending))
        for path in paths:
            with translate_write_errors(self._storage, path):
                aside = names.DAMAGED / path
                before = names.regular(self._storage.walk(aside.parent))
                number = sum(1 for other in before if other.name.startswith(aside.stem))
                staged = path in self._staged
                self._storage.move(
                    names.staged(path) if staged else path,
                    aside.with_stem(f"{aside.stem}.{number}"),
                )
                self._staged.discard(path)

    def _marker_now(self) -> Marker:
        inside = self._thread == threading.get_ident()
        return self._marker if inside else read_marker(self._storage)

    def _write_marker(self, marker: Marker) -> None:
        write_marker(self._storage, marker)
        self._marker = marker

    def _acquire(self) -> base.Lock:
        with translate_write_errors(self._storage, Name()):
            lock = self._storage.lock(LOCK)
            try:
                lock.acquire(timeout=0)
                return lock
            except TimeoutError:
                home = self._storage.home
                _log.warning("%s: another sync is writing it; waiting for it to end", home)
            try:
                lock.acquire(timeout=PATIENCE)
                return lock
            except TimeoutError:
                raise ArchiveError(
                    f"{home}: another sync has been writing it for {PATIENCE / 60:.0f} minutes; "
                    "try again when it has ended"
                ) from None

    def _recover(self) -> None:
        """Make current what a killed sync has staged, and record the sources of an older archive."""
        is_new = not self._storage.exists(MARKER)
        before = self._marker = read_marker(self._storage)
        listed = [
            name
            for table in names.TABLES
            for name in names.regular(self._storage.walk(Name(table)))
        ]
        currents = [names.current(name) for name in listed]
        self._staged = {name for name in currents if name is not None and names.is_ours(name)}
        files = ParquetFiles(self._storage, self._marker, self._staged)
        for name in files.last_days() if is_new or not before.sources else ():
            self._note_sources(files, name.parts[1])
        for name in sorted(self._staged):
            self._adopt(files, name)
        if self._staged or before.pending:
            self._commit()
        elif is_new or self._marker != before:
            self._write_marker(self._marker)

    def _note_sources(self, files: ParquetFiles, folder: str) -> None:
        """Record a source and its first day, which the marker of 0.1 did not."""
        of_folder = [name for name in files.days("sessions") if name.parts[1] == folder]
        for name in of_folder:
            with suppress(ArchiveError):
                self._marker = self._marker.with_day(files.metadata(name).source, of_folder[0].stem)
                return

    def _adopt(self, files: ParquetFiles, name: Name) -> None:
        """Take a staged file into this sync; one that cannot be read is set aside, its day is as it was."""
        try:
            metadata = files.metadata(name)
        except StoreError:
            raise
        except ArchiveError:
            aside = names.DAMAGED / name.with_stem(f"{name.stem}.staged.0")
            self._storage.move(names.staged(name), aside)
            self._staged.discard(name)
            return
        day = metadata.day if metadata.table == "sessions" else None
        self._marker = self._marker.with_day(metadata.source, day)

    def _commit(self) -> None:
        """Make all staged files current, at one instant for all readers."""
        staged = sorted(self._staged)
        if not staged and not self._marker.pending:
            return
        with translate_write_errors(self._storage, Name(MARKER)):
            self._write_marker(self._marker.committed(staged))
        for name in staged:
            with translate_write_errors(self._storage, name):
                self._storage.move(names.staged(name), name)
            self._staged.discard(name)
        with translate_write_errors(self._storage, Name(MARKER)):
            self._write_marker(replace(self._marker, pending=frozenset()))
