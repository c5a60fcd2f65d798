"""Robust slopes of many short series at once, with an interval from a block bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

ENOUGH = 5
"""Periods, and distinct sizes, below which a trend or its interval is NA."""

BLOCK = 3
"""Successive increments that are drawn together: what one day does, the next may undo."""

_DRAWS = 999
"""Resamples behind an interval."""

_SEED = 20261128
"""Seed of the resamples: the same sizes always have the same interval."""

_NORMAL = 1.959963984540054
_PAIRS_AT_ONCE = 4_000_000
# The 97.5 % point of Student's t for 1 to 30 degrees of freedom.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Trends:
    """The slope of each series per day, with its 95 % interval; NaN where there is none.

    `fall` and `rise` are how far a single period goes below and above its usual increment.
    """

    slope: Floats
    low: Floats
    high: Floats
    fall: Floats
    rise: Floats

    def rows(self) -> Floats:
        """Return the five as rows of one array."""
        return np.stack([self.slope, self.low, self.high, self.fall, self.rise])

    def projection_limits(self, length: Floats, ahead: Floats) -> tuple[Floats, Floats]:
        """Return how far below and above the projection the size `ahead` days later may lie.

        It differs from the projection for two reasons: the slope is uncertain (by
        s / sqrt(length) a day, for increments that scatter by s), and what is still to
        come scatters as well (by s * sqrt(ahead) in all). Where days undo one another
        that understates tomorrow, so the limits are never nearer than those of a
        single increment.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.sqrt(ahead * (ahead + length))
        below = np.minimum((self.low - self.slope) * scale, self.fall)
        return below, np.maximum((self.high - self.slope) * scale, self.rise)


def trends(days: Floats, levels: Floats) -> Trends:
    """Return the Theil-Sen slope of each row of `levels`, and its interval.

    The slope is the median of the slopes between all pairs of points. Its interval is
    the range of what the mean increment could have been: the increments are drawn anew
    in blocks of `BLOCK`, and the 2.5 and 97.5 % points are moved away from the mean by
    Student's factor for the number of blocks. It always contains the slope.

    Parameters
    ----------
    days, levels : numpy.ndarray
        One series per row, its points in order of time; all rows are equally long.

    Returns
    -------
    Trends
        NaN under 5 points. The interval is NaN under 5 distinct levels, too: with so few
        changes it is not known how often sizes change.

    Examples
    --------
    >>> days = np.arange(6.0)[None]
    >>> result = trends(days, 10 * days)
    >>> result.slope.tolist(), result.low.tolist(), result.high.tolist()
    ([10.0], [10.0], [10.0])
    """
    series, points = levels.shape
    if points < ENOUGH:
        return Trends(*np.full((5, series), np.nan))
    slope = _theil_sen(days, levels)
    lengths, increments = np.diff(days), np.diff(levels)
    mean = increments.sum(axis=1) / lengths.sum(axis=1)
    factor = _student_factor(-(-(points - 1) // BLOCK) - 1)
    low, high = (mean + factor * (limit - mean) for limit in _bootstrap(lengths, increments))
    off = np.percentile(increments - mean[:, None] * lengths, (2.5, 97.5), axis=1) * factor
    ordered = np.sort(levels, axis=1)
    few = 1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1) < ENOUGH
    limits = (
        np.minimum(low, slope), np.maximum(high, slope), np.minimum(off[0], 0), np.maximum(off[1], 0)
    )  # fmt: skip
    return Trends(slope, *(np.where(few, np.nan, limit) for limit in limits))


@dataclass(frozen=True)
class Fits:
    """The trends of many groups: how many points each has, and what lies between them.

    `last` is the position of the last point, `level` its level, `change` and `length`
    the levels and the days between the first and the last.
    """

    points: Integers
    last: Integers
    level: Floats
    change: Floats
    length: Floats
    trends: Trends


def fit_series(days: Floats, levels: Floats, valid: Flags) -> Fits:
    """Return the trend of every row of `levels`, of its valid points alone.

    Groups of equally many points are computed together: VMs mostly have all periods.
    """
    groups = len(levels)
    points = np.count_nonzero(valid, axis=1)
    last = np.zeros(groups, dtype=np.int64)
    level, change, length = np.full((3, groups), np.nan)
    result = np.full((5, groups), np.nan)
    for count in np.unique(points[points > 0]):
        rows = np.flatnonzero(points == count)
        places = np.nonzero(valid[rows])[1].reshape(-1, count)
        values = np.take_along_axis(levels[rows], places, axis=1)
        last[rows], level[rows] = places[:, -1], values[:, -1]
        if count >= ENOUGH:
            change[rows] = values[:, -1] - values[:, 0]
            length[rows] = days[places[:, -1]] - days[places[:, 0]]
            result[:, rows] = trends(days[places], values).rows()
    return Fits(points, last, level, change, length, Trends(*result))


def _theil_sen(days: Floats, levels: Floats) -> Floats:
    """The median slope between all pairs, a bounded number of pairs at once."""
    first, second = np.triu_indices(levels.shape[1], 1)
    step = max(1, _PAIRS_AT_ONCE // len(first))
    slope = np.empty(len(levels))
    for start in range(0, len(levels), step):
        rows = slice(start, start + step)
        x, y = days[rows], levels[rows]
        slope[rows] = np.median((y[:, second] - y[:, first]) / (x[:, second] - x[:, first]), axis=1)
    return slope


def _bootstrap(lengths: Floats, increments: Floats) -> tuple[Floats, Floats]:
    """The 2.5 and 97.5 % points of the mean increment per day.

    All series of one length share their draws, so an interval never depends on which
    other series are computed beside it. A draw is a row of counts, how often each
    increment is taken: with byte counts the products below are exact integers in
    float64, whatever order the library adds them in.
    """
    draws = _draws(increments.shape[1])
    low, high = np.empty((2, len(increments)))
    step = max(1, _PAIRS_AT_ONCE // _DRAWS)
    for start in range(0, len(increments), step):
        rows = slice(start, start + step)
        means = (increments[rows] @ draws) / (lengths[rows] @ draws)
        low[rows], high[rows] = np.percentile(means, (2.5, 97.5), axis=1)
    return low, high


def _draws(count: int) -> Floats:
    """How often each of `count` increments is taken in each resample, one column per resample."""
    blocks = -(-count // BLOCK)
    begins = np.random.default_rng((_SEED, count)).integers(count, size=(_DRAWS, blocks, 1))
    # Blocks go round the end of the series, so each increment is as likely as any other.
    taken = ((begins + np.arange(BLOCK)) % count).reshape(_DRAWS, -1)[:, :count]
    cells = taken + count * np.arange(_DRAWS)[:, None]
    counts = np.bincount(cells.ravel(), minlength=_DRAWS * count)
    return np.asarray(counts.reshape(_DRAWS, count).T, dtype=np.float64)


def _student_factor(freedom: int) -> float:
    """Return Student's 97.5 % point over the normal one.

    Examples
    --------
    >>> round(_student_factor(9), 3), round(_student_factor(60), 3)
    (1.154, 1.02)
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[max(freedom, 1) - 1] / _NORMAL
    # Cornish-Fisher, Abramowitz and Stegun 26.7.5: off by less than 0.002 from 30 degrees on.
    return 1 + (_NORMAL**2 + 1) / (4 * freedom)
