"""The metrics against the slow oracle, on random fleets."""

import datetime as dt

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.metrics import (
    durations,
    gaps,
    objectives,
    recovery_points,
    rpo_adherence,
    sizes,
    status,
)

from . import oracle, oracle_states
from .strategies import (
    BY,
    FREQUENCIES,
    HOURS,
    MINUTES,
    ORIGINS,
    STEP,
    ZONES,
    fleets,
    frame,
    hole_frame,
    holes,
    instants,
    journal_frame,
    journal_rows,
    maintenance,
    maintenance_frame,
    mapping,
    policy_frame,
    settings_of_policies,
    windows,
)

RATIOS = ("adherence", "adherence_strict", "gap_adherence", "success_rate", "adherence_full")
FINE = dt.timedelta(minutes=3)
"""The oracle's step where 1.1 cadences must lie on the grid, with sessions on half hours."""
COARSE = dt.timedelta(minutes=30)


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


def ours(rows, policies, schedule=None, unobserved=(), exclude=(), **asked):
    """The arguments of the oracle as those of a metric."""
    asked.pop("step", None)
    return frame(rows), asked | {
        "policies": policy_frame(policies) if policies else None,
        "schedule": mapping(schedule) if schedule else None,
        "unobserved": hole_frame(unobserved), "exclude": maintenance_frame(exclude),
    }  # fmt: skip


def compare_adherence(rows, policies=(), **asked):
    theirs = oracle.rpo_adherence(rows, policies=policies, **oracles(asked))
    sessions, arguments = ours(rows, policies, **asked)
    assert_same(rpo_adherence(sessions, **arguments), theirs, RATIOS)


def compare_gaps(rows, policies=(), **asked):
    theirs = oracle.gaps(rows, policies=policies, **oracles(asked))
    sessions, arguments = ours(rows, policies, **asked)
    assert_same(gaps(sessions, **arguments), theirs)


def oracles(asked):
    return {{"unobserved": "holes"}.get(name, name): value for name, value in asked.items()}


@given(st.data())
def test_adherence_of_the_whole_is_the_oracles(data):
    rows = data.draw(fleets())
    compare_adherence(
        rows, by=data.draw(st.sampled_from(BY)),
        target=data.draw(st.one_of(st.none(), MINUTES)), **data.draw(windows(rows)),
    )  # fmt: skip


@st.composite
def left_out(draw, rows):
    """Exclusions, grace and retirement, each of which may be absent."""
    lengths = st.one_of(st.none(), MINUTES)
    return {"exclude": draw(st.one_of(st.just([]), maintenance(rows))),
            "retire_after": draw(lengths), "grace": draw(lengths)}  # fmt: skip


@given(st.data())
def test_adherence_with_exclusions_grace_and_retirement_is_the_oracles(data):
    rows = data.draw(fleets())
    compare_adherence(
        rows, by=data.draw(st.sampled_from(BY)), freq=data.draw(st.sampled_from([None, "D"])),
        target=data.draw(st.one_of(st.none(), MINUTES)), **data.draw(windows(rows)),
        **data.draw(left_out(rows)),
    )  # fmt: skip


@given(st.data())
def test_adherence_with_schedules_policies_and_periods_is_the_oracles(data):
    rows = data.draw(fleets(most=7))
    compare_adherence(
        rows, data.draw(st.one_of(st.just([]), settings_of_policies())),
        by=data.draw(st.sampled_from(BY)), target=data.draw(st.one_of(st.none(), MINUTES)),
        freq=data.draw(st.sampled_from(FREQUENCIES)), tz=data.draw(st.sampled_from(ZONES)),
        schedule=data.draw(st.one_of(st.none(), HOURS)), **data.draw(windows(rows)),
        schedule_tz=data.draw(st.sampled_from(ZONES)),
        protects=data.draw(st.sampled_from([("Success", "Warning"), ("Success",), ("Failed",)])),
        **data.draw(left_out(rows)),
    )  # fmt: skip


@st.composite
def with_holes(draw):
    """A fleet on half hours with holes, on which 1.1 cadences lie on a grid of three minutes."""
    rows = draw(fleets(most=6, reach=60, unit=COARSE))
    policies = draw(st.one_of(st.just([]), settings_of_policies()))
    return rows, policies, {
        "target": draw(st.one_of(st.none(), MINUTES)), "unobserved": draw(holes(rows)),
        "step": FINE, "schedule": draw(st.one_of(st.none(), HOURS)),
        **draw(windows(rows)), **draw(left_out(rows)),
    }  # fmt: skip


