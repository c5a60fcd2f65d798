"""The state of each VM at an instant, worked out on paper."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import gaps, status

from .strategies import fleets, frame
from .strategies import instants as instants_of
from .test_second_edition import HOLE, A, B, C, at, hours, only, sessions

US = pd.Timedelta("1us")


def state(rows: pd.DataFrame, instant: object, target: object = "15min", **asked: object) -> str:
    return str(only(status(rows, target, at=instant, **asked))["state"])


def test_vm_c_after_a_hole():
    """Unknown from 24:00 to 33:48, exposed until 34:03, breached from 34:03 on."""
    asked = {"unobserved": HOLE, "as_of": at(24 * 101)}
    expected = {
        at(23.5): "protected", at(24.5): "unknown", at(33.8) - US: "unknown",
        at(33.8): "exposed", at(34.05) - US: "exposed", at(34.05): "breached",
        at(24 * 101): "breached",
    }  # fmt: skip
    assert {instant: state(C, instant, **asked) for instant in expected} == expected
    row = only(status(C, "15min", at=at(34), **asked))
    assert (row["since"], row["age"]) == (at(33.8), hours(0.2))
    unknown = only(status(C, "15min", at=at(30), **asked))
    assert unknown["since"] == at(24)
    assert pd.isna(unknown["age"])


def test_a_session_that_outlasts_a_hole_protects_in_it():
    long = sessions("a", (0, 8, "Success"), (8, 30, "Success"), as_of=at(48))
    assert state(long, at(24.5), unobserved=HOLE) == "protected"
    ended = sessions("a", (0, 8, "Success"), (8, 24.25, "Success"), as_of=at(48))
    assert state(ended, at(24.2), unobserved=HOLE) == "protected"
    assert state(ended, at(24.5), unobserved=HOLE) == "unknown"


def test_vm_d_is_retired_from_the_beginning_of_its_gap_and_seven_days_on():
    asked = {"retire_after": "7D", "as_of": at(24 * 40)}
    assert state(C, at(24 * 8) - US, **asked) == "breached"
    row = only(status(C, "15min", at=at(24 * 8), **asked))
    assert (row["state"], row["since"], row["age"]) == ("retired", at(24 * 8), hours(24 * 7))
    late = only(status(C, "15min", **asked))
    assert (late["since"], late["age"]) == (at(24 * 8), hours(24 * 39))


def test_a_vm_before_its_first_protection():
    assert state(A, at(1)) == "protected", "as known then the session was running"
    assert state(A, at(2)) == "breached", "it has failed, and the next one is not known yet"
    first = only(status(A.iloc[[0]], "3h", as_of=at(2.5)))
    assert (first["state"], first["since"], first["age"]) == ("exposed", at(0), hours(2.5))
    assert (first["last_result"], first["last_success"] is pd.NaT) == ("Failed", True)
    assert state(A.iloc[[0]], at(2.5), "1h", as_of=at(9), grace="4h") == "excluded"
    given = only(status(A.iloc[[0]], "1h", at=at(2.5), as_of=at(9), grace="4h"))
    assert given["since"] == at(0)
    assert state(A.iloc[[0]], at(4.5), "1h", as_of=at(9), grace="4h") == "exposed"
    assert state(A.iloc[[0]], at(5), "1h", as_of=at(9), grace="4h") == "breached"


def test_an_instant_in_the_past_is_answered_as_known_then():
    late = sessions("a", (0, 8, "Success"), (9, 17, "Failed"), (18, 20, "Success"))
    assert state(late, at(8.1)) == "exposed"
    assert state(late, at(8.25)) == "breached"
    assert state(late, at(10)) == "protected", "running, its verdict was not known"
    failed = only(status(late, "15min", at=at(17)))
    assert (failed["state"], failed["since"], failed["age"]) == ("breached", at(8), hours(9))
    assert (failed["last_result"], failed["last_success"]) == ("Failed", at(8))
    assert only(gaps(late.iloc[:2], "15min", as_of=at(17)))["exposure"] == failed["age"]
    assert state(late, at(8)) == "protected", "what begins at the end of a session is not known"
    assert status(late, "15min", at=at(0)).empty, "no session had begun"


def test_the_default_is_the_end_of_the_window():
    later = sessions("a", (0, 8, "Success"), (12, 20, "Success"))
    row = only(status(later, "15min", until=at(10)))
    assert (row["at"], row["state"], row["age"]) == (at(10), "breached", hours(2))
    assert only(status(later, "15min", until=at(99)))["at"] == at(20)
    with pytest.raises(InputError, match=r"^at=2026-10-02 .* is after 2026-10-01 20:00"):
        status(later, "15min", at=at(24))


def test_a_protected_vm_is_so_since_cover_began_but_not_before_the_window():
    day = sessions(
        "a", (0, 4, "Success"), (5, 9, "Success"), (9, 13, "Warning"), (12, 20, "Success")
    )
    row = only(status(day, "15min", at=at(15)))
    assert (row["state"], row["since"], row["age"]) == ("protected", at(5), hours(0))
    assert (row["last_result"], row["last_success"]) == ("Warning", at(9))
    assert only(status(day, "15min", since=at(10), at=at(15)))["since"] == at(10)


def test_exclusions():
    day = sessions("a", (0, 8, "Success"), (20, 24, "Success"))
    closed = [(at(7), at(9)), (at(10), at(12))]
    seen = {8.5: "excluded", 9: "exposed", 9.5: "breached", 10: "excluded", 12: "breached"}
    assert {hour: state(day, at(hour), exclude=closed) for hour in seen} == seen
    row = only(status(day, "15min", at=at(11), exclude=closed))
    assert (row["since"], row["age"]) == (at(10), hours(1))
    assert only(status(day, "15min", at=at(12), exclude=closed))["since"] == at(9)


OFFICE = {name: [0] * 6 + [1] * 12 + [0] * 6 for name in (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")}  # fmt: skip
"""06 to 18 o'clock."""


