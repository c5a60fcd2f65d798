"""Sizes of VMs as sums over cells: which size each VM has in each period, as the metrics of sizes share it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.aggregates import Aggregates, Cells, cells_for, join
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.coverage import vm_blocks
from cdpanalytics.metrics.core.exposure import arrays_of, retirements
from cdpanalytics.metrics.core.kernels import (
    LARGEST,
    Flags,
    Integers,
    sort_by_vm_and_time,
)
from cdpanalytics.metrics.core.question import Question, Terms
from cdpanalytics.metrics.core.values import amounts
from cdpanalytics.metrics.core.windows import window
from cdpanalytics.parallel import parallel_map

Reading = Literal["size", "volume"]
"""How a size is read: as the state of a VM, or as what its sessions produced."""

_ROLLING = 7
"""Periods in the rolling mean."""


def size_aggregates(
    sessions: pd.DataFrame, question: Question, terms: Terms, reading: Reading = "size"
) -> Aggregates:
    """Return what `sizes` is made of."""
    if reading not in ("size", "volume"):
        raise InputError(f"reading={reading!r} is not known; use size or volume")
    if "total_size" not in sessions:
        raise InputError("no column 'total_size' (bytes); sizes need it beside vm, created, ended")
    arrays = arrays_of(sessions, question, terms)
    periods = window(arrays, question)
    cells = cells_for(arrays, question.by, periods)
    retired = retirements(arrays, terms)
    size = amounts(arrays.frame)
    last = min(int(periods.edges[-1]), arrays.as_of)
    sized = arrays.finished & size.notna().to_numpy() & (arrays.ended <= last)
    amount = np.asarray(size.fillna(0), dtype=np.int64)
    if not periods.closed:
        sized &= arrays.ended < periods.edges[-1]

    def part(rows: Integers) -> Aggregates:
        rows = rows[rows < len(sized)]
        rows = rows[sized[rows]]
        return _changes(arrays, cells.among(rows), rows, amount[rows], retired, reading)

    parts = parallel_map(part, vm_blocks(arrays))
    sums = join(cells, parts, [part.groups.index.to_numpy() for part in parts])
    added = sums.sum
    carried = {"vms", "retired"} | ({"size"} if reading == "size" else set())
    for name in carried:
        added[name] = added[name].reshape(sums.shape).cumsum(axis=1).ravel()
    running = np.flatnonzero(arrays.running)
    began = cells.of(running, periods.place(arrays.created[running]))
    return cells.aggregates(sum=added | {"running": grouping.count(began, cells.size)})


def has_size(sums: Aggregates, reading: Reading = "size") -> Flags:
    """Return which cells have a size that is known."""
    added = sums.sum
    return (added["vms"] > 0) | ((added["sessions"] > 0) & (reading == "volume"))


def whole_periods(sums: Aggregates, known: Flags) -> Flags:
    """Return which cells are of whole periods with a size."""
    return np.tile(sums.window.whole, sums.shape[0]) & known


def _changes(
    arrays: SessionArrays,
    own: Cells,
    rows: Integers,
    size: Integers,
    retired: tuple[Integers, Integers],
    reading: Reading,
) -> Aggregates:
    """What the sized sessions of some VMs change of their cells' VMs, sizes and retired VMs.

    Each ended session moves its VM to its own group and size; what it moves away
    from is taken off, so sums of changes carry every level forward. Where a VM is
    retired it moves nowhere.
    """
    periods, group = own.window, own.group.of
    vm, ended, created = arrays.vm[rows], arrays.ended[rows], arrays.created[rows]
    ended_in = own.of(np.arange(len(rows)), periods.place_ends(ended))
    added = {"sessions": grouping.count(ended_in, own.size)}
    if reading == "volume":
        inside = ended_in >= 0
        added["size"] = grouping.total(ended_in[inside], size[inside], own.size)
    kept = slice(None) if not len(retired[0]) else ended <= _retired_since(vm, retired)
    vm, ended, created, size, group = (v[kept] for v in (vm, ended, created, size, group))
    order = sort_by_vm_and_time(vm, ended, lambda tied: (created[tied], size[tied], group[tied]))
    vm, ended, group, size = (values[order] for values in (vm, ended, group, size))
    cell = group * periods.count + periods.period(ended)
    before = np.flatnonzero(vm[1:] == vm[:-1])
    left = cell[before + 1] + (group[before] - group[before + 1]) * periods.count
    last = np.searchsorted(vm, retired[0], side="right") - 1
    # A window after as_of shows what was known at as_of, as one that ends there does.
    leaves = (last >= 0) & (retired[1] < min(periods.edges[-1], arrays.as_of))
    leaves[leaves] = vm[last[leaves]] == retired[0][leaves]
    last = last[leaves]
    leaving = group[last] * periods.count + periods.period(retired[1][leaves])
    nowhere = grouping.count(leaving, own.size)
    added["vms"] = grouping.count(cell, own.size) - grouping.count(left, own.size) - nowhere
    added["retired"] = nowhere
    if reading == "size":
        added["size"] = grouping.total(cell, size, own.size)
        added["size"] -= grouping.total(left, size[before], own.size)
        added["size"] -= grouping.total(leaving, size[last], own.size)
    return own.aggregates(sum=added)


def _retired_since(vm: Integers, retired: tuple[Integers, Integers]) -> Integers:
    """Since when the VM of each row is retired; the end of time where it is not."""
    vms, since = np.append(retired[0], LARGEST), np.append(retired[1], LARGEST)
    at = np.searchsorted(vms, vm)
    return np.where(vms[at] == vm, since[at], LARGEST)


def size_table(sums: Aggregates, reading: Reading = "size") -> pd.DataFrame:
    """The table of `sizes`: NA where no size is known, and the rolling mean."""
    added, keys, known = sums.sum, sums.keys(), has_size(sums, reading)
    rolling = _rolling(added["size"].reshape(sums.shape), known.reshape(sums.shape))
    figures = {
        "vms": added["vms"], "sessions": added["sessions"],
        "size": pd.arrays.IntegerArray(added["size"], ~known), "rolling": rolling.ravel(),
        "running": added["running"], "retired": added["retired"],
    }  # fmt: skip
    return grouping.table_of(keys, figures)


def _rolling(level: Integers, known: Flags) -> np.ndarray:
    """The mean of each period and those before it, NaN where not all are known."""
    mean = np.full(level.shape, np.nan)
    if level.shape[1] >= _ROLLING:
        whole = sliding_window_view(known, _ROLLING, axis=1).all(axis=2)
        sums = sliding_window_view(level, _ROLLING, axis=1).sum(axis=2)
        mean[:, _ROLLING - 1 :] = np.where(whole, sums / _ROLLING, np.nan)
    return mean
