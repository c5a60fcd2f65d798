"""Restrict results to some members: VMs, each under the policies whose time is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.metrics.core.aggregates import Aggregates, regroup
from cdpanalytics.schema import KEYS


@dataclass(frozen=True, eq=False)
class Members:
    """The VMs asked about, one row per VM and policy.

    A VM that moved from one policy to another is read whole, for its other sessions decide
    whether it was covered. Only the time that belongs to a member counts, though: an
    instant belongs to the policy that protected last.

    Parameters
    ----------
    table : pandas.DataFrame
        `backup_server`, `policy`, `vm`, each combination once.
    """

    table: pd.DataFrame

    def label(self) -> str:
        """Return the policies whose time counts as one word, for the terms of a frame."""
        names = self.table["policy"].dropna().astype("str").unique()
        return ",".join(sorted(quote(name, safe="") for name in names))

    @classmethod
    def of_label(cls, label: str, rows: pd.DataFrame) -> Members:
        """Return the members among some rows that a frame's terms name."""
        names = [unquote(name) for name in label.split(",")]
        chosen = rows[rows["policy"].astype("str").isin(names)]
        columns = [name for name in KEYS if name in rows]
        return cls(chosen[columns].drop_duplicates().reset_index(drop=True))

    @cached_property
    def _index(self) -> pd.MultiIndex:
        return _index(self.table)

    def contains(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which rows with these three columns are members."""
        return np.asarray(_index(rows).isin(self._index))

    def widen(self, by: Sequence[str]) -> tuple[str, ...]:
        """Return the grouping that tells members from others."""
        return tuple(dict.fromkeys((*by, *KEYS)))

    def restrict(self, part: Any, by: Sequence[str]) -> Any:
        """Return the part of a partial result that is the members', grouped by `by`.

        Parameters
        ----------
        part : Aggregates, tuple of Aggregates, pandas.DataFrame, or with a `restrict` of its own
            Grouped by `widen(by)`, or a table with the three columns.
        """
        if hasattr(part, "restrict"):
            return part.restrict(self, by)
        if isinstance(part, tuple):
            return tuple(self.restrict(each, by) for each in part)
        if isinstance(part, pd.DataFrame):
            return part[self.contains(part)].reset_index(drop=True)
        return self._regroup(part, by)

    def _regroup(self, part: Aggregates, by: Sequence[str]) -> Aggregates:
        """Drop the groups of others, then add up the rest by fewer columns: exact integers."""
        kept = np.flatnonzero(self.contains(part.groups))
        count = part.window.count
        cells = (kept[:, None] * count + np.arange(count)).ravel()
        held = Aggregates(
            part.groups.iloc[kept].reset_index(drop=True), part.window,
            *({name: values[cells] for name, values in kind.items()}
              for kind in (part.sum, part.max, part.min)),
        )  # fmt: skip
        return regroup(held, by)


def _index(rows: pd.DataFrame) -> pd.MultiIndex:
    columns = [
        rows[name].astype("str").fillna("") if name in rows else pd.Series("", rows.index)
        for name in KEYS
    ]
    return pd.MultiIndex.from_arrays(columns, names=KEYS)
