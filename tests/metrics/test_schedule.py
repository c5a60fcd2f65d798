"""The clock of scheduled time beside a walk through the hours in plain Python."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import schedule

from .strategies import HOURS, OFFICE, WEEKDAYS_ONLY, mapping

QUARTER = dt.timedelta(minutes=15)
TICK = dt.timedelta(microseconds=1)
ZONES = (
    "UTC", "Europe/Prague", "America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu",
    "Australia/Lord_Howe", "Africa/Casablanca",
)  # fmt: skip
STARTS = st.sampled_from(
    [
        dt.datetime(2026, 3, 28, 22, tzinfo=dt.UTC),  # Prague loses an hour
        dt.datetime(2026, 10, 24, 20, 30, tzinfo=dt.UTC),  # Prague gains an hour
        dt.datetime(2026, 4, 4, 10, tzinfo=dt.UTC),  # Lord Howe gains half an hour
        dt.datetime(2026, 10, 3, 9, tzinfo=dt.UTC),  # Lord Howe loses half an hour
        dt.datetime(2026, 3, 7, 23, 15, tzinfo=dt.UTC),  # Newfoundland loses an hour
        dt.datetime(1969, 12, 30, tzinfo=dt.UTC),
    ]
)
LENGTH = 200
"""Quarters of an hour the clock is asked about: two days and two hours."""


def instant(moment):
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // TICK


def walked(hours, start, closed, zone):
    """The clock's reading at each quarter, an hour of the wall looked up for each."""
    reading, readings = dt.timedelta(0), [dt.timedelta(0)]
    for number in range(LENGTH):
        moment = start + number * QUARTER
        wall = moment.astimezone(ZoneInfo(zone))
        shut = any(begin <= moment < end for begin, end in closed)
        if hours[wall.weekday() * 24 + wall.hour] == "1" and not shut:
            reading += QUARTER
        readings.append(reading)
    return np.array([reading // TICK for reading in readings])


@st.composite
def clocks(draw):
    hours, start, zone = draw(HOURS), draw(STARTS), draw(st.sampled_from(ZONES))
    quarter = st.integers(-20, LENGTH + 20).map(lambda n: start + n * QUARTER)
    pairs = st.lists(quarter, min_size=2, max_size=2, unique=True).map(sorted)
    closed = draw(st.lists(pairs, max_size=4))
    grid = np.array([instant(start + n * QUARTER) for n in range(LENGTH + 1)])
    made = schedule.clock(
        schedule.week_mask(hours), int(grid[0]), int(grid[-1]), zone,
        np.array([[instant(a), instant(b)] for a, b in closed]).reshape(-1, 2),
    )  # fmt: skip
    return made, grid, walked(hours, start, closed, zone)


@given(clocks())
def test_elapsed_is_what_a_walk_through_the_quarters_adds_up(made):
    clock, grid, readings = made
    shown = clock.elapsed(grid)
    assert (shown - shown[0]).tolist() == readings.tolist()
    halfway = clock.elapsed((grid[:-1] + grid[1:]) // 2) - shown[0]
    assert (2 * halfway).tolist() == (readings[:-1] + readings[1:]).tolist()


@given(made=clocks(), quarters=st.lists(st.integers(0, LENGTH), min_size=1))
def test_instant_is_the_last_one_that_shows_no_more(made, quarters):
    clock, grid, _ = made
    at = grid[quarters]
    shown = clock.elapsed(at)
    back = clock.instant(shown)
    assert (clock.elapsed(back) == shown).all()
    stopped = ~clock.running[-1] & (back == clock.edges[-1])
    assert ((back >= at) | stopped).all(), (
        "standing still, the clock is inverted to its last instant"
    )
    assert ((clock.elapsed(back + 1) > shown) | stopped).all()


@given(clocks())
def test_edges_are_only_where_the_clock_starts_or_stops(made):
    clock, _, _ = made
    assert (np.diff(clock.edges) > 0).all()
    assert (np.diff(clock.readings) >= 0).all()


@pytest.mark.parametrize(
    ("day", "zone", "length"),
    [
        ("2026-03-29", "Europe/Prague", 23), ("2026-10-25", "Europe/Prague", 25),
        ("2026-04-05", "Australia/Lord_Howe", 24.5), ("2026-10-04", "Australia/Lord_Howe", 23.5),
        ("2026-07-01", "Europe/Prague", 24), ("2026-07-01", "Asia/Kolkata", 24),
    ],
)  # fmt: skip
def test_a_day_has_the_hours_its_zone_gives_it(day, zone, length):
    """A mask that allows just that weekday runs from its midnight to the next."""
    date = dt.date.fromisoformat(day)
    hours = "".join(("1" if number == date.weekday() else "0") * 24 for number in range(7))
    begin = dt.datetime.combine(date, dt.time(), tzinfo=ZoneInfo(zone))
    end = dt.datetime.combine(date + dt.timedelta(days=1), dt.time(), tzinfo=ZoneInfo(zone))
    around = [instant(begin) - 10**10, instant(begin), instant(end), instant(end) + 10**10]
    clock = schedule.clock(schedule.week_mask(hours), around[0], around[-1], zone)
    readings = clock.elapsed(np.array(around))
    assert (readings - readings[0]).tolist() == [
        0,
        0,
        length * 3_600_000_000,
        length * 3_600_000_000,
    ]


def test_office_hours_by_hand():
    """Allowed 00-08 and 16-24: eight hours pass by noon, and twelve are shown last at 20:00."""
    start = instant(dt.datetime(2026, 10, 1, tzinfo=dt.UTC))
    hour = 3_600_000_000
    clock = schedule.clock(schedule.week_mask(OFFICE), start, start + 24 * hour, "UTC")
    shown = clock.elapsed(start + hour * np.array([0, 8, 12, 16, 20, 24]))
    assert (shown // hour).tolist() == [0, 8, 8, 8, 12, 16]
    back = clock.instant(hour * np.array([4, 8, 12]))
    assert ((back - start) // hour).tolist() == [4, 16, 20]


def test_a_clock_never_stopped_is_a_difference_and_its_own_inverse():
    at = np.array([0, 5, 10**15])
    assert schedule.ALWAYS.elapsed(at).tolist() == at.tolist()
    assert schedule.ALWAYS.instant(at).tolist() == at.tolist()


def test_a_mapping_says_the_same_as_digits_whatever_stands_between_them():
    digits = schedule.week_mask(WEEKDAYS_ONLY)
    assert (schedule.week_mask(mapping(WEEKDAYS_ONLY)) == digits).all()
    spaced = ",".join(WEEKDAYS_ONLY[24 * day : 24 * day + 24] for day in range(7))
    assert (schedule.week_mask(spaced) == digits).all()
    with pytest.raises(InputError, match="7 x 24 hours, got 169"):
        schedule.week_mask("1" * 169)
