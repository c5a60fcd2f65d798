"""Repeated offenders: VMs with incidents of their own again and again, and their rhythm."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.metrics.core import breaches as late
from cdpanalytics.metrics.core.breaches import Breaches
from cdpanalytics.metrics.core.clusters import CHANCE, DAY, log_tail
from cdpanalytics.metrics.core.exposure import COLUMNS
from cdpanalytics.metrics.core.incidents import Incidents
from cdpanalytics.metrics.core.kernels import Integers
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
from cdpanalytics.metrics.core.schedule import WEEKDAYS
from cdpanalytics.metrics.core.spec import MetricSpec
from cdpanalytics.metrics.core.values import check_count
from cdpanalytics.metrics.incidents import found_in, margin
from cdpanalytics.schema import VM

LEAST = 3
"""Incidents of its own that a VM has at least to be listed."""

HOUR = DAY // 24
_ZERO = pd.Timedelta(0)


def offenders(
    sessions: pd.DataFrame,
    target: object = None,
    *,
    least: int = LEAST,
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
    """Return the VMs that miss their target again and again by themselves, and at which times.

    In the example, a VM has a gap every second night at 02:00: four incidents, two days apart.

    Only incidents of this VM alone are counted (see `incidents`). Incidents of several VMs
    are *acute*; their breached time has a column of its own. A VM is *chronic* if `chance` is
    below 0.001. `chance` is the Poisson probability of so many incidents or more, times the
    number of VMs. The expected number is the mean of the other VMs, with one incident added
    to their sum.

    Parameters
    ----------
    sessions : pandas.DataFrame
        As in `incidents`.
    target, since, until, as_of, schedule, schedule_tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude`, `retire_after` and `grace`.
    least : int
        The smallest number of incidents of its own for which a VM is listed. Default: 3.
    tz : str
        Zone of weekdays and times of day.

    Returns
    -------
    pandas.DataFrame
        One row per VM, the most incidents of its own first, then by VM:

        ``backup_server, policy, vm`` : the VM; the policy is missing if there are several.
        ``incidents`` : the number of incidents of this VM alone.
        ``chance`` : this product, at most 1.
        ``chronic`` : whether `chance` is below 0.001.
        ``breached`` : Timedelta, the breached time of these incidents inside the window.
        ``breached_with_others`` : Timedelta, its breached time in incidents of several VMs.
        ``explains`` : `breached` divided by all breached time of the window.
        ``every`` : Timedelta, the median time from the start of one to the start of the next.
        ``first, last`` : the start of the first one and of the last one.
        ``hour`` : "HH:MM" in `tz`: the start of the 60 minutes of the day in which most of
        them start.
        ``hour_share`` : the share that starts in these 60 minutes.
        ``hour_chance`` : an upper bound of the probability that as many start within some 60
        minutes of the day, if all times of day were equally likely.
        ``weekday`` : the weekday on which most of them start; the first, if several do.
        ``weekday_share, weekday_chance`` : the same for weekdays.
        ``cause`` : the most frequent cause; if several are equally frequent, the first by
        name.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind, or if the frame lacks the
        sessions around its window.

    See Also
    --------
    incidents : incidents of one VM and of several.

    Notes
    -----
    For k of n starts, `hour_chance` is ``n P(Binomial(n - 1, 1/24) >= k - 1)``, because the
    60 minutes with the most starts begin at one of the starts. `weekday_chance` is
    ``7 P(Binomial(n, 1/7) >= k)``. Both are at most 1. They are not corrected for the number
    of VMs.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> nights = day + pd.to_timedelta([26, 74, 122, 170], unit="h")
    >>> sessions = pd.DataFrame({
    ...     "vm": "web-187",
    ...     "created": [day, *(nights + pd.Timedelta("1h"))],
    ...     "ended": [*nights, day + pd.Timedelta("9D")],
    ... })
    >>> row = offenders(sessions, "15min").iloc[0]
    >>> int(row["incidents"]), row["every"], row["hour"], float(round(row["hour_chance"], 5))
    (4, Timedelta('2 days 00:00:00'), '02:00', 0.00029)
    """
    question = Question.parse((), since=since, until=until, as_of=as_of, tz=tz)
    terms = Terms.parse(
        target, protects=protects, schedule=schedule, schedule_tz=schedule_tz, exclude=exclude,
        retire_after=retire_after, grace=grace, policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return OFFENDERS.evaluate(sessions, question, terms, least=least)


def _breaches(sessions: pd.DataFrame, question: Question, terms: Terms, least: int) -> Breaches:
    check_count(least, "least")
    return late.breaches(sessions, question, terms, margin())


def _table(breaches: Breaches, question: Question, terms: Terms, least: int) -> pd.DataFrame:
    return offenders_in(breaches, question.tz, least)


def offenders_in(
    breaches: Breaches, tz: str, least: int = LEAST, found: Incidents | None = None
) -> pd.DataFrame:
    """Return the repeated offenders of all breaches together, whose incidents may be `found` already.

    Raises
    ------
    InputError
        When `least` is not a positive whole number.
    """
    check_count(least, "least")
    found = found or found_in(breaches)
    own, together = _by_kind(found)
    groups = own.groupby(VM, dropna=False, sort=True, observed=True)
    table = groups.agg(
        policies=("policy", "nunique"), policy=("policy", "first"),
        incidents=("incident", "nunique"), breached=("inside", "sum"),
        first=("start", "min"), last=("start", "max"),
    )  # fmt: skip
    table["cause"] = _most_frequent(own["cause"], groups.ngroup())
    table["policy"] = table["policy"].where(table["policies"] <= 1)
    machines = len(late.observed_vms(breaches[1]))
    table["chance"] = _chance_of(table["incidents"].to_numpy(dtype=np.int64), machines)
    table["chronic"] = table["chance"] < CHANCE
    table["explains"] = (table["breached"] / found.table["breached"].sum()).astype(float)
    shared = together.groupby(VM, dropna=False, observed=True)["inside"].sum()
    table["breached_with_others"] = shared.reindex(table.index).fillna(_ZERO)
    listed = (table["incidents"] >= least).to_numpy(dtype=bool)
    rhythms = _rhythms(own, listed, tz)
    table = table[listed].reset_index().join(rhythms)
    return table.sort_values(
        ["incidents", *VM], ascending=[False, True, True], kind="stable", ignore_index=True
    )[list(_COLUMNS)]


def _by_kind(found: Incidents) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The gaps of incidents of one VM, and those of incidents of many."""
    alone = found.table.loc[found.table["scope"] == "VM", "incident"]
    own = found.gaps["incident"].isin(alone)
    return found.gaps[own], found.gaps[~own]


def _most_frequent(causes: pd.Series, group: pd.Series) -> pd.api.extensions.ExtensionArray:
    """Return the most frequent cause of each group, in order of the groups; first by name of equals."""
    sizes = causes.groupby([group.rename("group"), causes], sort=True, observed=True).size()
    counts = sizes.rename("count").reset_index()
    counts = counts.sort_values(["group", "count"], ascending=[True, False], kind="stable")
    return counts.drop_duplicates("group")["cause"].astype("str").array


def _chance_of(incidents: Integers, machines: int) -> NDArray[np.float64]:
    """Return how probable it is that some VM has so many, at the mean of the others' and one more.

    Examples
    --------
    >>> _chance_of(np.array([1, 1, 12]), 10).round(6).tolist()
    [1.0, 1.0, 0.0]
    """
    total = incidents.sum()
    mean = (total - incidents + 1) / max(machines - 1, 1)
    return np.minimum(np.exp(log_tail(incidents, mean)) * machines, 1.0)


def _rhythms(own: pd.DataFrame, listed: NDArray[np.bool_], tz: str) -> pd.DataFrame:
    """One row per VM that is listed, in order of VM."""
    begun = own.groupby([*VM, "incident"], dropna=False, sort=True, observed=True)["start"].min()
    group = begun.groupby(level=VM, dropna=False, sort=True).ngroup().to_numpy()
    order = np.lexsort((begun.to_numpy(), group))
    order = order[listed[group[order]]]
    starts = begun.iloc[order].dt.as_unit("us")
    wall = starts.dt.tz_convert(tz).dt.tz_localize(None)
    _, group = np.unique(group[order], return_inverse=True)
    count = np.bincount(group)
    hour, most = _densest_hour(group, wall.to_numpy().view(np.int64) % DAY)
    weekdays = np.bincount(group * 7 + wall.dt.day_of_week.to_numpy(), minlength=7 * len(count))
    weekdays = weekdays.reshape(-1, 7)
    frequent = weekdays.max(axis=1)
    names = np.array(WEEKDAYS, dtype=object)[weekdays.argmax(axis=1)]
    return pd.DataFrame({
        "every": _median_step(group, starts.dt.tz_localize(None).to_numpy().view(np.int64)),
        "hour": pd.Series([f"{at // 60:02}:{at % 60:02}" for at in hour // (HOUR // 60)], dtype="str"),
        "hour_share": most / count,
        "hour_chance": [
            min(1.0, n * _binomial_tail(n - 1, 1 / 24, k - 1))
            for n, k in zip(count.tolist(), most.tolist(), strict=True)
        ],
        "weekday": pd.Series(names, dtype="str"),
        "weekday_share": frequent / count,
        "weekday_chance": [
            min(1.0, 7 * _binomial_tail(n, 1 / 7, k))
            for n, k in zip(count.tolist(), frequent.tolist(), strict=True)
        ],
    }).astype({"hour_chance": float, "weekday_chance": float})  # fmt: skip


def _median_step(group: Integers, start: Integers) -> pd.Series:
    """Return the median distance of each group's starts, in order of group and time; NaT of one start."""
    inside = np.flatnonzero(np.diff(group) == 0)
    step, of = np.diff(start)[inside], group[inside]
    step = step[np.lexsort((step, of))]
    steps = np.bincount(of, minlength=int(group.max(initial=-1)) + 1)
    first = np.cumsum(steps) - steps
    some = np.flatnonzero(steps)
    low, high = (step[first[some] + at] for at in ((steps[some] - 1) // 2, steps[some] // 2))
    median = pd.Series(pd.NaT, index=range(len(steps)), dtype="timedelta64[us]")
    median[some] = pd.to_timedelta(low + (high - low) // 2, unit="us")
    return median


def _densest_hour(group: Integers, clock: Integers) -> tuple[Integers, Integers]:
    """Return when the hour begins in which most of each group's times of day lie, and how many do.

    It begins with one of them, the first of the day among equals, and may pass midnight.
    """
    order = np.lexsort((clock, group))
    time, of = clock[order], group[order]
    twice = np.sort(np.concatenate([of * 2 * DAY + time, (of * 2 + 1) * DAY + time]))
    place = of * 2 * DAY + time
    inside = np.searchsorted(twice, place + HOUR) - np.searchsorted(twice, place)
    best = np.lexsort((time, -inside, of))
    first = best[np.flatnonzero(np.diff(of[best], prepend=-1))]
    return time[first], inside[first]


_RHYTHM = (
    "every", "hour", "hour_share", "hour_chance", "weekday", "weekday_share", "weekday_chance",
)  # fmt: skip
_COLUMNS = (
    "backup_server", "policy", "vm", "incidents", "chance", "chronic", "breached",
    "breached_with_others", "explains", "first", "last", *_RHYTHM, "cause",
)  # fmt: skip


@lru_cache(maxsize=4096)
def _binomial_tail(count: int, chance: float, least: int) -> float:
    """Return the probability of at least `least` successes in `count` trials.

    Examples
    --------
    >>> _binomial_tail(3, 0.5, 2)
    0.5
    """
    return sum(
        math.comb(count, k) * chance**k * (1 - chance) ** (count - k)
        for k in range(least, count + 1)
    )


OFFENDERS = MetricSpec(
    name="offenders", command="offenders",
    summary="VMs that miss their target again and again by themselves, and with which rhythm",
    function=offenders, partial=_breaches, combine=late.combine, finalize=_table,
    columns=(*COLUMNS, "reason"), by=None, own={"least": LEAST},
)  # fmt: skip
