"""The one grammar of zones, instants, lengths of time and shares that every door uses.

Calendar periods such as "last month" are in `periods`. Each function refuses what it cannot
read in one line that says what is wrong, what was seen and what to write instead.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from fractions import Fraction
from functools import lru_cache
from numbers import Real
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pandas as pd

from cdpanalytics.errors import InputError

Moment: TypeAlias = str | date | pd.Timestamp
"""An instant as a person gives it: ISO text, a length back from now like "7D", a date or a timestamp."""

Length: TypeAlias = str | timedelta | np.timedelta64
"""A length of time as a person gives it: text like "15min" or "PT15M", or a timedelta of any kind."""

ISO_WITH_OFFSET: Final = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)"
"""How a column of text may hold times whose zone need not be said."""

_UTC: Final = UTC
_INSTANTS: Final = "write 2026-10-01 or 2026-10-01T06:00Z"

# -- zones -----------------------------------------------------------------------------


def zone(name: str | ZoneInfo, argument: str = "tz") -> str:
    """Return the name of a time zone as the time zone database spells it.

    Parameters
    ----------
    name : str or zoneinfo.ZoneInfo
        A name like ``"UTC"`` or ``"Europe/Berlin"``, in any case. An offset such as
        ``"+02:00"`` is not a zone: it says nothing about summer time.
    argument : str
        What the message calls it.

    Raises
    ------
    InputError
        If the name is not known; the message names the nearest one.

    Examples
    --------
    >>> zone("europe/berlin")
    'Europe/Berlin'
    """
    key = name.key if isinstance(name, ZoneInfo) else name
    if key == "UTC":  # the names of all zones are looked for on the disk
        return key
    spelled = _zone_names().get(key.strip().casefold()) if isinstance(key, str) else None
    if spelled is None:
        raise InputError(f"{argument}={name!r} is not a time zone; {_zone_hint(str(name))}")
    return spelled


@lru_cache(maxsize=1)
def _zone_names() -> dict[str, str]:
    names = available_timezones() - {"localtime", "Factory", "posixrules"}
    return {name.casefold(): name for name in names}


def _zone_hint(name: str) -> str:
    if re.fullmatch(r"(UTC|GMT|Z)?\s*[+-]\d\d?(:?\d\d)?", name.strip(), re.IGNORECASE):
        return "an offset does not say when summer time begins; write a name like Europe/Berlin"
    near = get_close_matches(name.strip().casefold(), _zone_names(), 1, 0.7)
    example = _zone_names()[near[0]] if near else "Europe/Berlin"
    return f"did you mean {example}?" if near else f"use a name like UTC or {example}"


# -- instants --------------------------------------------------------------------------


def instant(
    value: object, now: pd.Timestamp | None, tz: str = "UTC", name: str = ""
) -> pd.Timestamp:
    """Return an instant in UTC, to the microsecond, from what a person writes.

    Parameters
    ----------
    value : str, datetime.date, datetime.datetime or pandas.Timestamp
        ISO 8601 text, ``"now"``, or a length such as ``"7D"``, ``"36h"``, ``"1h30min"``
        counted back from `now`. A date is its midnight. What has no offset is of `tz`.
    now : pandas.Timestamp, optional
        Aware. Read only where `counts_back` says so; None: such text is refused.
    tz : str
        The zone of what has no offset.
    name : str
        What the message calls it: an argument or an option.

    Raises
    ------
    InputError
        If it is none of these, lies outside the years 1 to 9999, or is a wall time that `tz`
        has twice or never (the change of clocks). A day whose midnight does not exist begins
        after the change; one whose midnight comes twice begins with the first.

    Examples
    --------
    >>> now = pd.Timestamp("2026-03-02 12:00", tz="UTC")
    >>> instant("36h", now)
    Timestamp('2026-03-01 00:00:00+0000', tz='UTC')
    >>> instant("2026-10-01", now, "Europe/Berlin")
    Timestamp('2026-09-30 22:00:00+0000', tz='UTC')
    """
    seen = f"{name}={value!r}" if name else None
    if isinstance(value, str):
        return _read_text(value.strip(), now, tz, seen or repr(value.strip()))
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, date) and not pd.isna(value):
        if not 1 <= value.year <= 9999:  # pandas has them, and cannot print them
            raise InputError(f"a time in the year {value.year} is outside the years 1 to 9999")
        return _in_utc(value, tz, seen or repr(value))
    if value is None or value is pd.NaT:
        raise InputError(f"{name or 'a time'} is missing; {_INSTANTS}")
    raise InputError(f"{seen or repr(value)} is not a time; {_INSTANTS}")


def counts_back(value: Moment | None) -> bool:
    """Return whether an instant is counted from now, so that now must be known to read it.

    Examples
    --------
    >>> counts_back("36h"), counts_back("2026-03-02"), counts_back(None)
    (True, False, False)
    """
    text = value.strip() if isinstance(value, str) else ""
    return text == "now" or _microseconds(text) is not None


def localized(wall: datetime, tz: str) -> pd.Timestamp:
    """Return a wall time of a zone as an instant in UTC; the zone must have it exactly once.

    Raises
    ------
    InputError
        If clocks were changed so that it comes twice or never, or if it leaves the years
        1 to 9999.

    Examples
    --------
    >>> from datetime import datetime
    >>> localized(datetime(2026, 11, 1, 22), "Europe/Berlin")
    Timestamp('2026-11-01 21:00:00+0000', tz='UTC')
    """
    first, second = (wall_to_utc(wall, tz, fold) for fold in (0, 1))
    if first == second:
        return first
    times = "twice" if first < second else "never"
    raise InputError(
        f"{wall:%Y-%m-%d %H:%M} comes {times} in {tz}, because the clocks change; write it with its "
        f"offset, like {_with_offset(first, tz)} or {_with_offset(second, tz)}"
    )


def wall_to_utc(wall: datetime, tz: str, fold: int = 0) -> pd.Timestamp:
    """Return a wall time of a zone as an instant in UTC, as RFC 5545 (3.3.5) reads it.

    Of a time that comes twice the first is taken; one that never comes is read with the
    offset before the change, so it lies as much later as was skipped. `fold=1` reads the
    second, and the offset after the change.

    Examples
    --------
    >>> from datetime import datetime
    >>> wall_to_utc(datetime(2026, 3, 29, 2, 30), "Europe/Berlin").tz_convert("Europe/Berlin").hour
    3
    """
    try:
        moment = wall.replace(tzinfo=ZoneInfo(tz), fold=fold).astimezone(_UTC)
    except OverflowError:
        raise InputError(f"{wall.isoformat()} in {tz} is outside the years 1 to 9999") from None
    return pd.Timestamp(moment).as_unit("us")


def _with_offset(moment: pd.Timestamp, tz: str) -> str:
    return moment.tz_convert(tz).isoformat(timespec="minutes")


def _read_text(text: str, now: pd.Timestamp | None, tz: str, seen: str) -> pd.Timestamp:
    back = 0 if text == "now" else _microseconds(text)
    if back is not None:
        if now is None:
            raise InputError(f"{seen} counts back from now, which is not known here; {_INSTANTS}")
        return _back(text, back, now)
    if _PERIOD.fullmatch(text):
        raise InputError(
            f"{seen} is a period, not a time; ask for it as period, or write its first day"
        )
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(_not_an_instant(text, seen, now)) from None
    # Text without a clock time is a day: fromisoformat would return its midnight just as well.
    return _in_utc(parsed.date() if _DATE.fullmatch(text) else parsed, tz, seen)


_PERIOD: Final = re.compile(r"\d{4}|\d{4}-\d\d|\d{4}-?[QqWw]\d\d?")
_DATE: Final = re.compile(r"\d{4}-?\d\d-?\d\d|\d{4}-?W\d\d-?\d", re.IGNORECASE)


def _not_an_instant(text: str, seen: str, now: pd.Timestamp | None) -> str:
    try:
        length(text, "length")
    except InputError as problem:
        if _LOOKS_LIKE_A_LENGTH.fullmatch(text):
            return str(problem)
    return f"{seen} is not a time; {_INSTANTS}{'' if now is None else ', or 7D'}"


def _in_utc(value: date, tz: str, seen: str) -> pd.Timestamp:
    try:
        if isinstance(value, datetime):
            plain = value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value
            if plain.tzinfo is None:
                return localized(plain, tz)
            return pd.Timestamp(plain.astimezone(_UTC)).as_unit("us")
        return wall_to_utc(datetime.combine(value, time()), tz)
    except OverflowError:
        raise InputError(f"{seen} is outside the years 1 to 9999") from None


def _back(text: str, microseconds: int, now: pd.Timestamp) -> pd.Timestamp:
    try:
        moment = now.to_pydatetime(warn=False).astimezone(_UTC) - timedelta(
            microseconds=microseconds
        )
    except OverflowError:
        raise InputError(
            f"{text!r} back from {now:%Y-%m-%d} is outside the years 1 to 9999"
        ) from None
    return pd.Timestamp(moment).as_unit("us")


# -- lengths ---------------------------------------------------------------------------

_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "min": 60, "s": 1}
_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_COMPACT: Final = re.compile(
    rf"(?:{_NUMBER}\s*(?:w|weeks?))?\s*(?:{_NUMBER}\s*(?:d|days?))?\s*(?:{_NUMBER}\s*(?:h|hours?))?"
    rf"\s*(?:{_NUMBER}\s*(?:min|mins|minutes?))?\s*(?:{_NUMBER}\s*(?:s|sec|seconds?))?",
    re.IGNORECASE,
)
_ISO: Final = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?=\d)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
)
_CLOCK: Final = re.compile(r"()(\d+) days?,? (\d\d?):([0-5]\d):([0-5]\d(?:\.\d+)?)")
"""As pandas prints a Timedelta: "1 days 00:15:00"."""
_LOOKS_LIKE_A_LENGTH: Final = re.compile(r"-?[\d.,]+\s*[a-z]+.*|-?P[\dT].*|-.*", re.IGNORECASE)
_LENGTHS: Final = "write it like 30s, 15min, 1h30min or 7D"
_LONGEST: Final = 10_000 * 365 * 86_400 * 10**6


def length(value: object, name: str = "length", *, zero: bool = False) -> pd.Timedelta:
    """Return one length of time, exact to the microsecond.

    Parameters
    ----------
    value : str or timedelta
        Numbers with units from week to second, the longest first, each at most once:
        ``15min``, ``90s``, ``1h30min``, ``0.25h``, ``1.5D``, ``4w``; or an ISO 8601 duration:
        ``PT15M``, ``PT0.5H``, ``P1D``; or as pandas prints one: ``0 days 00:15:00``. A day has
        24 hours, a week seven days. Case does not matter, but a single ``m`` or ``M`` is
        refused: it could be a minute or a month.
    name : str
        What the message calls it: an argument or an option.
    zero : bool
        Whether 0 has a meaning here and is accepted.

    Raises
    ------
    InputError
        If it has no unit, a comma, a month or year, is negative, zero, or is not a length.

    Examples
    --------
    >>> length("1h30min"), length("PT0.5H"), length("1.5D")
    (Timedelta('0 days 01:30:00'), Timedelta('0 days 00:30:00'), Timedelta('1 days 12:00:00'))
    >>> length("0,25h", "--rpo")
    Traceback (most recent call last):
    ...
    cdpanalytics.errors.InputError: --rpo='0,25h' has a comma; write 0.25h
    """
    if isinstance(value, str):
        text = value.strip()
        microseconds = 0 if zero and text == "0" else _microseconds(text)
        if microseconds is None:
            raise InputError(f"{name}={value!r} {_why_not_a_length(text, zero)}")
    elif isinstance(value, (timedelta, np.timedelta64)) and not pd.isna(value):
        microseconds = int(pd.Timedelta(value).as_unit("us").to_timedelta64().astype(np.int64))
    else:
        unit = ": it has no unit" if isinstance(value, Real) and value == value else ""
        raise InputError(f"{name}={value!r} is not a length of time{unit}; {_LENGTHS}")
    _check_length(value, name, microseconds, zero)
    return pd.Timedelta(microseconds, unit="us").as_unit("us")


def length_text(value: pd.Timedelta) -> str:
    """Return the text that `length` reads as this length: days where it is whole days, else seconds.

    Examples
    --------
    >>> [length_text(length(text)) for text in ("1w", "90min", "0.0015s")]
    ['7D', '5400s', '0.0015s']
    """
    days = value / pd.Timedelta("1D")
    if days == int(days):
        return f"{days:.0f}D"
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


def lengths(value: Length | Sequence[Length], name: str = "lengths") -> list[pd.Timedelta]:
    """Return several lengths of time, as what-if takes them: a sequence, or text with commas.

    Examples
    --------
    >>> lengths("15min,1h")
    [Timedelta('0 days 00:15:00'), Timedelta('0 days 01:00:00')]
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Sequence):
        parts = [parts]
    if not parts:
        raise InputError(f"{name} is empty; write lengths like 15min,1h")
    return [length(part, name) for part in parts]