@given(with_holes(), st.sampled_from(BY), st.sampled_from([None, "D", "h"]))
def test_adherence_with_holes_is_the_oracles(question, by, freq):
    rows, policies, asked = question
    compare_adherence(rows, policies, by=by, freq=freq, **asked)


@given(with_holes())
def test_gaps_with_holes_are_the_oracles(question):
    rows, policies, asked = question
    compare_gaps(rows, policies, **asked)


@given(st.data())
def test_gaps_are_the_oracles(data):
    rows = data.draw(fleets())
    compare_gaps(
        rows, data.draw(st.one_of(st.just([]), settings_of_policies())),
        target=data.draw(st.one_of(st.none(), MINUTES)),
        schedule=data.draw(st.one_of(st.none(), HOURS)),
        tz=data.draw(st.sampled_from(ZONES)), schedule_tz=data.draw(st.sampled_from(ZONES)),
        protects=data.draw(st.sampled_from([("Success", "Warning"), ("Success",)])),
        **data.draw(windows(rows)), **data.draw(left_out(rows)),
    )  # fmt: skip


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
    retire_after = data.draw(st.one_of(st.none(), MINUTES))
    unnamed = policy_frame(policies).drop(columns="vms") if policies else None
    mine = sizes(frame(rows), policies=unnamed, retire_after=retire_after, **asked)
    theirs = oracle.sizes(rows, policies=policies, retire_after=retire_after, **asked)
    assert_same(mine, theirs, ("rolling",))


# -- status, objectives, recovery points -------------------------------------------------


def compare_status(rows, policies=(), at=None, **asked):
    """`at` is kept to instants that are known."""
    known = oracle.speaks_for(oracle.unique(rows)) if asked["as_of"] is None else asked["as_of"]
    at = None if at is None else min(at, known)
    theirs = oracle_states.status(rows, policies=policies, at=at, **oracles(asked))
    sessions, arguments = ours(rows, policies, **asked)
    assert_same(status(sessions, at=at, **arguments), theirs)


@given(st.data())
def test_status_is_the_oracles(data):
    rows = data.draw(fleets())
    compare_status(
        rows, data.draw(st.one_of(st.just([]), settings_of_policies())),
        at=data.draw(st.one_of(st.none(), instants(rows))),
        target=data.draw(st.one_of(st.none(), MINUTES)),
        schedule=data.draw(st.one_of(st.none(), HOURS)), schedule_tz=data.draw(st.sampled_from(ZONES)),
        protects=data.draw(st.sampled_from([("Success", "Warning"), ("Success",)])),
        **data.draw(windows(rows)), **data.draw(left_out(rows)),
    )  # fmt: skip


@given(with_holes(), st.data())
def test_status_with_holes_is_the_oracles(question, data):
    rows, policies, asked = question
    at = data.draw(st.one_of(st.none(), instants(rows)))
    compare_status(rows, policies, at=at, **asked)


OBJECTIVES = st.sampled_from([0.5, 0.9, 0.99, 1])


def compare_objectives(rows, objective, policies=(), **asked):
    theirs = oracle_states.objectives(rows, objective, policies=policies, **oracles(asked))
    sessions, arguments = ours(rows, policies, **asked)
    assert_same(objectives(sessions, objective, **arguments), theirs, ("all_protected",))


@given(st.data())
def test_objectives_are_the_oracles(data):
    rows = data.draw(fleets())
    compare_objectives(
        rows, data.draw(OBJECTIVES), data.draw(st.one_of(st.just([]), settings_of_policies())),
        by=data.draw(st.sampled_from(BY)), target=data.draw(st.one_of(st.none(), MINUTES)),
        freq=data.draw(st.sampled_from([None, "D", "h"])),
        schedule=data.draw(st.one_of(st.none(), HOURS)), schedule_tz=data.draw(st.sampled_from(ZONES)),
        **data.draw(windows(rows)), **data.draw(left_out(rows)),
    )  # fmt: skip


@given(with_holes(), OBJECTIVES, st.sampled_from(BY), st.sampled_from([None, "D"]))
def test_objectives_with_holes_are_the_oracles(question, objective, by, freq):
    rows, policies, asked = question
    compare_objectives(rows, objective, policies, by=by, freq=freq, **asked)


@given(st.lists(journal_rows(), max_size=8), st.integers(-2, 30), st.one_of(st.none(), MINUTES))
def test_recovery_points_are_the_oracles(rows, quarters, target):
    at = ORIGINS[0] + quarters * STEP
    table = recovery_points(journal_frame(rows), at, target)
    theirs = oracle_states.recovery_points(rows, at, target)
    assert_same(table, [{k: v for k, v in row.items() if k != "asked"} for row in theirs])
