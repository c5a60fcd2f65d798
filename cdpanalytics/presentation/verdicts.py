"""The verdict of a monitoring check: OK, WARNING, CRITICAL or UNKNOWN, for each group and in all."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Final

import pandas as pd

OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""What `check` exits with."""

NAMES: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_WORST_FIRST: Final = (CRITICAL, UNKNOWN, WARNING, OK)


def verdicts(
    objectives: pd.DataFrame,
    breached: pd.Series,
    *,
    critical: float | None = None,
    warning: float | None = None,
    stale: bool = False,
) -> list[int]:
    """Return the verdict of each row of `metrics.objectives`.

    Parameters
    ----------
    objectives : pandas.DataFrame
        From `metrics.objectives`.
    breached : pandas.Series
        How many VMs of each row are breached at the end of the window (`breached_at_end`).
    critical : float, optional
        CRITICAL below this adherence. Default: where the objective is missed.
    warning : float, optional
        WARNING below this adherence. Default: none.
    stale : bool
        The data is older than allowed: everything is UNKNOWN.
    """
    rows = zip(objectives.to_dict("records"), breached, strict=True)
    return [UNKNOWN if stale else _verdict(row, int(late), critical, warning) for row, late in rows]


def _verdict(row: dict[Any, Any], late: int, critical: float | None, warning: float | None) -> int:
    missed = not pd.isna(row["passed"]) and not row["passed"]
    if missed if critical is None else _is_below(row, critical):
        return CRITICAL
    # A missed objective is known, whatever is not: then the thresholds alone decide.
    if pd.isna(row["passed"]):
        return UNKNOWN
    if warning is not None and _is_below(row, warning):
        return WARNING
    return WARNING if late and not missed else OK


def _is_below(row: dict[Any, Any], share: float) -> bool:
    """Whether adherence is below a share, exactly: in whole microseconds."""
    if pd.isna(row["spent"]):
        return False
    observed, spent = (row[name] // pd.Timedelta("1us") for name in ("observed", "spent"))
    return bool(spent > (1 - Fraction(str(share))) * observed)


def breached_at_end(objectives: pd.DataFrame, status: pd.DataFrame) -> pd.Series:
    """Return how many VMs of each row of `objectives` are breached in a table of `metrics.status`.

    Examples
    --------
    >>> objectives = pd.DataFrame({"policy": ["Gold", "Iron"], "objective": 0.99})
    >>> status = pd.DataFrame({"policy": ["Gold", "Gold"], "state": ["breached", "protected"]})
    >>> breached_at_end(objectives, status).tolist()
    [1, 0]
    """
    end = objectives.columns.get_loc("rpo") if "rpo" in objectives else 1
    keys = [name for name in objectives.columns[:end] if name in status]
    late = status[status["state"] == "breached"]
    if not keys:
        return pd.Series([len(late)] * len(objectives))
    counts = late.groupby(keys, dropna=False, observed=True).size().rename("late").reset_index()
    joined = objectives[keys].astype("str").merge(
        counts.astype(dict.fromkeys(keys, "str")), on=keys, how="left"
    )  # fmt: skip
    return joined["late"].fillna(0).astype("int64")


def worst(verdicts: Iterable[int]) -> int:
    """Return the worst verdict: CRITICAL, then UNKNOWN, WARNING, OK; UNKNOWN without any.

    Examples
    --------
    >>> worst([OK, WARNING, UNKNOWN]), worst([UNKNOWN, CRITICAL]), worst([])
    (3, 2, 3)
    """
    return min(verdicts, key=_WORST_FIRST.index, default=UNKNOWN)
