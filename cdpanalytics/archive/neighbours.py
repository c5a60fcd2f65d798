"""Sessions outside a window that decide its edges: how each VM entered it, and how it left it.

Which sessions matter is said by rules (`NeighbourRules`), given by whoever knows what the
results of sessions mean. Only the columns that the rules look at are read of the files
outside the window; of the sessions chosen, the columns that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cdpanalytics import schema
from cdpanalytics.archive.files import Named, ParquetFiles, inside
from cdpanalytics.archive.names import Name
from cdpanalytics.archive.tables import append_and_compact, scalar
from cdpanalytics.ranges import FULL_RANGE, Range

_NARROW = ("backup_server", "vm", "created", "ended", "state", "result")
_KIND = ("state", "result")
Values = Mapping[str, tuple[str, ...]]
"""Columns and the values that a row must have in each of them."""


@dataclass(frozen=True)
class Extreme:
    """Before the window, of each VM and combination of `per`, the row with the greatest `of`.

    `smallest`: instead the smallest. `finished`: only rows with an end that is not before
    their beginning. `ended_by`: only rows that had ended by `before`. `without`: no rows
    with these values. `before`: only rows that began before this instant; default: the
    start of the window. A row without an end has the greatest end.
    """

    of: Literal["created", "ended", "length"]
    per: tuple[str, ...] = _KIND
    smallest: bool = False
    finished: bool = False
    ended_by: bool = False
    without: Values = field(default_factory=dict)
    before: pd.Timestamp | None = None


@dataclass(frozen=True)
class NeighbourRules:
    """Which sessions outside a window are its neighbours.

    Before it: those that end after its start, and `extremes`. After it: of each VM that has
    a row in the window or before it, all sessions up to the first finished one that has the
    values of `until`.
    """

    extremes: tuple[Extreme, ...]
    until: Values


_NEWEST = (Extreme("created"), Extreme("ended"), Extreme("ended", ended_by=True))

LATEST = NeighbourRules(_NEWEST, schema.SUCCEEDED)
"""Per VM, state and result the latest start, the latest end, and the latest end by the window's start."""


def default_rules(holes: Sequence[pd.Timestamp] = ()) -> NeighbourRules:
    """Return `LATEST` and what decides grace and cadence.

    That is: each VM's first attempt, the first finished session of each state and result,
    and the longest finished session.

    Parameters
    ----------
    holes : sequence of pandas.Timestamp
        Where holes begin before the window: also what was newest and longest by then.
    """
    extremes = [
        *_NEWEST,
        Extreme("created", per=(), smallest=True, without=schema.NOT_ATTEMPTED),
        Extreme("created", smallest=True, finished=True),
        Extreme("length", per=(), finished=True),
    ]
    for start in holes:
        extremes.append(Extreme("created", finished=True, before=start))
        extremes.append(Extreme("length", per=(), finished=True, before=start))
    return NeighbourRules(tuple(extremes), schema.SUCCEEDED)


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
        paths = self.files.days("sessions", None, start)
        kept: list[list[pa.Table]] = [[] for _ in self.rules.extremes]
        rows = [_NO_ROWS]
        for table in self._narrow(paths):
            day = table.filter(pc.less(table["created"], scalar(start)))
            rows.append(_place(day.filter(pc.greater(day["ended"], scalar(start)))))
            for rule, tables in zip(self.rules.extremes, kept, strict=True):
                eligible = _eligible(day, rule, rule.before or start)
                append_and_compact(tables, eligible, partial(_extreme_rows, rule=rule))
        if paths:
            for rule, tables in zip(self.rules.extremes, kept, strict=True):
                rows.append(_place(_extreme_rows(tables, rule)))
        return self._take(paths, pa.concat_tables(rows).to_pandas().drop_duplicates())

    def after(self, stop: pd.Timestamp, machines: pd.DataFrame) -> pa.Table:
        """Return of each of these VMs what began at `stop` or later, up to what ends the search."""
        paths = self.files.days("sessions", stop)
        keys = _keys(machines[schema.VM].drop_duplicates()).unique()
        waiting, chosen = np.ones(len(keys), dtype=bool), [_NO_ROWS.to_pandas()]
        for table in self._narrow(paths):
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
            chosen.append(day.loc[earlier == 0, ["file", "row"]])
            waiting[day.loc[ends, "place"]] = False
        return self._take(paths, pd.concat(chosen))

    @property
    def _pushed(self) -> tuple[Named, Range]:
        """The names and range that may be left out while reading.

        A VM's sessions under other policies count too, so policies are not among them.
        """
        named = {column: given for column, given in self.named.items() if column in schema.VM}
        return named, self.within if self.within.column in schema.VM else FULL_RANGE

    def _narrow(self, paths: Sequence[Name]) -> Iterator[pa.Table]:
        """Yield what the rules look at, of each file, with the file's number and the row's place."""
        named, within = self._pushed

        def load(path: Name) -> pa.Table:
            return self.files.load(path, schema.SESSIONS, _NARROW, named, within)

        loaded = self.files.storage.map(load, paths)
        return (_placed(table, number) for number, table in enumerate(loaded))

    def _take(self, paths: Sequence[Name], rows: pd.DataFrame) -> pa.Table:
        """Return rows by the number of their file and their place in what `_narrow` read."""
        rows = rows.sort_values(["file", "row"])
        named, within = self._pushed
        columns = list(self.columns)
        if within is not self.within and self.within.column not in (None, *columns):
            columns.append(str(self.within.column))

        def chosen_of(number: int) -> pa.Table:
            places = pa.array(rows.loc[rows["file"] == number, "row"].to_numpy())
            table = self.files.load(paths[number], schema.SESSIONS, columns, named, within)
            taken = table.take(places)
            return taken if within is self.within else inside(taken, self.within)

        expected = pa.schema([schema.SESSIONS.field(name) for name in columns])
        taken = self.files.storage.map(chosen_of, rows["file"].unique().tolist())
        return pa.concat_tables([expected.empty_table(), *taken]).select(list(self.columns))


