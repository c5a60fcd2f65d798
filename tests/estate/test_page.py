"""The page about the estate file: its examples are read as they are printed, and nothing in them is odd."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from tests.builders import put

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "estate.md").read_text(encoding="utf-8")
TOML, DAY_FIRST = re.findall("^```toml\n(.*?)^```", PAGE, re.M | re.S)
TAGS, MAINTENANCE = re.findall("^```text\n(.*?)^```", PAGE, re.M | re.S)
CALENDAR = (
    "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\nUID:1\nDTSTAMP:20260101T000000Z\nSUMMARY:Patches\n"
    "DTSTART;TZID=Europe/Berlin:20261110T220000\nDTEND;TZID=Europe/Berlin:20261111T020000\n"
    "RRULE:FREQ=MONTHLY;BYDAY=2TU\nDESCRIPTION:vm: web-*\nEND:VEVENT\nEND:VCALENDAR\n"
)
START = pd.Timestamp("2026-11-01", tz="UTC")
VMS = [
    ("vbr01.x", "Gold", "sql-1"), ("vbr01.x", "Gold", "web-11"), ("vbr01.x", "Gold", "web-12"),
    ("vbr02.x", "Silver", "print-server"), ("vbr02.x", "Office hours", "pc-1"), ("vbr01.x", "Gold", "app-old"),
]  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Two weeks of VMs that are always protected, with the files of the page beside them."""
    archive, as_of = Archive(tmp_path / "archive"), START + pd.Timedelta("14D")
    rows = [
        {"uid": vm, "vm": vm, "policy": policy, "policy_uid": policy, "backup_server": server, "created": START,
         "ended": None, "state": "InProgress", "result": "Success", "rpo": pd.Timedelta("15min"), "as_of": as_of}
        for server, policy, vm in VMS
    ]  # fmt: skip
    for day in range(14):
        put(archive, START + pd.Timedelta(days=day), rows if not day else [], as_of)
    folder = Path(archive.path)
    for name, text in (("cdpanalytics.toml", TOML), ("cmdb.csv", TAGS), ("maintenance.csv", MAINTENANCE),
                       ("patches.ics", CALENDAR)):  # fmt: skip
        (folder / name).write_text(text, encoding="utf-8")
    return archive


def test_the_examples_are_read_as_the_page_says(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--archive", str(archive.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(";")[0] for line in lines[:4]] == [
        f"ok      estate    {name} can be read"
        for name in ("cdpanalytics.toml", "cmdb.csv", "maintenance.csv", "patches.ics")
    ]
    assert [line for line in lines[4:] if line.startswith("failed")] == []
    november = archive.select("2026-11")
    assert november.tz == "Europe/Berlin"
    tags = november.sessions.set_index("vm")[["department", "tier"]].astype("object")
    tags = tags.loc[["sql-1", "web-11", "web-12", "print-server", "pc-1", "app-1"]]
    assert tags.where(tags.notna(), None).to_numpy().tolist() == [
        ["Finance", "1"], ["Shop", "1"], ["Shop", "2"], ["Facilities", "3"], ["Office", None], [None, None],
    ]  # fmt: skip
    objectives = november.objectives(by="vm").set_index("vm")["objective"]
    assert objectives.to_dict() == {
        "app-1": 0.9995, "pc-1": 0.999, "print-server": 0.999, "sql-1": 0.9999, "web-11": 0.9995, "web-12": 0.9995,
    }  # fmt: skip
    zones = {"vbr01.x": "Europe/Berlin", "vbr02.x": "Australia/Sydney"}
    assert november.context.schedule_zones(list(zones)) == zones
    excluded = november.exclusions
    local = excluded["start"].dt.tz_convert("Europe/Berlin").dt.strftime("%d %H:%M")
    windows = {
        (source, start, vm)
        for source, start, vm in zip(
            excluded["source"], local, excluded["vm"].astype("object"), strict=True
        )
        if not pd.isna(vm)
    }
    assert {
        ("maintenance.csv", "13 00:00", "web-11"),
        ("patches.ics", "10 22:00", "web-12"),
    } <= windows
    assert {"Umzug", "Storage", "Patches"} == set(excluded["reason"])


def test_the_order_of_day_and_month_is_said_as_the_page_says(archive: Archive) -> None:
    folder = Path(archive.path)
    (folder / "maintenance.csv").write_text(
        MAINTENANCE.replace("13.11.", "11.11.").replace("14.11.", "12.11.")
    )
    (folder / "cdpanalytics.toml").write_text(DAY_FIRST)
    assert archive.select().exclusions["start"].min() == pd.Timestamp("2026-11-01 22:00", tz="UTC")
