"""Calendar periods in the zone asked for: "2026-10", "last month", "last 30 days"."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.timeparse import counts_back, instant, length, zone

_EXAMPLES: Final = "write 2026-10, 2026-Q4, 2026-W41, 2026-10-05, last month or last 30 days"
_DAY: Final = pd.Timedelta("1D")


@dataclass(frozen=True)
class Period:
    """A period as text and as the instants that it means.

    Attributes
    ----------
    text : str
        As it was asked for: ``"last month"``.
    start, end : pandas.Timestamp
        Half-open, ``[start, end)``, in UTC.
    tz : str
        The zone whose calendar was used.
    explicit : str
        The same period in words that do not depend on now: ``"2026-10"``.
    calendar : bool
        Whether it is made of whole days of the zone; else it is a length back from now.
    conflict : str or None
        What `conflict` returned, where a clock was given.
    """

    text: str
    start: pd.Timestamp
    end: pd.Timestamp
    tz: str
    explicit: str
    calendar: bool
    conflict: str | None = None

    @property
    def dates(self) -> str:
        """The days or times it covers, in its zone; the last day is part of it."""
        start, end = self.start.tz_convert(self.tz), self.end.tz_convert(self.tz)
        if not self.calendar:
            return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
        first, last = f"{start:%Y-%m-%d}", f"{end - pd.Timedelta('1us'):%Y-%m-%d}"
        return first if first == last else f"{first} to {last}"

    @property
    def label(self) -> str:
        """What was asked for, the dates it took, and the zone."""
        if self.text == self.dates:
            return f"{self.text} ({self.tz})"
        return f"{self.text} ({self.dates}, {self.tz})"

    def provisional(self, as_of: pd.Timestamp | None) -> bool:
        """Return whether it is not over yet at `as_of`, so that its figures may still change."""
        return as_of is not None and as_of < self.end


def period(text: str, tz: str, now: pd.Timestamp, clock: pd.Timestamp | None = None) -> Period:
    """Return the period that a person names, in the calendar of a zone.

    Parameters
    ----------
    text : str
        A year, quarter, month, ISO week or day: ``2026``, ``2026-Q4``, ``2026-10``,
        ``2026-W41``, ``2026-10-05``. Relative to `now`: ``today``, ``yesterday``, ``this`` or
        ``last`` ``week``, ``month``, ``quarter``, ``year``; ``last 3 months`` (quarters,
        years: whole ones, before the present one); ``last 30 days`` (weeks, hours, minutes:
        that long back from `now`), which ``30D`` means as well. Two times with a slash
        between them, as ISO 8601 writes an interval: ``2026-10-01/2026-10-15``, the second
        exclusive.
    tz : str
        The zone whose midnights begin and end days. Weeks begin on Monday.
    now : pandas.Timestamp
        The newest fetch of the oldest source, from which "last" and "this" count.
    clock : pandas.Timestamp, optional
        The time by this machine's clock; `Period.conflict` is filled where it is given.

    Raises
    ------
    InputError
        If it is not a period, its end is not after its start, or it leaves the years 1 to 9999.

    Examples
    --------
    >>> now = pd.Timestamp("2026-12-01 00:05", tz="UTC")
    >>> october = period("2026-10", "Europe/Berlin", now)
    >>> october.start, october.end
    (Timestamp('2026-09-30 22:00:00+0000', tz='UTC'), Timestamp('2026-10-31 23:00:00+0000', tz='UTC'))
    >>> period("last month", "UTC", now).label
    'last month (2026-11-01 to 2026-11-30, UTC)'
    """
    name, words = zone(tz), " ".join(text.split())
    warning = None if clock is None else conflict(words, name, now, clock)
    try:
        days = _days(words.casefold(), now.tz_convert(name).date())
        if days is not None:
            start, end = instant(days.first, now, name), instant(days.end, now, name)
            return Period(words, start, end, name, days.explicit, True, warning)
    except (ValueError, OverflowError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"period {text!r} is outside the calendar; {_EXAMPLES}") from None
    return _between(words, name, now, warning)


def conflict(text: str, tz: str, now: pd.Timestamp, clock: pd.Timestamp) -> str | None:
    """Return one line if this machine's clock gives the period other dates than the newest fetch.

    A length back from now, like "last 30 days", conflicts where the two differ by more than a
    day.

    Examples
    --------
    >>> fetched = pd.Timestamp("2026-11-30 23:50", tz="UTC")
    >>> print(conflict("last month", "UTC", fetched, pd.Timestamp("2026-12-01 00:05", tz="UTC")))
    'last month' is 2026-10-01 to 2026-10-31 by the newest fetch (2026-11-30 23:50 UTC), but \