def _microseconds(text: str) -> int | None:
    """Return the length that a text means, None where it is not one."""
    match = _COMPACT.fullmatch(text) or _ISO.fullmatch(text) or _CLOCK.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    parts = zip(match.groups(), _SECONDS.values(), strict=True)
    given = [(number, Fraction(number) * seconds) for number, seconds in parts if number]
    # "1.5h30min" is a slip for 1h30min or for 1.5h: only the last number may have a fraction.
    if any("." in number for number, _ in given[:-1]):
        return None
    return round(sum(seconds for _, seconds in given) * 10**6)


def _check_length(value: object, name: str, microseconds: int, zero: bool) -> None:
    if microseconds < 0:
        raise InputError(f"{name}={value!r} is negative; {_LENGTHS}")
    if microseconds > _LONGEST:
        raise InputError(f"{name}={value!r} is longer than 10,000 years")
    if microseconds == 0 and not zero:
        raise InputError(f"{name}={value!r} is zero; write a length above it, like 15min")


def _why_not_a_length(text: str, zero: bool) -> str:
    if re.fullmatch(r"-\s*\S.*", text) and _microseconds(text[1:].strip().lstrip("-")) is not None:
        return f"is negative; {_LENGTHS}"
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text):
        if float(text) == 0 and not zero:
            return "is zero; write a length above it, like 15min"
        return f"has no unit; write {text}min, {text}h or {text}D"
    if "," in text:
        return _about_a_comma(text)
    if re.search(r"\d\s*(mon?|months?|y|years?)\b", text, re.IGNORECASE) or re.match(
        r"P[\d.]*[YM]|P[\d.]+Y", text
    ):
        return "is not a length: months and years differ in length; write days, like 30D"
    if re.search(r"\d\s*m(?![a-z])", text, re.IGNORECASE):
        return "could be minutes or months; write minutes as 15min, a month as 30D"
    return f"is not a length of time; {_LENGTHS}"


