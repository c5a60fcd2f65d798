"""One grammar for every door: what is read, and what is refused with its reason."""

from __future__ import annotations

import warnings
from contextlib import suppress
from datetime import date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.timeparse import (
    counts_back,
    instant,
    length,
    lengths,
    localized,
    share,
    wall_to_utc,
    zone,
)

NOW = pd.Timestamp("2026-12-01 12:00", tz="UTC")


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


# -- lengths


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("15min", 15),
        ("90s", 1.5),
        ("1h30min", 90),
        ("1h 30min", 90),
        ("0.25h", 15),
        ("1.5D", 36 * 60),
        ("1.5d", 36 * 60),
        ("PT15M", 15),
        ("PT0.5H", 30),
        ("PT1.5H", 90),
        ("P1D", 24 * 60),
        ("P1DT12H", 36 * 60),
        ("P4W", 28 * 24 * 60),
        ("4w", 28 * 24 * 60),
        ("4W", 28 * 24 * 60),
        ("30d", 30 * 24 * 60),
        ("30D", 30 * 24 * 60),
        ("30 days", 30 * 24 * 60),
        ("1 hour", 60),
        ("0 days 00:15:00", 15),
        ("1 days 01:00:30", 25 * 60 + 0.5),
        (" 15min ", 15),
    ],
)
def test_a_length_is_read(text: str, minutes: float) -> None:
    assert length(text) == pd.Timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0,25h", "has a comma; write 0.25h"),
        ("1,5h", "has a comma; write 1.5h"),
        ("15min,1h", "is a list; only one length"),
        ("P1M", "months and years differ in length"),
        ("P1Y", "months and years differ in length"),
        ("2 months", "months and years differ in length"),
        ("1M", "could be minutes or months"),
        ("15m", "could be minutes or months"),
        ("15", "has no unit; write 15min, 15h or 15D"),
        ("0", "is zero"),
        ("0min", "is zero"),
        ("-5min", "is negative"),
        ("-PT5M", "is negative"),
        ("nan", "is not a length of time"),
        ("", "is not a length of time"),
        ("P", "is not a length of time"),
        ("PT", "is not a length of time"),
        ("15:00", "is not a length of time"),
        ("1.5h30min", "is not a length of time"),
        ("30min1h", "is not a length of time"),
        ("1h1h", "is not a length of time"),
        ("15min please", "is not a length of time"),
        ("4000000000w", "longer than 10,000 years"),
    ],
)
def test_a_length_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        length(text, "--rpo")
    message = str(raised.value)
    assert message.startswith(f"--rpo={text!r}")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("value", [15, 0.5, None, float("nan"), pd.NaT, [1], True])
def test_what_is_neither_text_nor_a_timedelta_is_not_a_length(value: object) -> None:
    with pytest.raises(InputError, match="is not a length of time"):
        length(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [timedelta(minutes=15), pd.Timedelta("15min"), np.timedelta64(15, "m")]
)
def test_timedeltas_are_lengths(value: timedelta) -> None:
    assert length(value) == pd.Timedelta("15min")


@pytest.mark.parametrize("value", [timedelta(0), "0", "0min", "PT0S"])
def test_zero_is_a_length_where_it_has_a_meaning(value: str) -> None:
    assert length(value, zero=True) == pd.Timedelta(0)
    with pytest.raises(InputError, match="zero"):
        length(value)


def test_negative_timedeltas_are_refused() -> None:
    with pytest.raises(InputError, match="negative"):
        length(timedelta(minutes=-1))


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=3000)))
def test_each_length_is_read_again_as_pandas_prints_it(value: timedelta) -> None:
    assert length(str(pd.Timedelta(value))) == value
    assert length(pd.Timedelta(value).isoformat()) == value


@given(st.text(alphabet="0123456789.,PTWDHMSwdhmins- ", max_size=12))
def test_any_text_is_a_positive_length_or_refused(text: str) -> None:
    with suppress(InputError):
        assert length(text) > pd.Timedelta(0)


