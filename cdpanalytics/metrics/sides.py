"""Two groups side by side: policies, sites, tags, or one group under two targets or in two periods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.ranking import by_size

FIGURES = ("vms", "rpo", "observed", "breached", "worst_gap", "adherence", "adherence_strict")
"""Columns of `rpo_adherence` that are shown of each side."""

_ALIASES = {"server": "backup_server", "rpo": "target"}
_HOW = 'write sides="policy=Gold,Silver", or backup_server=..., target=..., period=..., or a tag'


@dataclass(frozen=True)
class Sides:
    """What two sides differ in, and what each is.

    Parameters
    ----------
    column : str
        `policy`, `vm`, `backup_server`, `target`, `period`, or a tag.
    left, right : str
        Names or patterns; of `target` lengths; of `period` calendar periods.
    """

    column: str
    left: str
    right: str

    @classmethod
    def parse(cls, sides: str | Sequence[str] | Sides) -> Sides:
        """Return the sides that a text or a triple means.

        Raises
        ------
        InputError
            When there are not two of them, or both are the same.

        Examples
        --------
        >>> Sides.parse("server=vbr01*, vbr02*")
        Sides(column='backup_server', left='vbr01*', right='vbr02*')
        """
        if isinstance(sides, Sides):
            return sides
        if isinstance(sides, str):
            column, _, pair = sides.partition("=")
            parts = [column, *pair.split(",")]
        else:
            parts = list(map(str, sides))
        parts = [part.strip() for part in parts]
        if len(parts) != 3 or not all(parts):
            raise InputError(f"sides={sides!r} is not a column and two names; {_HOW}")
        column, left, right = parts
        if left.casefold() == right.casefold():
            raise InputError(f"sides={sides!r}: both sides are {left!r}; name two")
        return cls(_ALIASES.get(column.casefold(), column), left, right)


def side_by_side(
    left: pd.DataFrame, right: pd.DataFrame, by: Sequence[str], sides: Sides
) -> pd.DataFrame:
    """Return the adherence of two sides in one table, largest difference first.

    Parameters
    ----------
    left, right : pandas.DataFrame
        Tables of `rpo_adherence` by the same keys.
    by : sequence of str
        The keys.
    sides : Sides
        What they are of.

    Returns
    -------
    pandas.DataFrame
        One row per group that either side has: the keys, ``left`` and ``right`` (the names of
        the sides), then of each figure of `FIGURES` one column per side (``adherence_left``,
        ``adherence_right``), ``difference`` (right less left, NA where either is) and
        ``better``: the name of the side with the higher adherence, "same" or "unknown".
        Ordered by the size of the difference, NA last, then by keys.

    Examples
    --------
    >>> import pandas as pd
    >>> from cdpanalytics.metrics import rpo_adherence
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": ["a", "a", "b"],
    ...     "created": day + pd.to_timedelta([0, 12, 0], unit="h"),
    ...     "ended": day + pd.to_timedelta([10, 24, 24], unit="h"),
    ... })
    >>> of = {vm: rpo_adherence(sessions[sessions["vm"] == vm], "30min", by=()) for vm in "ab"}
    >>> table = side_by_side(of["a"], of["b"], (), Sides("vm", "a", "b"))
    >>> table[["left", "right", "adherence_left", "adherence_right", "better"]]
      left right  adherence_left  adherence_right better
    0    a     b          0.9375              1.0      b
    """
    keys = list(by)
    tables = [table[[*keys, *FIGURES]].rename(columns={n: f"{n}_{side}" for n in FIGURES})
              for table, side in ((left, "left"), (right, "right"))]  # fmt: skip
    if keys:
        tables = [table.astype(dict.fromkeys(keys, "str")) for table in tables]
        table = tables[0].merge(tables[1], on=keys, how="outer").sort_values(keys, kind="stable")
    else:
        table = pd.concat(tables, axis=1)
    both = [f"{name}_{side}" for name in FIGURES for side in ("left", "right")]
    table = table.reset_index(drop=True)[[*keys, *both]]
    table.insert(len(keys), "left", pd.Series(sides.left, index=table.index, dtype="str"))
    table.insert(len(keys) + 1, "right", pd.Series(sides.right, index=table.index, dtype="str"))
    table["difference"] = table["adherence_right"] - table["adherence_left"]
    table["better"] = _better(table["difference"], sides)
    return by_size(table, "difference")


def _better(difference: pd.Series, sides: Sides) -> pd.Series:
    cases = {"unknown": difference.isna(), sides.left: difference < 0, sides.right: difference > 0}
    return pd.Series(np.select(list(cases.values()), list(cases), "same"), dtype="str")