def _about_a_comma(text: str) -> str:
    point = text.replace(",", ".", 1)
    if re.fullmatch(r"\D*\d+,\d+\D*", text) and _microseconds(point) is not None:
        return f"has a comma; write {point}"
    return "is a list; only one length of time is wanted here"


# -- shares ----------------------------------------------------------------------------

_SHARES: Final = "write 99.9, 99.9% or 0.999"


def share(value: str | float, name: str = "share") -> float:
    """Return a share such as an objective: ``99.9``, ``99.9%`` and ``0.999`` are all 99.9 %.

    Parameters
    ----------
    value : str or number
        With a percent sign it is taken as written. Without one, what is above 1 is a
        percentage and what is up to 1 is a share, so that 1 is 100 %; what is below 0.5, or
        above 1 and below 50, could be a slip for the other and is refused.
    name : str
        What the message calls it.

    Returns
    -------
    float
        Above 0 and up to 1: the float whose shortest decimal is the share as written, so
        ``Fraction(str(share))`` is exact.

    Raises
    ------
    InputError
        If it is not such a share.

    Warns
    -----
    UserWarning
        If it is 90 % or less: so low an objective is mostly a slip.

    Examples
    --------
    >>> share("99.9"), share("99.9 %"), share(0.999), share(1)
    (0.999, 0.999, 0.999, 1.0)
    >>> share("1.5", "--objective")
    Traceback (most recent call last):
    ...
    cdpanalytics.errors.InputError: --objective='1.5' is below 50 %; write 1.5% if that is meant
    """
    number, percent = _decimal(value, name)
    if number <= 0:
        raise InputError(f"{name}={value!r} is not above 0; {_SHARES}")
    part = number / 100 if percent or number > 1 else number
    if part > 1:
        raise InputError(f"{name}={value!r} is above 100 %; {_SHARES}")
    if part < Fraction(1, 2) and not percent:
        meant = f"{value}%" if number > 1 else f"{float(part * 100):g}%"
        raise InputError(f"{name}={value!r} is below 50 %; write {meant} if that is meant")
    if part <= Fraction(9, 10):
        warnings.warn(f"{name}={value!r} is only {float(part * 100):g} %", stacklevel=2)
    return float(part)


def _decimal(value: object, name: str) -> tuple[Fraction, bool]:
    text = str(value).strip()
    usable = isinstance(value, (str, Real)) and not isinstance(value, (bool, np.bool_))
    match = re.fullmatch(r"([+-]?\d*\.?\d+(?:e-?\d+)?)\s*(%?)", text) if usable else None
    if match:
        return Fraction(match[1]), bool(match[2])
    if usable and re.fullmatch(r"\d+,\d+\s*%?", text):
        raise InputError(f"{name}={value!r} has a comma; write {text.replace(',', '.')}")
    raise InputError(f"{name}={value!r} is not a share; {_SHARES}")
