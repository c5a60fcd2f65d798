"""The rows of an archive that were asked for, and how many there are of whom: what is cut into ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cdpanalytics import schema
from cdpanalytics.archive.files import TABLES, WHEN, Name, ParquetFiles, inside
from cdpanalytics.frames import mark
from cdpanalytics.ranges import FULL_RANGE, Range

T = TypeVar("T", pa.Table, pd.DataFrame)

WHO = ["backup_server", "policy", "vm"]

_FORGET = 300_000


@dataclass(frozen=True)
class Chosen:
    """Rows of a table that were asked for, read a range at a time by whoever computes.

    `as_of` is what the archive speaks for. `names` are those that patterns matched in the
    whole; `history` are rows from before the window, and, if it is `followed`, from after it;
    `servers` are all backup servers there are, so that each range knows of them. With
    `several` sources, days that more than one of them has are read whole: only there can one
    uid stand twice.
    """

    files: ParquetFiles
    table: str
    start: pd.Timestamp | None
    stop: pd.Timestamp | None
    as_of: pd.Timestamp | None
    followed: bool
    columns: tuple[str, ...]
    several: bool
    history: pa.Table | None
    names: dict[str, frozenset[str]]
    servers: tuple[str, ...]

    def cut(self, within: Range) -> Chosen:
        """Return the same for a worker that reads this range only."""
        if self.history is None:
            return self
        return replace(self, history=inside(self.history.select(self.columns), within))

    def read(self, within: Range) -> pd.DataFrame:
        """Return the rows of a range, in the order of `archive.Archive.sessions`."""
        tables = list(self.days(within))
        if self.history is not None:
            tables.insert(0, inside(self.history.select(self.columns), within))
        expected = pa.schema([TABLES[self.table].field(name) for name in self.columns])
        frame = schema.to_frame(pa.concat_tables([expected.empty_table(), *tables]))
        del tables
        for column, names in self.names.items():
            frame = frame[frame[column].isin(names)]
        labels = frame["backup_server"].astype(pd.CategoricalDtype(list(self.servers)))
        frame = frame.assign(backup_server=labels).reset_index(drop=True)
        if "created" not in frame or self.table != "sessions":
            return frame
        whole = self.followed or (self.start is None and self.stop is None)
        return mark(frame, self.start, self.stop, self.as_of, () if whole else None, unique=True)

    def days(self, within: Range) -> Iterator[pa.Table]:
        """Yield the rows of a range from each file, by source and day."""
        paths = self.files.days(self.table, self.start, self.stop)
        alike: dict[str, list[Name]] = {}
        for path in paths:
            alike.setdefault(path.stem, []).append(path)
        told_twice = self.several and "uid" in self.columns

        def rows(path: Name) -> pa.Table:
            others = alike[path.stem]
            if told_twice and len(others) > 1:
                return self._cut(inside(self._current(path, others), within), path)
            return self._cut(self._load(path, within), path)

        return self.files.place.each(rows, paths)

    def _load(self, path: Name, within: Range = FULL_RANGE) -> pa.Table:
        return self.files.load(path, TABLES[self.table], self.columns, within=within)

    def _current(self, path: Name, others: list[Name]) -> pa.Table:
        """Rows of one file of a day, without those that another source has a newer word on."""
        loaded = [self._load(other) for other in others]
        kept = newest(
            pa.concat_tables(
                rows.append_column("file", pa.array(np.full(len(rows), number)))
                for number, rows in enumerate(loaded)
            )
        )
        return kept.filter(pc.equal(kept["file"], others.index(path))).drop_columns("file")

    def _cut(self, rows: pa.Table, path: Name) -> pa.Table:
        return between(rows, path, WHEN[self.table], self.start, self.stop)


def between(
    rows: pa.Table, path: Name, when: str, start: pd.Timestamp | None, stop: pd.Timestamp | None
) -> pa.Table:
    """Rows of a day's file that lie in ``[start, stop)``."""
    for edge, keep in ((start, pc.greater_equal), (stop, pc.less)):
        if edge is not None and path.stem == f"{edge:%Y-%m-%d}":
            rows = rows.filter(keep(rows[when], scalar(edge)))
    return rows


def newest(table: pa.Table) -> pa.Table:
    """Of rows with one uid keep the newest `as_of`, or the last where that is the same."""
    told = schema.to_frame(table.select(["uid", "as_of"])).sort_values("as_of", kind="stable")
    return table.take(pa.array(np.sort(told.drop_duplicates("uid", keep="last").index)))


def counted(table: pa.Table, when: str) -> pa.Table:
    """How many rows there are of whom, and when the first began."""
    who = [table[name].unify_dictionaries().combine_chunks() for name in WHO]
    codes = [labels.indices for labels in who]  # numbers are grouped several times faster than text
    plain = pa.table([*codes, table[when]], names=[*WHO, "begun"])
    found = plain.group_by(WHO).aggregate([([], "count_all"), ("begun", "min")])
    for place, (name, labels) in enumerate(zip(WHO, who, strict=True)):
        texts = labels.dictionary.cast(pa.string()).take(found[name].combine_chunks())
        found = found.set_column(place, name, texts)
    return found.rename_columns([*WHO, "rows", "begun"])


def added_up(counted: Sequence[pa.Table]) -> pa.Table:
    """Add up counts of files."""
    found = pa.concat_tables(counted).group_by(WHO).aggregate([("rows", "sum"), ("begun", "min")])
    return found.rename_columns([*WHO, "rows", "begun"])


def keep(kept: list[T], more: T, together: Callable[[list[T]], T]) -> None:
    """Add to what is kept, and put it together every so often, so that it takes bounded memory."""
    kept.append(more)
    if sum(map(len, kept)) > _FORGET + 2 * len(kept[0]):
        kept[:] = [together(kept)]


def rows_by(rows: pd.DataFrame, column: str | None) -> pd.Series:
    """How many rows each name has, in order; one without a name last."""
    if column is None:
        return pd.Series([rows["rows"].sum()], index=pd.Index([""]), dtype="int64")
    return rows.groupby(column, dropna=False)["rows"].sum().astype("int64")


def scalar(stamp: pd.Timestamp) -> pa.Scalar:
    """Return an instant as Arrow compares it."""
    return pa.scalar(stamp.to_pydatetime(), schema.INSTANT)
