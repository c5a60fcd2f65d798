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
    """Return one row per incident: the time, the VMs, the cause and the breached time.

    In the example, four VMs have a gap of two hours at the same time. This is one incident.

    Every breached gap is in exactly one incident, so the `breached` of all incidents add up
    to the `breached` of `rpo_adherence`. Incidents are found in these steps:

    1. Two gaps of one VM with less than `merge` of protection between them count as one gap.
    2. The breached gaps of one backup server are sorted by their start. As long as each
       one starts at most `within` after the one before, they form a cluster. A cluster that
       is longer than three times `within` is cut at the longest step between two starts.
    3. A cluster of at least `least` VMs is an incident, if chance does not explain it. The
       test is: take the binomial probability that so many VMs of the server or more have a
       gap that starts in a period as long as the cluster plus `within`. Multiply it by the
       number of periods of length `within` in the window. The result must be below 0.001.
       The rate of starts is the higher of two rates: the rate of the starts outside such
       incidents (with one start added), and the rate of the starts at this time of day on
       the other days.
    4. Incidents of several backup servers that start within `within` of each other are one
       incident of the estate.
    5. Each gap that is left is an incident of its VM.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`. With a window, also the
        sessions up to three times `within` before and after it, because a cluster can begin
        before the window or end after it.
    target, since, until, as_of, schedule, tz, schedule_tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.
    within : timedelta-like
        The longest time from the start of one gap to the start of the next gap in a cluster.
        Default: 10 minutes.
    least : int
        The smallest number of VMs of an incident of several VMs; 2 or more. Default: 3.
    merge : timedelta-like
        Two gaps of a VM with less protection between them count as one gap. Default: 1 hour.

    Returns
    -------
    pandas.DataFrame
        Most breached time first, then by start:

        ``incident`` : its number, from 1. It is valid for this window and these terms only.
        ``start, end`` : the start of its first gap and the end of its last one. They can be
        outside the window.
        ``open`` : whether one of its gaps still lasts at `as_of`.
        ``scope`` : "VM", "policy", "backup server" or "estate": the smallest of these that
        contains all of its gaps. Several VMs of one policy have the scope "policy".
        ``backup_server, policy`` : of its gaps; missing if they have several.
        ``vms`` : the number of VMs with a gap in it.
        ``share`` : `vms` divided by the VMs observed at some time from `start` to `end`.
        ``breached`` : Timedelta, the breached time of its gaps inside the window.
        ``explains`` : `breached` divided by all breached time of the window.
        ``longest`` : Timedelta, the whole length of its longest gap.
        ``recovery`` : Timedelta, the median length of its gaps.
        ``cause`` : the most frequent cause of its gaps (see `gaps`); if several are equally
        frequent, the first by name.
        ``cause_share`` : the share of its gaps with this cause.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind, or if the frame lacks the
        sessions around its window.

    See Also
    --------
    offenders : VMs that have incidents of their own again and again.
    gaps : the gaps themselves.

    Notes
    -----
    Two incidents of one backup server that begin within `within` of each other cannot be
    distinguished, and become one. Precision and recall are measured in docs/incidents.md.

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
    summary="what stopped replication, of how many VMs at once, and how much it explains",
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
