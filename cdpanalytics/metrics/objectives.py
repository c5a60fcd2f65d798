"""Objectives: how much breached time a promise allows, how much is spent, and how fast."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.aggregates import Aggregates, combine
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.clocks import ClockMaker
from cdpanalytics.metrics.core.coverage import sweep, vm_blocks
from cdpanalytics.metrics.core.exposure import COLUMNS, arrays_of, retirements
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.core.kernels import Integers, parallel_map
from cdpanalytics.metrics.core.question import (
    PROTECTS,
    UNSET,
    By,
    Exclude,
    Question,
    Schedule,
    Table,
    Terms,
    Zone,
    Zones,
)
from cdpanalytics.metrics.core.spec import EXPOSURE, MetricSpec
from cdpanalytics.metrics.core.values import UNKNOWN, lengths, microseconds
from cdpanalytics.metrics.core.windows import Window, effective_as_of
from cdpanalytics.metrics.rpo import adherence_table, exposure_aggregates

_FIGURES = frozenset({
    "vms", "unprotected", "sessions", "success", "warning", "failed", "unknown", "exposed",
    "breached", "gaps", "breaches", "worst_gap", "adherence_strict", "gap_adherence",
    "success_rate", "success_low", "success_high", "unobserved", "excluded", "retired",
    "adherence_full",
})  # fmt: skip
"""Columns of `rpo_adherence` that are not repeated; all others are keys, or are."""


def objectives(
    sessions: pd.DataFrame,
    objective: float = 0.999,
    target: object = None,
    by: By = ("policy", "vm"),
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    freq: str | None = None,
    schedule: Schedule | None = None,
    tz: Zone = UNSET,
    schedule_tz: Zones = UNSET,
    protects: Collection[str] = PROTECTS,
    policies: Table = UNSET,
    unobserved: Table = UNSET,
    exclude: Exclude = UNSET,
    retire_after: object = UNSET,
    grace: object = UNSET,
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
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.
    until : timestamp-like, optional
        End of the window the objective is promised for. It may lie ahead of `as_of`: the
        budget is then that of the whole window. So is that of a period of `freq` that is
        not over. Default: `as_of`.

    Returns
    -------
    pandas.DataFrame
        One row per group (and period): the keys, then

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
        When the objective is not between 0 and 1, or a column is missing or of the
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
    if {"observed", "breached"} <= set(sessions) and "created" not in sessions:
        passed = {
            "target": target, "since": since, "until": until, "as_of": as_of, "freq": freq,
            "schedule": schedule, "policies": policies, "unobserved": unobserved,
            "exclude": exclude, "retire_after": retire_after, "grace": grace,
        }  # fmt: skip
        if any(value is not None and value is not UNSET for value in passed.values()):
            raise InputError(
                "this is a table of adherence: objectives takes only objective= with it; "
                "give the other arguments to rpo_adherence"
            )
        ahead = np.zeros(len(sessions), dtype=np.int64)
        return _table(sessions, objective, 1 - _share(objective), ahead)
    question = Question.parse(by, since=since, until=until, as_of=as_of, freq=freq, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return OBJECTIVES.evaluate(sessions, question, terms, objective=objective)


def _aggregates(
    sessions: pd.DataFrame, question: Question, terms: Terms, objective: float
) -> Aggregates:
    """What `rpo_adherence` is made of, and how much time lies ahead in the window."""
    _share(objective)
    sums = exposure_aggregates(sessions, question, terms)
    known = facts(sessions)
    now = effective_as_of(sessions, known, question, terms.protects)
    ahead = np.zeros(sums.shape, dtype=np.int64)
    end = _promised_until(sums.window, question.until or known.promised_until)
    if end is not None and now == sums.window.edges[-1] < end:
        ahead[:, -1] = _ahead(arrays_of(sessions, question, terms), terms, question, end)
    return replace(sums, sum=sums.sum | {"ahead": ahead.ravel()})


def _budgets(sums: Aggregates, question: Question, terms: Terms, objective: float) -> pd.DataFrame:
    return _table(adherence_table(sums), objective, 1 - _share(objective), sums.sum["ahead"])


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


def _promised_until(window: Window, until: object) -> int | None:
    """Where the last period of the window ends, though it may lie ahead of as_of."""
    stop = None if until is None else microseconds(until, "until")
    ends = [end for end in (stop, window.following) if end is not None]
    return min(ends, default=None)


def _ahead(arrays: SessionArrays, terms: Terms, question: Question, end: int) -> Integers:
    """Scheduled time between as_of and `end` of the VMs of each group that are not retired."""
    group = grouping.groups(arrays, question.by)
    maker = ClockMaker(arrays, terms, end)
    retired, now = retirements(arrays, terms)[0], arrays.as_of

    def ahead(positions: Integers) -> Integers:
        rows = positions[positions < len(arrays.created)]
        tiles = sweep(arrays, rows, terms.protects, group.of)
        last = tiles.at(np.flatnonzero(tiles.last_of_vm & ~np.isin(tiles.vm, retired)))
        clock = maker.make(last)
        edge = np.ones(len(last.row), dtype=np.int64)
        return grouping.total(
            group.of[last.row], clock.read(edge * end) - clock.read(edge * now), group.count
        )

    return np.sum(parallel_map(ahead, vm_blocks(arrays)), axis=0)


def _table(
    adherence: pd.DataFrame, objective: float, allowed: Fraction, ahead: Integers
) -> pd.DataFrame:
    observed, spent = (_microseconds(adherence[name]) for name in ("observed", "breached"))
    known = (observed > 0) & (spent != UNKNOWN)
    promised = observed + ahead
    budget = np.array([int(allowed * int(length)) for length in promised], dtype=np.int64)
    so_far = np.array([int(allowed * int(length)) for length in observed], dtype=np.int64)
    figures = [name for name in adherence if name not in _FIGURES]
    table = adherence[figures].reset_index(drop=True)
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


OBJECTIVES = MetricSpec(
    name="objectives", command="objectives",
    summary="was the objective met, and what is left of its budget",
    function=objectives, partial=_aggregates, combine=combine, finalize=_budgets,
    columns=COLUMNS, takes=EXPOSURE | {"freq"}, own={"objective": 0.999},
)  # fmt: skip
