"""Sessions outside a window that decide its edges, each with the reason it is read for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.errors import InputError
from cdpanalytics.ranges import Range
from tests.archive.test_archive import DAY, OCT, put, session

START, STOP = OCT + 6 * DAY, OCT + 7 * DAY


@pytest.fixture
def archive(folder: Path) -> Archive:
    """One VM over nine days, with a hole on the fifth; another that is only in the window."""
    archive = Archive(folder)
    put(archive, OCT,
        session("pending", "a", 0, None, state="Pending", result="None"),
        session("first attempt", "a", 1, 2, result="Failed"),
        session("second failure", "a", 3, 4, result="Failed"),
        session("first success", "a", 5, 6),
        session("ordinary", "a", 7, 8), as_of=300)  # fmt: skip
    put(archive, OCT + DAY, session("longest by the hole", "a", 24, 44),
        session("ordinary 2", "a", 45, 46), as_of=300)  # fmt: skip
    put(archive, OCT + 2 * DAY, session("newest by the hole", "a", 48, 49), as_of=300)
    put(archive, OCT + 3 * DAY, as_of=300)
    put(archive, OCT + 5 * DAY,
        session("longest", "a", 120, 143), session("newest", "a", 142, 143.5),
        session("reaches in", "a", 141, 150, result="Warning"),
        session("last failure", "a", 130, 131, result="Failed"), as_of=300)  # fmt: skip
    put(archive, START, session("in", "a", 145, 146), session("new", "b", 150, 151), as_of=300)
    put(archive, STOP,
        session("after", "a", 170, 171, result="Failed"), session("after 2", "a", 172, 173),
        session("too late", "a", 174, 175), session("stranger", "c", 170, 171),
        session("b after", "b", 171, None, state="InProgress"), as_of=300)  # fmt: skip
    return archive


NEIGHBOURS = {"pending", "first attempt", "second failure", "first success", "longest by the hole",
              "newest by the hole", "longest", "newest", "reaches in", "last failure",
              "after", "after 2", "b after"}  # fmt: skip


def test_each_neighbour_is_read_and_marked_and_no_other(archive: Archive) -> None:
    rows = archive.read(START, STOP, columns=["uid", "total_size"], neighbours=True)
    assert list(rows.columns) == ["uid", "total_size", "neighbour"]
    assert rows["neighbour"].dtype == bool
    assert set(rows.loc[rows["neighbour"], "uid"]) == NEIGHBOURS
    assert set(rows.loc[~rows["neighbour"], "uid"]) == {"in", "new"}
    assert rows["uid"].is_unique


def test_without_neighbours_only_the_window_is_read(archive: Archive) -> None:
    rows = archive.read(START, STOP)
    assert rows["uid"].tolist() == ["in", "new"]
    assert list(rows.columns) == schema.SESSIONS.names
    with pytest.raises(InputError, match=r"sessions have no column 'size' \(has: uid, vm, "):
        archive.read(columns=["vm", "size"])


@pytest.mark.parametrize("column", ["vm", "backup_server", "policy"])
def test_ranges_of_names_add_up_to_the_whole(archive: Archive, column: str) -> None:
    middle = {"vm": "b", "backup_server": "b0", "policy": "Go"}[column]
    ranges = [Range(column, None, middle), Range(column, middle, None)]
    whole = archive.read(START, STOP, neighbours=True)
    parts = [archive.read(START, STOP, neighbours=True, within=each) for each in ranges]
    together = pd.concat([part.astype({column: "str"}) for part in parts])
    assert sorted(together["uid"]) == sorted(whole["uid"])
    scan, counts = archive.scan(START, STOP, neighbours=True)
    assert counts["rows"].sum() >= 2
    scanned = pd.concat([scan.cut(each).read(each) for each in ranges])
    assert sorted(scanned["uid"]) == sorted(whole["uid"])


def test_a_name_narrows_the_neighbours_too(archive: Archive) -> None:
    rows = archive.read(START, STOP, columns=["uid", "vm"], vm="B", neighbours=True)
    assert rows["uid"].tolist() == ["new", "b after"]
    assert rows["neighbour"].tolist() == [False, True]
