"""The archive's Parquet files: which there are, what each says of itself, no more of its rows than is asked for."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdpanalytics import patterns, schema
from cdpanalytics.archive.storage.base import Store
from cdpanalytics.errors import ArchiveError, StoreError
from cdpanalytics.intervals import subtract
from cdpanalytics.ranges import FULL_RANGE, Range

Stretch = tuple[pd.Timestamp, pd.Timestamp]
Name = PurePosixPath
"""A file's name inside the archive."""

DAMAGED = "damaged"
"""Where files lie that were set aside."""

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
"""What has a file a day."""

WHEN = {"sessions": "created", "policy_sessions": "created", "intervals": "start"}
"""The instant that decides in which day a row lies."""

Named = Mapping[str, str | Sequence[str]]
"""Columns and the patterns that their names must fit."""

_KEY = b"cdpanalytics"
_DAY = pd.Timedelta("1D")
_UNREADABLE = (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True)
class Stamp:
    """What a file says of itself.

    `as_of` is the instant its rows speak for; `final` says that none of them can
    change any more. `missing` are stretches of the day that the server had forgotten
    when they were asked for. `counted` is how many sessions the server had of the day when
    all of it was last fetched. All of them are empty in tables that have no days.
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

    def lost(self) -> tuple[Stretch, ...]:
        """Return what is missing, as instants."""
        return tuple((pd.Timestamp(start), pd.Timestamp(end)) for start, end in self.missing)

    def known(self) -> list[Stretch]:
        """Return the stretches of the day that it speaks for."""
        day, as_of = pd.Timestamp(str(self.day), tz="UTC"), pd.Timestamp(str(self.as_of))
        return subtract([(day, min(day + _DAY, as_of))], self.lost())


class ParquetFiles:
    """The files of an archive, wherever it lies."""

    def __init__(self, place: Store) -> None:
        self.place = place

    def every(self) -> list[Name]:
        """Return all there are, but those set aside."""
        found = self.place.glob(Name(), "*/**/*.parquet")
        return [path for path in found if path.parts[0] != DAMAGED]

    def day(self, table: str, source: str, day: pd.Timestamp) -> Name:
        """Return the file of a table's day."""
        return Name(table, slug(source), f"{day:%Y-%m-%d}.parquet")

    def policies(self, source: str) -> Name:
        """Return the file of a source's settings."""
        return Name("policies") / f"{slug(source)}.parquet"

    def days(
        self, table: str, start: pd.Timestamp | None = None, stop: pd.Timestamp | None = None
    ) -> list[Name]:
        """Return the files of the days that `[start, stop)` touches, by source and day."""
        first = "" if start is None else f"{start:%Y-%m-%d}"
        return [
            path
            for path in self.place.glob(Name(table), "*/*.parquet")
            if path.stem >= first and (stop is None or pd.Timestamp(path.stem, tz="UTC") < stop)
        ]

    def last_days(self) -> list[Name]:
        """Return the newest day of sessions of each source."""
        return list({path.parent: path for path in self.days("sessions")}.values())

    def stamped(self, paths: Sequence[Name]) -> Iterator[tuple[Name, Stamp, int]]:
        """Yield files with what they say of themselves, and how many rows they have."""
        for path, (stamp, rows) in zip(paths, self.place.each(self._footer, paths), strict=True):
            yield path, stamp, rows

    def stamp(self, path: Name) -> Stamp:
        """Return what a file says of itself."""
        return self._footer(path)[0]

    def sound(self, path: Name, thorough: bool) -> bool:
        """Return whether a file can be read and is what its place says.

        Of a day that is final only the footer is read, unless it is to be `thorough`.
        """
        try:
            metadata = self.place.parsed(path, _metadata)
            stamp = _read_stamp(metadata)
            expected = TABLES.get(stamp.table, POLICIES)
            if stamp.final and not thorough:
                shape = metadata.schema.to_arrow_schema().names == expected.names
                return shape and _odd(path, stamp) is None
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

        def rows(file: pq.ParquetFile) -> pa.Table | str:
            odd = _odd(path, _read_stamp(file.metadata))
            if odd is not None:
                return odd
            if named:
                table = _named_rows(file, expected, wanted, named)
            else:
                groups = _groups_of(file.metadata, within)
                table = inside(file.read_row_groups(groups, columns=wanted), within)
            return table.select(wanted).cast(pa.schema([expected.field(name) for name in wanted]))

        try:
            found = self.place.parsed(path, rows)
        except _UNREADABLE:
            raise self._damaged(path) from None
        if isinstance(found, str):
            place = self.place.at(path)
            raise ArchiveError(f"{place} {found}; see: cdpanalytics verify --archive DIR")
        return found

    def write(self, path: Name, table: pa.Table, stamp: Stamp) -> None:
        """Replace a file: whole, or as it was."""
        said = json.dumps({**asdict(stamp), "creator": f"cdpanalytics {_own_version()}"})
        labelled = table.replace_schema_metadata({_KEY: said.encode()})
        body = io.BytesIO()
        labels = [f.name for f in labelled.schema if pa.types.is_dictionary(f.type)]
        with pq.ParquetWriter(
            body,
            labelled.schema,
            compression="zstd",
            write_page_checksum=True,
            use_dictionary=labels,
        ) as writer:
            for start in range(0, max(1, len(labelled)), ROW_GROUP):
                # Of its own labels only: who reads a few VMs should not read the names of all.
                writer.write_table(_relabelled(labelled.slice(start, ROW_GROUP), labels))
        with self.writable(path):
            self.place.write(path, body.getvalue())

    @contextmanager
    def writable(self, path: Name) -> Iterator[None]:
        """Say of a place that cannot be written which it is."""
        try:
            yield
        except OSError as error:
            place = self.place.at(path)
            raise ArchiveError(f"{place} cannot be written: {error.strerror or error}") from None

    def _footer(self, path: Name) -> tuple[Stamp, int]:
        try:
            metadata = self.place.parsed(path, _metadata)
            return _read_stamp(metadata), metadata.num_rows
        except _UNREADABLE:
            raise self._damaged(path) from None

    def _damaged(self, path: Name) -> ArchiveError:
        return ArchiveError(
            f"{self.place.at(path)} cannot be read; see: cdpanalytics verify --archive DIR"
        )


