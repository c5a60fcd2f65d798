"""Objectives: how much breached time a promise allows, how much is spent, and how fast."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.execution.partition import Recipe, declare
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.aggregates import Sums, merge
from cdpanalytics.metrics.core.clocks import Schedule, Stretches, clocks
from cdpanalytics.metrics.core.exposure import Terms, records_of, retirements
from cdpanalytics.metrics.core.groups import By, lengths
from cdpanalytics.metrics.core.spans import (
    KEYS,
    PROTECTS,
    UNKNOWN,
    Integers,
    Records,
    microseconds,
    sweep,
)
from cdpanalytics.metrics.core.windows import Window, judged_until
from cdpanalytics.metrics.rpo import COLUMNS, VM, adherence_of, exposure_sums


def objectives(
    sessions: pd.DataFrame,
    objective: float = 0.999,
    target: object = None,
    by: By = ("policy", "vm"),
    since: object = None,
    until: object = None,
    as_of: object = None,
    freq: str | None = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
) -> pd.DataFrame:
    """Return whether adherence met an objective, and what is left of its budget of breached time.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row a task session, or a table of `rpo_adherence`, which takes no other
        argument than `objective`.
    objective : float
        The adherence promised, as a share: 0.999 is 99.9 %.
    target, by, since, as_of, freq, schedule, tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude` and `retire_after`.
    until : timestamp-like, optional
        End of the window the objective is promised for. It may lie ahead of `as_of`: the
        budget is then that of the whole window. So is that of a period of `freq` that is
        not over. Default: `as_of`.

    Returns
    -------
    pandas.DataFrame
        A row a group (and period): the keys, then

        ``rpo, observed, adherence`` : as in `rpo_adherence`.
        ``objective`` : the share promised.
        ``passed`` : whether adherence so far is at least the objective.
        ``budget`` : Timedelta, breached time allowed: ``(1 - objective)`` of the
        scheduled time observed and of that still ahead, in which every VM of the group
        that is protected now, or was last, is taken to stay.
        ``spent`` : Timedelta, the time breached.
        ``remaining`` : ``budget - spent``; below zero where more is spent than allowed.
        ``elapsed`` : observed time as a share of observed and ahead; 1 where the window
        is over.
        ``burn_rate`` : share of the budget spent, over `elapsed`. At 1 the budget lasts
        just as long as the window, at 2 half as long. NA where the objective allows
        nothing.

        Where nothing was observed, or no target is known, nothing is passed or missed:
        all of these are NA.

    Raises
    ------
    InputError
        When the objective is no share between 0 and 1, or a column is missing or of the
        wrong kind, or an argument is.

    See Also
    --------
    rpo_adherence : the definitions.

    Notes
    -----
    `passed` and `budget` are exact: the objective is taken as the decimal it is written
    as, and compared in whole microseconds. A group's budget is the sum of its VMs'
    (VM-hours), never a mean of ratios.

    References
    ----------
    B. Beyer et al., "The Site Reliability Workbook", ch. 5, "Alerting on SLOs" (2018).

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01",
    ...     "created": day + pd.to_timedelta([0, 9], unit="h"),
    ...     "ended": day + pd.to_timedelta([8, 24], unit="h"),
    ... })
    >>> row = objectives(sessions, 0.95, "15min", by="vm").iloc[0]
    >>> bool(row["passed"]), row["budget"], row["remaining"], float(round(row["burn_rate"], 3))
    (True, Timedelta('0 days 01:12:00'), Timedelta('0 days 00:27:00'), 0.625)
    """
    allowed = 1 - _share(objective)
    if {"observed", "breached"} <= set(sessions) and "created" not in sessions:
        others = (target, since, until, as_of, freq, schedule, policies, unobserved, exclude)
        if any(other is not None for other in (*others, retire_after)):
            raise InputError(
                "this is a table of adherence: objectives takes only objective= with it; "
                "give the other arguments to rpo_adherence"
            )
        return _table(sessions, objective, allowed, np.zeros(len(sessions), dtype=np.int64))
    sums = _promised(
        sessions, target, by, since, until, as_of, freq, schedule, tz, protects, policies,
        unobserved, exclude, retire_after,
    )  # fmt: skip
    return _budgeted(sums, objective)


def _promised(
    sessions: pd.DataFrame,
    target: object = None,
    by: By = ("policy", "vm"),
    since: object = None,
    until: object = None,
    as_of: object = None,
    freq: str | None = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
) -> Sums:
    """What `rpo_adherence` is made of, and how much time lies ahead in the window."""
    sums = exposure_sums(
        sessions, target, by, since, until, as_of, freq, schedule, tz, protects, policies,
        unobserved, exclude, retire_after,
    )  # fmt: skip
    now = judged_until(sessions, as_of, protects)
    ahead = np.zeros(sums.shape, dtype=np.int64)
    end = _promised_until(sums.window, until)
    if end is not None and now == sums.window.edges[-1] < end:
        terms = Terms(target, schedule, tz, protects, policies, exclude, retire_after)
        ahead[:, -1] = _ahead(
            records_of(sessions, as_of, policies, unobserved, protects), terms, by, end
        )
    return replace(sums, added=sums.added | {"ahead": ahead.ravel()})


def _budgeted(sums: Sums, objective: float) -> pd.DataFrame:
    return _table(adherence_of(sums), objective, 1 - _share(objective), sums.added["ahead"])


def _share(objective: float) -> Fraction:
    try:
        share = Fraction(str(objective))
    except ValueError:
        share = Fraction(0)
    if not 0 < share <= 1:
        raise InputError(
            f"objective={objective!r} is not a share above 0 and up to 1; write 0.999 for 99.9 %"
        )
    return share


def _promised_until(frame: Window, until: object) -> int | None:
    """Where the last period of the window ends, though it may lie ahead of as_of."""
    asked = None if until is None else microseconds(until, "until")
    ends = [end for end in (asked, frame.following) if end is not None]
    return min(ends, default=None)


def _ahead(records: Records, terms: Terms, by: By, end: int) -> Integers:
    """Scheduled time between as_of and `end` of the VMs of each group that are not retired."""
    group = grouping.groups(records, by)
    spans = sweep(records, terms.protects)
    last = np.flatnonzero(spans.finish == records.as_of)
    last = last[~np.isin(spans.vm[last], retirements(records, terms)[0])]
    reach = np.full(len(last), end, dtype=np.int64)
    kept = replace(
        spans, reach=reach, reach_strict=reach,
        **{name: getattr(spans, name)[last] for name in ("row", "vm", "begin", "finish")},
    )  # fmt: skip
    clock = clocks(
        replace(records, holes=()), kept, terms.schedule, terms.tz, terms.policies, terms.exclude
    )
    return grouping.total(
        group.of[kept.row], clock.read(reach) - clock.read(kept.finish), group.count
    )


def _table(
    adherence: pd.DataFrame, objective: float, allowed: Fraction, ahead: Integers
) -> pd.DataFrame:
    kept = [name for name in (*KEYS, "period", "rpo", "observed", "adherence") if name in adherence]
    observed, spent = (_microseconds(adherence[name]) for name in ("observed", "breached"))
    known = (observed > 0) & (spent != UNKNOWN)
    promised = observed + ahead
    budget = np.array([int(allowed * int(length)) for length in promised], dtype=np.int64)
    so_far = np.array([int(allowed * int(length)) for length in observed], dtype=np.int64)
    table = adherence[[name for name in adherence if name in kept]].reset_index(drop=True)
    table["objective"] = float(objective)
    table["passed"] = pd.array(spent <= so_far, dtype="boolean")
    table.loc[~known, "passed"] = pd.NA
    left = budget - np.where(known, spent, 0)
    for name, values in {"budget": budget, "spent": spent, "remaining": left}.items():
        table[name] = lengths(np.where(known, values, UNKNOWN))
    table["elapsed"] = grouping.share(observed, promised, known)
    rate = grouping.share(spent, observed, known)
    table["burn_rate"] = rate / float(allowed) if allowed else np.nan
    return table


def _microseconds(column: pd.Series) -> Integers:
    return column.astype("timedelta64[us]").to_numpy().view(np.int64)


declare(objectives, Recipe(VM, COLUMNS, _promised, merge, _budgeted))
