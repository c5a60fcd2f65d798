"""Exact integers by group and period: what metrics are made of, and how those of disjoint VMs add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.codes import Codes, codes_of
from cdpanalytics.metrics.core.groups import Groups
from cdpanalytics.metrics.core.kernels import LARGEST, Integers, compact_codes
from cdpanalytics.metrics.core.values import UNKNOWN
from cdpanalytics.metrics.core.windows import Window


@dataclass(frozen=True)
class Aggregates:
    """Integers by cell, a group and a period each; the window is the same for all that are combined.

    `sum` are sums and counts, `max` maxima (UNKNOWN, the least integer, where there
    is none), `min` minima (LARGEST where there is none). Ratios are made of them last.
    """

    groups: pd.DataFrame
    window: Window
    sum: dict[str, Integers]
    max: dict[str, Integers] = field(default_factory=dict)
    min: dict[str, Integers] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of groups, and of periods."""
        return len(self.groups), self.window.count

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.groups) * self.window.count

    def keys(self) -> pd.DataFrame:
        """Return one row per cell: the keys, and `period` where there is one."""
        keys = self.groups.loc[self.groups.index.repeat(self.window.count)]
        keys = keys.reset_index(drop=True)
        if self.window.periods is not None:
            keys["period"] = self.window.column(len(self.groups))
        return keys

    def grouped(self, by: Sequence[str]) -> Groups:
        """Return the groups of its groups by fewer columns."""
        if not by:
            return grouping.groups_of_tables([self.groups], by)
        return grouping.groups_of({name: self._codes[name] for name in by})

    @cached_property
    def _codes(self) -> dict[str, Codes]:
        return {str(name): codes_of(self.groups[name]) for name in self.groups}

    def unique_value(self, name: str) -> Integers:
        """Return the one value of each cell, UNKNOWN where it has several or none."""
        low, high = self.min[name], self.max[name]
        return np.where(low == high, low, UNKNOWN)


@dataclass(frozen=True)
class Cells:
    """The cells that sessions fall into."""

    group: Groups
    window: Window

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.group.count * self.window.count

    def of(self, row: Integers, period: Integers) -> Integers:
        """Return the cell of each session and period; -1 in no period."""
        cells = self.group.of[row] * self.window.count
        cells += period
        cells[period < 0] = -1
        return cells

    def among(self, rows: Integers) -> Cells:
        """Return the cells of these sessions alone, their groups known by number, not by keys."""
        of, groups = compact_codes(self.group.of[rows])
        return Cells(Groups(of, pd.DataFrame(index=groups)), self.window)

    def aggregates(self, **values: dict[str, Integers]) -> Aggregates:
        """Return integers by cell as aggregates."""
        return Aggregates(self.group.keys, self.window, **values)


def cells_for(arrays: SessionArrays, by: Sequence[str], window: Window) -> Cells:
    """Return the cells of a grouping and a window."""
    return Cells(grouping.groups(arrays, by), window)


def combine(parts: Sequence[Aggregates]) -> Aggregates:
    """Return the aggregates of all parts, groups in order of their keys.

    Examples
    --------
    >>> window = Window(np.array([0, 1]), None, None, True)
    >>> one = Aggregates(pd.DataFrame({"vm": ["b"]}), window, {"gaps": np.array([2])})
    >>> two = Aggregates(pd.DataFrame({"vm": ["a", "b"]}), window, {"gaps": np.array([1, 3])})
    >>> combine([one, two]).sum["gaps"].tolist()
    [1, 5]
    """
    if len(parts) == 1:
        return parts[0]
    group = grouping.groups_of_tables(
        [part.groups for part in parts], [str(name) for name in parts[0].groups]
    )
    ends = np.cumsum([len(part.groups) for part in parts])
    return join(Cells(group, parts[0].window), parts, np.split(group.of, ends[:-1]))


def join(cells: Cells, parts: Sequence[Aggregates], groups: Sequence[Integers]) -> Aggregates:
    """Return the aggregates of all parts in `cells`; `groups` are the groups that each part has."""
    count = cells.window.count
    places = [(of[:, None] * count + np.arange(count)).ravel() for of in groups]

    def joined(kind: str, ufunc: np.ufunc, start: int) -> dict[str, Integers]:
        result = {name: np.full(cells.size, start) for name in getattr(parts[0], kind)}
        for place, part in zip(places, parts, strict=True):
            for name, values in getattr(part, kind).items():
                ufunc.at(result[name], place, values)  # several groups may become one
        return result

    return cells.aggregates(
        sum=joined("sum", np.add, 0), max=joined("max", np.maximum, UNKNOWN),
        min=joined("min", np.minimum, LARGEST),
    )  # fmt: skip


_COUNTED_ONCE = {"vms", "unprotected", "undecided"}


def regroup(part: Aggregates, by: Sequence[str]) -> Aggregates:
    """Return the same aggregates by fewer columns, of groups that are of one VM each.

    A VM that is in several groups counts once, and its session lengths are those of all.
    """
    if [*by] == [*part.groups]:
        return part  # there is nothing to add up: a group is of one VM already
    machine = tuple(dict.fromkeys((*by, "backup_server", "vm")))
    group, per_vm = _by_columns(part, machine)
    for name in _COUNTED_ONCE & per_vm.sum.keys():
        np.minimum(per_vm.sum[name], 1, out=per_vm.sum[name])
    if "slot_total" in part.max:
        cells = cells_of(group.of, part.window.count)
        total = grouping.total(cells, part.max["slot_total"], per_vm.size)
        finished = per_vm.sum["success"] + per_vm.sum["warning"] + per_vm.sum["failed"]
        per_vm.max["slot_total"], per_vm.max["slot_mean"] = total, total // np.maximum(finished, 1)
    return _by_columns(per_vm, by)[1]


def _by_columns(part: Aggregates, by: Sequence[str]) -> tuple[Groups, Aggregates]:
    """Add up groups; `join` would keep the last of those that become one."""
    group, count = part.grouped(by), part.window.count
    cells, size = cells_of(group.of, count), group.count * count

    def added(kind: dict[str, Integers], ufunc: np.ufunc, start: int) -> dict[str, Integers]:
        return {
            name: grouping.extreme(cells, values, size, ufunc, start)
            for name, values in kind.items()
        }

    return group, Cells(group, part.window).aggregates(
        sum=added(part.sum, np.add, 0), max=added(part.max, np.maximum, UNKNOWN),
        min=added(part.min, np.minimum, LARGEST),
    )  # fmt: skip


def cells_of(group: Integers, count: int) -> Integers:
    """Return the cells of groups, one per period; -1 of no group."""
    cells = group[:, None] * count + np.arange(count)
    return np.where(group[:, None] < 0, -1, cells).ravel()
