"""Robust slopes of many short series at once, with an interval from a block bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ENOUGH = 5
"""Periods, and distinct sizes, below which a trend or its interval is NA."""

BLOCK = 3
"""Successive increments that are drawn together: what one day does, the next may undo."""

DRAWS = 999
"""Resamples behind an interval."""

SEED = 20261128
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
    """The slope of each series per day, with its 95 % interval; NaN where there is none."""

    slope: Floats
    low: Floats
    high: Floats


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
        NaN under 5 points. The interval is NaN under 5 distinct levels, too: increments
        that are nearly all zero say nothing of how often sizes move.

    Examples
    --------
    >>> days = np.arange(6.0)[None]
    >>> trends(days, 10 * days)
    Trends(slope=array([10.]), low=array([10.]), high=array([10.]))
    """
    series, points = levels.shape
    if points < ENOUGH:
        return Trends(*(np.full(series, np.nan) for _ in range(3)))
    slope = _theil_sen(days, levels)
    low, high = _bootstrap(np.diff(days), np.diff(levels))
    ordered = np.sort(levels, axis=1)
    few = 1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1) < ENOUGH
    low, high = np.minimum(low, slope), np.maximum(high, slope)
    return Trends(slope, np.where(few, np.nan, low), np.where(few, np.nan, high))


def prediction_factor(length: Floats, ahead: Floats) -> Floats:
    """Return by how much the interval of a projection is wider than that of its slope.

    The size at the horizon differs from the projection for two reasons: the slope is
    uncertain (by s / sqrt(length) a day, for increments that scatter by s), and what is
    still to come scatters as well (by s * sqrt(ahead) in all).

    Examples
    --------
    >>> float(prediction_factor(np.array(30.0), np.array(10.0)))
    2.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(1 + length / ahead))


def _theil_sen(days: Floats, levels: Floats) -> Floats:
    """The median slope between all pairs, a bounded number of pairs at once."""
    first, second = np.triu_indices(levels.shape[1], 1)
    step = max(1, _PAIRS_AT_ONCE // len(first))
    slope = np.empty(len(levels))
    for start in range(0, len(levels), step):
        rows = slice(start, start + step)
        x, y = days[rows], levels[rows]
        slope[rows] = np.median(
            (y[:, second] - y[:, first]) / (x[:, second] - x[:, first]), axis=1
        )
    return slope


def _bootstrap(lengths: Floats, increments: Floats) -> tuple[Floats, Floats]:
    """The widened 2.5 and 97.5 % points of the mean increment per day.

    All series of one length share their draws, so an interval never depends on which
    other series are computed beside it. A draw is a row of counts, how often each
    increment is taken: with byte counts the products below are exact integers in
    float64, whatever order the library adds them in.
    """
    draws = _draws(increments.shape[1])
    low, high = np.empty((2, len(increments)))
    step = max(1, _PAIRS_AT_ONCE // DRAWS)
    for start in range(0, len(increments), step):
        rows = slice(start, start + step)
        means = (increments[rows] @ draws) / (lengths[rows] @ draws)
        low[rows], high[rows] = np.percentile(means, (2.5, 97.5), axis=1)
    mean = increments.sum(axis=1) / lengths.sum(axis=1)
    factor = student_factor(-(-increments.shape[1] // BLOCK) - 1)
    return mean + factor * (low - mean), mean + factor * (high - mean)


def _draws(count: int) -> Floats:
    """How often each of `count` increments is taken in each resample, one column per resample."""
    blocks = -(-count // BLOCK)
    begins = np.random.default_rng((SEED, count)).integers(count, size=(DRAWS, blocks, 1))
    # Blocks go round the end of the series, so each increment is as likely as any other.
    taken = ((begins + np.arange(BLOCK)) % count).reshape(DRAWS, -1)[:, :count]
    cells = taken + count * np.arange(DRAWS)[:, None]
    counts = np.bincount(cells.ravel(), minlength=DRAWS * count)
    return np.asarray(counts.reshape(DRAWS, count).T, dtype=np.float64)


def student_factor(freedom: int) -> float:
    """Return Student's 97.5 % point over the normal one.

    Examples
    --------
    >>> round(student_factor(9), 3), round(student_factor(60), 3)
    (1.154, 1.021)
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[max(freedom, 1) - 1] / _NORMAL
    # Cornish-Fisher, Abramowitz and Stegun 26.7.5: below 1e-4 from 30 degrees on.
    return 1 + (_NORMAL**2 + 1) / (4 * freedom)
