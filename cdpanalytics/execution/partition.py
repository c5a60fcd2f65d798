"""Ranges of names: how the rows of a fleet are cut into parts that fit in memory."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.ranges import Range

WORKER_OVERHEAD_BYTES: Final = 250_000_000
"""Memory of a process that has imported everything and computes nothing."""

BYTES_PER_SESSION: Final = 600
"""Upper bound per session, from its file to its part of a metric (`benchmarks/scale.py`)."""

PARTITION_KEYS: Final = ("vm", "policy", "backup_server")
"""Columns that an archive can be cut by, the one with most names first."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def ranges(
    column: str | None, rows: pd.Series, most: int, least: int = 1, what: str = "the metric"
) -> list[Range]:
    """Cut the names of a column into ranges of at most `most` rows each.

    Parameters
    ----------
    column : str or None
        None where the rows cannot be cut.
    rows : pandas.Series
        How many rows each name has, in order of the names; those without a name last.
    most : int
        Rows per range, at most.
    least : int
        Number of ranges to make, or a multiple of it, where there are enough names.
    what : str
        What the rows are needed for, for the message.

    Returns
    -------
    list of Range
        In order; together they contain every possible name.

    Raises
    ------
    InputError
        When one name alone has more rows than `most`, or the rows cannot be cut.

    Examples
    --------
    >>> ranges("vm", pd.Series({"a": 4, "b": 4, "c": 4, "d": 4}), most=12)
    [Range(column='vm', first=None, stop='c'), Range(column='vm', first='c', stop=None)]
    """
    rows = _with_unnamed_last(rows)
    total, longest = int(rows.sum()), int(rows.max()) if len(rows) else 0
    if longest > most or (column is None and total > most):
        count = total if column is None else longest
        which = "" if column is None else f" of {column}={rows.idxmax()!r}"
        raise InputError(
            f"{what} must load {count:,} sessions{which} at once, but memory= allows {most:,}; "
            f"use memory='{_memory_for(count)}' per worker or more, a shorter window, or a finer by="
        )
    if column is None or not len(rows):
        return [Range(column)]
    # A name begins before its range is full, so ranges exceed the even share by at most one name.
    count = -(-total // max(1, most - longest))
    count = -(-count // least) * least  # so that all workers end together
    place = (rows.cumsum() - rows).to_numpy() * count // total
    edges = rows.index[1:][np.diff(place) > 0]
    return [
        Range(column, first, stop)
        for first, stop in zip([None, *edges], [*edges, None], strict=True)
    ]


def _with_unnamed_last(rows: pd.Series) -> pd.Series:
    """Add the rows without a name to those of the last name."""
    named = rows[rows.index.notna()]
    if not len(named) or len(named) == len(rows):
        return rows
    unnamed = pd.Series({named.index[-1]: rows.sum() - named.sum()})
    return named.add(unnamed, fill_value=0).astype("int64")


def listing(policies: pd.DataFrame | None, within: Range) -> pd.DataFrame | None:
    """Return settings that list only the VMs of a range, so that each VM is listed in one range only.

    Examples
    --------
    >>> settings = pd.DataFrame({"policy": ["Gold"], "vms": [["a", "m", "z"]]})
    >>> listing(settings, Range("vm", "b", None))["vms"].tolist()
    [['m', 'z']]
    """
    if policies is None or "vms" not in policies or within.whole or within.column is None:
        return policies
    lists = [list(names) if isinstance(names, list | tuple | np.ndarray) else names
             for names in policies["vms"]]  # fmt: skip
    if within.column == "vm":
        kept = [_names_within(names, within) for names in lists]
    else:
        column = policies.get(within.column, pd.Series([None] * len(policies), dtype="str"))
        kept = [
            names if inside else []
            for names, inside in zip(lists, within.contains(column), strict=True)
        ]
    changed = {"vms": kept}
    if "tags" in policies:
        changed["tags"] = list(map(_tags_of, policies["tags"], lists, kept))
    series = {name: pd.Series(values, policies.index, object) for name, values in changed.items()}
    return policies.assign(**series)


def _tags_of(tags: Any, names: object, kept: object) -> Any:
    """Return the tags, one mapping for each name, of the names that are kept."""
    if not (isinstance(names, list) and isinstance(kept, list)):
        return tags
    left = set(kept)
    return [tag for name, tag in zip(names, tags, strict=True) if name in left]


def _names_within(names: object, within: Range) -> object:
    if isinstance(names, list):
        return [name for name in names if not pd.isna(name) and within.overlaps(name, name)]
    return names if isinstance(names, str) and within.overlaps(names, names) else []


# -- memory ----------------------------------------------------------------------------


def memory_size(memory: str | int) -> int:
    """Return an amount of memory in bytes.

    Examples
    --------
    >>> memory_size("1GB"), memory_size("512 MB"), memory_size(10**6)
    (1000000000, 512000000, 1000000)
    """
    parsed = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", str(memory).lower())
    if parsed is None or isinstance(memory, bool) or not float(parsed[1]):
        raise InputError(
            f"memory={memory!r} is not an amount of memory; write it like 500MB or 2GB"
        )
    return int(float(parsed[1]) * _UNITS[parsed[2]])


def _memory_for(rows: int) -> str:
    """Return the memory that a worker needs for so many rows, as text."""
    return f"{-(-(WORKER_OVERHEAD_BYTES + rows * BYTES_PER_SESSION) // 10**6)}MB"


def rows_in(memory: int) -> int:
    """Return how many rows a worker with so many bytes can take at a time.

    Raises
    ------
    InputError
        When a process does not fit at all.
    """
    if memory <= WORKER_OVERHEAD_BYTES:
        raise InputError(
            f"{memory / 10**6:.0f} MB per worker is less than a process takes "
            f"({WORKER_OVERHEAD_BYTES / 10**6:.0f} MB); use more memory= or fewer workers="
        )
    return (memory - WORKER_OVERHEAD_BYTES) // BYTES_PER_SESSION
