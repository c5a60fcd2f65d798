"""The numeric kernels: sorting, running maxima, duplicated uids and quantiles, each faster than pandas.

Each is here because a benchmark says so (docs/performance.md); everything else in the
package uses plain NumPy and pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from cdpanalytics.parallel import parallel_map

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

BLOCK = 1 << 16
"""Rows per block: the intermediate arrays of one block stay in a core's cache."""

LARGEST = np.iinfo(np.int64).max

# -- order -----------------------------------------------------------------------------


def sort_by_vm_and_time(
    vm: Integers,
    time: Integers,
    ties: Callable[[Integers], Sequence[NDArray[Any]]] = lambda tied: (),
) -> Integers:
    """Return the order of rows by VM, then time, then the keys that `ties` returns for the tied rows.

    `numpy.lexsort` of all keys takes five times as long. Sessions of an archive are nearly
    in order of time within each VM, and few are tied. So the VMs are sorted first (a stable
    sort of small integers, which NumPy does by radix), then the packed (VM, time) keys (a
    merge sort that is fast on nearly sorted input), and only tied rows go through lexsort.
    """
    keys = _packed_keys(vm, time)
    order, in_order = np.arange(len(keys)), keys
    if not _is_sorted(in_order):
        order = np.argsort(vm.astype(np.min_scalar_type(vm.max(initial=0))), kind="stable")
        in_order = keys[order]
    if not _is_sorted(in_order):
        remaining = np.argsort(in_order, kind="stable")
        order, in_order = order[remaining], in_order[remaining]
    equal = in_order[1:] == in_order[:-1]
    tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal)) if len(keys) else order
    if len(tied):
        rows = order[tied]
        order[tied] = rows[np.lexsort((*reversed(ties(rows)), in_order[tied]))]
    return order


def _is_sorted(keys: Integers) -> bool:
    return not (keys[1:] < keys[:-1]).any()


def _packed_keys(vm: Integers, time: Integers) -> Integers:
    """Return one integer per (VM, time) pair; the integers sort as the pairs do.

    One integer is compared in one instruction, and `searchsorted` takes it. Times are
    counted from the earliest, so that a fleet's product of VMs and microseconds fits into
    63 bits for any fleet that exists (10,000 VMs: 29 years); where it does not, times are
    replaced by their rank.
    """
    if not len(vm):
        return vm
    low, width = int(time.min()), int(time.max()) - int(time.min()) + 1
    if width * (int(vm.max()) + 1) > LARGEST:
        times, time = np.unique(time, return_inverse=True)
        low, width = 0, len(times)
    keys = vm * width
    keys += time
    keys -= low
    return keys


def compact_codes(codes: Integers) -> tuple[Integers, Integers]:
    """Return each code's rank among the distinct codes, and the distinct codes in order.

    The same as ``numpy.unique(codes, return_inverse=True)``, which sorts. Codes made of a
    few categories are small, so a table with one place per possible code finds the distinct
    ones without a sort, in a tenth of the time. Where the table would be much larger than
    the column, `numpy.unique` is used.
    """
    size = int(codes.max(initial=0)) + 1
    if size > 8 * len(codes) + 1024:
        values, rank = np.unique(codes, return_inverse=True)
        return rank.astype(np.int64, copy=False), values
    occurs = np.zeros(size, dtype=bool)
    occurs[codes] = True
    values = np.flatnonzero(occurs)
    rank = np.cumsum(occurs) - 1
    return rank[codes], values


def last_before(vms: Integers, times: Integers, vm: Integers, end: Integers) -> Integers:
    """Return the position of the last of the sorted pairs (vms, times) before each (vm, end); -1 for none."""
    keys = _packed_keys(np.concatenate([vms, vm]), np.concatenate([times, end]))
    return np.searchsorted(keys[: len(vms)], keys[len(vms) :]) - 1


def running_maximum(values: Integers, segment: Integers) -> Integers:
    """Return the running maximum of `values`, started anew in each segment (0, 0, 1, 3, 3, ...).

    `groupby.cummax` takes nine times as long. Each segment's values are lifted above all
    values of the segments before it; then one running maximum over the whole array cannot
    carry a value across a border, and the lift is taken off again. Where the lifted values
    would not fit into 62 bits, pandas does it.
    """
    if not len(values):
        return values
    low = values.min()
    width = values.max() - low + 1
    if int(width) * (int(segment[-1]) + 1) < 2**62:
        lift = segment * width
        lift -= low
        highest = values + lift
        np.maximum.accumulate(highest, out=highest)
        highest -= lift
        return highest
    grouped = pd.Series(values).groupby(segment)
    return np.asarray(grouped.cummax(), dtype=np.int64)


