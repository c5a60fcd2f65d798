"""Adherence in order: which groups explain most of the breached time, and which changed most."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.aggregates import Aggregates, combine, regroup
from cdpanalytics.metrics.core.arrays import as_of_frame
from cdpanalytics.metrics.core.exposure import COLUMNS
from cdpanalytics.metrics.core.frames import facts
from cdpanalytics.metrics.core.groups import share, table_of
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
from cdpanalytics.metrics.core.spec import MetricSpec
from cdpanalytics.metrics.core.values import (
    UNKNOWN,
    check_count,
    durations_of,
    instant,
    timestamp,
)
from cdpanalytics.metrics.core.windows import resolve_window
from cdpanalytics.metrics.rpo import adherence_table, exposure_aggregates


def worst(
    sessions: pd.DataFrame,
    n: int | None = 10,
    target: object = None,
    by: By = ("policy", "vm"),
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
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
    """Return the groups with the most breached time, and the share of each in all breached time.

    In the example, VM b has 75 % of the breached time and VM a has the rest.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`.
    n : int, optional
        The largest number of rows; None for all.
    target, by, since, until, as_of, schedule, tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.

    Returns
    -------
    pandas.DataFrame
        One row per group with breached time, the most first, then by keys. The columns are
        the keys and, as in `rpo_adherence`, ``rpo, observed, breached, gaps, breaches,
        worst_gap, adherence``; then ``explains``, the share of the group in all breached
        time, and ``explained``, the share of this row and all rows above it. Groups without
        a known target come last, with NA. They are not part of the breached time of all.

    Raises
    ------
    InputError
        If `n` is not a positive whole number, or a column or an argument is wrong.

    See Also
    --------
    rpo_adherence : the definitions.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": ["a", "a", "b", "b"],
    ...     "created": day + pd.to_timedelta([0, 3, 0, 8], unit="h"),
    ...     "ended": day + pd.to_timedelta([2, 9, 6, 9], unit="h"),
    ... })
    >>> worst(sessions, target="30min", by="vm")[["vm", "breached", "explains", "explained"]]
      vm        breached  explains  explained
    0  b 0 days 01:30:00      0.75       0.75
    1  a 0 days 00:30:00      0.25       1.00
    """
    question = Question.parse(by, since=since, until=until, as_of=as_of, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return WORST.evaluate(sessions, question, terms, n=n)


def _worst_aggregates(
    sessions: pd.DataFrame, question: Question, terms: Terms, n: int | None
) -> Aggregates:
    _check(n)
    return exposure_aggregates(sessions, question, terms)


def _check(n: int | None) -> None:
    if n is not None:
        check_count(n, "n", "; use None for all")


def _worst_table(sums: Aggregates, question: Question, terms: Terms, n: int | None) -> pd.DataFrame:
    _check(n)
    table = ranked(adherence_table(sums), list(question.by))
    return table.head(len(table) if n is None else n)


def ranked(adherence: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the groups of an adherence table that missed their target, as `worst` orders them."""
    figures = ["rpo", "observed", "breached", "gaps", "breaches", "worst_gap", "adherence"]
    breached = durations_of(adherence["breached"])
    missed = np.flatnonzero((breached > 0) | (breached == UNKNOWN))
    # The groups are in order of their keys, and equals stay so; what is not known is the last.
    order = missed[np.argsort(-np.maximum(breached[missed], 0), kind="stable")]
    table = adherence[[*keys, *figures]].iloc[order].reset_index(drop=True)
    breached, known = breached[order], breached[order] != UNKNOWN
    total = breached[known].sum()
    so_far = np.cumsum(np.where(known, breached, 0))
    explains, explained = (share(part, total, known & (total > 0)) for part in (breached, so_far))
    return table_of(table, {"explains": explains, "explained": explained})


def compare(
    sessions: pd.DataFrame,
    since: object,
    until: object = None,
    before: tuple[object, object] | None = None,
    target: object = None,
    by: By = ("policy", "vm"),
    *,
    as_of: object = None,
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
    """Return the adherence of two periods side by side, largest change first.

    In the example, VM a has a gap of six hours on the second day, and VM b has none.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`. The frame must contain both
        periods and their neighbours.
    since, until : timestamp-like
        The period, ``[since, until)``. The default of `until` is the end of the window that
        the frame was read for, else `as_of`. It is never later than that.
    before : pair of timestamp-like, optional
        The period to compare it with. Default: the period of equal length just before it.
    target, by, as_of, schedule, tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.

    Returns
    -------
    pandas.DataFrame
        One row per group, ordered by the size of the change, NA last, then by keys. The
        columns are the keys and, as in `rpo_adherence`, ``rpo_before, rpo, observed_before,
        observed, breached_before, breached, adherence_before, adherence``; then

        ``change`` : ``adherence - adherence_before``; NA if one of them is NA.
        ``verdict`` : "better", "worse" or "same"; "new" if adherence is known of the later
        period only; "gone" if it is known of the earlier period only; else "unknown".

    Raises
    ------
    InputError
        If a period does not begin before it ends, or a column or an argument is wrong.

    See Also
    --------
    rpo_adherence : the definitions.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": ["a", "a", "b"],
    ...     "created": day + pd.to_timedelta([0, 36, 0], unit="h"),
    ...     "ended": day + pd.to_timedelta([30, 48, 48], unit="h"),
    ... })
    >>> found = compare(sessions, "2026-10-02", target="1h", by="vm")
    >>> found[["vm", "adherence_before", "adherence", "verdict"]]
      vm  adherence_before  adherence verdict
    0  a               1.0   0.791667   worse
    1  b               1.0   1.000000    same
    """
    question = Question.parse(by, since=since, until=until, as_of=as_of, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return COMPARE.evaluate(sessions, question, terms, before=before)


Both = tuple[Aggregates, Aggregates]
"""The earlier and the later period."""


def _both(
    sessions: pd.DataFrame,
    question: Question,
    terms: Terms,
    before: tuple[object, object] | None,
) -> Both:
    known = facts(sessions)
    since, until = resolve_window(known, question)
    if since is None:
        raise InputError(
            "compare needs since=: it compares the period from there with the one before"
        )
    as_of = timestamp(as_of_frame(sessions, known, question.as_of))
    end = as_of if until is None else min(as_of, until)
    if before is None:
        if since >= end:
            raise InputError(f"since={since} is not before as_of, so there is no period to compare")
        before = (since - (end - since), since)
    first, last = (instant(edge, "before", question.tz) for edge in before)
    earlier = exposure_aggregates(sessions, replace(question, since=first, until=last), terms)
    later = exposure_aggregates(sessions, replace(question, since=since, until=until), terms)
    return earlier, later


def _combine_both(parts: Sequence[Both]) -> Both:
    return combine([part[0] for part in parts]), combine([part[1] for part in parts])


def _regroup_both(part: Both, by: Sequence[str]) -> Both:
    return regroup(part[0], by), regroup(part[1], by)


def _changes(
    both: Both, question: Question, terms: Terms, before: tuple[object, object] | None
) -> pd.DataFrame:
    earlier, later = map(adherence_table, both)
    figures: dict[str, pd.Series] = {}  # both have a row for each group
    for name in ("rpo", "observed", "breached", "adherence"):
        figures |= {f"{name}_before": earlier[name], name: later[name]}
    figures["change"] = later["adherence"] - earlier["adherence"]
    figures["verdict"] = _verdicts(earlier["adherence"], later["adherence"])
    return by_size(table_of(later[list(question.by)], figures), "change")


def by_size(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a table with the numbers of a column that are farthest from zero first, NA last."""
    order = table[column].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _verdicts(before: pd.Series, after: pd.Series) -> pd.Series:
    cases = {
        "unknown": before.isna() & after.isna(),
        "new": before.isna(),
        "gone": after.isna(),
        "better": after > before,
        "worse": after < before,
    }
    return pd.Series(np.select(list(cases.values()), list(cases), "same"), dtype="str")


WORST = MetricSpec(
    name="worst", command="worst", summary="which groups explain most of the breached time",
    function=worst, partial=_worst_aggregates, combine=combine, finalize=_worst_table,
    columns=COLUMNS, own={"n": 10},
)  # fmt: skip
COMPARE = MetricSpec(
    name="compare", command="compare",
    summary="what became better or worse since the period before (--since)",
    function=compare, partial=_both, combine=_combine_both, finalize=_changes,
    columns=COLUMNS, own={"before": None}, looks_back=True, regroup=_regroup_both,
)  # fmt: skip