def _odd(path: Name, stamp: Stamp) -> str | None:
    """Say what a file claims to be, where that is not what its place says or we can read."""
    if stamp.version != schema.VERSION:
        return f"has schema version {stamp.version}, not {schema.VERSION}"
    place = path.parts
    if place[0] != stamp.table or stamp.table not in (*TABLES, "policies"):
        return f"says it is of table {stamp.table!r}"
    source = slug(stamp.source)
    by_day = stamp.table != "policies"
    if place[1:] != ((source, path.name) if by_day else (f"{source}.parquet",)):
        return f"says it is of {stamp.source}"
    day = path.stem if by_day else None
    return None if stamp.day == day else f"says it holds {stamp.day}"


def ordered(rows: pa.Table) -> pa.Table:
    """Return rows by VM, time and uid; Arrow sorts text, not labels."""
    wanted = ("vm", "created", "start", "uid")
    patterns = [name for name in wanted if name in rows.column_names]
    keys = [rows[n].cast(pa.string()) if n in ("vm", "uid") else rows[n] for n in patterns]
    order = pa.table(keys, names=patterns)
    return rows.take(pc.sort_indices(order, [(name, "ascending") for name in patterns]))


def inside(rows: pa.Table, within: Range) -> pa.Table:
    """Rows of a range."""
    if within.whole or within.column is None:
        return rows
    patterns = rows[within.column].cast(pa.string())
    edges = ((within.first, pc.greater_equal), (within.stop, pc.less))
    for edge, keep in edges:
        if edge is not None:
            # One without a name is in the last range.
            held = pc.fill_null(keep(patterns, edge), within.stop is None)
            rows, patterns = rows.filter(held), patterns.filter(held)
    return rows


