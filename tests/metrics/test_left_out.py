"""Maintenance windows and retired VMs, worked out on paper."""

import pandas as pd
import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.metrics import gaps, rpo_adherence, sizes, what_if

from .test_worked_examples import at, hours, minutes, only, table


@pytest.fixture
def bare():
    """00-08 covered, bare to 16, covered to 24."""
    return table(("db", "00:00", "08:00", "Success"), ("db", "16:00", "24:00", "Success"))


def test_a_gap_loses_just_its_overlap_with_maintenance(bare):
    """Bare 08-16, excluded 09-15: 2 h of exposure, 1 h 45 min late; 18 h of 24 remain."""
    row = only(rpo_adherence(bare, "15min", exclude=[("2026-10-01 09:00", "2026-10-01 15:00")]))
    assert (row["observed"], row["exposed"], row["breached"]) == (hours(18), hours(2), hours(1.75))
    assert (row["excluded"], row["gaps"], row["worst_gap"]) == (hours(6), 1, hours(2))
    assert row["adherence"] == 1 - 1.75 / 18


@pytest.mark.parametrize("metric", [rpo_adherence, gaps])
def test_times_without_an_offset_are_of_the_zone_asked_for(bare, metric):
    """13:30 in Kolkata is 08:00 UTC, 19:30 is 14:00: two hours of the gap remain."""
    closed = [("2026-10-01 13:30", "2026-10-01 19:30")]
    row = only(metric(bare, "15min", exclude=closed, tz="Asia/Kolkata"))
    assert row["breached"] == hours(1.75)


def test_overlapping_windows_are_left_out_once_and_a_gap_inside_is_none(bare):
    closed = [(at("10:00"), at("17:00")), (at("07:00"), at("12:00"))]
    row = only(rpo_adherence(bare, "15min", exclude=closed))
    assert (row["observed"], row["excluded"], row["gaps"]) == (hours(14), hours(10), 0)
    assert row["adherence"] == 1.0
    assert gaps(bare, "15min", exclude=closed).empty


def test_a_schedule_of_maintenance_windows_overrides_the_policys_own(bare):
    policies = pd.DataFrame({"policy": ["gold"], "schedule": ["0" * 168]})
    never = only(rpo_adherence(bare, "15min", policies=policies))
    assert pd.isna(never["adherence"])
    row = only(rpo_adherence(
        bare, "15min", policies=policies, schedule=[("2026-10-01 08:00", "2026-10-01 15:30")],
    ))  # fmt: skip
    assert (row["observed"], row["breached"]) == (hours(16.5), minutes(15))
    assert row["excluded"] == hours(0)


def test_a_window_of_one_vm_concerns_no_other(bare):
    both = pd.concat([bare, bare.assign(vm="web", policy="iron")], ignore_index=True)
    off = pd.DataFrame({"start": [at("08:00")], "end": [at("16:00")], "vm": ["web"]})
    found = rpo_adherence(both, "15min", exclude=off).set_index("vm")
    assert found["excluded"].tolist() == [hours(0), hours(8)]
    assert found["adherence"].tolist() == [1 - 7.75 / 24, 1.0]
    named = off.assign(vm=None, policy="gold")
    found = rpo_adherence(both, "15min", exclude=named).set_index("vm")
    assert found["excluded"].tolist() == [hours(8), hours(0)]


def test_a_retired_vm_is_left_out_from_its_length_on():
    """db ends at 04 and web runs to 24: 15 h of the gap are observed, the other 5 are retired."""
    sessions = table(("db", "00:00", "04:00", "Success"), ("web", "00:00", "24:00", "Success"))
    kept = only(rpo_adherence(sessions, "1h", by=()))
    assert (kept["breached"], kept["retired"]) == (hours(19), hours(0))
    row = only(rpo_adherence(sessions, "1h", by=(), retire_after="15h"))
    assert (row["observed"], row["breached"], row["retired"]) == (hours(43), hours(14), hours(5))
    assert (row["adherence"], row["adherence_full"]) == (1 - 14 / 43, 1 - 19 / 48)
    later = rpo_adherence(sessions, "1h", since=at("20:00"), retire_after="15h")
    assert later["retired"].tolist() == [hours(4), hours(0)]
    assert pd.isna(later["adherence"][0])
    assert later["gaps"].tolist() == [0, 0]
    listed = only(gaps(sessions, "1h", retire_after="15h"))
    assert (listed["open"], listed["end"], listed["exposure"]) == (True, at("24:00"), hours(15))
    assert what_if(sessions, "1h", retire_after="15h")["retired"].tolist() == [hours(5)]


