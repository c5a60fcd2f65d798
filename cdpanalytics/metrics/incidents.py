"""Incidents: what happened, to how many VMs at once, and how much of the breached time it explains."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import breaches as late
from cdpanalytics.metrics.core.breaches import GAP, Breaches
from cdpanalytics.metrics.core.clusters import LONGEST
from cdpanalytics.metrics.core.exposure import COLUMNS
from cdpanalytics.metrics.core.incidents import (
    LEAST,
    MERGE,
    WITHIN,
    Incidents,
    check_numbers,
    find_incidents,
)
from cdpanalytics.metrics.core.question import (
    PROTECTS,
    UNSET,
    Exclude,
    Question,
    Schedule,
    Table,
    Terms,
    Zone,
    Zones,
)
from cdpanalytics.metrics.core.spec import MetricSpec, identity
from cdpanalytics.metrics.core.values import length

_ZERO = pd.Timedelta(0)
_ALL = "_all"
"""A column that has one value, so that one row in all is a group like others."""


def incidents(
    sessions: pd.DataFrame,
    target: object = None,
    *,
    within: object = WITHIN,
    least: int = LEAST,
    merge: object = MERGE,
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
    """Return one row per incident: what broke protection, of how many VMs, and what it cost.

    Every gap in breach is in exactly one incident, so the incidents' `breached` add up to
    that of `rpo_adherence`.

    Gaps of one VM with less than `merge` of protection between them count as one. Gaps of
    different VMs of one backup server that begin within `within` of one another form a
    cluster (single linkage); a chain longer than three times `within` is cut at its widest
    step. A cluster of at least `least` VMs is one incident where chance does not explain
    it: the binomial probability that so many of the server's VMs begin together, at the
    rate of the server's beginnings outside clusters (and one more), or at the rate at this
    time of day on the other days where that is greater, times the number of such stretches
    in the window, is below 0.001. Such clusters of several backup servers that begin within `within` of one
    another are one incident of the estate. Each gap that is left is an incident of its VM.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`. With a window, also the
        sessions of three `within` before and after it, in which clusters may begin or end.
    target, since, until, as_of, schedule, tz, schedule_tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.
    within : timedelta-like
        How far apart in time two gaps of one incident may begin.
    least : int
        VMs that an incident of many has at least; 2 or more.
    merge : timedelta-like
        Protection shorter than this between two gaps of a VM does not separate them.

    Returns
    -------
    pandas.DataFrame
        Most breached time first, then by start:

        ``incident`` : its number, from 1. It holds for this window and these terms only.
        ``start, end`` : the first gap's start and the last one's end. They may lie outside
        the window.
        ``open`` : whether a gap of it is still going at as_of.
        ``scope`` : "VM", "policy", "backup server" or "estate": the narrowest that holds
        all of its gaps. An incident of many VMs of one policy is of the policy.
        ``backup_server, policy`` : where there is one; else missing.
        ``vms`` : how many VMs it hit.
        ``share`` : of the VMs observed at some time between `start` and `end`.
        ``breached`` : Timedelta, the breached time of its gaps inside the window.
        ``explains`` : that over all breached time of the window.
        ``longest`` : its longest gap, whole.
        ``recovery`` : the median length of its gaps.
        ``cause`` : the most frequent cause of its gaps, as in `gaps`; of equals the first
        by name.
        ``cause_share`` : the share of its gaps with that cause.

    Raises
    ------
    InputError
        When a column is missing or of the wrong kind, an argument is, or the frame lacks
        the sessions around its window.

    See Also
    --------
    offenders : VMs with incidents of their own again and again.
    gaps : the gaps themselves.

    Notes
    -----
    Two incidents of one backup server that begin within `within` of one another cannot be
    distinguished by time, and are one. Measured precision and recall: docs/incidents.md.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> vms = [f"web-{number}" for number in range(4)]
    >>> sessions = pd.concat([
    ...     pd.DataFrame({"vm": vms, "backup_server": "vbr01", "policy": "Gold",
    ...                   "created": day, "ended": day + pd.Timedelta("30h")}),
    ...     pd.DataFrame({"vm": vms, "backup_server": "vbr01", "policy": "Gold",
    ...                   "created": day + pd.Timedelta("32h"), "ended": day + pd.Timedelta("5D")}),
    ... ])
    >>> incidents(sessions, "15min")[["scope", "vms", "breached", "explains", "longest"]]
        scope  vms        breached  explains         longest
    0  policy    4 0 days 07:00:00       1.0 0 days 02:00:00
    """
    question = Question.parse((), since=since, until=until, as_of=as_of, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return INCIDENTS.evaluate(sessions, question, terms, within=within, least=least, merge=merge)


def margin(within: object = WITHIN) -> pd.Timedelta:
    """Return how far before and after a window clusters are looked for."""
    return LONGEST * length(within, "within")


def _breaches(
    sessions: pd.DataFrame, question: Question, terms: Terms,
    within: object, least: int, merge: object,
) -> Breaches:  # fmt: skip
    length(merge, "merge")
    return late.breaches(sessions, question, terms, margin(within))


def found_in(
    breaches: Breaches, within: object = WITHIN, least: int = LEAST, merge: object = MERGE
) -> Incidents:
    """Return the incidents of all breaches together."""
    parts, observed = breaches
    return find_incidents(
        late.whole_gaps(parts), late.observed_vms(observed), late.window_of(observed),
        length(within, "within"), least, length(merge, "merge"),
    )  # fmt: skip


def _table(
    breaches: Breaches, question: Question, terms: Terms,
    within: object, least: int, merge: object,
) -> pd.DataFrame:  # fmt: skip
    return found_in(breaches, within, least, merge).table


def incident_gaps(breaches: Breaches, found: Incidents, by: Sequence[str]) -> pd.DataFrame:
    """Return the gaps in breach with their incident; with `by`, one row per gap and group."""
    if not by:
        return found.gaps
    keys = list(dict.fromkeys([*by, *GAP]))
    inside = breaches[0].groupby(keys, dropna=False, sort=False, observed=True)["inside"].sum()
    groups = inside.reset_index().merge(found.gaps[[*GAP, "incident"]], on=GAP)
    return groups[groups["inside"] > _ZERO].reset_index(drop=True)


def _incident_of_each(
    breaches: Breaches, question: Question, terms: Terms,
    within: object, least: int, merge: object,
) -> pd.DataFrame:  # fmt: skip
    return incident_gaps(breaches, found_in(breaches, within, least, merge), question.by)


def gaps_of(gaps: pd.DataFrame, numbers: Collection[int]) -> pd.DataFrame:
    """Return the gaps of some incidents, from a table of gaps in breach.

    Raises
    ------
    InputError
        When a number is not one of its incidents.
    """
    if isinstance(numbers, int):
        numbers = [numbers]
    if isinstance(numbers, str):
        raise InputError(f"without={numbers!r} is not a list of numbers; write [1, 3]")
    check_numbers(numbers, gaps["incident"])
    return gaps.loc[gaps["incident"].isin(list(numbers)), GAP].reset_index(drop=True)


def with_incidents(gaps: pd.DataFrame, breaches: pd.DataFrame) -> pd.DataFrame:
    """Return a table of gaps with the column `incident`, missing where a gap is in none."""
    numbered = breaches[[*GAP, "incident"]].astype({"incident": "Int64"})
    return gaps.merge(numbered, on=GAP, how="left")


def with_main_incident(
    table: pd.DataFrame, groups: pd.DataFrame, by: Sequence[str]
) -> pd.DataFrame:
    """Return a table of groups with the incident that explains most of each, and how much.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per group.
    groups : pandas.DataFrame
        Gaps in breach by group, from `INCIDENT_GAPS`.
    by : sequence of str
        The columns of the groups.
    """
    keys = [*by, _ALL]
    groups = groups.assign(**{_ALL: 0})
    inside = groups.groupby([*keys, "incident"], dropna=False, observed=True)["inside"].sum()
    sums = inside.reset_index()
    whole = sums.groupby(keys, dropna=False, observed=True)["inside"].transform("sum")
    sums["incident_share"] = (sums["inside"] / whole).astype(float)
    sums = sums.sort_values(["inside", "incident"], ascending=[False, True], kind="stable")
    main = sums.drop_duplicates(keys).astype({"incident": "Int64"}).drop(columns="inside")
    return table.assign(**{_ALL: 0}).merge(main, on=keys, how="left").drop(columns=_ALL)


_OWN = {"within": WITHIN, "least": LEAST, "merge": MERGE}

INCIDENTS = MetricSpec(
    name="incidents", command="incidents",
    summary="what broke protection, of how many VMs at once, and how much it explains",
    function=incidents, partial=_breaches, combine=late.combine, finalize=_table,
    columns=(*COLUMNS, "reason"), by=None, own=_OWN,
)  # fmt: skip

INCIDENT_GAPS = MetricSpec(
    name="incident_gaps", command="incident-gaps", summary="gaps in breach, each with its incident",
    function=incidents, partial=_breaches, combine=late.combine, finalize=_incident_of_each,
    columns=(*COLUMNS, "reason"), by=(), own=_OWN,
)  # fmt: skip
"""Not a metric by itself: what `rpo_adherence(without=)` is made of."""

BREACHES = replace(INCIDENT_GAPS, finalize=identity)
"""The breaches themselves, in which a Selection finds incidents and offenders after one sweep."""
