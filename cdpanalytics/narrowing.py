"""The names and patterns that a question is narrowed to, and the rows that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.codes import Codes, codes_of
from cdpanalytics.metrics.core.kernels import Flags
from cdpanalytics.patterns import CALLED, Patterns, fitting, matching


@dataclass(frozen=True)
class Names:
    """Names or glob patterns of the sessions asked for; None means all."""

    policy: Patterns = None
    vm: Patterns = None
    server: Patterns = None
    tags: tuple[tuple[str, Patterns], ...] = ()

    def columns(self) -> dict[str, str | Sequence[str]]:
        """Return the patterns by column, only those that were given."""
        given = {
            "policy": self.policy, "vm": self.vm, "backup_server": self.server, **dict(self.tags),
        }  # fmt: skip
        return {column: patterns for column, patterns in given.items() if patterns is not None}


ALL_NAMES = Names()
"""No narrowing: every session."""


def named(table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return the rows of a table with these names; none where a pattern fits nothing.

    Raises
    ------
    InputError
        When the table lacks a column that is selected by.
    """
    return table[are_named(table, names)] if names.columns() else table


def are_named(table: pd.DataFrame, names: Names) -> Flags:
    """Return which rows of a table have these names, as `named` keeps them."""
    fit = np.ones(len(table), dtype=bool)
    for column, patterns in names.columns().items():
        fit &= _fit(_labels(column, table), patterns)
    return fit


def _fit(labels: Codes, patterns: str | Sequence[str]) -> Flags:
    fits = labels.values.isin(fitting(labels.values, patterns))
    return np.asarray(np.append(fits, False)[labels.codes])


def _labels(column: str, table: pd.DataFrame) -> Codes:
    if column not in table:
        raise InputError(f"the sessions have no column {column!r} to select by")
    return codes_of(table[column], text=True)


def check_names(table: pd.DataFrame, names: Names) -> None:
    """Refuse a pattern that fits no name of a table.

    Raises
    ------
    InputError
        When there is one.
    """
    for column, patterns in names.columns().items():
        labels = _labels(column, table)
        used = np.zeros(len(labels.values) + 1, dtype=bool)
        used[labels.codes] = True
        matching(labels.values[used[:-1]], patterns, CALLED.get(column, column))


def narrowed(settings: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return settings that list only VMs with these names; those of other policies list none."""
    if "vms" not in settings or not names.columns():
        return settings
    keep = np.ones(len(settings), dtype=bool)
    for column, patterns in names.columns().items():
        if column != "vm" and column in settings:
            keep &= _fit(_labels(column, settings), patterns)
    lists = [
        list(vms) if isinstance(vms, list | tuple | np.ndarray) else [] for vms in settings["vms"]
    ]
    if names.vm is not None:
        lists = [fitting([vm for vm in vms if not pd.isna(vm)], names.vm) for vms in lists]
    vms = [vms if kept else [] for vms, kept in zip(lists, keep, strict=True)]
    return settings.assign(vms=pd.Series(vms, index=settings.index, dtype=object))
