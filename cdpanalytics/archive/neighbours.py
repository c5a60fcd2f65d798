"""Sessions outside a window that decide its edges: how each VM entered it, and how it left it.

Which sessions matter is said by rules (`extremes`). Of a settled month one file has them
(`months`); of other days before the window all sessions are looked at. Only the columns that
the rules look at are read of the files outside the window; of the sessions chosen, the
columns that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from cdpanalytics import schema
from cdpanalytics.archive.extremes import NeighbourRules, reduced
from cdpanalytics.archive.files import Named, ParquetFiles, inside
from cdpanalytics.archive.months import shortened
from cdpanalytics.archive.names import Name
from cdpanalytics.archive.tables import clip_to_window
from cdpanalytics.errors import ArchiveError, StoreError
from cdpanalytics.ranges import FULL_RANGE, Range

_NARROW = ("backup_server", "vm", "created", "ended", "state", "result")
_Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbourhood:
    """Reads the neighbours of a window: these columns, of these names, in this range."""

    files: ParquetFiles
    rules: NeighbourRules
    columns: tuple[str, ...]
    named: Named = field(default_factory=dict)
    within: Range = FULL_RANGE

    def before(self, start: pd.Timestamp) -> pa.Table:
        """Return the neighbours that began before the window's start."""
        days = self.files.days("sessions", None, start)
        try:
            return self._before(start, shortened(self.files, days, self.rules.extremes, start))
        except StoreError:
            raise
        except ArchiveError:
            # A month's file that is damaged costs time only: its days have the same rows.
            return self._before(start, days)

    def _before(self, start: pd.Timestamp, paths: Sequence[Name]) -> pa.Table:
        text = {name for name in self.columns if pa.types.is_string(_type(name))}
        plain = [name for name in self.columns if name not in text]
        tables = self._read(paths, list(dict.fromkeys([*_NARROW, *plain, *self._cut_by])))
        if text:
            tables = _placed(tables)
        days = (
            clip_to_window(table, path, "created", None, start)
            for path, table in zip(paths, tables, strict=True)
        )
        rows = reduced(days, self.rules.extremes, start)
        if rows is None:
            return self._take(paths, _NO_ROWS, self.columns)
        if text:
            # Text is what takes long to read: it is read only of the rows that were chosen.
            rows = rows.sort_by([("file", "ascending"), ("row", "ascending")])
            texts = self._take(paths, rows, sorted(text))
            for name in texts.column_names:
                rows = rows.append_column(texts.schema.field(name), texts[name])
        return inside(rows, self.within).select(self.columns)

    def after(self, stop: pd.Timestamp, machines: pd.DataFrame) -> pa.Table:
        """Return of each of these VMs what began at `stop` or later, up to what ends the search."""
        paths = self.files.days("sessions", stop)
        keys = _keys(machines[schema.VM].drop_duplicates()).unique()
        waiting, chosen = np.ones(len(keys), dtype=bool), [_NO_ROWS]
        for table in _placed(self._read(paths, _NARROW)):
            if not waiting.any():
                break
            day = schema.to_frame(table)
            names = keys[waiting].get_level_values("vm")
            day = day[(day["created"] >= stop) & day["vm"].astype("str").fillna("").isin(names)]
            place = keys.get_indexer(_keys(day))
            still_waiting = (place >= 0) & waiting[place]
            day = day[still_waiting].assign(place=place[still_waiting])
            day = day.sort_values("created", kind="stable")
            ends = (day["ended"] >= day["created"]).to_numpy(copy=True)
            for column, values in self.rules.until.items():
                ends &= day[column].isin(values).to_numpy()
            count = pd.Series(ends.astype("int64"), day.index)
            earlier = count.groupby(day["place"]).cumsum() - count
            taken = day.loc[earlier == 0, ["file", "row"]]
            chosen.append(pa.Table.from_pandas(taken, preserve_index=False))
            waiting[day.loc[ends, "place"]] = False
        rows = pa.concat_tables(chosen).sort_by([("file", "ascending"), ("row", "ascending")])
        columns = list(dict.fromkeys([*self.columns, *self._cut_by]))
        return inside(self._take(paths, rows, columns), self.within).select(self.columns)

    @property
    def _pushed(self) -> tuple[Named, Range]:
        """The names and range that may be left out while reading.

        A VM's sessions under other policies count too, so policies are not among them.
        """
        named = {column: given for column, given in self.named.items() if column in schema.VM}
        return named, self.within if self.within.column in schema.VM else FULL_RANGE

    @property
    def _cut_by(self) -> list[str]:
        """The column of a range that is not pushed, which must be read to apply it."""
        _, pushed = self._pushed
        column = self.within.column
        return [] if pushed is self.within or column is None else [column]

    def _read(self, paths: Sequence[Name], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield columns of each file."""
        named, within = self._pushed

        def load(path: Name) -> pa.Table:
            return self.files.load(path, schema.SESSIONS, columns, named, within)

        return self.files.storage.map(load, paths)

    def _take(self, paths: Sequence[Name], rows: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Return columns of rows, in order of the number of their file and their place in what `_read` gave."""
        named, within = self._pushed
        files, firsts = np.unique(rows["file"].to_numpy(), return_index=True)
        places = np.split(rows["row"].to_numpy(), firsts[1:])

        def chosen_of(chosen: tuple[int, _Integers]) -> pa.Table:
            number, place = chosen
            table = self.files.load(paths[number], schema.SESSIONS, columns, named, within)
            return table.take(pa.array(place))

        expected = pa.schema([schema.SESSIONS.field(name) for name in columns])
        taken = self.files.storage.map(chosen_of, zip(files.tolist(), places, strict=False))
        return pa.concat_tables([expected.empty_table(), *taken])


_NO_ROWS = pa.table({"file": pa.array([], pa.int64()), "row": pa.array([], pa.int64())})


def _placed(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables with the number of the table and the place of each row in it."""
    for number, table in enumerate(tables):
        file, row = pa.array(np.full(len(table), number)), pa.array(np.arange(len(table)))
        yield table.append_column("file", file).append_column("row", row)


def _type(column: str) -> pa.DataType:
    return schema.SESSIONS.field(column).type


def _keys(rows: pd.DataFrame) -> pd.MultiIndex:
    names = [rows[name].astype("str").fillna("") for name in schema.VM]
    return pd.MultiIndex.from_arrays(names, names=schema.VM)