def test_what_if_takes_a_list_of_lengths() -> None:
    expected = [pd.Timedelta("15min"), pd.Timedelta("1h")]
    assert lengths("15min, 1h") == expected
    assert lengths(["15min", timedelta(hours=1)]) == expected
    assert lengths(pd.Timedelta("15min")) == expected[:1]
    for text in ("0,25h", "1,5h", "15min,", ""):
        with pytest.raises(InputError):
            lengths(text)


# -- shares


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("99.9", "0.999"),
        (99.9, "0.999"),
        ("99.9%", "0.999"),
        ("99.9 %", "0.999"),
        ("0.999", "0.999"),
        (0.999, "0.999"),
        (np.float64(0.999), "0.999"),
        ("99.95%", "0.9995"),
        ("1", "1"),
        (1, "1"),
        (1.0, "1"),
        ("100", "1"),
        ("100%", "1"),
        ("100 %", "1"),
        (95, "0.95"),
    ],
)
def test_a_share_is_read_and_exact(value: str | float, expected: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Fraction(str(share(value))) == Fraction(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.5", 0.5),
        ("50", 0.5),
        ("50%", 0.5),
        (0.9, 0.9),
        ("90", 0.9),
        ("1.5%", 0.015),
        ("1%", 0.01),
    ],
)
def test_a_low_share_is_read_with_a_warning(value: str | float, expected: float) -> None:
    with pytest.warns(UserWarning, match="--objective=.* is only") as caught:
        assert share(value, "--objective") == expected
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1.5", "write 1.5% if that is meant"),
        ("5", "write 5% if that is meant"),
        ("49.9", "write 49.9% if that is meant"),
        ("0.3", "write 30% if that is meant"),
        ("99,9", "has a comma; write 99.9"),
        ("99,9 %", "has a comma; write 99.9 %"),
        ("-1", "not above 0"),
        ("0", "not above 0"),
        ("0%", "not above 0"),
        (0, "not above 0"),
        ("101", "above 100 %"),
        ("100.01%", "above 100 %"),
        ("nan", "is not a share"),
        (float("nan"), "is not a share"),
        ("inf", "is not a share"),
        (float("inf"), "is not a share"),
        ("", "is not a share"),
        (True, "is not a share"),
        (None, "is not a share"),
    ],
)
def test_a_share_is_refused_with_its_reason(value: str | float, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        share(value, "objective")
    assert str(raised.value).startswith(f"objective={value!r}")
    assert reason in str(raised.value)


# -- zones


@pytest.mark.parametrize("name", ["Europe/Berlin", "europe/berlin", ZoneInfo("Europe/Berlin")])
def test_zones_match_in_any_case(name: str) -> None:
    assert zone(name) == "Europe/Berlin"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("+02:00", "an offset does not say when summer time begins"),
        ("UTC+2", "an offset does not say when summer time begins"),
        ("", "use a name like UTC"),
        ("../../etc/passwd", "use a name like UTC"),
        (None, "use a name like UTC"),
    ],
)
def test_zones_are_refused_with_a_hint(name: str, reason: str) -> None:
    with pytest.raises(InputError, match="is not a time zone") as raised:
        zone(name)
    assert reason in str(raised.value)


