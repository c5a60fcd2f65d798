"""Blackouts: when a VM was not observed, because sessions may be missing after a hole of the archive."""

from __future__ import annotations

import numpy as np

from cdpanalytics.metrics.core.arrays import Hole, SessionArrays
from cdpanalytics.metrics.core.coverage import Coverage
from cdpanalytics.metrics.core.kernels import (
    Integers,
    last_before,
    running_maximum,
    sort_by_vm_and_time,
)
from cdpanalytics.metrics.core.values import UNKNOWN, durations_of

DAY = 86_400_000_000
"""Microseconds in 24 hours: the cadence of a VM of which nothing else is known."""


def blackouts(
    arrays: SessionArrays, rows: Integers, tiles: Coverage
) -> list[tuple[Integers, Integers]]:
    """Return when each tile's VM was not observed: a start and a stop per tile, for each hole.

    What began inside a hole is not known. So a VM is observed again at the hole's end where
    a known protecting span begun by then reaches beyond it; else when its next session of
    any verdict begins; but at the latest when 1.1 times its cadence has passed since the
    hole's end: by then the next session would have begun outside of the hole, and be
    known. Stretches of one VM are in order and do not overlap; an empty one starts where
    it stops.

    Parameters
    ----------
    arrays : SessionArrays
    rows : numpy.ndarray
        Positions of all sessions of the tiles' VMs.
    tiles : Coverage
    """
    if not arrays.holes or not len(tiles.row):
        return []
    first = np.flatnonzero(tiles.first_of_vm)
    vms, machine = tiles.vm[first], np.cumsum(tiles.first_of_vm) - 1
    low, high = tiles.begin[first], np.full(len(first), arrays.as_of)
    server = arrays.keys["backup_server"].codes[tiles.row[first]]
    history = _History(arrays, rows, tiles, vms)
    reached, stretches = low, []
    for hole in arrays.holes:
        limit = hole.stop + history.cadence(hole) * 11 // 10
        again = np.minimum(history.next_beginning(hole.stop), np.minimum(limit, high))
        stop = np.clip(np.where(history.reaches_beyond(hole.stop), hole.stop, again), low, high)
        concerned = (server == hole.server) | (hole.server is None)
        stop = np.where(concerned, np.maximum(stop, reached), reached)
        start = np.clip(hole.start, reached, stop)
        reached = stop
        stretches.append((start[machine], stop[machine]))
    return stretches


class _History:
    """The sessions of some VMs in order, to ask what was known of each VM at an instant."""

    def __init__(
        self, arrays: SessionArrays, rows: Integers, tiles: Coverage, vms: Integers
    ) -> None:
        self.arrays, self.vms = arrays, vms
        self.tiles = tiles.at(~tiles.leading)
        there = rows[arrays.created[rows] < arrays.as_of]
        order = there[sort_by_vm_and_time(arrays.vm[there], arrays.created[there])]
        self.vm, self.begun = arrays.vm[order], arrays.created[order]
        length = np.where(arrays.finished[order], arrays.ended[order] - self.begun, 0)
        self.longest = running_maximum(length, self.vm)

    def _last(self, vm: Integers, begun: Integers, end: int) -> tuple[Integers, Integers]:
        """Of each VM the last position of those begun before `end`, and whether there is one."""
        if not len(vm):
            return np.zeros(len(self.vms), dtype=np.int64), np.zeros(len(self.vms), dtype=bool)
        at = last_before(vm, begun, self.vms, np.full(len(self.vms), end))
        safe = np.maximum(at, 0)
        return safe, (at >= 0) & (vm[safe] == self.vms)

    def reaches_beyond(self, instant: int) -> Integers:
        """Whether a protecting span begun by `instant` covers it."""
        at, known = self._last(self.tiles.vm, self.tiles.begin, instant + 1)
        if not len(self.tiles.vm):
            return known
        return known & (self.tiles.covered_until[at] > instant)

    def next_beginning(self, instant: int) -> Integers:
        """When the first session at or after `instant` begins; as_of without one."""
        keys = last_before(self.vm, self.begun, self.vms, np.full(len(self.vms), instant))
        after = np.minimum(keys + 1, len(self.vm) - 1)
        has_next = (keys + 1 < len(self.vm)) & (self.vm[after] == self.vms)
        return np.where(has_next, self.begun[after], self.arrays.as_of)

    def cadence(self, hole: Hole) -> Integers:
        """The time between two sessions of each VM, as known when the hole began."""
        at, known = self._last(self.vm, self.begun, hole.start)
        longest = np.where(known, self.longest[at], 0) if len(self.vm) else np.zeros_like(at)
        cadence = np.where(longest > 0, longest, DAY)
        at, known = self._last(self.tiles.vm, self.tiles.begin, hole.start)
        if not known.any():
            return cadence
        policy, settings = self.arrays.setting("long_term", hole.start)
        steps = durations_of(settings, "long_term")
        step = steps[policy[self.tiles.row[at]]]
        return np.where(known & (step != UNKNOWN) & (step > 0), step, cadence)
