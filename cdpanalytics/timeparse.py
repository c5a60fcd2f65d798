"""Parse instants and lengths of time; the one grammar that every door uses."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Final, TypeAlias

import pandas as pd

from cdpanalytics.errors import InputError

Moment: TypeAlias = str | date | pd.Timestamp
"""What stands for an instant: ISO text, a length back from now like "7D", a date or a timestamp."""

_SPAN: Final = re.compile(r"\d+(\.\d+)?\s*(W|D|d|days?|h|hours?|min|minutes?|s|seconds?)")


def instant(value: Moment, now: pd.Timestamp) -> pd.Timestamp:
    """Return a moment in UTC, to the microsecond, from what a person writes.

    Parameters
    ----------
    value : str, datetime.date, datetime.datetime or pandas.Timestamp
        ISO 8601 (a date is its midnight, no zone is UTC), ``"now"``, or a span such as
        ``"7D"``, ``"36h"``, ``"90min"`` counted back from `now`.
    now : pandas.Timestamp
        Aware.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> instant("36h", pd.Timestamp("2026-03-02 12:00", tz="UTC"))
    Timestamp('2026-03-01 00:00:00+0000', tz='UTC')
    """
    if isinstance(value, str):
        return _utc(_written(value.strip(), now))
    if isinstance(value, date) and not pd.isna(value):
        return _utc(pd.Timestamp(value))
    raise InputError(f"{value!r} is not a time; write 2026-10-01, 2026-10-01T06:00Z or 7D")


def counts_back(value: Moment | None) -> bool:
    """Return whether a moment is told from `now`, which must be known then.

    Examples
    --------
    >>> counts_back("36h"), counts_back("2026-03-02"), counts_back(None)
    (True, False, False)
    """
    text = value.strip() if isinstance(value, str) else ""
    return text == "now" or _SPAN.fullmatch(text) is not None


def _written(text: str, now: pd.Timestamp) -> pd.Timestamp:
    try:
        if counts_back(text):
            return now if text == "now" else now - pd.Timedelta(text)
        return pd.Timestamp(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        message = f"{text!r} is not a time; write 2026-10-01, 2026-10-01T06:00Z or 7D"
        raise InputError(message) from None


def _utc(moment: pd.Timestamp) -> pd.Timestamp:
    aware = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    return aware.as_unit("us")
