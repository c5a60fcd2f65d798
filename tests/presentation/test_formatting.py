"""A column's unit, where one name stands for two things."""

from __future__ import annotations

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.presentation import formatting


def test_a_change_of_sizes_is_in_bytes_and_one_of_adherence_in_points() -> None:
    sizes = pd.DataFrame({"size": [2.0**34], "change": [2.0**33], "projected_low": [2.0**34]})
    assert formatting.format_table(sizes).iloc[0].tolist() == ["16.0 GiB", "8.0 GiB", "16.0 GiB"]
    shares = pd.DataFrame({"adherence": [0.99], "change": [-0.005]})
    assert formatting.format_table(shares)["change"].tolist() == ["-0.50 points"]


TABLE = pd.DataFrame({
    "vm": ["=a;b", "b"],
    "start": pd.to_datetime(["2026-10-25T00:30:00.1234Z", "2026-10-25T01:30:00.0Z"]),
    "breached": pd.to_timedelta(["90min", None]),
    "adherence": [0.99875, None], "size": [1 << 30, 2], "open": [True, False],
})  # fmt: skip


def test_csv_for_a_german_excel() -> None:
    text = formatting.Spreadsheet(";", ",").text(TABLE, "Europe/Berlin")
    assert text == (
        "\ufeffvm;start (Europe/Berlin);start (UTC);breached (s);adherence;size (bytes);open\r\n"
        '"\'=a;b";2026-10-25 02:30:00,123;2026-10-25 00:30:00,123;5400,0;0,99875;1073741824;TRUE\r\n'
        "b;2026-10-25 02:30:00,000;2026-10-25 01:30:00,000;;;2;FALSE\r\n"
    )
    with pytest.raises(InputError, match="the separator and the decimal sign are both ','"):
        formatting.Spreadsheet(",", ",")


def test_csv_for_programs_has_the_offset_and_json_is_utc() -> None:
    lines = formatting.csv_text(TABLE, "Europe/Berlin").splitlines()
    assert lines[0] == "vm,start,breached,adherence,size,open"
    assert lines[2].startswith("b,2026-10-25T02:30:00+01:00,,")
    assert '"start": "2026-10-25T01:30:00Z"' in formatting.json_text(TABLE)


def test_a_table_names_the_zone_of_its_times() -> None:
    head, first, _ = formatting.text(TABLE[["vm", "start"]], "Europe/Berlin").splitlines()
    assert head.split(maxsplit=1)[1] == "start (Europe/Berlin)"
    assert first.endswith("2026-10-25 02:30+02:00")


def test_records_are_plain_values_of_each_kind_of_column() -> None:
    texts = ["2026-10-01T00:00Z", "2026-10-01T00:00:00.5Z", None]
    start = pd.Series(pd.to_datetime(texts, format="ISO8601"))
    table = pd.DataFrame({
        "start": start.dt.as_unit("us"), "exact": start.dt.as_unit("ns") + pd.Timedelta(1, "ns"),
        "length": pd.to_timedelta(["90min", "1us", None]), "share": [0.1, 1.0, None],
        "count": pd.array([1, None, 3], dtype="Int64"), "open": [True, False, True],
        "met": pd.array([True, None, False], dtype="boolean"), "vm": ["ü", None, "<b>"],
        "policy": pd.Categorical(["b", "a", None]), "made": [[1], None, "x"],
    })  # fmt: skip
    columns = {name: [row[name] for row in formatting.records(table)] for name in table}
    assert columns == {
        "start": ["2026-10-01T00:00:00Z", "2026-10-01T00:00:00.500000Z", None],
        "exact": ["2026-10-01T00:00:00.000000001Z", "2026-10-01T00:00:00.500000001Z", None],
        "length": [5400.0, 1e-6, None], "share": [0.1, 1.0, None], "count": [1, None, 3],
        "open": [True, False, True], "met": [True, None, False], "vm": ["ü", None, "<b>"],
        "policy": ["b", "a", None], "made": [[1], None, "x"],
    }  # fmt: skip
    assert {type(value) for value in columns["count"]} == {int, type(None)}
    assert (
        formatting.records(table, "Europe/Berlin")[1]["start"] == "2026-10-01T02:00:00.500000+02:00"
    )
    assert formatting.records(table.head(0)) == []
