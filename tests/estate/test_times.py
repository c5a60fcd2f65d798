"""Times of the customer's tables."""

from __future__ import annotations

from datetime import date, datetime

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.estate.times import day_order, instants, is_date


def read(cell: object, day_first: bool | None = None, tz: str = "Europe/Berlin") -> str:
    (moment,) = instants([(7, cell)], "t.csv", tz, day_first)
    assert moment.unit == "us"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2026-11-01 22:00", "2026-11-01 21:00:00"),
        ("2026-11-01T22:00:30", "2026-11-01 21:00:30"),
        ("2026/11/1 22:00", "2026-11-01 21:00:00"),
        ("2026-11-01", "2026-10-31 23:00:00"),
        ("2026-11-01 24:00", "2026-11-01 23:00:00"),
        ("2026-11-01T11:20+01:00", "2026-11-01 10:20:00"),
        ("2026-11-01T11:20Z", "2026-11-01 11:20:00"),
        ("13.11.2026 22:00", "2026-11-13 21:00:00"),
        ("13.11.2026 22:00 Uhr", "2026-11-13 21:00:00"),
        ("13.11.2026, 22.00", "2026-11-13 21:00:00"),
        ("13.11.2026", "2026-11-12 23:00:00"),
        ("11.11.2026 10:00 PM", "2026-11-11 21:00:00"),
        ("11/11/2026 12:30 am", "2026-11-10 23:30:00"),
        (datetime(2026, 11, 1, 22), "2026-11-01 21:00:00"),
        (date(2026, 11, 1), "2026-10-31 23:00:00"),
        (pd.Timestamp("2026-11-01 22:00"), "2026-11-01 21:00:00"),
        (pd.Timestamp("2026-11-01 22:00", tz="UTC"), "2026-11-01 22:00:00"),
    ],
)
def test_a_time_is_read_in_the_zone(cell: object, expected: str) -> None:
    assert read(cell, day_first=True) == expected


def test_the_order_of_day_and_month_is_the_files() -> None:
    assert read("01.11.2026 22:00", day_first=True) == "2026-11-01 21:00:00"
    assert read("01/11/2026 22:00", day_first=False) == "2026-01-11 21:00:00"


@pytest.mark.parametrize(
    ("dates", "order"),
    [
        (["01.11.2026", "13.11.2026"], True),
        (["11/01/2026", "11/13/2026 10:00"], False),
        (["11.11.2026"], False),
        (["2026-11-01", datetime(2026, 1, 2)], None),
    ],
)
def test_a_number_above_twelve_decides(dates: list[object], order: bool | None) -> None:
    assert day_order(list(enumerate(dates, 2)), "t.csv", None) is order


def test_an_ambiguous_file_is_refused_unless_its_order_is_said() -> None:
    cells = [(2, "01.11.2026 22:00"), (3, "02.11.2026 02:00")]
    with pytest.raises(
        InputError, match=r"t\.csv, line 2: '01.11.2026 22:00' has the day or the month first"
    ):
        day_order(cells, "t.csv", None)
    assert day_order(cells, "t.csv", True) is True
    assert day_order(cells, "t.csv", False) is False


def test_a_file_that_contradicts_itself_or_what_was_said_is_refused() -> None:
    cells = [(2, "13.11.2026"), (3, "11.13.2026")]
    with pytest.raises(
        InputError, match=r"line 3: '11.13.2026' cannot be read with the day first, as line 2"
    ):
        day_order(cells, "t.csv", None)
    with pytest.raises(InputError, match=r"line 2: .* with the month first, as day_first says"):
        day_order(cells[:1], "t.csv", False)
    with pytest.raises(InputError, match=r"line 3: .* with the day first, as day_first says"):
        day_order(cells[1:], "t.csv", True)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("2026-13-01", "is not a time"),
        ("2026-11-31", "is not a time"),
        ("01.11.26 22:00", "is not a time"),
        ("1 Nov 2026", "is not a time"),
        ("2026-11-01 25:00", "is not a time"),
        ("2026-11-01 13:00 pm", "is not a time"),
        ("22:00", "is not a time"),
        (45000, "is not a time"),
        (True, "is not a time"),
        ("2026-10-25 02:30", "comes twice in Europe/Berlin"),
        ("2026-03-29 02:30", "comes never in Europe/Berlin"),
        (datetime(2026, 10, 25, 2, 30), "comes twice in Europe/Berlin"),
        ("9999-12-31 24:00", "is not a time"),
    ],
)
def test_what_is_not_a_time_is_refused_with_its_line(cell: object, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        read(cell)
    assert str(raised.value).startswith("t.csv, line 7: ")
    assert reason in str(raised.value)


def test_dates_are_told_from_times() -> None:
    assert all(map(is_date, ("2026-10-25", "25.10.2026", date(2026, 10, 25))))
    assert not any(map(is_date, ("2026-10-25 00:00", datetime(2026, 10, 25), None, "x")))
