"""The archive's Parquet files: list them, read their metadata and the rows of a question, encode new ones."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import compress
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdpanalytics import patterns, schema
from cdpanalytics.archive import names
from cdpanalytics.archive.marker import Marker
from cdpanalytics.archive.names import Name
from cdpanalytics.archive.storage.base import Storage
from cdpanalytics.errors import ArchiveError, StoreError
from cdpanalytics.intervals import subtract
from cdpanalytics.ranges import FULL_RANGE, Range

T = TypeVar("T")
Interval = tuple[pd.Timestamp, pd.Timestamp]

ROW_GROUP = 10_000
"""Rows in a row group: small enough that a few VMs of a day skip most of them."""

POLICIES = schema.POLICIES.append(pa.field("seen_from", schema.INSTANT)).append(
    pa.field("seen_to", schema.INSTANT)
)
TABLES = {
    "sessions": schema.SESSIONS,
    "policy_sessions": schema.POLICY_SESSIONS,
    "intervals": schema.JOURNAL,
}
"""Tables that have one file per source and day."""

_COLUMNS = {**TABLES, names.POLICIES: POLICIES, names.MONTHS: schema.SESSIONS}

WHEN = {"sessions": "created", "policy_sessions": "created", "intervals": "start"}
"""The instant that decides in which day a row lies."""

Named = Mapping[str, str | Sequence[str]]
"""Columns and the patterns that their names must fit."""

_KEY = b"cdpanalytics"
_DAY = pd.Timedelta("1D")
_UNREADABLE = (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError,
               RecursionError)  # fmt: skip


@dataclass(frozen=True)
class FileMetadata:
    """What a file says of itself.

    `as_of` is the instant up to which its rows are known; `final` says that none of them
    can change any more. `missing` are intervals of the day that the server had forgotten
    when they were fetched. `counted` is how many sessions the server had of the day when
    all of it was last fetched. `imported` are names and SHA-256 of the files that rows were
    imported from. `summarized` are the days of a month and the versions of their files that
    the month's rows were chosen from. All of them are empty in tables that have no such thing.
    """

    table: str
    source: str
    day: str | None
    as_of: str | None
    final: bool
    version: int = schema.VERSION
    creator: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    counted: int | None = None
    imported: tuple[tuple[str, str], ...] = ()
    summarized: tuple[tuple[str, str], ...] = ()

    def holes(self) -> tuple[Interval, ...]:
        """Return what is missing, as instants."""
        return tuple((pd.Timestamp(start), pd.Timestamp(end)) for start, end in self.missing)

    @cached_property
    def known(self) -> list[Interval]:
        """The intervals of the day of which its sessions are known."""
        day, as_of = pd.Timestamp(str(self.day), tz="UTC"), pd.Timestamp(str(self.as_of))
        return subtract([(day, min(day + _DAY, as_of))], self.holes())


class ParquetFiles:
    """The Parquet files of an archive, in one state of it.

    Parameters
    ----------
    storage : Storage
    marker : Marker
        What ``archive.json`` said when this state began.
    staged : collection of Name
        Files that have a staged version, which belongs to this state: those of the last
        commit that may not have been renamed yet, or what a sync has written so far.
    """

    def __init__(
        self, storage: Storage, marker: Marker, staged: Collection[Name] | None = None
    ) -> None:
        self.storage, self.marker = storage, marker
        current = filter(names.is_ours, marker.pending) if staged is None else staged
        self.staged = frozenset(current)
        self._slugs = {names.slug(source): True for source in marker.sources}
        self._names: dict[str, list[Name]] = {}

    def all(self) -> list[Name]:
        """Return all files of rows, without those set aside."""
        return [name for table in names.TABLES for name in self._listed(table)]

    def days(
        self, table: str, start: pd.Timestamp | None = None, stop: pd.Timestamp | None = None
    ) -> list[Name]:
        """Return the files of the days that `[start, stop)` touches, by source and day."""
        listed = self._listed(table)
        day = np.array([name.stem for name in listed], dtype="M8[D]")
        touched = np.ones(len(day), dtype=bool)
        if start is not None:
            touched &= day >= start.to_datetime64().astype("M8[D]")
        if stop is not None:
            touched &= day < stop.to_datetime64()
        return list(compress(listed, touched))

    def last_days(self) -> list[Name]:
        """Return the newest day of sessions of each source."""
        return list({name.parent: name for name in self.days("sessions")}.values())

    def months(self) -> list[Name]:
        """Return the files of months, which the days alone could make again."""
        return self._listed(names.MONTHS)

    def exists(self, name: Name) -> bool:
        """Return whether there is a file of this name."""
        return name in self.staged or self.storage.exists(name)

    def metadata_of(self, paths: Sequence[Name]) -> Iterator[tuple[Name, FileMetadata, int]]:
        """Yield files with what they say of themselves, and how many rows they have."""
        for path, (metadata, rows) in zip(
            paths, self.storage.map(self._footer, paths), strict=True
        ):
            yield path, metadata, rows

    def metadata(self, path: Name) -> FileMetadata:
        """Return what a file says of itself."""
        return self._footer(path)[0]

    def body(self, path: Name) -> bytes:
        """Return a file's bytes."""
        return self._current(path, self.storage.read)

    def is_sound(self, path: Name, thorough: bool) -> bool:
        """Return whether a file can be read and is what its place says.

        Of a day that is final only the footer is read, unless it is to be `thorough`.
        """
        try:
            footer = self._current(path, self.storage.footer)
            metadata = _read_metadata(footer)
            expected = columns_of(path)
            if metadata.final and not thorough:
                same_columns = footer.schema.to_arrow_schema().names == expected.names
                return same_columns and _mismatch(path, metadata) is None
            self.load(path, expected)
            return True
        except StoreError:
            raise
        except (ArchiveError, *_UNREADABLE):
            return False

    def load(
        self,
        path: Name,
        expected: pa.Schema,
        columns: Iterable[str] | None = None,
        named: Named | None = None,
        within: Range = FULL_RANGE,
    ) -> pa.Table:
        """Return the rows of a file: some columns, of these names or a range.

        Raises
        ------
        ArchiveError
            When it cannot be read, or is not what its place says.
        """
        wanted = list(columns or expected.names)
        cut_by = [] if within.whole or within.column is None else [within.column]
        read = list(dict.fromkeys([*wanted, *cut_by]))
        kinds = pa.schema([expected.field(name) for name in wanted])

        def rows(file: pq.ParquetFile) -> pa.Table | str:
            mismatch = _mismatch(path, _read_metadata(file.metadata))
            if mismatch is not None:
                return mismatch
            if named:
                table = _named_rows(file, expected, read, named)
            else:
                groups = _groups_of(file.metadata, within)
                table = file.read_row_groups(groups, columns=read, use_threads=False)
            table = inside(table, within).select(wanted).replace_schema_metadata()
            return table if table.schema.equals(kinds) else table.cast(kinds)

        try:
            table = self._current(path, lambda name: self.storage.read_parquet(name, rows))
        except _UNREADABLE:
            raise self._damaged(path) from None
        if isinstance(table, str):
            place = self.storage.location(path)
            raise ArchiveError(f"{place} {table}; see: cdpanalytics verify --archive DIR")
        return table

    def _listed(self, table: str) -> list[Name]:
        """Return a table's files by source and day: only names of ours, of sources we have."""
        if table not in self._names:
            listed = self.storage.walk(Name(table))
            present = {name for name in names.regular(listed) if names.is_ours(name)}
            present.update(name for name in self.staged if name.parts[0] == table)
            ordered = sorted(present, key=lambda name: name.parts)
            self._names[table] = [name for name in ordered if self._is_of_source(name, present)]
        return self._names[table]

    def _is_of_source(self, name: Name, listed: Collection[Name]) -> bool:
        """Whether a name's folder is of one of our sources, not one that the user made.

        The marker of an archive of 0.1 lists no sources, and a folder may have been copied
        from another archive: then one file in it must say that it is of this source.
        """
        folder = names.folder_of(name)
        if folder not in self._slugs:
            of_folder = sorted(n for n in listed if names.folder_of(n) == folder)
            self._slugs[folder] = any(self._claims(n, folder) for n in of_folder)
        return self._slugs[folder]

    def _claims(self, name: Name, folder: str) -> bool:
        try:
            return names.slug(self.metadata(name).source) == folder
        except StoreError:
            raise
        except ArchiveError:
            return False

    def _current(self, path: Name, read: Callable[[Name], T]) -> T:
        """Read the version of a file that belongs to this state."""
        if path in self.staged:
            # It may be renamed at any moment; then its own name is the current one.
            with suppress(FileNotFoundError):
                return read(names.staged(path))
        return read(path)

    def _footer(self, path: Name) -> tuple[FileMetadata, int]:
        try:
            footer = self._current(path, self.storage.footer)
            return _read_metadata(footer), footer.num_rows
        except _UNREADABLE:
            raise self._damaged(path) from None

    def _damaged(self, path: Name) -> ArchiveError:
        return ArchiveError(
            f"{self.storage.location(path)} cannot be read; see: cdpanalytics verify --archive DIR"
        )


