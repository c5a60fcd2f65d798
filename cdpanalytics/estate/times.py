"""Read the times of a customer's table: ISO 8601, day first or month first, in a zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.estate.tables import place
from cdpanalytics.timeparse import instant, localized, wall_to_utc

_CLOCK: Final = r"(?:(?:,?\s+|T)(\d\d?)[:.](\d\d)(?:[:.](\d\d)(?:\.(\d{1,6}))?)?\s*(am|pm|uhr|h)?)?"
_ISO: Final = re.compile(rf"(\d{{4}})([-/])(\d\d?)\2(\d\d?){_CLOCK}", re.IGNORECASE)
_NUMBERS: Final = re.compile(rf"(\d\d?)([./-])(\d\d?)\2(\d{{4}}){_CLOCK}", re.IGNORECASE)
_OFFSET: Final = re.compile(r".*\d\d?:\d\d.*(Z|[+-]\d\d(:?\d\d)?)", re.IGNORECASE)
_WRITE: Final = "write 2026-11-01 22:00, or with an offset 2026-11-01T22:00+01:00"

Cell = tuple[int, Any]
"""Line number and cell."""


def instants(
    cells: Sequence[Cell], source: str, tz: str, day_first: bool | None
) -> list[pd.Timestamp]:
    """Return times in UTC; text and cells without an offset are of `tz`.

    Parameters
    ----------
    cells : sequence of (int, object)
        Line number and cell: text, a date, a datetime or a Timestamp.
    source : str
        The table's name, for messages.
    tz : str
        Zone of what has no offset.
    day_first : bool or None
        Whether 01.11.2026 is 1 November. None where `day_order` found nothing to decide.

    Raises
    ------
    InputError
        With the line number, if a cell cannot be read, or clocks were changed so that its
        time comes twice or never.

    Examples
    --------
    >>> instants([(2, "01.11.2026 22:00")], "m.csv", "Europe/Berlin", True)
    [Timestamp('2026-11-01 21:00:00+0000', tz='UTC')]
    """
    return [_read(cell, line, source, tz, day_first) for line, cell in cells]


def day_order(cells: Sequence[Cell], source: str, day_first: bool | None) -> bool | None:
    """Return whether dates like 01.11.2026 have the day first, None where there are none.

    `day_first` decides where it is given. Otherwise a number above 12 in one of the dates does.

    Raises
    ------
    InputError
        If no date decides and one could be read both ways, or dates contradict each other or
        `day_first`.

    Examples
    --------
    >>> day_order([(2, "01.11.2026 22:00"), (3, "13.11.2026 22:00")], "m.csv", None)
    True
    """
    dates = [(line, match) for line, cell in cells if (match := _numbers(cell))]
    day_before = next(((line, m) for line, m in dates if int(m[1]) > 12), None)
    month_before = next(((line, m) for line, m in dates if int(m[3]) > 12), None)
    first_is_day = day_before is not None if day_first is None else day_first
    against = month_before if first_is_day else day_before
    if against:
        other = "as day_first says" if day_first is not None else f"as line {day_before[0]}"  # type: ignore[index]
        raise InputError(
            f"{place(source, against[0])}: {against[1][0]!r} cannot be read with the "
            f"{'day' if first_is_day else 'month'} first, {other}"
        )
    unequal = next(((line, m) for line, m in dates if int(m[1]) != int(m[3])), None)
    if day_first is None and day_before is None and month_before is None and unequal:
        raise InputError(
            f"{place(source, unequal[0])}: {unequal[1][0]!r} has the day or the month first, and no "
            "date of the file has a day above 12; say day_first=True or day_first=False"
        )
    return first_is_day if dates else None


def are_dotted(cells: Sequence[Cell]) -> bool:
    """Return whether all dates like 01.11.2026 have dots, which are written with the day first.

    Examples
    --------
    >>> are_dotted([(2, "01.11.2026 22:00")]), are_dotted([(2, "01/11/2026")])
    (True, False)
    """
    signs = {match[2] for _, cell in cells if (match := _numbers(cell))}
    return signs == {"."}


def is_date(cell: object) -> bool:
    """Return whether a cell is a date without a clock time."""
    if isinstance(cell, str):
        match = _ISO.fullmatch(cell.strip()) or _numbers(cell)
        return match is not None and match[5] is None
    return isinstance(cell, date) and not isinstance(cell, datetime)


def _numbers(cell: object) -> re.Match[str] | None:
    return _NUMBERS.fullmatch(cell.strip()) if isinstance(cell, str) else None


def _read(cell: Any, line: int, source: str, tz: str, day_first: bool | None) -> pd.Timestamp:
    try:
        if isinstance(cell, str):
            return _from_text(cell.strip(), tz, day_first)
        if isinstance(cell, date):
            return instant(cell, pd.Timestamp(0, tz="UTC"), tz)
    except InputError as problem:
        raise InputError(f"{place(source, line)}: {problem}") from None
    except (ValueError, OverflowError):
        pass
    raise InputError(f"{place(source, line)}: {cell!r} is not a time; {_WRITE}")


def _from_text(text: str, tz: str, day_first: bool | None) -> pd.Timestamp:
    if _OFFSET.fullmatch(text):
        return instant(text, pd.Timestamp(0, tz="UTC"), tz)
    match = _ISO.fullmatch(text)
    if match:
        year, month, day = int(match[1]), int(match[3]), int(match[4])
    else:
        match = _NUMBERS.fullmatch(text)
        if match is None:
            raise ValueError(text)
        # With equal numbers the order does not matter.
        day, month = (int(match[1]), int(match[3]))[:: 1 if day_first is not False else -1]
        year = int(match[4])
    if match[5] is None:
        return wall_to_utc(datetime.combine(date(year, month, day), time()), tz)
    return localized(_at(date(year, month, day), match), tz)


def _at(day: date, match: re.Match[str]) -> datetime:
    """Return a day and the clock time that was matched; 24:00 is the next midnight."""
    hour, minute, second = int(match[5]), int(match[6]), int(match[7] or 0)
    micro, half = int((match[8] or "").ljust(6, "0") or 0), (match[9] or "").lower()
    if half in ("am", "pm"):
        if not 1 <= hour <= 12:
            raise ValueError(hour)
        hour = hour % 12 + (12 if half == "pm" else 0)
    if (hour, minute, second, micro) == (24, 0, 0, 0):
        return datetime.combine(day, time()) + timedelta(days=1)
    return datetime.combine(day, time(hour, minute, second, micro))
