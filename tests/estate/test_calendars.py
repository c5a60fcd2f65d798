"""Calendars: starts of rules, exact ends for DTEND, nominal ends for DURATION."""

from __future__ import annotations

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.estate.calendars import Calendar
from cdpanalytics.estate.tables import Document

YEAR = (pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2027-01-01", tz="UTC"))


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def calendar(
    *events: str, tz: str = "Europe/Berlin", before: str = "", newline: str = "\r\n"
) -> Calendar:
    """Return a calendar of events, each given by its properties."""
    blocks = [
        f"BEGIN:VEVENT\n{'' if 'UID:' in event else f'UID:{number}@example'}\n{event}\nEND:VEVENT"
        for number, event in enumerate(events)
    ]
    text = "\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", before, *blocks, "END:VCALENDAR", ""])
    lines = [line for line in text.split("\n") if line]
    return Calendar.read(Document("ops.ics", newline.join([*lines, ""]).encode()), tz)


def windows(source: Calendar, since: str, until: str) -> list[tuple[str, str]]:
    occurrences = source.occurrences(utc(since), utc(until))
    return [(f"{start:%m-%d %H:%M}", f"{end:%m-%d %H:%M}") for start, end, _ in occurrences]


SECOND_TUESDAY = """DTSTART;TZID=Europe/Berlin:20260113T210000
DTEND;TZID=Europe/Berlin:20260114T010000
RRULE:FREQ=MONTHLY;BYDAY=2TU
SUMMARY:Patches"""

SUNDAY_NIGHT = """DTSTART;TZID=Europe/Berlin:20260104T010000
DTEND;TZID=Europe/Berlin:20260104T040000
RRULE:FREQ=WEEKLY;BYDAY=SU
EXDATE;TZID=Europe/Berlin:20261018T010000"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_rule_recurs_in_its_own_zone_through_the_change_of_clocks(newline: str) -> None:
    patches = calendar(SECOND_TUESDAY, tz="Asia/Tokyo", newline=newline)
    assert windows(patches, "2026-10-01", "2026-12-01") == [
        ("10-13 19:00", "10-13 23:00"),
        ("11-10 20:00", "11-11 00:00"),
    ]


def test_dtend_keeps_the_exact_length_and_exdate_leaves_one_out() -> None:
    assert windows(calendar(SUNDAY_NIGHT), "2026-10-12", "2026-11-02") == [
        ("10-24 23:00", "10-25 02:00"),
        ("11-01 00:00", "11-01 03:00"),
    ]


@pytest.mark.parametrize(
    ("duration", "end"),
    [
        ("P1D", "10-25 17:00"),
        ("PT24H", "10-25 16:00"),
        ("P1DT1H", "10-25 18:00"),
        ("P1W", "10-31 17:00"),
    ],
)
def test_days_of_a_duration_are_calendar_days_and_hours_are_exact(duration: str, end: str) -> None:
    event = f"DTSTART;TZID=Europe/Berlin:20261017T180000\nDURATION:{duration}\nRRULE:FREQ=WEEKLY;COUNT=2"
    assert windows(calendar(event), "2026-10-24 16:00", "2026-10-24 17:00")[-1] == (
        "10-24 16:00",
        end,
    )


def test_a_start_that_is_skipped_is_an_hour_later_and_one_that_comes_twice_is_the_first() -> None:
    event = "DTSTART;TZID=Europe/Berlin:20260322T023000\nDTEND;TZID=Europe/Berlin:20260322T033000\nRRULE:FREQ=WEEKLY"
    assert ("03-29 01:30", "03-29 02:30") in windows(calendar(event), "2026-03-23", "2026-04-01")
    assert windows(calendar(event), "2026-10-24", "2026-10-26") == [("10-25 00:30", "10-25 01:30")]
    nominal = event.replace("DTEND;TZID=Europe/Berlin:20260322T033000", "DURATION:P1D")
    assert ("03-29 01:30", "03-30 01:30") in windows(calendar(nominal), "2026-03-29", "2026-03-30")


def test_days_and_times_without_a_zone_are_of_the_zone_asked_for() -> None:
    source = calendar(
        "DTSTART;VALUE=DATE:20261025",
        "DTSTART;VALUE=DATE:20261024\nDTEND;VALUE=DATE:20261026",
        "DTSTART:20261101T220000\nDTEND:20261102T020000",
        "DTSTART:20261101T220000Z\nDTEND:20261102T020000Z",
    )
    assert windows(source, *map(str, ("2026-10-01", "2026-12-01"))) == [
        ("10-23 22:00", "10-25 23:00"),
        ("10-24 22:00", "10-25 23:00"),
        ("11-01 21:00", "11-02 01:00"),
        ("11-01 22:00", "11-02 02:00"),
    ]


def test_a_moved_instance_has_its_own_length_and_a_cancelled_event_none() -> None:
    moved = """UID:0@example
