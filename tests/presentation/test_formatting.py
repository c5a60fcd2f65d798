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