def columns_of(path: Name) -> pa.Schema:
    """Return the columns that a file of ours has."""
    return _COLUMNS[path.parts[0]]


def parquet_bytes(table: pa.Table, metadata: FileMetadata) -> bytes:
    """Return a table as the bytes of a Parquet file that says what it is."""
    described = {**asdict(metadata), "creator": f"cdpanalytics {_own_version()}"}
    labelled = table.replace_schema_metadata({_KEY: json.dumps(described).encode()})
    body = io.BytesIO()
    labels = [f.name for f in labelled.schema if pa.types.is_dictionary(f.type)]
    with pq.ParquetWriter(
        body, labelled.schema, compression="zstd", write_page_checksum=True, use_dictionary=labels
    ) as writer:
        for start in range(0, max(1, len(labelled)), ROW_GROUP):
            # Only with its own labels: reading a few VMs should not read the names of all.
            writer.write_table(_relabelled(labelled.slice(start, ROW_GROUP), labels))
    return body.getvalue()


@contextmanager
def translate_write_errors(storage: Storage, name: Name) -> Iterator[None]:
    """Turn an OSError into an ArchiveError that names the place."""
    try:
        yield
    except OSError as error:
        place = storage.location(name)
        raise ArchiveError(f"{place} cannot be written: {error.strerror or error}") from None


