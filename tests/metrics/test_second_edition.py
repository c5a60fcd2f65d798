"""The worked examples of the second edition's definitions, to the digit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import durations, gaps, rpo_adherence, sizes
from cdpanalytics.metrics.registry import REGISTRY

from .asked import OF_SESSIONS, ask

DAY = pd.Timestamp("2026-10-01", tz="UTC")


def at(hours: float) -> pd.Timestamp:
    return (DAY + pd.Timedelta(hours=hours)).round("us")


def hours(value: float) -> pd.Timedelta:
    return pd.Timedelta(hours=value).round("us")


def sessions(vm: str, *rows: tuple[float, float, str], **columns: object) -> pd.DataFrame:
    return pd.DataFrame({
        "vm": vm, "policy": "gold", "backup_server": "b1", "state": "Completed",
        "created": [at(start) for start, _, _ in rows], "ended": [at(end) for _, end, _ in rows],
        "result": [result for *_, result in rows], **columns,
    })  # fmt: skip


def only(table: pd.DataFrame) -> pd.Series:
    assert len(table) == 1
    return table.iloc[0]


A = sessions("a", (0, 2, "Failed"), (2, 4, "Failed"), (4, 24, "Success"))
B = sessions("b", (0, 8, "Failed"), (8, 16, "Failed"), (16, 24, "Failed"))
C = sessions("c", (0, 8, "Success"), (8, 16, "Success"), (16, 24, "Success"))
HOLE = pd.DataFrame({"start": [at(24)], "end": [at(25)]})


def test_vm_a_is_observed_from_its_first_attempt():
    row = only(rpo_adherence(A, "15min"))
    assert (row["observed"], row["breached"], row["gaps"]) == (hours(24), hours(3.75), 1)
    assert row["adherence"] == 0.84375
    gap = only(gaps(A, "15min"))
    assert (gap["start"], gap["end"], gap["exposure"]) == (at(0), at(4), hours(4))
    assert (gap["cause"], gap["breached"]) == ("Failed", hours(3.75))
    assert only(gaps(A, "5h"))["breached"] == hours(0)


def test_vm_a_with_grace():
    row = only(rpo_adherence(A, "15min", grace="4h"))
    assert (row["observed"], row["excluded"], row["adherence"]) == (hours(20), hours(4), 1.0)
    assert row["adherence_full"] == 0.84375
    assert gaps(A, "15min", grace="4h").empty
    longer = only(rpo_adherence(A, "15min", grace="9h"))
    assert longer["excluded"] == hours(4), "only up to the first protecting span"
    short = only(rpo_adherence(A, "15min", grace="1h"))
    assert (short["excluded"], short["breached"]) == (hours(1), hours(2.75))
    assert only(gaps(A, "15min", grace="1h"))["start"] == at(1)


def test_vm_b_is_unprotected():
    row = only(rpo_adherence(B, "15min"))
    assert (row["observed"], row["breached"]) == (hours(24), hours(23.75))
    assert row["adherence"] == pytest.approx(0.25 / 24, rel=1e-12)
    assert (row["vms"], row["unprotected"]) == (1, 1)
    gap = only(gaps(B, "15min"))
    assert (gap["open"], gap["exposure"]) == (True, hours(24))
    given = only(rpo_adherence(B, "15min", grace="2h"))
    assert (given["observed"], given["breached"]) == (hours(22), hours(21.75))


def test_vm_c_is_unknown_for_its_cadence_after_a_hole():
    row = only(rpo_adherence(C, "15min", as_of=at(24 * 101), unobserved=HOLE))
    known_again = 25 + 8.8
    assert row["unobserved"] == hours(known_again - 24)
    assert row["exposed"] == hours(24 * 101 - known_again)
    assert row["breached"] == row["exposed"] - hours(0.25)
    in_time = {"as_of": at(24 * 101), "unobserved": HOLE, "target": "15min"}
    before = only(rpo_adherence(C, until=at(34.05), **in_time))
    assert (before["exposed"], before["breached"]) == (hours(0.25), hours(0))
    after = only(rpo_adherence(C, until=at(34.15), **in_time))
    assert after["breached"] == hours(0.1), "breached from 34:03 on"


@pytest.mark.parametrize("day", [9, 10, 40, 400])
def test_vm_d_is_retired_after_seven_days(day):
    row = only(rpo_adherence(C, "15min", as_of=at(24 * day), retire_after="7D"))
    assert (row["observed"], row["breached"]) == (hours(8 * 24), hours(7 * 24 - 0.25))
    assert row["retired"] == hours(24 * (day - 8))


def test_time_that_several_leave_out_counts_once():
    """Covered until 08:00. Unknown 24:00 to 33:48 (a hole of an hour, and 1.1 times 8 h), excluded 25 to
    30, retired from 32:00 on: excluded goes before unobserved, and that before retired."""
    gone = sessions("a", (0, 8, "Success"), as_of=at(240))
    row = only(rpo_adherence(
        gone, "15min", unobserved=HOLE, exclude=[(at(25), at(30))], retire_after="1D"
    ))  # fmt: skip
    assert (row["observed"], row["excluded"]) == (hours(24), hours(5))
    assert (row["unobserved"], row["retired"]) == (hours(4.8), hours(206.2))
    assert row["breached"] == hours(15.75)


@pytest.mark.parametrize(
    ("grace", "excluded", "unobserved", "breached"), [("3h", 3, 1, 3.75), ("6h", 6, 0, 1.75)]
)
def test_a_hole_in_the_time_of_grace_leaves_out_only_what_is_left(
    grace, excluded, unobserved, breached
):
    """Unknown from 02:00, where the hole begins, to the next session at 04:00; covered from 08:00 on."""
    first = sessions("a", (0, 2, "Failed"), (4, 8, "Failed"), (8, 24, "Success"))
    hole = pd.DataFrame({"start": [at(2)], "end": [at(3)]})
    row = only(rpo_adherence(first, "15min", unobserved=hole, grace=grace))
    assert (row["excluded"], row["unobserved"]) == (hours(excluded), hours(unobserved))
    assert row["observed"] == hours(24 - excluded - unobserved)
    assert row["breached"] == hours(breached)


def test_what_covers_one_vm_in_a_hole_says_nothing_of_the_next():
    """a runs through the hole of 10:00 to 11:00, which alone is unknown; b failed: unknown 8 h 48 min more."""
    both = pd.concat([sessions("a", (0, 24, "Success")), sessions("b", (0, 8, "Failed"))])
    hole = pd.DataFrame({"start": [at(10)], "end": [at(11)]})
    table = rpo_adherence(both, "15min", by="vm", unobserved=hole)
    assert table["unobserved"].tolist() == [hours(1), hours(9.8)]
    assert table["observed"].tolist() == [hours(23), hours(14.2)]


def test_vms_of_a_group_are_counted_and_those_that_nothing_protected():
    every = pd.concat([A, B, C])
    for listed in (["a", "never"], ["never"]):
        settings = pd.DataFrame({"policy": ["gold"], "backup_server": ["b1"], "vms": [listed]})
        row = only(rpo_adherence(every, "15min", by=(), policies=settings))
        assert (row["vms"], row["unprotected"]) == (4, 2)
    daily = rpo_adherence(every, "15min", by=(), freq="D", as_of=at(48))
    assert daily["vms"].tolist() == [3, 3]
    assert daily["unprotected"].tolist() == [1, 3]
    moved = A.assign(policy=["iron", "iron", "gold"])
    by_policy = rpo_adherence(moved, "15min", by="policy")
    assert by_policy["unprotected"].tolist() == [0, 0], "a span of any policy protects"


def test_before_the_first_protection_time_is_of_the_newest_attempt():
    moved = A.assign(policy=["iron", "gold", "gold"])
    table = rpo_adherence(moved, "15min", by="policy").set_index("policy")
    assert table["observed"].to_dict() == {"gold": hours(22), "iron": hours(2)}
    assert table["breached"].to_dict() == {"gold": hours(2), "iron": hours(1.75)}
    assert table["gaps"].to_dict() == {"gold": 0, "iron": 1}, (
        "the gap is its first instant's owner's"
    )
    assert only(gaps(moved, "15min"))["policy"] == "iron"


def test_time_left_out_does_not_split_a_gap():
    day = sessions("a", (0, 4, "Success"), (20, 24, "Success"))
    gap = only(gaps(day, "1h", exclude=[(at(6), at(18))]))
    assert (gap["start"], gap["end"], gap["exposure"]) == (at(4), at(20), hours(4))
    late = only(gaps(day, "1h", exclude=[(at(3), at(6))]))
    assert (late["start"], late["exposure"]) == (at(6), hours(14))


def test_the_cause_is_of_the_session_that_ended_last_and_says_why():
    day = sessions(
        "a", (0, 4, "Success"), (4, 6, "Failed"), (5, 9, "Failed"), (10, 11, "Failed"),
        (12, 24, "Success"), reason=[None, "disk full", None, "", None],
    )  # fmt: skip
    assert only(gaps(day, "1h"))["cause"] == "Failed: disk full"
    assert only(gaps(day.assign(reason=None), "1h"))["cause"] == "Failed"


# -- by any column ---------------------------------------------------------------------


def test_what_failed_of_one_vm_is_not_the_cause_of_the_next():
    both = pd.concat(
        [sessions("a", (0, 8, "Success"), (8, 24, "Failed")), sessions("b", (0, 8, "Success"))]
    )
    assert gaps(both, "15min", as_of=at(24))["cause"].tolist() == ["Failed", "no session"]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([2, 10, 2], dtype="int64"),
        pd.Series([2.5, 10, 2.5]),
        pd.Series([False, True, False]),
        pd.Series(["east", "west", "east"], dtype="category"),
        pd.Series(["east", "west", "east"], dtype=object),
        pd.to_datetime(["2026-01-01", "2026-02-01", "2026-01-01"], utc=True).to_series(),
        pd.Series([2, 10, 2], dtype="int64[pyarrow]"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_a_group_may_be_any_column_of_any_dtype(values):
    three = pd.concat([A, B, C], keys=range(3))
    column = pd.Series(np.repeat(values.array, 3), dtype=values.dtype)
    owned = three.reset_index(drop=True).assign(owner=column)
    for metric in (rpo_adherence, durations):
        table = metric(owned, by="owner")
        assert table["owner"].tolist() == sorted(set(values))
    assert rpo_adherence(owned, "15min", by="owner")["vms"].tolist() == [2, 1]
    lost = owned.assign(owner=owned["owner"].where(owned["vm"] != "b"))
    table = rpo_adherence(lost, "15min", by="owner")
    assert table["owner"].isna().tolist() == [False, True], "a missing value is a group, the last"
    assert table["vms"].tolist() == [2, 1]
    assert len(sizes(lost.assign(total_size=1), by=("owner", "vm"))) == 3


def test_an_instant_belongs_to_the_value_of_the_session_that_protected_last():
    owned = C.assign(owner=["x", "y", "x"])
    table = rpo_adherence(owned, "15min", by="owner", as_of=at(26)).set_index("owner")
    assert table["observed"].to_dict() == {"x": hours(18), "y": hours(8)}


def test_sessions_multiplied_by_a_join_are_refused_where_it_would_matter():
    owners = pd.DataFrame({"vm": ["c", "c"], "owner": ["x", "y"]})
    twice = C.assign(uid=["1", "2", "3"]).merge(owners, on="vm")
    pd.testing.assert_frame_equal(rpo_adherence(twice, "1h"), rpo_adherence(C, "1h"))
    with pytest.raises(
        InputError, match=r"^session 1 occurs with different 'owner': \['x', 'y'\]; a join has"
    ):
        rpo_adherence(twice, "1h", by="owner")


@pytest.mark.parametrize("name", [name for name in OF_SESSIONS if REGISTRY[name].by is not None])
def test_each_metric_refuses_sessions_multiplied_by_a_join(name: str) -> None:
    owners = pd.DataFrame({"vm": ["c", "c"], "owner": ["x", "y"]})
    twice = C.assign(uid=["1", "2", "3"], total_size=1).merge(owners, on="vm")
    with pytest.raises(InputError, match="a join has"):
        ask(name, twice, by="owner")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_rows_with_one_uid_and_as_of_the_order_never_decides(order):
    """With an end before without, then the later end, then the greater result."""
    rows = sessions(
        "a", (0, 8, "Success"), (0, 9, "Success"), (0, 9, "Failed"), uid="1", as_of=at(30)
    )
    rows = rows.iloc[list(order)]
    assert only(rpo_adherence(rows, "1h"))["failed"] == 1
    running = rows.iloc[:1].assign(ended=pd.NaT, state="InProgress")
    assert only(rpo_adherence(pd.concat([rows, running]), "1h"))["failed"] == 1
    newer = running.assign(as_of=at(31))
    assert only(rpo_adherence(pd.concat([newer, rows]), "1h"))["unknown"] == 1


# -- hours ----------------------------------------------------------------------------


def test_hours_are_cut_where_the_wall_clock_reads_a_full_hour():
    """02:00 comes twice in Berlin's autumn; in Lord Howe it comes once, and lasts 1.5 h."""
    berlin = pd.Timestamp("2026-10-25", tz="Europe/Berlin")
    night = pd.DataFrame({"vm": ["a"], "created": [berlin.tz_convert("UTC")],
                          "ended": [berlin.tz_convert("UTC") + hours(5)]})  # fmt: skip
    table = rpo_adherence(night, "1h", by=(), freq="h", tz="Europe/Berlin")
    assert table["observed"].tolist() == [hours(1)] * 5
    walls = table["period"].dt.tz_convert("Europe/Berlin").dt.strftime("%H:%M").tolist()
    assert walls == ["00:00", "01:00", "02:00", "02:00", "03:00"]
    howe = pd.Timestamp("2026-04-05", tz="Australia/Lord_Howe")
    night = night.assign(created=howe.tz_convert("UTC"), ended=howe.tz_convert("UTC") + hours(4.5))
    table = rpo_adherence(night, "1h", by=(), freq="h", tz="Australia/Lord_Howe")
    assert table["observed"].tolist() == [hours(1), hours(1.5), hours(1), hours(1)]


