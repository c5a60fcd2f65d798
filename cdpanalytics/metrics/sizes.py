"""Sizes of protected VMs through time, and where they head."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import groups as grouping
from cdpanalytics.metrics.core.aggregates import Aggregates, Cells, cells_for, combine, join
from cdpanalytics.metrics.core.arrays import SessionArrays
from cdpanalytics.metrics.core.coverage import vm_blocks
from cdpanalytics.metrics.core.exposure import arrays_of, retirements
from cdpanalytics.metrics.core.horizon import DAY, days_ahead, parse_horizon
from cdpanalytics.metrics.core.kernels import (
    LARGEST,
    Flags,
    Integers,
    sort_by_vm_and_time,
)
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
from cdpanalytics.metrics.core.spec import LEFT_OUT, WINDOW, MetricSpec
from cdpanalytics.metrics.core.trend import ENOUGH, fit_series
from cdpanalytics.metrics.core.values import amounts
from cdpanalytics.metrics.core.windows import window
from cdpanalytics.parallel import parallel_map

Reading = Literal["size", "volume"]

_ROLLING = 7
"""Periods in the rolling mean."""

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

    The manual calls TotalSize "the size of all restore points produced by the
    session". Its own samples disagree: successive sessions of one VM all carry
    17179869184 (16 GiB to the byte), and the console shows a total size of 50 GB
    beside 155 MB read. It behaves as the size of the VM processed: a state, not a
    flow, and adding sessions up would count a VM three times a day.

    Parameters
    ----------
    sessions : pandas.DataFrame
        One row a task session; needs `vm`, `created`, `ended`, `total_size` (bytes).
    by : str or sequence of str
        `policy`, `vm`, `backup_server`, several of them, or ``()``.
    freq : {"h", "D", "W", "MS"}
        Periods of the wall clock in `tz`.
    reading : {"size", "volume"}
        "size": a VM's size is that of its newest session ended by the period's end,
        carried forward to `as_of`, or until it is retired; a group's is the sum over its
        VMs, a VM being in the policy of that session. "volume": the manual's reading, the sum over the
        sessions that ended in the period.
    since, until, as_of, tz
        As in `rpo_adherence`. Sessions before the window give the size it opens with.
    schedule_tz, policies, unobserved, exclude, retire_after, grace
        As in `rpo_adherence`. They decide since when a VM is retired; from then on it has
        no size.

    Returns
    -------
    pandas.DataFrame
        One row per group and period: the keys, ``period`` (its start, UTC), ``vms``
        (with a known size), ``sessions`` (ended in the period with a size), ``size``
        (bytes, ``Int64``; NA while no VM has one), ``rolling`` (bytes, mean over 7
        periods, NA in the first six) and ``running`` (sessions that began in the
        period and still run: left out of all the others) and ``retired`` (VMs that had a
        size and are retired by the period's end).

    Raises
    ------
    InputError
        When a column is missing or of the wrong kind, or an argument is.

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


def _size_aggregates(
    sessions: pd.DataFrame, question: Question, terms: Terms, reading: Reading = "size"
) -> Aggregates:
    """Return what `sizes` is made of."""
    if reading not in ("size", "volume"):
        raise InputError(f"reading={reading!r} is not known; use size or volume")
    if "total_size" not in sessions:
        raise InputError("no column 'total_size' (bytes); sizes need it beside vm, created, ended")
    arrays = arrays_of(sessions, question, terms)
    periods = window(arrays, question)
    cells = cells_for(arrays, question.by, periods)
    retired = retirements(arrays, terms)
    size = amounts(arrays.frame)
    last = min(int(periods.edges[-1]), arrays.as_of)
    sized = arrays.finished & size.notna().to_numpy() & (arrays.ended <= last)
    amount = np.asarray(size.fillna(0), dtype=np.int64)
    if not periods.closed:
        sized &= arrays.ended < periods.edges[-1]

    def part(rows: Integers) -> Aggregates:
        rows = rows[rows < len(sized)]
        rows = rows[sized[rows]]
        return _changes(arrays, cells.among(rows), rows, amount[rows], retired, reading)

    parts = parallel_map(part, vm_blocks(arrays))
    sums = join(cells, parts, [part.groups.index.to_numpy() for part in parts])
    added = sums.sum
    carried = {"vms", "retired"} | ({"size"} if reading == "size" else set())
    for name in carried:
        added[name] = added[name].reshape(sums.shape).cumsum(axis=1).ravel()
    running = np.flatnonzero(arrays.running)
    began = cells.of(running, periods.place(arrays.created[running]))
    return cells.aggregates(sum=added | {"running": grouping.count(began, cells.size)})


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
    """Return where sizes head: the Theil-Sen slope of `sizes` and its projection.

    The slope is the median of the slopes between all pairs of periods, so a few odd
    periods do not move it. Unfinished first and last periods are left out.

    Sizes are levels that move in rare steps, and each day begins where the last one
    ended. Theil-Sen's own interval, which takes days to be independent, is far too narrow
    for them. Here the daily increments are resampled in blocks of 3 (999 times, with a
    fixed seed: the same sizes always have the same interval), and the 2.5 and 97.5 %
    points are moved outwards by Student's factor for the number of blocks.
    docs/uncertainty.md shows how often the intervals hold in simulated series.

    Parameters
    ----------
    sessions, by, freq, since, until, as_of, tz
        As in `sizes`, as are `policies`, `unobserved` and `retire_after`.
    horizon : timedelta-like, str, datetime.date or pandas.Timestamp
        How far beyond the end of the last whole period to project ("30D"), or the date
        to project to ("2027-01-01", which is its midnight in `tz`).

    Returns
    -------
    pandas.DataFrame
        One row per group: the keys, ``periods`` (whole ones with a size), ``size``
        (bytes, at the last of them), ``change`` (bytes, since the first of them),
        ``slope`` with its 95 % interval ``slope_low, slope_high`` (bytes a day),
        ``projected`` (bytes at the horizon: size plus slope times horizon) with the range
        ``projected_low, projected_high`` in which the size itself will lie, and ``growth``
        (``projected / size - 1``). NA under 5 periods, the intervals also under 5
        distinct sizes, and growth where the size is 0.

    Raises
    ------
    InputError
        When a column is missing or of the wrong kind, or an argument is, or the horizon
        is a date that is not after the last whole period.

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
    return _size_aggregates(sessions, question, terms)


