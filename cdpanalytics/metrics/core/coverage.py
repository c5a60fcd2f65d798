"""Coverage: when each VM was protected, found in one sweep over its sessions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

import numpy as np

from cdpanalytics.metrics.core import kernels
from cdpanalytics.metrics.core.arrays import SUCCESS, SessionArrays
from cdpanalytics.metrics.core.kernels import (
    Flags,
    Integers,
    running_maximum,
    sort_by_vm_and_time,
)
from cdpanalytics.metrics.core.question import PROTECTS


@dataclass(frozen=True)
class Coverage:
    """The tiles of some VMs: stretches of time, each owned by one session, in order of VM and time.

    A VM's time from its first attempt to as_of is tiled without a break. Before its first
    protecting span each attempt owns the time up to the next one (`leading`); from then on
    each protecting span does. Position i owns ``[begin, finish)`` and covers
    ``[begin, min(covered_until, finish))``; the rest is uncovered. A leading tile covers
    nothing: its `covered_until` is the VM's first attempt.

    `strict_until` is `covered_until` where only Success and running sessions cover: it may
    lie before `begin`, and exposure is counted from it. `row` is the session's position in
    the arrays, `place` its position among those that were swept.
    """

    row: Integers
    place: Integers
    vm: Integers
    begin: Integers
    finish: Integers
    covered_until: Integers
    strict_until: Integers
    leading: Flags

    def at(self, cut: slice | Integers | Flags) -> Coverage:
        """Return some of the tiles."""
        return Coverage(*(getattr(self, column.name)[cut] for column in fields(self)))

    def frozen(self) -> Coverage:
        """Return the same tiles, which nothing can change from now on."""
        for column in fields(self):
            getattr(self, column.name).flags.writeable = False
        return self

    @property
    def first_of_vm(self) -> Flags:
        """Which tiles are the first of their VM."""
        first = np.ones(len(self.vm), dtype=bool)
        first[1:] = self.vm[1:] != self.vm[:-1]
        return first

    @property
    def last_of_vm(self) -> Flags:
        """Which tiles are the last of their VM."""
        last = np.ones(len(self.vm), dtype=bool)
        last[:-1] = self.vm[1:] != self.vm[:-1]
        return last

    def covers(self) -> Integers:
        """Return up to where each tile is covered, within the tile."""
        return np.clip(self.covered_until, self.begin, self.finish)


def vm_blocks(arrays: SessionArrays) -> list[Integers]:
    """Return the positions of sessions and of listed VMs, cut between VMs into blocks.

    Within a block sessions come first. Blocks are as large as a core's cache likes; one VM
    is never cut.
    """
    return arrays.once("blocks", lambda: _vm_blocks(arrays))


def _vm_blocks(arrays: SessionArrays) -> list[Integers]:
    count = len(arrays.created)
    order = np.argsort(
        arrays.vm.astype(np.min_scalar_type(arrays.vm.max(initial=0))), kind="stable"
    )
    ends = np.cumsum(np.bincount(arrays.vm)) if len(order) else order
    edges = ends[np.flatnonzero(np.diff(ends // kernels.BLOCK, prepend=0))]
    blocks = np.split(order, edges[edges < len(order)])
    if len(order) == count:
        return blocks
    return [np.concatenate([rows[rows < count], rows[rows >= count]]) for rows in blocks]


def sweep(
    arrays: SessionArrays,
    rows: Integers,
    protects: Collection[str] = PROTECTS,
    tie: Integers | None = None,
) -> Coverage:
    """Return the tiles of some VMs, of which `rows` are all sessions.

    Sessions are put in order of VM and beginning. The running maximum of their ends is how
    far cover reaches at each beginning: a gap opens where it is smaller than the VM's next
    beginning. A second running maximum, of the ends of Success and running sessions only,
    gives the strict reading. Both start at the VM's first attempt, so that what was never
    covered is exposed from there.

    Tiles do not depend on the target. Where all sessions are one block they are kept, because
    the same sessions are asked about again under another target.

    Parameters
    ----------
    arrays : SessionArrays
    rows : numpy.ndarray
        Positions of sessions, as `vm_blocks` gives them. Those that begin at or after as_of
        are not there.
    protects : collection of str
        Verdicts that protect; running sessions always do.
    tie : numpy.ndarray, optional
        A last rank of each session, for spans that are alike in everything else.
    """
    if not len(rows) == len(arrays.created) <= kernels.BLOCK:
        return _sweep(arrays, rows, protects, tie)
    key = "tiles", frozenset(protects), None if tie is None else tie.tobytes()
    return arrays.once(key, lambda: _sweep(arrays, rows, protects, tie).frozen())


def _sweep(
    arrays: SessionArrays, rows: Integers, protects: Collection[str], tie: Integers | None
) -> Coverage:
    mine = arrays.at(rows)
    stop = np.minimum(mine.stop, mine.as_of)
    covers = mine.protecting(protects) & (stop > mine.created)
    policy = arrays.keys["policy"].codes
    # Of sessions begun together the longest owns the time, then the last policy by name, then
    # the smallest target (no target, the least integer, stays the least when negated).
    order = sort_by_vm_and_time(
        mine.vm, mine.created,
        lambda tied: (
            covers[tied], stop[tied], policy[rows[tied]], -arrays.rpo[rows[tied]],
            *([] if tie is None else [tie[rows[tied]]]),
        ),
    )  # fmt: skip
    protected_by_now = running_maximum(covers[order].astype(np.int64), mine.vm[order]) > 0
    leading = mine.attempt[order] & ~protected_by_now
    kept = covers[order] | leading
    place, leading = order[kept], leading[kept]
    begin, stop, vm = mine.created[place], stop[place], mine.vm[place]
    first = np.ones(len(place), dtype=bool)
    first[1:] = vm[1:] != vm[:-1]
    finish = np.full(len(place), mine.as_of, dtype=np.int64)
    finish[:-1] = np.where(first[1:], mine.as_of, begin[1:])
    origin = begin[first][np.cumsum(first) - 1]
    strict = ~leading & ((mine.verdict[place] == SUCCESS) | mine.running[place])
    reach = running_maximum(np.where(leading, origin, stop), vm)
    strict_reach = running_maximum(np.where(strict, stop, origin), vm)
    return Coverage(rows[place], place, vm, begin, finish, reach, strict_reach, leading)