def test_off_schedule():
    day = sessions("a", (0, 16, "Success"), (19, 20, "Success"))
    protected = sessions("a", (0, 19, "Success"))
    asked = {"schedule": OFFICE, "as_of": at(30)}
    assert state(protected, at(18) - US, **asked) == "protected"
    for hour in (18, 18.5, 19.5, 29.9):
        assert state(protected, at(hour), **asked) == "off schedule", hour
    assert only(status(protected, "15min", at=at(20), **asked))["since"] == at(18)
    assert state(protected, at(30), **asked) == "exposed"
    assert state(day, at(18.5), **asked) == "breached", "it keeps the state of 18:00"
    assert state(day, at(19.5), **asked) == "protected", "a session covers it since"
    kept = only(status(day, "15min", at=at(23), **asked))
    assert (kept["state"], kept["since"], kept["age"]) == ("breached", at(16), hours(2))
    assert state(day, at(18.5), "2h", **asked) == "exposed", "two hours were not exceeded"


def test_an_uncovered_vm_keeps_that_the_last_scheduled_instant_was_excluded():
    """Cover and the exclusion end at 18:00 with the schedule: nothing is observed since, age 0."""
    day = sessions("a", (0, 18, "Success"))
    asked = {"schedule": OFFICE, "as_of": at(29), "exclude": [(at(17), at(18))]}
    row = only(status(day, "15min", at=at(20), **asked))
    assert (row["state"], row["since"], row["age"]) == ("excluded", at(17), hours(0))


def test_the_last_scheduled_instant_may_lie_in_the_time_of_another_policy():
    """Gold is always scheduled and ends at 10:00; iron has the VM from 12:00 on, all of it forbidden."""
    moved = pd.concat([sessions("a", (0, 10, "Success")),
                       sessions("a", (12, 13, "Success"), policy="iron")])  # fmt: skip
    mornings = ("1" * 12 + "0" * 12) * 7
    schedules = pd.DataFrame({"policy": ["gold", "iron"], "schedule": ["1" * 168, mornings]})
    row = only(status(moved, "15min", at=at(14), as_of=at(20), policies=schedules))
    assert (row["policy"], row["state"], row["age"]) == ("iron", "breached", hours(2))