RECURRENCE-ID;TZID=Europe/Berlin:20261013T210000
DTSTART;TZID=Europe/Berlin:20261014T200000
DTEND;TZID=Europe/Berlin:20261014T210000
SUMMARY:Patches, moved"""
    cancelled = "STATUS:CANCELLED\nDTSTART:20261015T000000Z\nDTEND:20261015T010000Z"
    source = calendar(SECOND_TUESDAY, moved, cancelled)
    assert windows(source, "2026-10-01", "2026-11-11") == [
        ("10-14 18:00", "10-14 19:00"),
        ("11-10 20:00", "11-11 00:00"),
    ]
    assert [event.reason for _, _, event in source.occurrences(*YEAR)][9] == "Patches, moved"


def test_a_window_that_began_before_the_period_is_in_it() -> None:
    event = "DTSTART:20260901T000000Z\nDTEND:20261101T000000Z"
    assert len(calendar(event).occurrences(utc("2026-10-15"), utc("2026-10-16"))) == 1
    assert not calendar(event).occurrences(utc("2026-11-01"), utc("2026-11-02"))


def test_x_wr_timezone_does_not_move_utc_times() -> None:
    event = "DTSTART:20261017T200000Z\nDTEND:20261017T210000Z\nRRULE:FREQ=WEEKLY"
    source = calendar(event, before="X-WR-TIMEZONE:Europe/Berlin")
    assert windows(source, "2026-10-31", "2026-11-01") == [("10-31 20:00", "10-31 21:00")]


def test_zones_of_outlook_and_of_a_vtimezone_are_known() -> None:
    zone = """BEGIN:VTIMEZONE
TZID:Head office
BEGIN:STANDARD
DTSTART:20200101T000000
TZOFFSETFROM:+0200
TZOFFSETTO:+0200
END:STANDARD
END:VTIMEZONE"""
    source = calendar(
        "DTSTART;TZID=W. Europe Standard Time:20261101T220000\nDURATION:PT1H",
        "DTSTART;TZID=Head office:20261101T220000\nDURATION:PT1H",
        before=zone,
    )
    assert windows(source, "2026-11-01", "2026-11-03") == [
        ("11-01 20:00", "11-01 21:00"),
        ("11-01 21:00", "11-01 22:00"),
    ]


def test_lines_of_the_description_say_whom_an_event_concerns() -> None:
    source = calendar(
        "DTSTART:20261101T220000Z\nDURATION:PT1H\nORGANIZER;CN=Web team:mailto:web@example.com\n"
        "DESCRIPTION:New firmware\\nvm: web-*\\nPolicy: Gold\\nsee https://example.com",
        "DTSTART:20261101T220000Z\nDURATION:PT1H\nDESCRIPTION:owner: Storage\nSUMMARY:All",
    )
    first, second = source.events
    assert (dict(first.names), first.owner, first.reason) == (
        {"vm": "web-*", "policy": "Gold"},
        "Web team",
        None,
    )
    assert (dict(second.names), second.owner, second.reason) == ({}, "Storage", "All")


def test_an_alarm_does_not_lend_its_duration() -> None:
    alarm = "BEGIN:VALARM\nACTION:DISPLAY\nTRIGGER:-PT15M\nDURATION:PT5M\nREPEAT:1\nEND:VALARM"
    with pytest.raises(InputError, match="neither DTEND nor DURATION"):
        calendar(f"DTSTART:20261101T220000Z\n{alarm}")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("SUMMARY:x", "no DTSTART"),
        ("DTSTART:20261101T220000Z", "neither DTEND nor DURATION"),
        ("DTSTART:20261101T220000Z\nDTEND:20261101T210000Z", "does not begin before it ends"),
        ("DTSTART:20261101T220000Z\nDTEND:20261101T220000Z", "does not begin before it ends"),
        ("DTSTART:20261101T220000Z\nDURATION:PT0S", "does not begin before it ends"),
        ("DTSTART:20261101T220000Z\nDTEND;VALUE=DATE:20261102", "both be dates or both be times"),
        (
            "DTSTART;TZID=Nowhere/Land:20261101T220000\nDURATION:PT1H",
            "'Nowhere/Land' is neither known",
        ),
        ("DTSTART:20261301T220000Z\nDURATION:PT1H", "DTSTART"),
        ("DTSTART:20261101T220000Z\nDURATION:PT1H\nRRULE:FREQ=MINUTELY", "every minute or second"),
        (
            "DTSTART:20261101T220000Z\nDURATION:PT1H\nRDATE;VALUE=PERIOD:20261102T000000Z/PT2H",
            "RDATE with periods",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_line_of_its_event(event: str, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        calendar(SUNDAY_NIGHT, event)
    assert str(raised.value).startswith("ops.ics, line 10: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "data", [b"", b"vm,start,end\n", b"\xff\xfe\x00", b"BEGIN:VCALENDAR\nBEGIN:VEVENT\n"]
)
def test_what_is_not_a_calendar_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^ops\.ics"):
        Calendar.read(Document("ops.ics", data), "UTC")


@pytest.mark.parametrize("rule", ["FREQ=NEVER", "FREQ=DAILY;COUNT=x", "FREQ=WEEKLY;BYDAY=XX"])
def test_a_rule_that_is_not_one_is_refused_with_its_line(rule: str) -> None:
    with pytest.raises(InputError, match=r"^ops\.ics, line 3: "):
        calendar(f"DTSTART:20261101T220000Z\nDURATION:PT1H\nRRULE:{rule}")
