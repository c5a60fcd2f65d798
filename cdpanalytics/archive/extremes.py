"""Rules that say which sessions of a history decide later windows, and how rows are reduced to these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cdpanalytics import schema
from cdpanalytics.archive.tables import append_and_compact, in_parts, scalar
from cdpanalytics.parallel import parallel_stream, thread_count

_KIND = ("state", "result")
_ENDLESS, _LEAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
_Integers = NDArray[np.int64]
_Flags = NDArray[np.bool_]
_Per = tuple[()] | tuple[str, str]
_Values = Mapping[str, tuple[str, ...]]
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
    per: _Per = _KIND
    smallest: bool = False
    finished: bool = False
    ended_by: bool = False
    without: _Values = field(default_factory=dict)
    before: pd.Timestamp | None = None


@dataclass(frozen=True)
class NeighbourRules:
    """Which sessions outside a window are its neighbours.

    Before it: those that end after its start, and `extremes`. After it: of each VM that has
    a row in the window or before it, all sessions up to the first finished one that has the
    values of `until`.
    """

    extremes: tuple[Extreme, ...]
    until: _Values


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


def reduced(
    tables: Iterable[pa.Table], rules: Sequence[Extreme], start: pd.Timestamp
) -> pa.Table | None:
    """Return the rows of a history that end after a window's start, and each rule's extremes.

    The extremes of some tables are among the extremes of each, so a long history is reduced
    a part at a time. None where there are no tables.
    """
    reduce = partial(_reduced, rules=rules, start=start)
    kept: list[pa.Table] = []
    for part in parallel_stream(reduce, in_parts(tables), thread_count()):
        append_and_compact(kept, part, reduce)
    return reduce(kept) if kept else None


def _reduced(tables: Sequence[pa.Table], rules: Sequence[Extreme], start: pd.Timestamp) -> pa.Table:
    """Return the same of a few tables.

    Rows are sorted once, by VM and kind; each rule then takes maxima of the groups, which
    `numpy.maximum.reduceat` does in one pass.
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
    rows: pa.Table, rule: Extreme, created: _Integers, ended: _Integers, start: pd.Timestamp
) -> _Flags:
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


def _codes(rows: pa.Table, columns: Sequence[str], code: _Integers) -> _Integers:
    """Return a number per row that stands for `code` and the labels of some columns."""
    for name in columns:
        labels = rows[name].combine_chunks()
        code = code * (len(labels.dictionary) + 1) + 1
        code += pc.fill_null(labels.indices, -1).to_numpy()
    return code


def _firsts(sorted_codes: _Integers) -> _Integers:
    """Return where each group begins."""
    return np.flatnonzero(np.append(True, sorted_codes[1:] != sorted_codes[:-1]))


def _greatest(values: _Integers, among: _Flags, firsts: _Integers) -> _Flags:
    """Return the rows among some that have the greatest value of their group."""
    values = np.where(among, values, _LEAST)
    counts = np.diff(np.append(firsts, len(values)))
    return among & (values == np.repeat(np.maximum.reduceat(values, firsts), counts))


def _last(among: _Flags, firsts: _Integers) -> _Integers:
    """Return the last row among some of each group that has any."""
    last = np.maximum.reduceat(np.where(among, np.arange(len(among)), -1), firsts)
    return last[last >= 0]


def _microseconds(times: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(times.cast(pa.int64()), _ENDLESS).to_numpy(), np.int64)


def _us(instant: pd.Timestamp) -> int:
    return int(scalar(instant).value)
