"""Sessions outside a window that decide its edges: how each VM entered it, and how it left it.

Which sessions matter is said by rules (`NeighbourRules`), given by whoever knows what the
results of sessions mean. Only the columns that the rules look at are read of the files
outside the window; of the sessions chosen, the columns that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from cdpanalytics.archive.tables import append_and_compact, clip_to_window, in_parts, scalar
from cdpanalytics.parallel import parallel_stream, thread_count
from cdpanalytics.ranges import FULL_RANGE, Range

_NARROW = ("backup_server", "vm", "created", "ended", "state", "result")
_KIND = ("state", "result")
_ENDLESS, _LEAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
_Per = tuple[()] | tuple[str, str]
Values = Mapping[str, tuple[str, ...]]
"""Columns and the values that a row must have in each of them."""


@dataclass(frozen=True)
class _Extreme:
    """Before the window, of each VM and combination of `per`, the row with the greatest `of`.

    `smallest`: instead the smallest. `finished`: only rows with an end that is not before
    their beginning. `ended_by`: only rows that had ended by `before`. `without`: no rows
    with these values. `before`: only rows that began before this instant; default: the
    start of the window. A row without an end has the greatest end.
    """

    of: Literal["created", "ended", "length"]
    per: _Per = _KIND
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

    extremes: tuple[_Extreme, ...]
    until: Values


_NEWEST = (_Extreme("created"), _Extreme("ended"), _Extreme("ended", ended_by=True))

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
        _Extreme("created", per=(), smallest=True, without=schema.NOT_ATTEMPTED),
        _Extreme("created", smallest=True, finished=True),
        _Extreme("length", per=(), finished=True),
    ]
    for start in holes:
        extremes.append(_Extreme("created", finished=True, before=start))
        extremes.append(_Extreme("length", per=(), finished=True, before=start))
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
        reduce = partial(_reduced, rules=self.rules.extremes, start=start)
        text = {name for name in self.columns if pa.types.is_string(_type(name))}
        plain = [name for name in self.columns if name not in text]
        tables = self._read(paths, list(dict.fromkeys([*_NARROW, *plain, *self._cut_by])))
        if text:
            tables = _placed(tables)
        days = (
            clip_to_window(table, path, "created", None, start)
            for path, table in zip(paths, tables, strict=True)
        )
        kept: list[pa.Table] = []
        for part in parallel_stream(reduce, in_parts(days), thread_count()):
            append_and_compact(kept, part, reduce)
        if not kept:
            return self._take(paths, _NO_ROWS.to_pandas())
        rows = reduce(kept)
        if text:
            # Text is what takes long to read: it is read only of the rows that were chosen.
            return self._take(paths, _place(rows).to_pandas())
        return inside(rows, self.within).select(self.columns)

    def after(self, stop: pd.Timestamp, machines: pd.DataFrame) -> pa.Table:
        """Return of each of these VMs what began at `stop` or later, up to what ends the search."""
        paths = self.files.days("sessions", stop)
        keys = _keys(machines[schema.VM].drop_duplicates()).unique()
        waiting, chosen = np.ones(len(keys), dtype=bool), [_NO_ROWS.to_pandas()]
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

    def _take(self, paths: Sequence[Name], rows: pd.DataFrame) -> pa.Table:
        """Return rows by the number of their file and their place in what `_read` gave."""
        rows = rows.sort_values(["file", "row"])
        named, within = self._pushed
        columns = list(dict.fromkeys([*self.columns, *self._cut_by]))

        def chosen_of(number: int) -> pa.Table:
            places = pa.array(rows.loc[rows["file"] == number, "row"].to_numpy())
            table = self.files.load(paths[number], schema.SESSIONS, columns, named, within)
            taken = table.take(places)
            return taken if within is self.within else inside(taken, self.within)

        expected = pa.schema([schema.SESSIONS.field(name) for name in columns])
        taken = self.files.storage.map(chosen_of, rows["file"].unique().tolist())
        return pa.concat_tables([expected.empty_table(), *taken]).select(list(self.columns))


_NO_ROWS = pa.table({"file": pa.array([], pa.int64()), "row": pa.array([], pa.int64())})


def _placed(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables with the number of the table and the place of each row in it."""
    for number, table in enumerate(tables):
        file, row = pa.array(np.full(len(table), number)), pa.array(np.arange(len(table)))
        yield table.append_column("file", file).append_column("row", row)