# -- instants


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-10-01", "2026-09-30 22:00"),
        ("2026-10-01T06:00", "2026-10-01 04:00"),
        ("2026-10-01 06:00", "2026-10-01 04:00"),
        ("2026-10-01T06:00Z", "2026-10-01 06:00"),
        ("2026-10-01T06:00+01:00", "2026-10-01 05:00"),
        ("2026-11-01", "2026-10-31 23:00"),
        (date(2026, 10, 1), "2026-09-30 22:00"),
        (datetime(2026, 10, 1, 6), "2026-10-01 04:00"),
        (pd.Timestamp("2026-10-01 06:00"), "2026-10-01 04:00"),
        (pd.Timestamp("2026-10-01 06:00", tz="UTC"), "2026-10-01 06:00"),
        (np.datetime64("2026-10-01T06:00"), "2026-10-01 04:00"),
        ("now", "2026-12-01 12:00"),
        ("36h", "2026-11-30 00:00"),
        ("P1D", "2026-11-30 12:00"),
        ("4w", "2026-11-03 12:00"),
    ],
)
def test_an_instant_without_offset_is_of_the_zone(value: str, expected: str) -> None:
    moment = instant(value, NOW, "Europe/Berlin")
    assert moment == utc(expected)
    assert moment.unit == "us"
    assert str(moment.tz) == "UTC"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-13-01", "is not a time"),
        ("yesterday", "is not a time"),
        ("", "is not a time"),
        ("2026-10", "is a period, not a time"),
        ("2026-W41", "is a period, not a time"),
        ("2026", "is a period, not a time"),
        ("30", "is not a time"),
        ("0,25h", "has a comma; write 0.25h"),
        ("1M", "could be minutes or months"),
        ("-5min", "is negative"),
        ("0001-01-01T00:00+14:00", "outside the years 1 to 9999"),
        ("9999-12-31T23:59-12:00", "outside the years 1 to 9999"),
        ("5000w", None),
        ("500000w", "outside the years 1 to 9999"),
    ],
)
def test_an_instant_is_refused_in_a_line(text: str, reason: str | None) -> None:
    if reason is None:
        assert instant(text, NOW).year == 1931
        return
    with pytest.raises(InputError) as raised:
        instant(text, NOW)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "tz"),
    [("0001-01-01", "Asia/Tokyo"), ("9999-12-31T23:00", "America/New_York")],
)
def test_the_first_and_last_year_are_refused_where_the_zone_leaves_them(text: str, tz: str) -> None:
    with pytest.raises(InputError, match="outside the years 1 to 9999"):
        instant(text, NOW, tz)
    assert instant(text, NOW).year in (1, 9999)


@pytest.mark.parametrize("value", [None, 7, float("nan"), pd.NaT, 1.5])
def test_what_is_not_a_time_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"is not a time|a time is missing"):
        instant(value, NOW)


def test_wall_times_of_the_change_of_clocks_are_refused() -> None:
    with pytest.raises(InputError, match=r"comes twice .*02:30\+02:00 or .*02:30\+01:00"):
        instant("2026-10-25 02:30", NOW, "Europe/Berlin")
    with pytest.raises(InputError, match="comes never"):
        localized(datetime(2026, 3, 29, 2, 30), "Europe/Berlin")
    assert instant("2026-10-25T02:30+01:00", NOW, "Europe/Berlin") == utc("2026-10-25 01:30")


def test_days_without_a_midnight_begin_after_the_change() -> None:
    # Cairo's clocks went from 00:00 to 01:00 on 2026-04-24.
    assert instant("2026-04-24", NOW, "Africa/Cairo") == utc("2026-04-23 22:00")
    # Havana's go from 01:00 back to 00:00: the day begins with the first midnight.
    assert instant("2025-11-02", NOW, "America/Havana") == utc("2025-11-02 04:00")


def test_calendars_read_wall_times_as_rfc_5545_says() -> None:
    assert wall_to_utc(datetime(2026, 3, 29, 2, 30), "Europe/Berlin") == utc("2026-03-29 01:30")
    assert wall_to_utc(datetime(2026, 10, 25, 2, 30), "Europe/Berlin") == utc("2026-10-25 00:30")


def test_only_now_and_lengths_count_back() -> None:
    assert all(map(counts_back, ("now", "7D", "1h30min", "PT5M")))
    assert not any(map(counts_back, ("2026-10-01", "1M", "", "7", None, date(2026, 1, 1))))


@given(st.text(max_size=20))
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    with suppress(InputError):
        assert instant(text, NOW, "Europe/Berlin").unit == "us"


def test_a_timestamp_before_the_year_one_is_refused() -> None:
    early = pd.Timestamp("0001-01-01", tz="UTC") - pd.Timedelta("400D")
    with pytest.raises(InputError, match="in the year -1 is outside the years 1 to 9999"):
        instant(early, NOW)
