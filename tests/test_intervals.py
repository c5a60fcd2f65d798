"""Interval arithmetic against sets of small integers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.intervals import (
    difference_of,
    intersect,
    intersection_of,
    merge,
    subtract,
    total,
    total_of,
    union,
    union_of,
)

Pairs = list[tuple[int, int]]
PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


def points(pairs: Pairs) -> set[int]:
    return {point for start, end in pairs for point in range(start, end)}


def arrays(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def pairs_of(edges: tuple[np.ndarray, np.ndarray]) -> Pairs:
    return list(zip(*(edge.tolist() for edge in edges), strict=True))


def is_disjoint(pairs: Pairs) -> bool:
    ends_before = all(left[1] < right[0] for left, right in pairwise(pairs))
    return ends_before and all(start < end for start, end in pairs)


@given(PAIRS, PAIRS)
def test_pairs_are_sets_of_instants(first: Pairs, second: Pairs) -> None:
    assert points(merge(first)) == points(first)
    assert points(union(first, second)) == points(first) | points(second)
    assert points(intersect(first, second)) == points(first) & points(second)
    assert points(subtract(first, second)) == points(first) - points(second)
    assert total(first) == len(points(first))
    for pairs in (merge(first), union(first, second), intersect(first, second)):
        assert is_disjoint(pairs)


@given(PAIRS, PAIRS)
def test_arrays_give_what_pairs_give(first: Pairs, second: Pairs) -> None:
    assert pairs_of(union_of(*arrays(first))) == merge(first)
    assert pairs_of(intersection_of(arrays(first), arrays(second))) == intersect(first, second)
    assert pairs_of(difference_of(arrays(first), arrays(second))) == merge(subtract(first, second))
    assert total_of(*arrays(first)) == total(first)


def test_subtract_keeps_each_interval_for_itself_and_in_order() -> None:
    assert subtract([(5, 9), (0, 6)], [(7, 8)]) == [(5, 7), (8, 9), (0, 6)]


def test_microseconds_are_exact() -> None:
    base = 2**62
    start, end = difference_of(
        (np.array([base]), np.array([base + 10])), (np.array([base + 1]), np.array([base + 2]))
    )
    assert pairs_of((start, end)) == [(base, base + 1), (base + 2, base + 10)]
