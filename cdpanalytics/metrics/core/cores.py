"""Work on ranges of rows by several threads, for NumPy and Arrow let go of the interpreter; it knows no sessions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

RANGE = 1 << 16
"""Rows worked on at a time: what is reckoned of so many stays in a core's cache."""


def each(make: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """Return what is made of each item, in their order, a core an item."""
    if len(items) == 1:
        return [make(items[0])]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(make, items))