def _type(column: str) -> pa.DataType:
    return schema.SESSIONS.field(column).type


def _place(table: pa.Table) -> pa.Table:
    return table.select(["file", "row"])


def _reduced(
    tables: Sequence[pa.Table], rules: Sequence[_Extreme], start: pd.Timestamp
) -> pa.Table:
    """Return the rows that end after the window's start, and each rule's extremes.

    The extremes of some tables are among the extremes of each, so a long history can be
    reduced a part at a time. Rows are sorted once, by VM and kind; each rule then takes
    maxima of the groups, which `numpy.maximum.reduceat` does in one pass.
    """
    rows = pa.concat_tables(tables).unify_dictionaries()
    if not len(rows):
        return rows
    created, ended = _microseconds(rows["created"]), _microseconds(rows["ended"])
    vm = _codes(rows, schema.VM, np.zeros(len(rows), dtype=np.int64))
    kind = _codes(rows, _KIND, vm)
    order = np.argsort(kind, kind="stable")
    firsts = {(): _firsts(vm[order]), _KIND: _firsts(kind[order])}
    keep = (ended > _us(start)) & (ended != _ENDLESS)
    for rule in rules:
        eligible = _eligible(rows, rule, created, ended, start)[order]
        values = {"created": created, "ended": ended, "length": ended - created}[rule.of][order]
        best = _greatest(-values if rule.smallest else values, eligible, firsts[rule.per])
        latest = _greatest(created[order], best, firsts[rule.per])
        keep[order[_last(latest, firsts[rule.per])]] = True
    return rows.filter(pa.array(keep))


def _eligible(
    rows: pa.Table, rule: _Extreme, created: Integers, ended: Integers, start: pd.Timestamp
) -> Flags:
    """Return the rows among which a rule looks for the extreme."""
    eligible = np.ones(len(rows), dtype=bool)
    before = _us(rule.before or start)
    if rule.before is not None:
        eligible &= created < before
    if rule.finished:
        eligible &= (ended >= created) & (ended != _ENDLESS)
    if rule.ended_by:
        eligible &= ended <= before
    for column, values in rule.without.items():
        labels = rows[column].combine_chunks()
        excluded = np.append(np.isin(labels.dictionary.to_pylist(), values), False)
        eligible &= ~excluded[pc.fill_null(labels.indices, -1).to_numpy()]
    return eligible


def _codes(rows: pa.Table, columns: Sequence[str], code: Integers) -> Integers:
    """Return a number per row that stands for `code` and the labels of some columns."""
    for name in columns:
        labels = rows[name].combine_chunks()
        code = code * (len(labels.dictionary) + 1) + 1
        code += pc.fill_null(labels.indices, -1).to_numpy()
    return code


def _firsts(sorted_codes: Integers) -> Integers:
    """Return where each group begins."""
    return np.flatnonzero(np.append(True, sorted_codes[1:] != sorted_codes[:-1]))


def _greatest(values: Integers, among: Flags, firsts: Integers) -> Flags:
    """Return the rows among some that have the greatest value of their group."""
    values = np.where(among, values, _LEAST)
    counts = np.diff(np.append(firsts, len(values)))
    return among & (values == np.repeat(np.maximum.reduceat(values, firsts), counts))


def _last(among: Flags, firsts: Integers) -> Integers:
    """Return the last row among some of each group that has any."""
    last = np.maximum.reduceat(np.where(among, np.arange(len(among)), -1), firsts)
    return last[last >= 0]


def _microseconds(times: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(times.cast(pa.int64()), _ENDLESS).to_numpy(), np.int64)


def _us(instant: pd.Timestamp) -> int:
    return int(scalar(instant).value)


def _keys(rows: pd.DataFrame) -> pd.MultiIndex:
    names = [rows[name].astype("str").fillna("") for name in schema.VM]
    return pd.MultiIndex.from_arrays(names, names=schema.VM)
