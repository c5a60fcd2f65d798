"""Events of an iCalendar file as windows in UTC: starts from a library, ends computed here.

recurring-ical-events knows RRULE, RDATE, EXDATE and moved instances, but gives each instance
the wall-clock length of the first. RFC 5545 (3.8.5.3) says otherwise: with DTEND the *exact*
length is repeated, with DURATION the *nominal* one, whose days are calendar days.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple

import pandas as pd

from cdpanalytics.errors import InputError
from cdpanalytics.estate.tables import Document, place
from cdpanalytics.timeparse import wall_to_utc

_UTC: Final = UTC
_LINE: Final = "X-CDPANALYTICS-LINE"
_NAMED: Final = re.compile(r"\s*(backup_server|policy|vm|owner)\s*:\s*(\S.*?)\s*", re.IGNORECASE)
_DURATION: Final = re.compile(
    r"\+?P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.IGNORECASE
)
_SOME_DAY: Final = pd.Timestamp("2026-01-01", tz="UTC")
_TOO_OFTEN: Final = re.compile(r"FREQ=(SECONDLY|MINUTELY)|BYSECOND=|BYMINUTE=\d+,", re.IGNORECASE)


class Occurrence(NamedTuple):
    """One window of an event: when, in UTC, and the event it is of."""

    start: pd.Timestamp
    end: pd.Timestamp
    event: Event


@dataclass(frozen=True)
class _Nominal:
    """A DURATION: calendar days, then exact time."""

    days: int
    exact: timedelta


@dataclass(frozen=True)
class Event:
    """A VEVENT as it was written.

    Attributes
    ----------
    line : int
        Line of its BEGIN:VEVENT.
    uid : str
        Events with one UID are a series and its moved instances.
    names : dict of str to str
        Whom it is about: lines such as ``vm: web-*``, ``policy: Gold`` of its DESCRIPTION.
        Empty: everyone.
    reason, owner : str or None
        Its SUMMARY; an ``owner:`` line of its DESCRIPTION, else its ORGANIZER.
    """

    line: int
    uid: str
    names: Mapping[str, str]
    reason: str | None
    owner: str | None
    component: Any
    length: timedelta | _Nominal


@dataclass(frozen=True)
class Calendar:
    """The events of an iCalendar file.

    Attributes
    ----------
    source : str
        The file's name.
    tz : str
        Zone of dates, and of times without a zone of their own.
    events : tuple of Event
        Those that were not cancelled.
    """

    source: str
    tz: str
    events: tuple[Event, ...]

    @classmethod
    def read(cls, document: Document, tz: str) -> Calendar:
        """Read an iCalendar file.

        Raises
        ------
        InputError
            With the line of the event, if it cannot be read: no end, an end before the start,
            a zone that is neither known nor defined in the file, a rule that recurs every
            minute or second.
        """
        text = _text(document)
        events: list[Event] = []
        lines, components = _lines(text), _components(text, document.name)
        if len(lines) != len(components):
            raise InputError(f"{document.name} is not complete: an event has a BEGIN but no END")
        for line, component in zip(lines, components, strict=True):
            if str(component.get("STATUS", "")).upper() != "CANCELLED":
                component.add(_LINE, str(line))
                where = place(document.name, line)
                events.append(_event(component, line, where, tz, _raw(text, line)))
        calendar = cls(document.name, tz, tuple(events))
        calendar.occurrences(_SOME_DAY, _SOME_DAY + pd.Timedelta("1h"))  # refuses rules at once
        return calendar

    def occurrences(self, since: pd.Timestamp, until: pd.Timestamp) -> list[Occurrence]:
        """Return the windows that lie, at least in part, in ``[since, until)``, by start.

        Starts that the change of clocks skips, or has twice, are read as RFC 5545 (3.3.5)
        says: `timeparse.wall_to_utc`.
        """
        series: dict[str, list[Event]] = {}
        for event in self.events:
            series.setdefault(event.uid, []).append(event)
        windows = [each for group in series.values() for each in self._expand(group, since, until)]
        return sorted(windows, key=lambda each: (each.start, each.end, each.event.line))

    def _expand(
        self, series: list[Event], since: pd.Timestamp, until: pd.Timestamp
    ) -> Iterator[Occurrence]:
        by_line = {str(event.line): event for event in series}
        for occurrence in _starts(series, since - _longest(series), until, self.source):
            event = by_line[str(occurrence[_LINE])]
            start = _instant(occurrence["DTSTART"].dt, self.tz)
            end = _end(start, occurrence["DTSTART"].dt, event.length, self.tz)
            if start < until and end > since:
                yield Occurrence(start, end, event)


# -- expansion -------------------------------------------------------------------------


def _starts(
    series: list[Event], since: pd.Timestamp, until: pd.Timestamp, source: str
) -> list[Any]:
    import icalendar
    import recurring_ical_events

    calendar = icalendar.Calendar()
    for event in series:
        calendar.add_component(event.component)
    # Local times without a zone are compared as if they were UTC: two days more on each side.
    edge = timedelta(days=2)
    try:
        # CalendarQuery, not `of`: that would move UTC times by X-WR-TIMEZONE, which no RFC knows.
        query = recurring_ical_events.CalendarQuery(calendar)
        return list(query.between(_back(since, edge), _ahead(until, edge)))
    except Exception as problem:  # errors of the library, of dateutil and ValueError of dates
        where = place(source, series[0].line)
        raise InputError(
            f"{where}: cannot expand this event ({problem})".replace("\n", " ")
        ) from None


def _back(moment: pd.Timestamp, edge: timedelta) -> datetime:
    plain = moment.to_pydatetime(warn=False).astimezone(_UTC)
    return max(plain, datetime(2, 1, 1, tzinfo=_UTC)) - edge


def _ahead(moment: pd.Timestamp, edge: timedelta) -> datetime:
    plain = moment.to_pydatetime(warn=False).astimezone(_UTC)
    return min(plain, datetime(9998, 12, 1, tzinfo=_UTC)) + edge


def _longest(series: list[Event]) -> timedelta:
    lengths = (
        event.length if isinstance(event.length, timedelta)
        # A calendar day has at most 25 hours or so.
        else timedelta(days=event.length.days, hours=event.length.days + 2) + event.length.exact
        for event in series
    )  # fmt: skip
    return max(lengths)


def _end(start: pd.Timestamp, wall: date, length: timedelta | _Nominal, tz: str) -> pd.Timestamp:
    if isinstance(length, timedelta):
        return start + length
    if not length.days:
        return start + length.exact
    if isinstance(wall, datetime) and wall.tzinfo is not None:
        # Through UTC first: a start that the change of clocks skipped is an hour later by the wall.
        local = start.to_pydatetime(warn=False).astimezone(wall.tzinfo) + timedelta(
            days=length.days
        )
        return pd.Timestamp(local.astimezone(_UTC)).as_unit("us") + length.exact
    local = start.tz_convert(tz).to_pydatetime(warn=False).replace(tzinfo=None)
    return wall_to_utc(local + timedelta(days=length.days), tz) + length.exact


def _instant(value: date, tz: str) -> pd.Timestamp:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            return pd.Timestamp(value.replace(fold=0).astimezone(_UTC)).as_unit("us")
        return wall_to_utc(value, tz)
    return wall_to_utc(datetime.combine(value, time()), tz)


# -- reading ---------------------------------------------------------------------------


def _text(document: Document) -> str:
    try:
        text = document.data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{document.name} is not UTF-8, as iCalendar files are") from None
    if not text.lstrip().upper().startswith("BEGIN:VCALENDAR"):
        raise InputError(
            f"{document.name} is not an iCalendar file: it does not begin with BEGIN:VCALENDAR"
        )
    return text


def _lines(text: str) -> list[int]:
    """Return the line of each BEGIN:VEVENT."""
    lines = enumerate(text.splitlines(), 1)
    return [number for number, line in lines if line.strip().upper() == "BEGIN:VEVENT"]


def _components(text: str, source: str) -> list[Any]:
    import icalendar

    try:
        calendars = icalendar.Calendar.from_ical(text, multiple=True)
    except Exception as problem:  # the library raises ValueError, KeyError and errors of its own
        reason = str(problem).replace("\n", " ")
        raise InputError(f"{source} cannot be read as an iCalendar file ({reason})") from None
    return [event for calendar in calendars for event in calendar.walk("VEVENT")]


def _raw(text: str, line: int) -> dict[str, str]:
    """Return the properties of an event as written, unfolded; the library rewrites PT24H as P1D."""
    block = "\n".join(text.splitlines()[line:])
    block = re.split(r"^END:VEVENT", re.sub(r"\n[ \t]", "", block), flags=re.M | re.I)[0]
    # An alarm inside the event has a DURATION of its own.
    block = re.sub(r"^BEGIN:(\w+).*?^END:\1", "", block, flags=re.M | re.I | re.S)
    raw: dict[str, str] = {}
    for content in block.splitlines():
        head, _, value = content.partition(":")
        raw.setdefault(head.split(";")[0].upper(), value.strip())
    return raw


def _event(component: Any, line: int, where: str, tz: str, raw: Mapping[str, str]) -> Event:
    if component.errors:
        name, reason = component.errors[0]
        raise InputError(f"{where}: {name} cannot be read ({reason})".replace("\n", " "))
    start = component.get("DTSTART")
    if start is None:
        raise InputError(f"{where}: this event has no DTSTART")
    _check_rule(component, raw, where)
    named = _names(str(component.get("DESCRIPTION", "")))
    owner = named.pop("owner", None) or _organizer(component)
    reason = str(component.get("SUMMARY", "")).strip() or None
    uid = str(component.get("UID", f"line {line}"))
    length = _length(component, where, tz, raw)
    return Event(line, uid, named, reason, owner, component, length)


def _check_rule(component: Any, raw: Mapping[str, str], where: str) -> None:
    for name in ("DTSTART", "DTEND", "RECURRENCE-ID"):
        value = component.get(name)
        zone = value is not None and value.params.get("TZID")
        if zone and isinstance(value.dt, datetime) and value.dt.tzinfo is None:
            raise InputError(f"{where}: zone {zone!r} is neither known nor defined by a VTIMEZONE")
    if _TOO_OFTEN.search(raw.get("RRULE", "")):
        raise InputError(f"{where}: a rule that recurs every minute or second is not supported")
    if "/" in raw.get("RDATE", ""):
        raise InputError(f"{where}: RDATE with periods is not supported; write an event for each")


def _length(component: Any, where: str, tz: str, raw: Mapping[str, str]) -> timedelta | _Nominal:
    start, end = component["DTSTART"].dt, component.get("DTEND")
    if end is not None:
        if isinstance(start, datetime) != isinstance(end.dt, datetime):
            raise InputError(f"{where}: DTSTART and DTEND must both be dates or both be times")
        if not isinstance(start, datetime):
            length: timedelta | _Nominal = _Nominal((end.dt - start).days, timedelta(0))
        else:
            length = (_instant(end.dt, tz) - _instant(start, tz)).to_pytimedelta()
    elif "DURATION" in raw:
        length = _nominal(raw["DURATION"], where)
    elif not isinstance(start, datetime):
        length = _Nominal(1, timedelta(0))  # RFC 5545, 3.6.1: a date without an end is that day
    else:
        raise InputError(f"{where}: this event has neither DTEND nor DURATION, so it has no length")
    days, exact = (length.days, length.exact) if isinstance(length, _Nominal) else (0, length)
    if days < 0 or exact < timedelta(0) or not (days or exact):
        raise InputError(f"{where}: this event does not begin before it ends")
    return length


def _nominal(text: str, where: str) -> _Nominal:
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise InputError(f"{where}: DURATION {text!r} is not a duration")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return _Nominal(7 * weeks + days, timedelta(hours=hours, minutes=minutes, seconds=seconds))


def _names(description: str) -> dict[str, str]:
    lines = filter(None, map(_NAMED.fullmatch, description.splitlines()))
    return {match[1].lower(): match[2] for match in lines}


def _organizer(component: Any) -> str | None:
    organizer = component.get("ORGANIZER")
    if organizer is None:
        return None
    return str(organizer.params.get("CN") or re.sub("(?i)^mailto:", "", str(organizer)))
