"""What an objective is measured by: sums of each VM, and when VMs were observed and breached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.aggregates import Aggregates, cells_of, combine
from cdpanalytics.metrics.core.exposure import Exposure
from cdpanalytics.metrics.core.groups import groups_of_tables
from cdpanalytics.metrics.core.kernels import (
    Flags,
    Integers,
    running_maximum,
    sort_by_vm_and_time,
)
from cdpanalytics.metrics.core.members import Members
from cdpanalytics.metrics.core.values import UNKNOWN


@dataclass(frozen=True)
class Stretches:
    """Stretches of time, each of a cell; those of one cell are in order and disjoint."""

    cell: Integers
    start: Integers
    stop: Integers

    @classmethod
    def union(cls, cell: Integers, start: Integers, stop: Integers) -> Stretches:
        """Return the union of stretches by cell."""
        order = sort_by_vm_and_time(cell, start)
        cell, start, stop = cell[order], start[order], stop[order]
        if not len(cell):
            return cls(cell, start, stop)
        reach = running_maximum(stop, cell)  # how far the stretches before reach, by cell
        new = np.ones(len(cell), dtype=bool)
        new[1:] = (cell[1:] != cell[:-1]) | (start[1:] > reach[:-1])
        first = np.flatnonzero(new)
        return cls(cell[first], start[first], reach[np.append(first[1:], len(cell)) - 1])

    @classmethod
    def joined(cls, parts: Sequence[Stretches]) -> Stretches:
        """Return the union of several."""
        if len(parts) == 1:
            return parts[0]
        return cls.union(
            *(np.concatenate([getattr(p, n) for p in parts]) for n in ("cell", "start", "stop"))
        )

    def moved(self, cells: Integers, kept: Flags | None = None) -> Stretches:
        """Return the union of the same stretches in other cells; `kept` says which cells are left."""
        some = slice(None) if kept is None else kept[self.cell]
        return Stretches.union(cells[self.cell[some]], self.start[some], self.stop[some])

    def total(self, size: int) -> Integers:
        """Return the length of all stretches of each cell."""
        return grouping.total(self.cell, self.stop - self.start, size)


@dataclass(frozen=True)
class Promised:
    """The partial result of an objective: sums by VM, and its observed and breached stretches.

    A cell is a group of `sums` and a period. Stretches are kept beside the sums because
    the time in which *all* VMs were within their targets is not a sum over VMs.
    """

    sums: Aggregates
    observed: Stretches
    breached: Stretches

    def restrict(self, members: Members, by: Sequence[str]) -> Promised:
        """Return the members' part; it stays by VM, for `group` adds it up."""
        groups = self.sums.groups
        kept = np.flatnonzero(members.contains(groups))
        number = np.full(len(groups), -1)
        number[kept] = np.arange(len(kept))
        cells = cells_of(number, self.sums.window.count)
        sums = _at(self.sums, kept)
        return Promised(sums, *(s.moved(cells, cells >= 0) for s in (self.observed, self.breached)))


def combine_promised(parts: Sequence[Promised]) -> Promised:
    """Return the partial results of disjoint VMs as one."""
    if len(parts) == 1:
        return parts[0]
    names = [str(name) for name in parts[0].sums.groups]
    group = groups_of_tables([part.sums.groups for part in parts], names)
    ends = np.cumsum([len(part.sums.groups) for part in parts])
    numbers = np.split(group.of, ends[:-1])
    count = parts[0].sums.window.count

    def joined(kind: str) -> Stretches:
        return Stretches.joined([
            getattr(part, kind).moved(cells_of(number, count))
            for part, number in zip(parts, numbers, strict=True)
        ])  # fmt: skip

    return Promised(combine([part.sums for part in parts]), joined("observed"), joined("breached"))


def stretches_of(exposure: Exposure, group: Integers, count: int) -> tuple[Stretches, Stretches]:
    """Return when the VMs of a block were observed and breached; a cell is a group and a period.

    Parameters
    ----------
    exposure : Exposure
    group : numpy.ndarray
        The group of each tile.
    count : int
        How many periods there are.
    """
    pieces, tiles, clock = exposure.pieces, exposure.tiles, exposure.clock
    seen = np.flatnonzero(exposure.observed > 0)
    item, start, stop = clock.running(pieces.start[seen], pieces.stop[seen], pieces.tile[seen])
    piece = seen[item]
    tile = pieces.tile[piece]
    cell = group[tile] * count + pieces.period[piece]
    observed = Stretches.union(cell, start, stop)
    # A gap ages while the clock runs; where it is older than its target, the rest is breached.
    since = np.where(tiles.leading, tiles.begin, tiles.covered_until)[tile]
    goal = exposure.gaps.target[tile]
    late = np.zeros(len(pieces.tile), dtype=bool)
    late[exposure.uncovered] = exposure.breached > 0
    some = np.flatnonzero(late[piece] & (goal != UNKNOWN) & (stop > since))
    tile, goal, since = tile[some], goal[some], since[some]
    start, stop = np.maximum(start[some], since), stop[some]
    age = clock.read(start, tile) - clock.read(since, tile) + exposure.gaps.before[tile]
    start = start + np.maximum(goal - age, 0)
    some, start, stop = some[stop > start], start[stop > start], stop[stop > start]
    return observed, Stretches.union(cell[some], start, stop)


def unknown_at_end(exposure: Exposure, edges: Integers) -> Flags:
    """Return which pieces reach the end of their period and are unknown there, because of a hole."""
    pieces = exposure.pieces
    end = edges[pieces.period + 1]
    unknown = np.zeros(len(pieces.tile), dtype=bool)
    for start, stop in exposure.dark:
        unknown |= (start[pieces.tile] < end) & (end <= stop[pieces.tile])
    return np.asarray(unknown & (pieces.stop == end))


def _at(sums: Aggregates, groups: Integers) -> Aggregates:
    """Return the sums of some groups."""
    cells = cells_of(groups, sums.window.count)
    total, most, least = (
        {name: values[cells] for name, values in kind.items()}
        for kind in (sums.sum, sums.max, sums.min)
    )
    return Aggregates(
        sums.groups.iloc[groups].reset_index(drop=True), sums.window, total, most, least
    )
