"""Sessions from a table of any origin: other heads, local times, decimal commas, other words."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.estate.sessions import Reading, read_sessions

EXPORT = """Maschine;Beginn;Ende;Ergebnis;Größe (GB)
sql-1;01.10.2026 08:00;01.10.2026 16:00;Erfolg;16,0
sql-1;01.10.2026 16:30;02.10.2026 00:00;Warnung;16,5
sql-1;02.10.2026 00:00;02.10.2026 08:00;Fehler;1.016,0
"""
"""A German export."""

HOW: dict[str, Any] = {
    "columns": {"vm": "Maschine", "created": "Beginn", "ended": "Ende", "result": "Ergebnis",
                "total_size": "Größe (GB)"},
    "tz": "Europe/Berlin", "day_first": True, "units": {"total_size": "GB"},
    "results": {"Erfolg": "Success", "Warnung": "Warning", "Fehler": "Failed"},
}  # fmt: skip


@pytest.fixture
def export() -> pd.DataFrame:
    return pd.read_csv(io.StringIO(EXPORT), sep=";")


def test_a_german_export_is_read_with_its_own_words(export: pd.DataFrame) -> None:
    selection = export.cdp.select(**HOW, target="15min")
    sessions = selection.frame()
    assert sessions["created"].tolist() == [
        pd.Timestamp(text, tz="UTC")
        for text in ("2026-10-01 06:00", "2026-10-01 14:30", "2026-10-01 22:00")
    ]
    assert sessions["result"].tolist() == ["Success", "Warning", "Failed"]
    assert sessions["total_size"].tolist() == [16 * 2**30, 33 * 2**29, 1016 * 2**30]
    row = selection.rpo_adherence(by="vm").iloc[0]
    # Uncovered 16:00 to 16:30, and all of the failed session: 15 min and 7 h 45 min breached.
    assert (row["observed"], row["breached"]) == (pd.Timedelta("24h"), pd.Timedelta("8h"))
    assert export.columns[0] == "Maschine", "the frame is not changed"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"results": {"Erfolg": "Success", "Fehler": "Failed"}},
         r"the frame, line 2: result 'Warnung' is not one of None, Success, Warning, Failed; .*results="),
        ({"results": {"Erfolg": "Good"}}, r"results=\{'Erfolg': 'Good'\}: use one of"),
        ({"tz": None}, r"'created' holds times without a zone; .*tz=\"Europe/Berlin\""),
        ({"tz": "Europe/Berlinn"}, r"Europe/Berlin"),
        ({"units": {}}, r"'Größe \(GB\)' is not in bytes; say so: units=\{'total_size': 'GB'\}"),
        ({"units": {"total_size": "furlong"}}, r"use one of B, KB"),
        ({"columns": {"vm": "Rechner"}}, r"the frame has no column 'Rechner' for 'vm' \(has: Maschine"),
    ],
)  # fmt: skip
def test_what_could_be_misread_is_refused_by_name(
    export: pd.DataFrame, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        export.cdp.select(**{**HOW, **change})
    assert "\n" not in str(caught.value)


def test_a_word_that_is_not_a_result_is_refused_by_each_metric() -> None:
    frame = pd.DataFrame({
        "vm": "a", "result": ["Success", "Fehler"],
        "created": pd.to_datetime(["2026-10-01T00Z", "2026-10-01T02Z"]),
        "ended": pd.to_datetime(["2026-10-01T02Z", "2026-10-01T04Z"]),
    })  # fmt: skip
    with pytest.raises(InputError, match="holds 'Fehler', not one of None, Success"):
        frame.cdp.rpo_adherence(target="15min", by="vm")
    once = frame.assign(result=frame["result"].astype("category")).head(1)
    assert once.cdp.rpo_adherence(target="15min", by="vm").iloc[0]["success"] == 1


def test_the_advice_for_local_times_does_not_move_them() -> None:
    local = pd.DataFrame({"vm": "a", "created": pd.to_datetime(["2026-10-01 08:00"]),
                          "ended": pd.to_datetime(["2026-10-01 10:00"])})  # fmt: skip
    with pytest.raises(InputError) as caught:
        local.cdp.rpo_adherence(target="15min", by="vm")
    assert "utc=True" not in str(caught.value)
    assert 'df.cdp.select(tz="Europe/Berlin")' in str(caught.value)
    for dtype in ("datetime64[ns]", "timestamp[us][pyarrow]", "str", "category"):
        column = local["created"].astype("str" if dtype == "category" else dtype).astype(dtype)
        read = local.assign(created=column).cdp.select(tz="Europe/Berlin").frame()
        assert read["created"].iloc[0] == pd.Timestamp("2026-10-01 06:00Z")


@pytest.mark.parametrize(
    ("texts", "decimal", "expected"),
    [
        (["16,0", "1.234,5"], None, [16.0, 1234.5]),
        (["1,234.5", "7"], None, [1234.5, 7.0]),
        (["1 234,25"], None, [1234.25]),
        (["1,234"], ",", [1.234]),
        (["1,234"], ".", [1234.0]),
        (["3", ""], None, [3.0, None]),
    ],
)
def test_decimal_signs(texts: list[str], decimal: str | None, expected: list[float | None]) -> None:
    read = read_sessions(
        pd.DataFrame({"total_size": texts}), Reading(units={"total_size": "KB"}, decimal=decimal)
    )
    sizes = [None if pd.isna(size) else size for size in read["total_size"]]
    assert sizes == [None if value is None else round(value * 1024) for value in expected]


def test_a_sign_that_may_part_thousands_or_decimals_is_refused() -> None:
    frame = pd.DataFrame({"total_size": ["1,234", "5,678"]})
    with pytest.raises(InputError, match=r"'1,234' the sign may part thousands or decimals"):
        read_sessions(frame, Reading(units={"total_size": "GB"}))
    with pytest.raises(InputError, match="line 1: size '12 apples' is not a number"):
        read_sessions(pd.DataFrame({"total_size": ["12 apples"]}), Reading())
    with pytest.raises(InputError, match=r"parts of a byte, such as 1.5; say its unit"):
        read_sessions(pd.DataFrame({"total_size": [1.0, 1.5]}), Reading())


def test_a_local_time_that_comes_twice_is_refused_by_row() -> None:
    times = ["2026-10-25 01:00", "2026-10-25 02:30"]
    for column in (times, pd.to_datetime(times)):
        with pytest.raises(InputError, match=r"line 2: .*(twice|never)"):
            read_sessions(pd.DataFrame({"created": column}), Reading(tz="Europe/Berlin"))


def test_what_is_right_is_not_touched() -> None:
    frame = pd.DataFrame({
        "vm": ["a"], "created": pd.to_datetime(["2026-10-01T00Z"]), "ended": ["2026-10-01T02:00:00+02:00"],
        "result": ["Success"], "total_size": pd.array([7], dtype="Int64"),
    })  # fmt: skip
    pd.testing.assert_frame_equal(read_sessions(frame, Reading()), frame)


def test_dates_with_dots_have_the_day_first_and_others_are_asked_about():
    dotted = pd.DataFrame({"vm": ["sql-1"], "created": ["01.10.2026 08:00"]})
    read = read_sessions(dotted, Reading(tz="UTC"))
    assert read["created"].iloc[0] == pd.Timestamp("2026-10-01 08:00", tz="UTC")
    slashed = dotted.replace({"created": {"01.10.2026 08:00": "01/10/2026 08:00"}})
    with pytest.raises(InputError, match="'01/10/2026 08:00' has the day or the month first"):
        read_sessions(slashed, Reading(tz="UTC"))