def seen(*rows: dict[str, object]) -> pd.DataFrame:
    """Settings of the policy, as seen on the first day, on the tenth, ..."""
    days = [at(24 * 9 * number) for number in range(len(rows))]
    own = {"policy": "gold", "backup_server": "b1", "rpo": hours(1)}
    return pd.DataFrame([own | row for row in rows]).assign(seen_from=days)


def test_a_schedule_that_was_removed_allows_every_hour():
    evenings_off = "".join("0" if hour >= 18 else "1" for _ in range(7) for hour in range(24))
    rows = sessions("a", (0, 24, "Success"), (240, 264, "Success"))
    for schedules, days in (([evenings_off], 8.25), ([evenings_off, None], 11)):
        policies = seen(*({"schedule": each} for each in schedules))
        row = only(rpo_adherence(rows, policies=policies))
        assert row["observed"] == hours(24 * days)


def test_a_long_term_step_that_was_switched_off_is_not_expected():
    rows = sessions("a", (0, 8, "Success"))
    step, off = {"long_term": hours(8)}, {"long_term": pd.NaT}
    assert only(durations(rows, policies=seen(step)))["expected"] == hours(8)
    assert only(durations(rows, policies=seen(step, off)))["expected"] is pd.NaT


def test_a_vm_that_a_policy_names_after_the_window_is_not_of_it():
    rows = sessions("a", (0, 24 * 20, "Success"))
    policies = seen({"vms": ["a"]}, {"vms": ["a", "z"]})
    for until, vms in ((24 * 8, ["a"]), (24 * 10, ["a", "z"])):
        window = {"since": at(0), "until": at(until), "policies": policies}
        assert rpo_adherence(rows, by="vm", **window)["vm"].tolist() == vms
        whole = only(rpo_adherence(rows, by=(), **window))
        assert (whole["vms"], whole["unprotected"]) == (len(vms), len(vms) - 1)
    later = policies.iloc[1:]  # seen after the window only: it names them all the same
    assert rpo_adherence(rows, by="vm", until=at(24), policies=later)["vm"].tolist() == ["a", "z"]


@pytest.mark.parametrize("empty", [None, np.nan, ""])
def test_a_window_that_names_no_vm_is_for_all(empty: object) -> None:
    windows = pd.DataFrame(
        {"start": [at(1)], "end": [at(3)], "vm": pd.Series([empty], dtype=object)}
    )
    assert only(rpo_adherence(A, "15min", exclude=windows))["excluded"] == hours(2)
