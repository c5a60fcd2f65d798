"""Sizes of protected VMs through time, and where they head."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.aggregates import Aggregates, combine
from cdpanalytics.metrics.core.groups import table_of
from cdpanalytics.metrics.core.horizon import DAY, days_ahead, parse_horizon
from cdpanalytics.metrics.core.question import (
    UNSET,
    By,
    Exclude,
    Question,
    Table,
    Terms,
    Zone,
    Zones,
)
from cdpanalytics.metrics.core.sizes import (
    Reading,
    has_size,
    size_aggregates,
    size_table,
    whole_periods,
)
from cdpanalytics.metrics.core.spec import LEFT_OUT, WINDOW, MetricSpec
from cdpanalytics.metrics.core.trend import ENOUGH, fit_series

_AROUND = 7
"""Periods in the running median: the one, and three on each side."""

_NORMAL = 0.6745
"""Median absolute deviation of a standard normal variable."""


def sizes(
    sessions: pd.DataFrame,
    by: By = ("policy", "vm"),
    freq: str = "D",
    reading: Reading = "size",
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    tz: Zone = UNSET,
    schedule_tz: Zones = UNSET,
    policies: Table = UNSET,
    unobserved: Table = UNSET,
    exclude: Exclude = UNSET,
    retire_after: object = UNSET,
    grace: object = UNSET,
) -> pd.DataFrame:
    """Return the size of the protected VMs in each period.

    In the example, two sessions end on the first day with a size of 16 bytes. The size of
    the VM on this day is 16, not 32.

    The vendor's manual says that `total_size` is "the size of all restore points produced by
    the session". The samples in the manual show something else: all sessions of one VM have
    exactly 16 GiB, and a session with a total size of 50 GB has read 155 MB. So `total_size`
    behaves like the size of the VM. To add the sessions would count a VM several times a day.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row per task session; needs `vm`, `created`, `ended`, `total_size` (bytes).
    by : str or sequence of str
        `policy`, `vm`, `backup_server`, several of them, or ``()``.
    freq : {"h", "D", "W", "MS"}
        Hours, days, weeks or months of the wall clock in `tz`.
    reading : {"size", "volume"}
        "size": the size of a VM is that of its newest session that ended before the end of
        the period. It stays the same until `as_of`, or until the VM is retired. The size of
        a group is the sum of its VMs; a VM belongs to the policy of that session. "volume":
        as in the manual, the sum over the sessions that ended in the period.
    since, until, as_of, tz
        As in `rpo_adherence`. Sessions before the window give the sizes at its start.
    schedule_tz, policies, unobserved, exclude, retire_after, grace
        As in `rpo_adherence`. They decide when a VM is retired. From then on it has no size.

    Returns
    -------
    pandas.DataFrame
        One row per group and period: the keys, then

        ``period`` : the start of the period, UTC.
        ``vms`` : VMs with a known size.
        ``sessions`` : sessions with a size that ended in the period.
        ``size`` : bytes, ``Int64``; NA while no VM has a size.
        ``rolling`` : bytes, the mean over 7 periods; NA in the first six.
        ``running`` : sessions that began in the period and still run. They are in no other
        column.
        ``retired`` : VMs that had a size and are retired at the end of the period.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2026-10-01", tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01", "total_size": pd.array([16, 16, 20], dtype="Int64"),
    ...     "created": day + pd.to_timedelta([0, 8, 28], unit="h"),
    ...     "ended": day + pd.to_timedelta([8, 16, 36], unit="h"),
    ... })
    >>> sizes(sessions, by="vm")[["vm", "vms", "sessions", "size"]]
          vm  vms  sessions  size
    0  db-01    1         2    16
    1  db-01    1         1    20
    """
    question = Question.parse(by, since=since, until=until, as_of=as_of, freq=freq, tz=tz)
    terms = Terms.parse(
        schedule_tz=schedule_tz, exclude=exclude, retire_after=retire_after, grace=grace,
        policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return SIZES.evaluate(sessions, question, terms, reading=reading)


def size_trend(
    sessions: pd.DataFrame,
    by: By = ("policy", "vm"),
    freq: str = "D",
    horizon: object = "30D",
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    tz: Zone = UNSET,
    schedule_tz: Zones = UNSET,
    policies: Table = UNSET,
    unobserved: Table = UNSET,
    exclude: Exclude = UNSET,
    retire_after: object = UNSET,
    grace: object = UNSET,
) -> pd.DataFrame:
    """Return how fast sizes grow: the Theil-Sen slope of `sizes` and its projection.

    In the example, the size grows by 10 bytes a day. After eight days it is 160 bytes, and ten
    days later it will be 260.

    The slope is the median of the slopes between all pairs of periods, so a few unusual
    periods do not change it. Unfinished first and last periods are left out.

    The interval of the slope is computed from the changes from day to day: they are resampled
    in blocks of 3 (999 times, with a fixed seed, so the same sizes always give the same
    interval), and the 2.5 and 97.5 % points are moved outwards by Student's factor for the
    number of blocks. The usual interval of Theil-Sen is much too narrow, because it assumes
    independent days; but the size of a day begins where the day before ended.
    docs/uncertainty.md shows how often the intervals are right in simulated series.

    Parameters
    ----------
    sessions, by, freq, since, until, as_of, tz
        As in `sizes`, as are `policies`, `unobserved` and `retire_after`.
    horizon : timedelta-like, str, datetime.date or pandas.Timestamp
        The time from the end of the last whole period to the projection ("30D"), or the date
        of the projection ("2027-01-01": its midnight in `tz`).

    Returns
    -------
    pandas.DataFrame
        One row per group: the keys, then

        ``periods`` : the number of whole periods with a size.
        ``size`` : bytes, in the last of these periods.
        ``change`` : bytes, `size` minus the size in the first of these periods.
        ``slope, slope_low, slope_high`` : bytes per day, with a 95 % interval.
        ``projected`` : bytes at the horizon: the size plus the slope times the horizon.
        ``projected_low, projected_high`` : the 95 % range of the size at the horizon.
        ``growth`` : ``projected / size - 1``; NA if the size is 0.

        With fewer than 5 periods, the figures are NA. With fewer than 5 different sizes, the
        intervals are NA.

    Raises
    ------
    InputError
        If a column or an argument is missing or of the wrong kind, or if the horizon is a
        date that is not after the last whole period.

    References
    ----------
    P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau",
    J. Am. Stat. Assoc. 63 (1968). H. R. Kuensch, "The jackknife and the bootstrap for
    general stationary observations", Ann. Stat. 17 (1989).

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.date_range("2026-10-01", periods=8, tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01", "created": day, "ended": day + pd.Timedelta("23h"),
    ...     "total_size": range(100, 180, 10),
    ... })
    >>> size_trend(sessions, by="vm", horizon="10D")[["vm", "slope", "projected"]]
          vm  slope  projected
    0  db-01   10.0      260.0
    """
    question = Question.parse(by, since=since, until=until, as_of=as_of, freq=freq, tz=tz)
    terms = Terms.parse(
        schedule_tz=schedule_tz, exclude=exclude, retire_after=retire_after, grace=grace,
        policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return SIZE_TREND.evaluate(sessions, question, terms, horizon=horizon)


def _trend_aggregates(
    sessions: pd.DataFrame, question: Question, terms: Terms, horizon: object
) -> Aggregates:
    parse_horizon(horizon, question.tz)
    return size_aggregates(sessions, question, terms)


def _trends(sums: Aggregates, question: Question, terms: Terms, horizon: object) -> pd.DataFrame:
    known = has_size(sums)
    level = np.where(known, sums.sum["size"], np.nan).reshape(sums.shape)
    starts = sums.window.column(1).to_numpy(dtype="M8[us]").view(np.int64)
    series = fit_series(starts / DAY, level, whole_periods(sums, known).reshape(sums.shape))
    ahead = days_ahead(horizon, question.tz, sums.window)[series.last]
    below, above = series.trends.projection_limits(series.length, ahead)
    keys, trends = sums.groups.reset_index(drop=True), series.trends
    size, projected = series.level, series.level + trends.slope * ahead
    figures = {
        "periods": series.points, "size": size, "change": series.change,
        "slope": trends.slope, "slope_low": trends.low, "slope_high": trends.high,
        # No size is below zero; the projection itself is left as the slope gives it.
        "projected": projected,
        "projected_low": np.minimum(np.maximum(projected + below, 0), projected),
        "projected_high": projected + above,
        "growth": projected / np.where(size > 0, size, np.nan) - 1,
    }  # fmt: skip
    return table_of(keys, figures)


def size_anomalies(
    sessions: pd.DataFrame,
    by: By = ("policy", "vm"),
    freq: str = "D",
    z: float = 3.5,
    *,
    since: object = None,
    until: object = None,
    as_of: object = None,
    tz: Zone = UNSET,
    schedule_tz: Zones = UNSET,
    policies: Table = UNSET,
    unobserved: Table = UNSET,
    exclude: Exclude = UNSET,
    retire_after: object = UNSET,
    grace: object = UNSET,
) -> pd.DataFrame:
    """Return the periods in which a size is far from the sizes around it.

    In the example, the size is about 12 bytes, and 99 on the fifth day.

    The *residual* of a period is its size minus the running median of seven periods (three on
    each side, fewer at the ends). Its score is ``0.6745 * (residual - median residual) /
    MAD``, where the MAD is the median absolute deviation of the residuals of the group. For
    normal noise, the score is the distance in standard deviations. One unusual period changes
    neither the median nor the MAD.

    Parameters
    ----------
    sessions, by, freq, since, until, as_of, tz
        As in `sizes`, as are `policies`, `unobserved` and `retire_after`.
    z : float
        A period is an outlier if its score is above `z` or below ``-z``.

    Returns
    -------
    pandas.DataFrame
        One row per finding, ordered by group and time: the keys, then

        ``period`` : the start of the period, UTC.
        ``size, expected`` : bytes: the size, and the running median.
        ``residual`` : bytes.
        ``score`` : the score; NA for a step.
        ``kind`` : "outlier", or "step" if more than half of the residuals of the group are
        equal. Then the MAD is 0, and a row is a period whose size differs from the size of
        the period before, which is its `expected`.

        There are no rows for a size that never changes, and for a group with fewer than 5 whole
        periods (`size_trend` lists these groups). Unfinished first and last periods are left
        out.

    Raises
    ------
    InputError
        If `z` is not a positive number, or a column or an argument is wrong.

    References
    ----------
    B. Iglewicz and D. C. Hoaglin, "How to Detect and Handle Outliers" (1993).

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.date_range("2026-10-01", periods=8, tz="UTC")
    >>> sessions = pd.DataFrame({
    ...     "vm": "db-01", "created": day, "ended": day + pd.Timedelta("23h"),
    ...     "total_size": [10, 12, 11, 13, 99, 14, 12, 13],
    ... })
    >>> size_anomalies(sessions, by="vm")[["period", "size", "expected", "kind"]]
                         period  size  expected     kind
    0 2026-10-05 00:00:00+00:00    99      12.5  outlier
    """
    question = Question.parse(by, since=since, until=until, as_of=as_of, freq=freq, tz=tz)
    terms = Terms.parse(
        schedule_tz=schedule_tz, exclude=exclude, retire_after=retire_after, grace=grace,
        policies=policies, unobserved=unobserved, tz=tz,
    )  # fmt: skip
    return SIZE_ANOMALIES.evaluate(sessions, question, terms, z=z)


def _check(z: float) -> None:
    if isinstance(z, bool) or not isinstance(z, int | float) or not z > 0:
        raise InputError(f"z={z!r} is not a positive number; 3.5 is usual")


def _anomaly_aggregates(
    sessions: pd.DataFrame, question: Question, terms: Terms, z: float
) -> Aggregates:
    _check(z)
    return size_aggregates(sessions, question, terms)


def _anomalies(sums: Aggregates, question: Question, terms: Terms, z: float) -> pd.DataFrame:
    _check(z)
    daily, whole = size_table(sums), whole_periods(sums, has_size(sums))
    group = (np.arange(len(daily)) // sums.window.count)[whole]
    judged = np.bincount(group, minlength=1)[group] >= ENOUGH
    known = daily.loc[whole, [*sums.groups, "period", "size"]][judged].reset_index(drop=True)
    size, grouped = known["size"].astype(float), pd.Series(group[judged])
    median = size.groupby(grouped).rolling(_AROUND, center=True, min_periods=1).median()
    expected = median.reset_index(drop=True).astype(float)
    residual = size - expected
    off = residual - residual.groupby(grouped).transform("median")
    spread = off.abs().groupby(grouped).transform("median")
    score = _NORMAL * off / spread.where(spread > 0)
    earlier = size.groupby(grouped).shift()
    step = (spread == 0) & earlier.notna() & (size != earlier)
    expected = expected.where(spread > 0, earlier)
    kind = pd.Series(np.where(step, "step", "outlier"), dtype="str")
    figures = {"expected": expected, "residual": size - expected, "score": score, "kind": kind}
    odd = step | (score.abs() > z)
    return table_of(known, figures).loc[odd].reset_index(drop=True)


def _table(sums: Aggregates, question: Question, terms: Terms, reading: Reading) -> pd.DataFrame:
    return size_table(sums, reading)


_COLUMNS = (
    "vm", "policy", "backup_server", "created", "ended", "state", "result", "total_size", "rpo",
)  # fmt: skip
_TAKES = WINDOW | LEFT_OUT | {"freq", "tz", "schedule_tz", "policies"}

SIZES = MetricSpec(
    name="sizes", command="sizes", summary="the size of the protected VMs, day by day",
    function=sizes, partial=size_aggregates, combine=combine, finalize=_table,
    columns=_COLUMNS, freq="D", takes=_TAKES, own={"reading": "size"},
)  # fmt: skip
SIZE_TREND = MetricSpec(
    name="size_trend", command="size-trend", summary="how sizes grow, and their projection",
    function=size_trend, partial=_trend_aggregates, combine=combine, finalize=_trends,
    columns=_COLUMNS, freq="D", takes=_TAKES, own={"horizon": "30D"},
)  # fmt: skip
SIZE_ANOMALIES = MetricSpec(
    name="size_anomalies", command="size-anomalies",
    summary="days whose size is far from the sizes around them",
    function=size_anomalies, partial=_anomaly_aggregates, combine=combine, finalize=_anomalies,
    columns=_COLUMNS, freq="D", takes=_TAKES, own={"z": 3.5},
)  # fmt: skip
