"""What is common to all reads and writes of an archive: one state per read, one commit per sync."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pandas as pd
import pyarrow as pa

from cdpanalytics import schema
from cdpanalytics.archive import coverage, marker, months, names
from cdpanalytics.archive.files import (
    POLICIES,
    TABLES,
    FileMetadata,
    Interval,
    ParquetFiles,
    ordered,
)
from cdpanalytics.archive.storage import base
from cdpanalytics.archive.writing import Writer
from cdpanalytics.errors import ArchiveError, StoreError

A = TypeVar("A", bound="StoredArchive")
T = TypeVar("T")

_TRIES = 5
"""How often a read starts again because a sync has changed the archive meanwhile."""


class StoredArchive:
    """An archive as a sync uses it: days and settings, read and replaced one at a time."""

    _holds = False
    _held: ParquetFiles | None = None

    def __init__(
        self, path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self._storage: base.Storage = base.open_storage(path, storage_options)
        self._writer = Writer(self._storage)
        if self._storage.home_exists():
            marker.check_archive(self._storage)

    @property
    def path(self) -> Path | str:
        """Where the archive lies: the directory, or the URL."""
        return self._storage.home

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[type[Self], base.Storage]]:
        """Pass another process where the archive lies; a lock stays with the process that holds it."""
        return _reopened, (type(self), self._storage)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def listed_once(self) -> Self:
        """Return the same archive for the reads of one question: files are listed once per commit.

        Days that the user copies in or deletes meanwhile are seen by the next question.
        """
        same = _reopened(type(self), self._storage)
        same._writer, same._holds = self._writer, True
        return same

    def as_of_by_source(self) -> dict[str, pd.Timestamp]:
        """Return up to when each source was fetched."""
        return self._consistent(coverage.as_of_by_source)

    def first_day(self, source: str) -> pd.Timestamp | None:
        """Return the first day of a source that is or was held; None where there is none.

        It may be missing by now: deleted by hand, or set aside because it was damaged.
        """
        return self._consistent(lambda files: coverage.first_day(files, source))

    def since(self, source: str) -> pd.Timestamp | None:
        """Return the first day that any sync of a source was to have; None where none is recorded.

        It is earlier than `first_day` where the server did not have those days then.
        """
        day = self._consistent(lambda files: files.marker.since.get(source))
        return None if day is None else pd.Timestamp(day, tz="UTC")

    def note_since(self, source: str, day: pd.Timestamp) -> None:
        """Record the first day that a sync is to have; an earlier one that is recorded stays."""
        self._writer.note_since(source, f"{day:%Y-%m-%d}")

    # -- one day, one source: what a sync reads and writes ------------------------

    def day(self, table: str, source: str, day: pd.Timestamp) -> pa.Table:
        """Return the rows kept of one day, or none."""
        name = names.day_file(table, source, day)

        def read(files: ParquetFiles) -> pa.Table:
            exists = files.exists(name)
            return files.load(name, TABLES[table]) if exists else TABLES[table].empty_table()

        return (
            self._consistent(read) if self._storage.home_exists() else TABLES[table].empty_table()
        )

    def put_day(
        self,
        table: str,
        source: str,
        day: pd.Timestamp,
        rows: pa.Table,
        as_of: pd.Timestamp,
        final: bool = False,
        missing: Iterable[Interval] = (),
        counted: int | None = None,
        imported: Mapping[str, str] | None = None,
    ) -> None:
        """Replace one day atomically; within `writing` it is current for readers at the end of that."""
        lost = tuple((start.isoformat(), end.isoformat()) for start, end in missing)
        metadata = FileMetadata(
            table,
            source,
            f"{day:%Y-%m-%d}",
            as_of.isoformat(),
            final,
            missing=lost,
            counted=counted,
            imported=tuple((imported or {}).items()),
        )
        self._writer.put(names.day_file(table, source, day), ordered(rows), metadata)

    def known_policies(self, source: str) -> pa.Table:
        """Return one source's settings with `seen_from` and `seen_to`."""
        if not self._storage.home_exists():
            return POLICIES.empty_table()
        return self._consistent(lambda files: self._known_policies(files, source))

    def put_policies(self, source: str, policies: pa.Table, seen: pd.Timestamp) -> pa.Table:
        """Keep settings as seen at one instant: extend what is unchanged, add what is new.

        Returns all that are now known of the source, as `known_policies` reads them.
        """
        known = self.known_policies(source).to_pylist()
        newest = {row["policy_uid"]: row for row in known}
        for row in policies.select(schema.POLICIES.names).to_pylist():
            last = newest.get(row["policy_uid"])
            if last is not None and all(last[name] == row[name] for name in schema.POLICIES.names):
                last["seen_to"] = max(last["seen_to"], seen.to_pydatetime())
            else:
                known.append({**row, "seen_from": seen, "seen_to": seen})
        metadata = FileMetadata("policies", source, None, seen.isoformat(), False)
        rows = pa.Table.from_pylist(known, schema=POLICIES)
        self._writer.put(names.policies_file(source), rows, metadata)
        return rows

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the archive for writing, once another process that does has finished.

        What a process that was killed left is finished first. What is written becomes
        current for readers at once, at the end; they see nothing of it before. Of months that
        are settled by now, what later windows need is written first.

        Raises
        ------
        ArchiveError
            When another process holds it for ten minutes, or it cannot be written.
        """
        with self._writer.writing():
            self._summarize_months()
            yield

    def set_aside(self, *, thorough: bool = False) -> list[str]:
        """Move files that cannot be read or are not what their place says to ``damaged/``.

        The next sync fetches their days again where the server still has them; what it has
        not is a hole.

        Parameters
        ----------
        thorough : bool
            Read every page of every file. Otherwise of days that are final only the
            footer, with what the file says of itself.

        Returns
        -------
        list of str
            Where they were, inside the archive.
        """

        def unsound(files: ParquetFiles) -> list[names.Name]:
            paths = files.all()
            sound = files.storage.map(lambda path: files.is_sound(path, thorough), paths)
            return [path for path, is_sound in zip(paths, sound, strict=True) if not is_sound]

        paths = self._consistent(unsound)
        self._writer.set_aside(paths)
        return [str(path) for path in paths]

    def damaged_days(self, source: str) -> list[pd.Timestamp]:
        """Return the days of a source of which a file was ever set aside."""
        return self._consistent(lambda files: coverage.damaged_days(files, source))

    # -- internal ----------------------------------------------------------------

    def _summarize_months(self) -> None:
        """Write the file of each settled month that has none, or one of other days."""

        def summarize(files: ParquetFiles) -> None:
            for name, days in months.due(files):
                self._writer.put(name, *months.summary(files, name, days))

        try:
            self._consistent(summarize)
        except StoreError:
            raise
        except ArchiveError:
            return  # a day that cannot be read is set aside by whoever writes

    def _consistent(self, read: Callable[[ParquetFiles], T]) -> T:
        """Return what a function reads of one state of the archive.

        A sync changes the commit before it renames the first file. So where the commit is
        the same before and after, all files were read as of that commit; where it is not,
        what was read may mix two states and is read again.
        """
        if not self._storage.home_exists():
            raise ArchiveError(
                f"no archive at {self.path}; make one: cdpanalytics sync URL --archive {self.path}"
            )
        written = self._writer.files()
        if written is not None:
            return read(written)
        before = marker.read_marker(self._storage)
        for _ in range(_TRIES):
            held, self._held, error = self._held, None, None
            if held is not None and held.marker.commit != before.commit:
                held = None
            files = ParquetFiles(self._storage, before) if held is None else held
            try:
                result = read(files)
            except ArchiveError as raised:
                error = raised
            after = marker.read_marker(self._storage)
            if after.commit == before.commit:
                if error is None:
                    self._held = files if self._holds else None
                    return result
                if held is None:  # else the files may have been listed before the user changed them
                    raise error
            before = after
        raise ArchiveError(
            f"{self.path} was changed {_TRIES} times while it was read; try again when no sync runs"
        )

    def _known_policies(self, files: ParquetFiles, source: str) -> pa.Table:
        name = names.policies_file(source)
        return files.load(name, POLICIES) if files.exists(name) else POLICIES.empty_table()


def _reopened(kind: type[A], storage: base.Storage) -> A:
    archive = kind.__new__(kind)
    archive._storage, archive._writer = storage, Writer(storage)
    return archive
