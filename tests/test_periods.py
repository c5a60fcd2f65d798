"""Calendar periods in the zone asked for."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.periods import conflict, period

NOW = pd.Timestamp("2026-12-01 00:05", tz="Europe/Berlin")


def berlin(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-Q4", "2026-10-01", "2027-01-01"),
        ("2026-q4", "2026-10-01", "2027-01-01"),
        ("2026-10", "2026-10-01", "2026-11-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2026-W41", "2026-10-05", "2026-10-12"),
        ("2026-W01", "2025-12-29", "2026-01-05"),
        ("2026-W53", "2026-12-28", "2027-01-04"),
        ("2026-10-05", "2026-10-05", "2026-10-06"),
        ("2026-10-25", "2026-10-25", "2026-10-26"),
        ("today", "2026-12-01", "2026-12-02"),
        ("yesterday", "2026-11-30", "2026-12-01"),
        ("this week", "2026-11-30", "2026-12-07"),
        ("last week", "2026-11-23", "2026-11-30"),
        ("this month", "2026-12-01", "2027-01-01"),
        ("last month", "2026-11-01", "2026-12-01"),
        ("  Last   Month ", "2026-11-01", "2026-12-01"),
        ("this quarter", "2026-10-01", "2027-01-01"),
        ("last quarter", "2026-07-01", "2026-10-01"),
        ("this year", "2026-01-01", "2027-01-01"),
        ("last year", "2025-01-01", "2026-01-01"),
        ("last 3 months", "2026-09-01", "2026-12-01"),
        ("last 14 months", "2025-10-01", "2026-12-01"),
        ("last 2 quarters", "2026-04-01", "2026-10-01"),
        ("last 2 years", "2024-01-01", "2026-01-01"),
        ("last 30 days", "2026-11-01 00:05", "2026-12-01 00:05"),
        ("last 24 hours", "2026-11-30 00:05", "2026-12-01 00:05"),
        ("30D", "2026-11-01 00:05", "2026-12-01 00:05"),
        ("2026-10-01/2026-10-15", "2026-10-01", "2026-10-15"),
        ("2026-10-01T06:00/2026-10-01T08:00", "2026-10-01 06:00", "2026-10-01 08:00"),
    ],
)
def test_a_period_is_cut_at_midnights_of_the_zone(text: str, start: str, end: str) -> None:
    asked = period(text, "Europe/Berlin", NOW)
    assert (asked.start, asked.end) == (berlin(start), berlin(end))


def test_october_in_berlin_has_a_day_of_25_hours() -> None:
    october = period("2026-10", "Europe/Berlin", NOW)
    assert october.start == pd.Timestamp("2026-09-30 22:00", tz="UTC")
    assert october.end == pd.Timestamp("2026-10-31 23:00", tz="UTC")
    assert october.end - october.start == pd.Timedelta("31D 1h")
    assert str(october.start.tz) == "UTC"


def test_the_zone_decides_what_day_it_is() -> None:
    assert period("last month", "UTC", NOW).explicit == "2026-10"
    assert period("last month", "Europe/Berlin", NOW).explicit == "2026-11"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("2026-10", "2026-10 (2026-10-01 to 2026-10-31, Europe/Berlin)"),
        ("last month", "last month (2026-11-01 to 2026-11-30, Europe/Berlin)"),
        ("2026-10-05", "2026-10-05 (Europe/Berlin)"),
        ("yesterday", "yesterday (2026-11-30, Europe/Berlin)"),
        ("24h", "24h (2026-11-30 00:05 to 2026-12-01 00:05, Europe/Berlin)"),
    ],
)
def test_the_answer_says_which_dates_it_took(text: str, label: str) -> None:
    assert period(text, "Europe/Berlin", NOW).label == label


@pytest.mark.parametrize(
    ("text", "explicit"),
    [
        ("last month", "2026-11"),
        ("last week", "2026-W48"),
        ("last quarter", "2026-Q3"),
        ("last year", "2025"),
        ("yesterday", "2026-11-30"),
        ("last 3 months", "2026-09-01/2026-12-01"),
        ("24h", "2026-11-30T00:05:00+01:00/2026-12-01T00:05:00+01:00"),
    ],
)
def test_the_explicit_period_is_the_same(text: str, explicit: str) -> None:
    asked = period(text, "Europe/Berlin", NOW)
    assert asked.explicit == explicit
    again = period(explicit, "Europe/Berlin", NOW + pd.Timedelta("400D"))
    assert (again.start, again.end) == (asked.start, asked.end)


@pytest.mark.parametrize(
    "text",
    ["", "2026-13", "2026-00", "2026-Q5", "2026-W54", "2025-W53", "2026-02-30", "0000", "9999", "9999-12",
     "last", "next month", "last 0 months", "last 0 days", "last month or so", "letzter Monat", "now", "0D",
     "2026-10-02/2026-10-01", "2026-10-01/2026-10-01", "2026-10/2026-11", "a/b", "last 9999 years", "1M",
     "99999-10"],
)  # fmt: skip
def test_what_is_not_a_period_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(InputError) as raised:
        period(text, "Europe/Berlin", NOW)
    assert "\n" not in str(raised.value)


def test_a_period_that_as_of_does_not_cover_is_provisional() -> None:
    november = period("2026-11", "UTC", NOW)
    assert november.provisional(november.end - pd.Timedelta("1us"))
    assert not november.provisional(november.end)


def test_a_clock_in_another_month_is_a_conflict() -> None:
    fetched, clock = berlin("2026-11-30 23:50"), berlin("2026-12-01 00:05")
    asked = period("last month", "Europe/Berlin", fetched, clock)
    assert asked.explicit == "2026-10"
    assert asked.conflict is not None
    assert "2026-10-01 to 2026-10-31 by the newest fetch" in asked.conflict
    assert "2026-11-01 to 2026-11-30 by this machine's clock" in asked.conflict
    assert "period 2026-10 or 2026-11" in asked.conflict
    assert conflict("last year", "Europe/Berlin", fetched, clock) is None
    assert conflict("2026-10", "Europe/Berlin", fetched, clock) is None


def test_a_length_back_conflicts_after_more_than_a_day() -> None:
    fetched = berlin("2026-11-30 23:50")
    assert conflict("last 30 days", "UTC", fetched, fetched + pd.Timedelta("24h")) is None
    assert conflict("last 30 days", "UTC", fetched, fetched + pd.Timedelta("25h")) is not None


@given(st.datetimes(min_value=pd.Timestamp("1990-01-01"), max_value=pd.Timestamp("2060-01-01")),
       st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo"]),
       st.sampled_from(["week", "month", "quarter", "year"]))  # fmt: skip
def test_last_ends_where_this_begins_and_now_is_in_this(
    now: pd.Timestamp, tz: str, unit: str
) -> None:
    moment = pd.Timestamp(now, tz="UTC")
    last, this = period(f"last {unit}", tz, moment), period(f"this {unit}", tz, moment)
    assert last.start < last.end == this.start <= moment < this.end