def expand(first: Integers, count: Integers) -> tuple[Integers, Integers]:
    """Return for each item, `count` times, its position, and `first`, `first` + 1, and so on.

    Examples
    --------
    >>> item, number = expand(np.array([5, 9]), np.array([2, 1]))
    >>> item.tolist(), number.tolist()
    ([0, 0, 1], [5, 6, 9])
    """
    item = np.repeat(np.arange(len(first)), count)
    before = np.cumsum(count) - count
    return item, np.arange(len(item)) + (first - before)[item]


def group_quantiles(
    values: Integers, group: Integers, size: int, levels: Sequence[float]
) -> tuple[list[NDArray[np.float64]], Integers, Integers]:
    """Return linear quantiles (type 7) of each group that has values, from one sort.

    ``groupby.quantile`` sorts once per level and takes 2.6 times as long for two levels.
    Each group's values are lifted above those of the groups before it, so that one plain
    sort of integers orders all groups at once; the quantile is then read at
    ``(n - 1) * level`` within each group, between its two neighbours.

    Returns
    -------
    quantiles : list of numpy.ndarray
        One array per level, one entry per group that has values.
    groups : numpy.ndarray
        Those groups.
    ordered : numpy.ndarray
        The values in order within each group, group after group.
    """
    ordered = _sorted_in_groups(values, group, size)
    counts = np.bincount(group, minlength=size)
    groups = np.flatnonzero(counts)
    count, first = counts[groups], (np.cumsum(counts) - counts)[groups]

    def quantile(level: float) -> NDArray[np.float64]:
        place = (count - 1) * level
        below = first + place.astype(np.int64)
        above = np.minimum(below + 1, first + count - 1)
        return np.asarray(ordered[below] + (ordered[above] - ordered[below]) * (place % 1))

    return [quantile(level) for level in levels], groups, ordered


def _sorted_in_groups(values: Integers, group: Integers, size: int) -> Integers:
    width = int(values.max(initial=0)) + 1
    if width * size > LARGEST:
        return values[np.lexsort((values, group))]
    lifted = np.sort(group * width + values)
    return lifted - np.repeat(np.arange(size) * width, np.bincount(group, minlength=size))


# -- duplicated uids --------------------------------------------------------------------

_GUID_BYTES = 36
_WORDS = np.dtype({
    "names": ["a", "b", "c", "d", "e"], "formats": ["<u8"] * 5,
    "offsets": [0, 8, 16, 24, 28], "itemsize": _GUID_BYTES,
})  # fmt: skip
"""The 36 characters of a GUID as five integers; the last two overlap."""

_FACTORS = {
    "a": 0x9E3779B97F4A7C15, "b": 0xBF58476D1CE4E5B9, "c": 0x94D049BB133111EB,
    "d": 0xD6E8FEB86659FD93, "e": 0xFF51AFD7ED558CCD,
}  # fmt: skip
"""Odd numbers: two GUIDs that differ in one word only never have the same digest."""


def duplicated_positions(uid: pd.Series) -> Integers:
    """Return the positions of rows whose uid occurs in another row; a missing uid is not a duplicate.

    ``Series.duplicated`` hashes a million strings of 36 characters in 0.7 s. A 64-bit
    digest of each GUID is computed straight from Arrow's buffer and sorted as integers,
    seven times as fast. Rows with a digest of their own have a uid of their own; only
    the others, in practice none, are compared as text, so that the answer is exact.
    """
    candidates = np.flatnonzero(_may_repeat(uid))
    if not len(candidates):
        return candidates
    some = uid.iloc[candidates]
    return candidates[(some.duplicated(keep=False) & some.notna()).to_numpy(dtype=bool)]


def _may_repeat(uid: pd.Series) -> Flags:
    """Rows whose digest occurs again, or all rows where uids are not GUIDs held by Arrow."""
    if isinstance(uid.dtype, pd.StringDtype) and len(uid):
        try:
            blocks = pa.table({"uid": pa.chunked_array(uid)}).to_batches(BLOCK)
            digests = np.concatenate(parallel_map(lambda block: _digests(block.column(0)), blocks))
        except pa.ArrowInvalid:  # uids of another width
            return np.ones(len(uid), dtype=bool)
        in_order = np.sort(digests)
        return np.isin(digests, in_order[1:][in_order[1:] == in_order[:-1]])
    return np.ones(len(uid), dtype=bool)


def _digests(uids: pa.Array) -> NDArray[np.uint64]:
    guids = uids.cast(pa.binary(_GUID_BYTES))
    words = np.frombuffer(guids.buffers()[1], _WORDS, len(guids), guids.offset * _GUID_BYTES)
    digests = np.zeros(len(guids), dtype=np.uint64)
    for name, factor in _FACTORS.items():
        digests += words[name] * np.uint64(factor)
    return digests
