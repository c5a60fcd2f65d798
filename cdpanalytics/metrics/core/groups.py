"""Groups: which row of a result each session belongs to, by any of the keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.spans import KEYS, Flags, Integers, Labels, Records, numbered

By = str | Sequence[str]


@dataclass(frozen=True)
class Groups:
    """The group of each record (and of each VM that is only listed), and the groups' keys."""

    of: Integers
    keys: pd.DataFrame

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.keys)


def groups(records: Records, by: By) -> Groups:
    """Return the groups of `records`, in order of their keys.

    Every key in the input is in the output, sessions or not. Grouping by `vm` alone
    adds up VMs of one name on several backup servers; add `backup_server` to keep
    them apart. With ``by=()`` there is one group.

    Raises
    ------
    InputError
        When `by` names something else than policy, vm or backup_server.
    """
    names = keys_of(by)
    if not names:
        count = len(records.labels["vm"].codes)
        return Groups(np.zeros(count, dtype=np.int64), pd.DataFrame(index=pd.RangeIndex(1)))
    return in_order({name: records.labels[name] for name in names})


def in_order(columns: dict[str, Labels]) -> Groups:
    """Return the groups of rows with these labels, in order of them; those without a name last."""
    code: Integers = np.zeros(1, dtype=np.int64)
    for labels in columns.values():
        width = len(labels.names)
        code = code * (width + 1) + np.where(labels.codes < 0, width, labels.codes)
    of, code = numbered(code)
    keys = {}
    for name, labels in reversed(columns.items()):
        code, own = np.divmod(code, len(labels.names) + 1)
        own[own == len(labels.names)] = -1
        keys[name] = Labels(own, labels.names).at(np.arange(len(own)))
    return Groups(of.astype(np.int64), pd.DataFrame({name: keys[name] for name in columns}))


def labelled(column: pd.Series) -> Labels:
    """Return a column of text as labels."""
    known = pd.Categorical(column.astype("str"))
    return Labels(np.asarray(known.codes, dtype=np.int64), pd.Index(known.categories))


def keys_of(by: By) -> list[str]:
    """Return `by` as a list of keys."""
    names = [by] if isinstance(by, str) else list(by)
    for name in names:
        if name not in KEYS:
            raise InputError(
                f"by={name!r} is not a key; use {', '.join(KEYS)}, several of them, or ()"
            )
    if len(set(names)) < len(names):
        raise InputError(f"by={names} names a key twice")
    return names


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


def share(part: Integers, whole: Integers, where: Flags) -> pd.Series:
    """Return ``part / whole`` as floats, NaN where it says nothing."""
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=where)
    return pd.Series(ratio)


def lengths(values: Integers) -> pd.Series:
    """Return microseconds as lengths of time, missing where they are."""
    return pd.Series(np.asarray(values, dtype=np.int64).view("m8[us]"))
