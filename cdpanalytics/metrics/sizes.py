"""Sizes of protected VMs through time, and where they head."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import groups as grouping
from cdpanalytics.metrics.groups import By
from cdpanalytics.metrics.spans import Flags, Integers, Records, read, span
from cdpanalytics.metrics.windows import Window, window

Reading = Literal["size", "volume"]

ROLLING = 7
"""Periods in the rolling mean."""

ENOUGH = 5
"""Whole periods below which a trend says nothing."""


def sizes(
    sessions: pd.DataFrame,
    by: By = ("policy", "vm"),
    freq: str = "D",
    reading: Reading = "size",
    since: object = None,
    until: object = None,
    as_of: object = None,
    tz: str = "UTC",
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
        carried forward to `as_of`; a group's is the sum over its VMs, a VM being in
        the policy of that session. "volume": the manual's reading, the sum over the
        sessions that ended in the period.
    since, until, as_of, tz
        As in `rpo_adherence`. Sessions before the window give the size it opens with.

    Returns
    -------
    pandas.DataFrame
        A row a group and period: the keys, ``period`` (its start, UTC), ``vms`` (with
        a known size), ``sessions`` (ended in the period with a size), ``size``
        (bytes, ``Int64``; NA while no VM has one), ``rolling`` (bytes, mean over 7
        periods, NA in the first six) and ``running`` (sessions that began in the
        period and still run: left out of all the others).

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
    if reading not in ("size", "volume"):
        raise InputError(f"reading={reading!r} is not known; use size or volume")
    if "total_size" not in sessions:
        raise InputError("no column 'total_size' (bytes); sizes need it beside vm, created, ended")
    records = read(sessions, as_of)
    frame = window(records, since, until, freq, tz)
    group = grouping.groups(records, by)
    size = records.frame["total_size"].astype("Int64")
    last = min(int(frame.edges[-1]), records.as_of)
    sized = records.finished & size.notna().to_numpy() & (records.ended <= last)
    amount = np.asarray(size.fillna(0), dtype=np.int64)
    if not frame.closed:
        sized &= records.ended < frame.edges[-1]
    cells = _cells(group.of, frame.place(records.ended), frame)
    shape = (group.count, frame.count)
    ended_here = grouping.count(cells, group.count * frame.count, sized).reshape(shape)
    vms, level = _levels(records, group.of, amount, sized, frame, group.count)
    if reading == "volume":
        inside = sized & (cells >= 0)
        level = grouping.total(cells[inside], amount[inside], cells_in(shape)).reshape(shape)
    began = _cells(group.of, frame.place(records.created), frame)
    running = grouping.count(began, cells_in(shape), records.running)
    known = (vms > 0) | ((ended_here > 0) & (reading == "volume"))
    return _table(group.keys, frame, vms, ended_here, level, known, running)


def size_trend(
    sessions: pd.DataFrame,
    by: By = ("policy", "vm"),
    freq: str = "D",
    horizon: object = "30D",
    since: object = None,
    until: object = None,
    as_of: object = None,
    tz: str = "UTC",
) -> pd.DataFrame:
    """Return where sizes head: the Theil-Sen slope of `sizes` and its projection.

    The slope is the median of the slopes between all pairs of periods, so a few odd
    periods do not move it. Unfinished first and last periods are left out.

    Parameters
    ----------
    sessions, by, freq, since, until, as_of, tz
        As in `sizes`.
    horizon : timedelta-like
        How far beyond the last whole period to project.

    Returns
    -------
    pandas.DataFrame
        A row a group: the keys, ``periods`` (whole ones with a size), ``size``
        (bytes, at the last of them), ``slope`` with its 95 % interval ``slope_low,
        slope_high`` (bytes a day), ``projected`` (bytes at the horizon: size plus
        slope times horizon) and ``growth`` (``projected / size - 1``). NA under 5
        periods, and growth where the size is 0.

    Raises
    ------
    InputError
        When a column is missing or of the wrong kind, or an argument is.

    References
    ----------
    P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau",
    J. Am. Stat. Assoc. 63 (1968).

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
    ahead = span(horizon, "horizon") / 86_400_000_000
    daily = sizes(sessions, by, freq, "size", since, until, as_of, tz)
    keys = grouping.keys_of(by)
    frame = window(read(sessions, as_of), since, until, freq, tz)
    whole = np.tile(frame.whole, len(daily) // frame.count) & daily["size"].notna().to_numpy()
    days = ((daily["period"] - pd.Timestamp(0, tz="UTC")) / pd.Timedelta("1D")).to_numpy()
    size = daily["size"].to_numpy(dtype=float, na_value=np.nan)
    first = np.arange(0, len(daily), frame.count)
    within = [at + np.flatnonzero(whole[at : at + frame.count]) for at in first]
    columns = ["periods", "size", "slope", "slope_low", "slope_high"]
    found = pd.DataFrame([_slope(days[at], size[at]) for at in within], columns=columns)
    table = pd.concat([daily[keys].iloc[first].reset_index(drop=True), found], axis=1)
    table["projected"] = table["size"] + table["slope"] * ahead
    table["growth"] = (table["projected"] / table["size"].where(table["size"] > 0)) - 1
    return table


def cells_in(shape: tuple[int, int]) -> int:
    """Return how many cells a table of groups and periods has."""
    return shape[0] * shape[1]


def _cells(of: Integers, period: Integers, frame: Window) -> Integers:
    return np.where(period < 0, -1, of[: len(period)] * frame.count + period)


def _levels(
    records: Records, of: Integers, amount: Integers, sized: Flags, frame: Window, groups: int
) -> tuple[Integers, Integers]:
    """VMs with a known size, and the sum of their sizes, by group and period.

    Each ended session moves its VM to its own group and size; what it moves away
    from is taken off, so sums of changes carry every level forward.
    """
    row = np.flatnonzero(sized)
    by_age = (of[row], amount[row], records.created[row], records.ended[row], records.vm[row])
    row = row[np.lexsort(by_age)]
    vm, group, size = records.vm[row], of[row], amount[row]
    period = np.maximum(np.searchsorted(frame.edges, records.ended[row], side="right") - 1, 0)
    period = np.minimum(period, frame.count - 1)
    again = np.zeros(len(row), dtype=bool)
    again[1:] = vm[1:] == vm[:-1]
    before = np.flatnonzero(again) - 1
    gained, lost = group * frame.count + period, group[before] * frame.count + period[again]
    cells = groups * frame.count
    vms = grouping.count(gained, cells) - grouping.count(lost, cells)
    levels = grouping.total(gained, size, cells) - grouping.total(lost, size[before], cells)
    shape = (groups, frame.count)
    return vms.reshape(shape).cumsum(axis=1), levels.reshape(shape).cumsum(axis=1)


def _table(
    keys: pd.DataFrame,
    frame: Window,
    vms: Integers,
    ended: Integers,
    level: Integers,
    known: Flags,
    running: Integers,
) -> pd.DataFrame:
    table = keys.loc[keys.index.repeat(frame.count)].reset_index(drop=True)
    table["period"] = frame.column(len(keys))
    table["vms"], table["sessions"] = vms.ravel(), ended.ravel()
    table["size"] = pd.array(level.ravel(), dtype="Int64")
    table.loc[~known.ravel(), "size"] = pd.NA
    rolling = pd.DataFrame(np.where(known, level, np.nan).T).rolling(ROLLING).mean().to_numpy().T
    table["rolling"] = rolling.ravel()
    table["running"] = running
    return table


def _slope(days: np.ndarray, size: np.ndarray) -> tuple[int, float, float, float, float]:
    if len(size) < ENOUGH:
        return len(size), float(size[-1]) if len(size) else np.nan, np.nan, np.nan, np.nan
    if size.min() == size.max():
        return len(size), float(size[-1]), 0.0, 0.0, 0.0
    from scipy.stats import theilslopes

    fit = theilslopes(size, days - days.mean(), alpha=0.95)
    return len(size), float(size[-1]), float(fit.slope), float(fit.low_slope), float(fit.high_slope)
