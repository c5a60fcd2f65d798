"""Promised shares: the adherence that each VM's policy or tag was promised, and exact budgets of it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TypeAlias

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.kernels import Integers

Objective: TypeAlias = float | pd.DataFrame
"""One share for all, or a table: the columns that decide it, and `objective`."""


@dataclass(frozen=True, eq=False)
class Shares:
    """The distinct shares promised, and the table that says to whom; None where all have one."""

    distinct: tuple[float, ...]
    table: pd.DataFrame | None = None

    @classmethod
    def parse(cls, objective: Objective) -> Shares:
        """Return the shares of an objective.

        Raises
        ------
        InputError
            When one is not above 0 and up to 1, or the table lacks columns or repeats rows.
        """
        if not isinstance(objective, pd.DataFrame):
            _fraction(objective)
            return cls((float(objective),))
        columns = [name for name in objective if name != "objective"]
        if not columns or len(columns) == len(objective.columns):
            raise InputError(
                "a table of objectives needs the column 'objective' and those that decide it, e.g. "
                f"policy (has: {', '.join(map(str, objective.columns)) or 'no columns'})"
            )
        repeated = objective.duplicated(columns)
        if repeated.any():
            names = objective.loc[repeated, columns].iloc[0].tolist()
            raise InputError(f"the table of objectives names {names} twice; make it unique")
        distinct = tuple(sorted(objective["objective"].unique().tolist()))
        for share in distinct:
            _fraction(share)
        return cls(tuple(map(float, distinct)), objective.reset_index(drop=True))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that decide a share."""
        if self.table is None:
            return ()
        return tuple(str(name) for name in self.table if name != "objective")

    def of(self, groups: pd.DataFrame) -> Integers:
        """Return the share of each group, as its place in `distinct`.

        Raises
        ------
        InputError
            When the table has none for a group.
        """
        if self.table is None:
            return np.zeros(len(groups), dtype=np.int64)
        columns = list(self.columns)
        both = grouping.groups_of_tables([self.table, groups], columns)
        place = np.full(both.count, -1)
        place[both.of[: len(self.table)]] = np.searchsorted(
            np.array(self.distinct), self.table["objective"].to_numpy(dtype=float)
        )
        shares = place[both.of[len(self.table) :]]
        if (shares < 0).any():
            names = groups.loc[np.flatnonzero(shares < 0)[0], columns].tolist()
            raise InputError(f"the table of objectives has no row for {names}; add one")
        return shares

    def column(self, share: Integers, group: Integers, count: int) -> np.ndarray:
        """Return the share of each group of VMs; NaN where it mixes several."""
        low = grouping.extreme(group, share, count, np.minimum, len(self.distinct))
        high = grouping.extreme(group, share, count, np.maximum, -1)
        values = np.append(np.array(self.distinct), np.nan)
        only = self.distinct[0] if len(self.distinct) == 1 else np.nan
        return np.where(low == high, values[np.minimum(low, len(self.distinct))], only)

    def allowed(
        self, lengths: Integers, share: Integers, cells: Integers, size: int
    ) -> tuple[Integers, np.ndarray]:
        """Return the breached time that each cell's shares allow, rounded down, and as a float.

        Exact: the sum of ``(1 - share) * length`` as fractions, rounded once. Each
        length is split into whole multiples of the common denominator and a rest, so that
        no product leaves 63 bits; where the denominator is so large that one might, Python's
        own integers are used.
        """
        allowed = [1 - _fraction(value) for value in self.distinct]
        common = lcm(*(part.denominator for part in allowed))
        whole = np.zeros(size, dtype=np.int64)
        rest: np.ndarray = np.zeros(size, dtype=np.int64 if common < 2**24 else object)
        for number, part in enumerate(allowed):
            mine = share == number
            total = grouping.total(cells[mine], lengths[mine], size)
            numerator = int(part * common)
            whole += total // common * numerator
            rest = rest + (total % common).astype(rest.dtype) * numerator
        exact = whole + rest.astype(float) / common
        return whole + (rest // common).astype(np.int64), exact


def _fraction(objective: object) -> Fraction:
    try:
        share = Fraction(str(objective))
    except ValueError:
        share = Fraction(0)
    if not 0 < share <= 1:
        raise InputError(
            f"objective={objective!r} is not a share above 0 and up to 1; write 0.999 for 99.9 %"
        )
    return share
