"""The verdict of a check: each rule by a row of its own, and the worst of all."""

from __future__ import annotations

import pandas as pd
import pytest

from cdpanalytics.presentation.verdicts import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    breached_at_end,
    verdicts,
    worst,
)


def objective(passed: bool | None, spent: str = "1h", observed: str = "100h") -> pd.DataFrame:
    return pd.DataFrame({
        "policy": ["Gold"], "rpo": pd.to_timedelta(["15min"]),
        "passed": pd.array([passed], dtype="boolean"),
        "spent": pd.to_timedelta([spent]), "observed": pd.to_timedelta([observed]),
    })  # fmt: skip


@pytest.mark.parametrize(
    ("passed", "late", "options", "expected"),
    [
        (True, 0, {}, OK),
        (True, 1, {}, WARNING),  # met, and one VM is breached now
        (False, 0, {}, CRITICAL),
        (False, 1, {}, CRITICAL),
        (None, 0, {}, UNKNOWN),
        (None, 2, {}, UNKNOWN),
        (True, 0, {"stale": True}, UNKNOWN),
        (False, 0, {"stale": True}, UNKNOWN),
        # 1 h of 100 is spent: adherence is 0.99 to the microsecond.
        (True, 0, {"warning": 0.99}, OK),
        (True, 0, {"warning": 0.9901}, WARNING),
        (True, 0, {"critical": 0.9901}, CRITICAL),
        (True, 0, {"critical": 0.99}, OK),
        (False, 0, {"critical": 0.98}, OK),  # below the objective, above what is critical
        (False, 0, {"critical": 0.98, "warning": 0.995}, WARNING),
        (None, 0, {"critical": 0.995}, CRITICAL),  # what is known is below it already
        (None, 0, {"critical": 0.98}, UNKNOWN),
    ],
)
def test_a_row_has_the_worst_verdict_that_fits(
    passed: bool | None, late: int, options: dict[str, float | bool], expected: int
) -> None:
    assert verdicts(objective(passed), pd.Series([late]), **options) == [expected]  # type: ignore[arg-type]


def test_nothing_observed_is_unknown_whatever_is_critical() -> None:
    nothing = objective(None).assign(spent=pd.NaT)
    assert verdicts(nothing, pd.Series([0]), critical=0.99) == [UNKNOWN]


def test_the_worst_of_all() -> None:
    assert worst([OK, OK]) == OK
    assert worst([OK, WARNING]) == WARNING
    assert worst([WARNING, UNKNOWN, OK]) == UNKNOWN
    assert worst([UNKNOWN, CRITICAL]) == CRITICAL
    assert worst([]) == UNKNOWN


def test_breached_vms_are_counted_by_the_keys_of_the_objectives() -> None:
    status = pd.DataFrame({
        "backup_server": ["b1", "b1", "b2", "b2"], "vm": ["a", "b", "a", "c"],
        "policy": pd.Categorical(["Gold", "Iron", "Gold", None]),
        "state": ["breached", "breached", "breached", "exposed"],
    })  # fmt: skip
    rows = pd.DataFrame({"policy": ["Gold", "Iron", None], "rpo": pd.NaT})
    assert breached_at_end(rows, status).tolist() == [2, 1, 0]
    pairs = pd.DataFrame({"backup_server": ["b2", "b1"], "policy": ["Gold", "Gold"], "rpo": pd.NaT})
    assert breached_at_end(pairs, status).tolist() == [1, 1]
    assert breached_at_end(pd.DataFrame({"rpo": [pd.NaT]}), status).tolist() == [3]
    assert breached_at_end(rows.iloc[:0], status).tolist() == []
    assert breached_at_end(rows, status.iloc[:0]).tolist() == [0, 0, 0]