def _mismatch(path: Name, metadata: FileMetadata) -> str | None:
    """Return what a file says it is, where that contradicts its place or cannot be read here."""
    if metadata.version != schema.VERSION:
        return f"has schema version {metadata.version}, not {schema.VERSION}"
    place = path.parts
    if place[0] != metadata.table or metadata.table not in names.TABLES:
        return f"says it is of table {metadata.table!r}"
    source = names.slug(metadata.source)
    by_day = metadata.table != names.POLICIES
    if place[1:] != ((source, path.name) if by_day else (f"{source}.parquet",)):
        return f"says it is of {metadata.source}"
    day = path.stem if by_day else None
    return None if metadata.day == day else f"says it holds {metadata.day}"


def ordered(rows: pa.Table) -> pa.Table:
    """Return rows by VM, time and uid; Arrow sorts text, not labels."""
    keys = [name for name in ("vm", "created", "start", "uid") if name in rows.column_names]
    columns = [rows[n].cast(pa.string()) if n in ("vm", "uid") else rows[n] for n in keys]
    order = pa.table(columns, names=keys)
    return rows.take(pc.sort_indices(order, [(name, "ascending") for name in keys]))


def inside(rows: pa.Table, within: Range) -> pa.Table:
    """Return the rows of a range."""
    if within.whole or within.column is None:
        return rows
    labels = rows[within.column].cast(pa.string())
    for edge, compare in ((within.first, pc.greater_equal), (within.stop, pc.less)):
        if edge is not None:
            # Rows without a name belong to the last range.
            keep = pc.fill_null(compare(labels, edge), within.stop is None)
            rows, labels = rows.filter(keep), labels.filter(keep)
    return rows