2026-11-01 to 2026-11-30 by this machine's clock; sync, or ask for period 2026-10 or 2026-11
    >>> conflict("2026-10", "UTC", fetched, fetched + pd.Timedelta("90D"))
    """
    asked, by_clock = period(text, tz, now), period(text, tz, clock)
    same = asked.start == by_clock.start and asked.end == by_clock.end
    if same or (not asked.calendar and abs(by_clock.end - asked.end) <= _DAY):
        return None
    return (
        f"{asked.text!r} is {asked.dates} by the newest fetch ({now.tz_convert(tz):%Y-%m-%d %H:%M} "
        f"{asked.tz}), but {by_clock.dates} by this machine's clock; sync, or ask for period "
        f"{asked.explicit} or {by_clock.explicit}"
    )


# -- days ------------------------------------------------------------------------------


class _Days(NamedTuple):
    first: date
    end: date
    explicit: str


def _days(words: str, today: date) -> _Days | None:
    """Return the whole days that a text means, None where it means no whole days."""
    for pattern, days in _CALENDAR:
        match = re.fullmatch(pattern, words)
        if match:
            return days(*map(int, match.groups()))
    return _relative_days(words, today)


def _year(year: int, count: int = 1) -> _Days:
    first, end = date(year, 1, 1), date(year + count, 1, 1)
    return _Days(first, end, f"{year:04d}" if count == 1 else f"{first}/{end}")


def _quarter(year: int, quarter: int, count: int = 1) -> _Days:
    first, end, explicit = _month(year, 3 * quarter - 2, 3 * count)
    return _Days(first, end, f"{year:04d}-Q{quarter}" if count == 1 else explicit)


def _month(year: int, month: int, count: int = 1) -> _Days:
    first, after = date(year, month, 1), 12 * year + month - 1 + count
    end = date(after // 12, after % 12 + 1, 1)
    return _Days(first, end, f"{first:%Y-%m}" if count == 1 else f"{first}/{end}")


def _week(year: int, week: int) -> _Days:
    first = date.fromisocalendar(year, week, 1)
    return _Days(first, first + timedelta(days=7), f"{year:04d}-W{week:02d}")


def _day(year: int, month: int, day: int) -> _Days:
    first = date(year, month, day)
    return _Days(first, first + timedelta(days=1), f"{first}")


_CALENDAR: Final[tuple[tuple[str, Callable[..., _Days]], ...]] = (
    (r"(\d{4})", _year),
    (r"(\d{4})-?q([1-4])", _quarter),
    (r"(\d{4})-(\d\d)", _month),
    (r"(\d{4})-?w(\d\d)", _week),
    (r"(\d{4})-(\d\d)-(\d\d)", _day),
)


def _relative_days(words: str, today: date) -> _Days | None:
    if words in ("today", "yesterday"):
        day = today - timedelta(days=words == "yesterday")
        return _day(day.year, day.month, day.day)
    match = re.fullmatch(r"(this|last) (week|month|quarter|year)", words)
    if match:
        return _units(match[2], today, -1 if match[1] == "last" else 0, 1)
    match = re.fullmatch(r"last (\d{1,4}) (month|quarter|year)s?", words)
    if match and int(match[1]):
        return _units(match[2], today, -int(match[1]), int(match[1]))
    return None


def _units(unit: str, today: date, offset: int, count: int) -> _Days:
    """Return `count` weeks, months, quarters or years, the first `offset` from the present one."""
    if unit == "week":
        year, week, _ = (today + timedelta(days=7 * offset)).isocalendar()
        return _week(year, week)
    if unit == "year":
        return _year(today.year + offset, count)
    months = {"month": 1, "quarter": 3}[unit]
    first = 12 * today.year + (today.month - 1) // months * months + months * offset
    if unit == "quarter":
        return _quarter(first // 12, first % 12 // 3 + 1, count)
    return _month(first // 12, first % 12 + 1, count)


# -- lengths and intervals ---------------------------------------------------------------


def is_length(text: str) -> bool:
    """Return whether a period is a length back from the newest data, not of the calendar.

    Examples
    --------
    >>> is_length("last 30 days"), is_length("30D"), is_length("last month")
    (True, True, False)
    """
    back = _back(" ".join(text.split()))
    return counts_back(back) and back != "now"


def _back(words: str) -> str:
    match = re.fullmatch(r"last (\d+ ?(?:minutes?|min|hours?|h|days?|d|weeks?|w))", words, re.I)
    return match[1] if match else words


def _between(words: str, tz: str, now: pd.Timestamp, warning: str | None) -> Period:
    back = _back(words)
    if is_length(words):
        length(back, "period")
        start, end = instant(back, now, tz), now.tz_convert("UTC").as_unit("us")
        calendar = False
    elif words.count("/") == 1:
        first, last = words.split("/")
        start, end = instant(first, now, tz), instant(last, now, tz)
        calendar = re.fullmatch(r"\d{4}-\d\d-\d\d/\d{4}-\d\d-\d\d", words) is not None
    else:
        raise InputError(f"{words!r} is not a period; {_EXAMPLES}")
    if not start < end:
        raise InputError(f"period {words!r} ends before it begins, or where it begins")
    explicit = "/".join(
        f"{edge.tz_convert(tz).isoformat(timespec='seconds')}" for edge in (start, end)
    )
    return Period(words, start, end, tz, words if calendar else explicit, calendar, warning)