def _groups_of(metadata: pq.FileMetaData, within: Range) -> list[int]:
    """Row groups of a file that may hold rows of a range, by their own statistics."""
    numbers = range(metadata.num_row_groups)
    if within.whole or within.column is None:
        return list(numbers)
    place = metadata.schema.names.index(within.column)
    told = [metadata.row_group(number).column(place).statistics for number in numbers]
    return [
        number
        for number, said in zip(numbers, told, strict=True)
        if said is None
        or not said.has_min_max
        or within.overlaps(said.min, said.max)
        or (within.stop is None and said.null_count)
    ]


def _named_rows(
    file: pq.ParquetFile,
    expected: pa.Schema,
    columns: Sequence[str],
    named: Named,
) -> pa.Table:
    """Read the rows whose names fit: labels of all rows first, the rest of row groups that have one.

    The labels of all rows, so that the order of a label's values is that of the whole file.
    """
    labels = [f.name for f in expected if pa.types.is_dictionary(f.type)]
    labels = [name for name in labels if name in columns or name in named]
    if file.num_row_groups <= 1:
        whole = file.read(columns=list(dict.fromkeys([*columns, *named])))
        return whole.filter(pa.array(_fitting(whole, named)))
    known = file.read(columns=labels)
    keep = _fitting(known, named)
    begin = np.cumsum(
        [0] + [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    )
    groups = [n for n in range(file.num_row_groups) if keep[begin[n] : begin[n + 1]].any()]
    among = np.concatenate([keep[:0], *(keep[begin[n] : begin[n + 1]] for n in groups)])
    others = [name for name in columns if name not in labels]
    rest = file.read_row_groups(groups, columns=others).filter(pa.array(among))
    known = known.filter(pa.array(keep))
    return pa.table({n: (known if n in labels else rest)[n] for n in columns})


def _fitting(labels: pa.Table, named: Named) -> np.ndarray:
    """Which rows have, in each column that is named, a name that fits one of its patterns."""
    keep = np.ones(len(labels), dtype=bool)
    for column, given in named.items():
        codes = labels[column].unify_dictionaries().combine_chunks()
        known = codes.dictionary.to_pylist()
        fit = set(patterns.fitting(known, given))
        fits = np.array([*(name in fit for name in known), False])
        keep &= fits[pc.fill_null(codes.indices, -1).to_numpy()]
    return keep


def _metadata(file: pq.ParquetFile) -> pq.FileMetaData:
    return file.metadata


def _relabelled(rows: pa.Table, labels: Iterable[str]) -> pa.Table:
    """Return rows with no labels but those they use."""
    for name in labels:
        kind = rows.schema.field(name)
        used = rows[name].cast(pa.string()).dictionary_encode().cast(kind.type)
        rows = rows.set_column(rows.schema.get_field_index(name), kind, used)
    return rows


def _read_stamp(metadata: pq.FileMetaData) -> Stamp:
    """Read what a file says of itself; words that a later version adds are passed over."""
    said = json.loads((metadata.metadata or {})[_KEY])
    known = {field.name for field in fields(Stamp)}
    return Stamp(**{name: value for name, value in said.items() if name in known})


def slug(source: str) -> str:
    """Return a source's folder, another one for each: host and port, with nothing a path could mind."""
    scheme, _, place = source.lower().rpartition("://")
    plain = re.sub(r"[^a-z0-9.:\[\]-]", lambda odd: f"%{ord(odd[0]):x}", place).replace(":", "_")
    return (f"{scheme}_" if scheme == "http" else "") + plain


def _own_version() -> str:
    try:
        return version("cdpanalytics")
    except PackageNotFoundError:
        return "unknown"