def _groups_of(metadata: pq.FileMetaData, within: Range) -> list[int]:
    """Return the row groups of a file that may hold rows of a range, by their statistics."""
    numbers = range(metadata.num_row_groups)
    if within.whole or within.column is None:
        return list(numbers)
    place = metadata.schema.names.index(within.column)
    statistics = [metadata.row_group(number).column(place).statistics for number in numbers]
    return [
        number
        for number, group in zip(numbers, statistics, strict=True)
        if group is None
        or not group.has_min_max
        or within.overlaps(group.min, group.max)
        or (within.stop is None and group.null_count)
    ]


def _named_rows(
    file: pq.ParquetFile,
    expected: pa.Schema,
    columns: Sequence[str],
    named: Named,
) -> pa.Table:
    """Read the rows whose names match: first the labels of all rows, then the row groups with a match.

    The labels are read for all rows, so that a label's values keep the order of the whole file.
    """
    labels = [f.name for f in expected if pa.types.is_dictionary(f.type)]
    labels = [name for name in labels if name in columns or name in named]
    if file.num_row_groups <= 1:
        whole = file.read(columns=list(dict.fromkeys([*columns, *named])))
        return whole.filter(pa.array(_matches(whole, named)))
    labelled = file.read(columns=labels)
    keep = _matches(labelled, named)
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    begin = np.cumsum([0, *sizes])
    groups = [n for n in range(file.num_row_groups) if keep[begin[n] : begin[n + 1]].any()]
    keep_in_groups = np.concatenate([keep[:0], *(keep[begin[n] : begin[n + 1]] for n in groups)])
    others = [name for name in columns if name not in labels]
    rest = file.read_row_groups(groups, columns=others).filter(pa.array(keep_in_groups))
    labelled = labelled.filter(pa.array(keep))
    return pa.table({n: (labelled if n in labels else rest)[n] for n in columns})


def _matches(labels: pa.Table, named: Named) -> np.ndarray:
    """Return which rows have, in each named column, a name that matches one of its patterns."""
    keep = np.ones(len(labels), dtype=bool)
    for column, given in named.items():
        codes = labels[column].unify_dictionaries().combine_chunks()
        values = codes.dictionary.to_pylist()
        matching = set(patterns.fitting(values, given))
        fits = np.array([*(name in matching for name in values), False])
        keep &= fits[pc.fill_null(codes.indices, -1).to_numpy()]
    return keep


def _relabelled(rows: pa.Table, labels: Iterable[str]) -> pa.Table:
    """Return rows with only the labels that they use."""
    for name in labels:
        kind = rows.schema.field(name)
        used = rows[name].cast(pa.string()).dictionary_encode().cast(kind.type)
        rows = rows.set_column(rows.schema.get_field_index(name), kind, used)
    return rows


def _read_metadata(footer: pq.FileMetaData) -> FileMetadata:
    """Read what a file says of itself; fields that a later version adds are ignored."""
    return _parse_metadata((footer.metadata or {})[_KEY])


@lru_cache(maxsize=4096)
def _parse_metadata(text: bytes) -> FileMetadata:
    content = json.loads(text)
    known = {field.name for field in fields(FileMetadata)}
    return FileMetadata(**{name: value for name, value in content.items() if name in known})


def _own_version() -> str:
    try:
        return version("cdpanalytics")
    except PackageNotFoundError:
        return "unknown"
