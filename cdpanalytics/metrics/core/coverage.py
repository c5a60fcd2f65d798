"""Coverage: when each VM was protected, found in one sweep over its sessions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

import numpy as np

from cdpanalytics.metrics.core import kernels
from cdpanalytics.metrics.core.arrays import SUCCESS, SessionArrays
from cdpanalytics.metrics.core.kernels import (
    Integers,
    last_before,
    parallel_map,
    running_maximum,
    sort_by_vm_and_time,
)
from cdpanalytics.metrics.core.question import PROTECTS


@dataclass(frozen=True)
class Coverage:
    """One row per protecting span, by VM and beginning; together they tile each VM's time.

    Position i owns ``[begin, finish)``, up to where the VM's next span begins or to
    as_of. Covered is ``[begin, min(covered_until, finish))``; the rest is its gap.
    `strict_until` is the same where only Success and running sessions cover: it
    may lie before `begin`, and exposure is counted from it. `row` is the session's
    position in the arrays.
    """

    row: Integers
    vm: Integers
    begin: Integers
    finish: Integers
    covered_until: Integers
    strict_until: Integers

    def at(self, cut: slice | Integers) -> Coverage:
        """Return some of the spans."""
        return Coverage(*(getattr(self, column.name)[cut] for column in fields(self)))


def coverage(arrays: SessionArrays, protects: Collection[str] = PROTECTS) -> Coverage:
    """Return each VM's protecting spans in order, with how far each covers.

    Empty spans and those that begin at or after as_of cover nothing and are left out.
    `protects` are the verdicts that protect; running sessions always do.
    """
    parts = parallel_map(lambda rows: _sweep(arrays, protects, rows), by_vm(arrays))
    return Coverage(*map(np.concatenate, zip(*parts, strict=True)))


def by_vm(arrays: SessionArrays) -> list[Integers]:
    """Return the positions of sessions, VM after VM, cut between VMs into blocks."""
    vm = arrays.vm[: len(arrays.created)]
    order = np.argsort(vm.astype(np.min_scalar_type(vm.max(initial=0))), kind="stable")
    ends = np.cumsum(np.bincount(vm))
    edges = ends[np.flatnonzero(np.diff(ends // kernels.BLOCK, prepend=0))]
    return np.split(order, edges[edges < len(order)])


def _sweep(
    arrays: SessionArrays, protects: Collection[str], rows: Integers
) -> tuple[Integers, ...]:
    """The columns of `Coverage` of some VMs' sessions.

    Sessions are put in order of VM and beginning. The running maximum of their ends is how
    far cover reaches at each beginning: a gap opens where it is smaller than the VM's next
    beginning. A second running maximum, of the ends of Success and running sessions only,
    gives the strict reading; it starts at the VM's first beginning, so that a VM that was
    never strictly covered is exposed from there.
    """
    mine = arrays.at(rows)
    stop = np.minimum(mine.stop, mine.as_of)
    covers = mine.protecting(protects) & (stop > mine.created)
    policy = arrays.keys["policy"].codes
    # Of spans begun together the longest owns the time, then the last policy by name, then the
    # smallest target (no target, the least integer, stays the least when negated).
    order = sort_by_vm_and_time(
        mine.vm, mine.created,
        lambda tied: (stop[tied], policy[rows[tied]], -arrays.rpo[rows[tied]]),
    )  # fmt: skip
    row = order[covers[order]]
    begin, stop, vm = mine.created[row], stop[row], mine.vm[row]
    first = np.ones(len(row), dtype=bool)
    first[1:] = vm[1:] != vm[:-1]
    finish = np.full(len(row), mine.as_of, dtype=np.int64)
    finish[:-1] = np.where(first[1:], mine.as_of, begin[1:])
    strict = (mine.verdict[row] == SUCCESS) | mine.running[row]
    strict_stop = np.where(strict, stop, begin.min(initial=mine.as_of))
    strict_stop[first] = np.maximum(strict_stop[first], begin[first])
    reach, strict_reach = running_maximum(stop, vm), running_maximum(strict_stop, vm)
    return rows[row], vm, begin, finish, reach, strict_reach


def blackouts(arrays: SessionArrays, spans: Coverage) -> list[tuple[Integers, Integers]]:
    """Return when each span's VM was not observed: a start and a stop per span, for each hole.

    What begins inside a hole is not known. So a VM is observed again at the hole's end
    where a protecting span begun by then reaches beyond it, else when its next session
    of any verdict begins, else never. Stretches of one VM are in order and do not
    overlap; an empty one starts where it stops.
    """
    if not arrays.holes or not len(spans.row):
        return []
    low, high = int(spans.begin.min()), arrays.as_of
    vms, machine = np.unique(spans.vm, return_inverse=True)
    first = np.searchsorted(spans.vm, vms, side="left")
    server = arrays.keys["backup_server"].codes[spans.row[first]]
    order = sort_by_vm_and_time(arrays.vm[: len(arrays.created)], arrays.created)
    session_vm, begun = arrays.vm[order], arrays.created[order]
    reached, stretches = np.full(len(vms), low), []
    for hole in arrays.holes:
        end = np.full(len(vms), hole.stop)
        span_at = last_before(spans.vm, spans.begin, vms, end + 1)
        safe = np.maximum(span_at, 0)
        covered = (span_at >= 0) & (spans.vm[safe] == vms) & (spans.covered_until[safe] > hole.stop)
        after = last_before(session_vm, begun, vms, end) + 1
        safe = np.minimum(after, len(begun) - 1)
        again = np.where((after < len(begun)) & (session_vm[safe] == vms), begun[safe], high)
        mine = (server == hole.server) | (hole.server is None)
        stop = np.clip(np.where(covered, hole.stop, again), low, max(high, low))
        stop = np.where(mine, np.maximum(stop, reached), reached)
        start = np.clip(hole.start, reached, stop)
        reached = stop
        stretches.append((start[machine], stop[machine]))
    return stretches