def test_adherence_never_rises_as_an_open_gap_grows():
    sessions = table(("db", "00:00", "04:00", "Success"))
    asked = {"target": "1h", "by": (), "retire_after": "20h"}
    read = [
        rpo_adherence(sessions, as_of=at("04:00") + hours(n), **asked)["adherence"][0]
        for n in range(60)
    ]
    assert read == sorted(read, reverse=True)
    assert read[-1] == 1 - 19 / 24
    until = {"until": at("2026-10-01 20:00")}
    past = [
        rpo_adherence(sessions, as_of=at("04:00") + hours(n), **asked, **until) for n in (16, 40)
    ]
    figures = ["observed", "exposed", "breached", "adherence", "retired"]
    pd.testing.assert_frame_equal(*(table[figures] for table in past))


def test_a_gap_that_ends_was_never_retired():
    sessions = table(("db", "00:00", "04:00", "Success"), ("db", "20:00", "24:00", "Success"))
    row = only(rpo_adherence(sessions, "1h", by=(), retire_after="2h"))
    assert (row["breached"], row["retired"]) == (hours(15), hours(0))


def test_retirement_counts_elapsed_time_whatever_the_schedule():
    """The gap begins at 04; two of its first three hours are excluded, retired it is at 07."""
    sessions = table(("db", "00:00", "04:00", "Success"), ("web", "00:00", "24:00", "Success"))
    closed = [(at("05:00"), at("23:00"))]
    row = only(rpo_adherence(sessions, "1h", by=(), exclude=closed, retire_after="3h"))
    assert (row["exposed"], row["excluded"], row["retired"]) == (hours(1), hours(36), hours(1))


@pytest.mark.parametrize(("known", "retired"), [("06:00", 0), ("06:30", 1)])
def test_a_window_after_as_of_shows_who_was_retired_before_it(known, retired):
    """The gap begins at 04, and is retired from 06 on: not yet in what ends at 06."""
    sessions = table(("db", "00:00", "04:00", "Success")).assign(total_size=5)
    asked = {"by": (), "freq": "h", "as_of": at(known), "retire_after": "2h"}
    for window in ({"since": at("07:00")}, {"since": at("05:00"), "until": at(known)}):
        row = sizes(sessions, **asked, **window).iloc[-1]
        assert (row["vms"], row["retired"]) == (1 - retired, retired)


def test_a_retired_vm_has_no_size_any_more():
    day = pd.Timestamp("2026-10-01", tz="UTC")
    begun = day + pd.to_timedelta([0, 0, 24, 48], unit="h")
    sessions = pd.DataFrame({
        "vm": ["db", "web", "web", "web"], "created": begun, "ended": begun + pd.Timedelta("23h"),
        "total_size": [10, 5, 5, 6],
    })  # fmt: skip
    kept = sizes(sessions, by=())
    assert kept["size"].tolist() == [15, 15, 16]
    gone = sizes(sessions, by=(), retire_after="1D")  # db's gap begins at 23:00 of the first day
    assert gone["size"].tolist() == [15, 5, 6]
    assert (gone["vms"].tolist(), gone["retired"].tolist()) == ([2, 1, 1], [0, 1, 1])
    assert gone["sessions"].tolist() == [2, 1, 1]
    late = sizes(sessions.assign(vm=["web", "db", "db", "web"]), by="vm", retire_after="1h")
    assert late["size"].isna().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("closed", "told"),
    [
        ("weekend", "exclude='weekend' is not a list of maintenance windows"),
        ([("2026-10-01", "2026-10-01")], "exclude: window 0 does not begin before it ends"),
        ([("soon", "2026-10-01")], "exclude='soon' is not a time"),
        (7, "exclude=7 is not a list of maintenance windows"),
        (pd.DataFrame({"start": [at("08:00")]}), "no column 'end' in exclude"),
        (
            pd.DataFrame({"start": [at("08:00")], "end": [pd.NaT]}),
            "exclude has a row without start or end; drop it, or fill it in",
        ),
        (
            [("2026-10-01", "2026-10-02", "vm")],
            r"exclude=.* is not a list of maintenance windows; write pairs like "
            r"\[\('2026-10-03T20:00Z', '2026-10-04T02:00Z'\)\], or a frame with start, end$",
        ),
    ],
)
def test_what_is_no_maintenance_window_is_refused(bare, closed, told):
    with pytest.raises(InputError, match="^" + told):
        rpo_adherence(bare, "15min", exclude=closed)
