"""The workbook: read back with another library it has the Selection's numbers, to the millisecond."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.presentation import workbook
from cdpanalytics.selection import Selection
from tests.builders import START, random_archive

SHEETS = [
    "Summary",
    "Policies",
    "VMs",
    "Status",
    "Incidents",
    "Gaps",
    "Sizes",
    "Trends",
    "Exclusions",
    "Quality",
    "Holes",
    "Definitions",
]


@pytest.fixture(scope="module")
def october(tmp_path_factory: pytest.TempPathFactory) -> Selection:
    drawn = random_archive(tmp_path_factory.mktemp("excel") / "archive", 5)
    return drawn.archive.select(since=START, until=START + pd.Timedelta("10D"), tz="Europe/Berlin")


@pytest.fixture(scope="module")
def book(october: Selection, tmp_path_factory: pytest.TempPathFactory) -> openpyxl.Workbook:
    return openpyxl.load_workbook(october.to_excel(tmp_path_factory.mktemp("out") / "october.xlsx"))


def rows_of(book: openpyxl.Workbook, sheet: str) -> list[dict[str, object]]:
    head, *rows = book[sheet].iter_rows(values_only=True)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_it_has_the_sheets_in_order(book: openpyxl.Workbook) -> None:
    assert book.sheetnames == SHEETS


def test_gaps_are_real_dates_and_durations_in_the_zone_named(
    october: Selection, book: openpyxl.Workbook
) -> None:
    rows, gaps = rows_of(book, "Gaps"), october.gaps()
    assert len(rows) == len(gaps) > 10
    for row, (_, gap) in zip(rows, gaps.iterrows(), strict=True):
        local = gap["start"].tz_convert("Europe/Berlin").tz_localize(None)
        assert abs(pd.Timestamp(row["Start (Europe/Berlin)"]) - local) <= pd.Timedelta("1ms")
        length = row["Length (h:mm:ss)"]
        assert isinstance(length, dt.timedelta | dt.time)
        if isinstance(length, dt.timedelta):
            assert abs(pd.Timedelta(length) - gap["exposure"]) <= pd.Timedelta("1ms")
        assert row["VM"] == gap["vm"]


def test_shares_are_shares_and_missing_cells_are_empty(
    october: Selection, book: openpyxl.Workbook
) -> None:
    for row, (_, vm) in zip(
        rows_of(book, "VMs"),
        october.rpo_adherence(by=["backup_server", "policy", "vm"]).iterrows(),
        strict=True,
    ):
        if pd.isna(vm["adherence"]):
            assert row["Adherence"] is None
        else:
            assert row["Adherence"] == pytest.approx(vm["adherence"], abs=1e-12)


def test_heads_are_frozen_filtered_and_printed_on_each_page(book: openpyxl.Workbook) -> None:
    for sheet in SHEETS[1:-1]:
        assert book[sheet].freeze_panes == "A2"
        assert book[sheet].auto_filter.ref is not None
        assert book[sheet].print_title_rows == "$1:$1"
        assert book[sheet].page_setup.orientation == "landscape"


def test_hostile_text_is_text(tmp_path: Path) -> None:
    made = workbook.Workbook()
    hostile = ["=1+1", "@SUM(A1)", "https://evil.example", "007", "a\x1b[31m"]
    made.add_table("Hostile", pd.DataFrame({"vm": hostile}))
    path = tmp_path / "hostile.xlsx"
    path.write_bytes(made.to_bytes())
    sheet = openpyxl.load_workbook(path)["Hostile"]
    cells = [sheet.cell(row, 1) for row in range(2, 7)]
    assert [cell.value for cell in cells] == [*hostile[:4], "a\ufffd[31m"]
    assert {cell.data_type for cell in cells} == {"s"}
    assert all(cell.hyperlink is None for cell in cells)


def test_a_utc_column_stands_beside_local_times_where_the_offset_changes(tmp_path: Path) -> None:
    stamps = pd.to_datetime(["2026-10-25T00:30Z", "2026-10-25T01:30Z"])
    made = workbook.Workbook("Europe/Berlin")
    made.add_table("Times", pd.DataFrame({"start": stamps}))
    made.add_table("Summer", pd.DataFrame({"start": stamps[:1]}))
    path = tmp_path / "times.xlsx"
    path.write_bytes(made.to_bytes())
    book = openpyxl.load_workbook(path)
    rows = rows_of(book, "Times")
    assert list(rows[0]) == ["start (Europe/Berlin)", "start (UTC)"]
    assert [row["start (Europe/Berlin)"] for row in rows] == [dt.datetime(2026, 10, 25, 2, 30)] * 2
    assert [row["start (UTC)"] for row in rows] == [
        dt.datetime(2026, 10, 25, hour, 30) for hour in (0, 1)
    ]
    assert list(rows_of(book, "Summer")[0]) == ["start (Europe/Berlin)"]


def test_a_sheet_that_excel_cannot_hold_is_refused_with_its_number() -> None:
    table = pd.DataFrame({"n": range(workbook.ROWS)})
    with pytest.raises(
        InputError, match="'Big' would have 1,048,577 rows, and Excel holds 1,048,576"
    ):
        workbook.Workbook().add_table("Big", table)


def test_each_exclusion_is_listed_with_what_it_left_out(tmp_path: Path) -> None:
    drawn = random_archive(tmp_path / "archive", 5)
    table = drawn.exclusions.assign(reason=["patches", "move"], owner="ops")
    asked = drawn.archive.select(since=START, until=START + pd.Timedelta("11D"), exclude=table)
    book = openpyxl.load_workbook(asked.to_excel(tmp_path / "out.xlsx"))
    rows = rows_of(book, "Exclusions")
    assert {row["Reason"] for row in rows} == {"patches", "move"}
    # The two windows do not overlap, so together they are what all tables observe less.
    left_out = sum((pd.Timedelta(row["Left out (h:mm:ss)"]) for row in rows), pd.Timedelta(0))
    without = asked.with_terms(exclude=False)
    observed = [each.rpo_adherence(by=())["observed"].iloc[0] for each in (without, asked)]
    assert abs(left_out - (observed[0] - observed[1])) <= pd.Timedelta("2ms")
    assert left_out > pd.Timedelta(0)
    table = asked.left_out()
    assert set(table["owner"]) == {"ops"}
    assert abs(table["left_out"].sum() - left_out) <= pd.Timedelta("2ms")
    frame = drawn.archive.select(since=START, until=START + pd.Timedelta("11D")).frame()
    of_frame = frame.cdp.select(
        exclude=asked.exclusions, policies=asked.policies, holes=asked.holes,
        since=START, until=START + pd.Timedelta("11D"),
    )  # fmt: skip
    assert of_frame.left_out()["left_out"].sum() == table["left_out"].sum()
    page = asked.report(tmp_path / "out.html").read_text()
    assert "Exclusions, and what each left out" in page
