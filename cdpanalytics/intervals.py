"""Arithmetic of half-open intervals ``[start, end)``.

The functions on pairs take anything that can be ordered (dates, timestamps, integers) and
return sorted pairs; they take ``n log n``. Those on arrays (`union_of`, `difference_of`,
`intersection_of`, `total_of`) are for many intervals: starts and ends are two ``int64`` arrays
of one length, for example microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)

Edges = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Starts and ends of intervals, as two arrays of one length."""

# -- pairs -----------------------------------------------------------------------------


def merge(intervals: Iterable[tuple[T, T]]) -> list[tuple[T, T]]:
    """Return the union of intervals: in order, without overlaps; adjoining ones become one.

    Examples
    --------
    >>> merge([(5, 7), (1, 3), (2, 4), (4, 5), (9, 9)])
    [(1, 7)]
    """
    merged: list[tuple[T, T]] = []
    for start, end in sorted(intervals):
        if not start < end:
            continue
        if merged and not merged[-1][1] < start:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def union(first: Iterable[tuple[T, T]], second: Iterable[tuple[T, T]]) -> list[tuple[T, T]]:
    """Return the time that lies in one of two sets of intervals, as `merge` returns it.

    Examples
    --------
    >>> union([(0, 2), (8, 9)], [(1, 4)])
    [(0, 4), (8, 9)]
    """
    return merge([*first, *second])


def subtract(intervals: Iterable[tuple[T, T]], removed: Iterable[tuple[T, T]]) -> list[tuple[T, T]]:
    """Return what is left of intervals, each for itself, when others are taken out of them.

    Intervals that overlap or adjoin are not merged: what is left of each follows in the order
    given.

    Examples
    --------
    >>> subtract([(0, 10)], [(2, 3), (8, 12)])
    [(0, 2), (3, 8)]
    """
    holes = merge(removed)
    left: list[tuple[T, T]] = []
    for start, end in intervals:
        for low, high in holes:
            if not low < end:
                break
            if start < low:
                left.append((start, low))
            if start < high:
                start = high
        if start < end:
            left.append((start, end))
    return left


def intersect(first: Iterable[tuple[T, T]], second: Iterable[tuple[T, T]]) -> list[tuple[T, T]]:
    """Return the time that lies in both, as `merge` returns it.

    Examples
    --------
    >>> intersect([(0, 4), (6, 9)], [(3, 7)])
    [(3, 4), (6, 7)]
    """
    ours, theirs = merge(first), merge(second)
    shared: list[tuple[T, T]] = []
    i = j = 0
    while i < len(ours) and j < len(theirs):
        start, end = max(ours[i][0], theirs[j][0]), min(ours[i][1], theirs[j][1])
        if start < end:
            shared.append((start, end))
        # The one that ends first cannot meet anything that follows.
        if ours[i][1] < theirs[j][1]:
            i += 1
        else:
            j += 1
    return shared


def total(intervals: Iterable[tuple[T, T]], zero: Any = 0) -> Any:
    """Return how much time lies in intervals, counted once where they overlap.

    Examples
    --------
    >>> total([(0, 2), (1, 4), (8, 9)])
    5
    """
    lengths: Any = (end - start for start, end in merge(intervals))  # type: ignore[operator]
    return sum(lengths, zero)


# -- arrays ----------------------------------------------------------------------------


def union_of(start: NDArray[np.int64], end: NDArray[np.int64]) -> Edges:
    """Return the union of intervals given as arrays: in order, disjoint, none touching another.

    Examples
    --------
    >>> union_of(np.array([5, 1, 2, 9]), np.array([7, 3, 5, 9]))
    (array([1]), array([7]))
    """
    start, end = np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64)
    real = start < end
    start, end = start[real], end[real]
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    # A new interval begins where a start lies beyond all ends before it.
    opens = np.ones(len(start), dtype=bool)
    opens[1:] = start[1:] > reach[:-1]
    closes = np.append(opens[1:], True)[: len(start)]
    return start[opens], reach[closes]


def difference_of(intervals: Edges, removed: Edges) -> Edges:
    """Return the time that lies in the first intervals and not in the second, as `union_of` does.

    Examples
    --------
    >>> difference_of((np.array([0]), np.array([10])), (np.array([2, 8]), np.array([3, 12])))
    (array([0, 3]), array([2, 8]))
    """
    return _where(intervals, removed, np.array([False, True, False, False]))


def intersection_of(first: Edges, second: Edges) -> Edges:
    """Return the time that lies in both, as `union_of` does.

    Examples
    --------
    >>> intersection_of((np.array([0, 6]), np.array([4, 9])), (np.array([3]), np.array([7])))
    (array([3, 6]), array([4, 7]))
    """
    return _where(first, second, np.array([False, False, False, True]))


def total_of(start: NDArray[np.int64], end: NDArray[np.int64]) -> int:
    """Return how much time lies in intervals given as arrays, counted once where they overlap.

    Examples
    --------
    >>> total_of(np.array([0, 1, 8]), np.array([2, 4, 9]))
    5
    """
    first, last = union_of(start, end)
    return int((last - first).sum())


def _where(first: Edges, second: Edges, wanted: NDArray[np.bool_]) -> Edges:
    """Return the time whose code (1: in the first, 2: in the second, 3: in both) is wanted."""
    ours, theirs = union_of(*first), union_of(*second)
    edges = np.unique(np.concatenate([*ours, *theirs]))
    # Between two neighbouring edges nothing changes: that many intervals of each are open.
    codes = _open(ours, edges) + 2 * _open(theirs, edges)
    keep = wanted[codes[:-1]] if len(edges) else np.zeros(0, dtype=bool)
    return union_of(edges[:-1][keep], edges[1:][keep])


def _open(intervals: Edges, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    start, end = intervals
    return np.searchsorted(start, edges, side="right") - np.searchsorted(end, edges, side="right")