def _trends(sums: Aggregates, question: Question, terms: Terms, horizon: object) -> pd.DataFrame:
    known = _has_size(sums)
    level = np.where(known, sums.sum["size"], np.nan).reshape(sums.shape)
    starts = sums.window.column(1).to_numpy(dtype="M8[us]").view(np.int64)
    series = fit_series(starts / DAY, level, _whole(sums, known).reshape(sums.shape))
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
    return pd.DataFrame({**keys, **figures}, index=keys.index)


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
    """Return the periods in which a size is far from those around it.

    A period's residual is its size less the running median of seven periods (three on
    each side, fewer at the ends). Its score is ``0.6745 * (residual - median residual) /
    MAD``, where the MAD is the median absolute deviation of the group's residuals: for
    normal noise, the distance in standard deviations. One odd period moves neither.

    Parameters
    ----------
    sessions, by, freq, since, until, as_of, tz
        As in `sizes`, as are `policies`, `unobserved` and `retire_after`.
    z : float
        Score beyond which, to either side, a period is an outlier.

    Returns
    -------
    pandas.DataFrame
        One row per finding, by group and time: the keys, ``period`` (its start, UTC),
        ``size`` and ``expected`` (bytes: what it was, and the running median),
        ``residual`` (bytes), ``score`` and ``kind``. "outlier": the score exceeds `z`.
        "step": more than half of the group's residuals are equal, so the MAD is 0 and the
        score is NA; then each period counts whose size differs from that of the one
        before, which is its ``expected``. A size that never changes has no rows. A group
        with fewer than 5 whole periods has none either, as that is too few to judge
        (`size_trend` lists those). Unfinished first and last periods are left out.

    Raises
    ------
    InputError
        When `z` is not a positive number, or a column or an argument is wrong.

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
    return _size_aggregates(sessions, question, terms)


def _anomalies(sums: Aggregates, question: Question, terms: Terms, z: float) -> pd.DataFrame:
    _check(z)
    daily, whole = _size_table(sums), _whole(sums, _has_size(sums))
    known = daily.loc[whole, [*sums.groups, "period", "size"]].assign(
        group=(np.arange(len(daily)) // sums.window.count)[whole]
    )
    judged = known.groupby("group")["size"].transform("size") >= ENOUGH
    known = known[judged].reset_index(drop=True)
    size, grouped = known["size"].astype(float), known["group"]
    median = size.groupby(grouped).rolling(_AROUND, center=True, min_periods=1).median()
    expected = median.reset_index(drop=True).astype(float)
    residual = size - expected
    off = residual - residual.groupby(grouped).transform("median")
    spread = off.abs().groupby(grouped).transform("median")
    score = _NORMAL * off / spread.where(spread > 0)
    earlier = size.groupby(grouped).shift()
    step = (spread == 0) & earlier.notna() & (size != earlier)
    known["expected"] = expected.where(spread > 0, earlier)
    known["residual"] = size - known["expected"]
    known["score"] = score
    known["kind"] = pd.Series(np.where(step, "step", "outlier"), dtype="str")
    odd = step | (score.abs() > z)
    return known.loc[odd].drop(columns="group").reset_index(drop=True)


def _has_size(sums: Aggregates, reading: Reading = "size") -> Flags:
    """Return which cells have a size that is known."""
    added = sums.sum
    return (added["vms"] > 0) | ((added["sessions"] > 0) & (reading == "volume"))


def _whole(sums: Aggregates, known: Flags) -> Flags:
    """Return which cells are of whole periods with a size."""
    return np.tile(sums.window.whole, sums.shape[0]) & known


def _changes(
    arrays: SessionArrays,
    own: Cells,
    rows: Integers,
    size: Integers,
    retired: tuple[Integers, Integers],
    reading: Reading,
) -> Aggregates:
    """What the sized sessions of some VMs change of their cells' VMs, sizes and retired VMs.

    Each ended session moves its VM to its own group and size; what it moves away
    from is taken off, so sums of changes carry every level forward. Where a VM is
    retired it moves nowhere.
    """
    periods, group = own.window, own.group.of
    vm, ended, created = arrays.vm[rows], arrays.ended[rows], arrays.created[rows]
    ended_in = own.of(np.arange(len(rows)), periods.place_ends(ended))
    added = {"sessions": grouping.count(ended_in, own.size)}
    if reading == "volume":
        inside = ended_in >= 0
        added["size"] = grouping.total(ended_in[inside], size[inside], own.size)
    kept = slice(None) if not len(retired[0]) else ended <= _retired_since(vm, retired)
    vm, ended, created, size, group = (v[kept] for v in (vm, ended, created, size, group))
    order = sort_by_vm_and_time(vm, ended, lambda tied: (created[tied], size[tied], group[tied]))
    vm, ended, group, size = (values[order] for values in (vm, ended, group, size))
    cell = group * periods.count + periods.period(ended)
    before = np.flatnonzero(vm[1:] == vm[:-1])
    left = cell[before + 1] + (group[before] - group[before + 1]) * periods.count
    last = np.searchsorted(vm, retired[0], side="right") - 1
    # A window after as_of shows what was known at as_of, as one that ends there does.
    leaves = (last >= 0) & (retired[1] < min(periods.edges[-1], arrays.as_of))
    leaves[leaves] = vm[last[leaves]] == retired[0][leaves]
    last = last[leaves]
    leaving = group[last] * periods.count + periods.period(retired[1][leaves])
    nowhere = grouping.count(leaving, own.size)
    added["vms"] = grouping.count(cell, own.size) - grouping.count(left, own.size) - nowhere
    added["retired"] = nowhere
    if reading == "size":
        added["size"] = grouping.total(cell, size, own.size)
        added["size"] -= grouping.total(left, size[before], own.size)
        added["size"] -= grouping.total(leaving, size[last], own.size)
    return own.aggregates(sum=added)


def _retired_since(vm: Integers, retired: tuple[Integers, Integers]) -> Integers:
    """Since when the VM of each row is retired; the end of time where it is not."""
    vms, since = np.append(retired[0], LARGEST), np.append(retired[1], LARGEST)
    at = np.searchsorted(vms, vm)
    return np.where(vms[at] == vm, since[at], LARGEST)


def _table(sums: Aggregates, question: Question, terms: Terms, reading: Reading) -> pd.DataFrame:
    return _size_table(sums, reading)


def _size_table(sums: Aggregates, reading: Reading = "size") -> pd.DataFrame:
    """The table of `sizes`: NA where no size is known, and the rolling mean."""
    added, keys, known = sums.sum, sums.keys(), _has_size(sums, reading)
    rolling = _rolling(added["size"].reshape(sums.shape), known.reshape(sums.shape))
    figures = {
        "vms": added["vms"], "sessions": added["sessions"],
        "size": pd.arrays.IntegerArray(added["size"], ~known), "rolling": rolling.ravel(),
        "running": added["running"], "retired": added["retired"],
    }  # fmt: skip
    return pd.DataFrame({**keys, **figures}, index=keys.index)


def _rolling(level: Integers, known: Flags) -> np.ndarray:
    """The mean of each period and those before it, NaN where not all are known."""
    mean = np.full(level.shape, np.nan)
    if level.shape[1] >= _ROLLING:
        whole = sliding_window_view(known, _ROLLING, axis=1).all(axis=2)
        sums = sliding_window_view(level, _ROLLING, axis=1).sum(axis=2)
        mean[:, _ROLLING - 1 :] = np.where(whole, sums / _ROLLING, np.nan)
    return mean


_COLUMNS = (
    "vm", "policy", "backup_server", "created", "ended", "state", "result", "total_size", "rpo",
)  # fmt: skip
_TAKES = WINDOW | LEFT_OUT | {"freq", "tz", "schedule_tz", "policies"}

SIZES = MetricSpec(
    name="sizes", command="sizes", summary="the size of the protected VMs, day by day",
    function=sizes, partial=_size_aggregates, combine=combine, finalize=_table,
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
