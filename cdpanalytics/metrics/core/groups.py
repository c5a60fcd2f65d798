"""Groups: which row of a result each session belongs to, and sums by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.codes import Codes, codes_of
from cdpanalytics.metrics.core.kernels import Flags, Integers, compact_codes


@dataclass(frozen=True)
class Groups:
    """The group of each session (and of each VM that is only listed), and the groups' keys."""

    of: Integers
    keys: pd.DataFrame

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.keys)


def groups(arrays: SessionArrays, by: Sequence[str]) -> Groups:
    """Return the groups of sessions, in order of their keys; a missing key is a group, the last.

    Every key in the input is in the output, sessions or not. Grouping by `vm` alone
    adds up VMs of one name on several backup servers; add `backup_server` to keep
    them apart. With ``by=()`` there is one group.

    Raises
    ------
    InputError
        When `by` names something that is not a column.
    """
    if not by:
        count = len(arrays.keys["vm"].codes)
        return Groups(np.zeros(count, dtype=np.int64), pd.DataFrame(index=pd.RangeIndex(1)))
    return groups_of({name: arrays.codes(name) for name in by})


def groups_of(columns: dict[str, Codes]) -> Groups:
    """Return the groups of rows with these codes, in order of them, missing values last."""
    code: Integers = np.zeros(1, dtype=np.int64)
    for codes in columns.values():
        code = code * (len(codes.values) + 1) + codes.rank()
    of, code = compact_codes(code)
    keys = {}
    for name, codes in reversed(columns.items()):
        code, own = np.divmod(code, len(codes.values) + 1)
        own[own == len(codes.values)] = -1
        keys[name] = Codes(own, codes.values).at(np.arange(len(own)))
    return Groups(of, pd.DataFrame({name: keys[name] for name in columns}))


def groups_of_tables(tables: Sequence[pd.DataFrame], by: Sequence[str]) -> Groups:
    """Return the groups of the rows of tables, one table below the other."""
    if not by:
        count = sum(map(len, tables))
        return Groups(np.zeros(count, dtype=np.int64), pd.DataFrame(index=pd.RangeIndex(1)))
    rows = tables[0] if len(tables) == 1 else pd.concat([table[list(by)] for table in tables])
    return groups_of({name: codes_of(rows[name]) for name in by})


def table_of(keys: pd.DataFrame, figures: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table of groups: their keys, then their figures.

    Raises
    ------
    InputError
        When a key has the name of a figure, which would take its place.
    """
    taken = [str(name) for name in keys if name in figures]
    if taken:
        raise InputError(
            f"{taken[0]!r} is a column of the result itself, so groups or tags cannot have this "
            "name; rename the column of the sessions, or of the table of tags"
        )
    # In one go: a frame that grows by a column at a time takes a fifth of a small question.
    return pd.DataFrame(
        {**{str(name): keys[name].array for name in keys}, **figures}, index=keys.index
    )


def rows_by(table: pd.DataFrame, others: pd.DataFrame, by: Sequence[str]) -> Integers:
    """Return for each row of `others` the row of `table` with the same keys; -1 where none has them."""
    groups = groups_of_tables([table, others], by)
    row = np.full(groups.count, -1)
    row[groups.of[: len(table)]] = np.arange(len(table))
    return row[groups.of[len(table) :]]


def count(cells: Integers, size: int, where: Flags | None = None) -> Integers:
    """Return how many of `cells` fall on each of `size` places; -1 falls on none."""
    chosen = cells if where is None else cells[where]
    return np.bincount(chosen + 1, minlength=size + 1)[1:].astype(np.int64, copy=False)


def total(cells: Integers, amounts: Integers, size: int) -> Integers:
    """Return the sums of `amounts` by cell, exact in integers."""
    if size == 1:
        return np.array([amounts.sum()])
    sums = np.zeros(size, dtype=np.int64)
    np.add.at(sums, cells, amounts)
    return sums


def extreme(cells: Integers, amounts: Integers, size: int, ufunc: np.ufunc, start: int) -> Integers:
    """Return the minimum or maximum of `amounts` by cell, `start` where there is none."""
    best = np.full(size, start, dtype=np.int64)
    ufunc.at(best, cells, amounts)
    return best


def share(part: Integers, whole: NDArray[Any] | int, where: Flags | bool) -> NDArray[np.float64]:
    """Return ``part / whole`` as floats, NaN where it says nothing."""
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=where)
    return ratio