_NO_ROWS = pa.table({"file": pa.array([], pa.int64()), "row": pa.array([], pa.int64())})


def _placed(table: pa.Table, number: int) -> pa.Table:
    places = pa.array(np.full(len(table), number)), pa.array(np.arange(len(table)))
    return table.append_column("file", places[0]).append_column("row", places[1])


def _place(table: pa.Table) -> pa.Table:
    return table.select(["file", "row"])


def _eligible(day: pa.Table, rule: Extreme, before: pd.Timestamp) -> pa.Table:
    """Return the rows of a day among which a rule looks for the extreme."""
    if rule.before is not None:
        day = day.filter(pc.less(day["created"], scalar(before)))
    if rule.finished:
        day = day.filter(pc.greater_equal(day["ended"], day["created"]))
    if rule.ended_by:
        day = day.filter(pc.less_equal(day["ended"], scalar(before)))
    for column, values in rule.without.items():
        excluded = pc.is_in(day[column].cast(pa.string()), pa.array(values))
        day = day.filter(pc.invert(excluded))
    return day


def _extreme_rows(tables: Sequence[pa.Table], rule: Extreme) -> pa.Table:
    """Return of each VM and combination of `rule.per` one row.

    One number per row stands for its group: the codes of its labels, each in a digit of its
    own size. Rows are sorted by group, then value, then beginning; the last row of each
    group is the one. NumPy sorts three integer keys ten times faster than pandas groups
    labels, and the tables are as long as all sessions before the window.
    """
    rows = pa.concat_tables(tables).unify_dictionaries()
    group = np.zeros(len(rows), dtype=np.int64)
    for name in (*schema.VM, *rule.per):
        labels = rows[name].combine_chunks()
        codes = pc.fill_null(labels.indices, -1).to_numpy()
        group = group * (len(labels.dictionary) + 1) + codes + 1
    created = _microseconds(rows["created"])
    values = created if rule.of == "created" else _microseconds(rows["ended"])
    if rule.of == "length":
        values = values - created
    order = np.lexsort((created, -values if rule.smallest else values, group))
    last = np.append(group[order][1:] != group[order][:-1], len(order) > 0)
    return rows.take(pa.array(np.sort(order[last[: len(order)]])))


def _microseconds(times: pa.ChunkedArray) -> NDArray[np.int64]:
    numbers = pc.fill_null(times.cast(pa.int64()), np.iinfo(np.int64).max).to_numpy()
    return np.asarray(numbers, np.int64)


def _keys(rows: pd.DataFrame) -> pd.MultiIndex:
    names = [rows[name].astype("str").fillna("") for name in schema.VM]
    return pd.MultiIndex.from_arrays(names, names=schema.VM)