def test_vms_that_no_session_names():
    policies = pd.DataFrame({"policy": ["gold"], "backup_server": ["b1"], "vms": [["a", "never"]]})
    table = status(A, "15min", policies=policies)
    assert table[["vm", "state"]].to_numpy().tolist() == [
        ["never", "never seen"],
        ["a", "protected"],
    ]
    assert table.loc[0, ["since", "age", "last_success", "last_result"]].isna().all()
    closed = pd.DataFrame({"start": [at(20)], "end": [at(30)], "vm": ["never"]})
    assert status(A, "15min", policies=policies, exclude=closed)["state"].tolist() == [
        "excluded", "protected"
    ]  # fmt: skip
    pending = sessions("p", (1, 2, "None")).assign(state="Pending", ended=pd.NaT)
    assert only(status(pending, "15min", as_of=at(4)))["state"] == "never seen"


def test_worst_first_and_the_tags_of_each():
    every = pd.concat([A, B, C]).assign(owner="x")
    table = status(every, "15min", tags=["owner"], as_of=at(24.1))
    assert table["vm"].tolist() == ["b", "a", "c"]
    assert table["state"].tolist() == ["breached", "exposed", "exposed"]
    assert table["owner"].tolist() == ["x"] * 3
    assert status(every, as_of=at(48))["state"].tolist() == ["exposed"] * 3, "no target is known"


def test_what_it_could_be_restored_to():
    journal = pd.DataFrame({
        "backup_server": "b1", "vm": "a", "kind": ["Asked", "RestoreAvailable"],
        "start": [at(0), at(0)], "end": [at(24), at(20)],
        "rpo": pd.to_timedelta([None, "15s"]),
    })  # fmt: skip
    row = only(status(A, "15min", intervals=journal))
    assert (row["recovery_point"], row["recovery_age"]) == (at(20), hours(4))
    inside = only(status(A, "15min", intervals=journal, at=at(12)))
    assert inside["recovery_age"] == pd.Timedelta("15s")
    assert only(status(A, "15min"))[["recovery_point", "recovery_age"]].isna().all()


# -- laws --------------------------------------------------------------------------------


@given(st.data())
def test_what_is_unprotected_has_an_open_gap_of_that_age(data):
    fleet = frame(data.draw(fleets()))
    now = status(fleet, "30min")
    late = now[now["state"].isin(["exposed", "breached"])]
    open_gaps = gaps(fleet, "30min").query("open")
    columns = ["backup_server", "vm"]
    expected = open_gaps.set_index(columns)[["start", "exposure"]].sort_index()
    actual = late.set_index(columns)[["since", "age"]].sort_index()
    assert actual.to_numpy().tolist() == expected.to_numpy().tolist()
    assert actual.index.tolist() == expected.index.tolist()


@given(st.data())
def test_shifting_all_by_a_week_shifts_the_answer(data):
    rows = data.draw(fleets(stamped=False))
    at = data.draw(st.one_of(st.none(), instants_of(rows, after=0)))
    fleet = frame(rows)
    known = max(fleet["created"].max(), fleet["ended"].max())
    at = None if at is None else min(pd.Timestamp(at), known)
    columns = ["backup_server", "vm", "state", "age", "target", "since"]
    found = status(fleet, "30min", at=at)[columns]
    week = pd.Timedelta("7D")
    later = fleet.assign(created=fleet["created"] + week, ended=fleet["ended"] + week)
    moved = status(later, "30min", at=None if at is None else at + week)[columns]
    assert_frame_equal(moved.assign(since=moved["since"] - week), found)


@given(st.data())
def test_a_larger_target_never_breaches_more(data):
    fleet = frame(data.draw(fleets()))
    small, large = (
        status(fleet, target).query("state == 'breached'") for target in ("15min", "1h")
    )
    pairs = [set(zip(t["backup_server"], t["vm"], strict=True)) for t in (large, small)]
    assert pairs[0] <= pairs[1]


def test_the_reason_is_that_of_the_session_that_ended_last():
    day = sessions(
        "a", (0, 4, "Failed"), (2, 3, "Failed"), (5, 6, "Failed"), reason=["late", "x", ""]
    )
    assert only(status(day, "1h", at=at(4.5)))["reason"] == "late"
    assert pd.isna(only(status(day, "1h"))["reason"]), "an empty text is not a reason"
    assert pd.isna(only(status(A, "1h"))["reason"])
