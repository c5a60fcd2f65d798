"""The tables of an Analysis: those that are computed of a part are the same as of all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics.presentation.analysis import Analysis
from cdpanalytics.schema import KEYS
from tests.builders import random_archive


@pytest.mark.parametrize(
    "asked",
    [{}, {"since": "5D"}, {"since": "200h", "tz": "America/New_York"}, {"until": "3D", "retire_after": "1D"}],
    ids=["all", "5 days", "in New York", "retired"],
)  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_the_days_of_a_few_vms_are_those_among_the_days_of_all(
    tmp_path: Path, seed: int, asked: dict[str, str]
) -> None:
    drawn = random_archive(tmp_path / "archive", seed)
    selection = drawn.archive.select(exclude=drawn.exclusions, grace="1D", **asked)
    of_all, of_few = Analysis(selection), Analysis(selection.pinned())
    few = of_few.worst.head(2)
    assert 0 < len(few) * 2 <= len(of_few.vms)
    got = of_few.periods_of(few).merge(few[KEYS], on=KEYS)
    assert "periods" not in of_few.__dict__
    pd.testing.assert_frame_equal(got, of_all.periods.merge(few[KEYS], on=KEYS))


def test_days_are_asked_of_all_where_a_vm_has_no_name() -> None:
    day = pd.Timestamp("2026-10-01", tz="UTC")
    begun = day + pd.to_timedelta([0, 5, 0, 5, 0, 5], unit="h")
    sessions = pd.DataFrame({
        "vm": ["a", "a", "b", "b", None, None], "policy": "Gold", "backup_server": "vbr01",
        "created": begun, "ended": begun + pd.Timedelta("1h"),
    })  # fmt: skip
    analysis = Analysis(sessions.cdp.select(target="15min"))
    nameless = analysis.worst[analysis.worst["vm"].isna()]
    assert len(nameless) == 1
    assert analysis.periods_of(nameless) is analysis.periods
