"""Arithmetic of half-open intervals ``(start, end)`` of anything that can be ordered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)


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


def subtract(intervals: Iterable[tuple[T, T]], removed: Iterable[tuple[T, T]]) -> list[tuple[T, T]]:
    """Return what is left of intervals, each for itself, when others are taken out of them.

    Examples
    --------
    >>> subtract([(0, 10)], [(2, 3), (8, 12)])
    [(0, 2), (3, 8)]
    """
    left = list(intervals)
    for start, end in sorted(removed):
        left = [
            piece
            for first, last in left
            for piece in ((first, min(last, start)), (max(first, end), last))
            if piece[0] < piece[1]
        ]
    return left


def intersect(first: Iterable[tuple[T, T]], second: Iterable[tuple[T, T]]) -> list[tuple[T, T]]:
    """Return the time that lies in both, as `merge` would return it.

    Examples
    --------
    >>> intersect([(0, 4), (6, 9)], [(3, 7)])
    [(3, 4), (6, 7)]
    """
    others = merge(second)
    return merge(
        (max(start, low), min(end, high))
        for start, end in merge(first)
        for low, high in others
        if low < end and start < high
    )
