"""Exact integers by group and period: what metrics are made of, and how those of disjoint VMs add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.groups import By, Groups
from cdpanalytics.metrics.core.spans import MOST, UNKNOWN, Integers, Records, numbered
from cdpanalytics.metrics.core.windows import Window


@dataclass(frozen=True)
class Sums:
    """Integers by cell, a group and a period each; the window is the same for all that are merged.

    `added` are sums and counts, `greatest` maxima (UNKNOWN, the least integer, where there
    is none), `least` minima (MOST where there is none). Ratios are made of them last.
    """

    groups: pd.DataFrame
    window: Window
    added: dict[str, Integers]
    greatest: dict[str, Integers] = field(default_factory=dict)
    least: dict[str, Integers] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of groups, and of periods."""
        return len(self.groups), self.window.count

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.groups) * self.window.count

    def keys(self) -> pd.DataFrame:
        """Return a row a cell: the keys, and `period` where there is one."""
        keys = self.groups.loc[self.groups.index.repeat(self.window.count)]
        keys = keys.reset_index(drop=True)
        if self.window.periods is not None:
            keys["period"] = self.window.column(len(self.groups))
        return keys

    def single(self, name: str) -> Integers:
        """Return the one value of each cell, UNKNOWN where it has several or none."""
        low, high = self.least[name], self.greatest[name]
        return np.where(low == high, low, UNKNOWN)


@dataclass(frozen=True)
class Tally:
    """The cells that records fall into."""

    group: Groups
    window: Window

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.group.count * self.window.count

    def cells(self, row: Integers, period: Integers) -> Integers:
        """Return the cell of each record position and period; -1 in no period."""
        cells = self.group.of[row] * self.window.count
        cells += period
        cells[period < 0] = -1
        return cells

    def among(self, rows: Integers) -> Tally:
        """Return the cells of these records alone, their groups known by number, not by keys."""
        of, groups = numbered(self.group.of[rows])
        return Tally(Groups(of.astype(np.int64), pd.DataFrame(index=groups)), self.window)

    def sums(self, **values: dict[str, Integers]) -> Sums:
        """Return integers by cell as sums."""
        return Sums(self.group.keys, self.window, **values)


def tally(records: Records, by: By, frame: Window) -> Tally:
    """Return the cells of a grouping and a window."""
    return Tally(grouping.groups(records, by), frame)


def merge(parts: Sequence[Sums]) -> Sums:
    """Return the sums of all parts, groups in order of their keys.

    Examples
    --------
    >>> frame = Window(np.array([0, 1]), None, None, True)
    >>> one = Sums(pd.DataFrame({"vm": ["b"]}), frame, {"gaps": np.array([2])})
    >>> two = Sums(pd.DataFrame({"vm": ["a", "b"]}), frame, {"gaps": np.array([1, 3])})
    >>> merge([one, two]).added["gaps"].tolist()
    [1, 5]
    """
    every = pd.concat([part.groups for part in parts], ignore_index=True)
    names = list(every.columns)
    if names:
        group = grouping.in_order({name: grouping.labelled(every[name]) for name in names})
    else:
        group = Groups(np.zeros(len(every), dtype=np.int64), pd.DataFrame(index=pd.RangeIndex(1)))
    ends = np.cumsum([len(part.groups) for part in parts])
    return joined(Tally(group, parts[0].window), parts, np.split(group.of, ends[:-1]))


def joined(tally: Tally, parts: Sequence[Sums], groups: Sequence[Integers]) -> Sums:
    """Return the sums of all parts in the cells of `tally`, told which of its groups each has."""
    count = tally.window.count
    places = [(of[:, None] * count + np.arange(count)).ravel() for of in groups]

    def every(kind: str, ufunc: np.ufunc, start: int) -> dict[str, Integers]:
        found = {name: np.full(tally.size, start) for name in getattr(parts[0], kind)}
        for place, part in zip(places, parts, strict=True):
            for name, values in getattr(part, kind).items():
                found[name][place] = ufunc(found[name][place], values)
        return found

    return tally.sums(
        added=every("added", np.add, 0), greatest=every("greatest", np.maximum, UNKNOWN),
        least=every("least", np.minimum, MOST),
    )  # fmt: skip
