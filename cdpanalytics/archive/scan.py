"""Reads the rows of a question: some columns of a window, with its neighbours, whole or by ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema
from cdpanalytics.archive.extremes import NeighbourRules
from cdpanalytics.archive.files import TABLES, WHEN, Named, ParquetFiles, inside
from cdpanalytics.archive.marker import read_marker
from cdpanalytics.archive.names import Name
from cdpanalytics.archive.neighbours import Neighbourhood
from cdpanalytics.archive.tables import (
    append_and_compact,
    clip_to_window,
    count_rows,
    matching,
    newest,
    scalar,
    sum_counts,
    without_unused,
)
from cdpanalytics.errors import ArchiveError, InputError
from cdpanalytics.frames import mark
from cdpanalytics.patterns import Patterns
from cdpanalytics.ranges import FULL_RANGE, Range


@dataclass(frozen=True)
class Rows:
    """Which rows and columns of a table are wanted.

    `patterns`: names per column, as given. `rules`: which sessions outside the window are
    its neighbours; None for none of them.
    """

    table: str
    columns: tuple[str, ...]
    start: pd.Timestamp | None = None
    stop: pd.Timestamp | None = None
    patterns: dict[str, Patterns] = field(default_factory=dict)
    rules: NeighbourRules | None = None

    @property
    def when(self) -> str:
        """The column that decides in which day a row lies."""
        return WHEN[self.table]

    @property
    def named(self) -> Named:
        """The columns that have patterns, and these."""
        return {column: given for column, given in self.patterns.items() if given is not None}

    def wants_neighbours(self) -> bool:
        """Return whether there are neighbours to be read: only a window has them."""
        return self.rules is not None and (self.start is not None or self.stop is not None)


def read_rows(files: ParquetFiles, wanted: Rows, within: Range = FULL_RANGE) -> pd.DataFrame:
    """Return the rows wanted, each uid once, with the column `neighbour` where rules are given.

    Raises
    ------
    InputError
        When a pattern matches no name.
    """
    several = "uid" in TABLES[wanted.table].names and len(files.last_days()) > 1
    try:
        # With several sources the newest row of a uid may have another name: all are read.
        frame = _read(files, wanted, within, several, {} if several else wanted.named)
        frame = matching(frame, wanted.patterns)
    except InputError:
        # Read without names, so that the error can say which there are.
        frame = matching(_read(files, wanted, within, several, {}), wanted.patterns)
    columns = [*wanted.columns, *(["neighbour"] if wanted.rules is not None else [])]
    return without_unused(frame[columns]).reset_index(drop=True)


def _read(
    files: ParquetFiles, wanted: Rows, within: Range, several: bool, named: Named
) -> pd.DataFrame:
    extra = [wanted.when, *wanted.named, *(["uid", "as_of"] if several else [])]
    extra += schema.VM if wanted.wants_neighbours() else []
    columns = tuple(dict.fromkeys([*wanted.columns, *extra]))
    rows = _window(files, replace(wanted, columns=columns), within, named)
    if wanted.rules is not None and wanted.wants_neighbours():
        hood = Neighbourhood(files, wanted.rules, columns, named, within)
        if wanted.start is not None:
            rows = pa.concat_tables([hood.before(wanted.start), rows])
        if wanted.stop is not None:
            machines = schema.to_frame(rows.select(schema.VM))
            rows = pa.concat_tables([rows, hood.after(wanted.stop, machines)])
    rows = newest(rows) if several else rows
    if wanted.rules is not None:
        rows = rows.append_column("neighbour", _outside(rows[wanted.when], wanted))
    return schema.to_frame(rows)


def _outside(times: pa.ChunkedArray, wanted: Rows) -> pa.ChunkedArray:
    outside = pa.chunked_array([pa.repeat(pa.scalar(False), len(times))])
    for edge, compare in ((wanted.start, pc.less), (wanted.stop, pc.greater_equal)):
        if edge is not None:
            outside = pc.or_(outside, compare(times, scalar(edge)))
    return outside


def _window(files: ParquetFiles, wanted: Rows, within: Range, named: Named) -> pa.Table:
    paths = files.days(wanted.table, wanted.start, wanted.stop)
    expected = TABLES[wanted.table]

    def load(path: Name) -> pa.Table:
        rows = files.load(path, expected, wanted.columns, named, within)
        return clip_to_window(rows, path, wanted.when, wanted.start, wanted.stop)

    nothing = pa.schema([expected.field(name) for name in wanted.columns]).empty_table()
    return pa.concat_tables([nothing, *files.storage.map(load, paths)])


@dataclass(frozen=True)
class Scan:
    """Rows of a table that are read a range of names at a time, by whichever process computes.

    `as_of` is that of the archive. `names` are those that patterns matched in the whole;
    `neighbours` are rows outside the window; `servers` are all backup servers, so that each
    range has the same categories. With `several` sources, days that more than one of them
    has are read whole: only there can a uid occur twice. A range that is read after a sync
    has changed the archive is refused: ranges of two states do not add up.
    """

    files: ParquetFiles
    rows: Rows
    as_of: pd.Timestamp | None
    several: bool
    neighbours: pa.Table | None = None
    names: dict[str, frozenset[str]] = field(default_factory=dict)
    servers: tuple[str, ...] = ()

    def cut(self, within: Range) -> Scan:
        """Return the same for a worker that reads this range only."""
        if self.neighbours is None:
            return self
        return replace(self, neighbours=inside(self.neighbours.select(self.rows.columns), within))

    def read(self, within: Range) -> pd.DataFrame:
        """Return the rows of a range, in the order of `archive.Archive.sessions`."""
        tables = list(self.days(within))
        if read_marker(self.files.storage).commit != self.files.marker.commit:
            raise ArchiveError(
                f"{self.files.storage.home} was changed by a sync while it was read; run this again"
            )
        if self.neighbours is not None:
            tables.insert(0, inside(self.neighbours.select(self.rows.columns), within))
        expected = pa.schema([TABLES[self.rows.table].field(name) for name in self.rows.columns])
        frame = schema.to_frame(pa.concat_tables([expected.empty_table(), *tables]))
        del tables
        for column, names in self.names.items():
            frame = frame[frame[column].isin(names)]
        labels = frame["backup_server"].astype(pd.CategoricalDtype(list(self.servers)))
        frame = frame.assign(backup_server=labels).reset_index(drop=True)
        if "created" not in frame or self.rows.table != "sessions":
            return frame
        start, stop = self.rows.start, self.rows.stop
        whole = self.rows.rules is not None or (start is None and stop is None)
        return mark(frame, start, stop, self.as_of, () if whole else None, counted=False)

    def days(self, within: Range) -> Iterator[pa.Table]:
        """Yield the rows of a range from each file, by source and day."""
        paths = self.files.days(self.rows.table, self.rows.start, self.rows.stop)
        of_day: dict[str, list[Name]] = {}
        for path in paths:
            of_day.setdefault(path.stem, []).append(path)
        has_uid = self.several and "uid" in self.rows.columns

        def rows(path: Name) -> pa.Table:
            siblings = of_day[path.stem]
            if has_uid and len(siblings) > 1:
                return self._clip(inside(self._current(path, siblings), within), path)
            return self._clip(self._load(path, within), path)

        return self.files.storage.map(rows, paths)

    def _load(self, path: Name, within: Range = FULL_RANGE) -> pa.Table:
        expected = TABLES[self.rows.table]
        return self.files.load(path, expected, self.rows.columns, within=within)

    def _current(self, path: Name, siblings: list[Name]) -> pa.Table:
        """Return the rows of one file of a day, without those of which another source has a newer version."""
        loaded = [self._load(sibling) for sibling in siblings]
        kept = newest(
            pa.concat_tables(
                rows.append_column("file", pa.array(np.full(len(rows), number)))
                for number, rows in enumerate(loaded)
            )
        )
        return kept.filter(pc.equal(kept["file"], siblings.index(path))).drop_columns("file")

    def _clip(self, rows: pa.Table, path: Name) -> pa.Table:
        return clip_to_window(rows, path, self.rows.when, self.rows.start, self.rows.stop)


def plan_scan(
    files: ParquetFiles, wanted: Rows, as_of: pd.Timestamp | None
) -> tuple[Scan, pd.DataFrame]:
    """Return a scan, and how many rows each backup server, policy and VM has.

    Raises
    ------
    InputError
        When a pattern matches no name.
    """
    expected, several = TABLES[wanted.table], len(files.last_days()) > 1
    if several and "uid" in expected.names:
        extra = [name for name in ("uid", "as_of") if name not in wanted.columns]
        wanted = replace(wanted, columns=(*wanted.columns, *extra))
    before, rules = None, wanted.rules
    outside = tuple(dict.fromkeys([*wanted.columns, *schema.KEYS, wanted.when]))
    if rules is not None and wanted.start is not None:
        before = Neighbourhood(files, rules, outside).before(wanted.start)
        before = newest(before) if several else before
    narrow = [*(["uid", "as_of"] if several else []), *schema.KEYS, wanted.when]
    narrow = [name for name in narrow if name in expected.names]
    counting = Scan(files, replace(wanted, columns=tuple(narrow)), as_of, several)
    tables = chain(counting.days(FULL_RANGE), [] if before is None else [before.select(narrow)])
    nothing = pa.schema([expected.field(name) for name in narrow]).empty_table()
    kept = [count_rows(nothing, wanted.when)]
    for table in tables:
        append_and_compact(kept, count_rows(table, wanted.when), sum_counts)
    rows = matching(sum_counts(kept).to_pandas(), wanted.patterns)
    names = {name: frozenset(rows[name].dropna()) for name in wanted.named}
    servers = tuple(sorted(rows["backup_server"].dropna().unique()))
    if rules is not None and wanted.stop is not None:
        after = Neighbourhood(files, rules, outside).after(wanted.stop, rows[schema.VM])
        after = newest(after) if several else after
        before = after if before is None else pa.concat_tables([before, after])
    return Scan(files, wanted, as_of, several, before, names, servers), rows
