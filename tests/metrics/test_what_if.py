"""What if: by hand, and for each target the same as asking for it alone."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import rpo_adherence, what_if

from .strategies import (
    BY,
    HOURS,
    ZONES,
    fleets,
    frame,
    hole_frame,
    holes,
    mapping,
    policy_frame,
    settings_of_policies,
    windows,
)

DAY = pd.Timestamp("2026-10-01", tz="UTC")
SAME = ["observed", "exposed", "breached", "gaps", "breaches", "adherence", "gap_adherence"]


def at(hours: float) -> pd.Timestamp:
    return DAY + pd.Timedelta(hours=hours)


def worked() -> pd.DataFrame:
    """The VM of metrics.md: gaps 8:00-16:30 and 20:00-21:00 of 24 hours."""
    return pd.DataFrame({
        "vm": "a",
        "created": [at(0), at(8 + 5 / 3600), at(16.5), at(21)],
        "ended": [at(8), at(16), at(20), pd.NaT],
        "state": ["Completed"] * 3 + ["InProgress"],
        "result": ["Success", "Failed", "Warning", "Success"],
        "as_of": at(24),
    })  # fmt: skip


def test_the_worked_example_under_four_targets() -> None:
    """Breached: 8:15 + 0:45 = 9 h; 7:30 + 0 = 7.5 h; 0:30 + 0; nothing."""
    table = what_if(worked(), ["15min", "1h", "8h", "9h"])
    assert [length / pd.Timedelta("1h") for length in table["breached"]] == [9, 7.5, 0.5, 0]
    assert table["adherence"].tolist() == [1 - 9 / 24, 1 - 7.5 / 24, 1 - 0.5 / 24, 1]
    assert table["breaches"].tolist() == [2, 1, 1, 0]
    assert table["gap_adherence"].tolist() == [0, 0.5, 0.5, 1]
    assert table["gaps"].tolist() == [2] * 4


def test_targets_stay_in_the_order_given_within_each_group() -> None:
    both = pd.concat([worked(), worked().assign(vm="b")])
    table = what_if(both, ["1h", "15min"], by="vm")
    assert table["vm"].tolist() == ["a", "a", "b", "b"]
    assert table["rpo"].tolist() == [pd.Timedelta("1h"), pd.Timedelta("15min")] * 2


def test_one_target_may_stand_bare() -> None:
    for target in ("15min", pd.Timedelta("15min"), dt.timedelta(minutes=15)):
        assert what_if(worked(), target)["breached"].tolist() == [pd.Timedelta("9h")]


@pytest.mark.parametrize(
    ("targets", "told"), [([], "targets is empty"), (["soon"], "not a length")]
)
def test_no_target_and_no_length_are_refused(targets: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        what_if(worked(), targets)


@given(st.data())
def test_each_target_is_what_adherence_says_of_it_alone(data: st.DataObject) -> None:
    rows = data.draw(fleets())
    settings = data.draw(st.one_of(st.none(), settings_of_policies()))
    hours = data.draw(st.one_of(st.none(), HOURS))
    asked = {
        "by": data.draw(st.sampled_from(BY)), "tz": data.draw(st.sampled_from(ZONES)),
        "protects": data.draw(st.sampled_from([("Success", "Warning"), ("Success",)])),
        "unobserved": hole_frame(data.draw(st.one_of(st.just([]), holes(rows)))),
        "schedule": mapping(hours) if hours else None,
        "policies": policy_frame(settings) if settings else None, **data.draw(windows(rows)),
    }  # fmt: skip
    minutes = data.draw(st.lists(st.integers(0, 600), min_size=1, max_size=5))
    targets = [pd.Timedelta(minutes=number) for number in minutes]
    table = what_if(frame(rows), targets, **asked)
    for number, target in enumerate(targets):
        mine = table.iloc[number :: len(targets)].reset_index(drop=True)
        alone = rpo_adherence(frame(rows), target, **asked)
        assert set(mine["rpo"]) <= {target}
        pd.testing.assert_frame_equal(mine[SAME], alone[SAME], check_dtype=False)


@given(fleets())
def test_adherence_never_falls_as_the_target_grows(rows: list) -> None:
    table = what_if(frame(rows), [f"{15 * number}min" for number in range(12)], by="vm")
    for _, mine in table.groupby("vm", dropna=False):
        assert mine["adherence"].dropna().is_monotonic_increasing
        assert mine["breached"].is_monotonic_decreasing
