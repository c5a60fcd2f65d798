"""The customer's own files, where they lie beside the repository: each is read as it should be."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import cdpanalytics  # noqa: F401
from cdpanalytics.errors import InputError
from cdpanalytics.estate import Exclusions, Tags
from cdpanalytics.timeparse import length, share

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
beside = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not in this repository")
SINCE, UNTIL = pd.Timestamp("2026-10-01", tz="UTC"), pd.Timestamp("2026-12-01", tz="UTC")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("15min", 15), ("90s", 1.5), ("1h30min", 90), ("0.25h", 15), ("1.5D", 2160), ("PT15M", 15),
     ("PT0.5H", 30), ("P1D", 1440), ("4w", 40320), ("4W", 40320), ("30d", 43200), ("30D", 43200)],
)  # fmt: skip
def test_lengths(text: str, minutes: float) -> None:
    assert length(text) == pd.Timedelta(minutes=minutes)


@pytest.mark.parametrize(
    "text", ["0,25h", "1,5h", "15min,1h", "P1M", "1M", "15", "0", "-5min", "nan"]
)
def test_lengths_that_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        length(text)


@pytest.mark.filterwarnings("ignore:.* is only:UserWarning")
@pytest.mark.parametrize(
    ("text", "value"),
    [("99.9", 0.999), ("99.9%", 0.999), ("0.999", 0.999), ("99.9 %", 0.999), ("1", 1), ("100", 1), ("100%", 1),
     ("0.5", 0.5), ("50", 0.5)],
)  # fmt: skip
def test_shares(text: str, value: float) -> None:
    assert share(text) == value


@pytest.mark.parametrize("text", ["1.5", "5", "99,9", "-1", "101", "nan", "inf"])
def test_shares_that_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        share(text)


@beside
def test_the_german_export() -> None:
    columns = {"vm": "Maschine", "created": "Beginn", "ended": "Ende", "result": "Ergebnis",
               "total_size": "Größe (GB)"}  # fmt: skip
    results = {"Erfolg": "Success", "Warnung": "Warning", "Fehler": "Failed"}
    frame = pd.read_csv(CASES / "sessions-german.csv", sep=";")
    asked = frame.cdp.select(columns=columns, tz="Europe/Berlin", results=results,
                             units={"total_size": "GB"}, target="15min")  # fmt: skip
    assert asked.gaps()["exposure"].tolist() == [pd.Timedelta("30min"), pd.Timedelta("8h")]
    assert asked.sessions["total_size"].tolist() == [16 << 30] * 3
    with pytest.raises(InputError, match="'Fehler'"):
        frame.cdp.select(columns=columns, tz="Europe/Berlin", results={"Erfolg": "Success", "Warnung": "Warning"},
                         units={"total_size": "GB"})  # fmt: skip


@beside
def test_the_recurring_calendar() -> None:
    table = Exclusions(CASES / "maintenance-recurring.ics").table(SINCE, UNTIL)
    windows = set(zip(table["start"], table["end"], strict=True))
    for start, end in (
        ("2026-10-13T20:00Z", "2026-10-14T00:00Z"), ("2026-11-10T21:00Z", "2026-11-11T01:00Z"),
        ("2026-10-24T23:00Z", "2026-10-25T02:00Z"),
    ):  # fmt: skip
        assert (pd.Timestamp(start), pd.Timestamp(end)) in windows
    assert not any(start.date() == pd.Timestamp("2026-10-11").date() for start, _ in windows)


@beside
def test_the_tables_of_maintenance_and_tags() -> None:
    german = Exclusions(CASES / "maintenance-german.csv", tz="Europe/Berlin", day_first=True).table(
        SINCE, pd.Timestamp("2027-12-01", tz="UTC")
    )
    local = german["start"].dt.tz_convert("Europe/Berlin")
    assert (pd.Timestamp("2026-11-01").date() == local.dt.date).any()
    assert not (local.dt.month == 1).any()
    assert Tags.read(CASES / "cmdb.csv").names
