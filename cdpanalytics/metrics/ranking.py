"""Adherence put in order: who explains most of what was missed, and what changed most."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.execution.partition import Recipe, declare
from cdpanalytics.metrics.core.aggregates import Sums, merge
from cdpanalytics.metrics.core.clocks import Schedule, Stretches
from cdpanalytics.metrics.core.groups import By, keys_of
from cdpanalytics.metrics.core.spans import PROTECTS, known_until, microseconds, stamp
from cdpanalytics.metrics.core.windows import within
from cdpanalytics.metrics.rpo import COLUMNS, VM, adherence_of, exposure_sums


def worst(
    sessions: pd.DataFrame,
    n: int | None = 10,
    target: object = None,
    by: By = ("policy", "vm"),
    since: object = None,
    until: object = None,
    as_of: object = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
) -> pd.DataFrame:
    """Return the groups that missed their target longest, and how much of the whole each explains.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row a task session; needs `vm`, `created`, `ended`.
    n : int, optional
        How many at most; None for all.
    target, by, since, until, as_of, schedule, tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude` and `retire_after`.

    Returns
    -------
    pandas.DataFrame
        Most breached time first, then by keys: the keys, and of `rpo_adherence` ``rpo,
        observed, breached, gaps, breaches, worst_gap, adherence``; then ``explains``, the
        group's share of all breached time, and ``explained``, the share of all groups up
        to and with this one. Groups that missed nothing are not among them. Those of
        which no target is known come last, with NA: the whole is that of the others.

    Raises
    ------
    InputError
        When `n` is no positive whole number, or a column or an argument is wrong.

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
    _check(n)
    found = exposure_sums(
        sessions, target, by, since, until, as_of, None, schedule, tz, protects, policies,
        unobserved, exclude, retire_after,
    )  # fmt: skip
    return _worst(found, n, by)


def _check(n: int | None) -> None:
    if n is not None and (isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1):
        raise InputError(f"n={n!r} is no positive whole number; use None for all")


def _worst(sums: Sums, n: int | None, by: By) -> pd.DataFrame:
    _check(n)
    table = ranked(adherence_of(sums), keys_of(by))
    return table.head(len(table) if n is None else n)


def ranked(adherence: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the groups of an adherence table that missed their target, as `worst` orders them."""
    missed = adherence[adherence["breached"].isna() | (adherence["breached"] > pd.Timedelta(0))]
    missed = missed.sort_values(
        ["breached", *keys], ascending=[False, *(True for _ in keys)], ignore_index=True
    )
    figures = ["rpo", "observed", "breached", "gaps", "breaches", "worst_gap", "adherence"]
    table = missed[[*keys, *figures]].copy()
    table["explains"] = (missed["breached"] / missed["breached"].sum()).astype(float)
    table["explained"] = (missed["breached"].cumsum() / missed["breached"].sum()).astype(float)
    return table


def compare(
    sessions: pd.DataFrame,
    since: object,
    until: object = None,
    before: tuple[object, object] | None = None,
    target: object = None,
    by: By = ("policy", "vm"),
    as_of: object = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
) -> pd.DataFrame:
    """Return the adherence of two periods side by side, largest change first.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row a task session; needs `vm`, `created`, `ended`, of both periods, and
        their history.
    since, until : timestamp-like
        The period, ``[since, until)``; `until` defaults to the end of what the
        frame was read for, else to `as_of`, and is cut there.
    before : pair of timestamp-like, optional
        The period to hold it against. Default: as long a one, just before it.
    target, by, as_of, schedule, tz, protects, policies
        As in `rpo_adherence`, as are `unobserved`, `exclude` and `retire_after`.

    Returns
    -------
    pandas.DataFrame
        A row a group: the keys, and of `rpo_adherence` ``rpo_before, rpo,
        observed_before, observed, breached_before, breached, adherence_before,
        adherence``; then ``change`` (``adherence - adherence_before``, NA where either is)
        and ``verdict``: "better", "worse", "same", "new" (adherence is known of the later
        period only), "gone" (of the earlier only) or "unknown". Ordered by the size of
        the change, NA last, then by keys.

    Raises
    ------
    InputError
        When a period does not begin before it ends, or a column or an argument is wrong.

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
    return _changed(
        _both(
            sessions, since, until, before, target, by, as_of, schedule, tz, protects, policies,
            unobserved, exclude, retire_after,
        ),
        by,
    )  # fmt: skip


def _both(
    sessions: pd.DataFrame,
    since: object,
    until: object = None,
    before: tuple[object, object] | None = None,
    target: object = None,
    by: By = ("policy", "vm"),
    as_of: object = None,
    schedule: Schedule | None = None,
    tz: str = "UTC",
    protects: Collection[str] = PROTECTS,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    exclude: Stretches | None = None,
    retire_after: object = None,
) -> tuple[Sums, Sums]:
    """The sums of the earlier and the later period, of all groups there are."""
    since, until = within(sessions, since, until)
    begin = microseconds(since, "since")
    known = known_until(sessions, as_of)
    end = known if until is None else min(known, microseconds(until, "until"))
    if before is None:
        if begin >= end:
            raise InputError(f"since={since} is not before as_of, so there is no period to compare")
        before = (stamp(2 * begin - end), stamp(begin))
    asked: dict[str, Any] = {
        "target": target, "by": by, "as_of": as_of, "schedule": schedule, "tz": tz,
        "protects": protects, "policies": policies, "unobserved": unobserved,
        "exclude": exclude, "retire_after": retire_after,
    }  # fmt: skip
    earlier = exposure_sums(sessions, since=before[0], until=before[1], **asked)
    return earlier, exposure_sums(sessions, since=since, until=until, **asked)


def _merge_both(parts: Sequence[tuple[Sums, Sums]]) -> tuple[Sums, Sums]:
    return merge([part[0] for part in parts]), merge([part[1] for part in parts])


def _changed(both: tuple[Sums, Sums], by: By) -> pd.DataFrame:
    earlier, later = map(adherence_of, both)
    table = later[keys_of(by)].copy()  # both have a row for each group there is
    for name in ("rpo", "observed", "breached", "adherence"):
        table[f"{name}_before"], table[name] = earlier[name], later[name]
    table["change"] = later["adherence"] - earlier["adherence"]
    table["verdict"] = _compared(earlier["adherence"], later["adherence"])
    order = table["change"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _compared(before: pd.Series, after: pd.Series) -> pd.Series:
    cases = {
        "unknown": before.isna() & after.isna(),
        "new": before.isna(),
        "gone": after.isna(),
        "better": after > before,
        "worse": after < before,
    }
    return pd.Series(np.select(list(cases.values()), list(cases), "same"), dtype="str")


declare(worst, Recipe(VM, COLUMNS, exposure_sums, merge, _worst))
declare(compare, Recipe(VM, COLUMNS, _both, _merge_both, _changed, looks_back=True))
