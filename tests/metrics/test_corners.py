"""Corners that a change of one token would move, each worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from cdpanalytics import metrics
from cdpanalytics.errors import InputError
from cdpanalytics.metrics import (
    durations,
    gaps,
    journal_adherence,
    quality,
    rpo_adherence,
    size_anomalies,
    worst,
)

from .test_arguments import USUAL, sessions

DAY = pd.Timestamp("2026-10-01", tz="UTC")
SEEN = {"seen_from": DAY, "seen_to": DAY}


def at(hours: float) -> pd.Timestamp:
    return DAY + pd.Timedelta(hours=hours)


def rows(*made: dict[str, object]) -> pd.DataFrame:
    usual = {
        "vm": "a",
        "policy": "Gold",
        "backup_server": "b1",
        "state": "Completed",
        "result": "Success",
    }
    frame = pd.DataFrame([usual | row for row in made])
    for column in ("created", "ended", "as_of"):
        if column in frame:
            frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame


def test_a_running_session_runs_on_through_a_hole_of_another_backup_server() -> None:
    sessions = rows(
        {"created": at(0), "ended": None, "state": "InProgress", "as_of": at(10)},
        {"vm": "b", "backup_server": "b2", "created": at(0), "ended": at(24), "as_of": at(24)},
    )
    hole = pd.DataFrame({"start": [at(12)], "end": [at(14)], "backup_server": ["b2"]})
    own = hole.assign(backup_server="b1")
    observed = rpo_adherence(sessions, "1h", by="vm", unobserved=hole).set_index("vm")["observed"]
    assert observed["a"] == pd.Timedelta("24h")
    assert observed["b"] == pd.Timedelta("24h") - pd.Timedelta("2h")
    known = rpo_adherence(sessions, "1h", by="vm", unobserved=own).set_index("vm")["observed"]
    assert known["a"] == pd.Timedelta("12h"), "no later session is known"
    assert known["b"] == pd.Timedelta("24h")


def test_a_session_that_begins_as_a_hole_ends_is_observed_from_there() -> None:
    sessions = rows({"created": at(0), "ended": at(4)}, {"created": at(8), "ended": at(10)})
    hole = pd.DataFrame({"start": [at(4)], "end": [at(8)]})
    whole = rpo_adherence(sessions, "1h", by="vm", unobserved=hole).iloc[0]
    assert (whole["observed"], whole["exposed"]) == (pd.Timedelta("6h"), pd.Timedelta(0))
    later = sessions.assign(created=[at(0), at(8) + pd.Timedelta("1us")])
    whole = rpo_adherence(later, "1h", by="vm", unobserved=hole).iloc[0]
    assert whole["exposed"] == pd.Timedelta(0)
    assert whole["observed"] == pd.Timedelta("6h") - pd.Timedelta("1us")


def test_every_verdict_may_be_said_to_protect() -> None:
    sessions = rows(
        {"created": at(0), "ended": at(8)}, {"created": at(8), "ended": at(16), "result": "Failed"}
    )
    assert len(gaps(sessions, "1h")) == 1
    assert gaps(sessions, "1h", protects=["Success", "Warning", "Failed"]).empty


def test_a_policy_renamed_lists_its_vms_under_its_new_name_only() -> None:
    sessions = rows({"created": at(0), "ended": at(8), "policy": "New"})
    policies = pd.DataFrame({
        "policy_uid": ["p", "p"], "policy": ["Old", "New"], "backup_server": "b1", "rpo": pd.Timedelta("1h"),
        "vms": [["a", "x"], ["a", "x"]], "seen_from": [at(0), at(1)], "seen_to": [at(1), at(2)],
    })  # fmt: skip
    table = rpo_adherence(sessions, policies=policies)
    assert table[["policy", "vm"]].to_numpy().tolist() == [["New", "a"], ["New", "x"]]


def test_a_missing_state_in_arrow_is_neither_running_nor_completed() -> None:
    sessions = rows(
        {"created": at(0), "ended": at(8)}, {"created": at(9), "ended": at(12), "state": None},
        {"created": at(12), "ended": at(16)},
    )  # fmt: skip
    sessions["state"] = sessions["state"].astype("string[pyarrow]")
    found = gaps(sessions, "1h")
    assert found[["start", "end"]].to_numpy().tolist() == [[at(8), at(12)]]


def test_a_session_without_a_beginning_is_counted_for_its_own_vm() -> None:
    sessions = rows({"vm": "a", "created": at(0), "ended": at(8)}, {"vm": "b", "created": at(8), "ended": at(9)},
                    {"vm": "c", "created": None, "ended": at(9)})  # fmt: skip
    row = quality(sessions).set_index("finding").loc["no beginning"]
    assert (row["sessions"], row["vms"]) == (1, 1)


def test_cadence_is_expected_only_where_a_group_has_one() -> None:
    sessions = rows(
        {"created": at(0), "ended": at(8)},
        {"vm": "b", "policy": "Silver", "created": at(0), "ended": at(4)},
        {"vm": "c", "policy": "Bronze", "created": at(0), "ended": at(4)},
    )
    policies = pd.DataFrame({
        "policy": ["Gold", "Silver"], "backup_server": "b1", "long_term": pd.to_timedelta(["8h", "4h"]),
    })  # fmt: skip
    by_policy = durations(sessions, by="policy", policies=policies).set_index("policy")
    assert by_policy["expected"].dropna().to_dict() == {
        "Gold": pd.Timedelta("8h"), "Silver": pd.Timedelta("4h"),
    }  # fmt: skip
    assert pd.isna(by_policy.loc["Bronze", "on_cadence"])
    whole = durations(sessions, by=(), policies=policies).iloc[0]
    assert pd.isna(whole["expected"]), "eight hours and four are no common cadence"
    assert whole["on_cadence"] == 1.0, "of the two that have one"


def test_the_worst_of_equals_come_by_name_and_none_of_all_is_left_out() -> None:
    sessions = rows(*(
        {"vm": vm, "created": at(begin), "ended": at(end)}
        for vm in ("c", "a", "b") for begin, end in ((0, 4), (6, 8))
    ))  # fmt: skip
    assert worst(sessions, None, "1h", by="vm")["vm"].tolist() == ["a", "b", "c"]
    assert worst(sessions, 2, "1h", by="vm")["vm"].tolist() == ["a", "b"]


def test_five_periods_are_enough_to_judge_a_size_and_four_are_not() -> None:
    sizes = [100, 101, 100, 102, 400]
    sessions = rows(*({"created": at(24 * day), "ended": at(24 * day + 20), "total_size": size}
                      for day, size in enumerate(sizes)))  # fmt: skip
    found = size_anomalies(sessions, by="vm", as_of=at(120))
    assert found["size"].tolist() == [400]
    assert size_anomalies(sessions.iloc[1:], by="vm", as_of=at(120)).empty


def interval(vm: str, kind: str, begin: float, end: float, rpo: str | None = None, **more: object):
    return {"vm": vm, "kind": kind, "start": at(begin), "end": at(end), "rpo": pd.Timedelta(rpo) if rpo else pd.NaT,
            **more}  # fmt: skip


def test_the_journal_of_all_is_one_row_and_rows_of_any_index_without_keys_will_do() -> None:
    made = pd.DataFrame([
        interval("a", "Asked", 0, 10), interval("a", "Restorable", 0, 8, "10s"),
        interval("b", "Asked", 0, 10), interval("b", "Restorable", 0, 5, "40s"),
    ], index=[7, 3, 3, 1])  # fmt: skip
    whole = journal_adherence(made, "15s", by=())
    assert len(whole) == 1
    row = whole.iloc[0]
    assert (row["observed"], row["restorable"], row["within"]) == tuple(
        pd.to_timedelta(["20h", "13h", "8h"])
    )
    assert row["p95_rpo"] == pd.Timedelta("40s")
    by_vm = journal_adherence(made, "15s", by="vm").set_index("vm")
    assert by_vm["adherence"].to_dict() == {"a": 0.8, "b": 0.0}
    assert by_vm["p95_rpo"].tolist() == [pd.Timedelta("10s"), pd.Timedelta("40s")]


def test_the_journal_of_vms_of_no_known_server_is_not_lost() -> None:
    made = pd.DataFrame([
        interval("a", "Asked", 0, 10, backup_server=None, policy=None),
        interval("a", "Restorable", 0, 8, "10s", backup_server=None, policy=None),
        interval("a", "Asked", 0, 4, backup_server="b1", policy="Gold"),
    ])  # fmt: skip
    table = journal_adherence(made, "15s", by=["backup_server", "policy"])
    assert len(table) == 2
    assert table["observed"].tolist() == pd.to_timedelta(["4h", "10h"]).tolist()


def test_the_journals_target_is_that_of_the_policy_on_its_own_server() -> None:
    policies = pd.DataFrame({
        "policy": ["Gold", "Gold"], "backup_server": ["b1", "b2"], "rpo": pd.to_timedelta(["15s", "1min"]),
    })  # fmt: skip
    made = pd.DataFrame([
        row for server in ("b1", "b2", "b3") for row in (
            interval("a", "Asked", 0, 10, backup_server=server, policy="Gold"),
            interval("a", "Restorable", 0, 10, "30s", backup_server=server, policy="Gold"),
        )
    ])  # fmt: skip
    by_server = journal_adherence(made, by="backup_server", policies=policies).set_index(
        "backup_server"
    )
    assert by_server["adherence"].fillna(-1).to_dict() == {"b1": 0.0, "b2": 1.0, "b3": -1.0}
    whole = journal_adherence(made, by=(), policies=policies).iloc[0]
    assert pd.isna(whole["adherence"]), "of one of the three no target is known"
    assert pd.isna(whole["rpo"])


@pytest.mark.parametrize("missing", ["start", "end"])
def test_an_interval_without_one_of_its_ends_is_refused(missing: str) -> None:
    made = pd.DataFrame([interval("a", "Asked", 0, 10) | {missing: pd.NaT}])
    made[missing] = pd.to_datetime(made[missing], utc=True)
    with pytest.raises(InputError, match="intervals has a row without start or end; drop it"):
        journal_adherence(made, "15s")


@pytest.mark.parametrize("name", [name for name in USUAL if name != "compare"] + ["status"])
def test_columns_and_their_types_do_not_depend_on_the_data(name):
    """JSON of a month without a session has the keys of any other month."""
    metric, usual = getattr(metrics, name), USUAL.get(name, {})
    full, empty = metric(sessions(), **usual), metric(sessions().iloc[:0], **usual)
    assert empty.columns.tolist() == full.columns.tolist()
    assert empty.dtypes.astype("str").to_dict() == full.dtypes.astype("str").to_dict()
    bare = metric(sessions().drop(columns=["state", "result"]), **usual)
    assert bare.columns.tolist() == full.columns.tolist()
