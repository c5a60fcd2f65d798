"""How far a projection looks ahead: a length of time, or a date."""

from __future__ import annotations

import re
from datetime import date

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.values import duration, instant, length, microseconds, timestamp
from cdpanalytics.metrics.core.windows import Window

DAY = 86_400_000_000
"""Microseconds in a day of 24 hours."""


def parse_horizon(horizon: object, tz: str) -> pd.Timedelta | pd.Timestamp:
    """Return a horizon as a length of time, or as an instant where it is a date.

    Raises
    ------
    InputError
        When it is neither.

    Examples
    --------
    >>> parse_horizon("30D", "UTC"), parse_horizon("2027-01-01", "Europe/Berlin")
    (Timedelta('30 days 00:00:00'), Timestamp('2026-12-31 23:00:00+0000', tz='UTC'))
    """
    try:
        if not isinstance(horizon, date):
            return length(horizon, "horizon")
        return instant(horizon, "horizon", tz)
    except InputError as error:
        if isinstance(horizon, str) and re.match(r"\s*\d{4}-", horizon):
            return instant(horizon, "horizon", tz)
        raise InputError(f"{error}, or as a date like 2027-01-01") from None


def days_ahead(horizon: object, tz: str, window: Window) -> np.ndarray:
    """Return the days from the end of each period to the horizon.

    Raises
    ------
    InputError
        When the horizon is a date that is not after the last whole period.
    """
    parsed, ends = parse_horizon(horizon, tz), window.edges[1:]
    if isinstance(parsed, pd.Timedelta):
        return np.full(window.count, duration(parsed) / DAY)
    ahead = (microseconds(parsed, "horizon") - ends) / DAY
    if window.whole.any() and not ahead[window.whole][-1] > 0:
        raise InputError(
            f"horizon={horizon} is not after the last whole period, which ends at "
            f"{timestamp(int(ends[window.whole][-1]))}; give a later date"
        )
    return ahead
