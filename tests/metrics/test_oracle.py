"""The metrics against the slow oracle, on random fleets."""

import datetime as dt

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.metrics import durations, gaps, rpo_adherence, sizes

from . import oracle
from .strategies import (
    BY,
    FREQUENCIES,
    HOURS,
    MINUTES,
    ZONES,
    fleets,
    frame,
    hole_frame,
    holes,
    maintenance,
    maintenance_frame,
    mapping,
    policy_frame,
    settings_of_policies,
    windows,
)

FOREVER = "9999D"
RATIOS = ("adherence", "adherence_strict", "gap_adherence", "success_rate")


def plain(value):
    """A cell as plain Python, None where it is missing."""
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return None
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value.to_pytimedelta()
    return value.item() if hasattr(value, "item") else value


def assert_same(table, expected, roughly=()):
    got = [
        {name: plain(value) for name, value in zip(table.columns, row, strict=True)}
        for row in table.itertuples(index=False, name=None)
    ]
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        for name, value in theirs.items():
            if name == "period" and value is None:
                continue
            if name in roughly and value is not None:
                tolerance = dt.timedelta(microseconds=1) if isinstance(value, dt.timedelta) else 0
                assert mine[name] is not None, (name, mine, theirs)
                near = (
                    abs(mine[name] - value) <= tolerance
                    if tolerance
                    else mine[name] == pytest.approx(value, rel=1e-12, abs=1e-12)
                )
                assert near, (name, mine, theirs)
            else:
                assert mine[name] == value, (name, mine, theirs)


def compare_adherence(rows, policies, **asked):
    theirs = oracle.rpo_adherence(rows, policies=policies, **asked)
    schedule, retire_after = asked.pop("schedule", None), asked.pop("retire_after", None)
    dark, closed = asked.pop("unobserved", []), asked.pop("exclude", [])
    mine = rpo_adherence(
        frame(rows), policies=policy_frame(policies) if policies else None,
        schedule=mapping(schedule) if schedule else None, unobserved=hole_frame(dark),
        exclude=maintenance_frame(closed), retire_after=FOREVER if retire_after is None else retire_after,
        schedule_tz=asked.get("tz", "UTC"), **asked,
    )  # fmt: skip
    assert_same(mine, theirs, RATIOS)


@given(st.data())
def test_adherence_of_the_whole_is_the_oracles(data):
    rows = data.draw(fleets())
    compare_adherence(
        rows, [], by=data.draw(st.sampled_from(BY)),
        target=data.draw(st.one_of(st.none(), MINUTES)), **data.draw(windows(rows)),
    )  # fmt: skip


@given(st.data())
def test_adherence_with_holes_is_the_oracles(data):
    rows = data.draw(fleets())
    compare_adherence(
        rows, [], by=data.draw(st.sampled_from(BY)), freq=data.draw(st.sampled_from([None, "D"])),
        target=data.draw(st.one_of(st.none(), MINUTES)), **data.draw(windows(rows)),
        unobserved=data.draw(holes(rows)),
    )  # fmt: skip


@given(st.data())
def test_adherence_with_schedules_policies_and_periods_is_the_oracles(data):
    rows = data.draw(fleets(most=7))
    compare_adherence(
        rows, data.draw(st.one_of(st.just([]), settings_of_policies())),
        by=data.draw(st.sampled_from(BY)), target=data.draw(st.one_of(st.none(), MINUTES)),
        freq=data.draw(st.sampled_from(FREQUENCIES)), tz=data.draw(st.sampled_from(ZONES)),
        schedule=data.draw(st.one_of(st.none(), HOURS)), **data.draw(windows(rows)),
        protects=data.draw(st.sampled_from([("Success", "Warning"), ("Success",), ("Failed",)])),
        unobserved=data.draw(st.one_of(st.just([]), holes(rows))),
        exclude=data.draw(st.one_of(st.just([]), maintenance(rows))),
        retire_after=data.draw(st.one_of(st.none(), MINUTES)),
    )  # fmt: skip


@given(st.data())
def test_adherence_with_maintenance_and_retired_vms_is_the_oracles(data):
    rows = data.draw(fleets())
    compare_adherence(
        rows, [], by=data.draw(st.sampled_from(BY)), freq=data.draw(st.sampled_from([None, "D"])),
        target=data.draw(st.one_of(st.none(), MINUTES)), **data.draw(windows(rows)),
        exclude=data.draw(maintenance(rows)),
        retire_after=data.draw(st.one_of(st.none(), MINUTES)),
    )  # fmt: skip


@given(st.data())
def test_gaps_are_the_oracles(data):
    rows = data.draw(fleets())
    policies = data.draw(st.one_of(st.just([]), settings_of_policies()))
    schedule = data.draw(st.one_of(st.none(), HOURS))
    asked = {
        "target": data.draw(st.one_of(st.none(), MINUTES)),
        "tz": data.draw(st.sampled_from(ZONES)),
        "protects": data.draw(st.sampled_from([("Success", "Warning"), ("Success",)])),
        **data.draw(windows(rows)),
    }
    dark = data.draw(st.one_of(st.just([]), holes(rows)))
    closed = data.draw(st.one_of(st.just([]), maintenance(rows)))
    retire_after = data.draw(st.one_of(st.none(), MINUTES))
    mine = gaps(
        frame(rows), policies=policy_frame(policies) if policies else None,
        schedule=schedule, unobserved=hole_frame(dark), exclude=maintenance_frame(closed), schedule_tz=asked["tz"],
        retire_after=FOREVER if retire_after is None else retire_after, **asked,
    )  # fmt: skip
    theirs = oracle.gaps(
        rows, policies=policies, schedule=schedule, unobserved=dark, exclude=closed,
        retire_after=retire_after, **asked,
    )  # fmt: skip
    assert_same(mine, theirs)


@given(st.data())
def test_durations_are_the_oracles(data):
    rows = data.draw(fleets())
    asked = {"by": data.draw(st.sampled_from(BY)), **data.draw(windows(rows))}
    mine = durations(frame(rows), **asked)
    assert_same(mine, oracle.durations(rows, **asked), ("mean", "median", "p95"))


@given(st.data())
def test_sizes_are_the_oracles(data):
    rows = data.draw(fleets())
    asked = {
        "by": data.draw(st.sampled_from(BY)),
        "freq": data.draw(st.sampled_from(FREQUENCIES[1:])),
        "tz": data.draw(st.sampled_from(ZONES)),
        "reading": data.draw(st.sampled_from(["size", "volume"])),
        **data.draw(windows(rows)),
    }
    policies = data.draw(st.one_of(st.just([]), settings_of_policies()))
    dark = data.draw(st.one_of(st.just([]), holes(rows)))
    retire_after = data.draw(st.one_of(st.none(), MINUTES))
    unnamed = policy_frame(policies).drop(columns="vms") if policies else None
    mine = sizes(
        frame(rows), policies=unnamed, unobserved=hole_frame(dark), schedule_tz=asked["tz"],
        retire_after=FOREVER if retire_after is None else retire_after, **asked,
    )  # fmt: skip
    theirs = oracle.sizes(
        rows, policies=policies, unobserved=dark, retire_after=retire_after, **asked
    )
    assert_same(mine, theirs, ("rolling",))
