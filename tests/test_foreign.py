"""Frames from anywhere: own heads, local times, decimal commas, own words; nothing is guessed in silence."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest

import cdpanalytics  # noqa: F401
from cdpanalytics.errors import InputError

GERMAN = """Maschine;Beginn;Ende;Ergebnis;Größe (GB)
sql-1;01.10.2026 08:00;01.10.2026 16:00;Erfolg;16,0
sql-1;01.10.2026 16:30;02.10.2026 00:00;Warnung;16,5
sql-1;02.10.2026 00:00;02.10.2026 08:00;Fehler;1.016,0
"""
COLUMNS = {
    "vm": "Maschine",
    "created": "Beginn",
    "ended": "Ende",
    "result": "Ergebnis",
    "total_size": "Größe (GB)",
}
RESULTS = {"Erfolg": "Success", "Warnung": "Warning", "Fehler": "Failed"}
QUESTION: dict[str, Any] = {"columns": COLUMNS, "tz": "Europe/Berlin", "results": RESULTS,
                            "units": {"total_size": "GB"}}  # fmt: skip


def german() -> pd.DataFrame:
    return pd.read_csv(io.StringIO(GERMAN), sep=";")


def test_a_german_export_is_read() -> None:
    asked = german().cdp.select(**QUESTION, target="15min")
    sessions = asked.sessions
    assert sessions["created"].iloc[0] == pd.Timestamp("2026-10-01 06:00Z")
    assert sessions["result"].tolist() == ["Success", "Warning", "Failed"]
    assert sessions["total_size"].tolist() == [16 << 30, 33 << 29, 1016 << 30]
    gaps = asked.gaps()
    # Half an hour between the first two, and the failed third protects nothing.
    assert gaps["exposure"].tolist() == [pd.Timedelta("30min"), pd.Timedelta("8h")]


def test_nothing_is_guessed() -> None:
    def refused(text: str, frame: pd.DataFrame | None = None, **changed: Any) -> None:
        question = {**QUESTION, **changed}
        given = {name: value for name, value in question.items() if value is not None}
        with pytest.raises(InputError, match=text):
            (german() if frame is None else frame).cdp.select(**given)

    refused("has the result 'Fehler' in 1 rows; it would count as protection", results={"Erfolg": "Success",
            "Warnung": "Warning"})  # fmt: skip
    refused("results= gives 'Fine'; use None, Success", results={**RESULTS, "Erfolg": "Fine"})
    slashes = german().replace(r"\.(?=\d\d[. ]|\d{4})", "/", regex=True)
    refused("column 'created', line 3: '02/10/2026 00:00' has the day or the month first", slashes)
    refused("column 'created' has times without an offset; say whose they are", tz=None)
    refused(r"column 'Größe \(GB\)' is not in bytes; say its unit: .*\"GB\"", units=None)
    refused("not a unit; use B, KB, MB", units={"total_size": "stone"})
    refused(
        "columns= names 'Host', which the frame does not have",
        columns={**COLUMNS, "policy": "Host"},
    )
    refused("columns= names 'machine', which sessions do not have", columns={"machine": "Maschine"})
    refused("'viel', not a number", german().assign(**{"Größe (GB)": "viel"}))
    twice = german().assign(Beginn="25.10.2026 02:30", Ende="25.10.2026 04:00")
    refused("column 'created', line 1: .*02:30", twice)


def test_a_metric_of_a_frame_refuses_what_would_protect_in_silence() -> None:
    frame = pd.DataFrame({"vm": "a", "created": pd.to_datetime(["2026-10-01T00:00Z"]),
                          "ended": pd.to_datetime(["2026-10-01T08:00Z"]), "result": "Fehler"})  # fmt: skip
    with pytest.raises(
        InputError, match=r"'Fehler', which would count as protection; say what it means"
    ):
        frame.cdp.gaps("15min")
    local = frame.assign(result="Success", created=frame["created"].dt.tz_localize(None))
    with pytest.raises(
        InputError, match=r'say whose times they are: df\.cdp\.select\(tz="Europe/Berlin"'
    ):
        local.cdp.gaps("15min")
    asked = local.cdp.select(tz="Europe/Berlin")
    assert asked.sessions["created"].iloc[0] == pd.Timestamp("2026-09-30 22:00Z")
